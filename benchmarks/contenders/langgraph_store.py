"""langgraph's AsyncPostgresStore: abatch with one put per message, and single items.

Without vectors, as here, it does not index the texts.
"""

import importlib.metadata
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

from langgraph.store.base import BaseStore, PutOp
from langgraph.store.postgres import AsyncPostgresStore

from benchmarks.contender import USER, PlainMessage

NAMESPACE = (USER, "memories")


class Contender:
    """AsyncPostgresStore on a psycopg pool that it creates."""

    name = "langgraph store"
    version = importlib.metadata.version("langgraph-checkpoint-postgres")
    durable = True

    _store: BaseStore

    def __init__(self, url: str, redis_url: str | None) -> None:
        self._url = url
        self._open = AsyncExitStack()

    async def start(self) -> None:  # noqa: D102 - documented in benchmarks.contender
        opening = AsyncPostgresStore.from_conn_string(self._url, pool_config={"min_size": 10, "max_size": 10})
        self._store = store = await self._open.enter_async_context(opening)
        await store.setup()

    async def stop(self) -> None:  # noqa: D102
        await self._open.aclose()

    def convert(self, messages: Sequence[PlainMessage]) -> list[tuple[str, dict[str, str]]]:
        """Return keys and values, which are plain JSON."""
        return [(each.id, {"role": each.role, "text": each.text}) for each in messages]

    async def add_memory(self, session: str, messages: list[tuple[str, dict[str, str]]]) -> None:  # noqa: D102
        await self._store.abatch([PutOp((USER, session), key, value) for key, value in messages])

    async def put_item(self, key: str, value: dict[str, Any]) -> None:  # noqa: D102
        await self._store.aput(NAMESPACE, key, value)

    async def get_item(self, key: str) -> dict[str, Any] | None:  # noqa: D102
        item = await self._store.aget(NAMESPACE, key)
        return None if item is None else item.value

    async def search_items(self, condition: dict[str, Any]) -> list[dict[str, Any]]:  # noqa: D102
        return [item.value for item in await self._store.asearch(NAMESPACE, filter=condition)]
