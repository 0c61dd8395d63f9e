"""The interfaces of the services: AgentScope Runtime's names and signatures, as abstract base classes of our own.

What each call promises beyond its signature is proved by the contract suites in ``agentstore.testing``.
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
    """What every service can do."""

    @abstractmethod
    async def start(self) -> None:
        """Make the service ready. Idempotent, and not needed: the first call starts it."""

    @abstractmethod
    async def stop(self) -> None:
        """Release what the service holds. A call after it raises Closed, until start() is called."""

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
    """Conversations: sessions of users, and their messages in order.

    Ids are any text of at most 512 bytes in UTF-8, the empty one included. A call with an id that cannot be kept
    raises InvalidContent.
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
        """Create a session, or return the one that has this id already, as it stands, with its messages.

        Blanks around `session_id` are removed; blank or None is replaced by a new UUID. Two callers with one id get
        one session. `title`, `metadata` and `ttl`, see :meth:`set_ttl`, are those of a new session.

        Raises:
            AlreadyExists: it exists, and `exist_ok` is false.
            InvalidContent, LimitExceeded: an id, the title or the metadata cannot be kept.
        """

    @abstractmethod
    async def get_session(
        self, user_id: str, session_id: str, *, limit: int | None = None, before: str | None = None
    ) -> Session | None:
        """Return a session with its messages in order, or None.

        `limit` gives the last so many messages only, `before` those before the message with that id.

        Raises:
            NotFound: the session has no message with the id `before`.
            InvalidContent: `limit` is no whole number from 0.
        """

    @abstractmethod
    async def read_messages(
        self, user_id: str, session_id: str, *, limit: int | None = None, before: str | None = None
    ) -> StoredMessages | None:
        """Return a session's messages as they are stored, or None: for large reads that need no Message of each.

        A StoredMessages is a Sequence of Messages, each of which is made when it is looked at, and has all of them as
        JSON or as dicts. `limit` and `before` are those of :meth:`get_session`, and so are the errors.
        """

    @abstractmethod
    def iter_messages(self, user_id: str, session_id: str, *, batch: int = 1_000) -> AsyncIterator[Message]:
        """Yield a session's messages in order, however many they are; no more than `batch` are held at a time.

        And no more than about 8 MB of them, one message at the least. Each batch is read when it is needed, so the
        iterator may be left alone for any time, and holds no connection meanwhile. What is appended until its end is
        yielded too.

        Raises:
            NotFound: there is no such session, when the first message is asked for.
            InvalidContent, LimitExceeded: `batch` is no whole number from 1, or over 10,000.
        """

    @abstractmethod
    async def list_sessions(
        self, user_id: str, *, limit: int | None = None, cursor: str | None = None
    ) -> Page[Session]:
        """Return a user's sessions without their messages, the last used first: all, or `limit` of them.

        The order of last use is exact to one minute between pages. `cursor` is ``next_cursor`` of the page before.

        Raises:
            InvalidContent: `limit` or `cursor` is none.
            LimitExceeded: `limit` is over 10,000.
        """

    @abstractmethod
    async def append_message(self, session: Session, message: MessagesLike) -> None:
        """Append one message or many to a session: all of them, in this order, or none.

        A dict is a Message's fields; one without an id gets a new one. None is passed over. A message that is stored
        already, with the same id and equal content, is not stored twice, so that a call may be repeated.
        ``session.messages`` gains the messages that it lacks once they are committed.

        Raises:
            NotFound: the session was deleted, or never created.
            Conflict: an id is stored with other content; nothing was written.
            InvalidContent: something is not a message, or holds what JSON cannot keep; nothing was written.
            LimitExceeded: a message over 32 MB, more than 10,000 of them, or nested over 200 levels.
        """

    @abstractmethod
    async def delete_session(self, user_id: str, session_id: str) -> Deleted:
        """Delete a session and its messages; say how many of each. Nothing happens if there is none."""

    @abstractmethod
    async def set_title(self, user_id: str, session_id: str, title: str | None) -> None:
        """Give a session a title, or none.

        Raises:
            NotFound: there is no such session.
            InvalidContent: it holds a NUL character or a lone surrogate.
            LimitExceeded: it is longer than 10,000 characters.
        """

    @abstractmethod
    async def set_metadata(self, user_id: str, session_id: str, metadata: Mapping[str, Any]) -> None:
        """Replace a session's metadata: any JSON object.

        Raises:
            NotFound: there is no such session.
            InvalidContent, LimitExceeded: it holds what JSON cannot keep, or is too large.
        """

    @abstractmethod
    async def change_metadata(
        self, user_id: str, session_id: str, change: Callable[[dict[str, Any]], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Replace a session's metadata by what `change` makes of it, and return that.

        Nobody else writes it meanwhile, so that of two changes at once neither is lost. `change` is called once, with
        a copy; what it raises is raised, and nothing is written.

        Raises:
            NotFound: there is no such session.
            InvalidContent, LimitExceeded: the new metadata holds what JSON cannot keep, or is too large.
        """

    @abstractmethod
    async def set_ttl(self, user_id: str, session_id: str, ttl: int | None) -> None:
        """Keep a session for `ttl` seconds after its last append, or with None for what the store's setting says.

        Once that has passed it is as if it had been deleted; ``store.prune`` deletes its rows. A new session may take
        its id at once.

        Raises:
            NotFound: there is no such session.
            InvalidContent: `ttl` is no whole number of seconds from 1.
        """

    @abstractmethod
    async def fork_session(
        self, user_id: str, session_id: str, *, at: str | int | None = None, new_id: str | None = None
    ) -> Session:
        """Copy a session under a new id, up to the message `at`, that one included, and return the copy.

        `at` is a message's id or its number, 1 being the first and 0 before it; None copies all. The copy has the
        title, the metadata and the messages, with their ids, and says in ``forked_from`` and ``forked_at`` what it is
        of. It has the state rounds that were saved before the message after `at` came. Memories are not copied: they
        are the user's. `new_id` is treated as by :meth:`create_session`.

        Raises:
            NotFound: there is no such session, or no such message in it.
            AlreadyExists: `new_id` is the id of a session, or of states.
            InvalidContent: an id cannot be kept, or `at` is neither an id nor a number.
        """

    @abstractmethod
    async def rewind_session(
        self, user_id: str, session_id: str, at: str | int, *, keep: bool = True, new_id: str | None = None
    ) -> Session:
        """Take a session back to the message `at`, as if nothing had come after it, and return it.

        Messages after it are removed, and state rounds that were saved after the first of them came. Before that the
        session is forked as it is, under `new_id`, so that nothing is lost, unless `keep` is false or there is nothing
        to remove. Numbers of removed rounds are not given again.

        Raises:
            NotFound, AlreadyExists, InvalidContent: as :meth:`fork_session`; nothing was changed.
        """


class MemoryService(ServiceWithLifecycleManager):
    """Long-term memory: what was said in earlier conversations, found again by its words.

    A memory belongs to a user and to a bucket named by a session id; a falsy one means the bucket "default".
    """

    @abstractmethod
    async def add_memory(self, user_id: str, messages: MessagesLike, session_id: str | None = None) -> None:
        """Add messages, in order. The same message id in the same session is added once, and the first one stays.

        Raises:
            InvalidContent, LimitExceeded: see :meth:`SessionHistoryService.append_message`.
        """

    @abstractmethod
    async def search_memory(
        self, user_id: str, messages: MessagesLike, filters: Mapping[str, Any] | None = None
    ) -> list[Message]:
        """Return what fits the text of the last of `messages`, the best first. Any text is a valid query.

        `filters`: ``top_k`` (10), ``order="chronological"``, ``session_id``, ``role``, ``since``, ``until``,
        ``min_score``, ``strategy`` (a SearchStrategy, or its name).

        Raises:
            InvalidContent, LimitExceeded: a filter is not of its kind, or over its limit.
        """

    @abstractmethod
    async def list_memory(self, user_id: str, filters: Mapping[str, Any] | None = None) -> Page[Message]:
        """Return a page of a user's memories: sessions by id, messages in order.

        `filters`: ``page_num`` (1), ``page_size`` (10), or ``cursor``.

        Raises:
            InvalidContent, LimitExceeded: a number is none, or over its limit.
        """

    @abstractmethod
    async def delete_memory(self, user_id: str, session_id: str | None = None) -> Deleted:
        """Delete a session's memories, or all of the user's; say how many."""


class StateService(ServiceWithLifecycleManager):
    """The states of agents: any JSON object, in numbered rounds of a session.

    A falsy session id means the session "default". A state needs no session of the history.
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
        """Save a state and return its round: the next one, the first being 1, or the given one, overwritten.

        A number is given once, however many save at the same time, and not again when its round was deleted.
        `metadata` is any JSON object about the round. With `expected_round` the state is saved only if that is the
        highest round there is, 0 meaning none: so of two that began from the same state, one learns of the other.

        Raises:
            Conflict: another round is the highest than `expected_round`; nothing was written.
            InvalidContent: it is no object, holds what JSON cannot keep, or a round is no whole number from 1;
                or both `round_id` and `expected_round` are given.
            LimitExceeded: it is over 64 MB, or nested over 200 levels.
        """

    @abstractmethod
    async def export_state(
        self, user_id: str, session_id: str | None = None, round_id: int | None = None
    ) -> dict[str, Any] | None:
        """Return a copy of that round's state, or of the highest round's; None if there is none.

        Raises:
            InvalidContent: `round_id` is no whole number from 1.
        """

    @abstractmethod
    async def list_states(
        self, user_id: str, session_id: str | None = None, *, limit: int | None = None, cursor: str | None = None
    ) -> Page[StateRound]:
        """Return a session's rounds without their states, the highest first: all, or `limit` of them.

        Raises:
            InvalidContent: `limit` or `cursor` is none.
            LimitExceeded: `limit` is over 10,000.
        """

    @abstractmethod
    async def delete_state(self, user_id: str, session_id: str | None = None, round_id: int | None = None) -> Deleted:
        """Delete a round, or all of a session's, whose numbers begin anew then; say how many.

        Raises:
            InvalidContent: `round_id` is no whole number from 1.
        """

    @abstractmethod
    async def diff_states(self, user_id: str, a: int, b: int, session_id: str | None = None) -> list[dict[str, Any]]:
        """Return the JSON Patch (RFC 6902) that makes the state of round `b` out of that of round `a`.

        Raises:
            NotFound: there is no such round.
            InvalidContent: `a` or `b` is no whole number from 1.
        """


class Sandbox(ABC):
    """An isolated workplace: Python that keeps its state, a shell and files, for one user, session and type.

    Every call may be given a ``timeout`` in seconds, else it is the setting's. What the code in the sandbox does wrong,
    what it exceeds and how long it takes is in the result, see :class:`agentstore.ToolResult`; calls raise

    - SandboxLost: the sandbox ended, or its lease went to another; connect again,
    - SandboxUnavailable: it cannot be reached, or does not answer,
    - SandboxFailed: its provider answered with an error or with nonsense,
    - InvalidContent: there is no such tool, or an argument is not of its kind.
    """

    user_id: str
    session_id: str
    type: str
    generation: int

    @property
    @abstractmethod
    def sandbox_id(self) -> str:
        """What its provider calls it."""

    @abstractmethod
    async def run_ipython_cell(self, code: str, *, timeout: float | None = None) -> ToolResult:
        """Run a cell in the sandbox's IPython kernel, which keeps its variables between calls.

        "stdout" has what was printed, and results as ``Out[1]: ...``; "stderr" what was written there, and the
        traceback of an error. Images and other rich output are parts of their own.
        """

    @abstractmethod
    async def run_shell_command(self, command: str, *, timeout: float | None = None) -> ToolResult:
        """Run a command in a shell, in the workspace: "stdout", "stderr" if there is any, and "returncode".

        It is an error if the return code is not 0.
        """

    @abstractmethod
    async def list_tools(self, *, timeout: float | None = None) -> dict[str, Any]:
        """Return the tools by group and name, each with its JSON schema: ``{"generic": {name: {...}}, ...}``."""

    @abstractmethod
    async def call_tool(
        self, name: str, arguments: Mapping[str, Any] | None = None, *, timeout: float | None = None
    ) -> ToolResult:
        """Call a tool by its name."""

    @abstractmethod
    async def read_file(self, path: str, *, timeout: float | None = None) -> ToolResult:
        """Return a file of the workspace: its text, or its bytes in Base64 as ``{"type": "blob", "blob": ...}``."""

    @abstractmethod
    async def write_file(self, path: str, content: str | bytes, *, timeout: float | None = None) -> ToolResult:
        """Write a file of the workspace, with the folders that it needs; one that is there is replaced as a whole."""

    @abstractmethod
    async def list_files(self, path: str = ".", *, timeout: float | None = None) -> ToolResult:
        """Return the names in a folder of the workspace, a part each, whose description is "file" or "directory"."""

    @abstractmethod
    async def remove_file(self, path: str, *, timeout: float | None = None) -> ToolResult:
        """Remove a file of the workspace, or a folder with all that is in it."""


class SandboxProvider(Protocol):
    """What makes sandboxes and runs code in them. Who has which is in the service's registry, not here.

    A handle is text of at most 4,096 bytes by which any replica finds a sandbox that another one made, if it can reach
    it. All calls may be made by several tasks at once.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """What the registry calls it."""

    @property
    @abstractmethod
    def keeps_workspaces(self) -> bool:
        """Whether it can pack a workspace, and fill one."""

    @abstractmethod
    async def start(self) -> None:
        """Make ready. Idempotent.

        Raises:
            SandboxUnavailable: something is missing on this machine; the message says what to install.
        """

    @abstractmethod
    async def stop(self) -> None:
        """Let go of what is held here. Sandboxes that were not destroyed live on if they can without this process."""

    def reserve(self) -> str:
        """Return what a sandbox is reserved by that is to be made, by which `destroy` ends it if its maker dies first.

        Empty, as it is by default: what is made ends with the process that makes it.
        """
        return ""

    @abstractmethod
    async def create(self, spec: SandboxSpec, reserved: str = "") -> str:
        """Make a sandbox and return its handle, once it can be used. If it is cancelled, nothing is left.

        `reserved` is what `reserve` said, for this sandbox alone.

        Raises:
            SandboxUnavailable, SandboxFailed, NotConfigured: it cannot be made; nothing is left.
        """

    @abstractmethod
    async def connect(self, handle: str) -> None:
        """Make ready to use a sandbox that another replica made.

        Raises:
            SandboxUnavailable: it cannot be reached from here; the message says where it is.
            SandboxLost: it is no more.
        """

    @abstractmethod
    async def check(self, handle: str) -> bool:
        """Return whether a sandbox lives and answers, in a moment.

        Raises:
            SandboxUnavailable: what knows that cannot be reached.
        """

    @abstractmethod
    async def exec(self, handle: str, tool: str, arguments: Mapping[str, Any], timeout: float) -> ToolResult:
        """Call a tool in a sandbox, and wait for its answer for `timeout` seconds.

        What takes longer is ended and the answer says so. If it is cancelled, what runs is ended too.

        Raises:
            SandboxLost, SandboxUnavailable, SandboxFailed, InvalidContent: see :class:`Sandbox`.
        """

    @abstractmethod
    async def list_tools(self, handle: str, timeout: float) -> dict[str, Any]:
        """Return the tools of a sandbox; see :meth:`Sandbox.list_tools`."""

    @abstractmethod
    async def destroy(self, handle: str) -> None:
        """End a sandbox, and all that runs in it. Nothing happens if it is no more.

        Raises:
            SandboxElsewhere: another replica can do it.
            SandboxUnavailable, SandboxFailed: that could not be done, or not be known.
        """

    @abstractmethod
    def pack(self, handle: str, timeout: float) -> AsyncIterator[bytes]:
        """Yield a workspace as a tar archive, in pieces of at most 1 MB.

        Raises:
            SandboxLost, SandboxUnavailable: as `exec`.
        """

    @abstractmethod
    async def unpack(self, handle: str, archive: AsyncIterator[bytes], timeout: float) -> None:
        """Fill a workspace from such an archive.

        Raises:
            SandboxLost, SandboxUnavailable, SandboxFailed: as `exec`; or the archive cannot be unpacked.
        """


class SandboxService(ServiceWithLifecycleManager):
    """Sandboxes: one for each user, session and type, on whatever replica.

    `user_id` None is the user "".
    """

    @abstractmethod
    async def connect(
        self, session_id: str, user_id: str | None = None, sandbox_types: Sequence[str] | None = None
    ) -> list[Sandbox]:
        """Return a session's sandboxes of these types, "base" if none are named, in their order.

        One that lives is the one that is returned, whoever made it; one that does not answer is made anew; one that
        is not there is made. Of many callers at once, on whatever replicas, one makes it and all get it.

        Raises:
            SandboxUnavailable: it cannot be made here, or lives where it cannot be reached from here.
            SandboxFailed, NotConfigured: its provider refused.
            InvalidContent: there is no such type, or an id cannot be kept.
        """

    @abstractmethod
    async def release(self, session_id: str, user_id: str | None = None, *, snapshot: bool = True) -> list[SandboxInfo]:
        """End a session's sandboxes, whoever made them, and return those that were ended. None are left, or it raises.

        Where workspaces are kept, they are kept before, unless `snapshot` is false.

        Raises:
            SandboxUnavailable, SandboxFailed: one could not be ended from here.
            LimitExceeded: a workspace is too large to be kept; the sandbox goes on.
        """

    @abstractmethod
    async def list(
        self, user_id: str | None = None, *, limit: int | None = None, cursor: str | None = None
    ) -> Page[SandboxInfo]:
        """Return the sandboxes of a user, by session and type: all, or `limit` of them.

        Raises:
            InvalidContent: `limit` or `cursor` is none.
            LimitExceeded: `limit` is over 10,000.
        """

    @abstractmethod
    async def reap(self) -> int:
        """End every sandbox whose lease has passed, of all users, and return how many that were.

        The service does it by itself every now and then, where it may see all users.
        """

    @abstractmethod
    async def delete_workspaces(self, session_id: str, user_id: str | None = None) -> int:
        """Delete what is kept of a session's workspaces, and return how many that were.

        The next sandbox begins with nothing. One that lives goes on as it is, and its workspace is kept again.
        """


class Extractor(Protocol):
    """What turns conversations into facts or experience: a model, most often."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What its items say that they are from, in ``metadata["extractor"]``."""

    @property
    @abstractmethod
    def kinds(self) -> Sequence[str]:
        """The kinds of items that it is shown, and that it may change: those that it makes."""

    @abstractmethod
    async def extract(self, messages: Sequence[Message], existing: Sequence[MemoryItem]) -> Extraction:
        """Return what `messages` say that is worth keeping. `existing` is what they may be about.

        The messages are of one session, in order, each with its time in ``metadata["timestamp"]``. An item with the
        id of one of `existing` is written in its place. No connection is held meanwhile.

        Raises:
            ExtractionFailed: it could not be done now; it is tried again later.
        """
