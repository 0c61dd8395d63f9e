"""A conversation, as callers see it."""

from collections.abc import Iterable
from datetime import datetime
from functools import cached_property
from typing import Any

from pydantic import BaseModel, Field

from agentstore.schemas.message import Message


class Session(BaseModel):
    """A conversation of one user: its messages in order, and what is known about it.

    ``created_at`` and ``updated_at`` (the last append, UTC) are None on a session that was built by hand.
    """

    id: str
    user_id: str
    messages: list[Message] = Field(default_factory=list)
    title: str | None = None
    metadata: dict[Any, Any] = Field(default_factory=dict)
    created_at: datetime | None = None
    updated_at: datetime | None = None

    def gain(self, messages: Iterable[Message], updated_at: datetime | None) -> None:
        """Add messages that were stored to the end of the list, those left out whose id is in it already."""
        self._ids.gain(self.messages, messages)
        if updated_at is not None:
            self.updated_at = updated_at

    @cached_property
    def _ids(self) -> "_Ids":
        return _Ids()


class _Ids:
    """The ids of a list of messages, kept so that an append does not look through a long list.

    Made anew when the list is another one or has another length than it was left with.
    """

    __slots__ = ("_ids", "_length", "_list")

    def __init__(self) -> None:
        self._list: list[Message] | None = None
        self._length = 0
        self._ids: set[str] = set()

    def gain(self, into: list[Message], messages: Iterable[Message]) -> None:
        if self._list is not into or self._length != len(into):
            self._list = into
            self._ids = {message.id for message in into}
        for message in messages:
            if message.id not in self._ids:
                self._ids.add(message.id)
                into.append(message)
        self._length = len(into)
