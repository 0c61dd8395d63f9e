"""The runtime's SandboxService, whose `connect` and `release` are synchronous."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Self

from pydantic import SecretStr

from agentstore import repositories
from agentstore.adapters.agentscope_runtime.options import check_options, parse_flag, parse_number
from agentstore.adapters.agentscope_runtime.sandbox import Sandbox
from agentstore.adapters.agentscope_runtime.upstream import register_subclass
from agentstore.errors import Closed
from agentstore.interfaces import SandboxProvider
from agentstore.loop_thread import LoopThread
from agentstore.settings import Settings, settings_from_environment


class PostgresSandboxService:
    """The runtime's SandboxService on Postgres. `connect` and `release` block; they are not awaited.

    They may be called from any thread, also from one with a running event loop, which they block, as the runtime's do.
    The work is done by an event loop in a background thread with its own connection pool, so that it does not use
    connections of the other services. Sandboxes are registered in the database: every replica that connects to a
    session gets the same ones. :class:`agentstore.SandboxService` documents which those are, and when they end.
    """

    UPSTREAM_NAME = "sandbox.sandbox_service.SandboxService"

    def __init__(
        self,
        dsn: str | None = None,
        pool_size: int | str | None = None,
        *,
        base_url: str | None = None,
        bearer_token: str | SecretStr | None = None,
        provider: SandboxProvider | str | None = None,
        drain_on_stop: bool | str = True,
        settings: Settings | None = None,
        **options: Any,
    ) -> None:
        """Create a service, without connecting. Options may be strings from the environment; an empty one is None.

        Args:
            dsn: the database URL; default: AGENTSTORE_DATABASE_URL.
            pool_size: the maximum number of connections of this service's own pool.
            base_url: the URL of a sandbox server; default: create sandboxes on this machine with `provider`.
            bearer_token: the token of that server.
            provider: a SandboxProvider or the name of one, see :class:`agentstore.PostgresSandboxService`. An object
                belongs to this service, which uses it on its own event loop and stops it.
            drain_on_stop: whether `stop` ends the sandboxes that this service has created.
            settings: default: from the environment.
            options: connection options of the runtime's other implementations, which are ignored.

        Raises:
            NotConfigured: no database is configured, the provider is unknown, or an option is unknown or invalid.
        """
        check_options(type(self), options)
        settings = settings or settings_from_environment()
        size = parse_number(pool_size, "pool_size")
        self._settings = settings if size is None else settings.model_copy(update={"pool_size": size})
        self._dsn = dsn or None
        self._base_url, self._bearer_token = base_url or None, bearer_token or None
        self._provider = provider or None
        self._drain = parse_flag(drain_on_stop, "drain_on_stop")
        self._is_stopped = False
        self._stops = 0
        self._stopping: Future[None] | None = None
        self._lock = threading.Lock()
        self._thread: LoopThread | None = None
        self._inner = self._create_inner()
        register_subclass(type(self), self.UPSTREAM_NAME)

    async def start(self) -> None:
        """Connect, check the schema, and check that sandboxes can be created. Optional: the first call does it.

        Raises:
            SandboxUnavailable: sandboxes cannot be created here; the message says what to install.
        """
        if (stopping := self._stopping) is not None:
            # Until then the database and the provider belong to the event loop of the previous thread.
            stops = self._stops
            await asyncio.shield(asyncio.wrap_future(stopping))
            if self._stops != stops:
                raise Closed(f"the {type(self).__name__} was stopped while it was starting: start it again")
        thread = self._ensure_thread(restart=True)
        await thread.call_async(self._inner.start())

    async def stop(self) -> None:
        """End the sandboxes that this service has created, unless `drain_on_stop` is false, and close connections."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._is_stopped = True
            self._stops += 1
        if thread is None or not thread.is_of_this_process:
            return
        stopping: Future[None] = Future()
        self._stopping = stopping
        try:
            await thread.call_async(self._stop_inner())
        finally:
            try:
                await asyncio.to_thread(thread.close)
            finally:
                stopping.set_result(None)

    async def health(self) -> bool:
        """Return whether the database answers. False before start and after stop; never raises."""
        thread = self._thread
        if thread is None or not thread.is_of_this_process:
            return False
        try:
            return await thread.call_async(self._inner.health())
        except Closed:
            return False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> bool:
        await self.stop()
        return False

    def connect(
        self, session_id: str, user_id: str | None = None, sandbox_types: Sequence[Any] | None = None
    ) -> list[Sandbox]:
        """Return a session's sandboxes of these types, in their order, and create missing ones.

        `sandbox_types` are names or members of the runtime's SandboxType; default: "base".
        """
        thread = self._ensure_thread()
        found = thread.call(self._inner.connect(session_id, user_id, sandbox_types))
        return [Sandbox(thread, each) for each in found]

    def release(self, session_id: str, user_id: str | None = None) -> bool:
        """End all sandboxes of a session, whichever replica created them. Always returns True, also without any."""
        self._ensure_thread().call(self._inner.release(session_id, user_id))
        return True

    def _create_inner(self) -> repositories.PostgresSandboxService:
        return repositories.PostgresSandboxService(
            self._dsn,
            base_url=self._base_url,
            bearer_token=self._bearer_token,
            provider=self._provider,
            drain_on_stop=self._drain,
            settings=self._settings,
        )

    def _ensure_thread(self, *, restart: bool = False) -> LoopThread:
        """Return the running thread, started if there is none; after `stop` only with `restart`."""
        with self._lock:
            if self._is_stopped and not restart:
                raise Closed(f"the {type(self).__name__} was stopped: start it again")
            if self._thread is not None and not self._thread.is_of_this_process:
                # This process is a fork: the open connections belong to its parent.
                self._thread, self._inner = None, self._create_inner()
            if self._thread is None:
                self._thread = LoopThread("agentstore-sandboxes", "sandbox service")
            self._is_stopped = False
            return self._thread

    async def _stop_inner(self) -> None:
        try:
            await self._inner.stop()
        finally:
            if self._provider is not None and not isinstance(self._provider, str):
                await self._provider.stop()


SandboxService = PostgresSandboxService
"""The runtime's name of the class."""
