"""A span that is created when it is needed, at the latest when it ends.

Creating a span takes longer than everything else that a call does before it sends its statement. So the span of a call
is current from its begin, and is created after its end, with the time and the parent that it began with; or before,
when code that runs within the call needs it: a span of the application, a record of a log, an event.
"""

import threading
import time
from collections.abc import Mapping
from contextvars import Token, copy_context
from typing import Any

from opentelemetry import context as contexts
from opentelemetry.trace import Span, SpanContext, Status, StatusCode, Tracer, get_current_span, set_span_in_context


class LateSpan(Span):
    """Creates the span that it stands for, when a method is called. May be used from any thread."""

    def __init__(self, tracer: Tracer, name: str, attributes: Mapping[str, Any]) -> None:
        """Begin now, as a child of the current span."""
        self._began = time.time_ns()
        self._context = copy_context()
        self._tracer = tracer
        self._name = name
        self._given = attributes
        self._lock = threading.Lock()
        self._span: Span | None = None

    def attach(self) -> Token[contexts.Context]:
        """Make this the current span; the result is for :meth:`detach`."""
        return contexts.attach(set_span_in_context(self))

    def attach_created(self) -> None:
        """Create the span, and make it the current one, which takes less of what asks for it often."""
        contexts.attach(set_span_in_context(self.create()))

    def detach(self, token: Token[contexts.Context]) -> None:
        """Make the span that was current before :meth:`attach` the current one."""
        contexts.detach(token)

    def is_current(self) -> bool:
        """Return whether this is the current span."""
        return get_current_span() is self

    def create(self) -> Span:
        """Return the span that this one stands for."""
        if (span := self._span) is None:
            with self._lock:
                if (span := self._span) is None:
                    # In the context in which it began: there, its parent is the current span.
                    span = self._span = self._context.run(
                        self._tracer.start_span, self._name, attributes=self._given, start_time=self._began
                    )
        return span

    def end_after(self, duration: float) -> None:
        """End `duration` seconds after the begin."""
        self.create().end(self._began + int(duration * 1e9))

    def get_span_context(self) -> SpanContext:  # noqa: D102
        return self.create().get_span_context()

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:  # noqa: D102
        self.create().set_attributes(attributes)

    def set_attribute(self, key: str, value: Any) -> None:  # noqa: D102
        self.create().set_attribute(key, value)

    def add_event(self, name: str, attributes: Mapping[str, Any] | None = None, timestamp: int | None = None) -> None:  # noqa: D102
        self.create().add_event(name, attributes, timestamp)

    def add_link(self, context: SpanContext, attributes: Mapping[str, Any] | None = None) -> None:  # noqa: D102
        span = self.create()
        if hasattr(span, "add_link"):  # before 1.24, a span has only the links that it begins with
            span.add_link(context, attributes)

    def update_name(self, name: str) -> None:  # noqa: D102
        self.create().update_name(name)

    def is_recording(self) -> bool:  # noqa: D102
        return self.create().is_recording()

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:  # noqa: D102
        self.create().set_status(status, description)

    def record_exception(  # noqa: D102
        self,
        exception: BaseException,
        attributes: Mapping[str, Any] | None = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        self.create().record_exception(exception, attributes, timestamp, escaped)

    def end(self, end_time: int | None = None) -> None:  # noqa: D102
        self.create().end(end_time)

    def __getattr__(self, name: str) -> Any:
        """Return what the SDK's spans have beyond the API, such as ``attributes``."""
        return getattr(self.create(), name)
