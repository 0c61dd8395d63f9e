"""Users: the owners of all other rows."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, func, text
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.orm import Mapped, mapped_column

from agentstore.models.base import Base, Id


class UserRow(Base):
    """A user, created when first needed; deleting it deletes all rows of the user."""

    __tablename__ = "users"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    metadata_: Mapped[Any] = mapped_column("metadata", JSON, server_default=text("'{}'"))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    # About how many memories the user has, and their tokens, if these are in so many buckets that a search does not sum
    # them: see repositories/memory/totals.py.
    memories: Mapped[int | None] = mapped_column(BigInteger)
    memory_tokens: Mapped[int | None] = mapped_column(BigInteger)
