"""Sandboxes of bubblewrap, real ones."""

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

from agentstore.sandbox.bubblewrap import BubblewrapProvider
from agentstore.schemas.sandbox import SandboxLimits, SandboxSpec, ToolResult

Run = Callable[..., Coroutine[Any, Any, ToolResult]]


@pytest.fixture
async def bubblewrap() -> AsyncIterator[BubblewrapProvider]:
    provider = BubblewrapProvider()
    await provider.start()
    yield provider
    await provider.stop()


@pytest.fixture
def limits() -> SandboxLimits:
    """The limits of the test's box; a test that needs others sets its own."""
    return SandboxLimits()


@pytest.fixture
async def boxed(bubblewrap: BubblewrapProvider, limits: SandboxLimits) -> str:
    """The handle of a box."""
    return await bubblewrap.create(SandboxSpec("test", limits=limits))


@pytest.fixture
def tool(bubblewrap: BubblewrapProvider, boxed: str) -> Run:
    """Call a tool of the box."""

    async def call(name: str, timeout: float = 20, **arguments: Any) -> ToolResult:
        return await bubblewrap.exec(boxed, name, arguments, timeout)

    return call


@pytest.fixture
def shell(tool: Run) -> Run:
    """Run a command in the box."""

    async def call(command: str, timeout: float = 20) -> ToolResult:
        return await tool("run_shell_command", timeout, command=command)

    return call


@pytest.fixture
def cell(tool: Run) -> Run:
    """Run a cell in the box."""

    async def call(code: str, timeout: float = 20) -> ToolResult:
        return await tool("run_ipython_cell", timeout, code=code)

    return call
