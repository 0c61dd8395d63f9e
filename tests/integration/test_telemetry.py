"""What a store reports: to logs, to functions of the application, and to OpenTelemetry."""

import asyncio
import gc
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, get_args

import asyncpg
import pytest
from opentelemetry import trace
from opentelemetry.metrics import NoOpMeter, NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.semconv._incubating.metrics import db_metrics as pool_metrics
from opentelemetry.semconv.attributes import db_attributes, error_attributes, server_attributes
from opentelemetry.semconv.metrics import db_metrics
from opentelemetry.trace import (
    NonRecordingSpan,
    NoOpTracer,
    NoOpTracerProvider,
    SpanContext,
    SpanKind,
    StatusCode,
)
from sqlalchemy.ext.asyncio import create_async_engine

from agentstore import (
    AgentStore,
    Message,
    NotConfigured,
    NotFound,
    PoolTimeout,
    ScopedValues,
    Settings,
    StatementEvent,
    StatementTimeout,
    Telemetry,
    Unavailable,
)
from agentstore.database.otel import SCHEMA_URL
from agentstore.database.telemetry import EventName
from agentstore.testing import text
from tests.support.checkpoints import checkpoint_of
from tests.support.failures import FAIL_ONCE
from tests.support.telemetry import Collected, wait_until_locked

SECRET_WORDS = ("alice-the-user", "the-session", "a very private text", "hunter2")


def kinds(spans: list[ReadableSpan]) -> Counter[SpanKind]:
    return Counter(span.kind for span in spans)


CALLS: dict[str, Any] = {
    "sessions.create_session": lambda store: store.sessions.create_session("alice-the-user", "the-session"),
    "sessions.append": lambda store: store.sessions.append(
        "alice-the-user", "the-session", text("a very private text")
    ),
    "sessions.get_session": lambda store: store.sessions.get_session("alice-the-user", "the-session"),
    "sessions.list_sessions": lambda store: store.sessions.list_sessions("alice-the-user"),
    "sessions.window": lambda store: store.sessions.window(
        "alice-the-user", "the-session", max_tokens=9, count=lambda _: 1
    ),
    "sessions.fork_session": lambda store: store.sessions.fork_session("alice-the-user", "the-session"),
    "sessions.iter_messages": lambda store: _drain(store.sessions.iter_messages("alice-the-user", "the-session")),
    "memory.add_memory": lambda store: store.memory.add_memory(
        "alice-the-user", [text("a very private text")], "the-session"
    ),
    "memory.search_memory": lambda store: store.memory.search_memory("alice-the-user", "a very private text"),
    "memory.list_memory": lambda store: store.memory.list_memory("alice-the-user"),
    "states.save_state": lambda store: store.states.save_state("alice-the-user", {"password": "hunter2"}),
    "states.merge_values": lambda store: store.states.merge_values(
        "alice-the-user", values=ScopedValues({"a": 1}, {"b": "hunter2"})
    ),
    "states.export_state": lambda store: store.states.export_state("alice-the-user"),
    "blobs.put": lambda store: store.blobs.put("alice-the-user", "the-session", b"hunter2"),
    "checkpoints.put": lambda store: store.checkpoints.put(
        "alice-the-user", "the-session", checkpoint_of(value=b"hunter2")
    ),
    "blobs.get": lambda store: store.blobs.get("alice-the-user", "the-session"),
    "documents.put": lambda store: store.documents.put("alice-the-user", {"id": "d", "text": "hunter2"}),
    "documents.get": lambda store: store.documents.get("alice-the-user", ["d"]),
    "store.stats": lambda store: store.stats(),
    "store.prune": lambda store: store.prune(),
    "users.list_users": lambda store: store.users.list_users(),
    "users.delete_user": lambda store: store.users.delete_user("alice-the-user"),
}


async def _drain(messages: AsyncIterator[Message]) -> None:
    async for _ in messages:
        pass


async def test_each_call_is_one_internal_span_with_its_statements(observed: AgentStore, collected: Collected) -> None:
    for name, call in CALLS.items():
        await collected.spans()
        collected.statements.clear()
        await call(observed)
        spans = await collected.spans()
        (outer,) = [span for span in spans if span.kind is SpanKind.INTERNAL]
        inner = [span for span in spans if span.kind is SpanKind.CLIENT]
        assert outer.name == f"agentstore.{name}"
        assert inner, name
        assert {span.parent.span_id for span in inner if span.parent} == {outer.context.span_id}
        assert all(span.parent for span in inner)
        assert [event.name for event in collected.statements] == [span.name for span in inner]
        assert {event.call for event in collected.statements} == {name}


async def test_attributes_follow_the_conventions(observed: AgentStore, collected: Collected) -> None:
    """The names are those of the package of the conventions."""
    await observed.sessions.append("alice", "s", text("a"))
    (*_, span) = [span for span in await collected.spans() if span.kind is SpanKind.CLIENT]
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.schema_url == SCHEMA_URL
    assert span.attributes is not None
    assert span.attributes[db_attributes.DB_SYSTEM_NAME] == "postgresql"
    assert span.attributes[db_attributes.DB_QUERY_SUMMARY] == span.name == "sessions.import"
    assert span.attributes[db_attributes.DB_OPERATION_NAME] == "import"
    assert isinstance(span.attributes[db_attributes.DB_NAMESPACE], str)
    assert isinstance(span.attributes[server_attributes.SERVER_ADDRESS], str)
    assert isinstance(span.attributes[server_attributes.SERVER_PORT], int)
    assert db_attributes.DB_QUERY_TEXT not in span.attributes
    metrics = collected.metrics()
    assert metrics.keys() >= {
        db_metrics.DB_CLIENT_OPERATION_DURATION,
        pool_metrics.DB_CLIENT_CONNECTION_COUNT,
        pool_metrics.DB_CLIENT_CONNECTION_MAX,
        pool_metrics.DB_CLIENT_CONNECTION_IDLE_MAX,
        pool_metrics.DB_CLIENT_CONNECTION_PENDING_REQUESTS,
        pool_metrics.DB_CLIENT_CONNECTION_WAIT_TIME,
        pool_metrics.DB_CLIENT_CONNECTION_USE_TIME,
        pool_metrics.DB_CLIENT_CONNECTION_CREATE_TIME,
        "agentstore.operation.duration",
    }
    with pytest.raises(NotFound):
        await observed.sessions.append("alice", "none", text("a"), create=False)
    (failed,) = [span for span in await collected.spans() if span.kind is SpanKind.INTERNAL]
    assert failed.attributes is not None
    assert failed.attributes[error_attributes.ERROR_TYPE] == "agentstore.errors.NotFound"
    assert failed.status.status_code is StatusCode.ERROR


async def test_no_report_has_data_of_users(
    database_url: str, settings: Settings, collected: Collected, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a name, an attribute, a label, an event nor a line of the log."""
    caplog.set_level(logging.DEBUG, "agentstore")
    settings = settings.model_copy(update={"slow_statement": 1e-9})
    async with AgentStore(database_url, settings=settings, telemetry=collected.telemetry()) as store:
        for call in CALLS.values():
            await call(store)
        with pytest.raises(NotFound):
            await store.sessions.append("alice-the-user", "the-session", text("x"), create=False)
    reported = [
        *[span.to_json() for span in await collected.spans()],
        *(str(point.attributes) for points in collected.metrics().values() for point in points),
        *map(repr, collected.events),
        *(f"{record.getMessage()} {vars(record)}" for record in caplog.records if hasattr(record, "event")),
    ]
    assert len(reported) > 100
    assert not [each for each in reported if any(word in each for word in SECRET_WORDS)]


async def test_appends_that_share_a_statement_are_linked_to_it(observed: AgentStore, collected: Collected) -> None:
    await observed.sessions.create_session("alice", "s")
    await collected.spans()
    tracer = collected.tracer_provider.get_tracer("application")

    async def turn() -> None:
        with tracer.start_as_current_span("turn"):
            await observed.sessions.append("alice", "s", text("x"))

    await asyncio.gather(*(turn() for _ in range(40)))
    spans = await collected.spans()
    by_id = {span.context.span_id: span for span in spans}
    calls = [span for span in spans if span.name == "agentstore.sessions.append"]
    statements = [span for span in spans if span.name == "sessions.append"]
    assert len(calls) == 40
    assert len(statements) < 40
    shared = [span for span in statements if span.links]
    assert shared
    assert all(span.parent is None for span in shared)
    for span in calls:
        assert span.parent is not None
        assert by_id[span.parent.span_id].name == "turn"
        own = [each for each in statements if each.parent and each.parent.span_id == span.context.span_id]
        linked = [by_id[link.context.span_id] for link in span.links]
        assert own or linked
        for each in linked:
            assert span.context.span_id in {link.context.span_id for link in each.links}
    (batches,) = collected.metrics()["agentstore.append.batch.size"]
    assert batches.sum == sum(len(span.links) for span in shared)


async def test_retries_lost_connections_and_unknown_outcomes_are_reported(
    direct_url: str, collected: Collected, observer: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that ends the connections: what is known to have had no effect is executed again.

    A pooler would open others.
    """
    async with AgentStore(direct_url, telemetry=collected.telemetry()) as store:
        await store.sessions.create_session("alice", "s")
        await observer.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert await store.sessions.get_session("alice", "s") is not None
    names = [event.name for event in collected.events]
    assert "connection.discarded" in names
    assert names.count("connection.opened") == 2
    discarded = collected.metrics()["agentstore.connections.discarded"]
    assert sum(point.value for point in discarded) == names.count("connection.discarded")
    logged = [record for record in caplog.records if getattr(record, "event", None) == "connection.discarded"]
    assert len(logged) == names.count("connection.discarded")
    assert {record.levelno for record in logged} == {logging.WARNING}


async def test_a_deadlock_is_reported_as_a_retry(
    observed: AgentStore, collected: Collected, observer: asyncpg.Connection
) -> None:
    await observer.execute(FAIL_ONCE)
    await observed.sessions.create_session("alice", "s")
    (event,) = [event for event in collected.events if event.name == "statement.retried"]
    assert event.attributes["statement"] == "sessions.create"
    assert event.attributes["sqlstate"] == "40P01"
    (statement,) = [each for each in collected.statements if each.name == "sessions.create"]
    assert (statement.attempts, statement.error) == (2, None)
    (point,) = collected.metrics()["agentstore.retries"]
    assert point.value == 1
    assert point.attributes[db_attributes.DB_RESPONSE_STATUS_CODE] == "40P01"


async def test_a_statement_that_stalls_is_reported(
    direct_url: str, collected: Collected, observer: asyncpg.Connection
) -> None:
    settings = Settings(statement_timeout=0.2, slow_statement=0.1)
    async with AgentStore(direct_url, settings=settings, telemetry=collected.telemetry()) as store:
        lock = observer.transaction()
        await lock.start()
        await observer.execute("LOCK TABLE agentstore.sessions")
        with pytest.raises(StatementTimeout):
            await store.sessions.create_session("alice", "s")
        await lock.rollback()
    (event,) = [event for event in collected.events if event.name == "statement.slow"]
    assert event.attributes["statement"] == "sessions.create"
    (statement,) = [each for each in collected.statements if each.name == "sessions.create"]
    assert (type(statement.error), statement.rows) == (StatementTimeout, None)
    (span,) = [span for span in await collected.spans() if span.name == "sessions.create"]
    assert span.attributes is not None
    assert span.attributes[error_attributes.ERROR_TYPE] == "agentstore.errors.StatementTimeout"


async def test_the_pool_adds_up_under_load_cancels_and_failures(
    database_url: str, settings: Settings, collected: Collected
) -> None:
    settings = settings.model_copy(update={"pool_size": 3, "pool_timeout": 0.2})
    async with AgentStore(database_url, settings=settings, telemetry=collected.telemetry()) as store:
        assert store.pool_stats().size == 3
        async with store._database.transaction(), store._database.transaction(), store._database.transaction():
            stats = store.pool_stats()
            assert (stats.in_use, stats.idle, stats.waiting, stats.open) == (3, 0, 0, 3)
            waiting = [asyncio.create_task(store.sessions.get_session("alice", "s")) for _ in range(4)]
            async with asyncio.timeout(60):
                while store.pool_stats().waiting < 4:
                    await asyncio.sleep(0)
            waiting[0].cancel()
            results = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(each) for each in results[1:]] == [PoolTimeout] * 3
        running = [asyncio.create_task(store.sessions.create_session("alice", str(n))) for n in range(20)]
        await asyncio.sleep(0.01)
        for each in running[::3]:
            each.cancel()
        results += await asyncio.gather(*running, return_exceptions=True)
        async with asyncio.timeout(60):
            while store.pool_stats().in_use:
                await asyncio.sleep(0.001)
        stats = store.pool_stats()
        assert stats.waiting == 0
        metrics = collected.metrics()
        count = {
            point.attributes["db.client.connection.state"]: point.value
            for point in metrics["db.client.connection.count"]
        }
        assert count == {"idle": stats.idle, "used": 0}
        assert 1 <= stats.idle <= 3
        (timeouts,) = metrics["db.client.connection.timeouts"]
        # On a busy machine, some of the later calls as well.
        assert timeouts.value == sum(isinstance(each, PoolTimeout) for each in results)
        (created,) = metrics["db.client.connection.create_time"]
        discarded = sum(point.value for point in metrics.get("agentstore.connections.discarded", ()))
        assert created.count - discarded == stats.open
        (waits,) = metrics["db.client.connection.wait_time"]
        (uses,) = metrics["db.client.connection.use_time"]
        assert waits.count == uses.count
    assert store.pool_stats().open == 0
    assert "db.client.connection.count" not in collected.metrics()


async def test_a_slow_statement_is_logged_with_its_name(
    database_url: str, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings.model_copy(update={"slow_statement": 1e-9})
    async with AgentStore(database_url, settings=settings) as store:
        await store.sessions.create_session("alice", "s")
    (record,) = [each for each in caplog.records if getattr(each, "statement", None) == "sessions.create"]
    assert record.levelno == logging.WARNING
    assert vars(record)["event"] == "statement.slow"
    assert vars(record)["rows"] == 1
    assert vars(record)["duration"] > 0
    settings = settings.model_copy(update={"slow_statement": 3600.0})
    caplog.clear()
    async with AgentStore(database_url, settings=settings) as store:
        await store.sessions.create_session("alice", "s")
    assert not [each for each in caplog.records if getattr(each, "event", None) == "statement.slow"]


async def test_a_function_that_fails_does_not_reach_the_call(
    database_url: str, settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("broken")

    telemetry = Telemetry(on_statement=fail, on_event=fail)
    async with AgentStore(database_url, settings=settings, telemetry=telemetry) as store:
        session = await store.sessions.create_session("alice", "s")
        assert session.id == "s"
    failed = [each for each in caplog.records if getattr(each, "event", None) == "hook.failed"]
    assert failed
    assert all(each.exc_info for each in failed)


async def _on_statement(_: StatementEvent) -> None:
    """Would never be awaited."""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on_statement": 1}, "on_statement must be a function that is not async, got int"),
        ({"on_event": "x"}, "on_event must be a function"),
        ({"on_statement": _on_statement}, "got an async function"),
        ({"tracer_provider": TracerProvider().get_tracer("a")}, r"must have get_tracer\(\), which Tracer lacks"),
        ({"meter_provider": TracerProvider()}, "which TracerProvider lacks"),
    ],
)
def test_arguments_are_checked(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(NotConfigured, match=message):
        Telemetry(**arguments)


async def test_nothing_is_measured_unless_somebody_asks(database_url: str, settings: Settings) -> None:
    async with AgentStore(database_url, settings=settings) as store:
        await store.sessions.create_session("alice", "s")
        assert not store._database.observer.measures
        assert store._database.observer.otel is None
    collected = Collected()
    off = settings.model_copy(update={"telemetry": "off"})
    telemetry = Telemetry(tracer_provider=collected.tracer_provider, meter_provider=collected.meter_provider)
    async with AgentStore(database_url, settings=off, telemetry=telemetry) as store:
        await store.sessions.create_session("alice", "s")
    assert await collected.spans() == []


@pytest.fixture
def global_provider(collected: Collected, monkeypatch: pytest.MonkeyPatch) -> Collected:
    """An application that sets its provider globally, as most do."""
    monkeypatch.setattr(trace, "_TRACER_PROVIDER", collected.tracer_provider)
    return collected


async def test_the_provider_of_the_application_is_used(
    database_url: str, settings: Settings, global_provider: Collected
) -> None:
    tracer = trace.get_tracer("application")
    async with AgentStore(database_url, settings=settings) as store:
        with tracer.start_as_current_span("request") as request:
            await store.sessions.create_session("alice", "s")
    (call,) = [span for span in await global_provider.spans() if span.name == "agentstore.sessions.create_session"]
    assert call.parent is not None
    assert call.parent.span_id == request.get_span_context().span_id


async def test_sql_is_opt_in(database_url: str, settings: Settings, collected: Collected) -> None:
    settings = settings.model_copy(update={"telemetry_sql": True})
    async with AgentStore(database_url, settings=settings, telemetry=collected.telemetry()) as store:
        await store.sessions.create_session("alice", "s")
    (span,) = [span for span in await collected.spans() if span.name == "sessions.create"]
    assert span.attributes is not None
    assert "INSERT INTO" in str(span.attributes[db_attributes.DB_QUERY_TEXT])
    assert "alice" not in str(span.attributes)


async def test_sql_with_the_id_of_a_user_is_not_reported(
    database_url: str, settings: Settings, collected: Collected
) -> None:
    """Under row-level security, transactions set it."""
    settings = settings.model_copy(update={"telemetry_sql": True, "row_level_security": True})
    async with AgentStore(database_url, settings=settings, telemetry=collected.telemetry()) as store:
        await store.blobs.put("alice", "a", b"x")
        await store.sessions.create_session("alice", "s")
        await store.sessions.append("alice", "s", text("x"))
        await store.sessions.fork_session("alice", "s")
    attributes = [dict(span.attributes or {}) for span in await collected.spans()]
    assert [each for each in attributes if each.get(db_attributes.DB_QUERY_SUMMARY) == "transaction.select"]
    assert [each for each in attributes if "INSERT INTO" in str(each.get(db_attributes.DB_QUERY_TEXT))]
    assert b"alice".hex() not in str(attributes)


async def test_a_provider_that_is_set_during_a_statement_does_not_fail_it(
    database_url: str,
    settings: Settings,
    collected: Collected,
    observer: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    telemetry = Telemetry(on_statement=collected.statements.append)
    async with AgentStore(database_url, settings=settings, telemetry=telemetry) as store:
        async with observer.transaction():
            await observer.execute("LOCK TABLE agentstore.sessions")
            creating = asyncio.create_task(store.sessions.create_session("alice", "s"))
            await wait_until_locked(observer)
            await store.stop()
            monkeypatch.setattr(trace, "_TRACER_PROVIDER", collected.tracer_provider)
            await store.start()
        assert (await creating).id == "s"


async def test_a_call_to_another_store_is_a_call_of_its_own(
    database_url: str, settings: Settings, observed: AgentStore, collected: Collected
) -> None:
    class WithOtherStore:
        async def rerank(self, question: str, texts: Sequence[str]) -> list[float]:
            await observed.users.list_users()
            return [1.0] * len(texts)

    telemetry = Telemetry(tracer_provider=collected.tracer_provider)
    async with AgentStore(database_url, settings=settings, telemetry=telemetry, reranker=WithOtherStore()) as store:
        await store.memory.add_memory("alice", [text("apples")])
        collected.statements.clear()
        await store.memory.search("alice", "apples")
    assert [event.call for event in collected.statements] == ["users.list_users"]
    spans = {span.name: span for span in await collected.spans()}
    parent = spans["agentstore.users.list_users"].parent
    assert parent is not None
    assert parent.span_id == spans["agentstore.memory.search"].context.span_id


async def test_a_store_that_was_not_stopped_is_not_counted(
    database_url: str, settings: Settings, collected: Collected
) -> None:
    """Such as one whose start has failed, and that is created again until it succeeds."""

    async def fail_to_start() -> None:
        store = AgentStore("postgresql://postgres@127.0.0.1:1/none", settings=settings, telemetry=collected.telemetry())
        with pytest.raises(Unavailable):
            await store.start()
        assert not store._database.observer.measures

    await fail_to_start()
    assert "db.client.connection.max" not in collected.metrics()
    store = AgentStore(database_url, settings=settings, telemetry=collected.telemetry())
    await store.start()
    assert "db.client.connection.max" in collected.metrics()
    await store._database._pools.values()[0].close()
    del store
    gc.collect()
    assert "db.client.connection.max" not in collected.metrics()


async def test_the_maximum_of_an_engine_is_not_reported(direct_url: str, collected: Collected) -> None:
    """It is not known: 0 would be wrong."""
    engine = create_async_engine(direct_url.replace("postgresql://", "postgresql+asyncpg://"))
    async with AgentStore(engine=engine, telemetry=collected.telemetry()) as store:
        await store.sessions.create_session("alice", "s")
        metrics = collected.metrics()
    await engine.dispose()
    assert "db.client.connection.count" in metrics
    assert not metrics.keys() & {"db.client.connection.max", "db.client.connection.idle.max"}


class _Plain(NoOpMeterProvider):
    """A provider with equality by value, and therefore without a hash."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Plain)


class _OfOldApi(NoOpMeterProvider):
    """A provider of the API before 1.30."""

    def get_meter(self, *arguments: Any, **options: Any) -> Any:
        return _OldMeter("")


class _OldMeter(NoOpMeter):
    def create_histogram(self, name: str, unit: str = "", description: str = "") -> Any:  # type: ignore[override]
        return super().create_histogram(name, unit, description)


@pytest.mark.parametrize("provider", [_Plain(), _OfOldApi()])
async def test_unusual_providers(database_url: str, settings: Settings, provider: MeterProvider) -> None:
    async with AgentStore(database_url, settings=settings, telemetry=Telemetry(meter_provider=provider)) as store:
        assert (await store.sessions.create_session("alice", "s")).id == "s"


class _OldTracers(NoOpTracerProvider):
    """A provider of the API before 1.24, whose spans get no links after their start."""

    def get_tracer(self, *arguments: Any, **options: Any) -> Any:
        return _OldTracer()


class _OldTracer(NoOpTracer):
    def start_span(self, *arguments: Any, **options: Any) -> Any:
        return _OldSpan(SpanContext(1, 2, is_remote=False))


class _OldSpan(NonRecordingSpan):
    @property
    def add_link(self) -> Any:
        raise AttributeError("add_link")


async def test_shared_appends_with_an_old_provider(database_url: str, settings: Settings) -> None:
    async with AgentStore(database_url, settings=settings, telemetry=Telemetry(tracer_provider=_OldTracers())) as store:
        await store.sessions.create_session("alice", "s")
        await asyncio.gather(*(store.sessions.append("alice", "s", text("x")) for _ in range(40)))
        stored = await store.sessions.read_messages("alice", "s")
    assert stored is not None
    assert len(stored) == 40


async def test_what_outlives_a_call_is_no_event_of_its_span(
    database_url: str, settings: Settings, collected: Collected, caplog: pytest.LogCaptureFixture
) -> None:
    """The SDK would warn."""
    async with AgentStore(database_url, settings=settings, telemetry=collected.telemetry()) as store:
        observer = store._database.observer
        ended = collected.tracer_provider.get_tracer("application").start_span("request")
        ended.end()
        with trace.use_span(ended):
            observer.discarded("a test")
    assert not [each for each in caplog.records if each.name.startswith("opentelemetry")]


def test_the_documentation_lists_every_event() -> None:
    page = (Path(__file__).parents[2] / "docs" / "telemetry.md").read_text()
    listed = re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \| (?:DEBUG|INFO|WARNING|ERROR)", page, re.MULTILINE)
    assert listed == list(get_args(EventName))
