"""A user of the application."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field


class User(BaseModel):
    """The owner of sessions, memories, states and sandboxes. Created by the first call that stores something."""

    id: str
    metadata: dict[Any, Any] = Field(default_factory=dict)
    """Any JSON object: see :meth:`agentstore.PostgresUserService.set_metadata`."""
    created_at: datetime | None = None
    """When the user was created (UTC)."""
