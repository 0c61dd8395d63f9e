"""Strategies for whatever a caller of Python might pass as a value, and the value that is read back for it."""

import enum
import uuid
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from types import MappingProxyType
from typing import Any

from hypothesis import strategies as st
from pydantic import BaseModel

from agentstore import DataContent, Message, TextContent, schemas
from agentstore.exact_json import shortened


class Number(enum.IntEnum):
    ONE = 1
    HUGE = 2**70


class Word(enum.StrEnum):
    ONE = "one"


class Mixed(str, enum.Enum):  # noqa: UP042 - not StrEnum: its str() is another
    TWO = "two"


class Thing(enum.Enum):
    ONE = "one"


class Text(str):
    __slots__ = ()


class Whole(int):
    __slots__ = ()


class Real(float):
    __slots__ = ()


class Names(dict[Any, Any]):
    pass


class Row(list[Any]):
    pass


Pair = namedtuple("Pair", "left right")  # noqa: PYI024 - as callers have them


def _one_of(*values: Any) -> st.SearchStrategy[Any]:
    """Return a strategy for these values. Not sampled_from, which converts each to text: some cannot be converted."""
    return st.integers(0, len(values) - 1).map(lambda index: values[index])


_EDGES = [2**31, 2**53, 2**63, 2**64, 2**70, 10**400, 10**4_299, 10**4_300 - 1, 10**4_300, 10**4_301, 10**9_000]
_numbers = _one_of(*(sign * (edge + off) for edge in _EDGES for sign in (1, -1) for off in (-1, 0, 1)))
_floats = st.sampled_from([0.0, -0.0, 5e-324, 1.7976931348623157e308, 1e16, 0.1, -1e-7, float("nan"), float("inf")])
_texts = st.text(st.characters(codec=None), max_size=8) | st.sampled_from(
    ["", "\0", "\ud800", "a\udfffb", "\ud83d\ude00", "密", "1" * 4_400, '"\\', "\u2028", "null", "x" * 600]
)
_times = st.sampled_from(
    [
        datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=UTC),
        datetime(2024, 5, 6),
        datetime.min,
        datetime.max,
        datetime.min.replace(tzinfo=UTC),
        datetime.max.replace(tzinfo=UTC),
        datetime(2, 1, 1, tzinfo=timezone(timedelta(hours=14))),
        datetime(9998, 12, 31, 23, tzinfo=timezone(timedelta(hours=-12))),
        date(2024, 5, 6),
        timedelta(seconds=5),
    ]
)
_decimals = st.sampled_from(
    [Decimal(each) for each in ("1", "0.1", "-1", "1e10", "1e4290", "1e5000", "NaN", "Infinity", "sNaN", "1e-400")]
)
_others = _one_of(
    *(Number.ONE, Number.HUGE, Word.ONE, Mixed.TWO, Thing.ONE, Text("text"), Text("\ud800"), Whole(3), Real(0.5)),
    *(Whole(10**4_300), Real("nan"), b"bytes", bytearray(b"bytes"), uuid.UUID(int=1), Fraction(1, 3), 1j, ...),
    *(TextContent(text="x"), DataContent(data={"x": 1}), Message(id="x"), int, object(), range(3), {1, 2}),
    *(frozenset({1}), MappingProxyType({"x": 1}), defaultdict(list, x=[1]), Names(x=1), Row([1]), Pair(1, 2)),
    *({1: 2}, {None: 1}, {True: 1}, {1.5: 1}, {10**5_000: 1}, {Word.ONE: 1}, {Mixed.TWO: 1}, {Text("k"): 1}),
    *({b"k": 1}, {("a", "b"): 1}, {"\ud800": 1}, {"": 1}, OrderedDict(b=1, a=2), lambda: None, [].__iter__()),
)


def _nested(depth: int, kind: type) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"x": value} if kind is dict else kind([value])
    return value


_deep = st.builds(
    _nested, st.sampled_from([1, 50, 195, 198, 199, 200, 201, 260, 1_100]), st.sampled_from([list, dict, tuple])
)
leaves = (
    st.none() | st.booleans() | st.integers() | st.floats() | _numbers | _floats | _texts | _decimals | _times | _others
)
any_value: st.SearchStrategy[Any] = st.one_of(
    leaves,
    _deep,
    st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.tuples(inner, inner)
            | st.dictionaries(_texts, inner, max_size=3)
            | st.builds(Pair, inner, inner)
            | st.builds(lambda value: OrderedDict(x=value), inner)
        ),
        max_leaves=4,
    ),
)
"""Any value."""
json_value: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _texts | _numbers,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=4,
)
"""A value that JSON mostly represents."""
any_object = st.one_of(
    any_value, st.dictionaries(_texts, any_value, min_size=1, max_size=2), st.dictionaries(_texts, json_value)
)
"""Any value where a JSON object is expected, most often a dict."""


class Given:
    """A value with a representation, which not all values have."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return shortened(self.value)


PARTS = {
    "text": schemas.TextContent,
    "image": schemas.ImageContent,
    "data": schemas.DataContent,
    "audio": schemas.AudioContent,
    "file": schemas.FileContent,
    "refusal": schemas.RefusalContent,
}
PLACES: list[tuple[str, ...]] = [
    *((name,) for name in Message.model_fields),
    *((name, "x") for name in ("metadata", "usage")),
    ("a_later_field",),
    *(("error", name) for name in (*schemas.Error.model_fields, "a_later_field")),
    *(("content", kind, name) for kind, part in PARTS.items() for name in (*part.model_fields, "a_later_field")),
    ("content", "data", "data", "x"),
    *(("content", "text", "error", name) for name in schemas.Error.model_fields),
]
"""Where a message has a value."""


def message_with(place: Sequence[str], value: Any, id: str = "m") -> dict[str, Any]:
    """Return the fields of a message with a value at a place."""
    fields: dict[str, Any] = {"id": id, "role": "user", "content": [{"type": "text", "text": "zebra"}]}
    target: Any = fields
    if place[0] == "content" and len(place) > 1:
        fields["content"].append({"type": place[1]})
        target, place = fields["content"][1], place[2:]
    for name in place[:-1]:
        target[name] = {"code": "1", "message": "m"} if name == "error" else {}
        target = target[name]
    target[place[-1]] = value
    return fields


def as_read(value: Any) -> Any:
    """Return what is read for an accepted value: the same, with lists for tuples."""
    if isinstance(value, BaseModel):
        return as_read(value.model_dump(serialize_as_any=True, warnings=False))
    if isinstance(value, Mapping):
        return {key: as_read(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_read(each) for each in value]
    return value


def exactly(value: Any) -> str:
    """Return a text that is equal for equal values of the same types: 1, 1.0 and True differ, and so do tuples."""
    if isinstance(value, BaseModel):
        value = value.model_dump(serialize_as_any=True, warnings=False)
    return repr(plain(value))


def plain(value: Any) -> Any:
    """Return a value without subclasses of the built-in types, and with timestamps in UTC."""
    if isinstance(value, dict):
        return {plain(key): plain(each) for key, each in value.items()}
    if type(value) is list:
        return [plain(each) for each in value]
    if isinstance(value, datetime):
        is_edge = value.tzinfo is None or not 1 < value.year < 9999
        return value.isoformat() if is_edge else value.astimezone(UTC).isoformat()
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return int(value) if isinstance(value, int) else float(value)
    return value
