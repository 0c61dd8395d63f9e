"""Rounds of agents' states: how they are numbered, listed and compared."""

from datetime import datetime
from typing import Any

import jsonpatch
from pydantic import BaseModel, Field

from agentstore.errors import InvalidContent, LimitExceeded
from agentstore.schemas.page import read_cursor, write_cursor

_MAX_ROUND = 2**63 - 2  # the next one has to be a bigint, too


class StateRound(BaseModel):
    """What is known of a saved state without reading it: ``export_state`` gives the state itself.

    ``size`` is in bytes of JSON, ``saved_at`` the time of the last save into this round (UTC).
    """

    round_id: int
    size: int
    saved_at: datetime
    metadata: dict[Any, Any] = Field(default_factory=dict)


def check_round(value: int, name: str = "round_id", *, least: int = 1) -> int:
    """Return `value`, the number of a round, if there can be one.

    Raises:
        InvalidContent: it is no whole number from `least`, or more than can be counted.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= _MAX_ROUND:
        raise InvalidContent(f"{name} must be a whole number from {least} to 2**63 - 2, not {value!r}")
    return value


def check_more_rounds(number: int) -> None:
    """Refuse the round after the last that can be counted.

    Raises:
        LimitExceeded: there are no more numbers.
    """
    if number > _MAX_ROUND:
        raise LimitExceeded("there is no number after round 2**63 - 2: give a round_id")


def write_round_cursor(round_id: int) -> str:
    """Return the place of a round in the list, for a page's ``next_cursor``."""
    return write_cursor(str(round_id))


def read_round_cursor(cursor: str | None) -> int:
    """Return the round before which a page begins.

    Raises:
        InvalidContent: it is no cursor of this list.
    """
    if cursor is None:
        return _MAX_ROUND + 1
    (part,) = read_cursor(cursor, str)
    if (
        not isinstance(part, str)
        or not part.isdecimal()
        or not part.isascii()
        or len(part) > 19
        or int(part) > _MAX_ROUND
    ):
        raise InvalidContent(f"{cursor!r} is no cursor of this list: give a page's next_cursor")
    return int(part)


def patch(a: dict[str, Any], b: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the JSON Patch (RFC 6902) from one state to another, which gives exactly that other."""
    before, after = _typed(a), _typed(b)
    # jsonpatch takes some keys of objects, such as "1", for places in a list, and gives a wrong patch then, or none.
    try:
        found = jsonpatch.JsonPatch.from_diff(before, after, dumps=repr)
        if found.apply(before) == after:
            return [{name: _plain(part) for name, part in operation.items()} for operation in found.patch]
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException, LookupError, TypeError, ValueError):
        pass
    return [{"op": "replace", "path": "", "value": b}]


def _typed(value: Any) -> Any:
    """Return `value` with its numbers so that 1, 1.0 and true differ, as they do in JSON and not in Python."""
    if isinstance(value, dict):
        return {key: _typed(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_typed(each) for each in value]
    return (type(value), repr(value), value) if isinstance(value, (int, float)) else value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value[2] if isinstance(value, tuple) else value
