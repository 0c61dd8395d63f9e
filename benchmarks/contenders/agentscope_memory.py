"""agentscope's AsyncSQLAlchemyMemory: add and get_memory on asyncpg. It cannot list sessions.

Each session has one memory object, which its writers share. A memory that was read holds its connection until its next
write, so the pool may open more than ten connections.
"""

import importlib.metadata
from collections.abc import Sequence

from agentscope.memory import AsyncSQLAlchemyMemory
from agentscope.message import Msg
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.contender import USER, PlainMessage


class Contender:
    """AsyncSQLAlchemyMemory with its defaults."""

    name = "agentscope"
    version = importlib.metadata.version("agentscope")
    durable = True

    def __init__(self, url: str, redis_url: str | None) -> None:
        self._engine = create_async_engine(
            url.replace("postgresql:", "postgresql+asyncpg:", 1), pool_size=10, max_overflow=-1
        )
        self._memories: dict[str, AsyncSQLAlchemyMemory] = {}

    async def start(self) -> None:
        """Do nothing: the first call of each memory creates the tables."""

    async def stop(self) -> None:  # noqa: D102 - documented in benchmarks.contender
        for memory in self._memories.values():
            await memory.close()
        await self._engine.dispose()

    async def create(self, session: str) -> None:
        """Create a memory, and the session's row with its first call."""
        memory = self._memories[session] = AsyncSQLAlchemyMemory(self._engine, session, USER)
        await memory.add([])

    def convert(self, messages: Sequence[PlainMessage]) -> list[Msg]:  # noqa: D102
        return [Msg(each.role, each.text, each.role) for each in messages]

    async def append(self, session: str, messages: list[Msg]) -> None:  # noqa: D102
        await self._memories[session].add(messages)

    async def read(self, session: str) -> list[Msg]:  # noqa: D102
        return await self._memories[session].get_memory()

    def texts(self, found: list[Msg]) -> list[str]:  # noqa: D102
        return [message.content for message in found]
