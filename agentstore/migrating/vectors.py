"""Enable, disable and index vectors: pgvector, the table of vectors, and its HNSW indexes."""

import logging
import time
from zlib import crc32

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from agentstore.database.database import Database
from agentstore.database.errors import CONNECT_ERRORS
from agentstore.database.sql import literal
from agentstore.errors import NotConfigured, SchemaBehind
from agentstore.migrating import citus
from agentstore.migrating.connections import dedicated_connection, driver_connection, opened
from agentstore.migrating.locking import acquire_migration_lock, bounded_waits, migration_error
from agentstore.migrating.options import WAIT, Report
from agentstore.migrating.schema_status import VectorStatus, status, vector_status
from agentstore.settings import Settings

_log = logging.getLogger(__name__)

MOST_INDEXED_DIMENSIONS = 2_000
"""pgvector's limit for an HNSW index."""

_MAY_INSTALL = """
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = current_user AND rolsuper)
    OR has_database_privilege(current_database(), 'CREATE')
       AND EXISTS (SELECT FROM pg_available_extension_versions WHERE name = 'vector' AND trusted)
"""
_INDEX_IS_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:index)"


async def enable_vectors(target: Database | AsyncEngine | str, *, settings: Settings | None = None) -> None:
    """Install pgvector in the database, and create the table of vectors and its trigger. Idempotent.

    Raises:
        NotConfigured: the server has no pgvector, or the login may not install it; the message says what is missing. Or
            the tables are distributed by Citus.
        SchemaBehind: the schema itself is older than this release.
        Unavailable: see :func:`agentstore.migrating.migrate.upgrade`.
    """
    from agentstore.migrating.migrate import migrate_line

    async with opened(target, settings) as database:
        found = await vector_status(database)
        if found.state == "at head":
            return
        schema = await status(database)
        if schema.state == "behind":
            raise SchemaBehind(
                f"The schema {database.settings.schema!r} of {database.where} is at revision "
                f"{schema.current or 'none'}: run `agentstore upgrade` first."
            )
        async with database.connection() as connection:
            await citus.refuse(connection, database, "vectors, whose table needs a trigger")
        await _check_extension(database, found)
        await migrate_line(database, "up", "head", line="vector")


async def disable_vectors(target: Database | AsyncEngine | str, *, settings: Settings | None = None) -> None:
    """Drop the table of vectors, with all vectors, and its trigger. The extension stays. Idempotent.

    Raises:
        NotConfigured, Unavailable: see :func:`agentstore.migrating.migrate.upgrade`.
    """
    from agentstore.migrating.migrate import migrate_line

    async with opened(target, settings) as database:
        if (await vector_status(database)).current is not None:
            await migrate_line(database, "down", "base", line="vector", lose_data=True)


async def index_vectors(
    database: Database, embedder: str, dimensions: int, *, wait: float = WAIT, report: Report = _log.info
) -> str:
    """Create the HNSW index of one embedder's vectors, and return its name. An INVALID one is dropped and rebuilt.

    Reads and writes continue meanwhile. It takes minutes for millions of vectors; a larger `maintenance_work_mem`
    makes it faster. Idempotent.

    Args:
        database: the database, in which vectors are enabled.
        embedder: the embedder's name, as stored with its vectors.
        dimensions: the length of its vectors, at most 2,000.
        wait: seconds that waiting for migrators and for transactions of other sessions may take, in all.
        report: receives a line for each wait.

    Raises:
        NotConfigured: vectors are not enabled, pgvector is older than 0.8, there are more dimensions than it can
            index, or a privilege is missing.
        Unavailable: another process is building an index or migrating, a transaction that the build has to outwait
            does not end, or the database does not answer.
    """
    found = await vector_status(database)
    if found.current is None:
        raise NotConfigured(f"Vectors are not enabled in {database.where}: run `agentstore vector enable`.")
    if tuple(map(int, (found.installed or "0.0").split(".")[:2])) < (0, 8):
        raise NotConfigured(
            f"{database.where} has pgvector {found.installed}, which cannot continue an index scan until it has found "
            "enough vectors of one user: ALTER EXTENSION vector UPDATE, to 0.8 or later."
        )
    if dimensions > MOST_INDEXED_DIMENSIONS:
        raise NotConfigured(
            f"pgvector indexes vectors of at most {MOST_INDEXED_DIMENSIONS:,} dimensions, not of {dimensions:,}."
        )
    name, schema = vector_index_name(embedder, dimensions), database.settings.schema
    async with dedicated_connection(database) as connection:
        try:
            deadline = time.monotonic() + wait
            await acquire_migration_lock(connection, database, deadline, report)
            connection = await connection.execution_options(isolation_level="AUTOCOMMIT")
            # CONCURRENTLY waits for every transaction that may use the table, however long that takes.
            await connection.execute(text("SET statement_timeout TO 0"))
            valid = await connection.scalar(text(_INDEX_IS_VALID), {"index": f'"{schema}"."{name}"'})
            async with bounded_waits(connection, database, deadline, report):
                if valid is False:
                    await connection.execute(text(f'DROP INDEX CONCURRENTLY "{schema}"."{name}"'))
                if not valid:
                    await connection.exec_driver_sql(
                        f'CREATE INDEX CONCURRENTLY "{name}" ON "{schema}".memory_vectors '
                        f"USING hnsw ((embedding::vector({dimensions:d})) vector_cosine_ops) "
                        f"WHERE embedder = {literal(embedder)}"
                    )
        except CONNECT_ERRORS as error:
            raise migration_error(error, database) from error
    return name


def vector_index_name(embedder: str, dimensions: int) -> str:
    """Return the name of the HNSW index of an embedder's vectors. An embedder's name may be any text: it is hashed."""
    return f"memory_vectors_{crc32(embedder.encode()):08x}_{dimensions:d}_idx"


async def _check_extension(database: Database, found: VectorStatus) -> None:
    """Check that pgvector is installed or can be.

    Raises:
        NotConfigured: it cannot be installed; the message says what to do.
    """
    if found.installed is not None:
        return
    if found.available is None:
        raise NotConfigured(
            f"The server of {database.where} has no pgvector: install its package on the server (Debian: "
            "apt-get install postgresql-NN-pgvector; a managed service may have to allow the extension `vector`). "
            "Full-text search does not need it."
        )
    async with dedicated_connection(database) as connection:
        driver = await driver_connection(connection)
        (row,) = await driver.fetch(_MAY_INSTALL)
    if not row[0]:
        raise NotConfigured(
            f"The login to {database.where_directly} may not install pgvector: GRANT CREATE ON DATABASE to it, or run "
            "CREATE EXTENSION vector WITH SCHEMA public as a superuser; then run this command again."
        )
