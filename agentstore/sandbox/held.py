"""The Sandbox object that clients use: each call checks that its lease is held, then calls the provider."""

import base64
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from agentstore.errors import InvalidContent
from agentstore.interfaces import Sandbox, SandboxProvider
from agentstore.schemas import SandboxSpec, ToolResult

_LONGEST_TIMEOUT = 86_400.0


class HeldSandbox(Sandbox):
    """A sandbox of a provider. Each call enters `use()`, which raises SandboxLost once the lease is lost."""

    def __init__(
        self,
        provider: SandboxProvider,
        spec: SandboxSpec,
        *,
        user_id: str,
        session_id: str,
        generation: int,
        handle: str,
        use: Callable[[], AbstractAsyncContextManager[None]],
        timeout: float,
    ) -> None:
        self.user_id = user_id
        self.session_id = session_id
        self.type = spec.type
        self.generation = generation
        self._provider = provider
        self._spec = spec
        self._handle = handle
        self._use = use
        self._timeout = timeout

    def __repr__(self) -> str:
        return (
            f"<Sandbox {self.type!r} of user {self.user_id!r}, session {self.session_id!r}, "
            f"generation {self.generation}>"
        )

    @property
    def sandbox_id(self) -> str:  # noqa: D102 - documented in the interface
        return self._handle

    async def run_ipython_cell(self, code: str, *, timeout: float | None = None) -> ToolResult:  # noqa: D102
        return await self.call_tool("run_ipython_cell", {"code": code}, timeout=timeout)

    async def run_shell_command(self, command: str, *, timeout: float | None = None) -> ToolResult:  # noqa: D102
        return await self.call_tool("run_shell_command", {"command": command}, timeout=timeout)

    async def list_tools(self, *, timeout: float | None = None) -> dict[str, Any]:  # noqa: D102
        seconds = self._seconds(timeout)
        async with self._use():
            found = await self._provider.list_tools(self._handle, seconds)
        if self._spec.tools is None:
            return found
        return {
            group: {name: tool for name, tool in tools.items() if name in self._spec.tools}
            for group, tools in found.items()
        }

    async def call_tool(  # noqa: D102
        self, name: str, arguments: Mapping[str, Any] | None = None, *, timeout: float | None = None
    ) -> ToolResult:
        seconds = self._seconds(timeout)
        if not isinstance(name, str) or (self._spec.tools is not None and name not in self._spec.tools):
            raise InvalidContent(f"a sandbox of type {self.type!r} has no tool {repr(name)[:80]}")
        given = {} if arguments is None else arguments
        if not isinstance(given, Mapping) or not all(isinstance(each, str) for each in given):
            raise InvalidContent(
                f"the arguments of {name!r} must be a mapping with string keys, got {type(given).__name__}"
            )
        async with self._use():
            return await self._provider.exec(self._handle, name, given, seconds)

    async def read_file(self, path: str, *, timeout: float | None = None) -> ToolResult:  # noqa: D102
        return await self.call_tool("read_file", {"path": path}, timeout=timeout)

    async def write_file(  # noqa: D102
        self, path: str, content: str | bytes, *, timeout: float | None = None
    ) -> ToolResult:
        if not isinstance(content, (str, bytes)):
            raise InvalidContent(f"the content of a file must be a str or bytes, got {type(content).__name__}")
        given = {"content": content} if isinstance(content, str) else {"blob": base64.b64encode(content).decode()}
        return await self.call_tool("write_file", {"path": path, **given}, timeout=timeout)

    async def list_files(self, path: str = ".", *, timeout: float | None = None) -> ToolResult:  # noqa: D102
        return await self.call_tool("list_files", {"path": path}, timeout=timeout)

    async def remove_file(self, path: str, *, timeout: float | None = None) -> ToolResult:  # noqa: D102
        return await self.call_tool("remove_file", {"path": path}, timeout=timeout)

    def _seconds(self, timeout: float | None) -> float:
        if timeout is None:
            return self._timeout
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout <= _LONGEST_TIMEOUT:
            raise InvalidContent(
                f"timeout must be a number of seconds, greater than 0 and at most 86,400, got {repr(timeout)[:80]}"
            )
        return float(timeout)
