"""The services that the sessions use: those of a store, or on the shared pool of a URL."""

from typing import Protocol

from agentstore.errors import NotConfigured
from agentstore.interfaces import BlobService, SessionHistoryService, StateService, StoreMemoryService


class Store(Protocol):
    """What the sessions use of an AgentStore. An object with the services in memory may be used too."""

    @property
    def sessions(self) -> SessionHistoryService:
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
            PostgresMemoryService,
            PostgresSessionHistoryService,
            PostgresStateService,
        )
        from agentstore.settings import settings_from_environment

        self._shared = shared_database(url, settings_from_environment(), None)
        self.sessions: SessionHistoryService = PostgresSessionHistoryService(database=self._shared.database)
        self.memory: StoreMemoryService = PostgresMemoryService(database=self._shared.database)
        self.states: StateService = PostgresStateService(database=self._shared.database)
        self.blobs: BlobService = PostgresBlobService(database=self._shared.database)

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
