"""Memories: searchable messages and facts, grouped in buckets by session."""

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
    SmallInteger,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSON, TSVECTOR
from sqlalchemy.orm import Mapped, mapped_column

from agentstore.models.base import Base, Id


class MemoryBucketRow(Base):
    """One row per user and session: the totals that ranking needs, without reading the memories."""

    __tablename__ = "memory_buckets"

    user_id: Mapped[str] = mapped_column(Id, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    session_id: Mapped[str] = mapped_column(Id, primary_key=True)
    # The number of memories, whose seq has no gaps and starts at 1, and of all their tokens.
    count: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    tokens: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    # The time of the last addition, or of the migration that added this column.
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class MemoryRow(Base):
    """A memory: the whole message in `payload`, and the columns by which it is searched and filtered."""

    __tablename__ = "memories"

    user_id: Mapped[str] = mapped_column(Id, primary_key=True)
    session_id: Mapped[str] = mapped_column(Id, primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    id: Mapped[str] = mapped_column(Id)
    payload: Mapped[Any] = mapped_column(JSON)
    role: Mapped[str | None] = mapped_column(Text)
    # Whether at least half of the words are in sentences that ask, for earlier releases and where the next is null.
    is_question: Mapped[bool] = mapped_column(Boolean)
    # The percentage of the words that are in sentences that ask. Null for items, and if an earlier release indexed it.
    question_share: Mapped[int | None] = mapped_column(SmallInteger)
    # The tokens of the speaker's first name, separated by spaces.
    speaker: Mapped[str | None] = mapped_column(Text)
    # The message's own timestamp, otherwise the time of storing.
    time: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    tokens: Mapped[int] = mapped_column(BigInteger)
    # Each lexeme is prefixed with a hash of the user, so that an index entry belongs to one user: the data of other
    # users does not slow down a search, and the index needs no extension.
    lexemes: Mapped[Any] = mapped_column(TSVECTOR)
    # The version of the analysis: another release, language or stemmer would produce other tokens.
    analysis: Mapped[str] = mapped_column(Text)
    # Whether the text is longer than what is indexed of a memory.
    is_cut: Mapped[bool] = mapped_column(Boolean, server_default=text("false"))
    # A path such as "project/x". Found by the labels among the lexemes, as the metadata is.
    namespace: Mapped[str | None] = mapped_column(Text)
    # "message", or the kind of an item, such as "fact". The columns below are null for messages.
    kind: Mapped[str] = mapped_column(Text, server_default=text("'message'"))
    importance: Mapped[float | None] = mapped_column(Double)
    valid_from: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    valid_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))

    __table_args__ = (
        ForeignKeyConstraint(
            ["user_id", "session_id"], ["memory_buckets.user_id", "memory_buckets.session_id"], ondelete="CASCADE"
        ),
        # The id comes first, so that the planner does not choose this index to find memories by session.
        UniqueConstraint("id", "user_id", "session_id"),
        Index("memories_items_idx", "user_id", "time", "id", postgresql_where=text("kind <> 'message'")),
        # Documents are in a bucket of their own, whose name is their id.
        Index(
            "memories_namespaces_idx",
            "user_id",
            "namespace",
            postgresql_ops={"namespace": 'COLLATE "C"'},
            postgresql_where=text("kind = 'document' AND id = session_id"),
        ),
        Index(
            "memories_expiring_idx",
            "valid_until",
            postgresql_where=text("kind = 'document' AND id = session_id AND valid_until IS NOT NULL"),
        ),
        Index(
            "memories_lexemes_idx",
            "lexemes",
            postgresql_using="gin",
            # Each entry is inserted at once: every search would read the list of pending ones.
            postgresql_with={"gin_pending_list_limit": "128", "fastupdate": "off"},
        ),
    )
