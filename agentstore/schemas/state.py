"""Rounds of agents' states: their numbers, their cursors, and how states are compared."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from agentstore import json_pieces
from agentstore.errors import InvalidContent, LimitExceeded
from agentstore.exact_json import dumps_sorted
from agentstore.json_pieces import size_of
from agentstore.offload import spend
from agentstore.schemas.page import bad_cursor, read_cursor, write_cursor
from agentstore.schemas.payload import shortened

# The size of a state, as of is_large, up to which its lists are compared entry by entry.
_MAX_COMPARED = 1_000_000
# The effort of comparing what counts as a character there, see agentstore.offload: a hundred values take about 10 ms.
_EFFORT = 60
_MAX_ROUND = 2**63 - 2  # the number after it must fit a bigint too


# In bytes. Packing a smaller state saves no time, and a plain one is readable in the table.
_PACKED_FROM = 64_000


class StateRound(BaseModel):
    """A saved state as ``list_states`` returns it, without the state itself, which ``export_state`` returns."""

    round_id: int
    """The number of the round, from 1."""
    size: int
    """The size of the state in bytes of JSON."""
    saved_at: datetime
    """When the round was last saved (UTC)."""
    metadata: dict[Any, Any] = Field(default_factory=dict)
    """The JSON object that was given to ``save_state``."""


def check_round(value: int, name: str = "round_id", *, minimum: int = 1) -> int:
    """Validate `value`, the number of a round, and return it.

    Raises:
        InvalidContent: it is not an integer from `minimum` to 2**63 - 2.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= _MAX_ROUND:
        raise InvalidContent(f"{name} must be an integer from {minimum} to 2**63 - 2, got {shortened(value)}")
    return value


def check_more_rounds(number: int) -> None:
    """Refuse the number of a new round that is over the maximum.

    Raises:
        LimitExceeded: it is over 2**63 - 2.
    """
    if number > _MAX_ROUND:
        raise LimitExceeded("there is no number after round 2**63 - 2: pass a round_id")


def write_round_cursor(round_id: int) -> str:
    """Encode the last round of a page as its ``next_cursor``."""
    return write_cursor(str(round_id))


def read_round_cursor(cursor: str | None) -> int:
    """Return the round below which a page begins.

    Raises:
        InvalidContent: it is not a cursor of a list of rounds.
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
        raise bad_cursor(cursor)
    return int(part)


def patch(a: dict[str, Any], b: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the JSON Patch (RFC 6902) that turns the state `a` into exactly the state `b`.

    The values of large states are compared by the keys of objects only: a list that differs is replaced as a whole.
    """
    size = max(size_of(a, _MAX_COMPARED), size_of(b, _MAX_COMPARED))
    spend(size * _EFFORT)
    if size > _MAX_COMPARED:
        return list(_replacements(a, b, ""))
    import jsonpatch

    before, after = _tag_numbers(a), _tag_numbers(b)
    # jsonpatch mistakes some object keys, such as "1", for list indexes, and then returns a wrong patch or raises.
    try:
        found = jsonpatch.JsonPatch.from_diff(before, after, dumps=repr)
        if found.apply(before) == after:
            return [{name: _untag_numbers(part) for name, part in operation.items()} for operation in found.patch]
    except (jsonpatch.JsonPatchException, jsonpatch.JsonPointerException, LookupError, TypeError, ValueError):
        pass
    return [{"op": "replace", "path": "", "value": b}]


def _replacements(a: Any, b: Any, path: str) -> Iterator[dict[str, Any]]:
    """Yield the operations that replace what differs, without comparing the entries of lists."""
    if not isinstance(a, dict) or not isinstance(b, dict):
        if json_pieces.dumps(a, dumps_sorted) != json_pieces.dumps(b, dumps_sorted):
            yield {"op": "replace", "path": path, "value": b}
        return
    for key in a.keys() | b.keys():
        inner = f"{path}/{key.replace('~', '~0').replace('/', '~1')}"
        if key not in b:
            yield {"op": "remove", "path": inner}
        elif key not in a:
            yield {"op": "add", "path": inner, "value": b[key]}
        else:
            yield from _replacements(a[key], b[key], inner)


def _tag_numbers(value: Any) -> Any:
    """Replace each number by a tuple with its type, so that 1, 1.0 and true differ, as in JSON but not in Python."""
    if isinstance(value, dict):
        return {key: _tag_numbers(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_tag_numbers(each) for each in value]
    return (type(value), repr(value), value) if isinstance(value, (int, float)) else value


def _untag_numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _untag_numbers(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_untag_numbers(each) for each in value]
    return value[2] if isinstance(value, tuple) else value


def pack_state(payload: bytes) -> bytes | None:
    """Compress the JSON of a large state with Zstandard, as it is stored on Postgres; return None for a small one."""
    if len(payload) < _PACKED_FROM:
        return None
    import zstandard

    return zstandard.ZstdCompressor(level=1, write_checksum=True).compress(payload)
