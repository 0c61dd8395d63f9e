"""Distribute the tables over the servers of a Citus cluster, by user.

Each table is sharded by user and colocated with the others, so that a statement about one user runs on one server; the
values of applications, which belong to no user, by application.
Citus' rules for tables are checked before anything is changed, and every violation is reported at once; its rules for
statements are followed by every statement of agentstore.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from agentstore.database.database import Database
from agentstore.database.sql import literal
from agentstore.errors import InvalidContent, NotConfigured
from agentstore.migrating import citus
from agentstore.migrating.connections import driver_connection, opened
from agentstore.migrating.locking import run_exclusively
from agentstore.migrating.options import WAIT, Report
from agentstore.migrating.schema_status import status
from agentstore.settings import Settings

_log = logging.getLogger(__name__)

SHARDS = 32
"""The default of Citus. It should exceed the number of servers that the cluster will ever have."""
MOST_SHARDS = 1_024

_OLDEST_VERSION = 11
_EXTENSION = "SELECT installed_version FROM pg_available_extensions WHERE name = 'citus'"
_IS_COORDINATOR = "SELECT groupid = 0 FROM pg_dist_local_group"
_SERVERS = "SELECT count(*) FROM pg_dist_node WHERE isactive AND shouldhaveshards AND noderole = 'primary'"
# Citus adds triggers to the tables that it has distributed; those are internal.
_TABLES = """
SELECT c.relname AS name, pg_has_role(c.relowner, 'USAGE') AS is_owned, c.relrowsecurity AS is_secured,
    pg_relation_size(c.oid) AS size,
    a.attname IS NOT NULL AND a.atttypid = 'text'::regtype AND a.attnotnull AS has_user,
    ARRAY(
        SELECT t.tgname::text FROM pg_trigger t WHERE t.tgrelid = c.oid AND NOT t.tgisinternal ORDER BY 1
    ) AS triggers,
    ARRAY(
        SELECT i.indexrelid::regclass::text FROM pg_index i
        WHERE i.indrelid = c.oid AND (i.indisunique OR i.indisexclusion)
            AND NOT coalesce(a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]), false)
        ORDER BY 1
    ) AS keys
FROM pg_class c
LEFT JOIN pg_attribute a ON a.attrelid = c.oid
    AND a.attname = CASE c.relname WHEN 'users' THEN 'id' WHEN 'app_values' THEN 'app' ELSE 'user_id' END
        AND NOT a.attisdropped
WHERE c.relnamespace = to_regnamespace($1) AND c.relkind = 'r' AND c.relname = ANY ($2)
"""
# A foreign key is allowed if the user is at the same position on both sides, and if it never sets a column.
_REFERENCES = """
SELECT f.conname AS name, c.relname AS "table", r.relname AS target,
    c.relname = ANY ($2) AND c.relnamespace = to_regnamespace($1) AS from_agentstore,
    r.relname = ANY ($2) AND r.relnamespace = to_regnamespace($1) AS to_agentstore,
    array_position(f.conkey, a.attnum) IS NOT DISTINCT FROM array_position(f.confkey, b.attnum)
        AND array_position(f.conkey, a.attnum) IS NOT NULL AS has_user,
    f.confdeltype IN ('n', 'd') OR f.confupdtype IN ('n', 'd') AS changes
FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid JOIN pg_class r ON r.oid = f.confrelid
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = CASE c.relname WHEN 'users' THEN 'id' ELSE 'user_id' END
LEFT JOIN pg_attribute b ON b.attrelid = r.oid AND b.attname = CASE r.relname WHEN 'users' THEN 'id' ELSE 'user_id' END
WHERE f.contype = 'f' AND (c.relnamespace = to_regnamespace($1) OR r.relnamespace = to_regnamespace($1))
ORDER BY 2, 1
"""
# The transaction locks each shard, its indexes and its TOAST table with its index.
_LOCKS = """
SELECT sum(
        1 + (SELECT count(*) FROM pg_index i WHERE i.indrelid = c.oid) + CASE WHEN c.reltoastrelid = 0 THEN 0 ELSE 2 END
    )::bigint AS relations,
    current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint AS transactions,
    current_setting('max_locks_per_transaction')::bigint AS locks
FROM pg_class c WHERE c.relnamespace = to_regnamespace($1) AND c.relkind = 'r' AND c.relname = ANY ($2)
"""


@dataclass(frozen=True, slots=True)
class Distribution:
    """The distributed and the local tables, each after the tables that it references."""

    distributed: tuple[str, ...]
    local: tuple[str, ...]
    has_copies: bool = False
    """Whether the coordinator still stores rows from before the distribution, which no statement reads."""
    missing_functions: tuple[str, ...] = ()
    """The functions of this release that a distributed database lacks."""

    @property
    def state(self) -> Literal["local", "distributed", "incomplete"]:
        """How far the distribution is; "incomplete": tables are local, functions are missing, or there are copies."""
        if not self.distributed:
            return "local"
        return "incomplete" if self.local or self.has_copies or self.missing_functions else "distributed"


@dataclass(frozen=True, slots=True)
class DistributionPlan:
    """The plan of :func:`distribute`: what prevents it, and its SQL."""

    obstacles: tuple[str, ...]
    """The reasons that prevent the distribution, each with its remedy."""
    statements: tuple[str, ...]
    """The SQL in the order of execution; empty if there is nothing to do."""


async def distribution(database: Database) -> Distribution:
    """Return which tables of a database are distributed. Needs neither Citus nor the privilege to read a table.

    Raises:
        Unavailable: see :meth:`agentstore.database.database.Database.connection`.
    """
    async with database.connection() as connection:
        return (await _read(connection, database))[0]


async def plan(database: Database, *, shards: int = SHARDS) -> DistributionPlan:
    """Return the SQL that would be executed, and everything that prevents it. Changes nothing, and needs no Citus.

    Raises:
        InvalidContent: `shards` is not an integer from 1 to 1,024.
        NotConfigured: the login may not read the schema's revision.
        Unavailable: see :meth:`agentstore.database.database.Database.connection`.
    """
    _check(shards)
    found = await status(database)
    schema = f'"{database.settings.schema}"'
    async with database.connection() as connection:
        now, rows, distributed = await _read(connection, database)
        obstacles = await _cluster_obstacles(connection, schema, shards)
        references = await connection.fetch(_REFERENCES, schema, citus.tables())
        keys = await citus.foreign_keys(connection, database.settings.schema)
    if found.state != "at head":
        obstacles.append(f"the schema is {found.state}: it has to be at {found.head}, run `agentstore upgrade`")
    if citus.VECTORS in rows:
        obstacles.append(f"{citus.VECTORS} needs a trigger, which Citus refuses: run `agentstore vector disable`")
    for name in now.local:
        obstacles += _table_obstacles(rows[name])
    obstacles += _foreign_key_obstacles(references) + _distributed_obstacles(distributed)
    return DistributionPlan(tuple(obstacles), tuple(_statements(database.settings.schema, now, keys, shards)))


async def distribute(
    target: Database | AsyncEngine | str,
    *,
    shards: int = SHARDS,
    settings: Settings | None = None,
    wait: float = WAIT,
    report: Report = _log.info,
) -> Distribution:
    """Distribute the tables over the servers of a Citus cluster, by user, and return the new state.

    All tables are distributed in one transaction: writes wait for its end, reads continue. Rows of a local table whose
    owner was deleted from a distributed one are removed. Then the rows that the coordinator still stores, which no
    statement reads, are removed, and the functions are created. Idempotent; a call after an interruption resumes.

    Args:
        target: the coordinator: a URL, an engine, or a `Database`. The connection is that of migrations, see
            ``MIGRATION_DATABASE_URL``.
        shards: how many shards each table gets; ignored if `users` is distributed already.
        settings: by default those of the environment; for a URL or an engine only.
        wait: seconds that waiting for other migrators and for locks may take, in all.
        report: receives each statement before it runs, and a line for each wait.

    Raises:
        InvalidContent: `shards` is not an integer from 1 to 1,024.
        NotConfigured: the tables cannot be distributed; the message lists all reasons.
        Unavailable: see :func:`agentstore.migrate.upgrade`. Nothing was changed, unless only rows on the coordinator
            were left to remove.
    """

    async def work(connection: AsyncConnection) -> None:
        found = await plan(database, shards=shards)  # checked again, now under the migration lock
        if found.obstacles:
            raise NotConfigured("The tables cannot be distributed: " + "; ".join(found.obstacles) + ".")
        driver = await driver_connection(connection)
        for statement in found.statements:
            report(statement)
            await driver.execute(statement)

    _check(shards)
    async with opened(target, settings) as database:
        await run_exclusively(database, work, wait, report)
        return await distribution(database)


async def undistribute(
    target: Database | AsyncEngine | str,
    *,
    settings: Settings | None = None,
    wait: float = WAIT,
    report: Report = _log.info,
) -> Distribution:
    """Move all rows back to the coordinator, whose tables are local again, and return the new state. Idempotent.

    In one transaction, in which the coordinator copies all rows: calls wait for its end.

    Args:
        target: the coordinator, as for :func:`distribute`.
        settings: by default those of the environment; for a URL or an engine only.
        wait: seconds that waiting for other migrators and for locks may take, in all.
        report: receives each statement before it runs, and a line for each wait.

    Raises:
        Unavailable: see :func:`agentstore.migrate.upgrade`. Nothing was changed.
    """

    async def work(connection: AsyncConnection) -> None:
        driver, schema = await driver_connection(connection), database.settings.schema
        async with driver.transaction():
            await driver.execute("SET LOCAL statement_timeout TO 0")
            await driver.execute("SET LOCAL citus.multi_shard_modify_mode TO 'sequential'")
            await citus.drop_functions(driver, schema)
            for name in citus.tables():
                if name not in await citus.distributed_tables(driver, schema):
                    continue  # moved back with a table that it references
                table = literal(citus.quoted(schema, name))
                statement = f"SELECT undistribute_table({table}, cascade_via_foreign_keys => true)"
                report(statement)
                await driver.execute(statement)
            await driver.execute(citus.setting_statement(is_distributed=False))

    async with opened(target, settings) as database:
        await run_exclusively(database, work, wait, report)
        return await distribution(database)


def _check(shards: int) -> None:
    if isinstance(shards, bool) or not isinstance(shards, int) or not 1 <= shards <= MOST_SHARDS:
        raise InvalidContent(f"Expected a number of shards from 1 to {MOST_SHARDS:,}, got {shards!r:.80}.")


async def _read(
    connection: asyncpg.Connection, database: Database
) -> tuple[Distribution, dict[str, asyncpg.Record], dict[str, asyncpg.Record]]:
    """Return the state, and by name the rows of _TABLES and, of those that are distributed, of _DISTRIBUTED."""
    schema, names = f'"{database.settings.schema}"', citus.tables()
    partitions = await citus.distributed_tables(connection, database.settings.schema)
    rows = {row["name"]: row for row in await connection.fetch(_TABLES, schema, [*names, citus.VECTORS])}
    distributed = {name: row for name, row in partitions.items() if name in rows}
    functions = await citus.missing_functions(connection, database.settings.schema) if "users" in distributed else ()
    found = Distribution(
        distributed=tuple(name for name in names if name in distributed),
        local=tuple(name for name in names if name in rows and name not in distributed),
        has_copies=any(rows[name]["size"] for name in distributed),
        missing_functions=tuple(functions),
    )
    return found, rows, distributed


async def _cluster_obstacles(connection: asyncpg.Connection, schema: str, shards: int) -> list[str]:
    """Return what prevents this server from distributing any table."""
    extension = await connection.fetchrow(_EXTENSION)
    if extension is None:
        return [
            "this server has no Citus: install it on every server, and set shared_preload_libraries = 'citus' there"
        ]
    if extension["installed_version"] is None:
        return ["this database has no Citus: run CREATE EXTENSION citus as a superuser, here and on every worker"]
    if int(extension["installed_version"].split(".")[0]) < _OLDEST_VERSION:
        return [f"Citus {extension['installed_version']} is too old: upgrade it to {_OLDEST_VERSION} or later"]
    if not await connection.fetchval(_IS_COORDINATOR):
        return ["this server is a worker: use the URL of the coordinator"]
    found = []
    servers = await connection.fetchval(_SERVERS)
    if not servers:
        found.append(
            "no server takes shards: run SELECT citus_set_coordinator_host('HOST', PORT), then "
            "SELECT citus_add_node('HOST', PORT) for each worker"
        )
    (limits,) = await connection.fetch(_LOCKS, schema, citus.tables())
    needed = (limits["relations"] or 0) * -(-shards // max(servers, 1))
    if needed > limits["locks"] * limits["transactions"]:
        least = -(-needed // limits["transactions"])
        found.append(
            f"{shards} shards need {needed:,} locks on each server: set max_locks_per_transaction there to at least "
            f"{least:,}"
        )
    return found


def _table_obstacles(row: asyncpg.Record) -> list[str]:
    """Return what prevents a table from being distributed."""
    name, found = row["name"], []
    if not row["is_owned"]:
        found.append(f"{name} belongs to another role: only its owner can distribute it")
    if not row["has_user"]:
        found.append(f"{name} has no column for the user that is text and NOT NULL")
    if row["is_secured"]:
        found.append(
            f"{name} has row-level security, whose user is not set on the workers: run `agentstore rls disable`"
        )
    found += [f"{name} has the trigger {trigger}, which Citus refuses: drop it" for trigger in row["triggers"]]
    found += [f"{key} on {name} is unique without the user: drop it, or add the user to it" for key in row["keys"]]
    return found


def _foreign_key_obstacles(rows: list[asyncpg.Record]) -> list[str]:
    """Return what is wrong with foreign keys."""
    found = []
    for row in rows:
        name = f"the foreign key {row['name']} of {row['table']}"
        if row["table"] == citus.VECTORS:
            continue
        if not row["from_agentstore"]:
            found.append(f"{name} references {row['target']} from a table that is not agentstore's: drop it")
        elif not row["to_agentstore"]:
            found.append(f"{name} references {row['target']}, which is not distributed by user: drop it")
        elif not row["has_user"]:
            found.append(f"{name} does not contain the user: drop it, or add the user to it")
        elif row["changes"]:
            found.append(f"{name} sets a column when the referenced row changes, which Citus refuses: drop it")
    return found


def _distributed_obstacles(distributed: dict[str, asyncpg.Record]) -> list[str]:
    """Return what is wrong with tables that were distributed by other means."""
    found = []
    for name, row in distributed.items():
        column = citus.column_of(name)
        if row["column"] != column:
            how = f"by {row['column']}" if row["column"] else "to every server"
            found.append(f"{name} is distributed {how}, not by {column}: run SELECT undistribute_table(...)")
        elif "users" in distributed and row["group"] != distributed["users"]["group"]:
            found.append(f"{name} is not colocated with users: run SELECT undistribute_table(...)")
    return found


def _statements(schema: str, now: Distribution, keys: Iterable[citus.ForeignKey], shards: int) -> list[str]:
    """Return what distributes the local tables, removes the rows of the coordinator, and creates the functions."""
    found = []
    if now.local:
        found += citus.distribute_statements(schema, now.local, keys, shards=shards)
    if now.local or now.has_copies:
        users = literal(citus.quoted(schema, "users"))
        found.append(f"SELECT truncate_local_data_after_distributing_table({users})")
    if now.missing_functions:
        found += citus.function_statements(schema)
    return found
