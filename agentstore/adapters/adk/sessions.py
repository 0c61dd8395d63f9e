"""The sessions of ADK, with their events and their state."""

# pyright: reportMissingImports=false
import asyncio
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4
from weakref import WeakValueDictionary

from google.adk.errors._stale_session_error import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from google.adk.events import Event, EventActions
from google.adk.sessions import BaseSessionService, Session
from google.adk.sessions.base_session_service import GetSessionConfig, ListSessionsResponse

from agentstore import offload
from agentstore.adapters.adk.events import KEY, events_of, message_of
from agentstore.adapters.adk.keys import session_ids_in, stored_id
from agentstore.adapters.adk.listed import listed_session, marked
from agentstore.adapters.adk.state import state_of, unwrap, values_of
from agentstore.adapters.stores import OnStore, Store, is_stored
from agentstore.errors import Conflict, NotFound
from agentstore.event_loops import PerLoop
from agentstore.exact_json import no_collection
from agentstore.interfaces import SessionHistoryService
from agentstore.schemas import ScopedValues
from agentstore.schemas import Session as StoredSession
from agentstore.schemas.payload import strip_id

# The size of a page of a list, of which the states are read together.
_PAGE = 1_000

# What orders a listed session, and the session.
_Listed = tuple[float, str, str, Session]
_Locks = WeakValueDictionary[tuple[str, str], asyncio.Lock]


class AgentStoreSessionService(OnStore, BaseSessionService):  # type: ignore[misc]
    """A BaseSessionService of ADK.

    Each session is a session of agentstore. Services on the same database share the sessions, in this process and in
    others. The user of ADK is the user of agentstore, in all applications.
    """

    def __init__(self, store: Store | None = None, *, url: str | None = None) -> None:
        """Create the service, without connecting.

        Args:
            store: an AgentStore.
            url: the URL of a database instead of a store. All adapters in this process share one pool for it, which
                :meth:`close` releases.

        Raises:
            NotConfigured: both `store` and `url` are given, or none.
        """
        super().__init__(store, url=url)
        self._locks: PerLoop[_Locks] = PerLoop()

    async def create_session(
        self,
        *,
        app_name: str,
        user_id: str,
        state: Mapping[str, Any] | None = None,
        session_id: str | None = None,
    ) -> Session:
        """Create a session with its state, in one transaction, and return it.

        Args:
            app_name: the application.
            user_id: the owner.
            state: the initial state; values of the keys ``app:`` and ``user:`` are merged into those of the
                application and of the user. Keys ``temp:`` are left out.
            session_id: surrounding white space is removed; None or blank generates a UUID.

        Raises:
            AlreadyExistsError: the user has a session with this id in this application; nothing was written.
            InvalidContent, LimitExceeded: an id or the state is invalid; nothing was written.
        """
        store = await self._started()
        session_id = strip_id(session_id or "") or str(uuid4())
        id = stored_id(app_name, session_id)
        dumped = dump_changes(state or {})

        def patch(metadata: dict[str, Any], _: list[str]) -> dict[str, Any]:
            if KEY in metadata:
                raise AlreadyExistsError(f"Session with id {session_id} already exists.")
            return metadata_of(session_id)

        try:
            created = await store.sessions.append(
                user_id, id, [], expected_seq=0, metadata_patch=patch, app=app_name, values=values_of(dumped)
            )
        except Conflict as error:
            raise AlreadyExistsError(f"Session with id {session_id} already exists.") from error
        values = await store.states.get_values(user_id, id, app=app_name)
        session = Session(app_name=app_name, user_id=user_id, id=session_id, state=state_of(values))
        return marked(session, created.created_at.timestamp(), 0)

    async def get_session(
        self, *, app_name: str, user_id: str, session_id: str, config: GetSessionConfig | None = None
    ) -> Session | None:
        """Return a session with its events in the order in which they were appended; None if it does not exist.

        Args:
            app_name: the application.
            user_id: the owner.
            session_id: the session.
            config: ``after_timestamp`` selects events from this time on, ``num_recent_events`` the latest of them.

        Raises:
            LimitExceeded: the events have more than 256 MB (the setting `max_reply_bytes`).
        """
        store, session_id = await self._started(), strip_id(session_id)
        id = stored_id(app_name, session_id)
        limit, after = (None, None) if config is None else (config.num_recent_events, config.after_timestamp)
        # The last event is read in any case, since it has the time of the session.
        size = None if limit is None or after is not None else max(limit, 1)
        while True:
            stored = await store.sessions.get_session(user_id, id, limit=size)
            if stored is None:
                return None
            events = await offload.run(events_of, stored.messages)
            if size is None or len(events) >= size or len(stored.messages) < size:
                break
            size *= 2  # messages of other programs were left out
        selected = events if after is None else [event for event in events if event.timestamp >= after]
        selected = selected if limit is None else selected[max(0, len(selected) - limit) :]
        # After the events: an event that changes the state meanwhile makes the session stale.
        values = await store.states.get_values(user_id, id, app=app_name)
        session = Session(app_name=app_name, user_id=user_id, id=session_id, state=state_of(values), events=selected)
        return marked(session, _last_update(stored, events), stored.message_count or 0)

    async def list_sessions(self, *, app_name: str, user_id: str | None = None) -> ListSessionsResponse:
        """Return the sessions of a user, or of all users, with their state and without events.

        They are ordered by the time at which they were last written to, the latest last.

        Raises:
            NotConfigured: without `user_id`, row-level security hides sessions from the role.
        """
        store = await self._started()
        found: list[_Listed] = []
        cursor = None
        while True:
            # By creation: a session that is written to while the pages are read stays in its place.
            page = await store.sessions.list_sessions(
                user_id, app=app_name, order="created", limit=_PAGE, cursor=cursor
            )
            values = await store.states.get_values_of(page, app=app_name)
            found += _sessions_of(app_name, page, values)
            cursor = page.next_cursor
            if cursor is None:
                break
        found.sort(key=lambda each: each[:3])
        return ListSessionsResponse(sessions=[each[-1] for each in found])

    async def delete_session(self, *, app_name: str, user_id: str, session_id: str) -> None:
        """Delete a session with its events and its state. That of the user and the application remains. Idempotent."""
        store = await self._started()
        await store.sessions.delete_session(user_id, stored_id(app_name, strip_id(session_id)))

    async def get_user_state(self, *, app_name: str, user_id: str) -> dict[str, Any]:
        """Return the state of a user in an application, by keys without the prefix ``user:``."""
        store = await self._started()
        values = await store.states.get_values(user_id, app=app_name, scope="user")
        return unwrap(values.user)

    async def append_event(self, session: Session, event: Event) -> Event:
        """Append an event to a session, and change the state, in one transaction; then also in the object `session`.

        A partial event is not stored. Keys ``temp:`` change the object only. An event whose id is stored already with
        equal content is not stored again, so a call without a definite outcome is safe to repeat.

        Raises:
            StaleSessionError: events were appended to the session since it was read; nothing was written.
            SessionNotFoundError: the session does not exist.
            Conflict: another event is stored with the id of this one; nothing was written.
            InvalidContent, LimitExceeded: the event or the state cannot be stored; nothing was written.
        """
        if event.partial:
            return event
        store = await self._started()
        self._apply_temp_state(session, event)
        event = self._trim_temp_delta_state(event)
        user_id, id = session.user_id, stored_id(session.app_name, session.id)
        message, changes = message_of(event)
        values = values_of(changes)
        # Parallel agents append to one object: each append has to know the marker that the one before has set.
        lock = self._locks.get_or_create(WeakValueDictionary).setdefault((user_id, id), asyncio.Lock())
        async with lock:
            expected = await _expected_count(store.sessions, session, id)
            try:
                appended = await store.sessions.append(
                    user_id, id, message, create=False, expected_seq=expected, app=session.app_name, values=values
                )
            except NotFound as error:
                raise SessionNotFoundError(f"Session {session.id} not found.") from error
            except Conflict as error:
                if await is_stored(store.sessions, user_id, id, event.id):
                    raise
                raise _stale(session) from error
            if appended.first_seq <= expected or any(each.id == event.id for each in reversed(session.events)):
                return event  # stored by an earlier call
            marked(session, event.timestamp, expected + 1)
            self._commit_event_to_session(session, event)
            return event


def metadata_of(session_id: str) -> dict[str, Any]:
    """Return the metadata of a stored session, by which one without events is known to exist."""
    return {KEY: {"session_id": session_id}}


def dump_changes(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state as JSON values, as the event that changes it would have them.

    Values that JSON cannot represent become their ``repr``, NaN and infinities None.
    """
    changes: dict[str, Any] = EventActions(state_delta=dict(state)).model_dump(mode="json")["state_delta"]
    return changes


async def _expected_count(sessions: SessionHistoryService, session: Session, id: str) -> int:
    """Return how many messages the stored session had when `session` was read.

    An object that no service has returned, such as one that was sent as JSON, has no marker: it is up to date if its
    last event is the last one that is stored.

    Raises:
        StaleSessionError: events were appended since.
        SessionNotFoundError: the session does not exist.
    """
    marker = session._storage_update_marker
    if marker is not None and marker.isdecimal():
        return int(marker)
    stored = await sessions.get_session(session.user_id, id, limit=1)
    if stored is None:
        raise SessionNotFoundError(f"Session {session.id} not found.")
    last = stored.messages[-1].id if stored.messages else None
    known = session.events[-1].id if session.events else None
    if last != known and _last_update(stored, events_of(stored.messages)) > session.last_update_time:
        raise _stale(session)
    return stored.message_count or 0


def _last_update(stored: StoredSession, events: list[Any]) -> float:
    """Return the time of the last event; without events when the session was last written to."""
    assert stored.updated_at is not None  # noqa: S101 - of every stored session
    return float(events[-1].timestamp) if events else stored.updated_at.timestamp()


def _stale(session: Session) -> StaleSessionError:
    return StaleSessionError(
        f"The session {session.id} has been modified in storage since it was loaded. Please reload the session before "
        "appending more events."
    )


def _sessions_of(app_name: str, page: Sequence[StoredSession], values: Sequence[ScopedValues]) -> list[_Listed]:
    """Return the sessions of a page without events; sessions that other programs created are left out."""
    found: list[_Listed] = []
    with no_collection(len(page)):
        for stored, id, scoped in zip(page, session_ids_in(page, app_name), values, strict=True):
            if id is not None:
                user_id, time = stored.user_id, _last_update(stored, [])
                session = listed_session(app_name, user_id, id, scoped, time, stored.message_count or 0)
                found.append((time, user_id, id, session))
    return found
