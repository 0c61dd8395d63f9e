"""The protocol of a store, which AgentStore and the store without a database satisfy."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, BinaryIO, Literal, Protocol, Self

from agentstore.interfaces.blobs import BlobService
from agentstore.interfaces.checkpoints import CheckpointService
from agentstore.interfaces.documents import DocumentService
from agentstore.interfaces.memory import MemoryService
from agentstore.interfaces.sandboxes import SandboxService
from agentstore.interfaces.sessions import SessionHistoryService
from agentstore.interfaces.states import StateService
from agentstore.interfaces.users import UserService
from agentstore.schemas import (
    Extracted,
    FailedExtraction,
    Imported,
    MemoryHit,
    MemoryItem,
    MessagesLike,
    Page,
    PendingExtraction,
    PoolStats,
    Pruned,
    SearchFilters,
    Session,
    Stats,
)
from agentstore.schemas.progress import Progress


class StoreSessionHistoryService(SessionHistoryService):
    """Conversations, imports of those of other systems, and their age: the ``sessions`` of a store."""

    @abstractmethod
    async def import_session(self, session: Session, *, differences: Literal["error", "keep"] = "error") -> Imported:
        """Store a conversation from another system, or the messages of it that are missing; return what was new.

        A new session is stored with its messages, title, metadata, ttl, app, lineage (``forked_from``, ``forked_at``)
        and timestamps. A missing ``created_at`` is ``updated_at``; otherwise a timestamp that is missing or in the
        future becomes now. An existing session keeps all of its fields, and the messages that it lacks are appended.
        The call is idempotent, so an interrupted import can be repeated. There may be more than `max_batch` messages.

        `differences` says what happens if a message's id is stored with different content, or occurs twice with
        different content: "error" raises Conflict; with "keep" the first one stays, the other messages are stored, and
        ``Imported.differing`` has the id, unless role, type and text are equal.

        Raises:
            Conflict: see `differences`; nothing was written.
            InvalidContent, LimitExceeded: a value cannot be stored, or a new session would have expired, by its
                ``updated_at`` and its ttl or the setting; nothing was written.
            Unavailable: other clients kept changing the session.
        """

    @abstractmethod
    async def touch(self, user_id: str, session_id: str, *, idle: int = 0) -> None:
        """Restart the time to live of a session, as an append does, unless it was written in the last `idle` seconds.

        Nothing happens if the session does not exist.

        Raises:
            InvalidContent, LimitExceeded: `idle` is not an integer >= 0, or is over 2**31 - 1.
        """


class StoreMemoryService(MemoryService):
    """Long-term memory with scores, items (facts) and their extraction: the ``memory`` of a store."""

    @abstractmethod
    async def add_sessions(
        self,
        user_id: str,
        session_ids: Sequence[str] | None = None,
        *,
        namespace: str | None = None,
        batch: int = 500,
    ) -> int:
        """Add the messages of stored sessions to memory, of all or of `session_ids`; return the number of new memories.

        Idempotent: messages that memory has already are skipped, so it may be interrupted and run again. Messages are
        read and added in pages of `batch`, with bounded memory. The time of a memory is the message's
        ``metadata["timestamp"]``, or else when the message was stored in its session.

        Raises:
            NotFound: there is no session of `session_ids`; those before it were added.
            Conflict: a message has the id of an item (fact) in memory; those before it were added.
            InvalidContent, LimitExceeded: an argument is not valid, or `batch` is over 10,000.
        """

    @abstractmethod
    async def search(
        self,
        user_id: str,
        messages: MessagesLike | str,
        filters: SearchFilters | None = None,
        *,
        stale_ok: bool = False,
    ) -> list[MemoryHit]:
        """Search as :meth:`search_memory`, and return scores, sessions, positions and snippets, too."""

    @abstractmethod
    async def save_items(
        self,
        user_id: str,
        items: MemoryItem | Mapping[str, Any] | Sequence[MemoryItem | Mapping[str, Any]],
        session_id: str | None = None,
        *,
        supersedes: Iterable[str] = (),
    ) -> list[MemoryItem]:
        """Save items (facts), and return them as stored. See :meth:`agentstore.PostgresMemoryService.save_items`."""

    @abstractmethod
    async def list_items(
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
        """Return a page of items, newest first. See :meth:`agentstore.PostgresMemoryService.list_items`."""

    @abstractmethod
    async def extract(self, user_id: str | None = None, *, limit: int = 100, settled: bool = True) -> list[Extracted]:
        """Extract items from queued messages. See :meth:`agentstore.PostgresMemoryService.extract`."""

    @abstractmethod
    async def list_failed_extractions(
        self, user_id: str | None = None, *, limit: int = 100, cursor: str | None = None
    ) -> Page[FailedExtraction]:
        """Return a page of the extractions that failed too often and are no longer retried, of one user or of all.

        They are ordered by user, session and position.

        Raises:
            InvalidContent: `limit` or `cursor` is not valid.
            LimitExceeded: `limit` is over 10,000.
        """

    @abstractmethod
    async def list_pending_extractions(
        self, user_id: str | None = None, *, leased: bool = False, limit: int = 100, cursor: str | None = None
    ) -> Page[PendingExtraction]:
        """Return a page of the extractions that wait in the queue, or that workers have, of one user or of all.

        Those of all users that wait are ordered by the time at which they are due; others by user, session and
        position.

        Args:
            user_id: the owner; None: all users.
            leased: False lists those that no worker has: due ones, and scheduled ones, whose `due_at` is in the future.
                True lists those that workers have.
            limit: the size of the page.
            cursor: ``next_cursor`` of the previous page.

        Raises:
            InvalidContent: `limit` or `cursor` is not valid.
            LimitExceeded: `limit` is over 10,000.
            NotConfigured: without `user_id`, where row-level security restricts each call to one user.
        """

    @abstractmethod
    async def retry_failed_extractions(self, user_id: str | None = None) -> int:
        """Queue failed extractions again, of one user or of all; return their number."""

    @abstractmethod
    async def embed(
        self, *, user_id: str | None = None, batch: int = 100, progress: Callable[[int, int], None] | None = None
    ) -> int:
        """Embed memories that have no vector of this embedder, of one user or of all; return the number of new vectors.

        Processes `batch` memories at a time, and can be interrupted: the next call embeds what is still missing.
        `progress` is called with the number of memories read and their total. A text that the embedder rejects while
        it accepts others is skipped with a warning.

        Raises:
            NotConfigured: there is no embedder, or vectors are not enabled.
            EmbeddingFailed: the embedder failed. The vectors written before remain.
            InvalidContent: `batch` is not an integer from 1.
            LimitExceeded: `batch` is over 10,000.
        """

    @abstractmethod
    async def reindex(
        self,
        *,
        user_id: str | None = None,
        batch: int = 500,
        progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Rebuild the search index of memories that another analysis indexed; return the number of memories rewritten.

        See :meth:`agentstore.PostgresMemoryService.reindex`. A store in memory has none to rewrite.
        """

    @abstractmethod
    async def touch(self, user_id: str, *, idle: int = 0) -> None:
        """Restart the time to live of a user's memories, as adding to them does.

        Skips the sessions to whose memories something was added within the last `idle` seconds.

        Raises:
            InvalidContent, LimitExceeded: `idle` is not an integer >= 0, or is over 2**31 - 1.
        """

    @abstractmethod
    async def expire(self, user_id: str) -> None:
        """Delete the user's memories of sessions to which nothing was added for `memory_ttl` seconds, if it is set."""


class StoreStateService(StateService):
    """States, imports of those of other stores, and their age: the ``states`` of a store."""

    @abstractmethod
    async def import_state(
        self,
        user_id: str,
        session_id: str | None,
        round_id: int,
        state: Mapping[str, Any],
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> bool:
        """Save a state of another store under its round number; return False if the round exists, unchanged.

        Raises:
            InvalidContent, LimitExceeded: the state, the metadata or a number is invalid; see :meth:`save_state`.
        """

    @abstractmethod
    async def touch(self, user_id: str, session_id: str | None = None, *, idle: int = 0) -> None:
        """Restart the time to live of a session's states, as a save does, if there was none for `idle` seconds.

        Raises:
            InvalidContent, LimitExceeded: `idle` is not an integer >= 0, or is over 2**31 - 1.
        """


class Store(Protocol):
    """A store: what :class:`agentstore.AgentStore` and ``AgentStore.in_memory()`` have in common.

    An application that takes a Store is tested without a database.
    """

    @property
    def sessions(self) -> StoreSessionHistoryService:
        """Conversations and their messages."""
        ...

    @property
    def memory(self) -> StoreMemoryService:
        """Long-term memory, searched by words and optionally by meaning."""
        ...

    @property
    def states(self) -> StoreStateService:
        """States of agents in numbered rounds."""
        ...

    @property
    def users(self) -> UserService:
        """The owners of everything else."""
        ...

    @property
    def blobs(self) -> BlobService:
        """Versioned files."""
        ...

    @property
    def documents(self) -> DocumentService:
        """Memories that are written and read by key."""
        ...

    @property
    def checkpoints(self) -> CheckpointService:
        """The steps of graphs."""
        ...

    @property
    def sandboxes(self) -> SandboxService:
        """Isolated environments for code."""
        ...

    async def start(self) -> None:
        """Make the store ready. Idempotent, and optional: the first call starts the store."""

    async def stop(self) -> None:
        """Release the resources of the store. Later calls raise Closed, until start() is called."""

    async def health(self, timeout: float = 2.0, *, writable: bool = True) -> bool:
        """Return whether the store works now. False before start and after stop; never raises."""
        ...

    async def prune(
        self,
        older_than: timedelta | None = None,
        *,
        keep_last: int = 0,
        keep_sessions: int | None = None,
        keep_memories: int | None = None,
        keep_states: int | None = None,
        dry_run: bool = False,
        max_time: timedelta | None = None,
        pause: timedelta = timedelta(),
        progress: Callable[[int, Pruned], None] = lambda users, pruned: None,
    ) -> Pruned:
        """Delete expired data, and data not written for longer than `older_than`. See AgentStore.prune."""
        ...

    async def export(
        self,
        file: BinaryIO,
        users: Sequence[str] | None = None,
        *,
        tick: Callable[[Progress], None] = lambda progress: None,
    ) -> Progress | None:
        """Export all data, or that of `users`, as JSON Lines. See AgentStore.export."""
        ...

    async def restore(
        self,
        file: BinaryIO,
        *,
        without_vectors: bool = False,
        only_users: Sequence[str] | None = None,
        dry_run: bool = False,
        tick: Callable[[Progress], None] = lambda progress: None,
    ) -> Progress:
        """Restore an export of either kind of store; return what was restored and skipped. See AgentStore.restore."""
        ...

    def pool_stats(self) -> PoolStats:
        """Return how many connections are open, in use and waited for, in this process. Does not wait."""
        ...

    async def stats(self, *, largest: int = 10) -> Stats:
        """Return statistics: numbers, bytes, and the `largest` users and sessions by number of messages."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
