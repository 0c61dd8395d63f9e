"""The alert rules and the dashboard in docs/operations use metrics and labels that a real run has."""

import asyncio
import json
import re
from pathlib import Path

import asyncpg
import pytest
import yaml
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from agentstore import AgentStore, NotFound, PoolTimeout, Settings, Telemetry
from agentstore.database.database import Database
from agentstore.errors import AgentStoreError, Unavailable
from agentstore.operations.metrics import read_or_report
from agentstore.testing import text
from tests.support.cli import run
from tests.support.failures import FAIL_ONCE

ROOT = Path(__file__).parents[2]
RULES = ROOT / "docs" / "operations" / "alerts.yaml"
DASHBOARD = ROOT / "docs" / "operations" / "dashboard.json"


def samples_of(exposed: str) -> list[Sample]:
    """Return all samples in Prometheus' format."""
    return [sample for family in text_string_to_metric_families(exposed) for sample in family.samples]


def matched(expression: str) -> list[tuple[str, str, str]]:
    """Return the conditions on labels in an expression: metric, label, and a regular expression of its values."""
    return [
        (metric, label, value if operator == "=~" else re.escape(value))
        for metric, conditions in re.findall(r"(\w+){([^}]*)}", expression)
        for label, operator, value in re.findall(r'(\w+)(=~|=)"([^"]*)"', conditions)
    ]


def used(expression: str) -> set[str]:
    """Return the names of metrics and labels in an expression."""
    return set(
        re.findall(r"\b(?:agentstore|db)_[a-z_]+\b|\b\w+(?=\s*=~?\"|\s*!=\")", re.sub(r'"[^"]*"', '""', expression))
    )


async def _run(url: str, settings: Settings, observer: asyncpg.Connection) -> str:
    """Let a store do what each metric counts, and return what an application would expose."""
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(disable_target_info=True, scope_info_enabled=False, registry=registry)
    meters = MeterProvider([reader], shutdown_on_exit=False)
    settings = settings.model_copy(update={"pool_size": 2, "pool_timeout": 0.05})
    async with AgentStore(url, settings=settings, telemetry=Telemetry(meter_provider=meters)) as store:
        await observer.execute(FAIL_ONCE)
        await store.sessions.create_session("alice", "s")  # executed twice, after a deadlock
        await asyncio.gather(
            *(store.sessions.append("alice", "s", text("x")) for _ in range(20)), return_exceptions=True
        )
        with pytest.raises(NotFound):
            await store.sessions.append("alice", "none", text("x"), create=False)
        async with store._database.transaction(), store._database.transaction():
            with pytest.raises(PoolTimeout):
                await store.sessions.get_session("alice", "s")
        await observer.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert await store.sessions.get_session("alice", "s") is not None
        store._database.observer.unknown_outcome("sessions.append")
        return generate_latest(registry).decode()


async def test_rules_and_dashboard_use_what_a_run_exposes(
    direct_url: str, settings: Settings, observer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    exposed = await _run(direct_url, settings, observer)
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", direct_url)
    figures = await asyncio.to_thread(lambda: run("metrics").out)
    # Only where vectors are enabled.
    samples = samples_of(f"{exposed}{figures}\nagentstore_embedding_backlog 0\n")
    names, labels = {sample.name for sample in samples}, {label for sample in samples for label in sample.labels}
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    panels = json.loads(DASHBOARD.read_text())["panels"]
    expressions = [rule["expr"] for rule in rules] + [target["expr"] for panel in panels for target in panel["targets"]]
    assert len(expressions) > 30
    for expression in expressions:
        assert used(expression) <= names | labels, expression
        for metric, label, value in matched(expression):
            values = {sample.labels[label] for sample in samples if sample.name == metric and label in sample.labels}
            assert any(re.fullmatch(value, each) for each in values), (metric, label, value, values)
    for panel in panels:
        for target in panel["targets"]:
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= labels


def test_rules_name_errors_that_exist() -> None:
    (failures,) = [
        rule["expr"]
        for group in yaml.safe_load(RULES.read_text())["groups"]
        for rule in group["rules"]
        if rule["alert"] == "AgentstoreFailures"
    ]
    (listed,) = re.findall(r"agentstore\.errors\.\(([\w|]+)\)", failures)
    import agentstore.errors

    assert all(issubclass(getattr(agentstore.errors, name), AgentStoreError) for name in listed.split("|"))


def test_rules_count_the_first_event() -> None:
    """With it, a counter begins to exist: its increase is that of the events after it."""
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    counted = [
        (each["expr"], counter, window)
        for each in rules
        for counter, window in re.findall(r"increase\((\w+)\[(\w+)\]\)", each["expr"])
    ]
    assert len(counted) >= 3
    for expression, counter, window in counted:
        assert re.search(rf"or \({counter} > \d+ unless {counter} offset {window}\)", expression), expression


def test_rules_say_what_to_do() -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert rule["annotations"].keys() == {"summary", "action"}


def test_the_compose_profile_mounts_files_that_exist_and_serves_the_ports_that_are_read() -> None:
    """Their images are not started here."""
    root = RULES.parents[2]
    services = yaml.safe_load((root / "docker-compose.yml").read_text())["services"]
    for name in ("collector", "prometheus", "grafana"):
        assert services[name]["profiles"] == ["observability"]
        for volume in services[name]["volumes"]:
            source = root / volume.split(":")[0]
            assert (json.loads if source.suffix == ".json" else yaml.safe_load)(source.read_text())
    folder = RULES.parent / "observability"
    collector, prometheus = (
        yaml.safe_load((folder / f"{name}.yaml").read_text()) for name in ("collector", "prometheus")
    )
    served = collector["exporters"]["prometheus"]["endpoint"].rpartition(":")[2]
    read = {job["job_name"]: job["static_configs"][0]["targets"] for job in prometheus["scrape_configs"]}
    assert read == {"application": [f"collector:{served}"], "database": ["host.docker.internal:9464"]}


async def test_figures_that_take_too_long_are_reported(database: Database, observer: asyncpg.Connection) -> None:
    """A scrape has an answer: without the figure agentstore_up, its alert would not fire."""
    async with observer.transaction():
        await observer.execute("LOCK TABLE agentstore.memory_extractions")
        figures, error = await read_or_report(database, AgentStoreError, timeout=0.1)
    assert figures == {"agentstore.up": [(0.0, {})]}
    assert isinstance(error, Unavailable)
    assert (await read_or_report(database))[0]["agentstore.up"] == [(1.0, {})]
