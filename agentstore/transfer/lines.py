"""The form of an export: JSON Lines, and how one is found to be whole.

The first line says what the file is, ``{"agentstore": "export", "version": 1, ...}``. Then come blocks: the rows of
some users, table by table, each row a line ``{"messages": {...}}`` that ends with the row's payload as it is stored.
A line ``{"end": {...}}`` ends a block, and says the last of its users and the SHA-256 of the file up to it; a line
``{"finished": {...}}`` ends the file. So a file that was cut off or changed, anywhere, is known for it.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import orjson

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

    header: dict[str, Any]
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
    first = file.readline(1 << 20)
    if not is_export(first) or not first.endswith(b"\n"):
        raise InvalidContent("it is no export of agentstore")
    head = _value(first, "line 1")
    if head.get("version") != VERSION:
        raise InvalidContent(
            f"it is of version {head.get('version')!r}, and this release reads version {VERSION}: a later one is needed"
        )
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
        said = _value(each, f"line {number}").get("finished" if finished else "end")
        if not isinstance(said, dict) or said.get("sha256") != before:
            raise InvalidContent(f"line {number}: the file was changed before it, or is damaged")
        if not finished:
            blocks.append(Block(start, position, said["user"], said["rows"]))
        start = stop = position
        digest = running.copy()
        tick(position)
    return Checked(head, blocks, stop, finished, digest)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while each := file.readline(_LONGEST):
        yield each


def _value(text: bytes, where: str) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except ValueError as error:
        raise InvalidContent(f"{where}: it is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidContent(f"{where}: it is no object")
    return value
