"""One store in several event loops, threads and processes."""

import asyncio
import gc
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from agentstore import AgentStore, Closed, PoolTimeout, Settings
from agentstore.database.budget import Budget
from agentstore.database.links import Transport, link_of
from agentstore.database.pool import Pool
from agentstore.database.queues import CONNECT_NEVER_WAITS
from agentstore.testing import text
from tests.support import forked_store
from tests.support.servers import Server

_ROOT = Path(__file__).parents[2]
_COUNT_BACKENDS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND backend_type = 'client backend'"
)


def _count_backends(url: str) -> int:
    """Return how many connections of other clients a database has, once those that end have ended."""

    async def count() -> int:
        connection = await asyncpg.connect(url)
        try:
            found = before = -1
            while found != before or found < 0:
                before, found = found, await connection.fetchval(_COUNT_BACKENDS)
                await asyncio.sleep(0.05)
            return found
        finally:
            await connection.close()

    return asyncio.run(count())


async def _backend(store: AgentStore, seconds: float = 0.0) -> int:
    """Execute a statement, and return what identifies its connection, to the server or to a pooler."""
    if not store._database._started:
        await store._database._start_unless_stopped()
    async with store._database.connection() as connection:
        await connection.fetch("SELECT pg_sleep($1)", seconds)
        return connection.get_server_pid()


def _in_threads(count: int, work: Any) -> list[Any]:
    """Run `work` at once in as many threads, each with an event loop of its own, and return the results."""
    barrier = threading.Barrier(count)

    def run(number: int) -> Any:
        barrier.wait()
        return asyncio.run(work(number))

    with ThreadPoolExecutor(count) as executor:
        return list(executor.map(run, range(count)))


@contextmanager
def _running_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs in another thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield loop
    finally:
        asyncio.run_coroutine_threadsafe(loop.shutdown_asyncgens(), loop).result()
        asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_a_single_loop_leaves_no_connection(direct_url: str) -> None:
    """Nor does it use links: it has the driver's ordinary connections."""
    store = AgentStore(direct_url)

    async def use() -> None:
        await asyncio.gather(*(_backend(store, 0.1) for _ in range(3)))
        async with store._database.connection() as connection:
            assert link_of(connection) is None

    asyncio.run(use())
    assert _count_backends(direct_url) == 0
    assert (store._database.checked_out(), store._database._pools.values()) == (0, [])
    gc.collect()  # an unclosed connection would warn here


def test_runs_of_loops_use_one_connection_after_another(direct_url: str) -> None:
    store = AgentStore(direct_url)

    async def use(number: int) -> int:
        await store.sessions.append("alice", "s", text(str(number)))
        backends = {await _backend(store) for _ in range(3)}
        assert len(backends) == 1
        return backends.pop()

    asyncio.run(store.start())
    backends = [asyncio.run(use(number)) for number in range(30)]
    session = asyncio.run(store.sessions.get_session("alice", "s"))
    assert session is not None
    assert [message.text for message in session.messages] == [str(number) for number in range(30)]
    assert len(set(backends)) == 1
    assert store._database.checked_out() == 0
    assert store._database._pools.values() == []
    assert store.pool_stats().idle == _count_backends(direct_url) == 1
    asyncio.run(store.stop())
    assert store.pool_stats().idle == _count_backends(direct_url) == 0
    gc.collect()  # an unclosed connection would warn here


@contextmanager
def _sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The types of the messages with which each flight to the server begins; those of a login are left out."""
    flights: list[str] = []
    with monkeypatch.context() as patched:
        for kind in (asyncio.selector_events._SelectorSocketTransport, Transport):  # type: ignore[attr-defined]

            def record(transport: Any, data: Any, write: Any = kind.write) -> None:
                kind = "connect" if data[0] == 0 else chr(data[0])
                flights.extend([kind] if kind != "p" else [])
                write(transport, data)

            patched.setattr(kind, "write", record)
        yield flights


def test_a_loop_sends_only_what_its_calls_need(direct_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No check is repeated, and no answer is awaited at the end; what a connection has prepared is used again."""
    store = AgentStore(direct_url)

    async def get(count: int) -> None:
        for _ in range(count):
            assert await store.sessions.get_session("alice", "s") is not None

    async def close(*_: object, **__: object) -> None:
        raise AssertionError("the end of a loop waits for the server")

    with monkeypatch.context() as patched:
        patched.setattr("agentstore.database.hosts._Connection.close", close)
        asyncio.run(store.sessions.append("alice", "s", text("x")))
        for count, expected in ((1, ["connect", "P", "B"]), (1, ["B"]), (3, ["B"] * 3)):
            with _sent(monkeypatch) as flights:
                asyncio.run(get(count))
            assert flights == expected
    with _sent(monkeypatch) as flights:
        asyncio.run(store.stop())
    assert flights == ["X"]


def test_a_loop_uses_the_queue_of_one_that_has_ended(direct_url: str) -> None:
    """Unless a connection of it is still in use, or SQLAlchemy is older than 2.1, where a queue may wait."""
    store = AgentStore(direct_url)
    queues: list[Any] = []

    async def use() -> Pool:
        await _backend(store)
        (pool,) = store._database._pools.values()
        queues.append(pool._queue)
        return pool

    asyncio.run(use())
    for _ in range(3):
        asyncio.run(use())
    assert queues[0] is not queues[1]  # the connections of the first loop are closed with it
    assert (queues[1] is queues[2] is queues[3]) == CONNECT_NEVER_WAITS

    loop = asyncio.new_event_loop()
    pool = loop.run_until_complete(use())
    assert (queues[4] is queues[3]) == CONNECT_NEVER_WAITS
    pooled = loop.run_until_complete(pool.checkout(1.0))
    loop.run_until_complete(loop.shutdown_asyncgens())
    asyncio.run(use())
    assert queues[5] is not queues[4]
    pool.release(pooled)
    assert pooled.dbapi_connection is None
    loop.close()
    asyncio.run(store.stop())
    assert _count_backends(direct_url) == 0
    gc.collect()  # an unclosed connection would warn here


def test_a_loop_that_is_closed_without_its_generators_leaves_no_connection(
    database_url: str, settings: Settings
) -> None:
    store = AgentStore(database_url, settings=settings.model_copy(update={"pool_size": 1}))
    for _ in range(3):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(_backend(store))
        loop.close()
    asyncio.run(_backend(store))
    loop = asyncio.new_event_loop()
    loop.run_until_complete(_backend(store))
    loop.close()
    asyncio.run(store.stop())
    del loop
    gc.collect()


@pytest.mark.parametrize("pool_size", [10, 3])
def test_threads_with_loops_of_their_own_share_the_pool_size(
    database_url: str, direct_url: str, settings: Settings, pool_size: int
) -> None:
    """Eight threads: with more threads than connections, each connection goes from loop to loop."""
    store = AgentStore(database_url, settings=settings.model_copy(update={"pool_size": pool_size}))
    budget: list[int] = []

    async def work(number: int) -> None:
        for call in range(10):
            await asyncio.gather(
                store.sessions.append("alice", f"own {number}", text(f"{call}")),
                store.sessions.append("alice", "shared", text(f"{number} {call}")),
                _backend(store, 0.002),
            )
            found = store._database._pools._budget
            assert found is not None
            budget.append(sum(found._owned.values()))

    asyncio.run(store.start())
    _in_threads(8, work)
    assert max(budget) <= pool_size

    async def check() -> None:
        connection = await asyncpg.connect(direct_url)
        rows = await connection.fetch("SELECT session_id, count(*) FROM agentstore.messages GROUP BY session_id")
        await connection.close()
        assert {row[0]: row[1] for row in rows} == {**{f"own {number}": 10 for number in range(8)}, "shared": 80}
        await store.stop()

    asyncio.run(check())
    gc.collect()


async def test_a_loop_gets_its_share_from_one_that_has_opened_all_connections(
    database_url: str, settings: Settings
) -> None:
    async with AgentStore(database_url, settings=settings.model_copy(update={"pool_size": 4})) as store:

        async def use(concurrently: int) -> int:
            return len(set(await asyncio.gather(*(_backend(store, 0.1) for _ in range(concurrently)))))

        assert await use(4) == 4
        with _running_loop() as loop:
            # Idle connections are given up, and those in use when their calls are done.
            assert await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(use(4), loop)) == 2
            here, there = await asyncio.gather(
                use(8), asyncio.wrap_future(asyncio.run_coroutine_threadsafe(use(8), loop))
            )
            assert here == there == 2
        assert await use(4) == 4  # the other loop has ended


async def test_waiting_for_connections_of_a_loop_that_does_not_run_is_bounded(
    database_url: str, settings: Settings
) -> None:
    changes = {"pool_size": 1, "pool_timeout": 0.2}
    store = AgentStore(database_url, settings=settings.model_copy(update=changes))
    loop = asyncio.new_event_loop()
    await asyncio.to_thread(loop.run_until_complete, _backend(store))
    with pytest.raises(PoolTimeout, match="several event loops") as caught:
        await _backend(store)
    assert (caught.value.size, caught.value.in_use) == (1, 1)
    await asyncio.to_thread(loop.run_until_complete, loop.shutdown_asyncgens())
    loop.close()
    await _backend(store)
    await store.stop()


async def test_connections_of_a_loop_that_is_closed_serve_calls_that_wait(
    database_url: str, settings: Settings
) -> None:
    store = AgentStore(database_url, settings=settings.model_copy(update={"pool_size": 1}))
    loop = asyncio.new_event_loop()
    await asyncio.to_thread(loop.run_until_complete, _backend(store))
    waiting = asyncio.create_task(_backend(store))
    done, _ = await asyncio.wait([waiting], timeout=0.1)
    assert not done
    loop.close()  # without closing its generators
    await waiting
    await store.stop()


def test_all_calls_of_two_loops_share_one_connection(
    database_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Calls still wait in a loop that has given its connection to the other one."""
    monkeypatch.setattr("agentstore.database.pool._BUDGET_CHECK_INTERVAL", 3_600.0)
    store = AgentStore(database_url, settings=settings.model_copy(update={"pool_size": 1, "pool_timeout": 10.0}))

    finished = threading.Barrier(2)

    async def work(_: int) -> None:
        try:
            await asyncio.gather(*(_backend(store, 0.01) for _ in range(5)))
        finally:
            await asyncio.to_thread(finished.wait)  # neither loop ends, and closes its connection, before

    asyncio.run(store.start())
    _in_threads(2, work)
    asyncio.run(store.stop())


async def test_stop_closes_the_pools_of_all_loops(direct_url: str) -> None:
    store = AgentStore(direct_url)
    await store.start()
    with _running_loop() as loop:

        async def there(work: Any) -> Any:
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, loop))

        await _backend(store)
        await there(_backend(store))
        assert len(store._database._pools.values()) == 2
        await store.stop()
        assert store._database._pools.values() == []
        for call in (_backend(store), there(_backend(store))):
            with pytest.raises(Closed):
                await call
        await there(store.start())
        assert await store.health()
        assert await there(_backend(store)) != await _backend(store)
        await there(store.stop())
        with pytest.raises(Closed):
            await _backend(store)
        assert not await store.health()


def test_a_stop_from_another_thread_ends_a_start_in_progress(database_url: str, settings: Settings) -> None:
    for _ in range(3):
        store = AgentStore(database_url, settings=settings)

        async def work(number: int, store: AgentStore = store) -> None:
            for _ in range(5):
                try:
                    await (store.start() if number % 2 else store.stop())
                except Closed:
                    assert number % 2

        _in_threads(4, work)
        asyncio.run(store.stop())
        assert store._database._pools.values() == []
        asyncio.run(store.start())
        assert asyncio.run(_backend(store))
        asyncio.run(store.stop())


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_callers_engine_serves_several_loops(server: Server, database_name: str) -> None:
    url = server.url_of(database_name).replace("postgresql://", "postgresql+asyncpg://")
    for arguments in ({}, {"poolclass": NullPool}):
        engine = create_async_engine(url, **arguments)
        store = AgentStore(engine=engine)

        async def work(_: int, store: AgentStore = store) -> set[int]:
            return {await _backend(store) for _ in range(3)}

        async def main(store: AgentStore = store, is_pooled: bool = not arguments) -> None:
            mine = await work(0, store)
            others = await asyncio.to_thread(_in_threads, 3, work)
            assert await work(0, store) & set().union(*others) == set()
            assert not is_pooled or await work(0, store) == mine

        for _ in range(2):  # the first loop is closed without engine.dispose()
            asyncio.run(main())
        engine.sync_engine.dispose(close=False)
    gc.collect()


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["prefork", "after runs", "running loop", "same loop"])
def test_forked_children_use_the_store_of_their_parent(direct_url: str, scenario: str) -> None:
    """Neither shares a connection: responses would be mixed up, and each would close those of the other."""
    command = [sys.executable, "-W", "error", "-m", "tests.support.forked_store", direct_url, scenario]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    expected = [forked_store.CALLS] * (forked_store.CHILDREN + 1) + [forked_store.CALLS * forked_store.CHILDREN]
    assert list(map(int, done.stdout.split())) == expected


class _Pool:
    """A pool of a budget that gives up its slots as soon as it may."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.is_closed = False
        self.received = self.offers = self.grown = 0
        budget.add(self)

    def is_of_closed_loop(self) -> bool:
        return self.is_closed

    def drop(self) -> None:
        self.budget.remove(self)

    def receive(self) -> None:
        self.received += 1

    def offer(self) -> None:
        self.offers += 1
        while self.budget.begin_release(self):
            self.budget.release(self)

    def grow(self) -> None:
        self.grown += 1


def test_a_budget_divides_its_slots_among_pools() -> None:
    budget = Budget(5)
    first, second, third = (_Pool(budget) for _ in range(3))
    assert all(budget.take(first) for _ in range(5))
    assert not budget.take(second)
    assert budget.is_used_up()
    budget.request(second)
    budget.request(second)  # it owns its share: 5 // 3
    assert [budget.owned(each) for each in (first, second, third)] == [4, 1, 0]
    budget.request(third)
    assert [budget.owned(each) for each in (first, second, third)] == [3, 1, 1]
    assert (second.received, third.received, budget.is_wanted) == (1, 1, False)
    budget.remove(first)
    assert (second.grown, third.grown) == (1, 1)
    assert budget.take(second)
    second.is_closed = True
    fourth = _Pool(budget)
    assert all(budget.take(fourth) for _ in range(4))  # those of the closed loop are free
    assert not budget.take(fourth)


def test_a_budget_with_more_pools_than_slots_serves_all_in_turn() -> None:
    budget = Budget(2)
    pools = [_Pool(budget) for _ in range(5)]
    served: Counter[int] = Counter()
    for turn in range(100):
        number = turn % 5
        if not budget.owned(pools[number]) and not budget.take(pools[number]):
            budget.request(pools[number])
        served[number] += budget.owned(pools[number])
    assert all(served[number] >= 20 for number in range(5))
    assert sum(map(budget.owned, pools)) == 2


def test_a_budget_releases_no_more_slots_than_were_requested() -> None:
    budget = Budget(4)
    first, second = _Pool(budget), _Pool(budget)
    first.offer = lambda: None  # type: ignore[method-assign]
    assert all(budget.take(first) for _ in range(4))
    budget.request(second)
    assert budget.begin_release(first)
    assert not budget.begin_release(first)  # while the connection is being closed
    budget.cancel_release(first)
    assert budget.begin_release(first)
    budget.release(first)
    assert (budget.owned(first), budget.owned(second), budget.is_wanted) == (3, 1, False)
    assert not budget.begin_release(first)


def test_threads_drop_the_pool_of_a_closed_loop_once(database_url: str, settings: Settings) -> None:
    """Several loops may find at once that another one is closed."""
    store = AgentStore(database_url, settings=settings)

    async def use() -> None:
        await asyncio.gather(*(_backend(store, 0.1) for _ in range(5)))

    for _ in range(5):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(use())
        loop.close()
        (pool,) = store._database._pools.values()
        barrier = threading.Barrier(4)

        def drop(barrier: threading.Barrier = barrier, pool: Pool = pool) -> None:
            barrier.wait()
            pool.drop()

        with ThreadPoolExecutor(4) as executor:
            for each in [executor.submit(drop) for _ in range(4)]:
                each.result()
        assert pool.size == 0
    asyncio.run(store.stop())
    gc.collect()
