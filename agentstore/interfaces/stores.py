"""The protocol of a store, which AgentStore and the store without a database satisfy."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self

from agentstore.interfaces.memory import MemoryService
from agentstore.interfaces.sandboxes import SandboxService
from agentstore.interfaces.sessions import SessionHistoryService
from agentstore.interfaces.states import StateService
from agentstore.interfaces.users import UserService
from agentstore.schemas import (
    Extracted,
    MemoryHit,
    MemoryItem,
    MessagesLike,
    Page,
    Pruned,
    SearchFilters,
    Stats,
)
from agentstore.schemas.progress import Progress


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
    async def embed(self, *, user_id: str | None = None) -> int:
        """Embed the memories that have no vector, and return their number."""


class Store(Protocol):
    """A store: what :class:`agentstore.AgentStore` and ``AgentStore.in_memory()`` have in common.

    An application that takes a Store is tested without a database.
    """

    @property
    def sessions(self) -> SessionHistoryService:
        """Conversations and their messages."""
        ...

    @property
    def memory(self) -> StoreMemoryService:
        """Long-term memory, searched by words and optionally by meaning."""
        ...

    @property
    def states(self) -> StateService:
        """States of agents in numbered rounds."""
        ...

    @property
    def users(self) -> UserService:
        """The owners of everything else."""
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

    async def stats(self, *, largest: int = 10) -> Stats:
        """Return statistics: numbers, bytes, and the `largest` users and sessions by number of messages."""
        ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
