"""Sandboxes of AgentScope Runtime's SandboxManager in this process, which runs them with Docker or Kubernetes.

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
from agentstore.sandbox.managed import ManagedProvider

# The manager's methods block for a minute and longer, so they do not run in the few threads of asyncio's executor.
_THREADS = 32
# The exceptions of the manager and of its Docker, Kubernetes and HTTP clients; those of requests are OSErrors.
_FAILURES = (RuntimeError, ValueError, TypeError, LookupError, AttributeError, OSError)


class AgentScopeRuntimeProvider(ManagedProvider):
    """Sandboxes of a SandboxManager, whose methods run in threads.

    A manager without Redis knows only the sandboxes that it created itself: another process cannot use them.
    """

    def __init__(self, manager: Any = None, *, timeout: float = 60.0) -> None:
        """Create a provider. `timeout` is in seconds.

        `manager` is a SandboxManager, by default one for Docker; stop() leaves it open.
        """
        super().__init__(timeout)
        self._manager = manager
        self._threads: ThreadPoolExecutor | None = None
        self._process = f"process {os.getpid()} on {socket.gethostname()} ({uuid4().hex[:8]})"

    def __repr__(self) -> str:
        return f"AgentScopeRuntimeProvider({type(self._manager).__name__})"

    @property
    def name(self) -> str:
        """The provider's name in AGENTSTORE_SANDBOX_PROVIDER: "agentscope_runtime"."""
        return "agentscope_runtime"

    @property
    def _server(self) -> str:
        """The Redis that managers share, or without one this process."""
        config: Any = getattr(self._manager, "config", None)
        if not getattr(config, "redis_enabled", False):
            return self._process
        shared = (config.redis_server, config.redis_port, config.redis_db, config.container_prefix_key)
        return "the managers of Redis {}:{}/{}, {}".format(*shared)

    async def start(self) -> None:
        """Create the manager, if none was given.

        Raises:
            NotConfigured: the runtime is not installed.
            SandboxUnavailable: its manager cannot be created, for example because Docker is not running.
        """
        if self._manager is None:
            self._manager = await asyncio.to_thread(_create_manager)

    async def stop(self) -> None:
        """Wait for cleanup to finish, for a limited time. Sandboxes keep running, and the manager can be used again."""
        await super().stop()
        threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False)

    async def _call(self, method: str, arguments: Mapping[str, Any], timeout: float, attempts: int = 1) -> Any:
        """Call the method once: there is no connection that could break, so there is nothing to retry."""
        await self.start()
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="agentstore-sandbox")
        work = partial(getattr(self._manager, method), **arguments)
        try:
            async with asyncio.timeout(timeout):
                try:
                    return await asyncio.get_running_loop().run_in_executor(self._threads, work)
                except _FAILURES as error:
                    # Includes a TimeoutError of the method itself, which is not that of the enclosing block.
                    raise self._error_from_text(method, f"{type(error).__name__}: {error}") from error
        except TimeoutError as error:
            raise SandboxUnavailable(f"{method} of the SandboxManager took longer than {timeout:g} s") from error


def _create_manager() -> Any:
    try:
        # Importing the package registers the runtime's types of sandboxes.
        importlib.import_module("agentscope_runtime.sandbox")
        module = importlib.import_module("agentscope_runtime.sandbox.manager")
    except ImportError as error:
        raise NotConfigured(
            "agentscope-runtime cannot be imported: run pip install 'agentstore-postgres[agentscope-runtime]'"
        ) from error
    try:
        return module.SandboxManager()
    except _FAILURES as error:
        raise SandboxUnavailable(f"AgentScope Runtime's SandboxManager could not be created: {error}") from error
