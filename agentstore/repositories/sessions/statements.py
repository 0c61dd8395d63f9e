"""The statements on sessions, and the terms that the other statement modules of this package share.

Here are those that create, read, import, update and delete a session. Those that append messages are in
:mod:`agentstore.repositories.sessions.append_statements`, those that fork and rewind in
:mod:`agentstore.repositories.sessions.copies`, those that list sessions in
:mod:`agentstore.repositories.sessions.lists`.
"""

from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ClauseElement,
    LargeBinary,
    Text,
    bindparam,
    cast,
    delete,
    func,
    null,
    select,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import JSON

from agentstore.database.sql import SqlStatements
from agentstore.database.statement import Row, Statement
from agentstore.models import MessageRow, SessionRow
from agentstore.repositories.retention import is_idle, is_not_expired
from agentstore.schemas.message import Place

_SQL = SqlStatements(__file__)

USER = bindparam("user_id", type_=Text)
SESSION = bindparam("session_id", type_=Text)
THIS_SESSION = (SessionRow.user_id == USER) & (SessionRow.id == SESSION)
LIVE_SESSION = THIS_SESSION & is_not_expired(SessionRow)
ITS_MESSAGES = (MessageRow.user_id == USER) & (MessageRow.session_id == SESSION)

MESSAGE_COUNT = (SessionRow.next_seq - 1 - SessionRow.removed).label("message_count")
# metadata is read as text, so that JSON codecs that the application has set on its connections do not apply.
HEAD = (
    SessionRow.created_at,
    SessionRow.updated_at,
    SessionRow.title,
    cast(SessionRow.metadata_, Text).label("metadata"),
    SessionRow.forked_from,
    SessionRow.forked_at,
    SessionRow.ttl,
    SessionRow.app,
    MESSAGE_COUNT,
)
HEAD_WIDTH = len(HEAD)
"""How many columns of a row describe the session; the payload of a message and its place follow them."""
_NULL_HEAD = (null(),) * HEAD_WIDTH
# The seq and the created_at of a message in the binary format of Postgres, which a Message decodes when it is asked for
# them: to decode the timestamp of each message takes the driver as long as to fetch its payload.
_PLACE: Any = func.int8send(MessageRow.seq, type_=LargeBinary).op("||")(
    func.timestamptz_send(MessageRow.created_at, type_=LargeBinary)
)
# The bytes of the JSON text, which pydantic validates without decoding them first.
_PAYLOAD = func.json_send(MessageRow.payload).label("payload")


def _get() -> ClauseElement:
    """Read the session and all its messages.

    Rows: the head, whose payload is null, and one for each message. Without a live session there is no head; messages
    of an expired one may still be returned.
    """
    messages: Any = select(*_NULL_HEAD, _PAYLOAD, _PLACE.label("place")).where(ITS_MESSAGES).order_by(MessageRow.seq)
    return union_all(select(*HEAD, null().label("payload"), null().label("place")).where(LIVE_SESSION), messages)


CREATE = _SQL("create")
# Not repeatable: executed again after a lost response it would find the session that it has created, and the caller
# would get AlreadyExists.
CREATE_NEW = _SQL("create", repeatable=False)
# Executed again after a lost response it writes nothing more; the session then counts as existing.
IMPORT = _SQL("import")
GET = Statement(_get, name="sessions.get", scope="user", repeatable=True)
GET_LAST = _SQL("get_last")
GET_BEFORE = _SQL("get_before")
GET_AFTER = _SQL("get_after")
FIND_MESSAGE = _SQL("find_message")
# The ids of messages that cannot be read.
FIND_IDS = Statement(
    select(MessageRow.seq, MessageRow.id).where(
        ITS_MESSAGES, MessageRow.seq == func.any(bindparam("seqs", type_=ARRAY(BigInteger)))
    ),
    name="sessions.find_ids",
    scope="user",
)
EXISTS = Statement(select(SessionRow.id).where(LIVE_SESSION), name="sessions.exists", scope="user")
DELETE = _SQL("delete")
# Whether it has expired or not, before its messages are deleted.
LOCK_TO_DELETE = Statement(
    select(SessionRow.id).where(THIS_SESSION).with_for_update(),
    name="sessions.lock_to_delete",
    scope="user",
    repeatable=False,
)
# Executed where a new session needs the id of one that may have expired.
EXPIRE = Statement(
    delete(SessionRow).where(THIS_SESSION, ~is_not_expired(SessionRow)).returning(SessionRow.id),
    name="sessions.expire",
    scope="user",
    repeatable=True,
)
TOUCH = Statement(
    update(SessionRow)
    .where(LIVE_SESSION, is_idle(SessionRow.updated_at))
    .values(updated_at=func.now(), listed_at=func.date_trunc("minute", func.now()))
    .returning(SessionRow.id),
    name="sessions.touch",
    scope="user",
    repeatable=True,
)
SET_TTL = Statement(
    update(SessionRow).where(LIVE_SESSION).values(ttl=bindparam("ttl", type_=BigInteger)).returning(SessionRow.id),
    name="sessions.set_ttl",
    scope="user",
    repeatable=True,
)
SET_TITLE = Statement(
    update(SessionRow).where(LIVE_SESSION).values(title=bindparam("title", type_=Text)).returning(SessionRow.id),
    name="sessions.set_title",
    scope="user",
    repeatable=True,
)
LOCK_METADATA = Statement(
    select(cast(SessionRow.metadata_, Text)).where(LIVE_SESSION).with_for_update(),
    name="sessions.lock_metadata",
    scope="user",
    repeatable=False,
)
SET_METADATA = Statement(
    update(SessionRow)
    .where(LIVE_SESSION)
    .values(metadata_=cast(bindparam("metadata", type_=Text), JSON))
    .returning(SessionRow.id),
    name="sessions.set_metadata",
    scope="user",
    repeatable=True,
)


class Found(NamedTuple):
    """A session as it was read."""

    head: tuple[Any, ...]
    payloads: list[bytes]
    places: list[Place]


def split(rows: list[Row], first: int = 0) -> Found | None:
    """Separate the row of the session from those of its messages; None without the former.

    `first` is the position of the first column of the session; see :data:`HEAD_WIDTH`.
    """
    payload = first + HEAD_WIDTH
    head = next((row for row in rows if row[payload] is None), None)
    if head is None:
        return None
    messages = [row for row in rows if row[payload] is not None]
    return Found(tuple(head)[first:], [row[payload] for row in messages], [row[payload + 1] for row in messages])


def found_in(rows: list[Row], first: int = 0) -> Found:
    """Return what :func:`split` does, where the statement always returns the session."""
    found = split(rows, first)
    if found is None:
        raise AssertionError("the statement returned no session")
    return found
