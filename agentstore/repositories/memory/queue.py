"""The statements of the extraction queue: messages from which items have yet to be extracted.

A job is a range of a bucket's messages. Each bucket has at most one open job. Adding messages extends it in the same
statement, and postpones it a little. A worker claims a job by writing a random token to ``lease``, and every later
statement of the worker selects the job by it: after the lease has expired and another worker has claimed the job,
they have no effect.

On Citus, where tables are distributed by user, one statement cannot lock and skip rows of several users. Jobs are
therefore listed first, and then claimed one by one by their keys.
"""

from functools import partial
from typing import Any

from sqlalchemy import (
    ARRAY,
    CTE,
    BigInteger,
    ClauseElement,
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

MAX_MESSAGES = 50
"""The maximum number of messages for one call of an extractor. A job with that many is not postponed any more."""

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
_IS_LEASED = (_JOB.user_id == _USER, _JOB.session_id == _SESSION, _JOB.first_seq == _FIRST, _JOB.lease == _LEASE)


def enqueue_cte(claimed: CTE, count: ColumnElement[Any]) -> CTE:
    """Extend the bucket's open job by the `count` memories after ``claimed.base``, or open one.

    The job is due `settle` after the last addition, or up to `slack` earlier, so that a conversation is extracted when
    it has paused. A job that has enough messages for a call is not postponed; one that is due later than that, after a
    failure, stays so. Because of the slack, most additions do not update the index on ``run_after``.
    """
    job = upsert(_JOB).from_select(
        ["user_id", "session_id", "first_seq", "last_seq", "run_after"],
        select(
            *(_USER, _SESSION, claimed.c.base + 1, claimed.c.base + count),
            func.now(type_=_TIME) + bindparam("settle", type_=Interval),
        ),
    )
    is_full = job.excluded.last_seq - _JOB.first_seq >= literal(MAX_MESSAGES, BigInteger)
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
    """Return the conditions for claiming a job: it is due, and no other worker has a job of the same user.

    The conversations of a user are extracted one after another, so that each is read together with the items of the
    previous ones. Two workers that claim at the same moment may still take two jobs of one user.
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
        # After a failure, `early` does not shorten the delay.
        or_(_JOB.error.is_(None), _JOB.run_after <= now),
        or_(_JOB.leased_until.is_(None), _JOB.leased_until <= now),
        ~busy,
    ]


def _claim() -> ClauseElement:
    """Claim a job that was listed as due, if it is still due and no other transaction has locked it."""
    due = (
        select(_JOB.first_seq)
        .where(_JOB.user_id == _USER, _JOB.session_id == _SESSION, _JOB.first_seq == _FIRST, *_due())
        .with_for_update(skip_locked=True, of=_JOB)
        .cte("due")
        .prefix_with("MATERIALIZED")
    )
    until = func.now(type_=_TIME) + bindparam("lease_time", type_=Interval)
    return (
        update(_JOB)
        .where(_JOB.user_id == _USER, _JOB.session_id == _SESSION, _JOB.first_seq == due.c.first_seq)
        .values(lease=_LEASE, leased_until=until, attempts=_JOB.attempts + 1)
        .returning(_JOB.user_id, _JOB.session_id, _JOB.first_seq, _JOB.last_seq, _JOB.attempts, _JOB.outages)
    )


def _finish() -> ClauseElement:
    """Delete the job, or shorten it by the messages that are done.

    Returns no row if another worker has claimed the job, or the job was deleted with its bucket. The caller has
    locked the bucket, as every addition does before it extends the job.
    """
    done = (
        delete(_JOB).where(*_IS_LEASED, _JOB.last_seq <= _DONE).returning(literal_column("1").label("one")).cte("done")
    )
    rest = (
        update(_JOB)
        .where(*_IS_LEASED, _JOB.last_seq > _DONE)
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
    return select(done.c.one).union_all(select(rest.c.one))


def _mark_failed() -> ClauseElement:
    """Mark the part of the job that was tried as failed, and insert the rest of it as a new job."""
    # Locks the bucket first, as a deletion does, because `rest` refers to it by a foreign key.
    bucket = (
        select(MemoryBucketRow.user_id, MemoryBucketRow.session_id)
        .where(MemoryBucketRow.user_id == _USER, MemoryBucketRow.session_id == _SESSION)
        .with_for_update(read=True, key_share=True)
        .cte("bucket")
        .prefix_with("MATERIALIZED")
    )
    leased = (
        select(_JOB)
        .where(*_IS_LEASED, _JOB.user_id == bucket.c.user_id, _JOB.session_id == bucket.c.session_id)
        .with_for_update(of=_JOB)
        .cte("leased")
        .prefix_with("MATERIALIZED")
    )
    failed = (
        update(_JOB)
        .where(*_IS_LEASED, _JOB.first_seq == leased.c.first_seq)
        .values(
            last_seq=_DONE,
            is_open=literal_column("false"),
            failed_at=func.now(),
            lease=null(),
            leased_until=null(),
            error=_ERROR,
        )
        .returning(leased.c.last_seq.label("last_seq"), leased.c.is_open.label("is_open"))
        .cte("failed")
    )
    # Reads from `failed`, so that it is executed after it: a bucket has at most one open job.
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
    return select(failed.c.last_seq).add_cte(rest)


def _list_failed(*, after: bool) -> ClauseElement:
    """Return failed jobs by user, session and first message."""
    conditions = [_JOB.failed_at.is_not(None), or_(_OWNER.is_(None), _JOB.user_id == _OWNER)]
    if after:
        columns = (("after_user", Text), ("after_session", Text), ("after_seq", BigInteger))
        key = tuple_(*(bindparam(name, type_=kind) for name, kind in columns))
        conditions.append(tuple_(_JOB.user_id, _JOB.session_id, _JOB.first_seq) > key)
    return (
        select(
            *(_JOB.user_id, _JOB.session_id, _JOB.first_seq, _JOB.last_seq),
            *((_JOB.attempts + _JOB.outages).label("attempts"), _JOB.failed_at, _JOB.error),
        )
        .where(*conditions)
        .order_by(_JOB.user_id, _JOB.session_id, _JOB.first_seq)
        .limit(_LIMIT)
    )


def _retry() -> ClauseElement:
    """Make the failed jobs of a user due again. Locks them in order, so that concurrent calls do not deadlock."""
    failed = (
        select(_JOB.session_id, _JOB.first_seq)
        .where(_JOB.failed_at.is_not(None), _JOB.user_id == _USER)
        .order_by(_JOB.session_id, _JOB.first_seq)
        .with_for_update()
        .cte("failed")
        .prefix_with("MATERIALIZED")
    )
    return (
        update(_JOB)
        .where(
            *(_JOB.user_id == _USER, _JOB.session_id == failed.c.session_id),
            *(_JOB.first_seq == failed.c.first_seq, _JOB.failed_at.is_not(None)),
        )
        .values(failed_at=null(), attempts=literal(0, BigInteger), outages=literal(0, BigInteger), run_after=func.now())
        .returning(_JOB.user_id)
    )


def _list_due() -> ClauseElement:
    """Return the keys of the jobs that have been due for longest; another worker may claim one before the caller."""
    return (
        select(_JOB.user_id, _JOB.session_id, _JOB.first_seq)
        .where(*_due(), or_(_OWNER.is_(None), _JOB.user_id == _OWNER))
        .order_by(_JOB.run_after)
        .limit(_LIMIT)
    )


def _read_messages() -> ClauseElement:
    """Return the messages in a job's range. Items are in the same sequence, and are left out."""
    return (
        select(MemoryRow.seq, cast(MemoryRow.payload, Text).label("payload"), MemoryRow.time)
        .where(
            *(MemoryRow.user_id == _USER, MemoryRow.session_id == _SESSION),
            *(MemoryRow.seq >= _FIRST, MemoryRow.seq <= bindparam("last_seq", type_=BigInteger)),
            MemoryRow.kind == MESSAGE,
        )
        .order_by(MemoryRow.seq)
        .limit(_LIMIT)
    )


def _release_for_retry() -> ClauseElement:
    """Release the job after a failure, to be retried after `delay`.

    Messages that are added meanwhile wait with it. `not_attempts` takes back the attempt that the claim counted.
    """
    return (
        update(_JOB)
        .where(*_IS_LEASED)
        .values(
            lease=null(),
            leased_until=null(),
            error=_ERROR,
            attempts=_JOB.attempts - bindparam("not_attempts", type_=BigInteger),
            outages=_JOB.outages + bindparam("outages", type_=BigInteger),
            run_after=func.now(type_=_TIME) + bindparam("delay", type_=Interval),
        )
        .returning(literal_column("1"))
    )


LIST_DUE = Statement(_list_due, scope="all")
CLAIM = Statement(_claim, scope="user")
READ_MESSAGES = Statement(_read_messages, scope="user")
# The current state of items that were given to an extractor.
READ_ITEMS = Statement(
    select(cast(MemoryRow.payload, Text).label("payload"), MemoryRow.valid_until).where(
        MemoryRow.user_id == _USER,
        MemoryRow.id == func.any(bindparam("ids", type_=ARRAY(Text))),
        MemoryRow.kind != MESSAGE,
    ),
    scope="user",
)
# Whether the worker still has the job.
CHECK_LEASE = Statement(select(literal_column("1").label("one")).select_from(_JOB).where(*_IS_LEASED), scope="user")
FINISH = Statement(_finish, scope="user")
RELEASE_FOR_RETRY = Statement(_release_for_retry, scope="user", repeatable=True)
MARK_FAILED = Statement(_mark_failed, scope="user")
# By the lease alone, because a worker that was canceled while it claimed a job does not know its key.
RELEASE = Statement(
    update(_JOB)
    .where(_JOB.lease == _LEASE)
    .values(lease=null(), leased_until=null(), attempts=_JOB.attempts - 1)
    .returning(literal_column("1")),
    scope="all",
    repeatable=True,
)
LIST_FAILED = Statement(partial(_list_failed, after=False), scope="all")
LIST_FAILED_AFTER = Statement(partial(_list_failed, after=True), scope="all")
# The next user who has failed jobs.
NEXT_FAILED_USER = Statement(
    select(_JOB.user_id)
    .where(_JOB.failed_at.is_not(None), _JOB.user_id > bindparam("after_user", type_=Text))
    .order_by(_JOB.user_id)
    .limit(literal_column("1")),
    scope="all",
)
RETRY = Statement(_retry, scope="user")
