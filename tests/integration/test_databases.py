"""The databases of tests: one that is used again is equal to a new one, and one that was changed is dropped."""

import asyncio
from collections.abc import Iterator

import asyncpg
import pytest

from agentstore import AgentStore
from agentstore.testing import text
from tests.support.databases import Databases
from tests.support.psql import psql
from tests.support.servers import Server

# What a plan depends on, and what the server counted.
_STATISTICS = """
SELECT c.relname, c.relpages, c.reltuples, c.relallvisible, pg_relation_size(c.oid),
    n_tup_ins + n_tup_upd + n_tup_del + n_dead_tup + n_mod_since_analyze + seq_scan + coalesce(idx_scan, 0)
FROM pg_class c LEFT JOIN pg_stat_user_tables s ON s.relid = c.oid
WHERE c.relnamespace = 'agentstore'::regnamespace AND c.relname NOT LIKE 'alembic%' ORDER BY 1
"""


@pytest.fixture
def copies(server: Server, template: str) -> Iterator[Databases]:
    opened = Databases(server, template)
    yield opened
    opened.close()


async def _fetch(url: str, sql: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    rows: list[asyncpg.Record] = await connection.fetch(sql)
    await connection.close()
    return rows


async def _use(url: str) -> None:
    async with AgentStore(url) as store:
        session = await store.sessions.create_session("alice", "s")
        await store.sessions.append_message(session, [text("apples")] * 10)
        await store.memory.add_memory("alice", session.messages, "s")
        await store.states.save_state("alice", {"a": 1}, "s")
        await store.users.delete_user("alice")
        await store.sessions.create_session("bob", "s")


def test_a_database_with_rows_of_users_is_used_again_and_equal_to_a_new_one(copies: Databases, server: Server) -> None:
    used, new = copies.take(), copies.take()
    oid = f"SELECT oid FROM pg_database WHERE datname = '{used}'"
    before = asyncio.run(_fetch(server.url_of("postgres"), oid))
    asyncio.run(_use(server.url_of(used)))
    copies.give_back(used)
    again = copies.take()
    assert again != used
    after = asyncio.run(_fetch(server.url_of("postgres"), oid.replace(used, again)))
    assert after == before
    assert asyncio.run(_fetch(server.url_of(again), _STATISTICS)) == asyncio.run(
        _fetch(server.url_of(new), _STATISTICS)
    )
    for name in (again, new):
        copies.give_back(name)


@pytest.mark.parametrize(
    "change",
    [
        "CREATE TABLE other (id int)",
        "CREATE SCHEMA other",
        "CREATE FUNCTION agentstore.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "ALTER TABLE agentstore.users ADD COLUMN other text",
        "ALTER TABLE agentstore.users ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE agentstore.users SET (fillfactor = 50)",
        "ALTER TABLE agentstore.users ALTER COLUMN id SET STATISTICS 7",
        "CREATE POLICY other ON agentstore.users USING (true)",
        "GRANT SELECT ON agentstore.users TO pg_monitor",
        "GRANT CREATE ON DATABASE {name} TO pg_monitor",
        "GRANT CREATE ON SCHEMA agentstore TO pg_monitor",
        "ALTER DEFAULT PRIVILEGES IN SCHEMA agentstore GRANT SELECT ON TABLES TO pg_monitor",
        "REVOKE EXECUTE ON FUNCTION pg_sleep FROM PUBLIC",
        "ALTER DATABASE {name} SET role = pg_monitor",
        "ALTER DATABASE {name} SET default_transaction_read_only = on",
        "ALTER DATABASE {name} CONNECTION LIMIT 3",
        "DROP INDEX agentstore.sessions_ttl_idx",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'agentstore.sessions_ttl_idx'::regclass",
        "ALTER TABLE agentstore.messages ADD CONSTRAINT other CHECK (seq > 0) NOT VALID",
        "UPDATE agentstore.agentstore_version SET version_num = version_num",
        "DELETE FROM agentstore.agentstore_version",
        "INSERT INTO agentstore.users (id) VALUES ('a'); ANALYZE agentstore.users",
        "ALTER TABLE agentstore.users RENAME TO other",
        "DROP SCHEMA agentstore CASCADE",
    ],
)
def test_a_database_that_was_changed_otherwise_is_dropped(databases: Databases, server: Server, change: str) -> None:
    changed = databases.take()
    psql(server.url_of(changed), change.format(name=changed))
    databases.give_back(changed)
    assert asyncio.run(_fetch(server.url_of("postgres"), f"SELECT FROM pg_database WHERE datname = '{changed}'")) == []


async def test_connections_are_terminated_before_a_database_is_used_again(copies: Databases, server: Server) -> None:
    name = await asyncio.to_thread(copies.take)
    left = await asyncpg.connect(server.url_of(name))
    await left.execute("BEGIN; CREATE TEMP TABLE mine (); LOCK TABLE agentstore.users; SELECT pg_advisory_lock(1)")
    await asyncio.to_thread(copies.give_back, name)
    assert len(copies._emptied) == 1
    assert left.is_closed()
    again = await asyncio.to_thread(copies.take)
    with pytest.raises(asyncpg.InvalidCatalogNameError):  # for clients that connect again
        await asyncpg.connect(server.url_of(name))
    await _use(server.url_of(again))
    await asyncio.to_thread(copies.give_back, again)
