"""The results of lists, deletions and imports, and the cursors and limits of lists."""

import base64
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, TypeVar, overload

from agentstore.errors import InvalidContent, LimitExceeded
from agentstore.schemas.payload import shortened

if TYPE_CHECKING:
    from agentstore.settings import Settings

T = TypeVar("T")

_MAX = 2**63 - 1  # the largest bigint of Postgres, and more entries than any list has
# Characters. More than the cursor of any list has: the ids in it are limited by the index they are stored in.
_MAX_CURSOR = 100_000


@dataclass(init=False, eq=False, repr=False, slots=True)
class Page(Sequence[T], Generic[T]):
    """One page of a list: a sequence of its entries, in order.

    A pydantic type, such as the response of a web framework: ``{"items": [...], "next_cursor": ...}``.
    """

    items: list[T]
    """The entries."""
    next_cursor: str | None
    """What to pass as ``cursor`` to the same method for the next page; None on the last one."""

    def __init__(self, items: Iterable[T] = (), next_cursor: str | None = None) -> None:
        self.items = list(items)
        self.next_cursor = next_cursor

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...
    def __getitem__(self, index: int | slice) -> T | list[T]:
        return self.items[index]

    def __len__(self) -> int:
        return len(self.items)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Page):
            return self.items == other.items and self.next_cursor == other.next_cursor
        return self.items == other if isinstance(other, list) else NotImplemented

    def __repr__(self) -> str:
        return f"Page({self.items!r}, next_cursor={self.next_cursor!r})"


@dataclass(frozen=True, slots=True)
class Deleted:
    """The number of rows of each kind that a deletion removed. False if it removed none."""

    sessions: int = 0
    messages: int = 0
    memories: int = 0
    """Memories: messages and items."""
    state_rounds: int = 0
    workspaces: int = 0
    """Stored workspaces of sandboxes."""
    values: int = 0
    """Scoped values, without those of a session that was deleted as a whole."""
    blobs: int = 0
    """Versions of blobs."""
    checkpoints: int = 0
    """Checkpoints of graphs."""

    def __bool__(self) -> bool:
        return any(getattr(self, each.name) for each in fields(Deleted))


@dataclass(frozen=True, slots=True)
class Pruned(Deleted):
    """The number of rows of each kind that ``prune`` removed, or would remove in a dry run."""

    bytes: int = 0
    """The size of their contents as they were stored, without row headers and indexes."""
    finished: bool = True
    """Whether all users were processed. False while it runs, and if ``max_time`` ended it: the next run continues."""

    def __add__(self, other: "Pruned") -> "Pruned":
        totals = {each.name: getattr(self, each.name) + getattr(other, each.name) for each in fields(self)}
        return Pruned(**{**totals, "finished": self.finished and other.finished})


@dataclass(frozen=True, slots=True)
class Imported:
    """The number of rows of each kind that an import stored. Existing ones are not counted."""

    sessions: int = 0
    messages: int = 0
    differing: tuple[str, ...] = ()
    """The ids of messages that were not stored, since other messages with these ids are; see `import_session`."""


@dataclass(frozen=True, slots=True)
class Appended:
    """Where and when messages were stored: the result of ``append`` and ``replace_from``.

    Without messages, `last_seq` is that of the last message of the session, and `first_seq` the next one.
    """

    first_seq: int
    """The number of the first message, see ``Message.seq``."""
    last_seq: int
    """The number of the last one. Messages that were stored before by another call can have any earlier number."""
    created_at: datetime
    """When the last one was stored (UTC); without messages, when the session was last written to."""


def check_count(value: int, name: str, *, minimum: int = 0, maximum: int | None = None) -> int:
    """Validate `value`, a number of entries called `name`, and return it, at most 2**63 - 1.

    Raises:
        InvalidContent: it is not an integer, or under `minimum`.
        LimitExceeded: it is over `maximum`.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise InvalidContent(f"{name} must be an integer from {minimum}, got {shortened(value)}")
    if maximum is not None and value > maximum:
        raise LimitExceeded(f"{name} must be at most {maximum}, got {shortened(value)}")
    return min(value, _MAX)


def check_limit(value: int | None, maximum: int | None = None) -> int | None:
    """Validate `value`, the largest number of entries to return, or None for all, as :func:`check_count` does."""
    return None if value is None else check_count(value, "limit", maximum=maximum)


class Advice(StrEnum):
    """What the error for a result that is too large advises."""

    READ_PARTS = "read it in parts, with limit= and before= of get_session or read_messages, or by iter_messages"
    SMALLER_LIMIT = "pass a smaller limit="
    SMALLER_PAGE_SIZE = "pass a smaller page_size"
    SMALLER_TOP_K = "pass a smaller top_k"
    FEWER_IDS = "pass fewer ids"
    ONE_SCOPE = "pass scope= to read one scope, and store large data as messages, states or files"
    RAISE_LIMIT = "raise the setting; nothing was changed"


def check_reply(payloads: Iterable[str], settings: "Settings", advice: Advice) -> None:
    """Check that the JSON texts that a call without a database returns are not larger than `max_reply_bytes` together.

    Raises:
        LimitExceeded: they are; the message ends with `advice`, which says how to read less at a time.
    """
    if sum(map(len, payloads)) > settings.max_reply_bytes:
        raise reply_too_large(settings.max_reply_bytes, advice)


def reply_too_large(most: int, advice: Advice) -> LimitExceeded:
    """Return the error for a call that would return more than `most` bytes."""
    return LimitExceeded(f"the result has more than {most:,} bytes (AGENTSTORE_MAX_REPLY_BYTES): {advice}")


def write_cursor(*key: datetime | str) -> str:
    """Encode the sort key of the last entry of a page as its ``next_cursor``."""
    plain = [part.isoformat() if isinstance(part, datetime) else part for part in key]
    return base64.urlsafe_b64encode(json.dumps(plain).encode()).decode().rstrip("=")


def read_cursor(cursor: str, *kinds: type[datetime] | type[str]) -> list[datetime | str]:
    """Decode a cursor to its sort key, whose parts are of these `kinds`.

    Raises:
        InvalidContent: it is not a cursor of such a list.
    """
    if isinstance(cursor, str) and len(cursor) > _MAX_CURSOR:
        raise bad_cursor(cursor)
    try:
        plain = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        parts = [_parse_part(part, kind) for part, kind in zip(plain, kinds, strict=True)]
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise bad_cursor(cursor) from error
    return parts


def bad_cursor(cursor: object) -> InvalidContent:
    """Return the error for a cursor that is not one of the list."""
    return InvalidContent(f"{shortened(cursor)} is not a cursor of this list: pass the next_cursor of a page of it")


def _parse_part(part: object, kind: type[datetime] | type[str]) -> datetime | str:
    if not isinstance(part, str) or "\0" in part:
        raise ValueError
    if kind is str:
        part.encode()  # raises ValueError for a lone surrogate
        return part
    time = datetime.fromisoformat(part)
    if time.tzinfo is None:
        raise ValueError
    return time.astimezone(UTC)
