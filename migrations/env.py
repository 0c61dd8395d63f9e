"""Run the migrations of the main line: on a given connection, as a SQL script, or for the ``alembic`` command.

Migrations do not name the schema. The connection's search_path contains only the store's schema, so the version table
and all tables are created there. The version table has a name of its own, since an application may use that schema too.
"""

import asyncio
from typing import Any

from alembic import context
from sqlalchemy import JSON, Column, Connection

from agentstore.migrating.connections import connection_for_developers
from agentstore.migrating.schema_status import VERSION_TABLE, rename_statement
from agentstore.migrating.steps import LOCK_TIMEOUT
from agentstore.models import Base

config = context.config


def _compare_default(
    _context: object, _column: object, column: Column[Any], found: str | None, _default: object, expected: str | None
) -> bool | None:
    """Compare the defaults of json columns by their text: Postgres cannot compare two values of the type json."""
    if not isinstance(column.type, JSON):
        return None
    return (found or "").removesuffix("::json") != (expected or "")


def _is_of_main_line(name: str | None, kind: str, _parents: object) -> bool:
    """Ignore the tables of the line "vector", which not every database has."""
    return kind != "table" or name not in ("memory_vectors", "agentstore_version_vector", "alembic_version_vector")


def _report_step(*, step: Any, **_: object) -> None:
    """Report a migration that has run."""
    report = config.attributes.get("report")
    if report is not None and not step.is_stamp:
        script = step.up_revision
        report(f"{script.revision}{'' if step.is_upgrade else ' undone'}: {script.doc}")
    if (applied := config.attributes.get("applied")) is not None:
        applied()


_OPTIONS = {
    "version_table": config.attributes.get("version_table", VERSION_TABLE),
    "on_version_apply": _report_step,
    "include_name": _is_of_main_line,
    "target_metadata": Base.metadata,
    "transaction_per_migration": True,
    "compare_server_default": _compare_default,
}


def _run(connection: Connection) -> None:
    context.configure(connection=connection, **_OPTIONS)
    with context.begin_transaction():
        context.run_migrations()


async def _run_for_developers() -> None:
    async with connection_for_developers() as connection:
        await connection.run_sync(_run)


if context.is_offline_mode():
    schema = config.attributes["schema"]
    context.configure(dialect_name="postgresql", literal_binds=True, **_OPTIONS)
    context.execute(f"SET lock_timeout TO '{LOCK_TIMEOUT}'")
    context.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
    context.execute(f'SET search_path TO "{schema}"')
    if context.get_starting_revision_argument() not in (None, "base"):
        context.execute(rename_statement())
    with context.begin_transaction():
        context.run_migrations()
elif (connection := config.attributes.get("connection")) is not None:
    _run(connection)
else:
    asyncio.run(_run_for_developers())
