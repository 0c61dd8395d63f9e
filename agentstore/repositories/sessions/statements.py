"""The statements on sessions, and the terms that the other statement modules of this package share.

Here are those that create, read, list, import, update and delete a session. Those that append messages are in
:mod:`agentstore.repositories.sessions.append_statements`, those that fork and rewind in
:mod:`agentstore.repositories.sessions.copies`.
"""

from functools import partial
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ClauseElement,
    SQLColumnExpression,
    Text,
    bindparam,
    case,
    cast,
    delete,
    func,
    literal_column,
    null,
    select,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import BYTEA, JSON

from agentstore.database.sql import SqlStatements
from agentstore.database.statement import Statement
from agentstore.models import MessageRow, SessionRow
from agentstore.repositories.retention import is_idle, is_not_expired

SQL = SqlStatements(__file__)

USER = bindparam("user_id", type_=Text)
SESSION = bindparam("session_id", type_=Text)
THIS_SESSION = (SessionRow.user_id == USER) & (SessionRow.id == SESSION)
LIVE_SESSION = THIS_SESSION & is_not_expired(SessionRow)
ITS_MESSAGES = (MessageRow.user_id == USER) & (MessageRow.session_id == SESSION)
MESSAGE_COLUMNS = ["user_id", "session_id", "seq", "id", "payload", "created_at"]
# The messages of one call as rows: id, payload, and position from 1.
GIVEN_MESSAGES = (
    func.unnest(bindparam("ids", type_=ARRAY(Text)), bindparam("payloads", type_=ARRAY(Text)))
    .table_valued("id", "payload", with_ordinality="position", name="given")
    .render_derived()
)

# metadata is read as text, so that JSON codecs that the application has set on its connections do not apply.
_HEAD = (
    SessionRow.created_at,
    SessionRow.updated_at,
    SessionRow.title,
    cast(SessionRow.metadata_, Text).label("metadata"),
    SessionRow.forked_from,
    SessionRow.forked_at,
    SessionRow.ttl,
)
HEAD_WIDTH = len(_HEAD)
"""How many columns of a row describe the session; the payload of a message follows them."""
_NULL_HEAD = (null(),) * HEAD_WIDTH
# The bytes of the JSON text, which pydantic validates without decoding them first.
_PAYLOAD = func.json_send(MessageRow.payload).label("payload")
_LIMIT = bindparam("limit", type_=BigInteger)
# The most that one batch of an iterator holds, in bytes as stored.
_MAX_BATCH_BYTES = 8_000_000


def _get() -> ClauseElement:
    """Read the session and all its messages.

    Rows: the head, whose created_at is not null, and one for each message. Without a live session there is no head;
    messages of an expired one may still be returned.
    """
    messages: Any = select(*_NULL_HEAD, _PAYLOAD).where(ITS_MESSAGES).order_by(MessageRow.seq)
    return union_all(select(*_HEAD, null().label("payload")).where(LIVE_SESSION), messages)


def _get_last(end: SQLColumnExpression[int]) -> ClauseElement:
    """Read the session and its last `limit` messages whose seq is below `end`, which is the head's last column.

    The range of seq, which has no gaps, selects the messages. With LIMIT, Postgres estimates the plan for ten rows to
    be so much cheaper than the generic one that it plans again at each call, which takes as long as the execution.
    """
    head = select(*_HEAD, cast(null(), BYTEA).label("payload"), end.label("end")).where(LIVE_SESSION).cte("head")
    head = head.prefix_with("MATERIALIZED")
    end_of_range = select(head.c.end).scalar_subquery()
    messages: Any = (
        select(*_NULL_HEAD, _PAYLOAD, null())
        .where(
            ITS_MESSAGES,
            MessageRow.seq >= func.coalesce(end_of_range - _LIMIT, 1),
            MessageRow.seq < end_of_range,
        )
        .order_by(MessageRow.seq)
    )
    return union_all(select(head), messages)


def _get_before() -> ClauseElement:
    """Read the session and its last `limit` messages before the message `before`; `end` is null if that is missing."""
    seq = select(MessageRow.seq).where(ITS_MESSAGES, MessageRow.id == bindparam("before", type_=Text))
    return _get_last(seq.scalar_subquery())


def _get_after() -> ClauseElement:
    """Read the messages after the position `after_seq`, with their positions.

    At most `limit` of them, and only as many as have about 8 MB together, but at least one.
    """
    is_live = select(SessionRow.id).where(LIVE_SESSION).exists()
    following = (
        select(MessageRow.seq, MessageRow.payload)
        .where(ITS_MESSAGES, MessageRow.seq > bindparam("after_seq", type_=BigInteger), is_live)
        .order_by(MessageRow.seq)
        .limit(_LIMIT)
        .subquery("following")
    )
    # The size as stored, so that a payload that is stored out of line (TOAST) is not fetched for it.
    size = func.pg_column_size(following.c.payload)
    before = func.sum(size).over(order_by=following.c.seq) - size
    sized = select(following.c.seq, following.c.payload, before.label("before")).subquery("sized")
    payload = func.json_send(sized.c.payload)
    return (
        select(sized.c.seq, payload).where(sized.c.before < literal_column(str(_MAX_BATCH_BYTES))).order_by(sized.c.seq)
    )


def _list() -> ClauseElement:
    """Read a page of the user's sessions without their messages, the last used first.

    The order is by listed_at, updated_at truncated to the minute, then id. The last column is listed_at for the
    cursor, or null without a limit, where the driver would decode one more timestamp for each row needlessly.
    """
    return (
        select(SessionRow.id, *_HEAD, case((_LIMIT.is_not(None), SessionRow.listed_at)).label("listed_at"))
        .where(
            SessionRow.user_id == USER,
            is_not_expired(SessionRow),
            tuple_(SessionRow.listed_at, SessionRow.id)
            < tuple_(bindparam("before", type_=SessionRow.listed_at.type), bindparam("before_id", type_=Text)),
        )
        .order_by(SessionRow.listed_at.desc(), SessionRow.id.desc())
        .limit(_LIMIT)
    )


CREATE = SQL("create")
# Not repeatable: executed again after a lost response it would find the session that it has created, and the caller
# would get AlreadyExists.
CREATE_NEW = SQL("create", repeatable=False)
# Executed again after a lost response it writes nothing more; the session then counts as existing.
IMPORT = SQL("import")
GET = Statement(_get, scope="user", repeatable=True)
GET_LAST = Statement(partial(_get_last, SessionRow.next_seq), scope="user", repeatable=True)
GET_BEFORE = Statement(_get_before, scope="user", repeatable=True)
GET_AFTER = Statement(_get_after, scope="user")
LIST = Statement(_list, scope="user")
EXISTS = Statement(select(SessionRow.id).where(LIVE_SESSION), scope="user")
# The foreign key deletes the messages. The counter says how many: no append can change it while the row is locked.
DELETE = Statement(delete(SessionRow).where(THIS_SESSION).returning(SessionRow.next_seq - 1), scope="user")
# Executed where a new session needs the id of one that may have expired.
EXPIRE = Statement(
    delete(SessionRow).where(THIS_SESSION, ~is_not_expired(SessionRow)).returning(SessionRow.id),
    scope="user",
    repeatable=True,
)
TOUCH = Statement(
    update(SessionRow)
    .where(LIVE_SESSION, is_idle(SessionRow.updated_at))
    .values(updated_at=func.now())
    .returning(SessionRow.id),
    scope="user",
    repeatable=True,
)
SET_TTL = Statement(
    update(SessionRow).where(LIVE_SESSION).values(ttl=bindparam("ttl", type_=BigInteger)).returning(SessionRow.id),
    scope="user",
    repeatable=True,
)
SET_TITLE = Statement(
    update(SessionRow).where(LIVE_SESSION).values(title=bindparam("title", type_=Text)).returning(SessionRow.id),
    scope="user",
    repeatable=True,
)
LOCK_METADATA = Statement(
    select(cast(SessionRow.metadata_, Text)).where(LIVE_SESSION).with_for_update(), scope="user", repeatable=False
)
SET_METADATA = Statement(
    update(SessionRow)
    .where(LIVE_SESSION)
    .values(metadata_=cast(bindparam("metadata", type_=Text), JSON))
    .returning(SessionRow.id),
    scope="user",
    repeatable=True,
)
