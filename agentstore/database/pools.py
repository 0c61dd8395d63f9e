"""The connection pools of one database: one for each event loop that uses it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from weakref import ref

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.pool import NullPool
from sqlalchemy.pool import Pool as Queue

from agentstore.database.budget import Budget
from agentstore.database.hosts import CLOSE_TIMEOUT, Hosts
from agentstore.database.links import Connect, Detached, Link
from agentstore.database.pool import Pool
from agentstore.database.queues import create_queue
from agentstore.database.telemetry import Observer
from agentstore.event_loops import PerLoop, leave_to_parent, notify_after_fork
from agentstore.settings import Settings

# How many queues without connections are kept, for the threads that run event loops at the same time.
_MAX_SPARE = 8


class Pools:
    """A pool for each event loop, which together have at most POOL_SIZE connections.

    The pool of an event loop is closed with the loop. Idle connections are closed too if they were opened by the first
    event loop, and detached if they were opened by another one: so a program with a single event loop uses the
    driver's ordinary connections, and leaves none, and one that runs an event loop for each call does not connect each
    time. A forked child has none of its parent's pools and connections.
    """

    def __init__(
        self, settings: Settings, observer: Observer, *, connect: Connect | None, engine: AsyncEngine | None
    ) -> None:
        """Create no pool yet. `connect` opens a connection; without it, `engine` is the caller's."""
        self._settings = settings
        self._observer = observer
        self._connect = connect
        self._engine = engine
        self._budget: Budget | None = None
        self._queue: Queue | None = None
        self._separate: Queue | None = None
        # Queues of event loops that have ended, without connections: to create one takes longer than to use it.
        self._spare: list[Queue] = []
        self._detached = Detached()
        # The connection that the queue of an event loop opens next.
        self._taken: PerLoop[asyncpg.Connection] = PerLoop()
        self._first: ref[asyncio.AbstractEventLoop] | None = None
        # The pool of the caller's engine, once an event loop uses it, and that event loop.
        self._borrowed: Queue | None = None
        self._borrower: ref[asyncio.AbstractEventLoop] | None = None
        self._pools: PerLoop[Pool] = PerLoop()
        self.get = self._pools.get
        self.pop = self._pools.pop
        self.values = self._pools.values
        notify_after_fork(self)

    def open(self) -> Pool:
        """Create the pool of the running event loop."""
        for each in self._pools.values():
            if each.is_of_closed_loop():
                each.drop()
        pool = self._of_engine(self._engine) if self._engine is not None else self._of_queue()
        self._pools.set(pool)
        pool.guard = self._close_with_loop(pool)
        with suppress(StopIteration):
            pool.guard.asend(None).send(None)
        return pool

    def clear(self) -> list[Pool]:
        """Remove the pools of all event loops, which are to close all their connections, and return them."""
        self._detached.begin_stop()
        return self._pools.clear()

    def detached(self) -> int:
        """Return how many connections are open that no event loop uses."""
        return len(self._detached)

    async def close_detached(self) -> None:
        """Close the connections that no event loop uses."""
        await self._detached.close()

    async def close(self, pool: Pool) -> None:
        """Close a pool in its own event loop, and wait for that if the loop runs."""
        loop = asyncio.get_running_loop()
        if pool.loop is loop:
            await pool.close()
            if pool.guard is not None:
                with suppress(RuntimeError):  # the loop ends, and has closed it
                    await pool.guard.aclose()
            return
        if pool.is_of_closed_loop():
            pool.drop()
            return
        closed = asyncio.Event()

        def note_closed() -> None:
            with suppress(RuntimeError):  # this loop has not waited, and is closed
                loop.call_soon_threadsafe(closed.set)

        pool.close_soon(note_closed)
        if pool.loop.is_running():
            with suppress(TimeoutError):  # that loop is blocked, or has ended without closing it
                async with asyncio.timeout(2 * CLOSE_TIMEOUT):
                    await closed.wait()

    def after_fork(self) -> None:
        """Release the parent's sockets, and borrow nothing of an engine that the parent uses."""
        leave_to_parent((self._queue, self._separate, self._borrowed))
        self._budget = self._queue = self._separate = self._borrower = self._first = None
        leave_to_parent(self._spare)
        self._spare = []

    async def _close_with_loop(self, pool: Pool) -> AsyncGenerator[None, None]:
        """Close a pool at the end of its event loop, which closes the asynchronous generators that it has begun."""
        try:
            yield
        finally:
            if self._pools.get() is pool:
                self._pools.pop()
            await pool.close(wait=False)

    def _of_queue(self) -> Pool:
        size = self._settings.pool_size
        if self._first is None:
            self._first = ref(asyncio.get_running_loop())
        if self._budget is None or self._queue is None or self._budget.size != size:
            self._budget = Budget(size)
            self._queue, self._separate = create_queue(self._take_or_connect, size), create_queue(self._connect, size)
            self._spare = []
        generation, spare = self._detached.generation, self._spare

        def reuse(queue: Queue) -> None:
            if len(spare) < _MAX_SPARE:
                spare.append(queue)

        try:
            queue = spare.pop()
        except IndexError:
            queue = self._queue.recreate()
        return Pool(
            queue,
            self._budget,
            self._observer,
            separate=self._separate,
            take=self._take,
            reuse=reuse,
            detach=lambda driver, idle_since: self._detached.put(driver, idle_since, generation),
            on_silence=self._connect.try_others_first if isinstance(self._connect, Hosts) else lambda: None,
        )

    def _take(self) -> bool:
        """Let the running event loop open a detached connection next; return False if there is none."""
        if (driver := self._detached.take()) is None:
            return False
        self._taken.set(driver)
        return True

    async def _take_or_connect(self) -> asyncpg.Connection:
        """Return a detached connection if there is one: together with those of all pools, they are POOL_SIZE at most.

        A call that has a slot takes one before it opens another, and a pool that detaches one gives up its slot later.
        """
        assert self._connect is not None  # noqa: S101
        if (driver := self._taken.pop() or self._detached.take()) is not None:
            return driver
        is_first = self._first is not None and self._first() is asyncio.get_running_loop()
        return await self._connect(link=None if is_first else Link())

    def _of_engine(self, engine: AsyncEngine) -> Pool:
        """Use the pool of the caller's engine in the first event loop, and copies of it in the others.

        Connections belong to the event loop that has opened them.
        """
        loop = asyncio.get_running_loop()
        queue = engine.sync_engine.pool
        borrower = None if self._borrower is None else self._borrower()
        if queue is self._borrowed and borrower is not loop and not isinstance(queue, NullPool):
            return Pool(queue.recreate(), None, self._observer)
        self._borrowed, self._borrower = queue, ref(loop)
        return Pool(queue, None, self._observer, connect=engine.raw_connection)
