"""Changes of the messages of a session that depend on what is stored: appends of known messages, removals, edits.

Each is one statement that checks that the session has not changed since its snapshot, by the version of its row: every
change of its messages updates that row. If it has changed, the session is locked, and the statement executed again.
"""

from datetime import datetime
from typing import Any

from agentstore import offload
from agentstore.database.database import Database
from agentstore.database.retry import UNIQUE_VIOLATION, is_conflict, retry
from agentstore.database.sql import SqlStatements
from agentstore.database.statement import Fetch, Row, Statement
from agentstore.errors import Conflict, NotFound, StatementFailed, Unavailable, UnknownOutcome
from agentstore.repositories.sessions.append_statements import APPEND, APPEND_MISSING
from agentstore.repositories.sessions.appends import Stored, contiguous, stored_by
from agentstore.repositories.sessions.copies import FIND, FIND_ALL, LOCK, cut
from agentstore.repositories.sessions.statements import EXPIRE, IMPORT, SET_METADATA
from agentstore.repositories.values import merge_in
from agentstore.schemas import Message
from agentstore.schemas.edits import MetadataPatch, patched_metadata
from agentstore.schemas.identity import is_same_payload
from agentstore.schemas.payload import load_messages, message_key, same_content
from agentstore.schemas.values import ValueChanges
from agentstore.settings import Settings

_SQL = SqlStatements(__file__)

POP = _SQL("pop")
DELETE_MESSAGES = _SQL("delete_messages")
REPLACE_MESSAGE = _SQL("replace_message")

_NEW_HEAD = dict.fromkeys(("title", "ttl", "created_at", "updated_at", "forked_from", "forked_at"))


class Edits:
    """Changes of the messages of sessions. All values are validated already."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    async def append(
        self,
        values: dict[str, Any],
        create: bool,
        expected: int | None,
        patch: MetadataPatch | None,
        app: str | None,
        changes: ValueChanges | None,
        *,
        is_missing: bool,
    ) -> Stored:
        """Append messages under the lock of their session, or with a new session; see ``append`` of the service.

        `is_missing` tells that a statement has not found the session: it is created without looking for it again.
        """
        user_id, session_id = values["user_id"], values["session_id"]

        async def store(attempt: int) -> Stored | None:
            if attempt or not is_missing:
                async with self._database.transaction() as transaction:
                    stored = await self._append_locked(transaction.fetch, values, expected, patch, changes)
                if stored is not None:
                    return stored
            if not create:
                raise NotFound(f"user {user_id!r} has no session {session_id!r}")
            if expected:
                raise Conflict(f"user {user_id!r} has no session {session_id!r}, expected one of {expected} messages")
            if attempt:
                await self._database.fetch(EXPIRE, user_id=user_id, session_id=session_id)
            ids: list[str] = values["ids"]
            metadata = "{}" if patch is None else patched_metadata("{}", patch, list(ids), self._settings)
            count = len(ids)
            new = {**values, **_NEW_HEAD, "app": app, "metadata": metadata, "count": count}
            if changes is None:
                rows = await self._database.fetch(IMPORT, **new)
            else:
                async with self._database.transaction() as transaction:
                    rows = await transaction.fetch(IMPORT, **new)
                    if rows:
                        await merge_in(transaction.fetch, user_id, session_id, changes)
            return contiguous(rows[0][0], 1, count, count) if rows else None

        try:
            return await retry(store, f"could not append to session {session_id!r} of user {user_id!r}")
        except UnknownOutcome as error:
            if not values["ids"]:
                raise
            raise Unavailable(f"{error} Append again: what is stored is not stored twice.") from error

    async def _append_locked(
        self,
        fetch: Fetch,
        values: dict[str, Any],
        expected: int | None,
        patch: MetadataPatch | None,
        changes: ValueChanges | None,
    ) -> Stored | None:
        key = {"user_id": values["user_id"], "session_id": values["session_id"]}
        locked = await fetch(LOCK, **key)
        if not locked:
            return None
        last_seq, count, metadata, updated_at = locked[0]
        if expected is not None and count != expected:
            # What an earlier attempt has stored, whose response was lost, is not a conflict.
            stored = await self._find_stored(fetch, values, count)
            if stored is None:
                raise Conflict(
                    f"session {values['session_id']!r} of user {values['user_id']!r} has {count} messages, expected "
                    f"{expected}: read it again"
                )
            return stored
        if values["ids"]:
            stored = await self.try_to_append_missing(fetch, values)
            if stored is None:
                raise AssertionError("the session was changed while it was locked")
            if not stored.added:
                return stored  # by an earlier attempt, with the metadata and the values
        else:
            stored = contiguous(updated_at, last_seq + 1, 0, count)
        if patch is not None:
            added = [id for id, (seq, _) in zip(values["ids"], stored.places, strict=True) if seq > last_seq]
            changed = patched_metadata(metadata, patch, added, self._settings)
            if changed != metadata:
                await fetch(SET_METADATA, **key, metadata=changed)
        if changes is not None:
            await merge_in(fetch, key["user_id"], key["session_id"], changes)
        return stored

    async def _find_stored(self, fetch: Fetch, values: dict[str, Any], count: int) -> Stored | None:
        """Return where the messages are stored, if all of them are, with equal content."""
        key = {"user_id": values["user_id"], "session_id": values["session_id"]}
        found = {row[0]: row for row in await fetch(FIND_ALL, **key, ids=values["ids"])}
        for id, payload in zip(values["ids"], values["payloads"], strict=True):
            if id not in found or not same_content(found[id][3], payload):
                return None
        places = [(found[id][1], found[id][2]) for id in values["ids"]]
        return _stored(places, count, 0) if places else None

    async def append_missing(self, values: dict[str, Any], at: datetime | None = None, *, keep: bool = False) -> Stored:
        """Store the messages that are not stored yet, with the timestamp `at`, or now.

        Executes one statement, unless the session is changed concurrently: then it locks the session and executes it
        again.

        Raises:
            NotFound: the session does not exist.
            Conflict: a message is stored with other content; with `keep`, it is not stored, and the others are.
        """
        try:
            stored = await self.try_to_append_missing(self._database.fetch, values, at, keep=keep)
        except StatementFailed as error:
            if not is_conflict(error):
                raise
            stored = None
        if stored is None:
            try:
                async with self._database.transaction() as transaction:
                    await transaction.fetch(LOCK, user_id=values["user_id"], session_id=values["session_id"])
                    stored = await self.try_to_append_missing(transaction.fetch, values, at, keep=keep)
            except UnknownOutcome as error:
                raise Unavailable(f"{error} Append again: what is stored is not stored twice.") from error
        if stored is None:
            raise AssertionError("the session was changed while it was locked")
        return stored

    async def try_to_append_missing(
        self, fetch: Fetch, values: dict[str, Any], at: datetime | None = None, *, keep: bool = False
    ) -> Stored | None:
        """Store the messages that are not stored yet, as :meth:`append_missing`; None if the session was changed."""
        same: list[str] = []
        while True:
            rows = await fetch(APPEND_MISSING, **values, same=same, at=at, allow_differing=keep)
            if not rows[0]["has_session"]:
                raise NotFound(f"user {values['user_id']!r} has no session {values['session_id']!r}")
            differing = {row["id"]: row["stored"] for row in rows if row["stored"] is not None}
            if keep or not differing:
                if any(row["seq"] is None for row in rows):
                    return None
                places = [(row["seq"], row["created_at"]) for row in rows]
                added = sum(row["is_new"] for row in rows)
                return _stored(places, rows[0]["message_count"], added, _different_messages(differing, values))
            # Different text may be the same message: another release may serialize it differently.
            _check_same_content(differing, values)
            same += differing.values()

    async def pop(self, user_id: str, session_id: str, count: int) -> list[Message]:
        """Remove the last messages and return them."""
        _, *rows = await self._unchanged(POP, user_id, session_id, count=count)
        places = [(row["seq"], row["created_at"]) for row in rows]
        payloads = [row["payload"] for row in rows]
        return await offload.run(load_messages, payloads, message_key(user_id, session_id), places)

    async def delete(self, user_id: str, session_id: str, ids: list[str]) -> int:
        """Delete messages, and return how many existed."""
        rows = await self._unchanged(DELETE_MESSAGES, user_id, session_id, ids=ids)
        deleted: int = rows[0]["deleted"]
        return deleted

    async def _unchanged(self, statement: Statement, user_id: str, session_id: str, **values: Any) -> list[Row]:
        """Execute a statement on a session; lock the session if it is changed concurrently."""
        key = {"user_id": user_id, "session_id": session_id}
        rows = await self._database.fetch(statement, **key, **values)
        if rows[0]["was_changed"]:
            async with self._database.transaction() as transaction:
                await transaction.fetch(LOCK, **key)
                rows = await transaction.fetch(statement, **key, **values)
            if rows[0]["was_changed"]:
                raise AssertionError("the session was changed while it was locked")
        return rows

    async def replace(
        self, user_id: str, session_id: str, id: str, payload: str, expected: str | None
    ) -> tuple[int, datetime]:
        """Replace the content of a message; return its seq and its created_at."""
        same = None if expected is None else [expected]
        where = f"session {session_id!r} of user {user_id!r}"

        async def replace(_: int) -> tuple[int, datetime] | None:
            values = {"user_id": user_id, "session_id": session_id, "id": id, "payload": payload, "same": same}
            row = await self._database.fetch_one(REPLACE_MESSAGE, **values)
            if row is None:
                raise NotFound(f"user {user_id!r} has no session {session_id!r}")
            seq, created_at, stored, is_replaced = row
            if seq is None:
                raise NotFound(f"{where} has no message {id!r}")
            if is_replaced or stored == payload:  # possibly by an earlier attempt
                return seq, created_at
            if same is not None and stored not in same:
                if not same_content(stored, same[0]):
                    raise Conflict(f"message {id!r} of {where} has changed: read it again")
                same.append(stored)  # another release may serialize it differently
            return None

        return await retry(replace, f"could not replace message {id!r} of {where}")

    async def replace_from(self, values: dict[str, Any], at: str | int) -> Stored:
        """Delete the messages from `at` on, and append others."""
        key = {"user_id": values["user_id"], "session_id": values["session_id"]}
        where = f"session {key['session_id']!r} of user {key['user_id']!r}"
        async with self._database.transaction() as transaction:
            locked = await transaction.fetch(LOCK, **key)
            if not locked:
                raise NotFound(f"user {key['user_id']!r} has no session {key['session_id']!r}")
            last_seq, count, _, updated_at = locked[0]
            place: int | None = None
            if isinstance(at, str):
                found = await transaction.fetch(FIND, **key, message_id=at)
                place = found[0][0] if found else None
            elif at <= last_seq + 1:
                place = at
            if place is None:
                raise NotFound(f"{where} has no message {at!r}")
            if place <= last_seq:
                count = await cut(transaction.fetch, key, last_seq, place)
            if not values["ids"]:
                return contiguous(updated_at, place, 0, count)
            try:
                rows = await transaction.fetch(APPEND, **values, count=len(values["ids"]), expected=None)
            except StatementFailed as error:
                if error.sqlstate != UNIQUE_VIOLATION:
                    raise
                raise Conflict(f"{where} has a message with one of the new ids before {at!r}") from error
            return stored_by(rows, len(values["ids"]))


def _stored(
    places: list[tuple[int, datetime]], message_count: int, added: int, differing: tuple[str, ...] = ()
) -> Stored:
    return Stored(places[0][0], places[-1][0], places[-1][1], message_count, places, added, differing)


def _check_same_content(differing: dict[str, str], values: dict[str, Any]) -> None:
    """Compare messages with the stored texts that differ, which other releases may have serialized differently.

    Raises:
        Conflict: one has different content.
    """
    given = dict(zip(values["ids"], values["payloads"], strict=True))
    for id, stored in differing.items():
        if not same_content(stored, given[id]):
            raise Conflict(
                f"session {values['session_id']!r} of user {values['user_id']!r} already has a message {id!r} with "
                f"different content"
            )


def _different_messages(differing: dict[str, str], values: dict[str, Any]) -> tuple[str, ...]:
    """Return the ids of the messages whose stored texts are other messages, see :func:`is_same_message`."""
    given = dict(zip(values["ids"], values["payloads"], strict=True)) if differing else {}
    return tuple(id for id, stored in differing.items() if not is_same_payload(stored, given[id]))
