"""The statements that copy a session up to one of its messages, and that cut it off there.

The state rounds of that moment are those that were saved before the next message came: what an agent saves after its
answer belongs to that answer.
"""

from sqlalchemy import (
    CTE,
    BigInteger,
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
from agentstore.repositories.retention import has_expired, is_not_expired

_USER = bindparam("user_id", type_=Text)
_SESSION = bindparam("session_id", type_=Text)
_NEW = bindparam("new_id", type_=Text)
_THIS = (SessionRow.user_id == _USER) & (SessionRow.id == _SESSION) & is_not_expired(SessionRow)
_ITS_MESSAGES = (MessageRow.user_id == _USER) & (MessageRow.session_id == _SESSION)
# The session's id, or the name under which states of the empty id are.
_STATES = bindparam("state_session", type_=Text)
_ITS_HEAD = (StateHeadRow.user_id == _USER) & (StateHeadRow.session_id == _STATES)
_ITS_ROUNDS = (StateRoundRow.user_id == _USER) & (StateRoundRow.session_id == _STATES)
_DONE: ColumnElement[int] = literal_column("1")


def _source() -> CTE:
    return select(SessionRow).where(_THIS).cte("source").prefix_with("MATERIALIZED")


def _cut(source: CTE, at: type[str] | type[int] | None) -> CTE:
    """The seq of the last message that is wanted, and when the next one came. No row: there is no such message."""
    if at is str:
        wanted = MessageRow.id == bindparam("at", type_=Text)
        last = select(MessageRow.seq).where(_ITS_MESSAGES, wanted).cte("last")
    elif at is int:
        seq: ColumnElement[int] = cast(bindparam("at", type_=BigInteger), BigInteger)
        last = select(seq.label("seq")).select_from(source).where(seq < source.c.next_seq).cte("last")
    else:
        last = select((source.c.next_seq - 1).label("seq")).cte("last")
    following = select(MessageRow.created_at).where(_ITS_MESSAGES, MessageRow.seq == last.c.seq + 1)
    cut = select(last.c.seq, following.scalar_subquery().label("until")).select_from(last).join(source, true())
    return cut.cte("cut").prefix_with("MATERIALIZED")


_STATES_ARE_KEPT = (
    select(StateHeadRow.session_id)
    .where(_ITS_HEAD, ~has_expired(StateHeadRow.updated_at, "setting_state_ttl"))
    .correlate(None)
    .exists()
)


def _has_states_of_new_id() -> ColumnElement[bool]:
    """Whether there are states under the id of the copy, which are somebody else's."""
    new = aliased(StateHeadRow)
    kept = ~has_expired(new.updated_at, "setting_state_ttl")
    return select(new.session_id).where(new.user_id == _USER, new.session_id == _NEW, kept).exists()


def _fork(at: type[str] | type[int] | None) -> Statement:
    """Copy the session as `new_id`, with its messages and state rounds up to a message, and return the source's id.

    One snapshot and no lock: what is written meanwhile is in the copy or not. 23505: there is such a session, or
    states of one, which the third column says as well. No row: there is no source; no seq: it has no such message.
    """
    source = _source()
    is_taken = select(_has_states_of_new_id().label("is_taken")).cte("taken").prefix_with("MATERIALIZED")
    found = _cut(source, at)
    cut = (
        select(found.c.seq, found.c.until)
        .join(is_taken, ~is_taken.c.is_taken)
        .cte("wanted")
        .prefix_with("MATERIALIZED")
    )
    values = {
        "user_id": _USER,
        "id": _NEW,
        "next_seq": cut.c.seq + 1,
        "title": source.c.title,
        "metadata": source.c.metadata,
        "forked_from": source.c.id,
        "forked_at": cut.c.seq,
        "ttl": source.c.ttl,
    }
    session = (
        insert(SessionRow)
        .from_select(list(values), select(*values.values()).select_from(source.join(cut, true())))
        .returning(_DONE)
        .cte("made")
    )
    messages = (
        insert(MessageRow)
        .from_select(
            ["user_id", "session_id", "seq", "id", "payload", "created_at"],
            select(_USER, _NEW, MessageRow.seq, MessageRow.id, MessageRow.payload, MessageRow.created_at)
            .join(cut, MessageRow.seq <= cut.c.seq)
            .where(_ITS_MESSAGES),
        )
        .returning(_DONE)
        .cte("made_messages")
    )
    state = StateRoundRow
    saved_before = _STATES_ARE_KEPT & or_(cut.c.until.is_(None), state.saved_at < cut.c.until)
    last = func.max(state.round)
    head = (
        insert(StateHeadRow)
        .from_select(
            ["user_id", "session_id", "next_round", "last_round"],
            select(_USER, _NEW, last + 1, last).join(cut, saved_before).where(_ITS_ROUNDS).having(last.is_not(None)),
        )
        .returning(_DONE)
        .cte("made_head")
    )
    rounds = (
        insert(state)
        .from_select(
            ["user_id", "session_id", "round", "payload", "packed", "metadata", "size", "saved_at"],
            select(_USER, _NEW, state.round, state.payload, state.packed, state.metadata_, state.size, state.saved_at)
            .join(cut, saved_before)
            .where(_ITS_ROUNDS),
        )
        .returning(_DONE)
        .cte("made_rounds")
    )
    return Statement(
        select(source.c.id, found.c.seq, is_taken.c.is_taken)
        .select_from(source.outerjoin(found, true()).join(is_taken, true()))
        .add_cte(session, messages, head, rounds),
        repeatable=False,
    )


def _cut_off() -> Statement:
    """Delete the messages after a number, and the state rounds that were saved since; the rows are locked by then."""
    state = StateRoundRow
    at: ColumnElement[int] = cast(bindparam("at", type_=BigInteger), BigInteger)
    first = select(MessageRow.created_at).where(_ITS_MESSAGES, MessageRow.seq == at + 1).cte("first")
    until = select(first.c.created_at).scalar_subquery()
    messages = delete(MessageRow).where(_ITS_MESSAGES, MessageRow.seq > at).returning(_DONE).cte("deleted_messages")
    rounds = delete(state).where(_ITS_ROUNDS, state.saved_at >= until).returning(_DONE).cte("deleted_rounds")
    kept = select(func.max(state.round)).where(_ITS_ROUNDS, state.saved_at < until)
    head = (
        update(StateHeadRow)
        .where(_ITS_HEAD)
        .values(last_round=func.coalesce(kept.scalar_subquery(), 0))
        .returning(_DONE)
        .cte("head")
    )
    now = func.now()
    session = (
        update(SessionRow)
        .where(_THIS)
        .values(
            next_seq=at + 1,
            updated_at=func.greatest(SessionRow.updated_at, now),
            listed_at=func.greatest(SessionRow.listed_at, func.date_trunc("minute", now)),
        )
        .returning(SessionRow.next_seq)
    )
    return Statement(session.add_cte(messages, rounds, head), repeatable=False)


FORK = {kind: _fork(kind) for kind in (None, str, int)}
CUT_OFF = _cut_off()
# In a transaction, before what is cut off: a statement that waited for an append would not see what that has added.
# The user first, as deleting one does: the copy needs the user's row.
_OWNER = select(UserRow.id).where(UserRow.id == _USER).with_for_update(read=True, key_share=True).cte("owner")
LOCK = Statement(
    select(SessionRow.next_seq - 1)
    .join(_OWNER.prefix_with("MATERIALIZED"), true())
    .where(_THIS)
    .with_for_update(of=SessionRow),
    repeatable=False,
)
# Made where there is none, so that a first save waits, too.
LOCK_STATES = Statement(
    upsert(StateHeadRow)
    .values(user_id=_USER, session_id=_STATES)
    .on_conflict_do_update(index_elements=["user_id", "session_id"], set_={"last_round": StateHeadRow.last_round})
    .returning(StateHeadRow.last_round),
    repeatable=False,
)
FIND = Statement(select(MessageRow.seq).where(_ITS_MESSAGES, MessageRow.id == bindparam("message_id", type_=Text)))
