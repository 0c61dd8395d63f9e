"""A session: a conversation of a user."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from agentstore.schemas.message import Message


class Session(BaseModel):
    """A conversation of one user: its messages in order, and its metadata.

    Timestamps are None on a session that was constructed by hand.
    """

    id: str
    """Unique for its user."""
    user_id: str
    messages: list[Message] = Field(default_factory=list)
    """The messages that were read: all, the last ones, or none in a list of sessions."""
    title: str | None = None
    """At most 10,000 characters."""
    metadata: dict[Any, Any] = Field(default_factory=dict)
    """Any JSON object."""
    created_at: datetime | None = None
    """When it was created (UTC)."""
    updated_at: datetime | None = None
    """The last append, rewind or touch, else the creation (UTC). Changes of title, metadata and ttl do not count."""
    forked_from: str | None = None
    """The id of the session from which a fork copied its messages, or a rewind moved them."""
    forked_at: int | None = None
    """The ``seq`` of the last of these messages."""
    ttl: int | None = None
    """Time to live in seconds after ``updated_at``; None applies the setting ``session_ttl``, by default no expiry."""
    app: str | None = None
    """The id of the application that created it, for stores that several applications share."""
    message_count: int | None = None
    """How many messages are stored, however many were read; None on a session that was constructed by hand.

    Not compared: sessions are equal if all other fields are.
    """

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Session) or type(self) is not type(other):
            return NotImplemented
        compared = type(self).model_fields.keys() - {"message_count"}
        return all(getattr(self, name) == getattr(other, name) for name in compared)

    __hash__ = None  # type: ignore[assignment]


def extend_messages(
    session: Session, messages: Iterable[Message], updated_at: datetime | None, message_count: int | None = None
) -> None:
    """Add stored messages to the end of a session's list, except those whose id is in it already.

    `updated_at` and `message_count` become the session's, unless they are None.
    """
    # In __dict__, like a cached property, where pydantic neither compares nor dumps it.
    known: _Ids = getattr(session, "__dict__", {}).setdefault("_ids", _Ids())
    known.extend_messages(session.messages, messages)
    if isinstance(session, Session):
        session.updated_at = updated_at or session.updated_at
        session.message_count = session.message_count if message_count is None else message_count


class _Ids:
    """The ids of a list of messages, cached so that an append does not scan a long list.

    They are collected again if the list is another object, or its length, first or last message has changed since.
    """

    __slots__ = ("_ends", "_ids", "_length", "_list")

    def __init__(self) -> None:
        self._list: list[Message] | None = None
        self._length = 0
        self._ends: tuple[object, object] = (None, None)
        self._ids: set[object] = set()

    def extend_messages(self, into: list[Message], messages: Iterable[Message]) -> None:
        unchanged = self._list is into and self._length == len(into)
        if not unchanged or (into and (self._ends[0] is not into[0] or self._ends[1] is not into[-1])):
            self._list = into
            self._ids = {_id_of(message) for message in into}
        ids = self._ids
        for message in messages:
            id = message.id
            if id not in ids:
                ids.add(id)
                into.append(message)
        self._length = len(into)
        self._ends = (into[0], into[-1]) if into else (None, None)


def _id_of(message: object) -> object:
    # The caller's list may hold dicts, as the sessions of AgentScope Runtime do.
    return message.get("id") if isinstance(message, Mapping) else getattr(message, "id", None)
