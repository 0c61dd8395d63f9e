"""The providers of an application that keeps what a store reports."""

import asyncio
from typing import Any

import asyncpg
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from agentstore import StatementEvent, Telemetry, TelemetryEvent


class Collected:
    """The providers of an application that keeps everything in memory."""

    def __init__(self, sampler: Sampler | None = None) -> None:
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracer_provider = TracerProvider(sampler)
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meter_provider = MeterProvider([self._reader])
        self.statements: list[StatementEvent] = []
        self.events: list[TelemetryEvent] = []

    def telemetry(self) -> Telemetry:
        """Return the argument for a store."""
        return Telemetry(
            on_statement=self.statements.append,
            on_event=self.events.append,
            tracer_provider=self.tracer_provider,
            meter_provider=self.meter_provider,
        )

    async def spans(self) -> list[ReadableSpan]:
        """Return the spans that have ended since the last call: those of a call are created a turn after its end."""
        await asyncio.sleep(0)
        found = list(self._spans.get_finished_spans())
        self.clear()
        return found

    def ended(self) -> list[str]:
        """Return the names of the spans that have ended."""
        return [span.name for span in self._spans.get_finished_spans()]

    def clear(self) -> None:
        """Forget the spans that have ended."""
        self._spans.clear()

    def metrics(self) -> dict[str, list[Any]]:
        """Return the data points of each metric."""
        data = self._reader.get_metrics_data()
        found: dict[str, list[Any]] = {}
        for resource in [] if data is None else data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    found.setdefault(metric.name, []).extend(metric.data.data_points)
        return found


async def wait_until_locked(observer: asyncpg.Connection) -> None:
    waiting = """
        SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
        WHERE d.datname = current_database() AND NOT l.granted
    """
    async with asyncio.timeout(60):
        while not await observer.fetchval(waiting):
            await asyncio.sleep(0.01)
