"""One connection pool for all services of a database in this process."""

import logging
from weakref import WeakSet, WeakValueDictionary

from agentstore.database.database import Database
from agentstore.repositories.connect import open_database
from agentstore.settings import Settings

_log = logging.getLogger(__name__)

_DATABASES: WeakValueDictionary[tuple[str | None, str], "SharedDatabase"] = WeakValueDictionary()


class SharedDatabase:
    """A database and the started services that use it: the first opens its pool, the last closes it."""

    def __init__(self, dsn: str | None, settings: Settings) -> None:
        """Use :func:`shared_database`."""
        self.database: Database = open_database(dsn, settings=settings)
        self._services: WeakSet[object] = WeakSet()
        self._pool_size = 0

    async def acquire(self, service: object) -> None:
        """Register a service as a user, and open the pool if it is not open. Idempotent."""
        is_new = service not in self._services
        self._services.add(service)  # before the start, so that another service's stop does not close the pool
        try:
            await self.database.start()
        except BaseException:
            if is_new:
                self._services.discard(service)
            raise

    async def release(self, service: object) -> None:
        """Unregister a service, and close the pool if it was the last. Idempotent."""
        if service in self._services:
            self._services.remove(service)
            if not self._services:
                await self.database.stop()

    def request_pool_size(self, connections: int) -> None:
        """Raise the size of the pool to `connections`; once the pool is open, only log a warning."""
        settings = self.database.settings
        if not self._services:
            self._pool_size = settings.pool_size = max(self._pool_size, connections)
        elif connections > settings.pool_size:
            _log.warning(
                "pool_size=%d has no effect: this database's pool is open, with at most %d connections",
                connections,
                settings.pool_size,
            )


def shared_database(dsn: str | None, settings: Settings, pool_size: int | None) -> SharedDatabase:
    """Return the shared database of a URL, or of AGENTSTORE_DATABASE_URL, and of equal settings.

    Raises:
        NotConfigured: no database is configured, or its URL cannot be parsed.
    """
    if dsn is None and settings.database_url is not None:
        dsn = settings.database_url.get_secret_value()
    # Services with different times to live share one pool.
    unset = {"database_url": None, "session_ttl": None, "memory_ttl": None, "state_ttl": None}
    key = dsn, settings.model_copy(update=unset).model_dump_json()
    shared = _DATABASES.get(key)
    if shared is None:
        _DATABASES[key] = shared = SharedDatabase(dsn, settings.model_copy())
    if pool_size is not None:
        shared.request_pool_size(pool_size)
    return shared
