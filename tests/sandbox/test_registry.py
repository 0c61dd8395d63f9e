"""One sandbox for each user, session and type, on whatever replicas, whatever becomes of them.

On the provider that isolates nothing, and therefore runs on every machine.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from agentstore import (
    AgentStore,
    Closed,
    LimitExceeded,
    NotConfigured,
    PostgresSandboxService,
    SandboxElsewhere,
    SandboxFailed,
    SandboxLost,
    SandboxSpec,
    SandboxUnavailable,
    Settings,
)
from agentstore.database.statement import Row, Statement
from agentstore.interfaces import SandboxProvider
from agentstore.repositories.sandboxes.statements import CLAIM, EXPIRED
from agentstore.sandbox import local
from agentstore.sandbox.unsafe_subprocess import UnsafeSubprocessProvider

_ROOT = Path(__file__).parents[2]


class Replica:
    """Another process with a service of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def answer(self) -> Any:
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            line = await self.process.stdout.readline()
        assert line, "the replica has ended"
        return json.loads(line)

    async def ask(self, *command: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        return await self.answer()

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)


@asynccontextmanager
async def replica(url: str, settings: Settings, **more: Any) -> AsyncIterator[Replica]:
    given = {
        "pooler": settings.pooler,
        "migration_database_url": settings.migration_database_url
        and settings.migration_database_url.get_secret_value(),
        **more,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.sandbox_replica", url, "unsafe_subprocess", json.dumps(given)),
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    running = Replica(process)
    try:
        assert await running.answer() == "ready"
        yield running
    finally:
        if process.returncode is None:
            running.signal(signal.SIGCONT)
            assert process.stdin is not None
            process.stdin.close()
            try:
                async with asyncio.timeout(30):
                    await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()


@pytest.fixture
async def provider() -> AsyncIterator[UnsafeSubprocessProvider]:
    opened = UnsafeSubprocessProvider()
    yield opened
    await opened.stop()


@pytest.fixture
def services(database_url: str, settings: Settings, provider: SandboxProvider) -> Callable[..., PostgresSandboxService]:
    def make(**more: Any) -> PostgresSandboxService:
        given = {"provider": provider, **{name: more.pop(name) for name in ("drain_on_stop",) if name in more}}
        return PostgresSandboxService(database_url, settings=settings.model_copy(update=more), **given)

    return make


async def _rows(observer: asyncpg.Connection) -> list[tuple[Any, ...]]:
    rows = await observer.fetch("SELECT user_id, session_id, state FROM agentstore.sandboxes ORDER BY 1, 2")
    return [tuple(row) for row in rows]


async def _expire(observer: asyncpg.Connection) -> None:
    await observer.execute("UPDATE agentstore.sandboxes SET lease_until = now() - interval '1 s'")


def _slowly(pack: Callable[..., AsyncIterator[bytes]], seconds: float) -> Callable[..., AsyncIterator[bytes]]:
    async def slow(*given: Any) -> AsyncIterator[bytes]:
        await asyncio.sleep(seconds)
        async for piece in pack(*given):
            yield piece

    return slow


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(30):
        while not await condition():
            await asyncio.sleep(0.05)


async def test_of_two_replicas_that_connect_at_once_both_get_the_same(database_url: str, settings: Settings) -> None:
    async with replica(database_url, settings) as one, replica(database_url, settings) as two:
        for number in range(3):
            session = f"s{number}"
            found = await asyncio.gather(one.ask("connect", session, 25), two.ask("connect", session, 25))
            assert found[0] == found[1]
            assert len(found[0]) == 1
            await one.ask("shell", session, "echo from one >note")
            assert await two.ask("shell", session, "cat note") == "from one\n"
        # Whoever did not make it may end it, and does so for both.
        assert [await each.ask("release", "s0") for each in (two, one)] == [1, 0]
        assert [await each.ask("shell", "s0", "true") for each in (one, two)] == ["SandboxLost"] * 2


async def test_the_owner_is_killed_and_the_other_goes_on_with_the_workspace(
    database_url: str, settings: Settings, services: Callable[..., PostgresSandboxService]
) -> None:
    keeping = {"sandbox_snapshots": True, "sandbox_snapshot_interval": 0.2, "sandbox_lease": 5.0}
    async with replica(database_url, settings, **keeping) as one, services(**keeping) as service:
        ((_, generation),) = await one.ask("connect", "s", 1)
        await one.ask("shell", "s", "echo kept >note")
        async with AgentStore(database_url, settings=settings) as store:
            kept = store.sandboxes._workspaces

            async def is_not_expired() -> bool:
                found = await kept.open("alice", "s", "base")
                return found is not None and b"note" in b"".join([piece async for piece in found[0]])

            await _until(is_not_expired)
        one.signal(signal.SIGKILL)
        await one.process.wait()
        began = asyncio.get_running_loop().time()
        (sandbox,) = await service.connect("s", "alice")
        assert asyncio.get_running_loop().time() - began < 5.0
        assert sandbox.generation > generation
        assert (await sandbox.read_file("note")).text == "kept\n"


async def test_who_sleeps_longer_than_its_lease_has_lost_it(
    database_url: str, settings: Settings, services: Callable[..., PostgresSandboxService]
) -> None:
    keeping = {"sandbox_snapshots": True, "sandbox_snapshot_interval": 0.2, "sandbox_lease": 1.0}
    async with replica(database_url, settings, **keeping) as one, services(**keeping) as service:
        await one.ask("connect", "s", 1)
        await one.ask("shell", "s", "echo old >note")
        one.signal(signal.SIGSTOP)

        async def is_reaped() -> bool:
            return await service.reap() == 1 or not await service.list("alice")

        await _until(is_reaped)
        (sandbox,) = await service.connect("s", "alice")
        assert (await sandbox.read_file("note")).text == "old\n"
        await sandbox.write_file("note", "new")
        one.signal(signal.SIGCONT)
        assert await one.ask("shell", "s", "echo too late >note") == "SandboxLost"
        assert (await sandbox.read_file("note")).text == "new"
        # Nor does it overwrite what is kept when it stops.
        await service.release("s", "alice")
        assert one.process.stdin is not None
        one.process.stdin.close()
        await one.process.wait()
        assert (await (await service.connect("s", "alice"))[0].read_file("note")).text == "new"


async def test_a_connect_that_is_cancelled_leaves_nothing(
    services: Callable[..., PostgresSandboxService],
    observer: asyncpg.Connection,
    provider: UnsafeSubprocessProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[str] = []
    create = provider.create

    async def recorded(spec: SandboxSpec, reserved: str) -> str:
        handle = await create(spec, reserved)
        made.append(handle)
        return handle

    monkeypatch.setattr(provider, "create", recorded)
    async with services() as service:
        for number in range(12):
            task = asyncio.create_task(service.connect(f"s{number}", "alice"))
            for _ in range(number * 3):
                await asyncio.sleep(0.003)
            task.cancel()
            done = (await asyncio.gather(task, return_exceptions=True))[0]
            if not isinstance(done, asyncio.CancelledError):
                await service.release(f"s{number}", "alice")

        async def is_empty() -> bool:
            return not await _rows(observer)

        await _until(is_empty)
        assert not any([await provider.check(handle) for handle in made])
        await service.connect("s0", "alice")


async def test_a_claim_that_is_made_after_its_caller_was_cancelled_is_dropped(
    services: Callable[..., PostgresSandboxService], observer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with services() as service:
        fetch_one = service._database.fetch_one
        claimed = asyncio.Event()

        async def late(statement: Statement, /, **values: Any) -> Row | None:
            async def claim() -> Row | None:
                await asyncio.sleep(0.2)
                row = await fetch_one(statement, **values)
                claimed.set()
                return row

            if statement is not CLAIM:
                return await fetch_one(statement, **values)
            # As when the server has it already, and what cancels it comes too late.
            return await asyncio.shield(asyncio.create_task(claim()))

        monkeypatch.setattr(service._database, "fetch_one", late)
        connecting = asyncio.create_task(service.connect("s", "alice"))
        await asyncio.sleep(0.1)
        connecting.cancel()
        await asyncio.wait([connecting])
        assert connecting.cancelled()
        await claimed.wait()

        async def is_empty() -> bool:
            return not await _rows(observer)

        async with asyncio.timeout(10):  # of a lease of thirty
            await _until(is_empty)


async def test_after_a_release_that_is_cancelled_the_next_connect_need_not_wait(
    services: Callable[..., PostgresSandboxService], provider: UnsafeSubprocessProvider
) -> None:
    async with services() as service:
        for number in range(10):
            (sandbox,) = await service.connect("s", "alice")
            task = asyncio.create_task(service.release("s", "alice"))
            for _ in range(number * 2):
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            async with asyncio.timeout(10):  # of a lease of thirty
                (again,) = await service.connect("s", "alice")
                with suppress(SandboxLost):  # it was ending
                    await again.run_shell_command("true")
                (again,) = await service.connect("s", "alice")
                assert not (await again.run_shell_command("true")).is_error
            assert again.sandbox_id == sandbox.sandbox_id or not await provider.check(sandbox.sandbox_id)


async def test_what_a_provider_refuses_leaves_no_lease(
    database_url: str, settings: Settings, observer: asyncpg.Connection
) -> None:
    async with PostgresSandboxService(database_url, base_url="http://127.0.0.1:9", settings=settings) as service:
        with pytest.raises(SandboxUnavailable):
            await service.connect("s", "alice")
    assert await _rows(observer) == []
    with pytest.raises(NotConfigured):
        PostgresSandboxService(database_url, provider="none", settings=settings)


async def test_what_a_maker_that_died_was_making_is_ended_by_what_it_reserved(
    services: Callable[..., PostgresSandboxService],
    observer: asyncpg.Connection,
    provider: UnsafeSubprocessProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reserved = (f"reserved {number}" for number in range(9))
    destroyed: list[str] = []

    async def recorded(handle: str) -> None:
        destroyed.append(handle)

    async def is_claimed() -> bool:
        return bool(await observer.fetchval("SELECT count(*) = 1 FROM agentstore.sandboxes"))

    async def is_destroyed() -> bool:
        return bool(destroyed)

    monkeypatch.setattr(provider, "reserve", lambda: next(reserved))
    monkeypatch.setattr(provider, "create", lambda *_: asyncio.sleep(60))
    monkeypatch.setattr(provider, "destroy", recorded)
    service, other = services(drain_on_stop=False), services()
    async with other:
        for end in (other.reap, partial(other.connect, "s", "alice")):
            making = asyncio.create_task(service.connect("s", "alice"))
            await _until(is_claimed)
            # As if it had died: nobody renews its lease any more, and it undoes nothing.
            await observer.execute("UPDATE agentstore.sandboxes SET lease_until = now() - interval '1 s', owner = ''")
            ending = asyncio.create_task(end())
            await _until(is_destroyed)
            assert destroyed.pop().startswith("reserved")
            for task in (making, ending):
                task.cancel()
            await asyncio.gather(making, ending, return_exceptions=True)
            await observer.execute("DELETE FROM agentstore.sandboxes")
            destroyed.clear()
    await service.stop()


_KEEPING = {"sandbox_snapshots": True, "sandbox_snapshot_interval": 3_600.0}


async def _release(service: PostgresSandboxService) -> None:
    await service.release("s", "alice")


async def test_a_workspace_is_not_kept_while_it_is_being_filled(
    services: Callable[..., PostgresSandboxService], provider: UnsafeSubprocessProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Released or stopped in the middle of it, what was kept stands."""
    async with services(**_KEEPING) as service:
        (sandbox,) = await service.connect("s", "alice")
        await sandbox.write_file("note", "kept")
        await service.release("s", "alice")
    unpack = provider.unpack
    filling = asyncio.Event()

    async def slow(*given: Any) -> None:
        filling.set()
        await asyncio.sleep(0.5)
        await unpack(*given)

    monkeypatch.setattr(provider, "unpack", slow)
    for end in (_release, PostgresSandboxService.stop):
        filling.clear()
        async with services(**_KEEPING) as service:
            connecting = asyncio.create_task(service.connect("s", "alice"))
            await filling.wait()
            await end(service)
            with pytest.raises((SandboxLost, Closed)):
                await connecting
    monkeypatch.setattr(provider, "unpack", unpack)
    async with services(**_KEEPING) as service:
        assert (await (await service.connect("s", "alice"))[0].read_file("note")).text == "kept"


async def test_a_connect_to_what_has_expired_keeps_its_workspace_first(
    services: Callable[..., PostgresSandboxService], provider: UnsafeSubprocessProvider, observer: asyncpg.Connection
) -> None:
    async with services(drain_on_stop=False, **_KEEPING) as one:
        (sandbox,) = await one.connect("s", "alice")
        await sandbox.write_file("note", "since the last snapshot")
    await _expire(observer)
    async with services(**_KEEPING) as two:
        (new,) = await two.connect("s", "alice")
        assert new.generation > sandbox.generation
        assert (await new.read_file("note")).text == "since the last snapshot"
        assert not await provider.check(sandbox.sandbox_id)


async def test_what_cannot_be_ended_stays_registered(
    services: Callable[..., PostgresSandboxService],
    provider: UnsafeSubprocessProvider,
    observer: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with services(drain_on_stop=False) as one:
        (sandbox,) = await one.connect("s", "alice")
    destroy = provider.destroy

    async def away(handle: str) -> None:
        raise SandboxUnavailable("away")

    monkeypatch.setattr(provider, "destroy", away)
    await _expire(observer)
    async with services() as two:
        with pytest.raises(SandboxUnavailable, match="away"):
            await two.connect("s", "alice")
        assert await observer.fetchval("SELECT handle FROM agentstore.sandboxes") == sandbox.sandbox_id
        await _expire(observer)
        assert await two.reap() == 0
        monkeypatch.setattr(provider, "destroy", destroy)
        await _expire(observer)
        assert await two.reap() == 1
        assert await _rows(observer) == []
        assert not await provider.check(sandbox.sandbox_id)


async def test_a_call_that_is_longer_than_a_sandbox_may_be_idle_goes_on(
    services: Callable[..., PostgresSandboxService],
) -> None:
    async with services(sandbox_lease=0.9, sandbox_idle=0.3) as service:
        (sandbox,) = await service.connect("s", "alice")
        assert (await sandbox.run_shell_command("sleep 3; echo done")).text == "done\n"


async def test_who_uses_a_sandbox_keeps_its_workspace_whoever_made_it(
    services: Callable[..., PostgresSandboxService], observer: asyncpg.Connection
) -> None:
    keeping = {"sandbox_snapshots": True, "sandbox_snapshot_interval": 0.2}
    async with services() as maker, services(**keeping) as user:
        await maker.connect("s", "alice")
        (sandbox,) = await user.connect("s", "alice")
        await sandbox.write_file("note", "used")

        async def is_not_expired() -> bool:
            return bool(await observer.fetchval("SELECT count(*) FROM agentstore.workspaces"))

        await _until(is_not_expired)
        assert await maker.delete_workspaces("s", "alice") == 1


async def test_a_connect_gives_the_sandbox_that_lives_and_not_the_one_it_knew(
    services: Callable[..., PostgresSandboxService],
) -> None:
    async with services() as one, services() as two:
        (old,) = await one.connect("s", "alice")
        await two.release("s", "alice")
        (new,) = await two.connect("s", "alice")
        (found,) = await one.connect("s", "alice")
        assert found.generation == new.generation > old.generation
        assert not (await found.run_shell_command("true")).is_error


async def test_what_is_used_again_before_it_is_reaped_goes_on(
    services: Callable[..., PostgresSandboxService], observer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with services() as service:
        (sandbox,) = await service.connect("s", "alice")
        fetch = service._database.fetch

        async def late(statement: Statement, **values: Any) -> Any:
            rows = await fetch(statement, **values)
            if statement is EXPIRED:  # and before it is taken, its user is back
                await observer.execute("UPDATE agentstore.sandboxes SET lease_until = now() + interval '9 s'")
            return rows

        await _expire(observer)
        monkeypatch.setattr(service._database, "fetch", late)
        assert await service.reap() == 0
        assert len(service._leases) == 1
        assert not (await sandbox.run_shell_command("true")).is_error


async def test_what_somebody_stopped_ending_is_not_held_by_those_who_use_it(
    services: Callable[..., PostgresSandboxService], observer: asyncpg.Connection
) -> None:
    async with services(sandbox_lease=0.9) as service:
        await service.connect("s", "alice")
        await observer.execute("UPDATE agentstore.sandboxes SET state = 'ending'")  # and was killed
        async with asyncio.timeout(10):
            (sandbox,) = await service.connect("s", "alice")
        assert not (await sandbox.run_shell_command("true")).is_error


async def test_who_takes_longer_than_a_lease_to_keep_a_workspace_has_it_still(
    services: Callable[..., PostgresSandboxService], provider: UnsafeSubprocessProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provider, "pack", _slowly(provider.pack, 2))
    short = {"sandbox_lease": 0.9, **_KEEPING}
    async with services(**short) as other:
        for end in (_release, PostgresSandboxService.stop):
            async with services(**short) as service:
                (sandbox,) = await service.connect("s", "alice")
                await sandbox.run_shell_command("date +%N >>note")
                ending = asyncio.create_task(end(service))
                while not ending.done():
                    assert await other.reap() == 0
                    await asyncio.sleep(0.1)
                await ending
        (last,) = await other.connect("s", "alice")
        assert (await last.read_file("note")).text.count("\n") == 2


async def test_a_workspace_that_cannot_be_unpacked_says_the_way_out(
    services: Callable[..., PostgresSandboxService], observer: asyncpg.Connection
) -> None:
    async with services(**_KEEPING) as service:
        (sandbox,) = await service.connect("s", "alice")
        await sandbox.write_file("note", "kept")
        await service.release("s", "alice")
        await observer.execute("UPDATE agentstore.workspace_chunks SET data = 'damaged'")
        with pytest.raises(SandboxFailed, match="delete_workspaces"):
            await service.connect("s", "alice")
        assert await _rows(observer) == []
        assert await service.delete_workspaces("s", "alice") == 1
        assert (await (await service.connect("s", "alice"))[0].list_files())["content"] == []


async def test_of_two_releases_that_fail_the_sandbox_goes_on(
    services: Callable[..., PostgresSandboxService],
) -> None:
    async with services(max_workspace_bytes=1_000, **_KEEPING) as service:
        (sandbox,) = await service.connect("s", "alice")
        await sandbox.write_file("large", os.urandom(100_000))
        both = await asyncio.gather(_release(service), _release(service), return_exceptions=True)
        assert [type(each) for each in both] == [LimitExceeded] * 2
        await (await service.connect("s", "alice"))[0].remove_file("large")
        await _release(service)
        assert not await service.list("alice")


def test_a_stop_does_not_wait_for_what_an_event_loop_left_that_has_gone(database_url: str, settings: Settings) -> None:
    service = PostgresSandboxService(database_url, provider="unsafe_subprocess", settings=settings)

    async def leave() -> None:
        try:
            await asyncio.sleep(60)
        finally:  # as what is cancelled at the end of a program does
            service._tasks.start(asyncio.sleep(60))

    async def end() -> None:
        asyncio.get_running_loop().create_task(leave())
        await asyncio.sleep(0)

    asyncio.run(end())
    assert service._tasks
    asyncio.run(asyncio.wait_for(service.stop(), 20))


async def test_a_stop_ends_what_is_being_made(
    services: Callable[..., PostgresSandboxService],
    provider: UnsafeSubprocessProvider,
    observer: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[str] = []
    create = provider.create

    async def slow(*given: Any) -> str:
        made.append(await create(*given))
        try:
            await asyncio.sleep(30)
        except BaseException:
            await provider.destroy(made[0])
            raise
        return made[0]

    monkeypatch.setattr(provider, "create", slow)
    async with services() as service:
        connects = [asyncio.create_task(service.connect("s", "alice")) for _ in range(3)]
        while not made:
            await asyncio.sleep(0.01)
        await service.stop()
        done = await asyncio.gather(*connects, return_exceptions=True)
        assert [type(each) for each in done] == [Closed] * 3
        assert await _rows(observer) == []
        assert not await provider.check(made[0])


async def test_what_is_being_reaped_is_reaped_though_the_caller_is_cancelled(
    services: Callable[..., PostgresSandboxService],
    provider: UnsafeSubprocessProvider,
    observer: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(provider, "pack", _slowly(provider.pack, 1))
    async with services(drain_on_stop=False, **_KEEPING) as one:
        (sandbox,) = await one.connect("s", "alice")
        await sandbox.write_file("note", "kept")
    await _expire(observer)
    async with services(**_KEEPING) as two:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(two.connect("s", "alice"), 0.5)
        async with asyncio.timeout(10):  # of a lease of thirty
            (new,) = await two.connect("s", "alice")
        assert (await new.read_file("note")).text == "kept"


async def test_what_was_ours_ends_when_its_row_has_gone_and_another_is_made(
    services: Callable[..., PostgresSandboxService], provider: UnsafeSubprocessProvider, observer: asyncpg.Connection
) -> None:
    async with services() as service:
        (old,) = await service.connect("s", "alice")
        await observer.execute("DELETE FROM agentstore.users")
        (new,) = await service.connect("s", "alice")

        async def has_ended() -> bool:
            return not await provider.check(old.sandbox_id)

        await _until(has_ended)
        assert not (await new.run_shell_command("true")).is_error


async def test_who_lost_a_sandbox_lets_the_taker_keep_its_workspace(
    services: Callable[..., PostgresSandboxService], provider: UnsafeSubprocessProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    pack = provider.pack
    async with services(sandbox_lease=0.9, sandbox_idle=0.1) as owner, services(**_KEEPING) as taker:
        (sandbox,) = await owner.connect("s", "alice")
        await sandbox.write_file("note", "kept")
        monkeypatch.setattr(owner, "reap", lambda: asyncio.sleep(0))
        monkeypatch.setattr(provider, "pack", _slowly(pack, 1.5))

        async def is_reaped() -> bool:
            return await taker.reap() == 1

        await _until(is_reaped)
        monkeypatch.setattr(provider, "pack", pack)
        (new,) = await taker.connect("s", "alice")
        assert (await new.read_file("note")).text == "kept"


async def test_what_is_on_a_machine_that_has_gone_can_be_released(
    services: Callable[..., PostgresSandboxService],
    provider: UnsafeSubprocessProvider,
    observer: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with services(drain_on_stop=False) as one:
        await one.connect("s", "alice")
    monkeypatch.setattr(local, "_here", lambda: ("another host", "another machine"))
    async with services(**_KEEPING) as two:
        for call in (two.connect("s", "alice"), two.release("s", "alice")):
            with pytest.raises(SandboxElsewhere, match="runs on the host"):
                await call
        await _expire(observer)
        assert await two.reap() == 0  # whoever is there may have paused
        assert [each.session_id for each in await two.release("s", "alice")] == ["s"]
        assert await _rows(observer) == []


async def test_a_stop_ends_only_its_own(
    services: Callable[..., PostgresSandboxService], observer: asyncpg.Connection
) -> None:
    async with services() as one, services() as two:
        (of_one,) = await one.connect("of one", "alice")
        (of_two,) = await two.connect("of two", "alice")
        await two.connect("of one", "alice")
        await two.stop()
        assert await _rows(observer) == [("alice", "of one", "ready")]
        assert not (await of_one.run_shell_command("true")).is_error
        with pytest.raises(SandboxLost):
            await (await one.connect("of two", "alice"))[0]._provider.exec(  # type: ignore[attr-defined]
                of_two.sandbox_id, "run_shell_command", {"command": "true"}, 5.0
            )


async def test_what_a_stop_was_told_to_leave_is_found_by_the_next(
    services: Callable[..., PostgresSandboxService],
) -> None:
    async with services(drain_on_stop=False) as one:
        (sandbox,) = await one.connect("s", "alice")
        await sandbox.run_shell_command("echo left >note")
    async with services() as two:
        (same,) = await two.connect("s", "alice")
        assert (same.generation, same.sandbox_id) == (sandbox.generation, sandbox.sandbox_id)
        assert (await same.read_file("note")).text == "left\n"
        assert len(await two.release("s", "alice")) == 1


async def test_a_deleted_users_sandboxes_end(
    services: Callable[..., PostgresSandboxService],
    database_url: str,
    settings: Settings,
    provider: UnsafeSubprocessProvider,
) -> None:
    async with services(sandbox_lease=0.6) as service, AgentStore(database_url, settings=settings) as store:
        (sandbox,) = await service.connect("s", "alice")
        assert await store.users.get_user("alice") is not None
        await store.users.delete_user("alice")

        async def has_ended() -> bool:
            return not await provider.check(sandbox.sandbox_id)

        await _until(has_ended)
        with pytest.raises(SandboxLost):
            await sandbox.run_shell_command("true")


async def test_what_nobody_calls_is_reaped(
    services: Callable[..., PostgresSandboxService], observer: asyncpg.Connection, provider: UnsafeSubprocessProvider
) -> None:
    async with services(sandbox_lease=0.5, sandbox_idle=0.5) as service:
        (used,) = await service.connect("used", "alice")
        (idle,) = await service.connect("idle", "alice")

        async def only_one_is_left() -> bool:
            await used.run_shell_command("true")
            return await _rows(observer) == [("alice", "used", "ready")]

        await _until(only_one_is_left)
        assert not await provider.check(idle.sandbox_id)
        with pytest.raises(SandboxLost):
            await idle.run_shell_command("true")


async def test_a_lease_goes_on_while_it_is_used(
    services: Callable[..., PostgresSandboxService], observer: asyncpg.Connection
) -> None:
    async with services(sandbox_lease=0.6) as service:
        (sandbox,) = await service.connect("s", "alice")
        for _ in range(8):
            await asyncio.sleep(0.2)
            left = await observer.fetchval("SELECT lease_until - now() > '0 s' FROM agentstore.sandboxes")
            assert left
        assert (await service.connect("s", "alice"))[0].generation == sandbox.generation


async def test_another_providers_sandbox_is_not_taken_for_dead(
    services: Callable[..., PostgresSandboxService], database_url: str, settings: Settings
) -> None:
    async with services() as service:
        await service.connect("s", "alice")
        async with PostgresSandboxService(database_url, base_url="http://127.0.0.1:9", settings=settings) as other:
            for call in (other.connect("s", "alice"), other.release("s", "alice")):
                with pytest.raises(SandboxUnavailable, match="unsafe_subprocess"):
                    await call


async def test_a_service_serves_one_event_loop_after_another(database_url: str, settings: Settings) -> None:
    service = PostgresSandboxService(database_url, provider="unsafe_subprocess", settings=settings)

    async def use() -> int:
        async with service:
            (sandbox,) = await service.connect("s", "alice")
            assert not (await sandbox.run_shell_command("true")).is_error
            return sandbox.generation

    first = await asyncio.to_thread(lambda: asyncio.run(use()))
    assert await asyncio.to_thread(lambda: asyncio.run(use())) > first


async def test_a_store_stops_its_sandboxes_and_starts_them_again(database_url: str, settings: Settings) -> None:
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


async def test_a_provider_that_cannot_be_is_said_where_sandboxes_are_asked_for(
    database_url: str, settings: Settings
) -> None:
    for update in ({"sandbox_provider": "remote"}, {"sandbox_provider": "chroot"}):
        async with AgentStore(database_url, settings=settings.model_copy(update=update)) as store:
            assert await store.sessions.get_session("alice", "s") is None
            with pytest.raises(NotConfigured, match=r"AGENTSTORE_SANDBOX_URL|chroot"):
                _ = store.sandboxes
