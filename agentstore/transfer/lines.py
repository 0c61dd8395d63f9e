"""The form of an export: JSON Lines, and how one is found to be whole.

The first line says what the file is, ``{"agentstore": "export", "version": 1, ...}``. Then come blocks: the rows of
some users, table by table, each row a line ``{"messages": {...}}`` that ends with the row's payload as it is stored.
A line ``{"end": {...}}`` ends a block, and says the last of its users and the SHA-256 of the file up to it; a line
``{"finished": {...}}`` ends the file. So a file that was cut off or changed, anywhere, is known for it.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

import orjson
from pydantic import BaseModel, NonNegativeInt, ValidationError

from agentstore.errors import InvalidContent

VERSION = 1
_BEGINNING = b'{"agentstore":"export",'
_END = b'{"end":'
_FINISHED = b'{"finished":'
# Longer than any line that is no row.
_LONGEST = 100_000_000
_AT_ONCE = 1_000_000
# More than the line that ends a file has.
_TAIL = 2_000


def is_export(beginning: bytes) -> bool:
    """Whether a file that begins so is an export."""
    return beginning.startswith(_BEGINNING)


def line(kind: str, value: dict[str, Any]) -> bytes:
    """Return a line that is no row."""
    return orjson.dumps({kind: value}) + b"\n"


def header(**fields: Any) -> bytes:
    """Return the first line of a file."""
    return orjson.dumps({"agentstore": "export", "version": VERSION, **fields}) + b"\n"


class _Version(BaseModel):
    version: int


class Header(_Version):
    """The first line of a file."""

    revision: str
    """The schema's."""
    database: str | None = None
    """What tells the database that is exported from others."""
    users: list[str] | None = None
    """Those that were asked for; None is everybody."""
    tables: list[str]


class _End(BaseModel):
    user: str
    rows: dict[str, NonNegativeInt]
    sha256: str


class _Finished(BaseModel):
    rows: dict[str, NonNegativeInt]
    sha256: str


_Said = TypeVar("_Said", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Block:
    """Where a block is in the file, and what its end says."""

    start: int
    stop: int
    last_user: str
    rows: dict[str, int]


@dataclass(frozen=True, slots=True)
class Checked:
    """A file as far as it is whole: what its header says, its blocks, and where what follows them begins."""

    header: Header
    blocks: list[Block]
    stop: int
    finished: bool
    digest: Any
    """The running SHA-256 of the file up to `stop`."""


def check(file: BinaryIO, *, tick: Callable[[int], None] = lambda position: None) -> Checked:
    """Read a file from its beginning, and return how far it is whole: to the end, or to the end of its last block.

    Raises:
        InvalidContent: it is no export, of a later version, or changed since it was written: what its lines say of it
            does not fit. The end of a file that was only cut off is not changed.
    """
    file.seek(0)
    if not is_export(file.read(len(_BEGINNING))):
        raise InvalidContent("it is no export of agentstore")
    file.seek(0)
    first = file.readline(_LONGEST)
    if not first.endswith(b"\n"):
        raise InvalidContent("it was cut off in its first line")
    try:
        version = _said(first, _Version).version
        head = _said(first, Header) if version == VERSION else None
    except InvalidContent as error:
        raise InvalidContent(f"line 1: {error}") from error
    if head is None:
        raise InvalidContent(f"it is of version {version}, and this release reads version {VERSION}")
    running = hashlib.sha256(first)
    blocks: list[Block] = []
    start = stop = len(first)
    digest = running.copy()
    finished = False
    for position, each, before in _ends(file, len(first), running):
        finished = each.startswith(_FINISHED)
        said: _End | _Finished
        try:
            if finished:
                said = _said(each[len(_FINISHED) : -2], _Finished)
            else:
                said = _said(each[len(_END) : -2], _End)
                blocks.append(Block(start, position + len(each), said.user, said.rows))
            if said.sha256 != before:
                raise InvalidContent("the file was changed before it, or is damaged")
        except InvalidContent as error:
            raise InvalidContent(f"line {_number(file, position)}: {error}") from error
        start = stop = position + len(each)
        digest = running.copy()
        tick(stop)
        if finished and file.seek(0, os.SEEK_END) > stop:
            raise InvalidContent(f"line {_number(file, stop)}: something follows the end of the file")
    return Checked(head, blocks, stop, finished, digest)


def _ends(file: BinaryIO, position: int, running: Any) -> Iterator[tuple[int, bytes, str]]:
    """Yield where each line begins that is no row, the line, and the SHA-256 of what is before it.

    `running` takes up all that is read, from `position` on. Rows are not told from each other here, which takes longer
    than anything else. What ends the file is looked for where another such line has ended, and at the end.
    """
    unread = b""
    begins = True  # whether a line begins where `unread` does
    is_last = False
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
        more = file.read(_AT_ONCE) if len(unread) < _LONGEST else b""
        if not more:
            return
        is_last = len(more) < _AT_ONCE
        unread += more


def _number(file: BinaryIO, position: int) -> int:
    """Return which line begins there."""
    file.seek(0)
    count = 1
    while position > 0 and (part := file.read(min(_AT_ONCE, position))):
        position -= len(part)
        count += part.count(b"\n")
    return count


def _said(text: bytes, kind: type[_Said]) -> _Said:
    """Return what a line that is no row says."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, wrong["loc"]))
        raise InvalidContent(f"{place + ': ' if place else ''}{wrong['msg']}") from error
