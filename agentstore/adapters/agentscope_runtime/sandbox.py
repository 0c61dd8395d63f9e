"""Sandboxes with the synchronous methods of AgentScope Runtime's, which return dicts."""

from collections.abc import Mapping, Sequence
from typing import Any

from agentstore import interfaces
from agentstore.adapters.agentscope_runtime.upstream import service_class
from agentstore.loop_thread import LoopThread


class Sandbox:
    """A sandbox with the methods of the runtime's BaseSandbox and FilesystemSandbox.

    Methods may be called from any thread and block it, as the runtime's do; those that end in ``_async`` are awaited.
    An error of the code that runs in the sandbox is in the result, as ``isError``. Methods raise what those of
    :class:`agentstore.Sandbox` raise, and Closed after the service was stopped. Methods may be registered as tools of a
    toolkit: the first line of a docstring is the description that the model reads.
    """

    def __init__(self, thread: LoopThread, inner: interfaces.Sandbox) -> None:
        self._thread = thread
        self._inner = inner

    def __repr__(self) -> str:
        return repr(self._inner)

    @property
    def sandbox_id(self) -> str:
        """The provider's id of the sandbox."""
        return self._inner.sandbox_id

    @property
    def sandbox_type(self) -> Any:
        """The type as a member of the runtime's SandboxType, or its name if the runtime has no such member."""
        # From the module of its service, where it is imported.
        types = service_class("sandbox.sandbox_service.SandboxType")
        try:
            return self._inner.type if types is None else types(self._inner.type)
        except ValueError:
            return self._inner.type

    def get_info(self) -> dict[str, Any]:
        """Return `sandbox_id`, `sandbox_type`, `user_id`, `session_id` and `generation`."""
        inner = self._inner
        return {
            "sandbox_id": inner.sandbox_id,
            "sandbox_type": inner.type,
            "user_id": inner.user_id,
            "session_id": inner.session_id,
            "generation": inner.generation,
        }

    async def get_info_async(self) -> dict[str, Any]:
        """Return the result of `get_info`."""
        return self.get_info()

    def list_tools(self, tool_type: str | None = None) -> dict[str, Any]:
        """Return the tools by group and name, each with its JSON schema; `tool_type` selects one group."""
        return _select_group(self._thread.call(self._inner.list_tools()), tool_type)

    async def list_tools_async(self, tool_type: str | None = None) -> dict[str, Any]:
        """Return the result of `list_tools`."""
        return _select_group(await self._thread.call_async(self._inner.list_tools()), tool_type)

    def call_tool(self, name: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Call a tool by its name."""
        return dict(self._thread.call(self._inner.call_tool(name, arguments)))

    async def call_tool_async(self, name: str, arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Call a tool by its name."""
        return dict(await self._thread.call_async(self._inner.call_tool(name, arguments)))

    def run_ipython_cell(self, code: str) -> dict[str, Any]:
        """Run a cell of IPython. Variables persist between cells."""
        return self.call_tool("run_ipython_cell", {"code": code})

    def run_shell_command(self, command: str) -> dict[str, Any]:
        """Run a shell command in the workspace."""
        return self.call_tool("run_shell_command", {"command": command})

    def read_file(self, path: str) -> dict[str, Any]:
        """Read a file of the workspace."""
        return self.call_tool("read_file", {"path": path})

    def read_multiple_files(self, paths: Sequence[str]) -> dict[str, Any]:
        """Read the text of several files of the workspace."""
        return self.call_tool("read_multiple_files", {"paths": list(paths)})

    def write_file(self, path: str, content: str) -> dict[str, Any]:
        """Write a file of the workspace, and replace an existing one."""
        return self.call_tool("write_file", {"path": path, "content": content})

    def edit_file(self, path: str, edits: Sequence[Mapping[str, str]], dry_run: bool = False) -> dict[str, Any]:
        """Replace text in a file, each edit's `oldText` with its `newText`, and return the diff.

        With `dry_run` the file is not changed.
        """
        return self.call_tool("edit_file", {"path": path, "edits": [dict(each) for each in edits], "dryRun": dry_run})

    def create_directory(self, path: str) -> dict[str, Any]:
        """Create a directory, with its parents."""
        return self.call_tool("create_directory", {"path": path})

    def list_directory(self, path: str) -> dict[str, Any]:
        """List a directory, with [FILE] or [DIR] before each name."""
        return self.call_tool("list_directory", {"path": path})

    def directory_tree(self, path: str) -> dict[str, Any]:
        """Return a directory and everything in it, as JSON."""
        return self.call_tool("directory_tree", {"path": path})

    def move_file(self, source: str, destination: str) -> dict[str, Any]:
        """Move or rename a file or a directory. The destination must not exist."""
        return self.call_tool("move_file", {"source": source, "destination": destination})

    def search_files(self, path: str, pattern: str, exclude_patterns: Sequence[str] = ()) -> dict[str, Any]:
        """Find files and directories below a directory by a part of the name or a pattern such as *.py."""
        excluded = list(exclude_patterns)
        return self.call_tool("search_files", {"path": path, "pattern": pattern, "excludePatterns": excluded})

    def get_file_info(self, path: str) -> dict[str, Any]:
        """Return a file's size, times, type and permissions."""
        return self.call_tool("get_file_info", {"path": path})

    def list_allowed_directories(self) -> dict[str, Any]:
        """Return the directories that the tools may access."""
        return self.call_tool("list_allowed_directories")


def _select_group(tools: dict[str, Any], group: str | None) -> dict[str, Any]:
    return {group: tools.get(group, {})} if group else tools
