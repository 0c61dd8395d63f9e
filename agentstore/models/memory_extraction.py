"""The queue of messages from which facts are to be extracted."""

from datetime import datetime

from sqlalchemy import BigInteger, Boolean, DateTime, ForeignKeyConstraint, Index, Text, func, text
from sqlalchemy.orm import Mapped, mapped_column

from agentstore.models.base import Base, Id


class MemoryExtractionRow(Base):
    """A job: a range of a bucket's memories, created by the transaction that adds them.

    It is deleted by the transaction that stores the items extracted from them. A bucket has at most one open job, which
    additions extend, so that messages in quick succession are one job. Failed jobs are set aside as separate rows.
    """

    __tablename__ = "memory_extractions"

    user_id: Mapped[str] = mapped_column(Id, primary_key=True)
    session_id: Mapped[str] = mapped_column(Id, primary_key=True)
    first_seq: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    last_seq: Mapped[int] = mapped_column(BigInteger)
    is_open: Mapped[bool] = mapped_column(Boolean, server_default=text("true"))
    # Without those that failed because of an outage, which are counted separately: they are not the job's fault.
    attempts: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    outages: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    run_after: Mapped[datetime] = mapped_column(DateTime(timezone=True))
    # A unique token of the worker that holds the job, and when its lease expires.
    lease: Mapped[str | None] = mapped_column(Text)
    leased_until: Mapped[datetime | None] = mapped_column(DateTime(timezone=True))
    # When the maximum number of attempts was reached.
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
