"""An event loop in a background thread, for callers that cannot await."""

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from agentstore.errors import Closed

T = TypeVar("T")


class LoopThread:
    """A daemon thread that runs an event loop from construction until :meth:`close`.

    Any other thread may call it, with or without a running event loop. It does not keep the interpreter from exiting,
    and it does not survive a fork: a child process needs another one.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._is_closed = False
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

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
        raise Closed("The sandbox service was stopped, or belongs to another process: connect again.")

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and block until it returns.

        Raises:
            Closed: the thread was closed before the coroutine returned, or see :meth:`submit`.
        """
        future = self.submit(work)
        try:
            return future.result()
        except CancelledError as error:
            raise _closed() from error
        except BaseException:
            future.cancel()  # the wait may have been interrupted, by KeyboardInterrupt for example
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
                raise _closed() from error
            raise

    def close(self) -> None:
        """Cancel everything that runs on the loop, and join the thread. Idempotent."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                # Queued after everything submitted before, so that each coroutine starts and can be canceled:
                # otherwise its caller would wait indefinitely.
                self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._until_closed())

    async def _until_closed(self) -> None:
        await self._closing.wait()


def _closed() -> Closed:
    return Closed("The sandbox service was stopped during the call: start it again, and connect.")


def _is_canceled() -> bool:
    """Return whether the caller's task was canceled, rather than the future that it awaits."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
