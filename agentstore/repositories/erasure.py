"""Deletion of a user with many rows, in bounded transactions.

Sessions, memories, states and checkpoints are deleted by pages of their ids. What is locked or written to meanwhile
remains, and is deleted with the user by ``delete_user.sql`` at the end.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, ClauseElement, Text, bindparam, func, literal_column, select

from agentstore.database.database import Database
from agentstore.database.statement import Statement
from agentstore.models import CheckpointHeadRow, CheckpointRow, MemoryBucketRow, SessionRow, StateHeadRow, StateRoundRow
from agentstore.repositories import steps
from agentstore.repositories.prune import (
    DELETE,
    DELETE_CHECKPOINTS,
    KINDS,
    LEAST,
    LOCK,
    PARTS,
    batches,
    delete_in_steps,
)
from agentstore.schemas import Deleted, Pruned

AT_ONCE = 50_000
"""How many rows a user may have to be deleted by one statement."""

_PAGE = 1_000
_END = datetime.max.replace(tzinfo=UTC)
_USER, _FROM = bindparam("user_id", type_=Text), bindparam("from_session", type_=Text)
_LIMIT = bindparam("limit", type_=BigInteger)


def _sessions() -> ClauseElement:
    return (
        select(SessionRow.user_id, SessionRow.id, (SessionRow.next_seq - SessionRow.removed).label("rows"))
        .where(SessionRow.user_id == _USER, SessionRow.id >= _FROM)
        .order_by(SessionRow.id)
        .limit(_LIMIT)
    )


def _buckets() -> ClauseElement:
    return (
        select(MemoryBucketRow.user_id, MemoryBucketRow.session_id.label("id"), MemoryBucketRow.count.label("rows"))
        .where(MemoryBucketRow.user_id == _USER, MemoryBucketRow.session_id >= _FROM)
        .order_by(MemoryBucketRow.session_id)
        .limit(_LIMIT)
    )


def _heads() -> ClauseElement:
    rounds = (
        select(func.count(literal_column("*")))
        .where(StateRoundRow.user_id == _USER, StateRoundRow.session_id == StateHeadRow.session_id)
        .scalar_subquery()
    )
    return (
        select(StateHeadRow.user_id, StateHeadRow.session_id.label("id"), rounds.label("rows"))
        .where(StateHeadRow.user_id == _USER, StateHeadRow.session_id >= _FROM)
        .order_by(StateHeadRow.session_id)
        .limit(_LIMIT)
    )


def _checkpoints() -> ClauseElement:
    checkpoints = (
        select(func.count(literal_column("*")))
        .where(CheckpointRow.user_id == _USER, CheckpointRow.session_id == CheckpointHeadRow.session_id)
        .scalar_subquery()
    )
    return (
        select(CheckpointHeadRow.user_id, CheckpointHeadRow.session_id.label("id"), checkpoints.label("rows"))
        .where(CheckpointHeadRow.user_id == _USER, CheckpointHeadRow.session_id >= _FROM)
        .order_by(CheckpointHeadRow.session_id)
        .limit(_LIMIT)
    )


_LISTS: dict[str, Callable[[], ClauseElement]] = {"sessions": _sessions, "memories": _buckets, "states": _heads}
# A page of the sessions, buckets or heads of a user, from an id on: user_id, id, rows.
LIST_CHECKPOINTS = Statement(_checkpoints, name="erasure.list_checkpoints", scope="user")
LIST = {kind: Statement(construct, name=f"erasure.list_{kind}", scope="user") for kind, construct in _LISTS.items()}


async def delete_in_bounded_transactions(database: Database, user_id: str) -> Deleted:
    """Delete the sessions, memories, states and checkpoints of a user; return how many there were."""
    total = Pruned()
    for kind in KINDS:
        following: str | None = ""
        while following is not None:
            rows = await database.fetch(LIST[kind], user_id=user_id, from_session=following, limit=_PAGE)
            for batch in batches(rows):
                key = {"user_id": user_id, "ids": [row["id"] for row in batch], "before": _END}
                async with database.transaction() as transaction:
                    if is_large := batch[0]["rows"] > steps.STEP:
                        if not await transaction.fetch(LOCK[kind], **key):
                            continue
                        total += await delete_in_steps(transaction, kind, batch[0])
                    deleted = await transaction.fetch(DELETE[kind], **key, with_counts=not is_large)
                # A row for each session; one row for all buckets or heads.
                counts: dict[str, Any] = {PARTS[kind]: sum(row["parts"] for row in deleted)}
                total += Pruned(sessions=len(deleted) if kind == "sessions" else 0, **counts)
            following = rows[-1]["id"] + LEAST if len(rows) == _PAGE else None
    checkpoints = 0
    following = ""
    while following is not None:
        rows = await database.fetch(LIST_CHECKPOINTS, user_id=user_id, from_session=following, limit=_PAGE)
        for row in rows:
            await database.fetch(DELETE_CHECKPOINTS, user_id=user_id, session_id=row["id"], before=_END)
            checkpoints += row["rows"]
        following = rows[-1]["id"] + LEAST if len(rows) == _PAGE else None
    return Deleted(
        sessions=total.sessions,
        messages=total.messages,
        memories=total.memories,
        state_rounds=total.state_rounds,
        checkpoints=checkpoints,
    )
