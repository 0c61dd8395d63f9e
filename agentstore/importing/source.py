"""Split a file into JSON values, one at a time, whatever its size.

A file is JSON Lines, or one JSON document, of which the elements are read one by one if it is an array. A value that
is not UTF-8, not JSON or too long becomes a :class:`Note` with its place, and reading continues after it.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

import pydantic_core

from agentstore.importing.notes import Note
from agentstore.transfer.lines import is_export

_TOO_DEEP, _TOO_LARGE = "recursion limit", "number out of range"
_MAX_DIGITS = 4_300
_HEAD = 1 << 20  # the number of bytes from which the format is detected
_CHUNK = 1 << 18
_WHITESPACE = b" \t\r\n"
_STRUCTURE = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["\[\]{}]', re.DOTALL)
_IN_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_BETWEEN = re.compile(rb"[ \t\r\n]*,?[ \t\r\n]*")
# The beginning of an array of messages, up to a field that a message has.
_MESSAGE = re.compile(rb'\[\s*+\{[^{}]{0,1000}?"(?:role|from)"\s*+:')
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


EMPTY = "empty: the file has no conversations"
"""The reason of the note on a file without values."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A JSON value, its place in the file, and its size in bytes."""

    place: str
    value: Any
    size: int


def read(stream: BinaryIO, *, max_bytes: int, is_lines: bool = False) -> Iterator[Piece | Note]:
    """Yield the lines of JSON Lines, the elements of a JSON array, or a single JSON value.

    A value of more than `max_bytes` bytes is a problem. No more than that is held in memory. `is_lines` says that the
    name of the file is one of JSON Lines: a single line with an array of messages is then one value, instead of a
    document whose elements are yielded.
    """
    head = stream.read(_HEAD)
    if reason := _detect_other_format(head):
        yield Note("", reason)
        return
    text = head.removeprefix(b"\xef\xbb\xbf")
    start = text.lstrip(_WHITESPACE)
    if _is_one_object(start) or (start[:1] == b"[" and not _has_arrays_as_lines(start, is_lines)):
        pieces = _elements(_chunks(start, stream), max_bytes, offset=len(head) - len(start))
    else:
        pieces = _lines(_chunks(text, stream), max_bytes)
    found = False
    for each in pieces:
        found = True
        yield each
    if not found:
        yield Note("", EMPTY)


def _has_arrays_as_lines(head: bytes, is_lines: bool) -> bool:
    """Return whether a file that begins with an array is JSON Lines with an array of messages on each line."""
    line, _, rest = head.partition(b"\n")
    line, rest = line.strip(_WHITESPACE), rest.lstrip(_WHITESPACE)
    if not rest:
        return is_lines and _has_messages(line)
    if is_lines and rest.startswith(b"[") and not line.endswith((b"[", b",")):
        return _has_messages(line) or _has_messages(rest.partition(b"\n")[0])  # the first line may not be valid
    return rest[:1] in (b"[", b"{") and line.endswith(b"]") and _has_messages(line)


def _has_messages(line: bytes) -> bool:
    """Return whether an array begins with a message; of one that is not valid, whether it seems to."""
    try:
        value = _parse(line)
    except ValueError:
        return _MESSAGE.match(line) is not None
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and ("role" in first or "from" in first)


def _is_json(text: bytes) -> bool:
    try:
        _parse(text)
    except ValueError:
        return False
    return True


def _is_one_object(head: bytes) -> bool:
    """Return whether a file begins with an object over several lines, and therefore is not JSON Lines."""
    first = head.partition(b"\n")[0].rstrip()
    if not head.startswith(b"{") or first == head.rstrip():
        return False
    depth = 0
    for found in _STRUCTURE.finditer(head):
        depth += {b"{": 1, b"[": 1, b"}": -1, b"]": -1}.get(found.group(), 0)
        if depth == 0:
            if found.end() <= len(first):
                return False
            return _is_json(head[: found.end()])
    return first == b"{" and len(head) > _HEAD // 2


def _detect_other_format(head: bytes) -> str | None:
    """Return why a file that begins with `head` cannot be read, or None if it may be JSON."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16 is not supported; convert the file with iconv -f UTF-16 -t UTF-8"
    if head.startswith(b"\x1f\x8b"):
        return "the data is compressed twice; use gzip -dc FILE | agentstore import -"
    if is_export(head):
        return "an export of agentstore, which is imported by itself: pass the file, neither compressed nor in a folder"
    if head.startswith(b"PK\x03\x04"):
        return "a ZIP archive that is truncated, or not a file; pass the complete archive by its name"
    if b"\0" in (first := head.partition(b"\n")[0][:4096]):
        return f"not JSON: binary file, with a NUL at byte {first.index(0)}"
    return None


def _chunks(head: bytes, stream: BinaryIO) -> Iterator[bytes]:
    yield from (head[start : start + _CHUNK] for start in range(0, len(head), _CHUNK))
    while chunk := stream.read(_CHUNK):
        yield chunk


def _lines(chunks: Iterator[bytes], max_bytes: int) -> Iterator[Piece | Note]:
    number, line, length = 1, bytearray(), 0
    for chunk in chunks:
        start = 0
        while start < len(chunk):
            end = chunk.find(b"\n", start)
            part = chunk[start : end if end >= 0 else len(chunk)]
            length += len(part)
            if length <= max_bytes:
                line += part
            else:
                line.clear()
            if end < 0:
                break
            yield from _piece(f"line {number}", line, length, max_bytes)
            number, length, start = number + 1, 0, end + 1
            line.clear()
    yield from _piece(f"line {number}", line, length, max_bytes)


def _elements(chunks: Iterator[bytes], max_bytes: int, *, offset: int) -> Iterator[Piece | Note]:
    """Yield the elements of an array, or the single value of a document that begins at `offset` in the file.

    Only strings and brackets are scanned, so a syntax error within an element does not affect where it ends.
    """
    data = next(chunks)
    outer = 1 if data[:1] == b"[" else 0
    data, offset = data[outer:], offset + outer
    depth, number, begin, length = outer, 1, offset, 0
    element, in_string = bytearray(), False
    while True:
        at = taken = 0  # up to where `data` is scanned, and up to where it is consumed
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
                    yield from _between(data[taken : at - 1], offset + taken)
                    begin, taken = offset + at - 1, at - 1
                depth += 1
            elif token in (b"}", b"]") and depth > outer:
                depth -= 1
                if depth == outer:
                    length += at - taken
                    if length <= max_bytes:
                        element += data[taken:at]
                    yield from _piece(f"element {number} (byte {begin})", element, length, max_bytes)
                    number, length, taken = number + 1, 0, at
                    element.clear()
            elif token == b"]" and outer:
                yield from _between(data[taken : at - 1], offset + taken)
                depth, outer, taken = 0, 0, at  # whatever follows the array is reported by _between
            elif token == b'"':
                in_string = True
        if depth > outer:
            length += at - taken
            element += data[taken:at]
            if length > max_bytes:
                element.clear()
        else:
            yield from _between(data[taken:at], offset + taken)
        offset, data = offset + at, data[at:]
        chunk = next(chunks, b"")
        if not chunk:
            break
        data += chunk
    if depth > outer:
        yield Note(f"element {number} (byte {begin})", "truncated: the file ends inside this element")
    elif outer:
        yield Note(f"byte {offset + len(data)}", "truncated: the file ends before its array does")


def _between(data: bytes, offset: int) -> Iterator[Note]:
    if not _BETWEEN.fullmatch(data):
        rest = data.lstrip(_WHITESPACE + b",")
        yield Note(
            f"byte {offset + len(data) - len(rest)}",
            f"expected a conversation, got {_shorten(rest.rstrip(_WHITESPACE + b','))}",
        )


def _piece(place: str, data: bytearray, length: int, max_bytes: int) -> Iterator[Piece | Note]:
    if length > max_bytes:
        yield Note(place, f"{length:,} bytes exceed the limit of {max_bytes:,} (twice AGENTSTORE_MAX_MESSAGE_BYTES)")
    elif data and not data.isspace():
        try:
            yield Piece(place, _parse(data), length)
        except ValueError as error:
            yield Note(place, str(error))


def _parse(data: bytes | bytearray) -> Any:
    """Parse a JSON text.

    Raises:
        ValueError: it is not UTF-8 or not JSON; the message gives the reason.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: byte 0x{data[error.start]:02x} at {error.start + 1}") from error
    try:
        return pydantic_core.from_json(text, allow_inf_nan=False)
    except ValueError as error:
        reason = f"not JSON: {error}"
        if not _SURROGATE.search(text) and _TOO_DEEP not in reason and _TOO_LARGE not in reason:
            raise ValueError(reason) from error
    try:
        # Pydantic's parser refuses lone surrogates, more than 200 levels and integers of more than 4,300 digits. Here
        # they are accepted, so that only the message is skipped that has one.
        return json.loads(text, parse_constant=_reject_constant, parse_int=_parse_int)
    except (ValueError, RecursionError) as error:
        raise ValueError(reason) from error


def _parse_int(digits: str) -> int | float:
    """Return an integer, or infinity for one of so many digits that Python does not convert it."""
    return int(digits) if len(digits) <= _MAX_DIGITS else float(digits)


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _shorten(data: bytes) -> str:
    text = data[:40].decode(errors="backslashreplace")
    return repr(text if len(data) <= 40 else f"{text}...")
