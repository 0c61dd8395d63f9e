"""From a file to a database: what is new by COPY, what is there already beside it."""

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
from agentstore.database.transaction import Transaction
from agentstore.errors import Conflict, InvalidContent, NotConfigured, StatementFailed
from agentstore.migrating.revisions import head
from agentstore.repositories import transfer
from agentstore.repositories.memory.vectors import is_enabled
from agentstore.repositories.service import back_off
from agentstore.repositories.transfer import KNOWN_USERS, TABLES, VECTORS
from agentstore.schemas.payload import load_messages
from agentstore.transfer import lines
from agentstore.transfer.lines import Block
from agentstore.transfer.progress import Progress

_TRIES = 10
# What is read from the file, and given to the server, at a time.
_CHUNK = 256_000
# While the server is at the rows of one block, the next ones are read; and one waits for the disk, the other does not.
_LANES = 2
# In which another place is found at once. A file that is unpacked as it is read begins anew for it.
_SEEKABLE = (io.BufferedReader, io.BufferedRandom, io.FileIO, io.BytesIO)
_MESSAGES = ("messages", "memories")
_MARKS = {
    name: f',"{payload}":'.encode()
    for name, payload in ((name, transfer.payload_of(table)) for name, table in TABLES.items())
    if payload is not None
}
_ESCAPED = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


class Restorer:
    """Imports an export. The file is read twice: it is found to be whole before anything is written.

    Each block is a transaction, and two are on their way at a time. The rows of users that are not there go into the
    tables by COPY. For users that are there, sessions, buckets of memories and states of a session are added where
    there are none with that id; equal ones are passed over, so that an import may be repeated, and others are left as
    they are and reported. Vectors are added to memories that are equal and have none.
    """

    def __init__(self, database: Database, *, without_vectors: bool = False) -> None:
        self.progress = Progress()
        self._database = database
        self._schema = database.settings.schema
        self._without_vectors = without_vectors
        self._tables: list[str] = []

    async def run(self, file: BinaryIO, tick: Callable[[], None] = lambda: None, *, dry_run: bool = False) -> None:
        """Import an export; `tick` is called after each block.

        With `dry_run` nothing is written, and each row is looked at, messages included. Otherwise it is enough that
        the file is as it was written, and that Postgres takes the rows: reading each message takes half as long again.

        Raises:
            InvalidContent: it was cut off or changed, is of a later version, or has a row that cannot be stored.
            NotConfigured: it has vectors, and the database has no table for them.
        """
        began = time.monotonic()
        self.progress.total = file.seek(0, os.SEEK_END)
        checked = lines.check(file)
        if not checked.finished:
            raise InvalidContent("it was cut off: it has no end, as of an export that was broken off")
        self._tables = list(checked.header.tables)
        if unknown := [name for name in self._tables if name not in TABLES]:
            raise InvalidContent(
                f"it has rows of {unknown[0]!r}, which this release does not know: it is of revision "
                f"{checked.header.revision}, this is {head()}"
            )
        if VECTORS in self._tables and (self._without_vectors or not await is_enabled(self._database)):
            if not self._without_vectors:
                raise NotConfigured(
                    "It has vectors: run `agentstore vector enable` first, or leave them out with --without-vectors."
                )
            self._tables.remove(VECTORS)
        take = self._look_at if dry_run else self._restore
        blocks = iter(checked.blocks)

        async def lane() -> None:
            for block in blocks:
                await take(file, block)
                self.progress.bytes += block.stop - block.start
                self.progress.users += block.rows.get("users", 0)
                self.progress.seconds = time.monotonic() - began
                tick()

        self.progress.bytes = checked.blocks[0].start if checked.blocks else checked.stop
        count = 1 if dry_run or not isinstance(file, _SEEKABLE) else self._database.limit_concurrency(_LANES)
        lanes = [asyncio.create_task(lane()) for _ in range(count)]
        try:
            await asyncio.gather(*lanes)
        finally:
            for each in lanes:
                each.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)
        self.progress.left.sort()

    async def _look_at(self, file: BinaryIO, block: Block) -> None:
        reader = _Reader(file, block)
        while (name := reader.table()) is not None:
            if self._is_left_out(name, reader):
                continue
            columns = reader.columns(name)
            async for _ in reader.rows(name, columns, read=name in _MESSAGES):
                pass
        for name, count in block.rows.items():
            self.progress.add(name, count)

    async def _restore(self, file: BinaryIO, block: Block) -> None:
        merges = False
        for attempt in range(_TRIES):
            reader = _Reader(file, block)
            try:
                async with self._database.transaction() as transaction:
                    await transaction.disable_timeout()
                    if not merges:
                        merges = await self._any_known(transaction, reader)
                        reader = _Reader(file, block)
                    done, left = await (self._merge if merges else self._copy)(transaction, reader)
            except StatementFailed as error:
                if error.sqlstate[:2] == "22":
                    raise InvalidContent(f"a row before byte {reader.position} cannot be stored: {error}") from error
                if error.sqlstate not in ("23505", "23503"):
                    raise
                merges = True  # somebody has added the same meanwhile, or deleted it
                await back_off(attempt)
                continue
            for name, count in done.items():
                self.progress.add(name, count)
            self.progress.left += left
            return
        raise Conflict(f"users up to {block.last_user!r} are written to all the time, or the file has a row twice")

    def _is_left_out(self, name: str, reader: "_Reader") -> bool:
        """Pass over the vectors that are not wanted; refuse what the header does not name."""
        if name in self._tables:
            return False
        if name != VECTORS:
            raise InvalidContent(f"byte {reader.position}: it is a row of {name!r}, which the header does not name")
        reader.skip(name)
        return True

    async def _any_known(self, transaction: Transaction, reader: "_Reader") -> bool:
        ids: list[str] = []
        async for values in reader.values("users"):
            ids.append(values["id"])
        return bool(await transaction.fetch(KNOWN_USERS, ids=ids))

    async def _copy(
        self, transaction: Transaction, reader: "_Reader"
    ) -> tuple[dict[str, int], list[tuple[str, str, str]]]:
        done = {}
        while (name := reader.table()) is not None:
            if self._is_left_out(name, reader):
                continue
            columns = reader.columns(name)
            done[name] = await transaction.copy_in(name, columns, reader.rows(name, columns), schema=self._schema)
        return done, []

    async def _merge(
        self, transaction: Transaction, reader: "_Reader"
    ) -> tuple[dict[str, int], list[tuple[str, str, str]]]:
        for command in transfer.stage(self._schema, self._tables):
            await transaction.execute(command)
        while (name := reader.table()) is not None:
            if self._is_left_out(name, reader):
                continue
            columns = reader.columns(name)
            await transaction.copy_in(f"staged_{name}", columns, reader.rows(name, columns))
        done: dict[str, int] = {}
        for name, command in transfer.merge(self._schema, self._tables).items():
            tag = await transaction.execute(command)
            table = VECTORS if name == "missing_vectors" else name
            if table in TABLES:
                done[table] = done.get(table, 0) + int(tag.split()[-1])
        left = [
            (kind, user_id, session_id)
            for kind, query in transfer.different(self._schema).items()
            for user_id, session_id in await transaction.query(query)
        ]
        return done, left


class _Reader:
    """The rows of a block, in their order: table after table. Others may read the file in turn with it."""

    def __init__(self, file: BinaryIO, block: Block) -> None:
        self.position = block.start
        self._lines = _lines(file, block.start, block.stop)
        self._line = next(self._lines)

    def table(self) -> str | None:
        """Return of which table the next row is, or None at the end of the block."""
        if self._line.startswith(b'{"end":'):
            return None
        at = self._line.find(b'":{', 0, 100)
        if at < 0 or not self._line.startswith(b'{"') or not self._line.endswith(b"}}"):
            raise InvalidContent(f"byte {self.position}: it is no row")
        return self._line[2:at].decode(errors="replace")

    def columns(self, name: str) -> list[str]:
        """Return the columns that the rows of a table have, from the next of them.

        Raises:
            InvalidContent: one of them is unknown to this release.
        """
        head, last = self._cut(name)
        payload = transfer.payload_of(TABLES[name])
        columns = [*head, *([payload] if payload is not None and last is not None else [])]
        if unknown := sorted(set(columns) - set(transfer.columns_of(TABLES[name]))):
            raise InvalidContent(f"byte {self.position}: {name} has no column {unknown[0]!r} in this release")
        return columns

    async def values(self, name: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the rows of a table, if they come next, as objects without their payloads."""
        while self.table() == name:
            yield self._cut(name)[0]
            self._next()

    def skip(self, name: str) -> None:
        """Pass over the rows of a table."""
        while self.table() == name:
            self._next()

    async def rows(self, name: str, columns: Sequence[str], *, read: bool = False) -> AsyncIterator[bytes]:
        """Yield the rows of a table in Postgres's text format, some at a time.

        Raises:
            InvalidContent: one is no row or, with `read`, its payload is no message.
        """
        prefix = f'{{"{name}":'.encode()
        names = list(columns)
        written: list[bytes] = []
        payloads: list[bytes] = []
        size = 0
        usual = _usual(name, tuple(columns))
        while self._line.startswith(prefix):
            last: bytes | None
            found = usual.match(self._line, len(prefix))
            if found is not None:
                fields, last = found.groups(), self._line[found.end() : -2]
            else:
                head, last = self._cut(name)
                if [*head, *names[len(head) :]] != names or len(names) - len(head) != (last is not None):
                    raise InvalidContent(f"byte {self.position}: a row of {name} has other columns than the one before")
                fields = tuple(map(_field, head.values()))
            if last is not None:
                fields = (*fields, _json(last))
                if read:
                    payloads.append(last)
            written.append(b"\t".join(fields))
            size += len(self._line)
            self._next()
            if size >= _CHUNK:
                self._check(name, payloads)
                yield b"\n".join(written) + b"\n"
                written, payloads, size = [], [], 0
        if written:
            self._check(name, payloads)
            yield b"\n".join(written) + b"\n"

    def _check(self, name: str, payloads: list[bytes]) -> None:
        """Refuse what could not be read as a message again, and would make the whole session unreadable."""
        try:
            load_messages(payloads)
        except ValueError as error:
            raise InvalidContent(f"before byte {self.position}: a row of {name} is no message: {error}") from error

    def _cut(self, name: str) -> tuple[dict[str, Any], bytes | None]:
        """Return the plain values of the next row, and its payload as it is written, if it has one."""
        each, begin = self._line, len(name) + 4
        mark = _MARKS.get(name)
        # Within a string its quotes would be escaped: what is found first is the name.
        at = -1 if mark is None else each.find(mark)
        try:
            if mark is None or at < 0:
                return orjson.loads(each[begin:-1]), None
            return orjson.loads(each[begin:at] + b"}"), each[at + len(mark) : -2]
        except ValueError as error:
            raise InvalidContent(f"byte {self.position}: it is no row: {error}") from error

    def _next(self) -> None:
        self.position += len(self._line) + 1
        self._line = next(self._lines, b"")


def _lines(file: BinaryIO, start: int, stop: int) -> Iterator[bytes]:
    """Yield the lines of a part of a file, without their ends; nothing is expected of where the file stands."""
    parts: list[bytes] = []
    while start < stop:
        file.seek(start)
        more = file.read(min(_CHUNK, stop - start))
        if not more:
            raise InvalidContent(f"byte {start}: it was cut off while it was read")
        start += len(more)
        first, *others = more.split(b"\n")
        parts.append(first)
        if others:
            yield b"".join(parts)
            parts = [others.pop()]
            yield from others


@cache
def _usual(name: str, columns: tuple[str, ...]) -> re.Pattern[bytes]:
    """A row as most are: with a payload, nothing null and nothing escaped before it. Read at half the price."""
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
    """Return a value of a row in Postgres's text format."""
    if value is None:
        return b"\\N"
    if type(value) is str:
        if "\\" in value or "\t" in value or "\n" in value or "\r" in value:
            value = value.translate(_ESCAPED)
        return str(value).encode()
    if value is True or value is False:
        return b"t" if value else b"f"
    if isinstance(value, (int, float)):
        return repr(value).encode()
    raise InvalidContent(f"a row has {type(value).__name__} where a plain value is")


def _json(text: bytes) -> bytes:
    if text == b"null":
        return b"\\N"
    text = text.replace(b"\\", b"\\\\") if b"\\" in text else text
    return text.replace(b"\t", b"\\t") if b"\t" in text else text
