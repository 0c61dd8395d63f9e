"""Drift: differences between a schema and what its recorded revision consists of. Does not load Alembic.

A revision says which migrations have run, not what has been changed by hand since. A missing unique constraint lets a
message be stored twice, a missing foreign key leaves orphaned rows, and no call fails.

These are no drift: row-level security on or off, vectors enabled or not, further columns that may be NULL or have a
default, further indexes that are not unique, further triggers, other values of storage parameters, and whatever else
the schema contains.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from agentstore.database.database import Database
from agentstore.migrating import citus
from agentstore.migrating.catalog import Catalog, Key, expected_in, read_catalog, tables_of
from agentstore.migrating.connections import opened
from agentstore.settings import Settings

_KINDS = (
    *("table", "storage parameter", "column", "default", "not null", "constraint", "function", "index", "trigger"),
    "row security",
)
_OF_POLICIES = ("row security", "policy")


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference between the schema and what its revision consists of."""

    kind: str
    """table, column, default, not null, constraint, function, index, trigger, row security, policy or distribution."""
    found: str
    """What is missing or different, with its name and that of its table."""
    statement: str
    """The SQL that corrects it. It fails if rows violate what it restores; data of a dropped column is lost."""


async def find_drift(target: Database | AsyncEngine | str, *, settings: Settings | None = None) -> list[Difference]:
    """Compare the schema with what its recorded revision consists of, and return the differences.

    Compared are tables, their storage parameters, columns and their types, defaults, NOT NULL, constraints (primary
    keys, unique, foreign keys, checks), indexes, triggers and, where row-level security is on, policies. If Citus
    distributes the tables, each that is local is a difference as well. The statements are in an order in which they
    can be executed. A schema that a newer release has migrated is not compared.

    Args:
        target: the database: a URL, an engine, or a `Database`.
        settings: by default those of the environment; for a URL or an engine only.

    Raises:
        Unavailable: the database cannot be reached.
        NotConfigured: the login was rejected, or lacks the privilege to read the revision.
    """
    async with opened(target, settings) as database, database.connection() as connection:
        schema = database.settings.schema
        found = await differences(connection, schema, await expected_in(connection, schema))
        return found + [
            Difference("distribution", f"table {name} is not distributed", citus.distribute_statement(schema, name))
            for name in (await citus.lacking(connection, schema))[0]
        ]


async def differences(connection: asyncpg.Connection, schema: str, expected: Catalog) -> list[Difference]:
    """Compare a schema with an expected catalog."""
    if not expected:
        return []
    found = await read_catalog(connection, schema, tables_of(expected))
    if not any(key.kind == "policy" and key in expected for key in found):  # row-level security is off
        expected = {key: it for key, it in expected.items() if key.kind not in _OF_POLICIES}
        found = {key: it for key, it in found.items() if key.kind not in _OF_POLICIES}
    return list(_differences(f'"{schema}"', expected, found))


def _differences(schema: str, expected: Catalog, found: Catalog) -> Iterator[Difference]:
    changed = [key for key in expected.keys() | found.keys() if expected.get(key) != found.get(key)]
    renamed: dict[Key, Key] = {}
    for key in sorted(changed):
        if key in expected and key not in found and key.kind in ("constraint", "index"):
            others = found.keys() - expected.keys() - set(renamed.values())
            same = [it for it in others if it[:2] == key[:2] and found[it] == expected[key]]
            if same:
                renamed[key] = min(same)
    for key in sorted(changed, key=lambda key: _order(key, expected)):
        if (other := renamed.get(key)) is not None:
            what = f"{_describe(key)} has the name {other.name}"
            yield Difference(key.kind, what, _rename(schema, key, other.name))
        elif key not in renamed.values() and not _is_implied(key, expected, found):
            wanted, is_now = expected.get(key), found.get(key)
            statements = _statements(schema, key, expected, wanted, is_now)
            yield Difference(key.kind, _found(key, wanted, is_now), "; ".join(statements))


def _order(key: Key, expected: Catalog) -> tuple[int, bool, str, str]:
    """Sort the differences so that what a statement needs exists: a foreign key needs the key that it references."""
    kind = _KINDS.index(key.kind) if key.kind in _KINDS else len(_KINDS)
    return kind, expected.get(key, "").startswith("FOREIGN KEY"), key.table, key.name


def _is_implied(key: Key, expected: Catalog, found: Catalog) -> bool:
    """Return whether a difference is part of another one, or is no drift."""
    table, column = Key("table", key.table, key.table), Key("column", key.table, key.name)
    if key in expected:
        if key.kind in ("column", "default", "not null") and table not in found:
            return True  # part of the missing table
        if key.kind == "storage parameter":
            return key in found  # another value, which someone has chosen
        return key.kind in ("default", "not null") and column not in found  # part of the missing column
    if key.kind in ("default", "not null") and column not in expected:
        # A further column that may be NULL or has a default: no statement of agentstore fails.
        return key.kind == "default" or Key("default", key.table, key.name) in found
    if key.kind == "index":
        return not found[key].startswith("UNIQUE")
    return key.kind not in ("default", "not null", "constraint", "policy")


def _describe(key: Key) -> str:
    if key.kind == "function":
        return f"function {key.name}"
    if key.kind == "table":
        return f"table {key.name}"
    if key.kind in ("column", "default", "not null"):
        return f"column {key.table}.{key.name}"
    if key.kind == "row security":
        return f"row-level security of {key.table}"
    return f"{key.kind} {key.name} of {key.table}"


def _found(key: Key, wanted: str | None, is_now: str | None) -> str:
    what = _describe(key)
    if key.kind == "not null":
        return f"{what} may be NULL" if wanted is not None else f"{what} may not be NULL, which is not expected"
    if key.kind == "default":
        if is_now is None:
            return f"{what} has no default, expected {wanted}"
        return f"{what} has the default {is_now}, expected {'none' if wanted is None else wanted}"
    if is_now is None:
        return f"{what} is missing"
    if wanted is None:
        return f"{what} is not expected: {is_now}"
    if key.kind == "table":
        return f"{what} is UNLOGGED: a crash of the server empties it"
    if key.kind == "function":
        return f"{what} has another body"
    return f"{what} is {is_now}, expected {wanted}"


def _rename(schema: str, key: Key, name: str) -> str:
    if key.kind == "index":
        return f'ALTER INDEX {schema}."{name}" RENAME TO "{key.name}"'
    return f'ALTER TABLE {schema}."{key.table}" RENAME CONSTRAINT "{name}" TO "{key.name}"'


def _statements(schema: str, key: Key, expected: Catalog, wanted: str | None, is_now: str | None) -> list[str]:
    """Return the statements that correct a difference."""
    table, name = f'{schema}."{key.table}"', f'"{key.name}"'
    alter, column = f"ALTER TABLE {table}", f"ALTER TABLE {table} ALTER COLUMN {name}"
    if key.kind == "table":
        if is_now is not None:
            return [f"{alter} SET {'UNLOGGED' if wanted else 'LOGGED'}"]
        names = [each.name for each in expected if each.kind == "column" and each.table == key.table]
        return [f"CREATE TABLE {table} ({', '.join(_column(key.table, each, expected) for each in names)})"]
    if key.kind == "column":
        if is_now is None:
            return [f"{alter} ADD COLUMN {_column(key.table, key.name, expected)}"]
        default = expected.get(Key("default", key.table, key.name))
        using = f"TYPE {wanted} USING {name}::{(wanted or '').partition(' COLLATE ')[0]}"
        # The default is set again: its type may not be converted.
        return (
            [f"{column} {using}"]
            if default is None
            else [f"{column} DROP DEFAULT", f"{column} {using}", f"{column} SET DEFAULT {default}"]
        )
    if key.kind == "storage parameter":
        return [f"{alter} SET ({key.name} = {wanted})"]
    if key.kind == "default":
        if (is_now or "").startswith("GENERATED"):
            kind = "IDENTITY" if "IDENTITY" in (is_now or "") else "EXPRESSION"
            return [f"{column} DROP {kind}", *([f"{column} SET DEFAULT {wanted}"] if wanted is not None else [])]
        return [f"{column} DROP DEFAULT" if wanted is None else f"{column} SET DEFAULT {wanted}"]
    if key.kind == "not null":
        return [f"{column} {'DROP' if wanted is None else 'SET'} NOT NULL"]
    if key.kind == "constraint":
        if wanted is not None and is_now == f"{wanted} NOT VALID":
            return [f"{alter} VALIDATE CONSTRAINT {name}"]
        if wanted is not None and is_now == f"{wanted} DISABLED":
            return [f"{alter} ENABLE TRIGGER ALL"]
        drop = [] if is_now is None else [f"{alter} DROP CONSTRAINT {name}"]
        definition = (wanted or "").replace("REFERENCES ", f"REFERENCES {schema}.")
        return drop + ([] if wanted is None else [f"{alter} ADD CONSTRAINT {name} {definition}"])
    if (
        key.kind == "index"
        and wanted is not None
        and is_now is not None
        and _without_options(wanted)[0] == (_without_options(is_now)[0])
    ):
        names = [each.partition("=")[0] for each in _without_options(is_now)[1].split(", ") if each]
        reset = [f"ALTER INDEX {schema}.{name} RESET ({', '.join(names)})"] if names else []
        options = _without_options(wanted)[1]
        set_ = [f"ALTER INDEX {schema}.{name} SET ({options})"] if options else []
        # The parameter prevents new entries of the pending list. Those that it has are read by every search.
        merge = [f"SELECT gin_clean_pending_list('{schema}.{name}')"] if "fastupdate=off" in options else []
        return [*reset, *set_, *merge]
    if key.kind == "index":
        drop = [] if is_now is None else [f"DROP INDEX CONCURRENTLY {schema}.{name}"]
        unique, _, definition = (wanted or "").rpartition("USING ")
        for function in (each.name for each in expected if each.kind == "function"):
            definition = definition.replace(f"{function}(", f"{schema}.{function}(")
        create = f"CREATE {unique}INDEX CONCURRENTLY {name} ON {table} USING {definition}"
        return drop + ([] if wanted is None else [create])
    if key.kind == "function":
        if (wanted or "").startswith("("):
            return [f"CREATE OR REPLACE FUNCTION {schema}.{name}{wanted}"]
        return [
            f"CREATE OR REPLACE FUNCTION {schema}.{name}() RETURNS trigger LANGUAGE plpgsql "
            f"SET search_path TO {schema} AS $function$\n{wanted}\n$function$"
        ]
    if key.kind == "trigger":
        if is_now == f"{wanted} DISABLED":
            return [f"{alter} ENABLE TRIGGER {name}"]
        definition = re.sub(r" ON (?=\w+ FOR EACH ROW)", f" ON {schema}.", wanted or "")
        definition = definition.replace("EXECUTE FUNCTION ", f"EXECUTE FUNCTION {schema}.")
        return [*([] if is_now is None else [f"DROP TRIGGER {name} ON {table}"]), definition]
    if key.kind == "row security":
        forced = "FORCE" if "FORCED" in (wanted or "") else "NO FORCE"
        state = "ENABLE" if "ENABLED" in (wanted or "") else "DISABLE"
        return [f"{alter} {state} ROW LEVEL SECURITY", f"{alter} {forced} ROW LEVEL SECURITY"]
    drop = [] if is_now is None else [f"DROP POLICY {name} ON {table}"]
    return drop + ([] if wanted is None else [f"CREATE POLICY {name} ON {table} {wanted}"])


def _without_options(definition: str) -> tuple[str, str]:
    """Split the definition of an index from its storage parameters."""
    matched = re.search(r" WITH \(([^)]*)\)", definition)
    return (definition, "") if matched is None else (definition.replace(matched[0], ""), matched[1])


def _column(table: str, name: str, expected: Catalog) -> str:
    """Return the definition of a column for CREATE TABLE and ADD COLUMN."""
    default = expected.get(Key("default", table, name))
    return (
        f'"{name}" {expected[Key("column", table, name)]}'
        + ("" if default is None else f" DEFAULT {default}")
        + (" NOT NULL" if Key("not null", table, name) in expected else "")
    )
