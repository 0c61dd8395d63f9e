"""The session history service without a database, for tests."""

from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Literal

from agentstore.errors import AlreadyExists, Closed, Conflict, LimitExceeded, NotFound, UnreadableRow
from agentstore.exact_json import loads
from agentstore.inmemory.states import InMemoryStateService
from agentstore.inmemory.stored_session import StoredSession, add_missing, appended, are_stored, select_ids, time_after
from agentstore.inmemory.users import InMemoryUserService
from agentstore.interfaces import StoreSessionHistoryService
from agentstore.schemas import (
    Appended,
    Deleted,
    Imported,
    Message,
    MessagesLike,
    Page,
    ScopedValues,
    Session,
    StoredMessages,
)
from agentstore.schemas.edits import (
    MetadataPatch,
    check_message_ids,
    check_patch,
    patched_metadata,
    prepare_replacement,
)
from agentstore.schemas.identity import is_same_payload
from agentstore.schemas.imports import has_expired, prepare_import
from agentstore.schemas.listing import SessionOrder, minute_of, read_session_filters
from agentstore.schemas.message import place_messages
from agentstore.schemas.page import Advice, check_count, check_limit, check_reply
from agentstore.schemas.payload import (
    MAX_TTL,
    check_end,
    check_id,
    check_missing_session,
    check_place,
    check_session,
    check_title,
    check_ttl,
    dump_metadata,
    load_messages,
    new_session_id,
    prepare_messages,
    same_content,
)
from agentstore.schemas.session import extend_messages
from agentstore.schemas.values import prepare_values
from agentstore.settings import Settings, settings_from_environment


class InMemorySessionHistoryService(StoreSessionHistoryService):
    """Conversation history in memory, for tests. It is lost when the process ends.

    Messages are stored as the JSON text that Postgres would store: callers share no objects with the service. See
    :class:`agentstore.SessionHistoryService` for what each method does and raises.
    """

    def __init__(
        self,
        *,
        missing_session: Literal["error", "create"] = "error",
        states: InMemoryStateService | None = None,
        users: InMemoryUserService | None = None,
        settings: Settings | None = None,
    ) -> None:
        """Create an empty service.

        `missing_session="create"` makes the methods that read or append create a missing session; with "error" they
        return None or raise NotFound. `states` is the service whose states are copied by a fork and truncated by a
        rewind, and `users` has the owners of sessions.
        """
        self._create_missing = check_missing_session(missing_session)
        self._settings = settings or settings_from_environment()
        self._states = states or InMemoryStateService(settings=self._settings)
        self._owners = users or InMemoryUserService(settings=self._settings)
        self._users: dict[str, dict[str, StoredSession]] = {}
        self._states._set_sessions(self._values_of)
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
        app: str | None = None,
        messages: bool = True,
    ) -> Session:
        check_id(user_id, "user_id", self._settings)
        session_id = check_id(new_session_id(session_id), "session_id", self._settings)
        return self._create(
            user_id,
            session_id,
            exist_ok=exist_ok,
            title=check_title(title),
            metadata="{}" if metadata is None else dump_metadata(metadata, self._settings),
            ttl=check_ttl(ttl),
            app=None if app is None else check_id(app, "app", self._settings),
            messages=messages,
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
        app: str | None = None,
        messages: bool = True,
    ) -> Session:
        self._check_open()
        sessions = self._users.setdefault(user_id, {})
        self._owners._add(user_id)
        if session_id not in sessions or self._has_expired(sessions[session_id]):
            now = datetime.now(UTC)
            sessions[session_id] = StoredSession(title, metadata, now, now, ttl=ttl, app=app)
        elif not exist_ok:
            raise AlreadyExists(f"user {user_id!r} already has a session {session_id!r}")
        return self._session(user_id, session_id, sessions[session_id], None if messages else ())

    async def get_session(  # noqa: D102
        self,
        user_id: str,
        session_id: str,
        *,
        limit: int | None = None,
        before: str | None = None,
        whole_calls: bool = False,
        stale_ok: bool = False,
    ) -> Session | None:
        check_limit(limit)
        check_end(before, None, self._settings)
        stored = self._find(user_id, session_id)
        if stored is None:
            return self._create(user_id, session_id) if self._create_missing else None
        ids = select_ids(stored, user_id, limit, before, session_id)
        session = self._session(user_id, session_id, stored, ids)
        if whole_calls:
            await self._add_calls(session)
        return session

    async def read_messages(  # noqa: D102
        self,
        user_id: str,
        session_id: str,
        *,
        limit: int | None = None,
        before: str | None = None,
        through: str | None = None,
        before_seq: int | None = None,
        stale_ok: bool = False,
    ) -> StoredMessages | None:
        check_limit(limit)
        check_end(before, through, self._settings, before_seq)
        last = None if before_seq is None else check_count(before_seq, "before_seq")
        stored = self._find(user_id, session_id)
        if stored is None:
            if self._create_missing:
                self._create(user_id, session_id)
                return StoredMessages()
            return None
        ids = select_ids(stored, user_id, limit, before, session_id, through, last)
        payloads = [stored.messages[id] for id in ids]
        check_reply(payloads, self._settings, Advice.READ_PARTS)
        return StoredMessages(payloads, user_id, session_id, [stored.places[id] for id in ids])

    async def find_message(  # noqa: D102
        self, user_id: str, message_id: str, *, stale_ok: bool = False
    ) -> str | None:
        check_id(user_id, "user_id", self._settings)
        check_id(message_id, "message_id", self._settings)
        self._check_open()
        found = [
            (minute_of(stored.updated_at), id)
            for id, stored in self._users.get(user_id, {}).items()
            if message_id in stored.messages and not self._has_expired(stored)
        ]
        return max(found)[1] if found else None

    async def iter_messages(  # noqa: D102
        self,
        user_id: str,
        session_id: str,
        *,
        after_seq: int = 0,
        batch: int = 1_000,
        on_unreadable: Callable[[UnreadableRow], object] | None = None,
        stale_ok: bool = False,
    ) -> AsyncIterator[Message]:
        after = check_count(after_seq, "after_seq")
        check_count(batch, "batch", minimum=1, maximum=self._settings.max_page)
        if self._create_missing:
            self._create(user_id, session_id)
        stored = self._get(user_id, session_id)
        while ids := list(islice((id for id, place in stored.places.items() if place[0] > after), batch)):
            places = [stored.places[id] for id in ids]
            after = places[-1][0]
            stored_here = StoredMessages([stored.messages[id] for id in ids], user_id, session_id, places)
            for message in stored_here.models(on_unreadable=on_unreadable):
                yield message

    async def list_sessions(  # noqa: D102
        self,
        user_id: str | None = None,
        *,
        app: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        title: str | None = None,
        since: datetime | str | float | None = None,
        until: datetime | str | float | None = None,
        order: SessionOrder = "last_used",
        limit: int | None = None,
        cursor: str | None = None,
        stale_ok: bool = False,
    ) -> Page[Session]:
        filters = read_session_filters(
            self._settings,
            user_id=user_id,
            app=app,
            metadata=metadata,
            title=title,
            since=since,
            until=until,
            order=order,
            limit=limit,
            cursor=cursor,
        )
        self._check_open()
        users = self._users if user_id is None else {user_id: self._users.get(user_id, {})}
        live = [
            self._session(owner, id, stored, ())
            for owner, sessions in users.items()
            for id, stored in sessions.items()
            if not self._has_expired(stored)
        ]
        keys = [(filters.key_of(each), each) for each in live if filters.matches(each)]
        found = sorted((each for each in keys if each[0] < filters.before), key=lambda each: each[0], reverse=True)
        page = found if filters.limit is None else found[: filters.limit]
        following = filters.write_cursor(page[-1][0]) if page and len(page) == filters.limit else None
        payloads = (self._users[each.user_id][each.id].metadata for _, each in page)
        check_reply(payloads, self._settings, Advice.SMALLER_LIMIT)
        return Page((each for _, each in page), following)

    async def append_message(self, session: Session, message: MessagesLike) -> None:  # noqa: D102
        check_session(session, self._settings)
        prepared = prepare_messages(message, self._settings)
        if not prepared:
            return
        stored = self._find(session.user_id, session.id)
        if stored is None:
            if not self._create_missing:
                raise NotFound(f"user {session.user_id!r} has no session {session.id!r}")
            self._create(session.user_id, session.id)
            stored = self._users[session.user_id][session.id]
        is_new = self._append(session.user_id, session.id, stored, prepared)
        updated_at = stored.updated_at if is_new else None
        extend_messages(session, [each for each, _ in prepared.values()], updated_at, len(stored.messages))

    def _append(
        self, user_id: str, session_id: str, stored: StoredSession, prepared: dict[str, tuple[Message, str]]
    ) -> bool:
        """Store the messages that are missing, and return whether there were any."""
        for id, (_, payload) in prepared.items():
            if id in stored.messages and not same_content(stored.messages[id], payload):
                raise Conflict(
                    f"session {session_id!r} of user {user_id!r} already has a message {id!r} with different content"
                )
        if is_new := not prepared.keys() <= stored.messages.keys():
            stored.updated_at = datetime.now(UTC)
            add_missing(stored, prepared)
        place_messages([message for message, _ in prepared.values()], [stored.places[id] for id in prepared])
        return is_new

    async def append(  # noqa: D102
        self,
        user_id: str,
        session_id: str,
        messages: MessagesLike,
        *,
        create: bool = True,
        expected_seq: int | None = None,
        metadata_patch: MetadataPatch | None = None,
        app: str | None = None,
        values: ScopedValues | None = None,
    ) -> Appended:
        stored = self._find(user_id, session_id)
        if expected_seq is not None:
            check_count(expected_seq, "expected_seq")
        if metadata_patch is not None:
            check_patch(metadata_patch, self._settings)
        app = None if app is None else check_id(app, "app", self._settings)
        changes = None if values is None else prepare_values(values, app or "", self._settings)
        prepared = prepare_messages(messages, self._settings)
        if stored is None:
            if not create:
                raise NotFound(f"user {user_id!r} has no session {session_id!r}")
            if expected_seq:
                raise Conflict(
                    f"user {user_id!r} has no session {session_id!r}, expected one of {expected_seq} messages"
                )
            now = datetime.now(UTC)
            stored = StoredSession(None, "{}", now, now, app=app)
        has_changed = expected_seq is not None and len(stored.messages) != expected_seq
        if has_changed and not (prepared and are_stored(stored, prepared)):
            raise Conflict(
                f"session {session_id!r} of user {user_id!r} has {len(stored.messages)} messages, expected "
                f"{expected_seq}: read it again"
            )
        metadata = stored.metadata
        added = [id for id in prepared if id not in stored.messages]
        if metadata_patch is not None and (added or not prepared):
            metadata = patched_metadata(metadata, metadata_patch, added, self._settings)
        is_changed = self._append(user_id, session_id, stored, prepared) or not prepared
        self._users.setdefault(user_id, {})[session_id] = stored
        self._owners._add(user_id)
        if is_changed:
            stored.metadata = metadata
        if is_changed and changes is not None:
            self._states._merge_changes(user_id, session_id, changes)
        return appended(stored, prepared)

    async def import_session(  # noqa: D102
        self, session: Session, *, differences: Literal["error", "keep"] = "error"
    ) -> Imported:
        head, parts, repeated = prepare_import(session, self._settings, differences)
        prepared: dict[str, tuple[Message, str]] = {}
        for part in parts:
            prepared |= {id: each for id, each in part.items() if id not in prepared}
        stored, differing = self._find(session.user_id, session.id), repeated
        now = datetime.now(UTC)
        if is_new := stored is None:
            created_at = min(head.pop("created_at") or head["at"] or now, now).astimezone(UTC)
            updated_at = max(created_at, head["at"] or now).astimezone(UTC)
            del head["updated_at"], head["at"]
            stored = StoredSession(created_at=created_at, updated_at=updated_at, **head)
            if self._has_expired(stored):
                raise has_expired(session, self._settings)
        else:
            changed = [
                (id, payload)
                for id, (_, payload) in prepared.items()
                if id in stored.messages and not same_content(stored.messages[id], payload)
            ]
            if changed and differences == "error":
                raise Conflict(
                    f"session {session.id!r} of user {session.user_id!r} already has a message {changed[0][0]!r} with "
                    "different content"
                )
            found = [id for id, payload in changed if not is_same_payload(stored.messages[id], payload)]
            differing = list(dict.fromkeys((*found, *repeated)))
            if not prepared.keys() <= stored.messages.keys():
                stored.updated_at = max(stored.updated_at, head["at"] or now).astimezone(UTC)
        added = add_missing(stored, prepared)
        self._users.setdefault(session.user_id, {})[session.id] = stored
        self._owners._add(session.user_id)
        return Imported(int(is_new), added, tuple(differing))

    async def touch(self, user_id: str, session_id: str, *, idle: int = 0) -> None:  # noqa: D102
        stored = self._find(user_id, session_id)
        check_count(idle, "idle", maximum=MAX_TTL)
        now = datetime.now(UTC)
        if stored is not None and now - stored.updated_at >= timedelta(seconds=idle):
            stored.updated_at = now

    async def pop_messages(self, user_id: str, session_id: str, n: int = 1) -> list[Message]:  # noqa: D102
        check_count(n, "n")
        stored = self._find(user_id, session_id)
        if stored is None:
            return []
        ids = list(stored.messages)[max(0, len(stored.messages) - n) :]
        popped = load_messages([stored.messages[id] for id in ids], places=[stored.places[id] for id in ids])
        if ids:
            self._cut(stored, stored.places[ids[0]][0])
        return popped

    async def delete_messages(self, user_id: str, session_id: str, ids: Sequence[str]) -> Deleted:  # noqa: D102
        unique = check_message_ids(ids, self._settings)
        stored = self._find(user_id, session_id)
        found = [id for id in unique if stored is not None and id in stored.messages]
        if stored is not None and found:
            stored.updated_at = datetime.now(UTC)
            for id in found:
                del stored.messages[id], stored.places[id]
        return Deleted(messages=len(found))

    async def replace_message(  # noqa: D102
        self,
        user_id: str,
        session_id: str,
        message: Message | Mapping[str, Any],
        *,
        expected: Message | Mapping[str, Any] | None = None,
    ) -> Message:
        new, payload, before = prepare_replacement(message, expected, self._settings)
        stored = self._get(user_id, session_id)
        where = f"session {session_id!r} of user {user_id!r}"
        if new.id not in stored.messages:
            raise NotFound(f"{where} has no message {new.id!r}")
        if before is not None and not any(same_content(stored.messages[new.id], each) for each in (before, payload)):
            raise Conflict(f"message {new.id!r} of {where} has changed: read it again")
        stored.messages[new.id] = payload
        stored.updated_at = datetime.now(UTC)
        place_messages([new], [stored.places[new.id]])
        return new

    async def replace_from(  # noqa: D102
        self, user_id: str, session_id: str, at: str | int, messages: MessagesLike
    ) -> Appended:
        check_place(at, self._settings, minimum=1)
        prepared = prepare_messages(messages, self._settings)
        stored = self._get(user_id, session_id)
        place = at if at == stored.next_seq else self._place(user_id, session_id, stored, at)
        assert isinstance(place, int)  # noqa: S101
        if any(id in prepared and seq < place for id, (seq, _) in stored.places.items()):
            raise Conflict(
                f"session {session_id!r} of user {user_id!r} has a message with one of the new ids before {at!r}"
            )
        if place < stored.next_seq:
            self._cut(stored, place)
        self._append(user_id, session_id, stored, prepared)
        return appended(stored, prepared)

    def _cut(self, stored: StoredSession, at: int) -> list[str]:
        """Delete the messages from the number `at` on, and return their ids."""
        ids = [id for id, (seq, _) in stored.places.items() if seq >= at]
        for id in ids:
            del stored.messages[id], stored.places[id]
        stored.next_seq = at
        stored.updated_at = datetime.now(UTC)
        return ids

    async def delete_session(  # noqa: D102
        self, user_id: str, session_id: str, *, only_if: Callable[[dict[str, Any]], bool] | None = None
    ) -> Deleted:
        found = self._find(user_id, session_id)
        if only_if is not None and (found is None or not only_if(loads(found.metadata))):
            return Deleted()
        stored = self._users.get(user_id, {}).pop(session_id, None)
        if stored is None:
            return Deleted()
        return Deleted(sessions=1, messages=len(stored.messages))

    async def fork_session(  # noqa: D102
        self,
        user_id: str,
        session_id: str,
        *,
        at: str | int | None = None,
        new_id: str | None = None,
        messages: bool = True,
    ) -> Session:
        new_id = check_id(new_session_id(new_id), "new_id", self._settings)
        if at is not None:
            check_place(at, self._settings)
        stored = self._get(user_id, session_id)
        last = stored.next_seq - 1 if at is None else self._place(user_id, session_id, stored, at)
        self._fork(user_id, session_id, last, new_id)
        try:
            return self._session(user_id, new_id, self._users[user_id][new_id], None if messages else ())
        except LimitExceeded as error:
            raise LimitExceeded(f"session {new_id!r} was created, but {error}") from error

    async def rewind_session(  # noqa: D102
        self,
        user_id: str,
        session_id: str,
        at: str | int,
        *,
        keep: bool = True,
        new_id: str | None = None,
        messages: bool = True,
    ) -> Session:
        new_id = check_id(new_session_id(new_id), "new_id", self._settings)
        check_place(at, self._settings)
        stored = self._get(user_id, session_id)
        last = self._place(user_id, session_id, stored, at)
        if messages:
            remaining = (payload for id, payload in stored.messages.items() if stored.places[id][0] <= last)
            check_reply(remaining, self._settings, Advice.RAISE_LIMIT)
        if last < stored.next_seq - 1:
            if (since := time_after(stored, last)) is not None:
                if keep:
                    self._fork(user_id, session_id, stored.next_seq - 1, new_id, after=last, since=since)
                self._states._truncate(user_id, session_id, since)
            self._cut(stored, last + 1)
        return self._session(user_id, session_id, stored, None if messages else ())

    def _place(self, user_id: str, session_id: str, stored: StoredSession, at: str | int) -> int:
        """Return the number of the message `at`."""
        if isinstance(at, str) and at in stored.messages:
            return stored.places[at][0]
        if isinstance(at, int) and at < stored.next_seq:
            return at
        raise NotFound(f"session {session_id!r} of user {user_id!r} has no message {at!r}")

    def _fork(
        self,
        user_id: str,
        session_id: str,
        last: int,
        new_id: str,
        *,
        after: int = 0,
        since: datetime | None = None,
    ) -> None:
        """Copy the messages after one number up to another, and the state rounds, of those saved since a time."""
        sessions = self._users[user_id]
        stored = sessions[session_id]
        is_taken = new_id in sessions and not self._has_expired(sessions[new_id])
        if is_taken or not self._states._copy(user_id, session_id, new_id, since, time_after(stored, last)):
            raise AlreadyExists(
                f"user {user_id!r} already has a session or states with the id {new_id!r}: choose another new_id"
            )
        now = datetime.now(UTC)
        places = {id: place for id, place in stored.places.items() if after < place[0] <= last}
        messages = {id: stored.messages[id] for id in places}
        sessions[new_id] = replace(
            stored,
            created_at=now,
            updated_at=now,
            messages=messages,
            places=places,
            values=dict(stored.values),
            next_seq=last + 1,
            forked_from=session_id,
            forked_at=last,
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

    def _has_expired(self, stored: StoredSession) -> bool:
        ttl = stored.ttl or self._settings.session_ttl
        return ttl is not None and stored.updated_at + timedelta(seconds=ttl) <= datetime.now(UTC)

    def _check_open(self) -> None:
        if self._stopped:
            raise Closed("The service was stopped: call start() to use it again.")
        self._started = True

    def _find(self, user_id: str, session_id: str) -> StoredSession | None:
        check_id(user_id, "user_id", self._settings)
        check_id(session_id, "session_id", self._settings)
        self._check_open()
        stored = self._users.get(user_id, {}).get(session_id)
        return None if stored is None or self._has_expired(stored) else stored

    def _values_of(self, user_id: str, session_id: str) -> dict[str, str] | None:
        """Return the values of a session, which the states change; None if it does not exist."""
        stored = self._find(user_id, session_id)
        return None if stored is None else stored.values

    def _get(self, user_id: str, session_id: str) -> StoredSession:
        stored = self._find(user_id, session_id)
        if stored is None:
            raise NotFound(f"user {user_id!r} has no session {session_id!r}")
        return stored

    def _session(
        self, user_id: str, session_id: str, stored: StoredSession, ids: Iterable[str] | None = None
    ) -> Session:
        ids = list(stored.messages if ids is None else ids)
        payloads = [stored.messages[id] for id in ids]
        check_reply(payloads, self._settings, Advice.READ_PARTS)
        return Session(
            id=session_id,
            user_id=user_id,
            messages=load_messages(payloads, places=[stored.places[id] for id in ids]),
            title=stored.title,
            metadata=loads(stored.metadata),
            created_at=stored.created_at,
            updated_at=stored.updated_at,
            forked_from=stored.forked_from,
            forked_at=stored.forked_at,
            ttl=stored.ttl,
            app=stored.app,
            message_count=len(stored.messages),
        )
