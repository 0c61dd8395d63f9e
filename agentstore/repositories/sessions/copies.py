"""The statements that fork and rewind a session.

The state rounds at a message are those that were saved before the next message was stored: what an agent saves after
its answer belongs to that answer.
"""

from functools import partial

from sqlalchemy import (
    CTE,
    BigInteger,
    ClauseElement,
    ColumnElement,
    Text,
    bindparam,
    cast,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import aliased

from agentstore.database.statement import Statement
from agentstore.models import MessageRow, SessionRow, StateHeadRow, StateRoundRow, UserRow
from agentstore.repositories.retention import has_expired
from agentstore.repositories.sessions.statements import ITS_MESSAGES, LIVE_SESSION, MESSAGE_COLUMNS, USER

_NEW = bindparam("new_id", type_=Text)
# The session's id as the states have it: the bucket "default" for an empty one.
_STATE_SESSION = bindparam("state_session", type_=Text)
_ITS_HEAD = (StateHeadRow.user_id == USER) & (StateHeadRow.session_id == _STATE_SESSION)
_ITS_ROUNDS = (StateRoundRow.user_id == USER) & (StateRoundRow.session_id == _STATE_SESSION)
_ONE: ColumnElement[int] = literal_column("1")


def _last_message(source: CTE, at: type[str] | type[int] | None) -> CTE:
    """Find the last message to copy: its seq, and ``until``, the timestamp of the next one or null.

    The parameter ``at`` is a message's id (str), a number of messages (int), or not used (None: the last of all). No
    row: there is no such message.
    """
    if at is str:
        matches = MessageRow.id == bindparam("at", type_=Text)
        last = select(MessageRow.seq).where(ITS_MESSAGES, matches).cte("last")
    elif at is int:
        seq: ColumnElement[int] = cast(bindparam("at", type_=BigInteger), BigInteger)
        last = select(seq.label("seq")).select_from(source).where(seq < source.c.next_seq).cte("last")
    else:
        last = select((source.c.next_seq - 1).label("seq")).cte("last")
    following = select(MessageRow.created_at).where(ITS_MESSAGES, MessageRow.seq == last.c.seq + 1)
    found = select(last.c.seq, following.scalar_subquery().label("until")).select_from(last).join(source, true())
    return found.cte("last_message").prefix_with("MATERIALIZED")


def _has_states_of_new_id() -> ColumnElement[bool]:
    """Match if states are stored under the id of the copy, where a fork must not mix its own with them."""
    new = aliased(StateHeadRow)
    is_live = ~has_expired(new.updated_at, "setting_state_ttl")
    return select(new.session_id).where(new.user_id == USER, new.session_id == _NEW, is_live).exists()


def _fork(at: type[str] | type[int] | None) -> ClauseElement:
    """Copy the session as ``new_id``, with its messages and state rounds up to a message: see :func:`_last_message`.

    Returns the source's id, the seq of the last message copied, and whether states are stored under the new id, in
    which case nothing is copied. No row: the source does not exist. Null for the seq: it has no such message. Fails
    with 23505 if a session has the new id.

    It reads one snapshot and takes no lock on the source: a concurrent write is copied as a whole or not at all.
    """
    source = select(SessionRow).where(LIVE_SESSION).cte("source").prefix_with("MATERIALIZED")
    is_taken = select(_has_states_of_new_id().label("is_taken")).cte("taken").prefix_with("MATERIALIZED")
    found = _last_message(source, at)
    last = (
        select(found.c.seq, found.c.until)
        .join(is_taken, ~is_taken.c.is_taken)
        .cte("last_if_free")
        .prefix_with("MATERIALIZED")
    )
    values = {
        "user_id": USER,
        "id": _NEW,
        "next_seq": last.c.seq + 1,
        "title": source.c.title,
        "metadata": source.c.metadata,
        "forked_from": source.c.id,
        "forked_at": last.c.seq,
        "ttl": source.c.ttl,
    }
    session = (
        insert(SessionRow)
        .from_select(list(values), select(*values.values()).select_from(source.join(last, true())))
        .returning(_ONE)
        .cte("created")
    )
    messages = (
        insert(MessageRow)
        .from_select(
            MESSAGE_COLUMNS,
            select(USER, _NEW, MessageRow.seq, MessageRow.id, MessageRow.payload, MessageRow.created_at)
            .join(last, MessageRow.seq <= last.c.seq)
            .where(ITS_MESSAGES),
        )
        .returning(_ONE)
        .cte("created_messages")
    )
    state = StateRoundRow
    states_are_live = (
        select(StateHeadRow.session_id)
        .where(_ITS_HEAD, ~has_expired(StateHeadRow.updated_at, "setting_state_ttl"))
        .correlate(None)
        .exists()
    )
    saved_before = states_are_live & or_(last.c.until.is_(None), state.saved_at < last.c.until)
    last_round = func.max(state.round)
    head = (
        insert(StateHeadRow)
        .from_select(
            ["user_id", "session_id", "next_round", "last_round"],
            select(USER, _NEW, last_round + 1, last_round)
            .join(last, saved_before)
            .where(_ITS_ROUNDS)
            .having(last_round.is_not(None)),
        )
        .returning(_ONE)
        .cte("created_head")
    )
    rounds = (
        insert(state)
        .from_select(
            ["user_id", "session_id", "round", "payload", "packed", "metadata", "size", "saved_at"],
            select(USER, _NEW, state.round, state.payload, state.packed, state.metadata_, state.size, state.saved_at)
            .join(last, saved_before)
            .where(_ITS_ROUNDS),
        )
        .returning(_ONE)
        .cte("created_rounds")
    )
    return (
        select(source.c.id, found.c.seq, is_taken.c.is_taken)
        .select_from(source.outerjoin(found, true()).join(is_taken, true()))
        .add_cte(session, messages, head, rounds)
    )


def _rewind() -> ClauseElement:
    """Delete the messages after the position ``at``, and the state rounds saved since the first of them was stored.

    The rows of the session and of its states must be locked: see :data:`LOCK` and :data:`LOCK_STATES`.
    """
    state = StateRoundRow
    at: ColumnElement[int] = cast(bindparam("at", type_=BigInteger), BigInteger)
    first = select(MessageRow.created_at).where(ITS_MESSAGES, MessageRow.seq == at + 1).cte("first")
    until = select(first.c.created_at).scalar_subquery()
    messages = delete(MessageRow).where(ITS_MESSAGES, MessageRow.seq > at).returning(_ONE).cte("deleted_messages")
    rounds = delete(state).where(_ITS_ROUNDS, state.saved_at >= until).returning(_ONE).cte("deleted_rounds")
    last_round = select(func.max(state.round)).where(_ITS_ROUNDS, state.saved_at < until)
    head = (
        update(StateHeadRow)
        .where(_ITS_HEAD)
        .values(last_round=func.coalesce(last_round.scalar_subquery(), 0))
        .returning(_ONE)
        .cte("head")
    )
    now = func.now()
    session = (
        update(SessionRow)
        .where(LIVE_SESSION)
        .values(
            next_seq=at + 1,
            updated_at=func.greatest(SessionRow.updated_at, now),
            listed_at=func.greatest(SessionRow.listed_at, func.date_trunc("minute", now)),
        )
        .returning(SessionRow.next_seq)
    )
    return session.add_cte(messages, rounds, head)


def _lock() -> ClauseElement:
    """Lock the session and return how many messages it has.

    In a transaction, before :data:`REWIND`: a statement that itself waited for an append would not see the messages
    of that append. The user's row, which the fork references, is locked first: deleting a user locks in the same order.
    """
    owner = select(UserRow.id).where(UserRow.id == USER).with_for_update(read=True, key_share=True).cte("owner")
    return (
        select(SessionRow.next_seq - 1)
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


FORK = {kind: Statement(partial(_fork, kind), scope="user", repeatable=False) for kind in (None, str, int)}
"""By the kind of ``at``: None copies all messages, str those up to a message's id, int the first `at` messages."""
REWIND = Statement(_rewind, scope="user", repeatable=False)
LOCK = Statement(_lock, scope="user", repeatable=False)
LOCK_STATES = Statement(_lock_states, scope="user", repeatable=False)
FIND = Statement(
    select(MessageRow.seq).where(ITS_MESSAGES, MessageRow.id == bindparam("message_id", type_=Text)), scope="user"
)
