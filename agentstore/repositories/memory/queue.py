"""The statements of the extraction queue: messages from which items have yet to be extracted.

A job is a range of a bucket's messages. Each bucket has at most one open job. Adding messages extends it in the same
statement, and postpones it a little. A worker claims a job by writing a random token to ``lease``, and every later
statement of the worker selects the job by it: after the lease has expired and another worker has claimed the job,
they have no effect.

On Citus, where tables are distributed by user, one statement cannot lock and skip rows of several users. Jobs are
therefore listed first, and then claimed one by one by their keys.
"""

from functools import partial
from itertools import product
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ClauseElement,
    ColumnElement,
    DateTime,
    Interval,
    Text,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    null,
    select,
    true,
    tuple_,
    update,
)

from agentstore.database.sql import SqlStatements
from agentstore.database.statement import Statement
from agentstore.models import MemoryExtractionRow, MemoryRow
from agentstore.schemas.memory_item import MESSAGE

SQL = SqlStatements(__file__)

_TIME = DateTime(timezone=True)
_USER = bindparam("user_id", type_=Text)
_SESSION = bindparam("session_id", type_=Text)
_FIRST = bindparam("first_seq", type_=BigInteger)
_LEASE = bindparam("lease", type_=Text)
_ERROR = bindparam("error", type_=Text)
_LIMIT = bindparam("limit", type_=BigInteger)
_JOB = MemoryExtractionRow
_IS_LEASED = (_JOB.user_id == _USER, _JOB.session_id == _SESSION, _JOB.first_seq == _FIRST, _JOB.lease == _LEASE)


def _list_failed(*, of_user: bool, after: bool) -> ClauseElement:
    """Return failed jobs, of one user or of all, by user, session and first message."""
    conditions: list[ColumnElement[bool]] = [_JOB.failed_at.is_not(None)]
    if of_user:
        conditions.append(_JOB.user_id == _USER)
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


def _list_pending(*, leased: bool, of_user: bool, after: bool) -> ClauseElement:
    """Return open jobs, those that are leased or the others, of one user or of all.

    Those of all users that are not leased are ordered by time, the others by their keys: each by an index.
    """
    is_leased = _JOB.leased_until > func.now(type_=_TIME)
    key: tuple[Any, ...] = (_JOB.user_id, _JOB.session_id, _JOB.first_seq)
    last: list[Any] = [bindparam("after_user", type_=Text), bindparam("after_session", type_=Text)]
    last.append(bindparam("after_seq", type_=BigInteger))
    if not leased and not of_user:
        key, last = (_JOB.run_after, *key), [bindparam("after_time", type_=_TIME), *last]
    conditions: list[ColumnElement[bool]] = [_JOB.failed_at.is_(None)]
    conditions += [_JOB.lease.is_not(None), is_leased] if leased else [is_leased.is_not(true())]
    conditions += [_JOB.user_id == _USER] if of_user else []
    conditions += [tuple_(*key) > tuple_(*last)] if after else []
    return (
        select(
            *(_JOB.user_id, _JOB.session_id, _JOB.first_seq, _JOB.last_seq),
            *((_JOB.attempts + _JOB.outages).label("attempts"), _JOB.run_after),
            *(case((is_leased, _JOB.leased_until)).label("leased_until"), _JOB.error),
        )
        .where(*conditions)
        .order_by(*key)
        .limit(_LIMIT)
    )


def _read_messages() -> ClauseElement:
    """Return the messages in a job's range. Items are in the same sequence, and are left out."""
    return (
        select(MemoryRow.seq, cast(MemoryRow.payload, Text).label("payload"), MemoryRow.time, MemoryRow.namespace)
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


def _release(*, of_user: bool) -> ClauseElement:
    """Release a job, of one user or of any, as if it had not been claimed.

    By the lease, because a worker that was canceled while it claimed a job does not know its key.
    """
    return (
        update(_JOB)
        .where(_JOB.lease == _LEASE, *([_JOB.user_id == _USER] if of_user else []))
        .values(lease=null(), leased_until=null(), attempts=_JOB.attempts - 1)
        .returning(literal_column("1"))
    )


LIST_DUE = SQL("list_due_extractions")
LIST_DUE_OF_USER = SQL("list_due_extractions_of_user")
CLAIM = SQL("claim_extraction")
READ_MESSAGES = Statement(_read_messages, name="memory.read_messages", scope="user")
# The current state of items that were given to an extractor.
READ_ITEMS = Statement(
    select(
        *(MemoryRow.session_id, MemoryRow.id, cast(MemoryRow.payload, Text).label("payload")),
        *(MemoryRow.kind, MemoryRow.valid_until, MemoryRow.namespace),
    ).where(
        MemoryRow.user_id == _USER,
        MemoryRow.id == func.any(bindparam("ids", type_=ARRAY(Text))),
        MemoryRow.kind != MESSAGE,
    ),
    name="memory.read_items",
    scope="user",
)
# Whether the worker still has the job.
CHECK_LEASE = Statement(
    select(literal_column("1").label("one")).select_from(_JOB).where(*_IS_LEASED),
    name="memory.check_lease",
    scope="user",
)
FINISH = SQL("finish_extraction")
RELEASE_FOR_RETRY = Statement(_release_for_retry, name="memory.release_for_retry", scope="user", repeatable=True)
MARK_FAILED = SQL("mark_extraction_failed")
RELEASE = Statement(partial(_release, of_user=False), name="memory.release", scope="all", repeatable=True)
RELEASE_OF_USER = Statement(
    partial(_release, of_user=True), name="memory.release_of_user", scope="user", repeatable=True
)
LIST_FAILED = Statement(partial(_list_failed, of_user=False, after=False), name="memory.list_failed", scope="all")
LIST_FAILED_AFTER = Statement(
    partial(_list_failed, of_user=False, after=True), name="memory.list_failed_after", scope="all"
)
LIST_FAILED_OF_USER = Statement(
    partial(_list_failed, of_user=True, after=False), name="memory.list_failed_of_user", scope="user"
)
LIST_FAILED_OF_USER_AFTER = Statement(
    partial(_list_failed, of_user=True, after=True), name="memory.list_failed_of_user_after", scope="user"
)
# Open jobs: all or of one user, from the first one or after another one.
PENDING = {
    key: Statement(
        partial(_list_pending, leased=kind == "leased", of_user=bool(of_user), after=bool(after)),
        name=f"memory.list_{key}",
        scope="user" if of_user else "all",
    )
    for kind, of_user, after in product(("waiting", "leased"), ("", "_of_user"), ("", "_after"))
    if (key := kind + of_user + after)
}
# The next user who has failed jobs.
NEXT_FAILED_USER = Statement(
    select(_JOB.user_id)
    .where(_JOB.failed_at.is_not(None), _JOB.user_id > bindparam("after_user", type_=Text))
    .order_by(_JOB.user_id)
    .limit(literal_column("1")),
    name="memory.next_failed_user",
    scope="all",
)
RETRY = SQL("retry_extractions")
