"""Spans and metrics of OpenTelemetry, by its semantic conventions for database clients.

Needs the package opentelemetry-api, which the extra ``otel`` installs. Only an application that has set a provider, or
passes one, has spans and metrics: without one nothing is created. No global state is changed.

https://opentelemetry.io/docs/specs/semconv/db/
"""

import inspect
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple

from agentstore.database.telemetry import (
    Call,
    Execution,
    Server,
    Telemetry,
    outside_of_calls,
    sqlstate_of,
)
from agentstore.schemas.stats import PoolStats
from agentstore.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation
    from opentelemetry.trace import Span, SpanContext, Tracer, TracerProvider

    from agentstore.database.late_spans import LateSpan

SCHEMA_URL = "https://opentelemetry.io/schemas/1.37.0"
_NAME = "agentstore"
# In seconds: those that the conventions advise for db.client.operation.duration.
_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
_BATCHES = (1, 2, 4, 8, 16, 32, 64)
_COUNTED = {
    "statement.retried": "agentstore.retries",
    "call.retried": "agentstore.retries",
    "connection.discarded": "agentstore.connections.discarded",
    "statement.unknown_outcome": "agentstore.unknown_outcomes",
    "pool.timeout": "db.client.connection.timeouts",
}
# The attributes of events that are labels of metrics: of each there are few values.
_LABELS = {
    "statement": "db.query.summary",
    "call": "agentstore.operation",
    "sqlstate": "db.response.status_code",
    "reason": "agentstore.reason",
}


class _Shared(NamedTuple):
    """What calls share that a task executes for all of them."""

    callers: list["Span"]
    statements: list["SpanContext"]


_shared: ContextVar[_Shared | None] = ContextVar("agentstore_shared", default=None)


def load(
    telemetry: Telemetry, server: Server, settings: Settings, pool_stats: Callable[[], PoolStats]
) -> "OpenTelemetry | None":
    """Return what creates spans and metrics; None without a provider, or without the package."""
    tracers, meters = telemetry.tracer_provider, telemetry.meter_provider
    try:
        from opentelemetry import metrics, trace
    except ImportError:
        return None
    if tracers is None and not _is_placeholder(found := trace.get_tracer_provider()):
        tracers = found
    if meters is None and not _is_placeholder(given := metrics.get_meter_provider()):
        meters = given
    if tracers is None and meters is None:
        return None
    return OpenTelemetry(tracers, meters, server, settings, pool_stats)


def _is_placeholder(provider: object) -> bool:
    """Return whether a provider is the one that the API uses as long as the application has set none."""
    return type(provider).__name__ in ("ProxyTracerProvider", "_ProxyMeterProvider", "NoOpTracerProvider")


class OpenTelemetry:
    """The spans and metrics of one database."""

    def __init__(
        self,
        tracers: "TracerProvider | None",
        meters: "MeterProvider | None",
        server: Server,
        settings: Settings,
        pool_stats: Callable[[], PoolStats],
    ) -> None:
        """Use the providers that are given; see :func:`load`."""
        from opentelemetry import context, metrics, trace

        from agentstore.database.late_spans import LateSpan

        self._trace = trace
        self._late_span = LateSpan
        # An exemplar, which refers to the current span, takes a third of a measurement: that of the statement has one.
        self._no_span = context.Context()
        self._tracer = None if tracers is None else tracers.get_tracer(_NAME, schema_url=SCHEMA_URL)
        self._samples_traces = _samples_traces(self._tracer)
        self._has_text = settings.telemetry_sql
        self._server: dict[str, Any] = {"db.system.name": "postgresql"}
        for name, value in (
            ("db.namespace", server.database),
            ("server.address", server.address),
            ("server.port", server.port),
        ):
            if value is not None:
                self._server[name] = value
        pool = f"{server.address or 'unknown'}:{server.port or 5432}/{server.database or ''}"
        self.pool = {"db.client.connection.pool.name": pool}
        self._attributes: dict[str, dict[str, Any]] = {}
        self._call_attributes: dict[str, dict[str, Any]] = {}
        self.pool_stats = pool_stats
        self._instruments = _instruments_of(meters or metrics.NoOpMeterProvider())
        self._instruments.databases[id(self)] = self

    def stop(self) -> None:
        """Observe the pool no more."""
        self._instruments.databases.pop(id(self), None)

    def begin_call(self, name: str) -> "LateSpan | None":
        """Begin the span of a public call; None without a provider of spans."""
        if self._tracer is None:
            return None
        return self._late_span(self._tracer, f"agentstore.{name}", self._call_attributes_of(name))

    def end_call(self, call: Call, duration: float, error: BaseException | None) -> None:
        """End the span of a public call, and count the call."""
        attributes = self._call_attributes_of(call.name)
        if error is not None:
            attributes = {**attributes, **_error_attributes(error)}
        self._instruments.calls.record(duration, attributes)
        if call.span is not None:
            self._fail(call.span, error)
            call.span.end_after(duration)

    def report_statement(self, execution: Execution, duration: float, error: BaseException | None) -> None:
        """Create the span of a statement that has ended, and count the statement."""
        attributes = self._attributes_of(execution.name)
        if error is not None:
            attributes = {**attributes, **_error_attributes(error)}
        self._instruments.statements.record(duration, attributes)
        if self._tracer is None or (self._samples_traces and self._is_in_unsampled_trace()):
            return
        attributes = {**attributes}
        if execution.rows is not None:
            attributes["db.response.returned_rows"] = execution.rows
        if execution.attempts > 1:
            attributes["agentstore.attempts"] = execution.attempts
        if self._has_text and execution.sql is not None:
            attributes["db.query.text"] = execution.sql
        shared = _shared.get()
        callers = [] if shared is None else [each.get_span_context() for each in shared.callers]
        span = self._tracer.start_span(
            execution.name,
            kind=self._trace.SpanKind.CLIENT,
            attributes=attributes,
            links=[self._trace.Link(each) for each in callers if each.is_valid],
            start_time=execution.started_at,
        )
        if shared is not None:
            shared.statements.append(span.get_span_context())
        if error is not None:
            span.set_status(self._trace.StatusCode.ERROR)
        span.end(execution.started_at + int(duration * 1e9))

    def _is_in_unsampled_trace(self) -> bool:
        span = self._trace.get_current_span()
        parent = span.get_span_context()
        return parent.is_valid and not parent.trace_flags.sampled and not span.is_recording()

    def event(self, name: str, attributes: Mapping[str, Any]) -> None:
        """Add an event to the current span, and count it where there is a counter for it."""
        known = {key: value for key, value in attributes.items() if value is not None}
        span = self._trace.get_current_span()
        if span.is_recording():  # what goes on in the background may outlive the call that has begun it
            span.add_event(f"agentstore.{name}", known)
        if (counter := _COUNTED.get(name)) is not None:
            labels = self.pool if name.startswith(("connection.", "pool.")) else {}
            labels = {**labels, **{label: known[key] for key, label in _LABELS.items() if key in known}}
            self._instruments.counters[counter].add(1, labels)

    def current_span(self) -> "Span":
        """Return the current span, for :meth:`shared_by`."""
        return self._trace.get_current_span()

    @contextmanager
    def shared_by(self, callers: "Sequence[Span | None]") -> "Iterator[Sequence[SpanContext]]":
        """Let the statements of a block belong to several calls: linked to their spans, and the child of none.

        Returns the statements, which grow: each caller links its span to them (:meth:`link`).
        """
        from opentelemetry import context

        self._instruments.batches.record(len(callers))
        # None for a call that has begun before the store was started again.
        shared = _Shared([each for each in callers if each is not None], [])
        began, token = _shared.set(shared), context.attach(context.Context())
        try:
            with outside_of_calls():
                yield shared.statements
        finally:
            context.detach(token)
            _shared.reset(began)

    def link(self, statements: "Sequence[SpanContext]") -> None:
        """Link the span of the current call to the statements that it shares with others."""
        span = self._trace.get_current_span()
        for each in statements:
            if each.is_valid:
                span.add_link(each)

    def record_create_time(self, duration: float) -> None:
        """Count a new connection."""
        self._instruments.create_time.record(duration, self.pool)

    def record_wait_time(self, duration: float) -> None:
        """Count a wait for a connection."""
        self._instruments.wait_time.record(duration, self.pool, self._no_span)

    def record_use_time(self, duration: float) -> None:
        """Count the use of a connection."""
        self._instruments.use_time.record(duration, self.pool, self._no_span)

    def _attributes_of(self, statement: str) -> dict[str, Any]:
        found = self._attributes.get(statement)
        if found is None:
            found = self._attributes[statement] = {
                **self._server,
                "db.query.summary": statement,
                "db.operation.name": statement.rpartition(".")[2],
            }
        return found

    def _call_attributes_of(self, call: str) -> dict[str, Any]:
        found = self._call_attributes.get(call)
        if found is None:
            found = self._call_attributes[call] = {"agentstore.operation": call}
        return found

    def _fail(self, span: "Span", error: BaseException | None) -> None:
        """Mark a span as failed. Without the message of the error, which may have ids."""
        if error is not None and span.is_recording():
            span.set_attributes(_error_attributes(error))
            span.set_status(self._trace.StatusCode.ERROR)


def _samples_traces(tracer: "Tracer | None") -> bool:
    """Return whether the sampler drops each span whose parent it has dropped, as those of the SDK do.

    One that looks at the name or kind of a span may drop that of a call, and not those of its statements.
    """
    describe = getattr(getattr(tracer, "sampler", None), "get_description", None)
    if describe is None:
        return False
    description: str = describe()
    return description.startswith("TraceIdRatioBased{") or (
        description.startswith("ParentBased{") and description.endswith(",localParentNotSampled:AlwaysOffSampler}")
    )


def _error_attributes(error: BaseException | None) -> dict[str, str]:
    if error is None:
        return {}
    sqlstate = sqlstate_of(error)
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return {"error.type": name} if sqlstate is None else {"error.type": name, "db.response.status_code": sqlstate}


class _Instruments:
    """The instruments of one provider, which all databases share."""

    def __init__(self, meter: "Meter") -> None:
        from opentelemetry.metrics import Observation

        self._observation = Observation
        # By their id. A store that is never stopped leaves with its last reference.
        self.databases: weakref.WeakValueDictionary[int, OpenTelemetry] = weakref.WeakValueDictionary()
        # Before 1.30, the API knows no advice about buckets.
        is_advised = "explicit_bucket_boundaries_advisory" in inspect.signature(meter.create_histogram).parameters
        seconds: dict[str, Any] = {"unit": "s"}
        batches: dict[str, Any] = {"unit": "{call}"}
        if is_advised:
            seconds["explicit_bucket_boundaries_advisory"] = _BUCKETS
            batches["explicit_bucket_boundaries_advisory"] = _BATCHES
        self.statements = meter.create_histogram(
            "db.client.operation.duration", description="Duration of database client operations.", **seconds
        )
        self.calls = meter.create_histogram(
            "agentstore.operation.duration", description="Duration of public calls.", **seconds
        )
        self.create_time = meter.create_histogram(
            "db.client.connection.create_time", description="The time it took to create a connection.", **seconds
        )
        self.wait_time = meter.create_histogram(
            "db.client.connection.wait_time", description="The time a call waited for a connection.", **seconds
        )
        self.use_time = meter.create_histogram(
            "db.client.connection.use_time", description="The time a call used a connection.", **seconds
        )
        self.batches = meter.create_histogram(
            "agentstore.append.batch.size", description="How many appends shared a statement.", **batches
        )
        self.counters = {
            name: meter.create_counter(name, unit=unit, description=description)
            for name, unit, description in (
                ("agentstore.retries", "{retry}", "Statements and calls that were executed again."),
                ("agentstore.connections.discarded", "{connection}", "Connections that were not used again."),
                ("agentstore.unknown_outcomes", "{statement}", "Writes whose response was lost."),
                ("db.client.connection.timeouts", "{timeout}", "Calls for which no connection became free."),
            )
        }
        for name, unit, description, observed in (
            ("db.client.connection.count", "{connection}", "Open connections.", self._count),
            ("db.client.connection.max", "{connection}", "The maximum number of connections.", self._max),
            ("db.client.connection.idle.max", "{connection}", "The maximum number of idle ones.", self._max),
            ("db.client.connection.pending_requests", "{request}", "Calls that wait for one.", self._waiting),
        ):
            meter.create_observable_up_down_counter(name, [observed], unit=unit, description=description)

    def _count(self, _: "CallbackOptions") -> "Iterable[Observation]":
        for stats, pool in self._stats():
            for state, value in (("idle", stats.idle), ("used", stats.in_use)):
                yield self._observation(value, {**pool, "db.client.connection.state": state})

    def _max(self, _: "CallbackOptions") -> "Iterable[Observation]":
        # That of an engine of the application is not known.
        return [self._observation(stats.size, pool) for stats, pool in self._stats() if stats.size]

    def _waiting(self, _: "CallbackOptions") -> "Iterable[Observation]":
        return [self._observation(stats.waiting, pool) for stats, pool in self._stats()]

    def _stats(self) -> list[tuple[PoolStats, Mapping[str, str]]]:
        """Return the connections by pool: databases with the same URL share its name."""
        found: dict[str, tuple[PoolStats, Mapping[str, str]]] = {}
        for reference in self.databases.valuerefs():
            if (each := reference()) is None:
                continue
            stats = each.pool_stats()
            name = each.pool["db.client.connection.pool.name"]
            if name in found:
                stats += found[name][0]
            found[name] = stats, each.pool
        return list(found.values())


# A provider warns about an instrument that is created twice.
_instruments: "weakref.WeakKeyDictionary[MeterProvider, _Instruments]" = weakref.WeakKeyDictionary()


def _instruments_of(provider: "MeterProvider") -> _Instruments:
    try:
        found = _instruments.get(provider)
    except TypeError:  # it has no hash, or supports no weak references
        return _Instruments(provider.get_meter(_NAME, schema_url=SCHEMA_URL))
    if found is None:
        found = _instruments[provider] = _Instruments(provider.get_meter(_NAME, schema_url=SCHEMA_URL))
    return found
