"""What the services on Postgres share: a database, and its life."""

import asyncio
import random

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from agentstore.database.database import Database
from agentstore.database.url import Password
from agentstore.interfaces import ServiceWithLifecycleManager
from agentstore.repositories.connect import open_database
from agentstore.settings import Settings


class PostgresService(ServiceWithLifecycleManager):
    """A service on a database of its own, or on the one that a store shares between its services."""

    def __init__(
        self,
        dsn: str | URL | None = None,
        *,
        engine: AsyncEngine | None = None,
        settings: Settings | None = None,
        password: Password | None = None,
        database: Database | None = None,
    ) -> None:
        """The arguments are AgentStore's; `database` is a store's, which it starts and stops itself.

        `settings` beside a `database` are what this service goes by, where they are not about connections.

        Raises:
            NotConfigured: nothing names a database, or the URL cannot be read.
        """
        self._shared = database is not None
        self._database = database or open_database(dsn, engine=engine, settings=settings, password=password)
        self._settings = settings if database is not None and settings is not None else self._database.settings

    async def start(self) -> None:
        """Connect, and check the schema. See :meth:`agentstore.AgentStore.start`."""
        await self._database.start()

    async def stop(self) -> None:
        """Close the connections. A service of a store stops with the store, and not before."""
        if not self._shared:
            await self._database.stop()

    async def health(self) -> bool:
        """Return whether the database answers now, by a round trip. False before start and after stop."""
        return await self._database.health()


async def back_off(attempt: int) -> None:
    """Wait a moment that grows with each attempt, and is another one for each caller."""
    await asyncio.sleep(random.random() * 0.002 * 2 ** min(attempt, 6))  # noqa: S311 - spreads callers, hides nothing
