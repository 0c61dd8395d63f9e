"""What an upgrade reports to OpenTelemetry and to functions of the application."""

import asyncio

import asyncpg
import pytest
from opentelemetry.trace import SpanKind, StatusCode

from agentstore import AgentStore, Settings, Unavailable, migrate
from agentstore.migrating.revisions import history
from agentstore.repositories.connect import open_database
from tests.support.telemetry import Collected

_REVISIONS = [each.id for each in reversed(history())]


async def test_an_upgrade_is_a_call_and_each_migration_a_statement(empty_url: str) -> None:
    collected = Collected()
    database = open_database(empty_url, settings=Settings(), telemetry=collected.telemetry())
    try:
        await migrate.upgrade(database)
        call = (await collected.spans())[-1]
        assert (call.name, call.kind) == ("agentstore.migrations.upgrade", SpanKind.INTERNAL)
        assert [each.name for each in collected.statements] == [f"migrations.{each}" for each in _REVISIONS]
        assert {each.call for each in collected.statements} == {"migrations.upgrade"}

        await migrate.downgrade(database, "-2")
        spans = await collected.spans()
        assert [each.name for each in spans if each.kind is SpanKind.CLIENT] == [
            f"migrations.{each}" for each in reversed(_REVISIONS[-2:])
        ]
        assert spans[-1].name == "agentstore.migrations.downgrade"
        assert all(each.parent == spans[-1].context for each in spans[:-1])
    finally:
        await database.stop()


async def test_a_store_that_upgrades_at_its_start_reports_it(empty_url: str) -> None:
    collected = Collected()
    settings = Settings(auto_migrate="upgrade")
    async with AgentStore(empty_url, settings=settings, telemetry=collected.telemetry()) as store:
        assert "agentstore.migrations.upgrade" in [each.name for each in await collected.spans()]
        await store.users.list_users()
        assert "agentstore.users.list_users" in [each.name for each in await collected.spans()]


@pytest.mark.slow
async def test_a_wait_for_a_lock_is_an_event_and_a_failure_ends_the_span(empty_url: str) -> None:
    await migrate.upgrade(empty_url, "0004")
    collected = Collected()
    database = open_database(empty_url, settings=Settings(), telemetry=collected.telemetry())
    reader = await asyncpg.connect(empty_url)
    try:
        await reader.execute("BEGIN; SELECT count(*) FROM agentstore.sessions")
        with pytest.raises(Unavailable):
            await migrate.upgrade(database, "0005", wait=4)
        spans = await collected.spans()
        failed = [each for each in spans if each.name == "migrations.0005"]
        assert len(failed) > 1  # after each lock timeout it is retried
        assert {each.status.status_code for each in failed} == {StatusCode.ERROR}
        assert {str((each.attributes or {})["db.response.status_code"]) for each in failed} == {"55P03"}
        call = spans[-1]
        assert "agentstore.migration.waiting" in {each.name for each in call.events}
        waits = [each for each in collected.events if each.name == "migration.waiting"]
        assert "lock timeout" in {each.attributes["reason"] for each in waits}
        assert all("holds a lock on sessions" in each.message for each in waits if "no lock" in each.message)
        await reader.execute("COMMIT")
        await asyncio.wait_for(migrate.upgrade(database, "0005"), 60)
        (applied,) = [each for each in await collected.spans() if each.name == "migrations.0005"]
        assert applied.status.status_code is StatusCode.UNSET
    finally:
        await reader.close()
        await database.stop()
