"""Direct connections for migrations, each with a session of its own, whose search_path is the store's schema."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from agentstore.database.database import Database
from agentstore.database.errors import CONNECT_ERRORS, connection_error
from agentstore.database.pooler import is_pooled, is_transaction_pooler
from agentstore.database.server import read_identity
from agentstore.database.url import connector, direct_connector, migration_url, parse_url, settings_of_url
from agentstore.errors import NotConfigured
from agentstore.settings import Settings, settings_from_environment


@asynccontextmanager
async def opened(target: Database | AsyncEngine | str, settings: Settings | None) -> AsyncIterator[Database]:
    """Yield a database, given in any form, with direct connections for migrations.

    A given `Database` is yielded unchanged. One that is created for a URL or an engine is closed at the end; the engine
    itself is not disposed.
    """
    if isinstance(target, Database):
        yield target
        return
    settings = settings or settings_from_environment()
    if isinstance(target, str):
        settings = settings_of_url(target, settings)
        direct = direct_connector(target, settings)
        # Through a pooler, the revision can be read, but nothing can be migrated.
        database = Database(
            settings,
            connect=direct or connector(target, statement_cache_size=0),
            connect_directly=direct,
            where=str(parse_url(migration_url(target, settings) or target)),
        )
    else:
        database = Database(settings, engine=target)
    try:
        yield database
    finally:
        await database.stop()


@asynccontextmanager
async def dedicated_connection(database: Database) -> AsyncIterator[AsyncConnection]:
    """Yield a direct connection that is closed at the end, so that its session settings never reach a pool."""
    async with database.migration_engine() as engine:
        try:
            connection = await engine.connect()
        except CONNECT_ERRORS as error:
            raise connection_error(error, database.where_directly) from error
        try:
            yield await connection.execution_options(isolation_level="READ COMMITTED")
        finally:
            await connection.invalidate()
            await connection.close()


@asynccontextmanager
async def connection_for_developers() -> AsyncIterator[AsyncConnection]:
    """Yield a connection to AGENTSTORE_DATABASE_URL, for the ``alembic`` command in a checkout."""
    settings = settings_from_environment()
    if settings.database_url is None:
        raise NotConfigured("Set AGENTSTORE_DATABASE_URL for the alembic command.")
    url = settings.database_url.get_secret_value()
    async with opened(url, settings) as database, dedicated_connection(database) as connection:
        await enter_schema(connection, settings.schema, lock_timeout=3.0)
        yield connection


async def enter_schema(connection: AsyncConnection, schema: str, *, lock_timeout: float) -> None:
    """Create the schema if it does not exist, make it the search_path, and set the lock timeout, in seconds."""
    # Looked up first: CREATE SCHEMA IF NOT EXISTS needs the CREATE privilege even if the schema exists.
    if await connection.scalar(text("SELECT to_regnamespace(:schema)"), {"schema": f'"{schema}"'}) is None:
        await connection.execute(text(f'CREATE SCHEMA IF NOT EXISTS "{schema}"'))
    await connection.execute(text(f'SET search_path TO "{schema}"'))
    # While a statement waits for a strong lock, all later statements on the table queue behind it.
    await connection.execute(text(f"SET lock_timeout TO '{lock_timeout:g}s'"))
    # A migrator that is suspended or has lost its network must not hold its locks indefinitely.
    await connection.execute(text("SET idle_in_transaction_session_timeout TO '60s'"))
    await connection.commit()


async def refuse_pooler(connection: AsyncConnection, database: Database) -> None:
    """Refuse a connection that does not have a session of its own.

    Raises:
        NotConfigured: it goes through a pooler in transaction mode.
    """

    @asynccontextmanager
    async def another() -> AsyncIterator[asyncpg.Connection]:
        async with connection.engine.connect() as other:
            yield await driver_connection(other)

    driver = await driver_connection(connection)
    if await is_pooled(driver) and await is_transaction_pooler(driver, another):
        raise NotConfigured(
            f"{database.where_directly} is a pooler in transaction mode, which may run each transaction of a migration "
            "on another server connection: set AGENTSTORE_MIGRATION_DATABASE_URL to a direct URL of the same database."
        )


async def refuse_other_database(connection: AsyncConnection, database: Database) -> None:
    """Refuse a direct connection to another database than the one that the application uses.

    Raises:
        NotConfigured: MIGRATION_DATABASE_URL leads to another one.
    """
    if database.where_directly == database.where:
        return
    async with database.connection() as pooled:
        used = await read_identity(pooled)
    if not (await read_identity(await driver_connection(connection))).is_same(used):
        raise NotConfigured(
            f"AGENTSTORE_MIGRATION_DATABASE_URL, {database.where_directly}, leads to another database than "
            f"{database.where}: set it to a direct URL of the same one."
        )


async def driver_connection(connection: AsyncConnection) -> asyncpg.Connection:
    """Return the driver's connection beneath one of SQLAlchemy's."""
    driver: asyncpg.Connection = (await connection.get_raw_connection()).driver_connection  # type: ignore[assignment]
    return driver
