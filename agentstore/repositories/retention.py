"""What is kept, and for how long."""

from typing import Any

from sqlalchemy import BigInteger, ColumnElement, bindparam, cast, false, func, literal_column, true

_SECOND: ColumnElement[Any] = literal_column("interval '1 second'")
# Ages and not times are compared: a time and an interval added depend on the time zone, and Citus refuses that of a
# column in what writes.


def is_kept(sessions: Any) -> ColumnElement[bool]:
    """Whether a session's time has not passed: its own, or that of the setting, if there is one."""
    seconds = func.coalesce(sessions.ttl, cast(bindparam("setting_session_ttl", type_=BigInteger), BigInteger))
    return func.coalesce(func.now() - sessions.updated_at < seconds * _SECOND, true())


def is_idle(written: Any) -> ColumnElement[bool]:
    """Whether nothing was written for `idle` seconds."""
    seconds = cast(bindparam("idle", type_=BigInteger), BigInteger)
    idle: ColumnElement[bool] = func.now() - written >= seconds * _SECOND
    return idle


def has_expired(written: Any, setting: str) -> ColumnElement[bool]:
    """Whether the time that a setting names has passed since; never where it is not set."""
    seconds = cast(bindparam(f"setting_{setting}", type_=BigInteger), BigInteger)
    return func.coalesce(func.now() - written >= seconds * _SECOND, false())
