"""The session history service without a database, for tests."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Literal

from agentstore.errors import AlreadyExists, Closed, Conflict, LimitExceeded, NotFound
from agentstore.exact_json import loads
from agentstore.inmemory.states import InMemoryStateService
from agentstore.interfaces import SessionHistoryService
from agentstore.schemas import Deleted, Message, MessagesLike, Page, Session, StoredMessages
from agentstore.schemas.page import Advice, check_count, check_limit, check_reply, read_cursor, write_cursor
from agentstore.schemas.payload import (
    check_id,
    check_list,
    check_missing_session,
    check_place,
    check_title,
    check_ttl,
    dump_metadata,
    load_messages,
    new_session_id,
    prepare_messages,
    same_content,
)
from agentstore.schemas.session import extend_messages
from agentstore.settings import Settings


@dataclass
class _Stored:
    title: str | None
    metadata: str
    created_at: datetime
    updated_at: datetime
    messages: dict[str, str] = field(default_factory=dict)  # id -> JSON text, in order
    times: dict[str, datetime] = field(default_factory=dict)  # id -> timestamp of the append
    forked_from: str | None = None
    forked_at: int | None = None
    ttl: int | None = None


class InMemorySessionHistoryService(SessionHistoryService):
    """Conversation history in memory, for tests. It is lost when the process ends.

    Messages are stored as the JSON text that Postgres would store: callers share no objects with the service. See
    :class:`agentstore.SessionHistoryService` for what each method does and raises.
    """

    def __init__(
        self,
        *,
        missing_session: Literal["error", "create"] = "error",
        states: InMemoryStateService | None = None,
        settings: Settings | None = None,
    ) -> None:
        """Create an empty service.

        `missing_session="create"` makes the methods that read or append create a missing session; with "error" they
        return None or raise NotFound. `states` is the service whose states are copied by a fork and truncated by a
        rewind.
        """
        self._create_missing = check_missing_session(missing_session)
        self._settings = settings or Settings()
        self._states = states or InMemoryStateService(settings=self._settings)
        self._users: dict[str, dict[str, _Stored]] = {}
        self._started = self._stopped = False

    async def start(self) -> None:  # noqa: D102 - documented by the interface
        self._started, self._stopped = True, False

    async def stop(self) -> None:  # noqa: D102
        self._started, self._stopped = False, True

    async def health(self, timeout: float = 2.0, *, writable: bool = True) -> bool:  # noqa: D102
        return self._started

    async def create_session(  # noqa: D102
        self,
        user_id: str,
        session_id: str | None = None,
        *,
        exist_ok: bool = True,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        ttl: int | None = None,
    ) -> Session:
        check_id(user_id, "user_id", self._settings)
        session_id = check_id(new_session_id(session_id), "session_id", self._settings)
        text = "{}" if metadata is None else dump_metadata(metadata, self._settings)
        return self._create(
            user_id, session_id, exist_ok=exist_ok, title=check_title(title), metadata=text, ttl=check_ttl(ttl)
        )

    def _create(
        self,
        user_id: str,
        session_id: str,
        *,
        exist_ok: bool = True,
        title: str | None = None,
        metadata: str = "{}",
        ttl: int | None = None,
    ) -> Session:
        self._check_open()
        sessions = self._users.setdefault(user_id, {})
        if session_id not in sessions or self._has_expired(sessions[session_id]):
            now = datetime.now(UTC)
            sessions[session_id] = _Stored(title, metadata, now, now, ttl=ttl)
        elif not exist_ok:
            raise AlreadyExists(f"user {user_id!r} already has a session {session_id!r}")
        return self._session(user_id, session_id, sessions[session_id])

    async def get_session(  # noqa: D102
        self,
        user_id: str,
        session_id: str,
        *,
        limit: int | None = None,
        before: str | None = None,
        stale_ok: bool = False,
    ) -> Session | None:
        check_limit(limit)
        if before is not None:
            check_id(before, "before", self._settings)
        stored = self._find(user_id, session_id)
        if stored is None:
            return self._create(user_id, session_id) if self._create_missing else None
        return self._session(user_id, session_id, stored, _select_ids(stored, user_id, limit, before, session_id))

    async def read_messages(  # noqa: D102
        self,
        user_id: str,
        session_id: str,
        *,
        limit: int | None = None,
        before: str | None = None,
        stale_ok: bool = False,
    ) -> StoredMessages | None:
        check_limit(limit)
        if before is not None:
            check_id(before, "before", self._settings)
        stored = self._find(user_id, session_id)
        if stored is None:
            if self._create_missing:
                self._create(user_id, session_id)
                return StoredMessages()
            return None
        payloads = [stored.messages[id] for id in _select_ids(stored, user_id, limit, before, session_id)]
        check_reply(payloads, self._settings, Advice.READ_PARTS)
        return StoredMessages(payloads)

    async def iter_messages(  # noqa: D102
        self, user_id: str, session_id: str, *, batch: int = 1_000, stale_ok: bool = False
    ) -> AsyncIterator[Message]:
        check_count(batch, "batch", minimum=1, maximum=self._settings.max_page)
        if self._create_missing:
            self._create(user_id, session_id)
        stored = self._get(user_id, session_id)
        place = 0
        while place < len(stored.messages):
            payloads = list(islice(stored.messages.values(), place, place + batch))
            place += len(payloads)
            for message in load_messages(payloads):
                yield message

    async def list_sessions(  # noqa: D102
        self, user_id: str, *, limit: int | None = None, cursor: str | None = None, stale_ok: bool = False
    ) -> Page[Session]:
        check_id(user_id, "user_id", self._settings)
        check_limit(limit, self._settings.max_page)
        before = None if cursor is None else tuple(read_cursor(cursor, datetime, str))
        self._check_open()
        live = {id: each for id, each in self._users.get(user_id, {}).items() if not self._has_expired(each)}
        found = [((stored.updated_at, id), stored) for id, stored in live.items()]
        found = sorted((each for each in found if before is None or each[0] < before), key=lambda each: each[0])[::-1]
        page = found if limit is None else found[:limit]
        following = write_cursor(*page[-1][0]) if page and len(page) == limit else None
        check_reply((stored.metadata for _, stored in page), self._settings, Advice.SMALLER_LIMIT)
        return Page((self._session(user_id, key[1], stored, ()) for key, stored in page), following)

    async def append_message(self, session: Session, message: MessagesLike) -> None:  # noqa: D102
        check_id(session.user_id, "user_id", self._settings)
        check_id(session.id, "session_id", self._settings)
        check_list(session.messages)
        prepared = prepare_messages(message, self._settings)
        if not prepared:
            return
        payloads = {id: payload for id, (_, payload) in prepared.items()}
        stored = self._find(session.user_id, session.id)
        if stored is None:
            if not self._create_missing:
                raise NotFound(f"user {session.user_id!r} has no session {session.id!r}")
            self._create(session.user_id, session.id)
            stored = self._users[session.user_id][session.id]
        for id, payload in payloads.items():
            if id in stored.messages and not same_content(stored.messages[id], payload):
                raise Conflict(
                    f"session {session.id!r} of user {session.user_id!r} already has a message {id!r} with different "
                    f"content"
                )
        is_new = not payloads.keys() <= stored.messages.keys()
        if is_new:
            stored.updated_at = datetime.now(UTC)
            for id, payload in payloads.items():
                stored.messages.setdefault(id, payload)
                stored.times.setdefault(id, stored.updated_at)
        extend_messages(session, (each for each, _ in prepared.values()), stored.updated_at if is_new else None)

    async def delete_session(self, user_id: str, session_id: str) -> Deleted:  # noqa: D102
        self._find(user_id, session_id)
        stored = self._users.get(user_id, {}).pop(session_id, None)
        if stored is None:
            return Deleted()
        return Deleted(sessions=1, messages=len(stored.messages))

    async def fork_session(  # noqa: D102
        self, user_id: str, session_id: str, *, at: str | int | None = None, new_id: str | None = None
    ) -> Session:
        new_id = check_id(new_session_id(new_id), "new_id", self._settings)
        if at is not None:
            check_place(at, self._settings)
        stored = self._get(user_id, session_id)
        count = len(stored.messages) if at is None else self._place(user_id, session_id, stored, at)
        self._fork(user_id, session_id, count, new_id)
        try:
            return self._session(user_id, new_id, self._users[user_id][new_id])
        except LimitExceeded as error:
            raise LimitExceeded(f"session {new_id!r} was created, but {error}") from error

    async def rewind_session(  # noqa: D102
        self, user_id: str, session_id: str, at: str | int, *, keep: bool = True, new_id: str | None = None
    ) -> Session:
        new_id = check_id(new_session_id(new_id), "new_id", self._settings)
        check_place(at, self._settings)
        stored = self._get(user_id, session_id)
        count = self._place(user_id, session_id, stored, at)
        check_reply(islice(stored.messages.values(), count), self._settings, Advice.RAISE_LIMIT)
        if count < len(stored.messages):
            if keep:
                self._fork(user_id, session_id, len(stored.messages), new_id)
            ids = list(stored.messages)[count:]
            self._states.truncate(user_id, session_id, stored.times[ids[0]])
            for id in ids:
                del stored.messages[id], stored.times[id]
            stored.updated_at = datetime.now(UTC)
        return self._session(user_id, session_id, stored)

    def _place(self, user_id: str, session_id: str, stored: _Stored, at: str | int) -> int:
        """Return the number of messages up to and including `at`."""
        ids = list(stored.messages)
        if isinstance(at, str) and at in stored.messages:
            return ids.index(at) + 1
        if isinstance(at, int) and at <= len(ids):
            return at
        raise NotFound(f"session {session_id!r} of user {user_id!r} has no message {at!r}")

    def _fork(self, user_id: str, session_id: str, count: int, new_id: str) -> None:
        sessions = self._users[user_id]
        stored = sessions[session_id]
        ids = list(stored.messages)
        until = stored.times[ids[count]] if count < len(ids) else None
        is_taken = new_id in sessions and not self._has_expired(sessions[new_id])
        if is_taken or not self._states.copy(user_id, session_id, new_id, until):
            raise AlreadyExists(
                f"user {user_id!r} already has a session or states with the id {new_id!r}: choose another new_id"
            )
        now = datetime.now(UTC)
        sessions[new_id] = _Stored(
            stored.title,
            stored.metadata,
            now,
            now,
            {id: stored.messages[id] for id in ids[:count]},
            {id: stored.times[id] for id in ids[:count]},
            session_id,
            count,
            stored.ttl,
        )

    async def set_title(self, user_id: str, session_id: str, title: str | None) -> None:  # noqa: D102
        title = check_title(title)
        self._get(user_id, session_id).title = title

    async def set_metadata(self, user_id: str, session_id: str, metadata: Mapping[str, Any]) -> None:  # noqa: D102
        text = dump_metadata(metadata, self._settings)
        self._get(user_id, session_id).metadata = text

    async def change_metadata(  # noqa: D102
        self, user_id: str, session_id: str, change: Callable[[dict[str, Any]], Mapping[str, Any]]
    ) -> dict[str, Any]:
        found = self._get(user_id, session_id)
        found.metadata = dump_metadata(change(loads(found.metadata)), self._settings)
        changed: dict[str, Any] = loads(found.metadata)
        return changed

    async def set_ttl(self, user_id: str, session_id: str, ttl: int | None) -> None:  # noqa: D102
        ttl = check_ttl(ttl)
        self._get(user_id, session_id).ttl = ttl

    def _has_expired(self, stored: _Stored) -> bool:
        ttl = stored.ttl or self._settings.session_ttl
        return ttl is not None and stored.updated_at + timedelta(seconds=ttl) <= datetime.now(UTC)

    def _check_open(self) -> None:
        if self._stopped:
            raise Closed("The service was stopped: call start() to use it again.")
        self._started = True

    def _find(self, user_id: str, session_id: str) -> _Stored | None:
        check_id(user_id, "user_id", self._settings)
        check_id(session_id, "session_id", self._settings)
        self._check_open()
        stored = self._users.get(user_id, {}).get(session_id)
        return None if stored is None or self._has_expired(stored) else stored

    def _get(self, user_id: str, session_id: str) -> _Stored:
        stored = self._find(user_id, session_id)
        if stored is None:
            raise NotFound(f"user {user_id!r} has no session {session_id!r}")
        return stored

    def _session(self, user_id: str, session_id: str, stored: _Stored, ids: Iterable[str] | None = None) -> Session:
        payloads = [stored.messages[id] for id in (stored.messages if ids is None else ids)]
        check_reply(payloads, self._settings, Advice.READ_PARTS)
        return Session(
            id=session_id,
            user_id=user_id,
            messages=load_messages(payloads),
            title=stored.title,
            metadata=loads(stored.metadata),
            created_at=stored.created_at,
            updated_at=stored.updated_at,
            forked_from=stored.forked_from,
            forked_at=stored.forked_at,
            ttl=stored.ttl,
        )


def _select_ids(stored: _Stored, user_id: str, limit: int | None, before: str | None, session_id: str) -> list[str]:
    """Return the ids of all or the last `limit` messages, of those before the message `before` if it is given."""
    ids = list(stored.messages)
    if before is not None:
        if before not in stored.messages:
            raise NotFound(f"session {session_id!r} of user {user_id!r} has no message {before!r}")
        ids = ids[: ids.index(before)]
    return ids if limit is None else ids[max(0, len(ids) - limit) :]
