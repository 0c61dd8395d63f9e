"""Sandboxes that are in use, and the workspaces that outlive them."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    Text,
    func,
)
from sqlalchemy.orm import Mapped, mapped_column

from agentstore.models.base import Base, Id


class SandboxRow(Base):
    """One row for each sandbox that lives, is being made or is being ended: there is none that is not needed.

    Whoever uses it renews `lease_until`; after that it is anybody's to end.
    """

    __tablename__ = "sandboxes"

    user_id: Mapped[str] = mapped_column(Id, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    session_id: Mapped[str] = mapped_column(Id, primary_key=True)
    type: Mapped[str] = mapped_column(Id, primary_key=True)
    # Another one for each that is made: who holds an older one holds nothing.
    generation: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(Text)
    provider: Mapped[str] = mapped_column(Text)
    owner: Mapped[str] = mapped_column(Text)
    host: Mapped[str] = mapped_column(Text)
    # By which the provider finds it; none while it is being made.
    handle: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    lease_until: Mapped[datetime] = mapped_column(DateTime(timezone=True))

    __table_args__ = (
        CheckConstraint("state IN ('starting', 'ready', 'ending')", name="sandboxes_state_check"),
        # Not by user: whoever reaps takes what has expired, whoever it is of.
        Index("sandboxes_lease_until_idx", "lease_until"),
    )


class WorkspaceRow(Base):
    """The last workspace that was kept of a user, session and type; its archive is in the chunks."""

    __tablename__ = "workspaces"

    user_id: Mapped[str] = mapped_column(Id, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    session_id: Mapped[str] = mapped_column(Id, primary_key=True)
    type: Mapped[str] = mapped_column(Id, primary_key=True)
    chunks: Mapped[int] = mapped_column(BigInteger)
    # Of the archive as it is kept, in bytes.
    size: Mapped[int] = mapped_column(BigInteger)
    saved_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class WorkspaceChunkRow(Base):
    """A piece of a tar archive that Zstandard has packed, numbered from 1."""

    __tablename__ = "workspace_chunks"

    user_id: Mapped[str] = mapped_column(Id, primary_key=True)
    session_id: Mapped[str] = mapped_column(Id, primary_key=True)
    type: Mapped[str] = mapped_column(Id, primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    data: Mapped[bytes] = mapped_column(LargeBinary)

    __table_args__ = (
        ForeignKeyConstraint(
            ["user_id", "session_id", "type"],
            ["workspaces.user_id", "workspaces.session_id", "workspaces.type"],
            ondelete="CASCADE",
        ),
    )
