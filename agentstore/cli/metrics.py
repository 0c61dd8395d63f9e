"""``agentstore metrics``."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from agentstore.cli.connect import load_settings
from agentstore.cli.options import Json, Url, new_group
from agentstore.cli.output import echo, echo_error, echo_json
from agentstore.errors import NotConfigured

if TYPE_CHECKING:
    from collections.abc import Callable

    from prometheus_client import CollectorRegistry

    from agentstore.database.database import Database
    from agentstore.errors import AgentStoreError
    from agentstore.operations.metrics import Figures

commands = new_group()

# Seconds that a scrape waits for the figures.
_TIMEOUT = 30.0


@commands.command()
def metrics(
    serve: Annotated[
        str | None,
        typer.Option(
            metavar="PORT",
            help="Serve the figures at http://127.0.0.1:PORT/metrics, or at HOST:PORT, until interrupted.",
        ),
    ] = None,
    url: Url = None,
    json_: Json = False,
) -> None:
    """Print or serve figures of the database for monitoring.

    In Prometheus' format: queues, the schema, tables. They are those of the database, so one process that serves them
    is enough. The exit code is that of the error if they could not be read; --serve reports it by the figure
    agentstore_up.
    """
    if serve is not None:
        asyncio.run(_serve(url, *_address(serve)))
        return
    # Before the database is asked: it fails if the packages are not installed.
    latest: Figures = {}
    registry = None if json_ else _registry(lambda: latest)
    latest, error = asyncio.run(_read(url))
    if registry is None:
        echo_json({name: [{"value": value, **labels} for value, labels in found] for name, found in latest.items()})
    else:
        from prometheus_client import generate_latest

        echo(generate_latest(registry).decode().rstrip("\n"))
    if error is not None:
        raise error


def _address(given: str) -> tuple[str, int]:
    host, _, port = given.rpartition(":")
    if not port.isdecimal() or not 0 < int(port) < 65_536:
        raise typer.BadParameter(f"expected PORT or HOST:PORT, got {given!r}", param_hint="--serve")
    return host.strip("[]") or "127.0.0.1", int(port)


async def _read(url: str | None) -> tuple[Figures, AgentStoreError | None]:
    from agentstore.operations.metrics import read_or_report

    database = _open(url)
    try:
        return await read_or_report(database)
    finally:
        await database.stop()


async def _serve(url: str | None, host: str, port: int) -> None:
    from agentstore.errors import AgentStoreError
    from agentstore.operations.metrics import read_or_report

    database = _open(url)
    loop = asyncio.get_running_loop()

    def read() -> Figures:
        """Read the figures in the event loop, from the thread of a scrape."""
        reading = asyncio.run_coroutine_threadsafe(read_or_report(database, AgentStoreError, timeout=_TIMEOUT), loop)
        figures, error = reading.result()
        if error is not None:
            echo_error(str(error))
        return figures

    registry = _registry(read)
    from prometheus_client import start_http_server

    try:
        try:
            server, thread = start_http_server(port, host, registry)
        except OSError as error:
            raise NotConfigured(f"the figures cannot be served on {host}:{port}: {error.strerror}") from error
        echo(f"serving http://{host}:{port}/metrics")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.to_thread(server.shutdown)
            await asyncio.to_thread(thread.join)
    finally:
        await database.stop()


def _open(url: str | None) -> Database:
    from agentstore.repositories.connect import open_database

    return open_database(url, settings=load_settings())


def _registry(read: Callable[[], Figures]) -> CollectorRegistry:
    """Return what OpenTelemetry's exporter for Prometheus has of the figures, which it reads at each scrape.

    Raises:
        NotConfigured: the packages are not installed.
    """
    from agentstore.operations.metrics import KINDS

    try:
        from opentelemetry.exporter.prometheus import PrometheusMetricReader
        from opentelemetry.metrics import Observation
        from opentelemetry.sdk.metrics import MeterProvider
        from prometheus_client import CollectorRegistry
    except ImportError as error:
        raise NotConfigured(
            "`agentstore metrics` needs OpenTelemetry's exporter: pip install 'agentstore-postgres[metrics]'"
        ) from error

    registry = CollectorRegistry()
    reader = PrometheusMetricReader(disable_target_info=True, scope_info_enabled=False, registry=registry)
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("agentstore")
    latest: Figures = {}

    def observe(name: str, _: object) -> list[Observation]:
        if name == first:  # gauges are observed in the order in which they were created
            latest.clear()
            latest.update(read())
        return [Observation(value, dict(labels)) for value, labels in latest.get(name, ())]

    first = next(iter(KINDS))
    for name, (unit, description) in KINDS.items():
        meter.create_observable_gauge(name, [partial(observe, name)], unit, description)
    return registry
