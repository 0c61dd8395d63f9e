"""A conversation, as callers see it."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from agentstore.schemas.message import Message


class Session(BaseModel):
    """A conversation of one user: its messages in order, and what is known about it.

    ``created_at`` and ``updated_at`` (the last append, UTC) are None on a session that was built by hand.
    ``forked_from`` is the session that it began as a copy of, ``forked_at`` how many messages of it were copied.
    ``ttl`` is how many seconds after the last append it is kept, None what the store's setting says.
    """

    id: str
    user_id: str
    messages: list[Message] = Field(default_factory=list)
    title: str | None = None
    metadata: dict[Any, Any] = Field(default_factory=dict)
    created_at: datetime | None = None
    updated_at: datetime | None = None
    forked_from: str | None = None
    forked_at: int | None = None
    ttl: int | None = None


def extend_messages(session: Session, messages: Iterable[Message], updated_at: datetime | None) -> None:
    """Add messages that were stored to the end of a session's list, those left out whose id is in it already."""
    # Where a cached property would be, which pydantic leaves out of what it compares and dumps.
    known: _Ids = getattr(session, "__dict__", {}).setdefault("_ids", _Ids())
    known.extend_messages(session.messages, messages)
    if updated_at is not None and isinstance(session, Session):
        session.updated_at = updated_at


class _Ids:
    """The ids of a list of messages, kept so that an append does not look through a long list.

    Made anew when the list is another one, or has another length or other ends than it was left with.
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
    # A list of the caller's may hold dicts, as upstream's sessions do.
    return message.get("id") if isinstance(message, Mapping) else getattr(message, "id", None)
