"""Every public method under row-level security: each statement sets its user, or the call is refused.

The methods and their parameters are found in the classes, and each optional parameter is given once, so that a new one
cannot be forgotten: a parameter that no table below names fails the first test. The policies of these tests raise an
error where those of agentstore return no rows, so that a statement without its user fails on the server, whatever the
method makes of its rows. docs/security.md lists the methods that are refused.
"""

import asyncio
import inspect
import io
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from pydantic import SecretStr

from agentstore import (
    AgentStore,
    MemoryItem,
    NotConfigured,
    PostgresBlobService,
    PostgresCheckpointService,
    PostgresDocumentService,
    PostgresMemoryService,
    PostgresSandboxService,
    PostgresSessionHistoryService,
    PostgresStateService,
    PostgresUserService,
    ScopedValues,
    Session,
    Settings,
    StoredDocument,
    migrate,
)
from agentstore.interfaces import Service
from agentstore.operations.grants import grants
from agentstore.testing import text
from tests.integration.extraction.support import DUE, EchoExtractor
from tests.support.checkpoints import checkpoint_of, write_of
from tests.support.roles import with_role
from tests.support.servers import Server
from tests.support.vectors import WordEmbedder

pytestmark = pytest.mark.slow

_SETTINGS = Settings(
    row_level_security=True,
    sandbox_provider="unsafe_subprocess",
    sandbox_snapshots=True,
    session_ttl=1_000_000,
    memory_ttl=1_000_000,
    state_ttl=1_000_000,
)
_STRICT = """
CREATE FUNCTION public.require_user() RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    found text := nullif(current_setting('agentstore.user_id', true), '');
BEGIN
    IF found IS NULL THEN
        RAISE 'a statement without its user';
    END IF;
    RETURN substr(found, 2);
END
$$;
"""
_FAILED_EXTRACTIONS = """
INSERT INTO agentstore.memory_extractions
    (user_id, session_id, first_seq, last_seq, run_after, is_open, attempts, failed_at, error)
SELECT $1, session_id, 10, 10, now(), FALSE, 3, now(), 'x' FROM unnest(ARRAY['s', 's2']) session_id
"""

# The services by the attribute of the store; the store itself is "".
_CLASSES: dict[str, type[Any]] = {
    "sessions": PostgresSessionHistoryService,
    "memory": PostgresMemoryService,
    "states": PostgresStateService,
    "sandboxes": PostgresSandboxService,
    "users": PostgresUserService,
    "blobs": PostgresBlobService,
    "documents": PostgresDocumentService,
    "checkpoints": PostgresCheckpointService,
    "": AgentStore,
}
# The values of a parameter: of a required one the first is given in every call; of an optional one each in a call of
# its own. A function gets the id of the user.
_VALUES: dict[str, tuple[Any, ...]] = {
    "user_id": (lambda user: user,),
    "users": (lambda user: [user],),
    "session": (lambda user: Session(id="s", user_id=user),),
    "sessions": (lambda user: [Session(id="s", user_id=user), Session(id="t", user_id=user)],),
    "session_id": ("s",),
    "session_ids": (["s"],),
    "new_id": ("copy",),
    "message": (text("plums", id="9"), [text("apples", id="1"), text("plums", id="9")]),
    "messages": (text("apples", id="9"), text("aplpes", id="9"), text("quinces", id="9")),
    "ids": (["1", "9"],),
    "n": (2,),
    "after_seq": (1,),
    "before_seq": (2,),
    "leased": (True,),
    "on_unreadable": (lambda _: lambda error: None,),
    "interval": (0.1,),
    "max_tokens": (10,),
    "count": (lambda user: lambda message: 1,),
    "keep_system": (False,),
    "whole_calls": (True,),
    "create": (False,),
    "expected_seq": (2,),
    "expected": (text("apples", id="9"),),
    "metadata_patch": ({"a": 2},),
    "filters": (
        {"strategy": "full_text"},
        {"strategy": "vector"},
        {"strategy": "hybrid"},
        {"session_id": "s", "role": "user", "top_k": 1},
        {"session_id": ["s", "t"], "exclude_session_id": "t", "neighbors": False},
        {"namespace": "a", "metadata": {"a": 1}},
        {"kind": "fact", "order": "chronological"},
    ),
    "documents": (
        {"id": "d", "text": "likes plums", "namespace": "a/b"},
        [{"id": "d", "text": ""}, {"id": "new", "text": "eats", "metadata": {"a": 1}}],
    ),
    "stored": (
        lambda user: [
            StoredDocument(MemoryItem(id="i", text="x", kind="document"), datetime.now(UTC), datetime.now(UTC))
        ],
    ),
    "top_k": (3,),
    "offset": (1,),
    "strategy": ("vector", "hybrid"),
    "query": ("apples", "aplpes"),
    "times": ({"d": datetime(2090, 1, 1, tzinfo=UTC)},),
    "items": (MemoryItem(text="likes plums"), [MemoryItem(id="is", text="likes apples"), MemoryItem(text="eats")]),
    "supersedes": (["is"],),
    "kind": ("fact",),
    "namespace": ("a/b",),
    "with_invalid": (True,),
    "settled": (False,),
    "state": ({"a": 3},),
    "round_id": (2, 9),
    "expected_round": (2,),
    "a": (1,),
    "b": (2,),
    "at": (1, "1"),
    "keep": (False,),
    "exist_ok": (False,),
    "differences": ("keep",),
    "title": ("t",),
    "metadata": ({"a": 1},),
    "change": (lambda user: lambda metadata: {**metadata, "a": 1},),
    "ttl": (60,),
    "app": ("a",),
    "name": ("n",),
    "checkpoint": (checkpoint_of("2"),),
    "is_complete": (True,),
    "checkpoint_id": ("1",),
    "writes": ([write_of(1)],),
    "id": ("1",),
    "run_ids": (["r"],),
    "channels": (["c"],),
    "target_user_id": (lambda user: user,),
    "target_session_id": ("copy",),
    "data": (b"one", b"of another size"),
    "version": (0,),
    "prefix": ("n",),
    "content_type": ("text/plain",),
    "filename": ("n.txt",),
    "scope": ("app", "user"),
    "values": (
        ScopedValues({"a": 1}, {"u": 1}),
        ScopedValues({"a": None}, {"u": None}),
        ScopedValues(user={"u": 1}),
    ),
    "since": ("2026-01-01",),
    "until": ("2026-01-01",),
    "order": ("created",),
    "idle": (10,),
    "limit": (1,),
    "before": ("2",),
    "through": ("2",),
    "message_id": ("2",),
    # Called with the user, they return the functions.
    "only_if": (lambda _: dict, lambda _: lambda _: True),
    "batch": (1,),
    "sandbox_types": (["base"],),
    "snapshot": (False,),
    "older_than": (timedelta(0),),
    "keep_last": (1,),
    "keep_sessions": (1,),
    "keep_memories": (1,),
    "keep_states": (1,),
    "max_time": (timedelta(hours=1),),
    "pause": (timedelta(milliseconds=1),),
    "dry_run": (True,),
    "largest": (1,),
    "without_vectors": (True,),
    "only_users": (lambda user: [user],),
    "stale_ok": (True,),
}
_NEXT_PAGE = {"cursor": "of the next page"}
# Of methods whose parameter accepts other values than those above.
_SPECIAL: dict[tuple[str, str], tuple[Any, ...]] = {
    ("list_memory", "filters"): (
        {"page_size": 1},
        {"page_size": 1, "page_num": 2},
        _NEXT_PAGE,
        {"session_id": "s", "exclude_session_id": ["t"]},
        {"namespace": "a", "session_id": "s"},
    ),
    ("import_session", "session"): (lambda user: Session(id="new", user_id=user, messages=[text("plums", id="9")]),),
    ("import_state", "round_id"): (9, 2),
    ("create_session", "exist_ok"): (True,),
    ("append", "values"): (ScopedValues({"a": 1}, {"u": 1}, {"s": 1}),),
    ("create_session", "messages"): (False,),
    ("replace_message", "message"): (text("plums", id="1"),),
    ("replace_message", "expected"): (text("apples", id="1"),),
}
# `cursor` is that of a first page, which is read first; `file` is an export for `restore`, otherwise empty; the others
# change nothing in what is executed.
_OTHER = {"self", "cursor", "file", "progress", "tick"}
_USERS = ("user_id", "users")


@dataclass(frozen=True)
class _Call:
    """A call of a method: with its required parameters, with the user if `names_user`, and with one `parameter`."""

    service: str
    method: str
    names_user: bool
    parameter: str = ""
    value: Any = None

    @property
    def is_refused(self) -> bool:
        """Whether the call concerns all users. A dry run of a restore executes nothing."""
        return self.method in _listed() and not self.names_user and (self.method, self.parameter) != _DRY_RESTORE

    def __str__(self) -> str:
        given = [name for name in ("user" if self.names_user else "", self.parameter) if name]
        return f"{self.service or 'store'}.{self.method}({', '.join(given)})"


_DRY_RESTORE = ("restore", "dry_run")


@cache
def _listed() -> set[str]:
    """Return the methods that docs/security.md lists as refused without a user."""
    page = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    listed = re.search(r"Calls that concern several users \((.*?)\)", page, re.DOTALL)
    assert listed is not None
    return set(re.findall(r"`(\w+)`", listed[1]))


def _methods() -> Iterator[tuple[str, str, dict[str, inspect.Parameter]]]:
    """Yield the public methods of all services, without those of their lifecycle, and their parameters."""
    for service, cls in _CLASSES.items():
        for name, method in inspect.getmembers(cls, inspect.isfunction):
            is_async = inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)
            if is_async and not name.startswith("_") and not hasattr(Service, name):
                yield service, name, dict(inspect.signature(method).parameters)


def _values(method: str, parameter: str) -> tuple[Any, ...]:
    return _SPECIAL.get((method, parameter)) or _VALUES.get(parameter, ())


def _calls() -> Iterator[_Call]:
    for service, method, parameters in _methods():
        required = {name for name, each in parameters.items() if each.default is each.empty}
        is_about_user = bool(required & {*_USERS, "session", "sessions"})
        for names_user in [True] if is_about_user else [False, True] if parameters.keys() & set(_USERS) else [False]:
            yield _Call(service, method, names_user)
            for name in (each for each in parameters if each not in _USERS):
                for value in _values(method, name)[name in required :]:
                    yield _Call(service, method, names_user, name, value)
            if "cursor" in parameters:
                yield _Call(service, method, names_user, "cursor")


_CALLS = list(_calls())


def test_every_parameter_has_a_value() -> None:
    for service, method, parameters in _methods():
        unknown = parameters.keys() - _VALUES.keys() - _OTHER
        assert not unknown, f"{service}.{method}: name {unknown} in a table of this file"


def test_the_documentation_lists_only_methods() -> None:
    assert _listed() <= {method for _, method, _ in _methods()}


@pytest.fixture(scope="module")
def urls(server: Server, template: str, has_pgvector: bool) -> Iterator[tuple[str, str]]:
    """The URL of a database with strict policies, for a role of the application and for a superuser."""
    name = f"{template}_strict"
    role = f"agentstore_scope_{uuid4().hex[:8]}"
    url = server.url_of(name)

    async def create() -> None:
        await server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        if has_pgvector:
            await migrate.enable_vectors(url)
        await migrate.enable_row_security(url)
        connection = await asyncpg.connect(url)
        await connection.execute(_STRICT)
        for table in await connection.fetch("SELECT tablename FROM pg_policies WHERE policyname = 'agentstore_user'"):
            if table[0] == "app_values":  # which belong to no user
                continue
            owner = "id" if table[0] == "users" else "user_id"
            condition = f"({owner} = public.require_user())"
            await connection.execute(
                f"ALTER POLICY agentstore_user ON agentstore.{table[0]} USING {condition} WITH CHECK {condition}"
            )
        await connection.execute(f"CREATE ROLE {role}")
        for statement in grants(app=role):
            await connection.execute(statement)
        await connection.close()

    asyncio.run(create())
    yield with_role(url, role), url
    asyncio.run(server.execute(f'DROP DATABASE "{name}" WITH (FORCE)'))
    asyncio.run(server.execute(f"DROP ROLE {role}"))


@pytest_asyncio.fixture(loop_scope="module")
async def store(urls: tuple[str, str]) -> AsyncIterator[AgentStore]:
    """A store with a role of the application, an embedder and an extractor, and itself as its replica."""
    settings = _SETTINGS.model_copy(update={"read_url": SecretStr(urls[0])})
    async with AgentStore(urls[0], settings=settings, embedder=WordEmbedder(), extractor=EchoExtractor()) as opened:
        yield opened
        replica = opened._database.replica
        assert replica is not None
        assert not replica.is_failing


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def admin(urls: tuple[str, str]) -> AsyncIterator[AgentStore]:
    """A store that sees all users."""
    async with AgentStore(urls[1], embedder=WordEmbedder(), extractor=EchoExtractor()) as opened:
        yield opened


async def _fill(admin: AgentStore, observer: asyncpg.Connection, user: str) -> None:
    """Store rows of a user in each table except those of sandboxes."""
    for id in ("s", "s2"):
        session = await admin.sessions.create_session(user, id)
        await admin.sessions.append_message(session, [text("apples", id="1"), text("pears", id="2")])
        await admin.memory.add_memory(user, session.messages, id)
        await admin.memory.save_items(user, MemoryItem(id=f"i{id}", text="likes apples"))
    document = {"id": "d", "text": "likes apples", "namespace": "a/b", "valid_until": datetime(2080, 1, 1, tzinfo=UTC)}
    await admin.documents.put(user, [document, {"id": "1", "text": ""}])
    for session_id in (None, "s"):
        for number in (1, 2):
            await admin.states.save_state(user, {"a": number}, session_id)
    for name in ("n", "n", "m"):
        await admin.blobs.put(user, name, b"one", "s")
        await admin.blobs.put(user, name, b"one")
        await admin.blobs.put(user, name, b"one", app="a")
    for session_id in ("s", "s2"):
        for id, parent in (("1", None), ("2", "1")):
            await admin.checkpoints.put(user, session_id, checkpoint_of(id, parent_id=parent))
        await admin.checkpoints.put_writes(user, session_id, "", "1", [write_of()])
    await admin.states.merge_values(user, "s", values=ScopedValues({"a": 1}, {"u": 1}, {"s": 1}))
    await observer.execute(_FAILED_EXTRACTIONS, user)
    await observer.execute(DUE)


async def _use_sandboxes(store: AgentStore, user: str) -> None:
    """Store a workspace in each of two sessions, and leave a sandbox running."""
    for id in ("s", "s2"):
        (sandbox,) = await store.sandboxes.connect(id, user)
        await sandbox.write_file("of", user)
        await store.sandboxes.release(id, user)
        await store.sandboxes.connect(id, user)


async def _rows(observer: asyncpg.Connection) -> dict[str, list[asyncpg.Record]]:
    """Return all rows of all tables, as texts."""
    tables = await observer.fetch("SELECT tablename FROM pg_policies WHERE policyname = 'agentstore_user'")
    return {name: await observer.fetch(f"SELECT t::text FROM agentstore.{name} t ORDER BY 1") for (name,) in tables}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def observer(urls: tuple[str, str]) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(urls[1])
    yield connection
    await connection.close()


async def _execute(store: AgentStore, call: _Call, arguments: dict[str, Any]) -> Any:
    result = getattr(getattr(store, call.service) if call.service else store, call.method)(**arguments)
    if call.method == "follow":  # which has no end
        async with aclosing(result):
            return [await anext(result)]
    return [each async for each in result] if inspect.isasyncgen(result) else await result


async def _arguments(admin: AgentStore, call: _Call, user: str) -> dict[str, Any]:
    """Return the arguments of a call about a user; if it is about all users, of the same call without the user."""
    parameters = dict(inspect.signature(getattr(_CLASSES[call.service], call.method)).parameters)
    arguments = {}
    for name, parameter in parameters.items():
        if name == call.parameter and name != "cursor":
            arguments[name] = call.value
        elif (name in _USERS and call.names_user) or (parameter.default is parameter.empty and name in _VALUES):
            arguments[name] = _values(call.method, name)[0]
    arguments = {name: each(user) if inspect.isfunction(each) else each for name, each in arguments.items()}
    if "file" in parameters:
        arguments["file"] = file = io.BytesIO()
        if call.method == "restore":
            await admin.export(file, [user])
    if call.parameter == "cursor" or arguments.get("filters") == _NEXT_PAGE:
        first = {**arguments, "filters": {"page_size": 1}} if "filters" in arguments else {**arguments, "limit": 1}
        cursor = (await _execute(admin, call, first)).next_cursor
        assert cursor is not None
        arguments |= {"filters": {"cursor": cursor}} if "filters" in arguments else {"cursor": cursor}
    return arguments


def _needs_vectors(call: _Call) -> bool:
    strategies = ("vector", "hybrid")
    return call.method == "embed" or call.value in (*strategies, *({"strategy": each} for each in strategies))


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("call", _CALLS, ids=map(str, _CALLS))
async def test_every_statement_sets_its_user_or_the_call_is_refused(
    store: AgentStore,
    admin: AgentStore,
    observer: asyncpg.Connection,
    caplog: pytest.LogCaptureFixture,
    has_pgvector: bool,
    call: _Call,
) -> None:
    # Without a user, sandboxes are those of the user "".
    user = uuid4().hex if call.names_user or call.is_refused else ""
    if call.service == "sandboxes":
        await _use_sandboxes(store, user)
    else:
        await _fill(admin, observer, user)
    arguments = await _arguments(admin, call, user)
    if call.is_refused:
        before = await _rows(observer)
        with pytest.raises(NotConfigured, match="BYPASSRLS"):
            await _execute(store, call, arguments)
        assert await _rows(observer) == before
    elif not has_pgvector and _needs_vectors(call):
        with pytest.raises(NotConfigured, match="vector enable"):
            await _execute(store, call, arguments)
    else:
        await _execute(store, call, arguments)
    await store.stop()  # ends what runs in the background, whose errors are logged
    assert not re.search("without its user|BYPASSRLS", caplog.text)


@pytest.mark.asyncio(loop_scope="module")
async def test_the_policies_of_these_tests_detect_a_statement_without_its_user(
    store: AgentStore, admin: AgentStore, observer: asyncpg.Connection, urls: tuple[str, str]
) -> None:
    await _fill(admin, observer, "alice")
    await _use_sandboxes(store, "alice")
    connection = await asyncpg.connect(urls[0])
    for table, rows in (await _rows(observer)).items():
        assert rows, f"{table} has no rows"
        if table == "app_values":
            continue
        with pytest.raises(asyncpg.RaiseError, match="without its user"):
            await connection.fetch(f"SELECT * FROM agentstore.{table}")
    await connection.close()
