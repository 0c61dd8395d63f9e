"""Measure what telemetry costs an append: client CPU, relative to that of a store without it."""

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from agentstore import AgentStore, Message, Settings, Telemetry
from benchmarks.contender import TEXT, USER
from benchmarks.runner import server

_OFF = "off"


class _Discarded(SpanExporter):
    """Takes spans in batches, as that of a collector does, and sends them nowhere."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


def _tracer(share: float = 1.0) -> TracerProvider:
    provider = TracerProvider(sampler=TraceIdRatioBased(share))
    provider.add_span_processor(BatchSpanProcessor(_Discarded()))
    return provider


def _meter() -> MeterProvider:
    return MeterProvider([InMemoryMetricReader()])


_KINDS: dict[str, Callable[[], Telemetry | None]] = {
    _OFF: lambda: None,
    "a function": lambda: Telemetry(on_statement=lambda _: None),
    "metrics": lambda: Telemetry(meter_provider=_meter()),
    "spans": lambda: Telemetry(tracer_provider=_tracer()),
    "spans of 1 % of the calls": lambda: Telemetry(tracer_provider=_tracer(0.01)),
    "metrics and spans": lambda: Telemetry(tracer_provider=_tracer(), meter_provider=_meter()),
}


async def measure(url: str | None, log: Callable[[str], None], *, quick: bool = False) -> dict[str, Any]:
    """Append with each kind of telemetry in turns; return the seconds of CPU of an append and the ratios.

    Args:
        url: the server; None starts an embedded one.
        log: receives a line for each kind.
        quick: fewer rounds.
    """
    rounds, appends = (7, 60) if quick else (41, 200)
    async with server(url) as (_, url_of), AsyncExitStack() as stack:
        stores = {
            kind: await stack.enter_async_context(
                AgentStore(url_of("postgres"), settings=Settings(auto_migrate="upgrade"), telemetry=telemetry())
            )
            for kind, telemetry in _KINDS.items()
        }
        times: dict[str, list[float]] = {kind: [] for kind in stores}
        for number in range(rounds + 1):
            for kind, store in stores.items():
                began = time.process_time()
                for _ in range(appends):
                    await store.sessions.append(USER, kind, Message.user(TEXT))
                if number > 0:  # the first round creates the sessions and prepares the statements
                    times[kind].append((time.process_time() - began) / appends)
        found = {}
        log("-- client CPU of an append, us and relative to a store without telemetry (middle half)")
        for kind, seconds in times.items():
            ratios = [mine / without for mine, without in zip(seconds, times[_OFF], strict=True)]
            low, middle, high = statistics.quantiles(ratios, n=4)
            found[kind] = {"seconds": statistics.median(seconds), "ratio": middle, "low": low, "high": high}
            log(f"{kind:26} {found[kind]['seconds'] * 1e6:7.0f}   {middle:5.2f} ({low:.2f}-{high:.2f})")
    return found
