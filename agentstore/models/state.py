"""The states of agents: numbered rounds of a session, and the row that numbers them."""

from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, ForeignKey, ForeignKeyConstraint, func, text
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.orm import Mapped, mapped_column

from agentstore.models.base import Base, Id


class StateHeadRow(Base):
    """One row a user and session, updated by every save."""

    __tablename__ = "state_heads"

    user_id: Mapped[str] = mapped_column(Id, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    session_id: Mapped[str] = mapped_column(Id, primary_key=True)
    # The number of the next round: counted, never max() + 1, so that no number is given twice.
    next_round: Mapped[int] = mapped_column(BigInteger, server_default=text("1"))
    # The highest round that is there, 0 if none is: what an optimistic save is compared with.
    last_round: Mapped[int] = mapped_column(BigInteger, server_default=text("0"))
    updated_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class StateRoundRow(Base):
    """The payload is the whole state. ``json``, stored outside the row and not compressed."""

    __tablename__ = "state_rounds"

    user_id: Mapped[str] = mapped_column(Id, primary_key=True)
    session_id: Mapped[str] = mapped_column(Id, primary_key=True)
    round: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    payload: Mapped[Any] = mapped_column(JSON)
    metadata_: Mapped[Any] = mapped_column("metadata", JSON, server_default=text("'{}'"))
    # Of the payload, in bytes: a list says it without reading one.
    size: Mapped[int] = mapped_column(BigInteger)
    saved_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())

    __table_args__ = (
        ForeignKeyConstraint(
            ["user_id", "session_id"], ["state_heads.user_id", "state_heads.session_id"], ondelete="CASCADE"
        ),
    )
