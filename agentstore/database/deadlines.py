"""The time limit of statements, with one timer of the event loop for all of them.

asyncpg's own limit is a timer for each statement, which is canceled when the response arrives: that takes a twentieth
of the client's time for a short statement.
"""

import asyncio
from types import TracebackType
from typing import Any


class Deadlines:
    """The statements that are being executed in an event loop, all of which have the same time limit."""

    def __init__(self) -> None:
        """Create them in the running event loop."""
        self._loop = asyncio.get_running_loop()
        self._pending: dict[_Deadline, None] = {}  # in the order of their ends
        self._timer: asyncio.TimerHandle | None = None

    def limit(self, timeout: float) -> "_Deadline":
        """Return the context manager that interrupts its block after `timeout` seconds, and then raises TimeoutError.

        The block awaits the response to a statement, in a task.
        """
        return _Deadline(self, self._loop.time() + timeout)

    def begin(self, deadline: "_Deadline") -> None:  # noqa: D102 - see limit
        self._pending[deadline] = None
        if self._timer is None:
            self._timer = self._loop.call_at(deadline.end, self._expire)

    def finish(self, deadline: "_Deadline") -> None:  # noqa: D102 - see limit
        self._pending.pop(deadline, None)

    def stop(self) -> None:
        """Cancel the timer, unless statements are still being executed."""
        if self._timer is not None and not self._pending:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        """Interrupt the blocks whose time is over, and set the timer for the others."""
        self._timer = None
        for deadline in list(self._pending):
            if deadline.end > self._loop.time():
                self._timer = self._loop.call_at(deadline.end, self._expire)
                return
            del self._pending[deadline]
            deadline.expire()


class _Deadline:
    """Does what asyncio.timeout() does, without a timer of its own."""

    __slots__ = ("_cancelling", "_deadlines", "_has_expired", "_task", "end")

    def __init__(self, deadlines: Deadlines, end: float) -> None:
        self._deadlines = deadlines
        self.end = end

    def __enter__(self) -> None:
        task: asyncio.Task[Any] | None = asyncio.current_task()
        assert task is not None  # noqa: S101
        self._task = task
        self._cancelling = task.cancelling()
        self._has_expired = False
        self._deadlines.begin(self)

    def expire(self) -> None:
        self._has_expired = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._deadlines.finish(self)
        # A caller who cancels the task at the same time gets the cancellation.
        if self._has_expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error
