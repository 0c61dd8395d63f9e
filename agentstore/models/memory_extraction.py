"""The queue of messages that facts are still to be extracted from."""

from datetime import datetime

from sqlalchemy import BigInteger, Boolean, DateTime, ForeignKeyConstraint, Index, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from agentstore.models.base import Base, Id


class MemoryExtractionRow(Base):
    """A range of a bucket's memories, written with them and deleted with what was extracted from them.

    A bucket has one that additions extend, so that what is said in quick succession is one job, and beside it those
    that were set aside as failed.
    """

    __tablename__ = "memory_extractions"

    user_id: Mapped[str] = mapped_column(Id, primary_key=True)
    session_id: Mapped[str] = mapped_column(Id, primary_key=True)
    first_seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    last_seq: Mapped[int] = mapped_column(BigInteger)
    is_open: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    # But for those that an outage ended: they are many more, and say nothing about the job.
    attempts: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    outages: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    run_after: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    # Who is at work on it, by a name that is used once, and until when others believe it.
    lease: Mapped[str | None] = mapped_column(Text)
    leased_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # It has been tried often enough.
    failed_at: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())

    __table_args__ = (
        ForeignKeyConstraint(
            ["user_id", "session_id"], ["memory_buckets.user_id", "memory_buckets.session_id"], ondelete="CASCADE"
        ),
        Index("memory_extractions_open_idx", "user_id", "session_id", unique=True, postgresql_where=text("is_open")),
        Index("memory_extractions_due_idx", "run_after", postgresql_where=text("failed_at IS NULL")),
        Index("memory_extractions_leased_idx", "user_id", postgresql_where=text("lease IS NOT NULL")),
        Index(
            "memory_extractions_failed_idx",
            *("user_id", "session_id", "first_seq"),
            postgresql_where=text("failed_at IS NOT NULL"),
        ),
    )
