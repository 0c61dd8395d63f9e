"""What an import of a session checks before anything is stored, and the values that are stored."""

from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from agentstore.errors import Conflict, InvalidContent
from agentstore.schemas.identity import is_same_message
from agentstore.schemas.message import Message
from agentstore.schemas.page import check_count
from agentstore.schemas.payload import (
    as_message,
    aware,
    check_id,
    check_ids,
    check_session,
    check_title,
    check_ttl,
    dump_metadata,
    prepare_messages,
    same_content,
    shortened,
)
from agentstore.schemas.session import Session
from agentstore.settings import Settings


def prepare_import(
    session: Session, settings: Settings, differences: Literal["error", "keep"] = "error"
) -> tuple[dict[str, Any], list[dict[str, tuple[Message, str]]], list[str]]:
    """Validate a session; return the values of its fields, and its messages by their ids in parts of `max_batch`.

    With `differences="keep"`, the last are the ids of messages that occur twice with a different role, type or text; of
    messages with the same id only the first is in the parts.

    Raises:
        InvalidContent, LimitExceeded: a value cannot be stored.
        Conflict: two messages with different content have the same id, and `differences` is "error".
    """
    if differences not in ("error", "keep"):
        raise InvalidContent(f'differences must be "error" or "keep", got {shortened(differences)}')
    check_session(session, settings)
    head = {
        "title": check_title(session.title),
        "metadata": dump_metadata(session.metadata, settings),
        "created_at": aware(session.created_at, "created_at"),
        "updated_at": aware(session.updated_at, "updated_at"),
        "forked_from": None if session.forked_from is None else check_id(session.forked_from, "forked_from", settings),
        "forked_at": None if session.forked_at is None else check_count(session.forked_at, "forked_at"),
        "ttl": check_ttl(session.ttl),
        "app": None if session.app is None else check_id(session.app, "app", settings),
        # Not in the future, which would keep the session on top of its user's list.
        "at": min(session.updated_at, datetime.now(UTC)) if session.updated_at is not None else None,
    }
    messages, differing = _unique(session.messages, settings) if differences == "keep" else (session.messages, [])
    size = settings.max_batch
    known: dict[str, str] = {}
    parts: list[dict[str, tuple[Message, str]]] = []
    for start in range(0, len(messages) or 1, size):
        prepared = prepare_messages(messages[start : start + size], settings)
        for id, (_, payload) in prepared.items():
            if not same_content(known.setdefault(id, payload), payload):
                raise Conflict(f"two messages with different content have the id {id!r}")
        parts.append(prepared)
    return head, parts, differing


def _unique(given: list[Message], settings: Settings) -> tuple[list[Message], list[str]]:
    """Return the first message with each id, and the ids of those that are not the same message."""
    found: dict[str, Message] = {}
    differing: dict[str, None] = {}
    messages = [as_message(each, position) for position, each in enumerate(given) if each is not None]
    check_ids([message.id for message in messages], "a message's id", settings)
    if len({message.id for message in messages}) == len(messages):
        return messages, []
    for message in messages:
        first = found.setdefault(message.id, message)
        if first is not message and not is_same_message(first, message):
            differing[message.id] = None
    return list(found.values()), list(differing)


def check_import(session: Session, settings: Settings, *, is_new: bool = True) -> None:
    """Check a session as an import does, without a database. `is_new`: whether the store lacks the session.

    Raises:
        InvalidContent, LimitExceeded, Conflict: an import would refuse the session.
    """
    prepare_import(session, settings)
    ttl = session.ttl or settings.session_ttl
    if is_new and ttl is not None and session.updated_at is not None:
        written = max(session.updated_at, session.created_at or session.updated_at)
        if datetime.now(UTC) - written >= timedelta(seconds=ttl):
            raise has_expired(session, settings)


def has_expired(session: Session, settings: Settings) -> InvalidContent:
    """Return the error for a session that would have expired by the time it is stored."""
    ttl = f"its ttl is {session.ttl}" if session.ttl else f"the setting session_ttl is {settings.session_ttl}"
    return InvalidContent(
        f"session {session.id!r} of user {session.user_id!r} has expired: its updated_at is {session.updated_at}, and "
        f"{ttl} seconds. Import it with a longer ttl or a later updated_at"
    )
