"""Distributed databases: which tables are distributed by user, the SQL that distributes others, and the functions.

The functions execute the calls that are made most, on the server that stores the rows of the user. Citus executes a
statement that inserts the rows of a CTE in several steps, each of which every server takes part in: a call of a
distributed function is sent to one server. Does not load Alembic.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import asyncpg

from agentstore.database.database import Database
from agentstore.database.sql import literal
from agentstore.errors import NotConfigured
from agentstore.migrating.options import Report
from agentstore.models import Base

_FOLDER = Path(__file__).parent / "functions"

# Not pg_available_extensions, for which the server reads the files of every extension: each start asks this.
_IS_INSTALLED = "SELECT EXISTS (SELECT FROM pg_catalog.pg_extension WHERE extname = 'citus')"
_DISTRIBUTED = """
SELECT c.relname AS name, column_to_column_name(p.logicalrelid, p.partkey) AS "column", p.colocationid AS "group"
FROM pg_dist_partition p JOIN pg_class c ON c.oid = p.logicalrelid WHERE c.relnamespace = to_regnamespace($1)
"""
_EXISTING = """
SELECT relname::text FROM pg_class
WHERE relnamespace = to_regnamespace($1) AND relkind IN ('r', 'p') AND relname = ANY ($2)
"""
_FOREIGN_KEYS = """
SELECT c.relname AS "table", r.relname AS target,
    ARRAY(
        SELECT a.attname::text FROM unnest(f.conkey) WITH ORDINALITY AS k (number, position)
        JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number ORDER BY k.position
    ) AS columns,
    ARRAY(
        SELECT a.attname::text FROM unnest(f.confkey) WITH ORDINALITY AS k (number, position)
        JOIN pg_attribute a ON a.attrelid = r.oid AND a.attnum = k.number ORDER BY k.position
    ) AS targets
FROM pg_constraint f JOIN pg_class c ON c.oid = f.conrelid JOIN pg_class r ON r.oid = f.confrelid
WHERE f.contype = 'f' AND c.relnamespace = to_regnamespace($1) AND r.relnamespace = to_regnamespace($1)
ORDER BY 1, 2
"""
_FUNCTIONS = """
SELECT p.oid::regprocedure::text AS signature, p.proname AS name FROM pg_proc p
WHERE p.pronamespace = to_regnamespace($1) AND p.proname LIKE 'citus\\_%'
ORDER BY 1
"""

# Citus hides shards from queries of the catalog, for which it looks up each relation. The driver reads the types of
# arrays once in each connection, which takes most of a second then.
_SHOW_SHARDS = """
DO $$ BEGIN
    IF pg_has_role((SELECT datdba FROM pg_database WHERE datname = current_database()), 'USAGE') THEN
        EXECUTE format('ALTER DATABASE %I {}', current_database());
    END IF;
END $$"""

VECTORS = "memory_vectors"
"""The table of vectors, which cannot be distributed."""


class ForeignKey(NamedTuple):
    """A foreign key between two tables of the store, with its columns and those that they refer to."""

    table: str
    target: str
    columns: Sequence[str]
    targets: Sequence[str]


def tables() -> list[str]:
    """Return the tables that are distributed, users first, each after the tables that it references."""
    names = [table.name for table in Base.metadata.sorted_tables if table.name != VECTORS]
    return sorted(names, key=lambda name: name != "users")


def column_of(table: str) -> str:
    """Return the column by which a table is distributed: the user, or the application of what belongs to no user."""
    return {"users": "id", "app_values": "app"}.get(table, "user_id")


def quoted(schema: str, name: str) -> str:
    """Return the name of a table with its schema."""
    return f'"{schema}"."{name}"'


async def distributed_tables(connection: asyncpg.Connection, schema: str) -> dict[str, asyncpg.Record]:
    """Return the distributed tables of a schema by name: `column` and `group`, of its shards. Needs no Citus."""
    if not await connection.fetchval(_IS_INSTALLED):
        return {}
    return {row["name"]: row for row in await connection.fetch(_DISTRIBUTED, f'"{schema}"')}


async def lacking(connection: asyncpg.Connection, schema: str) -> tuple[list[str], list[str]]:
    """Return which tables of a distributed database are local, and which functions it lacks; nothing of any other."""
    distributed = await distributed_tables(connection, schema)
    if "users" not in distributed:
        return [], []
    existing = {row[0] for row in await connection.fetch(_EXISTING, f'"{schema}"', tables())}
    local = [name for name in tables() if name in existing and name not in distributed]
    return local, await missing_functions(connection, schema)


async def foreign_keys(connection: asyncpg.Connection, schema: str) -> list[ForeignKey]:
    """Return the foreign keys between tables of the store."""
    return [ForeignKey(*row) for row in await connection.fetch(_FOREIGN_KEYS, f'"{schema}"')]


async def missing_functions(connection: asyncpg.Connection, schema: str) -> list[str]:
    """Return which functions of this release a distributed database lacks."""
    found = {row["name"] for row in await connection.fetch(_FUNCTIONS, f'"{schema}"')}
    return [name for name in function_names() if name not in found]


def function_names() -> list[str]:
    """Return the names of the functions of this release."""
    return sorted(path.stem for path in _FOLDER.glob("*.sql"))


def function_statements(schema: str) -> list[str]:
    """Return the SQL that creates the functions of this release, on all servers."""
    found = []
    for name in function_names():
        text = (_FOLDER / f"{name}.sql").read_text("utf-8")
        lines = [line for line in text.splitlines() if not line.startswith("--")]
        found.append("\n".join(lines).replace("{schema}", f'"{schema}"').strip().removesuffix(";"))
        user = literal(quoted(schema, "users"))
        space = literal(f'"{schema}"')
        found.append(
            f"SELECT create_distributed_function(oid::regprocedure, 'p_user', colocate_with => {user}) FROM pg_proc "
            f"WHERE pronamespace = to_regnamespace({space}) AND proname = {literal(name)}"
        )
    return found


def setting_statement(*, is_distributed: bool) -> str:
    """Return the SQL that sets, or resets, what connections to a distributed database need.

    Does nothing if the role does not own the database.
    """
    setting = "citus.override_table_visibility"
    return _SHOW_SHARDS.format(f"SET {setting} TO off" if is_distributed else f"RESET {setting}").strip()


async def drop_functions(connection: asyncpg.Connection, schema: str) -> None:
    """Drop the functions of this and of all other releases."""
    for row in await connection.fetch(_FUNCTIONS, f'"{schema}"'):
        await connection.execute(f"DROP FUNCTION {row['signature']}")


def distribute_statements(
    schema: str, local: Sequence[str], keys: Iterable[ForeignKey], *, shards: int | None = None
) -> list[str]:
    """Return the SQL that distributes tables in one transaction, each after the tables that it references.

    Rows of a local table whose owner was deleted from a distributed one are removed first: the foreign key did not
    delete them.
    """
    # Sequential mode uses one connection to each server, on which a table's shards are visible to the tables that
    # reference them before the commit. The lock comes first, so that no row is written to one table while another is
    # being distributed.
    found = ["BEGIN", "SET LOCAL citus.multi_shard_modify_mode TO 'sequential'", "SET LOCAL statement_timeout TO 0"]
    found.append(f"LOCK TABLE {', '.join(quoted(schema, name) for name in local)} IN EXCLUSIVE MODE")
    for key in keys:
        if key.table in local and key.target not in local:
            found += _orphan_statements(schema, key)
    for name in local:
        found.append(distribute_statement(schema, name, shards=shards))
    if "users" in local:
        found += [*function_statements(schema), setting_statement(is_distributed=True)]
    return [*found, "COMMIT"]


def distribute_statement(schema: str, name: str, *, shards: int | None = None) -> str:
    """Return the SQL that distributes a table; `shards` are those of `users`, which the others have too."""
    where = f"colocate_with => {literal(quoted(schema, 'users'))}"
    if name == "users":
        where = f"colocate_with => 'none', shard_count => {shards}"
    return f"SELECT create_distributed_table({literal(quoted(schema, name))}, '{column_of(name)}', {where})"


def _orphan_statements(schema: str, key: ForeignKey) -> list[str]:
    columns = ", ".join(f'"{name}"' for name in key.columns)
    pairs = list(zip(key.columns, key.targets, strict=True))
    is_known = " AND ".join(f'k."{one}" = t."{other}"' for one, other in pairs)
    is_orphan = " AND ".join(f'c."{name}" = o."{name}"' for name in key.columns)
    # Citus joins a distributed table with the rows of a MATERIALIZED CTE, and not with a local table.
    return [
        f"CREATE TEMPORARY TABLE orphans ON COMMIT DROP AS WITH keys AS MATERIALIZED (SELECT DISTINCT {columns} FROM "
        f"{quoted(schema, key.table)}), known AS MATERIALIZED (SELECT k.* FROM keys k JOIN "
        f"{quoted(schema, key.target)} t ON {is_known}) SELECT {columns} FROM keys EXCEPT SELECT {columns} FROM known",
        f"DELETE FROM {quoted(schema, key.table)} c USING orphans o WHERE {is_orphan}",
        "DROP TABLE orphans",
    ]


async def refuse(connection: asyncpg.Connection, database: Database, what: str) -> None:
    """Refuse what a distributed database cannot have.

    Raises:
        NotConfigured: the tables are distributed.
    """
    if "users" in await distributed_tables(connection, database.settings.schema):
        raise NotConfigured(
            f"The tables of {database.where} are distributed by Citus, which excludes {what}: run `agentstore "
            "undistribute` first, or use a database on one server."
        )


async def complete(connection: asyncpg.Connection, schema: str, report: Report) -> None:
    """Distribute the local tables of a distributed database, and create the functions. Idempotent."""
    statements = []
    local, functions = await lacking(connection, schema)
    if local:
        statements += distribute_statements(schema, local, await foreign_keys(connection, schema))
        users = literal(quoted(schema, "users"))
        statements.append(f"SELECT truncate_local_data_after_distributing_table({users})")
        report(f"distributing {', '.join(local)}")
    if functions:
        statements += function_statements(schema)
    for statement in statements:
        await connection.execute(statement)
