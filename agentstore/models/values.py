"""Scoped values: JSON values by key, of an application, of a user, and of a session.

A row for each key, so that writers of different keys do not wait for each other.
"""

from typing import Any

from sqlalchemy import ForeignKey, ForeignKeyConstraint
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.orm import Mapped, mapped_column

from agentstore.models.base import Base, Id


class AppValueRow(Base):
    """A value that all users of an application share. It belongs to no user, and is distributed by the application."""

    __tablename__ = "app_values"

    app: Mapped[str] = mapped_column(Id, primary_key=True)
    key: Mapped[str] = mapped_column(Id, primary_key=True)
    value: Mapped[Any] = mapped_column(JSON)


class UserValueRow(Base):
    """A value of a user in an application, which all of the user's sessions share."""

    __tablename__ = "user_values"

    user_id: Mapped[str] = mapped_column(Id, ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    app: Mapped[str] = mapped_column(Id, primary_key=True)
    key: Mapped[str] = mapped_column(Id, primary_key=True)
    value: Mapped[Any] = mapped_column(JSON)


class SessionValueRow(Base):
    """A value of a session: a part of it, as its title is."""

    __tablename__ = "session_values"

    user_id: Mapped[str] = mapped_column(Id, primary_key=True)
    session_id: Mapped[str] = mapped_column(Id, primary_key=True)
    key: Mapped[str] = mapped_column(Id, primary_key=True)
    value: Mapped[Any] = mapped_column(JSON)

    __table_args__ = (
        ForeignKeyConstraint(["user_id", "session_id"], ["sessions.user_id", "sessions.id"], ondelete="CASCADE"),
    )
