"""The queue of messages that facts are still to be extracted from: its statements.

A job is a range of a bucket's memories. A bucket has one job that is open: each addition extends it, in its own
statement, and puts it off a little. Who works on a job leaves its name in ``lease``, by which every later statement
finds the job or does not: a lease that ran out and was taken by another has no effect any more.

In tables that are distributed by user, where rows of several users cannot be locked and skipped at once, a job is
claimed with `owner`.
"""

from typing import Any

from sqlalchemy import (
    ARRAY,
    CTE,
    BigInteger,
    ColumnElement,
    DateTime,
    Interval,
    Text,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    literal,
    literal_column,
    null,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import aliased

from agentstore.database.statement import Statement
from agentstore.models import MemoryBucketRow, MemoryExtractionRow, MemoryRow
from agentstore.schemas.memory_item import MESSAGE

MOST_MESSAGES = 50
"""The messages that one call of an extractor gets; a job that has so many is put off no more."""

_TIME = DateTime(timezone=True)
_USER = bindparam("user_id", type_=Text)
_SESSION = bindparam("session_id", type_=Text)
_FIRST = bindparam("first_seq", type_=BigInteger)
_DONE = bindparam("done_seq", type_=BigInteger)
_LEASE = bindparam("lease", type_=Text)
_ERROR = bindparam("error", type_=Text)
_LIMIT = bindparam("limit", type_=BigInteger)
_OWNER = bindparam("owner", type_=Text)
_JOB = MemoryExtractionRow
_MINE = (_JOB.user_id == _USER, _JOB.session_id == _SESSION, _JOB.first_seq == _FIRST, _JOB.lease == _LEASE)


def enqueued(claimed: CTE, count: ColumnElement[Any]) -> CTE:
    """Extend the bucket's open job by the `count` memories after ``claimed.base``, or open one; part of an addition.

    It is due `settle` after the last addition, or up to `slack` before that, since a conversation that goes on has
    more to say; unless it has enough for a call already, or waits for longer after a failure. The slack is why most
    additions leave the indexes alone.
    """
    job = upsert(_JOB).from_select(
        ["user_id", "session_id", "first_seq", "last_seq", "run_after"],
        select(
            *(_USER, _SESSION, claimed.c.base + 1, claimed.c.base + count),
            func.now(type_=_TIME) + bindparam("settle", type_=Interval),
        ),
    )
    is_full = job.excluded.last_seq - _JOB.first_seq >= literal(MOST_MESSAGES, BigInteger)
    is_late = bindparam("slack", type_=Interval) >= job.excluded.run_after - _JOB.run_after
    return (
        job.on_conflict_do_update(
            index_elements=["user_id", "session_id"],
            index_where=literal_column("is_open"),
            set_={
                "last_seq": job.excluded.last_seq,
                "run_after": case((or_(is_full, is_late), _JOB.run_after), else_=job.excluded.run_after),
            },
        )
        .returning(literal_column("1"))
        .cte("enqueued")
    )


def _due() -> list[ColumnElement[bool]]:
    """What a job has to be to be taken: due, and of a user whom no other worker is at work for.

    One user's conversations follow each other, so that each is read with the facts of those before in view. Two that
    claim in the same moment may still take two of one user's.
    """
    other = aliased(_JOB)
    now = func.now(type_=_TIME)
    busy = (
        select(other.user_id)
        .where(other.lease.is_not(None), other.user_id == _JOB.user_id, other.leased_until > now)
        .correlate(_JOB)
        .exists()
    )
    return [
        _JOB.failed_at.is_(None),
        _JOB.run_after <= now + bindparam("early", type_=Interval),
        # What failed waits out its time.
        or_(_JOB.error.is_(None), _JOB.run_after <= now),
        or_(_JOB.leased_until.is_(None), _JOB.leased_until <= now),
        ~busy,
    ]


def _claim() -> Statement:
    """Take a job that was found to be due, if it still is and nobody holds it."""
    due = (
        select(_JOB.first_seq)
        .where(_JOB.user_id == _USER, _JOB.session_id == _SESSION, _JOB.first_seq == _FIRST, *_due())
        .with_for_update(skip_locked=True, of=_JOB)
        .cte("due")
        .prefix_with("MATERIALIZED")
    )
    until = func.now(type_=_TIME) + bindparam("lease_time", type_=Interval)
    return Statement(
        update(_JOB)
        .where(_JOB.user_id == _USER, _JOB.session_id == _SESSION, _JOB.first_seq == due.c.first_seq)
        .values(lease=_LEASE, leased_until=until, attempts=_JOB.attempts + 1)
        .returning(_JOB.user_id, _JOB.session_id, _JOB.first_seq, _JOB.last_seq, _JOB.attempts, _JOB.outages)
    )


def _finish() -> Statement:
    """Delete the job, or what is done of it. No row: it is another's now, or went with its bucket.

    Said after the bucket was locked, which every addition locks before it extends the job.
    """
    done = delete(_JOB).where(*_MINE, _JOB.last_seq <= _DONE).returning(literal_column("1").label("one")).cte("done")
    rest = (
        update(_JOB)
        .where(*_MINE, _JOB.last_seq > _DONE)
        .values(
            first_seq=_DONE + 1,
            attempts=literal(0, BigInteger),
            outages=literal(0, BigInteger),
            lease=null(),
            leased_until=null(),
            error=null(),
        )
        .returning(literal_column("1").label("one"))
        .cte("rest")
    )
    return Statement(select(done.c.one).union_all(select(rest.c.one)))


def _set_aside() -> Statement:
    """Leave the part of the job that was tried as failed; the rest of it is a job of its own, not yet tried."""
    # The bucket first, as a deletion does: `rest` refers to it.
    bucket = (
        select(MemoryBucketRow.user_id, MemoryBucketRow.session_id)
        .where(MemoryBucketRow.user_id == _USER, MemoryBucketRow.session_id == _SESSION)
        .with_for_update(read=True, key_share=True)
        .cte("bucket")
        .prefix_with("MATERIALIZED")
    )
    mine = (
        select(_JOB)
        .where(*_MINE, _JOB.user_id == bucket.c.user_id, _JOB.session_id == bucket.c.session_id)
        .with_for_update(of=_JOB)
        .cte("mine")
        .prefix_with("MATERIALIZED")
    )
    failed = (
        update(_JOB)
        .where(*_MINE, _JOB.first_seq == mine.c.first_seq)
        .values(
            last_seq=_DONE,
            is_open=literal_column("false"),
            failed_at=func.now(),
            lease=null(),
            leased_until=null(),
            error=_ERROR,
        )
        .returning(mine.c.last_seq.label("last_seq"), mine.c.is_open.label("is_open"))
        .cte("failed")
    )
    # Reads the other, so that it follows it: a bucket has one open job.
    rest = (
        insert(_JOB)
        .from_select(
            ["user_id", "session_id", "first_seq", "last_seq", "is_open", "run_after"],
            select(_USER, _SESSION, _DONE + 1, failed.c.last_seq, failed.c.is_open, func.now()).where(
                failed.c.last_seq > _DONE
            ),
        )
        .returning(literal_column("1"))
        .cte("rest")
    )
    return Statement(select(failed.c.last_seq).add_cte(rest))


def _list_failed(*, after: bool) -> Statement:
    """Return the jobs that were set aside, by user, session and place."""
    wanted = [_JOB.failed_at.is_not(None), or_(_OWNER.is_(None), _JOB.user_id == _OWNER)]
    if after:
        place = (("after_user", Text), ("after_session", Text), ("after_seq", BigInteger))
        key = tuple_(*(bindparam(name, type_=kind) for name, kind in place))
        wanted.append(tuple_(_JOB.user_id, _JOB.session_id, _JOB.first_seq) > key)
    return Statement(
        select(
            *(_JOB.user_id, _JOB.session_id, _JOB.first_seq, _JOB.last_seq),
            *((_JOB.attempts + _JOB.outages).label("attempts"), _JOB.failed_at, _JOB.error),
        )
        .where(*wanted)
        .order_by(_JOB.user_id, _JOB.session_id, _JOB.first_seq)
        .limit(_LIMIT)
    )


def _retry() -> Statement:
    """Make failed jobs of a user due again; locked in order, so that two who do so do not deadlock."""
    failed = (
        select(_JOB.session_id, _JOB.first_seq)
        .where(_JOB.failed_at.is_not(None), _JOB.user_id == _USER)
        .order_by(_JOB.session_id, _JOB.first_seq)
        .with_for_update()
        .cte("again")
        .prefix_with("MATERIALIZED")
    )
    return Statement(
        update(_JOB)
        .where(
            *(_JOB.user_id == _USER, _JOB.session_id == failed.c.session_id),
            *(_JOB.first_seq == failed.c.first_seq, _JOB.failed_at.is_not(None)),
        )
        .values(failed_at=null(), attempts=literal(0, BigInteger), outages=literal(0, BigInteger), run_after=func.now())
        .returning(_JOB.user_id)
    )


# The jobs that have been due for longest, by their keys. They are taken one by one and each by its user, since Citus
# locks no rows of several: another worker may have taken it by then.
DUE = Statement(
    select(_JOB.user_id, _JOB.session_id, _JOB.first_seq)
    .where(*_due(), or_(_OWNER.is_(None), _JOB.user_id == _OWNER))
    .order_by(_JOB.run_after)
    .limit(_LIMIT)
)
CLAIM = _claim()
# The messages of a job's range; items are numbered with them.
READ = Statement(
    select(MemoryRow.seq, cast(MemoryRow.payload, Text).label("payload"), MemoryRow.time)
    .where(
        *(MemoryRow.user_id == _USER, MemoryRow.session_id == _SESSION),
        *(MemoryRow.seq >= _FIRST, MemoryRow.seq <= bindparam("last_seq", type_=BigInteger)),
        MemoryRow.kind == MESSAGE,
    )
    .order_by(MemoryRow.seq)
    .limit(_LIMIT)
)
# The items that an extractor was shown, as they are now.
SHOWN = Statement(
    select(cast(MemoryRow.payload, Text).label("payload"), MemoryRow.valid_until).where(
        MemoryRow.user_id == _USER,
        MemoryRow.id == func.any(bindparam("ids", type_=ARRAY(Text))),
        MemoryRow.kind != MESSAGE,
    )
)
# Whether the job is ours still.
HELD = Statement(select(literal_column("1").label("one")).select_from(_JOB).where(*_MINE))
FINISH = _finish()
# Again after `delay`; what is added meanwhile waits with it. What is no attempt the claim counted as one.
FAIL = Statement(
    update(_JOB)
    .where(*_MINE)
    .values(
        lease=null(),
        leased_until=null(),
        error=_ERROR,
        attempts=_JOB.attempts - bindparam("not_attempts", type_=BigInteger),
        outages=_JOB.outages + bindparam("outages", type_=BigInteger),
        run_after=func.now(type_=_TIME) + bindparam("delay", type_=Interval),
    )
    .returning(literal_column("1")),
    repeatable=True,
)
SET_ASIDE = _set_aside()
# By the lease alone: who was cancelled while it claimed does not know the job.
GIVE_BACK = Statement(
    update(_JOB)
    .where(_JOB.lease == _LEASE)
    .values(lease=null(), leased_until=null(), attempts=_JOB.attempts - 1)
    .returning(literal_column("1")),
    repeatable=True,
)
LIST_FAILED = _list_failed(after=False)
LIST_FAILED_AFTER = _list_failed(after=True)
# Whose jobs failed; one user's after another.
FAILED_USER = Statement(
    select(_JOB.user_id)
    .where(_JOB.failed_at.is_not(None), _JOB.user_id > bindparam("after_user", type_=Text))
    .order_by(_JOB.user_id)
    .limit(literal_column("1"))
)
RETRY = _retry()
