"""Detection of connection poolers between the client and the server."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import asyncpg

from agentstore.database.errors import SHARED_STATEMENTS
from agentstore.errors import NotConfigured

_log = logging.getLogger(__name__)

# In seconds: behind a busy pooler, the probe waits for connections, and other clients wait for those that it holds.
_PROBE_TIMEOUT = 2.0


async def is_pooled(connection: asyncpg.Connection) -> bool:
    """Return whether a pooler is in between: a pooler sends its clients process ids that are not the server's."""
    return await _process(connection) != connection.get_server_pid()


async def is_transaction_pooler(
    connection: asyncpg.Connection,
    another: Callable[[], AbstractAsyncContextManager[asyncpg.Connection]],
    *,
    tries: int = 3,
) -> bool:
    """Return whether the pooler is in transaction mode; `another` opens up to `tries` more connections.

    In transaction mode a client that is outside a transaction holds no server connection, so that the next client to
    begin a transaction gets the one that it used last, and it gets another one itself.
    """
    try:
        process = await _process(connection)
        async with AsyncExitStack() as stack:
            for _ in range(tries):
                other = await stack.enter_async_context(another())
                await other.execute("BEGIN")
                stack.push_async_callback(other.execute, "ROLLBACK")
                if process == await _process(other) or process != await _process(connection):
                    return True
    except SHARED_STATEMENTS:
        return True
    return False


async def _process(connection: asyncpg.Connection) -> int:
    """Return the id of the server process that executes this query."""
    process: int = await connection.fetchval("SELECT pg_backend_pid()")
    return process


async def refuse_transaction_pooler(
    connection: asyncpg.Connection, connect: Callable[[], Awaitable[asyncpg.Connection]], where: str
) -> None:
    """Refuse a pooler in transaction mode, for a client that uses prepared statements; `connect` opens a connection.

    Raises:
        NotConfigured: the connection goes through one.
    """
    if not await is_pooled(connection):
        return

    @asynccontextmanager
    async def another() -> AsyncIterator[asyncpg.Connection]:
        other = await connect()
        try:
            yield other
        finally:
            await other.close()

    try:
        async with asyncio.timeout(_PROBE_TIMEOUT):
            found = await is_transaction_pooler(connection, another)
    except TimeoutError:
        _log.info("%s is a connection pooler, whose mode could not be found out in time", where)
        return
    if found:
        raise NotConfigured(
            f"{where} is a connection pooler in transaction mode, which breaks prepared statements: set "
            "AGENTSTORE_POOLER=transaction."
        )
