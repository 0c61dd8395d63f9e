"""The base class of the services on Postgres: a database and its lifecycle."""

from typing import Any

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from agentstore.database.database import Database
from agentstore.database.telemetry import Observer, Telemetry, observe_calls
from agentstore.database.url import Password
from agentstore.interfaces import ServiceWithLifecycleManager
from agentstore.repositories.connect import open_database
from agentstore.settings import Settings


class PostgresService(ServiceWithLifecycleManager):
    """A service that has its own database, or shares the database of a store."""

    def __init_subclass__(cls, *, area: str | None = None, **options: Any) -> None:
        """Let the public methods of a service report their calls; `area` is how they name the service."""
        super().__init_subclass__(**options)
        if area is not None:
            observe_calls(cls, area, _observer_of)

    def __init__(
        self,
        dsn: str | URL | None = None,
        *,
        engine: AsyncEngine | None = None,
        settings: Settings | None = None,
        password: Password | None = None,
        database: Database | None = None,
        telemetry: Telemetry | None = None,
    ) -> None:
        """Create a service that is not connected yet.

        Args:
            dsn: the URL of the database, as in :class:`agentstore.AgentStore`.
            engine: your own async engine, as in AgentStore.
            settings: as in AgentStore; with `database`, the settings of this service except for the connection.
            password: replaces the password of the URL, as in AgentStore.
            database: the database of a store, which starts and stops it.
            telemetry: as in AgentStore; with `database`, it is that of the database.

        Raises:
            NotConfigured: no database is named, or the URL is invalid.
        """
        self._shared = database is not None
        self._database = database or open_database(
            dsn, engine=engine, settings=settings, password=password, telemetry=telemetry
        )
        self._settings = settings if database is not None and settings is not None else self._database.settings

    async def start(self) -> None:
        """Connect, and check the schema; see :meth:`agentstore.AgentStore.start`."""
        await self._database.start()

    async def stop(self) -> None:
        """Close the connections. Has no effect on a service of a store, which stops with the store."""
        if not self._shared:
            await self._database.stop()

    async def health(self, timeout: float = 2.0, *, writable: bool = True) -> bool:
        """Return whether the database works now; see :meth:`agentstore.AgentStore.health`."""
        return await self._database.health(timeout, writable=writable)


def _observer_of(service: PostgresService) -> Observer:
    return service._database.observer
