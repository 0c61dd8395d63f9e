"""What is between us and the server: nothing, or a pooler that gives its server connections to others in between."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import asyncpg


async def is_pooled(connection: asyncpg.Connection) -> bool:
    """Whether there is a pooler: one tells its clients a process id of its own."""
    return bool(await connection.fetchval("SELECT pg_backend_pid()") != connection.get_server_pid())


async def is_shared(
    connection: asyncpg.Connection,
    another: Callable[[], AbstractAsyncContextManager[asyncpg.Connection]],
    *,
    tries: int = 3,
) -> bool:
    """Whether the pooler works by transaction; `another` opens at most `tries` connections beside the first.

    By transaction, a connection that waits for nothing gives its server connection to whoever begins a transaction
    next.
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
