"""SQLAlchemy's pool, without the engine around it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
import sqlalchemy
from sqlalchemy import create_pool_from_url
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlalchemy.pool import Pool as Queue
from sqlalchemy.util import greenlet_spawn

from agentstore.database.hosts import CLOSE_TIMEOUT

# The timeout in seconds of the rollback after a canceled statement, which the server may have to interrupt first.
_ROLLBACK_TIMEOUT = 5.0

# Before 2.1, a QueuePool that has opened all its connections waits on its queue even if a connection is in it.
CONNECT_NEVER_WAITS = tuple(map(int, sqlalchemy.__version__.split(".")[:2])) >= (2, 1)


def create_queue(connect: Callable[[], Awaitable[asyncpg.Connection]] | None, size: int) -> Queue:
    """Create a pool of at most `size` connections, which `connect` opens.

    An engine would install its codecs for JSON in each connection, whenever an event loop receives it.
    """
    driver = PGDialect_asyncpg.import_dbapi()  # type: ignore[no-untyped-call]
    return create_pool_from_url(
        "postgresql+asyncpg://",
        poolclass=AsyncAdaptedQueuePool,
        creator=lambda: driver.connect(async_creator_fn=connect),
        pool_size=size,
        max_overflow=0,
        pool_use_lifo=True,
        pool_reset_on_return=None,  # released connections are in no transaction: see Pool.release
    )


@asynccontextmanager
async def separate_connection(queue: Queue) -> AsyncIterator[asyncpg.Connection]:
    """Open a connection outside of a pool, which may have no room for another one; closed after the block."""
    pooled = await greenlet_spawn(queue.recreate().connect)
    driver: asyncpg.Connection = pooled.driver_connection  # type: ignore[assignment]
    try:
        yield driver
        await driver.close(timeout=CLOSE_TIMEOUT)
    finally:
        pooled.invalidate()  # aborts what was not closed, without waiting for the network


async def roll_back(driver: asyncpg.Connection) -> None:
    """Roll back whatever a connection was doing when its call was canceled.

    asyncpg has sent a cancel request and waits here until the server has processed it. After the response, no cancel
    request is in flight that could hit the next call's statement.
    """
    async with asyncio.timeout(_ROLLBACK_TIMEOUT):
        try:
            await driver.execute("ROLLBACK")
        except asyncpg.QueryCanceledError:
            await driver.execute("ROLLBACK")
