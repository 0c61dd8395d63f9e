"""Statistics about the stored data. The statements count messages and memories by counters, without reading them."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select

from agentstore.database.database import Database
from agentstore.database.sql import SqlStatements
from agentstore.database.statement import Statement
from agentstore.models import UserRow
from agentstore.schemas import SessionStats, Stats, TableStats, UserStats
from agentstore.schemas.stats import GROWTH_DAYS, days_of, start_of_day

SQL = SqlStatements(__file__)


COUNT = SQL("count_rows")
COUNT_USERS = Statement(select(func.count()).select_from(UserRow), name="stats.count_users", scope="all")
TABLES = SQL("table_sizes")
USERS = SQL("largest_users")
SESSIONS = SQL("largest_sessions")
GROWTH = SQL("growth")


async def stats(database: Database, largest: int) -> Stats:
    """Return the statistics of a database, with the `largest` users and sessions by number of messages."""
    (counts,) = await database.fetch(COUNT)
    now = datetime.now(UTC)
    until = start_of_day(now) + timedelta(days=1)
    rows = await database.fetch(GROWTH, since=until - timedelta(days=GROWTH_DAYS), until=until)
    days = {row[0]: (row[1], row[2]) for row in rows}
    tables: dict[str, TableStats] = {}
    for name, rows, size, toast, dead, age, analyzed, index, index_size in await database.fetch(TABLES):
        tables.setdefault(
            name, TableStats(name, rows, size, toast, dead_rows=dead, freeze_age=age, analyzed_at=analyzed)
        )
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
        values=counts[7] + counts[8] + counts[9],
        blobs=counts[10],
        checkpoints=counts[11],
        tables=list(tables.values()),
        largest_users=[UserStats(*row) for row in await database.fetch(USERS, limit=largest)],
        largest_sessions=[SessionStats(*row) for row in await database.fetch(SESSIONS, limit=largest)],
        growth=days_of(counts[5], days, now),
    )
