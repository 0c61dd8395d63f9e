"""SQLAlchemy's pool in one event loop, behind a fair queue."""

import asyncio
import logging
import time
from typing import Any

import asyncpg
import sqlalchemy
from sqlalchemy import PoolProxiedConnection
from sqlalchemy.exc import TimeoutError as QueueTimeout
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import NullPool, QueuePool
from sqlalchemy.util import greenlet_spawn

from agentstore.database.errors import CONNECT_ERRORS, DRIVER_ERRORS
from agentstore.errors import PoolTimeout

_log = logging.getLogger(__name__)

# A connection that was idle for longer is asked for a sign of life first: firewalls forget idle connections
# without a word, and a write sent into one would end as UnknownOutcome.
_PING_AFTER = 15.0
# How long a sign of life may take, and the end of a statement that was cancelled.
_PING_TIMEOUT = 5.0

# Before 2.1 the queue of a pool that has opened all its connections is waited for, also where one is in it.
_TAKES_AT_ONCE = tuple(map(int, sqlalchemy.__version__.split(".")[:2])) >= (2, 1)


class Pool:
    """SQLAlchemy's pool in one event loop, with a fair queue before it and the care that asyncio needs.

    ``slots`` is that queue: SQLAlchemy's own does not serve in order of arrival. Without it (an engine of the
    caller's) the pool's own limits rule.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, engine: AsyncEngine, slots: asyncio.Semaphore | None) -> None:
        self.loop = loop
        self._engine = engine
        self._slots = slots
        self._size = slots._value if slots is not None else 0
        self._idle = self._opening = 0
        self._closed = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._verify_before = self._discard_before = 0.0
        self._queue = engine.sync_engine.pool

    async def checkout(self, timeout: float) -> PoolProxiedConnection:
        """Wait for a connection that works."""
        if self._slots is not None:
            if self._slots.locked():
                await self._wait_for_slot(self._slots, timeout)
            else:
                await self._slots.acquire()
        try:
            while True:
                # Where all that the pool has are connections that work, it has nothing to wait for: no greenlet is
                # needed, and no task. While another call is at it, nobody knows which one that will get.
                if _TAKES_AT_ONCE and not self._opening and 0 < self._idle == self._checked_in():
                    held = self._queue.connect()
                    idle_since = self._idle_since(held)
                else:
                    held, idle_since = await self._open()
                if await self._works(held, idle_since):
                    return held
        except BaseException:
            self._release_slot()
            raise

    def take_back(self, held: PoolProxiedConnection) -> None:
        """Return a connection after a statement that was answered."""
        driver = held.driver_connection
        unwanted = self._closed and self._slots is not None
        if unwanted or driver.is_closed() or driver.is_in_transaction():  # type: ignore[union-attr]
            held.invalidate()
        else:
            self._return(held)
        self._release_slot()

    def take_back_after(self, held: PoolProxiedConnection, error: BaseException) -> None:
        """Return a connection after a statement that failed."""
        if isinstance(error, TimeoutError):
            self.take_back_interrupted(held)
            return
        if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
            # A failover: this server, and so every connection of now, is not the one that takes writes.
            self._discard_before = time.monotonic()
            held.invalidate()
            self._release_slot()
            return
        if held.driver_connection.is_closed():  # type: ignore[union-attr]
            self._verify_before = time.monotonic()
        if held.driver_connection.is_in_transaction():  # type: ignore[union-attr]
            self.take_back_interrupted(held)
        else:
            self.take_back(held)

    def take_back_interrupted(self, held: PoolProxiedConnection) -> None:
        """Return a connection in the middle of something, once the server has ended it; the caller does not wait."""
        if held.driver_connection.is_closed():  # type: ignore[union-attr]
            self.take_back(held)
        else:
            self._in_background(self._clean(held))

    async def close(self) -> None:
        """Close every connection, unless the engine is the caller's; those in use when they are returned."""
        self._closed = True
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._slots is not None:
            await self._engine.dispose()

    def keeps_connections_of(self, engine: AsyncEngine | None) -> bool:
        """Whether this is about the pool that a caller's engine still has, and that keeps connections."""
        return engine is not None and engine.sync_engine.pool is self._queue and not isinstance(self._queue, NullPool)

    def checked_out(self) -> int:
        """Return how many connections are in use, including those that are being cleaned after a cancelled call."""
        return self._queue.checkedout() if isinstance(self._queue, QueuePool) else len(self._tasks)

    def timed_out(self, message: str) -> PoolTimeout:
        """Return the error of a call that waited for too long; the braces of `message` say what is in use."""
        if self._slots is not None:
            size, in_use = self._size, self._size - self._slots._value
        elif isinstance(self._queue, QueuePool):
            size, in_use = self._queue.size() + max(0, self._queue._max_overflow), self._queue.checkedout()
        else:
            return PoolTimeout(message.format(self._queue.status()))
        return PoolTimeout(message.format(f"{in_use} of {size} connections in use"), size=size, in_use=in_use)

    async def _wait_for_slot(self, slots: asyncio.Semaphore, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await slots.acquire()
        except TimeoutError as error:
            raise self.timed_out(
                f"No connection was free for {timeout:g} s: {{}}. Raise AGENTSTORE_POOL_SIZE, or look for "
                "what holds them."
            ) from error

    def _release_slot(self) -> None:
        if self._slots is not None:
            self._slots.release()

    async def _open(self) -> tuple[PoolProxiedConnection, float | None]:
        # In a task of its own: a cancelled call would take the new connection with it, and calls that are cancelled
        # sooner than a connection opens would never have one.
        opening = self.loop.create_task(self._connect())
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            self._in_background(self._keep(opening))
            raise

    async def _connect(self) -> tuple[PoolProxiedConnection, float | None]:
        self._opening += 1
        try:
            held = await self._engine.raw_connection()
            return held, self._idle_since(held)
        finally:
            self._opening -= 1

    async def _keep(self, opening: asyncio.Task[tuple[PoolProxiedConnection, float | None]]) -> None:
        """Give the connection that a cancelled call was opening to the calls after it."""
        try:
            held, _ = await opening
        except (QueueTimeout, *CONNECT_ERRORS) as error:
            _log.debug("a connection whose caller was cancelled could not be opened: %s", error)
        else:
            self._return(held)

    def _return(self, held: PoolProxiedConnection) -> None:
        held.info["idle_since"] = time.monotonic()
        if self._slots is not None:
            # Our pool has no overflow, so that returning a connection never closes one, which would have to wait.
            self._idle += 1
            held.close()
        else:
            self._in_background(greenlet_spawn(held.close))

    def _checked_in(self) -> int:
        return self._queue.checkedin() if isinstance(self._queue, QueuePool) else 0

    def _idle_since(self, held: PoolProxiedConnection) -> float | None:
        """Take note that a connection is in use, and return since when it was not; None if it was just opened."""
        idle_since: float | None = held.info.pop("idle_since", None)
        if idle_since is not None and self._slots is not None:
            self._idle -= 1
        return idle_since

    async def _works(self, held: PoolProxiedConnection, idle_since: float | None) -> bool:
        """Whether a connection can be used; it is invalidated if not."""
        if idle_since is None:
            return True
        driver: asyncpg.Connection = held.driver_connection  # type: ignore[assignment]
        works = not driver.is_closed() and idle_since > self._discard_before
        if works and (idle_since <= self._verify_before or time.monotonic() - idle_since > _PING_AFTER):
            try:
                await driver.fetch("SELECT 1", timeout=_PING_TIMEOUT)
            except DRIVER_ERRORS:
                works = False
            except BaseException:
                held.invalidate()
                raise
        if not works:
            held.invalidate()
        return works

    async def _clean(self, held: PoolProxiedConnection) -> None:
        driver: asyncpg.Connection = held.driver_connection  # type: ignore[assignment]
        try:
            # asyncpg has asked the server to cancel the statement, and waits here until it has. Once this is
            # answered no cancel request is on its way any more that could hit the next call's statement.
            async with asyncio.timeout(_PING_TIMEOUT):
                try:
                    await driver.execute("ROLLBACK")
                except asyncpg.QueryCanceledError:
                    await driver.execute("ROLLBACK")
        except DRIVER_ERRORS as error:
            _log.debug("a connection is closed, which did not come back from a cancelled call: %s", error)
            held.invalidate()
            self._release_slot()
        except BaseException:
            held.invalidate()
            self._release_slot()
            raise
        else:
            self.take_back(held)

    def _in_background(self, work: Any) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
