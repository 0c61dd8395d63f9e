"""agentscope's AsyncSQLAlchemyMemory: add and get_memory on asyncpg. It has no list of sessions.

Each session has a memory, which its writers share; one that was read keeps its connection until it writes again, so
that the pool may have more connections than ten.
"""

import importlib.metadata
from collections.abc import Sequence

from agentscope.memory import AsyncSQLAlchemyMemory
from agentscope.message import Msg
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks.contender import USER, Said


class Contender:
    """Its memory, with its defaults."""

    name = "agentscope"
    version = importlib.metadata.version("agentscope")
    durable = True

    def __init__(self, url: str, redis_url: str | None) -> None:
        self._engine = create_async_engine(
            url.replace("postgresql:", "postgresql+asyncpg:", 1), pool_size=10, max_overflow=-1
        )
        self._memories: dict[str, AsyncSQLAlchemyMemory] = {}

    async def start(self) -> None:
        """Nothing yet: the first call to each session's memory makes the tables."""

    async def stop(self) -> None:  # noqa: D102 - see benchmarks.contender
        for memory in self._memories.values():
            await memory.close()
        await self._engine.dispose()

    async def create(self, session: str) -> None:
        """Let a memory make the session's row, which it does in its first call."""
        memory = self._memories[session] = AsyncSQLAlchemyMemory(self._engine, session, USER)
        await memory.add([])

    def make(self, said: Sequence[Said]) -> list[Msg]:  # noqa: D102
        return [Msg(each.role, each.text, each.role) for each in said]

    async def append(self, session: str, messages: list[Msg]) -> None:  # noqa: D102
        await self._memories[session].add(messages)

    async def read(self, session: str) -> list[Msg]:  # noqa: D102
        return await self._memories[session].get_memory()

    def texts(self, found: list[Msg]) -> list[str]:  # noqa: D102
        return [message.content for message in found]
