"""Writes that are refused as read-only: by a read-only database, and by a server that is no longer the primary."""

import asyncio
import inspect
import io
import math
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from agentstore import (
    AgentStore,
    MemoryItem,
    ReadOnly,
    ScopedValues,
    Session,
    Settings,
    StoredDocument,
    Unavailable,
    migrate,
)
from agentstore.database.database import Database
from agentstore.database.links import Link
from agentstore.database.statement import Statement
from agentstore.operations.grants import apply, grants
from agentstore.repositories.connect import open_database
from agentstore.testing import text as message
from tests.integration.test_database import ADD_USER, ECHO, USERS, _database, _wait_for_checkouts
from tests.support.checkpoints import checkpoint_of, write_of
from tests.support.cli import run
from tests.support.proxy import Proxy


class _Opened:
    """Counts the connections that a database opens."""

    def __init__(self, database: Database) -> None:
        self.count = 0
        self._connect = database._connect
        database._pools._connect = self._counted

    async def _counted(self, *, link: Link | None = None) -> asyncpg.Connection:
        self.count += 1
        assert self._connect is not None
        return await self._connect(link=link)


async def _make_read_only(observer: asyncpg.Connection, value: str) -> None:
    """Set whether sessions that begin from now on are read-only; the others are not changed."""
    name = await observer.fetchval("SELECT quote_ident(current_database())")
    await observer.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}")


async def test_writes_refused_by_a_read_only_database_leave_its_connections_open(
    direct_url: str, observer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentstore.database.failover._CHECK_INTERVAL", 3_600.0)
    await _make_read_only(observer, "on")
    async with _database(direct_url) as database:
        opened = _Opened(database)
        await asyncio.gather(*(database.fetch(ECHO, value=1, seconds=0.2) for _ in range(10)))
        assert opened.count == 10

        async def write() -> None:
            for number in range(20):
                with pytest.raises(Unavailable, match=r"accepts no writes now.*target_session_attrs"):
                    await database.fetch(ADD_USER, id=f"alice{number}")
                with pytest.raises(Unavailable, match="accepts no writes now"):
                    async with database.transaction() as transaction:
                        await transaction.fetch(ADD_USER, id="bob")

        async def read() -> None:
            for _ in range(100):
                assert await database.fetch(USERS) == []

        await asyncio.gather(write(), write(), *(read() for _ in range(8)))
        assert opened.count == 11  # one, outside of the pool, found that new connections refuse writes as well
        await _wait_for_checkouts(database, 0)
        await asyncio.gather(*(database.fetch(ECHO, value=1, seconds=0.2) for _ in range(10)))
        assert opened.count == 11


@pytest.mark.slow
@pytest.mark.parametrize("in_transaction", [False, True])
async def test_connections_to_a_server_that_no_longer_accepts_writes_are_replaced(
    direct_url: str, observer: asyncpg.Connection, in_transaction: bool
) -> None:
    """As after a failover behind an unchanged address: open connections are read-only, and new ones are not."""
    await _make_read_only(observer, "on")
    async with _database(direct_url) as database:
        opened = _Opened(database)
        held = asyncio.create_task(database.fetch(ECHO, value=1, seconds=2.0))  # in use when the failover is noticed
        await asyncio.gather(*(database.fetch(ECHO, value=1, seconds=0.2) for _ in range(9)))
        await _make_read_only(observer, "off")
        if in_transaction:
            with pytest.raises(Unavailable):
                async with database.transaction() as transaction:
                    await transaction.fetch(ADD_USER, id="alice")
            async with database.transaction() as transaction:
                await transaction.fetch(ADD_USER, id="alice")
        else:
            await database.fetch(ADD_USER, id="alice")
        await held
        await asyncio.gather(*(database.fetch(ADD_USER, id=f"u{number}") for number in range(50)))
        assert opened.count <= 21  # at most the ten connections again, and the one that noticed
        is_read_only = Statement(text("SELECT current_setting('transaction_read_only'), pg_sleep(0.2)"), scope="none")
        rows = await asyncio.gather(*(database.fetch(is_read_only) for _ in range(10)))
        assert {row[0][0] for row in rows} == {"off"}


async def test_a_refused_write_is_reported_while_no_server_can_be_reached(
    own_tcp_server: tuple[str, int],
) -> None:
    """During a failover, with no primary yet: open connections stay, and serve reads."""
    url, port = own_tcp_server
    administrator = await asyncpg.connect(url)
    await _make_read_only(administrator, "on")
    async with Proxy("127.0.0.1", port) as proxy, _database(url.replace(f":{port}/", f":{proxy.port}/")) as database:
        await asyncio.gather(*(database.fetch(ECHO, value=1, seconds=0.2) for _ in range(3)))
        proxy.refuse()
        for _ in range(5):
            with pytest.raises(Unavailable, match="accepts no writes now"):
                await database.fetch(ADD_USER, id="alice")
            assert await database.fetch(USERS) == []
    await administrator.close()


@pytest.mark.parametrize("arguments", [{}, {"pool_size": 1, "max_overflow": 0}, {"poolclass": NullPool}])
async def test_connections_of_the_callers_engine_are_replaced_too(
    direct_url: str, observer: asyncpg.Connection, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentstore.database.failover._CHECK_INTERVAL", 3_600.0)
    await _make_read_only(observer, "on")
    engine = create_async_engine(direct_url.replace("postgresql://", "postgresql+asyncpg://"), **arguments)
    opened = 0

    def count(*_: Any) -> None:
        nonlocal opened
        opened += 1

    event.listen(engine.sync_engine, "connect", count)
    async with AgentStore(engine=engine, settings=Settings(row_level_security=True)) as store:
        for number in range(30):
            with pytest.raises(Unavailable, match="accepts no writes now"):
                await store.sessions.create_session("alice", f"s{number}")
        refused = opened
        await _make_read_only(observer, "off")
        monitored = store._database._pools.get()
        assert monitored is not None
        monitored._failover._checked_at = -math.inf  # as if the interval were over
        await store.sessions.create_session("alice", "s")
        assert await store.sessions.get_session("alice", "s") is not None
        if "poolclass" not in arguments:
            assert refused <= 6  # at most the engine's five connections, and one to find out
    await engine.dispose()


async def test_migrations_and_grants_on_a_read_only_server_raise_read_only(
    empty_url: str,
) -> None:
    await migrate.upgrade(empty_url, "0011")
    administrator = await asyncpg.connect(empty_url)
    await _make_read_only(administrator, "on")
    database = open_database(empty_url)
    for call in (
        migrate.upgrade(database),
        migrate.downgrade(database, "-1"),
        migrate.stamp(database, "0010"),
        migrate.enable_row_security(database),
        apply(database, grants(app="postgres"), ["postgres"]),
    ):
        with pytest.raises(ReadOnly, match=r"accepts no writes now.*target_session_attrs=read-write"):
            await call
    await database.stop()
    done = await asyncio.to_thread(run, "upgrade", "--url", empty_url)
    assert (done.code, "accepts no writes now" in done.err) == (1, True)
    await administrator.execute("SET default_transaction_read_only = off")
    await _make_read_only(administrator, "off")
    await administrator.close()


async def _read_all(store: AgentStore) -> list[Any]:
    return [each async for each in store.sessions.iter_messages("alice", "live")]


async def _follow(store: AgentStore) -> Any:
    following: Any = store.sessions.follow("alice", "live")
    async with aclosing(following) as messages:
        return await anext(messages)


async def _read_blob(store: AgentStore) -> bytes:
    return b"".join([part async for part in store.blobs.read("alice", "n")])


async def _read_stored(store: AgentStore) -> Any:
    return list(await store.sessions.read_messages("alice", "live") or [])


async def _export(store: AgentStore) -> int:
    await store.export(file := io.BytesIO())
    return file.getvalue().count(b"\n")


async def _search(store: AgentStore) -> Any:
    # Misspelled, so that words are looked up.
    return [(hit.message.id, hit.score) for hit in await store.memory.search("alice", "aples plumz")]


async def _stats(store: AgentStore) -> Any:
    found = await store.stats()
    return found.sessions, found.messages, found.memories, found.state_rounds


_DOCUMENT = StoredDocument(
    MemoryItem(id="new", text="x", kind="document"), datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)
)
# Every public method of the services, by whether it reads or writes.
_READS: dict[str, Callable[[AgentStore], Awaitable[Any]]] = {
    "sessions.get_session": lambda store: store.sessions.get_session("alice", "live"),
    "sessions.read_messages": _read_stored,
    "sessions.find_message": lambda store: store.sessions.find_message("alice", "1"),
    "sessions.iter_messages": _read_all,
    "sessions.follow": _follow,
    "sessions.window": lambda store: store.sessions.window("alice", "live", max_tokens=9, count=lambda message: 1),
    "sessions.list_sessions": lambda store: store.sessions.list_sessions("alice"),
    "memory.search_memory": lambda store: store.memory.search_memory("alice", message("apples")),
    "memory.search": _search,
    "memory.list_memory": lambda store: store.memory.list_memory("alice"),
    "memory.list_items": lambda store: store.memory.list_items("alice"),
    "documents.get": lambda store: store.documents.get("alice", ["d"]),
    "documents.list": lambda store: store.documents.list("alice"),
    "documents.search": lambda store: store.documents.search("alice", "apples"),
    "documents.list_namespaces": lambda store: store.documents.list_namespaces(),
    "memory.list_failed_extractions": lambda store: store.memory.list_failed_extractions("alice"),
    "memory.list_pending_extractions": lambda store: store.memory.list_pending_extractions("alice"),
    "states.export_state": lambda store: store.states.export_state("alice", "live"),
    "states.list_states": lambda store: store.states.list_states("alice", "live"),
    "states.diff_states": lambda store: store.states.diff_states("alice", 1, 2, "live"),
    "states.get_values": lambda store: store.states.get_values("alice", "live"),
    "blobs.get": lambda store: store.blobs.get("alice", "n"),
    "blobs.read": _read_blob,
    "blobs.list": lambda store: store.blobs.list("alice"),
    "blobs.list_of_user": lambda store: store.blobs.list_of_user("alice"),
    "blobs.list_versions": lambda store: store.blobs.list_versions("alice", "n"),
    "checkpoints.get": lambda store: store.checkpoints.get("alice", "live"),
    "checkpoints.get_many": lambda store: store.checkpoints.get_many("alice", "live", "", ["1"]),
    "checkpoints.list": lambda store: store.checkpoints.list("alice", "live"),
    "checkpoints.list_sessions": lambda store: store.checkpoints.list_sessions(),
    "checkpoints.list_owners": lambda store: store.checkpoints.list_owners("live"),
    "checkpoints.history": lambda store: store.checkpoints.history("alice", "live", "", None, ["c"]),
    "states.get_values_of": lambda store: store.states.get_values_of([Session(id="live", user_id="alice")]),
    "users.get_user": lambda store: store.users.get_user("alice"),
    "users.list_users": lambda store: store.users.list_users(),
    "sandboxes.list": lambda store: store.sandboxes.list("alice"),
    "store.export": _export,
    "store.stats": _stats,
    "store.health": lambda store: store.health(writable=False),
}
_WRITES: dict[str, Callable[[AgentStore], Awaitable[Any]]] = {
    "sessions.create_session": lambda store: store.sessions.create_session("alice"),
    "sessions.append_message": lambda store: store.sessions.append_message(
        Session(id="live", user_id="alice"), message("x")
    ),
    "sessions.append": lambda store: store.sessions.append("alice", "live", message("x")),
    "sessions.pop_messages": lambda store: store.sessions.pop_messages("alice", "live"),
    "sessions.replace_message": lambda store: store.sessions.replace_message("alice", "live", message("x", id="1")),
    "sessions.delete_messages": lambda store: store.sessions.delete_messages("alice", "live", ["1"]),
    "sessions.replace_from": lambda store: store.sessions.replace_from("alice", "live", 1, message("x")),
    "sessions.import_session": lambda store: store.sessions.import_session(Session(id="new", user_id="alice")),
    "sessions.delete_session": lambda store: store.sessions.delete_session("alice", "live"),
    "sessions.set_title": lambda store: store.sessions.set_title("alice", "live", "x"),
    "sessions.set_metadata": lambda store: store.sessions.set_metadata("alice", "live", {}),
    "sessions.change_metadata": lambda store: store.sessions.change_metadata("alice", "live", lambda old: {"x": 1}),
    "sessions.set_ttl": lambda store: store.sessions.set_ttl("alice", "live", 10**8),
    "sessions.fork_session": lambda store: store.sessions.fork_session("alice", "live"),
    "sessions.rewind_session": lambda store: store.sessions.rewind_session("alice", "live", 1, keep=False),
    "sessions.touch": lambda store: store.sessions.touch("alice", "live"),
    "memory.add_memory": lambda store: store.memory.add_memory("alice", message("x")),
    "memory.add_sessions": lambda store: store.memory.add_sessions("alice"),
    "memory.save_items": lambda store: store.memory.save_items("alice", MemoryItem(text="x")),
    "memory.delete_memory": lambda store: store.memory.delete_memory("alice"),
    "documents.put": lambda store: store.documents.put("alice", {"id": "d", "text": "x"}),
    "documents.renew": lambda store: store.documents.renew("alice", {"d": datetime(2090, 1, 1, tzinfo=UTC)}),
    "documents.delete": lambda store: store.documents.delete("alice", ["d"]),
    "documents.import_documents": lambda store: store.documents.import_documents("alice", [_DOCUMENT]),
    "memory.retry_failed_extractions": lambda store: store.memory.retry_failed_extractions("alice"),
    "memory.touch": lambda store: store.memory.touch("alice"),
    "memory.expire": lambda store: store.memory.expire("alice"),
    "states.save_state": lambda store: store.states.save_state("alice", {}),
    "states.import_state": lambda store: store.states.import_state("alice", "s", 1, {}),
    "states.delete_state": lambda store: store.states.delete_state("alice", "live"),
    "states.touch": lambda store: store.states.touch("alice", "live"),
    "states.merge_values": lambda store: store.states.merge_values("alice", values=ScopedValues({"a": 1}, {"u": 1})),
    "states.delete_values": lambda store: store.states.delete_values("alice"),
    "blobs.put": lambda store: store.blobs.put("alice", "n", b"x"),
    "blobs.delete": lambda store: store.blobs.delete("alice", "n"),
    "blobs.delete_all": lambda store: store.blobs.delete_all("alice"),
    "checkpoints.put": lambda store: store.checkpoints.put("alice", "live", checkpoint_of("3")),
    "checkpoints.put_writes": lambda store: store.checkpoints.put_writes("alice", "live", "", "1", [write_of()]),
    "checkpoints.copy": lambda store: store.checkpoints.copy("alice", "live", "alice", "copy"),
    "checkpoints.prune": lambda store: store.checkpoints.prune("alice", "live"),
    "checkpoints.delete": lambda store: store.checkpoints.delete("alice", "live"),
    "checkpoints.delete_runs": lambda store: store.checkpoints.delete_runs(["r"]),
    "users.set_metadata": lambda store: store.users.set_metadata("alice", {}),
    "users.delete_user": lambda store: store.users.delete_user("alice"),
    "sandboxes.delete_workspaces": lambda store: store.sandboxes.delete_workspaces("live", "alice"),
    "store.prune": lambda store: store.prune(timedelta(days=1)),
}
# They write if there is something to do, or need a provider, an extractor or an embedder.
_WRITES_IF_DUE = {
    "documents.delete_expired",
    "memory.embed", "memory.extract", "memory.reindex", "sandboxes.connect", "sandboxes.reap", "sandboxes.release",
    "store.restore",
}  # fmt: skip
_LIFECYCLE = {"pool_stats", "start", "stop", "reopen"}


def _public_methods(store: AgentStore) -> set[str]:
    services = {
        name: getattr(store, name)
        for name in ("sessions", "memory", "states", "users", "blobs", "documents", "checkpoints", "sandboxes")
    }
    return {
        f"{name}.{method}"
        for name, service in {**services, "store": store}.items()
        for method, function in inspect.getmembers(type(service), inspect.isfunction)
        if not method.startswith("_") and method not in _LIFECYCLE and (name == "store" or method != "health")
        if not isinstance(inspect.getattr_static(type(service), method), staticmethod)
    }


async def _read_each(store: AgentStore) -> dict[str, Any]:
    return {name: await read(store) for name, read in _READS.items()}


async def test_every_read_works_on_a_read_only_server_and_every_write_raises_read_only(
    direct_url: str, observer: asyncpg.Connection, settings: Settings
) -> None:
    """With data that has expired, which reads neither return nor delete."""
    day = 86_400
    ttl = settings.model_copy(update={"session_ttl": day, "memory_ttl": day, "state_ttl": day})
    async with AgentStore(direct_url, settings=ttl) as store:
        assert _public_methods(store) == _READS.keys() | _WRITES.keys() | _WRITES_IF_DUE
        for id in ("live", "old"):
            session = await store.sessions.create_session("alice", id)
            await store.sessions.append_message(session, [message("1", id="1"), message("2", id="2")])
            await store.memory.add_memory("alice", [message("apples"), message("plums")], id)
            await store.memory.save_items("alice", MemoryItem(text="likes apples"), id)
            for number in range(2):
                await store.states.save_state("alice", {"n": number}, id)
            await store.blobs.put("alice", "n", b"a content")
            await store.documents.put("alice", {"id": "d", "text": "likes apples", "namespace": "a"})
            for checkpoint_id in ("1", "2"):
                await store.checkpoints.put("alice", id, checkpoint_of(checkpoint_id))
            await store.checkpoints.put_writes("alice", id, "", "2", [write_of()])
            await store.states.merge_values("alice", id, values=ScopedValues({"a": 1}, {"u": 1}, {"s": 1}))
        before = await _read_each(store)
        for table, column in (("sessions", "id"), ("memory_buckets", "session_id"), ("state_heads", "session_id")):
            await observer.execute(
                f"UPDATE agentstore.{table} SET updated_at = updated_at - interval '2 days' WHERE {column} = 'old'"
            )
    await _make_read_only(observer, "on")
    async with AgentStore(direct_url, settings=ttl) as store:
        filtered = await _read_each(store)
        assert {name for name in filtered if filtered[name] != before[name]} >= {
            *("sessions.list_sessions", "memory.search", "memory.list_memory", "memory.list_items"),
        }
        for name, write in _WRITES.items():
            with pytest.raises(ReadOnly, match="target_session_attrs=read-write"):
                await write(store)
                pytest.fail(f"{name} wrote nothing")
    await _make_read_only(observer, "off")
    async with AgentStore(direct_url, settings=ttl) as store:
        assert (await store.prune()).memories == 3
        deleted = await _read_each(store)
    # These count rows that have expired and are not deleted yet.
    assert {name for name in filtered if filtered[name] != deleted[name]} == {"store.export", "store.stats"}
