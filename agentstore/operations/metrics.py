"""Figures of a database for monitoring: queues, the state of the schema, and what vacuum has to do."""

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from agentstore.database.database import Database
from agentstore.database.row_security import REFUSE_FILTERED_VIEWS
from agentstore.errors import AgentStoreError, Unavailable
from agentstore.migrating.schema_status import status

_TABLES = """
SELECT c.relname::text AS name, CASE WHEN c.reltuples < 0 THEN s.n_live_tup ELSE c.reltuples::bigint END AS rows,
     pg_total_relation_size(c.oid) AS size,
    s.n_dead_tup AS dead_rows, s.n_tup_upd AS updates, s.n_tup_hot_upd AS hot, age(c.relfrozenxid) AS freeze_age
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_stat_all_tables s ON s.relid = c.oid
WHERE n.nspname = $1 AND c.relkind = 'r' ORDER BY c.relname
"""
_JOBS = """
SELECT count(*) FILTER (WHERE failed_at IS NULL AND leased_until > now()) AS running,
    count(*) FILTER (WHERE failed_at IS NULL AND run_after <= now() AND (leased_until > now()) IS NOT TRUE) AS due,
    count(*) FILTER (WHERE failed_at IS NULL AND run_after > now() AND (leased_until > now()) IS NOT TRUE) AS scheduled,
    count(*) FILTER (WHERE failed_at IS NOT NULL) AS failed,
    coalesce(extract(epoch FROM now() - min(run_after) FILTER (
        WHERE failed_at IS NULL AND run_after <= now() AND (leased_until > now()) IS NOT TRUE
    )), 0)::float8 AS age
FROM {schema}.memory_extractions
"""
_SANDBOXES = """
SELECT count(*) FILTER (WHERE lease_until > now()) AS valid, count(*) FILTER (WHERE lease_until <= now()) AS expired
FROM {schema}.sandboxes
"""
_SCHEMA_STATES = ("at head", "post pending", "behind", "ahead")


class Kind(NamedTuple):
    """What a figure is, as a gauge of OpenTelemetry."""

    unit: str
    description: str


KINDS = {
    "agentstore.up": Kind("", "Whether the figures could be read."),
    "agentstore.schema.state": Kind("", "1 for the state of the schema."),
    "agentstore.extraction.jobs": Kind("{job}", "Jobs of the extraction queue."),
    "agentstore.extraction.oldest_due.age": Kind("s", "How long the oldest job has been due."),
    "agentstore.embedding.backlog": Kind("{memory}", "Memories without a vector, estimated."),
    "agentstore.sandboxes": Kind("{sandbox}", "Sandboxes by their lease."),
    "agentstore.table.rows": Kind("{row}", "Estimated rows."),
    "agentstore.table.size": Kind("By", "The table with its indexes and TOAST."),
    "agentstore.table.dead_rows": Kind("{row}", "Estimated dead rows."),
    "agentstore.table.freeze_age": Kind("{transaction}", "The age of the oldest transaction that is not frozen."),
    "agentstore.table.hot_updates.ratio": Kind("1", "The share of updates that wrote to no index."),
}
"""All figures by name; a test compares them with the documentation."""

Figures = dict[str, list[tuple[float, Mapping[str, str]]]]
"""The values of each figure, each with its labels."""


async def read_figures(database: Database) -> Figures:
    """Read all figures. Counts of tables are estimates of Postgres; those of queues and sandboxes are exact.

    Figures of tables that do not exist yet are missing.

    Raises:
        Unavailable: the database does not answer.
        NotConfigured: the login was rejected, or row-level security hides rows from it.
    """
    schema = await status(database)
    found: Figures = {
        "agentstore.schema.state": [(float(schema.state == state), {"state": state}) for state in _SCHEMA_STATES]
    }
    async with database.connection() as connection, connection.transaction(readonly=True):
        # Also with the setting ROW_LEVEL_SECURITY: hidden rows would be missing in the counts.
        await connection.execute(REFUSE_FILTERED_VIEWS)
        tables = await connection.fetch(_TABLES, database.settings.schema)
        rows = {table["name"]: table["rows"] for table in tables}
        for column in ("rows", "size", "dead_rows", "freeze_age"):
            found[f"agentstore.table.{column}"] = [(table[column], {"table": table["name"]}) for table in tables]
        found["agentstore.table.hot_updates.ratio"] = [
            (table["hot"] / table["updates"], {"table": table["name"]}) for table in tables if table["updates"]
        ]
        quoted = f'"{database.settings.schema}"'
        if "memory_extractions" in rows:
            (jobs,) = await connection.fetch(_JOBS.format(schema=quoted))
            found["agentstore.extraction.oldest_due.age"] = [(jobs["age"], {})]
            states = ("running", "due", "scheduled", "failed")
            found["agentstore.extraction.jobs"] = [(jobs[state], {"state": state}) for state in states]
        if "sandboxes" in rows:
            (sandboxes,) = await connection.fetch(_SANDBOXES.format(schema=quoted))
            found["agentstore.sandboxes"] = [(sandboxes[state], {"lease": state}) for state in ("valid", "expired")]
        if "memory_vectors" in rows:
            found["agentstore.embedding.backlog"] = [(max(0, rows["memories"] - rows["memory_vectors"]), {})]
    return found


async def read_or_report(
    database: Database, errors: type[AgentStoreError] = Unavailable, *, timeout: float | None = None
) -> tuple[Figures, AgentStoreError | None]:
    """Read all figures; after one of the `errors`, or `timeout` seconds, return it, and that the database is not up.

    Raises:
        NotConfigured: as :func:`read_figures`, unless it is one of the `errors`.
    """
    not_up: Figures = {"agentstore.up": [(0.0, {})]}
    try:
        async with asyncio.timeout(timeout):
            return {"agentstore.up": [(1.0, {})], **await read_figures(database)}, None
    except TimeoutError:
        return not_up, Unavailable(f"{database.where} did not return its figures in time")
    except errors as error:
        return not_up, error
