"""The share of updates that write to no index (HOT), as Postgres counts them."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg

from agentstore import AgentStore, Settings


async def hot_share(url: str, table: str, updates: int, write: Callable[[AgentStore], Awaitable[None]]) -> float:
    """Return the share of HOT updates among those of a table that `write` causes with a store, at least `updates`.

    `url` is an empty database of a server without other tests: a long transaction, even of another database, delays
    the pruning of pages, and a page without room makes an update write to the indexes.
    """
    store = AgentStore(url, settings=Settings(auto_migrate="upgrade"))
    await store.start()
    observer = await asyncpg.connect(url)
    # The snapshot of an autovacuum worker would delay pruning too.
    await observer.execute(f"ALTER TABLE agentstore.{table} SET (autovacuum_enabled = off)")
    await write(store)
    await store.stop()  # a backend reports its statistics when it exits
    async with asyncio.timeout(60):
        while True:
            ((updated, hot),) = await observer.fetch(
                "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = $1", table
            )
            if updated >= updates:
                break
            await asyncio.sleep(0.2)
            await observer.execute("SELECT pg_stat_clear_snapshot()")
    await observer.close()
    return float(hot / updated)
