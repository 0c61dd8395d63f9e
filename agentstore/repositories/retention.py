"""Conditions on the age of rows: expired, idle."""

from typing import Any, Literal

from sqlalchemy import ARRAY, BigInteger, ColumnElement, Text, bindparam, cast, false, func, literal_column, true

_SECOND: ColumnElement[Any] = literal_column("interval '1 second'")
# Ages are compared, not timestamps: timestamptz + interval depends on the time zone, so it is only STABLE, and Citus
# rejects STABLE functions of a column in statements that write. Neither does it accept now() in coalesce there: IS NOT
# FALSE also matches null.


def is_not_expired(sessions: Any) -> ColumnElement[bool]:
    """Match sessions that have not expired: by their own ttl, otherwise by the setting, if there is one."""
    seconds = func.coalesce(sessions.ttl, cast(bindparam("setting_session_ttl", type_=BigInteger), BigInteger))
    is_live: ColumnElement[bool] = (func.now() - sessions.updated_at < seconds * _SECOND).is_not(false())
    return is_live


def is_idle(written: Any) -> ColumnElement[bool]:
    """Match rows whose timestamp `written` is at least ``:idle`` seconds ago."""
    seconds = cast(bindparam("idle", type_=BigInteger), BigInteger)
    idle: ColumnElement[bool] = func.now() - written >= seconds * _SECOND
    return idle


def has_expired(written: Any, setting: Literal["state_ttl", "memory_ttl"]) -> ColumnElement[bool]:
    """Match rows whose timestamp `written` is at least as many seconds ago as the setting says; none without it.

    The setting is a constant of the statement. If it were a parameter that is null, Postgres would plan each execution,
    since a plan for the value does without the condition.
    """
    seconds = cast(bindparam(f"setting_{setting}", type_=BigInteger), BigInteger)
    is_old: ColumnElement[bool] = (func.now() - written >= seconds * _SECOND).is_(true())
    return is_old


def is_in_no_expired_bucket(session_id: Any) -> ColumnElement[bool]:
    """Match memories of sessions that are not in the list ``:expired``."""
    condition: ColumnElement[bool] = session_id != func.all(bindparam("expired", type_=ARRAY(Text)))
    return condition
