"""Operations for migrations that Alembic lacks: indexes built concurrently, and rows updated in batches.

Both run outside the migration's transaction, since they take long. If one is interrupted, the migration is retried and
resumes where it stopped. So each of them must be the only operation of its migration.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from alembic import context, op
from sqlalchemy import text
from sqlalchemy.util import await_only

LOCK_TIMEOUT = "3s"
"""The lock timeout that SQL scripts set, and that each step of this module sets again at its end."""

# The pause after each batch, as a part of the time that the batch took.
_PAUSE_RATIO = 0.5
_REPORT_INTERVAL = 5.0


@contextmanager
def no_timeouts() -> Iterator[None]:
    """Leave the transaction and lift the timeouts: no other session queues behind these statements."""
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout TO 0")
        op.execute("SET statement_timeout TO 0")
        yield
        op.execute(f"SET lock_timeout TO '{LOCK_TIMEOUT}'")
        op.execute("RESET statement_timeout")


def create_index(name: str, table: str, columns: Sequence[Any], **options: Any) -> None:
    """Create an index concurrently: reads and writes continue. An INVALID one is dropped and rebuilt."""
    with no_timeouts():
        valid = None
        if not context.is_offline_mode():
            query = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")
            valid = op.get_bind().scalar(query, {"name": f'"{name}"'})
        if valid:
            return  # an earlier attempt built the index and was interrupted before the revision was recorded
        op.execute(f'DROP INDEX CONCURRENTLY IF EXISTS "{name}"')
        op.create_index(name, table, columns, if_not_exists=True, postgresql_concurrently=True, **options)


def drop_index(name: str) -> None:
    """Drop an index concurrently: reads and writes continue."""
    with no_timeouts():
        op.execute(f'DROP INDEX CONCURRENTLY IF EXISTS "{name}"')


def rebuild_index(name: str) -> None:
    """Rebuild an index concurrently: reads and writes continue."""
    with no_timeouts():
        for leftover in ("ccnew", "ccold"):  # of an attempt that was interrupted
            op.execute(f'DROP INDEX CONCURRENTLY IF EXISTS "{name}_{leftover}"')
        op.execute(f'REINDEX INDEX CONCURRENTLY "{name}"')


def backfill(table: str, values: str, where: str, *, key: Sequence[str], batch: int = 2_000) -> None:
    """Update the rows that match `where`, in the order of their key and in batches.

    Each batch is a transaction of its own, followed by a pause of half the time that it took.

    Args:
        table: the table.
        values: the SET clause, without SET.
        where: the condition; it must no longer hold for a row that was updated, so that a retry resumes.
        key: the columns of the primary key, which must be texts or numbers.
        batch: how many rows a transaction scans.
    """
    if context.is_offline_mode():
        with op.get_context().autocommit_block():
            op.execute(_backfill_block(table, values, where, key, batch))
        return
    report = context.config.attributes.get("report", lambda _: None)
    columns = ", ".join(key)
    parameters = ", ".join(f":{name}" for name in key)
    first = text(f"SELECT {columns} FROM {table} ORDER BY {columns} OFFSET {batch - 1} LIMIT 1")  # noqa: S608
    following = text(
        f"SELECT {columns} FROM {table} WHERE ({columns}) > ({parameters}) "  # noqa: S608
        f"ORDER BY {columns} OFFSET {batch - 1} LIMIT 1"
    )
    after: dict[str, Any] | None = None
    updated, reported = 0, time.monotonic()
    with op.get_context().autocommit_block():
        bind = op.get_bind()
        while True:
            began = time.monotonic()
            row = bind.execute(first if after is None else following, after or {}).one_or_none()
            until = None if row is None else {f"to_{name}": value for name, value in zip(key, row, strict=True)}
            conditions = [where]
            if after is not None:
                conditions.append(f"({columns}) > ({parameters})")
            if until is not None:
                conditions.append(f"({columns}) <= ({', '.join(f':to_{name}' for name in key)})")
            update = text(f"UPDATE {table} SET {values} WHERE {' AND '.join(f'({each})' for each in conditions)}")  # noqa: S608
            updated += bind.execute(update, {**(after or {}), **(until or {})}).rowcount
            if until is None:
                break
            after = dict(zip(key, until.values(), strict=True))
            if time.monotonic() > reported + _REPORT_INTERVAL:
                reported = time.monotonic()
                report(f"{table}: {updated:,} rows updated")
            await_only(asyncio.sleep((time.monotonic() - began) * _PAUSE_RATIO))  # other tasks run meanwhile
    report(f"{table}: {updated:,} rows updated")


def _backfill_block(table: str, values: str, where: str, key: Sequence[str], batch: int) -> str:
    """Return the same backfill as a DO block for psql."""
    columns, after, to = (", ".join(f"{row}{name}" for name in key) for row in ("", "after_.", "to_."))
    in_batch = f"(after_.{key[0]} IS NULL OR ({columns}) > ({after}))"
    return (
        f"DO $$ DECLARE after_ {table}; to_ {table}; BEGIN LOOP to_ := NULL; "  # noqa: S608
        f"SELECT {columns} INTO {to} FROM {table} WHERE {in_batch} ORDER BY {columns} OFFSET {batch - 1} LIMIT 1; "
        f"UPDATE {table} SET {values} WHERE ({where}) AND {in_batch} "
        f"AND (to_.{key[0]} IS NULL OR ({columns}) <= ({to})); "
        f"COMMIT; EXIT WHEN to_.{key[0]} IS NULL; after_ := to_; PERFORM pg_sleep(0.02); END LOOP; END $$"
    )
