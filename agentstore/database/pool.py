"""The connection pool: SQLAlchemy's, bound to one event loop, with a fair queue in front of it."""

import asyncio
import logging
import math
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any
from weakref import WeakSet

import asyncpg
from sqlalchemy import PoolProxiedConnection
from sqlalchemy.exc import TimeoutError as QueueTimeout
from sqlalchemy.pool import Pool as Queue
from sqlalchemy.pool import QueuePool
from sqlalchemy.util import greenlet_spawn

from agentstore.database.budget import Budget
from agentstore.database.deadlines import Deadlines
from agentstore.database.errors import CONNECT_ERRORS, DRIVER_ERRORS, advice_on_size, is_connection_limit
from agentstore.database.failover import Failover
from agentstore.database.hosts import CLOSE_TIMEOUT
from agentstore.database.links import link_of
from agentstore.database.queues import CONNECT_NEVER_WAITS, roll_back, separate_connection
from agentstore.database.sockets import close_socket, release_sockets
from agentstore.database.telemetry import Observer
from agentstore.errors import AgentStoreError, PoolTimeout
from agentstore.event_loops import notify_after_fork
from agentstore.schemas.stats import PoolStats

_log = logging.getLogger(__name__)

# In seconds. A connection that was idle for longer is pinged before use: firewalls drop idle connections silently, and
# a write sent on a dropped one would end as UnknownOutcome.
_PING_AFTER = 15.0
_PING_TIMEOUT = 2.0
# Seconds after which one more connection is tried, once the server has refused to open more; and between two attempts
# while it may still count connections that it is about to close.
_LIMIT_CHECK_INTERVAL, _ENDING_CHECK_INTERVAL = 1.0, 0.01
# Seconds for which an event loop whose calls wait uses the slots that it has received: a connection is closed with its
# slot, and opening another one takes as long as many calls.
_TURN = 0.1
# Seconds between two checks of whether slots of closed event loops can be taken, while calls wait for one.
_BUDGET_CHECK_INTERVAL = 0.5


class Pool:
    """SQLAlchemy's pool in one event loop, with a fair queue and safe handling of canceled calls.

    Its slots are in a fair queue: SQLAlchemy's own does not serve callers in order of arrival.

    Attributes:
        loop: the event loop.
        deadlines: the time limits of the statements that are being executed on its connections.
        separate_connection: opens a connection outside of this pool; see :func:`queues.separate_connection`.
        guard: closes this pool when the event loop closes its asynchronous generators.
    """

    guard: AsyncGenerator[None, None] | None = None

    def __init__(
        self,
        queue: Queue,
        budget: Budget | None,
        observer: Observer,
        *,
        connect: Callable[[], Awaitable[PoolProxiedConnection]] | None = None,
        separate: Queue | None = None,
        take: Callable[[], bool] = lambda: False,
        detach: Callable[[asyncpg.Connection, float], bool] = lambda driver, idle_since: False,
        reuse: Callable[[Queue], None] = lambda queue: None,
        on_silence: Callable[[], None] = lambda: None,
    ) -> None:
        """Create the pool of the running event loop.

        Args:
            queue: SQLAlchemy's pool.
            budget: the slots that this pool shares with those of other event loops; None if the limits of `queue`
                apply, which is a pool of the caller's engine.
            observer: what connections and waits are reported to.
            connect: checks out a connection of the caller's engine; `queue` is then never disposed.
            separate: a pool of which copies open connections outside of this one; default: `queue`.
            take: makes a connection of another event loop the next one that `queue` opens; False if there is none.
            detach: leaves a connection, idle since the given time, to other event loops; False if that is impossible.
            reuse: receives `queue` when this pool was closed with the event loop, and nothing of it is in use.
            on_silence: called when a connection has received no response in time.
        """
        self.loop = asyncio.get_running_loop()
        self.deadlines = Deadlines()
        self._queue = queue
        self._budget = budget
        self._observer = observer
        self._is_borrowed = connect is not None
        self._checkout_from_queue = connect or (lambda: greenlet_spawn(queue.connect))
        self.separate_connection = partial(separate_connection, separate or queue)
        self._take, self._detach_driver, self._reuse = take, detach, reuse
        self._on_silence = on_silence
        self._slots = None if budget is None else asyncio.Semaphore(0)  # those that it owns, and are not in use
        self._waiting = 0  # calls that wait for a slot
        self._idle: dict[asyncpg.Connection, float] = {}  # since when; empty for the caller's engine
        self._opened: WeakSet[asyncpg.Connection] = WeakSet()
        self._opening = 0
        self._withheld = 0  # slots that have no connection, because the server refuses more
        self._has_warned = self._closed = self._was_left = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing: asyncio.Task[None] | None = None
        self._received_at = -math.inf
        self._dropping = threading.Lock()
        self._checking_budget: asyncio.TimerHandle | None = None
        # Times of the monotonic clock. Connections that have been idle since before the first are pinged before use,
        # and those since before the second are discarded.
        self._verify_before = self._silent_before = -math.inf
        self._failover = Failover(self.separate_connection, self._in_background)
        self.discard_read_only = self._failover.discard_read_only
        if budget is not None:
            budget.add(self)
        notify_after_fork(self)

    @property
    def size(self) -> int:
        """How many slots this pool owns: the maximum number of its connections now."""
        return 0 if self._budget is None else self._budget.owned(self)

    async def checkout(self, timeout: float) -> PoolProxiedConnection:
        """Wait up to `timeout` seconds for a connection, and return one that is usable."""
        deadline = time.monotonic() + timeout
        if self._slots is not None:
            await self._take_slot(self._slots, timeout)
        holds_slot = True
        try:
            while True:
                # If every pooled connection is known to be idle and open, the pool cannot block: neither a greenlet
                # nor a task is needed. While another call is connecting, which one it will get is not known.
                if CONNECT_NEVER_WAITS and not self._opening and 0 < len(self._idle) == self._checked_in():
                    pooled, idle_since = self._connect_at_once()
                elif self._budget is not None and not self._checked_in() and self._take():
                    pooled, idle_since = await self._connect()  # does not wait
                else:
                    try:
                        pooled, idle_since = await self._connect_shielded()
                    except CONNECT_ERRORS as error:
                        if self._slots is None or self._budget is None or not is_connection_limit(error):
                            raise
                        if self._budget.is_ending() and time.monotonic() < deadline:
                            await asyncio.sleep(_ENDING_CHECK_INTERVAL)
                            continue
                        if not await self._withhold(error):
                            raise
                        holds_slot = False
                        await self._take_slot(self._slots, max(0.0, deadline - time.monotonic()))
                        holds_slot = True
                        continue
                if await self._is_usable(pooled, idle_since):
                    if self._observer.measures:
                        pooled.info["used_since"] = time.perf_counter()
                    return pooled
                self._discard(pooled, "it was closed or did not answer while it was idle")
        except BaseException:
            if holds_slot:
                self._release_slot()
            raise

    def release(self, pooled: PoolProxiedConnection) -> None:
        """Return a connection to the pool after a completed statement."""
        driver = pooled.driver_connection
        unwanted = self._closed and self._slots is not None
        if self._budget is not None and self._budget.is_wanted and not unwanted and self._is_to_give_up():
            self._in_background(self._give_up(pooled))
            return
        if unwanted:
            pooled.invalidate()
        elif driver.is_closed() or driver.is_in_transaction():  # type: ignore[union-attr]
            self._discard(pooled, "it was closed during a statement")
        else:
            self._return(pooled)
        self._release_slot()

    def release_after_error(self, pooled: PoolProxiedConnection, error: BaseException) -> None:
        """Return a connection to the pool after a statement that raised `error`."""
        is_timeout = isinstance(error, TimeoutError)
        if is_timeout:
            self.note_silence()
        elif pooled.driver_connection.is_closed():  # type: ignore[union-attr]
            self.suspect_idle()
        if is_timeout or pooled.driver_connection.is_in_transaction():  # type: ignore[union-attr]
            self.reset_and_release(pooled)
        else:
            self.release(pooled)

    def is_exhausted(self) -> bool:
        """Return whether a call would have to wait for a connection."""
        if self._slots is None or self._budget is None or not self._slots.locked():
            return False
        return self._withheld > 0 or self._budget.is_used_up()

    def note_silence(self) -> None:
        """Suspect the idle connections and the host, after a statement without a response in time."""
        self.suspect_idle()
        self._on_silence()

    def suspect_idle(self) -> None:
        """Ping each connection that is idle now before its next use: what broke one may have broken all."""
        self._verify_before = time.monotonic()

    def reset_and_release(self, pooled: PoolProxiedConnection) -> None:
        """Return a connection that was interrupted in a statement or transaction, once the server has rolled back.

        That happens in the background: the caller does not wait.
        """
        if pooled.driver_connection.is_closed():  # type: ignore[union-attr]
            self.suspect_idle()
            self.release(pooled)
        else:
            self._in_background(self._reset(pooled))

    def opened_at(self, pooled: PoolProxiedConnection) -> float:
        """Return when a connection was opened, in seconds of the monotonic clock."""
        return float(pooled.info["opened_at"])

    async def close(self, *, wait: bool = True) -> None:
        """Close the idle connections, and the others when they are released; none if the engine is the caller's.

        Without `wait`, as a loop ends, idle ones are detached, or closed without waiting for the server. What does not
        end within CLOSE_TIMEOUT, in a silent network, is canceled or aborted. A second call waits for the first.
        """
        if self._was_left or (not wait and await self._leave()):
            return
        await asyncio.shield(self._begin_close(wait=wait))

    def _begin_close(self, *, wait: bool = True) -> asyncio.Task[None]:
        if self._closing is None:
            self._closing = self.loop.create_task(self._close(wait=wait))
        return self._closing

    async def _close(self, *, wait: bool) -> None:
        self._closed = True
        if not wait:
            await self._detach_idle()
        closing = []
        for driver, idle_since in self._idle.items():
            if wait and idle_since > self._silent_before:
                closing.append(self.loop.create_task(driver.close()))
            else:
                driver.terminate()  # sends the message that ends the session, and closes the socket
        if self._budget is not None and not wait:
            self._budget.note_ending()
        deadline = self.loop.time() + CLOSE_TIMEOUT
        while self._tasks and (left := deadline - self.loop.time()) > 0:
            await asyncio.wait(self._tasks, timeout=left)
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
        try:
            if closing:
                await asyncio.gather(*closing, return_exceptions=True)
            if not self._is_borrowed:
                await greenlet_spawn(self._queue.dispose)
        finally:
            self.deadlines.stop()
            if self._budget is not None:
                self._budget.remove(self)

    async def _leave(self) -> bool:
        """Detach all connections at the end of a loop, where they are idle; return False if there is more to close.

        Most loops end so: no task is needed, and the queue serves another loop.
        """
        is_busy = self._waiting or self._opening or self._tasks or self._closing or self.checked_out()
        if is_busy or self._budget is None or not CONNECT_NEVER_WAITS:
            return False
        self._closed = True
        await self._detach_idle()  # does not wait
        if self._idle or self._tasks:
            return False
        self._was_left = True
        self._queue.dispose()  # of empty places
        self.deadlines.stop()
        self._budget.note_ending()
        self._budget.remove(self)
        self._reuse(self._queue)
        return True

    async def _detach_idle(self) -> None:
        """Detach the idle connections that are known to work."""
        if len(self._idle) != self._checked_in() or not any(map(link_of, self._idle)):
            return  # for an empty place in the queue, which a connection has left, another would be opened
        # All at once: one that is detached leaves such a place.
        taken = [self._connect_at_once() if CONNECT_NEVER_WAITS else await self._connect() for _ in list(self._idle)]
        for pooled, idle_since in taken:
            is_detached = self._detach(pooled.driver_connection, idle_since or -math.inf)
            (pooled.detach if is_detached else pooled.invalidate)()

    def _detach(self, driver: Any, idle_since: float) -> bool:
        """Leave an idle connection to other event loops; return False if it has to be closed."""
        link = link_of(driver)
        if link is None or link.opened_at < self._failover.discard_before or idle_since <= self._verify_before:
            return False
        is_detached = idle_since > self._silent_before and self._detach_driver(driver, idle_since)
        if is_detached:
            self._opened.discard(driver)
        return is_detached

    def close_soon(self, done: Callable[[], object]) -> None:
        """Close from another thread, when the event loop runs, and call `done` in it afterwards."""
        self._call_in_loop(lambda: self._begin_close().add_done_callback(lambda _: done()))

    def drop(self) -> None:
        """Detach or close the connections that an event loop left open when it was closed. Called in any thread."""
        self._closed = True
        with self._dropping:  # two event loops may find this one closed at once
            opened, self._opened = list(self._opened), WeakSet()
            idle, self._idle = self._idle, {}
        for driver in opened:
            if driver not in idle or not self._detach(driver, idle[driver]):
                close_socket(driver)
        if self._budget is not None:
            self._budget.remove(self)

    def after_fork(self) -> None:
        """Release the parent's sockets in a forked child, without sending or changing anything."""
        self._closed = True
        release_sockets(list(self._opened))

    def is_of_closed_loop(self) -> bool:
        """Return whether the event loop was closed."""
        return self.loop.is_closed()

    def receive(self) -> None:
        """Add a slot that another pool has given up. Called in any thread."""
        self._call_in_loop(self._receive)

    def offer(self) -> None:
        """Give up free slots that pools of other event loops need. Called in any thread."""
        self._call_in_loop(lambda: self._was_left or self._in_background(self._give_up_free()))  # else it never runs

    def grow(self) -> None:
        """Take slots that became free, if calls wait for one. Called in any thread."""
        self._call_in_loop(self._grow)

    def checked_out(self) -> int:
        """Return how many connections are checked out, including those being reset after a canceled call."""
        return self._queue.checkedout() if isinstance(self._queue, QueuePool) else len(self._tasks)

    def stats(self) -> PoolStats:
        """Return how many connections are open, in use and waited for; its size is what it has less than its budget.

        Called in any thread.
        """
        idle = len(self._idle) if self._slots is not None else self._checked_in()
        return PoolStats(-self._withheld, idle, self.checked_out(), self._waiting)

    def timeout_error(self, message: str) -> PoolTimeout:
        """Return the error for a checkout that timed out; ``{}`` in `message` becomes the number of connections."""
        if self._slots is not None:
            assert self._budget is not None  # noqa: S101
            size = self._budget.size
            in_use = size if self._budget.is_used_up() else self.size
            in_use -= self._slots._value + self._withheld
        elif isinstance(self._queue, QueuePool):
            size, in_use = self._queue.size() + max(0, self._queue._max_overflow), self._queue.checkedout()
        else:
            return PoolTimeout(message.format(self._queue.status()))
        return PoolTimeout(message.format(f"{in_use} of {size} connections in use"), size=size, in_use=in_use)

    async def _take_slot(self, slots: asyncio.Semaphore, timeout: float) -> None:
        if not slots.locked():
            await slots.acquire()
            return
        if self._budget is not None and not self._withheld:
            if self._budget.take(self):
                return
            self._budget.request(self)
            if self._checking_budget is None:
                self._checking_budget = self.loop.call_later(_BUDGET_CHECK_INTERVAL, self._check_budget)
        self._waiting += 1
        try:
            async with asyncio.timeout(timeout):
                await slots.acquire()
        except TimeoutError as error:
            self._observer.timed_out(timeout)
            is_shared = self._budget is not None and self.size < self._budget.size
            advice = advice_on_size(is_shared=is_shared, is_limited=self._withheld > 0)
            raise self.timeout_error(f"No connection became free within {timeout:g} s: {{}}. {advice}") from error
        finally:
            self._waiting -= 1

    def _call_in_loop(self, function: Callable[[], object]) -> None:
        with suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(function)

    def _receive(self) -> None:
        assert self._slots is not None  # noqa: S101
        self._received_at = self.loop.time()
        self._slots.release()

    def _is_to_give_up(self) -> bool:
        """Return whether to give up the slot of a call that is done, instead of using it for the next one."""
        assert self._budget is not None  # noqa: S101
        if self._waiting and self.loop.time() - self._received_at < _TURN:
            return False
        return self._budget.begin_release(self)

    def _check_budget(self) -> None:
        """Take the slots of loops that were closed without closing their pools, as long as calls wait."""
        self._checking_budget = None
        if self._waiting and not self._closed and self._budget is not None:
            self._grow()
            self._budget.request(self)
            self._checking_budget = self.loop.call_later(_BUDGET_CHECK_INTERVAL, self._check_budget)

    def _grow(self) -> None:
        assert self._slots is not None and self._budget is not None  # noqa: PT018, S101
        for _ in range(0 if self._withheld else self._waiting):
            if not self._budget.take(self):
                break
            self._slots.release()

    async def _give_up_free(self) -> None:
        """Give up slots that are not in use, with the connections that they are needed for."""
        assert self._slots is not None and self._budget is not None  # noqa: PT018, S101
        while not self._slots.locked() and self._budget.begin_release(self):
            await self._slots.acquire()  # does not wait
            if len(self._idle) <= self._slots._value:
                self._budget.release(self)
                continue
            try:
                pooled, _ = await self._connect()
            except BaseException as error:
                self._budget.cancel_release(self)
                self._slots.release()
                if not isinstance(error, (QueueTimeout, *CONNECT_ERRORS)):
                    raise
                return  # a connection that was idle has been checked out meanwhile, and another could not be opened
            else:
                await self._give_up(pooled)

    async def _give_up(self, pooled: PoolProxiedConnection) -> None:
        """Detach or close a connection that is checked out, and give up its slot."""
        assert self._budget is not None  # noqa: S101
        driver: asyncpg.Connection = pooled.driver_connection  # type: ignore[assignment]
        is_detached = self._detach(driver, time.monotonic())
        try:
            if not is_detached and not driver.is_closed():
                await driver.close(timeout=CLOSE_TIMEOUT)
        except (TimeoutError, *DRIVER_ERRORS) as error:
            _log.debug("a connection that another event loop needs was not closed in order: %s", error)
        finally:
            (pooled.detach if is_detached else pooled.invalidate)()
            self._budget.release(self)
            if self._waiting:
                self._budget.request(self)

    async def _withhold(self, error: Exception) -> bool:
        """Shrink the pool to its open connections, since the server refuses another one; return whether it has any.

        The caller's slot is withheld, with all those that are free and have no connection. They are released one by
        one later, to find out whether the server accepts more.
        """
        assert self._slots is not None and self._budget is not None  # noqa: PT018, S101
        free = self._slots._value
        working = self.size - free - self._withheld - 1 + len(self._idle)  # may include some that are being opened
        if working <= 0:
            return False
        if not self._has_warned:
            self._has_warned = True
            self._observer.event(
                "connection.limited",
                logging.WARNING,
                "the server accepts no more connections, and calls wait for the open ones: lower AGENTSTORE_POOL_SIZE "
                f"({self._budget.size}), or raise the connection limit of the server, database or role ({error})",
                size=self._budget.size,
            )
        if self._withheld == 0:
            self.loop.call_later(_LIMIT_CHECK_INTERVAL, self._restore_slot)
        self._withheld += 1
        for _ in range(free - len(self._idle)):
            await self._slots.acquire()  # does not wait
            self._withheld += 1
        return True

    def _restore_slot(self) -> None:
        self._withheld -= 1
        self._release_slot()
        if self._withheld:
            self.loop.call_later(_LIMIT_CHECK_INTERVAL, self._restore_slot)

    def _release_slot(self) -> None:
        if self._slots is not None:
            self._slots.release()
            if self._budget is not None and self._budget.is_wanted:
                self._in_background(self._give_up_free())

    def _connect_at_once(self) -> tuple[PoolProxiedConnection, float | None]:
        pooled = self._queue.connect()
        return pooled, self._mark_in_use(pooled)

    async def _connect_shielded(self) -> tuple[PoolProxiedConnection, float | None]:
        # In a task of its own: canceling the caller would discard the new connection, and callers that are canceled
        # sooner than a connection opens would never get one.
        connecting = self.loop.create_task(self._connect())
        try:
            return await asyncio.shield(connecting)
        except asyncio.CancelledError:
            self._in_background(self._return_when_connected(connecting))
            raise

    async def _connect(self) -> tuple[PoolProxiedConnection, float | None]:
        self._opening += 1
        began = time.perf_counter()
        try:
            pooled = await self._checkout_from_queue()
            is_new = "opened_at" not in pooled.info
            idle_since = self._mark_in_use(pooled)
            if is_new and idle_since is None:
                self._observer.opened(time.perf_counter() - began)
            return pooled, idle_since
        finally:
            self._opening -= 1

    async def _return_when_connected(
        self, connecting: asyncio.Task[tuple[PoolProxiedConnection, float | None]]
    ) -> None:
        """Put the connection that a canceled call was opening into the pool."""
        try:
            pooled, _ = await connecting
        except (AgentStoreError, QueueTimeout, *CONNECT_ERRORS) as error:
            _log.debug("a connection for a canceled call could not be opened: %s", error)
        else:
            self._return(pooled)

    def _return(self, pooled: PoolProxiedConnection) -> None:
        pooled.info["idle_since"] = now = time.monotonic()
        self._note_use(pooled)
        if self._slots is not None:
            # Our own pool has no overflow, so close() only returns the connection and never has to wait.
            self._idle[pooled.driver_connection] = now  # type: ignore[index]
            pooled.close()
        else:
            self._in_background(greenlet_spawn(pooled.close))

    def _discard(self, pooled: PoolProxiedConnection, reason: str) -> None:
        """Close a connection that cannot be used again; another one is opened when it is needed."""
        self._note_use(pooled)
        pooled.invalidate()
        self._observer.discarded(reason)

    def _note_use(self, pooled: PoolProxiedConnection) -> None:
        if (since := pooled.info.pop("used_since", None)) is not None:
            self._observer.used(time.perf_counter() - since)

    def _checked_in(self) -> int:
        return self._queue.checkedin() if isinstance(self._queue, QueuePool) else 0

    def _mark_in_use(self, pooled: PoolProxiedConnection) -> float | None:
        """Count a connection as in use, and return the time since when it was idle; None if it was just opened."""
        if "opened_at" not in pooled.info:
            driver: asyncpg.Connection = pooled.driver_connection  # type: ignore[assignment]
            self._opened.add(driver)
            link = link_of(driver)
            pooled.info["opened_at"] = time.monotonic() if link is None else link.opened_at
            if link is not None and link.is_reused:
                return link.idle_since
        idle_since: float | None = pooled.info.pop("idle_since", None)
        if idle_since is not None and self._slots is not None:
            del self._idle[pooled.driver_connection]  # type: ignore[arg-type]
        return idle_since

    async def _is_usable(self, pooled: PoolProxiedConnection, idle_since: float | None) -> bool:
        """Return whether a connection is open and not outdated; ping it if that is in doubt."""
        if idle_since is None:
            return True
        driver: asyncpg.Connection = pooled.driver_connection  # type: ignore[assignment]
        if driver.is_closed() or self.opened_at(pooled) < self._failover.discard_before:
            return False
        if idle_since <= self._silent_before:
            return False
        began = time.monotonic()
        if idle_since <= self._verify_before or began - idle_since > _PING_AFTER:
            try:
                await driver.fetch("SELECT 1", timeout=_PING_TIMEOUT)
            except TimeoutError:
                # Connections that have received nothing since then are not pinged: each would take its own timeout.
                self._silent_before = max(self._silent_before, began)
                self._on_silence()
                return False
            except DRIVER_ERRORS:
                return False
            except BaseException:
                pooled.invalidate()
                raise
        return True

    async def _reset(self, pooled: PoolProxiedConnection) -> None:
        """Roll back whatever a connection was doing, then release it; discard it if that fails."""
        driver: asyncpg.Connection = pooled.driver_connection  # type: ignore[assignment]
        try:
            await roll_back(driver)
        except DRIVER_ERRORS as error:
            self.suspect_idle()
            _log.debug("the rollback after a canceled call failed: %s", error)
            self._discard(pooled, "the rollback after a canceled call failed")
            self._release_slot()
        except BaseException:
            pooled.invalidate()
            self._release_slot()
            raise
        else:
            if (link := link_of(driver)) is not None and link.is_worn():
                driver.terminate()
            self.release(pooled)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task
