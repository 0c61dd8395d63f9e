"""The services that adapters use: those of a store, or on the shared pool of a URL."""

from typing import Protocol, Self

from agentstore.errors import NotConfigured, NotFound
from agentstore.interfaces import (
    BlobService,
    CheckpointService,
    DocumentService,
    SessionHistoryService,
    StateService,
    StoreMemoryService,
    StoreSessionHistoryService,
)
from agentstore.loop_thread import LoopRunner


class Store(Protocol):
    """What the sessions use of an AgentStore. An object with the services in memory may be used too."""

    @property
    def sessions(self) -> StoreSessionHistoryService:
        """The conversations."""
        ...

    @property
    def memory(self) -> StoreMemoryService:
        """What is searched."""
        ...

    @property
    def states(self) -> StateService:
        """The scoped values."""
        ...

    @property
    def blobs(self) -> BlobService:
        """The files."""
        ...

    @property
    def documents(self) -> DocumentService:
        """The memories that are written by key."""
        ...

    @property
    def checkpoints(self) -> CheckpointService:
        """The checkpoints of graphs."""
        ...


class SharedStore:
    """The services on the pool of a URL, which all adapters in this process share."""

    def __init__(self, url: str) -> None:
        """Create the services, without connecting.

        Raises:
            NotConfigured: the URL is invalid.
        """
        # Imported here, since most applications pass a store: SQLAlchemy and the driver are needed for a URL only.
        from agentstore.adapters.shared_database import shared_database
        from agentstore.repositories import (
            PostgresBlobService,
            PostgresCheckpointService,
            PostgresDocumentService,
            PostgresMemoryService,
            PostgresSessionHistoryService,
            PostgresStateService,
        )
        from agentstore.settings import settings_from_environment

        self._shared = shared_database(url, settings_from_environment(), None)
        self.sessions: StoreSessionHistoryService = PostgresSessionHistoryService(database=self._shared.database)
        memory = PostgresMemoryService(database=self._shared.database)
        self.memory: StoreMemoryService = memory
        self.states: StateService = PostgresStateService(database=self._shared.database)
        self.blobs: BlobService = PostgresBlobService(database=self._shared.database)
        self.documents: DocumentService = PostgresDocumentService(database=self._shared.database, memory=memory)
        self.checkpoints: CheckpointService = PostgresCheckpointService(database=self._shared.database)

    async def start(self) -> None:
        """Open the pool, unless it is open. Idempotent."""
        await self._shared.acquire(self)

    async def stop(self) -> None:
        """Close the pool, unless another adapter uses it. Idempotent."""
        await self._shared.release(self)


def store_of(store: Store | None, url: str | None) -> Store | SharedStore:
    """Return the store, or the services of a URL.

    Raises:
        NotConfigured: both are given, or none.
    """
    if (store is None) == (url is None):
        raise NotConfigured("expected either a store or a url")
    return SharedStore(url) if store is None and url is not None else store  # type: ignore[return-value]


class OnStore:
    """What an adapter's object does with a store, or with the pool of a URL."""

    def __init__(self, store: Store | None = None, *, url: str | None = None) -> None:
        """Create the object, without connecting.

        Args:
            store: an AgentStore.
            url: the URL of a database instead of a store. All adapters in this process share one pool for it, which
                :meth:`close` releases.

        Raises:
            NotConfigured: both `store` and `url` are given, or none.
        """
        self._store = store_of(store, url)

    async def close(self) -> None:
        """Release the pool of a `url`. A store is stopped by its owner. Idempotent."""
        if isinstance(self._store, SharedStore):
            await self._store.stop()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _started(self) -> Store:
        if isinstance(self._store, SharedStore):
            await self._store.start()
        return self._store


class BlockingOnStore(OnStore):
    """An adapter's object that has synchronous methods too, which any thread may call, and which block it.

    They run on an event loop in a thread of the object, which the first one starts.
    """

    def __init__(self, store: Store | None = None, *, url: str | None = None, thread: str, kind: str) -> None:
        """Create the object, without connecting.

        `store` and `url` are those of :class:`OnStore`; `thread` is the name of the thread, and `kind` how errors call
        the object.

        Raises:
            NotConfigured: both `store` and `url` are given, or none.
        """
        super().__init__(store, url=url)
        self._runner = LoopRunner(thread, kind)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Release the pool of a `url`, and end the thread of the synchronous methods."""
        try:
            self._runner.run(self.close())
        finally:
            self._runner.close()


async def is_stored(sessions: SessionHistoryService, user_id: str, session_id: str, message_id: str) -> bool:
    """Return whether a session has a message, without reading it."""
    try:
        return await sessions.read_messages(user_id, session_id, limit=0, before=message_id) is not None
    except NotFound:
        return False
