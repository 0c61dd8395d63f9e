"""A look at a database with the eyes of the person who is woken for it: what is set up wrongly, and what to do."""

import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Literal

import asyncpg

from agentstore import migrate
from agentstore.database import Database
from agentstore.errors import AgentStoreError, Unavailable
from agentstore.models import Base
from agentstore.settings import Settings

OLDEST, NEWEST = 15, 18
_SLOW_ROUND_TRIP = 0.05
_CLOCK_OFF = 2.0
_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")

_DURABILITY = {
    "fsync": "a crash of the machine can destroy the database; ALTER SYSTEM SET it on, and reload",
    "full_page_writes": "a crash of the machine can destroy the database; ALTER SYSTEM SET it on, and reload",
    "synchronous_commit": "a crash of the server loses the last acknowledged messages; RESET it by ALTER ROLE, ALTER "
    "DATABASE or ALTER SYSTEM, wherever it is set",
}

_SERVER = """
SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int / 10000 AS major,
    current_setting('server_encoding') AS encoding, pg_is_in_recovery() AS standby,
    current_setting('default_transaction_read_only') = 'on' AS read_only,
    current_setting('synchronous_commit') AS synchronous_commit, current_setting('fsync') AS fsync,
    current_setting('full_page_writes') AS full_page_writes,
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int AS connections,
    (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()) AS used,
    rolname AS role, rolsuper AS superuser, rolconnlimit AS role_connections
FROM pg_roles WHERE rolname = current_user
"""
_MISSING_RIGHTS = """
SELECT t.name || ' (' || string_agg(r.name, ', ') || ')'
FROM unnest($2::text[]) AS t(name), unnest($3::text[]) AS r(name)
WHERE NOT has_table_privilege(to_regclass(format('%I.%I', $1::text, t.name)), r.name)
GROUP BY t.name ORDER BY t.name
"""
_INVALID_INDEXES = """
SELECT format('%I.%I', n.nspname, c.relname) AS name, c.relname ~ '_ccnew\\d*$' AS leftover,
    p.pid IS NOT NULL AS building
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
    LEFT JOIN pg_stat_progress_create_index p ON p.index_relid = i.indexrelid
WHERE n.nspname = $1 AND NOT i.indisvalid ORDER BY c.relname
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, and what to do about it unless all is well."""

    check: str
    state: Literal["ok", "warning", "problem"]
    found: str
    advice: str = ""


async def examine(database: Database) -> list[Finding]:
    """Look at the connection, the server, its schema, roles, pooler, indexes, durability, clock and room for a pool.

    Writes nothing. A database that cannot be reached is a finding, and the only one.
    """
    try:
        async with database.connection() as connection:
            findings = [await _connection(connection, database)]
            (server,) = await connection.fetch(_SERVER)
            findings += _server(server)
            findings.append(await _clock(connection))
            rights = await _rights(connection, database, server)
            indexes = [_index(row) for row in await connection.fetch(_INVALID_INDEXES, database.settings.schema)]
        pooler = await _pooler(database)
    except AgentStoreError as error:
        advice = (
            "see that the server runs and can be reached from here: address, port, firewall, TLS"
            if isinstance(error, Unavailable)
            else "mend what the message names: the URL, the password, pg_hba.conf or the role's rights"
        )
        return [Finding("connection", "problem", str(error), advice)]
    findings += [
        await _schema(database),
        *rights,
        *(indexes or [Finding("indexes", "ok", "all are valid")]),
        pooler,
        _pool(server, database.settings, pooled=pooler.found.startswith("a pooler")),
    ]
    return findings


async def _connection(connection: asyncpg.Connection, database: Database) -> Finding:
    times = []
    for _ in range(9):
        began = time.perf_counter()
        await connection.fetchval("SELECT 1")
        times.append(time.perf_counter() - began)
    said = f"{database.where}, {median(times) * 1000:.2f} ms a round trip"
    if median(times) < _SLOW_ROUND_TRIP:
        return Finding("connection", "ok", said)
    return Finding("connection", "warning", said, "each call waits for one: run the application nearer to the database")


def _server(server: asyncpg.Record) -> Iterator[Finding]:
    major, version = server["major"], server["version"]
    if major < OLDEST:
        yield Finding("version", "problem", version, f"agentstore needs Postgres {OLDEST} or later: upgrade the server")
    elif major > NEWEST:
        yield Finding("version", "warning", version, f"newer than Postgres {NEWEST}, the newest that was tried")
    else:
        yield Finding("version", "ok", version)
    if server["encoding"] != "UTF8":
        advice = "make a database with ENCODING 'UTF8': this one cannot keep every language"
        yield Finding("encoding", "problem", server["encoding"], advice)
    if server["standby"]:
        advice = "connect to the primary: name all hosts in the URL, with target_session_attrs=read-write"
        yield Finding("writes", "problem", "this server is a standby, which takes none", advice)
    elif server["read_only"]:
        advice = "ALTER ROLE or ALTER DATABASE ... RESET default_transaction_read_only"
        yield Finding("writes", "problem", "default_transaction_read_only is on", advice)
    unsafe = [name for name in _DURABILITY if server[name] == "off"]
    if not unsafe:
        yield Finding("durability", "ok", f"synchronous_commit {server['synchronous_commit']}, fsync on")
    else:
        advice = "; ".join(f"{name}: {_DURABILITY[name]}" for name in unsafe)
        yield Finding("durability", "problem", f"{', '.join(unsafe)} off", advice)


async def _clock(connection: asyncpg.Connection) -> Finding:
    before = datetime.now(UTC)
    server = await connection.fetchval("SELECT clock_timestamp()")
    after = datetime.now(UTC)
    off = (server - (before + (after - before) / 2)).total_seconds()
    said = f"{off:+.1f} s from this machine's"
    if abs(off) < _CLOCK_OFF:
        return Finding("clock", "ok", said)
    return Finding("clock", "warning", said, "run NTP on both: no order depends on it, but times and logs will not fit")


async def _schema(database: Database) -> Finding:
    try:
        status = await migrate.status(database)
    except AgentStoreError as error:
        return Finding("schema", "problem", str(error), "give the role the rights that it lacks")
    said = f"{database.settings.schema!r} is at revision {status.current or 'none'}"
    if status.state == "behind":
        return Finding("schema", "problem", f"{said}, this release needs {status.head}", "run `agentstore upgrade`")
    if status.state == "ahead":
        advice = "upgrade agentstore here: this release works on the schema of the next one, not of later ones"
        return Finding("schema", "warning", f"{said}, which this release ({status.head}) does not know", advice)
    return Finding("schema", "ok", said)


async def _rights(connection: asyncpg.Connection, database: Database, server: asyncpg.Record) -> list[Finding]:
    role, schema = server["role"], database.settings.schema
    if server["superuser"]:
        advice = (
            "harmless on the embedded Postgres; elsewhere give the application a role of its own, with USAGE on the "
            f"schema and {', '.join(_RIGHTS)} on its tables"
        )
        return [Finding("role", "warning", f"{role!r} is a superuser", advice)]
    usage = await connection.fetchval("SELECT has_schema_privilege(to_regnamespace($1), 'USAGE')", f'"{schema}"')
    if usage is None:
        return [Finding("role", "ok", f"{role!r}; there is no schema yet")]
    if usage:
        tables = sorted(Base.metadata.tables)
        missing = [row[0] for row in await connection.fetch(_MISSING_RIGHTS, schema, tables, _RIGHTS)]
        if not missing:
            return [Finding("role", "ok", f"{role!r} may read and write every table")]
        said = f"{role!r} lacks rights on {'; '.join(missing)}"
    else:
        said = f"{role!r} may not use the schema {schema!r}"
    advice = (
        f'GRANT USAGE ON SCHEMA "{schema}" TO "{role}"; '
        f'GRANT {", ".join(_RIGHTS)} ON ALL TABLES IN SCHEMA "{schema}" TO "{role}"'
    )
    return [Finding("role", "problem", said, advice)]


def _index(row: asyncpg.Record) -> Finding:
    if row["building"]:
        return Finding("indexes", "ok", f"{row['name']} is being built")
    command = "DROP INDEX CONCURRENTLY" if row["leftover"] else "REINDEX INDEX CONCURRENTLY"
    return Finding("indexes", "problem", f"{row['name']} is INVALID, and not used", f"{command} {row['name']}")


async def _pooler(database: Database) -> Finding:
    """Find out whether a pooler is between us and the server, and whether it works by transaction.

    A pooler tells its clients a process id of its own. By transaction, one that waits for nothing gives its server
    connection to whoever begins a transaction next.
    """
    settings = database.settings
    told = settings.pooler == "transaction"
    shared = False
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(database.connection())
        process = await first.fetchval("SELECT pg_backend_pid()")
        pooled = process != first.get_server_pid()
        for _ in range(min(3, settings.pool_size - 1) if pooled else 0):
            other = await stack.enter_async_context(database.connection())
            await other.execute("BEGIN")
            stack.push_async_callback(other.execute, "ROLLBACK")
            shared = shared or process == await other.fetchval("SELECT pg_backend_pid()")
    if not pooled:
        if not told:
            return Finding("pooler", "ok", "none")
        advice = "unset AGENTSTORE_POOLER: without it statements are prepared once and time out at the server"
        return Finding("pooler", "warning", "none, and AGENTSTORE_POOLER says transaction", advice)
    if shared and not told:
        advice = "set AGENTSTORE_POOLER=transaction: prepared statements break, now and then, without it"
        return Finding("pooler", "problem", "a pooler by transaction", advice)
    if told and settings.migration_database_url is None:
        advice = (
            "set AGENTSTORE_MIGRATION_DATABASE_URL to a direct way, or run `agentstore upgrade` from where there is one"
        )
        return Finding("pooler", "warning", "a pooler by transaction, through which no migration can run", advice)
    return Finding("pooler", "ok", "a pooler by transaction" if shared or told else "a pooler by session")


def _pool(server: asyncpg.Record, settings: Settings, *, pooled: bool) -> Finding:
    if pooled:
        return Finding("pool", "ok", f"up to {settings.pool_size} connections of this process, to the pooler")
    most = server["connections"]
    if server["role_connections"] >= 0:
        most = min(most, server["role_connections"])
    said = (
        f"up to {settings.pool_size} connections of each process; the server takes {most}, {server['used']} are in use"
    )
    if settings.pool_size > most:
        return Finding("pool", "problem", said, f"set AGENTSTORE_POOL_SIZE under {most}, or raise max_connections")
    if server["used"] + settings.pool_size > most:
        advice = (
            "lower AGENTSTORE_POOL_SIZE or the number of replicas, raise max_connections, or put a pooler before it"
        )
        return Finding("pool", "warning", said, advice)
    return Finding("pool", "ok", said)
