"""Restore from a file to a store. In a database: new users by COPY, existing ones by a merge."""

import asyncio
import io
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import BinaryIO, Protocol

from agentstore.database.database import Database
from agentstore.database.retry import retry
from agentstore.database.transaction import Transaction
from agentstore.errors import Conflict, InvalidContent, NotConfigured, StatementFailed
from agentstore.migrating.revisions import head
from agentstore.repositories import transfer
from agentstore.repositories.memory.loading import bulk_load
from agentstore.repositories.memory.totals import count_memories_of
from agentstore.repositories.memory.vectors import is_enabled
from agentstore.repositories.transfer import KNOWN_USERS, TABLES, VECTORS
from agentstore.schemas.progress import Progress
from agentstore.settings import Settings
from agentstore.transfer import lines
from agentstore.transfer.checks import check_users, max_line
from agentstore.transfer.lines import Block
from agentstore.transfer.rows import RowReader

_TRIES = 10
# The number of blocks restored concurrently: one is read while the server writes the other or waits for the disk.
_CONCURRENCY = 2
# Files with a cheap seek. A file that is decompressed while it is read starts from its beginning to seek backwards.
_SEEKABLE = (io.BufferedReader, io.BufferedRandom, io.FileIO, io.BytesIO)


Left = list[tuple[str, str, str]]
"""What a block has left unchanged; see :class:`Progress`."""


class Target(Protocol):
    """Where the rows of an export are restored, a block at a time."""

    @property
    def settings(self) -> Settings:
        """The settings of the store."""
        ...

    async def has_vectors(self) -> bool:
        """Return whether the store has a table of vectors."""
        ...

    def loading(self) -> AbstractAsyncContextManager[None]:
        """Return the context in which all blocks are restored."""
        ...

    def limit_concurrency(self, wanted: int) -> int:
        """Return how many blocks may be restored concurrently, at most `wanted`."""
        ...

    async def restore(
        self, block: Block, tables: list[str], read: Callable[[], RowReader]
    ) -> tuple[dict[str, int], Left]:
        """Restore a block completely or not at all; return the rows inserted by table, and what was left unchanged.

        `read` returns a reader of the block at its beginning, and `tables` are those that it may have.

        Raises:
            InvalidContent, LimitExceeded: a row cannot be stored; with the number of its line.
            Conflict: other clients kept writing for the same users, or the file has a row twice.
        """
        ...


class DatabaseTarget:
    """A database. See :class:`Target`.

    Each block is a transaction. The rows of new users are written by COPY. Of existing users, sessions, buckets of
    memories, states of a session and workspaces are inserted where none with the same id exist, or it has expired;
    equal ones are skipped, and different ones are left unchanged and reported. Missing vectors are added to equal
    memories.
    """

    def __init__(self, database: Database) -> None:
        self.settings = database.settings
        self._database = database
        self._schema = database.settings.schema

    async def has_vectors(self) -> bool:
        """Return whether vectors are enabled in the database."""
        return await is_enabled(self._database)

    def loading(self) -> AbstractAsyncContextManager[None]:
        """Return a context in which many memories can be inserted."""
        return bulk_load(self._database)

    def limit_concurrency(self, wanted: int) -> int:
        """Return how many connections a restore may use, at most `wanted`."""
        return self._database.limit_concurrency(wanted)

    async def restore(
        self, block: Block, tables: list[str], read: Callable[[], RowReader]
    ) -> tuple[dict[str, int], Left]:
        """Restore a block in one transaction: by COPY, or by a merge if one of its users exists."""

        async def restore(attempt: int) -> tuple[dict[str, int], Left]:
            reader = read()
            try:
                async with self._database.transaction() as transaction:
                    await transaction.disable_timeout()
                    # After a conflict, another client has inserted or deleted the same rows.
                    merges = attempt > 0
                    users = reader.user_ids()
                    merges = merges or bool(await transaction.fetch(KNOWN_USERS, ids=users))
                    reader = read()
                    left: Left = []
                    if merges:
                        done, left = await self._merge(transaction, reader, tables)
                    else:
                        done = await self._copy(transaction, reader)
                    await count_memories_of(transaction.fetch, users, done.get("memories", 0))
                    return done, left
            except StatementFailed as error:
                if error.sqlstate[:2] == "22":
                    raise reader.refused(error) from error
                raise

        return await retry(
            restore,
            f"could not restore the users up to {block.last_user!r} (or the file has a row twice)",
            attempts=_TRIES,
            error=Conflict,
        )

    async def _copy(self, transaction: Transaction, reader: RowReader) -> dict[str, int]:
        """Insert the rows of the block by COPY."""
        done = {}
        for name, columns in reader.tables():
            done[name] = await transaction.copy_in(name, columns, reader.rows(name, columns), schema=self._schema)
        return done

    async def _merge(
        self, transaction: Transaction, reader: RowReader, tables: list[str]
    ) -> tuple[dict[str, int], Left]:
        """Insert what is missing; return how many rows of each table, and what is different in the database."""
        for command in transfer.stage(self._schema, tables):
            await transaction.execute(command)
        for name, columns in reader.tables():
            await transaction.copy_in(f"staged_{name}", columns, reader.rows(name, columns))
        done: dict[str, int] = {}
        citus = self._database.is_distributed
        for name, command in transfer.merge(self._schema, tables, self.settings, citus=citus).items():
            tag = await transaction.execute(command)
            table = VECTORS if name == "missing_vectors" else name
            if table in TABLES:
                done[table] = done.get(table, 0) + int(tag.split()[-1])
        left = [
            (kind, user_id, session_id)
            for kind, query in transfer.difference_queries(self._schema, tables, self.settings, citus=citus).items()
            for user_id, session_id in await transaction.query(query)
        ]
        return done, left


class Restorer:
    """Restores an export. The file is read twice: it is verified before anything is written.

    Each row is checked as a write is, since the file may come from anyone: see :class:`RowReader`.

    Up to two blocks are restored concurrently. A restore is idempotent: what exists is left unchanged.
    """

    def __init__(
        self, target: Target, *, without_vectors: bool = False, only_users: Sequence[str] | None = None
    ) -> None:
        """Create a restorer. With `only_users`, a file with rows of other users is refused.

        Raises:
            InvalidContent: `only_users` is a string, or one of them is not a valid id.
        """
        self.progress = Progress()
        self._only_users = (
            None if only_users is None else frozenset(check_users(only_users, "only_users", target.settings))
        )
        self._users: frozenset[str] | None = None
        self._target = target
        self._without_vectors = without_vectors
        self._tables: list[str] = []

    async def run(self, file: BinaryIO, tick: Callable[[], None] = lambda: None, *, dry_run: bool = False) -> None:
        """Restore an export; `tick` is called after each block.

        With `dry_run` each row is read and checked, and nothing is written. With `only_users` that is done before
        anything is written.

        Raises:
            InvalidContent, LimitExceeded: the file is truncated or modified, is of a later version, or has a row that
                a write would refuse, a line that is too long, or a row of another user; with the number of its line.
            NotConfigured: the file has vectors, and vectors are not enabled in the database.
            Conflict: other clients kept writing for the same users, or the file has a row twice.
        """
        lines.check_file(file)
        if not file.seekable():
            raise InvalidContent("a pipe cannot be restored, since the file is read twice: copy it to a temporary file")
        began = time.monotonic()
        self.progress.total = file.seek(0, os.SEEK_END)
        export = lines.verify(file, max_line=max_line(self._target.settings))
        if not export.finished:
            raise InvalidContent(
                "the file is truncated: its last line is missing, as after an interrupted export: run that export again"
            )
        self._tables = list(export.header.tables)
        if unknown := [name for name in self._tables if name not in TABLES]:
            raise InvalidContent(
                f"the file has rows of the table {unknown[0]!r}, which this release does not know: it was exported at "
                f"schema revision {export.header.revision}, this release has {head()}"
            )
        if VECTORS in self._tables and (self._without_vectors or not await self._target.has_vectors()):
            if not self._without_vectors:
                raise NotConfigured(
                    "The file has vectors, and this database does not: run `agentstore vector enable` first, or skip "
                    "them with --without-vectors."
                )
            self._tables.remove(VECTORS)
        self._users = None if export.header.users is None else frozenset(export.header.users)
        if self._only_users is not None:
            self._users = self._only_users if self._users is None else self._users & self._only_users
            if not dry_run:
                for block in export.blocks:
                    await self._check_rows(file, block)
        blocks = iter(export.blocks)

        async def worker() -> None:
            for block in blocks:
                if dry_run:
                    await self._check_rows(file, block)
                    for name, count in block.rows.items():
                        self.progress.add(name, count)
                else:
                    await self._restore(file, block)
                self.progress.bytes += block.stop - block.start
                self.progress.users += block.rows.get("users", 0)
                self.progress.seconds = time.monotonic() - began
                tick()

        self.progress.bytes = export.blocks[0].start if export.blocks else export.stop
        count = 1 if dry_run or not isinstance(file, _SEEKABLE) else self._target.limit_concurrency(_CONCURRENCY)
        async with nullcontext() if dry_run else self._target.loading():
            workers = [asyncio.create_task(worker()) for _ in range(count)]
            try:
                await asyncio.gather(*workers)
            finally:
                for each in workers:
                    each.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
        self.progress.left.sort()

    async def _check_rows(self, file: BinaryIO, block: Block) -> None:
        """Read and check the rows of a block."""
        reader = self._reader(file, block)
        for name, columns in reader.tables():
            async for _ in reader.rows(name, columns):
                pass

    def _reader(self, file: BinaryIO, block: Block) -> RowReader:
        return RowReader(file, block, self._target.settings, self._users, self._tables)

    async def _restore(self, file: BinaryIO, block: Block) -> None:
        done, left = await self._target.restore(block, self._tables, lambda: self._reader(file, block))
        for name, count in done.items():
            self.progress.add(name, count)
        self.progress.left += left
