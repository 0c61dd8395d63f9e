"""The messages of stored sessions, read in pages to be added to memory."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime

from sqlalchemy import BigInteger, Text, bindparam, select

from agentstore import offload
from agentstore.database.database import Database
from agentstore.database.statement import Row, Statement
from agentstore.errors import NotFound
from agentstore.models import SessionRow
from agentstore.repositories.retention import is_not_expired
from agentstore.repositories.sessions.statements import EXISTS, GET_AFTER
from agentstore.schemas import Message
from agentstore.schemas.message import seq_and_time
from agentstore.schemas.page import Advice
from agentstore.schemas.payload import load_readable_messages

_PAGE = 1_000
# An id with this is the smallest possible one after it: NUL, the only smaller character, is in no id.
_NEXT = "\x01"

LIST_IDS = Statement(
    select(SessionRow.id)
    .where(
        SessionRow.user_id == bindparam("user_id", type_=Text),
        SessionRow.id >= bindparam("from_session", type_=Text),
        is_not_expired(SessionRow),
    )
    .order_by(SessionRow.id)
    .limit(bindparam("limit", type_=BigInteger)),
    name="memory.list_ids",
    scope="user",
)


Add = Callable[[str, Sequence[Message], Mapping[str, datetime]], Awaitable[int]]
"""Adds messages of a session to memory, with the times at which they were stored by id; returns how many are new."""


async def add_sessions(database: Database, user_id: str, session_ids: Sequence[str] | None, size: int, add: Add) -> int:
    """Add the messages of the sessions, or of all, in pages of `size`; return the number of new memories.

    Raises:
        NotFound: there is no session of `session_ids`.
    """
    added = 0
    if session_ids is not None:
        for id in session_ids:
            if not await database.fetch(EXISTS, user_id=user_id, session_id=id):
                raise NotFound(f"user {user_id!r} has no session {id!r}")
            added += await _add_session(database, user_id, id, size, add)
        return added
    # In the order of their ids, which no write changes.
    following: str | None = ""
    while following is not None:
        rows = await database.fetch(LIST_IDS, user_id=user_id, from_session=following, limit=_PAGE)
        for (id,) in rows:
            added += await _add_session(database, user_id, id, size, add)
        following = rows[-1][0] + _NEXT if len(rows) == _PAGE else None
    return added


async def _add_session(database: Database, user_id: str, session_id: str, size: int, add: Add) -> int:
    added = after = 0
    while rows := await database.fetch_page(
        GET_AFTER, Advice.RAISE_LIMIT, user_id=user_id, session_id=session_id, after_seq=after, limit=size
    ):
        messages, stored_at = await offload.run(_load, user_id, session_id, rows)
        added += await add(session_id, messages, stored_at)
        after = rows[-1]["seq"]
    return added


def _load(user_id: str, session_id: str, rows: Sequence[Row]) -> tuple[list[Message], dict[str, datetime]]:
    """Return the messages that can be read, and when each was stored. A warning names the others."""
    loaded = load_readable_messages(
        [row["payload"] for row in rows], lambda index: ("messages", user_id, session_id, rows[index]["seq"])
    )
    messages = {message.id: message for message in loaded if message is not None}
    times = {
        message.id: seq_and_time(row["place"])[1]
        for message, row in zip(loaded, rows, strict=True)
        if message is not None
    }
    return list(messages.values()), times
