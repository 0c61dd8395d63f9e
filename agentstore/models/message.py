"""The messages of conversations."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, ForeignKeyConstraint, UniqueConstraint, func
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.orm import Mapped, mapped_column

from agentstore.models.base import Base, Id


class MessageRow(Base):
    """A message: `payload` is the whole message as it was passed. No statement or index reads inside it.

    ``json`` instead of ``jsonb``: it preserves NUL characters, lone surrogates, large integers and the order of keys.
    """

    __tablename__ = "messages"

    user_id: Mapped[str] = mapped_column(Id, primary_key=True)
    session_id: Mapped[str] = mapped_column(Id, primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    id: Mapped[str] = mapped_column(Id)
    payload: Mapped[Any] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())

    __table_args__ = (
        ForeignKeyConstraint(["user_id", "session_id"], ["sessions.user_id", "sessions.id"], ondelete="CASCADE"),
        UniqueConstraint("user_id", "session_id", "id"),
    )
