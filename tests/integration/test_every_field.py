"""Each field of each public schema survives every path that a value can take.

A sample of a schema has a value other than the default in every field. It is built from the annotations, so it has new
fields without an edit here. What each path returns is compared with the sample field by field: if a statement, an
export or the in-memory implementation omits a column, the failure names the field and the path.
"""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import asyncpg
import pytest
from pydantic import BaseModel

from agentstore import (
    AgentStore,
    Blob,
    InMemoryMemoryService,
    InMemorySandboxService,
    InMemorySessionHistoryService,
    InMemoryStateService,
    InvalidContent,
    MemoryItem,
    MemoryService,
    Message,
    SandboxInfo,
    SandboxService,
    ScopedValues,
    Session,
    SessionHistoryService,
    Settings,
    StateRound,
    StateService,
    User,
    schemas,
)
from agentstore.adapters import agentscope_runtime
from agentstore.models import Base
from agentstore.repositories import PostgresSandboxService, PostgresSessionHistoryService
from agentstore.sandbox.unsafe_subprocess import UnsafeSubprocessProvider
from agentstore.schemas.checkpoint import Checkpoint, CheckpointWrite, Serialized
from agentstore.schemas.imports import check_import
from tests.support.cli import run

_TIME = datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
_USER, _ID = "alice", "s1"
_DOCUMENT = "a document"

# Fields that accept fewer values than their annotations.
_SPECIAL: dict[tuple[str, str], Any] = {
    ("Session", "id"): _ID,
    ("Session", "user_id"): _USER,
    ("Session", "created_at"): datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    ("Session", "ttl"): 2_000_000_000,
    ("MemoryItem", "kind"): "preference",
    ("MemoryItem", "importance"): 0.75,
    ("MemoryItem", "valid_until"): datetime(2150, 1, 1, tzinfo=UTC),
    ("User", "id"): _USER,
}


def value_of(annotation: Any, name: str) -> Any:
    """Return a value of this type that is no default and, where possible, contains the name of its field."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return value_of(arguments[0], name)
    if origin in (Union, UnionType):
        return value_of(next(each for each in arguments if each is not type(None)), name)
    if origin is Literal:
        return arguments[-1]
    if origin is dict or annotation is dict:
        return {"z": name, "a": [1, None, {"Δ": "\0"}]}
    if origin is list:
        item = get_args(arguments[0])[0] if hasattr(arguments[0], "__metadata__") else arguments[0]
        kinds = get_args(item) if get_origin(item) in (Union, UnionType) else (item,)
        return [value_of(kind, f"{name}[{number}]") for number, kind in enumerate(kinds)]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return sample_of(annotation)
    simple: dict[Any, Any] = {str: f"the {name}", int: 7, float: 0.25, bool: True, datetime: _TIME}
    if annotation not in simple:
        raise AssertionError(f"{name}: add a sample for values of type {annotation} to {__file__}")
    return simple[annotation]


def sample_of(schema: type[BaseModel], **overrides: Any) -> Any:
    """Return an instance in which every field has a value other than its default."""
    values = dict(overrides)
    for name, info in schema.model_fields.items():
        if name in overrides:
            continue
        special = (schema.__name__, name)
        values[name] = _SPECIAL[special] if special in _SPECIAL else value_of(info.annotation, name)
        fixed = get_origin(info.annotation) is Literal and len(set(get_args(info.annotation))) == 1
        if not fixed and not info.is_required():
            default = info.get_default(call_default_factory=True)
            assert values[name] != default, f"{schema.__name__}.{name}: its sample is its default"
    return schema.model_validate(values)


def message_of(id: str, **overrides: Any) -> Message:
    """Return a message with every field, a part of each kind with every field, and a field of a later release."""
    message: Message = sample_of(Message, id=id, role="user", **overrides)
    return Message.model_validate({**message.model_dump(), "field_of_a_later_release": {"x": [1]}})


def compare(path: str, expected: Any, found: Any, *, changed: frozenset[str] = frozenset()) -> None:
    """Assert that two values of a schema are equal, except for the fields that this path changes by design."""
    assert type(found) is type(expected), path
    names = [each.name for each in fields(expected)] if is_dataclass(expected) else list(type(expected).model_fields)
    for name in names:
        if name not in changed:
            assert getattr(found, name) == getattr(expected, name), f"{path} loses {type(expected).__name__}.{name}"
    if isinstance(expected, BaseModel) and expected.model_extra is not None:
        assert found.model_extra == expected.model_extra, f"{path} loses a field of a later release"


def compare_messages(path: str, expected: list[Message], found: list[Message]) -> None:
    assert [each.id for each in found] == [each.id for each in expected], path
    for expected_message, message in zip(expected, found, strict=True):
        compare(path, expected_message, message)


STORED = {Message, Session, MemoryItem, User, StateRound, SandboxInfo, Blob}
# Results and arguments of calls, which are not stored as such.
_NOT_STORED = {
    *(
        "Appended",
        "Deleted",
        "Extracted",
        "Extraction",
        "FailedExtraction",
        "Imported",
        "MemoryHit",
        "Page",
        "PendingExtraction",
        "Pruned",
    ),
    *("Stats", "PoolStats", "SessionStats", "TableStats", "UserStats", "StoredMessages"),
    *("SandboxLimits", "SandboxSpec", "ToolResult", "SearchFilters", "ListFilters"),
    "ScopedValues",  # each value by itself
    "StoredDocument",  # an item and its times
    *("Embedder", "QuestionEmbedder", "Reranker", "SearchStrategy", "ContentType", "MessageType", "Role", "RunStatus"),
    # Parts of a Message: value_of() creates one of each.
    *("AudioContent", "DataContent", "Error", "FileContent", "ImageContent", "RefusalContent", "TextContent"),
}


def test_each_public_schema_is_listed_as_stored_or_not_stored() -> None:
    found = {name for name in schemas.__all__ if isinstance(getattr(schemas, name), type)}
    assert found == {each.__name__ for each in STORED} | _NOT_STORED, "list the new schema in STORED or in _NOT_STORED"
    parts = {type(part).__name__ for part in message_of("m").content or ()}
    assert parts == {name for name in _NOT_STORED if name.endswith("Content")}


# Fields of a session that are not parameters of create_session: assigned by the service, or set by the named method.
_ASSIGNED = {"id", "user_id", "messages", "message_count", "created_at", "updated_at", "forked_from", "forked_at"}
_SETTERS: dict[str, str] = {}
_FORKED = frozenset({"id", "created_at", "updated_at", "forked_from", "forked_at", "messages", "message_count"})
_REWOUND = frozenset({"updated_at", "messages", "message_count"})


async def _create_sample(service: SessionHistoryService) -> Session:
    """Create a session with every field that a caller can set, and append messages."""
    sample = sample_of(Session, messages=[])
    arguments = {name: getattr(sample, name) for name in Session.model_fields if name not in _ASSIGNED}
    later = {name: arguments.pop(name) for name in _SETTERS if name in arguments}
    try:
        created = await service.create_session(_USER, _ID, **arguments)
    except TypeError as error:
        raise AssertionError(f"{error}: add it to create_session, or its setter to _SETTERS") from error
    compare("create_session", sample, created, changed=frozenset(_ASSIGNED | set(_SETTERS)))
    for name, value in later.items():
        await getattr(service, _SETTERS[name])(_USER, _ID, value)
        setattr(created, name, value)  # as stored now: the method returns no session
    for number in range(4):
        await service.append_message(created, message_of(f"m{number}"))
    return created


@pytest.fixture(params=["in memory", "Postgres"])
async def sessions(
    request: pytest.FixtureRequest, database_url: str, settings: Settings
) -> AsyncIterator[SessionHistoryService]:
    if request.param == "Postgres":
        async with PostgresSessionHistoryService(database_url, settings=settings) as service:
            yield service
    else:
        async with InMemorySessionHistoryService() as service:
            yield service


async def test_a_session_keeps_every_field_in_each_call(sessions: SessionHistoryService) -> None:
    created = await _create_sample(sessions)
    stored = await sessions.get_session(_USER, _ID)
    assert stored is not None
    compare("get_session", created, stored)
    part = await sessions.get_session(_USER, _ID, limit=2)
    assert part is not None
    compare("get_session(limit)", created, part, changed=frozenset({"messages"}))
    compare("create_session of an existing one", stored, await sessions.create_session(_USER, _ID))
    part = await sessions.get_session(_USER, _ID, before="m2")
    assert part is not None
    compare("get_session(before)", created, part, changed=frozenset({"messages"}))
    (listed,) = await sessions.list_sessions(_USER)
    compare("list_sessions", created, listed, changed=frozenset({"messages"}))
    (listed,) = await sessions.list_sessions(_USER, limit=1)
    compare("list_sessions(limit)", created, listed, changed=frozenset({"messages"}))
    fork = await sessions.fork_session(_USER, _ID, at="m2", new_id="fork")
    compare("fork_session", created, fork, changed=_FORKED)
    fork_again = await sessions.get_session(_USER, "fork")
    assert fork_again is not None
    compare("get_session of a fork", fork, fork_again)
    fork_of_fork = await sessions.fork_session(_USER, "fork", new_id="again")
    compare("fork_session of a fork", fork, fork_of_fork, changed=_FORKED)
    rewound = await sessions.rewind_session(_USER, _ID, "m1", new_id="before")
    compare("rewind_session", created, rewound, changed=_REWOUND)
    before = await sessions.get_session(_USER, "before")
    assert before is not None
    compare("rewind_session(keep)", created, before, changed=_FORKED)
    await sessions.append_message(rewound, message_of("later"))
    appended = await sessions.get_session(_USER, _ID)
    assert appended is not None
    compare("append_message", rewound, appended)


async def test_a_message_keeps_every_field_in_each_call(sessions: SessionHistoryService) -> None:
    await _create_sample(sessions)
    expected = [message_of(f"m{number}") for number in range(4)]
    session = await sessions.get_session(_USER, _ID)
    assert session is not None
    compare_messages("get_session", expected, session.messages)
    stored = await sessions.read_messages(_USER, _ID)
    assert stored is not None
    compare_messages("read_messages", expected, list(stored))
    compare_messages("read_messages().models()", expected, stored.models())
    compare_messages("read_messages().dicts()", expected, [Message.model_validate(each) for each in stored.dicts()])
    compare_messages(
        "read_messages().json()", expected, [Message.model_validate(each) for each in json.loads(stored.json())]
    )
    compare_messages("iter_messages", expected, [each async for each in sessions.iter_messages(_USER, _ID)])
    await sessions.append_message(Session(id=_ID, user_id=_USER), [each.model_dump() for each in expected])
    fork = await sessions.fork_session(_USER, _ID, new_id="fork")
    compare_messages("fork_session", expected, fork.messages)
    rewound = await sessions.rewind_session(_USER, _ID, "m1", new_id="before")
    compare_messages("rewind_session", expected[:2], rewound.messages)
    before = await sessions.get_session(_USER, "before")
    assert before is not None
    compare_messages("rewind_session(keep)", expected[2:], before.messages)


async def _import_sample(store: AgentStore) -> Session:
    """Store a session with every field, including timestamps and lineage, by import_session."""
    sample: Session = sample_of(Session, messages=[message_of("m1"), message_of("m2")], message_count=2)
    await store.sessions.import_session(sample)
    stored = await store.sessions.get_session(_USER, _ID)
    assert stored is not None
    compare("import_session", sample, stored)
    return stored


async def test_an_import_keeps_every_field(store: AgentStore) -> None:
    await _import_sample(store)


_INVALID: dict[Any, Any] = {str: "\0", int: -1, datetime: datetime(2024, 5, 6), dict: {"x": float("nan")}}


async def test_a_dry_run_checks_every_field_that_an_import_checks(store: AgentStore) -> None:
    """With a naive timestamp, a negative number, a text with NUL, and NaN."""
    sample: Session = sample_of(Session, messages=[])
    check_import(sample, Settings())
    for name, info in Session.model_fields.items():
        kinds = {get_origin(each) or each for each in (info.annotation, *get_args(info.annotation))}
        for kind in kinds & _INVALID.keys() if name != "message_count" else ():  # counted, not stored
            wrong = sample.model_copy(update={name: _INVALID[kind]})
            with pytest.raises(InvalidContent):
                await store.sessions.import_session(wrong)
            try:
                check_import(wrong, Settings())
            except InvalidContent:
                continue
            raise AssertionError(f"a dry run accepts a Session.{name} that an import rejects")


def test_a_session_keeps_every_field_through_the_command_line(direct_url: str, empty_url: str, tmp_path: Path) -> None:
    """Exported by ``sessions export``, and imported into another database."""

    async def fill() -> Session:
        async with AgentStore(direct_url) as store:
            return await _import_sample(store)

    async def read() -> Session | None:
        async with AgentStore(empty_url) as store:
            return await store.sessions.get_session(_USER, _ID)

    stored = asyncio.run(fill())
    file = tmp_path / "alice.jsonl"
    assert run("sessions", "export", _USER, "-o", str(file), "--url", direct_url).code == 0
    assert run("upgrade", "--url", empty_url).code == 0
    assert run("import", str(file), "--url", empty_url).code == 0
    found = asyncio.run(read())
    assert found is not None
    compare("sessions export and import", stored, found)
    printed = run("sessions", "list", _USER, "--json", "--url", direct_url).json()
    missing = Session.model_fields.keys() - {"messages"} - json.loads(json.dumps(printed))["sessions"][0].keys()
    assert not missing, f"sessions list --json loses {missing}"
    for command in (("show", _USER, _ID), ("fork", _USER, _ID, "--new-id", "copy")):
        printed = run("sessions", *command, "--json", "--url", direct_url).json()
        missing = Session.model_fields.keys() - {"messages"} - printed.keys()
        assert not missing, f"sessions {command[0]} --json loses {missing}"


async def _read_all(store: AgentStore) -> dict[str, Any]:
    """Return one stored value of each kind, from the calls that read them."""
    session = await store.sessions.get_session(_USER, _ID)
    (item,) = await store.memory.list_items(_USER, kind=sample_of(MemoryItem).kind)
    (round_,) = await store.states.list_states(_USER, _ID)
    user = await store.users.get_user(_USER)
    memories = await store.memory.list_memory(_USER, {"page_size": 100})
    state = await store.states.export_state(_USER, _ID)
    blob = await store.blobs.get(_USER, "a blob", app="an app")
    checkpoint = await store.checkpoints.get(_USER, _ID, "a namespace")
    (info,) = await store.checkpoints.list(_USER, _ID)
    values = await store.states.get_values(_USER, _ID, app="an app")
    documents = list((await store.documents.get(_USER, [_DOCUMENT])).values())
    found = {
        "session": session,
        "item": item,
        "documents": documents,
        "round": round_,
        "user": user,
        "memories": memories,
        "state": state,
    }
    return {**found, "values": values, "blob": blob, "checkpoint": checkpoint, "info": info}


def _sample_checkpoint() -> Checkpoint:
    """Return a checkpoint with a value in each field, other than its default."""
    return Checkpoint(
        namespace="a namespace",
        id="an id",
        body=Serialized("a", b"\0" * 1_000),
        metadata=Serialized("b", b"\xff"),
        parent_id="a parent",
        run_id="a run",
        versions={'a, "b\\': "7", "c": f"{5:032}.0.25"},
        values={"c": Serialized("c", b"\1")},
        deltas=('a, "b\\',),
        writes=[CheckpointWrite("a task", -3, "a channel", Serialized("d", b"\2" * 300), "a path")],
    )


def test_the_sample_of_a_checkpoint_has_each_field() -> None:
    sample = _sample_checkpoint()
    assert all(getattr(sample, each.name) for each in fields(sample))
    assert all(all(write) for write in sample.writes)


async def test_everything_keeps_every_field_through_an_export_and_a_restore(store: AgentStore, other_url: str) -> None:
    await _import_sample(store)
    await store.users.set_metadata(_USER, sample_of(User).metadata)
    await store.memory.add_memory(_USER, [message_of("m1")], _ID)
    await store.memory.save_items(_USER, sample_of(MemoryItem), session_id=_ID)
    await store.documents.put(_USER, _document())
    await store.states.save_state(_USER, {"x": "\0"}, _ID, 7, metadata=value_of(dict, "metadata"))
    sample: Blob = sample_of(Blob, user_id=_USER, name="a blob", app="an app", session_id="default")
    about = {name: getattr(sample, name) for name in ("content_type", "filename", "metadata")}
    await store.blobs.put(_USER, "a blob", b"x", app="an app", **about)
    checkpoint = _sample_checkpoint()
    await store.checkpoints.put(_USER, _ID, checkpoint, is_complete=True)
    await store.checkpoints.put_writes(_USER, _ID, checkpoint.namespace, checkpoint.id, checkpoint.writes)
    scope = value_of(dict, "values")
    await store.states.merge_values(_USER, _ID, values=ScopedValues(scope, scope, scope), app="an app")
    before = await _read_all(store)
    compare("put and get", sample, before["blob"], changed=frozenset({"version", "size", "sha256", "saved_at"}))
    assert before["checkpoint"] == checkpoint
    compare("values", ScopedValues(scope, scope, scope), before["values"])
    compare("get_user", sample_of(User), before["user"], changed=frozenset({"created_at"}))
    compare("list_users", before["user"], (await store.users.list_users())[0])
    file = io.BytesIO()
    await store.export(file)
    file.seek(0)
    async with AgentStore(other_url) as other:
        await other.restore(file)
        after = await _read_all(other)
    for name in ("session", "item", "round", "user", "blob"):
        compare("export and restore", before[name], after[name])
    for name in ("checkpoint", "info"):
        assert before[name] == after[name]
    compare_messages("export and restore", list(before["memories"]), list(after["memories"]))
    assert (after["state"], after["values"]) == (before["state"], before["values"])


# Fields of a session that a restore does not compare, since normal use changes them.
_CHANGED_BY_USE = {"messages", "message_count", "updated_at"}


async def test_a_restore_to_existing_users_keeps_or_reports_every_field(store: AgentStore, other_url: str) -> None:
    """A missing session is inserted with every field; an existing one that differs in any field is reported."""
    stored = await _import_sample(store)
    file = io.BytesIO()
    await store.export(file)
    async with AgentStore(other_url) as other:
        await other.sessions.create_session(_USER, "another")
        file.seek(0)
        left = (await other.restore(file)).left
        assert left == [], "a merge loses something of a session"
        merged = await other.sessions.get_session(_USER, _ID)
        assert merged is not None
        compare("restore to an existing user", stored, merged)
        bare = Session(id=_ID, user_id=_USER, messages=stored.messages, created_at=_TIME).model_dump()
        for name in Session.model_fields.keys() - _CHANGED_BY_USE - {"id", "user_id"}:
            await other.sessions.delete_session(_USER, _ID)
            await other.sessions.import_session(stored.model_copy(update={name: bare[name]}))
            file.seek(0)
            left = (await other.restore(file)).left
            assert left == [("sessions", _USER, _ID)], f"a restore does not report a different Session.{name}"


async def test_a_fork_copies_every_column(store: AgentStore, observer: asyncpg.Connection) -> None:
    """Including columns that no public schema has."""
    await _import_sample(store)
    for state in ({"x": 1}, {"large": "x" * 100_000}):  # the second is stored in another column, compressed
        await store.states.save_state(_USER, state, _ID, metadata={"y": 2})
    await store.states.merge_values(_USER, _ID, values=ScopedValues(session={"a": 1, "b": {"x": "\0"}}))
    await store.sessions.append(_USER, _ID, [message_of("m3"), message_of("m4")])
    await store.sessions.delete_messages(_USER, _ID, ["m3"])
    changed_columns = {
        "sessions": {"id", "created_at", "updated_at", "listed_at", "forked_from", "forked_at"},
        "messages": {"session_id"},
        "state_heads": {"session_id", "updated_at"},
        "state_rounds": {"session_id"},
        "session_values": {"session_id"},
    }
    for table, changed in changed_columns.items():
        for column in Base.metadata.tables[table].columns:
            if column.name in changed or column.primary_key or column.foreign_keys:
                continue
            default = column.server_default.arg if column.server_default is not None else "NULL"  # type: ignore[attr-defined]
            where = f'"{column.name}"::text IS DISTINCT FROM ({default})::text'
            filled = await observer.fetchval(f"SELECT count(*) FROM agentstore.{table} WHERE {where}")
            assert filled, f"give {table}.{column.name} a value other than its default here, before the fork"
    await store.sessions.fork_session(_USER, _ID, new_id="fork")
    for table, changed in changed_columns.items():
        columns = [column.name for column in Base.metadata.tables[table].columns if column.name not in changed]
        key = "id" if table == "sessions" else "session_id"
        listed = ", ".join(f'"{name}"::text' for name in columns)
        sql = f"SELECT {listed} FROM agentstore.{table} WHERE user_id = $1 AND {key} = $2 ORDER BY 1, 2, 3"
        source, fork = [await observer.fetch(sql, _USER, id) for id in (_ID, "fork")]
        assert source, table
        for source_row, fork_row in zip(source, fork, strict=True):
            for name in columns:
                assert source_row[name] == fork_row[name], f"fork_session loses {table}.{name}"


@pytest.fixture(params=["in memory", "Postgres"])
async def memory(request: pytest.FixtureRequest, store: AgentStore) -> AsyncIterator[Any]:
    if request.param == "Postgres":
        yield store.memory
    else:
        async with InMemoryMemoryService() as service:
            yield service


async def test_a_memory_keeps_every_field(memory: MemoryService) -> None:
    message = message_of("m1")
    await memory.add_memory(_USER, [message], _ID)
    compare_messages("list_memory", [message], list(await memory.list_memory(_USER)))
    compare_messages("search_memory", [message], await memory.search_memory(_USER, [message]))


async def test_an_item_keeps_every_field(memory: Any) -> None:
    item: MemoryItem = sample_of(MemoryItem)
    await memory.save_items(_USER, item, session_id=_ID)
    (listed,) = await memory.list_items(_USER)
    compare("list_items", item, listed)
    hits = await memory.search(_USER, item.text, {"valid_at": datetime(2100, 1, 1, tzinfo=UTC)})
    compare("search", item, hits[0].item)
    await memory.save_items(_USER, item.model_copy(update={"text": "another text"}), session_id=_ID)
    (again,) = await memory.list_items(_USER)
    compare("save_items of an existing one", item, again, changed=frozenset({"text"}))


def _document() -> MemoryItem:
    """Return an item with a value in each field that a document has, under an id that no session has."""
    document: MemoryItem = sample_of(MemoryItem, id=_DOCUMENT, kind="document", valid_from=None)
    return document


async def test_a_document_keeps_every_field(store: AgentStore) -> None:
    for each in (store, AgentStore.in_memory()):
        for text in ("a text", "another text"):
            document = _document().model_copy(update={"text": text})
            await each.documents.put(_USER, document)
            compare("get", document, (await each.documents.get(_USER, [_DOCUMENT]))[_DOCUMENT].item)
            (listed,) = await each.documents.list(_USER)
            compare("list", document, listed.item)
            ((found, _),) = await each.documents.search(_USER, text)
            assert found == listed


@pytest.fixture(params=["in memory", "Postgres"])
async def states(request: pytest.FixtureRequest, store: AgentStore) -> AsyncIterator[StateService]:
    if request.param == "Postgres":
        yield store.states
    else:
        async with InMemoryStateService() as service:
            yield service


async def test_a_state_round_keeps_every_field(states: StateService) -> None:
    metadata = value_of(dict, "metadata")
    await states.save_state(_USER, {"x": 1}, _ID, 7, metadata=metadata)
    (first,) = await states.list_states(_USER, _ID)
    expected = StateRound(round_id=7, size=first.size, saved_at=first.saved_at, metadata=metadata)
    compare("list_states", expected, first)
    new = StateRound.model_fields.keys() - {"round_id", "size", "saved_at", "metadata"}
    assert not new, f"save_state and list_states lose StateRound.{new}, unless it is set and compared here, too"
    await states.save_state(_USER, {"x": 1}, _ID, 7, metadata=metadata)
    (again,) = await states.list_states(_USER, _ID)
    compare("save_state of an existing round", first, again, changed=frozenset({"saved_at"}))


async def test_a_fork_keeps_every_field_of_a_state_round(store: AgentStore) -> None:
    in_memory_states = InMemoryStateService()
    for sessions, states in (
        (store.sessions, store.states),
        (InMemorySessionHistoryService(states=in_memory_states), in_memory_states),
    ):
        await sessions.start()
        await states.start()
        await _create_sample(sessions)
        await states.save_state(_USER, {"x": 1}, _ID, 7, metadata=value_of(dict, "metadata"))
        await sessions.fork_session(_USER, _ID, new_id="fork")
        (source,) = await states.list_states(_USER, _ID)
        (copy,) = await states.list_states(_USER, "fork")
        compare("fork_session", source, copy)


async def test_the_adapter_of_the_runtime_keeps_every_field(database_url: str, settings: Settings) -> None:
    history = agentscope_runtime.PostgresSessionHistoryService(database_url, settings=settings)
    memory = agentscope_runtime.PostgresMemoryService(database_url, settings=settings)
    async with history, memory:
        session = await history.create_session(_USER, _ID)
        message = message_of("m1")
        await history.append_message(session, message)
        found = await history.get_session(_USER, _ID)
        compare_messages(
            "get_session of the adapter", [message], [_as_agentstore_message(each) for each in found.messages]
        )
        if isinstance(found, Session):  # the runtime's class has only the ids and the messages
            await history.delete_session(_USER, _ID)
            sample: Session = sample_of(Session, messages=[message], message_count=1)
            await history.inner.import_session(sample)
            compare("get_session of the adapter", sample, await history.get_session(_USER, _ID))
            (in_list,) = await history.list_sessions(_USER)
            compare("list_sessions of the adapter", sample, in_list, changed=frozenset({"messages"}))
        await memory.add_memory(_USER, [message], _ID)
        listed = await memory.list_memory(_USER)
        compare_messages("list_memory of the adapter", [message], [_as_agentstore_message(each) for each in listed])


def _as_agentstore_message(message: Any) -> Message:
    return Message.model_validate(message.model_dump())


@pytest.fixture(params=["in memory", "Postgres"])
async def sandboxes(
    request: pytest.FixtureRequest, database_url: str, settings: Settings
) -> AsyncIterator[SandboxService]:
    provider = UnsafeSubprocessProvider()
    if request.param == "Postgres":
        async with PostgresSandboxService(database_url, provider=provider, settings=settings) as service:
            yield service
    else:
        async with InMemorySandboxService(provider=provider) as service:
            yield service
    await provider.stop()


async def test_the_registry_keeps_every_field_of_a_sandbox(sandboxes: SandboxService) -> None:
    await sandboxes.connect(_ID, _USER)
    (listed,) = await sandboxes.list(_USER)
    for each in fields(listed):
        assert getattr(listed, each.name) is not None, f"list loses SandboxInfo.{each.name}"
    (listed_again,) = await sandboxes.list(_USER, limit=1)
    compare("list(limit)", listed, listed_again, changed=frozenset({"lease_until"}))
    (released,) = await sandboxes.release(_ID, _USER)
    compare("release", listed, released, changed=frozenset({"lease_until", "state"}))


def test_a_lost_field_is_reported_by_name() -> None:
    """Test compare() itself: it detects any field that has its default again."""
    sample: Session = sample_of(Session, messages=[])
    for name in Session.model_fields:
        lost = sample.model_copy(update={name: Session(id="", user_id="").model_dump()[name]})
        if getattr(lost, name) != getattr(sample, name):
            with pytest.raises(AssertionError, match=f"a path loses Session.{name}"):
                compare("a path", sample, lost)
