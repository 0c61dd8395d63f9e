"""The types of agentstore/sync.py. Written by ``python -m tests.support.sync_stub``."""

import builtins
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, BinaryIO, Literal, Self

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from agentstore.database.telemetry import Telemetry
from agentstore.database.url import Password
from agentstore.errors import UnreadableRow
from agentstore.interfaces import Extractor
from agentstore.schemas import (
    Appended,
    Blob,
    BlobData,
    Deleted,
    Embedder,
    Extracted,
    FailedExtraction,
    Imported,
    ListFilters,
    MemoryHit,
    MemoryItem,
    Message,
    MessagesLike,
    Page,
    PendingExtraction,
    PoolStats,
    Pruned,
    Reranker,
    SandboxInfo,
    ScopedValues,
    SearchFilters,
    SearchStrategy,
    Session,
    StateRound,
    Stats,
    StoredDocument,
    StoredMessages,
    ToolResult,
    User,
    ValueScope,
)
from agentstore.schemas.checkpoint import ChannelHistory, Checkpoint, CheckpointInfo, CheckpointWrite
from agentstore.schemas.edits import MetadataPatch
from agentstore.schemas.listing import SessionOrder
from agentstore.settings import Settings
from agentstore.transfer import Progress

class Sandbox:
    """An isolated environment with a Python kernel, a shell and files, for one user, session and type."""

    user_id: str
    session_id: str
    type: str
    generation: int
    @property
    def sandbox_id(self) -> str:
        """The provider's id of the sandbox."""
    def run_ipython_cell(self, code: str, *, timeout: float | None = None) -> ToolResult:
        """Run code in the sandbox's IPython kernel, which retains its variables between calls."""
    def run_shell_command(self, command: str, *, timeout: float | None = None) -> ToolResult:
        """Run a shell command in the workspace."""
    def list_tools(self, *, timeout: float | None = None) -> dict[str, Any]:
        """Return the tools by group and name, each with its JSON schema: ``{"generic": {name: {...}}, ...}``."""
    def call_tool(
        self, name: str, arguments: Mapping[str, Any] | None = None, *, timeout: float | None = None
    ) -> ToolResult:
        """Call a tool by name; `arguments` follow its JSON schema."""
    def read_file(self, path: str, *, timeout: float | None = None) -> ToolResult:
        """Read a file of the workspace: its text, or its bytes in Base64 as ``{"type": "blob", "blob": ...}``."""
    def write_file(self, path: str, content: str | bytes, *, timeout: float | None = None) -> ToolResult:
        """Write a file of the workspace, creating its parent directories; an existing file is replaced as a whole."""
    def list_files(self, path: str = ".", *, timeout: float | None = None) -> ToolResult:
        """List a directory of the workspace: one part per entry, with the description "file" or "directory"."""
    def remove_file(self, path: str, *, timeout: float | None = None) -> ToolResult:
        """Remove a file of the workspace, or a directory with everything in it."""

class Sessions:
    """Conversation history on Postgres, shared by all processes that use the database."""

    def create_session(
        self,
        user_id: str,
        session_id: str | None = None,
        *,
        exist_ok: bool = True,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        ttl: int | None = None,
        app: str | None = None,
        messages: bool = True,
    ) -> Session:
        """Create a session, or return the existing one unchanged, with its messages."""
    def get_session(
        self,
        user_id: str,
        session_id: str,
        *,
        limit: int | None = None,
        before: str | None = None,
        whole_calls: bool = False,
        stale_ok: bool = False,
    ) -> Session | None:
        """Return a session with its messages in order, or None if it does not exist."""
    def read_messages(
        self,
        user_id: str,
        session_id: str,
        *,
        limit: int | None = None,
        before: str | None = None,
        through: str | None = None,
        before_seq: int | None = None,
        stale_ok: bool = False,
    ) -> StoredMessages | None:
        """Return the messages of a session in stored form, or None: for large reads that need no Message objects."""
    def find_message(self, user_id: str, message_id: str, *, stale_ok: bool = False) -> str | None:
        """Return the id of the session of a user that has a message with this id, or None."""
    def iter_messages(
        self,
        user_id: str,
        session_id: str,
        *,
        after_seq: int = 0,
        batch: int = 1000,
        on_unreadable: Callable[[UnreadableRow], object] | None = None,
        stale_ok: bool = False,
    ) -> Iterator[Message]:
        """Iterate over the messages of a session in order, with bounded memory."""
    def list_sessions(
        self,
        user_id: str | None = None,
        *,
        app: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        title: str | None = None,
        since: datetime | str | float | None = None,
        until: datetime | str | float | None = None,
        order: SessionOrder = "last_used",
        limit: int | None = None,
        cursor: str | None = None,
        stale_ok: bool = False,
    ) -> Page[Session]:
        """Return the sessions of a user, or of all users, without their messages, most recently used first."""
    def append_message(self, session: Session, message: MessagesLike) -> None:
        """Append one or several messages to a session: all of them, in this order, or none."""
    def append(
        self,
        user_id: str,
        session_id: str,
        messages: MessagesLike,
        *,
        create: bool = True,
        expected_seq: int | None = None,
        metadata_patch: MetadataPatch | None = None,
        app: str | None = None,
        values: ScopedValues | None = None,
    ) -> Appended:
        """Append one or several messages to a session given by its ids, as :meth:`append_message`; return their place."""
    def import_session(self, session: Session, *, differences: Literal["error", "keep"] = "error") -> Imported:
        """Store a conversation from another system, or the messages of it that are missing; return what was new."""
    def pop_messages(self, user_id: str, session_id: str, n: int = 1) -> list[Message]:
        """Remove the last `n` messages of a session, and return them in order."""
    def delete_messages(self, user_id: str, session_id: str, ids: Sequence[str]) -> Deleted:
        """Delete messages by their ids; return how many existed. Idempotent."""
    def replace_message(
        self,
        user_id: str,
        session_id: str,
        message: Message | Mapping[str, Any],
        *,
        expected: Message | Mapping[str, Any] | None = None,
    ) -> Message:
        """Replace the message with the same id by `message`, in its place, and return it."""
    def replace_from(self, user_id: str, session_id: str, at: str | int, messages: MessagesLike) -> Appended:
        """Delete the messages of a session from `at` on, and append others, in one transaction."""
    def delete_session(
        self, user_id: str, session_id: str, *, only_if: Callable[[dict[str, Any]], bool] | None = None
    ) -> Deleted:
        """Delete a session, its messages and its values; return the number of the first two. Idempotent."""
    def fork_session(
        self,
        user_id: str,
        session_id: str,
        *,
        at: str | int | None = None,
        new_id: str | None = None,
        messages: bool = True,
    ) -> Session:
        """Copy a session, up to and including the message `at`, and return the copy."""
    def rewind_session(
        self,
        user_id: str,
        session_id: str,
        at: str | int,
        *,
        keep: bool = True,
        new_id: str | None = None,
        messages: bool = True,
    ) -> Session:
        """Remove the messages after `at` from a session, and return it."""
    def set_title(self, user_id: str, session_id: str, title: str | None) -> None:
        """Set the title of a session; None removes it."""
    def set_metadata(self, user_id: str, session_id: str, metadata: Mapping[str, Any]) -> None:
        """Replace the metadata of a session: any JSON object."""
    def change_metadata(
        self, user_id: str, session_id: str, change: Callable[[dict[str, Any]], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Replace the metadata of a session by ``change(metadata)``, atomically, and return the new metadata."""
    def set_ttl(self, user_id: str, session_id: str, ttl: int | None) -> None:
        """Set the time to live of a session, in seconds after ``updated_at``; None applies the store's setting."""
    def touch(self, user_id: str, session_id: str, *, idle: int = 0) -> None:
        """Restart the time to live of a session, as an append does, unless it was written in the last `idle` seconds."""
    def follow(
        self,
        user_id: str,
        session_id: str,
        after_seq: int = 0,
        *,
        interval: float = 1.0,
        on_unreadable: Callable[[UnreadableRow], object] | None = None,
        stale_ok: bool = False,
    ) -> Iterator[Message]:
        """Yield the messages of a session after a position, and then each new one once it is stored, without end."""
    def window(
        self,
        user_id: str,
        session_id: str,
        *,
        max_tokens: int,
        count: Callable[[Message], int],
        keep_system: bool = True,
        stale_ok: bool = False,
    ) -> list[Message]:
        """Return the newest messages of a session that fit a budget of tokens, in order, to send them to a model."""
    def health(self, timeout: float = 2.0, *, writable: bool = True) -> bool:
        """Return whether the database works now; see :meth:`agentstore.AgentStore.health`."""

class Memory:
    """Long-term memory stored in Postgres and searched in one statement. See :class:`MemoryService`."""

    def add_memory(
        self, user_id: str, messages: MessagesLike, session_id: str | None = None, *, namespace: str | None = None
    ) -> None:
        """See :meth:`MemoryService.add_memory`. With an embedder, the call also waits for the vectors."""
    def add_sessions(
        self, user_id: str, session_ids: Sequence[str] | None = None, *, namespace: str | None = None, batch: int = 500
    ) -> int:
        """Add the messages of stored sessions to memory, of all or of `session_ids`; return the number of new memories."""
    def save_items(
        self,
        user_id: str,
        items: MemoryItem | Mapping[str, Any] | Sequence[MemoryItem | Mapping[str, Any]],
        session_id: str | None = None,
        *,
        supersedes: Iterable[str] = (),
    ) -> list[MemoryItem]:
        """Save items (facts) in one transaction, and return them as stored."""
    def list_items(
        self,
        user_id: str,
        *,
        kind: str | None = None,
        namespace: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        with_invalid: bool = False,
        limit: int = 100,
        cursor: str | None = None,
        stale_ok: bool = False,
    ) -> Page[MemoryItem]:
        """Return a page of a user's items (facts), newest first."""
    def extract(self, user_id: str | None = None, *, limit: int = 100, settled: bool = True) -> list[Extracted]:
        """Extract items from queued messages that are due, of one user or of all, and return the result of each call."""
    def list_failed_extractions(
        self, user_id: str | None = None, *, limit: int = 100, cursor: str | None = None
    ) -> Page[FailedExtraction]:
        """Return a page of the extractions that failed too often and are no longer retried, of one user or of all."""
    def list_pending_extractions(
        self, user_id: str | None = None, *, leased: bool = False, limit: int = 100, cursor: str | None = None
    ) -> Page[PendingExtraction]:
        """Return a page of the extractions that wait in the queue, or that workers have, of one user or of all."""
    def retry_failed_extractions(self, user_id: str | None = None) -> int:
        """Queue failed extractions again, of one user or of all; return their number."""
    def search_memory(
        self,
        user_id: str,
        messages: MessagesLike | str,
        filters: SearchFilters | None = None,
        *,
        stale_ok: bool = False,
    ) -> list[Message]:
        """Return the memories that match the text of the last of `messages`, best first. Any text is a valid query."""
    def search(
        self,
        user_id: str,
        messages: MessagesLike | str,
        filters: SearchFilters | None = None,
        *,
        stale_ok: bool = False,
    ) -> list[MemoryHit]:
        """Search a user's memories, and return the hits with their scores, sessions, positions and snippets."""
    def reindex(
        self, *, user_id: str | None = None, batch: int = 500, progress: Callable[[int, int], None] | None = None
    ) -> int:
        """Rebuild the search index of memories that another analysis indexed; return the number of memories rewritten."""
    def list_memory(self, user_id: str, filters: ListFilters | None = None, *, stale_ok: bool = False) -> Page[Message]:
        """Return one page of a user's memories, ordered by session id, then in the order of addition."""
    def delete_memory(self, user_id: str, session_id: str | None = None) -> Deleted:
        """Delete the memories of a session, or with None all of the user's; return their number. Idempotent."""
    def embed(
        self, *, user_id: str | None = None, batch: int = 100, progress: Callable[[int, int], None] | None = None
    ) -> int:
        """Embed memories that have no vector of this embedder, of one user or of all; return the number of new vectors."""
    def touch(self, user_id: str, *, idle: int = 0) -> None:
        """Restart the time to live of a user's memories, as adding to them does."""
    def expire(self, user_id: str) -> None:
        """Delete the user's buckets of memories to which nothing was added for `memory_ttl` seconds, if it is set."""
    def health(self, timeout: float = 2.0, *, writable: bool = True) -> bool:
        """Return whether the database works now; see :meth:`agentstore.AgentStore.health`."""

class States:
    """States stored in Postgres; see :class:`StateService`."""

    def save_state(
        self,
        user_id: str,
        state: Mapping[str, Any],
        session_id: str | None = None,
        round_id: int | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
        expected_round: int | None = None,
    ) -> int:
        """Save a state and return its round number."""
    def import_state(
        self,
        user_id: str,
        session_id: str | None,
        round_id: int,
        state: Mapping[str, Any],
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        """Save a state of another store under its round number; return False if the round exists, unchanged."""
    def export_state(
        self, user_id: str, session_id: str | None = None, round_id: int | None = None, *, stale_ok: bool = False
    ) -> dict[str, Any] | None:
        """Return a copy of the state of a round, by default of the highest one; None if it does not exist."""
    def list_states(
        self,
        user_id: str,
        session_id: str | None = None,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        stale_ok: bool = False,
    ) -> Page[StateRound]:
        """Return the rounds of a session without their states, highest first."""
    def delete_state(self, user_id: str, session_id: str | None = None, round_id: int | None = None) -> Deleted:
        """Delete one round, or with None all rounds of a session; return their number. Idempotent."""
    def diff_states(
        self, user_id: str, a: int, b: int, session_id: str | None = None, *, stale_ok: bool = False
    ) -> list[dict[str, Any]]:
        """Return the JSON Patch (RFC 6902) that turns the state of round `a` into that of round `b`."""
    def get_values(
        self,
        user_id: str | None,
        session_id: str | None = None,
        *,
        app: str = "",
        scope: ValueScope | None = None,
        stale_ok: bool = False,
    ) -> ScopedValues:
        """Return the values of an application, of a user in it, and of a session; ``merged()`` joins them."""
    def get_values_of(
        self, sessions: Sequence[Session], *, app: str = "", stale_ok: bool = False
    ) -> list[ScopedValues]:
        """Return the values of each of several sessions, such as a page of ``list_sessions``, in their order."""
    def merge_values(
        self, user_id: str | None, session_id: str | None = None, *, values: ScopedValues, app: str = ""
    ) -> None:
        """Set and delete values by key, of all three scopes, in one transaction."""
    def delete_values(self, user_id: str | None, session_id: str | None = None, *, app: str = "") -> Deleted:
        """Delete all values of the narrowest scope that the ids name; return their number. Idempotent."""
    def touch(self, user_id: str, session_id: str | None = None, *, idle: int = 0) -> None:
        """Restart the time to live of a session's states, as a save does, if there was none for `idle` seconds."""
    def health(self, timeout: float = 2.0, *, writable: bool = True) -> bool:
        """Return whether the database works now; see :meth:`agentstore.AgentStore.health`."""

class Users:
    """Users on Postgres. See :class:`agentstore.UserService` for what each method does and raises."""

    def get_user(self, user_id: str, *, stale_ok: bool = False) -> User | None:
        """Return a user, or None. A user exists once data of the user was stored."""
    def list_users(
        self, *, prefix: str = "", limit: int = 100, cursor: str | None = None, stale_ok: bool = False
    ) -> Page[User]:
        """Return a page of users, ordered by id."""
    def set_metadata(self, user_id: str, metadata: Mapping[str, Any]) -> User:
        """Replace the metadata of a user, any JSON object, and return the user, created if missing."""
    def delete_user(self, user_id: str) -> Deleted:
        """Delete a user and all of the user's data; return the number of rows by kind, without the user. Idempotent."""
    def health(self, timeout: float = 2.0, *, writable: bool = True) -> bool:
        """Return whether the database works now; see :meth:`agentstore.AgentStore.health`."""

class Blobs:
    """Blobs stored in Postgres; see :class:`BlobService`."""

    def put(
        self,
        user_id: str,
        name: str,
        data: BlobData,
        session_id: str | None = None,
        *,
        app: str = "",
        content_type: str | None = None,
        filename: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Blob:
        """Store a new version of a blob, and return it: version 0, or the one after the highest existing one."""
    def get(
        self,
        user_id: str,
        name: str,
        session_id: str | None = None,
        *,
        app: str = "",
        version: int | None = None,
        stale_ok: bool = False,
    ) -> Blob | None:
        """Return a version of a blob without its content, by default the highest one; None if it does not exist."""
    def read(
        self,
        user_id: str,
        name: str,
        session_id: str | None = None,
        *,
        app: str = "",
        version: int | None = None,
        stale_ok: bool = False,
    ) -> Iterator[bytes]:
        """Iterate over the content of a version in parts of at most 500 KB; an empty content has none."""
    def list(
        self,
        user_id: str,
        session_id: str | None = None,
        *,
        app: str = "",
        prefix: str = "",
        limit: int | None = None,
        cursor: str | None = None,
        stale_ok: bool = False,
    ) -> Page[Blob]:
        """Return the highest version of each blob of a session whose name begins with `prefix`, ordered by name."""
    def list_of_user(
        self, user_id: str, *, limit: int | None = None, cursor: str | None = None, stale_ok: bool = False
    ) -> Page[Blob]:
        """Return the highest version of each blob of a user, of all sessions and applications."""
    def list_versions(
        self,
        user_id: str,
        name: str,
        session_id: str | None = None,
        *,
        app: str = "",
        limit: int | None = None,
        cursor: str | None = None,
        stale_ok: bool = False,
    ) -> Page[Blob]:
        """Return the versions of a blob, highest first. Arguments and errors are those of :meth:`list`."""
    def delete(
        self, user_id: str, name: str, session_id: str | None = None, *, app: str = "", version: int | None = None
    ) -> Deleted:
        """Delete a version of a blob, or with None all of its versions; return how many. Idempotent."""
    def delete_all(self, user_id: str, session_id: str | None = None, *, app: str = "") -> Deleted:
        """Delete all blobs of a session in an application; return how many versions there were. Idempotent."""
    def health(self, timeout: float = 2.0, *, writable: bool = True) -> bool:
        """Return whether the database works now; see :meth:`agentstore.AgentStore.health`."""

class Documents:
    """Documents stored in Postgres; see :class:`DocumentService`."""

    def put(
        self, user_id: str, documents: MemoryItem | Mapping[str, Any] | Sequence[MemoryItem | Mapping[str, Any]]
    ) -> None:
        """Insert documents, or replace those with the same ids, all or none. Of concurrent calls, the last one wins."""
    def import_documents(self, user_id: str, stored: Sequence[StoredDocument]) -> int:
        """Insert documents of another system with their times; return how many were written."""
    def get(self, user_id: str, ids: Iterable[str], *, stale_ok: bool = False) -> dict[str, StoredDocument]:
        """Return those of the documents that exist, by id."""
    def list(
        self,
        user_id: str,
        *,
        namespace: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        limit: int = 100,
        cursor: str | None = None,
        offset: int = 0,
        stale_ok: bool = False,
    ) -> Page[StoredDocument]:
        """Return a page of a user's documents, newest first. The order does not change when a document is replaced."""
    def search(
        self,
        user_id: str,
        query: str,
        *,
        namespace: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        top_k: int = 10,
        strategy: SearchStrategy | str | None = None,
        stale_ok: bool = False,
    ) -> Sequence[tuple[StoredDocument, float]]:
        """Return the documents that match a query, each with its score, best first. Any text is a valid query."""
    def renew(self, user_id: str, times: Mapping[str, datetime]) -> None:
        """Extend the life of documents that expire; `times` has their new ``valid_until``, by id."""
    def list_namespaces(
        self,
        user_id: str | None = None,
        *,
        namespace: str | None = None,
        limit: int = 1000,
        cursor: str | None = None,
        stale_ok: bool = False,
    ) -> Page[tuple[str, str]]:
        """Return a page of the namespaces that have documents: pairs of the user and the namespace, in their order."""
    def delete(self, user_id: str, ids: Iterable[str]) -> Deleted:
        """Delete documents, and return how many existed. Idempotent."""
    def delete_expired(self) -> int:
        """Delete the documents of all users that have expired, as ``prune`` does; return their number."""
    def health(self, timeout: float = 2.0, *, writable: bool = True) -> bool:
        """Return whether the database works now; see :meth:`agentstore.AgentStore.health`."""

class Checkpoints:
    """Checkpoints stored in Postgres; see :class:`CheckpointService`."""

    def put(self, user_id: str, session_id: str, checkpoint: Checkpoint, *, is_complete: bool = False) -> None:
        """Store a checkpoint, and the values of those versions that are not stored yet. Idempotent."""
    def put_writes(
        self, user_id: str, session_id: str, namespace: str, checkpoint_id: str, writes: Sequence[CheckpointWrite]
    ) -> None:
        """Store writes that are pending at a checkpoint, which may be stored later. Idempotent."""
    def get(
        self, user_id: str, session_id: str, namespace: str = "", id: str | None = None, *, stale_ok: bool = False
    ) -> Checkpoint | None:
        """Return a checkpoint with its values and writes, by default the last one of a namespace; None if missing."""
    def get_many(
        self, user_id: str, session_id: str, namespace: str, ids: Sequence[str], *, stale_ok: bool = False
    ) -> builtins.list[Checkpoint]:
        """Return those checkpoints of a namespace that exist, the newest first."""
    def list(
        self,
        user_id: str,
        session_id: str,
        namespace: str | None = None,
        *,
        before: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        stale_ok: bool = False,
    ) -> Page[CheckpointInfo]:
        """Return checkpoints of a session without their values and writes, the newest first."""
    def list_sessions(
        self, user_id: str | None = None, *, limit: int = 100, cursor: str | None = None, stale_ok: bool = False
    ) -> Page[tuple[str, str]]:
        """Return the sessions that have checkpoints, as pairs of the user's and the session's id."""
    def list_owners(self, session_id: str, *, stale_ok: bool = False) -> Sequence[str]:
        """Return the users that have checkpoints in sessions of this id."""
    def history(
        self,
        user_id: str,
        session_id: str,
        namespace: str,
        id: str | None,
        channels: Sequence[str],
        *,
        stale_ok: bool = False,
    ) -> dict[str, ChannelHistory]:
        """Return the writes to channels before a checkpoint, along its parents, and the value that precedes them."""
    def copy(self, user_id: str, session_id: str, target_user_id: str, target_session_id: str) -> None:
        """Copy all checkpoints and writes of a session into another one, whose existing ones remain as they are."""
    def prune(self, user_id: str, session_id: str) -> Deleted:
        """Delete all checkpoints of a session but the last one of each namespace; return how many were deleted."""
    def delete_runs(self, run_ids: Sequence[str], *, user_id: str | None = None) -> Deleted:
        """Delete the checkpoints of runs, with their writes; return how many there were. Idempotent."""
    def delete(self, user_id: str, session_id: str) -> Deleted:
        """Delete all checkpoints and writes of a session; return how many checkpoints there were. Idempotent."""
    def health(self, timeout: float = 2.0, *, writable: bool = True) -> bool:
        """Return whether the database works now; see :meth:`agentstore.AgentStore.health`."""

class Sandboxes:
    """Sandboxes with a registry on Postgres. See :class:`SandboxService`."""

    def connect(
        self, session_id: str, user_id: str | None = None, sandbox_types: Sequence[str] | None = None
    ) -> builtins.list[Sandbox]:
        """Return the sandboxes of a session, in the order of `sandbox_types` (default: one of the type "base")."""
    def release(
        self, session_id: str, user_id: str | None = None, *, snapshot: bool = True
    ) -> builtins.list[SandboxInfo]:
        """End the sandboxes of a session, whichever replica created them, and return them. Raises if any is left."""
    def list(
        self, user_id: str | None = None, *, limit: int | None = None, cursor: str | None = None
    ) -> Page[SandboxInfo]:
        """Return the sandboxes of a user, ordered by session and type."""
    def reap(self) -> int:
        """End the sandboxes of all users whose lease has expired, and return their number."""
    def delete_workspaces(self, session_id: str, user_id: str | None = None) -> int:
        """Delete the stored workspaces of a session, and return their number."""
    def health(self, timeout: float = 2.0, *, writable: bool = True) -> bool:
        """Return whether the database works now; see :meth:`agentstore.AgentStore.health`."""

class AgentStore:
    """Sessions, memory, states, users and sandboxes of AI agents, stored in one Postgres database."""

    sessions: Sessions
    memory: Memory
    states: States
    users: Users
    blobs: Blobs
    documents: Documents
    checkpoints: Checkpoints
    @property
    def sandboxes(self) -> Sandboxes: ...
    def __init__(
        self,
        url: str | URL | None = None,
        *,
        engine: AsyncEngine | None = None,
        settings: Settings | None = None,
        password: Password | None = None,
        embedder: Embedder | None = None,
        extractor: Extractor | None = None,
        reranker: Reranker | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        """Create a store that is not connected yet."""
    @staticmethod
    def in_memory(
        *,
        settings: Settings | None = None,
        embedder: Embedder | None = None,
        extractor: Extractor | None = None,
        reranker: Reranker | None = None,
    ) -> AgentStore:
        """Return a store without a database, for tests: with the same calls, and lost when the process ends."""
    def start(self) -> None:
        """Connect, and check that the schema is the one that this release needs. Idempotent, and optional."""
    def prune(
        self,
        older_than: timedelta | None = None,
        *,
        keep_last: int = 0,
        keep_sessions: int | None = None,
        keep_memories: int | None = None,
        keep_states: int | None = None,
        dry_run: bool = False,
        max_time: timedelta | None = None,
        pause: timedelta = ...,
        progress: Callable[[int, Pruned], None] = ...,
    ) -> Pruned:
        """Delete expired data, and data not written for longer than `older_than`; return how much was deleted."""
    def export(
        self, file: BinaryIO, users: Sequence[str] | None = None, *, tick: Callable[[Progress], None] = ...
    ) -> Progress | None:
        """Export all data, or that of `users`, as JSON Lines; docs/export.md describes the format."""
    def restore(
        self,
        file: BinaryIO,
        *,
        without_vectors: bool = False,
        only_users: Sequence[str] | None = None,
        dry_run: bool = False,
        tick: Callable[[Progress], None] = ...,
    ) -> Progress:
        """Restore an export; return what was restored and what was skipped."""
    def pool_stats(self) -> PoolStats:
        """Return how many connections are open, in use and waited for, in this process. Does not wait."""
    def stats(self, *, largest: int = 10) -> Stats:
        """Return statistics: rows and bytes per table, and the `largest` users and sessions by number of messages."""
    def stop(self) -> None:
        """Close all connections and services. Later calls raise Closed, until start() is called."""
    def health(self, timeout: float = 2.0, *, writable: bool = True) -> bool:
        """Return whether the database works now. False before start and after stop; never raises."""
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
