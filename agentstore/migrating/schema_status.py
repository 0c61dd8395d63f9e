"""The revision of a database, compared with this release's. Does not load Alembic."""

from dataclasses import dataclass
from typing import Literal

import asyncpg

from agentstore.database.database import Database
from agentstore.migrating.revisions import head, history, needed

State = Literal["at head", "post pending", "behind", "ahead"]
VectorState = Literal["not enabled", "at head", "behind", "ahead"]

_EXTENSION = "SELECT default_version, installed_version FROM pg_available_extensions WHERE name = 'vector'"
_INVALID = """
SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE c.relnamespace = to_regnamespace($1) AND NOT i.indisvalid ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Status:
    """The revision of a database (None: it has no schema yet), this release's, and how the two compare.

    "at head": nothing to do. "post pending": this release works; the remaining migrations wait until no replica of the
    previous release is left. "behind": this release does not work. "ahead": a newer release has migrated the database.
    """

    current: str | None
    head: str
    state: State
    invalid_indexes: tuple[str, ...] = ()
    """Indexes that an interrupted CREATE INDEX CONCURRENTLY has left INVALID: writes maintain them, no query uses
    them."""


@dataclass(frozen=True, slots=True)
class VectorStatus:
    """The revision of a database's vectors; `current` is None where vectors are not enabled."""

    current: str | None
    head: str
    state: VectorState
    available: str | None
    """The version of pgvector that the server can install, or None."""
    installed: str | None
    """The version of pgvector that is installed in this database, or None."""


async def status(database: Database) -> Status:
    """Return the revision of a database, compared with this release's.

    Raises:
        Unavailable: the database cannot be reached.
        NotConfigured: the login was rejected, or lacks the privilege to read the revision.
    """
    async with database.connection() as connection:
        current = await current_revision(connection, database.settings.schema)
        invalid = tuple(row[0] for row in await connection.fetch(_INVALID, f'"{database.settings.schema}"'))
    newest, revisions = head(), [revision.id for revision in history()]
    state: State = "behind"
    if current == newest:
        state = "at head"
    elif current is not None and current not in revisions:
        state = "ahead"
    elif current is not None and revisions.index(current) <= revisions.index(needed()):
        state = "post pending"
    return Status(current, newest, state, invalid)


async def vector_status(database: Database) -> VectorStatus:
    """Return the revision of a database's vectors and its version of pgvector. Raises as :func:`status` does."""
    async with database.connection() as connection:
        current = await current_revision(connection, database.settings.schema, "vector")
        rows = await connection.fetch(_EXTENSION)
    newest, known = head("vector"), {revision.id for revision in history("vector")}
    state: VectorState = "not enabled"
    if current is not None:
        state = "at head" if current == newest else "behind" if current in known else "ahead"
    return VectorStatus(current, newest, state, *(rows[0] if rows else (None, None)))


async def current_revision(connection: asyncpg.Connection, schema: str, line: str = "") -> str | None:
    """Return the revision that a line of a schema is at; None if it has none. `line` is "" or "vector"."""
    table = f"alembic_version_{line}" if line else "alembic_version"
    try:
        rows = await connection.fetch(f'SELECT version_num FROM "{schema}".{table}')  # noqa: S608
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return None
    return rows[0][0] if rows else None
