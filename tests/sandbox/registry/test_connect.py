"""Connecting: when sandboxes are created, reused and cleaned up."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import asyncpg
import pytest

from agentstore import (
    AgentStore,
    InvalidContent,
    NotConfigured,
    PostgresSandboxService,
    SandboxSpec,
    SandboxUnavailable,
    Settings,
)
from agentstore.database.statement import Row, Statement
from agentstore.repositories.sandboxes.statements import CLAIM
from agentstore.sandbox.unsafe_subprocess import UnsafeSubprocessProvider
from tests.sandbox.registry.support import LONG_LEASE, read_registered, wait_until, wait_until_none_registered


async def test_a_cancelled_connect_leaves_no_row_and_no_sandbox(
    create_service: Callable[..., PostgresSandboxService],
    observer: asyncpg.Connection,
    provider: UnsafeSubprocessProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    created: list[str] = []
    create = provider.create

    async def record(spec: SandboxSpec, reserved: str) -> str:
        handle = await create(spec, reserved)
        created.append(handle)
        return handle

    monkeypatch.setattr(provider, "create", record)
    async with create_service(**LONG_LEASE) as service:
        for number in range(12):
            task = asyncio.create_task(service.connect(f"s{number}", "alice"))
            for _ in range(number * 3):
                await asyncio.sleep(0.003)
            task.cancel()
            done = (await asyncio.gather(task, return_exceptions=True))[0]
            if not isinstance(done, asyncio.CancelledError):
                await service.release(f"s{number}", "alice")

        await wait_until_none_registered(observer)
        assert not any([await provider.check(handle) for handle in created])
        await service.connect("s0", "alice")


async def test_ids_that_can_only_be_swapped_are_refused_before_anything_is_created(
    store: AgentStore, create_service: Callable[..., PostgresSandboxService], observer: asyncpg.Connection
) -> None:
    await store.sessions.create_session("alice", "trip")
    async with create_service(**LONG_LEASE) as service:
        with pytest.raises(InvalidContent, match="session_id, then user_id"):
            await service.connect("alice", "trip")
        assert await observer.fetchval("SELECT count(*) FROM agentstore.sandboxes") == 0
        assert await observer.fetchval("SELECT array_agg(id) FROM agentstore.users") == ["alice"]
        await service.connect("trip", "alice")
        await service.connect("not stored", "alice")
        await store.sessions.create_session("trip", "alice")
        await service.connect("alice", "trip")


async def test_a_claim_that_commits_after_its_caller_was_cancelled_is_dropped(
    create_service: Callable[..., PostgresSandboxService], observer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with create_service(**LONG_LEASE) as service:
        fetch_one = service._database.fetch_one
        claiming, is_cancelled, claimed = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def late(statement: Statement, /, **values: Any) -> Row | None:
            async def claim() -> Row | None:
                claiming.set()
                await is_cancelled.wait()
                row = await fetch_one(statement, **values)
                claimed.set()
                return row

            if statement is not CLAIM:
                return await fetch_one(statement, **values)
            # As if the server had received the statement, and the cancellation came too late.
            return await asyncio.shield(asyncio.create_task(claim()))

        monkeypatch.setattr(service._database, "fetch_one", late)
        connecting = asyncio.create_task(service.connect("s", "alice"))
        await claiming.wait()
        connecting.cancel()
        await asyncio.wait([connecting])
        assert connecting.cancelled()
        is_cancelled.set()
        await claimed.wait()
        await wait_until_none_registered(observer)


async def test_a_failed_create_leaves_no_row(
    database_url: str, settings: Settings, observer: asyncpg.Connection
) -> None:
    async with PostgresSandboxService(database_url, base_url="http://127.0.0.1:9", settings=settings) as service:
        with pytest.raises(SandboxUnavailable):
            await service.connect("s", "alice")
    assert await read_registered(observer) == []
    with pytest.raises(NotConfigured):
        PostgresSandboxService(database_url, provider="none", settings=settings)


async def test_the_reservation_of_a_dead_creator_is_destroyed(
    create_service: Callable[..., PostgresSandboxService],
    observer: asyncpg.Connection,
    provider: UnsafeSubprocessProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reserved = (f"reserved {number}" for number in range(9))
    destroyed: list[str] = []

    async def record(handle: str) -> None:
        destroyed.append(handle)

    async def is_claimed() -> bool:
        return bool(await observer.fetchval("SELECT count(*) = 1 FROM agentstore.sandboxes"))

    async def is_destroyed() -> bool:
        return bool(destroyed)

    monkeypatch.setattr(provider, "reserve", lambda: next(reserved))
    monkeypatch.setattr(provider, "create", lambda *_: asyncio.sleep(60))
    monkeypatch.setattr(provider, "destroy", record)
    service, other = create_service(drain_on_stop=False), create_service()
    async with other:
        for end in (other.reap, partial(other.connect, "s", "alice")):
            creating = asyncio.create_task(service.connect("s", "alice"))
            await wait_until(is_claimed)
            # As if its process had died: the lease is not renewed, and nothing is undone.
            await observer.execute("UPDATE agentstore.sandboxes SET lease_until = now() - interval '1 s', owner = ''")
            ending = asyncio.create_task(end())
            await wait_until(is_destroyed)
            assert destroyed.pop().startswith("reserved")
            for task in (creating, ending):
                task.cancel()
            await asyncio.gather(creating, ending, return_exceptions=True)
            await observer.execute("DELETE FROM agentstore.sandboxes")
            destroyed.clear()
    await service.stop()


async def test_a_sandbox_of_another_provider_is_not_replaced(
    create_service: Callable[..., PostgresSandboxService], database_url: str, settings: Settings
) -> None:
    async with create_service() as service:
        await service.connect("s", "alice")
        async with PostgresSandboxService(database_url, base_url="http://127.0.0.1:9", settings=settings) as other:
            for call in (other.connect("s", "alice"), other.release("s", "alice")):
                with pytest.raises(SandboxUnavailable, match="unsafe_subprocess"):
                    await call


async def test_a_service_can_be_used_in_one_event_loop_after_another(database_url: str, settings: Settings) -> None:
    service = PostgresSandboxService(database_url, provider="unsafe_subprocess", settings=settings)

    async def use() -> int:
        async with service:
            (sandbox,) = await service.connect("s", "alice")
            assert not (await sandbox.run_shell_command("true")).is_error
            return sandbox.generation

    first = await asyncio.to_thread(lambda: asyncio.run(use()))
    assert await asyncio.to_thread(lambda: asyncio.run(use())) > first


async def test_a_misconfigured_provider_is_reported_when_sandboxes_are_first_used(
    database_url: str, settings: Settings
) -> None:
    for update in ({"sandbox_provider": "remote"}, {"sandbox_provider": "chroot"}):
        async with AgentStore(database_url, settings=settings.model_copy(update=update)) as store:
            assert await store.sessions.get_session("alice", "s") is None
            with pytest.raises(NotConfigured, match=r"AGENTSTORE_SANDBOX_URL|chroot"):
                _ = store.sandboxes
