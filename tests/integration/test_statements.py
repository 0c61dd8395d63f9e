"""Every statement: one round trip, plans with indexes, and appends that write to no index of sessions."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from importlib import import_module
from pkgutil import walk_packages
from types import ModuleType
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from agentstore import AgentStore, EmbeddedPostgres, Message, ScopedValues, Session, Settings, repositories
from agentstore.database.statement import CompiledStatement, Statement
from agentstore.repositories import states, transfer
from agentstore.repositories.memory import documents, rows, search
from agentstore.repositories.retention import ttl_of
from agentstore.repositories.sessions import append_statements, lists, statements
from agentstore.schemas.listing import NEWEST, OLDEST
from agentstore.search import ranking
from agentstore.testing import text
from tests.support.hot_updates import hot_share
from tests.support.plans import MODES, nodes_of

# Foreign keys are not checked, which would take half of the time.
_ROWS = """
SET session_replication_role = replica;
INSERT INTO agentstore.users (id) SELECT 'u' || n FROM generate_series(1, 1000) n;
INSERT INTO agentstore.users (id) SELECT 'v' || n FROM generate_series(1, 20000) n;
INSERT INTO agentstore.sessions (user_id, id, next_seq, updated_at, listed_at, created_at, title, app, metadata)
SELECT 'u' || n % 1000 + 1, 's' || n, 1001, now(), now() - n * interval '1 minute', now() - n * interval '1 hour',
    'title ' || n, CASE n % 2 WHEN 0 THEN 'a' || n % 100 END,
    CASE n % 3 WHEN 0 THEN json_build_object('rare', n % 1000, 'common', true) ELSE '{}' END
FROM generate_series(1, 100000) n;
INSERT INTO agentstore.messages (user_id, session_id, seq, id, payload)
SELECT 'u' || s % 1000 + 1, 's' || s, m, 'm' || m, '{"role": "user"}'
FROM generate_series(1, 1000) m, (VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (1001), (2001)) AS t(s);
INSERT INTO agentstore.messages (user_id, session_id, seq, id, payload)
SELECT 'u' || s % 1000 + 1, 's' || s, 1, 'm1', '{"role": "user"}' FROM generate_series(3000, 90000) s;
INSERT INTO agentstore.memory_buckets (user_id, session_id, count, tokens)
SELECT 'u' || n % 1000 + 1, 's' || n, 1, 2 FROM generate_series(1, 40000) n;
INSERT INTO agentstore.memories (user_id, session_id, seq, id, payload, is_question, tokens, lexemes, analysis)
SELECT 'u' || n % 1000 + 1, 's' || n, 1, 'm1', '{"role": "user"}', false, 2,
    array_to_tsvector(ARRAY['a' || n, 'b' || n % 100]), '1'
FROM generate_series(1, 40000) n;
INSERT INTO agentstore.memory_buckets (user_id, session_id, count, tokens)
SELECT 'u' || n % 1000 + 1, 'd' || n, 1, 2 FROM generate_series(1, 40000) n;
INSERT INTO agentstore.memories (user_id, session_id, seq, id, payload, is_question, tokens, lexemes, analysis, kind,
    namespace, valid_until)
SELECT 'u' || n % 1000 + 1, 'd' || n, 1, 'd' || n, '{"role": "system"}', false, 2,
    array_to_tsvector(ARRAY['d' || n, 'b' || n % 100]), '1', 'document', 'a/' || n % 7,
    CASE n % 10 WHEN 0 THEN now() + (n - 1000) * interval '1 minute' END
FROM generate_series(1, 40000) n;
INSERT INTO agentstore.memory_extractions (user_id, session_id, first_seq, last_seq, run_after, lease, leased_until,
    is_open, failed_at, error)
SELECT 'u' || n % 1000 + 1, 's' || n, 1, 1, now() + (n - 20000) * interval '1 second',
    CASE WHEN n % 1000 = 3 THEN 'lease' || n END, CASE WHEN n % 1000 = 3 THEN now() END,
    n % 100 <> 7, CASE WHEN n % 100 = 7 THEN now() END, CASE WHEN n % 100 = 7 THEN 'x' END
FROM generate_series(1, 40000) n;
INSERT INTO agentstore.state_heads (user_id, session_id, next_round, last_round)
SELECT 'u' || n % 1000 + 1, 's' || n, 1001, 1000 FROM generate_series(1, 40000) n;
INSERT INTO agentstore.state_rounds (user_id, session_id, round, payload, size)
SELECT 'u' || s % 1000 + 1, 's' || s, r, '{}', 2
FROM generate_series(1, 1000) r, (VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (1001), (2001)) AS t(s);
INSERT INTO agentstore.state_rounds (user_id, session_id, round, payload, size)
SELECT 'u' || n % 1000 + 1, 's' || n, 1, '{}', 2 FROM generate_series(3000, 40000) n;
INSERT INTO agentstore.sandboxes (user_id, session_id, type, generation, state, provider, owner, host, lease_until)
SELECT 'u' || n % 1000 + 1, 's' || n, 'base', 7, 'ready', 'remote', 'o', 'h', now() + (n - 100) * interval '1 second'
FROM generate_series(1, 40000) n;
INSERT INTO agentstore.workspaces (user_id, session_id, type, chunks, size)
SELECT 'u' || n % 1000 + 1, 's' || n, 'base', 1, 3 FROM generate_series(1, 40000) n;
INSERT INTO agentstore.workspace_chunks (user_id, session_id, type, number, data)
SELECT user_id, session_id, type, 1, 'abc' FROM agentstore.workspaces;
INSERT INTO agentstore.app_values (app, key, value)
SELECT 'a' || n % 100, 'k' || n, '1' FROM generate_series(1, 40000) n ORDER BY 1, 2;
INSERT INTO agentstore.user_values (user_id, app, key, value)
SELECT 'u' || n % 1000 + 1, 'a' || n % 3, 'k' || n, '1' FROM generate_series(1, 40000) n;
INSERT INTO agentstore.session_values (user_id, session_id, key, value)
SELECT 'u' || n % 1000 + 1, 's' || n, 'k' || k, '1' FROM generate_series(1, 40000) n, generate_series(1, 3) k;
INSERT INTO agentstore.blobs (user_id, session_id, app, name, version, hash, chunks, size, saved_at)
SELECT 'u' || n % 1000 + 1, 's' || n % 5000, '', 'a/' || n, v, sha256(n::text::bytea), 1, 3,
    now() - n * interval '1 minute' FROM generate_series(1, 40000) n, generate_series(0, 2) v;
INSERT INTO agentstore.blob_chunks (user_id, hash, number, data)
SELECT 'u' || n % 1000 + 1, sha256(n::text::bytea), 1, 'abc' FROM generate_series(1, 40000) n;
INSERT INTO agentstore.checkpoint_heads (user_id, session_id, epoch, updated_at)
SELECT 'u' || n % 1000 + 1, 's' || n, 7, now() - n * interval '1 minute' FROM generate_series(1, 20000) n;
INSERT INTO agentstore.checkpoints (user_id, session_id, namespace, id, parent_id, run_id, type, size, data,
    metadata_type, metadata, channels, versions)
SELECT user_id, session_id, 'a/b', 'm' || k, 'm' || k - 1, 'r' || session_id, 'x', 1, 'x', 'x', 'x', '{c,d}',
    ARRAY['v' || k, 'v1'] FROM agentstore.checkpoint_heads, generate_series(1, 3) k;
INSERT INTO agentstore.checkpoint_values (user_id, session_id, namespace, channel, version, type, size, data, sources)
SELECT user_id, session_id, 'a/b', c, 'v' || k, 'x', 1, 'x', ARRAY['v1']
FROM agentstore.checkpoint_heads, unnest('{c,d}'::text[]) c, generate_series(1, 3) k;
INSERT INTO agentstore.checkpoint_writes (user_id, session_id, namespace, checkpoint_id, task_id, number, task_path,
    channel, type, size, data)
SELECT user_id, session_id, 'a/b', 'm' || k, 't', 0, '', 'c', 'x', 1, 'x'
FROM agentstore.checkpoint_heads, generate_series(1, 3) k;
ANALYZE agentstore.checkpoint_heads, agentstore.checkpoints, agentstore.checkpoint_values,
    agentstore.checkpoint_writes;
ANALYZE agentstore.blobs, agentstore.blob_chunks;
ANALYZE agentstore.app_values, agentstore.user_values, agentstore.session_values;
ANALYZE agentstore.state_heads, agentstore.state_rounds, agentstore.sandboxes, agentstore.workspaces,
    agentstore.workspace_chunks;
ANALYZE agentstore.users, agentstore.sessions, agentstore.messages, agentstore.memory_buckets, agentstore.memories,
    agentstore.memory_extractions;
"""

_VALUES: dict[str, Any] = {
    "user_id": "u2",
    "session_id": "s1",
    "title": None,
    "metadata": "{}",
    "limit": 10,
    "before_id": "",
    "before_minute": NEWEST,
    "before_user": "",
    "since_minute": OLDEST,
    "app": "a2",
    "ids": ["m1", "new"],
    "payloads": ["{}", "{}"],
    "same": [],
    "allow_differing": False,
    "count": 2,
    "dice": 0.0,
    "changes": 64,
    "with_messages": True,
    "id": "m3",
    "after": "u5",
    "at": None,
    "at_id": "m3",
    "roles": ["user", None],
    "question_shares": [100, 0],
    "speakers": ["ann", None],
    "times": [None, None],
    "tokens": [1, 1],
    "lexemes": ["'a'", "'b'"],
    "cuts": [False, False],
    "all_tokens": 2,
    "analysis": "1",
    "queries": ranking.queries("u2", ["a", "b"]),
    "weights": [1.0, 1.0],
    "words": ["a", "b"],
    "other_speaker": 0.7,
    "coverage": 0.5,
    "wanted_sessions": ["s1", "s1001"],
    "expired": ["s7"],
    "excluded": ["s7"],
    "neighbors": True,
    "labels": "'=label'",
    "namespace": "a/b",
    "namespaces": ["a/b", None],
    "role": None,
    "since": None,
    "until": None,
    "min_score": 0.0,
    "offset": 10,
    "kind": None,
    "idle": 10,
    "valid_at": None,
    "kinds": ["fact", "fact"],
    "importances": [0.5, 0.5],
    "froms": [None, None],
    "untils": [None, None],
    "with_invalid": False,
    "table": "agentstore.memories",
    "after_seq": 0,
    "before_seq": 10,
    "after_time": NEWEST,
    "after_app": "",
    "seqs": [1, 3],
    "new_session_id": ["s1"],
    "new_seq": [1],
    "new_version": ["1"],
    "new_before": [2],
    "new_tokens": [2],
    "new_lexemes": ["'a'"],
    "new_is_cut": [False],
    "new_question_share": [50],
    "new_speaker": ["ann"],
    "after_id": "m1",
    "after_session": "s1",
    "created_at": None,
    "updated_at": None,
    "enqueue": True,
    "settle": timedelta(0),
    "slack": timedelta(0),
    "early": timedelta(0),
    "lease": "lease3",
    "lease_time": timedelta(minutes=1),
    "delay": timedelta(minutes=1),
    "not_attempts": 0,
    "outages": 0,
    "owner": "o",
    "first_seq": 1,
    "last_seq": 1,
    "done_seq": 1,
    "error": "x",
    "after_user": "u3",
    "from_user": "u3",
    "from_session": "s1",
    "from_type": "base",
    "without_session": True,
    "payload": "{}",
    "packed": None,
    "size": 2,
    "round_id": 3,
    "expected": 2,
    "new_id": "copy",
    "most": 5_000,
    "in_steps": False,
    "with_counts": True,
    "message_id": "m3",
    "forked_from": None,
    "forked_at": None,
    "ttl": 3_600,
    "first_user": "u2",
    "last_user": "u20",
    "keep": 5,
    "state_session": "s1",
    "users": ["u2", "u3"],
    "sessions": ["s1", "s2"],
    "counts": [1, 1],
    "firsts": [0, 1],
    "numbers": [1, 2],
    "type": "base",
    "types": ["base", "base"],
    "session_ids": ["s1", "s1001"],
    "generations": [7, 7],
    "generation": 7,
    "reserved": None,
    "provider": "remote",
    "host": "host",
    "handle": "handle",
    "after_type": "base",
    "after_lease": datetime(2026, 1, 1, tzinfo=UTC),
    "elapsed": timedelta(seconds=1),
    "chunks": 2,
    "number": 1,
    "data": b"x",
    "scope": None,
    "name": "a/1",
    "version": 1,
    "before_version": 2,
    "first": "a/",
    "replace": True,
    "least": "a",
    "hash": sha256(b"1").digest(),
    "hashes": [sha256(b"1").digest()],
    "content_type": None,
    "filename": None,
    "keys": ["k1", "new"],
    "texts": ["1", "2"],
    "removed": ["k2"],
    "included": 0,
    "epoch": 7,
    "new_epoch": 8,
    "changed_epoch": None,
    "needed_parent": "m2",
    "parent_id": "m2",
    "run_id": "r",
    "run_ids": ["rs1"],
    "metadata_type": "x",
    "channel": "c",
    "channels": ["c", "d"],
    "versions": ["v1", "v2"],
    "deltas": None,
    "value_channels": ["c", "new"],
    "value_versions": ["v4", "v4"],
    "value_types": ["x", "x"],
    "value_sizes": [1, 1],
    "value_data": [b"x", b"x"],
    "value_sources": [None, "v1\nv2"],
    "value_pieces": [None, b"x"],
    "checkpoint_id": "m3",
    "task_ids": ["t", "new"],
    "task_paths": ["", ""],
    "sizes": [1, 1],
    "before_namespace": "",
    "source_user": "u2",
    "target_user": "u3",
    "target_session": "s2",
    **{f"{scope}_keys": ["k1", "new"] for scope in ("user", "session")},
    **{f"{scope}_texts": ["1", "2"] for scope in ("user", "session")},
    **{f"{scope}_removed": ["k2"] for scope in ("user", "session")},
}


# Of the lists of sessions.
_FILTERS: dict[str, Any] = {
    "before": NEWEST, "since": OLDEST, "until": NEWEST, "app": "a2", "title": "TITLE 1", "metadata": '{"rare": 6}'
}  # fmt: skip


# Statements on the table of vectors, which not every database has, and those of `agentstore stats`, which count whole
# tables, have separate tests.
_TESTED_SEPARATELY = {"agentstore.repositories.memory.vectors", "agentstore.repositories.stats"}
MODULES = tuple(
    import_module(found.name)
    for found in walk_packages(repositories.__path__, "agentstore.repositories.")
    if found.name not in _TESTED_SEPARATELY
)


def statements_of(*modules: ModuleType) -> list[tuple[str, Statement]]:
    """Return all statements of some modules, each once, with its name relative to agentstore.repositories."""
    found: dict[Statement, str] = {}
    for module in modules:
        for name, value in vars(module).items():
            named = {name: value}
            if isinstance(value, dict):
                # The table of vectors does not exist in every database.
                named = {
                    f"{name}[{getattr(key, '__name__', key)}]": each
                    for key, each in value.items()
                    if key != transfer.VECTORS
                }
            for each_name, each in named.items():
                if isinstance(each, Statement) and each_name.isupper() | ("[" in each_name):
                    full = f"{module.__name__.removeprefix('agentstore.repositories.')}.{each_name}"
                    found.setdefault(each, full)
    return [(name, statement) for statement, name in found.items()]


_STATEMENTS = statements_of(*MODULES)


@pytest.fixture(scope="session")
def filled_url(server: Any, template: str, testrun_uid: str) -> Iterator[str]:
    """A database with 100,000 sessions and messages, which the worker processes of a run share."""
    name = f"agentstore_test_{testrun_uid[:12]}_filled"

    async def locked(change: Callable[[asyncpg.Connection], Awaitable[None]]) -> None:
        connection = await asyncpg.connect(server.url_of("postgres"))
        await connection.execute("SELECT pg_advisory_lock(hashtext($1))", name)
        try:
            await change(connection)
        finally:
            await connection.close()

    async def create(admin: asyncpg.Connection) -> None:
        if await admin.fetchval("SELECT true FROM pg_database WHERE datname = $1", name):
            return
        await admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        connection = await asyncpg.connect(server.url_of(name))
        await connection.execute(_ROWS, timeout=300)
        await connection.close()

    async def drop(admin: asyncpg.Connection) -> None:
        with suppress(asyncpg.ObjectInUseError):  # the last process drops it
            await admin.execute(f'DROP DATABASE IF EXISTS "{name}"')

    asyncio.run(locked(create))
    yield server.url_of(name)
    asyncio.run(locked(drop))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def filled(filled_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(filled_url, statement_cache_size=0)
    yield connection
    await connection.close()


def _values_of(name: str) -> dict[str, Any]:
    """Return the arguments of a statement, with which it matches some of the rows."""
    values = {**_VALUES, "before": "m500" if name.endswith("GET_BEFORE") else NEWEST}
    if name.endswith(("LIST_AFTER", "LIST_OF_SESSIONS", "LIST_LABELED")):
        values["after"] = 1
    if name.startswith("memory.documents."):
        time = datetime(2090, 1, 1, tzinfo=UTC)
        values |= {
            "ids": ["d1", "d1001"],
            "untils": [time, time],
            "at": time,
            "first": "a",
            "least": "a",
            "until": "a0",
        }
        values |= {"created_at": [None, None], "updated_at": [None, None]}
    if name.startswith("prune."):
        values["ids"] = ["s1", "s1001"]
        values["keep"] = 5
    if name.startswith("states."):
        values["before"] = 10
    if name.startswith("users."):
        values |= {"first": "u", "until": "v"}
    if name.startswith("checkpoints."):
        values |= {"before": "m9", "session_id": "s1", "metadata": b"x", "data": [b"x", b"x"], "types": ["x", "x"]}
        if name.endswith(".PUT"):
            values["data"] = b"x"
    if name.startswith("sessions.copies."):
        values["at"] = 3
    if name.startswith("sessions."):
        values["expected"] = None
    if name.startswith("sessions.lists."):
        values |= _FILTERS
    return values


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "statement"), _STATEMENTS, ids=[name for name, _ in _STATEMENTS])
async def test_every_statement_uses_an_index(
    filled: asyncpg.Connection, name: str, statement: Statement, mode: str
) -> None:
    """With custom plans and with generic plans."""
    nodes = await nodes_of(filled, statement, _values_of(name), mode)
    scanned = [node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"]
    assert scanned == [], json.dumps(nodes[0], indent=1)
    reached = {node.get("Index Name") for node in nodes} - {None}
    assert reached or nodes[0]["Node Type"] in ("ModifyTable", "Function Scan"), json.dumps(nodes[0], indent=1)


_PRIMARY_KEYS = """
SELECT i.indrelid::regclass::text AS relation, i.indexrelid::regclass::text AS name,
    array(SELECT attname::text FROM pg_attribute WHERE attrelid = i.indrelid AND attnum = ANY(i.indkey)) AS columns
FROM pg_index AS i WHERE i.indisprimary AND i.indrelid::regclass::text NOT LIKE 'pg_%'
"""


async def test_a_row_is_found_by_its_primary_key_before_there_are_statistics(server: Any, template: str) -> None:
    """Without statistics the planner takes any index that begins with the user for one that finds a single row."""
    name = f"{template}_new"
    await server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    connection = await asyncpg.connect(server.url_of(name), statement_cache_size=0)
    try:
        await connection.execute("SET search_path TO agentstore")
        keys = {row["relation"]: row for row in await connection.fetch(_PRIMARY_KEYS)}
        found = 0
        for statement_name, statement in _STATEMENTS:
            for node in await nodes_of(connection, statement, _values_of(statement_name), "force_generic_plan"):
                condition, key = node.get("Index Cond", ""), keys.get(node.get("Relation Name"))
                if key is not None and all(f"({column} = " in condition for column in key["columns"]):
                    assert node["Index Name"] == key["name"], (statement_name, condition)
                    found += 1
        assert found > 50
    finally:
        await connection.close()
        await server.execute(f'DROP DATABASE "{name}"')


_UNFILTERED = {"before": NEWEST, "since": OLDEST, "until": NEWEST, "app": None, "title": None, "limit": None}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("ttl", [None, 3_600])
@pytest.mark.parametrize(
    ("statement", "given"),
    [
        (statements.GET, {}),
        (statements.GET_LAST, {}),
        (statements.GET_BEFORE, {"before": "m500"}),
        (append_statements.APPEND, {"expected": None}),
        (append_statements.APPEND_TO_MANY, {}),
        (lists.LISTS["last_used_by_user"], _UNFILTERED),
        (states.SAVE, {}),
        (states.EXPORT, {}),
        (states.EXPORT_LAST, {}),
        (documents.GET, {}),
        (rows.ADD, {}),
        (search.SEARCH, {}),
    ],
    ids=lambda value: value.name if isinstance(value, Statement) else "",
)
async def test_frequent_statements_get_a_generic_plan(
    filled: asyncpg.Connection, statement: Statement, given: dict[str, Any], ttl: int | None
) -> None:
    """Postgres uses the generic plan, after five custom plans, only if those do not seem cheaper."""
    await filled.execute("RESET plan_cache_mode")
    compiled = CompiledStatement(statement, Settings())
    prepared = await filled.prepare(compiled.sql, name=f"statement {uuid4().hex}")
    for turn in range(8):
        values = {**_VALUES, "ttl": ttl_of(ttl), "ids": [f"{turn} a", f"{turn} b"], **given}
        transaction = filled.transaction()
        await transaction.start()
        await prepared.fetch(*compiled.arguments(values))
        await transaction.rollback()
    plans = "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE name = $1"
    assert tuple(await filled.fetchrow(plans, prepared.get_name()) or ()) == (3, 5)


async def test_each_uncontended_call_is_one_statement(
    store: AgentStore, observer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    executed = 0
    fetch = asyncpg.Connection.fetch

    async def count(self: asyncpg.Connection, *args: Any, **kwargs: Any) -> Any:
        nonlocal executed
        executed += 1
        return await fetch(self, *args, **kwargs)

    session = await store.sessions.create_session("warm")
    monkeypatch.setattr(asyncpg.Connection, "fetch", count)

    async def one_statement(call: Any, expected: int = 1) -> Any:
        nonlocal executed
        executed = 0
        result = await call
        assert executed == expected
        return result

    session = await one_statement(store.sessions.create_session("alice", "s"))  # of a new user
    await one_statement(store.sessions.append_message(session, text("a")))
    await one_statement(store.sessions.append_message(session, [text("b"), text("c")]))
    await one_statement(store.sessions.create_session("alice", "s"))  # existing, with its messages
    await one_statement(store.sessions.get_session("alice", "s"))
    await one_statement(store.sessions.get_session("alice", "s", limit=1, before=session.messages[1].id))
    await one_statement(store.sessions.read_messages("alice", "s", limit=1, through=session.messages[1].id))
    await one_statement(store.sessions.find_message("alice", session.messages[1].id))
    await one_statement(store.sessions.read_messages("alice", "s"))
    await one_statement(anext(store.sessions.iter_messages("alice", "s")))
    await one_statement(anext(aiter(store.sessions.follow("alice", "s"))), 2)  # one that reads the session's row
    await one_statement(store.sessions.list_sessions("alice"))
    await one_statement(store.sessions.list_sessions(limit=1, title="x", metadata={"x": 1}, app="x"))
    await one_statement(store.sessions.import_session(session.model_copy(update={"id": "imported"})))
    await one_statement(store.sessions.create_session("alice", "s", messages=False))
    await one_statement(store.sessions.append("alice", "s", text("d", id="d")))
    await one_statement(store.sessions.append("alice", "s", text("e"), expected_seq=4))
    await one_statement(store.sessions.append("alice", "new", text("a")), 2)  # one that does not find the session
    await one_statement(store.sessions.replace_message("alice", "s", text("f", id="d"), expected=text("d", id="d")))
    await one_statement(store.sessions.delete_messages("alice", "s", ["d"]))
    await one_statement(store.sessions.pop_messages("alice", "s"))
    await one_statement(store.sessions.set_title("alice", "s", "x"))
    await one_statement(store.sessions.set_metadata("alice", "s", {}))
    await one_statement(store.users.set_metadata("alice", {}))
    await one_statement(store.users.get_user("alice"))
    await one_statement(store.users.list_users())
    await one_statement(store.users.list_users(prefix="a"))
    await one_statement(store.states.save_state("alice", {}, "s"))
    await one_statement(store.states.save_state("new user", {}, "s", 3))
    await one_statement(store.states.save_state("alice", {}, "s", expected_round=1))
    await one_statement(store.states.export_state("alice", "s"))
    await one_statement(store.states.list_states("alice", "s"))
    await one_statement(
        store.states.merge_values("alice", "s", values=ScopedValues(user={"u": 1}, session={"s": 1, "t": None}))
    )
    await one_statement(store.states.merge_values(None, values=ScopedValues({"a": 1, "b": None})))
    await one_statement(store.states.get_values("alice", "s"))
    await one_statement(store.states.get_values(None))
    await one_statement(store.states.get_values_of([session, Session(id="t", user_id="bob")]))
    await one_statement(store.blobs.get("alice", "n"))
    await one_statement(store.blobs.list("alice", prefix="n"))
    await one_statement(store.blobs.list_of_user("alice", limit=1))
    await one_statement(store.blobs.list_versions("alice", "n"))
    document = {"id": "d", "text": "likes apples", "namespace": "a"}
    await one_statement(store.documents.put("another new user", [document, {"id": "e", "text": "x"}]))
    await one_statement(store.documents.put("another new user", document))
    await one_statement(store.documents.get("another new user", ["d", "e"]))
    await one_statement(store.documents.list("another new user"))
    await one_statement(store.documents.list("another new user", namespace="a", metadata={"x": 1}))
    await one_statement(store.documents.search("another new user", "apples"), 2)  # one that reads what was found
    await one_statement(store.documents.renew("another new user", {"d": datetime(2090, 1, 1, tzinfo=UTC)}))
    await one_statement(store.documents.list_namespaces("another new user"))
    await one_statement(store.documents.list_namespaces())
    await one_statement(store.documents.delete("another new user", ["d", "e"]))
    await one_statement(store.states.delete_values("alice", "s"))
    await one_statement(store.states.delete_values(None))
    await one_statement(store.sessions.delete_session("alice", "s"))
    await one_statement(store.users.delete_user("alice"))


async def test_reading_an_existing_session_writes_nothing(store: AgentStore, observer: asyncpg.Connection) -> None:
    session = await store.sessions.create_session("alice", "s")
    await store.sessions.append_message(session, text("a"))
    before = await observer.fetchval("SELECT xmin::text || ctid::text FROM agentstore.sessions")
    for _ in range(3):
        await store.sessions.create_session("alice", "s", title="x")
        await store.sessions.get_session("alice", "s")
        await store.sessions.list_sessions("alice")
    assert await observer.fetchval("SELECT xmin::text || ctid::text FROM agentstore.sessions") == before


async def test_appends_are_hot_and_write_to_no_index_of_sessions(own_server: EmbeddedPostgres) -> None:
    async def write(store: AgentStore) -> None:
        options: dict[str, Any] = {"app": "app", "title": "title", "metadata": {"n": 1}}
        sessions = [await store.sessions.create_session("alice", f"s{number}", **options) for number in range(20)]
        for number in range(1000):
            await store.sessions.append_message(sessions[number % 20], Message(role="user"))

    # All except those in which the minute changed, and those for which the page was full.
    assert await hot_share(own_server.url, "sessions", 1000, write) >= 0.95


async def test_codecs_set_by_the_caller_have_no_effect(server: Any, database_name: str) -> None:
    from sqlalchemy import event
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(server.url_of(database_name).replace("postgresql://", "postgresql+asyncpg://"))

    async def set_codecs(driver: asyncpg.Connection) -> None:
        for kind in ("json", "jsonb"):
            await driver.set_type_codec(kind, schema="pg_catalog", encoder=json.dumps, decoder=json.loads)

    def connected(connection: Any, _: Any) -> None:
        connection.run_async(set_codecs)

    event.listen(engine.sync_engine, "connect", connected)
    async with AgentStore(engine=engine) as store:
        session = await store.sessions.create_session("alice", "s", metadata={"x": "y"})
        await store.sessions.append_message(session, text("hello", metadata={"a": "b"}))
        assert await store.sessions.get_session("alice", "s") == session
    await engine.dispose()


async def test_statements_run_with_names_that_need_quoting(empty_url: str) -> None:
    settings = Settings(schema="user", auto_migrate="upgrade")  # a reserved word
    async with AgentStore(empty_url, settings=settings) as store:
        session = await store.sessions.create_session("alice", metadata={"n": 1})
        await store.sessions.append_message(session, text("hello"))
        assert await store.sessions.get_session("alice", session.id) == session
        assert len(await store.sessions.list_sessions(metadata={"n": 1})) == 1


async def test_limits_are_settings(database_url: str, settings: Settings) -> None:
    from agentstore import LimitExceeded

    small = settings.model_copy(update={"max_batch": 2, "max_message_bytes": 1000, "max_page": 5})
    async with AgentStore(database_url, settings=small) as store:
        session = await store.sessions.create_session("alice")
        for message in ([text("1"), text("2"), text("3")], text("x" * 1000)):
            with pytest.raises(LimitExceeded):
                await store.sessions.append_message(session, message)
        with pytest.raises(LimitExceeded):
            await store.sessions.list_sessions("alice", limit=6)


async def test_a_message_serialized_by_another_release_is_equal(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    session = await store.sessions.create_session("alice", "s")
    one, two = text("one"), text("two")
    await store.sessions.append_message(session, one)
    await observer.execute(
        "UPDATE agentstore.messages SET payload = $1", json.dumps(one.model_dump(), indent=1, sort_keys=True)
    )
    again = Session(id="s", user_id="alice")
    await store.sessions.append_message(again, [one, two])
    stored = await store.sessions.get_session("alice", "s")
    assert stored is not None
    assert stored.messages == [one, two]


async def test_pages_continue_across_minutes_and_within_a_minute(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    for number in range(30):
        await store.sessions.create_session("alice", f"s{number:02}")
    await observer.execute(
        "UPDATE agentstore.sessions SET listed_at = minute, "
        "updated_at = minute + right(id, 2)::int * 7 % 10 * interval '1 second' "
        "FROM (SELECT id AS of, date_trunc('minute', now()) - right(id, 2)::int / 4 * interval '1 minute' AS minute "
        "FROM agentstore.sessions) AS given WHERE id = of"
    )
    listed = [session.id for session in await store.sessions.list_sessions("alice")]
    for limit in (1, 3, 7, 29, 30):
        seen: list[str] = []
        cursor = None
        while True:
            page = await store.sessions.list_sessions("alice", limit=limit, cursor=cursor)
            seen += [session.id for session in page]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert seen == listed
        assert seen == sorted(seen, key=lambda id: (-(int(id[1:]) // 4), int(id[1:]) * 7 % 10, id), reverse=True)
        assert sorted(seen) == [f"s{number:02}" for number in range(30)]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("mode", MODES)
async def test_a_page_of_sessions_reads_only_its_sessions_and_those_of_its_last_minute(
    filled: asyncpg.Connection, mode: str
) -> None:
    values = {**_VALUES, **_FILTERS, **dict.fromkeys(("app", "title", "metadata"))}
    nodes = await nodes_of(filled, lists.LISTS["last_used_by_user"], values, mode, analyze=True)
    (read,) = (node["Actual Rows"] for node in nodes if "Scan" in node["Node Type"])
    assert read <= 11  # of 100; each is alone in its minute


_FUTURE = datetime(3000, 1, 1, tzinfo=UTC)
# Lists, with filters, and how many rows each reads at most; of the sessions of one user, 100 are stored.
_READ: list[tuple[str, dict[str, Any], int]] = [
    ("last_used_by_order", {}, 11),
    ("created_by_order", {}, 10),
    ("created_by_user", {}, 10),
    ("last_used_by_app", {"app": "a2"}, 11),
    (
        "last_used_by_order",
        {"since": _FUTURE, "since_minute": _FUTURE},
        0,
    ),
    ("last_used_by_metadata", {"metadata": '{"rare": 6}'}, 34),
    ("created_by_metadata", {"metadata": '{"rare": 6}'}, 34),
    ("created_by_metadata", {"metadata": '{"rare": 6, "common": false}'}, 0),
    ("last_used_by_user_and_metadata", {"metadata": '{"rare": 6}'}, 100),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "filters", "most"), _READ)
async def test_a_page_reads_few_of_all_sessions(
    filled: asyncpg.Connection, name: str, filters: dict[str, Any], most: int, mode: str
) -> None:
    values = {**_VALUES, **_FILTERS, **dict.fromkeys(("app", "title", "metadata")), **filters}
    nodes = await nodes_of(filled, lists.LISTS[name], values, mode, analyze=True)
    reads = [
        node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
        for node in nodes
        if "Scan" in node["Node Type"] and node["Node Type"] != "Bitmap Index Scan"
    ]
    assert sum(reads) <= most, json.dumps(nodes[0], indent=1)


async def test_sessions_that_are_used_without_a_write_are_listed_first(store: AgentStore) -> None:
    for name in ("a", "b", "c"):
        await store.sessions.create_session("alice", name)
    await store.sessions.touch("alice", "b")
    assert [session.id for session in await store.sessions.list_sessions("alice", limit=1)] == ["b"]


async def test_a_touch_changes_listed_at_with_updated_at(store: AgentStore, observer: asyncpg.Connection) -> None:
    await store.sessions.create_session("alice", "s")
    await observer.execute(
        "UPDATE agentstore.sessions SET updated_at = updated_at - interval '1 hour', "
        "listed_at = listed_at - interval '1 hour'"
    )
    await store.sessions.touch("alice", "s")
    assert await observer.fetchval("SELECT listed_at = date_trunc('minute', updated_at) FROM agentstore.sessions")


async def test_an_append_that_waited_does_not_decrease_updated_at(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    session = await store.sessions.create_session("alice", "s")
    async with observer.transaction():
        await observer.execute("UPDATE agentstore.sessions SET updated_at = now() + interval '1 hour'")
        waiting = asyncio.create_task(store.sessions.append_message(session, text("x")))
        await asyncio.wait([waiting], timeout=0.2)
    await waiting
    assert session == await store.sessions.get_session("alice", "s")
    row = await observer.fetch("SELECT updated_at > now() + interval '50 minutes' FROM agentstore.sessions")
    assert row == [(True,)]


async def test_a_batch_too_large_for_postgres_is_refused(store: AgentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from agentstore import LimitExceeded

    monkeypatch.setattr("agentstore.schemas.payload._MAX_BATCH_CHARACTERS", 1_000)
    session = await store.sessions.create_session("alice")
    with pytest.raises(LimitExceeded):
        await store.sessions.append_message(session, [text("x" * 300) for _ in range(3)])
    assert await store.sessions.get_session("alice", session.id) == session
