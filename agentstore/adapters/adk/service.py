"""What the services for ADK share: their store."""

from typing import Self

from agentstore.adapters.stores import SharedStore, Store, store_of


class Service:
    """A service on a store, or on the pool of a URL."""

    def __init__(self, store: Store | None = None, *, url: str | None = None) -> None:
        """Create the service, without connecting.

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
