"""The states of agents: numbered rounds of a session, and the counter that numbers them."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, ForeignKeyConstraint, LargeBinary, func, text
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.orm import Mapped, mapped_column

from agentstore.models.base import Base, Id


class StateHeadRow(Base):
    """One row per user and session, updated by every save."""

    __tablename__ = "state_heads"

    user_id: Mapped[str] = mapped_column(Id, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    session_id: Mapped[str] = mapped_column(Id, primary_key=True)
    # The number of the next round: a counter instead of max(round) + 1, so that no number is used twice.
    next_round: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))
    # The highest existing round, or 0: an optimistic save compares its expected round with it.
    last_round: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class StateRoundRow(Base):
    """A state: as JSON in `payload`, in uncompressed TOAST storage, or as a Zstandard frame in `packed`.

    Large states are packed: they take less than half of the space, and less time to save and to load.
    """

    __tablename__ = "state_rounds"

    user_id: Mapped[str] = mapped_column(Id, primary_key=True)
    session_id: Mapped[str] = mapped_column(Id, primary_key=True)
    round: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    payload: Mapped[Any | None] = mapped_column(JSON)
    packed: Mapped[bytes | None] = mapped_column(LargeBinary)
    metadata_: Mapped[Any] = mapped_column("metadata", JSON, server_default=text("'{}'"))
    # The size of the state as JSON, in bytes, so that a list need not read the states.
    size: Mapped[int] = mapped_column(BigInteger)
    saved_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())

    __table_args__ = (
        CheckConstraint("(payload IS NULL) <> (packed IS NULL)", name="state_rounds_payload_check"),
        ForeignKeyConstraint(
            ["user_id", "session_id"], ["state_heads.user_id", "state_heads.session_id"], ondelete="CASCADE"
        ),
    )
