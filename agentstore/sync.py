"""The store without ``await``, for Flask, Django, Celery and scripts.

``sync.pyi`` has the types of all calls, and ``python -m tests.support.sync_stub`` writes it.
"""

import functools
import inspect
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Self, TypeVar

import agentstore
from agentstore.errors import Closed
from agentstore.event_loops import notify_after_fork
from agentstore.loop_thread import LoopThread

if TYPE_CHECKING:
    from types import TracebackType

T = TypeVar("T")

__all__ = ["AgentStore"]


class _Runner:
    """Runs coroutines on an event loop in a thread, which the first call starts, in each process."""

    def __init__(self) -> None:
        self._thread: LoopThread | None = None
        self._lock = threading.RLock()
        notify_after_fork(self)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine, and block until it returns."""
        with self._lock:
            if self._thread is None:
                self._thread = LoopThread("agentstore", "store")
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


class _Calls:
    """The calls of an object, each of which blocks until the coroutine returns."""

    def __init__(self, target: Any, runner: _Runner) -> None:
        self._target = target
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        value = getattr(self._target, name)
        if inspect.iscoroutinefunction(value):
            value = self._blocking(value)
        elif inspect.isasyncgenfunction(value):
            value = self._iterating(value)
        else:
            return value
        setattr(self, name, value)
        return value

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *(name for name in dir(self._target) if not name.startswith("_"))})

    def __repr__(self) -> str:
        return f"<blocking calls of {self._target!r}>"

    def _blocking(self, function: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return self._runner.run(function(*args, **kwargs))

        return call

    def _iterating(self, function: Callable[..., AsyncIterator[Any]]) -> Callable[..., Iterator[Any]]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Iterator[Any]:
            return self._runner.iterate(function(*args, **kwargs))

        return call


class _Sandboxes(_Calls):
    """The calls of the sandbox service, whose sandboxes block, too."""

    def connect(self, *args: Any, **kwargs: Any) -> list[_Calls]:
        found = self._runner.run(self._target.connect(*args, **kwargs))
        return [_Calls(sandbox, self._runner) for sandbox in found]


class AgentStore(_Calls):
    """A store whose calls block until they have returned. See :class:`agentstore.AgentStore`.

    ::

        with AgentStore("postgresql://app@db/agents") as store:
            store.sessions.append("alice", "s1", Message.user("Hello"))
            for message in store.sessions.iter_messages("alice", "s1"):
                print(message.text)

    The calls run on an event loop in a thread of the store, which the first call starts. They may be made in any
    thread, at once, and in forked children. A call in a thread that runs an event loop blocks that loop: use
    agentstore.AgentStore there. Callbacks (``progress``, ``tick``, ``change``, ``count``) are called in the thread of
    the store, and cannot make calls of it.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._begin(agentstore.AgentStore(*args, **kwargs))

    @classmethod
    def in_memory(cls, **kwargs: Any) -> Self:
        """Return a store without a database, see :meth:`agentstore.AgentStore.in_memory`."""
        store = cls.__new__(cls)
        store._begin(agentstore.AgentStore.in_memory(**kwargs))
        return store

    def _begin(self, store: Any) -> None:
        super().__init__(store, _Runner())
        self.sessions = _Calls(store.sessions, self._runner)
        self.memory = _Calls(store.memory, self._runner)
        self.states = _Calls(store.states, self._runner)
        self.users = _Calls(store.users, self._runner)
        self.blobs = _Calls(store.blobs, self._runner)
        self.documents = _Calls(store.documents, self._runner)
        # At the end of the process, and if the store is no longer used: closes the connections.
        weakref.finalize(self, self._runner.close)

    @functools.cached_property
    def sandboxes(self) -> _Sandboxes:
        """Sandboxes, see :class:`agentstore.AgentStore`."""
        return _Sandboxes(self._target.sandboxes, self._runner)

    def stop(self) -> None:
        """Close all connections and services, and end the thread. Later calls raise Closed, until start() is called."""
        try:
            self._runner.run(self._target.stop())
        except Closed:  # by another thread's stop, at the same time
            pass
        finally:
            self._runner.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        self.stop()
