"""The form of an export: JSON Lines, and how one is found to be whole.

The first line says what the file is, ``{"agentstore": "export", "version": 1, ...}``. Then come blocks: the rows of
some users, table by table, each row a line ``{"messages": {...}}`` that ends with the row's payload as it is stored.
A line ``{"end": {...}}`` ends a block, and says the last of its users and the SHA-256 of the file up to it; a line
``{"finished": {...}}`` ends the file. So a file that was cut off or changed, anywhere, is known for it.
"""

import hashlib
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
# More than any row is: a state of 64 MB, packed, in hexadecimal, and a message of 32 MB whose every byte is escaped.
_LONGEST = 400_000_000


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
    version = _said(first, _Version, "line 1").version
    if version != VERSION:
        raise InvalidContent(f"it is of version {version}, and this release reads version {VERSION}")
    head = _said(first, Header, "line 1")
    running = hashlib.sha256(first)
    blocks: list[Block] = []
    start = stop = len(first)
    digest = running.copy()
    finished = False
    number = 1
    position = start
    for each in _lines(file):
        number += 1
        if finished:
            raise InvalidContent(f"line {number}: something follows the end of the file")
        before = running.hexdigest() if each.startswith((_END, _FINISHED)) and each.endswith(b"\n") else None
        running.update(each)
        position += len(each)
        if before is None:
            continue
        finished = each.startswith(_FINISHED)
        said: _End | _Finished
        if finished:
            said = _said(each[len(_FINISHED) : -2], _Finished, f"line {number}")
        else:
            said = _said(each[len(_END) : -2], _End, f"line {number}")
            blocks.append(Block(start, position, said.user, said.rows))
        if said.sha256 != before:
            raise InvalidContent(f"line {number}: the file was changed before it, or is damaged")
        start = stop = position
        digest = running.copy()
        tick(position)
    return Checked(head, blocks, stop, finished, digest)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while each := file.readline(_LONGEST):
        yield each


def _said(text: bytes, kind: type[_Said], where: str) -> _Said:
    """Return what a line that is no row says."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, wrong["loc"]))
        raise InvalidContent(f"{where}: {place + ': ' if place else ''}{wrong['msg']}") from error
