"""Deletion of the messages of a session, its memories or its states in steps.

No statement changes more than :data:`STEP` of them, so that each is far from the statement timeout, however many there
are. The statements of a call are one transaction: others see all of its changes or none.
"""

from typing import Any

from sqlalchemy import BigInteger, ClauseElement, Text, bindparam, cast, delete, func, literal_column, select
from sqlalchemy.orm import InstrumentedAttribute, aliased

from agentstore.database.statement import Fetch, Statement
from agentstore.models import MemoryRow, MessageRow, StateRoundRow

STEP = 5_000
"""How many messages, memories or state rounds one statement copies, moves or deletes at most."""
MAX = 2**63 - 1
"""The largest bigint."""

_USER, _SESSION = bindparam("user_id", type_=Text), bindparam("session_id", type_=Text)
_AFTER, _LIMIT = bindparam("after_seq", type_=BigInteger), bindparam("limit", type_=BigInteger)


def _delete_after(model: Any, number: InstrumentedAttribute[int], size: Any) -> ClauseElement:
    """Delete the rows of a session after a number, at most a limit of them.

    Rows: one: how many were deleted, their bytes, and the number of the last one. The session must be locked.
    """

    def following(rows: Any) -> tuple[Any, ...]:
        return rows.user_id == _USER, rows.session_id == _SESSION, getattr(rows, number.key) > _AFTER

    others: Any = aliased(model)
    place = getattr(others, number.key)
    last = select(place).where(*following(others)).order_by(place).limit(literal_column("1")).offset(_LIMIT - 1)
    # Before the deletion, which on Citus may return immutable functions only, and is executed after what it refers to.
    sized = (
        select(
            func.count().label("count"),
            cast(func.coalesce(func.sum(size), 0), BigInteger).label("size"),
            func.max(number).label("last"),
        )
        .where(*following(model), number <= func.coalesce(last.scalar_subquery(), literal_column(f"{MAX}")))
        .cte("sized")
        .prefix_with("MATERIALIZED")
    )
    deleted = (
        delete(model)
        .where(*following(model), number <= select(sized.c.last).scalar_subquery())
        .returning(literal_column("1"))
        .cte("deleted")
    )
    return select(sized.c.count, sized.c.size, sized.c.last).add_cte(deleted)


def _messages() -> ClauseElement:
    return _delete_after(MessageRow, MessageRow.seq, func.pg_column_size(MessageRow.payload))


def _memories() -> ClauseElement:
    size = func.pg_column_size(MemoryRow.payload) + func.pg_column_size(MemoryRow.lexemes)
    return _delete_after(MemoryRow, MemoryRow.seq, size)


def _rounds() -> ClauseElement:
    size = func.coalesce(func.pg_column_size(StateRoundRow.packed), func.pg_column_size(StateRoundRow.payload))
    return _delete_after(StateRoundRow, StateRoundRow.round, size)


DELETE_AFTER = {
    kind: Statement(construct, name=f"steps.delete_{kind}", scope="user", repeatable=False)
    for kind, construct in (("sessions", _messages), ("memories", _memories), ("states", _rounds))
}


async def delete_parts(fetch: Fetch, kind: str, user_id: str, session_id: str) -> tuple[int, int]:
    """Delete the messages of a locked session, the memories of a bucket or the rounds of states.

    Returns their number and their bytes.
    """
    total = size = 0
    last: int | None = 0
    while last is not None:
        key = {"user_id": user_id, "session_id": session_id, "after_seq": last, "limit": STEP}
        ((count, of_step, last),) = await fetch(DELETE_AFTER[kind], **key)
        total, size = total + count, size + of_step
    return total, size
