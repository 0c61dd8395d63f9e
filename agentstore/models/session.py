"""Conversations, each with the counter that orders its messages."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Index, Text, func, text
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.orm import Mapped, mapped_column

from agentstore.models.base import Base, Id


class SessionRow(Base):
    """One row per conversation, updated by every append."""

    __tablename__ = "sessions"

    user_id: Mapped[str] = mapped_column(Id, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    # The seq of the next message: a counter instead of max(seq) + 1, since an append locks this row anyway.
    next_seq: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))
    # How many numbers below next_seq have no message, since it was deleted by itself: the session has
    # next_seq - 1 - removed messages.
    removed: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    title: Mapped[str | None] = mapped_column(Text)
    metadata_: Mapped[Any] = mapped_column("metadata", JSON, server_default=text("'{}'"))
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    # updated_at truncated to the minute, by which lists are ordered: if an indexed column changed with every append,
    # each append would write to every index (no HOT update).
    listed_at: Mapped[datetime] = mapped_column(
        DateTime(timezone=True), server_default=text("date_trunc('minute', now())")
    )
    # The session that this one was forked from, and the seq of the last message that was copied.
    forked_from: Mapped[str | None] = mapped_column(Id)
    forked_at: Mapped[int | None] = mapped_column(BigInteger)
    # The time to live in seconds after updated_at; null applies the store's setting.
    ttl: Mapped[int | None] = mapped_column(BigInteger)
    # The application that created the session, by which sessions are listed.
    app: Mapped[str | None] = mapped_column(Id)

    __table_args__ = (
        Index("sessions_user_id_listed_at_id_idx", "user_id", "listed_at", "id"),
        # Partial: few sessions have a ttl, and pruning looks for those.
        Index("sessions_ttl_idx", "user_id", "id", postgresql_where=text("ttl IS NOT NULL")),
        CheckConstraint("ttl > 0", name="sessions_ttl_check"),
        # Lists: of one user, of all users, of an application, and by metadata. No append changes these columns more
        # often than listed_at.
        Index("sessions_user_id_created_at_id_idx", "user_id", "created_at", "id"),
        Index("sessions_listed_at_idx", "listed_at"),
        Index("sessions_created_at_user_id_id_idx", "created_at", "user_id", "id"),
        Index("sessions_app_listed_at_idx", "app", "listed_at", postgresql_where=text("app IS NOT NULL")),
        Index(
            "sessions_metadata_idx",
            text("metadata_terms(metadata)"),
            postgresql_using="gin",
            postgresql_with={"fastupdate": "off"},
            postgresql_where=text("metadata::text <> '{}'"),
        ),
    )
