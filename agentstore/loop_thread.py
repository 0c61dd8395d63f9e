"""An event loop in a background thread, for callers that cannot await."""

import asyncio
import os
import threading
import weakref
from collections.abc import AsyncIterator, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from agentstore.errors import AgentStoreError, Closed
from agentstore.event_loops import leave_to_parent, notify_after_fork

T = TypeVar("T")


class LoopThread:
    """A daemon thread that runs an event loop from construction until :meth:`close`.

    Any other thread may call it, with or without a running event loop. It does not keep the interpreter from exiting,
    and it does not survive a fork: a child process needs another one.
    """

    def __init__(self, name: str, owner: str) -> None:
        """Start the thread. `name` is the name of the thread, `owner` how errors call what runs in it."""
        self._owner = owner
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._is_closed = False
        self._lock = threading.RLock()  # reentrant: the finalizer of a generator may make a call
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        notify_after_fork(self)

    def after_fork(self) -> None:
        """Leave the event loop to the parent, and replace the lock, which a thread of it may have held."""
        leave_to_parent(self._loop)
        self._lock = threading.RLock()  # reentrant: the finalizer of a generator may make a call

    @property
    def is_of_this_process(self) -> bool:
        """Whether the thread runs in this process; false in a child that was forked after the thread started."""
        return self._pid == os.getpid()

    def submit(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Schedule a coroutine on the loop and return its future.

        Raises:
            Closed: the thread was closed, or belongs to the parent of this process.
        """
        if self.is_of_this_process:
            with self._lock:
                if not self._is_closed:
                    return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        raise Closed(f"The {self._owner} was stopped, or belongs to another process: start it again.")

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and block until it returns.

        Raises:
            Closed: the thread was closed before the coroutine returned, or see :meth:`submit`.
            AgentStoreError: the caller is a callback that runs in this thread.
        """
        if threading.current_thread() is self._thread:
            work.close()
            raise AgentStoreError(
                f"A callback of the {self._owner} made a blocking call, which would wait for itself: use the result "
                "after the callback's call has returned."
            )
        task: asyncio.Task[Any] | None = None
        is_interrupted = False

        async def run() -> T:
            nonlocal task
            task = asyncio.current_task()
            if is_interrupted:
                raise asyncio.CancelledError
            return await work

        try:
            return self.submit(run()).result()
        except CancelledError as error:
            raise self._closed() from error
        except BaseException:
            # Raised by the coroutine, or by a signal's handler, which may run before submit() returns the future.
            is_interrupted = True
            if task is None:
                work.close()
            elif not task.done():
                self._loop.call_soon_threadsafe(task.cancel)
            raise

    async def call_async(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and await it on the caller's loop; canceling the caller cancels it.

        Raises:
            Closed: the thread was closed before the coroutine returned, or see :meth:`submit`.
        """
        future = self.submit(work)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError as error:
            if future.cancelled() and not _is_canceled():
                raise self._closed() from error
            raise

    def close(self) -> None:
        """Cancel everything that runs on the loop, and join the thread. Idempotent, without effect in a child."""
        if not self.is_of_this_process:
            return
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                # Queued after everything submitted before, so that each coroutine starts and can be canceled:
                # otherwise its caller would wait indefinitely.
                self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    def _closed(self) -> Closed:
        return Closed(f"The {self._owner} was stopped during the call: start it again.")

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._until_closed())

    async def _until_closed(self) -> None:
        await self._closing.wait()


class LoopRunner:
    """Runs coroutines on an event loop in a thread, which the first call starts, in each process.

    The thread ends with the process, or if the runner is no longer used.
    """

    def __init__(self, name: str, owner: str) -> None:
        """Create a runner without a thread; `name` and `owner` are those of :class:`LoopThread`."""
        self._names = name, owner
        self._thread: LoopThread | None = None
        self._lock = threading.RLock()
        notify_after_fork(self)

    def _start(self) -> LoopThread:
        thread = LoopThread(*self._names)
        weakref.finalize(self, thread.close)
        return thread

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine, and block until it returns."""
        with self._lock:
            if self._thread is None:
                self._thread = self._start()
            thread = self._thread
        return thread.call(work)

    def begin(self, work: Coroutine[Any, Any, object]) -> None:
        """Begin to run a coroutine, if the thread runs."""
        with self._lock:
            if self._thread is None:
                work.close()
            else:
                self._thread.submit(work)

    def iterate(self, items: AsyncIterator[T]) -> Iterator[T]:
        """Yield the items of an asynchronous iterator."""

        async def next_item() -> T:
            return await anext(items)

        async def close() -> None:
            if (aclose := getattr(items, "aclose", None)) is not None:
                await aclose()

        try:
            while True:
                try:
                    item = self.run(next_item())
                except StopAsyncIteration:
                    return
                yield item
        finally:
            self.begin(close())  # without waiting: an iterator may be finalized in any thread

    def close(self) -> None:
        """End the thread; the next call starts another one."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.close()

    def after_fork(self) -> None:
        """Start another thread at the next call, since the parent's does not exist in this process."""
        self._lock = threading.RLock()
        self._thread = None


def _is_canceled() -> bool:
    """Return whether the caller's task was canceled, rather than the future that it awaits."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
