"""Helpers for the tests of managed sandboxes."""

import asyncio
import json
from collections.abc import Callable

from agentstore.sandbox.managed import ManagedProvider
from agentstore.schemas.sandbox import SandboxSpec, ToolResult

TOKEN = "hunter2-hunter2"
BASE = SandboxSpec("base")

HANG_GUARD = 60
"""Seconds after which a test that waits for an event fails."""


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(HANG_GUARD):
        while not condition():
            await asyncio.sleep(0.01)


def name_in(handle: str) -> str:
    """Return the name of a container from its handle."""
    name = json.loads(handle)["name"]
    assert isinstance(name, str)
    return name


async def shell(provider: ManagedProvider, handle: str, command: str, timeout: float = 60) -> ToolResult:
    """Run a shell command."""
    return await provider.exec(handle, "run_shell_command", {"command": command}, timeout)
