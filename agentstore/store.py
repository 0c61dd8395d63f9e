"""The entry point: all services of agentstore on one database."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from agentstore.database.telemetry import Telemetry, observe_calls
from agentstore.database.url import Password
from agentstore.interfaces import Extractor, ServiceWithLifecycleManager, StopInProgress
from agentstore.repositories import (
    PostgresBlobService,
    PostgresCheckpointService,
    PostgresDocumentService,
    PostgresMemoryService,
    PostgresSandboxService,
    PostgresSessionHistoryService,
    PostgresStateService,
    PostgresUserService,
)
from agentstore.repositories.connect import open_database
from agentstore.repositories.prune import Pruning
from agentstore.repositories.stats import stats
from agentstore.schemas import Embedder, PoolStats, Pruned, Reranker, Stats
from agentstore.schemas.page import check_count
from agentstore.schemas.retention import read_prune_options
from agentstore.settings import Settings
from agentstore.transfer import DatabaseSource, DatabaseTarget, Exporter, Progress, Restorer

if TYPE_CHECKING:
    from agentstore.inmemory_store import InMemoryStore


class AgentStore(ServiceWithLifecycleManager):
    """Sessions, memory, states, users and sandboxes of AI agents, stored in one Postgres database.

    ::

        async with AgentStore("postgresql://app@db/agents") as store:
            session = await store.sessions.create_session("alice")
            await store.sessions.append_message(session, Message(role=Role.USER, content=[TextContent(text="Hello")]))
            await store.memory.add_memory("alice", session.messages, session.id)
            await store.states.save_state("alice", {"plan": []}, session.id)

    All services share one engine and its connection pool. The store starts at the first call.

    Attributes:
        sessions: conversations and their messages.
        memory: long-term memory, searched by words and optionally by meaning.
        states: states of agents in numbered rounds.
        users: the owners of everything else.
        blobs: versioned files.
        documents: memories that are written and read by key.
        checkpoints: the steps of graphs.
        sandboxes: isolated environments for code, created on first access.
    """

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
        """Create a store that is not connected yet.

        Args:
            url: the URL of the database. Default: AGENTSTORE_DATABASE_URL, otherwise the embedded Postgres if it is
                installed.
            engine: your own async engine on asyncpg, used instead of a URL and never disposed.
            settings: default: ``Settings()``, read from the environment.
            password: replaces the password of the URL. A function, sync or async, is called for each new connection.
            embedder: computes vectors of memories, so that they are also found by meaning. Default: the embedder of the
                AGENTSTORE_EMBEDDING_* settings, if they are set. A StaticEmbedder is for hybrid searches alone.
            extractor: extracts facts in ``memory.extract``. Default: the extractor of AGENTSTORE_EXTRACTION_*.
            reranker: scores the best memories of a search again. Default: the reranker of AGENTSTORE_RERANKER_*.
            telemetry: where to report statements and events, besides the log. Default: the providers of OpenTelemetry
                that the application has set.

        Raises:
            NotConfigured: no database is named, the URL is invalid, or the embedder or reranker lacks a member.
        """
        self._database = open_database(url, engine=engine, settings=settings, password=password, telemetry=telemetry)
        self._stop_in_progress = StopInProgress()
        self.sessions = PostgresSessionHistoryService(database=self._database)
        self.memory = PostgresMemoryService(
            database=self._database, embedder=embedder, extractor=extractor, reranker=reranker
        )
        self.states = PostgresStateService(database=self._database)
        self.users = PostgresUserService(database=self._database)
        self.blobs = PostgresBlobService(database=self._database)
        self.documents = PostgresDocumentService(database=self._database, memory=self.memory)
        self.checkpoints = PostgresCheckpointService(database=self._database)

    @staticmethod
    def in_memory(
        *,
        settings: Settings | None = None,
        embedder: Embedder | None = None,
        extractor: Extractor | None = None,
        reranker: Reranker | None = None,
    ) -> "InMemoryStore":
        """Return a store without a database, for tests: with the same calls, and lost when the process ends.

        The arguments are those of :class:`AgentStore`. Both satisfy :class:`agentstore.Store`.
        """
        from agentstore.inmemory_store import InMemoryStore

        return InMemoryStore(settings=settings, embedder=embedder, extractor=extractor, reranker=reranker)

    async def start(self) -> None:
        """Connect, and check that the schema is the one that this release needs. Idempotent, and optional.

        Raises:
            SchemaBehind: the schema is older; the message names the command to run.
            Unavailable: the database cannot be reached. Safe to retry.
            NotConfigured: the login was rejected.
        """
        await self._stop_in_progress.wait()
        if "sandboxes" in vars(self):
            self.sandboxes.reopen()
        await self._database.start()

    @cached_property
    def sandboxes(self) -> PostgresSandboxService:
        """Sandboxes of the provider in AGENTSTORE_SANDBOX_PROVIDER, which is loaded at the first call.

        Raises:
            NotConfigured: the provider does not exist, or needs AGENTSTORE_SANDBOX_URL.
        """
        return PostgresSandboxService(database=self._database)

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
        """Delete expired data, and data not written for longer than `older_than`; return how much was deleted.

        Runs online: in small transactions that do not block writers, and without deleting rows that are written
        meanwhile. It may be interrupted and run again: if the task is canceled, the transaction in progress is
        completed, and `progress` has received all that was deleted.

        Args:
            older_than: also delete sessions (with their messages), and the memories and states of a session, that were
                last written before that time, and state rounds saved before it. The highest round of a session that is
                still being saved to is retained. None deletes only what has expired by its ttl.
            keep_last: retain that many of the most recently written sessions per user, with their memories and
                states, and as many memories and states without a session; and of the last rounds per session. The
                memories and states of a session that is deleted go with it, unless they were written later.
            keep_sessions, keep_memories, keep_states: another number for the sessions, the sessions with memories, or
                the sessions with states and the rounds of each. With a number of their own, memories and states
                do not follow their session.
            dry_run: delete nothing, and return what would be deleted.
            max_time: begin no further transaction after this time, and return a result whose ``finished`` is False.
            pause: wait this long after each transaction, which leaves the server, its replicas and autovacuum time.
            progress: called after each transaction with the number of users processed and what was deleted so far.

        Raises:
            InvalidContent: `older_than`, `max_time` or `pause` is not a timedelta >= 0, or a number to keep is not an
                integer >= 0.
            LimitExceeded: a number to keep is over 10,000.
        """
        options = read_prune_options(
            self._database.settings,
            older_than=older_than,
            keep_last=keep_last,
            keep_sessions=keep_sessions,
            keep_memories=keep_memories,
            keep_states=keep_states,
            max_time=max_time,
            pause=pause,
        )
        pruning = Pruning(self._database, options, dry_run=dry_run, max_time=max_time, pause=pause)
        return await pruning.run(progress)

    async def export(
        self,
        file: BinaryIO,
        users: Sequence[str] | None = None,
        *,
        tick: Callable[[Progress], None] = lambda progress: None,
    ) -> Progress | None:
        """Export all data, or that of `users`, as JSON Lines; docs/export.md describes the format.

        An interrupted export is resumed: if `file` contains the beginning of this export, it is verified and
        continued. Returns the progress, or None if the export was complete already. Memory use is bounded.

        Args:
            file: a binary file open for reading and writing; a pipe is written from the beginning.
            users: the ids of the users to export. None exports everything.
            tick: called with the progress after each block of users.

        Raises:
            InvalidContent: `file` contains something else, or an export of other users or of another database.
            NotFound: a user does not exist.
        """
        exporter = Exporter(DatabaseSource(self._database, by_user=users is not None), users)
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
        """Restore an export; return what was restored and what was skipped.

        The checksums of the whole file are verified before anything is written; then a few users at a time are checked
        and written per transaction. Each row is checked as a write is. The checksums prove that the file is complete
        and undamaged, not who wrote it: pass `only_users` for a file from outside.

        Existing sessions, buckets of memories and states of a session are left unchanged; those that lack something
        that the file has are listed in ``left``. So a restore may be interrupted and run again.

        Args:
            file: a binary file open for reading.
            without_vectors: skip the vectors of memories.
            only_users: the ids of the users whose rows the file may have. All rows are then checked before anything is
                written, and a row of any other user is refused.
            dry_run: verify the file and check every row in it, and write nothing.
            tick: called with the progress after each transaction.

        Raises:
            InvalidContent, LimitExceeded: the file is not an export, is truncated or modified, was written by a later
                release, or has a row that a write would refuse; with the number of the line.
            NotConfigured: the file has vectors, and vectors are not enabled in the database.
        """
        restorer = Restorer(DatabaseTarget(self._database), without_vectors=without_vectors, only_users=only_users)
        await restorer.run(file, lambda: tick(restorer.progress), dry_run=dry_run)
        return restorer.progress

    def pool_stats(self) -> PoolStats:
        """Return how many connections are open, in use and waited for, in this process. Does not wait."""
        return self._database.pool_stats()

    async def stats(self, *, largest: int = 10) -> Stats:
        """Return statistics: rows and bytes per table, and the `largest` users and sessions by number of messages.

        Raises:
            InvalidContent, LimitExceeded: `largest` is not an integer >= 0, or is over 10,000.
        """
        check_count(largest, "largest", maximum=self._database.settings.max_page)
        return await stats(self._database, largest)

    async def stop(self) -> None:
        """Close all connections and services. Later calls raise Closed, until start() is called."""
        with self._stop_in_progress.during():
            try:
                try:
                    if "sandboxes" in vars(self):
                        await self.sandboxes.stop()
                finally:
                    await self.memory.stop()
            finally:
                await self._database.stop()

    async def health(self, timeout: float = 2.0, *, writable: bool = True) -> bool:
        """Return whether the database works now. False before start and after stop; never raises.

        It is queried on a connection that is opened for this check, so that a pool whose connections are all in use
        neither fails the check nor is delayed by it. The reason for False is logged as a warning.

        Args:
            timeout: seconds that connecting and the queries may take; then the result is False.
            writable: whether the database also has to accept writes, and to have space for them: it is no standby, was
                not made read-only, and its disk is not full, for which a temporary file of some 100 KB is written.
        """
        return await self._database.health(timeout, writable=writable)


observe_calls(AgentStore, "store", lambda store: store._database.observer)
