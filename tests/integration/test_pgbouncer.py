"""Behavior behind a connection pooler. Needs PgBouncer: ``--pooler -m pooler``."""

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest

from agentstore import AgentStore, Message, NotConfigured, Role, Settings, TextContent, migrate
from agentstore.database import pooler
from agentstore.database.database import Database
from agentstore.database.url import connector
from agentstore.operations import doctor
from agentstore.operations.doctor import examine
from agentstore.repositories.connect import open_database
from tests.support.cli import run
from tests.support.pgbouncer import PgBouncer
from tests.support.servers import Server

pytestmark = pytest.mark.pooler


@pytest.fixture(autouse=True)
def _long_probe_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_PROBE_TIMEOUT", 60.0)
    monkeypatch.setattr(pooler, "_PROBE_TIMEOUT", 60.0)


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


@pytest.fixture
def ignoring_url(server: Server, database_name: str) -> Iterator[str]:
    """The URL of a pooler that ignores the settings of a session."""
    ignored = "statement_timeout,lock_timeout,idle_in_transaction_session_timeout,default_transaction_isolation,jit,"
    with PgBouncer(server, ignored=ignored + "row_security,options,extra_float_digits") as running:
        yield running.url_of(database_name)


async def test_a_pooler_that_ignores_the_settings_of_sessions_is_refused(ignoring_url: str) -> None:
    with pytest.raises(NotConfigured, match="AGENTSTORE_POOLER=transaction"):
        await AgentStore(ignoring_url).start()
    with pytest.raises(NotConfigured, match="AGENTSTORE_POOLER=transaction"):
        await AgentStore(ignoring_url).sessions.create_session("alice")
    for command in ("check", "doctor"):
        done = await asyncio.to_thread(run, command, environment={"AGENTSTORE_DATABASE_URL": ignoring_url})
        assert done.code != 0
        assert "AGENTSTORE_POOLER=transaction" in done.out + done.err


@pytest.mark.parametrize("parameter", ["pgbouncer=true", "statement_cache_size=0", "prepared_statement_cache_size=0"])
async def test_a_parameter_of_the_url_configures_the_pooler(ignoring_url: str, parameter: str) -> None:
    async with (
        AgentStore(f"{ignoring_url}?{parameter}") as first,
        AgentStore(f"{ignoring_url}?{parameter}") as second,
    ):
        await first.sessions.create_session("alice", "s")

        async def write(number: int) -> None:
            store = (first, second)[number % 2]
            session = await store.sessions.get_session("alice", "s", limit=1)
            assert session is not None
            await store.sessions.append_message(
                session, Message(role=Role.USER, content=[TextContent(text=str(number))])
            )
            await store.states.save_state("alice", {"number": number}, "s")

        await asyncio.gather(*map(write, range(40)))
        session = await first.sessions.get_session("alice", "s")
        assert session is not None
        assert len(session.messages) == 40
