"""The store without ``await``, for Flask, Django, Celery and scripts.

``sync.pyi`` has the types of all calls, and ``python -m tests.support.sync_stub`` writes it.
"""

import functools
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Self

import agentstore
from agentstore.errors import Closed
from agentstore.loop_thread import LoopRunner

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["AgentStore"]


class _Calls:
    """The calls of an object, each of which blocks until the coroutine returns."""

    def __init__(self, target: Any, runner: LoopRunner) -> None:
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
        super().__init__(store, LoopRunner("agentstore", "store"))
        self.sessions = _Calls(store.sessions, self._runner)
        self.memory = _Calls(store.memory, self._runner)
        self.states = _Calls(store.states, self._runner)
        self.users = _Calls(store.users, self._runner)
        self.blobs = _Calls(store.blobs, self._runner)
        self.documents = _Calls(store.documents, self._runner)
        self.checkpoints = _Calls(store.checkpoints, self._runner)

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
