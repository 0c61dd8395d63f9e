"""What only a pooler can show. Needs PgBouncer: ``--pooler -m pooler``."""

import asyncpg
import pytest

from agentstore import AgentStore, NotConfigured, Settings, migrate
from tests.support.pgbouncer import PgBouncer

pytestmark = pytest.mark.pooler


@pytest.fixture
def pooled_url(pgbouncer: PgBouncer | None, database_name: str) -> str:
    assert pgbouncer is not None, "these tests need --pooler"
    return pgbouncer.url_of(database_name)


async def test_a_pooler_that_was_not_named_is_recognised(pooled_url: str) -> None:
    with pytest.raises(NotConfigured, match="AGENTSTORE_POOLER=transaction"):
        await AgentStore(pooled_url).start()


async def test_a_migration_through_a_pooler_is_refused(pooled_url: str, observer: asyncpg.Connection) -> None:
    settings = Settings(pooler="transaction", schema="other")
    with pytest.raises(NotConfigured, match="AGENTSTORE_MIGRATION_DATABASE_URL"):
        await migrate.upgrade(pooled_url, settings=settings)
    with pytest.raises(NotConfigured, match="AGENTSTORE_MIGRATION_DATABASE_URL"):
        upgrading = settings.model_copy(update={"auto_migrate": "upgrade"})
        await AgentStore(pooled_url, settings=upgrading).start()
    assert await observer.fetchval("SELECT to_regnamespace('other')") is None


async def test_a_migration_takes_the_direct_url(pooled_url: str, direct_url: str) -> None:
    settings = Settings(pooler="transaction", migration_database_url=direct_url, schema="other")
    await migrate.upgrade(pooled_url, settings=settings)
    async with AgentStore(pooled_url, settings=settings) as store:
        assert await store.health()
