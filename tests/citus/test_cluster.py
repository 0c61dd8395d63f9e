"""A store on a Citus cluster: every public call, failures and changes of the cluster. ``make citus URL=...``."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from agentstore import AgentStore, Conflict, NotConfigured, NotFound, Settings, Unavailable, migrate
from agentstore.database.database import Database
from agentstore.database.statement import Statement
from agentstore.migrating import citus
from agentstore.migrating.revisions import history
from agentstore.operations.distribution import distribute, distribution, undistribute
from agentstore.repositories.connect import open_database
from agentstore.repositories.sessions.service import PostgresSessionHistoryService
from agentstore.testing import text
from tests.integration.extraction.support import EchoExtractor
from tests.integration.test_statement_scope import (
    _CALLS,
    _SETTINGS,
    _arguments,
    _Call,
    _execute,
    _fill,
    _needs_vectors,
    _use_sandboxes,
)
from tests.support.cluster import Cluster
from tests.support.servers import Server
from tests.support.vectors import WordEmbedder

pytestmark = pytest.mark.citus

_WORKER_OF = """
SELECT n.nodename, n.nodeport FROM pg_dist_placement p JOIN pg_dist_node n ON n.groupid = p.groupid
WHERE p.shardid = get_shard_id_for_distribution_column('agentstore.users'::regclass, $1::text)
"""
# The maintenance daemon of Citus commits some transactions of its own.
_COMMITTED = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"
_FLUSH = "SELECT pg_stat_force_next_flush()"


@pytest.fixture
def cluster(server: Server) -> Cluster:
    """The cluster that ``--database`` names."""
    assert isinstance(server, Cluster), "-m citus needs --database=URL of the coordinator of a Citus cluster"
    assert len(server.workers) >= 2
    return server


async def _users(connection: asyncpg.Connection, workers: int = 2) -> list[str]:
    """Return a user of each of as many workers."""
    found: dict[tuple[str, int], str] = {}
    while len(found) < workers:
        user = uuid4().hex
        found.setdefault(tuple(await connection.fetchrow(_WORKER_OF, user)), user)  # type: ignore[arg-type]
    return list(found.values())


@pytest.mark.parametrize("call", _CALLS, ids=map(str, _CALLS))
async def test_every_public_call_works(
    cluster: Cluster, direct_url: str, observer: asyncpg.Connection, call: _Call
) -> None:
    """Except those that need vectors, which are refused."""
    user = uuid4().hex if call.names_user else ""
    settings = _SETTINGS.model_copy(update={"row_level_security": False})
    async with AgentStore(direct_url, settings=settings, embedder=WordEmbedder(), extractor=EchoExtractor()) as store:
        if call.service == "sandboxes":
            await _use_sandboxes(store, user)
        else:
            await _fill(store, observer, user)
        arguments = await _arguments(store, call, user)
        if _needs_vectors(call) or call.value in ("vector", "hybrid"):
            with pytest.raises(NotConfigured, match="vector enable"):
                await _execute(store, call, arguments)
        else:
            await _execute(store, call, arguments)


async def test_appends_for_a_user_reach_one_worker(
    cluster: Cluster, store: AgentStore, observer: asyncpg.Connection, database_name: str
) -> None:
    (user, _) = await _users(observer)
    home = tuple(await observer.fetchrow(_WORKER_OF, user))  # type: ignore[arg-type]
    session = await store.sessions.create_session(user, "s")
    counts = {}
    for worker in cluster.workers:
        connection = await asyncpg.connect(cluster.worker_url(worker, database_name))
        counts[worker] = (connection, await connection.fetchval(_COMMITTED))
    for number in range(100):
        await store.sessions.append_message(session, [text(f"{number} {each}") for each in range(1 + number % 3)])
    await store.stop()  # a server process reports what it has committed when it ends
    await observer.close()
    committed = {}
    for worker, (connection, before) in counts.items():
        await connection.execute(_FLUSH)
        committed[worker] = await connection.fetchval(_COMMITTED) - before
        await connection.close()
    assert committed.pop(home) >= 100
    assert max(committed.values()) < 50


async def _ids(observer: asyncpg.Connection, user: str) -> list[str]:
    """Return the ids of the messages of a user's session in their order, without a gap."""
    rows = await observer.fetch("SELECT seq, id FROM agentstore.messages WHERE user_id = $1 ORDER BY seq", user)
    assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
    return [row[1] for row in rows]


async def _append_at_once(store: AgentStore, users: list[str], turn: int) -> None:
    """Append to two sessions of each user, to one of them twice."""
    calls = [
        store.sessions.append(
            user, session, [text("x", id=f"{turn}-{session}-{part}-{n}") for n in range(1 + turn % 3)]
        )
        for user in users
        for session, part in (("s", 1), ("s", 2), ("t", 1))
    ]
    appended = await asyncio.gather(*calls)
    assert len({(each.first_seq, each.created_at) for each in appended}) > 1


async def test_appends_of_several_users_share_statements(
    store: AgentStore, observer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = [uuid4().hex for _ in range(30)]
    for user in users:
        for session in ("s", "t"):
            await store.sessions.create_session(user, session)
    executed: Counter[str] = Counter()
    fetch = Database.fetch

    async def count(self: Database, statement: Statement, /, **values: Any) -> Any:
        executed[statement.name] += 1
        return await fetch(self, statement, **values)

    monkeypatch.setattr(Database, "fetch", count)
    for turn in range(5):
        executed.clear()
        await _append_at_once(store, users, turn)
        # Once the places of the users are known: 60 sessions, at most 32 in a batch.
        assert turn == 0 or executed.total() < 30, executed
    for user in users:
        rows = await observer.fetch(
            "SELECT session_id, count(*), max(seq) FROM agentstore.messages WHERE user_id = $1 GROUP BY 1", user
        )
        expected = 1 + 2 + 3 + 1 + 2
        assert {tuple(row) for row in rows} == {("s", 2 * expected, 2 * expected), ("t", expected, expected)}
        for session, count_of in (("s", 2 * expected), ("t", expected)):
            found = await store.sessions.get_session(user, session)
            assert found is not None
            assert found.message_count == count_of


async def test_a_failing_append_does_not_affect_those_of_other_users(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    """One whose message is stored already, with equal or with other content, and one whose session does not exist."""
    users = [uuid4().hex for _ in range(20)]
    for user in users[1:]:
        await store.sessions.create_session(user, "s")
    await asyncio.gather(*(store.sessions.append(user, "s", text("x", id="1")) for user in users[1:]))
    sent = {user: [text("x", id="2")] for user in users}
    sent[users[1]], sent[users[2]] = [text("x", id="1")], [text("y", id="1")]
    calls = [store.sessions.append(user, "s", messages, create=False) for user, messages in sent.items()]
    results = await asyncio.gather(*calls, return_exceptions=True)
    failed = {users[place]: type(each) for place, each in enumerate(results) if isinstance(each, Exception)}
    assert failed == {users[0]: NotFound, users[2]: Conflict}
    assert [await _ids(observer, user) for user in users] == [[], ["1"], ["1"], *([["1", "2"]] * 17)]


async def test_appends_of_users_that_have_moved_are_stored(store: AgentStore, observer: asyncpg.Connection) -> None:
    users = [uuid4().hex for _ in range(12)]
    for user in users:
        for session in ("s", "t"):
            await store.sessions.create_session(user, session)
    await _append_at_once(store, users, 0)
    assert isinstance(store.sessions, PostgresSessionHistoryService)
    appends = store.sessions._appends.get()
    assert appends is not None
    places = appends._places
    learned = dict(places)
    places.update(
        {
            user: await observer.fetchval(
                "SELECT groupid FROM pg_dist_placement WHERE shardid ="
                " get_shard_id_for_distribution_column('agentstore.users'::regclass, $1::text)",
                user,
            )
            for user in users
        }
    )
    known = dict(places)
    assert learned
    assert learned.items() <= known.items()
    assert len(set(known.values())) == 2
    swapped = {user: sum(set(known.values())) - place for user, place in known.items()}
    for turn, wrong in enumerate((swapped, dict.fromkeys(users, 99), dict.fromkeys(users, known[users[0]])), 1):
        places.update(wrong)
        await _append_at_once(store, users, 3 * turn)
        # Those of the appends that were part of a batch; the others are executed individually.
        assert sum(places[user] == place for user, place in known.items()) > len(users) / 2
    for user in users:
        count = "SELECT count(*), count(DISTINCT (session_id, seq)) FROM agentstore.messages WHERE user_id = $1"
        assert tuple(await observer.fetchrow(count, user)) == (12, 12)  # type: ignore[arg-type]


async def test_calls_of_a_function_do_not_use_more_and_more_memory(
    cluster: Cluster, store: AgentStore, observer: asyncpg.Connection, database_name: str
) -> None:
    """On the server of the user, where a statement of a function has a plan of its own for the shard."""
    (user, _) = await _users(observer)
    home: tuple[str, int] = tuple(await observer.fetchrow(_WORKER_OF, user))  # type: ignore[arg-type]
    await store.sessions.create_session(user, "s")
    connection = await asyncpg.connect(cluster.worker_url(home, database_name))
    call = "SELECT * FROM agentstore.citus_append_messages_1($1, 's', $2, ARRAY['{}'], 1, NULL, NULL, 10)"
    used = []
    for _ in range(3):
        for _ in range(100):
            await connection.execute(call.replace("$1", f"'{user}'").replace("$2", f"'{{{uuid4().hex}}}'"))
        used.append(await connection.fetchval("SELECT sum(used_bytes) FROM pg_backend_memory_contexts"))
    await connection.close()
    assert used[2] - used[1] < 1_000_000, used


@asynccontextmanager
async def _without(cluster: Cluster, worker: tuple[str, int], name: str) -> AsyncIterator[None]:
    """Let a worker refuse the connections to a database, and end those that are open."""
    admin = await asyncpg.connect(cluster.worker_url(worker, "postgres"))
    await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
    await admin.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{name}'")
    try:
        yield
    finally:
        await admin.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        await admin.close()


async def test_without_a_worker_the_users_of_the_others_append_and_read(
    cluster: Cluster, store: AgentStore, observer: asyncpg.Connection, database_name: str
) -> None:
    here, there = await _users(observer)
    lost: tuple[str, int] = tuple(await observer.fetchrow(_WORKER_OF, there))  # type: ignore[arg-type]
    for user in (here, there):
        await store.sessions.append_message(await store.sessions.create_session(user, "s"), text("1"))
    async with _without(cluster, lost, database_name):
        for number in range(2, 5):
            await store.sessions.append(here, "s", text(str(number)))
            assert (await store.sessions.get_session(here, "s")).message_count == number  # type: ignore[union-attr]
            for failing in (store.sessions.append(there, "s", text("x")), store.sessions.get_session(there, "s")):
                with pytest.raises(Unavailable, match=f"{lost[0]}:{lost[1]}"):
                    await failing
    await store.sessions.append(there, "s", text("2"))
    assert (await store.sessions.get_session(there, "s")).message_count == 2  # type: ignore[union-attr]


async def _write(store: AgentStore, users: list[str], stop: asyncio.Event, stored: Counter[str]) -> int:
    """Append to a session of each user until `stop` is set, and return how many appends failed."""
    failed = 0
    while not stop.is_set():
        for user in users:
            try:
                await store.sessions.append(user, "s", text("x"))
                stored[user] += 1
            except Unavailable:
                failed += 1
    return failed


async def test_a_worker_that_is_killed_and_comes_back_loses_nothing(
    cluster: Cluster, store: AgentStore, observer: asyncpg.Connection, database_name: str
) -> None:
    users = await _users(observer)
    for user in users:
        await store.sessions.create_session(user, "s")
    stop, stored = asyncio.Event(), Counter[str]()
    writing = [asyncio.create_task(_write(store, [user], stop, stored)) for user in users for _ in range(3)]
    for _ in range(3):
        before = stored.copy()
        async with _without(cluster, cluster.workers[0], database_name):
            await asyncio.sleep(0.2)
        while any(stored[user] < before[user] + 5 for user in users):
            await asyncio.sleep(0.05)
    stop.set()
    await asyncio.gather(*writing)
    for user in users:
        session = await store.sessions.get_session(user, "s")
        assert session is not None
        assert session.message_count is not None
        assert session.message_count >= stored[user]  # a lost response may be that of an append that was stored
        seqs = await observer.fetch("SELECT seq FROM agentstore.messages WHERE user_id = $1 ORDER BY seq", user)
        assert [row[0] for row in seqs] == list(range(1, session.message_count + 1))


async def test_a_worker_is_added_and_the_shards_are_rebalanced_under_load(
    cluster: Cluster, store: AgentStore, observer: asyncpg.Connection
) -> None:
    host, port = cluster.workers[-1]
    await observer.execute(f"SELECT citus_drain_node('{host}', {port}, shard_transfer_mode => 'block_writes')")
    users = [uuid4().hex for _ in range(8)]
    for user in users:
        await store.sessions.create_session(user, "s")
    stop, stored = asyncio.Event(), Counter[str]()
    writing = asyncio.create_task(_write(store, users, stop, stored))
    await observer.execute(f"SELECT citus_set_node_property('{host}', {port}, 'shouldhaveshards', true)")
    await observer.execute(
        "SELECT rebalance_table_shards('agentstore.users', shard_transfer_mode => 'force_logical')", timeout=300
    )
    stop.set()
    assert await writing == 0
    placed = await observer.fetch(
        "SELECT DISTINCT nodeport FROM citus_shards WHERE table_name = 'agentstore.users'::regclass"
    )
    assert port in {row[0] for row in placed}
    for user in users:
        session = await store.sessions.get_session(user, "s")
        assert session is not None
        assert session.message_count == stored[user]


_REVISIONS = [each.id for each in history() if "0005" <= each.id < migrate.head()]


@pytest.mark.parametrize("revision", _REVISIONS)
async def test_an_upgrade_of_a_distributed_database_distributes_what_it_creates(
    cluster: Cluster, revision: str
) -> None:
    """From each revision."""
    name = f"agentstore_test_citus_{uuid4().hex[:8]}"
    await cluster.create_empty(name)
    url = cluster.url_of(name)
    try:
        await migrate.upgrade(url, revision, settings=Settings())
        connection = await asyncpg.connect(url)
        existing = {
            row[0] for row in await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'agentstore'")
        }
        local = [each for each in citus.tables() if each in existing]
        await connection.execute("INSERT INTO agentstore.users (id) VALUES ('alice')")
        for statement in citus.distribute_statements("agentstore", local, [], shards=4):
            await connection.execute(statement)
        await connection.close()
        await migrate.upgrade(url, settings=Settings())
        database = open_database(url)
        assert (await distribution(database)).local == ()
        await database.stop()
        async with AgentStore(url, settings=Settings()) as store:
            await store.sessions.append_message(await store.sessions.create_session("alice", "s"), text("x"))
            assert (await store.users.delete_user("alice")).messages == 1
    finally:
        await cluster.drop(name)


async def test_a_store_in_use_follows_distribute_and_undistribute(cluster: Cluster) -> None:
    name = f"agentstore_test_citus_{uuid4().hex[:8]}"
    await cluster.create_empty(name)
    url = cluster.url_of(name)
    try:
        await migrate.upgrade(url, settings=Settings())
        async with AgentStore(url, settings=Settings()) as store:
            await store.sessions.create_session("alice", "s")
            stop, stored = asyncio.Event(), Counter[str]()
            writing = asyncio.create_task(_write(store, ["alice"], stop, stored))
            assert (await distribute(url, shards=4, settings=Settings())).state == "distributed"
            assert (await undistribute(url, settings=Settings())).state == "local"
            assert (await distribute(url, shards=4, settings=Settings())).state == "distributed"
            stop.set()
            assert await writing == 0
            session = await store.sessions.get_session("alice", "s")
            assert session is not None
            assert session.message_count == stored["alice"] > 0
    finally:
        await cluster.drop(name)
