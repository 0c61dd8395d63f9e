"""Runs the migrations: on a connection that is handed in, as SQL, or for a developer on the configured database.

A migration says no schema: the connection's search_path is the store's schema alone, so the version table and every
table land there, and another application's ``alembic_version`` in ``public`` is never seen.
"""

import asyncio
from typing import Any

from alembic import context
from sqlalchemy import JSON, Column, Connection

from agentstore.migrating.connections import connection_for_developers
from agentstore.migrating.steps import LOCK_TIMEOUT
from agentstore.models import Base

config = context.config


def _default_differs(
    _context: object, _column: object, column: Column[Any], there: str | None, _default: object, written: str | None
) -> bool | None:
    """Compare defaults; Postgres, which Alembic asks, cannot compare two values of the type json."""
    if not isinstance(column.type, JSON):
        return None
    return (there or "").removesuffix("::json") != (written or "")


def _of_the_main_line(name: str | None, kind: str, _parents: object) -> bool:
    """Leave the tables of the branch `vector` alone, where a database has them."""
    return kind != "table" or name not in ("memory_vectors", "alembic_version_vector")


def _say(*, step: Any, **_: object) -> None:
    """Say which migration was done."""
    report = config.attributes.get("report")
    if report is not None and not step.is_stamp:
        script = step.up_revision
        report(f"{script.revision}{'' if step.is_upgrade else ' undone'}: {script.doc}")


_OPTIONS = {
    "on_version_apply": _say,
    "include_name": _of_the_main_line,
    "target_metadata": Base.metadata,
    "transaction_per_migration": True,
    "compare_server_default": _default_differs,
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
    with context.begin_transaction():
        context.run_migrations()
elif (given := config.attributes.get("connection")) is not None:
    _run(given)
else:
    asyncio.run(_run_for_developers())
