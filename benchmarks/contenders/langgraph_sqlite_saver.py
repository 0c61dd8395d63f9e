"""langgraph's AsyncSqliteSaver: what AsyncPostgresSaver does, in a file that one process writes."""

import importlib.metadata
import tempfile
from contextlib import AsyncExitStack

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from benchmarks.contenders import langgraph_saver


class Contender(langgraph_saver.Contender):
    """AsyncSqliteSaver on a file in a temporary folder."""

    name = "langgraph checkpoint, SQLite"
    version = importlib.metadata.version("langgraph-checkpoint-sqlite")

    def __init__(self, url: str, redis_url: str | None) -> None:
        self._open = AsyncExitStack()
        self._last = {}

    async def start(self) -> None:  # noqa: D102 - documented in benchmarks.contender
        folder = self._open.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
        self._saver = await self._open.enter_async_context(AsyncSqliteSaver.from_conn_string(f"{folder}/checkpoints"))
        await self._saver.setup()

    async def stop(self) -> None:  # noqa: D102
        await self._open.aclose()
