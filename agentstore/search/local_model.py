"""Models of sentence-transformers that run in this process.

The library is imported when a model is created, and the model itself is loaded by the first call.
"""

import asyncio
import importlib
import threading
from collections.abc import Callable
from typing import Any, Literal, TypeVar

from agentstore.errors import AgentStoreError, NotConfigured
from agentstore.event_loops import PerLoop

T = TypeVar("T")


class LocalModel:
    """A model that runs in a thread, one call at a time, since several threads do not make it faster.

    Attributes:
        path: its name or path.
    """

    def __init__(
        self, kind: Literal["SentenceTransformer", "CrossEncoder"], path: str, options: dict[str, Any]
    ) -> None:
        """Create a model of a class of sentence-transformers, which is called with `path` and `options`.

        Raises:
            NotConfigured: sentence-transformers is not installed.
        """
        try:
            self._create: Callable[..., Any] = getattr(importlib.import_module("sentence_transformers"), kind)
        except ImportError as error:
            raise NotConfigured(
                "sentence-transformers is not installed: run pip install 'agentstore-postgres[sentence-transformers]'"
            ) from error
        self.path = path
        self._options = options
        self._model: Any = None
        self._locks: PerLoop[asyncio.Lock] = PerLoop()
        self._running = threading.Lock()

    async def run(self, call: Callable[[Any], T], error: type[AgentStoreError]) -> T:
        """Return what `call` returns, which is called with the model.

        If the caller is canceled, the thread continues to the end, and the next call waits for it.

        Raises:
            AgentStoreError: the model could not be loaded, or failed; of the class `error`.
        """
        lock = self._locks.get_or_create(asyncio.Lock)
        await lock.acquire()
        running = asyncio.get_running_loop().run_in_executor(None, self._run, call, error)

        def release(done: asyncio.Future[T]) -> None:
            lock.release()
            if not done.cancelled():
                done.exception()  # retrieved, though the caller may have been canceled

        running.add_done_callback(release)
        return await asyncio.shield(running)

    def _run(self, call: Callable[[Any], T], error: type[AgentStoreError]) -> T:
        try:
            with self._running:
                if self._model is None:
                    self._model = self._create(self.path, **self._options)
                return call(self._model)
        except (OSError, ValueError, RuntimeError, TypeError) as cause:
            raise error(f"the model {self.path!r} failed: {cause}") from cause
