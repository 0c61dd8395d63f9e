"""Behavior behind a connection pooler. Needs PgBouncer: ``--pooler -m pooler``."""

import asyncpg
import pytest

from agentstore import AgentStore, NotConfigured, Settings, migrate
from agentstore.database.database import Database
from agentstore.database.url import connector
from agentstore.operations import doctor
from agentstore.operations.doctor import examine
from agentstore.repositories.connect import open_database
from tests.support.pgbouncer import PgBouncer

pytestmark = pytest.mark.pooler


@pytest.fixture(autouse=True)
def _long_probe_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PROBE_TIMEOUT", 60.0)


@pytest.fixture
def pooled_url(pgbouncer: PgBouncer | None, database_name: str) -> str:
    assert pgbouncer is not None, "these tests need --pooler"
    return pgbouncer.url_of(database_name)


async def test_a_pooler_that_is_not_configured_is_detected(pooled_url: str) -> None:
    with pytest.raises(NotConfigured, match="AGENTSTORE_POOLER=transaction"):
        await AgentStore(pooled_url).start()


async def test_a_migration_through_a_pooler_is_refused_unless_direct(
    pooled_url: str, observer: asyncpg.Connection
) -> None:
    settings = Settings(pooler="transaction", schema="other")
    with pytest.raises(NotConfigured, match="AGENTSTORE_MIGRATION_DATABASE_URL"):
        await migrate.upgrade(pooled_url, settings=settings)
    with pytest.raises(NotConfigured, match="AGENTSTORE_MIGRATION_DATABASE_URL"):
        upgrading = settings.model_copy(update={"auto_migrate": "upgrade"})
        await AgentStore(pooled_url, settings=upgrading).start()
    assert await observer.fetchval("SELECT to_regnamespace('other')") is None


async def test_a_pooler_that_accepts_any_parameter_is_detected_before_the_migration(
    pooled_url: str, observer: asyncpg.Connection
) -> None:
    database = Database(
        Settings(schema="other"),
        connect=connector(pooled_url, statement_cache_size=0),
        connect_directly=connector(pooled_url, statement_cache_size=0),
    )
    with pytest.raises(NotConfigured, match="is a pooler in transaction mode"):
        await migrate.upgrade(database)
    await database.stop()
    assert await observer.fetchval("SELECT to_regnamespace('other')") is None


async def test_a_migration_uses_the_direct_url(pooled_url: str, direct_url: str) -> None:
    settings = Settings(pooler="transaction", migration_database_url=direct_url, schema="other")
    await migrate.upgrade(pooled_url, settings=settings)
    async with AgentStore(pooled_url, settings=settings) as store:
        assert await store.health()


async def test_the_doctor_reports_the_pooler_and_its_requirements(pooled_url: str, direct_url: str) -> None:
    for settings, state in (
        (Settings(pooler="transaction"), "warning"),
        (Settings(pooler="transaction", migration_database_url=direct_url), "ok"),
    ):
        database = open_database(pooled_url, settings=settings)
        findings = {finding.check: finding for finding in await examine(database)}
        await database.stop()
        assert (findings["pooler"].state, "a pooler in transaction mode" in findings["pooler"].found) == (state, True)
        assert "to the pooler" in findings["pool"].found
    database = open_database(pooled_url, settings=Settings())
    (finding,) = await examine(database)
    await database.stop()
    assert "AGENTSTORE_POOLER=transaction" in finding.found


async def test_the_doctor_detects_a_pooler_that_accepts_any_parameter(pooled_url: str) -> None:
    """Some poolers ignore unknown parameters, and break prepared statements later."""
    connect = connector(pooled_url, statement_cache_size=0)
    database = Database(Settings(), connect=connect)
    finding = await doctor._pooler(database)
    await database.stop()
    assert (finding.state, finding.found) == ("problem", "a pooler in transaction mode")
