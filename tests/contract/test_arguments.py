"""Every public method treats ids and numbers by the same rules: on Postgres, in memory and in the adapters.

The methods and their parameters are found in the classes, so that a new one cannot be forgotten: a parameter that no
table below names fails the first test.
"""

import asyncio
import inspect
import io
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from agentstore import (
    AgentStore,
    AlreadyExists,
    Conflict,
    InMemoryBlobService,
    InMemoryCheckpointService,
    InMemoryDocumentService,
    InMemoryMemoryService,
    InMemorySandboxService,
    InMemorySessionHistoryService,
    InMemoryStateService,
    InMemoryStore,
    InMemoryUserService,
    InvalidContent,
    LimitExceeded,
    MemoryItem,
    NotConfigured,
    NotFound,
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
)
from agentstore.adapters import agentscope_runtime
from agentstore.interfaces import Service
from agentstore.sandbox.unsafe_subprocess import UnsafeSubprocessProvider
from agentstore.schemas.memory_filters import ListFilters, SearchFilters
from agentstore.testing import text
from tests.integration.extraction.support import EchoExtractor
from tests.support.checkpoints import checkpoint_of, write_of
from tests.support.databases import Databases
from tests.support.exports import signed
from tests.support.pgbouncer import PgBouncer
from tests.support.servers import Server

_TIME = datetime(2025, 1, 1, tzinfo=UTC)
_PAGE = 10_000
_TTL = 2**31 - 1
_ROUND = 2**63 - 2


@dataclass(frozen=True)
class Number:
    """The range of a number. Over the maximum, LimitExceeded is raised, or InvalidContent if it is not a size."""

    minimum: int
    maximum: int | None
    is_size: bool = True


def _stored(id: Any) -> StoredDocument:
    return StoredDocument(MemoryItem.model_construct(id=id, text="x", kind="document"), _TIME, _TIME)


def _filter(name: str, value: Any) -> dict[str, Any]:
    return {name: value}


# The parameters that are ids, and those that are numbers.
_IDS = {"user_id", "session_id", "new_id", "before", "through", "message_id", "kind", "app", "name", "prefix", "id"}
_IDS |= {"checkpoint_id", "target_user_id", "target_session_id"}
_NUMBERS = {
    "limit": Number(0, _PAGE),
    "batch": Number(1, _PAGE),
    "idle": Number(0, _TTL),
    "keep_last": Number(0, _PAGE),
    "keep_sessions": Number(0, _PAGE),
    "keep_memories": Number(0, _PAGE),
    "keep_states": Number(0, _PAGE),
    "largest": Number(0, _PAGE),
    "top_k": Number(0, 1_000),
    "offset": Number(0, None),
    "ttl": Number(1, _TTL, is_size=False),
    "round_id": Number(1, _ROUND, is_size=False),
    "expected_round": Number(0, _ROUND, is_size=False),
    "version": Number(0, _ROUND, is_size=False),
    "a": Number(1, _ROUND, is_size=False),
    "b": Number(1, _ROUND, is_size=False),
    "n": Number(0, None),
    "expected_seq": Number(0, None),
    "after_seq": Number(0, None),
    "before_seq": Number(0, None),
    "max_tokens": Number(0, None),
}
# The number of the last messages of a session has no maximum, as a session may have any number of them.
_UNLIMITED = {"get_session", "read_messages"}
# Parameters that are flags, and not messages.
_FLAGS = {name: {"messages"} for name in ("create_session", "fork_session", "rewind_session")}
# Parameters in which ids and numbers are found: each with a function that puts one there.
_NESTED_IDS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "session": {
        "id": lambda id: Session.model_construct(id=id, user_id="alice", messages=[]),
        "user_id": lambda id: Session.model_construct(id="s", user_id=id, messages=[]),
    },
    "sessions": {
        "id": lambda id: [Session.model_construct(id=id, user_id="alice", messages=[])],
        "user_id": lambda id: [Session.model_construct(id="s", user_id=id, messages=[])],
    },
    "message": {"id": lambda id: text("x").model_copy(update={"id": id})},
    "messages": {"id": lambda id: text("x").model_copy(update={"id": id})},
    "items": {"id": lambda id: {"id": id, "text": "x"}, "kind": lambda id: {"kind": id, "text": "x"}},
    "supersedes": {"id": lambda id: [id]},
    "ids": {"id": lambda id: [id]},
    "documents": {"id": lambda id: {"id": id, "text": "x"}},
    "stored": {"id": lambda id: [_stored(id)]},
    "times": {"id": lambda id: {id: _TIME} if id.__hash__ is not None else id},
    "session_ids": {"id": lambda id: [id]},
    "users": {"id": lambda id: [id]},
    "only_users": {"id": lambda id: [id]},
    "at": {"id": lambda id: id},
    "run_ids": {"id": lambda id: [id]},
    "channels": {"id": lambda id: [id]},
    "checkpoint": {
        "id": checkpoint_of,
        "parent_id": lambda id: checkpoint_of(parent_id=id),
        "namespace": lambda id: checkpoint_of(namespace=id),
    },
    "writes": {"task_id": lambda id: [write_of(task_id=id)], "channel": lambda id: [write_of(channel=id)]},
    "values": {"id": lambda id: ScopedValues(app={id: 1}) if id.__hash__ is not None else id},
    "filters": {name: partial(_filter, name) for name in ("session_id", "exclude_session_id", "role", "kind")},
}
_FILTERS = {"top_k": Number(0, 1_000), "page_size": Number(1, _PAGE), "page_num": Number(1, None)}
# Neither ids nor numbers.
_OTHER = {
    *("self", "exist_ok", "title", "metadata", "cursor", "change", "keep", "state", "with_invalid", "settled"),
    *("progress", "tick", "file", "without_vectors", "dry_run", "older_than", "max_time", "sandbox_types"),
    *("pause", "snapshot", "reserved", "differences", "stale_ok", "create", "expected", "metadata_patch"),
    *("count", "keep_system", "whole_calls", "since", "until", "order", "namespace", "scope"),
    *("data", "content_type", "filename", "interval", "only_if", "query", "strategy", "is_complete"),
    *("on_unreadable", "leased"),
}
_OTHER_FILTERS = {
    *(
        "order",
        "since",
        "until",
        "min_score",
        "valid_at",
        "now",
        "strategy",
        "cursor",
        "neighbors",
        "namespace",
        "metadata",
    ),
}
# Filters that are an id or a list of ids.
_SEVERAL_IDS = {"session_id", "exclude_session_id"}

_VALUES: dict[str, Any] = {
    "user_id": "alice", "session_id": "s", "session": Session(id="s", user_id="alice"), "message": text("x"),
    "message_id": "m",
    "messages": text("x"), "filters": None, "state": {}, "metadata": {}, "change": dict, "title": None, "ttl": None,
    "round_id": 1, "a": 1, "b": 1, "at": 1, "ids": ["m"], "max_tokens": 10, "count": len, "items": MemoryItem(text="x"),
    "values": ScopedValues(app={"a": 1}), "name": "n", "data": b"x",
    "documents": [], "stored": [], "times": {}, "query": "x",
    "checkpoint": checkpoint_of(), "namespace": "", "checkpoint_id": "1", "writes": [write_of()], "id": "1",
    "run_ids": ["r"], "channels": ["c"], "target_user_id": "alice", "target_session_id": "copy",
    "sessions": [Session(id="s", user_id="alice")],
}  # fmt: skip
_INVALID_IDS: tuple[Any, ...] = (0, 1, True, False, b"s", [], ["s"], "\0", "a\ud800", "x" * 513, "é" * 257)
_VALID_IDS = ("", " ", " s ", "\t\n", "x" * 512, "密" * 170)
_INVALID_NUMBERS: tuple[Any, ...] = (True, False, "1", "", 1.0, 1.5, b"1", [1], -1, -(10**5_000))
_CLASSES: tuple[type[Any], ...] = (
    *(InMemorySessionHistoryService, InMemoryMemoryService, InMemoryStateService, InMemorySandboxService),
    *(PostgresSessionHistoryService, PostgresMemoryService, PostgresStateService, PostgresSandboxService),
    *(PostgresUserService, AgentStore, InMemoryUserService, InMemoryStore, InMemoryBlobService, PostgresBlobService),
    *(InMemoryDocumentService, PostgresDocumentService),
    *(InMemoryCheckpointService, PostgresCheckpointService),
    *(agentscope_runtime.PostgresSessionHistoryService, agentscope_runtime.PostgresMemoryService),
    agentscope_runtime.PostgresStateService,
)


_OF_SANDBOXES = (InMemorySandboxService, PostgresSandboxService)


def _methods(cls: type[Any]) -> Iterator[tuple[str, dict[str, inspect.Parameter]]]:
    """Yield the public methods of a class that take arguments, without those of its lifecycle."""
    for name, method in inspect.getmembers(cls, inspect.isfunction):
        is_async = inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method)
        if is_async and not name.startswith("_") and not hasattr(Service, name):
            yield name, dict(inspect.signature(method).parameters)


def _is_optional(parameter: inspect.Parameter) -> bool:
    return "None" in str(parameter.annotation)


_CASES = [
    pytest.param(cls, name, id=f"{cls.__module__.split('.')[1]}-{cls.__name__}-{name}")
    for cls in _CLASSES
    for name, _ in _methods(cls)
]


def test_every_parameter_is_an_id_a_number_or_neither() -> None:
    for cls in _CLASSES:
        for name, parameters in _methods(cls):
            unknown = parameters.keys() - _IDS - _NUMBERS.keys() - _NESTED_IDS.keys() - _OTHER
            assert not unknown, f"{cls.__name__}.{name}: name {unknown} in a table of this file"
    filters = SearchFilters.__annotations__.keys() | ListFilters.__annotations__.keys()
    assert filters == _NESTED_IDS["filters"].keys() | _FILTERS.keys() | _OTHER_FILTERS


@pytest.fixture(scope="module")
def database_name(databases: Databases) -> Iterator[str]:
    """The name of the database of the module, which is emptied for each test: creating one takes longer."""
    name = databases.take()
    yield name
    databases.give_back(name)


@asynccontextmanager
async def _opened(cls: type[Any], *url: str, settings: Settings) -> AsyncIterator[Any]:
    async with AsyncExitStack() as stack:
        options: dict[str, Any] = {"settings": settings}
        if cls in (InMemoryMemoryService, PostgresMemoryService, AgentStore):
            options["extractor"] = EchoExtractor()
        if cls in _OF_SANDBOXES:
            provider = UnsafeSubprocessProvider()
            stack.push_async_callback(provider.stop)
            options["provider"] = provider
        yield await stack.enter_async_context(cls(*url, **options))


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def shared(
    server: Server, pgbouncer: PgBouncer | None, database_name: str
) -> AsyncIterator[Callable[[type[Any]], Any]]:
    """Open services on a database without rows; most are opened once."""
    direct_url = server.url_of(database_name)
    url = direct_url if pgbouncer is None else pgbouncer.url_of(database_name)
    settings = Settings() if pgbouncer is None else Settings(pooler="transaction", migration_database_url=direct_url)
    administrator = await asyncpg.connect(direct_url)
    services: dict[type[Any], Any] = {}
    async with AsyncExitStack() as stack:
        stack.push_async_callback(administrator.close)

        @asynccontextmanager
        async def opened(cls: type[Any]) -> AsyncIterator[Any]:
            await administrator.execute("DELETE FROM agentstore.users; DELETE FROM agentstore.app_values")
            if cls in _OF_SANDBOXES:  # which hold leases
                async with _opened(cls, url, settings=settings) as service:
                    yield service
                return
            if cls not in services:
                services[cls] = await stack.enter_async_context(_opened(cls, url, settings=settings))
            yield services[cls]

        yield opened


@pytest.fixture
def open_service(request: pytest.FixtureRequest, cls: type[Any]) -> Callable[[type[Any]], Any]:
    """Return a function that opens a service without rows."""
    if cls.__name__.startswith("InMemory"):  # then no database is created
        return partial(_opened, settings=Settings())
    found: Callable[[type[Any]], Any] = request.getfixturevalue("shared")
    return found


async def _call(service: Any, name: str, parameters: dict[str, inspect.Parameter], /, **changes: Any) -> None:
    """Call a method with valid arguments, except for `changes`."""
    arguments = {
        each: (signed([]) if name == "restore" else io.BytesIO()) if each == "file" else _VALUES[each]
        for each, parameter in parameters.items()
        if parameter.default is inspect.Parameter.empty and each != "self"
    }
    arguments |= changes
    if "adapters" in type(service).__module__ and "messages" in arguments:
        arguments["messages"] = [arguments["messages"]]  # a list, as the runtime's services take
    result = getattr(service, name)(**arguments)
    if name == "follow":  # which has no end: the first message of the session, if there is one
        with suppress(TimeoutError):
            async with asyncio.timeout(0.05), aclosing(result):
                await anext(result)
    elif inspect.isasyncgen(result):
        async for _ in result:
            pass
    else:
        await result


async def _check(service: Any, name: str, parameters: dict[str, inspect.Parameter], changes: Any, error: Any) -> None:
    """Check that a call raises `error`; or, if it is None, that it does not refuse its arguments."""
    if error is None:
        with suppress(NotFound, AlreadyExists, Conflict, NotConfigured):
            await _call(service, name, parameters, **changes)
        return
    try:
        await _call(service, name, parameters, **changes)
    except error:
        return
    raise AssertionError(f"{name} accepts {changes!s:.100}")


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("cls", "name"), _CASES)
async def test_ids(open_service: Any, cls: type[Any], name: str) -> None:
    parameters = dict(_methods(cls))[name]
    async with open_service(cls) as service:
        for parameter in parameters.keys() & _IDS:
            for invalid in _INVALID_IDS:
                await _check(service, name, parameters, {parameter: invalid}, InvalidContent)
            is_optional = _is_optional(parameters[parameter])
            await _check(service, name, parameters, {parameter: None}, None if is_optional else InvalidContent)
            if name != "connect":  # which creates a sandbox
                for valid in _VALID_IDS:
                    await _check(service, name, parameters, {parameter: valid}, None)
        for parameter in parameters.keys() & _NESTED_IDS.keys() - _FLAGS.get(name, set()):
            for part, put in _NESTED_IDS[parameter].items():
                if parameter == "filters" and "adapters" in cls.__module__:
                    continue  # they ignore other filters
                if parameter == "filters" and name == "list_memory" and part not in ListFilters.__annotations__:
                    continue
                several = parameter == "filters" and part in _SEVERAL_IDS
                for invalid in [[each] for each in _INVALID_IDS] if several else []:
                    await _check(service, name, parameters, {parameter: put(invalid)}, InvalidContent)
                for ids in ([], ["s"], ["", "t"], ["s"] * 1_000) if several else ():
                    await _check(service, name, parameters, {parameter: put(ids)}, None)
                if several:
                    await _check(service, name, parameters, {parameter: put(["s"] * 1_001)}, LimitExceeded)
                for invalid in _INVALID_IDS:
                    if several and isinstance(invalid, list):
                        continue
                    is_place = parameter == "at" and isinstance(invalid, int) and not isinstance(invalid, bool)
                    if is_place or (parameter == "messages" and name in ("search_memory", "search")):
                        continue  # a number of messages; a query, whose id is not used
                    await _check(service, name, parameters, {parameter: put(invalid)}, InvalidContent)
                for valid in _VALID_IDS if part != "kind" or parameter != "items" else ("x" * 512,):
                    await _check(service, name, parameters, {parameter: put(valid)}, None)


def _argument(others: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    return {**others, name: value}


def _filter_argument(name: str, value: Any) -> dict[str, Any]:
    return {"filters": {name: value}}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("cls", "name"), _CASES)
async def test_numbers(open_service: Any, cls: type[Any], name: str) -> None:
    parameters = dict(_methods(cls))[name]
    numbers: list[tuple[Number, bool, Callable[[Any], dict[str, Any]]]] = []
    for parameter in parameters.keys() & _NUMBERS.keys():
        number = Number(0, None) if name in _UNLIMITED else _NUMBERS[parameter]
        # In a session of its own, since no round follows the highest one.
        own = {"session_id": f"s {parameter}"} if "session_id" in parameters else {}
        numbers.append((number, _is_optional(parameters[parameter]), partial(_argument, own, parameter)))
    if "filters" in parameters and "adapters" not in cls.__module__:
        kind = ListFilters if name == "list_memory" else SearchFilters
        numbers += [
            (_FILTERS[each], False, partial(_filter_argument, each))
            for each in kind.__annotations__
            if each in _FILTERS
        ]
    async with open_service(cls) as service:
        for number, is_optional, put in numbers:
            for invalid in (*_INVALID_NUMBERS, number.minimum - 1):
                await _check(service, name, parameters, put(invalid), InvalidContent)
            await _check(service, name, parameters, put(None), None if is_optional else InvalidContent)
            await _check(service, name, parameters, put(number.minimum), None)
            if number.maximum is None:
                for large in (2**31, 2**63 - 1, 2**63, 10**5_000):
                    await _check(service, name, parameters, put(large), None)
            else:
                await _check(service, name, parameters, put(number.maximum), None)
                error = LimitExceeded if number.is_size else InvalidContent
                for large in (number.maximum + 1, 2**63, 10**5_000):
                    await _check(service, name, parameters, put(large), error)
