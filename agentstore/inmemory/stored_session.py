"""A session as the session history service without a database stores it, and what is found in one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from agentstore.errors import NotFound
from agentstore.schemas import Appended, Message
from agentstore.schemas.payload import same_content


@dataclass
class StoredSession:
    """A session with its messages."""

    title: str | None
    metadata: str
    created_at: datetime
    updated_at: datetime
    messages: dict[str, str] = field(default_factory=dict)  # id -> JSON text, in order
    places: dict[str, tuple[int, datetime]] = field(default_factory=dict)  # id -> seq, timestamp of the append
    next_seq: int = 1
    forked_from: str | None = None
    forked_at: int | None = None
    ttl: int | None = None
    app: str | None = None
    values: dict[str, str] = field(default_factory=dict)  # key -> JSON text


def add_missing(stored: StoredSession, prepared: Mapping[str, tuple[Message, str]]) -> int:
    """Add the messages that the session lacks, with the time of its last change; return their number."""
    missing = [(id, payload) for id, (_, payload) in prepared.items() if id not in stored.messages]
    for id, payload in missing:
        stored.messages[id] = payload
        stored.places[id] = stored.next_seq, stored.updated_at
        stored.next_seq += 1
    return len(missing)


def time_after(stored: StoredSession, seq: int) -> datetime | None:
    """Return when the message after this number was stored, or None if it is the last one."""
    return next((time for each, time in stored.places.values() if each > seq), None)


def are_stored(stored: StoredSession, prepared: dict[str, tuple[Message, str]]) -> bool:
    """Return whether the session has all of these messages, with equal content."""
    return all(
        id in stored.messages and same_content(stored.messages[id], payload) for id, (_, payload) in prepared.items()
    )


def appended(stored: StoredSession, prepared: dict[str, tuple[Message, str]]) -> Appended:
    """Return the result of an append of these messages."""
    if not prepared:
        return Appended(stored.next_seq, stored.next_seq - 1, stored.updated_at)
    places = [stored.places[id] for id in prepared]
    return Appended(places[0][0], *places[-1])


def select_ids(
    stored: StoredSession,
    user_id: str,
    limit: int | None,
    before: str | None,
    session_id: str,
    through: str | None = None,
    before_seq: int | None = None,
) -> list[str]:
    """Return the ids of all or the last `limit` messages, of those before `before` or up to `through` if given.

    Or of those whose number is lower than `before_seq`.
    """
    ids = list(stored.messages)
    if before_seq is not None:
        ids = [id for id in ids if stored.places[id][0] < before_seq]
    end = before if through is None else through
    if end is not None:
        if end not in stored.messages:
            raise NotFound(f"session {session_id!r} of user {user_id!r} has no message {end!r}")
        ids = ids[: ids.index(end) + (through is not None)]
    return ids if limit is None else ids[max(0, len(ids) - limit) :]
