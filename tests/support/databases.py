"""Databases of tests: copies of a template, used again by later tests if only rows of users changed."""

import asyncio
import time
from uuid import uuid4

import asyncpg

from tests.support.servers import Server

# Everything about a database that is stored outside it, by content: its name is new for each test.
_SHARED = """
SELECT to_jsonb(d) - ARRAY['oid', 'datname', 'datfrozenxid', 'datminmxid'] || jsonb_build_object('settings',
    (SELECT jsonb_agg(to_jsonb(s) - 'setdatabase') FROM pg_db_role_setting s WHERE s.setdatabase = d.oid))
FROM pg_database d WHERE datname = current_database()
"""
# TRUNCATE changes rows of pg_class in these columns alone, and resets them to what they are in a new table.
_CHANGED_BY_TRUNCATE = """
ARRAY['relfilenode', 'relpages', 'reltuples', 'relallvisible', 'relallfrozen', 'relfrozenxid', 'relminmxid']
"""
_TABLES = f"""
SELECT to_jsonb(c) - {_CHANGED_BY_TRUNCATE} FROM pg_class c WHERE oid >= 16384 ORDER BY oid
"""
# The tables whose rows are compared: of the catalog, and those that are not emptied with the users.
_COMPARED = """
WITH RECURSIVE of_users AS (
    SELECT 'agentstore.users'::regclass::oid AS id
    UNION SELECT conrelid FROM pg_constraint JOIN of_users ON confrelid = id
)
SELECT oid::regclass::text FROM pg_class
WHERE relkind = 'r' AND NOT relisshared AND relnamespace <> 'information_schema'::regnamespace
    AND oid NOT IN (SELECT id FROM of_users) ORDER BY 1
"""
# Excluded: rows of temporary schemas, which stay; statistics of the catalog, which autovacuum may update at any time.
_EXCLUDED = {
    "pg_class": "oid < 16384",
    "pg_namespace": "nspname !~ '^pg_(toast_)?temp_'",
    "pg_statistic": "starelid >= 16384",
}
_TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
_IS_EMPTY = """
SELECT NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = 'agentstore'::regnamespace AND relkind = 'r'
    AND relname <> 'alembic_version' AND pg_relation_size(oid) > 0)
"""
# The counts of the second statement are the only ones of a database that is used again.
_EMPTY = "TRUNCATE agentstore.users RESTART IDENTITY CASCADE; SELECT pg_stat_force_next_flush()"
_FORGET_COUNTS = "SELECT pg_stat_reset()"


class Databases:
    """Copies of `template`, a migrated database, for one test at a time each.

    Creating a database takes several times as long as emptying one. A database is emptied and used again, unless
    something besides the rows of users differs from the template; then it is dropped. Rows are compared by the
    transactions that wrote them: a copy of a database has those of its template.
    """

    def __init__(self, server: Server, template: str) -> None:
        self._server, self._template = server, template
        self._emptied: list[str] = []
        self._expected = asyncio.run(self._read_template())

    def take(self) -> str:
        """Return the name of a database that is equal to the template and has no connections."""
        name = f"{self._template}_{uuid4().hex[:8]}"
        if self._emptied:
            # A client of the earlier test, or a pool of PgBouncer, does not know the new name.
            statement = f'ALTER DATABASE "{self._emptied.pop()}" RENAME TO "{name}"'
        else:
            statement = f'CREATE DATABASE "{name}" TEMPLATE "{self._template}"'
        asyncio.run(self._server.execute(statement))
        return name

    def give_back(self, name: str) -> None:
        """Terminate all connections to a database, and empty or drop it."""
        if asyncio.run(self._empty(name)):
            self._emptied.append(name)
        else:
            asyncio.run(self._drop(name))

    def close(self) -> None:
        """Drop the databases that were given back."""
        for name in self._emptied:
            asyncio.run(self._drop(name))

    async def _read_template(self) -> dict[str, list[asyncpg.Record]]:
        """Return queries, and their results in a database that equals the template."""
        connection = await asyncpg.connect(self._server.url_of(self._template))
        await connection.execute(_EMPTY)  # the statistics of an index are those of an emptied one, not of a new one
        rows = " UNION ALL ".join(
            f"SELECT '{table}', count(*), sum(hashint8extended(xmin::text::int8, 0)) FROM {table}"
            + (f" WHERE {_EXCLUDED[table]}" if table in _EXCLUDED else "")
            for (table,) in await connection.fetch(_COMPARED)
        )
        found = {query: await connection.fetch(query) for query in (_SHARED, _TABLES, rows)}
        await connection.close()
        return found

    async def _empty(self, name: str) -> bool:
        """Empty a database and return True, or return False if it differs from the template."""
        # As the owner of the tables, whatever role or other settings the test gave to the database.
        settings = {"role": "none", "default_transaction_read_only": "off", "statement_timeout": "0"}
        connection = await asyncpg.connect(self._server.url_of(name), server_settings=settings)
        try:
            deadline = time.monotonic() + 60
            while await connection.fetch(_TERMINATE):
                # Not the timeout of pg_terminate_backend, which looks every 100 ms.
                assert time.monotonic() < deadline, f"connections to {name} do not end"
                await asyncio.sleep(0.002)
            for query, expected in self._expected.items():  # the first two tell whether the tables of the last exist
                if await connection.fetch(query) != expected:
                    return False
            if not await connection.fetchval(_IS_EMPTY):
                await connection.execute(_EMPTY)
            await connection.execute(_FORGET_COUNTS)
            return True
        finally:
            await connection.close()

    async def _drop(self, name: str) -> None:
        await self._server.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
