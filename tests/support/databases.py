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
# The rows of these tables are counted, and those that a transaction after the template's last one wrote. Whatever else
# is created in a database depends on something, in pg_depend. Excluded: temporary schemas, which stay; statistics of
# the catalog, which autovacuum may update at any time; tables, which are compared by content.
_ROWS = {
    "agentstore.agentstore_version": "",
    "pg_attrdef": "",
    "pg_attribute": "",
    "pg_class": "WHERE oid < 16384",
    "pg_constraint": "",
    "pg_default_acl": "",
    "pg_depend": "",
    "pg_event_trigger": "",
    "pg_extension": "",
    "pg_index": "",
    "pg_largeobject_metadata": "",
    "pg_namespace": "WHERE nspname !~ '^pg_(toast_)?temp_'",
    "pg_policy": "",
    "pg_proc": "",
    "pg_publication": "",
    "pg_statistic": "WHERE starelid >= 16384",
    "pg_trigger": "",
    "pg_type": "",
}
_TERMINATE = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
"""
_IS_EMPTY = """
SELECT NOT EXISTS (SELECT FROM pg_class WHERE relnamespace = 'agentstore'::regnamespace AND relkind = 'r'
    AND relname <> 'agentstore_version' AND pg_relation_size(oid) > 0)
"""
# The counts of the second statement are the only ones of a database that is used again.
_EMPTY = "TRUNCATE agentstore.users, agentstore.app_values RESTART IDENTITY CASCADE; SELECT pg_stat_force_next_flush()"
_FORGET_COUNTS = "SELECT pg_stat_reset()"


class Databases:
    """Copies of `template`, a migrated database, for one test at a time each.

    Creating a database takes several times as long as emptying one. A database is emptied and used again, unless
    something besides the rows of users differs from the template; then it is dropped.
    """

    def __init__(self, server: Server, template: str) -> None:
        self._server, self._template = server, template
        self._emptied: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._admin: asyncpg.Connection = self._loop.run_until_complete(asyncpg.connect(server.url_of("postgres")))
        self._expected = self._loop.run_until_complete(self._read_template())

    def take(self) -> str:
        """Return the name of a database that is equal to the template and has no connections."""
        name = f"{self._template}_{uuid4().hex[:8]}"
        if self._emptied:
            # A client of the earlier test, or a pool of PgBouncer, does not know the new name; it may have connected
            # again since the database was emptied.
            old = self._emptied.pop(0)
            self._execute(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{old}'")
            self._execute(f'ALTER DATABASE "{old}" RENAME TO "{name}"')
        else:
            self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{self._template}"')
        return name

    def give_back(self, name: str) -> None:
        """Terminate all connections to a database, and empty or drop it."""
        if self._loop.run_until_complete(self._empty(name)):
            self._emptied.append(name)
        else:
            self._execute(f'DROP DATABASE "{name}" WITH (FORCE)')

    def close(self) -> None:
        """Drop the databases that were given back."""
        for name in self._emptied:
            self._execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        self._loop.run_until_complete(self._admin.close())
        self._loop.close()

    def _execute(self, statement: str) -> None:
        self._loop.run_until_complete(self._admin.execute(statement))

    async def _read_template(self) -> dict[str, list[asyncpg.Record]]:
        """Return queries, and their results in a database that equals the template."""
        connection = await asyncpg.connect(self._server.url_of(self._template))
        await connection.execute(_EMPTY)  # the statistics of an index are those of an emptied one, not of a new one
        last = await connection.fetchval("SELECT pg_current_xact_id()::text::int8 & 4294967295")
        rows = " UNION ALL ".join(
            f"SELECT '{table}', count(*), count(*) FILTER (WHERE age(xmin) < age('{last}'::xid)) FROM {table} {where}"
            for table, where in _ROWS.items()
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
