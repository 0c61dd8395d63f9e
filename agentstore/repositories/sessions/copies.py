"""The statements that fork and rewind a session."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ARRAY, ClauseElement, Text, bindparam, cast, func, select, true
from sqlalchemy.dialects.postgresql import insert as upsert

from agentstore.database.retry import FOREIGN_KEY_VIOLATION, UNIQUE_VIOLATION
from agentstore.database.sql import SqlStatements
from agentstore.database.statement import Statement
from agentstore.errors import AgentStoreError, AlreadyExists, NotFound, StatementFailed
from agentstore.models import MessageRow, SessionRow, StateHeadRow, UserRow
from agentstore.repositories.sessions.statements import ITS_MESSAGES, LIVE_SESSION, MESSAGE_COUNT, USER

_SQL = SqlStatements(__file__)

# The session's id as the states have it: the bucket "default" for an empty one.
_STATE_SESSION = bindparam("state_session", type_=Text)


def _lock() -> ClauseElement:
    """Lock the session and return the seq of its last message, its number of messages, its metadata and updated_at.

    In a transaction, before :data:`REWIND`: a statement that itself waited for an append would not see the messages
    of that append. The user's row, which the fork references, is locked first: deleting a user locks in the same order.
    """
    owner = select(UserRow.id).where(UserRow.id == USER).with_for_update(read=True, key_share=True).cte("owner")
    return (
        select(SessionRow.next_seq - 1, MESSAGE_COUNT, cast(SessionRow.metadata_, Text), SessionRow.updated_at)
        .join(owner.prefix_with("MATERIALIZED"), true())
        .where(LIVE_SESSION)
        .with_for_update(of=SessionRow)
    )


def _lock_states() -> ClauseElement:
    """Lock the session's states. A missing head is created, so that the first save waits too."""
    return (
        upsert(StateHeadRow)
        .values(user_id=USER, session_id=_STATE_SESSION)
        .on_conflict_do_update(index_elements=["user_id", "session_id"], set_={"last_round": StateHeadRow.last_round})
        .returning(StateHeadRow.last_round)
    )


FORK = _SQL("fork")
REWIND = _SQL("rewind")
LOCK = Statement(_lock, name="sessions.lock", scope="user", repeatable=False)
LOCK_STATES = Statement(_lock_states, name="sessions.lock_states", scope="user", repeatable=False)
FIND = Statement(
    select(MessageRow.seq).where(ITS_MESSAGES, MessageRow.id == bindparam("message_id", type_=Text)),
    name="sessions.find",
    scope="user",
)
FIND_ALL = Statement(
    select(MessageRow.id, MessageRow.seq, MessageRow.created_at, cast(MessageRow.payload, Text)).where(
        ITS_MESSAGES, MessageRow.id == func.any(bindparam("ids", type_=ARRAY(Text)))
    ),
    name="sessions.find_all",
    scope="user",
)


def already_exists(values: Mapping[str, Any]) -> AlreadyExists:
    """Return the error to raise for a copy whose id is taken."""
    return AlreadyExists(
        f"user {values['user_id']!r} already has a session or states with the id {values['new_id']!r}: choose another "
        f"new_id"
    )


def copy_error(error: StatementFailed, values: Mapping[str, Any]) -> AgentStoreError:
    """Return the error to raise for a copy that Postgres refused."""
    if error.sqlstate == UNIQUE_VIOLATION:
        return already_exists(values)
    if error.sqlstate == FOREIGN_KEY_VIOLATION:
        return NotFound(f"user {values['user_id']!r} was deleted concurrently")
    return error
