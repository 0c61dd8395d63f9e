"""Detection of connection poolers between the client and the server."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import asyncpg


async def is_pooled(connection: asyncpg.Connection) -> bool:
    """Return whether a pooler is in between: a pooler sends its clients process ids that are not the server's."""
    return bool(await connection.fetchval("SELECT pg_backend_pid()") != connection.get_server_pid())


async def is_transaction_pooler(
    connection: asyncpg.Connection,
    another: Callable[[], AbstractAsyncContextManager[asyncpg.Connection]],
    *,
    tries: int = 3,
) -> bool:
    """Return whether the pooler is in transaction mode; `another` opens up to `tries` more connections.

    In transaction mode a client that is outside a transaction holds no server connection, so that the next client to
    begin a transaction gets the one that it used last.
    """
    process = await connection.fetchval("SELECT pg_backend_pid()")
    async with AsyncExitStack() as stack:
        for _ in range(tries):
            other = await stack.enter_async_context(another())
            await other.execute("BEGIN")
            stack.push_async_callback(other.execute, "ROLLBACK")
            if process == await other.fetchval("SELECT pg_backend_pid()"):
                return True
    return False
