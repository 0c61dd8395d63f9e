"""The statements that take everything of users out of a database, and put it into another one, row by row.

Tables and columns are the models'. A row is a JSON object that Postgres writes, and its payload, the last of it, is
the text that is stored.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
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

from agentstore.database.statement import Statement
from agentstore.models import Base, MemoryBucketRow, SessionRow, StateHeadRow, UserRow
from agentstore.models.memory_vector import MemoryVectorRow

_FIRST, _LAST = bindparam("first_user", type_=Text), bindparam("last_user", type_=Text)
_LIMIT = bindparam("limit", type_=BigInteger)

VECTORS = "memory_vectors"
# A lease is of a worker of one database.
_LEFT_OUT = {"memory_extractions": {"lease", "leased_until"}}


def _table(row: Any) -> Table:
    table: Table = row.__table__
    return table


TABLES: dict[str, Table] = {
    **{str(table.name): table for table in Base.metadata.sorted_tables if table.name != "sandboxes"},
    VECTORS: _table(MemoryVectorRow),
}
"""By name, each after those that it refers to; but for what lives now, and not in another database.

Only a database with vectors has the last one.
"""


def owner(table: Table) -> Column[Any]:
    """Return the column that says of which user a row is."""
    return table.c.id if table.name == "users" else table.c.user_id


def columns_of(table: Table) -> list[str]:
    """Return the columns that are taken, the one that holds any JSON and may be large at the end."""
    names = [column.name for column in table.columns if column.name not in _LEFT_OUT.get(table.name, ())]
    last = payload_of(table)
    return [name for name in names if name != last] + ([last] if last else [])


def payload_of(table: Table) -> str | None:
    """Return the column of a table whose JSON is kept to the letter, if it has one."""
    json = [column.name for column in table.columns if isinstance(column.type, JSON)]
    return "payload" if "payload" in json else json[0] if json else None


def _read(table: Table) -> Statement:
    """Return the rows of a range of users as lines of an export, in the order of their key."""
    last = payload_of(table)
    columns: list[Any] = []
    for name in columns_of(table):
        column = table.c[name]
        # A second column of JSON is a string in the object: cutting the object open finds the last one only.
        as_string = isinstance(column.type, JSON) and name != last
        columns.append(cast(column, Text).label(name) if as_string else column)
    rows = (
        select(*columns)
        .where(owner(table) >= _FIRST, owner(table) <= _LAST)
        .order_by(*table.primary_key.columns)
        .subquery("r")
    )
    text: ColumnElement[str] = cast(func.row_to_json(literal_column("r")), Text)
    for line_break in ("\n", "\r"):  # in JSON it is between its parts, where a blank is the same
        text = func.replace(text, literal(line_break), " ")
    return Statement(select(literal(f'{{"{table.name}":') + text + "}").select_from(rows))


READ = {name: _read(table) for name, table in TABLES.items()}


def _users(*, first: bool) -> Statement:
    """Return users by their ids, each with about how many messages and memories it has."""
    id = UserRow.id
    messages = select(func.coalesce(func.sum(SessionRow.next_seq), 0)).where(SessionRow.user_id == id)
    memories = select(func.coalesce(func.sum(MemoryBucketRow.count), 0)).where(MemoryBucketRow.user_id == id)
    # The number of a round may be any.
    few = func.least(StateHeadRow.last_round, 1_000_000)
    rounds = select(func.coalesce(func.sum(few), 0)).where(StateHeadRow.user_id == id)
    weight = messages.scalar_subquery() + memories.scalar_subquery() + rounds.scalar_subquery()
    users = select(id, cast(weight, BigInteger))
    if not first:
        users = users.where(id > bindparam("after", type_=Text))
    return Statement(users.order_by(id).limit(_LIMIT))


FIRST_USERS = _users(first=True)
USERS = _users(first=False)
_CONTROL = func.pg_control_system().table_valued("system_identifier")
IDENTITY = Statement(select(cast(_CONTROL.c.system_identifier, Text), cast(func.current_database(), Text)))
KNOWN_USERS = Statement(select(UserRow.id).where(UserRow.id == func.any(bindparam("ids", type_=ARRAY(Text)))))

# What is merged as a whole or not at all, by the column that names it, with what belongs to it.
_WHOLES: Mapping[str, tuple[str, Sequence[str]]] = {
    "sessions": ("id", ("messages",)),
    "memory_buckets": ("session_id", ("memories", "memory_extractions", VECTORS)),
    "state_heads": ("session_id", ("state_rounds",)),
    "workspaces": ("session_id", ("workspace_chunks",)),
}
# What workers change by themselves says nothing about whether two buckets are the same, nor what a release makes of a
# text.
_NOT_COMPARED = {"memory_extractions", VECTORS}
_MADE = {"lexemes", "tokens", "analysis", "is_cut"}
# What of a row does not change by itself while its user goes on.
_KEPT = {
    "users": ["id", "metadata"],
    "sessions": ["id", "title", "metadata", "ttl", "created_at", "forked_from", "forked_at"],
}


def stage(schema: str, tables: Sequence[str]) -> list[str]:
    """Return the commands that make a temporary table beside each of these."""
    return [
        f'CREATE TEMPORARY TABLE "staged_{name}" (LIKE "{schema}"."{name}" INCLUDING DEFAULTS) ON COMMIT DROP'
        for name in tables
    ]


def merge(schema: str, tables: Sequence[str]) -> dict[str, str]:
    """Return the commands that add what is staged and is not there, by the table that each adds rows to.

    A session, a bucket, a session's states or its workspaces are added whole, with everything that belongs to them, or
    not at all. A user that has no metadata gets what is staged.
    23505: another one has added the same meanwhile.
    """
    commands = {
        "users": f'INSERT INTO "{schema}".users ({_listed("users")}) SELECT {_listed("users")} FROM staged_users '
        "ON CONFLICT (id) DO UPDATE SET metadata = excluded.metadata "
        "WHERE users.metadata::text = '{}' AND excluded.metadata::text <> '{}'"
    }
    for whole, (key, parts) in _WHOLES.items():
        commands[f"new_{whole}"] = (
            f"CREATE TEMPORARY TABLE new_{whole} ON COMMIT DROP AS "
            f"SELECT DISTINCT s.user_id, s.{key} FROM staged_{whole} s "
            f'WHERE NOT EXISTS (SELECT FROM "{schema}".{whole} t WHERE (t.user_id, t.{key}) = (s.user_id, s.{key}))'
        )
        commands[whole] = (
            f'INSERT INTO "{schema}".{whole} ({_listed(whole)}) '
            f"SELECT {_listed(whole)} FROM staged_{whole} JOIN new_{whole} USING (user_id, {key})"
        )
        for part in parts:
            if part in tables:
                commands[part] = (
                    f'INSERT INTO "{schema}".{part} ({_listed(part)}) SELECT {_listed(part, "s")} FROM staged_{part} s '
                    f"JOIN new_{whole} n ON (n.user_id, n.{key}) = (s.user_id, s.session_id)"
                )
    if VECTORS in tables:
        # Those that an import before left out, of memories that are equal.
        commands["missing_vectors"] = (
            f'INSERT INTO "{schema}".{VECTORS} ({_listed(VECTORS)}) SELECT {_listed(VECTORS, "s")} '
            f"FROM staged_{VECTORS} s JOIN staged_memories m ON {_same_key('memories', 's', 'm')} "
            f'JOIN "{schema}".memories t ON {_same_key("memories", "m", "t")} '
            f"WHERE {_row('memories', 'm')}::text = {_row('memories', 't')}::text ON CONFLICT DO NOTHING"
        )
    return commands


def different(schema: str) -> dict[str, str]:
    """Return queries for what is there and has not all that is staged, as it is staged: by the kind of whole.

    Said after the merge: what was added is equal.
    """

    def others(table: str, ids: str) -> str:
        return (
            f'SELECT {ids} FROM staged_{table} s LEFT JOIN "{schema}".{table} t ON {_same_key(table, "s", "t")} '
            f"WHERE {_row(table, 's')}::text IS DISTINCT FROM {_row(table, 't')}::text"
        )

    queries = {"users": others("users", "s.id, ''")}
    for whole, (key, parts) in _WHOLES.items():
        compared = [others(part, "s.user_id, s.session_id") for part in parts if part not in _NOT_COMPARED]
        if whole in _KEPT:
            compared.append(others(whole, f"s.user_id, s.{key}"))
        queries[whole] = " UNION ".join(compared)
    return queries


def _listed(table: str, of: str | None = None) -> str:
    prefix = f"{of}." if of else ""
    return ", ".join(f'{prefix}"{name}"' for name in columns_of(TABLES[table]))


def _row(table: str, of: str) -> str:
    names = _KEPT.get(table) or [name for name in columns_of(TABLES[table]) if name not in _MADE]
    return f"ROW({', '.join(f'{of}.{name}' for name in names)})"


def _same_key(table: str, one: str, other: str) -> str:
    names = [column.name for column in TABLES[table].primary_key.columns]
    return f"({', '.join(f'{one}.{name}' for name in names)}) = ({', '.join(f'{other}.{name}' for name in names)})"
