"""The registry of sandboxes, and stored workspaces."""

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
    """One row per sandbox that exists, is being created or is being ended.

    The replica that uses the sandbox renews `lease_until`; after that time any replica may end it.
    """

    __tablename__ = "sandboxes"

    user_id: Mapped[str] = mapped_column(Id, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    session_id: Mapped[str] = mapped_column(Id, primary_key=True)
    type: Mapped[str] = mapped_column(Id, primary_key=True)
    # A fencing token, new for each sandbox of this key: holders of an older generation have lost the sandbox.
    generation: Mapped[int] = mapped_column(BigInteger)
    state: Mapped[str] = mapped_column(Text)
    provider: Mapped[str] = mapped_column(Text)
    owner: Mapped[str] = mapped_column(Text)
    host: Mapped[str] = mapped_column(Text)
    # The provider's handle of the sandbox, or of its reservation; null while there is none.
    handle: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())
    lease_until: Mapped[datetime] = mapped_column(DateTime(timezone=True))

    __table_args__ = (
        CheckConstraint("state IN ('starting', 'ready', 'ending')", name="sandboxes_state_check"),
        # Without the user: the reaper looks for expired leases of all users.
        Index("sandboxes_lease_until_idx", "lease_until"),
    )


class WorkspaceRow(Base):
    """The last stored workspace per user, session and type; its archive is in the chunks."""

    __tablename__ = "workspaces"

    user_id: Mapped[str] = mapped_column(Id, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    session_id: Mapped[str] = mapped_column(Id, primary_key=True)
    type: Mapped[str] = mapped_column(Id, primary_key=True)
    chunks: Mapped[int] = mapped_column(BigInteger)
    # The size of the stored archive in bytes, compressed.
    size: Mapped[int] = mapped_column(BigInteger)
    saved_at: Mapped[datetime] = mapped_column(DateTime(timezone=True), server_default=func.now())


class WorkspaceChunkRow(Base):
    """A chunk of a Zstandard-compressed tar archive, numbered from 1."""

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
