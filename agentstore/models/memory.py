"""Memories: messages and facts that are found again by their words, in buckets by session."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    DateTime,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSON, TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

from agentstore.models.base import Base, Id


class MemoryBucketRow(Base):
    """One row a user and session: what a search has to know of all its memories, without reading them."""

    __tablename__ = "memory_buckets"

    user_id: Mapped[str] = mapped_column(Id, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    session_id: Mapped[str] = mapped_column(Id, primary_key=True)
    # Of its memories, which are numbered from 1 without a gap.
    count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    tokens: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    # The last addition, or the migration that brought this column.
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class MemoryRow(Base):
    """The payload is the whole message; beside it is what it is found by."""

    __tablename__ = "memories"

    user_id: Mapped[str] = mapped_column(Id, primary_key=True)
    session_id: Mapped[str] = mapped_column(Id, primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    id: Mapped[str] = mapped_column(Id)
    payload: Mapped[Any] = mapped_column(JSON)
    role: Mapped[str | None] = mapped_column(Text)
    is_question: Mapped[bool] = mapped_column(Boolean)
    # When it was said, where the message tells, else when it was stored.
    time: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    tokens: Mapped[int] = mapped_column(BigInteger)
    # Each lexeme begins with a hash of the user, so that an entry of the index is one user's: what others say makes
    # no search slower, and the index needs no extension.
    lexemes: Mapped[Any] = mapped_column(TSVECTOR)
    # By what it was analysed: another release, language or stemmer would find it by other tokens.
    analysis: Mapped[str] = mapped_column(Text)
    # The text was longer than what is indexed of one.
    is_cut: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    # "message", or the kind of a fact, which alone has what follows.
    kind: Mapped[str] = mapped_column(Text, server_default=text("'message'"))
    importance: Mapped[float | None] = mapped_column(Double)
    valid_from: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    valid_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    __table_args__ = (
        ForeignKeyConstraint(
            ["user_id", "session_id"], ["memory_buckets.user_id", "memory_buckets.session_id"], ondelete="CASCADE"
        ),
        # The id first, so that no planner takes this index for the place of a memory in its session.
        UniqueConstraint("id", "user_id", "session_id"),
        Index("memories_items_idx", "user_id", "time", "id", postgresql_where=text("kind <> 'message'")),
        Index(
            "memories_lexemes_idx",
            "lexemes",
            postgresql_using="gin",
            postgresql_with={"gin_pending_list_limit": "128"},
        ),
    )
