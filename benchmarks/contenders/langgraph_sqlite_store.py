"""langgraph's AsyncSqliteStore: what AsyncPostgresStore does, in a file that one process writes."""

import importlib.metadata
import tempfile
from contextlib import AsyncExitStack

from langgraph.store.sqlite.aio import AsyncSqliteStore

from benchmarks.contenders import langgraph_store


class Contender(langgraph_store.Contender):
    """AsyncSqliteStore on a file in a temporary folder."""

    name = "langgraph store, SQLite"
    version = importlib.metadata.version("langgraph-checkpoint-sqlite")

    def __init__(self, url: str, redis_url: str | None) -> None:
        self._open = AsyncExitStack()

    async def start(self) -> None:  # noqa: D102 - documented in benchmarks.contender
        folder = self._open.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
        opening = AsyncSqliteStore.from_conn_string(f"{folder}/store")
        self._store = store = await self._open.enter_async_context(opening)
        await store.setup()

    async def stop(self) -> None:  # noqa: D102
        await self._open.aclose()
