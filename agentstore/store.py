"""The store: every service of agentstore on one database."""

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from agentstore.interfaces import Extractor, ServiceWithLifecycleManager
from agentstore.repositories import (
    PostgresMemoryService,
    PostgresSessionHistoryService,
    PostgresStateService,
    PostgresUserService,
)
from agentstore.repositories.connect import open_database
from agentstore.schemas import Embedder
from agentstore.settings import Settings
from agentstore.url import Password


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

    async def stop(self) -> None:
        """Close every connection. Calls raise Closed from now on, until start() is called."""
        try:
            await self.memory.stop()
        finally:
            await self._database.stop()

    async def health(self) -> bool:
        """Return whether the database answers now, by a round trip. False before start and after stop."""
        return await self._database.health()
