"""Connections that pass from one event loop to another."""

import asyncio
import gc
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from agentstore import AgentStore, Settings
from agentstore.database.links import Link, Transport, link_of
from agentstore.testing import text
from tests.integration.test_loops import _COUNT_BACKENDS, _backend, _count_backends
from tests.support.proxy import Proxy

_ROOT = Path(__file__).parents[2]

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def _runners() -> list[Any]:
    runners: list[Any] = [pytest.param(asyncio.run, id="asyncio")]
    if find_spec("uvloop") is not None:
        import uvloop  # type: ignore[import-not-found]

        runners.append(pytest.param(uvloop.run, id="uvloop"))
    return runners


@pytest.fixture(params=_runners())
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a coroutine in an event loop of its own."""
    runner: Run = request.param
    return runner


@pytest.fixture
def store(direct_url: str, run: Run) -> AgentStore:
    """A store that one event loop has used, and whose next connection passes to others."""
    store = AgentStore(direct_url)
    run(store.sessions.append("alice", "s", text("first")))
    return store


async def _texts(store: AgentStore) -> list[str]:
    session = await store.sessions.get_session("alice", "s")
    assert session is not None
    return [message.text for message in session.messages]


async def _append(store: AgentStore, *texts: str) -> int:
    """Append messages one by one, and return the backend of the connection."""
    for each in texts:
        await store.sessions.append("alice", "s", text(each))
    return await _backend(store)


async def _terminate(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    await connection.close()


def test_a_backend_that_ends_between_two_loops_is_not_noticed(store: AgentStore, run: Run, direct_url: str) -> None:
    backends = []
    for number in range(3):
        backends.append(run(_append(store, str(number))))
        run(_terminate(direct_url))
    assert len(set(backends)) == 3
    assert run(_texts(store)) == ["first", "0", "1", "2"]
    run(store.stop())
    gc.collect()


def test_a_connection_that_a_firewall_dropped_between_two_loops_is_pinged(
    own_tcp_server: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, port = own_tcp_server
    started = threading.Event()
    proxies: list[Proxy] = []
    ended = asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with Proxy("127.0.0.1", port) as proxy:
            proxies.append(proxy)
            started.set()
            await ended.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    started.wait()
    (proxy,) = proxies
    store = AgentStore(url.replace(f":{port}/", f":{proxy.port}/"), settings=Settings(auto_migrate="upgrade"))
    asyncio.run(store.sessions.append("alice", "s", text("first")))
    asyncio.run(_append(store, "second"))
    proxy.drop_open()
    monkeypatch.setattr("agentstore.database.pool._PING_AFTER", 0.0)
    monkeypatch.setattr("agentstore.database.pool._PING_TIMEOUT", 0.3)
    asyncio.run(_append(store, "third"))  # an append that is sent on the dropped connection would be unknown
    assert asyncio.run(_texts(store)) == ["first", "second", "third"]
    asyncio.run(store.stop())
    loop.call_soon_threadsafe(ended.set)
    thread.join()
    loop.close()


def test_a_loop_that_has_left_begins_no_task_for_others(store: AgentStore, run: Run) -> None:
    async def leave() -> None:
        await _append(store, "second")
        pool = store._database._get_pool()
        await pool.close(wait=False)
        assert pool._was_left
        pool.offer()  # as the pool of another thread does at the same time
        await asyncio.sleep(0)
        assert not pool._tasks

    run(leave())
    run(store.stop())


def test_canceled_calls_leave_nothing_to_the_next_loop(store: AgentStore, run: Run) -> None:
    """Neither a call that is canceled, nor those that are in progress when their loop ends."""

    async def interrupted() -> None:
        await _append(store, "before")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await _backend(store, 5.0)
        await _append(store, "after")
        tasks = [asyncio.create_task(_backend(store, 5.0)) for _ in range(3)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in tasks)

    for _ in range(3):
        run(interrupted())
        assert store._database.checked_out() == 0
    assert run(_texts(store)) == ["first", *["before", "after"] * 3]
    run(store.stop())
    gc.collect()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_connections_of_a_closed_loop_serve_others_unless_they_were_in_use(store: AgentStore) -> None:
    """The loop is closed without its generators, in the middle of a call."""
    loop = asyncio.new_event_loop()
    busy: dict[int, asyncio.Task[None]] = {}

    async def sleep() -> None:
        async with store._database.connection() as connection:
            busy[connection.get_server_pid()] = asyncio.current_task()  # type: ignore[assignment]
            await connection.fetch("SELECT pg_sleep(60)")

    async def use() -> set[int]:
        backends = set(await asyncio.gather(_backend(store, 0.2), _backend(store, 0.2)))
        tasks.append(asyncio.create_task(sleep()))
        await asyncio.sleep(0.1)
        return backends

    tasks: list[asyncio.Task[None]] = []
    backends = loop.run_until_complete(use())
    loop.close()
    (busy_one,) = busy
    (idle_one,) = backends - {busy_one}

    async def use_three() -> set[int]:
        return set(await asyncio.gather(*(_backend(store, 0.2) for _ in range(3))))

    backends = asyncio.run(use_three())
    assert idle_one in backends
    assert busy_one not in backends
    assert asyncio.run(use_three()) == backends
    assert asyncio.run(_texts(store)) == ["first"]
    asyncio.run(store.stop())
    tasks.clear()
    busy.clear()
    gc.collect()


def test_loops_that_are_used_alternately_have_a_connection_each(store: AgentStore) -> None:
    loops = [asyncio.new_event_loop() for _ in range(3)]
    backends = [[loop.run_until_complete(_append(store, "x")) for loop in loops] for _ in range(5)]
    assert backends == backends[:1] * 5
    assert len(set(backends[0])) == 3
    for number, loop in enumerate(loops):
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
        assert asyncio.run(_append(store, "y")) == backends[0][number]
    assert asyncio.run(_texts(store)) == ["first", *["x"] * 15, *["y"] * 3]
    asyncio.run(store.stop())
    gc.collect()


def test_threads_that_run_short_loops_share_the_connections(direct_url: str, run: Run) -> None:
    store = AgentStore(direct_url, settings=Settings(pool_size=4))
    run(store.sessions.append("alice", "s", text("first")))
    most: list[int] = []
    done = threading.Event()

    def work(number: int) -> set[int]:
        backends = set()
        for call in range(10):
            backends.add(run(_append(store, f"{number} {call}")))
            most.append(store.pool_stats().open)
        return backends

    async def count() -> int:
        """Return how many connections there were at once."""
        connection = await asyncpg.connect(direct_url)
        counts = [0]
        while not done.is_set():
            counts.append(await connection.fetchval(_COUNT_BACKENDS))
        await connection.close()
        return max(counts)

    with ThreadPoolExecutor(9) as executor:
        counted = executor.submit(asyncio.run, count())
        used = set().union(*executor.map(work, range(8)))
        done.set()
        assert 1 <= counted.result() <= 4
    assert sorted(run(_texts(store))[1:]) == sorted(f"{number} {call}" for number in range(8) for call in range(10))
    assert max(most) <= 4
    assert len(used) < 20  # of 80 runs
    run(store.stop())
    assert _count_backends(direct_url) == 0
    gc.collect()


async def test_a_running_loop_takes_a_connection_that_another_one_gives_up(direct_url: str) -> None:
    store = AgentStore(direct_url, settings=Settings(pool_size=1))
    await store.start()
    assert link_of(await _driver(store)) is None

    def alternate() -> int:
        async def work() -> int:
            await store.sessions.append("alice", "s", text("there"))
            return await _backend(store)

        return asyncio.run(work())

    first = await asyncio.to_thread(alternate)
    assert await _append(store, "here") == first  # the loop of the thread has ended
    assert await asyncio.to_thread(alternate) == first  # this loop has given it up
    assert await _append(store, "here") == first
    await store.stop()


async def _driver(store: AgentStore) -> asyncpg.Connection:
    async with store._database.connection() as connection:
        return connection


def test_large_values_pass_in_both_directions(store: AgentStore, run: Run) -> None:
    """The socket has no room for what is sent, and what is received comes in pieces."""
    large = "x" * 20_000_000

    async def use(number: int) -> None:
        await store.states.save_state("alice", {"large": large, "number": number}, "s")
        assert await store.states.export_state("alice", "s") == {"large": large, "number": number}

    for number in range(3):
        run(use(number))
    run(store.stop())
    gc.collect()


def test_a_writer_that_waited_in_a_loop_that_has_ended_does_not_break_the_next(store: AgentStore, run: Run) -> None:
    """A copy waits until the socket has room: for that, the driver has an event of the loop."""

    async def source() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 200_000 + b"\n"

    async def copy() -> None:
        async with store._database.transaction() as transaction:
            await transaction.execute("CREATE TEMP TABLE copied (line text) ON COMMIT DROP")
            assert await transaction.copy_in("copied", ["line"], source()) == 100

    for _ in range(3):
        run(copy())
    run(store.stop())
    gc.collect()


def test_a_connection_is_closed_after_many_cancellations(store: AgentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each, the driver holds the task that has sent the request to cancel."""
    monkeypatch.setattr("agentstore.database.links._MAX_CANCELLATIONS", 3)

    async def use() -> list[int]:
        backends = []
        for _ in range(7):
            backends.append(await _backend(store))
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.02):
                    await _backend(store, 5.0)
            while store._database.checked_out():
                await asyncio.sleep(0.01)
        return backends

    backends = asyncio.run(use())
    assert [backends.count(each) for each in dict.fromkeys(backends)] == [3, 3, 1]
    asyncio.run(store.stop())


@pytest.mark.parametrize("by_server", [False, True])
def test_a_loop_that_ends_opens_no_connection_in_the_place_of_one_that_was_lost(
    store: AgentStore, run: Run, direct_url: str, by_server: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The server may refuse it, or not answer, and the end of the loop would fail or wait."""
    pools: Any = store._database._pools
    connect, opened, refuses = pools._connect, 0, False

    async def count(**options: Any) -> asyncpg.Connection:
        nonlocal opened
        opened += 1
        if refuses:
            raise ConnectionRefusedError("the server refuses connections")
        connection: asyncpg.Connection = await connect(**options)
        return connection

    async def use() -> None:
        nonlocal refuses
        async with store._database.connection() as lost:
            await _backend(store)
            if by_server:
                other = await asyncpg.connect(direct_url)
                await other.execute("SELECT pg_terminate_backend($1, 5000)", lost.get_server_pid())
                await other.close()
                while not lost.is_closed():
                    await asyncio.sleep(0.01)
            else:
                lost.terminate()
        refuses = True

    pools._connect = count
    run(use())
    assert opened == 2
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    refuses = False
    assert run(_texts(store)) == ["first"]
    run(store.stop())
    assert _count_backends(direct_url) == 0
    gc.collect()


def test_stop_closes_the_connections_that_no_loop_uses(
    store: AgentStore, run: Run, direct_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And those of loops that end afterwards."""
    run(_append(store, "second"))
    loop = asyncio.new_event_loop()
    loop.run_until_complete(_backend(store))
    run(_backend(store))
    assert store.pool_stats().idle == 2
    run(store.stop())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    assert store.pool_stats().idle == _count_backends(direct_url) == 0
    assert not [record for record in caplog.records if record.levelname == "ERROR"]
    run(store.start())
    assert run(_texts(store)) == ["first", "second"]
    run(store.stop())
    gc.collect()


def test_a_store_that_is_finalized_closes_its_connections(direct_url: str) -> None:
    store = AgentStore(direct_url)
    for number in range(3):
        asyncio.run(_append(store, str(number)))
    assert _count_backends(direct_url) == 1
    del store
    gc.collect()
    assert _count_backends(direct_url) == 0


_PROGRAM = """
import asyncio, sys
from agentstore import AgentStore, Message
store = AgentStore(sys.argv[1])
for number in range(4):
    asyncio.run(store.sessions.append("alice", "s", Message.user(f"{number}")))
print(store.pool_stats().idle)
"""


def test_the_end_of_the_process_closes_the_connections(direct_url: str) -> None:
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", _PROGRAM, direct_url]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=120, check=False)
    lines = [line for line in done.stderr.splitlines() if not line.startswith("Executing ")]  # slow, in debug mode
    assert (done.returncode, lines, done.stdout.strip()) == (0, [], "1")
    assert _count_backends(direct_url) == 0


def test_health_opens_a_connection_of_its_own(store: AgentStore, run: Run) -> None:
    run(_append(store, "second"))

    async def check() -> None:
        assert await store.health()
        assert store.pool_stats().idle == 1

    run(check())
    run(store.stop())


def test_the_driver_needs_of_a_link_only_what_it_has(direct_url: str) -> None:
    """A detached connection has no loop, and says so instead of using one that has ended."""

    async def connect() -> Any:
        link = Link()
        connection: Any = await asyncpg.connect(direct_url, loop=link)  # type: ignore[call-overload]
        assert isinstance(connection._transport, Transport)
        link.opened(connection._transport)
        links.append(link)
        assert await connection.fetchval("SELECT 1") == 1
        assert link.detach(0.0)
        return connection

    links: list[Link] = []
    connection = asyncio.run(connect())
    (link,) = links
    with pytest.raises(AttributeError, match="belongs to no event loop"):
        _ = link.time

    async def use() -> None:
        assert link.attach()
        assert await connection.fetchval("SELECT 2") == 2
        with pytest.raises(asyncpg.UndefinedTableError):
            await connection.fetch("SELECT * FROM missing")
        await connection.close()

    asyncio.run(use())
    assert connection.is_closed()
