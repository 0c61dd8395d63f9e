"""Helpers for the tests of the registry."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg

from agentstore import PostgresSandboxService
from agentstore.sandbox import handles

SNAPSHOTS = {"sandbox_snapshots": True, "sandbox_snapshot_interval": 3_600.0}
"""Settings with which workspaces are saved at the end of a sandbox only."""

LONG_LEASE = {"sandbox_lease": 600.0}
"""Settings with which no lease expires during a test."""

HANG_GUARD = 60
"""Seconds after which a test that waits for an event fails."""


async def wait_until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(HANG_GUARD):
        while not await condition():
            await asyncio.sleep(0.05)


async def read_registered(observer: asyncpg.Connection) -> list[tuple[Any, ...]]:
    """Return user, session and state of every registered sandbox."""
    rows = await observer.fetch("SELECT user_id, session_id, state FROM agentstore.sandboxes ORDER BY 1, 2")
    return [tuple(row) for row in rows]


async def wait_until_none_registered(observer: asyncpg.Connection) -> None:
    async def is_empty() -> bool:
        return not await read_registered(observer)

    await wait_until(is_empty)


async def register(
    observer: asyncpg.Connection, count: int, *, host: str | None = None, seconds_apart: float = 0.0
) -> None:
    """Register sandboxes that do not exist, with leases that expired a moment ago: of `host`, or of this machine."""
    here = handles.make_handle("0" * 16, os.getpid())
    rows = []
    for number in range(count):
        id = f"{number:016x}"
        machine = here.machine if host is None else "another machine"
        path = handles.socket_in(handles.folder_of(id))
        handle = handles.Handle(host or here.host, machine, path, id, 2, "")
        rows.append((f"s{number:04}", handle.encode(), number * seconds_apart))
    await observer.execute("INSERT INTO agentstore.users (id) VALUES ('alice')")
    async with observer.transaction():  # one now() for all
        await observer.executemany(
            "INSERT INTO agentstore.sandboxes "
            "(user_id, session_id, type, generation, state, provider, owner, host, handle, lease_until) "
            "VALUES ('alice', $1, 'base', 7, 'ready', 'unsafe_subprocess', 'o', 'h', $2, "
            "now() - interval '1 microsecond' - $3 * interval '1 s')",
            rows,
        )


async def expire_leases(observer: asyncpg.Connection) -> None:
    await observer.execute("UPDATE agentstore.sandboxes SET lease_until = now() - interval '1 s'")


def delayed(pack: Callable[..., AsyncIterator[bytes]], seconds: float) -> Callable[..., AsyncIterator[bytes]]:
    """Return a `pack` that waits before it starts."""

    async def slow(*arguments: Any) -> AsyncIterator[bytes]:
        await asyncio.sleep(seconds)
        async for piece in pack(*arguments):
            yield piece

    return slow


async def release(service: PostgresSandboxService) -> None:
    await service.release("s", "alice")
