"""The store without a database, for tests: ``AgentStore.in_memory()``."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import BinaryIO
from uuid import uuid4

from agentstore.errors import Closed
from agentstore.inmemory.blobs import InMemoryBlobService
from agentstore.inmemory.checkpoints import InMemoryCheckpointService
from agentstore.inmemory.documents import InMemoryDocumentService
from agentstore.inmemory.memory import InMemoryMemoryService
from agentstore.inmemory.pruning import InMemoryPruning
from agentstore.inmemory.sandboxes import InMemorySandboxService, Workspaces
from agentstore.inmemory.sessions import InMemorySessionHistoryService
from agentstore.inmemory.states import InMemoryStateService
from agentstore.inmemory.users import InMemoryUserService
from agentstore.interfaces import Extractor, ServiceWithLifecycleManager
from agentstore.schemas import (
    Deleted,
    Embedder,
    PoolStats,
    Pruned,
    Reranker,
    SessionStats,
    Stats,
    TableStats,
    UserStats,
)
from agentstore.schemas.page import check_count
from agentstore.schemas.progress import Progress
from agentstore.schemas.retention import read_prune_options
from agentstore.schemas.stats import days_of, start_of_day
from agentstore.settings import Settings, settings_from_environment
from agentstore.transfer.exporter import Exporter
from agentstore.transfer.in_memory import InMemorySource
from agentstore.transfer.in_memory_target import InMemoryTarget
from agentstore.transfer.restorer import Restorer


class InMemoryStore(ServiceWithLifecycleManager):
    """A store without a database, for tests. Its data is lost when the process ends.

    It has the calls of :class:`agentstore.AgentStore`, and is used in one event loop at a time. Sandboxes are those of
    the provider in AGENTSTORE_SANDBOX_PROVIDER.

    Attributes:
        sessions, memory, documents, states, users, blobs, checkpoints, sandboxes: the services, as in AgentStore.
    """

    def __init__(
        self,
        *,
        settings: Settings | None = None,
        embedder: Embedder | None = None,
        extractor: Extractor | None = None,
        reranker: Reranker | None = None,
    ) -> None:
        """Create an empty store. The arguments are those of :class:`agentstore.AgentStore`."""
        self._settings = settings = settings or settings_from_environment()
        self.users = InMemoryUserService(delete_data=self._delete_data, settings=settings)
        self.blobs = InMemoryBlobService(users=self.users, settings=settings)
        self.checkpoints = InMemoryCheckpointService(users=self.users, settings=settings)
        self.states = InMemoryStateService(users=self.users, settings=settings)
        self.sessions = InMemorySessionHistoryService(states=self.states, users=self.users, settings=settings)
        self.memory = InMemoryMemoryService(
            users=self.users,
            sessions=self.sessions,
            settings=settings,
            embedder=embedder,
            extractor=extractor,
            reranker=reranker,
        )
        self.documents = InMemoryDocumentService(memory=self.memory)
        self._workspaces: Workspaces = {}
        self._started = self._stopped = False
        self._identity = f"memory/{uuid4()}"

    @cached_property
    def sandboxes(self) -> InMemorySandboxService:
        """Sandboxes of the provider in AGENTSTORE_SANDBOX_PROVIDER, which is loaded at the first call.

        Raises:
            NotConfigured: the provider does not exist, or needs AGENTSTORE_SANDBOX_URL.
        """
        return InMemorySandboxService(users=self.users, workspaces=self._workspaces, settings=self._settings)

    @property
    def _used_sandboxes(self) -> InMemorySandboxService | None:
        """The sandboxes, if they have been used: a provider is not loaded for anything else."""
        return vars(self).get("sandboxes")

    async def start(self) -> None:
        """Make the store ready. Idempotent, and optional."""
        self._started, self._stopped = True, False
        for service in (self.sessions, self.memory, self.states, self.users, self.blobs, self.checkpoints):
            await service.start()
        if (sandboxes := self._used_sandboxes) is not None:
            sandboxes.reopen()

    async def stop(self) -> None:
        """End the sandboxes. Later calls raise Closed, until start() is called; the data is retained until then."""
        self._started, self._stopped = False, True
        try:
            if (sandboxes := self._used_sandboxes) is not None:
                await sandboxes.stop()
        finally:
            for service in (self.sessions, self.memory, self.states, self.users, self.blobs, self.checkpoints):
                await service.stop()

    async def health(self, timeout: float = 2.0, *, writable: bool = True) -> bool:
        """Return whether the store is started; see :meth:`agentstore.AgentStore.health`."""
        return self._started or await self.sessions.health() or await self.users.health()

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
        """Delete expired data, and data not written for longer than `older_than`; see AgentStore.prune.

        It takes no time, so that `max_time` and `pause` have no effect.
        """
        options = read_prune_options(
            self._settings,
            older_than=older_than,
            keep_last=keep_last,
            keep_sessions=keep_sessions,
            keep_memories=keep_memories,
            keep_states=keep_states,
            max_time=max_time,
            pause=pause,
        )
        self._check_open()
        pruning = InMemoryPruning(
            *(self.sessions, self.memory, self.states, self.blobs, self.checkpoints, self._workspaces, options),
            settings=self._settings,
            dry_run=dry_run,
        )
        pruned = Pruned()
        for number, user_id in enumerate(self.users._ids(), 1):
            pruned += pruning.prune_user(user_id)
            progress(number, pruned)
        return pruned

    async def export(
        self,
        file: BinaryIO,
        users: Sequence[str] | None = None,
        *,
        tick: Callable[[Progress], None] = lambda progress: None,
    ) -> Progress | None:
        """Export all data, or that of `users`, to restore it in a database; see :meth:`agentstore.AgentStore.export`.

        Embeddings are not exported.
        """
        self._check_open()
        exporter = Exporter(self._source(), users)
        return exporter.progress if await exporter.run(file, lambda: tick(exporter.progress)) else None

    async def restore(
        self,
        file: BinaryIO,
        *,
        without_vectors: bool = False,
        only_users: Sequence[str] | None = None,
        dry_run: bool = False,
        tick: Callable[[Progress], None] = lambda progress: None,
    ) -> Progress:
        """Restore an export of a database or of a store in memory; see :meth:`agentstore.AgentStore.restore`.

        Of the vectors, those of the store's embedder are restored.
        """
        self._check_open()
        restorer = Restorer(InMemoryTarget(self._source()), without_vectors=without_vectors, only_users=only_users)
        await restorer.run(file, lambda: tick(restorer.progress), dry_run=dry_run)
        return restorer.progress

    def _source(self) -> InMemorySource:
        return InMemorySource(
            *(self.users, self.sessions, self.memory, self.states, self.blobs, self.checkpoints, self._workspaces),
            identity=self._identity,
            settings=self._settings,
        )

    def pool_stats(self) -> PoolStats:
        """Return that there are no connections."""
        return PoolStats(0, 0, 0, 0)

    async def stats(self, *, largest: int = 10) -> Stats:
        """Return statistics; see :meth:`agentstore.AgentStore.stats`. Sizes are those of the contents.

        Raises:
            InvalidContent, LimitExceeded: `largest` is not an integer >= 0, or is over 10,000.
        """
        check_count(largest, "largest", maximum=self._settings.max_page)
        self._check_open()
        sessions = list(self._session_stats())
        messages = Counter[str]()
        counts = Counter(each.user_id for each in sessions)
        for each in sessions:
            messages[each.user_id] += each.messages
        memories = {
            user_id: [stored.payload for bucket in buckets.values() for stored in bucket.values()]
            for user_id, buckets in self.memory._users.items()
        }
        rounds: dict[str, list[str]] = {}
        for (user_id, _), head in self.states._heads.items():
            rounds.setdefault(user_id, []).extend(each.payload for each in head.rounds.values())
        users = [
            UserStats(user_id, count, messages[user_id], len(memories.get(user_id, [])), len(rounds.get(user_id, [])))
            for user_id, count in counts.items()
        ]
        stored = [each for of_user in self.sessions._users.values() for each in of_user.values()]
        blobs = [blob for blob, _ in self.blobs._versions_of()]
        values = {
            "app_values": list(self.states._app_values.values()),
            "session_values": [each.values for each in stored],
            "user_values": list(self.states._user_values.values()),
        }
        tables = [
            *(_table(name, [text for each in groups for text in each.values()]) for name, groups in values.items()),
            TableStats("checkpoints", sum(len(each.checkpoints) for each in self.checkpoints._sessions.values()), 0, 0),
            TableStats("blobs", len(blobs), sum({each.sha256: each.size for each in blobs}.values()), 0),
            _table("memories", [text for texts in memories.values() for text in texts]),
            TableStats("messages", sum(messages.values()), sum(each.bytes for each in sessions), 0),
            TableStats("sessions", len(sessions), 0, 0),
            _table("state_rounds", [text for texts in rounds.values() for text in texts]),
            TableStats("users", len(self.users._ids()), 0, 0),
        ]
        numbers = {table.name: table.rows for table in tables}
        created: dict[datetime, tuple[int, int]] = {}
        for one in stored:
            day = start_of_day(one.created_at)
            count = created.get(day, (0, 0))
            created[day] = count[0] + 1, count[1] + len(one.messages)
        oldest = min((each.created_at for each in stored), default=None)
        return Stats(
            users=numbers["users"],
            sessions=numbers["sessions"],
            messages=numbers["messages"],
            memories=numbers["memories"],
            state_rounds=numbers["state_rounds"],
            values=sum(numbers[name] for name in values),
            blobs=numbers["blobs"],
            checkpoints=numbers["checkpoints"],
            bytes=sum(table.total_bytes for table in tables),
            oldest=oldest,
            newest=max((each.updated_at for each in stored), default=None),
            tables=sorted(tables, key=lambda table: table.name),
            largest_users=sorted(users, key=lambda each: (-each.messages, each.user_id.encode()))[:largest],
            largest_sessions=sorted(
                sessions, key=lambda each: (-each.messages, each.user_id.encode(), each.session_id.encode())
            )[:largest],
            growth=days_of(oldest, created, datetime.now(UTC)),
        )

    def _session_stats(self) -> Iterator[SessionStats]:
        for user_id, sessions in self.sessions._users.items():
            for session_id, stored in sessions.items():
                size = sum(len(text.encode()) for text in stored.messages.values())
                yield SessionStats(user_id, session_id, len(stored.messages), size, stored.updated_at)

    async def _delete_data(self, user_id: str) -> Deleted:
        sessions = self.sessions._users.pop(user_id, {})
        memories = await self.memory.delete_memory(user_id)
        self.memory._users.pop(user_id, None)
        if (sandboxes := self._used_sandboxes) is not None:
            await sandboxes._end_all(user_id)
        workspaces = [key for key in self._workspaces if key[0] == user_id]
        for key in workspaces:
            del self._workspaces[key]
        heads = [key for key in self.states._heads if key[0] == user_id]
        return Deleted(
            sessions=len(sessions),
            messages=sum(len(each.messages) for each in sessions.values()),
            memories=memories.memories,
            state_rounds=sum(len(self.states._heads.pop(key).rounds) for key in heads),
            workspaces=len(workspaces),
            values=self.states._delete_values_of_user(user_id),
            blobs=self.blobs._delete_user(user_id),
            checkpoints=self.checkpoints._delete_user(user_id),
        )

    def _check_open(self) -> None:
        if self._stopped:
            raise Closed("The store was stopped: call start() to use it again.")
        self._started = True


def _table(name: str, texts: list[str]) -> TableStats:
    return TableStats(name, len(texts), sum(len(text.encode()) for text in texts), 0)
