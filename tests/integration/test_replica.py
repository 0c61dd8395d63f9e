"""Reads on a replica, AGENTSTORE_READ_URL: which calls are executed there, and what happens while it does not work."""

import asyncio
import inspect
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr
from sqlalchemy import text as sql

from agentstore import (
    AgentStore,
    Closed,
    MemoryItem,
    NotConfigured,
    ScopedValues,
    Session,
    Settings,
    StatementTimeout,
    Unavailable,
    migrate,
)
from agentstore.database import replica as replica_module
from agentstore.database.statement import Statement
from agentstore.operations.doctor import Finding, examine
from agentstore.operations.grants import grants
from agentstore.testing import text
from tests.integration.test_database import ECHO
from tests.support.checkpoints import checkpoint_of, write_of
from tests.support.pgbouncer import PgBouncer
from tests.support.proxy import Proxy
from tests.support.psql import psql
from tests.support.roles import with_role
from tests.support.servers import Server, data_folder
from tests.support.standby import Pair, primary_and_standby


async def _iterate(store: AgentStore, **options: Any) -> list[Any]:
    return [each async for each in store.sessions.iter_messages("alice", "s", **options)]


async def _follow(store: AgentStore, **options: Any) -> Any:
    stored = await store.sessions.read_messages("alice", "s", **options)
    following: Any = store.sessions.follow("alice", "s", **options)
    async with aclosing(following) as messages:
        return [await anext(messages) for _ in stored or ()]


async def _read_blob(store: AgentStore, **options: Any) -> bytes:
    return b"".join([part async for part in store.blobs.read("alice", "n", **options)])


async def _read_stored(store: AgentStore, **options: Any) -> list[Any]:
    return list(await store.sessions.read_messages("alice", "s", **options) or [])


async def _search(store: AgentStore, **options: Any) -> list[Any]:
    # Misspelled, so that words are looked up.
    return [hit.message.id for hit in await store.memory.search("alice", "aplpes", **options)]


# Every public method with the parameter `stale_ok`.
_READS: dict[str, Callable[..., Awaitable[Any]]] = {
    "sessions.get_session": lambda store, **options: store.sessions.get_session("alice", "s", **options),
    "sessions.read_messages": _read_stored,
    "sessions.find_message": lambda store, **options: store.sessions.find_message("alice", "each", **options),
    "sessions.iter_messages": _iterate,
    "sessions.follow": _follow,
    "sessions.window": lambda store, **options: store.sessions.window(
        "alice", "s", max_tokens=1_000, count=lambda message: 1, **options
    ),
    "sessions.list_sessions": lambda store, **options: store.sessions.list_sessions("alice", **options),
    "memory.search": _search,
    "memory.search_memory": lambda store, **options: store.memory.search_memory("alice", text("apples"), **options),
    "memory.list_memory": lambda store, **options: store.memory.list_memory("alice", **options),
    "memory.list_items": lambda store, **options: store.memory.list_items("alice", **options),
    "documents.get": lambda store, **options: store.documents.get("alice", ["d"], **options),
    "documents.list": lambda store, **options: store.documents.list("alice", **options),
    "documents.search": lambda store, **options: store.documents.search("alice", "apples", **options),
    "documents.list_namespaces": lambda store, **options: store.documents.list_namespaces("alice", **options),
    "states.export_state": lambda store, **options: store.states.export_state("alice", "s", **options),
    "states.list_states": lambda store, **options: store.states.list_states("alice", "s", **options),
    "states.diff_states": lambda store, **options: store.states.diff_states("alice", 1, 2, "s", **options),
    "states.get_values": lambda store, **options: store.states.get_values("alice", "s", **options),
    "blobs.get": lambda store, **options: store.blobs.get("alice", "n", **options),
    "blobs.read": _read_blob,
    "blobs.list": lambda store, **options: store.blobs.list("alice", **options),
    "blobs.list_of_user": lambda store, **options: store.blobs.list_of_user("alice", **options),
    "blobs.list_versions": lambda store, **options: store.blobs.list_versions("alice", "n", **options),
    "checkpoints.get": lambda store, **options: store.checkpoints.get("alice", "s", **options),
    "checkpoints.get_many": lambda store, **options: store.checkpoints.get_many("alice", "s", "", ["1"], **options),
    "checkpoints.list": lambda store, **options: store.checkpoints.list("alice", "s", **options),
    "checkpoints.list_sessions": lambda store, **options: store.checkpoints.list_sessions(**options),
    "checkpoints.list_owners": lambda store, **options: store.checkpoints.list_owners("s", **options),
    "checkpoints.history": lambda store, **options: store.checkpoints.history("alice", "s", "", None, ["c"], **options),
    "states.get_values_of": lambda store, **options: store.states.get_values_of(
        [Session(id="s", user_id="alice")], **options
    ),
    "users.get_user": lambda store, **options: store.users.get_user("alice", **options),
    "users.list_users": lambda store, **options: store.users.list_users(**options),
}


async def _write(store: AgentStore, number: int) -> None:
    """Write what changes the result of each of these reads."""
    session = await store.sessions.create_session("alice", "s")
    await store.sessions.append_message(session, text(f"apples {number}"))
    await store.sessions.append("alice", f"s{number}", text("apples", id="each"))
    await store.memory.add_memory("alice", text(f"apples {number}"), "s")
    await store.memory.save_items("alice", MemoryItem(text=f"likes apples {number}"))
    document = {"text": f"apples {number}", "namespace": f"n{number}"}
    await store.documents.put("alice", [{"id": "d", **document}, {"id": f"d{number}", **document}])
    for round_id in (1, 2):
        await store.states.save_state("alice", {"n": number * round_id}, "s", round_id)
    await store.states.save_state("alice", {"n": number}, "s")
    await store.states.merge_values("alice", "s", values=ScopedValues(session={"n": number}))
    await store.blobs.put("alice", "n", b"%d" % number)
    await store.checkpoints.put("alice", "s", checkpoint_of(f"{number}", b"%d" % number))
    await store.checkpoints.put("alice", f"s{number}", checkpoint_of())
    await store.checkpoints.put("alice", "s", checkpoint_of(f"{number}a", parent_id=f"{number}"))
    await store.checkpoints.put(f"user {number}", "s", checkpoint_of())
    for id in ("1", f"{number}"):
        await store.checkpoints.put_writes("alice", "s", "", id, [write_of(number, b"%d" % number)])
    await store.users.set_metadata("alice", {"n": number})


_OF_ALL_USERS = {"users.list_users", "checkpoints.list_sessions", "checkpoints.list_owners"}


async def _read_all(store: AgentStore, names: set[str], **options: Any) -> dict[str, Any]:
    return {name: await _READS[name](store, **options) for name in names}


def test_every_method_with_the_parameter_is_in_the_table() -> None:
    store = AgentStore("postgresql://127.0.0.1/none")
    services = {"sessions": store.sessions, "memory": store.memory, "states": store.states, "users": store.users}
    services |= {"blobs": store.blobs, "documents": store.documents, "checkpoints": store.checkpoints}
    found = {
        f"{name}.{method}"
        for name, service in services.items()
        for method, function in inspect.getmembers(type(service), inspect.isfunction)
        if "stale_ok" in inspect.signature(function).parameters and not method.startswith("_")
    }
    assert found == _READS.keys()


@pytest.fixture(scope="module")
def pair(cluster: Path, binaries: str | None) -> Iterator[Pair]:
    with data_folder() as folder, primary_and_standby(folder, cluster, binaries) as running:
        yield running


@asynccontextmanager
async def _paused(standby: asyncpg.Connection, primary: asyncpg.Connection) -> AsyncIterator[None]:
    """Pause the replay of a standby, once it has replayed what was written; resume it at the end."""
    await _caught_up(standby, primary)
    await standby.execute("SELECT pg_wal_replay_pause()")
    while await standby.fetchval("SELECT pg_get_wal_replay_pause_state()") != "paused":
        await asyncio.sleep(0.01)
    try:
        yield
    finally:
        await standby.execute("SELECT pg_wal_replay_resume()")


async def _caught_up(standby: asyncpg.Connection, primary: asyncpg.Connection) -> None:
    position = await primary.fetchval("SELECT pg_current_wal_lsn()::text")
    async with asyncio.timeout(60):
        while not await standby.fetchval("SELECT pg_last_wal_replay_lsn() >= $1::text::pg_lsn", position):
            await asyncio.sleep(0.01)


@dataclass
class _Urls:
    """The URLs of one database on the primary and the standby of a pair, and connections to both."""

    primary: str
    standby: str
    on_primary: asyncpg.Connection
    on_standby: asyncpg.Connection


@asynccontextmanager
async def _urls(pair: Pair, name: str) -> AsyncIterator[_Urls]:
    """Create a database on the primary, and wait until it is on the standby."""
    urls = [f"postgresql://postgres@127.0.0.1:{port}/{name}?" for port in (pair.primary, pair.standby)]
    async with AsyncExitStack() as stack:

        async def connect(url: str) -> asyncpg.Connection:
            connection = await asyncpg.connect(url)
            stack.push_async_callback(connection.close)
            return connection

        primary, standby = [await connect(url.replace(f"/{name}?", "/postgres")) for url in urls]
        await primary.execute(f"CREATE DATABASE {name}")
        await _caught_up(standby, primary)
        yield _Urls(urls[0], urls[1], await connect(urls[0]), await connect(urls[1]))


async def _check_where_reads_go(
    store: AgentStore, urls: _Urls, names: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    await _write(store, 1)
    async with _paused(urls.on_standby, urls.on_primary):
        before = await _read_all(store, names)
        await _write(store, 2)
        stale, fresh = await _read_all(store, names, stale_ok=True), await _read_all(store, names)
        assert stale == before
        assert {name for name in names if fresh[name] == before[name]} == set()
    await _caught_up(urls.on_standby, urls.on_primary)
    assert await _read_all(store, names, stale_ok=True) == fresh
    assert "stale_ok" not in caplog.text


async def test_only_reads_that_may_be_stale_are_executed_on_a_standby(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    """The login of the standby may only read."""
    async with _urls(pair, "reads") as urls:
        await migrate.upgrade(urls.primary)
        readonly = "; ".join(["CREATE ROLE reader LOGIN", *grants(readonly="reader")])
        await asyncio.to_thread(psql, urls.primary, f"{readonly};")
        settings = Settings(read_url=SecretStr(with_role(urls.standby, "reader")))
        async with AgentStore(urls.primary, settings=settings) as store:
            await _check_where_reads_go(store, urls, set(_READS), caplog)


async def _enable_row_security(url: str, role: str) -> None:
    await migrate.upgrade(url)
    await migrate.enable_row_security(url)
    await asyncio.to_thread(psql, url, f"CREATE ROLE {role} LOGIN; " + "; ".join(grants(app=role)) + ";")


@pytest.mark.slow
async def test_row_level_security_applies_on_a_standby(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    async with _urls(pair, "secured") as urls:
        await _enable_row_security(urls.primary, "app_secured")
        as_role = {"primary": with_role(urls.primary, "app_secured"), "standby": with_role(urls.standby, "app_secured")}
        settings = Settings(row_level_security=True, read_url=SecretStr(as_role["standby"]))
        async with AgentStore(as_role["primary"], settings=settings) as store:
            await _check_where_reads_go(store, urls, _READS.keys() - _OF_ALL_USERS, caplog)
            with pytest.raises(NotConfigured, match="BYPASSRLS"):
                await store.users.list_users(stale_ok=True)
            assert await store.sessions.list_sessions("bob", stale_ok=True) == []
            assert "stale_ok" not in caplog.text
        # A login whose rows the policies hide is refused on the standby, and the primary's answer is returned.
        settings = Settings(read_url=SecretStr(as_role["standby"]))
        async with AgentStore(urls.primary, settings=settings) as store:
            assert len(await store.sessions.list_sessions("alice", stale_ok=True)) == 3
            assert "Row-level security hides rows" in caplog.text


@pytest.mark.pooler
async def test_a_standby_behind_a_pooler_in_transaction_mode(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    async with _urls(pair, "pooled") as urls:
        await _enable_row_security(urls.primary, "app_pooled")
        servers = [Server(lambda name, url=url: url) for url in (urls.primary, urls.standby)]  # type: ignore[misc]
        with PgBouncer(servers[0]) as primary, PgBouncer(servers[1]) as standby:
            settings = Settings(read_url=SecretStr(f"{standby.url_of('pooled')}?pgbouncer=true"), pooler="transaction")
            async with AgentStore(primary.url_of("pooled"), settings=settings) as store:
                await _check_where_reads_go(store, urls, set(_READS), caplog)
        # The pooler of the standby alone, of which its URL says that it is one.
        with PgBouncer(servers[1]) as standby:
            settings = Settings(read_url=SecretStr(f"{standby.url_of('pooled')}?pgbouncer=true"))
            async with AgentStore(urls.primary, settings=settings) as store:
                assert await store.users.get_user("alice", stale_ok=True) is not None
                assert "stale_ok" not in caplog.text


async def test_reads_return_to_the_primary_while_the_standby_lags_behind_the_schema(
    pair: Pair, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_module, "_RETRY_INTERVAL", 0.0)
    async with _urls(pair, "lagging") as urls:
        settings = Settings(read_url=SecretStr(urls.standby))
        async with _paused(urls.on_standby, urls.on_primary):
            await migrate.upgrade(urls.primary)
            async with AgentStore(urls.primary, settings=settings) as store:
                await _write(store, 1)
                fresh = await _read_all(store, set(_READS))
                for _ in range(3):
                    assert await _read_all(store, set(_READS), stale_ok=True) == fresh
        assert [each.levelname for each in caplog.records if "stale_ok" in each.message] == ["WARNING"]
        assert "lacks a table or column" in caplog.text


@pytest.mark.chaos
async def test_a_read_that_the_standby_cancels_for_its_replay_is_executed_on_the_primary(
    pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    slow = Statement(sql("SELECT count(*), pg_sleep(2) FROM agentstore.users"), scope="none", repeatable=True)
    async with _urls(pair, "canceled") as urls:
        await migrate.upgrade(urls.primary)
        async with AgentStore(urls.primary, settings=Settings(read_url=SecretStr(urls.standby))) as store:
            await store.users.set_metadata("alice", {"n": 0})
            await _caught_up(urls.on_standby, urls.on_primary)
            await urls.on_standby.execute("ALTER SYSTEM SET max_standby_streaming_delay = 0")
            await urls.on_standby.execute("SELECT pg_reload_conf()")
            try:
                reading = asyncio.create_task(
                    store._database.read(lambda database: database.fetch(slow), stale_ok=True)
                )
                while not reading.done():  # each VACUUM removes versions of rows that the query could still need
                    await urls.on_primary.execute("UPDATE agentstore.users SET metadata = metadata")
                    await urls.on_primary.execute("VACUUM agentstore.users")
                    await asyncio.sleep(0.1)
                assert (await reading)[0][0] == 1
            finally:
                await urls.on_standby.execute("ALTER SYSTEM RESET max_standby_streaming_delay")
                await urls.on_standby.execute("SELECT pg_reload_conf()")
        assert "conflict with recovery" in caplog.text


async def test_doctor_compares_the_standby_with_the_primary(pair: Pair, own_server: Any) -> None:
    async with _urls(pair, "examined") as urls:
        await migrate.upgrade(urls.primary)
        await _caught_up(urls.on_standby, urls.on_primary)

        async def examined(url: str) -> Finding:
            store = AgentStore(urls.primary, settings=Settings(read_url=SecretStr(url)))
            findings = await examine(store._database)
            await store.stop()
            return next(each for each in findings if each.check == "replica")

        found = await examined(urls.standby)
        assert (found.state, "a standby, " in found.found) == ("ok", True)
        async with _paused(urls.on_standby, urls.on_primary):
            await urls.on_primary.execute("CREATE TABLE more AS SELECT generate_series(1, 1000)")
            found = await examined(urls.standby)
            assert (found.state, "replay is paused" in found.found) == ("warning", True)
            assert "standby, 0 bytes" not in found.found
        assert (await examined(urls.primary)).found == "AGENTSTORE_READ_URL leads to the primary"
        for elsewhere in (own_server.url, urls.standby.replace("/examined", "/postgres")):
            found = await examined(elsewhere)
            assert (found.state, "leads to another database" in found.found) == ("problem", True)
        found = await examined("postgresql://u:hunter2@127.0.0.1:1/none")
        assert (found.state, "could not be reached" in found.found, "hunter2" in str(found)) == ("problem", True, False)


@pytest.fixture
async def replicated(direct_url: str, other_url: str) -> AsyncIterator[tuple[AgentStore, AgentStore]]:
    """A store whose replica is another database, which does not replicate anything, and a store on that database."""
    settings = Settings(read_url=SecretStr(other_url))
    async with AgentStore(direct_url, settings=settings) as store, AgentStore(other_url) as other:
        await other.users.set_metadata("alice", {"on": "the replica"})
        await store.users.set_metadata("alice", {"on": "the primary"})
        yield store, other


async def _where(store: AgentStore, *, stale_ok: bool = True) -> str:
    user = await store.users.get_user("alice", stale_ok=stale_ok)
    assert user is not None
    return str(user.metadata["on"])


async def test_the_replica_is_connected_at_the_first_use_and_stopped_with_the_store(
    replicated: tuple[AgentStore, AgentStore],
) -> None:
    store, _ = replicated
    replica = store._database.replica
    assert replica is not None
    assert await _where(store, stale_ok=False) == "the primary"
    assert replica.database._pools.get() is None
    for _ in range(2):
        assert await asyncio.gather(*(_where(store) for _ in range(50))) == ["the replica"] * 50
        assert replica.database._pools.get() is not None
        await store.stop()
        assert replica.database._pools.get() is None
        with pytest.raises(Closed):
            await _where(store)
        assert replica.database._pools.get() is None
        await store.start()
    assert await _where(store) == "the replica"
    pool = replica.database._pools.get()
    assert pool is not None
    stopping = asyncio.create_task(store.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    await asyncio.wait([stopping])
    async with asyncio.timeout(60):
        while pool.checked_out() or pool._checked_in():
            await asyncio.sleep(0.01)


async def test_the_pool_of_the_replica_has_its_own_connections(direct_url: str, other_url: str) -> None:
    """POOL_SIZE for each of the two: calls on the one do not wait for those on the other."""
    settings = Settings(read_url=SecretStr(other_url), pool_size=1)
    async with AgentStore(direct_url, settings=settings) as store:
        database = store._database
        async with database.connection():
            assert await store.users.list_users(stale_ok=True) == []
        assert database.replica is not None
        async with database.replica.database.connection():
            assert await store.users.list_users() == []


async def test_the_replica_belongs_to_the_configured_database(
    direct_url: str, other_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTSTORE_READ_URL", other_url)
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", direct_url)
    for store, has_replica in (
        (AgentStore(), True),
        (AgentStore(direct_url), True),
        (AgentStore(other_url), False),
    ):
        assert (store._database.replica is not None) == has_replica
    for name in ("AGENTSTORE_MIGRATION_DATABASE_URL", "AGENTSTORE_READ_URL"):
        with monkeypatch.context() as patched:
            patched.setenv(name, "mysql://u:hunter2@h/d")
            with pytest.raises(NotConfigured, match=f"{name} is not valid.*must begin with postgresql") as caught:
                AgentStore()
            assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("AGENTSTORE_READ_URL", "")
    assert AgentStore()._database.replica is None


@pytest.mark.slow
async def test_reads_are_executed_on_the_primary_while_the_replica_fails(
    direct_url: str,
    own_tcp_server: tuple[str, int],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Refused, silent and rejected connections; one warning each time, and one line when the replica works again."""
    caplog.set_level(logging.INFO, "agentstore.database.replica")
    url, port = own_tcp_server
    async with AgentStore(url) as other:
        await other.users.set_metadata("alice", {"on": "the replica"})

    def levels() -> list[str]:
        found = [each.levelname for each in caplog.records if each.name == "agentstore.database.replica"]
        caplog.clear()
        return found

    def due(store: AgentStore) -> None:
        assert store._database.replica is not None
        store._database.replica._retry_at = 0.0  # as if the interval were over

    async with Proxy("127.0.0.1", port) as proxy:
        read_url = url.replace(f":{port}/", f":{proxy.port}/")
        settings = Settings(read_url=SecretStr(read_url), connect_timeout=0.5, statement_timeout=1.0)
        monkeypatch.setattr("agentstore.database.database._NETWORK_GRACE", 0.2)
        async with AgentStore(direct_url, settings=settings) as store:
            await store.users.set_metadata("alice", {"on": "the primary"})
            assert await asyncio.gather(*(_where(store) for _ in range(5))) == ["the replica"] * 5
            proxy.blackhole = True
            assert await asyncio.gather(*(_where(store) for _ in range(30))) == ["the primary"] * 30
            assert levels() == ["WARNING"]
            opened = proxy.connections
            assert await asyncio.gather(*(_where(store) for _ in range(30))) == ["the primary"] * 30
            assert proxy.connections == opened  # not even tried
            due(store)
            assert await asyncio.gather(*(_where(store) for _ in range(30))) == ["the primary"] * 30
            assert levels() == []  # no second warning
            proxy.blackhole = False
            proxy.drop_open()
            due(store)
            assert await _where(store) == "the replica"
            assert levels() == ["INFO"]
            proxy.refuse()
            await store.stop()
            await store.start()
            assert await _where(store) == "the primary"
            assert levels() == ["WARNING"]
    for bad, reason in (
        (url.replace("postgres:postgres@", "postgres:hunter2@"), "rejected the login"),
        (f"{url}?target_session_attrs=standby", "could not be reached"),
        (url.replace("/postgres", "/none"), "rejected the login"),
    ):
        async with AgentStore(direct_url, settings=Settings(read_url=SecretStr(bad))) as store:
            assert await _where(store) == "the primary"
            assert reason in caplog.text
            assert "hunter2" not in caplog.text
            assert levels() == ["WARNING"]


async def test_a_store_that_has_started_reads_from_the_replica_while_the_primary_is_unreachable(
    own_tcp_server: tuple[str, int],
) -> None:
    url, port = own_tcp_server
    async with Proxy("127.0.0.1", port) as proxy:
        through = url.replace(f":{port}/", f":{proxy.port}/")
        async with AgentStore(through, settings=Settings(read_url=SecretStr(url))) as store:
            await store.users.set_metadata("alice", {"on": "both"})
            proxy.drop_open()
            proxy.refuse()
            pool = store._database._get_pool()
            pool._silent_before = math.inf  # the open connections are discarded
            with pytest.raises(Unavailable):
                await _where(store, stale_ok=False)
            assert await asyncio.gather(*(_where(store) for _ in range(20))) == ["both"] * 20


async def test_a_read_that_fails_everywhere_is_not_blamed_on_the_replica(
    replicated: tuple[AgentStore, AgentStore], caplog: pytest.LogCaptureFixture
) -> None:
    store, _ = replicated
    database = store._database
    assert database.replica is not None
    calls = 0

    async def fail(of: Any) -> list[Any]:
        nonlocal calls
        calls += 1
        raise Unavailable("out of order")

    with pytest.raises(Unavailable, match="out of order"):
        await database.read(fail, stale_ok=True)
    assert calls == 2
    assert not database.replica.is_failing
    assert await _where(store) == "the replica"
    assert caplog.text == ""


async def test_a_statement_that_takes_too_long_on_the_replica_is_not_executed_again(
    direct_url: str, other_url: str
) -> None:
    settings = Settings(read_url=SecretStr(other_url), statement_timeout=0.3)
    async with AgentStore(direct_url, settings=settings) as store:
        used: list[str] = []

        async def sleep(database: Any) -> Any:
            used.append(database.where)
            return await database.fetch(ECHO, value=1, seconds=30.0)

        with pytest.raises(StatementTimeout):
            await store._database.read(sleep, stale_ok=True)
        assert len(used) == 1
        assert store._database.replica is not None
        assert not store._database.replica.is_failing
