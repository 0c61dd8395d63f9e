"""Starts and stops at the same time: the one that was called last takes effect."""

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from agentstore import (
    AgentStore,
    Closed,
    EmbeddedPostgres,
    InMemorySandboxService,
    PostgresSandboxService,
    Settings,
    Unavailable,
)
from agentstore.adapters import agentscope_runtime
from agentstore.interfaces import Service
from agentstore.repositories.connect import open_database
from tests.integration.test_database import ECHO

pytestmark = pytest.mark.slow

SEQUENCES = [calls for length in (2, 3, 4) for calls in itertools.product(("start", "stop"), repeat=length)]


async def _call_at_once(service: Any, calls: tuple[str, ...], yields: int) -> None:
    """Call start and stop in this order, each while those before it are in progress."""
    tasks = []
    for call in calls:
        tasks.append(asyncio.create_task(getattr(service, call)()))
        for _ in range(yields):
            await asyncio.sleep(0)
    done = await asyncio.gather(*tasks, return_exceptions=True)
    for number, (call, error) in enumerate(zip(calls, done, strict=True)):
        if error is not None:  # only a start that a later stop has interrupted may fail
            assert isinstance(error, (Closed, Unavailable)), error
            assert call == "start"
            assert "stop" in calls[number:]


@pytest.mark.parametrize("yields", [0, 1, 3, 10, 100])
async def test_the_last_of_starts_and_stops_of_a_database_takes_effect(
    database_url: str, settings: Settings, yields: int
) -> None:
    database = open_database(database_url, settings=settings)
    for calls in SEQUENCES:
        await _call_at_once(database, calls, yields)
        assert await database.health() == (calls[-1] == "start"), calls
        if calls[-1] == "start":
            assert (await database.fetch(ECHO, value=1, seconds=0.0))[0][0] == 1
        else:
            with pytest.raises(Closed):
                await database.fetch(ECHO, value=1, seconds=0.0)
    await database.stop()


@pytest.mark.parametrize("yields", [0, 1, 10])
async def test_the_last_of_starts_and_stops_of_a_store_with_sandboxes_takes_effect(
    database_url: str, settings: Settings, yields: int
) -> None:
    settings = settings.model_copy(update={"sandbox_provider": "unsafe_subprocess"})
    store = AgentStore(database_url, settings=settings)
    for calls in (("stop", "start"), ("stop", "stop", "start"), ("stop", "start", "stop"), ("start", "stop", "start")):
        await store.start()
        (used,) = await store.sandboxes.connect("s", "alice")  # which the stop ends
        await _call_at_once(store, calls, yields)
        if calls[-1] == "start":
            (sandbox,) = await store.sandboxes.connect("s", "alice")
            assert sandbox.generation > used.generation
            assert not (await sandbox.run_shell_command("true")).is_error
        else:
            with pytest.raises(Closed):
                await store.sandboxes.connect("s", "alice")
    await store.stop()


def _on_postgres(url: str, settings: Settings) -> Service:
    return PostgresSandboxService(url, provider="unsafe_subprocess", settings=settings)


def _in_memory(_: str, settings: Settings) -> Service:
    return InMemorySandboxService(provider="unsafe_subprocess", settings=settings)


def _of_the_runtime(url: str, settings: Settings) -> Any:
    return agentscope_runtime.PostgresSandboxService(url, provider="unsafe_subprocess", settings=settings)


@pytest.mark.parametrize("create", [_on_postgres, _in_memory, _of_the_runtime])
async def test_a_sandbox_service_that_is_started_while_it_stops_can_be_used(
    database_url: str, settings: Settings, create: Callable[[str, Settings], Any]
) -> None:
    service = create(database_url, settings)

    async def connect() -> Any:
        if isinstance(service, agentscope_runtime.PostgresSandboxService):
            return (await asyncio.to_thread(service.connect, "s", "alice"))[0]
        return (await service.connect("s", "alice"))[0]

    await service.start()
    for yields in (0, 1, 10, 100):
        used = await connect()
        await _call_at_once(service, ("stop", "start", "stop", "start"), yields)
        assert (await connect()).sandbox_id != used.sandbox_id
        assert await service.health()
        for calls in (("stop", "start", "stop"), ("stop", "stop")):
            await _call_at_once(service, calls, yields)
            with pytest.raises(Closed):
                await connect()
            assert not await service.health()
        await service.start()
    await service.stop()


@pytest.fixture
def embedded_settings(tmp_path: Path, binaries: str | None) -> Settings:
    return Settings(embedded_dir=str(tmp_path / "data"), embedded_binaries=binaries)


async def test_a_store_that_is_started_while_it_stops_has_a_running_embedded_server(
    embedded_settings: Settings,
) -> None:
    async with AgentStore(settings=embedded_settings) as store:
        for yields in (0, 1, 5):
            await _call_at_once(store, ("stop", "start"), yields)
            await asyncio.gather(*(store._database.fetch(ECHO, value=1, seconds=0.05) for _ in range(10)))
            assert await store.health()
        await _call_at_once(store, ("stop", "start", "stop", "start"), 1)
        assert await store.health()


async def test_a_service_that_starts_while_the_last_one_stops_has_a_running_embedded_server(
    embedded_settings: Settings,
) -> None:
    first = agentscope_runtime.PostgresSessionHistoryService(settings=embedded_settings)
    second = agentscope_runtime.PostgresStateService(settings=embedded_settings)
    third = agentscope_runtime.PostgresMemoryService(settings=embedded_settings)
    services = itertools.cycle((first, second, third))
    running = next(services)
    await running.start()
    for _ in range(4):
        stopping = asyncio.create_task(running.stop())
        await asyncio.sleep(0)
        running = next(services)
        await running.start()
        await stopping
        assert await running.health()
    assert running is second
    assert await second.save_state("alice", {"x": 1}, "s") == 1
    for yields in (0, 1, 5):
        await _call_at_once(running, ("stop", "start"), yields)
        assert await running.health()
    await running.stop()


async def test_the_last_of_starts_and_stops_of_an_embedded_server_takes_effect(
    tmp_path: Path, binaries: str | None
) -> None:
    server = EmbeddedPostgres(tmp_path / "data", binaries=binaries, durable=False)

    async def query() -> None:
        connection = await asyncpg.connect(server.url)
        await connection.close()

    for calls in (("start", "stop", "start"), ("stop", "start"), ("stop", "start", "stop", "start"), ("start", "stop")):
        await _call_at_once(server, calls, 1)
        if calls[-1] == "start":
            await query()
        else:
            assert not (tmp_path / "data" / "data" / "postmaster.pid").exists()
    # A start that is cancelled leaves the server to the others, and stops what nothing else wants.
    for cancelled in (0, 1):
        starts = [asyncio.create_task(server.start()) for _ in range(2)]
        await asyncio.sleep(0)
        starts[cancelled].cancel()
        await asyncio.gather(*starts, return_exceptions=True)
        await query()
        await server.stop()
    starts = [asyncio.create_task(server.start()) for _ in range(2)]
    await asyncio.sleep(0)
    for start in starts:
        start.cancel()
    await asyncio.gather(*starts, return_exceptions=True)
    assert not (tmp_path / "data" / "data" / "postmaster.pid").exists()
