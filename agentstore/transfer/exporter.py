"""From a database to a file, some users at a time."""

import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import Any, BinaryIO

from agentstore.database.database import Database
from agentstore.errors import InvalidContent, NotFound, StatementFailed
from agentstore.migrating.revisions import head
from agentstore.repositories.memory.vectors import is_enabled
from agentstore.repositories.stats import COUNT_USERS
from agentstore.repositories.transfer import FIRST_USERS, IDENTITY, KNOWN_USERS, READ, TABLES, USERS, VECTORS
from agentstore.schemas.payload import check_id
from agentstore.transfer import lines
from agentstore.transfer.progress import Progress

# Users of one block at most, and about how many messages and memories: what is read in one snapshot, and what is
# done again of an import that was broken off.
_USERS = 200
_ROWS = 50_000


class Exporter:
    """Exports a database, or some of its users. See :mod:`agentstore.transfer.lines` for the file.

    Each block of users is read in a snapshot of its own, so that none is held for the whole time: what belongs to one
    user fits together.
    """

    def __init__(self, database: Database, users: Sequence[str] | None = None) -> None:
        """`users` are whose data is wanted; None is everybody's.

        Raises:
            InvalidContent, LimitExceeded: one of them is no id of a user.
        """
        if isinstance(users, str):
            raise InvalidContent("users: it is a string and not a list of ids")
        self.progress = Progress()
        self._database = database
        self._users: list[str] | None = None
        if users is not None:
            self._users = sorted({check_id(user, "user_id", database.settings) for user in users}, key=str.encode)

    async def run(self, file: BinaryIO, tick: Callable[[], None] = lambda: None) -> bool:
        """Write an export, or go on with the one that `file` has begun; false if that is finished already.

        Raises:
            InvalidContent: `file` has something else, an export of other users, of another database or of another
                revision, or it cannot be read.
            NotFound: there is no such user.
        """
        began = time.monotonic()
        if self._users is not None:
            known = {row[0] for row in await self._database.fetch(KNOWN_USERS, ids=self._users)}
            if missing := [user for user in self._users if user not in known]:
                raise NotFound(f"there is no user {missing[0]!r}")
            self.progress.total = len(self._users)
        else:
            ((self.progress.total,),) = await self._database.fetch(COUNT_USERS)
        tables = [name for name in TABLES if name != VECTORS]
        if await is_enabled(self._database):
            tables.append(VECTORS)
        about = {"revision": head(), "database": await self._identity(), "users": self._users, "tables": tables}
        self._file = file
        self._digest = hashlib.sha256()
        after = None
        if file.seekable() and file.seek(0, os.SEEK_END) > 0:
            if not file.readable():
                raise InvalidContent("it has something, and is not open for reading")
            checked = lines.check(file)
            for name, value in about.items():
                if getattr(checked.header, name) != value:
                    kind = "other users" if name == "users" else f"another {name.removesuffix('s')}"
                    raise InvalidContent(f"it is an export of {kind}: give this one another name")
            if checked.finished:
                return False
            file.seek(checked.stop)
            file.truncate()
            self._digest = checked.digest
            self.progress.bytes = checked.stop
            after = checked.blocks[-1].last_user if checked.blocks else None
            for block in checked.blocks:
                for name, count in block.rows.items():
                    self.progress.add(name, count)
            self.progress.users = self.progress.rows.get("users", 0)
        else:
            self._write(lines.header(**about, created_at=datetime.now(UTC).isoformat()))
        async for first, last in self._blocks(after):
            rows = await self._block(tables, first, last)
            self._end("end", user=last, rows=rows)
            file.flush()
            self.progress.users += rows.get("users", 0)
            for name, count in rows.items():
                self.progress.add(name, count)
            self.progress.seconds = time.monotonic() - began
            tick()
        self._end("finished", rows=self.progress.rows)
        file.flush()
        self.progress.seconds = time.monotonic() - began
        return True

    async def _identity(self) -> str | None:
        """Return what tells this database from others, unless its server keeps that to itself."""
        try:
            ((cluster, name),) = await self._database.fetch(IDENTITY)
        except StatementFailed as error:
            if error.sqlstate not in ("42501", "0A000", "42883"):
                raise
            return None
        return f"{cluster}/{name}"

    async def _blocks(self, after: str | None) -> AsyncIterator[tuple[str, str]]:
        """Yield the first and the last user of each block."""
        if self._users is not None:
            for user in self._users:
                if after is None or user.encode() > after.encode():
                    yield user, user
            return
        while True:
            if after is None:
                users = await self._database.fetch(FIRST_USERS, limit=_USERS)
            else:
                users = await self._database.fetch(USERS, after=after, limit=_USERS)
            if not users:
                return
            count, weight = 1, users[0][1]
            while count < len(users) and weight + users[count][1] <= _ROWS:
                weight += users[count][1]
                count += 1
            last: str = users[count - 1][0]
            after = last
            yield users[0][0], last

    async def _block(self, tables: Sequence[str], first: str, last: str) -> dict[str, int]:
        rows: dict[str, int] = {}
        async with self._database.transaction(snapshot=True) as transaction:
            await transaction.disable_timeout()
            for name in tables:
                if count := await transaction.copy_out(READ[name], self._write, first_user=first, last_user=last):
                    rows[name] = count
        return rows

    def _end(self, kind: str, **said: Any) -> None:
        self._write(lines.line(kind, {**said, "sha256": self._digest.hexdigest()}))

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)
        self.progress.bytes += len(data)
