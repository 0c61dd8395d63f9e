"""Measure what telemetry costs an append: time of its caller and client CPU, relative to a store without it.

There is one caller, which appends again when it has its result. Spans are exported in batches, metrics each second, as
in production (the default is each minute), and the exporters discard them.
"""

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    MetricExporter,
    MetricExportResult,
    MetricsData,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from agentstore import AgentStore, Message, Settings, Telemetry
from benchmarks.contender import TEXT, USER
from benchmarks.runner import server

_OFF = "off"


class _DiscardedSpans(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return SpanExportResult.SUCCESS


class _DiscardedMetrics(MetricExporter):
    def export(self, metrics_data: MetricsData, timeout_millis: float = 0, **_: Any) -> MetricExportResult:
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 0) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 0, **_: Any) -> None:
        pass


def _tracer(share: float = 1.0) -> TracerProvider:
    provider = TracerProvider(sampler=ParentBased(TraceIdRatioBased(share)))
    provider.add_span_processor(BatchSpanProcessor(_DiscardedSpans()))
    return provider


def _meter() -> MeterProvider:
    return MeterProvider([PeriodicExportingMetricReader(_DiscardedMetrics(), export_interval_millis=1000)])


_KINDS: dict[str, Callable[[], Telemetry | None]] = {
    _OFF: lambda: None,
    "a function": lambda: Telemetry(on_statement=lambda _: None),
    "metrics": lambda: Telemetry(meter_provider=_meter()),
    "spans": lambda: Telemetry(tracer_provider=_tracer()),
    "metrics, spans of 1 %": lambda: Telemetry(tracer_provider=_tracer(0.01), meter_provider=_meter()),
    "metrics, all spans": lambda: Telemetry(tracer_provider=_tracer(), meter_provider=_meter()),
}


async def measure(url: str | None, log: Callable[[str], None], *, quick: bool = False) -> dict[str, Any]:
    """Append with each kind of telemetry in turns.

    Returns for each kind the median of the seconds of an append (``wall``), of its seconds of client CPU (``cpu``), and
    the quartiles of their ratios to those without telemetry in the same round.

    Args:
        url: the server; None starts an embedded one.
        log: receives a line for each kind.
        quick: fewer rounds.
    """
    rounds, appends = (15, 40) if quick else (81, 100)
    async with server(url) as (_, url_of), AsyncExitStack() as stack:
        stores = {
            kind: await stack.enter_async_context(
                AgentStore(url_of("postgres"), settings=Settings(auto_migrate="upgrade"), telemetry=telemetry())
            )
            for kind, telemetry in _KINDS.items()
        }
        times: dict[str, list[dict[str, float]]] = {kind: [] for kind in stores}
        for number in range(rounds + 1):
            for kind, store in stores.items():
                durations = []
                began = time.process_time()
                for _ in range(appends):
                    sent = time.perf_counter()
                    await store.sessions.append(USER, kind, Message.user(TEXT))
                    durations.append(time.perf_counter() - sent)
                cpu = (time.process_time() - began) / appends
                if number > 0:  # the first round creates the sessions and prepares the statements
                    times[kind].append({"wall": statistics.median(durations), "cpu": cpu})
                await asyncio.sleep(0)  # reports the last append of this kind
    found = {}
    log("-- an append of one caller: time and client CPU, us and relative to a store without telemetry (middle half)")
    for kind, measured in times.items():
        found[kind] = {
            what: _compared([each[what] for each in measured], [each[what] for each in times[_OFF]])
            for what in ("wall", "cpu")
        }
        log(f"{kind:26} " + "   ".join(f"{what} {_formatted(each)}" for what, each in found[kind].items()))
    return found


def _compared(seconds: Sequence[float], without: Sequence[float]) -> dict[str, float]:
    ratios = [mine / theirs for mine, theirs in zip(seconds, without, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return {"seconds": statistics.median(seconds), "ratio": middle, "low": low, "high": high}


def _formatted(found: dict[str, float]) -> str:
    return f"{found['seconds'] * 1e6:7.0f} {found['ratio']:5.2f} ({found['low']:.2f}-{found['high']:.2f})"
