"""Statistics about the stored data. The statements count messages and memories by counters, without reading them."""

from typing import Any

from sqlalchemy import BigInteger, ClauseElement, Text, bindparam, cast, column, func, select, table

from agentstore.database.database import Database
from agentstore.database.statement import Statement
from agentstore.models import MemoryBucketRow, MessageRow, SessionRow, StateRoundRow, UserRow
from agentstore.schemas import SessionStats, Stats, TableStats, UserStats

_LIMIT = bindparam("limit", type_=BigInteger)


def _sum(value: Any) -> Any:
    return cast(func.coalesce(func.sum(value), 0), BigInteger)


COUNT = Statement(
    select(
        select(func.count()).select_from(UserRow).scalar_subquery(),
        func.count(),
        _sum(SessionRow.next_seq - 1),
        select(_sum(MemoryBucketRow.count)).scalar_subquery(),
        select(func.count()).select_from(StateRoundRow).scalar_subquery(),
        func.min(SessionRow.created_at),
        func.max(SessionRow.updated_at),
    ),
    scope="all",
)
COUNT_USERS = Statement(select(func.count()).select_from(UserRow), scope="all")


def _tables() -> ClauseElement:
    """Read the size of each table of the schema: a row for each of its indexes, or one row if it has none."""
    catalog = {"schema": "pg_catalog"}
    names = table("pg_namespace", column("oid"), column("nspname"), **catalog)
    tables = table("pg_class", *map(column, ("oid", "relname", "relnamespace", "relkind", "reltuples")), **catalog)
    index_of = table("pg_index", column("indexrelid"), column("indrelid"), **catalog)
    indexes = tables.alias("indexes")
    return (
        select(
            tables.c.relname,
            cast(func.greatest(tables.c.reltuples, 0), BigInteger),
            func.pg_relation_size(tables.c.oid),
            func.pg_table_size(tables.c.oid) - func.pg_relation_size(tables.c.oid),
            indexes.c.relname,
            func.pg_relation_size(indexes.c.oid),
        )
        .select_from(
            tables.join(names, names.c.oid == tables.c.relnamespace)
            .outerjoin(index_of, index_of.c.indrelid == tables.c.oid)
            .outerjoin(indexes, indexes.c.oid == index_of.c.indexrelid)
        )
        .where(names.c.nspname == bindparam("setting_schema", type_=Text), tables.c.relkind == "r")
        .order_by(tables.c.relname, indexes.c.relname)
    )


def _users() -> ClauseElement:
    """Read the users with the most messages, and how many rows of each kind they have."""
    messages = _sum(SessionRow.next_seq - 1).label("messages")
    most = (
        select(SessionRow.user_id, func.count().label("sessions"), messages)
        .group_by(SessionRow.user_id)
        .order_by(messages.desc(), SessionRow.user_id)
        .limit(_LIMIT)
        .subquery("most")
    )
    memories = select(_sum(MemoryBucketRow.count)).where(MemoryBucketRow.user_id == most.c.user_id)
    rounds = select(func.count()).select_from(StateRoundRow).where(StateRoundRow.user_id == most.c.user_id)
    return select(most, memories.scalar_subquery(), rounds.scalar_subquery()).order_by(
        most.c.messages.desc(), most.c.user_id
    )


def _sessions() -> ClauseElement:
    """Read the sessions with the most messages, and the bytes of these."""
    most = (
        select(SessionRow.user_id, SessionRow.id, SessionRow.next_seq, SessionRow.updated_at)
        .order_by(SessionRow.next_seq.desc(), SessionRow.user_id, SessionRow.id)
        .limit(_LIMIT)
        .subquery("most")
    )
    size = select(_sum(func.pg_column_size(MessageRow.payload))).where(
        MessageRow.user_id == most.c.user_id, MessageRow.session_id == most.c.id
    )
    return select(most.c.user_id, most.c.id, most.c.next_seq - 1, size.scalar_subquery(), most.c.updated_at).order_by(
        most.c.next_seq.desc(), most.c.user_id, most.c.id
    )


TABLES = Statement(_tables, scope="none")
USERS = Statement(_users, scope="all")
SESSIONS = Statement(_sessions, scope="all")


async def stats(database: Database, largest: int) -> Stats:
    """Return the statistics of a database, with the `largest` users and sessions by number of messages."""
    (counts,) = await database.fetch(COUNT)
    tables: dict[str, TableStats] = {}
    for name, rows, size, toast, index, index_size in await database.fetch(TABLES):
        tables.setdefault(name, TableStats(name, rows, size, toast))
        if index is not None:
            tables[name].index_bytes[index] = index_size
    return Stats(
        users=counts[0],
        sessions=counts[1],
        messages=counts[2],
        memories=counts[3],
        state_rounds=counts[4],
        bytes=sum(each.total_bytes for each in tables.values()),
        oldest=counts[5],
        newest=counts[6],
        tables=list(tables.values()),
        largest_users=[UserStats(*row) for row in await database.fetch(USERS, limit=largest)],
        largest_sessions=[SessionStats(*row) for row in await database.fetch(SESSIONS, limit=largest)],
    )
