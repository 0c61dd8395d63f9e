"""SQLAlchemy's ORM as in its tutorial: mapped classes, a session for each call, a commit at its end.

It gives the same guarantees as agentstore: a counter under the row's lock orders messages, and there are foreign keys
and unique ids.
"""

import importlib.metadata
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ForeignKey, ForeignKeyConstraint, Text, UniqueConstraint, select
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from benchmarks.contender import USER, PlainMessage


class Base(DeclarativeBase):
    """The tables of this contender."""


class User(Base):
    """A user."""

    __tablename__ = "users"
    id: Mapped[str] = mapped_column(Text, primary_key=True)


class Conversation(Base):
    """A session, with the number of its next message."""

    __tablename__ = "sessions"
    user_id: Mapped[str] = mapped_column(ForeignKey("users.id", ondelete="CASCADE"), primary_key=True)
    id: Mapped[str] = mapped_column(Text, primary_key=True)
    next_seq: Mapped[int] = mapped_column(default=1)
    updated_at: Mapped[datetime] = mapped_column(default=lambda: datetime.now(UTC).replace(tzinfo=None))


class Entry(Base):
    """A message."""

    __tablename__ = "messages"
    user_id: Mapped[str] = mapped_column(Text, primary_key=True)
    session_id: Mapped[str] = mapped_column(Text, primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(Text)
    payload: Mapped[Any] = mapped_column(JSON)
    __table_args__ = (
        ForeignKeyConstraint(["user_id", "session_id"], ["sessions.user_id", "sessions.id"], ondelete="CASCADE"),
        UniqueConstraint("user_id", "session_id", "id"),
    )


class Round(Base):
    """A state of an agent."""

    __tablename__ = "states"
    user_id: Mapped[str] = mapped_column(Text, primary_key=True)
    session_id: Mapped[str] = mapped_column(Text, primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True)
    payload: Mapped[Any] = mapped_column(JSON)
    __table_args__ = (
        ForeignKeyConstraint(["user_id", "session_id"], ["sessions.user_id", "sessions.id"], ondelete="CASCADE"),
    )


class Contender:
    """The ORM, on asyncpg."""

    name = "SQLAlchemy ORM"
    version = importlib.metadata.version("sqlalchemy")
    durable = True

    def __init__(self, url: str, redis_url: str | None) -> None:
        url = url.replace("postgresql://", "postgresql+asyncpg://", 1)
        self._engine = create_async_engine(url, pool_size=10, max_overflow=0)
        self._open = async_sessionmaker(self._engine, expire_on_commit=False)

    async def start(self) -> None:  # noqa: D102 - documented in benchmarks.contender
        async with self._engine.begin() as connection:
            await connection.run_sync(Base.metadata.create_all)
        async with self._open.begin() as session:
            session.add(User(id=USER))

    async def stop(self) -> None:  # noqa: D102
        await self._engine.dispose()

    async def create(self, session: str) -> None:  # noqa: D102
        async with self._open.begin() as orm:
            orm.add(Conversation(user_id=USER, id=session))

    def convert(self, messages: Sequence[PlainMessage]) -> list[dict[str, Any]]:  # noqa: D102
        return [{"id": each.id, "role": each.role, "text": each.text} for each in messages]

    async def append(self, session: str, messages: list[dict[str, Any]]) -> None:  # noqa: D102
        async with self._open.begin() as orm:
            conversation = await orm.get_one(Conversation, (USER, session), with_for_update=True)
            for place, each in enumerate(messages):
                seq = conversation.next_seq + place
                orm.add(Entry(user_id=USER, session_id=session, seq=seq, id=each["id"], payload=each))
            conversation.next_seq += len(messages)
            conversation.updated_at = datetime.now(UTC).replace(tzinfo=None)

    async def read(self, session: str) -> list[Entry]:  # noqa: D102
        async with self._open() as orm:
            await orm.get_one(Conversation, (USER, session))
            wanted = select(Entry).where(Entry.user_id == USER, Entry.session_id == session).order_by(Entry.seq)
            return list(await orm.scalars(wanted))

    def texts(self, found: list[Entry]) -> list[str]:  # noqa: D102
        return [each.payload["text"] for each in found]

    async def list_sessions(self) -> int:  # noqa: D102
        async with self._open() as orm:
            wanted = select(Conversation).where(Conversation.user_id == USER).order_by(Conversation.updated_at.desc())
            return len(list(await orm.scalars(wanted)))

    async def save_state(self, session: str, state: dict[str, Any]) -> None:  # noqa: D102
        async with self._open.begin() as orm:
            await orm.get_one(Conversation, (USER, session), with_for_update=True)
            last = await orm.scalar(self._last(session, Round.round))
            orm.add(Round(user_id=USER, session_id=session, round=(last or 0) + 1, payload=state))

    async def load_state(self, session: str) -> dict[str, Any]:  # noqa: D102
        async with self._open() as orm:
            found = await orm.scalar(self._last(session, Round))
            assert found is not None
            state: dict[str, Any] = found.payload
            return state

    def _last(self, session: str, what: Any) -> Any:
        of_session = (Round.user_id == USER) & (Round.session_id == session)
        return select(what).where(of_session).order_by(Round.round.desc()).limit(1)
