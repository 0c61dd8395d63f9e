"""The schema and its migrations: the only module that imports Alembic.

The migrations are ordinary Alembic revisions. They lie in ``migrations/`` of a checkout and inside the package of an
installed wheel. Every function here runs inside a running event loop and on any form of URL.

Beside the main line there is the branch `vector`, in a folder and with a version table of its own: a database has it
once :func:`enable_vectors` was called, and then an upgrade brings both to their heads.
"""

import asyncio
import io
import logging
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal
from zlib import crc32

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.exc import PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from agentstore.database import row_security
from agentstore.database.database import Database
from agentstore.database.errors import CONNECT_ERRORS, connection_error
from agentstore.database.pooler import is_pooled, is_transaction_pooler
from agentstore.database.url import connector, direct_connector, parse_url
from agentstore.errors import AgentStoreError, Conflict, NotConfigured, SchemaAhead, SchemaBehind, Unavailable
from agentstore.migrating.plan import Lost, created, effects, losses, statements
from agentstore.settings import AutoMigrate, Settings

_log = logging.getLogger(__name__)

# Alembic keeps what it works on in globals of its modules: one command at a time in a process.
_ALEMBIC = threading.Lock()
# For the migrators before us, and for locks that somebody else holds, in all.
WAIT = 600.0
_POLL = 0.05
_SAID_EVERY = 10.0
# Seconds that a migration waits for a lock, at first and at most: whoever comes meanwhile waits behind it. Then it lets
# everybody go on for four times as long, and begins again.
_FIRST_PATIENCE, _MOST_PATIENCE, _PAUSE = 0.5, 3.0, 4.0
# lock_timeout, a deadlock with the application, a serialisation failure.
_BEGUN_AGAIN = ("55P03", "40P01", "40001")

MOST_INDEXED_DIMENSIONS = 2_000

_EXTENSION = "SELECT default_version, installed_version FROM pg_available_extensions WHERE name = 'vector'"
_MAY_INSTALL = """
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = current_user AND rolsuper)
    OR has_database_privilege(current_database(), 'CREATE')
       AND EXISTS (SELECT FROM pg_available_extension_versions WHERE name = 'vector' AND trusted)
"""
_HOLDER = """
SELECT a.pid, a.application_name, a.client_addr::text, a.backend_start
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.classid = 0 AND l.objid::bigint = :key AND l.objsubid = 1
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_BLOCKERS = """
SELECT DISTINCT a.pid, a.application_name, a.state, a.xact_start, c.relname
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid JOIN pg_class c ON c.oid = l.relation
WHERE l.granted AND c.relnamespace = to_regnamespace($1) AND a.pid <> pg_backend_pid()
ORDER BY a.xact_start LIMIT 1
"""
_INVALID = """
SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE c.relnamespace = to_regnamespace($1) AND NOT i.indisvalid ORDER BY 1
"""
_SIZES = """
SELECT relname, reltuples::bigint, pg_total_relation_size(oid)
FROM pg_class WHERE relnamespace = to_regnamespace($1) AND relkind = 'r'
"""
_INDEX_IS_VALID = "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:index)"


Direction = Literal["up", "down", "stamp"]
Phase = Literal["pre", "post"]
Tell = Callable[[str], None]
State = Literal["at head", "post pending", "behind", "ahead"]


@dataclass(frozen=True, slots=True)
class Revision:
    """A migration of this release."""

    id: str
    previous: str | None
    title: str
    phase: Phase
    """pre: before the new release starts, and the one before goes on. post: when none of the one before is left."""


@dataclass(frozen=True, slots=True)
class Status:
    """Where a database stands: its revision (None: no schema yet), this release's, and what that means.

    "post pending": this release works, and what is left waits until no replica of the release before is there.
    """

    current: str | None
    head: str
    state: State
    invalid_indexes: tuple[str, ...] = ()
    """What a CREATE INDEX CONCURRENTLY that was broken off has left: it costs, and is not used."""


@dataclass(frozen=True, slots=True)
class RowSecurity:
    """Which tables have a policy, which have none, and whether this login sees all rows whatever they say."""

    secured: tuple[str, ...]
    open: tuple[str, ...]
    sees_all: bool

    @property
    def state(self) -> Literal["enabled", "disabled", "incomplete"]:
        """Incomplete: some tables have it, and others do not."""
        if not self.secured:
            return "disabled"
        return "incomplete" if self.open else "enabled"


@dataclass(frozen=True, slots=True)
class PlannedEffect:
    """What a statement would do to a table that is in use: :class:`agentstore.migrating.plan.Effect`, and its size."""

    table: str
    lock: str
    work: str
    online: bool
    rows: int
    """As Postgres estimates them."""
    bytes: int

    @property
    def seconds(self) -> float:
        """About how long it would take, at 100 MB/s."""
        return 0.0 if self.work == "none" else self.bytes / 1e8


@dataclass(frozen=True, slots=True)
class Planned:
    """A statement that an upgrade would say."""

    revision: str
    phase: Phase
    statement: str
    effects: tuple[PlannedEffect, ...]


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


_COMMANDS: dict[Direction, Callable[..., None]] = {
    "up": command.upgrade,
    "down": command.downgrade,
    "stamp": command.stamp,
}


def head() -> str:
    """Return the revision that this release needs."""
    return _scripts().get_current_head() or ""


def needed(line: str = "") -> str:
    """Return the revision that this release cannot do without: the newest that is to be there before it starts."""
    return next(revision.id for revision in history(line) if revision.phase == "pre")


def history(line: str = "") -> list[Revision]:
    """Return the migrations of this release, the newest first; `line` is "" or "vector"."""
    return [
        Revision(
            script.revision,
            script._versioned_down_revisions[0] if script._versioned_down_revisions else None,
            script.doc,
            getattr(script.module, "phase", "pre"),  # the first ones were released without
        )
        for script in _scripts(line).walk_revisions()
    ]


async def status(database: Database) -> Status:
    """Return where the database stands.

    Raises:
        Unavailable, NotConfigured: it cannot be reached, or does not let us in.
    """
    async with database.connection() as connection:
        current = await _current(connection, database.settings.schema)
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
        # Replicas of the release before may be there, unless nothing is.
        await upgrade(database, "head" if found.current is None else "pre")
    else:
        raise SchemaBehind(
            f"The schema {database.settings.schema!r} of {database.where} is at revision {found.current or 'none'}, "
            f"this release needs {needed()}: run `agentstore upgrade`."
        )


async def upgrade(
    target: Database | AsyncEngine | str,
    revision: str = "head",
    *,
    settings: Settings | None = None,
    wait: float = WAIT,
    tell: Tell = _log.info,
) -> None:
    """Bring the schema to `revision`: a revision's id, ``head``, ``pre``, or relative as in ``+1``.

    ``pre`` is what this release needs before it starts; ``head`` has what is to come after the last replica of the
    release before as well. Safe to run from many processes at once: one migrates, the others wait for it. At the
    revision, no lock is taken. A migration that cannot have its locks, at first within half a second and never in
    more than three, lets everybody else go on, and is begun again. `wait` is how many seconds all of this may take;
    `tell` is told what it waits for, and what it does.

    Raises:
        SchemaAhead: the database has a revision that this release does not know.
        NotConfigured: there is no such revision, a right is missing, or a pooler in transaction mode is between.
        Unavailable: it took longer than `wait`, or the database does not answer. What was done stays.
    """
    wanted = needed() if revision == "pre" else revision
    async with opened(target, settings) as database:
        found = await status(database)
        if not _is_done(found, wanted):
            await _migrate(database, "up", wanted, wait=wait, tell=tell)
        if wanted in ("head", "heads", found.head, needed()) and (await vector_status(database)).state == "behind":
            of_vectors = needed("vector") if wanted == needed() else "head"
            await _migrate(database, "up", of_vectors, line="vector", wait=wait, tell=tell)


async def downgrade(
    target: Database | AsyncEngine | str,
    revision: str,
    *,
    lose_data: bool = False,
    settings: Settings | None = None,
    wait: float = WAIT,
    tell: Tell = _log.info,
) -> None:
    """Take the schema back to `revision`: an id, ``base``, or relative as in ``-1``.

    Raises:
        Conflict: it would drop tables or columns that have something, and `lose_data` is false; the message has a
            list.
        SchemaAhead, NotConfigured, Unavailable: as :func:`upgrade`.
    """
    async with opened(target, settings) as database:
        # Looked at before the first step: each is a transaction of its own.
        if (await vector_status(database)).current is not None and any(
            step.revision == "0002" for step in _steps((await status(database)).current, revision, "down")
        ):
            raise NotConfigured(f"Vectors are enabled in {database.where}: run `agentstore vector disable` first.")
        await _migrate(database, "down", revision, lose_data=lose_data, wait=wait, tell=tell)


async def enable_row_security(
    target: Database | AsyncEngine | str,
    *,
    settings: Settings | None = None,
    wait: float = WAIT,
    tell: Tell = _log.info,
) -> None:
    """Let a role see the rows of one user at a time, in every table; later migrations do so for what they make.

    Applications say whose rows they want where AGENTSTORE_ROW_LEVEL_SECURITY is on, which is to be so before. One
    table after another; each is locked for a moment. Idempotent.

    Raises:
        NotConfigured: the role is not the owner of the tables.
        Unavailable: see :func:`upgrade`.
    """
    async with opened(target, settings) as database:
        await patiently(database, lambda connection: _secure(connection, database.settings.schema), wait, tell)


async def disable_row_security(
    target: Database | AsyncEngine | str,
    *,
    settings: Settings | None = None,
    wait: float = WAIT,
    tell: Tell = _log.info,
) -> None:
    """Take back what :func:`enable_row_security` did. Idempotent. Raises as it does."""

    async def work(connection: AsyncConnection) -> None:
        driver: Any = (await connection.get_raw_connection()).driver_connection
        schema = database.settings.schema
        for row in await driver.fetch(row_security.TABLES, f'"{schema}"'):
            async with driver.transaction():
                for statement in row_security.disable_statements(schema, row["name"]):
                    await driver.execute(statement)

    async with opened(target, settings) as database:
        await patiently(database, work, wait, tell)


async def row_security_status(database: Database) -> RowSecurity:
    """Return which tables have their policy. Raises as :func:`status` does."""
    async with database.connection() as connection:
        rows = await connection.fetch(row_security.TABLES, f'"{database.settings.schema}"')
        sees_all = await connection.fetchval(row_security.BYPASSES_POLICIES)
    return RowSecurity(
        tuple(row["name"] for row in rows if row["is_secured"]),
        tuple(row["name"] for row in rows if not row["is_secured"]),
        bool(sees_all),
    )


async def stamp(
    target: Database | AsyncEngine | str, revision: str, *, settings: Settings | None = None, wait: float = WAIT
) -> None:
    """Say that the schema is at `revision`, as after SQL that was run by hand; nothing else is changed.

    Raises as :func:`upgrade` does.
    """
    async with opened(target, settings) as database:
        await _migrate(database, "stamp", revision, wait=wait, tell=_log.info)


async def enable_vectors(target: Database | AsyncEngine | str, *, settings: Settings | None = None) -> None:
    """Install pgvector in the database, and make the table of vectors and its trigger. Idempotent.

    Raises:
        NotConfigured: the server has no pgvector, or the login may not install it; the message says what is missing.
        SchemaBehind: the schema itself is older than this release.
        Unavailable: see :func:`upgrade`.
    """
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
        await _check_extension(database, found)
        await _migrate(database, "up", "head", line="vector")


async def disable_vectors(target: Database | AsyncEngine | str, *, settings: Settings | None = None) -> None:
    """Drop the table of vectors, the vectors with it, and the trigger. The extension stays. Idempotent.

    Raises as :func:`upgrade` does.
    """
    async with opened(target, settings) as database:
        if (await vector_status(database)).current is not None:
            await _migrate(database, "down", "base", line="vector", lose_data=True)


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
            await _become_only_migrator(connection, database, time.monotonic() + WAIT, _log.info)
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


def include_name(schema: str = "agentstore") -> Callable[[str | None, str, object], bool]:
    """Return what the Alembic of an application in the same database takes as `include_name`.

    Its autogenerate passes over our schema then, with ``include_schemas=True`` too.
    """
    return lambda name, kind, _parents: not (kind == "schema" and name == schema)


async def plan(
    target: Database | AsyncEngine | str, revision: str = "head", *, settings: Settings | None = None
) -> list[Planned]:
    """Return what an upgrade to `revision` would do, statement by statement; nothing is changed.

    What is done to tables that it makes itself is in no list of effects: nobody uses those.

    Raises as :func:`upgrade` does.
    """
    async with opened(target, settings) as database:
        current = (await status(database)).current
        steps = _steps(current, needed() if revision == "pre" else revision, "up")
        schema = database.settings.schema
        async with database.connection() as connection:
            rows = await connection.fetch(_SIZES, f'"{schema}"')
    sizes = {name: (max(count, 0), size) for name, count, size in rows}
    phases: dict[str, Phase] = {each.id: each.phase for each in history()}
    made: set[str] = set()
    found = []
    for step in steps:
        script = _sql(command.upgrade, f"{step.down_revision or 'base'}:{step.revision}", schema, "")
        for statement in statements(script):
            if (name := created(statement)) is not None:
                made.add(name)
            seen = [
                PlannedEffect(each.table, each.lock, each.work, each.online, *sizes.get(each.table, (0, 0)))
                for each in effects(statement)
                if each.table not in made
            ]
            found.append(Planned(step.revision, phases[step.revision], statement, tuple(seen)))
    return found


def sql(revisions: str = "head", *, schema: str = "agentstore", vectors: bool = False, downgrade: bool = False) -> str:
    """Return the SQL of an upgrade, without a database: up to a revision, or from one to another as in ``A:B``.

    Of a `downgrade` from A to B, which has to be said as ``A:B``.

    `vectors`: that of the branch `vector`, which the main line's does not have.
    """
    return _sql(command.downgrade if downgrade else command.upgrade, revisions, schema, "vector" if vectors else "")


def _sql(run: Callable[..., None], revisions: str, schema: str, line: str) -> str:
    buffer = io.StringIO()
    config = _config(buffer, line=line)
    config.attributes["schema"] = schema
    with _ALEMBIC, _commands():
        run(config, revisions, sql=True)
    return buffer.getvalue()


@asynccontextmanager
async def connection_for_developers() -> AsyncIterator[AsyncConnection]:
    """The connection of Alembic's own command line, used in the repository: AGENTSTORE_DATABASE_URL's."""
    settings = Settings()
    if settings.database_url is None:
        raise NotConfigured("Set AGENTSTORE_DATABASE_URL for the alembic command.")
    url = settings.database_url.get_secret_value()
    async with opened(url, settings) as database, _connection(database) as connection:
        await _enter_schema(connection, settings.schema)
        yield connection


@asynccontextmanager
async def opened(target: Database | AsyncEngine | str, settings: Settings | None) -> AsyncIterator[Database]:
    """Any form of a database as one that has a direct connection for migrations."""
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


async def _migrate(
    database: Database,
    direction: Direction,
    revision: str,
    *,
    line: str = "",
    lose_data: bool = False,
    wait: float = WAIT,
    tell: Tell = _log.info,
) -> None:
    """Go to a revision of a line, step by step."""
    wanted = revision

    async def work(connection: AsyncConnection) -> None:
        nonlocal wanted
        secured = await _refuse_blindness(connection, database)
        if direction != "stamp":
            table = f"alembic_version{'_' * bool(line)}{line}"
            current = await _current_of(connection, database.settings.schema, table)
            steps = _steps(current, wanted, direction, line)
            if not steps:
                return
            # What is relative is so to where the first try began.
            last = steps[-1].revision if direction == "up" else steps[-1].down_revision
            wanted = str(last or "base")
            if direction == "down" and not lose_data:
                await _refuse_losses(connection, database, f"{current}:{wanted}", line)
        await _run(connection, partial(_COMMANDS[direction], revision=wanted), line=line, tell=tell)
        if secured and direction == "up":
            await _secure(connection, database.settings.schema)

    await patiently(database, work, wait, tell)


async def patiently(
    database: Database, work: Callable[[AsyncConnection], Awaitable[None]], wait: float, tell: Tell
) -> None:
    """Do some work as the only migrator, in the schema; begun again where it cannot have a lock.

    Raises:
        NotConfigured, Unavailable: see :func:`upgrade`.
    """
    deadline = time.monotonic() + wait
    patience = _FIRST_PATIENCE
    while True:
        try:
            async with _migrator(database, deadline, tell, patience) as connection:
                await work(connection)
            return
        except PendingRollbackError as error:  # the connection was lost where Alembic wants to go on with it
            raise _translate(error.__context__ or error, database) from error
        except CONNECT_ERRORS as error:
            sqlstate = getattr(getattr(error, "orig", None) or error, "sqlstate", None)
            pause = patience * _PAUSE
            if sqlstate not in _BEGUN_AGAIN or time.monotonic() + pause > deadline:
                raise _translate(error, database) from error
            tell(f"a lock could not be had within {patience:g} s ({await _blocker(database)}): again in {pause:g} s")
        await asyncio.sleep(pause * random.uniform(0.75, 1))  # noqa: S311
        patience = min(2 * patience, _MOST_PATIENCE)


async def _secure(connection: AsyncConnection, schema: str) -> None:
    """Give each table its policy that has none."""
    driver: Any = (await connection.get_raw_connection()).driver_connection
    for row in await driver.fetch(row_security.TABLES, f'"{schema}"'):
        if not row["is_secured"]:
            async with driver.transaction():
                for statement in row_security.enable_statements(schema, row["name"], has_owner=row["has_owner"]):
                    await driver.execute(statement)


async def _refuse_blindness(connection: AsyncConnection, database: Database) -> bool:
    """Return whether any table is secured, and refuse to migrate what is not seen whole.

    Raises:
        NotConfigured: the role sees no more than one user's rows.
    """
    driver: Any = (await connection.get_raw_connection()).driver_connection
    rows = await driver.fetch(row_security.TABLES, f'"{database.settings.schema}"')
    if not any(row["is_secured"] for row in rows):
        return False
    if not await driver.fetchval(row_security.BYPASSES_POLICIES):
        raise NotConfigured(
            f"Row-level security is on in {database.where}, and a migration has to see all rows: ALTER ROLE ... "
            "BYPASSRLS for the role that migrates."
        )
    return True


async def _run(connection: AsyncConnection, run: Callable[[Config], None], *, line: str = "", tell: Tell) -> None:
    """Say a command of Alembic's on a connection."""

    def alembic(sync: Connection) -> None:
        config = _config(line=line)
        config.attributes.update(connection=sync, tell=tell)
        with _commands():
            run(config)

    async with _alone_in_process():
        await connection.run_sync(alembic)
    await connection.commit()


@asynccontextmanager
async def _migrator(
    database: Database, deadline: float, tell: Tell, patience: float = _MOST_PATIENCE
) -> AsyncIterator[AsyncConnection]:
    """A connection in the schema that is the only one to migrate it, as long as it is open."""
    async with _connection(database) as connection:
        # Before the schema is made: two CREATE SCHEMA IF NOT EXISTS at once can fail.
        await _become_only_migrator(connection, database, deadline, tell)
        await _enter_schema(connection, database.settings.schema, patience)
        yield connection


def _steps(current: str | None, revision: str, direction: Direction, line: str = "") -> list[Script]:
    """Return the migrations between two revisions, in the order in which they run."""
    scripts = _scripts(line)
    with _commands():
        if direction == "down":
            return list(scripts.iterate_revisions(current or "base", revision, select_for_downgrade=True))
        return list(scripts.iterate_revisions(revision, current or (), implicit_base=True))[::-1]


async def _refuse_losses(connection: AsyncConnection, database: Database, revisions: str, line: str) -> None:
    """Refuse a downgrade that would drop what has something.

    Raises:
        Conflict: it would; the message says what.
    """
    schema = database.settings.schema
    script = await asyncio.to_thread(_sql, command.downgrade, revisions, schema, line)
    found = []
    for lost in losses(statements(script)):
        rows = await connection.scalar(text(_lost_rows(schema, lost)))
        if rows:
            found.append(f"{rows:,} rows of {lost.table}" + (f" have a {lost.column}" if lost.column else ""))
    await connection.commit()
    if found:
        raise Conflict(f"The downgrade of {database.where} would lose data: {', '.join(found)}.")


def _lost_rows(schema: str, lost: Lost) -> str:
    table = f'"{schema}"."{lost.table}"'
    if lost.column is None:
        return f"SELECT count(*) FROM {table}"  # noqa: S608
    return f'SELECT count(*) FROM {table} WHERE "{lost.column}" IS NOT NULL'  # noqa: S608


async def _blocker(database: Database) -> str:
    """Say who has had a lock on our tables for longest."""
    async with database.connection() as connection:
        rows = await connection.fetch(_BLOCKERS, f'"{database.settings.schema}"')
    if not rows:
        return "whoever had it is gone"
    pid, name, state, began, table = rows[0]
    return f"process {pid} {name!r}, {state or 'at work'} since {_clock(began)}, has one on {table}"


def _clock(time: datetime | None) -> str:
    """Say a time of somebody else's session, which only some roles are told."""
    return "?" if time is None else f"{time:%H:%M:%S}"


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


async def _enter_schema(connection: AsyncConnection, schema: str, patience: float = _MOST_PATIENCE) -> None:
    """Make the schema if it is not there, and make it the search_path."""
    # Asked first: IF NOT EXISTS wants the right to create even where there is nothing to create.
    if await connection.scalar(text("SELECT to_regnamespace(:schema)"), {"schema": f'"{schema}"'}) is None:
        await connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'))
    await connection.execute(text(f'SET search_path TO "{schema}"'))
    # Whoever waits for a strong lock makes everybody else wait behind it.
    await connection.execute(text(f"SET lock_timeout TO '{patience:g}s'"))
    await connection.commit()


async def _become_only_migrator(connection: AsyncConnection, database: Database, deadline: float, tell: Tell) -> None:
    """Take the advisory lock of the schema's migrations; it is released with the connection.

    By polling: a process that waits inside ``pg_advisory_lock`` holds a snapshot, for which CREATE INDEX
    CONCURRENTLY in the process that has the lock waits in turn.
    """
    await _refuse_pooler(connection, database)
    key = {"key": crc32(f"agentstore migrations of {database.settings.schema}".encode())}
    said = 0.0
    while not await connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), key):
        rows = (await connection.execute(text(_HOLDER), key)).all()
        await connection.commit()
        pid, name, address, began = rows[0] if rows else ("?", "", None, None)
        holder = f"process {pid} {name!r} from {address or 'this host'}, connected at {_clock(began)}"
        if time.monotonic() > deadline:
            raise Unavailable(f"Another process migrates {database.where} for too long: {holder}.")
        if time.monotonic() > said + _SAID_EVERY:
            said = time.monotonic()
            tell(f"another process migrates: {holder}")
        await asyncio.sleep(_POLL)
    await connection.commit()


async def _refuse_pooler(connection: AsyncConnection, database: Database) -> None:
    """Refuse a connection whose session is not its own.

    Raises:
        NotConfigured: it goes through a pooler in transaction mode.
    """

    @asynccontextmanager
    async def another() -> AsyncIterator[asyncpg.Connection]:
        async with connection.engine.connect() as other:
            driver: Any = (await other.get_raw_connection()).driver_connection
            yield driver

    driver: Any = (await connection.get_raw_connection()).driver_connection
    if await is_pooled(driver) and await is_transaction_pooler(driver, another):
        raise NotConfigured(
            f"{database.where} is a pooler in transaction mode, which gives each part of a migration another "
            "connection of the server's: set AGENTSTORE_MIGRATION_DATABASE_URL to a direct URL of the same database."
        )


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


async def _current_of(connection: AsyncConnection, schema: str, table: str) -> str | None:
    driver: Any = (await connection.get_raw_connection()).driver_connection
    return await _current(driver, schema, table)


def _is_done(found: Status, revision: str) -> bool:
    """Whether nothing is to be done to come to a revision."""
    if revision in ("head", "heads", found.head):
        return found.state == "at head"
    return revision == needed() and found.state in ("at head", "post pending")


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
    package = Path(__file__).parents[1]
    inside = package / "migrations"
    return inside if inside.is_dir() else package.parent / "migrations"


@cache
def _scripts(line: str = "") -> ScriptDirectory:
    return ScriptDirectory.from_config(_config(line=line))


@contextmanager
def _commands() -> Iterator[None]:
    """Alembic's errors as ours."""
    try:
        yield
    except (CommandError, RevisionError) as error:
        if "Can't locate revision" in str(error) or "No such revision" in str(error):
            raise SchemaAhead(
                f"{error}: the database may have been migrated by a newer release, or the revision is misspelt."
            ) from error
        raise NotConfigured(f"{error}.") from error
