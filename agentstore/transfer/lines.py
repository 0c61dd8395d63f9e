"""The file format of exports: JSON Lines with checksums, and its verification.

The first line is the header, ``{"agentstore": "export", "version": 1, ...}``. Blocks follow: the rows of some users,
table by table, each row a line ``{"messages": {...}}`` whose last value is the row's payload as stored. A line
``{"end": {...}}`` ends a block, and holds the last of its users and the SHA-256 of the file up to that line. A line
``{"finished": {...}}`` ends the file. A file that is truncated or modified anywhere is therefore recognized.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

import orjson
from pydantic import BaseModel, NonNegativeInt, ValidationError

from agentstore.errors import InvalidContent, LimitExceeded
from agentstore.schemas.payload import shortened

VERSION = 1
_HEADER = b'{"agentstore":"export",'
_END = b'{"end":'
_FINISHED = b'{"finished":'
# More than the length of any line that is not a row.
_MAX_LINE = 100_000_000
_CHUNK = 1_000_000
# More than the length of the last line of a file.
_TAIL = 2_000


def is_export(beginning: bytes) -> bool:
    """Return whether a file with this beginning is an export."""
    return beginning.startswith(_HEADER)


def line(kind: str, value: dict[str, Any]) -> bytes:
    """Return a line that is not a row."""
    return orjson.dumps({kind: value}) + b"\n"


def header(**fields: Any) -> bytes:
    """Return the first line of a file."""
    return orjson.dumps({"agentstore": "export", "version": VERSION, **fields}) + b"\n"


class _Version(BaseModel):
    version: int


class Header(_Version):
    """The first line of a file."""

    revision: str
    """The revision of the schema."""
    database: str | None = None
    """Identifies the exported database; None if its server does not allow to read that."""
    users: list[str] | None = None
    """The users that the export is limited to; None exports all users."""
    tables: list[str]


class _End(BaseModel):
    user: str
    rows: dict[str, NonNegativeInt]
    sha256: str


class _Finished(BaseModel):
    rows: dict[str, NonNegativeInt]
    sha256: str


_Line = TypeVar("_Line", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Block:
    """The byte range of a block in the file, and the contents of its end line."""

    start: int
    stop: int
    last_user: str
    rows: dict[str, int]


@dataclass(frozen=True, slots=True)
class Verified:
    """The intact part of a file."""

    header: Header
    blocks: list[Block]
    stop: int
    """The position after the last intact block, or after the last line of a complete file."""
    finished: bool
    """Whether the file is complete."""
    digest: Any
    """The running SHA-256 of the file up to `stop`."""


def check_file(file: Any, *, writable: bool = False) -> None:
    """Validate that a file is open in binary mode, for reading or, with `writable`, for writing.

    Raises:
        InvalidContent: it is a path, open in text mode or not open so, or not a file at all.
    """
    mode = "wb" if writable else "rb"
    if isinstance(file, (str, os.PathLike)):
        raise InvalidContent(f"expected an open file, got the path {shortened(file)}: pass open(path, {mode!r})")
    if not hasattr(file, "write" if writable else "read"):
        raise InvalidContent(f"expected an open file or io.BytesIO, got {type(file).__name__}")
    if getattr(file, "closed", False):
        raise InvalidContent("the file is closed")
    if hasattr(file, "encoding"):
        raise InvalidContent(f"the file is open in text mode: open it in binary mode, as open(path, {mode!r})")
    allows = getattr(file, "writable" if writable else "readable", None)
    if allows is not None and not allows():
        raise InvalidContent(
            f"the file is not open for {'writing' if writable else 'reading'}: use open(path, {mode!r})"
        )


def verify(
    file: BinaryIO, *, max_line: int | None = None, tick: Callable[[int], None] = lambda position: None
) -> Verified:
    """Verify a file from its beginning; return its intact part: all of it, or as far as the end of its last block.

    `tick` is called with the position after each block. A line of more than about `max_line` bytes is refused.

    Raises:
        LimitExceeded: a line is too long.
        InvalidContent: it is not an export, is of a later version, or was modified: a checksum does not match. A file
            that is merely truncated is not an error, unless its first line is.
    """
    file.seek(0)
    if not is_export(file.read(len(_HEADER))):
        raise InvalidContent("the file is not an export of agentstore")
    file.seek(0)
    first = file.readline(_MAX_LINE)
    if not first.endswith(b"\n"):
        raise InvalidContent("the file is truncated in its first line")
    try:
        version = _parse(first, _Version).version
        head = _parse(first, Header) if version == VERSION else None
    except InvalidContent as error:
        raise InvalidContent(f"line 1: {error}") from error
    if head is None:
        raise InvalidContent(f"the file has format version {version}, this release reads version {VERSION}")
    running = hashlib.sha256(first)
    blocks: list[Block] = []
    start = stop = len(first)
    digest = running.copy()
    finished = False
    for position, each, before in _end_lines(file, len(first), running, max_line):
        finished = each.startswith(_FINISHED)
        end: _End | _Finished
        try:
            if finished:
                end = _parse(each[len(_FINISHED) : -2], _Finished)
            else:
                end = _parse(each[len(_END) : -2], _End)
                blocks.append(Block(start, position + len(each), end.user, end.rows))
            if end.sha256 != before:
                raise InvalidContent("the file was changed before this line, or is damaged")
        except InvalidContent as error:
            raise InvalidContent(f"line {number_of_line(file, position)}: {error}") from error
        start = stop = position + len(each)
        digest = running.copy()
        tick(stop)
        if finished and file.seek(0, os.SEEK_END) > stop:
            raise InvalidContent(
                f"line {number_of_line(file, stop)}: unexpected data after the last line of the export"
            )
    return Verified(head, blocks, stop, finished, digest)


def _end_lines(file: BinaryIO, position: int, running: Any, max_line: int | None) -> Iterator[tuple[int, bytes, str]]:
    """Yield the lines that are not rows: the position, the line, and the SHA-256 of everything before it.

    `running` is updated with all that is read, from `position` on. Rows are not separated from each other, which would
    take longer than everything else. The line that ends a file is searched for only after an end line, and at the end.
    """
    unread = b""
    begins = True  # whether `unread` starts at the beginning of a line
    is_last = False
    begin_of_line = at = position
    while True:
        if begins and unread.startswith((_END, _FINISHED)):
            begin = 0
        else:
            found = [unread.find(b"\n" + _END), unread.find(b"\n" + _FINISHED) if is_last else -1]
            begin = min((place + 1 for place in found if place >= 0), default=len(unread))
        end = unread.find(b"\n", begin)
        if end >= 0:
            running.update(unread[:begin])
            before = running.hexdigest()
            each = unread[begin : end + 1]
            running.update(each)
            yield position + begin, each, before
            position += end + 1
            unread = unread[end + 1 :]
            begins = True
            continue
        if begin == len(unread):
            seen = max(0, len(unread) - _TAIL)
            running.update(unread[:seen])
            position += seen
            unread = unread[seen:]
            begins = begins and not seen
        more = file.read(_CHUNK) if len(unread) < _MAX_LINE else b""
        if not more:
            return
        is_last = len(more) < _CHUNK
        if max_line is not None:
            # Only a line that begins in an earlier chunk can be too long.
            end = more.find(b"\n")
            if at + (end if end >= 0 else len(more)) - begin_of_line > max_line:
                number = number_of_line(file, begin_of_line)
                raise LimitExceeded(f"line {number}: the line has more than {max_line:,} bytes")
            at += len(more)
            begin_of_line = at - (len(more) - more.rfind(b"\n") - 1) if end >= 0 else begin_of_line
        unread += more


def number_of_line(file: BinaryIO, position: int) -> int:
    """Return the number of the line that begins at a position."""
    file.seek(0)
    count = 1
    while position > 0 and (part := file.read(min(_CHUNK, position))):
        position -= len(part)
        count += part.count(b"\n")
    return count


def _parse(text: bytes, kind: type[_Line]) -> _Line:
    """Parse the contents of a line that is not a row."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, wrong["loc"]))
        raise InvalidContent(f"{place + ': ' if place else ''}{wrong['msg']}") from error
