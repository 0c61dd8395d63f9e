"""The statements that export all rows of users, and restore them in another database.

Tables and columns are those of the models. Postgres serializes a row as a JSON object; its last value is the payload,
with the exact JSON text that is stored.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    ClauseElement,
    Column,
    ColumnElement,
    Table,
    Text,
    bindparam,
    cast,
    func,
    literal,
    literal_column,
    select,
)

from agentstore.database.sql import SqlStatements
from agentstore.database.statement import Statement
from agentstore.models import Base, UserRow
from agentstore.models.memory_vector import MemoryVectorRow
from agentstore.settings import Settings

SQL = SqlStatements(__file__)
_FIRST, _LAST = bindparam("first_user", type_=Text), bindparam("last_user", type_=Text)
_LIMIT = bindparam("limit", type_=BigInteger)

VECTORS = "memory_vectors"
APP_VALUES = "app_values"
"""The table whose rows belong to no user: only an export of all users has them."""
# Leases belong to the workers of this database; a restored head has an epoch of its own; totals are counted again.
_EXCLUDED_COLUMNS = {
    "users": {"memories", "memory_tokens"},
    "memory_extractions": {"lease", "leased_until"},
    "checkpoint_heads": {"epoch"},
}


def _table(row: Any) -> Table:
    table: Table = row.__table__
    return table


TABLES: dict[str, Table] = {
    **{str(table.name): table for table in Base.metadata.sorted_tables if table.name != "sandboxes"},
    VECTORS: _table(MemoryVectorRow),
}
"""The tables by name, each after those that its foreign keys refer to.

Without the sandboxes, which run for this database. The last table, of vectors, exists only where vectors are enabled.
"""


def _owner(table: Table) -> Column[Any]:
    """Return the column with the id of the user that a row belongs to; not for APP_VALUES."""
    return table.c.id if table.name == "users" else table.c.user_id


def columns_of(table: Table) -> list[str]:
    """Return the names of the columns to export, the payload last."""
    names = [column.name for column in table.columns if column.name not in _EXCLUDED_COLUMNS.get(table.name, ())]
    last = payload_of(table)
    return [name for name in names if name != last] + ([last] if last else [])


def payload_of(table: Table) -> str | None:
    """Return the name of the JSON column of a table whose exact text is exported: payload, else metadata, else None."""
    json = [column.name for column in table.columns if isinstance(column.type, JSON)]
    return "payload" if "payload" in json else json[0] if json else None


def _read(table: Table, *owners: ColumnElement[bool]) -> ClauseElement:
    """Read the rows of `owners` as lines of an export, in the order of the primary key."""
    last = payload_of(table)
    columns: list[Any] = []
    for name in columns_of(table):
        column = table.c[name]
        # Only the last JSON value can be cut out of the object: another JSON column is exported as a string.
        as_string = isinstance(column.type, JSON) and name != last
        columns.append(cast(column, Text).label(name) if as_string else column)
    rows = select(*columns).where(*owners).order_by(*table.primary_key.columns).subquery("r")
    text: ColumnElement[str] = cast(func.row_to_json(literal_column("r")), Text)
    for line_break in ("\n", "\r"):  # in JSON text they are whitespace between tokens
        text = func.replace(text, literal(line_break), " ")
    return select(literal(f'{{"{table.name}":') + text + "}").select_from(rows)


READ = {
    name: Statement(
        partial(_read, table, _owner(table) >= _FIRST, _owner(table) <= _LAST), name="transfer.read", scope="all"
    )
    for name, table in TABLES.items()
    if name != APP_VALUES
}
"""Of each table: the rows of a range of users."""
READ_USER = {
    name: Statement(
        partial(_read, table, _owner(table) == bindparam("user_id", type_=Text)),
        name="transfer.read_user",
        scope="user",
    )
    for name, table in TABLES.items()
    if name != APP_VALUES
}
"""Of each table: the rows of one user."""
READ_APP_VALUES = Statement(partial(_read, TABLES[APP_VALUES]), name="transfer.read_app_values", scope="all")
USERS = SQL("export_users")
_CONTROL = func.pg_control_system().table_valued("system_identifier")
IDENTITY = Statement(
    select(cast(_CONTROL.c.system_identifier, Text), cast(func.current_database(), Text)),
    name="transfer.identity",
    scope="none",
)
KNOWN_USERS = Statement(
    select(UserRow.id).where(UserRow.id == func.any(bindparam("ids", type_=ARRAY(Text)))),
    name="transfer.known_users",
    scope="all",
)

UNITS: Mapping[str, tuple[str, Sequence[str]]] = {
    "sessions": ("id", ("messages", "session_values")),
    "memory_buckets": ("session_id", ("memories", "memory_extractions", VECTORS)),
    "state_heads": ("session_id", ("state_rounds",)),
    "workspaces": ("session_id", ("workspace_chunks",)),
    "checkpoint_heads": ("session_id", ("checkpoints", "checkpoint_values", "checkpoint_writes")),
}
"""The units of a merge, each of which is inserted completely or not at all.

By their table: the column that identifies a unit of a user, and the tables of its parts.
"""
# The settings after which units expire. A session may have a time to live of its own.
_TTL_SETTINGS = {"sessions": "session_ttl", "memory_buckets": "memory_ttl", "state_heads": "state_ttl"}
# Not compared: the queue and the vectors, which workers change, and the columns that a release computes from the text.
_NOT_COMPARED = {"memory_extractions", VECTORS}
_COMPUTED_COLUMNS = {"lexemes", "tokens", "analysis", "is_cut", "is_question", "question_share", "speaker"}
# Rows that are inserted each by itself, where there is none with the same key; and how they are reported.
_SINGLE = {"user_values": "s.user_id, s.key", "blobs": "s.user_id, s.name", APP_VALUES: "s.app, s.key"}
# The columns to compare where others change in normal use.
_COMPARED_COLUMNS = {
    "users": ["id", "metadata"],
    "sessions": ["id", "title", "metadata", "ttl", "app", "created_at", "forked_from", "forked_at", "removed"],
}


def stage(schema: str, tables: Sequence[str]) -> list[str]:
    """Return the commands that create a temporary table ``staged_NAME`` for each table."""
    return [
        f'CREATE TEMPORARY TABLE staged_{name} (LIKE "{schema}".{name} INCLUDING DEFAULTS) ON COMMIT DROP'
        for name in tables
    ]


def merge(schema: str, tables: Sequence[str], settings: Settings, *, citus: bool = False) -> dict[str, str]:
    """Return the commands that insert the staged rows that are missing, by the table that each inserts into.

    A session, a bucket of memories, the states of a session, its workspaces and its checkpoints are units: each is
    inserted with all its parts, or not at all if one with this id exists. One that has expired is deleted first, unless
    the staged one has expired as well. A user without metadata gets the staged metadata, and users and applications the
    values whose keys they lack. A command fails with 23505 if a concurrent transaction has inserted the same rows.

    `citus` chooses the forms for a distributed database. Citus joins no staged table with a distributed one, but the
    rows of a MATERIALIZED CTE. It locks rows of one user only, and reports 23505 only for rows that are returned.
    """
    returning = "\n            RETURNING 1" if citus else ""
    commands = {}
    for unit in _TTL_SETTINGS:
        key = UNITS[unit][0]
        if citus:
            commands[f"expired_{unit}"] = f"""
            WITH staged AS MATERIALIZED (
                SELECT DISTINCT s.user_id, s.{key} FROM staged_{unit} s WHERE NOT {_has_expired(unit, "s", settings)}
            )
            DELETE FROM "{schema}".{unit} t
            USING staged
            WHERE t.user_id = staged.user_id AND t.{key} = staged.{key} AND {_has_expired(unit, "t", settings)}"""
            continue
        commands[f"expired_{unit}"] = f"""
            WITH expired AS MATERIALIZED (
                SELECT t.user_id, t.{key}
                {_from_expired(schema, unit, settings)} AND NOT {_has_expired(unit, "s", settings)}
                ORDER BY t.user_id, t.{key}
                FOR UPDATE OF t
            )
            DELETE FROM "{schema}".{unit} t
            USING expired
            WHERE (t.user_id, t.{key}) = (expired.user_id, expired.{key})"""
    columns = _columns("users")
    commands["users"] = f"""
        INSERT INTO "{schema}".users ({columns})
        SELECT {columns} FROM staged_users
        ON CONFLICT (id) DO UPDATE
            SET metadata = excluded.metadata
            WHERE users.metadata::text = '{{}}' AND excluded.metadata::text <> '{{}}'{returning}"""
    for table in (each for each in _SINGLE if each in tables):
        columns = _columns(table)
        commands[table] = f"""
            INSERT INTO "{schema}".{table} ({columns})
            SELECT {columns} FROM staged_{table}
            ON CONFLICT DO NOTHING{returning}"""
    if "blob_chunks" in tables:
        # The user is locked by the command for users, so that no content is deleted in between.
        is_used = f'EXISTS (SELECT FROM "{schema}".blobs b WHERE (b.user_id, b.hash) = (s.user_id, s.hash))'
        known = ""
        if citus:
            known = f"""WITH staged AS MATERIALIZED (
                SELECT DISTINCT user_id, hash FROM staged_blob_chunks
            ), known AS MATERIALIZED (
                SELECT DISTINCT staged.* FROM staged JOIN "{schema}".blobs b USING (user_id, hash)
            )"""
            is_used = "EXISTS (SELECT FROM known WHERE (known.user_id, known.hash) = (s.user_id, s.hash))"
        commands["blob_chunks"] = f"""
            {known}
            INSERT INTO "{schema}".blob_chunks ({_columns("blob_chunks")})
            SELECT {_columns("blob_chunks", "s")}
            FROM staged_blob_chunks s
            WHERE {is_used}
            ON CONFLICT DO NOTHING{returning}"""
    for unit, (key, parts) in UNITS.items():
        commands[f"new_{unit}"] = (
            f"""
            CREATE TEMPORARY TABLE new_{unit} ON COMMIT DROP AS
            WITH staged AS MATERIALIZED (
                SELECT DISTINCT user_id, {key} FROM staged_{unit}
            ), known AS MATERIALIZED (
                SELECT staged.* FROM staged JOIN "{schema}".{unit} t USING (user_id, {key})
            )
            SELECT user_id, {key} FROM staged EXCEPT SELECT user_id, {key} FROM known"""
            if citus
            else f"""
            CREATE TEMPORARY TABLE new_{unit} ON COMMIT DROP AS
            SELECT DISTINCT s.user_id, s.{key}
            FROM staged_{unit} s
            WHERE NOT EXISTS (
                SELECT FROM "{schema}".{unit} t WHERE (t.user_id, t.{key}) = (s.user_id, s.{key})
            )"""
        )
        columns = _columns(unit)
        commands[unit] = f"""
            INSERT INTO "{schema}".{unit} ({columns})
            SELECT {columns} FROM staged_{unit} JOIN new_{unit} USING (user_id, {key}){returning}"""
        for part in parts:
            if part in tables:
                commands[part] = f"""
                    INSERT INTO "{schema}".{part} ({_columns(part)})
                    SELECT {_columns(part, "s")}
                    FROM staged_{part} s
                    JOIN new_{unit} n ON (n.user_id, n.{key}) = (s.user_id, s.session_id)
                    WHERE EXISTS (SELECT FROM new_{unit}){returning}"""
    if VECTORS in tables:
        # Vectors that an earlier restore skipped, of memories that are equal.
        commands["missing_vectors"] = f"""
            INSERT INTO "{schema}".{VECTORS} ({_columns(VECTORS)})
            SELECT {_columns(VECTORS, "s")}
            FROM staged_{VECTORS} s
            JOIN staged_memories m ON {_same_key("memories", "s", "m")}
            JOIN "{schema}".memories t ON {_same_key("memories", "m", "t")}
            WHERE NOT {_differ("memories", "m", "t")}
            ON CONFLICT DO NOTHING"""
    return commands


def difference_queries(
    schema: str, tables: Sequence[str], settings: Settings, *, citus: bool = False
) -> dict[str, str]:
    """Return queries for the existing units that lack something of what is staged, or differ from it, by their table.

    Each returns the ids of the user and of the session; of values, those of the user or the application, and the key.
    To be executed after the merge, when inserted units are equal. Units that have expired do not exist for any call,
    and are left out. `citus` is as for :func:`merge`.
    """

    def differing(table: str, ids: str) -> str:
        if citus:
            return f"""
            (WITH s AS MATERIALIZED (
                SELECT * FROM staged_{table}
            ), t AS MATERIALIZED (
                SELECT t.* FROM s JOIN "{schema}".{table} t ON {_equal_keys(table, "t", "s")}
            )
            SELECT {ids} FROM s LEFT JOIN t ON {_equal_keys(table, "t", "s")}
            WHERE {_differ(table, "s", "t")})"""
        # LIMIT 1 makes the planner look up each staged row by its key: a join may read the whole table, once a block.
        return f"""
            SELECT {ids}
            FROM staged_{table} s
            LEFT JOIN LATERAL (
                SELECT * FROM "{schema}".{table} t WHERE {_same_key(table, "t", "s")} LIMIT 1
            ) t ON TRUE
            WHERE {_differ(table, "s", "t")}"""

    queries = {"users": differing("users", "s.id, ''")}
    queries |= {table: differing(table, ids) for table, ids in _SINGLE.items() if table in tables}
    for unit, (key, parts) in UNITS.items():
        compared = [
            differing(part, "s.user_id, s.session_id") for part in parts if part in tables and part not in _NOT_COMPARED
        ]
        if unit in _COMPARED_COLUMNS:
            compared.append(differing(unit, f"s.user_id, s.{key}"))
        queries[unit] = f"({' UNION '.join(compared)})"
        if unit in _TTL_SETTINGS:
            expired = f"SELECT t.user_id, t.{key} {_from_expired(schema, unit, settings)}"
            if citus:
                expired = f"""(WITH s AS MATERIALIZED (
                    SELECT DISTINCT user_id, {key} FROM staged_{unit}
                )
                SELECT t.user_id, t.{key} FROM "{schema}".{unit} t JOIN s ON {_equal_keys(unit, "s", "t")}
                WHERE {_has_expired(unit, "t", settings)})"""
            queries[unit] += f" EXCEPT {expired}"
    return queries


def _from_expired(schema: str, unit: str, settings: Settings) -> str:
    """Return the FROM and WHERE clauses for the existing units ``t`` that have expired, and the staged ones ``s``."""
    return f"""
        FROM "{schema}".{unit} t
        JOIN staged_{unit} s ON {_same_key(unit, "s", "t")}
        WHERE {_has_expired(unit, "t", settings)}"""


def _has_expired(unit: str, of: str, settings: Settings) -> str:
    """Return the condition that a row of a unit has expired, as :mod:`agentstore.repositories.retention` defines it."""
    ttl = getattr(settings, _TTL_SETTINGS[unit])
    seconds = "NULL::bigint" if ttl is None else str(ttl)
    if unit == "sessions":
        seconds = f"coalesce({of}.ttl, {seconds})"
    return f"((now() - {of}.updated_at >= {seconds} * interval '1 second') IS TRUE)"


def _columns(table: str, of: str | None = None) -> str:
    """Return the columns to export of a table, or of its alias `of`."""
    prefix = f"{of}." if of else ""
    return ", ".join(f'{prefix}"{name}"' for name in columns_of(TABLES[table]))


def compared_columns(table: str) -> list[str]:
    """Return the columns by which a merge compares rows of a table; none of a table whose rows are not compared."""
    if table in _NOT_COMPARED:
        return []
    names = [name for name in columns_of(TABLES[table]) if name not in _COMPUTED_COLUMNS]
    return _COMPARED_COLUMNS.get(table, names)


def _differ(table: str, one: str, other: str) -> str:
    """Return the condition that the columns to compare of two aliases of a table differ.

    Values of the type json cannot be compared, and their texts must be equal.
    """
    columns = TABLES[table].columns

    def value(of: str, name: str) -> str:
        return f"{of}.{name}::text" if isinstance(columns[name].type, JSON) else f"{of}.{name}"

    pairs = [f"{value(one, name)} IS DISTINCT FROM {value(other, name)}" for name in compared_columns(table)]
    return f"({' OR '.join(pairs)})"


def _same_key(table: str, one: str, other: str) -> str:
    """Return the condition that rows of two aliases of a table have the same primary key."""
    names = [column.name for column in TABLES[table].primary_key.columns]
    return f"({', '.join(f'{one}.{name}' for name in names)}) = ({', '.join(f'{other}.{name}' for name in names)})"


def _equal_keys(table: str, one: str, other: str) -> str:
    """Return the same as :func:`_same_key`, as single comparisons: Citus finds the user in these only."""
    names = [column.name for column in TABLES[table].primary_key.columns]
    return " AND ".join(f"{one}.{name} = {other}.{name}" for name in names)
