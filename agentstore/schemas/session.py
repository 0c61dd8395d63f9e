"""A conversation, as callers see it."""

from datetime import datetime
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
    metadata: dict[str, Any] = Field(default_factory=dict)
    created_at: datetime | None = None
    updated_at: datetime | None = None
