"""Row-level security: the server restricts a role to the rows of one user."""

import asyncio
import inspect
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from uuid import uuid4

import asyncpg
import pytest

from agentstore import (
    AgentStore,
    Extraction,
    ExtractionFailed,
    MemoryItem,
    Message,
    NotConfigured,
    NotFound,
    PostgresMemoryService,
    PostgresSessionHistoryService,
    ScopedValues,
    Settings,
    migrate,
)
from agentstore.database.row_security import set_user_sql
from agentstore.models import Base
from agentstore.operations.grants import grants
from agentstore.repositories.connect import open_database
from agentstore.repositories.memory import vectors as memory_vectors
from agentstore.repositories.memory.search import SEARCH, query_values
from agentstore.search import ranking
from agentstore.testing import HOSTILE_IDS, text
from tests.integration.extraction.support import EchoExtractor
from tests.support.checkpoints import checkpoint_of, write_of
from tests.support.cli import run
from tests.support.pgbouncer import PgBouncer
from tests.support.plans import nodes_of
from tests.support.psql import psql
from tests.support.roles import with_role
from tests.support.vectors import WordEmbedder, with_pgvector

_SETTINGS = Settings(row_level_security=True, sandbox_provider="unsafe_subprocess", sandbox_snapshots=True)
_POLICIES = "SELECT count(*) FROM pg_policy WHERE polname = 'agentstore_user'"


@pytest.fixture
async def app_role(direct_url: str) -> AsyncIterator[str]:
    """A role that may only read and write rows."""
    name = f"agentstore_rls_{uuid4().hex[:8]}"
    psql(direct_url, f"CREATE ROLE {name} LOGIN PASSWORD 'app'; " + "; ".join(grants(app=name)) + ";")
    yield name
    psql(direct_url, f"SET ROLE NONE; DROP OWNED BY {name}; DROP ROLE {name};")


@pytest.fixture
async def secured_url(direct_url: str, app_role: str) -> str:
    """The URL of a database with policies; connections use the role of the application."""
    await migrate.enable_row_security(direct_url)
    return with_role(direct_url, app_role)


@pytest.fixture
async def secured(secured_url: str) -> AsyncIterator[AgentStore]:
    async with AgentStore(secured_url, settings=_SETTINGS) as store:
        yield store


async def _use_all_services(store: AgentStore, user: str, *, with_sandboxes: bool = True) -> None:
    session = await store.sessions.create_session(user, "s")
    await store.sessions.append_message(session, [text(f"apples of {user!r}", id="1"), text("pears", id="2")])
    await store.memory.add_memory(user, session.messages, "s")
    await store.memory.save_items(user, MemoryItem(text=f"likes apples {len(user)}"))
    await store.documents.put(user, {"id": "d", "text": "", "namespace": "n", "metadata": {"of": user}})
    await store.states.save_state(user, {"of": user}, "s")
    await store.blobs.put(user, "of", f"of {user}".encode(), "s")
    await store.checkpoints.put(user, "s", checkpoint_of("1", f"of {user}".encode()))
    await store.checkpoints.put_writes(user, "s", "", "1", [write_of()])
    await store.states.merge_values(user, "s", values=ScopedValues({user: user}, {"of": user}, {"of": user}))
    if not with_sandboxes:  # which start two processes each
        return
    (sandbox,) = await store.sandboxes.connect("s", user)
    await sandbox.write_file("of", user)
    await store.sandboxes.release("s", user)
    (sandbox,) = await store.sandboxes.connect("s", user)
    assert (await sandbox.read_file("of")).text == user


async def test_every_table_of_the_models_has_a_policy(direct_url: str, observer: asyncpg.Connection) -> None:
    """Fails for a table that a later release creates and that the policies do not cover."""
    for _ in range(2):
        await migrate.enable_row_security(direct_url)
    assert await observer.fetchval(_POLICIES) == len(Base.metadata.tables)
    database = open_database(direct_url)
    found = await migrate.row_security_status(database)
    assert (found.state, set(found.secured), found.sees_all) == ("enabled", set(Base.metadata.tables), True)
    await observer.execute("DROP POLICY agentstore_user ON agentstore.messages")
    assert (await migrate.row_security_status(database)).open == ("messages",)
    await migrate.disable_row_security(direct_url)
    assert (await migrate.row_security_status(database)).state == "disabled"
    assert await observer.fetchval(_POLICIES) == 0
    await database.stop()


async def test_each_service_works_and_sees_only_one_user(secured: AgentStore, observer: asyncpg.Connection) -> None:
    for number, user in enumerate(HOSTILE_IDS[:12]):
        await _use_all_services(secured, user, with_sandboxes=number % 3 == 0)
    for user in HOSTILE_IDS[:12]:
        session = await secured.sessions.get_session(user, "s")
        assert session is not None
        assert session.messages[0].content[0].text == f"apples of {user!r}"  # type: ignore[index,union-attr]
        assert await secured.states.export_state(user, "s") == {"of": user}
        documents = await secured.documents.get(user, ["d"])
        assert documents["d"].item.metadata == {"of": user}
        assert [each.item.metadata for each in await secured.documents.list(user)] == [{"of": user}]
        assert list(await secured.documents.list_namespaces(user)) == [(user, "n")]
        parts = [part async for part in secured.blobs.read(user, "of", "s")]
        assert b"".join(parts) == f"of {user}".encode()
        values = await secured.states.get_values(user, "s")
        assert (values.user, values.session) == ({"of": user}, {"of": user})
        assert values.app.keys() == set(HOSTILE_IDS[:12])  # which the users share
        assert await secured.states.get_values(None) == ScopedValues(values.app)
        hits = await secured.memory.search(user, "apples")
        assert {hit.session_id for hit in hits} == {"s", "default"}
        assert len(await secured.sessions.list_sessions(user)) == 1
        fork = await secured.sessions.fork_session(user, "s", at="1")
        await secured.sessions.rewind_session(user, "s", 1)
        await secured.sessions.delete_session(user, fork.id)
    deleted = await secured.users.delete_user("alice" if "alice" in HOSTILE_IDS[:12] else HOSTILE_IDS[0])
    assert deleted.sessions > 0
    assert deleted.memories == 4
    assert await observer.fetchval("SELECT count(*) FROM agentstore.users") == 11


class _FactOfEachMessage:
    """An extractor that fails for messages about failures."""

    name, kinds = "facts", ("fact",)

    async def extract(self, messages: Sequence[Message], existing: Sequence[MemoryItem]) -> Extraction:
        if any(message.id.startswith("fail") for message in messages):
            raise ExtractionFailed("cannot extract")
        superseded = [item.id for item in existing if item.text == "old"]
        return Extraction([MemoryItem(id=f"of {message.id}", text="a fact") for message in messages], superseded)


async def _call_each_method_of_memory(memory: PostgresMemoryService, user: str) -> None:
    """Call each public method about one user, with arguments that lead to each of its statements."""

    async def add() -> None:
        for ids in (["1", "2"], ["2", "3"]):
            await memory.add_memory(user, [text(f"the refrigerator of {user!r}", id=id) for id in ids], "s")
        assert await memory.list_memory(user) == await memory.list_memory(user, {"page_num": 1})

    async def save() -> None:
        items = await memory.save_items(user, [MemoryItem(id="i", text="likes apples"), MemoryItem(id="j", text="old")])
        items = await memory.save_items(user, MemoryItem(id="i", text="likes pears"), supersedes=["j"])
        assert list(await memory.list_items(user)) == items

    async def list_memory() -> None:
        page = await memory.list_memory(user, {"page_size": 3})
        following = await memory.list_memory(user, {"cursor": page.next_cursor})
        assert len(page) + len(following) == len(await memory.list_memory(user, {"page_num": 1})) == 5

    async def list_items() -> None:
        page = await memory.list_items(user, limit=1, with_invalid=True)
        assert len(await memory.list_items(user, cursor=page.next_cursor, with_invalid=True)) == 1

    async def search() -> None:
        # A known word, a misspelled one, an unknown one, and both.
        for query, found in {"refrigerator": 3, "refrigerater": 3, "zanzibar": 0, "zanzibar refrigerator": 3}.items():
            assert len(await memory.search(user, query)) == found

    async def search_memory() -> None:
        assert len(await memory.search_memory(user, text("refrigerator"), {"session_id": "s"})) == 3

    async def extract() -> None:
        (extracted,) = await memory.extract(user, settled=False)
        assert [item.id for item in extracted.items] == ["of 1", "of 2", "of 3"]
        await memory.add_memory(user, text("apples", id="fail"), "t")
        assert [each.error for each in await memory.extract(user, settled=False)] == ["cannot extract"]

    async def list_failed() -> None:
        assert list(await memory.list_failed_extractions(user)) == []

    async def list_pending() -> None:
        assert [each.session_id for each in await memory.list_pending_extractions(user)] == ["t"]
        assert list(await memory.list_pending_extractions(user, leased=True)) == []

    async def retry_failed() -> None:
        assert await memory.retry_failed_extractions(user) == 0

    async def reindex() -> None:
        assert await memory.reindex(user_id=user) == 0

    async def touch() -> None:
        await memory.touch(user)

    async def expire() -> None:
        await memory.expire(user)

    async def embed() -> None:
        if memory._embedder is None:
            with pytest.raises(NotConfigured, match="embedder"):
                await memory.embed(user_id=user)
            return
        assert await memory.embed(user_id=user) == 3  # the extracted facts
        for strategy in ("vector", "hybrid"):
            for query in ("refrigerator", "zanzibar refrigerator"):
                assert await memory.search(user, query, {"strategy": strategy})

    async def add_sessions() -> None:
        sessions = PostgresSessionHistoryService(database=memory._database)
        for other in (user, "other"):
            await sessions.append(other, "r", [text("plums", id=f"{n}") for n in range(3)])
        assert await memory.add_sessions(user, batch=2) == 3
        assert await memory.add_sessions(user, ["r"]) == 0
        assert {hit.session_id for hit in await memory.search(user, "plums", {"namespace": None})} == {"r"}

    async def delete() -> None:
        assert (await memory.delete_memory(user, "s")).memories == 6
        assert (await memory.delete_memory(user)).memories > 0

    calls: dict[str, Callable[[], Awaitable[None]]] = {
        "add_memory": add, "save_items": save, "list_memory": list_memory, "list_items": list_items, "search": search,
        "search_memory": search_memory, "extract": extract, "list_failed_extractions": list_failed,
        "list_pending_extractions": list_pending,
        "retry_failed_extractions": retry_failed, "reindex": reindex, "touch": touch, "expire": expire, "embed": embed,
        "add_sessions": add_sessions, "delete_memory": delete,
    }  # fmt: skip
    methods = {name for name, _ in inspect.getmembers(PostgresMemoryService, inspect.iscoroutinefunction)}
    about_no_user = {"start", "stop", "health"}
    assert {name for name in methods if not name.startswith("_")} == calls.keys() | about_no_user
    for call in calls.values():
        await call()


async def test_each_call_of_the_memory_service_about_one_user_works(secured_url: str) -> None:
    settings = _SETTINGS.model_copy(update={"memory_ttl": 3600})
    async with PostgresMemoryService(secured_url, settings=settings, extractor=_FactOfEachMessage()) as memory:
        for user in ("", "alice", "it's"):
            await _call_each_method_of_memory(memory, user)


@with_pgvector
async def test_each_call_of_the_memory_service_with_an_embedder_works(
    has_pgvector: bool,
    vector_store: AgentStore,
    secured_url: str,
    observer: asyncpg.Connection,
    embedder: WordEmbedder,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await migrate.index_vectors(vector_store.memory._database, embedder.name, embedder.dimensions)
    settings = _SETTINGS.model_copy(update={"memory_ttl": 3600})
    async with PostgresMemoryService(
        secured_url, settings=settings, extractor=_FactOfEachMessage(), embedder=embedder
    ) as memory:
        for index_from in (0, 50_000):  # by the index, and by comparing all vectors
            monkeypatch.setattr(memory_vectors, "INDEX_FROM", index_from)
            for user in ("", "alice", "it's"):
                await _call_each_method_of_memory(memory, user)
        await memory.add_memory("alice", text("apples"))
        await memory.save_items("alice", MemoryItem(text="likes apples"))
        assert await observer.fetchval("SELECT count(*) FROM agentstore.memory_vectors") == 2
    assert "without vectors" not in caplog.text


async def test_another_users_rows_are_invisible_to_any_statement(
    secured: AgentStore, secured_url: str, direct_url: str
) -> None:
    for user in ("", "alice", "bob"):
        await _use_all_services(secured, user)
    connection = await asyncpg.connect(secured_url)
    for table in Base.metadata.tables.keys() - {"app_values"}:  # which belong to no user
        owner = "id" if table == "users" else "user_id"
        assert await connection.fetch(f"SELECT * FROM agentstore.{table}") == []  # no user is set
        for user in ("alice", "", "nobody"):
            async with connection.transaction():
                await connection.fetchval("SELECT set_config('agentstore.user_id', $1, true)", f"={user}")
                seen = {row[0] for row in await connection.fetch(f"SELECT {owner} FROM agentstore.{table}")}
                assert seen <= {user}
                assert bool(seen) == (user != "nobody") or table in ("memory_extractions",)
                changed = await connection.execute(f"DELETE FROM agentstore.{table} WHERE {owner} = 'bob'")
                assert changed == "DELETE 0"
        assert (
            await connection.fetch(f"SELECT * FROM agentstore.{table}") == []
        )  # the setting ended with the transaction
    async with connection.transaction():
        await connection.fetchval("SELECT set_config('agentstore.user_id', '=alice', true)")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("INSERT INTO agentstore.sessions (user_id, id) VALUES ('bob', 'x')")
    await connection.close()
    async with AgentStore(direct_url) as store:  # as a superuser, who sees all users
        assert {user.id for user in await store.users.list_users()} == {"", "alice", "bob"}


async def _export(store: AgentStore, users: list[str]) -> list[bytes]:
    """Return the lines of an export that are the same in every export of these users."""
    file = io.BytesIO()
    assert await store.export(file, users) is not None
    return [line for line in file.getvalue().splitlines() if b'"sha256":' not in line][1:]


async def test_searches_use_the_index_once_its_operator_is_leakproof(
    secured: AgentStore, secured_url: str, direct_url: str, observer: asyncpg.Connection
) -> None:
    """As docs/security.md tells a superuser to declare it."""
    words = [text(f"word{number} and others", id=str(number)) for number in range(3_000)]
    await secured.memory.add_memory("alice", words, "s")
    await observer.execute("VACUUM ANALYZE")
    connection = await asyncpg.connect(secured_url)
    await connection.execute("BEGIN; " + set_user_sql("alice"))
    values = {"user_id": "alice", "limit": 5, "expired": [], "excluded": [], "neighbors": True, "labels": None}
    values |= query_values(values, ranking.Question({"word7": 1.0}))
    names = ("wanted_sessions", "role", "kind", "since", "until", "valid_at")

    async def uses_index() -> bool:
        nodes = await nodes_of(
            connection, SEARCH, {**values, **dict.fromkeys(names), "min_score": 0.0}, "force_generic_plan"
        )
        return "memories_lexemes_idx" in {node.get("Index Name") for node in nodes}

    assert not await uses_index()
    await observer.execute("ALTER FUNCTION pg_catalog.ts_match_vq(tsvector, tsquery) LEAKPROOF")
    assert await uses_index()
    await connection.close()


async def test_an_export_of_users_has_all_their_rows(secured: AgentStore, direct_url: str) -> None:
    for user in HOSTILE_IDS[:4]:
        await _use_all_services(secured, user)
    async with AgentStore(direct_url) as superuser:
        for users in ([HOSTILE_IDS[0]], list(HOSTILE_IDS[1:4])):
            exported = await _export(secured, users)
            assert exported == await _export(superuser, users)
            assert len(exported) > 10 * len(users)
    with pytest.raises(NotFound, match="nobody"):
        await secured.export(io.BytesIO(), [HOSTILE_IDS[0], "nobody"])


async def test_extractions_of_one_user_run_beside_those_of_others(
    secured_url: str, observer: asyncpg.Connection
) -> None:
    class OutOfOrder(EchoExtractor):
        fails = waits = False

        async def extract(self, messages: Sequence[Message], existing: Sequence[MemoryItem]) -> Extraction:
            if self.waits:
                started.set()
                await asyncio.Event().wait()
            if self.fails:
                raise ExtractionFailed("out of order")
            return await super().extract(messages, existing)

    started = asyncio.Event()
    settings = _SETTINGS.model_copy(update={"extraction_settle": 0.0})
    async with AgentStore(secured_url, settings=settings, extractor=(extractor := OutOfOrder())) as store:
        memory = store.memory
        for user in ("", "alice", "bob"):
            for session in ("s1", "s2", "s3"):
                await memory.add_memory(user, text(f"zebras of {user!r} in {session}"), session)
        for user in ("", "alice"):
            (done,) = await memory.extract(user, limit=1)
            assert (done.user_id, done.session_id, done.error, len(done.items)) == (user, "s1", None, 1)
            assert [item.text for item in await memory.list_items(user)] == [f"zebras of {user!r} in s1 was said"]
        # A canceled call releases its job, and one that fails too often is listed.
        extractor.waits = True
        waiting = asyncio.create_task(memory.extract("alice"))
        await started.wait()
        assert await memory.extract("alice") == []  # one call at a time
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert await observer.fetch("SELECT 1 FROM agentstore.memory_extractions WHERE lease IS NOT NULL") == []
        extractor.waits, extractor.fails = False, True
        await observer.execute("UPDATE agentstore.memory_extractions SET attempts = 4")
        for user in ("alice", "bob"):
            assert {each.failed for each in await memory.extract(user)} == {True}
        first = await memory.list_failed_extractions("alice", limit=1)
        second = await memory.list_failed_extractions("alice", limit=1, cursor=first.next_cursor)
        last = await memory.list_failed_extractions("alice", limit=1, cursor=second.next_cursor)
        assert [(each.user_id, each.session_id) for each in (*first, *second, *last)] == [
            ("alice", "s2"),
            ("alice", "s3"),
        ]
        assert await memory.retry_failed_extractions("alice") == 2
        assert await memory.list_failed_extractions("alice") == []
        assert len(await memory.list_failed_extractions("bob")) == 3
        extractor.fails = False
        assert [each.session_id for each in await memory.extract("alice")] == ["s2", "s3"]
        for call in (memory.extract(), memory.list_failed_extractions()):
            with pytest.raises(NotConfigured, match="BYPASSRLS"):
                await call


@pytest.mark.slow
async def test_concurrent_users_of_one_pool_never_see_each_others_rows(secured: AgentStore) -> None:
    users = [f"u{number}" for number in range(30)]
    await asyncio.gather(*(_use_all_services(secured, user) for user in users))

    async def read(user: str) -> None:
        for _ in range(5):
            assert await secured.states.export_state(user, "s") == {"of": user}
            found = {str(hit.message.content) for hit in await secured.memory.search(user, "apples")}
            assert [f"apples of {user!r}" in each for each in found if "apples of" in each] == [True]

    await asyncio.gather(*(read(user) for user in users))


async def test_a_cancelled_statement_leaves_no_open_transaction(
    secured: AgentStore, observer: asyncpg.Connection
) -> None:
    await _use_all_services(secured, "alice")
    for _ in range(30):
        task = asyncio.create_task(secured.sessions.get_session("alice", "s"))
        await asyncio.sleep(0.0005)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert await secured.sessions.get_session("alice", "s") is not None
    async with asyncio.timeout(60):
        while await observer.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' "
            "AND datname = current_database()"
        ):
            await asyncio.sleep(0.02)


async def test_a_statement_takes_one_round_trip_without_the_setting_and_three_with_it(
    direct_url: str, secured_url: str
) -> None:
    for url, secured, count in ((direct_url, False, 1), (secured_url, True, 3)):
        queries: list[str] = []
        async with AgentStore(url, settings=Settings(row_level_security=secured, pool_size=1)) as store:
            await store.states.export_state("alice", "s")
            async with store._database.connection() as connection:
                connection.add_query_logger(lambda record, queries=queries: queries.append(record.query))
            await store.states.export_state("alice", "s")
        assert len(queries) == count, queries


async def test_an_upgrade_secures_new_tables_and_requires_bypassrls(empty_url: str, app_role: str) -> None:
    await migrate.upgrade(empty_url, "0003")
    await migrate.enable_row_security(empty_url)
    await migrate.upgrade(empty_url)
    database = open_database(empty_url)
    assert (await migrate.row_security_status(database)).state == "enabled"
    await database.stop()
    psql(empty_url, "; ".join(grants(app=app_role)) + f"; GRANT CREATE ON SCHEMA agentstore TO {app_role};")
    with pytest.raises(NotConfigured, match="BYPASSRLS"):
        await migrate.downgrade(with_role(empty_url, app_role), "-1")
    psql(empty_url, f"DROP OWNED BY {app_role};")


async def test_tables_of_an_application_in_the_same_schema_get_no_policy(empty_url: str) -> None:
    settings = Settings(schema="public")
    psql(empty_url, "CREATE TABLE public.invoices (user_id text, total int);")
    await migrate.upgrade(empty_url, settings=settings)
    connection = await asyncpg.connect(empty_url)
    state = "SELECT relrowsecurity FROM pg_class WHERE relname = $1"
    await migrate.enable_row_security(empty_url, settings=settings)
    assert await connection.fetchval(state, "messages")
    assert not await connection.fetchval(state, "invoices")
    database = open_database(empty_url, settings=settings)
    assert (await migrate.row_security_status(database)).state == "enabled"
    await connection.execute("ALTER TABLE public.invoices ENABLE ROW LEVEL SECURITY")
    await migrate.disable_row_security(database)
    assert not await connection.fetchval(state, "messages")
    assert await connection.fetchval(state, "invoices")
    await database.stop()
    await connection.close()


def test_the_rls_commands(direct_url: str) -> None:
    url = ("--url", direct_url)
    assert run("rls", "status", *url).code == 1
    assert run("rls", "enable", *url).out == "enabled\n"
    found = run("rls", "status", *url, "--json").json()
    assert (found["state"], found["open"]) == ("enabled", [])
    psql(direct_url, "DROP POLICY agentstore_user ON agentstore.users;")
    done = run("rls", "status", *url)
    assert (done.code, "without a policy: users" in done.err) == (5, True)
    assert run("rls", "disable", "--yes", *url).out == "disabled\n"


@pytest.mark.pooler
async def test_behind_a_pooler_no_server_connection_retains_the_user(
    pgbouncer: PgBouncer | None, direct_url: str, database_name: str, app_role: str
) -> None:
    assert pgbouncer is not None
    await migrate.enable_row_security(direct_url)
    psql(direct_url, f'ALTER DATABASE "{database_name}" SET role = {app_role};')
    settings = _SETTINGS.model_copy(update={"pooler": "transaction", "auto_migrate": "off"})
    async with AgentStore(pgbouncer.url_of(database_name), settings=settings) as store:
        users = [f"u{number}" for number in range(12)]
        await asyncio.gather(*(_use_all_services(store, user) for user in users))
        for user in users:
            assert await store.states.export_state(user, "s") == {"of": user}
    raw = await asyncpg.connect(pgbouncer.url_of(database_name), statement_cache_size=0)
    for _ in range(20):
        assert await raw.fetchval("SELECT count(*) FROM agentstore.messages") == 0
    await raw.close()
    psql(direct_url, f'SET ROLE NONE; ALTER DATABASE "{database_name}" RESET role;')
