"""Large JSON, encoded and decoded in pieces.

A parser or an encoder in C holds the interpreter's lock until it returns: for a value of ten million numbers, every
other thread, and so the event loop, waits for a second. Here each call takes a piece of bounded size, and other threads
run in between. That takes two to five times as long as one call: see :mod:`agentstore.offload`.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import pydantic_core
from pydantic import BaseModel

LARGE = 1_000_000
"""Characters of a JSON text, or the size of a value as of :func:`size_of`, from which it takes several pieces."""
# Characters that are decoded by one call, and the size as of is_large that is encoded by one call.
_PIECE = 50_000
_SHORT = 1_000
# What a value in a container counts for: about the time that its encoding takes, in characters of a string.
_VALUE = 8
_MANY, _VISITED = 100_000, 15
_SCALARS = frozenset({int, float, bool, type(None)})
_LEAVES = _SCALARS | {str}
_SPACE = re.compile(r"[ \t\n\r]*")
_decode = json.JSONDecoder().raw_decode


def size_of(value: object, most: int) -> int:
    """Return about how many characters the JSON of a value has: those of its strings, and eight for each other value.

    Takes time proportional to `most` at most; the size of a larger value is some number above `most`.
    """
    size = 0
    stack = [value]
    while stack:
        each = stack.pop()
        kind = type(each)
        if kind is str:
            size += len(each)  # type: ignore[arg-type]
        elif kind is dict or kind is list or kind is tuple:
            size += _VALUE * len(each)  # type: ignore[arg-type]
            if size > most:
                return size
            values: Iterable[object] = each.values() if isinstance(each, dict) else each  # type: ignore[assignment]
            stack += [inner for inner in values if type(inner) not in _SCALARS]
        elif isinstance(each, BaseModel):
            stack += [inner for inner in each.__dict__.values() if type(inner) not in _SCALARS]
            if each.__pydantic_extra__:
                stack.append(each.__pydantic_extra__)
        elif isinstance(each, Mapping):
            stack.append(dict(each))
        if size > most:
            return size
    return size


def is_large(value: object, most: int = LARGE) -> bool:
    """Return whether the size of a value, as of :func:`size_of`, is over `most`."""
    return size_of(value, most) > most


def has_large_container(value: object) -> bool:
    """Return whether a container of more than 100,000 entries is among the first fifteen, breadth first."""
    queue = [value]
    for each in queue:
        if isinstance(each, (dict, list, tuple)):
            if len(each) > _MANY:
                return True
            room = _VISITED - len(queue)
            if room > 0:
                values = islice(each.values() if isinstance(each, dict) else each, room)
                queue += [inner for inner in values if type(inner) not in _LEAVES]
    return False


def dumps(value: Any, encode: Callable[[Any], str]) -> str:
    """Encode a value; `encode` encodes those parts that are not large, to JSON texts without leading white space."""
    return "".join(_encoded(value, encode))


def _encoded(value: Any, encode: Callable[[Any], str]) -> Iterator[str]:
    if not isinstance(value, (dict, list, tuple)) or not is_large(value, _PIECE):
        yield encode(value)
        return
    is_dict = isinstance(value, dict)
    separator = opening = "{" if is_dict else "["
    entries: Iterator[Any] = iter(value.items() if isinstance(value, dict) else value)
    size = max(1, min(len(value), _PIECE // _VALUE))
    while run := list(islice(entries, size)):
        for part in _parts_of(run, is_dict=is_dict):
            yield separator
            separator = ","
            if len(part) > 1:
                yield encode(dict(part) if is_dict else part)[1:-1]
            elif is_dict:
                ((key, inner),) = part
                yield f"{encode(key)}:"
                yield from _encoded(inner, encode)
            else:
                yield from _encoded(part[0], encode)
    yield opening.translate({ord("{"): "}", ord("["): "]"})


def _parts_of(run: list[Any], *, is_dict: bool) -> Iterator[list[Any]]:
    """Divide a run of entries until each part is not large, or is one entry."""
    if len(run) == 1 or not is_large(run, 2 * _PIECE if is_dict else _PIECE):
        yield run
        return
    middle = len(run) // 2
    yield from _parts_of(run[:middle], is_dict=is_dict)
    yield from _parts_of(run[middle:], is_dict=is_dict)


def loads(text: str | bytes) -> Any:
    """Decode a JSON text, and accept what the standard library's parser accepts.

    Raises:
        ValueError: it is not valid.
        RecursionError: it is nested too deeply.
    """
    text = text if isinstance(text, str) else bytes(text).decode()
    value, end = _decode_value(text, _skip(text, 0))
    if _skip(text, end) != len(text):
        raise json.JSONDecodeError("Extra data", text[end : end + _SHORT], 0)
    return value


def _decode_value(text: str, at: int) -> tuple[Any, int]:
    """Decode the value that begins at a position; return it and the position of its end."""
    if not text.startswith(("[", "{"), at):
        return _decode(text, at)
    for size in (_SHORT, _PIECE):
        try:
            value, length = _decode(text[at : at + size])
        except ValueError:
            continue  # it ends beyond, or is not valid
        return value, at + length
    return _decode_array(text, at) if text.startswith("[", at) else _decode_object(text, at)


def _decode_array(text: str, at: int) -> tuple[list[Any], int]:
    found: list[Any] = []
    at = _skip(text, at + 1)
    if text.startswith("]", at):
        return found, at + 1
    retry_at = at
    while True:
        if at >= retry_at:
            run, at = _decode_run(text, at, "[", "]")
            if run is not None:
                found += run
                retry_at = at = _skip(text, at)
                continue
            retry_at = at + _PIECE
        value, at = _decode_value(text, at)
        found.append(value)
        at, is_last = _end_of_entry(text, at, "]")
        if is_last:
            return found, at


def _decode_object(text: str, at: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    at = _skip(text, at + 1)
    if text.startswith("}", at):
        return found, at + 1
    retry_at = at
    while True:
        if at >= retry_at:
            run, at = _decode_run(text, at, "{", "}")
            if run is not None:
                found.update(run)
                retry_at = at = _skip(text, at)
                continue
            retry_at = at + _PIECE
        if not text.startswith('"', at):
            raise json.JSONDecodeError("Expecting a key", text[at : at + _SHORT], 0)
        key, at = _decode(text, at)
        at = _skip(text, at)
        if not text.startswith(":", at):
            raise json.JSONDecodeError("Expecting ':'", text[at : at + _SHORT], 0)
        found[key], at = _decode_value(text, _skip(text, at + 1))
        at, is_last = _end_of_entry(text, at, "}")
        if is_last:
            return found, at


def _decode_run(text: str, at: int, opening: str, closing: str) -> tuple[Any, int]:
    """Decode as many whole entries of a container as end within a piece; return them and the position of the next.

    A cut in the middle of an entry leaves a string or a container open, or closes one too many: that is not valid JSON.
    Returns None, and the position unchanged, if no cut was found.
    """
    for separator in ("},", "],", ","):
        cut = text.rfind(separator, at, at + _PIECE) + len(separator) - 1
        if cut <= at:
            continue
        try:
            return pydantic_core.from_json(f"{opening}{text[at:cut]}{closing}", cache_strings="keys"), cut + 1
        except ValueError:
            continue
    return None, at


def _end_of_entry(text: str, at: int, closing: str) -> tuple[int, bool]:
    """Return the position after the comma or the end of the container that follows an entry, and which it is."""
    at = _skip(text, at)
    if text.startswith(",", at):
        return _skip(text, at + 1), False
    if text.startswith(closing, at):
        return at + 1, True
    raise json.JSONDecodeError(f"Expecting ',' or '{closing}'", text[at : at + _SHORT], 0)


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return at if found is None else found.end()
