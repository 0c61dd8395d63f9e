"""Export from a database to a file, some users at a time."""

import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, BinaryIO, Protocol

from agentstore.database.database import Database
from agentstore.errors import InvalidContent, NotFound, StatementFailed
from agentstore.migrating.revisions import head
from agentstore.repositories.memory.vectors import is_enabled
from agentstore.repositories.stats import COUNT_USERS
from agentstore.repositories.transfer import (
    APP_VALUES,
    IDENTITY,
    READ,
    READ_APP_VALUES,
    READ_USER,
    TABLES,
    USERS,
    VECTORS,
)
from agentstore.repositories.users import GET as GET_USER
from agentstore.schemas.progress import Progress
from agentstore.settings import Settings
from agentstore.transfer import lines
from agentstore.transfer.checks import check_users

# The largest block in users, and about the largest in messages, memories and state rounds. A block is read in one
# snapshot, and restored in one transaction.
_BLOCK_USERS = 200
_BLOCK_ROWS = 50_000


class Source(Protocol):
    """Where the rows of an export are read, in blocks of some users."""

    @property
    def settings(self) -> Settings:
        """The settings of the store."""
        ...

    async def identify(self) -> str | None:
        """Return an identifier of the database, or None if it cannot be read."""

    async def tables(self) -> list[str]:
        """Return the names of the tables."""
        ...

    async def count(self, users: list[str] | None) -> int:
        """Return the number of users to export: these, or all if None.

        Raises:
            NotFound: one of them does not exist.
        """
        ...

    def blocks(self, after: str | None) -> AsyncIterator[tuple[str, str]]:
        """Yield the first and the last user of each block after the user `after`, of all users."""
        ...

    async def write_block(
        self, tables: list[str], first: str, last: str, write: Callable[[bytes], None]
    ) -> dict[str, int]:
        """Write the lines of a block, and return the number of rows by table."""
        ...

    async def write_app_values(self, write: Callable[[bytes], None]) -> int:
        """Write the lines of the values of applications, and return their number."""
        ...


class DatabaseSource:
    """The rows of a database. See :class:`Source`.

    Each block is read in a snapshot of its own: the data of one user is consistent, and no snapshot is held for the
    whole export, which would keep VACUUM from removing dead rows.
    """

    def __init__(self, database: Database, *, by_user: bool) -> None:
        """Read a database, with `by_user` by statements that concern one user each."""
        self.settings = database.settings
        self._database = database
        self._by_user = by_user

    async def identify(self) -> str | None:
        """Return an identifier of this database, or None if its server does not allow to read it."""
        try:
            ((cluster, name),) = await self._database.fetch(IDENTITY)
        except StatementFailed as error:
            if error.sqlstate not in ("42501", "0A000", "42883"):
                raise
            return None
        return f"{cluster}/{name}"

    async def tables(self) -> list[str]:
        """Return the names of the tables of users; that of vectors is the last, where they are enabled."""
        tables = [name for name in TABLES if name not in (VECTORS, APP_VALUES)]
        return [*tables, VECTORS] if await is_enabled(self._database) else tables

    async def count(self, users: list[str] | None) -> int:
        """Return the number of users to export.

        Raises:
            NotFound: a user does not exist.
        """
        if users is None:
            ((total,),) = await self._database.fetch(COUNT_USERS)
            return int(total)
        for user in users:  # one by one, as row-level security requires
            if await self._database.fetch_one(GET_USER, user_id=user) is None:
                raise NotFound(f"user {user!r} does not exist")
        return len(users)

    async def blocks(self, after: str | None) -> AsyncIterator[tuple[str, str]]:
        """Yield the first and the last user of each block of about 50,000 rows."""
        while True:
            users = await self._database.fetch(USERS, after=after, limit=_BLOCK_USERS)
            if not users:
                return
            count, weight = 1, users[0][1]
            while count < len(users) and weight + users[count][1] <= _BLOCK_ROWS:
                weight += users[count][1]
                count += 1
            last: str = users[count - 1][0]
            after = last
            yield users[0][0], last

    async def write_block(
        self, tables: list[str], first: str, last: str, write: Callable[[bytes], None]
    ) -> dict[str, int]:
        """Write the lines of a block as the server sends them, and return the number of rows by table."""
        rows: dict[str, int] = {}
        async with self._database.transaction(snapshot=True) as transaction:
            await transaction.disable_timeout()
            for name in tables:
                if self._by_user:
                    count = await transaction.copy_out(READ_USER[name], write, user_id=first)
                else:
                    count = await transaction.copy_out(READ[name], write, first_user=first, last_user=last)
                if count:
                    rows[name] = count
        return rows

    async def write_app_values(self, write: Callable[[bytes], None]) -> int:
        """Write the lines of the values of applications, and return their number."""
        async with self._database.transaction(snapshot=True) as transaction:
            await transaction.disable_timeout()
            return await transaction.copy_out(READ_APP_VALUES, write)


class Exporter:
    """Exports a store, or some of its users. See :mod:`agentstore.transfer.lines` for the format."""

    def __init__(self, source: Source, users: Sequence[str] | None = None) -> None:
        """Create an exporter. `users` are the ids of the users to export; None exports all.

        Raises:
            InvalidContent: `users` is a string, or one of them is not a valid id.
        """
        self.progress = Progress()
        self._source = source
        self._users = None if users is None else check_users(users, "users", source.settings)

    async def run(self, file: BinaryIO, tick: Callable[[], None] = lambda: None) -> bool:
        """Write an export, or resume the interrupted one in `file`; return false if that is complete already.

        `tick` is called after each block.

        Raises:
            InvalidContent: `file` is not open for writing in binary mode, contains something else, or an export of
                other users, of another database or of another revision, or it is not empty and not open for reading.
            NotFound: a user does not exist.
        """
        lines.check_file(file, writable=True)
        began = time.monotonic()
        self.progress.total = await self._source.count(self._users)
        tables = await self._source.tables()
        has_all = self._users is None
        about = {
            "revision": head(),
            "database": await self._source.identify(),
            "users": self._users,
            "tables": [*tables, APP_VALUES] if has_all else tables,
        }
        self._file = file
        self._digest = hashlib.sha256()
        after = None
        if file.seekable() and file.seek(0, os.SEEK_END) > 0:
            if not file.readable():
                raise InvalidContent("the file is not empty, and not open for reading: open it for reading and writing")
            existing = lines.verify(file)
            for name, value in about.items():
                if getattr(existing.header, name) != value:
                    kind = "other users" if name == "users" else f"another {name.removesuffix('s')}"
                    raise InvalidContent(f"the file is an export of {kind}: choose another file")
            if existing.finished:
                return False
            file.seek(existing.stop)
            file.truncate()
            self._digest = existing.digest
            self.progress.bytes = existing.stop
            after = existing.blocks[-1].last_user if existing.blocks else None
            has_all = has_all and not (existing.blocks and APP_VALUES in existing.blocks[-1].rows)
            for block in existing.blocks:
                for name, count in block.rows.items():
                    self.progress.add(name, count)
            self.progress.users = self.progress.rows.get("users", 0)
        else:
            self._write(lines.header(**about, created_at=datetime.now(UTC).isoformat()))
        async for first, last in self._blocks(after):
            rows = await self._source.write_block(tables, first, last, self._write)
            self._write_end("end", user=last, rows=rows)
            file.flush()
            self.progress.users += rows.get("users", 0)
            for name, count in rows.items():
                self.progress.add(name, count)
            self.progress.seconds = time.monotonic() - began
            tick()
            after = last
        # Last, in a block of their own.
        if has_all and (count := await self._source.write_app_values(self._write)):
            self._write_end("end", user=after or "", rows={APP_VALUES: count})
            self.progress.add(APP_VALUES, count)
        self._write_end("finished", rows=self.progress.rows)
        file.flush()
        self.progress.seconds = time.monotonic() - began
        return True

    async def _blocks(self, after: str | None) -> AsyncIterator[tuple[str, str]]:
        """Yield the first and the last user of each block after the user `after`."""
        if self._users is not None:
            for user in self._users:
                if after is None or user.encode() > after.encode():
                    yield user, user
            return
        async for block in self._source.blocks(after):
            yield block

    def _write_end(self, kind: str, **fields: Any) -> None:
        self._write(lines.line(kind, {**fields, "sha256": self._digest.hexdigest()}))

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)
        self.progress.bytes += len(data)
