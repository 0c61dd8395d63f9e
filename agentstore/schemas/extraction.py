"""The result of an extractor, the outcome of writing it, and failed extractions; the limits of the queue."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from agentstore.errors import InvalidContent
from agentstore.schemas.memory_item import MemoryItem, check_ids, prepare_items
from agentstore.schemas.message import Message
from agentstore.schemas.page import bad_cursor, read_cursor, write_cursor
from agentstore.settings import Settings

MAX_MESSAGES = 50
"""The maximum number of messages for one call of an extractor. A job with that many is not postponed any more."""
MAX_ATTEMPTS = 5
"""Attempts before a job is marked as failed: after errors of the extractor."""
MAX_ATTEMPTS_IN_OUTAGE = 20
"""After outages of its endpoint: enough for an outage of a night."""

# The maximum number of sources of an item; the most recent ones are retained.
_MAX_SOURCES = 200
_MAX_ERROR = 1_000


@dataclass(frozen=True, slots=True)
class Extraction:
    """The items that an extractor derives from messages, given the existing items."""

    items: list[MemoryItem] = field(default_factory=list)
    """New items, and changed versions of existing items, which retain their ids."""
    supersedes: list[str] = field(default_factory=list)
    """The ids of existing items that are no longer valid."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """The outcome of one call of an extractor, for a conversation or a part of one."""

    user_id: str
    session_id: str
    messages: int
    """The number of messages given to the extractor."""
    items: tuple[MemoryItem, ...] = ()
    """The items as stored."""
    superseded: tuple[str, ...] = ()
    """The ids of the superseded items."""
    error: str | None = None
    """Why nothing was written. The messages are retried later, unless `failed`."""
    failed: bool = False
    """Whether it failed too often, and is not retried until ``retry_failed_extractions`` is called."""
    outage: bool = False
    """Whether the error is the endpoint's and not this conversation's: other conversations would fail now, too."""


@dataclass(frozen=True, slots=True)
class FailedExtraction:
    """A range of messages of a session, by position, whose extraction failed too often and is not retried."""

    user_id: str
    session_id: str
    first_position: int
    last_position: int
    attempts: int
    failed_at: datetime
    error: str


@dataclass(frozen=True, slots=True)
class PendingExtraction:
    """A range of messages of a session, by position, that waits in the queue or is being extracted."""

    user_id: str
    session_id: str
    first_position: int
    last_position: int
    attempts: int
    """How often it has failed, the attempt that is running included."""
    due_at: datetime
    """When it may be extracted; a time in the future after a failure, or while messages are still being added."""
    leased_until: datetime | None
    """When the lease of the worker that has it ends; None if none has it, and without a database."""
    error: str | None
    """Why the last attempt failed."""


def write_pending_cursor(last: PendingExtraction) -> str:
    """Encode the place of an extraction as a page's ``next_cursor``."""
    return write_cursor(last.due_at, last.user_id, last.session_id, str(last.first_position))


def read_pending_cursor(cursor: str) -> tuple[datetime, str, str, int]:
    """Decode a cursor to a time, a user id, a session id and a position.

    Raises:
        InvalidContent: it is not a cursor of a list of pending extractions.
    """
    due_at, user_id, session_id, position = read_cursor(cursor, datetime, str, str, str)
    if not str(position).isdecimal() or len(str(position)) > 18:
        raise bad_cursor(cursor)
    return cast("datetime", due_at), str(user_id), str(session_id), int(str(position))


def write_failed_cursor(failed: FailedExtraction) -> str:
    """Encode the key of a failed extraction as a page's ``next_cursor``."""
    return write_cursor(failed.user_id, failed.session_id, str(failed.first_position))


def read_failed_cursor(cursor: str) -> tuple[str, str, int]:
    """Decode a cursor to a user id, a session id and a position.

    Raises:
        InvalidContent: it is not a cursor of a list of failed extractions.
    """
    user_id, session_id, position = map(str, read_cursor(cursor, str, str, str))
    if not position.isdecimal() or len(position) > 18:
        raise bad_cursor(cursor)
    return user_id, session_id, int(position)


def storable_error(text: str) -> str:
    """Return a text that Postgres can store: an endpoint's response may contain NUL or lone surrogates."""
    return text[:_MAX_ERROR].replace("\0", "").encode(errors="backslashreplace").decode()


def prepare_extraction(
    given: Extraction,
    messages: Sequence[Message],
    existing: Sequence[MemoryItem],
    extractor: str,
    settings: Settings,
    *,
    namespaces: Collection[str | None],
) -> tuple[list[MemoryItem], list[str]]:
    """Return the items to write, with their sources and the extractor's name, and the ids to supersede.

    The sources of an item are those the extractor names, or else all the messages; a changed item also retains its
    previous ones. A new item without a namespace gets that of the messages, if `namespaces`, which they are in, is a
    single one. Ids to supersede are ignored if the item was not given to the extractor, or is also changed.

    Raises:
        InvalidContent, LimitExceeded: the result cannot be stored.
    """
    if not isinstance(given, Extraction):
        raise InvalidContent(f"an extractor must return an Extraction, got {type(given).__name__}")
    before = {item.id: item for item in existing}
    message_ids = [message.id for message in messages]
    items = []
    for item in prepare_items(given.items, settings).values():
        previous = before[item.id].source_ids if item.id in before else []
        new = item.source_ids if item.source_ids != previous else []
        sources = list(dict.fromkeys([*previous, *(new or message_ids)]))[-_MAX_SOURCES:]
        update: dict[str, Any] = {"source_ids": sources, "metadata": {**item.metadata, "extractor": extractor}}
        if item.namespace is None and item.id not in before and len(namespaces) == 1:
            (update["namespace"],) = namespaces
        items.append(item.model_copy(update=update))
    written = {item.id for item in items}
    superseded = [id for id in check_ids(given.supersedes, settings) if id in before and id not in written]
    return items, superseded
