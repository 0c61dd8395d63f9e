"""A conversation, and the counter that orders its messages."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Index, Text, func, text
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.orm import Mapped, mapped_column

from agentstore.models.base import Base, Id


class SessionRow(Base):
    """One row a conversation, updated by every append."""

    __tablename__ = "sessions"

    user_id: Mapped[str] = mapped_column(Id, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    # The seq of the next message. Counted here and not by max(): an append locks this row anyway.
    next_seq: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))
    title: Mapped[str | None] = mapped_column(Text)
    metadata_: Mapped[Any] = mapped_column("metadata", JSON, server_default=text("'{}'"))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    # updated_at cut to the minute, which is what lists are ordered by: an indexed column that changed with every
    # append would cost each of them an entry in every index (no HOT update).
    listed_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=text("date_trunc('minute', now())")
    )
    # The session that this one began as a copy of, and the seq of the last message of it that was copied.
    forked_from: Mapped[str | None] = mapped_column(Id)
    forked_at: Mapped[int | None] = mapped_column(BigInteger)
    # The seconds after the last write for which it is kept; without it, what the store's setting says.
    ttl: Mapped[int | None] = mapped_column(BigInteger)

    __table_args__ = (
        Index("sessions_user_id_listed_at_id_idx", "user_id", "listed_at", "id"),
        # Few have one, and pruning looks for those.
        Index("sessions_ttl_idx", "user_id", "id", postgresql_where=text("ttl IS NOT NULL")),
        CheckConstraint("ttl > 0", name="sessions_ttl_check"),
    )
