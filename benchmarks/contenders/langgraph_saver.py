"""langgraph's AsyncPostgresSaver: aput of a checkpoint whose only channel holds the state, and aget of the latest.

Each checkpoint is the child of the previous one, as in a graph. The pool has the settings of its documentation.
"""

import importlib.metadata
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import CheckpointMetadata, empty_checkpoint
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool


class Contender:
    """AsyncPostgresSaver on a psycopg pool."""

    name = "langgraph checkpoint"
    version = importlib.metadata.version("langgraph-checkpoint-postgres")
    durable = True

    _saver: AsyncPostgresSaver

    def __init__(self, url: str, redis_url: str | None) -> None:
        settings = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
        self._pool = AsyncConnectionPool(url, min_size=10, max_size=10, open=False, kwargs=settings)
        self._last: dict[str, tuple[RunnableConfig, str | None]] = {}

    async def start(self) -> None:  # noqa: D102 - documented in benchmarks.contender
        await self._pool.open(wait=True)
        self._saver = AsyncPostgresSaver(self._pool)
        await self._saver.setup()

    async def stop(self) -> None:  # noqa: D102
        await self._pool.close()

    async def save_state(self, session: str, state: dict[str, Any]) -> None:  # noqa: D102
        last, before = self._last.get(session) or (_thread(session), None)
        version = self._saver.get_next_version(before, None)
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {"state": state}
        checkpoint["channel_versions"] = {"state": version}
        checkpoint["updated_channels"] = ["state"]
        metadata: CheckpointMetadata = {"source": "loop", "step": state["number"], "parents": {}}
        self._last[session] = await self._saver.aput(last, checkpoint, metadata, {"state": version}), version

    async def load_state(self, session: str) -> dict[str, Any]:  # noqa: D102
        checkpoint = await self._saver.aget(_thread(session))
        assert checkpoint is not None
        state: dict[str, Any] = checkpoint["channel_values"]["state"]
        return state


def _thread(session: str) -> RunnableConfig:
    return {"configurable": {"thread_id": session, "checkpoint_ns": ""}}
