"""What vacuum and analyze have left undone, such as dead rows and missing statistics, and what holds them back."""

from collections.abc import Iterator

import asyncpg

# The part of a table's rows that may be dead, five times that at which autovacuum starts; and a harmless number.
_DEAD_SHARE, _HARMLESS_DEAD = 0.1, 50_000
# Bytes from which a table needs statistics.
_LARGE_TABLE = 1_000_000
# An index is sparse if it has this many times the bytes that its entries take, and at least this many bytes.
_SPARSE, _LARGE_INDEX = 3.0, 50_000_000
# Bytes of an entry of a B-tree besides its columns, and the part of a page that a bulk load fills.
_ENTRY, _FILLED = 16, 0.9
# The age in transactions from which a wraparound is near: the server stops accepting writes at 2 billion.
_VERY_OLD = 1_500_000_000
# Seconds for which a transaction may be open, and bytes of WAL that a replication slot without a consumer may keep.
_LONG_OPEN, _KEPT_WAL = 3600.0, 256_000_000

# Reading pg_stats is subject to row-level security.
_TABLES = """
SELECT c.relname::text AS name, format('%I.%I', n.nspname, c.relname) AS quoted, s.n_live_tup AS live,
    s.n_dead_tup AS dead, age(c.relfrozenxid) AS age, current_setting('autovacuum_freeze_max_age')::int AS max_age,
    pg_relation_size(c.oid) AS bytes, current_setting('autovacuum') = 'on' AS autovacuum,
    coalesce(s.last_analyze, s.last_autoanalyze) IS NULL AND NOT row_security_active(c.oid)
        AND NOT EXISTS (SELECT FROM pg_stats WHERE schemaname = n.nspname AND tablename = c.relname) AS unanalyzed
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_stat_all_tables s ON s.relid = c.oid
WHERE n.nspname = $1 AND c.relkind = 'r' ORDER BY c.relname
"""
_INDEXES = """
SELECT format('%I.%I', n.nspname, i.relname) AS quoted, i.relname::text AS name, pg_relation_size(i.oid) AS bytes,
    greatest(i.reltuples, 0) AS entries, (
        SELECT CASE WHEN bool_and(k.number = 0 OR s.avg_width IS NOT NULL) THEN sum(coalesce(s.avg_width, 8)) END
        FROM unnest(x.indkey) AS k(number)
        LEFT JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.number AND a.attnum > 0
        LEFT JOIN pg_stats s ON s.schemaname = n.nspname AND s.tablename = t.relname AND s.attname = a.attname
    )::float8 AS width
FROM pg_index x JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid
    JOIN pg_namespace n ON n.oid = t.relnamespace JOIN pg_am m ON m.oid = i.relam
WHERE n.nspname = $1 AND m.amname = 'btree' AND i.reltuples > 0 ORDER BY i.relname
"""
# Without pg_read_all_stats, a login sees when its own transactions began, and those of no other.
_HOLDERS = """
SELECT 'slot' AS kind, quote_literal(slot_name) AS name, (SELECT pg_wal_lsn_diff(
        CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, restart_lsn
    ))::float8 AS amount
FROM pg_replication_slots WHERE NOT active
UNION ALL SELECT 'transaction', pid::text, extract(epoch FROM clock_timestamp() - xact_start)::float8
FROM pg_stat_activity WHERE backend_type = 'client backend' AND coalesce(backend_xid, backend_xmin) IS NOT NULL
UNION ALL SELECT 'prepared', quote_literal(gid), extract(epoch FROM clock_timestamp() - prepared)::float8
FROM pg_prepared_xacts
ORDER BY kind, name
"""


async def undone(connection: asyncpg.Connection, schema: str) -> list[tuple[str, str]]:
    """Return what was found about the tables and indexes of a schema, each with what to do about it."""
    tables = await connection.fetch(_TABLES, schema)
    indexes = await connection.fetch(_INDEXES, schema)
    return [*_of_tables(tables), *_of_indexes(indexes), *_of_holders(await connection.fetch(_HOLDERS))]


def _of_tables(tables: list[asyncpg.Record]) -> Iterator[tuple[str, str]]:
    if tables and not tables[0]["autovacuum"]:
        yield "autovacuum is off: dead rows stay, and statistics become outdated", "ALTER SYSTEM RESET autovacuum"
    for table in tables:
        name, quoted, dead, age = table["name"], table["quoted"], table["dead"], table["age"]
        if dead > max(_HARMLESS_DEAD, (dead + table["live"]) * _DEAD_SHARE):
            yield (
                f"{name} has {dead:,} dead rows beside {table['live']:,}",
                f"VACUUM (ANALYZE) {quoted}; if they stay, end old transactions (pg_stat_activity.backend_xmin), "
                "prepared transactions and unused replication slots",
            )
        if age > min(2 * table["max_age"], _VERY_OLD):
            yield (
                f"the oldest rows of {name} are {age:,} transactions old: vacuum does not get to freeze them",
                f"VACUUM (FREEZE) {quoted}; the server accepts no writes at 2,000,000,000",
            )
        if table["unanalyzed"] and table["bytes"] > _LARGE_TABLE:
            yield f"{name} was never analyzed: plans are made without statistics", f"ANALYZE {quoted}"


def _of_indexes(indexes: list[asyncpg.Record]) -> Iterator[tuple[str, str]]:
    for index in indexes:
        if index["width"] is None:  # there are no statistics of its columns, or they are hidden from the login
            continue
        needed = index["entries"] * (index["width"] + _ENTRY) / _FILLED
        if index["bytes"] > max(_LARGE_INDEX, _SPARSE * needed):
            yield (
                f"{index['name']} has {index['bytes']:,} bytes for entries of about {needed:,.0f}",
                f"REINDEX INDEX CONCURRENTLY {index['quoted']}",
            )


def _of_holders(holders: list[asyncpg.Record]) -> Iterator[tuple[str, str]]:
    for holder in holders:
        kind, name, amount = holder["kind"], holder["name"], holder["amount"] or 0.0
        if kind == "slot":
            if amount > _KEPT_WAL:
                yield (
                    f"nothing reads from the replication slot {name}, for which {amount:,.0f} bytes of WAL are kept",
                    f"start its standby or subscriber, or SELECT pg_drop_replication_slot({name})",
                )
        elif amount > _LONG_OPEN:
            is_prepared = kind == "prepared"
            yield (
                f"{'the prepared transaction' if is_prepared else 'a transaction of process'} {name} is open for "
                f"{amount / 3600:,.1f} hours: vacuum removes nothing that it may still see",
                f"{f'ROLLBACK PREPARED {name}' if is_prepared else f'SELECT pg_terminate_backend({name})'}",
            )
