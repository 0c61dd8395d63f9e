"""Filters of LangGraph's store: which values match, and which conditions agentstore finds by its index."""

from collections.abc import Mapping
from typing import Any

from agentstore.errors import InvalidContent
from agentstore.schemas.payload import shortened

_OPERATORS = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte")


def indexed_part(conditions: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the conditions that are equality of a text, number or truth value, which has an index.

    Raises:
        InvalidContent: the filter is not a dict, or has an unknown operator.
    """
    if conditions is None:
        return {}
    if not isinstance(conditions, Mapping) or not all(isinstance(name, str) for name in conditions):
        raise InvalidContent(f"filter must be a dict with the names of keys, got {shortened(conditions)}")
    found: dict[str, Any] = {}
    for name, condition in conditions.items():
        _check(condition)
        value = condition
        if isinstance(condition, Mapping):
            if condition.keys() != {"$eq"}:
                continue
            value = condition["$eq"]
        if isinstance(value, (str, int, float)):
            found[name] = value
    return dict(list(found.items())[:100])  # the largest number that a filter of metadata may have


def _check(condition: Any) -> None:
    """Raise if a condition has an unknown operator."""
    if isinstance(condition, Mapping):
        for name, value in condition.items():
            if isinstance(name, str) and name.startswith("$") and name not in _OPERATORS:
                expected = ", ".join(_OPERATORS)
                raise InvalidContent(f"{shortened(name)} is not an operator of a filter, expected one of {expected}")
            _check(value)


def matches(value: Mapping[str, Any], conditions: Mapping[str, Any] | None) -> bool:
    """Return whether a value fulfills all conditions; a missing key is as None."""
    return all(_matches(value.get(name), condition) for name, condition in (conditions or {}).items())


def _matches(value: Any, condition: Any) -> bool:
    if isinstance(condition, Mapping):
        if any(isinstance(name, str) and name.startswith("$") for name in condition):
            return all(_compare(value, name, other) for name, other in condition.items())
        return isinstance(value, Mapping) and matches(value, condition)
    if isinstance(condition, (list, tuple)):
        return (
            isinstance(value, (list, tuple)) and len(value) == len(condition) and all(map(_matches, value, condition))
        )
    return _equal(value, condition)


def _equal(value: Any, other: Any) -> bool:
    """Return whether two JSON values are equal; true and false are not numbers."""
    if isinstance(value, bool) or isinstance(other, bool):
        return value is other
    if isinstance(value, Mapping) and isinstance(other, Mapping):
        return value.keys() == other.keys() and all(_equal(value[name], other[name]) for name in value)
    if isinstance(value, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(value) == len(other) and all(map(_equal, value, other))
    return bool(value == other)


def _compare(value: Any, operator: str, other: Any) -> bool:
    if operator == "$eq":
        return _equal(value, other)
    if operator == "$ne":
        return not _equal(value, other)
    pair = _comparable(value, other)
    if pair is None:
        return False
    first, second = pair
    return bool(
        first > second
        if operator == "$gt"
        else first >= second
        if operator == "$gte"
        else first < second
        if operator == "$lt"
        else first <= second
    )


def _comparable(value: Any, other: Any) -> tuple[Any, Any] | None:
    """Return two values that can be ordered: both as numbers, if they are, or else both texts."""
    if isinstance(value, str) and isinstance(other, str):
        numbers = _number(value), _number(other)
        return (value, other) if None in numbers else numbers
    first, second = _number(value), _number(other)
    return None if first is None or second is None else (first, second)


def _number(value: Any) -> Any:
    if isinstance(value, (int, float)):
        return value
    try:
        return float(value) if isinstance(value, str) else None
    except ValueError:
        return None
