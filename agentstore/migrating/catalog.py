"""The tables that each revision has, as Postgres' catalog describes them: what is expected, and what is found.

What is expected is in ``migrations/catalog.json``, which ``python -m tests.migrations.catalog`` writes from databases
that the migrations have created; tests compare both. Each of its rows is an object with the revisions that have it.
Definitions are independent of the schema's name and of the version of Postgres.
"""

import json
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import asyncpg

from agentstore.migrating import revisions as revision_files
from agentstore.migrating.revisions import history
from agentstore.migrating.schema_status import VERSION_TABLE, recorded_revision


class Key(NamedTuple):
    """What identifies an object of the catalog."""

    kind: str
    """table, storage parameter, column, default, not null, constraint, index, row security, policy, function, ..."""
    table: str
    """The name of the table; empty for a function."""
    name: str
    """The name of the object; for a default and for not null that of the column."""


Catalog = dict[Key, str]
"""The objects, and the definition of each."""

FILE = "catalog.json"

# Unqualified names of types and of referenced tables: the schema may have any name, and so may that of an extension.
# A foreign key is enforced by internal triggers, which can be disabled. NOT NULL is a constraint since Postgres 18.
_CATALOG = r"""
WITH tables AS (
    SELECT c.* FROM pg_class c
    WHERE c.relnamespace = to_regnamespace(quote_ident($1)) AND c.relkind = 'r' AND c.relname = ANY ($2::text[])
), columns AS (
    SELECT c.relname, a.*, pg_get_expr(d.adbin, d.adrelid) AS default_value, t.typcollation, o.collname
    FROM tables c JOIN pg_attribute a ON a.attrelid = c.oid JOIN pg_type t ON t.oid = a.atttypid
    LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
    LEFT JOIN pg_collation o ON o.oid = a.attcollation
    WHERE a.attnum > 0 AND NOT a.attisdropped
)
SELECT 'table', relname::text, relname::text, CASE relpersistence WHEN 'u' THEN 'UNLOGGED' ELSE '' END FROM tables
UNION ALL
SELECT 'storage parameter', relname, split_part(parameter, '=', 1), split_part(parameter, '=', 2)
FROM tables, unnest(reloptions) AS parameter
UNION ALL
SELECT 'column', relname, attname, regexp_replace(format_type(atttypid, atttypmod), '^.*\.', '')
    || CASE WHEN attcollation <> typcollation THEN ' COLLATE ' || quote_ident(collname) ELSE '' END
FROM columns
UNION ALL
SELECT 'default', relname, attname, CASE WHEN attgenerated <> '' THEN format('GENERATED ALWAYS AS (%s)', default_value)
    WHEN attidentity <> '' THEN 'GENERATED AS IDENTITY' ELSE default_value END
FROM columns WHERE default_value IS NOT NULL OR attidentity <> ''
UNION ALL
SELECT 'not null', relname, attname, CASE WHEN EXISTS (
        SELECT FROM pg_constraint n
        WHERE n.conrelid = attrelid AND n.contype = 'n' AND NOT n.convalidated AND n.conkey = ARRAY[attnum]
    ) THEN 'NOT VALID' ELSE '' END
FROM columns WHERE attnotnull
UNION ALL
SELECT 'constraint', c.relname, n.conname,
    replace(pg_get_constraintdef(n.oid), format('REFERENCES %I.', $1), 'REFERENCES ')
    || CASE WHEN EXISTS (SELECT FROM pg_trigger t WHERE t.tgconstraint = n.oid AND t.tgenabled = 'D')
        THEN ' DISABLED' ELSE '' END
FROM tables c JOIN pg_constraint n ON n.conrelid = c.oid WHERE n.contype IN ('p', 'u', 'f', 'c', 'x')
UNION ALL
SELECT 'index', c.relname, r.relname,
    CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END
    || replace(substring(pg_get_indexdef(i.indexrelid) FROM 'USING .*'), format('%I.', $1), '')
FROM tables c JOIN pg_index i ON i.indrelid = c.oid JOIN pg_class r ON r.oid = i.indexrelid
WHERE NOT EXISTS (SELECT FROM pg_constraint n WHERE n.conindid = i.indexrelid AND n.conrelid = c.oid)
UNION ALL
SELECT 'row security', relname, relname, CASE WHEN relrowsecurity THEN 'ENABLED' ELSE 'DISABLED' END
    || CASE WHEN relforcerowsecurity THEN ' FORCED' ELSE '' END
FROM tables
UNION ALL
SELECT 'policy', c.relname, p.polname,
    format('AS %s FOR %s TO %s', CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
        CASE p.polcmd WHEN '*' THEN 'ALL' WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE'
            ELSE 'DELETE' END,
        CASE WHEN p.polroles = '{0}' THEN 'PUBLIC'
            ELSE (SELECT string_agg(quote_ident(rolname), ', ' ORDER BY 1) FROM pg_roles WHERE oid = ANY (p.polroles))
        END)
    || coalesce(format(' USING (%s)', pg_get_expr(p.polqual, p.polrelid)), '')
    || coalesce(format(' WITH CHECK (%s)', pg_get_expr(p.polwithcheck, p.polrelid)), '')
FROM tables c JOIN pg_policy p ON p.polrelid = c.oid
UNION ALL
SELECT 'function', '', p.proname, btrim(p.prosrc, E' \n')
    || CASE WHEN format('search_path=%I', $1) = ANY (p.proconfig) THEN '' ELSE ' (without a search_path)' END
FROM pg_proc p WHERE p.pronamespace = to_regnamespace(quote_ident($1)) AND p.prorettype = 'trigger'::regtype
UNION ALL
SELECT 'function', '', p.proname, regexp_replace(pg_get_functiondef(p.oid), '^[^(]*', '')
FROM pg_proc p
WHERE p.pronamespace = to_regnamespace(quote_ident($1)) AND p.prokind = 'f' AND p.prorettype <> 'trigger'::regtype
UNION ALL
SELECT 'trigger', c.relname, t.tgname, replace(pg_get_triggerdef(t.oid), format('%I.', $1), '')
    || CASE t.tgenabled WHEN 'D' THEN ' DISABLED' ELSE '' END
FROM tables c JOIN pg_trigger t ON t.tgrelid = c.oid WHERE NOT t.tgisinternal
"""


async def read_catalog(connection: asyncpg.Connection, schema: str, tables: set[str]) -> Catalog:
    """Return what these tables of a schema consist of, and the functions of the schema."""
    rows = await connection.fetch(_CATALOG, schema, sorted(tables))
    return {
        Key(kind, table, name): _sort_options(definition) if kind == "index" else definition
        for kind, table, name, definition in rows
    }


def _sort_options(definition: str) -> str:
    """Sort the storage parameters of an index, whose order is that in which they were set."""
    return re.sub(r"(?<= WITH \()[^)]*", lambda options: ", ".join(sorted(options[0].split(", "))), definition)


async def missing_tables(connection: asyncpg.Connection, schema: str, revision: str) -> list[str]:
    """Return the names of the tables of a revision that a schema lacks."""
    tables = tables_of(expected_catalog(revision)) - {VERSION_TABLE}
    query = "SELECT relname::text FROM pg_class WHERE relnamespace = to_regnamespace(quote_ident($1)) AND relkind = 'r'"
    found = {row[0] for row in await connection.fetch(query, schema)}
    return sorted(tables - found)


async def expected_in(connection: asyncpg.Connection, schema: str) -> Catalog:
    """Return what the recorded revisions of a schema consist of; empty if a newer release has migrated it."""
    catalog: Catalog = {}
    for line in ("", "vector"):
        table, revision = await recorded_revision(connection, schema, line)
        if revision is None:
            continue
        if revision not in {each.id for each in history(line)}:
            return {}
        present = f"{VERSION_TABLE}_{line}" if line else VERSION_TABLE
        for key, definition in expected_catalog(revision, line).items():
            # A version table has its former name until an upgrade has renamed it.
            renamed = Key(key.kind, table, key.name.replace(present, table)) if key.table == present else key
            catalog[renamed] = definition
    return catalog


def expected_catalog(revision: str, line: str = "") -> Catalog:
    """Return what a revision of a line consists of; `line` is "" or "vector". Those of the main line are not in it."""
    order = [each.id for each in reversed(history(line))]
    position = {each: index for index, each in enumerate(order)}
    at = position[revision]
    return {
        Key(kind, table, name): definition
        for since, until, kind, table, name, definition in _rows(revision_files.folder() / FILE)[line]
        if position[since] <= at and (until is None or at < position[until])
    }


def tables_of(catalog: Catalog) -> set[str]:
    """Return the names of the tables of a catalog."""
    return {key.name for key in catalog if key.kind == "table"}


@cache
def _rows(path: Path) -> dict[str, list[tuple[str, str | None, str, str, str, str]]]:
    rows: dict[str, list[tuple[str, str | None, str, str, str, str]]] = json.loads(path.read_text(encoding="utf-8"))
    return rows
