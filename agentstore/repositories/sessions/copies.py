"""Forks and rewinds of sessions: the statements, then the class that executes them.

No statement copies, moves or deletes more than :data:`STEP` messages, so that each one is far from the statement
timeout, however long a session is. Several statements are one transaction: others see all of its changes or none.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ARRAY, BigInteger, ClauseElement, Text, bindparam, cast, func, literal_column, select, true
from sqlalchemy.dialects.postgresql import insert as upsert

from agentstore.database.database import Database
from agentstore.database.retry import FOREIGN_KEY_VIOLATION, UNIQUE_VIOLATION
from agentstore.database.sql import SqlStatements
from agentstore.database.statement import Fetch, Row, Statement
from agentstore.errors import AgentStoreError, AlreadyExists, NotFound, StatementFailed
from agentstore.models import MessageRow, SessionRow, StateHeadRow, UserRow
from agentstore.repositories import steps
from agentstore.repositories.sessions.statements import (
    EXPIRE,
    GET,
    GET_LAST,
    ITS_MESSAGES,
    LIVE_SESSION,
    MESSAGE_COUNT,
    USER,
    Found,
    found_in,
)
from agentstore.repositories.states import EXPIRE as EXPIRE_STATES
from agentstore.schemas.page import Advice
from agentstore.settings import Settings

_SQL = SqlStatements(__file__)

# The session's id as the states have it: the bucket "default" for an empty one.
_STATE_SESSION = bindparam("state_session", type_=Text)


def _lock() -> ClauseElement:
    """Lock the session and return the seq of its last message, its number of messages, its metadata and updated_at.

    In a transaction, before :data:`CUT`: a statement that itself waited for an append would not see the messages of
    that append. The user's row, which a fork references, is locked first: deleting a user locks in the same order.
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
COPY_MESSAGES = _SQL("copy_messages")
CUT = _SQL("cut")
KEEP = _SQL("keep")
REWIND_STATES = _SQL("rewind_states")
LOCK = Statement(_lock, name="sessions.lock", scope="user", repeatable=False)
LOCK_STATES = Statement(_lock_states, name="sessions.lock_states", scope="user", repeatable=False)
FIND = Statement(
    select(MessageRow.seq).where(ITS_MESSAGES, MessageRow.id == bindparam("message_id", type_=Text)),
    name="sessions.find",
    scope="user",
)
FIND_TIME_AFTER = Statement(
    select(MessageRow.created_at)
    .where(ITS_MESSAGES, MessageRow.seq > bindparam("after_seq", type_=BigInteger))
    .order_by(MessageRow.seq)
    .limit(literal_column("1")),
    name="sessions.find_time_after",
    scope="user",
)
FIND_FROM_END = Statement(
    select(MessageRow.seq)
    .where(
        ITS_MESSAGES, MessageRow.seq.between(bindparam("at", type_=BigInteger), bindparam("last_seq", type_=BigInteger))
    )
    .order_by(MessageRow.seq.desc())
    .limit(literal_column("1"))
    .offset(bindparam("offset", type_=BigInteger)),
    name="sessions.find_from_end",
    scope="user",
)
FIND_ALL = Statement(
    select(MessageRow.id, MessageRow.seq, MessageRow.created_at, cast(MessageRow.payload, Text)).where(
        ITS_MESSAGES, MessageRow.id == func.any(bindparam("ids", type_=ARRAY(Text)))
    ),
    name="sessions.find_all",
    scope="user",
)


class Copies:
    """Forks and rewinds of sessions. All values are validated already.

    The values of a copy are those of :data:`FORK` that name it: user_id, session_id, state_session and new_id.
    """

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    async def fork(self, values: dict[str, Any], at: str | int | None) -> None:
        """Copy a session up to the message `at`, or the whole of it."""
        place = {"at": at if isinstance(at, int) else None, "at_id": at if isinstance(at, str) else None}
        row = None
        for is_last in (False, True):
            try:
                row = await self._fork({**values, **place})
                is_taken = row is not None and row["is_taken"]
            except StatementFailed as error:
                if error.sqlstate != UNIQUE_VIOLATION:
                    raise _copy_error(error, values) from error
                is_taken = True
            if not is_taken:
                break
            # The id may be that of an expired session, or of expired states: delete them, and try once more.
            if is_last or not await self._expire(self._database.fetch, values):
                raise _already_exists(values)
        if row is None:
            raise NotFound(f"user {values['user_id']!r} has no session {values['session_id']!r}")
        if row["seq"] is None:
            raise _no_message(values, at)

    async def _fork(self, values: dict[str, Any]) -> Row | None:
        row = await self._database.fetch_one(FORK, **values, most=steps.STEP, in_steps=False)
        if row is None or not row["is_large"]:
            return row
        # Of one snapshot, so that the copy is that of one moment, and no writer has to wait for it.
        async with self._database.transaction(snapshot=True, read_only=False) as transaction:
            rows = await transaction.fetch(FORK, **values, most=steps.STEP, in_steps=True)
            if not rows:
                return None
            if not rows[0]["is_taken"]:
                last = {"last_seq": rows[0]["seq"] or 0, "limit": steps.STEP}
                after: int | None = steps.STEP
                while after is not None:
                    ((_, after),) = await transaction.fetch(COPY_MESSAGES, **values, **last, after_seq=after)
            return rows[0]

    async def rewind(self, values: dict[str, Any], at: str | int, *, keep: bool, messages: bool) -> Found:
        """Remove the messages after `at`, moving them to a new session with `keep`; return the session."""
        key = {"user_id": values["user_id"], "session_id": values["session_id"]}
        async with self._database.transaction() as transaction:
            fetch = transaction.fetch
            locked = await fetch(LOCK, **key)
            if not locked:
                raise NotFound(f"user {key['user_id']!r} has no session {key['session_id']!r}")
            await fetch(LOCK_STATES, **values)
            last_seq = locked[0][0]
            place: int | None = None
            if isinstance(at, str):
                found = await fetch(FIND, **key, message_id=at)
                place = found[0][0] if found else None
            elif at <= last_seq:
                place = at
            if place is None:
                raise _no_message(key, at)
            if place < last_seq:
                first = await fetch(FIND_TIME_AFTER, **key, after_seq=place)
                new_id = values["new_id"] if keep and first else None
                if new_id is not None:
                    await self._keep(fetch, {**values, "at": place, "since": first[0][0]})
                await cut(fetch, key, last_seq, place + 1, new_id)
                if first:
                    await fetch(REWIND_STATES, **values, since=first[0][0])
            statement = GET if messages else GET_LAST
            last = {"limit": 0, "before_seq": steps.MAX}
            return found_in(await transaction.fetch_page(statement, Advice.RAISE_LIMIT, **key, **last))

    async def _keep(self, fetch: Fetch, values: dict[str, Any]) -> None:
        """Create the session to which the messages are moved."""
        await self._expire(fetch, values)
        try:
            rows = await fetch(KEEP, **values)
        except StatementFailed as error:
            raise _copy_error(error, values) from error
        if rows[0]["is_taken"]:
            raise _already_exists(values)

    async def _expire(self, fetch: Fetch, values: dict[str, Any]) -> bool:
        """Delete the session and the states with the new id if they have expired; return whether any had."""
        key = {"user_id": values["user_id"], "session_id": values["new_id"]}
        sessions = await fetch(EXPIRE, **key)
        states = await fetch(EXPIRE_STATES, **key, ttl=self._settings.state_ttl)
        return bool(sessions or states)


async def cut(fetch: Fetch, key: Mapping[str, str], last_seq: int, at: int, new_id: str | None = None) -> int:
    """Delete the messages of a locked session from the number `at` on, or move them to the session `new_id`.

    Returns how many messages it has left.
    """
    while True:
        is_long = last_seq + 1 - at > steps.STEP
        range_ = {"at": at, "last_seq": last_seq}
        found = await fetch(FIND_FROM_END, **key, **range_, offset=steps.STEP - 1) if is_long else []
        place = found[0][0] if found else at
        ((count,),) = await fetch(CUT, **key, at=place, last_seq=last_seq, new_id=new_id)
        if place == at:
            left: int = count
            return left
        last_seq = place - 1


def _no_message(values: Mapping[str, Any], at: str | int | None) -> NotFound:
    return NotFound(f"session {values['session_id']!r} of user {values['user_id']!r} has no message {at!r}")


def _already_exists(values: Mapping[str, Any]) -> AlreadyExists:
    """Return the error to raise for a copy whose id is taken."""
    return AlreadyExists(
        f"user {values['user_id']!r} already has a session or states with the id {values['new_id']!r}: choose another "
        f"new_id"
    )


def _copy_error(error: StatementFailed, values: Mapping[str, Any]) -> AgentStoreError:
    """Return the error to raise for a copy that Postgres refused."""
    if error.sqlstate == UNIQUE_VIOLATION:
        return _already_exists(values)
    if error.sqlstate == FOREIGN_KEY_VIOLATION:
        return NotFound(f"user {values['user_id']!r} was deleted concurrently")
    return error
