"""Spreading the tables over the servers of a Citus cluster, by user.

Every table is cut into shards by its user and lies with the user's other rows, so that what is said of one user is said
to one server. Citus' own rules for tables are looked at before anything is changed, and all that is against them is
said at once; those for statements are kept by every statement of agentstore.
"""

import logging
from dataclasses import dataclass
from typing import Any, Literal

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from agentstore.database.database import Database
from agentstore.errors import InvalidContent, NotConfigured
from agentstore.migrating.connections import opened
from agentstore.migrating.locking import run_exclusively
from agentstore.migrating.options import WAIT, Report
from agentstore.migrating.schema_status import status
from agentstore.models import Base
from agentstore.settings import Settings

_log = logging.getLogger(__name__)

SHARDS = 32
"""As many as Citus makes by default: more than the servers there are and will be."""
MOST_SHARDS = 1_024

_LEAST_VERSION = 11
VECTORS = "memory_vectors"

_EXTENSION = "SELECT installed_version FROM pg_available_extensions WHERE name = 'citus'"
_IS_COORDINATOR = "SELECT groupid = 0 FROM pg_dist_local_group"
_SERVERS = "SELECT count(*) FROM pg_dist_node WHERE isactive AND shouldhaveshards AND noderole = 'primary'"
# Citus adds triggers of its own, which are internal, to what it has distributed.
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
    AND a.attname = CASE c.relname WHEN 'users' THEN 'id' ELSE 'user_id' END AND NOT a.attisdropped
WHERE c.relnamespace = to_regnamespace($1) AND c.relkind = 'r' AND c.relname = ANY ($2)
"""
# A reference keeps the rule if the user is at the same place on both sides, and stays when what is referred to goes.
_REFERENCES = """
SELECT f.conname AS name, c.relname AS "table", r.relname AS target,
    c.relname = ANY ($2) AND c.relnamespace = to_regnamespace($1) AS is_ours,
    r.relname = ANY ($2) AND r.relnamespace = to_regnamespace($1) AS to_ours,
    array_position(f.conkey, a.attnum) IS NOT DISTINCT FROM array_position(f.confkey, b.attnum)
        AND array_position(f.conkey, a.attnum) IS NOT NULL AS has_user,
    f.confdeltype IN ('n', 'd') OR f.confupdtype IN ('n', 'd') AS changes
FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid JOIN pg_class r ON r.oid = f.confrelid
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = CASE c.relname WHEN 'users' THEN 'id' ELSE 'user_id' END
LEFT JOIN pg_attribute b ON b.attrelid = r.oid AND b.attname = CASE r.relname WHEN 'users' THEN 'id' ELSE 'user_id' END
WHERE f.contype = 'f' AND (c.relnamespace = to_regnamespace($1) OR r.relnamespace = to_regnamespace($1))
ORDER BY 2, 1
"""
_DISTRIBUTED = """
SELECT c.relname AS name, column_to_column_name(p.logicalrelid, p.partkey) AS "column", p.colocationid AS "group"
FROM pg_dist_partition p JOIN pg_class c ON c.oid = p.logicalrelid WHERE c.relnamespace = to_regnamespace($1)
"""
# The transaction holds a lock on each shard, its indexes and its TOAST.
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
    """Which tables are spread, and which are not; those that others refer to first."""

    distributed: tuple[str, ...]
    local: tuple[str, ...]
    has_copies: bool = False
    """Whether rows of before lie on the coordinator still, where nobody reads them."""

    @property
    def state(self) -> Literal["local", "distributed", "incomplete"]:
        """Incomplete: some tables are spread and others are not, or there are copies."""
        if not self.distributed:
            return "local"
        return "incomplete" if self.local or self.has_copies else "distributed"


@dataclass(frozen=True, slots=True)
class DistributionPlan:
    """What :func:`distribute` would do."""

    obstacles: tuple[str, ...]
    """What keeps it from being done, each with what to do about it."""
    statements: tuple[str, ...]
    """What is said, in its order; empty where nothing is left to be done."""


def tables() -> list[str]:
    """Return the tables that are spread by user, those that others refer to first."""
    return [table.name for table in Base.metadata.sorted_tables if table.name != VECTORS]


async def distribution(database: Database) -> Distribution:
    """Return where a database stands. Needs no Citus, and no right to read a table.

    Raises:
        Unavailable: see :meth:`agentstore.Database.connection`.
    """
    async with database.connection() as connection:
        return (await _look(connection, database))[0]


async def plan(database: Database, *, shards: int = SHARDS) -> DistributionPlan:
    """Return what would be said, and everything that keeps it from being said. Changes nothing, and needs no Citus.

    Raises:
        InvalidContent: `shards` is no number from 1 to 1,024.
        NotConfigured: the login may not read where the schema stands.
        Unavailable: see :meth:`agentstore.Database.connection`.
    """
    _check(shards)
    found = await status(database)
    schema = f'"{database.settings.schema}"'
    async with database.connection() as connection:
        now, rows, spread = await _look(connection, database)
        obstacles = await _of_cluster(connection, schema, shards)
        references = await connection.fetch(_REFERENCES, schema, tables())
    if found.state != "at head":
        obstacles.append(f"the schema is {found.state}: it has to be at {found.head}, see `agentstore upgrade`")
    if VECTORS in rows:
        obstacles.append(f"{VECTORS} needs a trigger, which Citus refuses: run `agentstore vector disable`")
    for name in now.local:
        obstacles += _of_table(rows[name])
    obstacles += _of_references(references) + _of_distributed(spread)
    return DistributionPlan(tuple(obstacles), tuple(_statements(database.settings.schema, now, shards)))


async def distribute(
    target: Database | AsyncEngine | str,
    *,
    shards: int = SHARDS,
    settings: Settings | None = None,
    wait: float = WAIT,
    report: Report = _log.info,
) -> Distribution:
    """Spread the tables over the servers of a Citus cluster, by user, and return where the database stands then.

    In one transaction, so that no table is spread without the others: nobody writes meanwhile, and reads go on. Then
    the rows are removed that lie on the coordinator still, where nobody reads them. Idempotent; after an interruption
    it goes on with what is left.

    Args:
        target: the coordinator. Migrations' own connection is used, see ``MIGRATION_DATABASE_URL``.
        shards: into how many pieces each table is cut; for a database that has not begun.
        wait: seconds for other migrators and for locks, in all.

    Raises:
        InvalidContent: `shards` is no number from 1 to 1,024.
        NotConfigured: something keeps the tables from being spread: everything that does is in the message.
        Unavailable: see :func:`agentstore.migrate.upgrade`; nothing was changed, unless only removing was left.
    """

    async def work(connection: AsyncConnection) -> None:
        found = await plan(database, shards=shards)  # as it is now that nobody else migrates
        if found.obstacles:
            raise NotConfigured("The tables cannot be spread: " + "; ".join(found.obstacles) + ".")
        driver: Any = (await connection.get_raw_connection()).driver_connection
        for statement in found.statements:
            report(statement)
            await driver.execute(statement)

    _check(shards)
    async with opened(target, settings) as database:
        await run_exclusively(database, work, wait, report)
        return await distribution(database)


def _check(shards: int) -> None:
    if isinstance(shards, bool) or not isinstance(shards, int) or not 1 <= shards <= MOST_SHARDS:
        raise InvalidContent(f"A table has from 1 to {MOST_SHARDS:,} shards, not {shards!r}.")


async def _look(
    connection: asyncpg.Connection, database: Database
) -> tuple[Distribution, dict[str, asyncpg.Record], dict[str, asyncpg.Record]]:
    """Return where a database stands, and by their names the tables that are there and those that are spread."""
    schema, names = f'"{database.settings.schema}"', tables()
    citus = await connection.fetchrow(_EXTENSION)
    spread = await connection.fetch(_DISTRIBUTED, schema) if citus and citus["installed_version"] else []
    rows = {row["name"]: row for row in await connection.fetch(_TABLES, schema, [*names, VECTORS])}
    done = {row["name"]: row for row in spread if row["name"] in rows}
    found = Distribution(
        distributed=tuple(name for name in names if name in done),
        local=tuple(name for name in names if name in rows and name not in done),
        has_copies=any(rows[name]["size"] for name in done),
    )
    return found, rows, done


async def _of_cluster(connection: asyncpg.Connection, schema: str, shards: int) -> list[str]:
    """What keeps this server from spreading anything."""
    citus = await connection.fetchrow(_EXTENSION)
    if citus is None:
        return [
            "this server has no Citus: install it on every server, and set shared_preload_libraries = 'citus' there"
        ]
    if citus["installed_version"] is None:
        return ["this database has no Citus: say CREATE EXTENSION citus as a superuser, here and on every worker"]
    if int(citus["installed_version"].split(".")[0]) < _LEAST_VERSION:
        return [f"Citus {citus['installed_version']} is too old: {_LEAST_VERSION} is the oldest that can do it"]
    if not await connection.fetchval(_IS_COORDINATOR):
        return ["this server is a worker: give the coordinator's URL"]
    found = []
    servers = await connection.fetchval(_SERVERS)
    if not servers:
        found.append(
            "no server takes shards: say SELECT citus_set_coordinator_host('HOST', PORT), then "
            "SELECT citus_add_node('HOST', PORT) for each worker"
        )
    (room,) = await connection.fetch(_LOCKS, schema, tables())
    wanted = (room["relations"] or 0) * -(-shards // max(servers, 1))
    if wanted > room["locks"] * room["transactions"]:
        least = -(-wanted // room["transactions"])
        found.append(
            f"{shards} shards need {wanted:,} locks on a server: set max_locks_per_transaction to at least {least:,} "
            "on each"
        )
    return found


def _of_table(row: asyncpg.Record) -> list[str]:
    """What keeps a table from being spread."""
    name, found = row["name"], []
    if not row["is_owned"]:
        found.append(f"{name} is another role's: only its owner can spread it")
    if not row["has_user"]:
        found.append(f"{name} has no column of type text and NOT NULL that names the user")
    if row["is_secured"]:
        found.append(
            f"{name} has row-level security, whose user is not told to the workers: run `agentstore rls disable`"
        )
    found += [f"{name} has the trigger {trigger}, which Citus refuses: drop it" for trigger in row["triggers"]]
    found += [f"{key} on {name} is unique without the user: drop it, or add the user to it" for key in row["keys"]]
    return found


def _of_references(rows: list[asyncpg.Record]) -> list[str]:
    """What is wrong with foreign keys."""
    found = []
    for row in rows:
        name = f"the foreign key {row['name']} of {row['table']}"
        if row["table"] == VECTORS:
            continue
        if not row["is_ours"]:
            found.append(f"{name} refers to {row['target']} from a table that is not agentstore's: drop it")
        elif not row["to_ours"]:
            found.append(f"{name} refers to {row['target']}, which is not spread by user: drop it")
        elif not row["has_user"]:
            found.append(f"{name} is without the user: drop it, or add the user to it")
        elif row["changes"]:
            found.append(f"{name} sets a column when what it refers to goes, which Citus refuses: drop it")
    return found


def _of_distributed(done: dict[str, asyncpg.Record]) -> list[str]:
    """What is wrong with tables that somebody has distributed otherwise."""
    found = []
    for name, row in done.items():
        column = "id" if name == "users" else "user_id"
        if row["column"] != column:
            said = f"by {row['column']}" if row["column"] else "to every server"
            found.append(f"{name} is distributed {said}, not by {column}: say SELECT undistribute_table(...)")
        elif "users" in done and row["group"] != done["users"]["group"]:
            found.append(f"{name} does not lie with users: say SELECT undistribute_table(...)")
    return found


def _statements(schema: str, now: Distribution, shards: int) -> list[str]:
    """What spreads the tables that are local, and removes what lies on the coordinator still."""

    def quoted(name: str) -> str:
        return f'"{schema}"."{name}"'

    said = []
    if now.local:
        # One connection to each server: a table's shards are seen by those that refer to them before the commit. Locked
        # first, so that no row is written to one table while another is spread.
        said += ["BEGIN", "SET LOCAL citus.multi_shard_modify_mode TO 'sequential'"]
        said.append("SET LOCAL statement_timeout TO 0")
        said.append(f"LOCK TABLE {', '.join(map(quoted, now.local))} IN EXCLUSIVE MODE")
        users = _literal(quoted("users"))
        for name in now.local:
            column, where = "user_id", f"colocate_with => {users}"
            if name == "users":
                column, where = "id", f"colocate_with => 'none', shard_count => {shards}"
            said.append(f"SELECT create_distributed_table({_literal(quoted(name))}, '{column}', {where})")
        said.append("COMMIT")
    if now.local or now.has_copies:
        said.append(f"SELECT truncate_local_data_after_distributing_table({_literal(quoted('users'))})")
    return said


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
