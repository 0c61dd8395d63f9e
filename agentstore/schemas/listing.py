"""The filters of lists of sessions, their order, and the cursors of their pages."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from agentstore.errors import InvalidContent
from agentstore.exact_json import loads
from agentstore.schemas.page import bad_cursor, check_limit, read_cursor, write_cursor
from agentstore.schemas.payload import check_id, check_title, dump_metadata, read_time, shortened
from agentstore.schemas.session import Session
from agentstore.settings import Settings

SessionOrder = Literal["last_used", "created"]
"""The order of a list of sessions: the latest ``updated_at`` or ``created_at`` first."""

Key = tuple[datetime | str, ...]
"""A place in a list: timestamps, then the id of the user if the list is about all users, then that of the session."""

# What is after all timestamps, and before them: Postgres reads them as infinity.
NEWEST, OLDEST = datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)
# Integers up to this size are equal to a float if their decimal forms are.
_EXACT = 2**53


@dataclass(frozen=True, slots=True)
class SessionFilters:
    """The validated arguments of a list of sessions."""

    user_id: str | None
    app: str | None
    metadata: dict[str, Any]
    metadata_text: str | None
    """The metadata as JSON; None if it is no filter."""
    title: str | None
    since: datetime
    until: datetime
    order: SessionOrder
    limit: int | None
    before: Key
    """The place that the page begins after."""

    def matches(self, session: Session) -> bool:
        """Return whether a session is in the list, apart from its user and its expiry."""
        return (
            (self.app is None or session.app == self.app)
            and (self.title is None or (session.title is not None and self.title.lower() in session.title.lower()))
            and self.since <= (session.updated_at or OLDEST) < self.until
            and self.has_metadata(session)
        )

    def has_metadata(self, session: Session) -> bool:
        """Return whether the metadata of a session has the keys of the filter, with equal values."""
        metadata = session.metadata
        return all(key in metadata and _is_same(metadata[key], value) for key, value in self.metadata.items())

    def key_of(self, session: Session) -> Key:
        """Return the place of a session in the list."""
        time = (session.updated_at if self.order == "last_used" else session.created_at) or OLDEST
        times = (minute_of(time), time) if self.order == "last_used" else (time,)
        return (*times, session.id) if self.user_id is not None else (*times, session.user_id, session.id)

    def write_cursor(self, key: Key) -> str:
        """Return the cursor of the page that begins after a place."""
        return write_cursor(*_tag(self.order, self.user_id), *key)


def read_session_filters(
    settings: Settings,
    *,
    user_id: str | None,
    app: str | None,
    metadata: Mapping[str, Any] | None,
    title: str | None,
    since: object,
    until: object,
    order: SessionOrder,
    limit: int | None,
    cursor: str | None,
) -> SessionFilters:
    """Validate the arguments of a list of sessions.

    Raises:
        InvalidContent: one of them is not valid, or the cursor is that of another order, or of another kind of list.
        LimitExceeded: `limit` is over the setting `max_page`, or the title or the metadata is too large.
    """
    for name, id in (("user_id", user_id), ("app", app)):
        if id is not None:
            check_id(id, name, settings)
    text = None if metadata is None else dump_metadata(metadata, settings)
    if order not in get_args(SessionOrder):
        raise InvalidContent(f'order must be "last_used" or "created", got {shortened(order)}')
    check_limit(limit, settings.max_page)
    end = NEWEST if until is None else read_time(until, "until")
    # The place before all sessions of one minute, or of one microsecond: no id is less than "".
    before: Key = (minute_of(end), end) if order == "last_used" else (NEWEST,)
    before += ("",) if user_id is not None else ("", "")
    if cursor is not None:
        before = min(before, _read_key(cursor, order, user_id))
    return SessionFilters(
        user_id=user_id,
        app=app,
        metadata={} if text is None else loads(text),
        metadata_text=None if text == "{}" else text,
        title=check_title(title),
        since=OLDEST if since is None else read_time(since, "since"),
        until=end,
        order=order,
        # A list of one user is bounded by what the user has.
        limit=settings.max_page if limit is None and user_id is None else limit,
        before=before,
    )


def minute_of(time: datetime) -> datetime:
    """Return a time truncated to the minute, by which sessions are listed."""
    return time if time in (NEWEST, OLDEST) else time.astimezone(UTC).replace(second=0, microsecond=0)


def _tag(order: SessionOrder, user_id: str | None) -> tuple[str, ...]:
    """Return how the cursors of a list begin. Those of a user's sessions by their last use have nothing before it."""
    return () if order == "last_used" and user_id is not None else (order,)


def _read_key(cursor: str, order: SessionOrder, user_id: str | None) -> Key:
    tag = _tag(order, user_id)
    times = [datetime, datetime] if order == "last_used" else [datetime]
    ids = [str] if user_id is not None else [str, str]
    parts = read_cursor(cursor, *(str for _ in tag), *times, *ids)
    if tuple(parts[: len(tag)]) != tag:
        raise bad_cursor(cursor)
    return tuple(parts[len(tag) :])


def _is_same(one: Any, other: Any) -> bool:
    """Return whether two values are equal as JSON: 1 is 1.0, and neither is true."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if type(one) is not type(other) and isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return one == other and abs(one) <= _EXACT
    return bool(one == other)
