"""What is kept, and for how long."""

from typing import Any

from sqlalchemy import BigInteger, ColumnElement, bindparam, cast, func, literal_column

_SECOND: ColumnElement[Any] = literal_column("interval '1 second'")
# Ages and not times are compared: a time and an interval added depend on the time zone, and Citus refuses that of a
# column in what writes.


def is_not_expired(sessions: Any) -> ColumnElement[bool]:
    """Whether a session's time has not passed: its own, or that of the setting, if there is one."""
    seconds = func.coalesce(sessions.ttl, cast(bindparam("setting_session_ttl", type_=BigInteger), BigInteger))
    return func.coalesce(func.now() - sessions.updated_at < seconds * _SECOND, True)


def is_idle(written: Any) -> ColumnElement[bool]:
    """Whether nothing was written for `idle` seconds."""
    seconds = cast(bindparam("idle", type_=BigInteger), BigInteger)
    idle: ColumnElement[bool] = func.now() - written >= seconds * _SECOND
    return idle


def has_expired(written: Any, ttl: str) -> ColumnElement[bool]:
    """Whether that many seconds have passed since, a parameter or a setting by its name; never where it is null."""
    seconds = cast(bindparam(ttl, type_=BigInteger), BigInteger)
    return func.coalesce(func.now() - written >= seconds * _SECOND, False)
