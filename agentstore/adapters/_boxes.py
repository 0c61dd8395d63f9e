"""Sandboxes as AgentScope Runtime's applications hold them: their calls wait for the answer, which is a dict."""

from collections.abc import Mapping, Sequence
from typing import Any

from agentstore import interfaces
from agentstore.adapters import _upstream
from agentstore.adapters._loop import LoopThread


class Sandbox:
    """A sandbox with the calls of the runtime's BaseSandbox and FilesystemSandbox.

    They may be made in any thread, and block it, as the runtime's do; those that end in ``_async`` are awaited. What
    goes wrong in the code that runs there is in the answer, as ``isError``. What a call raises is
    :class:`agentstore.Sandbox`'s, and Closed once the service was stopped. Its functions may be a toolkit's tools:
    their first lines are what a model is told of them.
    """

    def __init__(self, thread: LoopThread, inner: interfaces.Sandbox) -> None:
        self._thread = thread
        self._inner = inner

    def __repr__(self) -> str:
        return repr(self._inner)

    @property
    def sandbox_id(self) -> str:
        """What its provider calls it."""
        return self._inner.sandbox_id

    @property
    def sandbox_type(self) -> Any:
        """Its type: a member of the runtime's SandboxType, or its name where the runtime has no such type."""
        # Of the module of its service, where it is imported.
        types = _upstream.service_class("sandbox.sandbox_service.SandboxType")
        try:
            return self._inner.type if types is None else types(self._inner.type)
        except ValueError:
            return self._inner.type

    def get_info(self) -> dict[str, Any]:
        """Return whose sandbox it is, of what type, and which of those that its session had."""
        inner = self._inner
        return {
            "sandbox_id": inner.sandbox_id,
            "sandbox_type": inner.type,
            "user_id": inner.user_id,
            "session_id": inner.session_id,
            "generation": inner.generation,
        }

    async def get_info_async(self) -> dict[str, Any]:
        """Return what `get_info` does."""
        return self.get_info()

    def list_tools(self, tool_type: str | None = None) -> dict[str, Any]:
        """Return the tools by group and name, each with its JSON schema; of one group if that is named."""
        return _of_group(self._thread.call(self._inner.list_tools()), tool_type)

    async def list_tools_async(self, tool_type: str | None = None) -> dict[str, Any]:
        """Return what `list_tools` does."""
        return _of_group(await self._thread.call_async(self._inner.list_tools()), tool_type)

    def call_tool(self, name: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Call a tool by its name."""
        return dict(self._thread.call(self._inner.call_tool(name, arguments)))

    async def call_tool_async(self, name: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Call a tool by its name."""
        return dict(await self._thread.call_async(self._inner.call_tool(name, arguments)))

    def run_ipython_cell(self, code: str) -> dict[str, Any]:
        """Run a cell of IPython. Variables are kept between cells."""
        return self.call_tool("run_ipython_cell", {"code": code})

    def run_shell_command(self, command: str) -> dict[str, Any]:
        """Run a shell command in the workspace."""
        return self.call_tool("run_shell_command", {"command": command})

    def read_file(self, path: str) -> dict[str, Any]:
        """Return a file of the workspace."""
        return self.call_tool("read_file", {"path": path})

    def read_multiple_files(self, paths: Sequence[str]) -> dict[str, Any]:
        """Return the text of several files."""
        return self.call_tool("read_multiple_files", {"paths": list(paths)})

    def write_file(self, path: str, content: str) -> dict[str, Any]:
        """Write a file of the workspace; one that is there is replaced as a whole."""
        return self.call_tool("write_file", {"path": path, "content": content})

    def edit_file(self, path: str, edits: Sequence[Mapping[str, str]], dry_run: bool = False) -> dict[str, Any]:
        """Replace text in a file, each edit's `oldText` with its `newText`, and return the difference.

        With `dry_run` nothing changes.
        """
        return self.call_tool("edit_file", {"path": path, "edits": [dict(each) for each in edits], "dryRun": dry_run})

    def create_directory(self, path: str) -> dict[str, Any]:
        """Create a folder, with those that it needs."""
        return self.call_tool("create_directory", {"path": path})

    def list_directory(self, path: str) -> dict[str, Any]:
        """List a folder, with [FILE] or [DIR] before each name."""
        return self.call_tool("list_directory", {"path": path})

    def directory_tree(self, path: str) -> dict[str, Any]:
        """Return a folder and all that is in it, as JSON."""
        return self.call_tool("directory_tree", {"path": path})

    def move_file(self, source: str, destination: str) -> dict[str, Any]:
        """Move or rename a file or a folder. The destination must not exist."""
        return self.call_tool("move_file", {"source": source, "destination": destination})

    def search_files(self, path: str, pattern: str, exclude_patterns: Sequence[str] = ()) -> dict[str, Any]:
        """Find files and folders by a part of their name or a pattern such as *.py, in a folder and those in it."""
        excluded = list(exclude_patterns)
        return self.call_tool("search_files", {"path": path, "pattern": pattern, "excludePatterns": excluded})

    def get_file_info(self, path: str) -> dict[str, Any]:
        """Return a file's size, times, type and permissions."""
        return self.call_tool("get_file_info", {"path": path})

    def list_allowed_directories(self) -> dict[str, Any]:
        """Return the folders that the tools may use."""
        return self.call_tool("list_allowed_directories")


def _of_group(tools: dict[str, Any], group: str | None) -> dict[str, Any]:
    return {group: tools.get(group, {})} if group else tools
