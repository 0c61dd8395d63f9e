"""The number of a user's memories and their tokens, by which searches rank, for users with very many sessions.

Each bucket has its own numbers, which a search sums. For a user with over ``ranking.SUMMED_SESSIONS`` buckets it takes
the sums in the user's row instead. If every addition updated these, concurrent additions to different sessions would
wait for each other until the commit is on disk, which halves the throughput of four. So they are counted again now and
then, by calls that add or delete memories: a search needs them to a few per cent only. Releases that do not know them,
and run beside this one, only make them older.
"""

from collections.abc import Sequence
from random import random

from sqlalchemy import ARRAY, BigInteger, Text, bindparam, func, select

from agentstore.database.sql import SqlStatements
from agentstore.database.statement import Fetch, Statement
from agentstore.models import MemoryBucketRow
from agentstore.search import ranking

SQL = SqlStatements(__file__, ranking=ranking)

COUNT = SQL("count_memories")
# Those of some users who have memories of more than `most` sessions.
FIND_MANY_SESSIONS = Statement(
    select(MemoryBucketRow.user_id)
    .where(MemoryBucketRow.user_id == func.any(bindparam("ids", type_=ARRAY(Text))))
    .group_by(MemoryBucketRow.user_id)
    .having(func.count() > bindparam("most", type_=BigInteger)),
    name="memory.find_many_sessions",
    scope="all",
)

# After about as many changes a call looks whether the sums are out of date: a statement before that of the call.
_CHANGES = 512


async def count_memories(fetch: Fetch, user_id: str, changes: int) -> None:
    """Count the user's memories again if that is due, given how many a call adds, deletes or indexes again.

    The call does it before it writes, or in its transaction, so that what fails here has not been written.
    """
    if random() * _CHANGES < changes:  # noqa: S311 - no secret
        await fetch(COUNT, user_id=user_id, dice=random(), changes=max(changes, _CHANGES))  # noqa: S311


async def count_memories_of(fetch: Fetch, user_ids: Sequence[str], changes: int) -> None:
    """Count the memories of those of some users who have many sessions, after a call has added `changes` in all."""
    if changes > ranking.SUMMED_SESSIONS:
        for (user_id,) in await fetch(FIND_MANY_SESSIONS, ids=list(user_ids), most=ranking.SUMMED_SESSIONS):
            await count_memories(fetch, user_id, changes)
