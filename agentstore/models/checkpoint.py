"""The checkpoints of graphs: the head of each session, checkpoints, the values of their channels, and pending writes.

Data is compressed by Zstandard where that makes it smaller: `size` is its length without compression.
"""

from datetime import datetime

from sqlalchemy import BigInteger, DateTime, ForeignKey, ForeignKeyConstraint, Index, LargeBinary, Text, func, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from agentstore.models.base import Base, Id


def _head() -> ForeignKeyConstraint:
    return ForeignKeyConstraint(
        ["user_id", "session_id"], ["checkpoint_heads.user_id", "checkpoint_heads.session_id"], ondelete="CASCADE"
    )


class CheckpointHeadRow(Base):
    """One row per user and session, updated by every put."""

    __tablename__ = "checkpoint_heads"

    user_id: Mapped[str] = mapped_column(Id, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    session_id: Mapped[str] = mapped_column(Id, primary_key=True)
    # Changed by whatever deletes values of the session: a put that relies on stored values compares it.
    epoch: Mapped[int] = mapped_column(BigInteger, server_default=text("(extract(epoch FROM now()) * 1000000)::bigint"))
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())

    __table_args__ = (
        # By which calls that name no user find the owners of a session.
        Index("checkpoint_heads_session_id_idx", "session_id"),
    )


class CheckpointRow(Base):
    """A checkpoint without the values of its channels, whose versions it names."""

    __tablename__ = "checkpoints"

    user_id: Mapped[str] = mapped_column(Id, primary_key=True)
    session_id: Mapped[str] = mapped_column(Id, primary_key=True)
    namespace: Mapped[str] = mapped_column(Id, primary_key=True)
    id: Mapped[str] = mapped_column(Id, primary_key=True)
    parent_id: Mapped[str | None] = mapped_column(Id)
    run_id: Mapped[str | None] = mapped_column(Id)
    type: Mapped[str] = mapped_column(Text)
    size: Mapped[int] = mapped_column(BigInteger)
    data: Mapped[bytes] = mapped_column(LargeBinary)
    metadata_type: Mapped[str] = mapped_column(Text)
    metadata_: Mapped[bytes] = mapped_column("metadata", LargeBinary)
    # The channels and, at the same place, their versions. Not each version has a value.
    channels: Mapped[list[str]] = mapped_column(ARRAY(Id))
    versions: Mapped[list[str]] = mapped_column(ARRAY(Id))
    # The channels whose value is computed from the writes of earlier checkpoints.
    deltas: Mapped[list[str] | None] = mapped_column(ARRAY(Id))
    saved_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())

    __table_args__ = (
        Index("checkpoints_run_id_idx", "run_id", postgresql_where=text("run_id IS NOT NULL")),
        _head(),
    )


class CheckpointValueRow(Base):
    """A version of the value of a channel: bytes of its own, and pieces of the bytes of other versions.

    Without `pieces`, the value is `data`. See :mod:`agentstore.schemas.pieces`.
    """

    __tablename__ = "checkpoint_values"

    user_id: Mapped[str] = mapped_column(Id, primary_key=True)
    session_id: Mapped[str] = mapped_column(Id, primary_key=True)
    namespace: Mapped[str] = mapped_column(Id, primary_key=True)
    channel: Mapped[str] = mapped_column(Id, primary_key=True)
    version: Mapped[str] = mapped_column(Id, primary_key=True)
    type: Mapped[str] = mapped_column(Text)
    size: Mapped[int] = mapped_column(BigInteger)
    data: Mapped[bytes] = mapped_column(LargeBinary)
    sources: Mapped[list[str] | None] = mapped_column(ARRAY(Id))
    pieces: Mapped[bytes | None] = mapped_column(LargeBinary)

    __table_args__ = (_head(),)


class CheckpointWriteRow(Base):
    """A write of a task that is pending at a checkpoint, which may be stored later than the write."""

    __tablename__ = "checkpoint_writes"

    user_id: Mapped[str] = mapped_column(Id, primary_key=True)
    session_id: Mapped[str] = mapped_column(Id, primary_key=True)
    namespace: Mapped[str] = mapped_column(Id, primary_key=True)
    checkpoint_id: Mapped[str] = mapped_column(Id, primary_key=True)
    task_id: Mapped[str] = mapped_column(Id, primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    task_path: Mapped[str] = mapped_column(Id)
    channel: Mapped[str] = mapped_column(Id)
    type: Mapped[str] = mapped_column(Text)
    size: Mapped[int] = mapped_column(BigInteger)
    data: Mapped[bytes] = mapped_column(LargeBinary)

    __table_args__ = (_head(),)
