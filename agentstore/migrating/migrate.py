"""Run the migrations: upgrade, downgrade and stamp. Plan an upgrade, and print its SQL.

The migrations are ordinary Alembic revisions, in ``migrations/`` of a checkout and inside the package of an installed
wheel. Only this module and :mod:`agentstore.migrating.steps`, which the migrations call, import Alembic. The coroutines
run in the caller's event loop.

Besides the main line of revisions there is the line "vector", with a folder and a version table of its own. A database
has it after :func:`agentstore.migrating.vectors.enable_vectors`; from then on an upgrade brings both lines to their
heads.
"""

import asyncio
import io
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Literal

import asyncpg
from alembic import command, context, op
from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from agentstore.database.database import Database
from agentstore.database.server import check_encoding
from agentstore.database.telemetry import Observer
from agentstore.errors import Conflict, NotConfigured, SchemaAhead
from agentstore.migrating import citus
from agentstore.migrating import revisions as revision_files
from agentstore.migrating.catalog import expected_catalog, tables_of
from agentstore.migrating.connections import driver_connection, opened
from agentstore.migrating.drift import differences
from agentstore.migrating.effects import Loss, created_table, effects, losses, migration_statements
from agentstore.migrating.locking import run_exclusively
from agentstore.migrating.options import WAIT, Report
from agentstore.migrating.revisions import Phase, history, needed
from agentstore.migrating.row_security import check_sees_all_rows, secure_tables
from agentstore.migrating.schema_status import (
    FORMER_VERSION_TABLE,
    VERSION_TABLE,
    Status,
    has_tables,
    recorded_revision,
    rename_statement,
    status,
    vector_status,
)
from agentstore.settings import Settings

_log = logging.getLogger(__name__)

# Alembic keeps the state of a command in module globals: only one command at a time may run in a process.
_ALEMBIC = threading.Lock()
# The thread of the event loop in which a command runs on a connection: it is suspended while other tasks run.
_suspended_in: int | None = None
_POLL_INTERVAL = 0.05

_SIZES = """
SELECT relname, reltuples::bigint, pg_total_relation_size(oid)
FROM pg_class WHERE relnamespace = to_regnamespace($1) AND relkind = 'r'
"""

Direction = Literal["up", "down", "stamp"]
IncludeName = Callable[[str | None, str, Mapping[str, str | None]], bool]


@dataclass(frozen=True, slots=True)
class PlannedEffect:
    """The effect of a statement on an existing table (:class:`agentstore.migrating.effects.Effect`), and its size."""

    table: str
    lock: str
    work: str
    online: bool
    rows: int
    """Postgres' estimate of the number of rows."""
    bytes: int

    @property
    def seconds(self) -> float:
        """A rough estimate of the duration, at 100 MB/s."""
        return 0.0 if self.work == "none" else self.bytes / 1e8


@dataclass(frozen=True, slots=True)
class Planned:
    """A statement that an upgrade would execute."""

    revision: str
    phase: Phase
    statement: str
    effects: tuple[PlannedEffect, ...]


_COMMANDS: dict[Direction, Callable[..., None]] = {
    "up": command.upgrade,
    "down": command.downgrade,
    "stamp": command.stamp,
}


async def upgrade(
    target: Database | AsyncEngine | str,
    revision: str = "head",
    *,
    run_earlier_post: bool = False,
    settings: Settings | None = None,
    wait: float = WAIT,
    report: Report = _log.info,
) -> None:
    """Upgrade the schema to `revision`. Idempotent, and safe to call from many processes at once: one migrates.

    A schema that a newer release has migrated is left unchanged: this release works on it, so there is nothing to do.
    Tables of a database that Citus distributes are distributed as well. If the schema is at the revision already, no
    lock is taken. A statement that does not get its lock within a timeout,
    at first half a second and at most three, gives way to the statements that have queued behind it; the migration is
    then retried.

    Args:
        target: the database: a URL, an engine, or a `Database`.
        revision: a revision's id; ``pre``: all that this release needs before it starts; ``head``: everything,
            including what must wait until no replica of the previous release is left; or relative, as in ``+1``.
        run_earlier_post: whether ``pre`` may run migrations of the phase `post` that an earlier release has left: no
            replica of the release before that one may be running.
        settings: by default those of the environment; for a URL or an engine only.
        wait: seconds that waiting for other migrators and for locks may take, in all.
        report: receives a line for each migration and for each wait.

    Raises:
        Conflict: there are tables of agentstore, and no revision is recorded; or `revision` is ``pre``, an earlier
            release has left migrations of the phase `post`, and `run_earlier_post` is false. A database without users
            is upgraded in any case.
        NotConfigured: there is no such revision, a privilege is missing, the database's encoding is not UTF8, or the
            connection goes through a pooler in transaction mode.
        Unavailable: it took longer than `wait`, or the database does not answer. Migrations that were committed stay.
    """
    wanted = needed() if revision == "pre" else revision
    async with opened(target, settings) as database:
        async with database.connection() as connection:
            await check_encoding(connection, database.where)
        found = await status(database)
        if found.state == "ahead":
            _scripts_between(None, wanted, "up")  # refuses a revision that does not exist
            report(f"the schema is at revision {found.current}, newer than this release: nothing to do")
        elif not _is_at(found, revision):
            await migrate_line(
                database,
                "up",
                wanted,
                is_complete=revision in ("head", "heads", found.head),
                refuses_post=revision == "pre" and not run_earlier_post,
                wait=wait,
                report=report,
            )
        elif found.state == "at head":
            await _complete_distribution(database, wait, report)
        if wanted in ("head", "heads", found.head, needed()) and (await vector_status(database)).state == "behind":
            of_vectors = needed("vector") if wanted == needed() else "head"
            await migrate_line(database, "up", of_vectors, line="vector", wait=wait, report=report)


async def _complete_distribution(database: Database, wait: float, report: Report) -> None:
    """Distribute what an upgrade that was interrupted, or an earlier release, has left local."""

    async def work(connection: AsyncConnection) -> None:
        await citus.complete(await driver_connection(connection), database.settings.schema, report)

    async with database.connection() as connection:
        if not any(await citus.lacking(connection, database.settings.schema)):
            return
    await run_exclusively(database, work, wait, report)


async def downgrade(
    target: Database | AsyncEngine | str,
    revision: str,
    *,
    lose_data: bool = False,
    settings: Settings | None = None,
    wait: float = WAIT,
    report: Report = _log.info,
) -> None:
    """Downgrade the schema to `revision`.

    Args:
        target: the database: a URL, an engine, or a `Database`.
        revision: a revision's id; ``base``: before the first one; or relative, as in ``-1``.
        lose_data: whether tables that have rows, and columns that have values, may be dropped.
        settings: by default those of the environment; for a URL or an engine only.
        wait: seconds that waiting for other migrators and for locks may take, in all.
        report: receives a line for each migration and for each wait.

    Raises:
        Conflict: it would drop tables that have rows, or columns that have values, and `lose_data` is false; the
            message lists them.
        SchemaAhead: the database is at a revision that this release does not know, so it cannot undo it.
        NotConfigured, Unavailable: as :func:`upgrade`; also if vectors are enabled and the downgrade would drop the
            table that they belong to.
    """
    async with opened(target, settings) as database:
        # Checked before the first migration is undone, since each is a transaction of its own.
        if (await vector_status(database)).current is not None and any(
            script.revision == "0002" for script in _scripts_between((await status(database)).current, revision, "down")
        ):
            raise NotConfigured(f"Vectors are enabled in {database.where}: run `agentstore vector disable` first.")
        await migrate_line(database, "down", revision, lose_data=lose_data, wait=wait, report=report)


async def stamp(
    target: Database | AsyncEngine | str, revision: str, *, settings: Settings | None = None, wait: float = WAIT
) -> None:
    """Record that the schema is at `revision`, after SQL that was run by hand; nothing else is changed.

    Raises:
        Conflict: the schema lacks tables or columns of the revision; the message lists them.
        SchemaAhead: the database is at a revision that this release does not know.
        NotConfigured, Unavailable: as :func:`upgrade`.
    """
    async with opened(target, settings) as database:
        await migrate_line(database, "stamp", revision, wait=wait, report=_log.info)


async def plan(
    target: Database | AsyncEngine | str, revision: str = "head", *, settings: Settings | None = None
) -> list[Planned]:
    """Return the statements that an upgrade to `revision` would execute, with their effects; nothing is changed.

    The effects leave out tables that the upgrade itself creates: no other session uses those yet.

    Raises:
        NotConfigured, Unavailable: as :func:`upgrade`.
    """
    wanted = needed() if revision == "pre" else revision
    async with opened(target, settings) as database:
        schema = database.settings.schema
        async with database.connection() as connection:
            await check_encoding(connection, database.where)
        found = await status(database)
        scripts = _scripts_between(None if found.state == "ahead" else found.current, wanted, "up")
        if found.state == "ahead":
            return []
        async with database.connection() as connection:
            table, _ = await recorded_revision(connection, schema)
            rows = await connection.fetch(_SIZES, f'"{schema}"')
    sizes = {name: (max(count, 0), size) for name, count, size in rows}
    phases: dict[str, Phase] = {each.id: each.phase for each in history()}
    created: set[str] = set()
    planned = []
    for script in scripts:
        script_sql = await _render(command.upgrade, f"{script.down_revision or 'base'}:{script.revision}", schema, "")
        for statement in migration_statements(script_sql):
            if (name := created_table(statement)) is not None:
                created.add(name)
            on_existing = [
                PlannedEffect(each.table, each.lock, each.work, each.online, *sizes.get(each.table, (0, 0)))
                for each in effects(statement)
                if each.table not in created
            ]
            planned.append(Planned(script.revision, phases[script.revision], statement, tuple(on_existing)))
    if table == FORMER_VERSION_TABLE and revision in ("head", "heads", found.head):
        effect = PlannedEffect(table, "ACCESS EXCLUSIVE", "none", True, *sizes.get(table, (0, 0)))
        planned.append(Planned(found.head, "post", f"ALTER TABLE {table} RENAME TO {VERSION_TABLE}", (effect,)))
    return planned


def sql(revisions: str = "head", *, schema: str = "agentstore", vectors: bool = False, downgrade: bool = False) -> str:
    """Return the SQL script of an upgrade or a downgrade, for psql. Needs no database.

    Args:
        revisions: a revision, or two as in ``A:B``; a downgrade needs two.
        schema: the schema's name.
        vectors: the script of the line "vector", which the main line's does not contain.
        downgrade: the script of the downgrade from A to B.

    Raises:
        NotConfigured: there are no such revisions.
    """
    return _sql(command.downgrade if downgrade else command.upgrade, revisions, schema, "vector" if vectors else "")


def include_name(schema: str = "agentstore", *, shared: bool = False) -> IncludeName:
    """Return the `include_name` for the Alembic configuration of an application in the same database.

    With it, autogenerate ignores agentstore's schema, also with ``include_schemas=True``.

    Args:
        schema: agentstore's schema.
        shared: whether the application has tables in that schema too; then only agentstore's tables are ignored, there
            and in the default schema of the application's connection.
    """
    ours = {table for line in ("", "vector") for table in tables_of(expected_catalog(revision_files.head(line), line))}

    def include(name: str | None, kind: str, parents: Mapping[str, str | None]) -> bool:
        if not shared:
            return not (kind == "schema" and name == schema)
        return not (kind == "table" and name in ours and parents.get("schema_name") in (None, schema))

    return include


async def migrate_line(
    database: Database,
    direction: Direction,
    revision: str,
    *,
    line: str = "",
    is_complete: bool = False,
    refuses_post: bool = False,
    lose_data: bool = False,
    wait: float = WAIT,
    report: Report = _log.info,
) -> None:
    """Migrate a line to `revision`, one migration after the other. Raises as :func:`upgrade` and :func:`downgrade`.

    With `is_complete`, no replica of the previous release is left: the version tables get their present names. With
    `refuses_post`, replicas of earlier releases may be left.
    """
    wanted = revision

    async def work(connection: AsyncConnection) -> None:
        nonlocal wanted
        is_secured = await check_sees_all_rows(connection, database)
        driver, schema = await driver_connection(connection), database.settings.schema
        table, current = await recorded_revision(driver, schema, line)
        if not _is_known(current, line) and direction == "up":
            return  # a newer release has migrated meanwhile
        _refuse_newer(current, line)
        if direction == "up" and current is None and not line and await has_tables(driver, schema):
            raise Conflict(
                f"The schema {schema!r} of {database.where} has tables of agentstore and records no revision: restore "
                f"the table {VERSION_TABLE}, or run `agentstore stamp REVISION` with the revision that it was at."
            )
        scripts: list[Script] = []
        if direction != "stamp":
            scripts = _scripts_between(current, wanted, direction, line)
            if not scripts:
                await rename_version_tables(driver)
                return
            # A relative revision counts from where the first attempt began.
            last = scripts[-1].revision if direction == "up" else scripts[-1].down_revision
            wanted = str(last or "base")
            if refuses_post and current is not None:
                await _refuse_post(driver, database, scripts)
            if direction == "down" and not lose_data:
                await _check_losses(connection, database, f"{current}:{wanted}", line)
        else:
            await _check_tables(driver, database, wanted, line)
        with _measured(database.observer, scripts) as applied:
            await run_command(
                connection,
                partial(_COMMANDS[direction], revision=wanted),
                line=line,
                version_table=table,
                report=report,
                applied=applied,
            )
        if is_secured and direction == "up":
            await secure_tables(connection, schema)
        if direction == "up":
            await citus.complete(driver, schema, report)
        elif direction == "down" and not line:
            await citus.drop_functions(driver, schema)
        await rename_version_tables(driver)

    async def rename_version_tables(driver: asyncpg.Connection) -> None:
        # Not before: the previous release reads the table of the former name.
        if is_complete:
            for each in ("", "vector"):
                await driver.execute(rename_statement(each))

    names = {"up": "upgrade", "down": "downgrade", "stamp": "stamp"}
    with database.observer.call(f"migrations.{names[direction]}", database.pool_stats):
        await run_exclusively(database, work, wait, report)


@contextmanager
def _measured(observer: Observer, scripts: list[Script]) -> Iterator[Callable[[], None]]:
    """Report each migration as a statement, such as ``migrations.0024``; yield what is called when one has run."""
    if not observer.measures:
        yield lambda: None
        return
    names = iter([f"migrations.{script.revision}" for script in scripts])
    with ExitStack() as running:

        def begin() -> None:
            if (name := next(names, None)) is not None:
                running.enter_context(observer.execution(name))

        def applied() -> None:
            running.close()
            begin()

        begin()
        yield applied


async def run_command(
    connection: AsyncConnection,
    run: Callable[[Config], None],
    *,
    line: str = "",
    version_table: str | None = None,
    report: Report,
    applied: Callable[[], None] | None = None,
) -> None:
    """Run one of Alembic's commands on a connection. `version_table`: its name if it is not that of the line.

    `applied` is called after each migration.
    """

    def run_sync(sync: Connection) -> None:
        config = _config(line=line)
        config.attributes.update(connection=sync, report=report, applied=applied)
        if version_table is not None:
            config.attributes["version_table"] = version_table
        with _translated_errors():
            run(config)

    async with _alone_in_process():
        await connection.run_sync(run_sync)
    await connection.commit()


def _sql(run: Callable[..., None], revisions: str, schema: str, line: str) -> str:
    buffer = io.StringIO()
    config = _config(buffer, line=line)
    config.attributes["schema"] = schema
    with _alone_in_thread(), _translated_errors():
        run(config, revisions, sql=True)
    return buffer.getvalue()


async def _render(run: Callable[..., None], revisions: str, schema: str, line: str) -> str:
    """Return the same as :func:`_sql`, without blocking the event loop while another thread runs a command."""
    if _suspended_in == threading.get_ident():
        return _sql(run, revisions, schema, line)
    return await asyncio.to_thread(_sql, run, revisions, schema, line)


def _scripts_between(current: str | None, revision: str, direction: Direction, line: str = "") -> list[Script]:
    """Return the migrations between two revisions, in the order in which they run."""
    _refuse_newer(current, line)
    scripts = _script_directory(revision_files.folder() / line)
    with _translated_errors():
        if direction == "down":
            return list(scripts.iterate_revisions(current or "base", revision, select_for_downgrade=True))
        return list(scripts.iterate_revisions(revision, current or (), implicit_base=True))[::-1]


def _is_known(current: str | None, line: str) -> bool:
    return current is None or current in {each.id for each in history(line)}


def _refuse_newer(current: str | None, line: str) -> None:
    """Refuse a schema that a newer release has migrated.

    Raises:
        SchemaAhead: this release does not know the revision.
    """
    if not _is_known(current, line):
        raise SchemaAhead(
            f"The schema is at revision {current}, newer than this release, which does not know it: use the release "
            "that migrated the database."
        )


async def _check_tables(connection: asyncpg.Connection, database: Database, revision: str, line: str) -> None:
    """Refuse to record a revision whose tables or columns do not exist.

    Raises:
        Conflict: some do not; the message lists them.
    """
    scripts = _scripts_between(None, revision, "up", line)
    if not scripts:
        return  # base
    expected = expected_catalog(scripts[-1].revision, line)
    # The version table is created with the revision, if it does not exist.
    expected = {key: it for key, it in expected.items() if not key.table.startswith(VERSION_TABLE)}
    found = await differences(connection, database.settings.schema, expected)
    if missing := [each.found for each in found if each.kind in ("table", "column")]:
        raise Conflict(
            f"The schema of {database.where} is not at revision {scripts[-1].revision}: {', '.join(missing)}."
        )


async def _refuse_post(connection: asyncpg.Connection, database: Database, scripts: list[Script]) -> None:
    """Refuse migrations that wait until no replica of an earlier release is left; not if the database has no users.

    Raises:
        Conflict: `scripts` contains some; the message lists them.
    """
    post = {each.id for each in history() if each.phase == "post"}
    if not (early := [script.revision for script in scripts if script.revision in post]):
        return
    if await connection.fetchval(f'SELECT EXISTS (SELECT FROM "{database.settings.schema}".users)'):  # noqa: S608
        raise Conflict(
            f"An earlier release has left migrations of the phase post in {database.where}: {', '.join(early)}. When "
            "no replica of the release before the one that added them is running, run `agentstore upgrade pre "
            "--run-earlier-post`."
        )


async def _check_losses(connection: AsyncConnection, database: Database, revisions: str, line: str) -> None:
    """Refuse a downgrade that would drop rows or values.

    Raises:
        Conflict: it would; the message lists them.
    """
    schema = database.settings.schema
    script = await _render(command.downgrade, revisions, schema, line)
    found = []
    for loss in losses(migration_statements(script)):
        if rows := await connection.scalar(text(_count_lost(schema, loss))):
            found.append(f"{rows:,} rows of {loss.table}" + (f" have a {loss.column}" if loss.column else ""))
    await connection.commit()
    if found:
        raise Conflict(f"The downgrade of {database.where} would lose data: {', '.join(found)}.")


def _count_lost(schema: str, loss: Loss) -> str:
    table = f'"{schema}"."{loss.table}"'
    if loss.column is None:
        return f"SELECT count(*) FROM {table}"  # noqa: S608
    return f'SELECT count(*) FROM {table} WHERE "{loss.column}" IS NOT NULL'  # noqa: S608


def _is_at(found: Status, revision: str) -> bool:
    """Return whether an upgrade to `revision` has nothing to do."""
    if revision in ("head", "heads", found.head):
        return found.state == "at head"
    return revision in ("pre", needed()) and found.state in ("at head", "post pending")


@asynccontextmanager
async def _alone_in_process() -> AsyncIterator[None]:
    global _suspended_in
    # Polled: the lock excludes other event loops as well as other threads, and neither may be blocked by waiting.
    while not _ALEMBIC.acquire(blocking=False):  # noqa: ASYNC110
        await asyncio.sleep(_POLL_INTERVAL)
    try:
        _suspended_in = threading.get_ident()
        yield
    finally:
        _suspended_in = None
        _ALEMBIC.release()


@contextmanager
def _alone_in_thread() -> Iterator[None]:
    """Exclude other commands during one that awaits nothing.

    A command that is suspended in this thread's event loop could not end while this thread waits for it. So its state
    is put aside and back.
    """
    if _suspended_in != threading.get_ident():
        with _ALEMBIC:
            yield
        return
    proxies = [getattr(module, "_proxy", None) for module in (context, op)]
    try:
        yield
    finally:
        for proxy in proxies:
            if proxy is not None:
                proxy._install_proxy()


def _config(output: io.StringIO | None = None, *, line: str = "") -> Config:
    config = Config(output_buffer=output) if output is not None else Config()
    config.set_main_option("script_location", str(revision_files.folder() / line).replace("%", "%%"))
    return config


@cache
def _script_directory(folder: Path) -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(folder).replace("%", "%%"))
    return ScriptDirectory.from_config(config)


@contextmanager
def _translated_errors() -> Iterator[None]:
    """Raise Alembic's errors as agentstore's."""
    try:
        yield
    except (CommandError, RevisionError) as error:
        raise NotConfigured(f"{error}.") from error
