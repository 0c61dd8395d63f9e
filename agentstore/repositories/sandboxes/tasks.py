"""Tasks that run to their end even when the caller that started them is canceled."""

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

from agentstore.event_loops import leave_to_parent, notify_after_fork

_log = logging.getLogger(__name__)

_T = TypeVar("_T")


class BackgroundTasks:
    """Tasks that a service waits for when it stops. Canceling a caller does not cancel them."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        notify_after_fork(self)

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[asyncio.Task[Any]]:
        return iter(list(self._tasks))

    def start(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Start a task, and keep a reference to it until it is done."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def finish(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run `work` and return its result. If the caller is canceled, it runs on and its error is logged."""
        task = self.start(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_log_error)
            raise

    async def wait(self) -> None:
        """Wait for the tasks of the running event loop."""
        if tasks := of_this_loop(self._tasks):
            await asyncio.wait(tasks)
        # Those of a closed event loop never finish.
        self._tasks = {task for task in self._tasks if not task.get_loop().is_closed()}

    def after_fork(self) -> None:
        """Forget the tasks of the parent."""
        leave_to_parent(self._tasks)
        self._tasks = set()


def of_this_loop(tasks: Iterable[asyncio.Task[_T]]) -> set[asyncio.Task[_T]]:
    """Return those of the tasks that belong to the running event loop."""
    loop = asyncio.get_running_loop()
    return {task for task in tasks if task.get_loop() is loop}


async def cancel_and_wait(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel tasks, and wait until those of the running event loop are done. Their errors are not raised."""
    tasks = list(tasks)
    here = of_this_loop(tasks)
    for task in tasks:
        if task in here:
            task.cancel()
        elif not task.get_loop().is_closed():
            with suppress(RuntimeError):  # closed meanwhile
                task.get_loop().call_soon_threadsafe(task.cancel)
    if here:
        await asyncio.wait(here)


def _log_error(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.warning("a sandbox was not ended: %s", error)
