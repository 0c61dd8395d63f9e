"""When spans are created, and what they are like."""

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.semconv.attributes import error_attributes
from opentelemetry.trace import SpanContext, SpanKind, StatusCode

from agentstore import AgentStore, Settings, StatementFailed, Telemetry, sync
from agentstore.testing import text
from tests.support.telemetry import Collected, wait_until_locked


async def test_spans_end_though_the_store_stops(
    database_url: str, settings: Settings, collected: Collected, observer: asyncpg.Connection
) -> None:
    store = AgentStore(database_url, settings=settings, telemetry=collected.telemetry())
    await store.start()
    async with observer.transaction():
        await observer.execute("LOCK TABLE agentstore.sessions")
        creating = asyncio.create_task(store.sessions.create_session("alice", "s"))
        await wait_until_locked(observer)
        stopping = asyncio.create_task(store.stop())
        await asyncio.sleep(0)
    await creating
    await stopping
    assert {"agentstore.sessions.create_session", "sessions.create"} <= {span.name for span in await collected.spans()}


async def test_a_span_is_created_when_code_within_the_call_needs_it(
    database_url: str, settings: Settings, collected: Collected, caplog: pytest.LogCaptureFixture
) -> None:
    """Spans and log records of the application, and the current span, are those of the call; and of its caller."""
    tracer = collected.tracer_provider.get_tracer("application")
    seen: list[SpanContext] = []

    class Reranker:
        async def rerank(self, question: str, texts: Sequence[str]) -> list[float]:
            seen.append(trace.get_current_span().get_span_context())
            with tracer.start_as_current_span("model"):
                await asyncio.to_thread(lambda: seen.append(trace.get_current_span().get_span_context()))
            assert trace.get_current_span().is_recording()
            trace.get_current_span().set_attribute("reranked", len(texts))
            return [1.0] * len(texts)

    telemetry = Telemetry(
        tracer_provider=collected.tracer_provider,
        on_statement=lambda _: seen.append(trace.get_current_span().get_span_context()),
    )
    async with AgentStore(database_url, settings=settings, telemetry=telemetry, reranker=Reranker()) as store:
        await store.memory.add_memory("alice", [text("apples")])
        await collected.spans()
        seen.clear()
        with tracer.start_as_current_span("request") as request:
            await store.memory.search("alice", "apples")
            assert trace.get_current_span() is request
        spans = {span.name: span for span in await collected.spans()}
    call, model, statement = (spans[name] for name in ("agentstore.memory.search", "model", "memory.search"))
    assert call.parent is not None
    assert call.parent.span_id == request.get_span_context().span_id
    for child in (model, statement):
        assert child.parent is not None
        assert child.parent.span_id == call.context.span_id
    assert call.attributes is not None
    assert call.attributes["reranked"] == 1
    assert {each.span_id for each in seen} == {call.context.span_id, model.context.span_id}
    for span in (model, statement):
        assert call.start_time is not None
        assert span.start_time is not None
        assert span.end_time is not None
        assert call.end_time is not None
        assert call.start_time <= span.start_time <= span.end_time <= call.end_time


async def test_statements_of_code_within_the_call_are_in_its_spans(
    database_url: str, settings: Settings, collected: Collected
) -> None:
    """Those of calls of the same store: reads, writes, pages of an iterator, and statements that fail."""
    tracer = collected.tracer_provider.get_tracer("application")

    class Reranker:
        async def rerank(self, question: str, texts: Sequence[str]) -> list[float]:
            with tracer.start_as_current_span("read"):
                await store.sessions.get_session("alice", "s")
            with tracer.start_as_current_span("write"):
                await store.states.save_state("alice", {"reranked": len(texts)}, "s")
            with tracer.start_as_current_span("iterate"):
                assert [each async for each in store.sessions.iter_messages("alice", "s")] == []
            with tracer.start_as_current_span("fail"), pytest.raises(StatementFailed):
                async with store._database.transaction() as transaction:
                    await transaction.execute("SELECT 1 / 0")
            return [1.0] * len(texts)

    telemetry = collected.telemetry()
    async with AgentStore(database_url, settings=settings, telemetry=telemetry, reranker=Reranker()) as store:
        await store.sessions.create_session("alice", "s")
        await store.memory.add_memory("alice", [text("apples")])
        await collected.spans()
        collected.clear()
        await store.memory.search("alice", "apples")
        spans = await collected.spans()
    names = {span.context.span_id: span.name for span in spans}
    parents: dict[str, set[str | None]] = {}
    for span in spans:
        parents.setdefault(span.name, set()).add(None if span.parent is None else names[span.parent.span_id])
    call = "agentstore.memory.search"
    assert parents[call] == {None}
    for name in ("read", "write", "iterate", "fail", "memory.search"):
        assert parents[name] == {call}
    assert set().union(*parents.values()) == {None, call, "read", "write", "iterate", "fail"}
    assert parents["sessions.get"] == {"read"}
    assert {parent for name in parents if name.startswith("states.") for parent in parents[name]} == {"write"}
    assert parents["transaction.begin"] == {"fail"}


async def test_spans_have_the_times_of_the_call_and_not_of_their_creation(
    observed: AgentStore, collected: Collected
) -> None:
    tracer = collected.tracer_provider.get_tracer("application")
    await observed.sessions.create_session("alice", "s")
    await collected.spans()
    with tracer.start_as_current_span("before"):
        pass
    with tracer.start_as_current_span("request"):
        await observed.sessions.append("alice", "s", text("x"))
    with tracer.start_as_current_span("after"):
        pass
    spans = {span.name: span for span in await collected.spans()}
    times = [
        time
        for name in ("before", "request", "agentstore.sessions.append", "sessions.append")
        if (time := spans[name].start_time) is not None
    ] + [
        time
        for name in ("sessions.append", "agentstore.sessions.append", "request", "after")
        if (time := spans[name].end_time) is not None
    ]
    assert times == sorted(times)
    assert len(times) == 8


async def test_a_canceled_call_ends_its_spans(
    observed: AgentStore, collected: Collected, observer: asyncpg.Connection
) -> None:
    await collected.spans()
    async with observer.transaction():
        await observer.execute("LOCK TABLE agentstore.sessions")
        creating = asyncio.create_task(observed.sessions.create_session("alice", "s"))
        await wait_until_locked(observer)
        creating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await creating
        spans = {span.name: span for span in await collected.spans()}
    for name in ("agentstore.sessions.create_session", "sessions.create"):
        attributes = spans[name].attributes
        assert attributes is not None
        assert attributes[error_attributes.ERROR_TYPE] == "asyncio.exceptions.CancelledError"
        assert spans[name].status.status_code is StatusCode.ERROR


def test_the_last_call_of_a_program_is_reported(database_url: str, settings: Settings, collected: Collected) -> None:
    """Neither the stop nor the end of the event loop comes before its report."""
    store = AgentStore(database_url, settings=settings, telemetry=collected.telemetry())

    async def work() -> None:
        await store.start()  # which is no part of a call
        await store.sessions.create_session("alice", "s")
        await store.stop()

    asyncio.run(work())
    found = [span.name for span in asyncio.run(collected.spans())]
    assert found[-2:] == ["sessions.create", "agentstore.sessions.create_session"]
    asyncio.run(store.start())
    loop = asyncio.new_event_loop()
    loop.run_until_complete(collected.spans())
    loop.run_until_complete(store.sessions.create_session("alice", "t"))
    loop.run_until_complete(store.stop())
    loop.close()
    assert "agentstore.sessions.create_session" in [span.name for span in asyncio.run(collected.spans())]


def test_a_call_without_await_is_reported_when_it_returns(
    database_url: str, settings: Settings, collected: Collected
) -> None:
    with sync.AgentStore(database_url, settings=settings, telemetry=collected.telemetry()) as store:
        for number in range(20):
            collected.clear()
            store.sessions.create_session("alice", str(number))
            assert collected.ended()[-2:] == ["sessions.create", "agentstore.sessions.create_session"]


async def test_a_span_processor_that_fails_does_not_reach_the_call(
    database_url: str, settings: Settings, collected: Collected
) -> None:
    """The event loop reports it, and what follows is reported."""

    class Failing(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            if span.name == "sessions.create":
                raise RuntimeError("broken")

    reported: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, details: reported.append(details["exception"]))
    collected.tracer_provider.add_span_processor(Failing())
    async with AgentStore(database_url, settings=settings, telemetry=collected.telemetry()) as store:
        assert (await store.sessions.create_session("alice", "s")).id == "s"
        await collected.spans()
        names = [span.name for span in await collected.spans()]
    assert names[-1] == "agentstore.sessions.create_session"
    assert [str(each) for each in reported] == ["broken"]


class _WithoutCalls(Sampler):
    """Of an application that wants no span of the kind INTERNAL."""

    def should_sample(
        self,
        parent_context: Any,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Any = None,
        links: Any = None,
        trace_state: Any = None,
    ) -> SamplingResult:
        keeps = kind is SpanKind.CLIENT
        return SamplingResult(Decision.RECORD_AND_SAMPLE if keeps else Decision.DROP, attributes if keeps else None)

    def get_description(self) -> str:
        return "WithoutCalls"


@pytest.mark.parametrize(
    ("sampler", "found"),
    [
        (ALWAYS_ON, {SpanKind.INTERNAL, SpanKind.CLIENT}),
        (ParentBased(ALWAYS_ON), {SpanKind.INTERNAL, SpanKind.CLIENT}),
        (TraceIdRatioBased(0), set()),
        (ParentBased(TraceIdRatioBased(0)), set()),
        (ParentBased(ALWAYS_OFF, local_parent_not_sampled=ALWAYS_ON), {SpanKind.CLIENT}),
        (_WithoutCalls(), {SpanKind.CLIENT}),
    ],
)
async def test_the_sampler_of_the_application_decides(
    database_url: str, settings: Settings, sampler: Sampler, found: set[SpanKind]
) -> None:
    collected = Collected(sampler)
    async with AgentStore(database_url, settings=settings, telemetry=collected.telemetry()) as store:
        await collected.spans()
        await store.sessions.create_session("alice", "s")
        assert {span.kind for span in await collected.spans()} == found
        (calls,) = [
            point
            for point in collected.metrics()["agentstore.operation.duration"]
            if point.attributes["agentstore.operation"] == "sessions.create_session"
        ]
        assert calls.count == 1
