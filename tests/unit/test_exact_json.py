"""JSON round-trips exactly, or is refused."""

import math
from collections import OrderedDict
from collections.abc import Callable
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentstore import InvalidContent, LimitExceeded
from agentstore.exact_json import MAX_DEPTH, dumps, loads, shortened

any_text = st.text(st.characters(codec=None))  # NUL and lone surrogates included
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | any_text,
    lambda inner: st.lists(inner) | st.dictionaries(any_text, inner),
    max_leaves=30,
)


class _Number(IntEnum):
    ONE = 1


class _Thing(Enum):
    ONE = 1


def _nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth - 1):
        value = [value]
    return value


@given(any_json)
def test_round_trips_preserve_values_types_and_order(value: Any) -> None:
    loaded = loads(dumps(value))
    assert loaded == value
    assert repr(loaded) == repr(value)  # 1 is not 1.0 is not True, -0.0 is not 0.0, and keys keep their order


@pytest.mark.parametrize("value", [2**70, -(2**63) - 1, 10**400, "\0", "\ud800", "a\udfffb", {"\ud800": "\0"}])
def test_values_that_other_encoders_lose_round_trip(value: Any) -> None:
    assert loads(dumps({"x": value})) == {"x": value}


@pytest.mark.parametrize(
    ("value", "loaded"),
    [
        ((1, 2), [1, 2]),
        (OrderedDict(a=1), {"a": 1}),
        (_Number.ONE, 1),
        ({"x": (2**70, _Number.ONE)}, {"x": [2**70, 1]}),
    ],
)
def test_subclasses_of_lists_dicts_and_numbers_become_plain(value: Any, loaded: Any) -> None:
    assert loads(dumps(value)) == loaded


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, b"bytes", {1, 2}, {1: 2}, {None: 1}, {"x": [math.nan]}, uuid4(), _Thing.ONE,
     Decimal(1), object(), {"a": {"b": {2: 1}}}, {10**5000: 1}],
)  # fmt: skip
def test_values_that_json_cannot_represent_are_refused(value: Any) -> None:
    with pytest.raises(InvalidContent):
        dumps(value)


@pytest.mark.parametrize("value", [10**4_300, -(10**4_300), 10**100_000], ids=["long", "negative", "longer"])
def test_integers_that_no_parser_reads_are_refused(value: int) -> None:
    assert loads(dumps({"x": [10**4_300 - 1, 1 - 10**4_300]})) == {"x": [10**4_300 - 1, 1 - 10**4_300]}
    with pytest.raises(LimitExceeded, match="4,300 digits"):
        dumps({"x": [value]})


def test_the_error_contains_the_path() -> None:
    with pytest.raises(InvalidContent, match=r"value\.a\.b is nan"):
        dumps({"a": {"b": math.nan}})


def test_depth_is_limited_without_crashing() -> None:
    assert loads(dumps(_nested(MAX_DEPTH))) == _nested(MAX_DEPTH)
    for depth in (MAX_DEPTH + 1, 300, 100_000):
        with pytest.raises(LimitExceeded):
            dumps(_nested(depth))


@pytest.mark.parametrize("kind", [tuple, list, lambda value: {"x": value[0]}])
def test_depth_is_limited_in_each_kind_of_container(kind: Callable[[list[Any]], Any]) -> None:
    """orjson limits the depth of lists and dicts only, and deeper tuples corrupt the memory."""

    def nested(depth: int) -> Any:
        value: Any = 1
        for _ in range(depth):
            value = kind([value])
        return value

    assert len(dumps(nested(MAX_DEPTH))) >= 2 * MAX_DEPTH
    assert dumps([nested(MAX_DEPTH - 1), (["("] * 300)])
    for depth in (MAX_DEPTH + 1, MAX_DEPTH + 2, 1_000, 1_999, 2_001, 100_000):
        for value in (nested(depth), {"a": ["("], "x": nested(depth - 1)}):
            with pytest.raises(LimitExceeded):
                dumps(value)


def test_a_cycle_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(LimitExceeded):
        dumps(value)


def test_an_error_message_shows_any_value() -> None:
    for value in (10**5_000, [10**5_000], _nested(100_000), {"x": _nested(5_000)}):
        assert len(shortened(value)) <= 80
        assert "too large to show" in shortened(value)
