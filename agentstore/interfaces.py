"""Interfaces of the services: AgentScope Runtime's names and signatures, as abstract base classes.

The contract suites in ``agentstore.testing`` test what each method promises beyond its signature; run them on an
implementation of your own.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Protocol, Self

from agentstore.schemas import (
    Deleted,
    Extraction,
    MemoryItem,
    Message,
    MessagesLike,
    Page,
    SandboxInfo,
    SandboxSpec,
    Session,
    StateRound,
    StoredMessages,
    ToolResult,
)


class Service(ABC):
    """The lifecycle methods of every service."""

    @abstractmethod
    async def start(self) -> None:
        """Make the service ready. Idempotent, and optional: the first call starts the service."""

    @abstractmethod
    async def stop(self) -> None:
        """Release the resources of the service. Later calls raise Closed, until start() is called."""

    @abstractmethod
    async def health(self) -> bool:
        """Return whether the service works now. False before start and after stop; never raises."""


class ServiceWithLifecycleManager(Service):
    """A service that ``async with`` starts and stops."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


class SessionHistoryService(ServiceWithLifecycleManager):
    """Conversations: the sessions of users, and their messages in order.

    An id is any text of at most 512 bytes in UTF-8, including the empty string. Every method raises InvalidContent for
    an invalid id.
    """

    @abstractmethod
    async def create_session(
        self,
        user_id: str,
        session_id: str | None = None,
        *,
        exist_ok: bool = True,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        ttl: int | None = None,
    ) -> Session:
        """Create a session, or return the existing one unchanged, with its messages.

        Concurrent calls with the same id create one session.

        Args:
            user_id: the owner, created if missing.
            session_id: surrounding whitespace is removed; None or blank generates a UUID.
            exist_ok: whether an existing session is returned instead of an error.
            title: the title of a new session, see :meth:`set_title`.
            metadata: the metadata of a new session, any JSON object.
            ttl: the retention of a new session in seconds, see :meth:`set_ttl`.

        Raises:
            AlreadyExists: the session exists, and `exist_ok` is false.
            InvalidContent, LimitExceeded: an id, the title, the metadata or the ttl is invalid.
        """

    @abstractmethod
    async def get_session(
        self, user_id: str, session_id: str, *, limit: int | None = None, before: str | None = None
    ) -> Session | None:
        """Return a session with its messages in order, or None if it does not exist.

        Args:
            user_id: the owner.
            session_id: the session.
            limit: return only the last `limit` messages; None returns all.
            before: the id of a message: return only messages before it.

        Raises:
            NotFound: the session has no message with the id `before`.
            InvalidContent: `limit` is not an integer >= 0.
        """

    @abstractmethod
    async def read_messages(
        self, user_id: str, session_id: str, *, limit: int | None = None, before: str | None = None
    ) -> StoredMessages | None:
        """Return the messages of a session in stored form, or None: for large reads that need no Message objects.

        StoredMessages is a sequence that creates each Message when it is accessed, and provides all of them as JSON
        or as dicts. Arguments and errors are those of :meth:`get_session`.
        """

    @abstractmethod
    def iter_messages(self, user_id: str, session_id: str, *, batch: int = 1_000) -> AsyncIterator[Message]:
        """Iterate over the messages of a session in order, with bounded memory.

        At most `batch` messages, and about 8 MB (but at least one message), are in memory at a time. Each batch is
        read when it is needed, and no connection is held in between, so the iteration may pause for any time. Messages
        that are appended before its end are yielded too.

        Raises:
            NotFound: the session does not exist; raised when the first message is requested.
            InvalidContent, LimitExceeded: `batch` is not an integer >= 1, or is over 10,000.
        """

    @abstractmethod
    async def list_sessions(
        self, user_id: str, *, limit: int | None = None, cursor: str | None = None
    ) -> Page[Session]:
        """Return the sessions of a user without their messages, most recently used first.

        Between pages, the order of last use is exact to one minute.

        Args:
            user_id: the owner.
            limit: the size of the page; None returns all.
            cursor: ``next_cursor`` of the previous page.

        Raises:
            InvalidContent: `limit` or `cursor` is invalid.
            LimitExceeded: `limit` is over 10,000.
        """

    @abstractmethod
    async def append_message(self, session: Session, message: MessagesLike) -> None:
        """Append one or several messages to a session: all of them, in this order, or none.

        Idempotent, so safe to retry: a message whose id is already stored with equal content is not stored again.
        After the commit, the messages that ``session.messages`` lacks are added to it.

        Args:
            session: the session to append to, identified by its ``user_id`` and ``id``.
            message: a Message, a dict with a Message's fields, or a list of them. A message without an id gets a new
                one; None is skipped.

        Raises:
            NotFound: the session does not exist.
            Conflict: a message id is stored with other content; nothing was written.
            InvalidContent: something is not a message, or cannot be represented as JSON; nothing was written.
            LimitExceeded: a message is over 32 MB or nested over 200 levels, or there are more than 10,000.
        """

    @abstractmethod
    async def delete_session(self, user_id: str, session_id: str) -> Deleted:
        """Delete a session and its messages; return the number of both. Idempotent."""

    @abstractmethod
    async def set_title(self, user_id: str, session_id: str, title: str | None) -> None:
        """Set the title of a session; None removes it.

        Raises:
            NotFound: the session does not exist.
            InvalidContent: the title contains a NUL character or a lone surrogate.
            LimitExceeded: the title is longer than 10,000 characters.
        """

    @abstractmethod
    async def set_metadata(self, user_id: str, session_id: str, metadata: Mapping[str, Any]) -> None:
        """Replace the metadata of a session: any JSON object.

        Raises:
            NotFound: the session does not exist.
            InvalidContent, LimitExceeded: the metadata cannot be represented as JSON, or is too large.
        """

    @abstractmethod
    async def change_metadata(
        self, user_id: str, session_id: str, change: Callable[[dict[str, Any]], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Replace the metadata of a session by ``change(metadata)``, atomically, and return the new metadata.

        The session is locked in between, so that no concurrent change is lost. `change` is called once, with a copy;
        if it raises, nothing is written.

        Raises:
            NotFound: the session does not exist.
            InvalidContent, LimitExceeded: the new metadata cannot be represented as JSON, or is too large.
        """

    @abstractmethod
    async def set_ttl(self, user_id: str, session_id: str, ttl: int | None) -> None:
        """Set the retention of a session: `ttl` seconds after its last append; None applies the store's setting.

        An expired session no longer exists for any call, and its id may be used again at once. ``store.prune`` deletes
        its rows.

        Raises:
            NotFound: the session does not exist.
            InvalidContent: `ttl` is not an integer from 1 to 2**31 - 1.
        """

    @abstractmethod
    async def fork_session(
        self, user_id: str, session_id: str, *, at: str | int | None = None, new_id: str | None = None
    ) -> Session:
        """Copy a session, up to and including the message `at`, and return the copy.

        Copied are the title, the metadata, the messages with their ids, and the state rounds that were saved before
        the message after `at` was appended. ``forked_from`` and ``forked_at`` of the copy name its origin. Memories
        belong to the user and are not copied.

        Args:
            user_id: the owner of both sessions.
            session_id: the session to copy.
            at: the id of the last message to copy, or its number: 1 is the first message, 0 copies none. None copies
                all messages.
            new_id: the id of the copy, as in :meth:`create_session`.

        Raises:
            NotFound: the session, or the message in it, does not exist.
            AlreadyExists: `new_id` is the id of an existing session, or of existing states.
            InvalidContent: an id is invalid, or `at` is neither an id nor a number.
        """

    @abstractmethod
    async def rewind_session(
        self, user_id: str, session_id: str, at: str | int, *, keep: bool = True, new_id: str | None = None
    ) -> Session:
        """Remove the messages after `at` from a session, and return it.

        State rounds that were saved after the first of these messages was appended are removed as well; their numbers
        are not used again.

        Args:
            user_id: the owner.
            session_id: the session.
            at: the id of the last message to retain, or its number, as in :meth:`fork_session`.
            keep: whether the session is forked beforehand, so that nothing is lost; not if there is nothing to remove.
            new_id: the id of that fork, as in :meth:`create_session`.

        Raises:
            NotFound, AlreadyExists, InvalidContent: as :meth:`fork_session`; nothing was changed.
        """


class MemoryService(ServiceWithLifecycleManager):
    """Long-term memory: messages of earlier conversations, found by their words.

    The memories of a user are grouped by session id; a falsy one (None or "") is the group "default".
    """

    @abstractmethod
    async def add_memory(self, user_id: str, messages: MessagesLike, session_id: str | None = None) -> None:
        """Add messages to memory, in order. Idempotent: a message id that the session has already is skipped.

        Raises:
            InvalidContent, LimitExceeded: see :meth:`SessionHistoryService.append_message`.
        """

    @abstractmethod
    async def search_memory(
        self, user_id: str, messages: MessagesLike, filters: Mapping[str, Any] | None = None
    ) -> list[Message]:
        """Return the memories that match the text of the last of `messages`, best first. Any text is a valid query.

        Args:
            user_id: whose memories are searched.
            messages: a Message, a dict with a Message's fields, or a list of them.
            filters: a dict with any of these keys:

                - ``top_k``: the maximum number of results, from 0 to 1,000 (default 10);
                - ``order``: "relevance" (default), or "chronological" to sort the results by time;
                - ``session_id``: only memories of this session;
                - ``role``: only messages of this role, such as "user";
                - ``since``, ``until``: only memories from `since` on, and before `until`: an aware datetime, a string
                  such as ISO 8601, or seconds since 1970;
                - ``min_score``: the minimum score of a result (default 0.0);
                - ``kind``: only memories of this kind: "message", or an item's, such as "fact";
                - ``valid_at``: only items that are valid at this time (default: now);
                - ``strategy``: a SearchStrategy or its name, "full_text", "vector" or "hybrid" (default: the
                  service's).

        Raises:
            InvalidContent: a filter is unknown or its value invalid, or `messages` are not messages.
            LimitExceeded: ``top_k`` is over 1,000.
            NotConfigured: ``strategy`` needs vectors, and there is no embedder, or vectors are not enabled.
            EmbeddingFailed: the embedder failed, and ``strategy`` is "vector".
        """

    @abstractmethod
    async def list_memory(self, user_id: str, filters: Mapping[str, Any] | None = None) -> Page[Message]:
        """Return one page of a user's memories, ordered by session id, then in the order of addition.

        Args:
            user_id: whose memories are listed.
            filters: a dict with any of these keys:

                - ``page_size``: the number of memories per page, from 1 to 10,000 (default 10);
                - ``page_num``: the number of the page, from 1 (default 1);
                - ``cursor``: ``next_cursor`` of the previous page, instead of ``page_num``.

        Raises:
            InvalidContent: a filter is unknown or its value invalid, or both ``page_num`` and ``cursor`` are given.
            LimitExceeded: ``page_size`` is over 10,000.
        """

    @abstractmethod
    async def delete_memory(self, user_id: str, session_id: str | None = None) -> Deleted:
        """Delete the memories of a session, or with None all of the user's; return their number. Idempotent."""


class StateService(ServiceWithLifecycleManager):
    """The states of agents: JSON objects in numbered rounds of a session.

    A falsy session id (None or "") is the session "default". States do not require a session with messages.
    """

    @abstractmethod
    async def save_state(
        self,
        user_id: str,
        state: Mapping[str, Any],
        session_id: str | None = None,
        round_id: int | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
        expected_round: int | None = None,
    ) -> int:
        """Save a state and return its round number.

        Concurrent saves get different numbers, and the number of a deleted round is not used again.

        Args:
            user_id: the owner, created if missing.
            state: any JSON object.
            session_id: the session.
            round_id: the round to write, from 1; an existing one is overwritten. None adds the next round, from 1.
            metadata: any JSON object about the round.
            expected_round: save only if this is the highest existing round (0: there is none). This is optimistic
                locking: of two saves based on the same state, the second one raises Conflict.

        Raises:
            Conflict: `expected_round` is not the highest round; nothing was written.
            InvalidContent: the state or the metadata is not a JSON object, a round is not an integer from 1 (from 0
                for `expected_round`), or both `round_id` and `expected_round` are given.
            LimitExceeded: the state is over 64 MB, or nested over 200 levels.
        """

    @abstractmethod
    async def export_state(
        self, user_id: str, session_id: str | None = None, round_id: int | None = None
    ) -> dict[str, Any] | None:
        """Return a copy of the state of a round, by default of the highest one; None if it does not exist.

        Raises:
            InvalidContent: `round_id` is not an integer >= 1.
        """

    @abstractmethod
    async def list_states(
        self, user_id: str, session_id: str | None = None, *, limit: int | None = None, cursor: str | None = None
    ) -> Page[StateRound]:
        """Return the rounds of a session without their states, highest first.

        Args:
            user_id: the owner.
            session_id: the session.
            limit: the size of the page; None returns all.
            cursor: ``next_cursor`` of the previous page.

        Raises:
            InvalidContent: `limit` or `cursor` is invalid.
            LimitExceeded: `limit` is over 10,000.
        """

    @abstractmethod
    async def delete_state(self, user_id: str, session_id: str | None = None, round_id: int | None = None) -> Deleted:
        """Delete one round, or with None all rounds of a session; return their number. Idempotent.

        After all rounds of a session were deleted, numbers start at 1 again.

        Raises:
            InvalidContent: `round_id` is not an integer >= 1.
        """

    @abstractmethod
    async def diff_states(self, user_id: str, a: int, b: int, session_id: str | None = None) -> list[dict[str, Any]]:
        """Return the JSON Patch (RFC 6902) that turns the state of round `a` into that of round `b`.

        Raises:
            NotFound: a round does not exist.
            InvalidContent: `a` or `b` is not an integer >= 1.
        """


class Sandbox(ABC):
    """An isolated environment with a Python kernel, a shell and files, for one user, session and type.

    ``timeout`` of every call is in seconds; None applies the setting. Errors of the code that runs in the sandbox,
    exceeded limits and timeouts are reported in the result, see :class:`agentstore.ToolResult`. All calls raise:

    - SandboxLost: the sandbox ended, or its lease was taken over: connect again;
    - SandboxUnavailable: the sandbox cannot be reached, or does not answer;
    - SandboxFailed: the provider returned an error or an invalid answer;
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
        """Write a file of the workspace, creating its parent directories; an existing file is replaced."""

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
        """Create a sandbox, wait until it is ready, and return its handle. Cancelling the call leaves nothing behind.

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

        A call that takes longer is terminated, and the result says so. Cancelling terminates it as well.

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

    `user_id` None is the user "".
    """

    @abstractmethod
    async def connect(
        self, session_id: str, user_id: str | None = None, sandbox_types: Sequence[str] | None = None
    ) -> list[Sandbox]:
        """Return the sandboxes of a session, in the order of `sandbox_types` (default: one of the type "base").

        A running sandbox is returned, whichever replica created it; one that does not answer is replaced; a missing
        one is created. Concurrent calls, on any replicas, get the same sandbox.

        Raises:
            SandboxUnavailable: it cannot be created here, or is where it cannot be reached from here.
            SandboxFailed, NotConfigured: the provider failed, or is not configured.
            InvalidContent: a type does not exist, or an id is invalid.
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


class Extractor(Protocol):
    """Extracts facts or experience from conversations, usually with a language model."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name of the extractor, stored in ``metadata["extractor"]`` of its items."""

    @property
    @abstractmethod
    def kinds(self) -> Sequence[str]:
        """The kinds of items that it creates; only existing items of these kinds are passed to :meth:`extract`."""

    @abstractmethod
    async def extract(self, messages: Sequence[Message], existing: Sequence[MemoryItem]) -> Extraction:
        """Return the items that `messages` give rise to. No connection is held during the call.

        Args:
            messages: messages of one session in order, each with its time in ``metadata["timestamp"]``.
            existing: stored items that the messages may be about. An item in the result with the id of one of these
                replaces it.

        Raises:
            ExtractionFailed: the extraction failed now, and is retried later.
        """
