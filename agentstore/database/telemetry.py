"""What happens in the database layer, reported to logs, to functions of the application, and to OpenTelemetry.

Each statement, each wait for a connection and each retry is measured in one place. What is rare (a new connection, a
retry, a discarded connection) is always reported, as a :class:`TelemetryEvent`. Statements and public calls are
measured only if somebody asks for it: a function of the application, a provider of OpenTelemetry, or the setting
SLOW_STATEMENT. Otherwise they cost a comparison.
"""

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

from agentstore.errors import NotConfigured
from agentstore.schemas.stats import PoolStats
from agentstore.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from agentstore.database.late_spans import LateSpan
    from agentstore.database.otel import OpenTelemetry

_log = logging.getLogger(__name__)

EventName = Literal[
    "connection.opened",
    "connection.discarded",
    "connection.limited",
    "pool.timeout",
    "statement.retried",
    "statement.slow",
    "statement.unknown_outcome",
    "call.retried",
    "migration.waiting",
    "hook.failed",
]
"""The names of events: stable, documented in docs/telemetry.md."""


@dataclass(frozen=True, slots=True)
class TelemetryEvent:
    """Something that is rare, and that explains what the application sees: also logged, with these attributes."""

    name: EventName
    message: str
    """What happened, for people. Has no ids, texts or secrets of users."""
    attributes: Mapping[str, Any]
    """Depending on the event: ``statement``, ``sqlstate``, ``reason``, ``attempt``, ``duration`` in seconds."""


@dataclass(frozen=True, slots=True)
class StatementEvent:
    """A statement that was executed, with its retries."""

    name: str
    """What it is about and what it does: ``sessions.append``."""
    call: str | None
    """The public call that executed it, such as ``sessions.append_message``; None outside of one."""
    duration: float
    """Seconds from its begin to its result, including retries and excluding `waited`."""
    waited: float
    """Seconds that it waited for a connection. In a transaction, the wait belongs to the transaction, and this is 0."""
    attempts: int
    """How often it was executed: more than 1 after errors that are safe to retry."""
    rows: int | None
    """How many rows it returned; None if it failed."""
    error: BaseException | None
    """What it raised. Its message may have ids: that of a violated constraint names the row."""

    @property
    def sqlstate(self) -> str | None:
        """The SQLSTATE of its error, if the server reported one."""
        return sqlstate_of(self.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """Where a store reports what it does: pass it as ``AgentStore(telemetry=Telemetry(...))``.

    The functions are called in the event loop that executes the statement, and must not block. What they raise is
    logged, and does not reach the call.
    """

    on_statement: Callable[[StatementEvent], object] | None = None
    """Called after each statement."""
    on_event: Callable[[TelemetryEvent], object] | None = None
    """Called at each event, which is logged as well."""
    tracer_provider: "TracerProvider | None" = None
    """Creates the tracer. Default: the global provider, if the application has set one when the store starts."""
    meter_provider: "MeterProvider | None" = None
    """Creates the meter. Default: the global provider, if the application has set one when the store starts."""

    def __post_init__(self) -> None:
        """Check the functions and providers.

        Raises:
            NotConfigured: a function cannot be called, or is async, or a provider cannot create tracers or meters.
        """
        for name in ("on_statement", "on_event"):
            given = getattr(self, name)
            if given is not None and (not callable(given) or inspect.iscoroutinefunction(given)):
                kind = "an async function" if callable(given) else type(given).__name__
                raise NotConfigured(f"Telemetry.{name} must be a function that is not async, got {kind}")
        for name, method in (("tracer_provider", "get_tracer"), ("meter_provider", "get_meter")):
            given = getattr(self, name)
            if given is not None and not hasattr(given, method):
                raise NotConfigured(f"Telemetry.{name} must have {method}(), which {type(given).__name__} lacks")


class Server(NamedTuple):
    """The database as spans and metrics name it; None for what is not known, such as one of several hosts."""

    address: str | None = None
    port: int | None = None
    database: str | None = None


class Call:
    """A public call that is being observed: a context manager that makes it the current one, and reports it.

    Its spans are created, and its measurements recorded, in the next turn of the event loop: when the caller has its
    result, and mostly while the server executes the caller's next statement.
    """

    __slots__ = ("_began", "_context", "_is_due", "_reports", "_token", "name", "observer", "otel", "span")

    def __init__(self, observer: "Observer", name: str) -> None:
        self.observer: Observer | None = observer
        self.name = name
        # What begins the span ends it, though the store may be stopped or started meanwhile.
        self.otel = observer.otel
        self.span: LateSpan | None = None if self.otel is None else self.otel.begin_call(name)
        self._reports: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
        self._is_due = False
        self._began = time.perf_counter()

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.end(error)
        finally:
            self.leave()

    def enter(self) -> None:
        """Make this the current call, and its span the parent of those that begin."""
        self._token = _call.set(self)
        if self.span is not None:
            self._context = self.span.attach()

    __enter__ = enter

    def leave(self) -> None:
        """Make the call that was current before the current one, without reporting this one."""
        if self.span is not None:
            self.span.detach(self._context)
        _call.reset(self._token)

    def is_current(self) -> bool:
        """Return whether the span of this call is the current one; true without spans."""
        return self.span is None or self.span.is_current()

    def end(self, error: BaseException | None) -> None:
        """Report the call. Tasks that it has started, and that go on, belong to no call from now on."""
        self.observer = None
        if self.otel is not None:
            self.add(self.otel.end_call, self, time.perf_counter() - self._began, error)
            self.report_soon()

    def add(self, report: Callable[..., object], *arguments: Any) -> None:
        """Let a function be called with the others of this call, see :meth:`report_soon`."""
        self._reports.append((report, arguments))

    def report_soon(self) -> None:
        """Call the added functions in the next turn of the event loop."""
        if not self._is_due:
            self._is_due = True
            soon(self._report)

    def _report(self) -> None:
        self._is_due = False
        if self.span is not None:
            self.span.attach_created()  # until the end of this turn, whose context is a copy
        try:
            while self._reports:
                report, arguments = self._reports.pop(0)
                report(*arguments)
        finally:
            if self._reports:  # one failed, such as a span processor of the application
                self.report_soon()


def soon(report: Callable[..., object], *arguments: Any) -> None:
    """Call a function in the next turn of the event loop, in the current context; now if none runs."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # a coroutine is finalized after its loop was closed
        copy_context().run(report, *arguments)
    else:
        loop.call_soon(report, *arguments)


_call: ContextVar[Call | None] = ContextVar("agentstore_call", default=None)


def current_call() -> Call | None:
    """Return the public call that is being executed, if it is observed."""
    call = _call.get()
    return call if call is not None and call.observer is not None else None


@contextmanager
def outside_of_calls() -> Iterator[None]:
    """Let the statements of a block belong to no public call, such as those that several calls share."""
    token = _call.set(None)
    try:
        yield
    finally:
        _call.reset(token)


class Execution:
    """The execution of one statement, as a context manager: reported at its end."""

    __slots__ = ("_began", "_observer", "attempts", "name", "otel", "rows", "sql", "started_at", "waited")

    def __init__(self, observer: "Observer", name: str, sql: str | None = None) -> None:
        self._observer = observer
        self.name = name
        self.sql = sql
        self.waited = 0.0
        self.attempts = 1
        self.rows: int | None = None
        self.otel = observer.otel

    def __enter__(self) -> Self:
        self.started_at = time.time_ns()
        self._began = time.perf_counter()
        return self

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._observer.end(self, time.perf_counter() - self._began - self.waited, error)


class Observer:
    """Reports what one database does. Its settings take effect at each start."""

    def __init__(self, settings: Settings, telemetry: Telemetry | None = None, server: Server = Server()) -> None:  # noqa: B008
        """Report to `telemetry`; `server` is the database."""
        self._telemetry = telemetry or Telemetry()
        self._settings = settings
        self._slow = settings.slow_statement
        self.server = server
        self.otel: OpenTelemetry | None = None
        # Whether statements, calls and waits are measured.
        self.measures = False

    def start(self, pool_stats: Callable[[], PoolStats]) -> None:
        """Find out what to report, when a store starts. `pool_stats` is called in another thread too."""
        self.stop()
        if self._settings.telemetry == "auto":
            from agentstore.database.otel import load

            self.otel = load(self._telemetry, self.server, self._settings, pool_stats)
        self.measures = self.otel is not None or self._slow is not None or self._telemetry.on_statement is not None

    def stop(self) -> None:
        """Report nothing more about the pool."""
        if self.otel is not None:
            self.otel.stop()
        self.otel = None
        self.measures = False

    @contextmanager
    def call(self, name: str, pool_stats: Callable[[], PoolStats]) -> Iterator[None]:
        """Report a block as a public call: one that needs no store that has started, such as an upgrade."""
        if _is_within_call(self):
            yield
            return
        is_started = self.measures
        if not is_started:
            self.start(pool_stats)
        try:
            if not self.measures:
                yield
                return
            with Call(self, name):
                yield
        finally:
            if not is_started:
                self.stop()

    def execution(self, name: str, sql: str | None = None) -> Execution:
        """Return the context manager that measures the execution of a statement."""
        return Execution(self, name, sql)

    def end(self, execution: Execution, duration: float, error: BaseException | None) -> None:
        """Report a statement that has ended."""
        call = current_call()
        if (otel := execution.otel) is not None:
            arguments = execution, duration + execution.waited, error
            # A span that the application has begun within the call is the parent of the statements in it.
            if call is None or not call.is_current():
                soon(otel.report_statement, *arguments)
            else:
                call.add(otel.report_statement, *arguments)
                call.report_soon()
        if self._slow is not None and duration >= self._slow:
            self.event(
                "statement.slow",
                logging.WARNING,
                f"the statement {execution.name} took {duration:.3f} s",
                statement=execution.name,
                duration=round(duration, 6),
                rows=execution.rows,
            )
        if self._telemetry.on_statement is not None:
            self._run_hook(
                self._telemetry.on_statement,
                StatementEvent(
                    execution.name,
                    None if call is None else call.name,
                    duration,
                    execution.waited,
                    execution.attempts,
                    execution.rows,
                    error,
                ),
            )

    def event(self, name: EventName, level: int, message: str, **attributes: Any) -> None:
        """Log an event, and report it to the application and to the span of the current call."""
        _log.log(level, message, extra={"event": name, **attributes})
        if (otel := self.otel) is not None:
            otel.event(name, attributes)
        if self._telemetry.on_event is not None:
            self._run_hook(self._telemetry.on_event, TelemetryEvent(name, message, attributes))

    def opened(self, duration: float) -> None:
        """Report a new connection."""
        if (otel := self.otel) is not None:
            otel.record_create_time(duration)
        self.event(
            "connection.opened",
            logging.INFO,
            f"a connection was opened in {duration:.3f} s",
            duration=round(duration, 6),
        )

    def discarded(self, reason: str) -> None:
        """Report a connection that is not used again, although the pool is open."""
        self.event("connection.discarded", logging.WARNING, f"a connection was discarded: {reason}", reason=reason)

    def waited(self, duration: float) -> None:
        """Report how long a call waited for a connection."""
        if (otel := self.otel) is not None:
            if (call := current_call()) is None:
                otel.record_wait_time(duration)
            else:
                call.add(otel.record_wait_time, duration)

    def used(self, duration: float) -> None:
        """Report how long a call used a connection."""
        if (otel := self.otel) is not None:
            if (call := current_call()) is None:
                otel.record_use_time(duration)
            else:
                call.add(otel.record_use_time, duration)

    def timed_out(self, timeout: float) -> None:
        """Report a call for which no connection became free."""
        message = f"no connection became free within {timeout:g} s"
        self.event("pool.timeout", logging.WARNING, message, duration=timeout)

    def retried(self, statement: str, error: BaseException, attempt: int) -> None:
        """Report a statement that is executed again."""
        sqlstate = sqlstate_of(error)
        self.event(
            "statement.retried",
            logging.WARNING,
            f"the statement {statement} is executed again, after {sqlstate or type(error).__name__}",
            statement=statement,
            sqlstate=sqlstate,
            attempt=attempt,
        )

    def unknown_outcome(self, statement: str) -> None:
        """Report a write whose response was lost."""
        message = f"the response to the statement {statement} was lost, which may have been committed"
        self.event("statement.unknown_outcome", logging.WARNING, message, statement=statement)

    def _run_hook(self, hook: Callable[[Any], object], event: object) -> None:
        try:
            hook(event)
        except Exception as error:  # noqa: BLE001
            # The statement has been executed: its caller must learn that.
            _log.exception("a function of Telemetry failed", extra={"event": "hook.failed"})
            if (otel := self.otel) is not None:
                otel.event("hook.failed", {"error": type(error).__name__})


def sqlstate_of(error: BaseException | None) -> str | None:
    """Return the SQLSTATE that the server reported for an error, or for its cause."""
    while error is not None:
        if isinstance(sqlstate := getattr(error, "sqlstate", None), str):
            return sqlstate
        error = error.__cause__
    return None


def note_retry(error: BaseException | None, attempt: int) -> None:
    """Report that work of the current public call begins again, because of concurrent writes."""
    call = current_call()
    if call is not None and call.observer is not None:
        sqlstate = sqlstate_of(error)
        message = f"a call begins again because of concurrent writes ({sqlstate or 'the data has changed'})"
        call.observer.event(
            "call.retried", logging.WARNING, message, call=call.name, sqlstate=sqlstate, attempt=attempt
        )


def observe_calls(service: type[Any], area: str, observer_of: Callable[[Any], Observer]) -> None:
    """Let the public methods of a class report each call to the observer of its object.

    A call within a call of the same store, such as that of a list within an export, is a part of it. `area` names the
    service.
    """
    for name in dir(service):
        if name.startswith("_") or name in _LIFECYCLE:
            continue
        method = getattr(service, name)
        if inspect.iscoroutinefunction(method):
            setattr(service, name, _observed(method, f"{area}.{name}", observer_of))
        elif inspect.isasyncgenfunction(method):
            setattr(service, name, _observed_generator(method, f"{area}.{name}", observer_of))


_LIFECYCLE = {"start", "stop", "health"}


def _observed(method: Callable[..., Any], name: str, observer_of: Callable[[Any], Observer]) -> Callable[..., Any]:
    @wraps(method)
    async def call(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        observer = observer_of(self)
        if not observer.measures or _is_within_call(observer):
            return await method(self, *args, **kwargs)
        with Call(observer, name):
            return await method(self, *args, **kwargs)

    return call


def _observed_generator(
    method: Callable[..., AsyncIterator[Any]], name: str, observer_of: Callable[[Any], Observer]
) -> Callable[..., AsyncGenerator[Any, None]]:
    @wraps(method)
    async def call(self: Any, /, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        observer = observer_of(self)
        generator = method(self, *args, **kwargs)
        observed = Call(observer, name) if observer.measures and not _is_within_call(observer) else None
        error: BaseException | None = None
        try:
            while True:
                # Not across a yield: what the caller does in between is not a part of this call.
                try:
                    if observed is None:
                        item = await anext(generator)
                    else:
                        observed.enter()
                        try:
                            item = await anext(generator)
                        finally:
                            observed.leave()
                except StopAsyncIteration:
                    return
                yield item
        except GeneratorExit:
            raise
        except BaseException as raised:
            error = raised
            raise
        finally:
            try:
                if isinstance(generator, AsyncGenerator):
                    await generator.aclose()
            finally:
                if observed is not None:
                    observed.end(error)

    return call


def _is_within_call(observer: Observer) -> bool:
    """Return whether a public call of the same store is being executed: a new one is a part of it."""
    call = current_call()
    return call is not None and call.observer is observer
