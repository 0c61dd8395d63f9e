"""The interfaces of sandboxes: a sandbox, its provider, and the service."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

from agentstore.interfaces.service import ServiceWithLifecycleManager
from agentstore.schemas import Page, SandboxInfo, SandboxSpec, ToolResult


class Sandbox(ABC):
    """An isolated environment with a Python kernel, a shell and files, for one user, session and type.

    ``timeout`` of every call is in seconds; None applies the setting. Errors of the code that runs in the sandbox,
    exceeded limits and timeouts are reported in the result, see :class:`agentstore.ToolResult`. All calls raise:

    - SandboxLost: the sandbox ended, or its lease was taken over: connect again;
    - SandboxUnavailable: the sandbox cannot be reached, or does not answer;
    - SandboxFailed: the provider returned an error or an invalid response;
    - InvalidContent: the tool does not exist, or an argument is invalid.
    """

    user_id: str
    session_id: str
    type: str
    generation: int

    @property
    @abstractmethod
    def sandbox_id(self) -> str:
        """The provider's id of the sandbox."""

    @abstractmethod
    async def run_ipython_cell(self, code: str, *, timeout: float | None = None) -> ToolResult:
        """Run code in the sandbox's IPython kernel, which retains its variables between calls.

        The part "stdout" has the printed output, and results as ``Out[1]: ...``; "stderr" the error output and the
        traceback of an exception. Images and other rich output are separate parts.
        """

    @abstractmethod
    async def run_shell_command(self, command: str, *, timeout: float | None = None) -> ToolResult:
        """Run a shell command in the workspace.

        The result has the parts "stdout", "stderr" if it is not empty, and "returncode"; it is an error if the return
        code is not 0.
        """

    @abstractmethod
    async def list_tools(self, *, timeout: float | None = None) -> dict[str, Any]:
        """Return the tools by group and name, each with its JSON schema: ``{"generic": {name: {...}}, ...}``."""

    @abstractmethod
    async def call_tool(
        self, name: str, arguments: Mapping[str, Any] | None = None, *, timeout: float | None = None
    ) -> ToolResult:
        """Call a tool by name; `arguments` follow its JSON schema."""

    @abstractmethod
    async def read_file(self, path: str, *, timeout: float | None = None) -> ToolResult:
        """Read a file of the workspace: its text, or its bytes in Base64 as ``{"type": "blob", "blob": ...}``."""

    @abstractmethod
    async def write_file(self, path: str, content: str | bytes, *, timeout: float | None = None) -> ToolResult:
        """Write a file of the workspace, creating its parent directories; an existing file is replaced as a whole."""

    @abstractmethod
    async def list_files(self, path: str = ".", *, timeout: float | None = None) -> ToolResult:
        """List a directory of the workspace: one part per entry, with the description "file" or "directory"."""

    @abstractmethod
    async def remove_file(self, path: str, *, timeout: float | None = None) -> ToolResult:
        """Remove a file of the workspace, or a directory with everything in it."""


class SandboxProvider(Protocol):
    """Creates sandboxes and runs code in them. The service's registry, not the provider, knows who uses which.

    A handle is text of at most 4,096 bytes by which any replica finds a sandbox that another replica created, if it
    can reach it. All methods may be called concurrently.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """The name of the provider in the registry."""

    @property
    @abstractmethod
    def keeps_workspaces(self) -> bool:
        """Whether the provider implements :meth:`pack` and :meth:`unpack`."""

    @abstractmethod
    async def start(self) -> None:
        """Make the provider ready. Idempotent.

        Raises:
            SandboxUnavailable: this machine lacks something; the message says what to install.
        """

    @abstractmethod
    async def stop(self) -> None:
        """Release local resources. Sandboxes that were not destroyed live on if they do not depend on this process."""

    def reserve(self) -> str:
        """Return a token for a sandbox to be created, by which `destroy` ends it if its creator dies first.

        "" (the default) if sandboxes end with the process that creates them.
        """
        return ""

    @abstractmethod
    async def create(self, spec: SandboxSpec, reserved: str = "") -> str:
        """Create a sandbox, wait until it is ready, and return its handle. Canceling the call leaves nothing behind.

        `reserved` is the token that :meth:`reserve` returned for this sandbox.

        Raises:
            SandboxUnavailable, SandboxFailed, NotConfigured: it cannot be created; nothing is left behind.
        """

    @abstractmethod
    async def connect(self, handle: str) -> None:
        """Prepare for calls to a sandbox that another replica created.

        Raises:
            SandboxUnavailable: it cannot be reached from here; the message says where it is.
            SandboxLost: it does not exist any more.
        """

    @abstractmethod
    async def check(self, handle: str) -> bool:
        """Return quickly whether a sandbox exists and answers.

        Raises:
            SandboxUnavailable: that cannot be determined from here.
        """

    @abstractmethod
    async def exec(self, handle: str, tool: str, arguments: Mapping[str, Any], timeout: float) -> ToolResult:
        """Call a tool in a sandbox, and wait up to `timeout` seconds for its result.

        A call that takes longer is terminated, and the result says so. Canceling terminates it as well.

        Raises:
            SandboxLost, SandboxUnavailable, SandboxFailed, InvalidContent: see :class:`Sandbox`.
        """

    @abstractmethod
    async def list_tools(self, handle: str, timeout: float) -> dict[str, Any]:
        """Return the tools of a sandbox; see :meth:`Sandbox.list_tools`."""

    @abstractmethod
    async def destroy(self, handle: str) -> None:
        """End a sandbox and all its processes. Idempotent.

        Raises:
            SandboxElsewhere: only another replica can end it.
            SandboxUnavailable, SandboxFailed: it could not be ended, or the outcome is unknown.
        """

    @abstractmethod
    def pack(self, handle: str, timeout: float) -> AsyncIterator[bytes]:
        """Yield the workspace of a sandbox as a tar archive, in chunks of at most 1 MB.

        Raises:
            SandboxLost, SandboxUnavailable: see :meth:`exec`.
        """

    @abstractmethod
    async def unpack(self, handle: str, archive: AsyncIterator[bytes], timeout: float) -> None:
        """Restore the workspace of a sandbox from an archive of :meth:`pack`.

        Raises:
            SandboxLost, SandboxUnavailable, SandboxFailed: see :meth:`exec`; or the archive cannot be unpacked.
        """


class SandboxService(ServiceWithLifecycleManager):
    """Sandboxes: at most one per user, session and type, across all replicas.

    `user_id` None is the user "". Unlike in the other services, `session_id` comes before it, as in AgentScope Runtime;
    pass both by name where that may confuse.
    """

    @abstractmethod
    async def connect(
        self, session_id: str, user_id: str | None = None, sandbox_types: Sequence[str] | None = None
    ) -> list[Sandbox]:
        """Return the sandboxes of a session, in the order of `sandbox_types` (default: one of the type "base").

        A running sandbox is returned, whichever replica created it; one that does not answer is replaced; a missing
        one is created. Concurrent calls, on any replicas, get the same sandbox.

        Raises:
            SandboxUnavailable: it cannot be created here, or runs where it cannot be reached from here.
            SandboxFailed, NotConfigured: the provider failed, or is not configured.
            InvalidContent: a type does not exist, an id is invalid, or there is a session with both ids swapped, and
                none with the ids as given. Under row-level security, swapped ids are not noticed.
        """

    @abstractmethod
    async def release(self, session_id: str, user_id: str | None = None, *, snapshot: bool = True) -> list[SandboxInfo]:
        """End the sandboxes of a session, whichever replica created them, and return them. Raises if any is left.

        If workspaces are stored (SANDBOX_SNAPSHOTS), they are stored first, unless `snapshot` is false.

        Raises:
            SandboxUnavailable, SandboxFailed: a sandbox could not be ended from here.
            LimitExceeded: a workspace is too large to store; the sandbox continues to run.
        """

    @abstractmethod
    async def list(
        self, user_id: str | None = None, *, limit: int | None = None, cursor: str | None = None
    ) -> Page[SandboxInfo]:
        """Return the sandboxes of a user, ordered by session and type.

        `limit` is the size of the page (None: all), `cursor` the ``next_cursor`` of the previous page.

        Raises:
            InvalidContent: `limit` or `cursor` is invalid.
            LimitExceeded: `limit` is over 10,000.
        """

    @abstractmethod
    async def reap(self) -> int:
        """End the sandboxes of all users whose lease has expired, and return their number.

        The service does so periodically by itself, if row-level security does not restrict it to one user.
        """

    @abstractmethod
    async def delete_workspaces(self, session_id: str, user_id: str | None = None) -> int:
        """Delete the stored workspaces of a session, and return their number.

        The next sandbox starts with an empty workspace. A running one continues unchanged, and its workspace is stored
        again.
        """
