"""Reaping, with numbers of expired sandboxes around the size of a page and far above it."""

import logging
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from agentstore import PostgresSandboxService, SandboxUnavailable
from agentstore.database.statement import Statement
from agentstore.repositories.sandboxes.statements import EXPIRED
from agentstore.sandbox.unsafe_subprocess import UnsafeSubprocessProvider
from tests.sandbox.registry.support import LONG_LEASE, read_registered, register

SIZES = (0, 1, 99, 100, 101, 200, 350, pytest.param(8_000, marks=pytest.mark.chaos))


def _count_pages(service: PostgresSandboxService, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Return a function that returns how many pages of expired sandboxes the service has read."""
    pages = 0
    fetch = service._database.fetch

    async def counted(statement: Statement, /, **values: Any) -> Any:
        nonlocal pages
        pages += statement is EXPIRED
        assert pages < 100, "reap does not end"
        return await fetch(statement, **values)

    monkeypatch.setattr(service._database, "fetch", counted)
    return lambda: pages


@pytest.mark.parametrize("seconds_apart", [0.0, 0.001], ids=["leases of one time", "leases of different times"])
@pytest.mark.parametrize("count", SIZES)
async def test_sandboxes_of_a_dead_host_are_read_once_and_do_not_hide_others(
    create_service: Callable[..., PostgresSandboxService],
    observer: asyncpg.Connection,
    provider: UnsafeSubprocessProvider,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
    seconds_apart: float,
) -> None:
    await register(observer, count, host="dead host", seconds_apart=seconds_apart)
    async with create_service(**LONG_LEASE) as service:
        (sandbox,) = await service.connect("used", "alice")
        await observer.execute("UPDATE agentstore.sandboxes SET lease_until = now() WHERE session_id = 'used'")
        pages = _count_pages(service, monkeypatch)
        assert await service.reap() == 1  # the one of this machine, whose lease was the last to expire
        assert pages() == (count + 1) // 100 + 1
        assert not await provider.check(sandbox.sandbox_id)
    assert len(await read_registered(observer)) == count  # a process of their host may resume


@pytest.mark.parametrize("count", SIZES)
async def test_all_expired_sandboxes_of_this_machine_are_reaped(
    create_service: Callable[..., PostgresSandboxService],
    observer: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    count: int,
) -> None:
    await register(observer, count, host=None, seconds_apart=0.0)
    async with create_service(**LONG_LEASE) as service:
        pages = _count_pages(service, monkeypatch)
        assert await service.reap() == count
        assert pages() == count // 100 + 1
    assert await read_registered(observer) == []


@pytest.mark.parametrize("count", SIZES)
async def test_sandboxes_that_cannot_be_ended_are_tried_once_though_their_leases_expire_again(
    create_service: Callable[..., PostgresSandboxService],
    observer: asyncpg.Connection,
    provider: UnsafeSubprocessProvider,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    count: int,
) -> None:
    tried: list[str] = []

    async def fail(handle: str) -> None:
        tried.append(handle)
        assert len(tried) <= 2 * count, "reap does not end"
        # As if this had taken longer than a lease.
        await observer.execute(
            "UPDATE agentstore.sandboxes SET lease_until = clock_timestamp() WHERE handle = $1", handle
        )
        raise SandboxUnavailable("unreachable")

    await register(observer, count, host=None, seconds_apart=0.0)
    monkeypatch.setattr(provider, "destroy", fail)
    caplog.set_level(logging.ERROR)
    async with create_service(**LONG_LEASE, drain_on_stop=False) as service:
        assert await service.reap() == 0
    assert len(tried) == len(set(tried)) == count
