"""JSON that comes back equal, or is refused before anything is written.

orjson is fast and not exact: it writes NaN as null and an ``Enum`` or a ``UUID`` as a string, and refuses
integers beyond 64 bits and lone surrogates, which JSON can carry. ``dumps`` lets it write what it writes
exactly and gives the rest to the standard library.

To find out what that is without looking at each value here, which takes ten times as long: it is not what marshal
refuses, which knows the built-in types alone and no subclass of them; and NaN is where ``null`` was written.
"""

import gc
import json
import marshal
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import pydantic_core

from agentstore.errors import InvalidContent, LimitExceeded

MAX_DEPTH = 200

# From about so many messages on it is felt.
_MANY = 500

_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME


def _padding() -> int | None:
    """How many lists around a value make orjson refuse it where it is too deep; None if it takes any depth."""
    value: Any = []
    for depth in range(1, 2_000):
        try:
            orjson.dumps(value)
        except TypeError:
            return max(0, depth - 1 - MAX_DEPTH)
        value = [value]
    return None


_PADDING = _padding()


def _is_exact(value: Any, text: bytes) -> bool:
    """Whether what orjson wrote of a value is read back equal."""
    try:
        marshalled = marshal.dumps(value)
    except ValueError:
        return False
    # The sign and the exponent of a float that is not finite: where neither byte is, none is null.
    if b"\x7f" not in marshalled and b"\xff" not in marshalled:
        return True
    found: bool = b"null" not in text or orjson.loads(text) == value
    return found


def dumps(value: Any, *, where: str = "value") -> str:
    """Return `value` as JSON text that :func:`loads` reads back equal (a tuple as a list).

    Raises:
        InvalidContent: it holds what JSON cannot keep: NaN, an infinity, bytes, a set, a key that is not a
            string, a pair of surrogates.
        LimitExceeded: it is nested deeper than 200 levels.
    """
    if _PADDING is not None:
        deep = value
        for _ in range(_PADDING):
            deep = [deep]
        try:
            padded = orjson.dumps(deep, option=_OPTIONS)
        except TypeError:
            pass
        else:
            text = padded[_PADDING : len(padded) - _PADDING]
            if _is_exact(value, text):
                return text.decode()
    check(value, where=where)
    return dumps_checked(value)


def dumps_checked(value: Any) -> str:
    """Return `value` as JSON text; the caller has run :func:`check` over all of it that could be anything."""
    try:
        return orjson.dumps(value, option=_OPTIONS).decode()
    except TypeError:
        # Integers beyond 64 bits, lone surrogates, subclasses of tuple: exact in the standard library's hands.
        _refuse_pairs(value)
        try:
            return json.dumps(value, allow_nan=False, separators=(",", ":"))
        except (TypeError, ValueError) as error:
            raise InvalidContent(f"JSON cannot keep this: {error}") from error


def dumps_sorted(value: Any) -> str:
    """Return what came from JSON as a text that is the same for equal values, whatever the order of their keys.

    Raises:
        LimitExceeded: it is nested too deep to be written.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:
        try:
            return json.dumps(value, sort_keys=True)
        except RecursionError as error:
            raise LimitExceeded(f"it is nested deeper than {MAX_DEPTH} levels") from error


def loads(text: str | bytes) -> Any:
    """Return the value that :func:`dumps` wrote."""
    try:
        # Not orjson, to which an integer beyond 64 bits is a float.
        return pydantic_core.from_json(text, cache_strings="keys")
    except ValueError:
        return json.loads(text)  # a lone surrogate, which pydantic's parser refuses


@contextmanager
def no_collection(objects: int) -> Iterator[None]:
    """Hold garbage collection while very many objects are made at once, none of which can be garbage.

    Else each thousand of them makes the collector look through all that are there, which takes longer than making them.
    Only around one call that runs no other code of the program's: nothing is left uncollected but for its duration.
    """
    held = objects > _MANY and gc.isenabled()
    if held:
        gc.disable()
    try:
        yield
    finally:
        if held:
            gc.enable()


def check(value: Any, *, where: str = "value") -> None:
    """Raise unless JSON keeps `value` exactly. Not recursive: input of any depth ends in an error, not in a crash.

    Raises:
        InvalidContent: names what cannot be kept, and where it is.
        LimitExceeded: nested deeper than 200 levels.
    """
    stack: list[tuple[Any, int, str]] = [(value, 0, where)]
    while stack:
        item, depth, path = stack.pop()
        kind = type(item)
        if kind is str or kind is int or kind is bool or item is None:
            continue
        if isinstance(item, float):
            if not math.isfinite(item):
                raise InvalidContent(f"{path} is {item}, which JSON cannot keep")
        elif isinstance(item, dict):
            _check_depth(depth, where)
            for key, each in item.items():
                if not isinstance(key, str):
                    raise InvalidContent(f"{path} has the key {key!r}: keys must be strings, or they come back as such")
                kind = type(each)
                if kind is str or kind is int or kind is bool or each is None:
                    continue
                stack.append((each, depth + 1, f"{path}.{key}"))
        elif isinstance(item, (list, tuple)):
            _check_depth(depth, where)
            stack.extend((each, depth + 1, path) for each in item)
        elif not isinstance(item, (str, int)):
            raise InvalidContent(f"{path} is of type {kind.__name__}, which JSON cannot keep")


def _refuse_pairs(value: Any) -> None:
    """Refuse two surrogates that would come back as the one character that JSON writes in the same way."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            if _PAIR.search(item):
                raise InvalidContent(
                    "two surrogates in a row, which are one character in JSON: decode the text with the right encoding"
                )
        elif isinstance(item, dict):
            stack.extend(item)
            stack.extend(item.values())
        elif isinstance(item, (list, tuple)):
            stack.extend(item)


def _check_depth(depth: int, where: str) -> None:
    if depth >= MAX_DEPTH:
        raise LimitExceeded(f"{where} is nested deeper than {MAX_DEPTH} levels")
