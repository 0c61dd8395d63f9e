"""JSON encoding that round-trips exactly, or raises before anything is written.

orjson is fast but not exact: it encodes NaN as null and an ``Enum`` or a ``UUID`` as a string, and rejects integers
beyond 64 bits and lone surrogates, which JSON can represent. ``dumps`` uses orjson for what it encodes exactly, and the
standard library for the rest.

Visiting every value in Python to find out which applies would take ten times as long. Instead: marshal rejects all but
the built-in types, including their subclasses; and NaN can only be where orjson wrote ``null``.
"""

import gc
import json
import marshal
import math
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import pydantic_core

from agentstore import json_pieces
from agentstore.errors import InvalidContent, LimitExceeded
from agentstore.json_pieces import LARGE, has_large_container, is_large
from agentstore.offload import spend, works_in_pieces

MAX_DEPTH = 200
MAX_DIGITS = min(4_300, sys.get_int_max_str_digits() or 4_300)
"""The maximum number of digits of an integer: as many as pydantic's parser reads, and as Python converts.

4,300, unless PYTHONINTMAXSTRDIGITS is less. The time to convert an integer grows with the square of its length.
"""

_BEYOND_DIGITS = 10**MAX_DIGITS
_MAX_SHOWN = 80
# Characters that are encoded, and decoded, in the time in which check() visits one value.
_ENCODED, _DECODED = 50, 20

# The number of objects from which the collector's cost is noticeable.
_MANY = 500

# How marshal begins a tuple: its type, or that of a small one, and both for a value that is referred to again.
_TUPLES = (b"(", b")", b"\xa8", b"\xa9")
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME


def _padding() -> int | None:
    """Return how many enclosing lists make orjson reject a value that is too deep; None if orjson has no limit."""
    value: Any = []
    for depth in range(1, 2_000):
        try:
            orjson.dumps(value)
        except TypeError:
            return max(0, depth - 1 - MAX_DEPTH)
        value = [value]
    return None


_PADDING = _padding()


def shortened(value: object) -> str:
    """Return the repr of a caller's value for an error message, shortened to 80 characters."""
    if type(value) in (str, bytes):
        value = value[:_MAX_SHOWN]  # type: ignore[index]
    elif isinstance(value, (list, tuple, dict, set, frozenset)) and len(value) > _MAX_SHOWN:
        return f"a {type(value).__name__} of {len(value):,} entries"
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of more digits than Python converts, or deep nesting
        text = f"a {type(value).__name__} that is too large to show"
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 3]}..."


def _marshal(value: Any) -> tuple[bytes, bool] | None:
    """Return the marshalled value, and whether there may be tuples in it; None if orjson must not encode it.

    It may have another type, or be nested too deeply: orjson does not limit the depth of tuples, and more than a
    thousand levels of them corrupt the memory of the process.
    """
    try:
        marshalled = marshal.dumps(value)
        # Takes a tenth of the time in which the bytes are counted.
        may_have_tuples = any(map(marshalled.__contains__, _TUPLES))
        if may_have_tuples and sum(map(marshalled.count, _TUPLES)) > MAX_DEPTH:
            pydantic_core.to_json(value)  # rejects what is deeper than 254 levels
    except ValueError:
        return None
    return marshalled, may_have_tuples


def _is_exact(value: Any, text: bytes, marshalled: bytes, *, may_have_tuples: bool) -> bool:
    """Return whether the text that orjson wrote for a value is decoded to an equal value, and not nested too deeply."""
    # orjson limits the depth of lists and dicts only.
    if may_have_tuples and text.count(b"[") + text.count(b"{") > MAX_DEPTH:
        try:
            pydantic_core.from_json(b"[%b]" % text, cache_strings="none")  # rejects what is deeper than 200 levels
        except ValueError:
            return False
    # One of these bytes, sign and exponent, is in every float that is not finite: without them there is no NaN.
    if b"\x7f" not in marshalled and b"\xff" not in marshalled:
        return True
    found: bool = b"null" not in text or orjson.loads(text) == value
    return found


def dumps(value: Any, *, where: str = "value") -> str:
    """Encode `value` as JSON text that :func:`loads` decodes to an equal value (a tuple becomes a list).

    `where` names the value in error messages.

    Raises:
        InvalidContent: it contains something that JSON cannot represent: NaN, an infinity, bytes, a set, a key that is
            not a string, a surrogate pair.
        LimitExceeded: it is nested deeper than 200 levels, or has an integer of more than 4,300 digits.
    """
    if works_in_pieces() and is_large(value):
        check(value, where=where)
        return json_pieces.dumps(value, dumps_checked)
    if has_large_container(value):
        spend(LARGE)
    marshalled = _marshal(value)
    if _PADDING is not None and marshalled is not None:
        deep = value
        for _ in range(_PADDING):
            deep = [deep]
        try:
            padded = orjson.dumps(deep, option=_OPTIONS)
        except TypeError:
            pass
        else:
            text = padded[_PADDING : len(padded) - _PADDING]
            spend(len(text) // _ENCODED)
            if _is_exact(value, text, marshalled[0], may_have_tuples=marshalled[1]):
                return text.decode()
    check(value, where=where)
    return dumps_checked(value)


def dumps_checked(value: Any) -> str:
    """Encode `value` as JSON text; the caller has run :func:`check` on all parts of unknown type.

    Raises:
        InvalidContent: it contains a surrogate pair.
        LimitExceeded: it has an integer of more than 4,300 digits.
    """
    try:
        return orjson.dumps(value, option=_OPTIONS).decode()
    except TypeError:
        # Integers beyond 64 bits, lone surrogates, subclasses of tuple: the standard library encodes them exactly.
        _check_unusual(value)
        try:
            return json.dumps(value, allow_nan=False, separators=(",", ":"))
        except (TypeError, ValueError) as error:
            raise InvalidContent(f"the value cannot be represented as JSON: {error}") from error


def dumps_sorted(value: Any) -> str:
    """Encode a value decoded from JSON with sorted keys, so that equal values give equal texts.

    Raises:
        LimitExceeded: it is nested too deeply to be encoded.
    """
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:
        try:
            return json.dumps(value, sort_keys=True)
        except RecursionError as error:
            raise LimitExceeded(f"the value is nested deeper than {MAX_DEPTH} levels") from error


def loads(text: str | bytes) -> Any:
    """Decode JSON text that :func:`dumps` wrote."""
    if works_in_pieces() and len(text) > LARGE:
        return json_pieces.loads(text)
    spend(len(text) // _DECODED)
    try:
        # Not orjson, which decodes an integer beyond 64 bits to a float.
        return pydantic_core.from_json(text, cache_strings="keys")
    except ValueError:
        return json.loads(text)  # a lone surrogate, which pydantic's parser rejects


@contextmanager
def no_collection(objects: int) -> Iterator[None]:
    """Disable garbage collection while a large number of objects is created, none of which can be garbage.

    Otherwise, each thousand of them makes the collector visit all live objects, which takes longer than creating them.
    Only for a single call that runs none of the application's code, so that collection is only delayed.
    """
    disabled = objects > _MANY and gc.isenabled()
    if disabled:
        gc.disable()
    try:
        yield
    finally:
        if disabled:
            gc.enable()


def check(value: Any, *, where: str = "value") -> None:
    """Check that JSON represents `value` exactly. Iterative: a value of any depth raises an error and never crashes.

    Raises:
        InvalidContent: it does not; the message has the path of the first such part, beginning with `where`.
        LimitExceeded: it is nested deeper than 200 levels.
    """
    stack: list[tuple[Any, int, str]] = [(value, 0, where)]
    visited = 0
    while stack:
        item, depth, path = stack.pop()
        kind = type(item)
        if kind is str or kind is int or kind is bool or item is None:
            continue
        if isinstance(item, float):
            if not math.isfinite(item):
                raise InvalidContent(f"{path} is {item}, which JSON cannot represent")
        elif isinstance(item, dict):
            _check_depth(depth, where)
            if (visited := visited + len(item)) > _MANY:
                spend(visited)
                visited = 0
            for key, each in item.items():
                if not isinstance(key, str):
                    raise InvalidContent(f"{path} has the key {shortened(key)}: in JSON, keys must be strings")
                kind = type(each)
                if kind is str or kind is int or kind is bool or each is None:
                    continue
                stack.append((each, depth + 1, f"{path}.{key}"))
        elif isinstance(item, (list, tuple)):
            _check_depth(depth, where)
            if (visited := visited + len(item)) > _MANY:
                spend(visited)
                visited = 0
            stack.extend((each, depth + 1, path) for each in item)
        elif not isinstance(item, (str, int)):
            raise InvalidContent(f"{path} is of type {kind.__name__}, which JSON cannot represent")


def may_have_long_integer(text: str) -> bool:
    """Return whether a JSON text may have an integer of more than 4,300 digits: it has as many digits in a row."""
    # A run of that length contains a whole block; most blocks are ruled out by their first character.
    block = MAX_DIGITS // 2
    return len(text) > MAX_DIGITS and any(text[at : at + block].isdigit() for at in range(0, len(text), block))


def _check_unusual(value: Any) -> None:
    """Reject two consecutive surrogates, which are one character in JSON, and integers that no parser reads."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            if _PAIR.search(item):
                raise InvalidContent(
                    "two consecutive surrogates are one character in JSON: decode the text with the right encoding"
                )
        elif isinstance(item, int):
            if not -_BEYOND_DIGITS < item < _BEYOND_DIGITS:
                raise LimitExceeded(f"the value has an integer of more than {MAX_DIGITS:,} digits")
        elif isinstance(item, dict):
            stack.extend(item)
            stack.extend(item.values())
        elif isinstance(item, (list, tuple)):
            stack.extend(item)


def _check_depth(depth: int, where: str) -> None:
    if depth >= MAX_DEPTH:
        raise LimitExceeded(f"{where} is nested deeper than {MAX_DEPTH} levels")
