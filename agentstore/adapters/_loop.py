"""An event loop in a thread of its own, for callers that cannot await."""

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from agentstore.errors import Closed

T = TypeVar("T")


class LoopThread:
    """A daemon thread with an event loop, from when it is made until it is closed.

    It may be called from every other thread, whether an event loop runs there or not. It does not keep the interpreter
    from its end, and a process that is forked has none.
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
        """Whether its thread is here, and not in a process of which this one is a fork."""
        return self._pid == os.getpid()

    def submit(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Begin to run something there.

        Raises:
            Closed: it was closed, or this process is a fork.
        """
        if self.is_of_this_process:
            with self._lock:
                if not self._is_closed:
                    return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        raise Closed("The sandbox service was stopped, or belongs to another process: connect again.")

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something there, and wait for it."""
        future = self.submit(work)
        try:
            return future.result()
        except CancelledError as error:
            raise _closed() from error
        except BaseException:
            future.cancel()  # the wait may have been interrupted
            raise

    async def call_async(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something there, while the caller's event loop goes on."""
        future = self.submit(work)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError as error:
            if future.cancelled() and not _is_cancelled():
                raise _closed() from error
            raise

    def close(self) -> None:
        """Cancel what runs there, and wait for the end of the thread."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                # Behind all that was submitted, so that nobody waits for what never begins.
                self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._until_closed())

    async def _until_closed(self) -> None:
        await self._closing.wait()


def _closed() -> Closed:
    return Closed("The sandbox service was stopped meanwhile.")


def _is_cancelled() -> bool:
    """Whether it is the caller's task that was cancelled, and not what it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
