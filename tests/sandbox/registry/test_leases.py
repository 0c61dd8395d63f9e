"""Leases: when they are renewed, and what happens when they expire."""

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agentstore import (
    AgentStore,
    PostgresSandboxService,
    SandboxElsewhere,
    SandboxLost,
    SandboxUnavailable,
    Settings,
    Telemetry,
)
from agentstore.database.statement import Statement
from agentstore.repositories.sandboxes.statements import EXPIRED
from agentstore.sandbox import handles
from agentstore.sandbox.unsafe_subprocess import UnsafeSubprocessProvider
from tests.sandbox.registry.support import HANG_GUARD, LONG_LEASE, SNAPSHOTS, expire_leases, read_registered, wait_until

pytestmark = pytest.mark.slow


async def test_a_call_may_take_longer_than_the_idle_time(
    create_service: Callable[..., PostgresSandboxService],
) -> None:
    async with create_service(sandbox_lease=2.0, sandbox_idle=0.3) as service:
        (sandbox,) = await service.connect("s", "alice")
        assert (await sandbox.run_shell_command("sleep 3; echo done")).text == "done\n"


async def test_the_lease_of_a_sandbox_in_use_is_renewed(
    create_service: Callable[..., PostgresSandboxService], observer: asyncpg.Connection
) -> None:
    async with create_service(sandbox_lease=3.0) as service:
        (sandbox,) = await service.connect("s", "alice")
        first = await observer.fetchval("SELECT lease_until FROM agentstore.sandboxes")

        async def has_first_lease_passed() -> bool:
            row = await observer.fetchrow("SELECT lease_until > now(), now() > $1 FROM agentstore.sandboxes", first)
            assert row is not None
            assert row[0], "the lease has expired"
            return bool(row[1])

        await wait_until(has_first_lease_passed)
        assert (await service.connect("s", "alice"))[0].generation == sandbox.generation


async def test_an_idle_sandbox_is_reaped(
    create_service: Callable[..., PostgresSandboxService],
    observer: asyncpg.Connection,
    provider: UnsafeSubprocessProvider,
) -> None:
    async with create_service(sandbox_lease=2.0, sandbox_idle=1.0) as service:
        (used,) = await service.connect("used", "alice")
        (idle,) = await service.connect("idle", "alice")

        async def only_one_is_left() -> bool:
            await used.run_shell_command("true")
            return await read_registered(observer) == [("alice", "used", "ready")]

        await wait_until(only_one_is_left)
        assert not await provider.check(idle.sandbox_id)
        with pytest.raises(SandboxLost):
            await idle.run_shell_command("true")


async def test_a_sandbox_that_is_renewed_before_it_is_taken_is_not_reaped(
    create_service: Callable[..., PostgresSandboxService], observer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with create_service(**LONG_LEASE) as service:
        (sandbox,) = await service.connect("s", "alice")
        fetch = service._database.fetch

        async def late(statement: Statement, **values: Any) -> Any:
            rows = await fetch(statement, **values)
            if statement is EXPIRED:  # renewed before it is taken
                await observer.execute("UPDATE agentstore.sandboxes SET lease_until = now() + interval '1 h'")
            return rows

        await expire_leases(observer)
        monkeypatch.setattr(service._database, "fetch", late)
        assert await service.reap() == 0
        assert len(service._leases) == 1
        assert not (await sandbox.run_shell_command("true")).is_error


async def test_a_sandbox_in_state_ending_is_not_renewed_by_its_users(
    create_service: Callable[..., PostgresSandboxService], observer: asyncpg.Connection
) -> None:
    async with create_service(sandbox_lease=0.9) as service:
        await service.connect("s", "alice")
        # As if another process had begun to end it, and had been killed.
        await observer.execute("UPDATE agentstore.sandboxes SET state = 'ending'")
        async with asyncio.timeout(HANG_GUARD):
            (sandbox,) = await service.connect("s", "alice")
        assert not (await sandbox.run_shell_command("true")).is_error


async def test_a_sandbox_whose_row_was_deleted_is_destroyed_after_the_next_connect(
    create_service: Callable[..., PostgresSandboxService],
    provider: UnsafeSubprocessProvider,
    observer: asyncpg.Connection,
) -> None:
    async with create_service() as service:
        (old,) = await service.connect("s", "alice")
        await observer.execute("DELETE FROM agentstore.users")
        (new,) = await service.connect("s", "alice")

        async def has_ended() -> bool:
            return not await provider.check(old.sandbox_id)

        await wait_until(has_ended)
        assert not (await new.run_shell_command("true")).is_error


async def test_the_sandboxes_of_a_deleted_user_end(
    create_service: Callable[..., PostgresSandboxService],
    database_url: str,
    settings: Settings,
    provider: UnsafeSubprocessProvider,
) -> None:
    async with create_service(sandbox_lease=0.6) as service, AgentStore(database_url, settings=settings) as store:
        (sandbox,) = await service.connect("s", "alice")
        assert await store.users.get_user("alice") is not None
        await store.users.delete_user("alice")

        async def has_ended() -> bool:
            return not await provider.check(sandbox.sandbox_id)

        await wait_until(has_ended)
        with pytest.raises(SandboxLost):
            await sandbox.run_shell_command("true")


async def test_a_sandbox_on_a_lost_machine_can_be_released_after_its_lease(
    create_service: Callable[..., PostgresSandboxService],
    provider: UnsafeSubprocessProvider,
    observer: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with create_service(drain_on_stop=False) as first_service:
        await first_service.connect("s", "alice")
    monkeypatch.setattr(handles, "_identify_machine", lambda pid: ("another host", "another machine"))
    async with create_service(**SNAPSHOTS, **LONG_LEASE) as second_service:
        for call in (second_service.connect("s", "alice"), second_service.release("s", "alice")):
            with pytest.raises(SandboxElsewhere, match="runs on the host"):
                await call
        await expire_leases(observer)
        assert await second_service.reap() == 0  # a process on that machine may resume
        assert [each.session_id for each in await second_service.release("s", "alice")] == ["s"]
        assert await read_registered(observer) == []


async def test_a_sandbox_that_cannot_be_destroyed_stays_registered(
    create_service: Callable[..., PostgresSandboxService],
    provider: UnsafeSubprocessProvider,
    observer: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with create_service(drain_on_stop=False) as first_service:
        (sandbox,) = await first_service.connect("s", "alice")
    destroy = provider.destroy

    async def fail(handle: str) -> None:
        raise SandboxUnavailable("unreachable")

    monkeypatch.setattr(provider, "destroy", fail)
    await expire_leases(observer)
    async with create_service(**LONG_LEASE) as second_service:
        with pytest.raises(SandboxUnavailable, match="unreachable"):
            await second_service.connect("s", "alice")
        assert await observer.fetchval("SELECT handle FROM agentstore.sandboxes") == sandbox.sandbox_id
        await expire_leases(observer)
        assert await second_service.reap() == 0
        monkeypatch.setattr(provider, "destroy", destroy)
        await expire_leases(observer)
        assert await second_service.reap() == 1
        assert await read_registered(observer) == []
        assert not await provider.check(sandbox.sandbox_id)


async def test_renewals_are_no_part_of_the_trace_of_the_first_call(
    database_url: str, settings: Settings, provider: UnsafeSubprocessProvider
) -> None:
    exporter, tracers = InMemorySpanExporter(), TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    service = PostgresSandboxService(
        database_url,
        settings=settings.model_copy(update={"sandbox_lease": 0.6}),
        provider=provider,
        telemetry=Telemetry(tracer_provider=tracers),
    )
    async with service:
        with tracers.get_tracer("application").start_as_current_span("request"):
            await service.connect("s", "alice")
        exporter.clear()

        async def was_renewed() -> bool:
            return any(span.name == "sandboxes.renew" for span in exporter.get_finished_spans())

        await wait_until(was_renewed)
    assert not [span for span in exporter.get_finished_spans() if span.name == "sandboxes.renew" and span.parent]
