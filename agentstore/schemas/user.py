"""A user, as callers see it."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field


class User(BaseModel):
    """The owner of sessions, memories and states. Made where first needed."""

    id: str
    metadata: dict[Any, Any] = Field(default_factory=dict)
    created_at: datetime | None = None
