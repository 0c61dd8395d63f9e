"""The statements that list, delete and expire whole memories. Search, items, vectors and the queue have their own."""

from collections.abc import Callable
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
    select,
    tuple_,
    update,
)

from agentstore.database.sql import SqlStatements
from agentstore.database.statement import Statement
from agentstore.models import MemoryBucketRow, MemoryRow
from agentstore.repositories.retention import has_expired, is_idle, is_in_no_expired_bucket

SQL = SqlStatements(__file__)

_USER = bindparam("user_id", type_=Text)
_SESSION = bindparam("session_id", type_=Text)
_LIMIT = bindparam("limit", type_=BigInteger)
_PAYLOAD = cast(MemoryRow.payload, Text).label("payload")


def _list_after() -> ClauseElement:
    return (
        select(
            MemoryRow.session_id,
            MemoryRow.seq,
            _PAYLOAD,
            MemoryRow.kind,
            MemoryRow.valid_until,
            MemoryRow.namespace,
            MemoryRow.time,
        )
        .where(
            MemoryRow.user_id == _USER,
            is_in_no_expired_bucket(MemoryRow.session_id),
            tuple_(MemoryRow.session_id, MemoryRow.seq)
            > tuple_(bindparam("after_session", type_=Text), bindparam("after", type_=BigInteger)),
        )
        .order_by(MemoryRow.session_id, MemoryRow.seq)
        .limit(_LIMIT)
    )


def _delete() -> ClauseElement:
    """Delete a bucket and, by its foreign key's cascade, its memories; return their number from the bucket's row."""
    return (
        delete(MemoryBucketRow)
        .where(MemoryBucketRow.user_id == _USER, MemoryBucketRow.session_id == _SESSION)
        .returning(MemoryBucketRow.count)
    )


def _locked(*conditions: ColumnElement[bool]) -> CTE:
    """Lock a user's buckets in the order of their session ids, so that concurrent statements do not deadlock."""
    buckets = MemoryBucketRow
    return (
        select(buckets.session_id)
        .where(buckets.user_id == _USER, *conditions)
        .order_by(buckets.session_id)
        .with_for_update()
        .cte("locked")
        .prefix_with("MATERIALIZED")
    )


def _delete_all(condition: Callable[[], ColumnElement[bool]] | None = None) -> ClauseElement:
    buckets = MemoryBucketRow
    locked = _locked() if condition is None else _locked(condition())
    return (
        delete(buckets)
        .where(buckets.user_id == _USER, buckets.session_id == locked.c.session_id)
        .returning(buckets.count)
    )


def _touch() -> ClauseElement:
    updated_at = MemoryBucketRow.updated_at
    buckets, locked = MemoryBucketRow, _locked(is_idle(updated_at), ~has_expired(updated_at))
    return (
        update(buckets)
        .where(buckets.user_id == _USER, buckets.session_id == locked.c.session_id)
        .values(updated_at=func.now())
        .returning(buckets.session_id)
    )


LIST = SQL("list")
LIST_AFTER = Statement(_list_after, name="memory.list_after", scope="user")
LIST_OF_SESSIONS = SQL("list_of_sessions")
LIST_LABELED = SQL("list_labeled")
DELETE = Statement(_delete, name="memory.delete", scope="user")
DELETE_ALL = Statement(_delete_all, name="memory.delete_all", scope="user")
TOUCH = Statement(_touch, name="memory.touch", scope="user", repeatable=True)
# The sessions whose memories have expired. Executed before every read where memories expire.
LIST_EXPIRED = Statement(
    select(MemoryBucketRow.session_id).where(MemoryBucketRow.user_id == _USER, has_expired(MemoryBucketRow.updated_at)),
    name="memory.list_expired",
    scope="user",
)
# Executed before every write where memories expire, so that no other statement needs to check their age.
EXPIRE = Statement(
    partial(_delete_all, lambda: has_expired(MemoryBucketRow.updated_at)), name="memory.expire", scope="user"
)
