"""Fixtures that start real bubblewrap sandboxes."""

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from agentstore.sandbox.bubblewrap import BubblewrapProvider
from agentstore.schemas.sandbox import SandboxLimits, SandboxSpec, ToolResult

# Seconds after which a call hangs. A busy machine may need many.
TIMEOUT = 60.0

Run = Callable[..., Coroutine[Any, Any, ToolResult]]


@pytest.fixture
async def bubblewrap() -> AsyncIterator[BubblewrapProvider]:
    provider = BubblewrapProvider()
    await provider.start()
    yield provider
    await provider.stop()


@pytest.fixture
def limits() -> SandboxLimits:
    """Return the limits of the test's sandbox; a module that needs others overrides the fixture."""
    return SandboxLimits()


@pytest.fixture
async def sandbox_handle(bubblewrap: BubblewrapProvider, limits: SandboxLimits) -> str:
    """Return the handle of a sandbox."""
    return await bubblewrap.create(SandboxSpec("test", limits=limits))


@pytest.fixture
def tool(bubblewrap: BubblewrapProvider, sandbox_handle: str) -> Run:
    """Return a function that calls a tool of the sandbox."""

    async def call(name: str, timeout: float = TIMEOUT, **arguments: Any) -> ToolResult:
        return await bubblewrap.exec(sandbox_handle, name, arguments, timeout)

    return call


@pytest.fixture
def shell(tool: Run) -> Run:
    """Return a function that runs a command in the sandbox."""

    async def call(command: str, timeout: float = TIMEOUT) -> ToolResult:
        return await tool("run_shell_command", timeout, command=command)

    return call


@pytest.fixture
def cell(tool: Run) -> Run:
    """Return a function that runs a cell in the sandbox."""

    async def call(code: str, timeout: float = TIMEOUT) -> ToolResult:
        return await tool("run_ipython_cell", timeout, code=code)

    return call
