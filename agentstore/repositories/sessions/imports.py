"""The statements of an import of a session."""

from dataclasses import replace
from typing import Any, Literal

from agentstore import offload
from agentstore.database.database import Database
from agentstore.database.retry import retry
from agentstore.database.statement import Fetch
from agentstore.errors import NotFound
from agentstore.repositories.sessions.copies import LOCK
from agentstore.repositories.sessions.edits import Edits
from agentstore.repositories.sessions.statements import EXISTS, EXPIRE, IMPORT
from agentstore.schemas import Imported, Message, Session
from agentstore.schemas.imports import has_expired, prepare_import
from agentstore.settings import Settings


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
        head, prepared, repeated = await offload.run(prepare_import, session, self._settings, differences)
        parts = [values_of_messages(session.user_id, session.id, part) for part in prepared]
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
