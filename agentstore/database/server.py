"""What a store needs of the server and of its role: checked by one query when it starts, and by health checks."""

from typing import NamedTuple

import asyncpg

from agentstore.database.failover import ACCEPTS_WRITES
from agentstore.database.row_security import filtered_view_error
from agentstore.errors import NotConfigured, Unavailable
from agentstore.settings import Settings

CITUS_FUNCTION = "citus_append_messages_1"
"""A function that a distributed database has: see :mod:`agentstore.migrating.citus`."""
IS_DISTRIBUTED = f"""EXISTS (
        SELECT FROM pg_catalog.pg_proc p WHERE p.pronamespace = to_regnamespace($1) AND p.proname = '{CITUS_FUNCTION}'
    )"""
"""A condition on the schema's quoted name, which needs no privilege on it."""

# Without a parameter that is an array, whose type the driver would look up: that takes longer than the query.
_FACTS = f"""
SELECT {IS_DISTRIBUTED} AS is_distributed,
    current_setting('server_encoding') AS encoding,
    current_setting('default_transaction_isolation') <> 'read committed' AS isolates,
    EXISTS (
        SELECT FROM pg_catalog.pg_class c
        WHERE c.relnamespace = to_regnamespace($1) AND c.relname = ANY (string_to_array($2, ' '))
            AND row_security_active(c.oid)
    ) AS is_filtered
"""
# Writes a temporary file of some 100 KB into the database's folder, as writes extend its tables. It is gone with the
# transaction, and nothing is left in a table, its indexes or the WAL.
WRITE_FILE = """
BEGIN;
SET LOCAL work_mem = '64kB';
SET LOCAL temp_tablespaces = '';
SELECT count(*) FROM generate_series(1, 10000);
ROLLBACK
"""
# A standby has the identifier of its primary.
_SYSTEM = "SELECT system_identifier FROM pg_catalog.pg_control_system()"
_DATABASE = "SELECT oid, datname FROM pg_catalog.pg_database WHERE datname = current_database()"
_ENCODING = "SELECT current_setting('server_encoding')"


class ServerFacts(NamedTuple):
    """Facts about the server, the database and the role."""

    is_distributed: bool
    encoding: str
    isolates: bool
    """Whether a statement outside a transaction has another isolation level than READ COMMITTED."""
    is_filtered: bool
    """Whether row-level security hides rows of any table of the store from the role, unless a user is set."""


class Identity(NamedTuple):
    """Identifies a database among all servers; a standby has the identity of its primary."""

    system: int | None
    """The identifier of the server's data; None if the role may not read it."""
    oid: int
    name: str

    def is_same(self, other: "Identity") -> bool:
        """Return whether both are the same database, as far as it is known."""
        is_same_system = self.system == other.system or None in (self.system, other.system)
        return is_same_system and (self.oid, self.name) == (other.oid, other.name)


async def read_identity(connection: asyncpg.Connection) -> Identity:
    """Return the identity of the database that a connection leads to."""
    try:
        system = await connection.fetchval(_SYSTEM)
    except asyncpg.InsufficientPrivilegeError:
        system = None
    row = await connection.fetchrow(_DATABASE)
    assert row is not None  # noqa: S101
    return Identity(system, *row)


def table_names() -> list[str]:
    """Return the names of the tables of a store, with that of vectors, which not every database has."""
    from agentstore.models import Base
    from agentstore.models.memory_vector import VectorBase

    return [*Base.metadata.tables, *VectorBase.metadata.tables]


async def read_facts(connection: asyncpg.Connection, settings: Settings, timeout: float) -> ServerFacts:
    """Read the facts within `timeout` seconds."""
    row = await connection.fetchrow(_FACTS, f'"{settings.schema}"', " ".join(table_names()), timeout=timeout)
    assert row is not None  # noqa: S101
    return ServerFacts(*row)


def check_facts(facts: ServerFacts, settings: Settings, where: str) -> None:
    """Refuse a database that cannot store every text, or whose policies would hide rows from the calls of a store.

    Raises:
        NotConfigured: the encoding is not UTF8, or policies apply to the role and ROW_LEVEL_SECURITY is off.
    """
    _check_encoding(facts.encoding, where)
    if facts.is_filtered and not settings.row_level_security:
        raise filtered_view_error(where)


async def check_health(connection: asyncpg.Connection, *, writable: bool) -> None:
    """Check that the server answers a query, and with `writable` that it accepts writes and has space for them.

    Raises:
        Unavailable: it accepts no writes.
        asyncpg.PostgresError, OSError: the query failed, or the disk is full.
    """
    if not await connection.fetchval(ACCEPTS_WRITES) and writable:
        raise Unavailable("it accepts no writes: it is a standby, or was made read-only")
    if writable:
        await connection.execute(WRITE_FILE)


async def check_encoding(connection: asyncpg.Connection, where: str) -> None:
    """Refuse a database that cannot store every text.

    Raises:
        NotConfigured: its encoding is not UTF8.
    """
    _check_encoding(await connection.fetchval(_ENCODING), where)


def _check_encoding(encoding: str, where: str) -> None:
    if encoding != "UTF8":
        raise NotConfigured(
            f"{where} has the encoding {encoding}, which cannot store the text of every language: create a database "
            "with ENCODING 'UTF8' TEMPLATE template0."
        )
