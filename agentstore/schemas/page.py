"""What lists and deletions answer."""

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from typing import TypeVar, overload

from agentstore.errors import InvalidContent, LimitExceeded

T = TypeVar("T")

_MOST = 2**63 - 1  # more than any list has, and the most that Postgres can be told


class Page(Sequence[T]):
    """Part of a list, in order.

    ``next_cursor`` is None on the last page; else give it as ``cursor`` to the same call for the page after.
    """

    __slots__ = ("_items", "next_cursor")

    def __init__(self, items: Iterable[T] = (), next_cursor: str | None = None) -> None:
        self._items = list(items)
        self.next_cursor = next_cursor

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        return self._items[index]

    def __len__(self) -> int:
        return len(self._items)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Page):
            return self._items == other._items and self.next_cursor == other.next_cursor
        return self._items == other if isinstance(other, list) else NotImplemented

    def __repr__(self) -> str:
        return f"Page({self._items!r}, next_cursor={self.next_cursor!r})"


@dataclass(frozen=True, slots=True)
class Deleted:
    """How many rows a deletion removed, by kind; true if it removed any."""

    sessions: int = 0
    messages: int = 0
    memories: int = 0
    state_rounds: int = 0
    workspaces: int = 0

    def __bool__(self) -> bool:
        return any((self.sessions, self.messages, self.memories, self.state_rounds, self.workspaces))


@dataclass(frozen=True, slots=True)
class Pruned(Deleted):
    """What was deleted for its age; ``bytes`` are those of the contents as they were stored, without indexes."""

    bytes: int = 0

    def __add__(self, other: "Pruned") -> "Pruned":
        return Pruned(*(one + two for one, two in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True, slots=True)
class Imported:
    """How many rows an import made, by kind; what was there already is not counted."""

    sessions: int = 0
    messages: int = 0


def check_count(value: int | None, name: str, most: int | None = None) -> int | None:
    """Return `value`, how many entries are wanted (None: all), if it can be; at most 2**63 - 1.

    Raises:
        InvalidContent: it is no whole number, or negative.
        LimitExceeded: more than `most`.
    """
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidContent(f"{name} must be a whole number from 0, not {value!r}")
    if most is not None and value > most:
        raise LimitExceeded(f"{name} is {value}, {most} is allowed: use cursor for the rest")
    return min(value, _MOST)


def check_batch(value: int, most: int) -> int:
    """Return `value`, how many are read at a time, if that can be.

    Raises:
        InvalidContent: it is no whole number from 1.
        LimitExceeded: more than `most`.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidContent(f"batch must be a whole number from 1, not {value!r}")
    if value > most:
        raise LimitExceeded(f"batch is {value}, {most} is allowed")
    return value


def write_cursor(*key: datetime | str) -> str:
    """Return the place of an entry in its list, for a page's ``next_cursor``."""
    plain = [part.isoformat() if isinstance(part, datetime) else part for part in key]
    return base64.urlsafe_b64encode(json.dumps(plain).encode()).decode().rstrip("=")


def read_cursor(cursor: str, *kinds: type[datetime] | type[str]) -> list[datetime | str]:
    """Return the parts of a cursor.

    Raises:
        InvalidContent: it is not one that such a list gave.
    """
    try:
        plain = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        parts = [_of_kind(part, kind) for part, kind in zip(plain, kinds, strict=True)]
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InvalidContent(f"{cursor!r} is no cursor of this list: give a page's next_cursor") from error
    return parts


def _of_kind(part: object, kind: type[datetime] | type[str]) -> datetime | str:
    if not isinstance(part, str) or "\0" in part:
        raise ValueError
    if kind is str:
        part.encode()  # a lone surrogate is a ValueError
        return part
    time = datetime.fromisoformat(part)
    if time.tzinfo is None:
        raise ValueError
    return time.astimezone(UTC)
