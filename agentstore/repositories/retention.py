"""Conditions on the age of rows: expired, idle."""

from typing import Any

from sqlalchemy import ARRAY, BigInteger, ColumnElement, Text, bindparam, cast, false, func, literal_column, true

_SECOND: ColumnElement[Any] = literal_column("interval '1 second'")
# In seconds: 3,000 years.
_NEVER = 100_000_000_000
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


def has_expired(written: Any) -> ColumnElement[bool]:
    """Match rows whose timestamp `written` is at least ``:ttl`` seconds ago, see :func:`ttl_of`."""
    seconds = cast(bindparam("ttl", type_=BigInteger), BigInteger)
    is_old: ColumnElement[bool] = (func.now() - written >= seconds * _SECOND).is_(true())
    return is_old


def ttl_of(setting: int | None) -> int:
    """Return the seconds of a setting, or more than any row's age if it is not set.

    If the parameter were null, Postgres would plan each execution, since a plan for the value does without the
    condition. It is no constant of the statement, since services that share a database may have their own settings.
    """
    return _NEVER if setting is None else setting


def is_in_no_expired_bucket(session_id: Any) -> ColumnElement[bool]:
    """Match memories of sessions that are not in the list ``:expired``."""
    condition: ColumnElement[bool] = session_id != func.all(bindparam("expired", type_=ARRAY(Text)))
    return condition
