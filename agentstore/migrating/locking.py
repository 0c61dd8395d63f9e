"""Mutual exclusion of migrators, and short lock waits, so that no client waits long behind a migration.

The migrators of a schema exclude each other by an advisory lock. A statement that needs a strong lock on a table waits
for it only briefly, because later statements on the table queue behind it; after a lock timeout the work is retried.

A concurrent index build has no such timeout: no other session queues behind it, and it must outwait every transaction
that began before it. It is watched from another connection, which reports what it waits for and ends a wait that takes
too long.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from zlib import crc32

from sqlalchemy import text
from sqlalchemy.exc import PendingRollbackError
from sqlalchemy.ext.asyncio import AsyncConnection

from agentstore.database.database import Database
from agentstore.database.errors import CONNECT_ERRORS, is_read_only, translate_error
from agentstore.database.retry import ROLLED_BACK
from agentstore.errors import AgentStoreError, NotConfigured, Unavailable
from agentstore.migrating.connections import (
    dedicated_connection,
    driver_connection,
    enter_schema,
    refuse_other_database,
    refuse_pooler,
)
from agentstore.migrating.options import Report

_POLL_INTERVAL = 0.05
_REPORT_INTERVAL = 10.0
# The first look at what a statement waits for, and the time between two looks. One that waits at both is waiting.
_FIRST_WATCH, _WATCH_INTERVAL = 0.75, 0.75
# Seconds that a statement waits for a lock: at first, and at most. Then the migration pauses for _PAUSE_FACTOR times as
# long, so that the statements that have queued behind it can run, and is retried.
_FIRST_LOCK_TIMEOUT, _LONGEST_LOCK_TIMEOUT, _PAUSE_FACTOR = 0.5, 3.0, 4.0
# A lock timeout, or a deadlock with the application.
_RETRIED_SQLSTATES = ROLLED_BACK | {"55P03"}

_HOLDER = """
SELECT a.pid, a.application_name, a.client_addr::text, a.backend_start
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.classid = 0 AND l.objid::bigint = :key AND l.objsubid = 1
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_WAITS_FOR = """
SELECT a.pid, a.application_name, a.state, a.xact_start, left(w.query, 100)
FROM unnest(pg_blocking_pids(:pid)) AS blocking(pid) LEFT JOIN pg_stat_activity a ON a.pid = blocking.pid
JOIN pg_stat_activity w ON w.pid = :pid
ORDER BY a.xact_start LIMIT 1
"""
_BLOCKERS = """
SELECT DISTINCT a.pid, a.application_name, a.state, a.xact_start, c.relname
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid JOIN pg_class c ON c.oid = l.relation
WHERE l.granted AND c.relnamespace = to_regnamespace($1) AND a.pid <> pg_backend_pid()
    AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
ORDER BY a.xact_start LIMIT 1
"""


async def run_exclusively(
    database: Database, work: Callable[[AsyncConnection], Awaitable[None]], wait: float, report: Report
) -> None:
    """Run `work` in the schema as the only migrator.

    It is retried after a lock timeout, a deadlock or a serialization failure, so it must be safe to retry; what it has
    committed stays.

    Args:
        database: the database, whose direct connection is used.
        work: receives the connection; its search_path is the schema.
        wait: seconds that waiting and retrying may take, in all.
        report: receives a line about each wait.

    Raises:
        NotConfigured, Unavailable: see :func:`agentstore.migrating.migrate.upgrade`.
    """
    deadline = time.monotonic() + wait
    lock_timeout = _FIRST_LOCK_TIMEOUT
    while True:
        try:
            async with (
                exclusive_connection(database, deadline, report, lock_timeout) as connection,
                bounded_waits(connection, database, deadline, report),
            ):
                await work(connection)
            return
        except PendingRollbackError as error:  # Alembic continued on a lost connection
            raise migration_error(error.__context__ or error, database) from error
        except CONNECT_ERRORS as error:
            sqlstate = getattr(getattr(error, "orig", None) or error, "sqlstate", None)
            pause = lock_timeout * _PAUSE_FACTOR
            if sqlstate not in _RETRIED_SQLSTATES or time.monotonic() + pause > deadline:
                raise migration_error(error, database) from error
            holder = await _longest_holder(database)
            message = f"no lock within {lock_timeout:g} s ({holder}): retrying in {pause:g} s"
            _report_wait(database, report, "lock timeout", message)
        await asyncio.sleep(pause * random.uniform(0.75, 1))  # noqa: S311
        lock_timeout = min(2 * lock_timeout, _LONGEST_LOCK_TIMEOUT)


@asynccontextmanager
async def exclusive_connection(
    database: Database, deadline: float, report: Report, lock_timeout: float = _LONGEST_LOCK_TIMEOUT
) -> AsyncIterator[AsyncConnection]:
    """Yield a connection in the schema that holds the migration lock until the end of the block."""
    async with dedicated_connection(database) as connection:
        # Locked before the schema is created: two concurrent CREATE SCHEMA IF NOT EXISTS can fail.
        await acquire_migration_lock(connection, database, deadline, report)
        await enter_schema(connection, database.settings.schema, lock_timeout=lock_timeout)
        yield connection


@asynccontextmanager
async def bounded_waits(
    connection: AsyncConnection, database: Database, deadline: float, report: Report
) -> AsyncIterator[None]:
    """Report what the connection's statements wait for, and cancel one if they wait too long in all.

    The time in which a statement works does not count, so that a long index build is not lost.

    Args:
        connection: a direct connection.
        database: its database, from which a second connection watches it.
        deadline: a time of ``time.monotonic()``; what is left until then may be spent on waiting.
        report: receives a line about each wait.

    Raises:
        Unavailable: a statement was cancelled; the message names the session that it waited for.
    """
    pid = (await driver_connection(connection)).get_server_pid()
    blocker = ""

    async def watch() -> None:
        nonlocal blocker
        left = deadline - time.monotonic()
        await asyncio.sleep(_FIRST_WATCH)
        # Each query is a transaction of its own: an index build would wait for a longer one.
        async with dedicated_connection(database) as opened:
            watcher = await opened.execution_options(isolation_level="AUTOCOMMIT")
            seen, waited, reported = time.monotonic(), 0.0, 0.0
            is_waiting = False
            while True:
                row = (await watcher.execute(text(_WAITS_FOR), {"pid": pid})).first()
                now = time.monotonic()
                if row is not None and is_waiting:
                    waited += now - seen
                    found = _describe_blocker(row[0], row[1], row[2], row[3])
                    if waited >= left:
                        blocker = found
                        await watcher.execute(text("SELECT pg_cancel_backend(:pid)"), {"pid": pid})
                        return
                    if now > reported + _REPORT_INTERVAL:
                        reported = now
                        _report_wait(database, report, "transaction", f"waiting for {found}: {row[4]}")
                is_waiting, seen = row is not None, now
                await asyncio.sleep(_WATCH_INTERVAL)

    watching = asyncio.create_task(watch())
    try:
        yield
    except (PendingRollbackError, *CONNECT_ERRORS) as error:
        if not blocker:
            raise
        raise Unavailable(
            f"Timed out in a migration of {database.where_directly}, waiting for {blocker}. Wait longer (`--wait`), or "
            "end that transaction."
        ) from error
    finally:
        watching.cancel()
        (result,) = await asyncio.gather(watching, return_exceptions=True)
        if isinstance(result, (AgentStoreError, *CONNECT_ERRORS)):
            report(f"could not watch what the migration waits for: {result}")
        elif isinstance(result, Exception):
            raise result


async def acquire_migration_lock(
    connection: AsyncConnection, database: Database, deadline: float, report: Report
) -> None:
    """Take the advisory lock of the schema's migrations; closing the connection releases it.

    It polls: a session that waits inside ``pg_advisory_lock`` holds a snapshot, and CREATE INDEX CONCURRENTLY in the
    session that holds the lock would wait for that snapshot.

    Raises:
        NotConfigured: the connection goes through a pooler in transaction mode, or leads to another database than the
            application's.
        Unavailable: another process still holds the lock at `deadline`, a time of ``time.monotonic()``.
    """
    await refuse_pooler(connection, database)
    await refuse_other_database(connection, database)
    key = {"key": crc32(f"agentstore migrations of {database.settings.schema}".encode())}
    reported = 0.0
    while not await connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), key):
        rows = (await connection.execute(text(_HOLDER), key)).all()
        await connection.commit()
        pid, name, address, began = rows[0] if rows else ("?", "", None, None)
        holder = f"process {pid} {name!r} from {address or 'this host'}, connected at {_time_of_day(began)}"
        if time.monotonic() > deadline:
            raise Unavailable(
                f"Timed out waiting for another process that is migrating {database.where_directly}: {holder}. Wait "
                "longer (`--wait`), or end that process."
            )
        if time.monotonic() > reported + _REPORT_INTERVAL:
            reported = time.monotonic()
            _report_wait(database, report, "migrator", f"another process is migrating: {holder}")
        await asyncio.sleep(_POLL_INTERVAL)
    await connection.commit()


def _report_wait(database: Database, report: Report, reason: str, message: str) -> None:
    """Report a wait for a lock. `report` logs it, or shows it to a person, so that the event is for those who look."""
    report(message)
    database.observer.event("migration.waiting", logging.DEBUG, message, reason=reason)


def migration_error(error: BaseException, database: Database) -> AgentStoreError:
    """Return the error to raise for a driver's error during a migration."""
    if is_read_only(error):
        return translate_error(error, database.where_directly)
    cause = getattr(error, "orig", None) or error
    if getattr(cause, "sqlstate", None) == "42501":
        return NotConfigured(
            f"The login to {database.where_directly} lacks a privilege that migrations need: {cause}. Set "
            "AGENTSTORE_MIGRATION_DATABASE_URL to a URL with the owner of the tables."
        )
    return Unavailable(f"The migration of {database.where_directly} failed: {cause}")


async def _longest_holder(database: Database) -> str:
    """Describe the session that has held a lock on the schema's tables for longest."""
    async with database.connection() as connection:
        rows = await connection.fetch(_BLOCKERS, f'"{database.settings.schema}"')
    if not rows:
        return "it has been released since"
    pid, name, state, began, table = rows[0]
    return f"{_describe_blocker(pid, name, state, began)}, holds a lock on {table}"


def _describe_blocker(pid: int | None, name: str, state: str | None, began: datetime | None) -> str:
    if pid is None:
        return "a prepared transaction"
    return f"process {pid} {name!r}, {state or 'active'} since {_time_of_day(began)}"


def _time_of_day(time: datetime | None) -> str:
    """Format a time of another session; only some roles may see it."""
    return "?" if time is None else f"{time:%H:%M:%S}"
