"""Restore from a file to a database: new users by COPY, existing ones by a merge."""

import asyncio
import io
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import cache
from typing import Any, BinaryIO

import orjson
from sqlalchemy import BigInteger, DateTime, Text

from agentstore.database.database import Database
from agentstore.database.retry import retry
from agentstore.database.transaction import Transaction
from agentstore.errors import Conflict, InvalidContent, NotConfigured, StatementFailed
from agentstore.migrating.revisions import head
from agentstore.repositories import transfer
from agentstore.repositories.memory.vectors import is_enabled
from agentstore.repositories.transfer import KNOWN_USERS, TABLES, VECTORS
from agentstore.schemas.payload import load_messages
from agentstore.transfer import lines
from agentstore.transfer.lines import Block
from agentstore.transfer.progress import Progress

_TRIES = 10
# The number of bytes that are read from the file, and sent to the server, at a time.
_CHUNK = 256_000
# The number of blocks restored concurrently: one is read while the server writes the other or waits for the disk.
_CONCURRENCY = 2
# Files with a cheap seek. A file that is decompressed while it is read starts from its beginning to seek backwards.
_SEEKABLE = (io.BufferedReader, io.BufferedRandom, io.FileIO, io.BytesIO)
_MESSAGES = ("messages", "memories")
# The end of a row's plain values and the beginning of its payload.
_MARKS = {
    name: f',"{payload}":'.encode()
    for name, payload in ((name, transfer.payload_of(table)) for name, table in TABLES.items())
    if payload is not None
}
# In the text format of COPY. The backslash is first: the other escapes have one. Replacing is much faster than
# str.translate, which takes the slow path for the rest of a string after its first escape.
_ESCAPES = ((b"\\", b"\\\\"), (b"\t", b"\\t"), (b"\n", b"\\n"), (b"\r", b"\\r"))


class Restorer:
    """Restores an export. The file is read twice: it is verified before anything is written.

    Each block is a transaction, and up to two are restored concurrently. The rows of new users are written by COPY. Of
    existing users, sessions, buckets of memories, states of a session and workspaces are inserted where none with the
    same id exist, or it has expired; equal ones are skipped, so that a restore is idempotent, and different ones are
    left unchanged and reported. Missing vectors are added to equal memories.
    """

    def __init__(self, database: Database, *, without_vectors: bool = False) -> None:
        self.progress = Progress()
        self._database = database
        self._schema = database.settings.schema
        self._without_vectors = without_vectors
        self._tables: list[str] = []

    async def run(self, file: BinaryIO, tick: Callable[[], None] = lambda: None, *, dry_run: bool = False) -> None:
        """Restore an export; `tick` is called after each block.

        With `dry_run` nothing is written, and each row is parsed, including the message in it. Otherwise the checksums
        and Postgres' own checks suffice: parsing each message as well would take 50 % longer.

        Raises:
            InvalidContent: the file is truncated or modified, is of a later version, or has a row that cannot be
                stored.
            NotConfigured: the file has vectors, and vectors are not enabled in the database.
            Conflict: other clients kept writing for the same users, or the file has a row twice.
        """
        began = time.monotonic()
        self.progress.total = file.seek(0, os.SEEK_END)
        export = lines.verify(file)
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
        if VECTORS in self._tables and (self._without_vectors or not await is_enabled(self._database)):
            if not self._without_vectors:
                raise NotConfigured(
                    "The file has vectors, and this database does not: run `agentstore vector enable` first, or skip "
                    "them with --without-vectors."
                )
            self._tables.remove(VECTORS)
        process = self._parse_rows if dry_run else self._restore
        blocks = iter(export.blocks)

        async def worker() -> None:
            for block in blocks:
                await process(file, block)
                self.progress.bytes += block.stop - block.start
                self.progress.users += block.rows.get("users", 0)
                self.progress.seconds = time.monotonic() - began
                tick()

        self.progress.bytes = export.blocks[0].start if export.blocks else export.stop
        count = 1 if dry_run or not isinstance(file, _SEEKABLE) else self._database.limit_concurrency(_CONCURRENCY)
        workers = [asyncio.create_task(worker()) for _ in range(count)]
        try:
            await asyncio.gather(*workers)
        finally:
            for each in workers:
                each.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        self.progress.left.sort()

    async def _parse_rows(self, file: BinaryIO, block: Block) -> None:
        """Parse the rows of a block, for a dry run."""
        reader = _Reader(file, block)
        while (name := reader.table()) is not None:
            if self._skip_vectors(name, reader):
                continue
            columns = reader.columns(name)
            async for _ in reader.rows(name, columns, validate=name in _MESSAGES):
                pass
        for name, count in block.rows.items():
            self.progress.add(name, count)

    async def _restore(self, file: BinaryIO, block: Block) -> None:
        """Restore a block in one transaction: by COPY, or by a merge if one of its users exists."""

        async def restore(attempt: int) -> tuple[dict[str, int], list[tuple[str, str, str]]]:
            reader = _Reader(file, block)
            try:
                async with self._database.transaction() as transaction:
                    await transaction.disable_timeout()
                    # After a conflict, another client has inserted or deleted the same rows.
                    merges = attempt > 0
                    if not merges:
                        merges = await self._any_exists(transaction, reader)
                        reader = _Reader(file, block)
                    return await (self._merge if merges else self._copy)(transaction, reader)
            except StatementFailed as error:
                if error.sqlstate[:2] == "22":
                    raise InvalidContent(f"a row before byte {reader.position} cannot be stored: {error}") from error
                raise

        done, left = await retry(
            restore,
            f"could not restore the users up to {block.last_user!r} (or the file has a row twice)",
            attempts=_TRIES,
            error=Conflict,
        )
        for name, count in done.items():
            self.progress.add(name, count)
        self.progress.left += left

    def _skip_vectors(self, name: str, reader: "_Reader") -> bool:
        """Skip the rows of vectors if these are not restored; reject a table that the header does not name."""
        if name in self._tables:
            return False
        if name != VECTORS:
            raise InvalidContent(f"byte {reader.position}: a row of the table {name!r}, which the header does not name")
        reader.skip(name)
        return True

    async def _any_exists(self, transaction: Transaction, reader: "_Reader") -> bool:
        """Return whether any user of the block exists."""
        ids: list[str] = []
        async for values in reader.values("users"):
            ids.append(values["id"])
        return bool(await transaction.fetch(KNOWN_USERS, ids=ids))

    async def _copy(
        self, transaction: Transaction, reader: "_Reader"
    ) -> tuple[dict[str, int], list[tuple[str, str, str]]]:
        """Insert the rows of the block by COPY."""
        done = {}
        while (name := reader.table()) is not None:
            if self._skip_vectors(name, reader):
                continue
            columns = reader.columns(name)
            done[name] = await transaction.copy_in(name, columns, reader.rows(name, columns), schema=self._schema)
        return done, []

    async def _merge(
        self, transaction: Transaction, reader: "_Reader"
    ) -> tuple[dict[str, int], list[tuple[str, str, str]]]:
        """Insert what is missing; return how many rows of each table, and what is different in the database."""
        for command in transfer.stage(self._schema, self._tables):
            await transaction.execute(command)
        while (name := reader.table()) is not None:
            if self._skip_vectors(name, reader):
                continue
            columns = reader.columns(name)
            await transaction.copy_in(f"staged_{name}", columns, reader.rows(name, columns))
        done: dict[str, int] = {}
        for name, command in transfer.merge(self._schema, self._tables, self._database.settings).items():
            tag = await transaction.execute(command)
            table = VECTORS if name == "missing_vectors" else name
            if table in TABLES:
                done[table] = done.get(table, 0) + int(tag.split()[-1])
        left = [
            (kind, user_id, session_id)
            for kind, query in transfer.difference_queries(self._schema, self._database.settings).items()
            for user_id, session_id in await transaction.query(query)
        ]
        return done, left


class _Reader:
    """Reads the rows of a block in order, table after table. Several readers can share a file."""

    def __init__(self, file: BinaryIO, block: Block) -> None:
        self.position = block.start
        self._lines = _lines(file, block.start, block.stop)
        self._line = next(self._lines)

    def table(self) -> str | None:
        """Return the table of the next row, or None at the end of the block."""
        if self._line.startswith(b'{"end":'):
            return None
        at = self._line.find(b'":{', 0, 100)
        if at < 0 or not self._line.startswith(b'{"') or not self._line.endswith(b"}}"):
            raise InvalidContent(f"byte {self.position}: the line is not a row")
        return self._line[2:at].decode(errors="replace")

    def columns(self, name: str) -> list[str]:
        """Return the columns of the rows of a table, read from the next row.

        Raises:
            InvalidContent: this release does not know one of them.
        """
        head, last = self._cut(name)
        payload = transfer.payload_of(TABLES[name])
        columns = [*head, *([payload] if payload is not None and last is not None else [])]
        if unknown := sorted(set(columns) - set(transfer.columns_of(TABLES[name]))):
            raise InvalidContent(
                f"byte {self.position}: the table {name!r} has no column {unknown[0]!r} in this release"
            )
        return columns

    async def values(self, name: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the rows of a table, if they come next, as dicts without their payloads."""
        while self.table() == name:
            yield self._cut(name)[0]
            self._next()

    def skip(self, name: str) -> None:
        """Skip the rows of a table."""
        while self.table() == name:
            self._next()

    async def rows(self, name: str, columns: Sequence[str], *, validate: bool = False) -> AsyncIterator[bytes]:
        """Yield the rows of a table in the text format of COPY, several at a time.

        Raises:
            InvalidContent: a line is not a row, or with `validate` a payload is not a valid message.
        """
        prefix = f'{{"{name}":'.encode()
        names = list(columns)
        written: list[bytes] = []
        payloads: list[bytes] = []
        size = 0
        usual = _usual_row(name, tuple(columns))
        while self._line.startswith(prefix):
            last: bytes | None
            found = usual.match(self._line, len(prefix))
            if found is not None:
                fields, last = found.groups(), self._line[found.end() : -2]
            else:
                head, last = self._cut(name)
                if [*head, *names[len(head) :]] != names or len(names) - len(head) != (last is not None):
                    raise InvalidContent(
                        f"byte {self.position}: a row of {name} has different columns than the row before it"
                    )
                fields = tuple(map(_field, head.values()))
            if last is not None:
                fields = (*fields, _json(last))
                if validate:
                    payloads.append(last)
            written.append(b"\t".join(fields))
            size += len(self._line)
            self._next()
            if size >= _CHUNK:
                self._validate(name, payloads)
                yield b"\n".join(written) + b"\n"
                written, payloads, size = [], [], 0
        if written:
            self._validate(name, payloads)
            yield b"\n".join(written) + b"\n"

    def _validate(self, name: str, payloads: list[bytes]) -> None:
        """Reject payloads that cannot be read as messages, one of which would make its whole session unreadable."""
        try:
            load_messages(payloads)
        except ValueError as error:
            raise InvalidContent(
                f"before byte {self.position}: a row of {name} is not a valid message: {error}"
            ) from error

    def _cut(self, name: str) -> tuple[dict[str, Any], bytes | None]:
        """Return the plain values of the next row, and the unparsed payload, if it has one."""
        each, begin = self._line, len(name) + 4
        mark = _MARKS.get(name)
        # Within a string the quotes would be escaped, so the first match is the name of the column.
        at = -1 if mark is None else each.find(mark)
        try:
            if mark is None or at < 0:
                return orjson.loads(each[begin:-1]), None
            return orjson.loads(each[begin:at] + b"}"), each[at + len(mark) : -2]
        except ValueError as error:
            raise InvalidContent(f"byte {self.position}: the line is not a row: {error}") from error

    def _next(self) -> None:
        self.position += len(self._line) + 1
        self._line = next(self._lines, b"")


def _lines(file: BinaryIO, start: int, stop: int) -> Iterator[bytes]:
    """Yield the lines of a byte range, without line breaks. It seeks before each read, so a file can be shared."""
    parts: list[bytes] = []
    while start < stop:
        file.seek(start)
        more = file.read(min(_CHUNK, stop - start))
        if not more:
            raise InvalidContent(f"byte {start}: the file was truncated while it was read")
        start += len(more)
        first, *others = more.split(b"\n")
        parts.append(first)
        if others:
            yield b"".join(parts)
            parts = [others.pop()]
            yield from others


@cache
def _usual_row(name: str, columns: tuple[str, ...]) -> re.Pattern[bytes]:
    """Return a pattern of the usual row: with a payload, and before it no nulls and no escapes. Matching is faster."""
    table = TABLES[name]
    parts = []
    for column in columns[:-1]:
        kind = table.c[column].type
        if isinstance(kind, (Text, DateTime)):
            value = rb'"([^"\\]*)"'
        else:
            value = rb"([0-9]+)" if isinstance(kind, BigInteger) else rb"(true|false)"
        parts.append(b'"%b":%b' % (column.encode(), value))
    mark = _MARKS.get(name, b"")
    return re.compile(rb"\{" + b",".join(parts) + re.escape(mark)) if mark else re.compile(b"(?!)")


def _field(value: Any) -> bytes:
    """Return a value of a row in the text format of COPY."""
    if value is None:
        return b"\\N"
    if type(value) is str:
        encoded = value.encode()
        for character, escape in _ESCAPES:
            if character in encoded:
                encoded = encoded.replace(character, escape)
        return encoded
    if value is True or value is False:
        return b"t" if value else b"f"
    if isinstance(value, (int, float)):
        return repr(value).encode()
    raise InvalidContent(f"a row has a {type(value).__name__}, expected a string, a number, a boolean or null")


def _json(text: bytes) -> bytes:
    if text == b"null":
        return b"\\N"
    text = text.replace(b"\\", b"\\\\") if b"\\" in text else text
    return text.replace(b"\t", b"\\t") if b"\t" in text else text
