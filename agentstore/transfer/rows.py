"""The rows of a block of an export: read, checked, and converted to the text format of COPY."""

import re
from collections import deque
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

import orjson

from agentstore.errors import AgentStoreError, InvalidContent, LimitExceeded
from agentstore.repositories import transfer
from agentstore.repositories.transfer import TABLES, VECTORS
from agentstore.schemas.memory_item import MESSAGE
from agentstore.schemas.payload import shortened
from agentstore.settings import Settings
from agentstore.transfer import checks, lines
from agentstore.transfer.checkpoint_values import CheckpointValues, check_packed
from agentstore.transfer.contents import Contents
from agentstore.transfer.lines import Block

# The number of bytes that are read from the file, and sent to the server, at a time.
_CHUNK = 256_000
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
_NULL = b"\\N"


class _Parts(NamedTuple):
    """Rows that are numbered from 1, and the row that has their highest number and how many are missing."""

    owner: str
    key: tuple[str, ...]
    column: str
    """The highest number, plus `difference`."""
    difference: int
    removed: str | None
    """The column with the number of gaps; None if there are none."""
    part_key: tuple[str, ...]
    number: str


_PARTS = {
    "messages": _Parts("sessions", ("user_id", "id"), "next_seq", 1, "removed", ("user_id", "session_id"), "seq"),
    "memories": _Parts("memory_buckets", ("user_id", "session_id"), "count", 0, None, ("user_id", "session_id"), "seq"),
    "workspace_chunks": _Parts(
        "workspaces", ("user_id", "session_id", "type"), "chunks", 0, None, ("user_id", "session_id", "type"), "number"
    ),
}


class _Expected(NamedTuple):
    """What a row says about its parts."""

    last: int
    """The highest number."""
    rows: int
    position: int
    """The position of the row in the file."""


_NOTHING = _Expected(0, 0, 0)
_OWNERS = {parts.owner: (part, parts) for part, parts in _PARTS.items()}


class RowReader:
    """Reads the rows of a block in order, table after table. Several readers can share a file.

    Each row is checked: what a write would refuse, and a row of another user than those of the block, raises
    InvalidContent or LimitExceeded with the number of its line.
    """

    def __init__(
        self,
        file: BinaryIO,
        block: Block,
        settings: Settings,
        users: frozenset[str] | None = None,
        tables: Collection[str] = TABLES,
    ) -> None:
        """Start at the beginning of a block.

        `users` are the only users that it may have; None allows all. `tables` are the tables that it may have; the
        rows of vectors are skipped if they are not among them.
        """
        self.position = block.start
        self._file = file
        self._settings = settings
        self._allowed = users
        self._tables = tables
        self._lines = self._read_lines(block.start, block.stop)
        self._line = next(self._lines)
        self._users: set[bytes] = set()
        self._table_start = block.start
        # By the table of the parts and their key.
        self._expected: dict[tuple[str, tuple[bytes, ...]], _Expected] = {}
        self._contents = Contents(settings)
        self._values = CheckpointValues(settings)

    def tables(self) -> Iterator[tuple[str, list[str]]]:
        """Yield each table whose rows come next, with its columns. The caller reads them by :meth:`rows`.

        Raises:
            InvalidContent: see :meth:`table` and :meth:`columns`; or the file may not have the table.
        """
        while (name := self.table()) is not None:
            if name in self._tables:
                yield name, self.columns(name)
            elif name == VECTORS:
                self.skip(name)
            else:
                raise self.fail(f"a row of the table {name!r}, which the header does not name")

    def table(self) -> str | None:
        """Return the table of the next row, or None at the end of the block.

        Raises:
            InvalidContent: the line is not a row, or at the end of the block, a session has fewer messages than its
                row says, and so for memories and workspaces.
        """
        if self._line.startswith(b'{"end":'):
            for (part, key), expected in self._expected.items():
                if expected.rows:
                    raise self._fail(expected.position, _wrong_count(part, key, 0, expected))
            try:
                self._contents.end()
                self._values.finish()
            except (InvalidContent, LimitExceeded) as error:
                raise self._fail(self.position, error) from error
            return None
        at = self._line.find(b'":{', 0, 100)
        if at < 0 or not self._line.startswith(b'{"') or not self._line.endswith(b"}}"):
            raise self._fail(self.position, InvalidContent("the line is not a row"))
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
            reason = f"the table {name!r} has no column {unknown[0]!r} in this release"
            raise self._fail(self.position, InvalidContent(reason))
        return columns

    def fail(self, reason: str) -> InvalidContent:
        """Return an error about the next row."""
        return InvalidContent(str(self._fail(self.position, InvalidContent(reason))))

    def refused(self, error: Exception, row: int | None = None) -> InvalidContent:
        """Return the error for a row that cannot be stored: number `row` of its table, or the one that COPY names."""
        found = re.search(r"COPY \w+, line ([0-9]+)", getattr(error.__cause__, "context", None) or "")
        row = int(found[1]) if found else row
        line = lines.number_of_line(self._file, self._table_start if row else self.position)
        place = f"line {line + row - 1}" if row else f"before line {line}"
        return InvalidContent(f"{place}: the row cannot be stored: {error}")

    def user_ids(self) -> list[str]:
        """Read the rows of users, if they come next, and return their ids."""
        ids: list[str] = []
        while self.table() == "users":
            head, _ = self._cut("users")
            try:
                checks.check_values("users", head, self._settings)
            except AgentStoreError as error:
                raise self._fail(self.position, error) from error
            ids.append(head.get("id", ""))
            self._next()
        return ids

    def skip(self, name: str) -> None:
        """Skip the rows of a table."""
        while self.table() == name:
            self._next()

    async def rows(self, name: str, columns: Sequence[str]) -> AsyncIterator[bytes]:
        """Yield the rows of a table in the text format of COPY, several at a time.

        Raises:
            InvalidContent, LimitExceeded: a line is not a row, or a write would refuse the row.
        """
        self._table_start = self.position
        settings = self._settings
        prefix = f'{{"{name}":'.encode()
        names = list(columns)
        places = {each: place for place, each in enumerate(names)}
        usual = checks.usual_row(name, tuple(columns), settings.max_id_bytes)
        has_owner = name != transfer.APP_VALUES
        if not has_owner and self._allowed is not None:
            raise self.fail("values of an application, which belong to no user that the file may have")
        owner = places.get("id" if name == "users" else "user_id" if has_owner else "app", -1)
        is_message = name in _MESSAGES
        id_place, kind_place = places.get("id", -1), places.get("kind", -1)
        parts = _PARTS.get(name)
        part_places = [places[each] for each in parts.part_key if each in places] if parts is not None else []
        number_place = places.get(parts.number, -1) if parts is not None else -1
        if owner < 0 or (is_message and id_place < 0) or (parts is not None and number_place < 0):
            raise self.fail(f"a row of {name} lacks a column of its key")
        messages = checks.Messages(name, settings, self._fail)
        written: list[bytes] = []
        size = 0
        known_user: bytes | None = None
        key: tuple[bytes, ...] | None = None
        count = number = 0
        expected = _NOTHING
        while self._line.startswith(prefix):
            last: bytes | None
            found = usual.match(self._line, len(prefix))
            values: dict[str, Any] | None = None
            if found is not None:
                fields = raw = found.groups(_NULL)
                last = self._line[found.end() : -2]
            else:
                values, last = self._cut(name)
                if [*values, *names[len(values) :]] != names or len(names) - len(values) != (last is not None):
                    raise self.fail(f"a row of {name} has different columns than the row before it")
                self._check(name, values)
                fields = tuple(map(_field, values.values()))
                raw = tuple(map(_raw, values.values()))
            if has_owner and raw[owner] != known_user:
                known_user = raw[owner]
                self._check_user(name, known_user)
            if name in _OWNERS:
                self._expect(name, dict(zip(names, raw, strict=False)))
            if parts is not None:
                part_key = tuple([raw[place] for place in part_places])
                if part_key != key:
                    if key is not None and count != expected.rows:
                        raise self._fail(self.position, _wrong_count(name, key, count, expected))
                    key, count, number = part_key, 0, 0
                    expected = self._expected.pop((name, key), _NOTHING)
                previous, number, count = number, int(raw[number_place]), count + 1
                if not previous < number <= expected.last:
                    reason = f"{parts.number} is {number}, expected one from {previous + 1} to {expected.last}"
                    raise self._fail(self.position, InvalidContent(f"{_shown(name, part_key)}: {reason}"))
            if last is not None:
                if is_message:
                    is_item = kind_place >= 0 and raw[kind_place] != b"message"
                    if is_item or found is None or not checks.is_plain_message(last, raw[id_place], settings):
                        kind = raw[kind_place].decode() if is_item else MESSAGE
                        messages.add(self.position, last, raw[id_place].decode(errors="replace"), kind)
                else:
                    await self._check_payload(name, values or {}, last)
                fields = (*fields, _json(last))
            written.append(b"\t".join(fields))
            size += len(self._line)
            self._next()
            if size >= _CHUNK:
                await messages.check()
                yield b"\n".join(written) + b"\n"
                written, size = [], 0
        if key is not None and count != expected.rows:
            raise self._fail(self.position, _wrong_count(name, key, count, expected))
        if written:
            await messages.check()
            yield b"\n".join(written) + b"\n"

    def _check(self, name: str, values: dict[str, Any]) -> None:
        try:
            checks.check_values(name, values, self._settings)
            if name == "blob_chunks":
                self._contents.add_chunk(values)
            elif name == "blobs":
                self._contents.add_blob(values)
            elif name == "checkpoint_values":
                self._values.add(values)
            elif name in ("checkpoints", "checkpoint_writes"):
                check_packed(values, self._settings)
            if name != "checkpoint_values":
                self._values.finish()
        except AgentStoreError as error:
            raise self._fail(self.position, error) from error

    async def _check_payload(self, name: str, values: dict[str, Any], payload: bytes) -> None:
        try:
            await checks.check_payload(name, values, payload, self._settings)
        except AgentStoreError as error:
            raise self._fail(self.position, error) from error

    def _check_user(self, name: str, user: bytes) -> None:
        if name == "users":
            id = user.decode()
            if self._allowed is not None and id not in self._allowed:
                reason = f"a row of user {shortened(id)}, whom the header does not name, or who is not allowed"
                raise self._fail(self.position, InvalidContent(reason))
            self._users.add(user)
        elif user not in self._users:
            shown = shortened(user.decode(errors="replace"))
            raise self._fail(self.position, InvalidContent(f"a row of user {shown}, whose block this is not"))

    def _expect(self, name: str, raw: dict[str, bytes]) -> None:
        """Remember how many parts the row says that it has."""
        part, parts = _OWNERS[name]
        key = tuple(raw.get(each, b"") for each in parts.key)
        # A file may lack columns of a later release.
        last = int(raw.get(parts.column, parts.difference)) - parts.difference
        removed = int(raw.get(parts.removed, 0)) if parts.removed is not None else 0
        if not 0 <= removed <= last:
            reason = f"{parts.column} must be at least {parts.difference}"
            raise self._fail(self.position, InvalidContent(reason + (f" + {parts.removed}" if removed else "")))
        self._expected[part, key] = _Expected(last, last - removed, self.position)

    def _cut(self, name: str) -> tuple[dict[str, Any], bytes | None]:
        """Return the plain values of the next row, and the unparsed payload, if it has one."""
        each, begin = self._line, len(name) + 4
        mark = _MARKS.get(name)
        # Within a string the quotes would be escaped, so the first match is the name of the column.
        at = -1 if mark is None else each.find(mark)
        try:
            if mark is None or at < 0:
                values, last = orjson.loads(each[begin:-1]), None
            else:
                values, last = orjson.loads(each[begin:at] + b"}"), each[at + len(mark) : -2]
        except ValueError as error:
            raise self.fail(f"the line is not a row: {error}") from error
        if not isinstance(values, dict):
            raise self.fail("the line is not a row")
        return values, last

    def _fail(self, position: int, error: AgentStoreError) -> AgentStoreError:
        """Return an error with the number of the line at a position."""
        return type(error)(f"line {lines.number_of_line(self._file, position)}: {error}")

    def _next(self) -> None:
        self.position += len(self._line) + 1
        self._line = next(self._lines, b"")

    def _read_lines(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the lines of a byte range, without line breaks. It seeks before each read, so a file can be shared."""
        unread = deque[bytes]()
        size, most = 0, checks.max_line(self._settings)
        while start < stop:
            self._file.seek(start)
            more = self._file.read(min(_CHUNK, stop - start))
            if not more:
                raise self._fail(start, InvalidContent("the file was truncated while it was read"))
            start += len(more)
            first, *others = more.split(b"\n")
            unread.append(first)
            size += len(first)
            if size > most:
                raise self._fail(start - len(more), LimitExceeded(f"the line has more than {most:,} bytes"))
            if others:
                yield b"".join(unread)
                unread.clear()
                unread.append(others.pop())
                size = len(unread[0])
                yield from others


def _wrong_count(part: str, key: tuple[bytes, ...], found: int, expected: _Expected) -> InvalidContent:
    columns = " - ".join(filter(None, (_PARTS[part].column, _PARTS[part].removed)))
    reason = f"the file has {found} rows, expected {expected.rows} by {columns} of {_PARTS[part].owner}"
    return InvalidContent(f"{_shown(part, key)}: {reason}")


def _shown(part: str, key: tuple[bytes, ...]) -> str:
    """Return the name of a group of rows for an error message."""
    values = [shortened(each.decode(errors="replace")) for each in key]
    return f"{part} of " + ", ".join(
        f"{name} {value}" for name, value in zip(_PARTS[part].part_key, values, strict=True)
    )


def _raw(value: Any) -> bytes:
    """Return a value of a row for comparison."""
    if isinstance(value, str):
        return value.encode(errors="replace")
    return _NULL if value is None else str(value).encode()


def _field(value: Any) -> bytes:
    """Return a value of a row in the text format of COPY."""
    if value is None:
        return _NULL
    if type(value) is str:
        encoded = value.encode()
        for character, escape in _ESCAPES:
            if character in encoded:
                encoded = encoded.replace(character, escape)
        return encoded
    if value is True or value is False:
        return b"t" if value else b"f"
    if isinstance(value, list):
        quoted = [each.replace("\\", "\\\\").replace('"', '\\"') for each in value]
        return _field("{" + ",".join(f'"{each}"' for each in quoted) + "}")
    return repr(value).encode()


def _json(text: bytes) -> bytes:
    if text == b"null":
        return _NULL
    text = text.replace(b"\\", b"\\\\") if b"\\" in text else text
    return text.replace(b"\t", b"\\t") if b"\t" in text else text
