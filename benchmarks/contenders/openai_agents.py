"""openai-agents' SQLAlchemySession: add_items and get_items on asyncpg. It cannot list sessions.

All sessions share one engine, as its documentation recommends. A session's row is inserted with its first items.
"""

import importlib.metadata
from collections.abc import Sequence

from agents import TResponseInputItem
from agents.extensions.memory import SQLAlchemySession
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.contender import PlainMessage


class Contender:
    """SQLAlchemySession with its defaults."""

    name = "openai-agents"
    version = importlib.metadata.version("openai-agents")
    durable = True

    def __init__(self, url: str, redis_url: str | None) -> None:
        self._engine = create_async_engine(
            url.replace("postgresql:", "postgresql+asyncpg:", 1), pool_size=10, max_overflow=0
        )
        self._sessions: dict[str, SQLAlchemySession] = {}

    async def start(self) -> None:
        """Create the tables, with a session that has `create_tables`."""
        await SQLAlchemySession("tables", engine=self._engine, create_tables=True).get_items()

    async def stop(self) -> None:  # noqa: D102 - documented in benchmarks.contender
        await self._engine.dispose()

    async def create(self, session: str) -> None:  # noqa: D102
        self._sessions[session] = SQLAlchemySession(session, engine=self._engine)

    def convert(self, messages: Sequence[PlainMessage]) -> list[TResponseInputItem]:  # noqa: D102
        return [{"role": each.role, "content": each.text} for each in messages]

    async def append(self, session: str, messages: list[TResponseInputItem]) -> None:  # noqa: D102
        await self._sessions[session].add_items(messages)

    async def read(self, session: str) -> list[TResponseInputItem]:  # noqa: D102
        items: list[TResponseInputItem] = await self._sessions[session].get_items()
        return items

    def texts(self, found: list[TResponseInputItem]) -> list[str]:  # noqa: D102
        return [item["content"] for item in found]
