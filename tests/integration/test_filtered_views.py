"""Views that row-level security filters are refused: nothing is reported of rows that a role cannot see.

The methods with the setting ROW_LEVEL_SECURITY are those of test_statement_scope.py; these are the ones without it, and
the commands. Both are found in the classes, so that a new one cannot be forgotten.
"""

import asyncio
import inspect
import io
import os
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine

from agentstore import (
    AgentStore,
    MemoryItem,
    NotConfigured,
    ScopedValues,
    Session,
    Settings,
    StoredDocument,
    migrate,
)
from agentstore.cli import COMMANDS, load_command
from agentstore.database.server import table_names
from agentstore.operations.grants import grants
from agentstore.repositories.connect import open_database
from agentstore.testing import text
from tests.integration.extraction.support import EchoExtractor
from tests.support.checkpoints import checkpoint_of, write_of
from tests.support.cli import run
from tests.support.psql import psql
from tests.support.roles import with_role
from tests.support.vectors import WordEmbedder

_SETTINGS: dict[str, Any] = {"sandbox_provider": "unsafe_subprocess", "sandbox_snapshots": True, "memory_ttl": 10**6}
_SERVICES = ("sessions", "memory", "states", "users", "blobs", "documents", "checkpoints", "sandboxes")
# Methods that read and write no rows of users.
_LIFECYCLE = {"start", "stop", "health"}
_TIME = datetime(2025, 1, 1, tzinfo=UTC)
_STORED = StoredDocument(MemoryItem(text="x", kind="document"), _TIME, _TIME)
# Values of required parameters, by name. Those of `export` and `restore` are files.
_VALUES: dict[str, Any] = {
    "user_id": "alice", "session_id": "s", "session": Session(id="s", user_id="alice"), "message": text("pears"),
    "message_id": "m",
    "messages": text("apples"), "items": MemoryItem(text="likes apples"), "metadata": {"a": 1}, "title": "a title",
    "ttl": 60, "change": dict, "at": "1", "a": 1, "b": 2, "ids": ["1"], "max_tokens": 10, "count": len,
    "round_id": 7, "state": {"a": 1}, "sessions": [Session(id="s", user_id="alice")],
    "values": ScopedValues({"a": 1}, {"u": 1}), "name": "n", "data": b"x",
    "documents": {"id": "d", "text": "x"}, "stored": [_STORED], "query": "apples", "times": {"d": _TIME},
    "checkpoint": checkpoint_of(), "namespace": "", "checkpoint_id": "1", "writes": [write_of()], "id": "1",
    "run_ids": ["r"], "channels": ["c"], "target_user_id": "alice", "target_session_id": "copy",
}  # fmt: skip


def _methods() -> dict[str, Callable[..., Any]]:
    """Return the public coroutine methods of the store and of its services, as ``service.method``."""
    store = AgentStore("postgresql:///none", settings=Settings(sandbox_provider="unsafe_subprocess"))
    found: dict[str, Callable[..., Any]] = {}
    for service in ("", *_SERVICES):
        owner = type(getattr(store, service) if service else store)
        for name, method in inspect.getmembers(owner, inspect.isfunction):
            if not name.startswith("_") and name not in _LIFECYCLE and _is_async(method):
                found[f"{service}.{name}"] = method
    return found


def _is_async(method: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)


def _required(method: Callable[..., Any]) -> list[str]:
    parameters = list(inspect.signature(method).parameters.values())[1:]
    return [each.name for each in parameters if each.default is each.empty]


_METHODS = _methods()
_ABOUT_ALL_USERS = [
    name
    for name, method in _METHODS.items()
    if not {"user_id", "session_id", "session", "sessions"} & {*_required(method)}
]
_ABOUT_ALL_USERS.remove("sandboxes.list")  # without a user it lists the sandboxes that have none


async def _call(store: AgentStore, name: str, export: bytes) -> Any:
    service, _, method = name.rpartition(".")
    values = {
        each: io.BytesIO(export if method == "restore" else b"") if each == "file" else _VALUES[each]
        for each in _required(_METHODS[name])
    }
    result = getattr(getattr(store, service) if service else store, method)(**values)
    if method == "follow":  # which has no end
        async with aclosing(result):
            return [await anext(result)]
    if inspect.isasyncgen(result):
        return [each async for each in result]
    return await result


class _Role:
    """A role to which the policies apply: an application's, or the owner of the tables."""

    def __init__(self, direct_url: str, name: str, *, is_owner: bool) -> None:
        self.url, self.is_owner = with_role(direct_url, name), is_owner
        commands = grants(migrator=name) if is_owner else grants(app=name)
        psql(direct_url, f"CREATE ROLE {name} LOGIN; " + "; ".join(commands) + ";")
        if is_owner:
            tables = [*table_names(), "agentstore_version", "agentstore_version_vector"]
            owned = "; ".join(f"ALTER TABLE IF EXISTS agentstore.{each} OWNER TO {name}" for each in tables)
            psql(direct_url, f"{owned};")


@pytest.fixture(params=["application", "owner"])
async def role(request: pytest.FixtureRequest, direct_url: str, vector_store: AgentStore) -> AsyncIterator[_Role]:
    name = f"agentstore_filtered_{uuid4().hex[:8]}"
    yield _Role(direct_url, name, is_owner=request.param == "owner")
    psql(
        direct_url, f"SET ROLE NONE; REASSIGN OWNED BY {name} TO CURRENT_USER; DROP OWNED BY {name}; DROP ROLE {name};"
    )


@pytest.fixture
async def export(direct_url: str, vector_store: AgentStore) -> bytes:
    """An export of the database, which has rows of two users."""
    for user in ("alice", "bob"):
        session = await vector_store.sessions.create_session(user, "s")
        await vector_store.sessions.append_message(session, [text("apples", id="1"), text("pears", id="2")])
        await vector_store.memory.add_memory(user, session.messages, "s")
        for number in (1, 2):
            await vector_store.states.save_state(user, {"number": number}, "s")
    file = io.BytesIO()
    await vector_store.export(file)
    return file.getvalue()


async def _contents(observer: asyncpg.Connection) -> dict[str, list[str]]:
    return {
        table: [row[0] for row in await observer.fetch(f"SELECT t::text FROM agentstore.{table} t ORDER BY 1")]
        for table in table_names()
        if await observer.fetchval(f"SELECT to_regclass('agentstore.{table}')")
    }


async def _read_contents(url: str) -> dict[str, list[str]]:
    connection = await asyncpg.connect(url)
    try:
        return await _contents(connection)
    finally:
        await connection.close()


def _open(url: str, **settings: Any) -> AgentStore:
    return AgentStore(
        url, settings=Settings(**_SETTINGS, **settings), embedder=WordEmbedder(), extractor=EchoExtractor()
    )


async def _check_refused(store: AgentStore, name: str, export: bytes, *, has_pgvector: bool = True) -> None:
    expected = "BYPASSRLS" if has_pgvector or name != "memory.embed" else "not enabled"
    found = await asyncio.gather(_call(store, name, export), return_exceptions=True)
    assert [(type(each), expected in str(each)) for each in found] == [(NotConfigured, True)], (name, found)


async def test_a_store_does_not_start_where_policies_apply_and_the_setting_is_off(
    direct_url: str, role: _Role, export: bytes
) -> None:
    await migrate.enable_row_security(direct_url)
    engine = create_async_engine("postgresql+asyncpg://", async_creator=open_database(role.url)._connect)
    stores = [_open(role.url), _open(role.url, pooler="transaction"), AgentStore(engine=engine)]
    for store in stores:
        with pytest.raises(NotConfigured, match=r"BYPASSRLS.*AGENTSTORE_ROW_LEVEL_SECURITY"):
            await store.start()
        with pytest.raises(NotConfigured, match="BYPASSRLS"):
            await store.users.delete_user("alice")
        await store.stop()
    await engine.dispose()
    async with _open(role.url, row_level_security=True) as store:
        assert (await store.users.delete_user("alice")).messages == 2


async def test_each_method_of_a_running_store_is_refused_once_its_tables_are_secured(
    direct_url: str, role: _Role, export: bytes, observer: asyncpg.Connection, has_pgvector: bool
) -> None:
    async with _open(role.url) as store:
        assert len(await store.users.list_users()) == 2
        await migrate.enable_row_security(direct_url)
        before = await _contents(observer)
        for name in _METHODS:
            await _check_refused(store, name, export, has_pgvector=has_pgvector)
        assert await _contents(observer) == before


@pytest.mark.parametrize("kind", ["pooler", "engine"])
async def test_a_method_about_all_users_is_refused_without_settings_of_the_session(
    direct_url: str, role: _Role, export: bytes, observer: asyncpg.Connection, has_pgvector: bool, kind: str
) -> None:
    engine = create_async_engine("postgresql+asyncpg://", async_creator=open_database(role.url)._connect)
    if kind == "pooler":
        store = _open(role.url, pooler="transaction")
    else:
        store = AgentStore(
            engine=engine, settings=Settings(**_SETTINGS), embedder=WordEmbedder(), extractor=EchoExtractor()
        )
    async with store:
        for name in ("users.list_users", ".stats", "memory.reindex", "sandboxes.reap", ".prune"):
            await _call(store, name, export)
        await migrate.enable_row_security(direct_url)
        before = await _contents(observer)
        for name in _ABOUT_ALL_USERS:
            await _check_refused(store, name, export, has_pgvector=has_pgvector)
        assert await _contents(observer) == before
    await engine.dispose()


# Commands that read and write no rows of users.
_OF_THE_SCHEMA = {
    "check", "current", "plan", "upgrade", "history", "heads", "sql", "doctor", "explain", "grants", "rls enable",
    "rls disable", "rls status", "distribute", "undistribute", "vector enable", "vector disable",
    "vector index",
}  # fmt: skip
_ARGUMENTS = {
    "user": "alice", "session": "s", "query": "apples", "text": "pears", "a": "1", "b": "2", "at": "1",
    "state": "{{}}", "title": "x",
    "revision": migrate.history()[1].id, "sources": "{export}", "file": "{new}",
}  # fmt: skip
_OPTIONS = {"import": ["{export}"], "sandboxes exec": ["--", "true"], "sessions rewind": ["--at", "1"]}
_ENVIRONMENT = {
    "AGENTSTORE_SANDBOX_PROVIDER": "unsafe_subprocess",
    **{f"AGENTSTORE_{kind}_URL": "http://127.0.0.1:9/v1" for kind in ("EMBEDDING", "EXTRACTION")},
    **{f"AGENTSTORE_{kind}_MODEL": "none" for kind in ("EMBEDDING", "EXTRACTION")},
    "AGENTSTORE_EMBEDDING_DIMENSIONS": "3",
}


def _commands() -> dict[str, list[str]]:
    """Return the commands that concern rows of users, with the arguments that they need."""
    found: dict[str, list[str]] = {}
    for name, info in COMMANDS.items():
        command = load_command(name)
        paths: dict[str, Any] = (
            {f"{name} {each}": sub for each, sub in command.commands.items()} if info.is_group else {name: command}
        )
        for path in paths.keys() - _OF_THE_SCHEMA:
            parameters = paths[path].params
            needed = [each for each in parameters if each.required and each.param_type_name == "argument"]
            options = ["--yes"] if any(each.name == "yes" for each in parameters) else []
            found[path] = [
                *path.split(),
                *options,
                *(_ARGUMENTS[each.name] for each in needed),
                *_OPTIONS.get(path, []),
            ]
    return found


_COMMANDS = _commands()


@pytest.mark.parametrize("with_setting", [False, True])
def test_a_command_is_refused_before_it_writes_or_reports_anything(
    direct_url: str, role: _Role, export: bytes, tmp_path: Path, has_pgvector: bool, with_setting: bool
) -> None:
    """With the setting, those that do not name a user."""
    asyncio.run(migrate.enable_row_security(direct_url))
    before = asyncio.run(_read_contents(direct_url))
    (tmp_path / "export").write_bytes(export)
    files = {"export": str(tmp_path / "export"), "new": str(tmp_path / "new")}
    environment = _ENVIRONMENT | {
        "AGENTSTORE_ROW_LEVEL_SECURITY": str(with_setting),
        "AGENTSTORE_DATABASE_URL": role.url,
    }
    # With the setting, the console serves what the policies show, and says what they hide.
    names = [
        name
        for name, command in _COMMANDS.items()
        if not (with_setting and (_ARGUMENTS["user"] in command or name == "console"))
    ]
    assert len(names) > 10
    for name in names:
        arguments = [each.format(**files) for each in _COMMANDS[name]]
        done = run(*arguments, environment=environment)
        if name == "vector status" and not has_pgvector:  # there is no table whose rows could be hidden
            assert done.code == 0
            continue
        assert (name, done.code, done.out) == (name, 1, "")
        assert "BYPASSRLS" in done.err, name
    assert asyncio.run(_read_contents(direct_url)) == before
    assert os.listdir(tmp_path) == ["export"]


async def test_check_and_doctor_name_the_policies(direct_url: str, role: _Role) -> None:
    assert (await asyncio.to_thread(run, "check", "--url", role.url)).code == 0
    await migrate.enable_row_security(direct_url)
    for name in ("check", "doctor"):
        done = await asyncio.to_thread(run, name, "--url", role.url)
        assert (done.code, "BYPASSRLS" in done.out + done.err) == (1, True)
        environment = {"AGENTSTORE_ROW_LEVEL_SECURITY": "true"}
        done = await asyncio.to_thread(run, name, "--url", role.url, environment=environment)
        assert "BYPASSRLS" not in done.out + done.err
        assert done.code == 0 or name == "doctor"  # the test server is not durable
        assert "all were indexed" not in done.out  # the statistics are hidden as well


async def test_policies_of_an_administrator_count_as_well(direct_url: str, role: _Role) -> None:
    """Without FORCE they do not apply to the owner; those of other applications in the schema do not matter."""
    psql(
        direct_url, "CREATE TABLE agentstore.others (id int); ALTER TABLE agentstore.others ENABLE ROW LEVEL SECURITY;"
    )
    psql(direct_url, "GRANT SELECT ON ALL TABLES IN SCHEMA agentstore TO PUBLIC;")
    async with _open(role.url) as store:
        assert await store.users.list_users() == []
    psql(direct_url, "ALTER TABLE agentstore.users ENABLE ROW LEVEL SECURITY;")
    if role.is_owner:
        async with _open(role.url) as store:
            assert await store.users.list_users() == []
        await migrate.upgrade(role.url)
        return
    with pytest.raises(NotConfigured, match="BYPASSRLS"):
        async with _open(role.url):
            pass
    assert (await asyncio.to_thread(run, "doctor", "--url", role.url)).code == 1
    psql(direct_url, "ALTER TABLE agentstore.users FORCE ROW LEVEL SECURITY;")
    with pytest.raises(NotConfigured, match="BYPASSRLS"):
        await migrate.downgrade(role.url, "-1")


async def test_an_import_from_a_database_with_policies_is_refused(
    direct_url: str, other_url: str, role: _Role, observer: asyncpg.Connection
) -> None:
    """The tables of openai-agents, secured as a hosted Postgres does."""
    psql(
        direct_url,
        """
        CREATE TABLE agent_sessions (session_id text, created_at timestamp, updated_at timestamp);
        CREATE TABLE agent_messages (id serial, session_id text, message_data text, created_at timestamp);
        ALTER TABLE agent_sessions ENABLE ROW LEVEL SECURITY;
        ALTER TABLE agent_messages ENABLE ROW LEVEL SECURITY;
        GRANT SELECT ON agent_sessions, agent_messages TO PUBLIC;
    """,
    )
    done = await asyncio.to_thread(run, "import", "--from", "openai-agents", role.url, "--url", other_url)
    assert (done.code, done.out, "BYPASSRLS" in done.err) == (1, "", True), done
