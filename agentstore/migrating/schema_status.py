"""The revision of a database, compared with this release's. Does not load Alembic."""

from dataclasses import dataclass
from typing import Literal

import asyncpg

from agentstore.database.database import Database
from agentstore.migrating.revisions import head, history, needed

State = Literal["at head", "post pending", "behind", "ahead"]
VectorState = Literal["not enabled", "at head", "behind", "ahead"]

VERSION_TABLE = "agentstore_version"
"""The table that records the revision of the main line; that of the line "vector" has the suffix ``_vector``."""

FORMER_VERSION_TABLE = "alembic_version"
"""Its name until revision 0011, which an application's own Alembic uses as well: `upgrade` renames it."""

# Whether the schema has our table of messages: otherwise its `alembic_version` is that of another application.
_HAS_MESSAGES = """
SELECT count(*) = 4 FROM pg_attribute
WHERE attrelid = to_regclass({}) AND attname IN ('user_id', 'session_id', 'seq', 'payload') AND NOT attisdropped
"""
_EXTENSION = "SELECT default_version, installed_version FROM pg_available_extensions WHERE name = 'vector'"
_INVALID = """
SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE c.relnamespace = to_regnamespace($1) AND NOT i.indisvalid ORDER BY 1
"""


@dataclass(frozen=True, slots=True)
class Status:
    """The revision of a database (None: it has no schema yet), this release's, and how the two compare.

    "at head": nothing to do. "post pending": this release works; the remaining migrations, or the renaming of the
    version table, wait until no replica of the previous release is left. "behind": this release does not work. "ahead":
    a newer release has migrated the database, and this release works on it: there is nothing to do. (Each release keeps
    the schema usable for the previous one, until `agentstore upgrade` has run its last migrations.)
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
        table, current = await recorded_revision(connection, database.settings.schema)
        invalid = tuple(row[0] for row in await connection.fetch(_INVALID, f'"{database.settings.schema}"'))
    newest, revisions = head(), [revision.id for revision in history()]
    state: State = "behind"
    if current == newest:
        state = "at head" if table == VERSION_TABLE else "post pending"
    elif current is not None and current not in revisions:
        state = "ahead"
    elif current is not None and revisions.index(current) <= revisions.index(needed()):
        state = "post pending"
    return Status(current, newest, state, invalid)


async def vector_status(database: Database) -> VectorStatus:
    """Return the revision of a database's vectors and its version of pgvector. Raises as :func:`status` does."""
    async with database.connection() as connection:
        _, current = await recorded_revision(connection, database.settings.schema, "vector")
        rows = await connection.fetch(_EXTENSION)
    newest, known = head("vector"), {revision.id for revision in history("vector")}
    state: VectorState = "not enabled"
    if current is not None:
        state = "at head" if current == newest else "behind" if current in known else "ahead"
    return VectorStatus(current, newest, state, *(rows[0] if rows else (None, None)))


async def recorded_revision(connection: asyncpg.Connection, schema: str, line: str = "") -> tuple[str, str | None]:
    """Return the version table of a line of a schema, and the revision that it records; None if it has none.

    The table has its former name until an upgrade has renamed it. One of that name which belongs to another application
    is ignored.

    Args:
        connection: the connection.
        schema: the schema's name.
        line: "" or "vector".
    """
    suffix = f"_{line}" if line else ""
    table, former = VERSION_TABLE + suffix, FORMER_VERSION_TABLE + suffix
    try:
        rows = await connection.fetch(f'SELECT version_num FROM "{schema}".{table}')  # noqa: S608
        return table, rows[0][0] if rows else None
    except asyncpg.UndefinedColumnError:
        return table, None
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        pass
    if await has_tables(connection, schema):
        try:
            rows = await connection.fetch(f'SELECT version_num::text FROM "{schema}".{former}')  # noqa: S608
        except (asyncpg.UndefinedTableError, asyncpg.UndefinedColumnError):
            return table, None
        if len(rows) == 1 and rows[0][0] in {revision.id for revision in history(line)}:
            return former, rows[0][0]
    return table, None


async def has_tables(connection: asyncpg.Connection, schema: str) -> bool:
    """Return whether a schema has our table of messages, whatever revision it records."""
    return bool(await connection.fetchval(_HAS_MESSAGES.format("$1"), f'"{schema}".messages'))


def rename_statement(line: str = "") -> str:
    """Return the statement that gives the version table its name, if it has the former one, in the search_path."""
    suffix = f"_{line}" if line else ""
    table, former = VERSION_TABLE + suffix, FORMER_VERSION_TABLE + suffix
    has_messages = " ".join(_HAS_MESSAGES.format("'messages'").split())
    return f"""DO $version$ BEGIN
    IF to_regclass('{table}') IS NULL AND to_regclass('{former}') IS NOT NULL AND ({has_messages}) THEN
        ALTER TABLE {former} RENAME TO {table};
        IF EXISTS (SELECT FROM pg_constraint WHERE conrelid = '{table}'::regclass AND conname = '{former}_pkc') THEN
            ALTER TABLE {table} RENAME CONSTRAINT {former}_pkc TO {table}_pkc;
        END IF;
    END IF;
END $version$"""
