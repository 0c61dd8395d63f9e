"""One pool for all services of one database in a process."""

import logging
from weakref import WeakSet, WeakValueDictionary

from agentstore.database.database import Database
from agentstore.repositories.connect import open_database
from agentstore.settings import Settings

_log = logging.getLogger(__name__)

_KNOWN: WeakValueDictionary[tuple[str | None, str], "SharedDatabase"] = WeakValueDictionary()


class SharedDatabase:
    """A database, and which services use it: the first opens its connections, the last closes them."""

    def __init__(self, dsn: str | None, settings: Settings) -> None:
        """Use :func:`shared_database`."""
        self.database: Database = open_database(dsn, settings=settings)
        self._users: WeakSet[object] = WeakSet()
        self._asked = 0

    async def hold(self, service: object) -> None:
        """Begin to use it. Idempotent."""
        begins = service not in self._users
        self._users.add(service)  # first: nobody else's stop closes it meanwhile
        try:
            await self.database.start()
        except BaseException:
            if begins:
                self._users.discard(service)
            raise

    async def let_go(self, service: object) -> None:
        """Use it no more. Idempotent."""
        if service in self._users:
            self._users.remove(service)
            if not self._users:
                await self.database.stop()

    def ask_for(self, connections: int) -> None:
        """Let the pool have as many connections as whoever asks for the most, if it is not open yet."""
        settings = self.database.settings
        if not self._users:
            self._asked = settings.pool_size = max(self._asked, connections)
        elif connections > settings.pool_size:
            _log.warning("the pool of this database is open already, with %d connections at most", settings.pool_size)


def shared_database(dsn: str | None, settings: Settings, pool_size: int | None) -> SharedDatabase:
    """Return what all services of a URL, or of AGENTSTORE_DATABASE_URL, and of the same settings have in common.

    Raises:
        NotConfigured: nothing names a database, or the URL cannot be read.
    """
    if dsn is None and settings.database_url is not None:
        dsn = settings.database_url.get_secret_value()
    # What differs between services is not the connections'.
    common = {"database_url": None, "session_ttl": None, "memory_ttl": None, "state_ttl": None}
    key = dsn, settings.model_copy(update=common).model_dump_json()
    known = _KNOWN.get(key)
    if known is None:
        _KNOWN[key] = known = SharedDatabase(dsn, settings.model_copy())
    if pool_size is not None:
        known.ask_for(pool_size)
    return known
