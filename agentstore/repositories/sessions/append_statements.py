"""The statements that append messages to sessions.

Each claims the next positions of a session by raising the counter ``next_seq`` of its row, and inserts the messages at
these positions. The update locks the row until the commit: appends to one session follow each other without a gap in
the positions, and appends to different sessions do not block each other.
"""

from typing import Any

from sqlalchemy import (
    ARRAY,
    CTE,
    BigInteger,
    ClauseElement,
    ColumnElement,
    Text,
    bindparam,
    case,
    cast,
    func,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.sql.elements import Grouping

from agentstore.database.statement import Statement, generic_plan
from agentstore.models import MessageRow, SessionRow
from agentstore.repositories.retention import is_not_expired
from agentstore.repositories.sessions.statements import (
    GIVEN_MESSAGES,
    ITS_MESSAGES,
    LIVE_SESSION,
    MESSAGE_COLUMNS,
    SESSION,
    USER,
)


def _claimed_values(count: ColumnElement[int], now: ColumnElement[Any]) -> dict[str, ColumnElement[Any]]:
    """Return the new values of a session's row whose next `count` positions are claimed.

    listed_at changes once a minute only, so most appends write to no index. Neither timestamp moves backwards: now() is
    when the transaction began, and the row may hold a later one if it then waited for the lock.
    """
    return {
        "next_seq": SessionRow.next_seq + count,
        "updated_at": func.greatest(SessionRow.updated_at, now),
        "listed_at": func.greatest(SessionRow.listed_at, func.date_trunc("minute", now)),
    }


def _claim(count: ColumnElement[int], *where: ColumnElement[bool], now: ColumnElement[Any]) -> CTE:
    """Claim the session's next `count` positions; return the first, as ``base``, and the new updated_at."""
    return (
        update(SessionRow)
        .where(LIVE_SESSION, *where)
        .values(_claimed_values(count, now))
        .returning((SessionRow.next_seq - count).label("base"), SessionRow.updated_at)
        .cte("claimed")
    )


def _append() -> ClauseElement:
    """Append the messages, and return a row for each: its timestamp for the first, null for the others.

    No row: the session does not exist. Fails with 23505 if an id is stored already.
    """
    claimed = _claim(bindparam("count", type_=BigInteger), now=func.now())
    given = GIVEN_MESSAGES.c
    seq = claimed.c.base + given.position - 1
    # Only once: decoding a timestamp for each message takes the driver longer than it takes the server to insert them.
    first = Grouping(bindparam("ids", type_=ARRAY(Text)))[1]
    time = case((MessageRow.id == first, MessageRow.created_at))
    # RETURNING on the INSERT, and not a count of it: without RETURNING, Citus would execute it as a COPY.
    return (
        insert(MessageRow)
        .from_select(
            MESSAGE_COLUMNS, select(USER, SESSION, seq, given.id, cast(given.payload, JSON), claimed.c.updated_at)
        )
        .returning(time)
    )


def _append_to_many() -> ClauseElement:
    """Append to several sessions, and return the number of each session, from 1, and its timestamp.

    ``users`` and ``sessions`` name the sessions. ``counts`` says how many messages each gets, ``firsts`` how many
    messages of the call come before them; ``numbers`` names, for each message, its session by number.

    It waits for no lock: a session that another transaction has locked, or that does not exist, is skipped, and its
    number is not returned. Fails with 23505, storing nothing, if an id is stored already. Citus refuses it, since it
    locks sessions of several users.
    """
    targets = (
        func.unnest(
            *(generic_plan(bindparam(name, type_=ARRAY(Text))) for name in ("users", "sessions")),
            *(generic_plan(bindparam(name, type_=ARRAY(BigInteger))) for name in ("counts", "firsts")),
        )
        .table_valued("user_id", "id", "count", "first", with_ordinality="number", name="targets")
        .render_derived()
    )
    given = (
        func.unnest(
            generic_plan(bindparam("numbers", type_=ARRAY(BigInteger))),
            *(generic_plan(bindparam(name, type_=ARRAY(Text))) for name in ("ids", "payloads")),
        )
        .table_valued("number", "id", "payload", with_ordinality="position", name="given")
        .render_derived()
    )
    unlocked = (
        select(SessionRow.user_id, SessionRow.id, targets.c.count, targets.c.first, targets.c.number)
        .join(targets, (SessionRow.user_id == targets.c.user_id) & (SessionRow.id == targets.c.id))
        .where(is_not_expired(SessionRow))
        .with_for_update(key_share=True, skip_locked=True, of=SessionRow)
        .cte("unlocked")
        .prefix_with("MATERIALIZED")
    )
    claimed = (
        update(SessionRow)
        .where(SessionRow.user_id == unlocked.c.user_id, SessionRow.id == unlocked.c.id)
        .values(_claimed_values(unlocked.c.count, func.now()))
        .returning(
            SessionRow.user_id,
            SessionRow.id,
            (SessionRow.next_seq - unlocked.c.count - unlocked.c.first).label("base"),
            SessionRow.updated_at,
            unlocked.c.number,
        )
        .cte("claimed")
    )
    seq = claimed.c.base + given.c.position - 1
    inserted = (
        insert(MessageRow)
        .from_select(
            MESSAGE_COLUMNS,
            select(
                claimed.c.user_id, claimed.c.id, seq, given.c.id, cast(given.c.payload, JSON), claimed.c.updated_at
            ).join(given, given.c.number == claimed.c.number),
        )
        .returning(literal_column("1"))
        .cte("inserted")
    )
    return select(claimed.c.number, claimed.c.updated_at).add_cte(inserted)


def _append_missing() -> ClauseElement:
    """Append the messages that are not stored, unless one is stored with different text.

    Returns a row for each message: its id; the stored text if that differs, else null; whether the message is new; the
    timestamp of the append, null if nothing was stored. ``same`` are ids whose stored text differs and was found to
    have equal content; ``at`` is the timestamp of the new messages, null for now().

    Fails with 23505 if a concurrent transaction stores one of the ids: the snapshot does not include what the statement
    has waited for. Execute it again then.
    """
    at = func.coalesce(bindparam("at", type_=SessionRow.updated_at.type), func.now())
    given = GIVEN_MESSAGES.c
    stored = cast(MessageRow.payload, Text)
    differs = (stored != given.payload) & (given.id != func.all(bindparam("same", type_=ARRAY(Text))))
    known = (
        select(
            given.id,
            given.payload,
            given.position,
            MessageRow.seq.is_(None).label("is_new"),
            case((differs, stored)).label("stored"),
        )
        .select_from(GIVEN_MESSAGES.outerjoin(MessageRow, ITS_MESSAGES & (MessageRow.id == given.id)))
        .cte("known")
        .prefix_with("MATERIALIZED")
    )
    counted = select(
        func.count().filter(known.c.is_new).label("missing"), func.count(known.c.stored).label("differing")
    ).cte("counted")
    claimed = _claim(counted.c.missing, counted.c.missing > 0, counted.c.differing == 0, now=at)
    seq = claimed.c.base + func.row_number().over(order_by=known.c.position) - 1
    inserted = (
        insert(MessageRow)
        .from_select(
            MESSAGE_COLUMNS,
            select(USER, SESSION, seq, known.c.id, cast(known.c.payload, JSON), claimed.c.updated_at).where(
                known.c.is_new
            ),
        )
        .returning(literal_column("1"))
        .cte("inserted")
    )
    return (
        select(known.c.id, known.c.stored, known.c.is_new, select(claimed.c.updated_at).scalar_subquery())
        .order_by(known.c.position)
        .add_cte(inserted)
    )


# Repeatable: executed again with the same ids, each fails with 23505 or stores nothing more.
APPEND = Statement(_append, scope="user", repeatable=True)
APPEND_TO_MANY = Statement(_append_to_many, scope="all", repeatable=True)
APPEND_MISSING = Statement(_append_missing, scope="user", repeatable=True)
