"""Sandboxes of AgentScope Runtime's own SandboxManager, in this process: of Docker, Kubernetes and what else it has.

The runtime is imported when the provider is started.
"""

import asyncio
import importlib
import os
import socket
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from uuid import uuid4

from agentstore.errors import NotConfigured, SandboxUnavailable
from agentstore.sandbox.remote import ManagedProvider

# Its methods wait for containers, a minute and longer, and would keep asyncio's own few threads from all else.
_THREADS = 32
# What the manager and its clients of Docker, Kubernetes and HTTP raise: requests' errors are OSErrors.
_FAILURES = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, OSError)


class AgentScopeRuntimeProvider(ManagedProvider):
    """Sandboxes of a SandboxManager, whose methods run in threads.

    A manager without Redis knows only the sandboxes that it made itself: another process cannot use them.
    """

    def __init__(self, manager: Any = None, *, timeout: float = 60.0) -> None:
        """`manager` is a SandboxManager, by default one of Docker; it stays the caller's. `timeout` is in seconds."""
        super().__init__(timeout)
        self._manager = manager
        self._threads: ThreadPoolExecutor | None = None
        self._where = f"process {os.getpid()} on {socket.gethostname()} ({uuid4().hex[:8]})"

    def __repr__(self) -> str:
        return f"AgentScopeRuntimeProvider({type(self._manager).__name__})"

    @property
    def name(self) -> str:
        """Its name in AGENTSTORE_SANDBOX_PROVIDER, "agentscope_runtime"."""
        return "agentscope_runtime"

    @property
    def _server(self) -> str:
        """The Redis that managers share, or else the process."""
        config: Any = getattr(self._manager, "config", None)
        if not getattr(config, "redis_enabled", False):
            return self._where
        shared = (config.redis_server, config.redis_port, config.redis_db, config.container_prefix_key)
        return "the managers of Redis {}:{}/{}, {}".format(*shared)

    async def start(self) -> None:
        """Make the manager, if none was given.

        Raises:
            NotConfigured: the runtime is not installed.
            SandboxUnavailable: its manager cannot be made, since there is no Docker, say.
        """
        if self._manager is None:
            self._manager = await asyncio.to_thread(_made)

    async def stop(self) -> None:
        """Let what is cleaned up be done. Sandboxes live on, and the manager is the same after another start()."""
        await super().stop()
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False)

    async def _call(self, method: str, arguments: Mapping[str, Any], timeout: float, attempts: int = 1) -> Any:
        """Call it once: there is no connection that could break between."""
        await self.start()
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="agentstore-sandbox")
        work = partial(getattr(self._manager, method), **arguments)
        try:
            async with asyncio.timeout(timeout):
                try:
                    return await asyncio.get_running_loop().run_in_executor(self._threads, work)
                except _FAILURES as error:
                    # Also a TimeoutError of its own, which is not that of the block around.
                    raise self._refusal(method, f"{type(error).__name__}: {error}") from error
        except TimeoutError as error:
            raise SandboxUnavailable(f"{method} of the SandboxManager took longer than {timeout:g} s") from error


def _made() -> Any:
    try:
        # This registers the runtime's types of sandboxes, too.
        importlib.import_module("agentscope_runtime.sandbox")
        module = importlib.import_module("agentscope_runtime.sandbox.manager")
    except ImportError as error:
        raise NotConfigured(
            "agentscope-runtime cannot be imported: pip install 'agentstore-postgres[agentscope-runtime]' brings it."
        ) from error
    try:
        return module.SandboxManager()
    except _FAILURES as error:
        raise SandboxUnavailable(f"the runtime's SandboxManager cannot be made: {error}") from error
