"""Files of conversations, taken apart into their lines or elements: a piece at a time, whatever the file's size.

Nothing here knows what a conversation is. A piece that is not text, not JSON or too long becomes a :class:`Problem`
with its place, and the pieces after it are read all the same.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

import pydantic_core

_HEAD = 1 << 20
_CHUNK = 1 << 18
_BLANK = b" \t\r\n"
_STRUCTURE = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["\[\]{}]', re.DOTALL)
_IN_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_BETWEEN = re.compile(rb"[ \t\r\n]*,?[ \t\r\n]*")
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a part of a file was left out, and where it is: ``line 7``, ``element 7 (byte 1234)``; empty: all of it."""

    place: str
    reason: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A JSON value of a file, the number of bytes that it takes there, and its place."""

    place: str
    value: Any
    size: int


def read(stream: BinaryIO, *, most: int) -> Iterator[Piece | Problem]:
    """Take a file apart: JSON Lines, or one JSON document, of which the elements are the pieces if it is an array.

    No piece is longer than `most` bytes, and no more than that is held at a time.
    """
    head = stream.read(_HEAD)
    if refusal := _refusal(head):
        yield Problem("", refusal)
        return
    text = head.removeprefix(b"\xef\xbb\xbf")
    begun = text.lstrip(_BLANK)
    if begun[:1] == b"[" or _is_one_object(begun):
        pieces = _elements(_chunks(begun, stream), most, offset=len(head) - len(begun))
    else:
        pieces = _lines(_chunks(text, stream), most)
    found = False
    for each in pieces:
        found = True
        yield each
    if not found:
        yield Problem("", "it is empty: there is no conversation in it")


def _is_one_object(head: bytes) -> bool:
    """Whether a file begins with an object that has more than one line, and so is no JSON Lines."""
    first = head.partition(b"\n")[0].rstrip()
    if not head.startswith(b"{") or first == head.rstrip():
        return False
    depth = 0
    for found in _STRUCTURE.finditer(head):
        depth += {b"{": 1, b"[": 1, b"}": -1, b"]": -1}.get(found.group(), 0)
        if depth == 0:
            if found.end() <= len(first):
                return False
            try:
                _parse(head[: found.end()])
            except ValueError:
                return False
            return True
    return first == b"{" and len(head) > _HEAD // 2


def _refusal(head: bytes) -> str | None:
    """Say why a file that begins like this is no text, if it is none."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "it is UTF-16 and must be UTF-8: iconv -f UTF-16 -t UTF-8"
    if head.startswith(b"\x1f\x8b"):
        return "it is compressed: gzip -dc FILE | agentstore import -"
    if head.startswith(b"PK\x03\x04"):
        return "it is a ZIP archive: unpack it, and import the conversations.json or *.jsonl in it"
    if b"\0" in (first := head.partition(b"\n")[0][:4096]):
        return f"it is a binary file, with a NUL at byte {first.index(0)}, and not JSON"
    return None


def _chunks(head: bytes, stream: BinaryIO) -> Iterator[bytes]:
    yield from (head[start : start + _CHUNK] for start in range(0, len(head), _CHUNK))
    while chunk := stream.read(_CHUNK):
        yield chunk


def _lines(chunks: Iterator[bytes], most: int) -> Iterator[Piece | Problem]:
    number, line, length = 1, bytearray(), 0
    for chunk in chunks:
        start = 0
        while start < len(chunk):
            end = chunk.find(b"\n", start)
            part = chunk[start : end if end >= 0 else len(chunk)]
            length += len(part)
            if length <= most:
                line += part
            else:
                line.clear()
            if end < 0:
                break
            yield from _piece(f"line {number}", line, length, most)
            number, length, start = number + 1, 0, end + 1
            line.clear()
    yield from _piece(f"line {number}", line, length, most)


def _elements(chunks: Iterator[bytes], most: int, *, offset: int) -> Iterator[Piece | Problem]:
    """Yield the elements of an array, or the one value that a document is, which begins at `offset` in the file.

    Only strings and brackets are looked at, so an element with an error inside ends where it should.
    """
    data = next(chunks)
    outer = 1 if data[:1] == b"[" else 0
    data, offset = data[outer:], offset + outer
    depth, number, begin, length = outer, 1, offset, 0
    element, in_string = bytearray(), False
    while True:
        at = kept = 0  # how far `data` is looked at, and how far it is taken
        while at < len(data):
            if in_string:
                at = _IN_STRING.match(data, at).end()  # type: ignore[union-attr]
                if data[at : at + 1] != b'"':
                    break  # at the end, or at a backslash before it
                at, in_string = at + 1, False
                continue
            found = _STRUCTURE.search(data, at)
            if found is None:
                at = len(data)
                break
            at, token = found.end(), found.group()
            if token in (b"{", b"["):
                if depth == outer:
                    yield from _between(data[kept : at - 1], offset + kept)
                    begin, kept = offset + at - 1, at - 1
                depth += 1
            elif token in (b"}", b"]") and depth > outer:
                depth -= 1
                if depth == outer:
                    length += at - kept
                    if length <= most:
                        element += data[kept:at]
                    yield from _piece(f"element {number} (byte {begin})", element, length, most)
                    number, length, kept = number + 1, 0, at
                    element.clear()
            elif token == b"]" and outer:
                yield from _between(data[kept : at - 1], offset + kept)
                depth, outer, kept = 0, 0, at  # what comes after it is read, and will be something else
            elif token == b'"':
                in_string = True
        if depth > outer:
            length += at - kept
            element += data[kept:at]
            if length > most:
                element.clear()
        else:
            yield from _between(data[kept:at], offset + kept)
        offset, data = offset + at, data[at:]
        chunk = next(chunks, b"")
        if not chunk:
            break
        data += chunk
    if depth > outer:
        yield Problem(f"element {number} (byte {begin})", "the file ends in the middle of it")
    elif outer:
        yield Problem(f"byte {offset + len(data)}", "the file ends before its array does")


def _between(data: bytes, offset: int) -> Iterator[Problem]:
    if not _BETWEEN.fullmatch(data):
        begun = data.lstrip(_BLANK + b",")
        yield Problem(
            f"byte {offset + len(data) - len(begun)}", f"{_shown(begun.rstrip(_BLANK + b','))} is no conversation"
        )


def _piece(place: str, data: bytearray, length: int, most: int) -> Iterator[Piece | Problem]:
    if length > most:
        yield Problem(place, f"it has {length:,} bytes, {most:,} are allowed (twice AGENTSTORE_MAX_MESSAGE_BYTES)")
    elif data and not data.isspace():
        try:
            yield Piece(place, _parse(data), length)
        except ValueError as error:
            yield Problem(place, str(error))


def _parse(data: bytes | bytearray) -> Any:
    """Return the value of a JSON text.

    Raises:
        ValueError: it is none; the message says why.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8: byte 0x{data[error.start]:02x} at {error.start + 1}") from error
    try:
        return pydantic_core.from_json(text, allow_inf_nan=False)
    except ValueError as error:
        reason = f"it is not JSON: {error}"
        if not _SURROGATE.search(text):
            raise ValueError(reason) from error
    try:  # a lone surrogate, which pydantic's parser refuses and the standard library's does not
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ValueError(reason) from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _shown(data: bytes) -> str:
    text = data[:40].decode(errors="backslashreplace")
    return repr(text if len(data) <= 40 else f"{text}...")
