"""Diagnose a database: what is misconfigured, and what to do about it."""

import asyncio
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import median
from typing import Literal

import asyncpg

from agentstore.database.database import Database
from agentstore.database.failover import ACCEPTS_WRITES
from agentstore.database.pooler import is_pooled, is_transaction_pooler
from agentstore.database.server import WRITE_FILE, Identity, read_identity
from agentstore.errors import AgentStoreError, StatementFailed, Unavailable
from agentstore.migrating.connections import dedicated_connection, driver_connection
from agentstore.migrating.drift import find_drift
from agentstore.migrating.row_security import RowSecurity, row_security_status
from agentstore.migrating.schema_status import status
from agentstore.models import Base
from agentstore.operations import adapters
from agentstore.operations.cluster import describe_cluster
from agentstore.operations.vacuum import undone
from agentstore.sandbox.cgroups import find_cgroups
from agentstore.search import analysis
from agentstore.settings import Settings

# Versions of Postgres that are tested.
OLDEST, NEWEST = 15, 18
# Seconds.
_SLOW_ROUND_TRIP = 0.05
_LARGE_CLOCK_OFFSET = 2.0
_LARGE_LAG = 10.0
_PROBE_TIMEOUT = 2.0
_DURABILITY = {
    "fsync": "a crash of the machine can corrupt the database; turn it on by ALTER SYSTEM or in the provider's console",
    "full_page_writes": "a crash of the machine can corrupt the database; turn it on in the same way",
    "synchronous_commit": "a crash of the server loses the last acknowledged messages; RESET it with ALTER ROLE, ALTER "
    "DATABASE or ALTER SYSTEM, wherever it is set",
}

_SERVER = """
SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int / 10000 AS major,
    current_setting('server_encoding') AS encoding, pg_is_in_recovery() AS standby,
    current_setting('default_transaction_read_only') = 'on' AS read_only,
    current_setting('synchronous_commit') AS synchronous_commit, current_setting('fsync') AS fsync,
    current_setting('full_page_writes') AS full_page_writes,
    current_setting('default_transaction_isolation') AS isolation,
    format('ALTER ROLE %I IN DATABASE %I SET default_transaction_isolation = %L', session_user, current_database(),
        'read committed') AS set_isolation,
    EXISTS (SELECT FROM pg_settings WHERE name = 'neon.tenant_id') AS neon,
    rolname AS role, rolsuper AS superuser
FROM pg_roles WHERE rolname = current_user
"""
# The default level of the login in this database. That of the server cannot be read from a connection of a store, which
# sets its own.
_DEFAULT_ISOLATION = """
SELECT substr(entry, length('default_transaction_isolation=') + 1)
FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) AS entry
WHERE entry LIKE 'default_transaction_isolation=%'
    AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
    AND s.setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = session_user))
ORDER BY s.setrole = 0, s.setdatabase = 0 LIMIT 1
"""
# Counted with numbackends: pg_stat_activity shows an ordinary role too little of other roles' sessions.
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
    UNION ALL SELECT format('%I.agentstore_version', $1::text), 'SELECT'
    UNION ALL SELECT format('%I.alembic_version', $1::text), 'SELECT'  -- its former name
    WHERE to_regclass(format('%I.agentstore_version', $1::text)) IS NULL
        AND to_regclass(format('%I.messages', $1::text)) IS NOT NULL
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
# What a login that migrates lacks, as the statements that give it.
_MIGRATOR = """
SELECT current_user AS role,
    CASE
        WHEN to_regnamespace($1) IS NULL AND NOT has_database_privilege(current_database(), 'CREATE')
            THEN format('GRANT CREATE ON DATABASE %I TO %I', current_database(), current_user)
        WHEN NOT (
            has_schema_privilege(to_regnamespace($1), 'USAGE') AND has_schema_privilege(to_regnamespace($1), 'CREATE')
        )
            THEN format('GRANT USAGE, CREATE ON SCHEMA %I TO %I', $2::text, current_user)
    END AS create,
    (
        SELECT string_agg(
            format('ALTER TABLE %I.%I OWNER TO %I', $2::text, c.relname, current_user), '; ' ORDER BY c.relname
        )
        FROM pg_class c
        WHERE c.relnamespace = to_regnamespace($1) AND c.relkind = 'r' AND NOT pg_has_role(c.relowner, 'USAGE')
    ) AS owner,
    CASE WHEN EXISTS (
        SELECT FROM pg_class c
        WHERE c.relnamespace = to_regnamespace($1) AND c.relkind = 'r' AND row_security_active(c.oid)
    ) THEN format('ALTER ROLE %I BYPASSRLS', current_user) END AS policies
"""
_POSITION = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END::text"
_REPLICA = """
SELECT pg_is_in_recovery() AS standby, EXISTS (SELECT FROM pg_stat_subscription) AS subscriber
"""
# How far a standby is behind a position of its primary; in seconds, the age of the last transaction that it replayed.
_LAG = """
SELECT greatest(pg_wal_lsn_diff($1::text::pg_lsn, pg_last_wal_replay_lsn()), 0)::bigint AS bytes,
    pg_get_wal_replay_pause_state() <> 'not paused' AS paused,
    coalesce(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()), 0)::float8 AS age
"""
# CREATE INDEX CONCURRENTLY and VACUUM hold this lock; every role can see it in pg_locks.
_INVALID_INDEXES = """
SELECT format('%I.%I', n.nspname, c.relname) AS name, c.relname ~ '_cc(new|old)\\d*$' AS leftover,
    EXISTS (
        SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
        WHERE l.relation = i.indrelid AND l.mode = 'ShareUpdateExclusiveLock' AND d.datname = current_database()
    ) AS busy
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND NOT i.indisvalid ORDER BY c.relname
"""
# From the statistics of the last ANALYZE: no table is scanned.
_ANALYSES = """
SELECT most_common_vals::text::text[] FROM pg_stats
WHERE schemaname = $1 AND tablename = 'memories' AND attname = 'analysis'
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check; `advice` says what to do unless the state is "ok"."""

    check: str
    state: Literal["ok", "warning", "problem"]
    found: str
    advice: str = ""


async def examine(database: Database) -> list[Finding]:
    """Check a database and its configuration, and return the findings. Writes nothing; never raises for the database.

    The checks: connection, version, encoding, writes, durability, isolation, clock, schema, drift, role, indexes,
    vacuum, memories, row security, distribution, pooler, migrations, replica, pool, sandboxes, adapters. A check that
    does not apply is left out. If the database cannot be reached, that is the only finding.
    """
    try:
        async with database.connection() as connection:
            findings = [await _connection(connection, database)]
            (server,) = await connection.fetch(_SERVER)
            findings += _server(server)
            if not (server["standby"] or server["read_only"]):
                findings += await _space(connection)
            default_isolation = await connection.fetchval(_DEFAULT_ISOLATION)
            identity = await read_identity(connection)
            findings.append(await _clock(connection))
            rights = await _rights(connection, database, server)
            indexes = [_index(row) for row in await connection.fetch(_INVALID_INDEXES, database.settings.schema)]
            vacuum = [
                Finding("vacuum", "warning", *each) for each in await undone(connection, database.settings.schema)
            ]
            limits = await connection.fetch(_CONNECTIONS)
            analyses = await connection.fetchval(_ANALYSES, database.settings.schema)
    except AgentStoreError as error:
        return [Finding("connection", "problem", str(error), _advice(error))]
    findings += _isolation(server, default_isolation or await _isolation_of_server(database))
    findings += [
        await _schema(database),
        *await _drift(database),
        rights,
        *(indexes or [Finding("indexes", "ok", "all indexes are valid")]),
        *(vacuum or [Finding("vacuum", "ok", "few dead rows, recent statistics, dense indexes")]),
    ]
    security = await row_security_status(database)
    # Postgres hides statistics of rows that a policy hides.
    if "memories" not in security.filtered:
        findings.append(_memories(analyses or [], database.settings))
    findings += _row_security(security, is_set=database.settings.row_level_security) + await _distribution(database)
    pooler = await _pooler(database)
    findings.append(pooler)
    if database.settings.migration_database_url is not None:
        findings.append(await _migrations(database, identity))
    if database.replica is not None:
        findings.append(await _replica(database, database.replica.database, identity))
    findings.append(_pool(limits, database.settings, pooled=pooler.found.startswith("a pooler")))
    return findings + _sandboxes(database.settings) + _adapters()


def _advice(error: AgentStoreError) -> str:
    """Return what to do about a database that could not be queried."""
    state = getattr(error.__cause__, "sqlstate", None)
    if state == "53300":
        return "all connections are in use: lower AGENTSTORE_POOL_SIZE or the number of replicas, or raise the limit"
    if state == "57P03":
        return "the server is starting or stopping: wait for it"
    if isinstance(error, Unavailable):
        return "check that the server is running and reachable from here: address, port, firewall, TLS"
    return "correct what the message names: the URL, the password, pg_hba.conf or the role's privileges"


def _memories(analyses: list[str], settings: Settings) -> Finding:
    now = analysis.fingerprint(analysis.check_language(settings.text_search_config))
    if others := [each for each in analyses if each != now]:
        return Finding(
            "memories",
            "warning",
            f"some were indexed with {', '.join(others)}, and this release searches with {now}",
            "run `agentstore reindex`; the store can be in use meanwhile",
        )
    return Finding("memories", "ok", f"at the last ANALYZE all were indexed with {now}")


async def _connection(connection: asyncpg.Connection, database: Database) -> Finding:
    times = []
    for _ in range(9):
        began = time.perf_counter()
        await connection.fetchval("SELECT 1")
        times.append(time.perf_counter() - began)
    found = f"{database.where}, {median(times) * 1000:.2f} ms per round trip"
    if median(times) < _SLOW_ROUND_TRIP:
        return Finding("connection", "ok", found)
    advice = "every call takes at least one round trip: run the application closer to the database"
    return Finding("connection", "warning", found, advice)


async def _space(connection: asyncpg.Connection) -> list[Finding]:
    """Return a problem if the server cannot write a file: reads work on a full disk, and so do most of the checks."""
    try:
        await connection.execute(WRITE_FILE)
    except asyncpg.PostgresError as error:
        await connection.execute("ROLLBACK")
        advice = "enlarge the disk, and delete nothing in pg_wal; an inactive replication slot may retain WAL"
        return [Finding("writes", "problem", str(error), advice if isinstance(error, asyncpg.DiskFullError) else "")]
    return []


def _server(server: asyncpg.Record) -> Iterator[Finding]:
    major, version = server["major"], server["version"]
    if major < OLDEST:
        yield Finding("version", "problem", version, f"agentstore needs Postgres {OLDEST} or later: upgrade the server")
    elif major > NEWEST:
        yield Finding("version", "warning", version, f"newer than Postgres {NEWEST}, the newest tested version")
    else:
        yield Finding("version", "ok", version)
    if server["encoding"] != "UTF8":
        advice = "create a database with ENCODING 'UTF8': this one cannot store every language"
        yield Finding("encoding", "problem", server["encoding"], advice)
    if server["standby"]:
        advice = "connect to the primary: name all hosts in the URL, with target_session_attrs=read-write"
        yield Finding("writes", "problem", "this server is a standby, which accepts no writes", advice)
    elif server["read_only"]:
        advice = (
            "check first whether the provider has set default_transaction_read_only because the disk is full; "
            "otherwise RESET it where it is set"
        )
        yield Finding("writes", "problem", "default_transaction_read_only is on", advice)
    # Neon's storage is durable without these two.
    exempt = ("fsync", "full_page_writes") if server["neon"] else ()
    unsafe = [name for name in _DURABILITY if server[name] == "off" and name not in exempt]
    if not unsafe:
        yield Finding("durability", "ok", f"synchronous_commit {server['synchronous_commit']}, fsync {server['fsync']}")
    else:
        advice = "; ".join(f"{name}: {_DURABILITY[name]}" for name in unsafe)
        yield Finding("durability", "problem", f"{', '.join(unsafe)} off", advice)


async def _isolation_of_server(database: Database) -> str | None:
    """Return the default isolation level of a direct connection, which sets none; None if there is none."""
    try:
        async with dedicated_connection(database) as connection:
            driver = await driver_connection(connection)
            level: str = await driver.fetchval("SELECT current_setting('default_transaction_isolation')")
    except AgentStoreError:
        return None  # reported by the checks of the pooler and of migrations
    return level


def _isolation(server: asyncpg.Record, default: str | None) -> Iterator[Finding]:
    """Report a default isolation level other than READ COMMITTED, and what a store does about it."""
    used = server["isolation"]
    if used != "read committed":
        # Through a pooler or with the caller's engine, a connection does not set its own.
        found = (
            f"the default is {used}: behind a pooler or with an engine, each statement is executed in a transaction of "
            "read committed, which takes two more round trips"
        )
        yield Finding("isolation", "warning", found, f"run {server['set_isolation']}")
    elif default is not None and default != used:
        yield Finding("isolation", "ok", f"the default is {default}, and each connection of a store sets {used}")


async def _clock(connection: asyncpg.Connection) -> Finding:
    before = datetime.now(UTC)
    server = await connection.fetchval("SELECT clock_timestamp()")
    after = datetime.now(UTC)
    offset = (server - (before + (after - before) / 2)).total_seconds()
    found = f"{offset:+.1f} s from this machine's"
    if abs(offset) < _LARGE_CLOCK_OFFSET:
        return Finding("clock", "ok", found)
    advice = "run NTP on both: no order depends on the clocks, but timestamps and logs will not match"
    return Finding("clock", "warning", found, advice)


async def _schema(database: Database) -> Finding:
    try:
        found = await status(database)
    except AgentStoreError as error:
        return Finding("schema", "problem", str(error), _advice(error))
    at = f"{database.settings.schema!r} is at revision {found.current or 'none'}"
    if found.state == "behind":
        return Finding("schema", "problem", f"{at}, this release needs {found.head}", "run `agentstore upgrade`")
    if found.state == "post pending":
        advice = "when no replica of the previous release is left: run `agentstore upgrade`"
        return Finding("schema", "ok", f"{at}, on which this release works; later migrations are pending", advice)
    if found.state == "ahead":
        advice = "upgrade agentstore here soon: this release works on the schema of the next release, not of later ones"
        return Finding("schema", "warning", f"{at}, newer than this release ({found.head})", advice)
    return Finding("schema", "ok", at)


async def _drift(database: Database) -> list[Finding]:
    """Return a finding for each difference between the schema and its revision, with the statement that corrects it."""
    try:
        found = await find_drift(database)
    except AgentStoreError as error:
        return [Finding("drift", "problem", str(error), _advice(error))]
    if not found:
        return [Finding("drift", "ok", "the schema has not been changed besides its migrations")]
    return [Finding("drift", "problem", each.found, each.statement) for each in found]


def _row_security(found: RowSecurity, *, is_set: bool) -> list[Finding]:
    """Compare the policies with AGENTSTORE_ROW_LEVEL_SECURITY; no finding if neither is in use."""
    name = "row security"
    if found.filtered and not is_set:
        description = f"policies on {', '.join(found.filtered)} hide rows from this login: every call is refused"
        advice = "set AGENTSTORE_ROW_LEVEL_SECURITY=true, or for calls about all users connect as a role with BYPASSRLS"
        return [Finding(name, "problem", description, advice)]
    if found.state == "disabled" and not is_set:
        return []
    if found.state == "disabled":
        description = "AGENTSTORE_ROW_LEVEL_SECURITY is on, and no table has a policy"
        return [Finding(name, "warning", description, "run `agentstore rls enable`")]
    if found.state == "incomplete":
        return [Finding(name, "problem", f"no policy on {', '.join(found.open)}", "run `agentstore rls enable`")]
    if is_set and found.sees_all:
        advice = "give the application a role that is not a superuser and does not have BYPASSRLS"
        return [Finding(name, "warning", "the tables have policies, but this login sees all rows", advice)]
    return [Finding(name, "ok", "every table has a policy")]


async def _distribution(database: Database) -> list[Finding]:
    """Check that all tables are distributed, and the servers; no finding if no table is."""
    found = await describe_cluster(database)
    if found is None:
        return []
    description, problems = found
    return [
        Finding("distribution", "problem" if each.is_severe else "warning", each.found, each.advice)
        for each in problems
    ] or [Finding("distribution", "ok", description)]


async def _rights(connection: asyncpg.Connection, database: Database, server: asyncpg.Record) -> Finding:
    role, schema = server["role"], database.settings.schema
    if server["superuser"]:
        advice = (
            "harmless on the embedded Postgres; otherwise give the application a role of its own, with USAGE on the "
            "schema and SELECT, INSERT, UPDATE, DELETE on its tables"
        )
        return Finding("role", "warning", f"{role!r} is a superuser", advice)
    usage = await connection.fetchval("SELECT has_schema_privilege(to_regnamespace($1), 'USAGE')", f'"{schema}"')
    if usage is None:
        return Finding("role", "ok", f"{role!r}; the schema does not exist yet")
    if not usage:
        grants = await connection.fetchval(_GRANTS, schema)
        return Finding("role", "problem", f"{role!r} may not use the schema {schema!r}", grants)
    rights = await connection.fetchrow(_RIGHTS, schema, sorted(Base.metadata.tables))
    assert rights is not None  # noqa: S101
    if rights["missing"] is not None:
        return Finding("role", "problem", f"{role!r} lacks privileges: {rights['missing']}", rights["grants"])
    return Finding("role", "ok", f"{role!r} has all privileges that it needs on the existing tables")


def _index(row: asyncpg.Record) -> Finding:
    if row["busy"]:
        advice = "if it is being built, check again afterwards; drop nothing until then"
        return Finding(
            "indexes",
            "warning",
            f"{row['name']} is INVALID, and an index build or a VACUUM is running on its table",
            advice,
        )
    command = "DROP INDEX CONCURRENTLY" if row["leftover"] else "REINDEX INDEX CONCURRENTLY"
    return Finding("indexes", "problem", f"{row['name']} is INVALID: no query uses it", f"{command} {row['name']}")


async def _pooler(database: Database) -> Finding:
    """Check whether a pooler is in between, and whether it is in transaction mode."""
    settings = database.settings
    is_set = settings.pooler == "transaction"
    pooled = shared = False
    try:
        # Briefly: behind a busy pooler this waits for connections, and other clients wait for those that it holds.
        async with asyncio.timeout(_PROBE_TIMEOUT), database.connection() as first:
            pooled = await is_pooled(first)
            if pooled:
                shared = await is_transaction_pooler(first, database.connection, tries=min(3, settings.pool_size - 1))
    except (AgentStoreError, TimeoutError) as error:
        if not pooled:
            return Finding("pooler", "warning", f"could not be detected: {error or 'no answer in time'}", "try again")
    if not pooled:
        if not is_set:
            return Finding("pooler", "ok", "none")
        advice = "unset AGENTSTORE_POOLER: then statements are prepared once, and the server enforces their timeout"
        return Finding("pooler", "warning", "none, but AGENTSTORE_POOLER is transaction", advice)
    if shared and not is_set:
        advice = "set AGENTSTORE_POOLER=transaction: otherwise prepared statements fail now and then"
        return Finding("pooler", "problem", "a pooler in transaction mode", advice)
    found = "a pooler in transaction mode" if shared else "a pooler, apparently not in transaction mode"
    if is_set and settings.migration_database_url is None:
        advice = "set AGENTSTORE_MIGRATION_DATABASE_URL to a direct URL of the same database, for migrations"
        return Finding("pooler", "warning", f"{found}, through which no migration can run", advice)
    return Finding("pooler", "ok", found)


async def _migrations(database: Database, identity: Identity) -> Finding:
    """Check the database that AGENTSTORE_MIGRATION_DATABASE_URL leads to, and the privileges of its login."""
    schema, name = database.settings.schema, "AGENTSTORE_MIGRATION_DATABASE_URL"
    try:
        async with dedicated_connection(database) as connection:
            driver = await driver_connection(connection)
            direct = await read_identity(driver)
            accepts_writes = await driver.fetchval(ACCEPTS_WRITES)
            (rights,) = await driver.fetch(_MIGRATOR, f'"{schema}"', schema)
    except AgentStoreError as error:
        return Finding("migrations", "problem", str(error), _advice(error))
    if not direct.is_same(identity):
        found = f"{name} leads to another database: {database.where_directly}"
        return Finding("migrations", "problem", found, f"set it to a direct URL of the database of {database.where}")
    if not accepts_writes:
        found = f"{name} leads to a server that accepts no writes"
        advice = "connect to the primary: name all hosts in the URL, with target_session_attrs=read-write"
        return Finding("migrations", "problem", found, advice)
    missing = [text for text in (rights["create"], rights["owner"], rights["policies"]) if text is not None]
    if missing:
        found = f"the login of {name}, {rights['role']!r}, lacks privileges"
        return Finding("migrations", "problem", found, f"as a superuser, run {'; '.join(missing)}")
    found = f"{rights['role']!r} has all privileges that {name} needs"
    return Finding("migrations", "ok", found)


async def _replica(database: Database, replica: Database, identity: Identity) -> Finding:
    """Check that AGENTSTORE_READ_URL leads to a standby of the same database, its revision, and how far it lags."""
    name = "AGENTSTORE_READ_URL"
    try:
        async with database.connection() as connection:
            position = await connection.fetchval(_POSITION)
        await replica.check_server()
        async with replica.connection() as connection:
            other = await read_identity(connection)
            (server,) = await connection.fetch(_REPLICA)
        if not other.is_same(identity):
            found = f"{name} leads to another database: {replica.where}"
            if server["subscriber"]:
                advice = (
                    "it subscribes to a publication: check that all tables of the schema are replicated from this one"
                )
                return Finding("replica", "warning", found, advice)
            return Finding("replica", "problem", found, f"set it to a replica of {database.where}")
        if not server["standby"]:
            advice = "set it to a standby: it takes no load off this server, and needs as many connections again"
            return Finding("replica", "warning", f"{name} leads to the primary", advice)
        here, there = (await status(database)).current, (await status(replica)).current
        async with replica.connection() as connection:
            (lag,) = await connection.fetch(_LAG, position)
    except StatementFailed as error:  # not every provider has these functions
        return Finding("replica", "ok", f"{replica.where}; its lag cannot be read: {error}")
    except AgentStoreError as error:
        return Finding("replica", "problem", f"reads are executed on {database.where}: {error}", _advice(error))
    found = f"a standby, {lag['bytes']:,} bytes behind"
    if lag["paused"]:
        return Finding("replica", "warning", f"{found}, whose replay is paused", "on it, SELECT pg_wal_replay_resume()")
    if lag["bytes"] and lag["age"] > _LARGE_LAG:
        advice = "find out what replay waits for: long queries on the standby, its disk, or the network"
        return Finding("replica", "warning", f"{found}, its last transaction {lag['age']:.0f} s old", advice)
    if here != there:
        return Finding("replica", "warning", f"{found}, at revision {there or 'none'} instead of {here}", "wait for it")
    return Finding("replica", "ok", found)


def _sandboxes(settings: Settings) -> list[Finding]:
    """Return what limits the sandboxes of this machine, if there may be any."""
    provider = settings.sandbox_provider or ("remote" if settings.sandbox_url else "bubblewrap")
    if provider != "bubblewrap" or shutil.which("bwrap") is None:
        return []
    cgroups = find_cgroups()
    if cgroups is not None:
        found = f"each has a cgroup (version {cgroups.version}), in which the kernel limits it as a whole"
    else:
        found = (
            "this process may not create cgroups: the memory of each is measured several times a second, and may "
            "exceed its limit by half for a moment"
        )
    return [Finding("sandboxes", "ok", found)]


def _adapters() -> list[Finding]:
    findings, supported = [], []
    for extra, release in adapters.installed().items():
        package, releases = adapters.SUPPORTED[extra]
        if adapters.is_supported(extra, release):
            supported.append(f"{package} {release}")
            continue
        found = f"{package} {release} is installed, and its adapter supports {releases}"
        advice = f"if you use the adapter, `pip install 'agentstore-postgres[{extra}]'` installs a supported release"
        findings.append(Finding("adapters", "warning", found, advice))
    if supported and not findings:
        findings.append(Finding("adapters", "ok", f"supported packages: {', '.join(supported)}"))
    return findings


def _pool(limits: list[asyncpg.Record], settings: Settings, *, pooled: bool) -> Finding:
    size = settings.pool_size
    if pooled:
        return Finding("pool", "ok", f"up to {size} connections per process, to the pooler")
    tightest = min(limits, key=lambda limit: limit["most"] - limit["used"])
    found = (
        f"up to {size} connections per process; {tightest['name']} allows {tightest['most']}, {tightest['used']} in use"
    )
    least = min(limits, key=lambda limit: limit["most"])
    if size > least["most"]:
        advice = f"set AGENTSTORE_POOL_SIZE to at most {least['most']}, or raise {least['setting']}"
        return Finding("pool", "problem", found, advice)
    if tightest["used"] + size > tightest["most"]:
        advice = f"lower AGENTSTORE_POOL_SIZE or the number of replicas, raise {tightest['setting']}, or use a pooler"
        return Finding("pool", "warning", found, advice)
    return Finding("pool", "ok", found)
