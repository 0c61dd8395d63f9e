"""Values that belong to an event loop, in processes that have several of them, or fork."""

import asyncio
import os
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar
from weakref import WeakSet

T = TypeVar("T")


class Forked(Protocol):
    """An object that has to know when the process was forked."""

    def after_fork(self) -> None:
        """Forget what belongs to the parent. Called in the child, in its only thread."""


_forked: WeakSet[Forked] = WeakSet()
# In a child process: what belongs to its parent, and must not be finalized here. A finalizer would remove the parent's
# sockets from the selector that both processes have, for example.
_of_parent: list[object] = []


def notify_after_fork(each: Forked) -> None:
    """Call the method ``after_fork`` of an object in each forked child, as long as the object exists."""
    _forked.add(each)


def leave_to_parent(value: object) -> None:
    """Keep what belongs to the parent of a forked process from being finalized in the child."""
    _of_parent.append(value)


def _after_fork() -> None:
    for each in list(_forked):
        each.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class PerLoop(Generic[T]):
    """A value for each event loop. May be used from any thread.

    The values of closed loops are forgotten when another loop gets a value, and all values in a forked child.
    """

    def __init__(self) -> None:
        self._values: dict[asyncio.AbstractEventLoop, T] = {}
        notify_after_fork(self)

    def get(self) -> T | None:
        """Return the value of the running event loop, or None."""
        return self._values.get(asyncio.get_running_loop())

    def set(self, value: T) -> None:
        """Set the value of the running event loop."""
        for loop in list(self._values):
            if loop.is_closed():
                self._values.pop(loop, None)
        self._values[asyncio.get_running_loop()] = value

    def get_or_create(self, create: Callable[[], T]) -> T:
        """Return the value of the running event loop; if it has none, that which `create` returns."""
        value = self.get()
        if value is None:
            value = create()
            self.set(value)
        return value

    def pop(self) -> T | None:
        """Remove the value of the running event loop, and return it, or None."""
        return self._values.pop(asyncio.get_running_loop(), None)

    def clear(self) -> list[T]:
        """Remove the values of all event loops, and return them."""
        return [value for loop in list(self._values) if (value := self._values.pop(loop, None)) is not None]

    def values(self) -> list[T]:
        """Return the values of all event loops."""
        return list(self._values.values())

    def after_fork(self) -> None:
        """Forget all values, which belong to the parent."""
        leave_to_parent(self._values)
        self._values = {}
