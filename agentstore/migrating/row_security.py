"""Turn row-level security on and off for a schema, and report which tables have it. Does not load Alembic."""

import logging
from dataclasses import dataclass
from typing import Literal

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from agentstore.database import row_security as policies
from agentstore.database.database import Database
from agentstore.database.server import table_names
from agentstore.errors import NotConfigured
from agentstore.migrating import citus
from agentstore.migrating.connections import driver_connection, opened
from agentstore.migrating.locking import run_exclusively
from agentstore.migrating.options import WAIT, Report
from agentstore.settings import Settings

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RowSecurity:
    """The tables that have the policy, those that lack it, and what this login sees of them."""

    secured: tuple[str, ...]
    open: tuple[str, ...]
    sees_all: bool
    """Whether the login's role is exempt from all policies."""
    filtered: tuple[str, ...]
    """The tables of the store of which the login sees the rows of one user at a time, by whatever policy."""

    @property
    def state(self) -> Literal["enabled", "disabled", "incomplete"]:
        """How far the policies have been created; "incomplete": some tables lack theirs."""
        if not self.secured:
            return "disabled"
        return "incomplete" if self.open else "enabled"


async def enable_row_security(
    target: Database | AsyncEngine | str,
    *,
    settings: Settings | None = None,
    wait: float = WAIT,
    report: Report = _log.info,
) -> None:
    """Create the policy on every table: a role sees the rows of one user at a time. Later migrations create it too.

    Turn on AGENTSTORE_ROW_LEVEL_SECURITY in every application first: then each transaction names its user. Tables are
    altered one after the other, each under an ACCESS EXCLUSIVE lock for a moment. Idempotent.

    Raises:
        NotConfigured: the role does not own the tables, or they are distributed by Citus.
        Unavailable: see :func:`agentstore.migrating.migrate.upgrade`.
    """

    async def work(connection: AsyncConnection) -> None:
        driver = await driver_connection(connection)
        await citus.refuse(driver, database, "row-level security, whose user is not set on the other servers")
        await secure_tables(connection, database.settings.schema)

    async with opened(target, settings) as database:
        await run_exclusively(database, work, wait, report)


async def disable_row_security(
    target: Database | AsyncEngine | str,
    *,
    settings: Settings | None = None,
    wait: float = WAIT,
    report: Report = _log.info,
) -> None:
    """Drop the policy of every table. Idempotent. Raises as :func:`enable_row_security` does."""

    async def work(connection: AsyncConnection) -> None:
        driver = await driver_connection(connection)
        schema = database.settings.schema
        for row in await _tables(driver, schema):
            async with driver.transaction():
                for statement in policies.disable_statements(schema, row["name"]):
                    await driver.execute(statement)

    async with opened(target, settings) as database:
        await run_exclusively(database, work, wait, report)


async def row_security_status(database: Database) -> RowSecurity:
    """Return which tables have the policy.

    Raises:
        Unavailable: the database cannot be reached.
        NotConfigured: the login was rejected.
    """
    async with database.connection() as connection:
        rows = await _tables(connection, database.settings.schema)
        sees_all = await connection.fetchval(policies.BYPASSES_POLICIES)
    return RowSecurity(
        tuple(row["name"] for row in rows if row["is_secured"]),
        tuple(row["name"] for row in rows if not row["is_secured"]),
        bool(sees_all),
        tuple(row["name"] for row in rows if row["is_filtered"]),
    )


async def _tables(connection: asyncpg.Connection, schema: str) -> list[asyncpg.Record]:
    """Return the rows of `policies.TABLES` about our tables: a shared schema has those of an application too."""
    names = table_names()
    return [row for row in await connection.fetch(policies.TABLES, f'"{schema}"') if row["name"] in names]


async def secure_tables(connection: AsyncConnection, schema: str) -> None:
    """Create the policy on each table that lacks it."""
    driver = await driver_connection(connection)
    for row in await _tables(driver, schema):
        if not row["is_secured"]:
            async with driver.transaction():
                for statement in policies.enable_statements(schema, row["name"]):
                    await driver.execute(statement)


async def check_sees_all_rows(connection: AsyncConnection, database: Database) -> bool:
    """Return whether any table has the policy; refuse to migrate rows that this role cannot see.

    Raises:
        NotConfigured: policies limit the role to the rows of one user.
    """
    driver = await driver_connection(connection)
    rows = await _tables(driver, database.settings.schema)
    if any(row["is_filtered"] for row in rows):
        raise NotConfigured(
            f"Row-level security is on in {database.where_directly}, and a migration has to see all rows: run ALTER "
            "ROLE ... BYPASSRLS for the role that migrates."
        )
    return any(row["is_secured"] for row in rows)
