"""What migrations do besides Alembic's operations: indexes without a lock on writers, and rows changed in batches.

Both leave the migration's transaction, since they are long: whatever breaks them off, the migration is begun again and
goes on where they were. So they are alone in theirs.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from alembic import context, op
from sqlalchemy import text

LOCK_TIMEOUT = "3s"
# Of the time of a batch, which the database has for itself after it.
_REST = 0.5
_TOLD_EVERY = 5.0


@contextmanager
def unhurried() -> Iterator[None]:
    """Leave the transaction, and wait for others as long as they take: nobody waits behind these statements."""
    with op.get_context().autocommit_block():
        op.execute("SET lock_timeout TO 0")
        op.execute("SET statement_timeout TO 0")
        yield
        op.execute(f"SET lock_timeout TO '{LOCK_TIMEOUT}'")
        op.execute("RESET statement_timeout")


def create_index(name: str, table: str, columns: Sequence[Any], **options: Any) -> None:
    """Make an index while everybody goes on. What an attempt before this has left INVALID is dropped first."""
    with unhurried():
        valid = None
        if not context.is_offline_mode():
            query = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")
            valid = op.get_bind().scalar(query, {"name": f'"{name}"'})
        if valid:
            return  # an attempt before this came to its end, and not to that of its migration
        op.execute(f'DROP INDEX CONCURRENTLY IF EXISTS "{name}"')
        op.create_index(name, table, columns, if_not_exists=True, postgresql_concurrently=True, **options)


def drop_index(name: str) -> None:
    """Drop an index while everybody goes on."""
    with unhurried():
        op.execute(f'DROP INDEX CONCURRENTLY IF EXISTS "{name}"')


def backfill(table: str, values: str, where: str, *, key: Sequence[str], batch: int = 2_000) -> None:
    """Set `values` in the rows for which `where` holds, and not any more then, by their key and in small batches.

    Each batch is a transaction of its own, and is followed by half of its time without one. `key` is the table's
    primary key, of texts and numbers.
    """
    if context.is_offline_mode():
        with op.get_context().autocommit_block():
            op.execute(_backfill_block(table, values, where, key, batch))
        return
    tell = context.config.attributes.get("tell", lambda _: None)
    columns = ", ".join(key)
    parameters = ", ".join(f":{name}" for name in key)
    first = text(f"SELECT {columns} FROM {table} ORDER BY {columns} OFFSET {batch - 1} LIMIT 1")  # noqa: S608
    following = text(
        f"SELECT {columns} FROM {table} WHERE ({columns}) > ({parameters}) "  # noqa: S608
        f"ORDER BY {columns} OFFSET {batch - 1} LIMIT 1"
    )
    after: dict[str, Any] | None = None
    done, told = 0, time.monotonic()
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
            changed = text(f"UPDATE {table} SET {values} WHERE {' AND '.join(f'({each})' for each in conditions)}")  # noqa: S608
            done += bind.execute(changed, {**(after or {}), **(until or {})}).rowcount
            if until is None:
                break
            after = dict(zip(key, until.values(), strict=True))
            if time.monotonic() > told + _TOLD_EVERY:
                told = time.monotonic()
                tell(f"{table}: {done:,} rows changed")
            time.sleep((time.monotonic() - began) * _REST)
    tell(f"{table}: {done:,} rows changed")


def _backfill_block(table: str, values: str, where: str, key: Sequence[str], batch: int) -> str:
    """Return the same as a block that psql runs."""
    columns, after, to = (", ".join(f"{row}{name}" for name in key) for row in ("", "after_.", "to_."))
    begun = f"(after_.{key[0]} IS NULL OR ({columns}) > ({after}))"
    return (
        f"DO $$ DECLARE after_ {table}; to_ {table}; BEGIN LOOP to_ := NULL; "  # noqa: S608
        f"SELECT {columns} INTO {to} FROM {table} WHERE {begun} ORDER BY {columns} OFFSET {batch - 1} LIMIT 1; "
        f"UPDATE {table} SET {values} WHERE ({where}) AND {begun} "
        f"AND (to_.{key[0]} IS NULL OR ({columns}) <= ({to})); "
        f"COMMIT; EXIT WHEN to_.{key[0]} IS NULL; after_ := to_; PERFORM pg_sleep(0.02); END LOOP; END $$"
    )
