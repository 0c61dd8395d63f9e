"""A look at a database with the eyes of the person who is woken for it: what is set up wrongly, and what to do."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Literal

import asyncpg

from agentstore.database.database import Database
from agentstore.database.errors import CONNECT_ERRORS, connection_error
from agentstore.database.pooler import is_pooled, is_transaction_pooler
from agentstore.errors import AgentStoreError, Unavailable
from agentstore.migrating.row_security import row_security_status
from agentstore.migrating.schema_status import status
from agentstore.models import Base
from agentstore.operations.distribution import distribution
from agentstore.search import analysis
from agentstore.settings import Settings

OLDEST, NEWEST = 15, 18
_SLOW_ROUND_TRIP = 0.05
_CLOCK_OFF = 2.0

_PROBE_TIMEOUT = 2.0
_DURABILITY = {
    "fsync": "a crash of the machine can destroy the database; set it on, by ALTER SYSTEM or the provider's parameters",
    "full_page_writes": "a crash of the machine can destroy the database; set it on in the same way",
    "synchronous_commit": "a crash of the server loses the last acknowledged messages; RESET it by ALTER ROLE, ALTER "
    "DATABASE or ALTER SYSTEM, wherever it is set",
}

_SERVER = """
SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int / 10000 AS major,
    current_setting('server_encoding') AS encoding, pg_is_in_recovery() AS standby,
    current_setting('default_transaction_read_only') = 'on' AS read_only,
    current_setting('synchronous_commit') AS synchronous_commit, current_setting('fsync') AS fsync,
    current_setting('full_page_writes') AS full_page_writes,
    EXISTS (SELECT FROM pg_settings WHERE name = 'neon.tenant_id') AS neon,
    rolname AS role, rolsuper AS superuser
FROM pg_roles WHERE rolname = current_user
"""
# Counted by numbackends, and not in pg_stat_activity, which hides other roles' sessions from an ordinary role.
_CONNECTIONS = """
SELECT 'the server' AS name, 'max_connections' AS setting,
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true)::int, 0) AS most,
    (SELECT sum(numbackends)::int - 1 FROM pg_stat_database) AS used
UNION ALL
SELECT 'the database', 'its CONNECTION LIMIT', datconnlimit,
    (SELECT numbackends - 1 FROM pg_stat_database WHERE datname = current_database())
FROM pg_database WHERE datname = current_database() AND datconnlimit >= 0
UNION ALL
SELECT 'the role', 'its CONNECTION LIMIT', rolconnlimit,
    (SELECT count(*)::int - 1 FROM pg_stat_activity WHERE usename = current_user)
FROM pg_roles WHERE rolname = current_user AND rolconnlimit >= 0
"""
_RIGHTS = """
WITH needed AS (
    SELECT format('%I.%I', $1::text, t.name) AS name, r.name AS privilege
    FROM unnest($2::text[]) AS t(name), unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) AS r(name)
    UNION ALL SELECT format('%I.alembic_version', $1::text), 'SELECT'
), missing AS (
    SELECT name, string_agg(privilege, ', ') AS privileges FROM needed
    WHERE NOT has_table_privilege(to_regclass(name), privilege) GROUP BY name
)
SELECT (SELECT string_agg(format('%s (%s)', name, privileges), '; ' ORDER BY name) FROM missing) AS missing,
    (SELECT string_agg(format('GRANT %s ON %s TO %I', privileges, name, current_user), '; ' ORDER BY name) FROM missing)
        AS grants
"""
_GRANTS = """
SELECT format('GRANT USAGE ON SCHEMA %I TO %I; ', $1::text, current_user)
    || format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %I TO %I; ', $1::text, current_user)
    || format('ALTER DEFAULT PRIVILEGES IN SCHEMA %I GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO %I',
        $1::text, current_user)
"""
# Whoever builds an index concurrently, or vacuums, holds this lock; pg_locks shows it to every role.
_INVALID_INDEXES = """
SELECT format('%I.%I', n.nspname, c.relname) AS name, c.relname ~ '_cc(new|old)\\d*$' AS leftover,
    EXISTS (
        SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
        WHERE l.relation = i.indrelid AND l.mode = 'ShareUpdateExclusiveLock' AND d.datname = current_database()
    ) AS busy
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND NOT i.indisvalid ORDER BY c.relname
"""
# As the last ANALYZE saw it: no table is read.
_ANALYSES = """
SELECT most_common_vals::text::text[] FROM pg_stats
WHERE schemaname = $1 AND tablename = 'memories' AND attname = 'analysis'
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, and what to do about it unless all is well."""

    check: str
    state: Literal["ok", "warning", "problem"]
    found: str
    advice: str = ""


async def examine(database: Database) -> list[Finding]:
    """Look at the connection, the server, its schema, memories, roles, pooler, indexes, durability, clock and pool.

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
            limits = await connection.fetch(_CONNECTIONS)
            analyses = await connection.fetchval(_ANALYSES, database.settings.schema)
    except AgentStoreError as error:
        return [Finding("connection", "problem", str(error), _advice(error))]
    findings += [await _schema(database), rights, *(indexes or [Finding("indexes", "ok", "all are valid")])]
    findings.append(_memories(analyses or [], database.settings))
    findings += await _row_security(database) + await _distribution(database)
    pooler = await _pooler(database)
    findings.append(pooler)
    if database.settings.migration_database_url is not None:
        findings.append(await _migrations(database))
    findings.append(_pool(limits, database.settings, pooled=pooler.found.startswith("a pooler")))
    return findings


def _advice(error: AgentStoreError) -> str:
    """Say what to do about a database that could not be asked."""
    state = getattr(error.__cause__, "sqlstate", None)
    if state == "53300":
        return "every connection is taken: lower AGENTSTORE_POOL_SIZE or the number of replicas, or raise the limit"
    if state == "57P03":
        return "the server starts or stops: wait for it"
    if isinstance(error, Unavailable):
        return "see that the server runs and can be reached from here: address, port, firewall, TLS"
    return "correct what the message names: the URL, the password, pg_hba.conf or the role's rights"


def _memories(analyses: list[str], settings: Settings) -> Finding:
    now = analysis.fingerprint(analysis.check_language(settings.text_search_config))
    if others := [each for each in analyses if each != now]:
        return Finding(
            "memories",
            "warning",
            f"some were made findable by {', '.join(others)}, and this release looks by {now}",
            "run `agentstore reindex`, which may run beside everything else",
        )
    return Finding("memories", "ok", f"those that there were at the last ANALYZE are found by {now}")


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
        advice = (
            "see first whether the provider has set default_transaction_read_only because the disk is full; else RESET "
            "it where it is set"
        )
        yield Finding("writes", "problem", "default_transaction_read_only is on", advice)
    # Neon's storage keeps what is written without them.
    without = ("fsync", "full_page_writes") if server["neon"] else ()
    unsafe = [name for name in _DURABILITY if server[name] == "off" and name not in without]
    if not unsafe:
        yield Finding("durability", "ok", f"synchronous_commit {server['synchronous_commit']}, fsync {server['fsync']}")
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
    return Finding(
        "clock", "warning", said, "run NTP on both: no order depends on it, but times and logs will not line up"
    )


async def _schema(database: Database) -> Finding:
    try:
        found = await status(database)
    except AgentStoreError as error:
        return Finding("schema", "problem", str(error), _advice(error))
    said = f"{database.settings.schema!r} is at revision {found.current or 'none'}"
    if found.state == "behind":
        return Finding("schema", "problem", f"{said}, this release needs {found.head}", "run `agentstore upgrade`")
    if found.state == "post pending":
        advice = "when no replica of the release before is left: run `agentstore upgrade`"
        return Finding("schema", "ok", f"{said}, which this release works on; the last migrations wait", advice)
    if found.state == "ahead":
        advice = "upgrade agentstore here: this release works on the schema of the next one, not of later ones"
        return Finding("schema", "warning", f"{said}, which this release ({found.head}) does not know", advice)
    return Finding("schema", "ok", said)


async def _row_security(database: Database) -> list[Finding]:
    """Compare the policies with the setting; nothing is found where there is neither."""
    found, told = await row_security_status(database), database.settings.row_level_security
    if found.state == "disabled" and not told:
        return []
    name = "row security"
    if found.state == "disabled":
        said = "AGENTSTORE_ROW_LEVEL_SECURITY is on, and no table has a policy"
        return [Finding(name, "warning", said, "run `agentstore rls enable`")]
    if found.state == "incomplete":
        return [Finding(name, "problem", f"no policy on {', '.join(found.open)}", "run `agentstore rls enable`")]
    if not told and not found.sees_all:
        said = "the tables have policies, and this login sees no row"
        return [Finding(name, "problem", said, "set AGENTSTORE_ROW_LEVEL_SECURITY=true")]
    if told and found.sees_all:
        advice = "give the application a role that is no superuser and has no BYPASSRLS"
        return [Finding(name, "warning", "the tables have policies, and this login sees all rows all the same", advice)]
    return [Finding(name, "ok", "every table has a policy")]


async def _distribution(database: Database) -> list[Finding]:
    """Find tables that are not where the others are; nothing is found where Citus spreads none."""
    found = await distribution(database)
    if found.state == "local":
        return []
    if found.state == "distributed":
        return [Finding("distribution", "ok", "every table is spread by user")]
    said = f"not spread by user: {', '.join(found.local)}" if found.local else "the coordinator keeps rows of before"
    return [Finding("distribution", "problem", said, "run `agentstore distribute`")]


async def _rights(connection: asyncpg.Connection, database: Database, server: asyncpg.Record) -> Finding:
    role, schema = server["role"], database.settings.schema
    if server["superuser"]:
        advice = (
            "harmless on the embedded Postgres; elsewhere give the application a role of its own, with USAGE on the "
            "schema and SELECT, INSERT, UPDATE, DELETE on its tables"
        )
        return Finding("role", "warning", f"{role!r} is a superuser", advice)
    usage = await connection.fetchval("SELECT has_schema_privilege(to_regnamespace($1), 'USAGE')", f'"{schema}"')
    if usage is None:
        return Finding("role", "ok", f"{role!r}; there is no schema yet")
    if not usage:
        grants = await connection.fetchval(_GRANTS, schema)
        return Finding("role", "problem", f"{role!r} may not use the schema {schema!r}", grants)
    rights = await connection.fetchrow(_RIGHTS, schema, sorted(Base.metadata.tables))
    assert rights is not None  # noqa: S101
    if rights["missing"] is not None:
        return Finding("role", "problem", f"{role!r} lacks rights: {rights['missing']}", rights["grants"])
    return Finding("role", "ok", f"{role!r} has every right that is needed on the tables that there are")


def _index(row: asyncpg.Record) -> Finding:
    if row["busy"]:
        advice = "if it is being built, look again when that is done; nothing is to be dropped until then"
        return Finding("indexes", "warning", f"{row['name']} is INVALID, and something works on its table", advice)
    command = "DROP INDEX CONCURRENTLY" if row["leftover"] else "REINDEX INDEX CONCURRENTLY"
    return Finding("indexes", "problem", f"{row['name']} is INVALID, and not used", f"{command} {row['name']}")


async def _pooler(database: Database) -> Finding:
    """Find out whether a pooler is between us and the server, and whether it works by transaction."""
    settings = database.settings
    told = settings.pooler == "transaction"
    pooled = shared = False
    try:
        # In little time: a busy pooler makes whoever comes wait, and others wait for what is held here.
        async with asyncio.timeout(_PROBE_TIMEOUT), database.connection() as first:
            pooled = await is_pooled(first)
            if pooled:
                shared = await is_transaction_pooler(first, database.connection, tries=min(3, settings.pool_size - 1))
    except (AgentStoreError, TimeoutError) as error:
        if not pooled:
            return Finding("pooler", "warning", f"could not be looked for: {error or 'no answer in time'}", "try again")
    if not pooled:
        if not told:
            return Finding("pooler", "ok", "none")
        advice = "unset AGENTSTORE_POOLER: without it statements are prepared once and time out at the server"
        return Finding("pooler", "warning", "none, and AGENTSTORE_POOLER says transaction", advice)
    if shared and not told:
        advice = "set AGENTSTORE_POOLER=transaction: without it prepared statements break now and then"
        return Finding("pooler", "problem", "a pooler in transaction mode", advice)
    said = "a pooler in transaction mode" if shared else "a pooler, not seen to be in transaction mode"
    if told and settings.migration_database_url is None:
        advice = "set AGENTSTORE_MIGRATION_DATABASE_URL to a direct URL of the same database, for migrations"
        return Finding("pooler", "warning", f"{said}, through which no migration can run", advice)
    return Finding("pooler", "ok", said)


async def _migrations(database: Database) -> Finding:
    try:
        async with database.migration_engine() as engine, engine.connect():
            return Finding("migrations", "ok", "AGENTSTORE_MIGRATION_DATABASE_URL answers")
    except CONNECT_ERRORS as error:
        failure = connection_error(error, "AGENTSTORE_MIGRATION_DATABASE_URL")
        return Finding("migrations", "problem", str(failure), _advice(failure))


def _pool(limits: list[asyncpg.Record], settings: Settings, *, pooled: bool) -> Finding:
    size = settings.pool_size
    if pooled:
        return Finding("pool", "ok", f"up to {size} connections of this process, to the pooler")
    tightest = min(limits, key=lambda limit: limit["most"] - limit["used"])
    said = f"up to {size} connections a process; {tightest['name']} takes {tightest['most']}, {tightest['used']} in use"
    least = min(limits, key=lambda limit: limit["most"])
    if size > least["most"]:
        advice = f"set AGENTSTORE_POOL_SIZE to at most {least['most']}, or raise {least['setting']}"
        return Finding("pool", "problem", said, advice)
    if tightest["used"] + size > tightest["most"]:
        advice = f"lower AGENTSTORE_POOL_SIZE or the number of replicas, raise {tightest['setting']}, or use a pooler"
        return Finding("pool", "warning", said, advice)
    return Finding("pool", "ok", said)
