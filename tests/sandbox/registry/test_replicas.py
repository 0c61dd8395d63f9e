"""Several processes that use the same sandboxes."""

import asyncio
import signal
from collections.abc import Callable

import pytest

from agentstore import AgentStore, PostgresSandboxService, Settings
from tests.sandbox.registry.support import wait_until
from tests.support.sandbox_replica import replica

pytestmark = pytest.mark.slow


async def test_concurrent_connects_in_two_replicas_return_the_same_sandbox(
    database_url: str, settings: Settings
) -> None:
    async with replica(database_url, settings) as first, replica(database_url, settings) as second:
        for number in range(3):
            session = f"s{number}"
            found = await asyncio.gather(first.run("connect", session, 25), second.run("connect", session, 25))
            assert found[0] == found[1]
            assert len(found[0]) == 1
            await first.run("shell", session, "echo from first >note")
            assert await second.run("shell", session, "cat note") == "from first\n"
        # A replica that did not create the sandbox can release it, for both.
        assert [await each.run("release", "s0") for each in (second, first)] == [1, 0]
        assert [await each.run("shell", "s0", "true") for each in (first, second)] == ["SandboxLost"] * 2


async def test_after_the_owner_is_killed_another_replica_continues_with_the_workspace(
    database_url: str, settings: Settings, create_service: Callable[..., PostgresSandboxService]
) -> None:
    lease = 120.0
    saving = {"sandbox_snapshots": True, "sandbox_snapshot_interval": 0.2, "sandbox_lease": lease}
    async with replica(database_url, settings, **saving) as first, create_service(**saving) as service:
        ((_, generation),) = await first.run("connect", "s", 1)
        await first.run("shell", "s", "echo saved >note")
        async with AgentStore(database_url, settings=settings) as store:
            workspaces = store.sandboxes._workspaces

            async def is_saved() -> bool:
                found = await workspaces.open("alice", "s", "base")
                return found is not None and b"note" in b"".join([piece async for piece in found[0]])

            await wait_until(is_saved)
        first.signal(signal.SIGKILL)
        await first.process.wait()
        # The sandbox no longer answers, so connect does not wait for its lease to expire.
        async with asyncio.timeout(lease):
            (sandbox,) = await service.connect("s", "alice")
        assert sandbox.generation > generation
        assert (await sandbox.read_file("note")).text == "saved\n"


async def test_a_replica_that_was_suspended_for_longer_than_its_lease_has_lost_the_sandbox(
    database_url: str, settings: Settings, create_service: Callable[..., PostgresSandboxService]
) -> None:
    saving = {"sandbox_snapshots": True, "sandbox_snapshot_interval": 0.2, "sandbox_lease": 1.0}
    async with replica(database_url, settings, **saving) as first, create_service(**saving) as service:
        await first.run("connect", "s", 1)
        await first.run("shell", "s", "echo old >note")
        first.signal(signal.SIGSTOP)

        async def is_reaped() -> bool:
            return await service.reap() == 1 or not await service.list("alice")

        await wait_until(is_reaped)
        (sandbox,) = await service.connect("s", "alice")
        assert (await sandbox.read_file("note")).text == "old\n"
        await sandbox.write_file("note", "new")
        first.signal(signal.SIGCONT)
        assert await first.run("shell", "s", "echo too late >note") == "SandboxLost"
        assert (await sandbox.read_file("note")).text == "new"
        # Nor does it overwrite the stored workspace when it stops.
        await service.release("s", "alice")
        assert first.process.stdin is not None
        first.process.stdin.close()
        await first.process.wait()
        assert (await (await service.connect("s", "alice"))[0].read_file("note")).text == "new"


async def test_connect_returns_the_registered_sandbox_instead_of_a_cached_one(
    create_service: Callable[..., PostgresSandboxService],
) -> None:
    async with create_service() as first, create_service() as second:
        (old,) = await first.connect("s", "alice")
        await second.release("s", "alice")
        (new,) = await second.connect("s", "alice")
        (found,) = await first.connect("s", "alice")
        assert found.generation == new.generation > old.generation
        assert not (await found.run_shell_command("true")).is_error
