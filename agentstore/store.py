"""The store: every service of agentstore on one database."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import BinaryIO

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from agentstore.database.url import Password
from agentstore.errors import InvalidContent
from agentstore.interfaces import Extractor, ServiceWithLifecycleManager
from agentstore.repositories import (
    PostgresMemoryService,
    PostgresSandboxService,
    PostgresSessionHistoryService,
    PostgresStateService,
    PostgresUserService,
)
from agentstore.repositories.connect import open_database
from agentstore.repositories.prune import Pruning
from agentstore.repositories.stats import stats
from agentstore.schemas import Embedder, Pruned, Stats
from agentstore.schemas.page import check_count
from agentstore.settings import Settings
from agentstore.transfer import Exporter, Progress, Restorer


class AgentStore(ServiceWithLifecycleManager):
    """Everything that agents of one deployment keep, in one Postgres database.

    ::

        async with AgentStore("postgresql://app@db/agents") as store:
            session = await store.sessions.create_session("alice")
            await store.sessions.append_message(session, Message(role=Role.USER, content=[TextContent(text="Hello")]))
            await store.memory.add_memory("alice", session.messages, session.id)
            await store.states.save_state("alice", {"plan": []}, session.id)

    One engine and one pool serve all services. It starts by itself at the first call.
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
    ) -> None:
        """Without `url` it is AGENTSTORE_DATABASE_URL's database, else the embedded Postgres where that is installed.

        `engine` is yours: it is used and never disposed. `password` replaces the URL's, and may be a function, also
        an async one, that is asked at each new connection. `embedder` makes vectors of memories, so that they are
        found by their meaning as well; by default it is the one that AGENTSTORE_EMBEDDING_* name.
        `extractor` makes facts of them: ``memory.extract`` works with it.

        Raises:
            NotConfigured: nothing names a database, the URL cannot be read, or the embedder is none.
        """
        self._database = open_database(url, engine=engine, settings=settings, password=password)
        self.sessions = PostgresSessionHistoryService(database=self._database)
        self.memory = PostgresMemoryService(database=self._database, embedder=embedder, extractor=extractor)
        self.states = PostgresStateService(database=self._database)
        self.users = PostgresUserService(database=self._database)

    async def start(self) -> None:
        """Connect, and check that the schema is the one that this release needs. Idempotent.

        Raises:
            SchemaBehind: it is older; the message names the command to run.
            Unavailable: the database cannot be reached. The call may be repeated.
            NotConfigured: it does not let us in.
        """
        await self._database.start()
        if "sandboxes" in vars(self):
            self.sandboxes.reopen()

    @cached_property
    def sandboxes(self) -> PostgresSandboxService:
        """Sandboxes by the provider that AGENTSTORE_SANDBOX_PROVIDER names, which is looked for at the first call.

        Raises:
            NotConfigured: there is no such provider, or it needs a server that AGENTSTORE_SANDBOX_URL does not name.
        """
        return PostgresSandboxService(database=self._database)

    async def prune(
        self,
        older_than: timedelta | None = None,
        *,
        keep_last: int = 0,
        dry_run: bool = False,
        progress: Callable[[int, Pruned], None] = lambda users, pruned: None,
    ) -> Pruned:
        """Delete what has expired and, with `older_than`, what was not written for longer than that; say how much.

        Sessions with their messages, and memories by session, go as a whole, but for the `keep_last` last written of
        each user. Of states, the rounds go that were saved before then, but for the `keep_last` last of each session,
        and its highest one as long as it is still saved to. Online: small transactions, nothing that is written
        meanwhile goes, and nobody waits. It may be broken off and repeated. `progress` is told how many users were
        looked at, and what went so far; with `dry_run` nothing goes, and all of it is counted.

        Raises:
            InvalidContent: `older_than` is no time, or negative, or `keep_last` is no whole number from 0.
        """
        if older_than is not None and (not isinstance(older_than, timedelta) or older_than < timedelta()):
            raise InvalidContent(f"older_than must be a timedelta from 0, not {older_than!r}")
        if check_count(keep_last, "keep_last", self._database.settings.max_page) is None:
            raise InvalidContent("keep_last must be a whole number from 0, not None")
        try:
            before = None if older_than is None else datetime.now(UTC) - older_than
        except OverflowError:  # before there were computers
            before = None
        return await Pruning(self._database, before=before, keep_last=keep_last, dry_run=dry_run).run(progress)

    async def export(
        self,
        file: BinaryIO,
        users: Sequence[str] | None = None,
        *,
        tick: Callable[[Progress], None] = lambda progress: None,
    ) -> Progress | None:
        """Write everything, or everything of `users`, as JSON Lines; docs/export.md describes the form.

        `file` is open for reading and writing. If it has the beginning of such an export, that is checked and gone on
        with; None if it is finished already. What cannot be read again, as a pipe, is written from the beginning.
        `tick` is called after each block of users. Memory does not grow with the database.

        Raises:
            InvalidContent: `file` has something else, or an export of other users or of another database.
            NotFound: there is no such user.
        """
        exporter = Exporter(self._database, users)
        return exporter.progress if await exporter.run(file, lambda: tick(exporter.progress)) else None

    async def restore(
        self,
        file: BinaryIO,
        *,
        without_vectors: bool = False,
        dry_run: bool = False,
        tick: Callable[[Progress], None] = lambda progress: None,
    ) -> Progress:
        """Store what an export has, row by row as it was; return what was new, and what was left as it is.

        The whole file is checked before anything is written, and then some users at a time are stored in one
        transaction. A session, a bucket of memories or a session's states that are there are left alone: if they have
        not all that the file has, they are in ``left``. So it may be broken off, and repeated.

        Raises:
            InvalidContent: it is no export, was cut off or changed, or is of a later release.
            NotConfigured: it has vectors, and the database has none.
        """
        restorer = Restorer(self._database, without_vectors=without_vectors)
        await restorer.run(file, lambda: tick(restorer.progress), dry_run=dry_run)
        return restorer.progress

    async def stats(self, *, largest: int = 10) -> Stats:
        """Return how much is stored: rows, bytes, and the users and sessions with the most messages.

        Raises:
            InvalidContent, LimitExceeded: `largest` is no whole number from 0, or over 10,000.
        """
        check_count(largest, "largest", self._database.settings.max_page)
        return await stats(self._database, largest)

    async def stop(self) -> None:
        """Close every connection. Calls raise Closed from now on, until start() is called."""
        try:
            try:
                if "sandboxes" in vars(self):
                    await self.sandboxes.stop()
            finally:
                await self.memory.stop()
        finally:
            await self._database.stop()

    async def health(self) -> bool:
        """Return whether the database answers now, by a round trip. False before start and after stop."""
        return await self._database.health()
