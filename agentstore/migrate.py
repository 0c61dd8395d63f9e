"""The schema and its migrations: the only module that imports Alembic.

The migrations are ordinary Alembic revisions. They lie in ``migrations/`` of a checkout and inside the package of an
installed wheel. Every function here runs inside a running event loop and on any form of URL.

Beside the main line there is the branch `vector`, in a folder and with a version table of its own: a database has it
once :func:`enable_vectors` was called, and then an upgrade brings both to their heads.
"""

import asyncio
import io
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal
from zlib import crc32

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from pydantic import SecretStr
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from agentstore.database import CONNECT_ERRORS, Database, connection_error
from agentstore.errors import AgentStoreError, NotConfigured, SchemaAhead, SchemaBehind, Unavailable
from agentstore.settings import AutoMigrate, Settings
from agentstore.url import Connect, Password, connector, parse_url

_log = logging.getLogger(__name__)

# Alembic keeps what it works on in globals of its modules: one command at a time in a process.
_ALEMBIC = threading.Lock()
LOCK_TIMEOUT = "3s"
_LOCK_WAIT = 600.0
_POLL = 0.05

MOST_INDEXED_DIMENSIONS = 2_000

_EXTENSION = "SELECT default_version, installed_version FROM pg_available_extensions WHERE name = 'vector'"
_MAY_INSTALL = """
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = current_user AND rolsuper)
    OR has_database_privilege(current_database(), 'CREATE')
       AND EXISTS (SELECT FROM pg_available_extension_versions WHERE name = 'vector' AND trusted)
"""
_INDEX_IS_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:index)"


@dataclass(frozen=True, slots=True)
class Revision:
    """A migration of this release."""

    id: str
    previous: str | None
    title: str


@dataclass(frozen=True, slots=True)
class Status:
    """Where a database stands: its revision (None: no schema yet), this release's, and what that means."""

    current: str | None
    head: str
    state: Literal["at head", "behind", "ahead"]


@dataclass(frozen=True, slots=True)
class VectorStatus:
    """Where a database stands with vectors: not enabled where `current` is None."""

    current: str | None
    head: str
    state: Literal["not enabled", "at head", "behind", "ahead"]
    available: str | None
    """The version of pgvector that the server has files of, or None."""
    installed: str | None
    """The version that is installed in this database, or None."""


def head() -> str:
    """Return the revision that this release needs."""
    return _scripts().get_current_head() or ""


def history() -> list[Revision]:
    """Return the migrations of this release, the newest first."""
    return [
        Revision(
            script.revision,
            script._versioned_down_revisions[0] if script._versioned_down_revisions else None,
            script.doc,
        )
        for script in _scripts().walk_revisions()
    ]


async def status(database: Database) -> Status:
    """Return where the database stands.

    Raises:
        Unavailable, NotConfigured: it cannot be reached, or does not let us in.
    """
    async with database.connection() as connection:
        current = await _current(connection, database.settings.schema)
    known = {script.revision for script in _scripts().walk_revisions()}
    newest = head()
    if current == newest:
        return Status(current, newest, "at head")
    return Status(current, newest, "behind" if current is None or current in known else "ahead")


async def vector_status(database: Database) -> VectorStatus:
    """Return where the database stands with vectors. Raises as :func:`status` does."""
    async with database.connection() as connection:
        current = await _current(connection, database.settings.schema, "alembic_version_vector")
        rows = await connection.fetch(_EXTENSION)
    known = {script.revision for script in _scripts("vector").walk_revisions()}
    newest = _scripts("vector").get_current_head() or ""
    state: Literal["not enabled", "at head", "behind", "ahead"] = "not enabled"
    if current is not None:
        state = "at head" if current == newest else "behind" if current in known else "ahead"
    return VectorStatus(current, newest, state, *(rows[0] if rows else (None, None)))


async def ensure(database: Database, mode: AutoMigrate) -> None:
    """Do what a store's start does about the schema: see ``AUTO_MIGRATE``.

    A schema that is newer than this release is accepted: releases keep the schema usable for the one before.

    Raises:
        SchemaBehind: the schema is older than this release, and `mode` is "check".
    """
    if mode == "off":
        return
    found = await status(database)
    if found.state == "ahead":
        _log.warning("the schema is at revision %s, which this release does not know", found.current)
    if found.state != "behind":
        return
    if mode == "upgrade":
        await upgrade(database)
        return
    raise SchemaBehind(
        f"The schema {database.settings.schema!r} of {database.where} is at revision {found.current or 'none'}, this "
        f"release needs {found.head}: run `agentstore upgrade`."
    )


async def upgrade(
    target: Database | AsyncEngine | str, revision: str = "head", *, settings: Settings | None = None
) -> None:
    """Bring the schema to `revision`: a revision's id, ``head``, or relative as in ``+1``.

    Safe to run from many processes at once: one migrates, the others wait for it. At head, no lock is taken.

    Raises:
        SchemaAhead: the database has a revision that this release does not know.
        NotConfigured: there is no such revision, or a right is missing.
        Unavailable: another process migrates for longer than ten minutes, or the database does not answer.
    """
    async with _database(target, settings) as database:
        found = await status(database)
        to_head = revision in ("head", "heads", found.head)
        if found.state != "at head" or not to_head:
            await _migrate(database, lambda config: command.upgrade(config, revision))
        if to_head and (await vector_status(database)).state == "behind":
            await _migrate(database, lambda config: command.upgrade(config, "head"), line="vector")


async def downgrade(target: Database | AsyncEngine | str, revision: str, *, settings: Settings | None = None) -> None:
    """Take the schema back to `revision`: an id, ``base``, or relative as in ``-1``.

    This drops what later revisions brought, and the data in it. Raises as :func:`upgrade` does.
    """
    async with _database(target, settings) as database:
        # Looked at before the first step: each is a transaction of its own.
        if (await vector_status(database)).current is not None and _drops_memories(
            (await status(database)).current, revision
        ):
            raise NotConfigured(f"Vectors are enabled in {database.where}: run `agentstore vector disable` first.")
        await _migrate(database, lambda config: command.downgrade(config, revision))


async def enable_vectors(target: Database | AsyncEngine | str, *, settings: Settings | None = None) -> None:
    """Install pgvector in the database, and make the table of vectors and its trigger. Idempotent.

    Raises:
        NotConfigured: the server has no pgvector, or the login may not install it; the message says what is missing.
        SchemaBehind: the schema itself is older than this release.
        Unavailable: see :func:`upgrade`.
    """
    async with _database(target, settings) as database:
        found = await vector_status(database)
        if found.state == "at head":
            return
        schema = await status(database)
        if schema.state == "behind":
            raise SchemaBehind(
                f"The schema {database.settings.schema!r} of {database.where} is at revision "
                f"{schema.current or 'none'}: run `agentstore upgrade` first."
            )
        await _check_extension(database, found)
        await _migrate(database, lambda config: command.upgrade(config, "head"), line="vector")


async def disable_vectors(target: Database | AsyncEngine | str, *, settings: Settings | None = None) -> None:
    """Drop the table of vectors, the vectors with it, and the trigger. The extension stays. Idempotent.

    Raises as :func:`upgrade` does.
    """
    async with _database(target, settings) as database:
        if (await vector_status(database)).current is not None:
            await _migrate(database, lambda config: command.downgrade(config, "base"), line="vector")


async def index_vectors(database: Database, embedder: str, dimensions: int) -> str:
    """Build the HNSW index of one embedder's vectors anew if it is INVALID, or if there is none; return its name.

    Writers go on. It takes minutes for millions of vectors, and less with more `maintenance_work_mem`.

    Raises:
        NotConfigured: vectors are not enabled, or have more dimensions than pgvector can index, or a right is missing.
        Unavailable: another index is being built, or the database does not answer.
    """
    found = await vector_status(database)
    if found.current is None:
        raise NotConfigured(f"Vectors are not enabled in {database.where}: run `agentstore vector enable`.")
    if tuple(map(int, (found.installed or "0.0").split(".")[:2])) < (0, 8):
        raise NotConfigured(
            f"{database.where} has pgvector {found.installed}, whose index cannot go on until it has "
            "enough of one user's vectors: ALTER EXTENSION vector UPDATE, to 0.8 or later."
        )
    if dimensions > MOST_INDEXED_DIMENSIONS:
        raise NotConfigured(f"pgvector indexes vectors of at most {MOST_INDEXED_DIMENSIONS} dimensions.")
    name, schema = vector_index_name(embedder, dimensions), database.settings.schema
    literal = "'" + embedder.replace("'", "''") + "'"
    async with _connection(database) as connection:
        try:
            await _become_only_migrator(connection, database)
            connection = await connection.execution_options(isolation_level="AUTOCOMMIT")
            # Not the whole lock_timeout: CONCURRENTLY waits for transactions, not only for locks.
            await connection.execute(text("SET statement_timeout TO 0"))
            valid = await connection.scalar(text(_INDEX_IS_VALID), {"index": f'"{schema}"."{name}"'})
            if valid is False:
                await connection.execute(text(f'DROP INDEX CONCURRENTLY "{schema}"."{name}"'))
            if not valid:
                await connection.exec_driver_sql(
                    f'CREATE INDEX CONCURRENTLY "{name}" ON "{schema}".memory_vectors '
                    f"USING hnsw ((embedding::vector({dimensions:d})) vector_cosine_ops) WHERE embedder = {literal}"
                )
        except CONNECT_ERRORS as error:
            raise _translate(error, database) from error
    return name


def vector_index_name(embedder: str, dimensions: int) -> str:
    """Return the name of the HNSW index of an embedder's vectors: any text may be an embedder's name."""
    return f"memory_vectors_{crc32(embedder.encode()):08x}_{dimensions:d}_idx"


def sql(revisions: str = "head", *, schema: str = "agentstore", vectors: bool = False) -> str:
    """Return the SQL of an upgrade, without a database: up to a revision, or from one to another as in ``A:B``.

    `vectors`: that of the branch `vector`, which the main line's does not have.
    """
    buffer = io.StringIO()
    config = _config(buffer, line="vector" if vectors else "")
    config.attributes["schema"] = schema
    with _commands():
        command.upgrade(config, revisions, sql=True)
    return buffer.getvalue()


def direct_connector(url: str, settings: Settings, *, password: Password | None = None) -> Connect | None:
    """Return what opens connections for migrations: MIGRATION_DATABASE_URL's, else `url`'s if it is no pooler's.

    The former is another way to DATABASE_URL's database: a URL that names another one is not led astray by it.

    A migration needs a session of its own: its search_path, its lock. A transaction pooler would give each part of it
    another connection of the server's, and leave those settings on it for others.
    """
    if settings.migration_database_url is not None and settings.database_url in (None, SecretStr(url)):
        return connector(settings.migration_database_url.get_secret_value(), timeout=settings.connect_timeout)
    if settings.pooler == "transaction":
        return None
    return connector(url, password=password, timeout=settings.connect_timeout)


@asynccontextmanager
async def connection_for_developers() -> AsyncIterator[AsyncConnection]:
    """The connection of Alembic's own command line, used in the repository: AGENTSTORE_DATABASE_URL's."""
    settings = Settings()
    if settings.database_url is None:
        raise NotConfigured("Set AGENTSTORE_DATABASE_URL for the alembic command.")
    url = settings.database_url.get_secret_value()
    async with _database(url, settings) as database, _connection(database) as connection:
        await _enter_schema(connection, settings.schema)
        yield connection


@asynccontextmanager
async def _database(target: Database | AsyncEngine | str, settings: Settings | None) -> AsyncIterator[Database]:
    if isinstance(target, Database):
        yield target
        return
    settings = settings or Settings()
    if isinstance(target, str):
        direct = direct_connector(target, settings)
        # The URL of a pooler serves to look where the schema stands, and no more.
        database = Database(
            settings,
            connect=direct or connector(target, statement_cache_size=0),
            connect_directly=direct,
            where=str(parse_url(target)),
        )
    else:
        database = Database(settings, engine=target)
    try:
        yield database
    finally:
        await database.stop()


async def _check_extension(database: Database, found: VectorStatus) -> None:
    """Say what keeps pgvector from being installed, in the words of what to do about it."""
    if found.installed is not None:
        return
    if found.available is None:
        raise NotConfigured(
            f"The server of {database.where} has no pgvector: install its package there (Debian: "
            "apt-get install postgresql-NN-pgvector; a cloud's own list of extensions may have to allow `vector`). "
            "Full text needs none of it."
        )
    async with database.connection() as connection:
        (row,) = await connection.fetch(_MAY_INSTALL)
    if not row[0]:
        raise NotConfigured(
            f"The login to {database.where} may not install pgvector: GRANT CREATE ON DATABASE to it, or let a "
            "superuser say CREATE EXTENSION vector WITH SCHEMA public, and run this again."
        )


async def _migrate(database: Database, run: Callable[[Config], None], *, line: str = "") -> None:
    async with _connection(database) as connection:

        def alembic(sync: Connection) -> None:
            config = _config(line=line)
            config.attributes["connection"] = sync
            with _commands():
                run(config)

        try:
            # Before the schema is made: two CREATE SCHEMA IF NOT EXISTS at once can fail. Released with the
            # connection, which is closed in every case.
            await _become_only_migrator(connection, database)
            await _enter_schema(connection, database.settings.schema)
            async with _alone_in_process():
                await connection.run_sync(alembic)
            await connection.commit()
        except CONNECT_ERRORS as error:
            raise _translate(error, database) from error


@asynccontextmanager
async def _connection(database: Database) -> AsyncIterator[AsyncConnection]:
    """A connection of its own, whose session settings never reach a pool: it is closed and not returned."""
    async with database.migration_engine() as engine:
        try:
            connection = await engine.connect()
        except CONNECT_ERRORS as error:
            raise connection_error(error, database.where) from error
        try:
            yield await connection.execution_options(isolation_level="READ COMMITTED")
        finally:
            await connection.invalidate()
            await connection.close()


async def _enter_schema(connection: AsyncConnection, schema: str) -> None:
    """Make the schema if it is not there, and make it the search_path."""
    # Asked first: IF NOT EXISTS wants the right to create even where there is nothing to create.
    if await connection.scalar(text("SELECT to_regnamespace(:schema)"), {"schema": f'"{schema}"'}) is None:
        await connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'))
    await connection.execute(text(f'SET search_path TO "{schema}"'))
    # Whoever waits for a strong lock makes everybody else wait behind it.
    await connection.execute(text(f"SET lock_timeout TO '{LOCK_TIMEOUT}'"))
    await connection.commit()


async def _become_only_migrator(connection: AsyncConnection, database: Database) -> None:
    """Take the advisory lock of the schema's migrations.

    By polling: a process that waits inside ``pg_advisory_lock`` holds a snapshot, for which CREATE INDEX
    CONCURRENTLY in the process that has the lock waits in turn.
    """
    key = {"key": crc32(f"agentstore migrations of {database.settings.schema}".encode())}
    deadline = time.monotonic() + _LOCK_WAIT
    while not await connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), key):
        await connection.commit()
        if time.monotonic() > deadline:
            raise Unavailable(f"Another process has been migrating {database.where} for {_LOCK_WAIT:g} s.")
        await asyncio.sleep(_POLL)
    await connection.commit()


@asynccontextmanager
async def _alone_in_process() -> AsyncIterator[None]:
    # Polled: it is held across event loops as well as threads, and blocks neither.
    while not _ALEMBIC.acquire(blocking=False):  # noqa: ASYNC110
        await asyncio.sleep(_POLL)
    try:
        yield
    finally:
        _ALEMBIC.release()


async def _current(connection: asyncpg.Connection, schema: str, table: str = "alembic_version") -> str | None:
    try:
        rows = await connection.fetch(f'SELECT version_num FROM "{schema}".{table}')  # noqa: S608
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return None
    return rows[0][0] if rows else None


def _drops_memories(current: str | None, revision: str) -> bool:
    try:
        steps = _scripts().revision_map.iterate_revisions(current or "base", revision, select_for_downgrade=True)
        return any(step is not None and step.revision == "0002" for step in steps)
    except RevisionError:
        return False  # Alembic says what is wrong with it


def _translate(error: BaseException, database: Database) -> AgentStoreError:
    said = getattr(error, "orig", None) or error
    if getattr(said, "sqlstate", None) == "42501":
        return NotConfigured(f"The login to {database.where} may not migrate: {said}.")
    return Unavailable(f"The migration of {database.where} did not succeed: {said}")


def _config(output: io.StringIO | None = None, *, line: str = "") -> Config:
    config = Config(output_buffer=output) if output is not None else Config()
    config.set_main_option("script_location", str(_folder() / line).replace("%", "%%"))
    return config


@cache
def _folder() -> Path:
    inside = Path(__file__).parent / "migrations"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "migrations"


@cache
def _scripts(line: str = "") -> ScriptDirectory:
    return ScriptDirectory.from_config(_config(line=line))


@contextmanager
def _commands() -> Iterator[None]:
    """Alembic's errors as ours."""
    try:
        yield
    except CommandError as error:
        if "Can't locate revision" in str(error) or "No such revision" in str(error):
            raise SchemaAhead(
                f"{error}: the database may have been migrated by a newer release, or the revision is misspelt."
            ) from error
        raise NotConfigured(f"{error}.") from error
