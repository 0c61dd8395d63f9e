"""What an import of a session checks before anything is written, and the values of its statements."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from agentstore import offload
from agentstore.database.database import Database
from agentstore.database.retry import retry
from agentstore.database.statement import Fetch
from agentstore.errors import Conflict, InvalidContent, NotFound
from agentstore.repositories.sessions.copies import LOCK
from agentstore.repositories.sessions.edits import Edits
from agentstore.repositories.sessions.statements import EXISTS, EXPIRE, IMPORT
from agentstore.schemas import Imported, Message, Session
from agentstore.schemas.identity import is_same_message
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
from agentstore.settings import Settings


def prepare_import(
    session: Session, settings: Settings, differences: Literal["error", "keep"] = "error"
) -> tuple[dict[str, Any], list[dict[str, Any]], list[str]]:
    """Validate a session; return the values of its fields, and those of its messages in parts of `max_batch`.

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
    parts = []
    for start in range(0, len(messages) or 1, size):
        prepared = prepare_messages(messages[start : start + size], settings)
        for id, (_, payload) in prepared.items():
            if not same_content(known.setdefault(id, payload), payload):
                raise Conflict(f"two messages with different content have the id {id!r}")
        parts.append(values_of_messages(session.user_id, session.id, prepared))
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


def values_of_messages(user_id: str, session_id: str, prepared: dict[str, tuple[Message, str]]) -> dict[str, Any]:
    """Return the parameters that all statements that store messages share."""
    return {
        "user_id": user_id,
        "session_id": session_id,
        "ids": list(prepared),
        "payloads": [payload for _, payload in prepared.values()],
    }


class Imports:
    """Stores sessions of other systems; see ``PostgresSessionHistoryService.import_session``."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._edits = Edits(database, settings)

    async def store(self, session: Session, differences: Literal["error", "keep"]) -> Imported:
        """Store a session, or what is missing of it."""
        head, parts, repeated = await offload.run(prepare_import, session, self._settings, differences)
        keep = differences == "keep"

        async def store(attempt: int) -> Imported | None:
            if attempt:
                await self._database.fetch(EXPIRE, user_id=session.user_id, session_id=session.id)
            if len(parts) == 1:
                return await self._import(session, parts[0], head, keep=keep)
            async with self._database.transaction() as transaction:
                return await self._import_parts(transaction.fetch, session, parts, head, keep=keep)

        imported = await retry(store, f"could not import session {session.id!r} of user {session.user_id!r}")
        if not repeated:
            return imported
        return replace(imported, differing=tuple(dict.fromkeys((*imported.differing, *repeated))))

    async def _import(
        self, session: Session, part: dict[str, Any], head: dict[str, Any], *, keep: bool
    ) -> Imported | None:
        """Create the session with its messages, or append the missing messages to the existing one.

        None: the session was deleted concurrently.
        """
        if await self._insert(self._database.fetch, session, part, head):
            return Imported(sessions=1, messages=len(part["ids"]))
        if part["ids"]:
            try:
                stored = await self._edits.append_missing(part, head["at"], keep=keep)
            except NotFound:
                return None
            return Imported(0, stored.added, stored.differing)
        is_stored = await self._database.fetch(EXISTS, user_id=part["user_id"], session_id=part["session_id"])
        return Imported() if is_stored else None

    async def _import_parts(
        self, fetch: Fetch, session: Session, parts: list[dict[str, Any]], head: dict[str, Any], *, keep: bool
    ) -> Imported | None:
        """Import a session as :meth:`_import` does, by several statements in a transaction, which lock it first."""
        is_new = await self._insert(fetch, session, parts[0], head)
        if not is_new and not await fetch(LOCK, user_id=session.user_id, session_id=session.id):
            return None
        stored = len(parts[0]["ids"]) if is_new else 0
        differing: tuple[str, ...] = ()
        for part in parts[1:] if is_new else parts:
            found = await self._edits.try_to_append_missing(fetch, part, head["at"], keep=keep)
            if found is None:
                return None
            stored += found.added
            differing += found.differing
        return Imported(int(is_new), stored, differing)

    async def _insert(self, fetch: Fetch, session: Session, part: dict[str, Any], head: dict[str, Any]) -> bool:
        """Insert a session with messages unless it exists; return whether it was inserted."""
        rows = await fetch(IMPORT, **part, **head, count=len(part["ids"]))
        if rows and rows[0][0] is None:
            raise has_expired(session, self._settings)
        return bool(rows)
