"""Stored workspaces: when they are saved and restored."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import asyncpg
import pytest

from agentstore import Closed, LimitExceeded, PostgresSandboxService, SandboxFailed, SandboxLost
from agentstore.sandbox.unsafe_subprocess import UnsafeSubprocessProvider
from tests.sandbox.registry.support import (
    HANG_GUARD,
    LONG_LEASE,
    SNAPSHOTS,
    delayed,
    expire_leases,
    read_registered,
    release,
    wait_until,
)

pytestmark = pytest.mark.slow


async def test_a_workspace_is_not_saved_while_it_is_being_restored(
    create_service: Callable[..., PostgresSandboxService],
    provider: UnsafeSubprocessProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If the sandbox is released or the service stopped meanwhile, the stored workspace is unchanged."""
    async with create_service(**SNAPSHOTS) as service:
        (sandbox,) = await service.connect("s", "alice")
        await sandbox.write_file("note", "saved")
        await service.release("s", "alice")
    unpack = provider.unpack
    restoring, has_ended = asyncio.Event(), asyncio.Event()

    async def slow(*arguments: Any) -> None:
        restoring.set()
        await has_ended.wait()
        await unpack(*arguments)

    monkeypatch.setattr(provider, "unpack", slow)
    for end in (release, PostgresSandboxService.stop):
        restoring.clear()
        has_ended.clear()
        async with create_service(**SNAPSHOTS) as service:
            connecting = asyncio.create_task(service.connect("s", "alice"))
            await restoring.wait()
            await end(service)
            has_ended.set()
            with pytest.raises((SandboxLost, Closed)):
                await connecting
    monkeypatch.setattr(provider, "unpack", unpack)
    async with create_service(**SNAPSHOTS) as service:
        assert (await (await service.connect("s", "alice"))[0].read_file("note")).text == "saved"


async def test_a_connect_to_an_expired_sandbox_saves_its_workspace_first(
    create_service: Callable[..., PostgresSandboxService],
    provider: UnsafeSubprocessProvider,
    observer: asyncpg.Connection,
) -> None:
    async with create_service(drain_on_stop=False, **SNAPSHOTS) as first:
        (sandbox,) = await first.connect("s", "alice")
        await sandbox.write_file("note", "since the last snapshot")
    await expire_leases(observer)
    async with create_service(**SNAPSHOTS) as second:
        (new,) = await second.connect("s", "alice")
        assert new.generation > sandbox.generation
        assert (await new.read_file("note")).text == "since the last snapshot"
        assert not await provider.check(sandbox.sandbox_id)


async def test_a_user_of_a_sandbox_saves_its_workspace_without_having_created_it(
    create_service: Callable[..., PostgresSandboxService], observer: asyncpg.Connection
) -> None:
    saving = {"sandbox_snapshots": True, "sandbox_snapshot_interval": 0.2}
    async with create_service() as creator, create_service(**saving) as user:
        await creator.connect("s", "alice")
        (sandbox,) = await user.connect("s", "alice")
        await sandbox.write_file("note", "used")

        async def is_saved() -> bool:
            return bool(await observer.fetchval("SELECT count(*) FROM agentstore.workspaces"))

        await wait_until(is_saved)
        assert await creator.delete_workspaces("s", "alice") == 1


async def test_saving_a_workspace_may_take_longer_than_a_lease(
    create_service: Callable[..., PostgresSandboxService],
    provider: UnsafeSubprocessProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When a sandbox is released, and when its service is stopped."""
    pack = provider.pack
    monkeypatch.setattr(provider, "pack", delayed(pack, 4))
    short = {"sandbox_lease": 2.0, **SNAPSHOTS}

    async def use(session: str) -> None:
        async with create_service(**short) as service:
            (sandbox,) = await service.connect(session, "alice")
            await sandbox.write_file("note", session)
            if session == "released":
                await service.release(session, "alice")

    async with create_service(**short) as other:
        using = [asyncio.create_task(use(session)) for session in ("released", "stopped")]
        while not all(task.done() for task in using):
            assert await other.reap() == 0
            await asyncio.sleep(0.1)
        await asyncio.gather(*using)
        monkeypatch.setattr(provider, "pack", pack)
        for session in ("released", "stopped"):
            (last,) = await other.connect(session, "alice")
            assert (await last.read_file("note")).text == session


async def test_the_error_of_a_damaged_workspace_names_the_way_to_delete_it(
    create_service: Callable[..., PostgresSandboxService], observer: asyncpg.Connection
) -> None:
    async with create_service(**SNAPSHOTS) as service:
        (sandbox,) = await service.connect("s", "alice")
        await sandbox.write_file("note", "saved")
        await service.release("s", "alice")
        await observer.execute("UPDATE agentstore.workspace_chunks SET data = 'damaged'")
        with pytest.raises(SandboxFailed, match="delete_workspaces"):
            await service.connect("s", "alice")
        assert await read_registered(observer) == []
        assert await service.delete_workspaces("s", "alice") == 1
        assert (await (await service.connect("s", "alice"))[0].list_files())["content"] == []


async def test_two_failed_releases_leave_the_sandbox_usable(
    create_service: Callable[..., PostgresSandboxService],
) -> None:
    async with create_service(max_workspace_bytes=1_000, **SNAPSHOTS) as service:
        (sandbox,) = await service.connect("s", "alice")
        await sandbox.write_file("large", os.urandom(100_000))
        both = await asyncio.gather(release(service), release(service), return_exceptions=True)
        assert [type(each) for each in both] == [LimitExceeded] * 2
        await (await service.connect("s", "alice"))[0].remove_file("large")
        await release(service)
        assert not await service.list("alice")


async def test_reaping_continues_when_the_caller_is_cancelled(
    create_service: Callable[..., PostgresSandboxService],
    provider: UnsafeSubprocessProvider,
    observer: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pack = provider.pack
    packing, is_cancelled = asyncio.Event(), asyncio.Event()

    async def slow(*arguments: Any) -> AsyncIterator[bytes]:
        packing.set()
        await is_cancelled.wait()
        async for piece in pack(*arguments):
            yield piece

    monkeypatch.setattr(provider, "pack", slow)
    async with create_service(drain_on_stop=False, **SNAPSHOTS) as first:
        (sandbox,) = await first.connect("s", "alice")
        await sandbox.write_file("note", "saved")
    await expire_leases(observer)
    async with create_service(**SNAPSHOTS, **LONG_LEASE) as second:
        connecting = asyncio.create_task(second.connect("s", "alice"))
        await packing.wait()
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting
        is_cancelled.set()
        async with asyncio.timeout(HANG_GUARD):  # much less than the lease
            (new,) = await second.connect("s", "alice")
        assert (await new.read_file("note")).text == "saved"


async def test_the_previous_owner_lets_the_new_one_save_the_workspace(
    create_service: Callable[..., PostgresSandboxService],
    provider: UnsafeSubprocessProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pack = provider.pack
    async with create_service(sandbox_lease=0.9, sandbox_idle=0.1) as owner, create_service(**SNAPSHOTS) as taker:
        (sandbox,) = await owner.connect("s", "alice")
        await sandbox.write_file("note", "saved")
        monkeypatch.setattr(owner, "reap", lambda: asyncio.sleep(0))
        monkeypatch.setattr(provider, "pack", delayed(pack, 1.5))

        async def is_reaped() -> bool:
            return await taker.reap() == 1

        await wait_until(is_reaped)
        monkeypatch.setattr(provider, "pack", pack)
        (new,) = await taker.connect("s", "alice")
        assert (await new.read_file("note")).text == "saved"
