"""Stopping a service, and releasing sandboxes."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import asyncpg
import pytest

from agentstore import AgentStore, Closed, PostgresSandboxService, SandboxLost, Settings
from agentstore.sandbox.unsafe_subprocess import UnsafeSubprocessProvider
from tests.sandbox.registry.support import HANG_GUARD, LONG_LEASE, read_registered


def test_stop_does_not_wait_for_tasks_of_a_closed_event_loop(database_url: str, settings: Settings) -> None:
    service = PostgresSandboxService(database_url, provider="unsafe_subprocess", settings=settings)

    async def leave() -> None:
        try:
            await asyncio.sleep(60)
        finally:  # as cleanup does that the end of asyncio.run() cancels
            service._tasks.start(asyncio.sleep(600))

    async def end() -> None:
        asyncio.get_running_loop().create_task(leave())
        await asyncio.sleep(0)

    asyncio.run(end())
    assert service._tasks
    asyncio.run(asyncio.wait_for(service.stop(), HANG_GUARD))


async def test_stop_cancels_creations_in_progress(
    create_service: Callable[..., PostgresSandboxService],
    provider: UnsafeSubprocessProvider,
    observer: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    created: list[str] = []
    create = provider.create

    async def slow(*arguments: Any) -> str:
        created.append(await create(*arguments))
        try:
            await asyncio.sleep(600)
        except BaseException:
            await provider.destroy(created[0])
            raise
        return created[0]

    monkeypatch.setattr(provider, "create", slow)
    async with create_service() as service:
        connects = [asyncio.create_task(service.connect("s", "alice")) for _ in range(3)]
        while not created:
            await asyncio.sleep(0.01)
        await service.stop()
        done = await asyncio.gather(*connects, return_exceptions=True)
        assert [type(each) for each in done] == [Closed] * 3
        assert await read_registered(observer) == []
        assert not await provider.check(created[0])


async def test_stop_ends_only_the_sandboxes_that_the_service_created(
    create_service: Callable[..., PostgresSandboxService], observer: asyncpg.Connection
) -> None:
    async with create_service() as first, create_service() as second:
        (of_first,) = await first.connect("of first", "alice")
        (of_second,) = await second.connect("of second", "alice")
        await second.connect("of first", "alice")
        await second.stop()
        assert await read_registered(observer) == [("alice", "of first", "ready")]
        assert not (await of_first.run_shell_command("true")).is_error
        with pytest.raises(SandboxLost):
            await (await first.connect("of second", "alice"))[0]._provider.exec(  # type: ignore[attr-defined]
                of_second.sandbox_id, "run_shell_command", {"command": "true"}, 5.0
            )


async def test_without_drain_the_next_service_finds_the_sandbox(
    create_service: Callable[..., PostgresSandboxService],
) -> None:
    async with create_service(drain_on_stop=False) as first:
        (sandbox,) = await first.connect("s", "alice")
        await sandbox.run_shell_command("echo left >note")
    async with create_service() as second:
        (same,) = await second.connect("s", "alice")
        assert (same.generation, same.sandbox_id) == (sandbox.generation, sandbox.sandbox_id)
        assert (await same.read_file("note")).text == "left\n"
        assert len(await second.release("s", "alice")) == 1


async def test_a_stopped_store_can_be_started_again_with_new_sandboxes(database_url: str, settings: Settings) -> None:
    settings = settings.model_copy(update={"sandbox_provider": "unsafe_subprocess"})
    async with AgentStore(database_url, settings=settings) as store:
        sandboxes = store.sandboxes
        (sandbox,) = await sandboxes.connect("s", "alice")
        await store.stop()
        with pytest.raises(Closed):
            await sandboxes.connect("s", "alice")
        with pytest.raises(Closed):
            await sandbox.run_shell_command("true")
        await store.start()
        (again,) = await sandboxes.connect("s", "alice")
        assert again.generation > sandbox.generation


async def test_after_a_cancelled_release_the_next_connect_does_not_wait_for_the_lease(
    create_service: Callable[..., PostgresSandboxService], provider: UnsafeSubprocessProvider
) -> None:
    async with create_service(**LONG_LEASE) as service:
        for number in range(10):
            (sandbox,) = await service.connect("s", "alice")
            task = asyncio.create_task(service.release("s", "alice"))
            for _ in range(number * 2):
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            async with asyncio.timeout(HANG_GUARD):  # much less than the lease
                (again,) = await service.connect("s", "alice")
                with suppress(SandboxLost):  # it was ending
                    await again.run_shell_command("true")
                (again,) = await service.connect("s", "alice")
                assert not (await again.run_shell_command("true")).is_error
            assert again.sandbox_id == sandbox.sandbox_id or not await provider.check(sandbox.sandbox_id)
