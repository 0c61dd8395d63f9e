"""The transcripts of the Claude Agent SDK as sessions."""

# pyright: reportMissingImports=false
from asyncio import CancelledError
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from agentstore import offload
from agentstore.adapters.claude_agent_sdk.entries import KEY, Entry, entries_of, has_uuid, is_memorable, message_of
from agentstore.adapters.claude_agent_sdk.keys import Place, UserOf, app_of, place_of, session_id_in, subpath_in
from agentstore.adapters.stores import OnStore, Store, is_stored
from agentstore.errors import Conflict, InvalidContent, NotFound, Retryable, UnknownOutcome
from agentstore.exact_json import dumps
from agentstore.schemas import Message, Session
from agentstore.schemas.edits import MetadataPatch
from agentstore.schemas.message import new_message_id
from agentstore.schemas.payload import shortened

# Of an append, and of a page of a list.
_LARGEST_BATCH, _PAGE = 10_000, 1_000
# The maximum number of transcripts whose last append failed without a definite outcome.
_MAX_UNCONFIRMED = 1_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class AgentStoreSessionStore(OnStore):
    """A SessionStore of the SDK, with all of its optional methods.

    Each transcript, main or of a subagent, is a session of agentstore. Objects with the same owner share the
    transcripts, in this process and in others.
    """

    def __init__(
        self,
        store: Store | None = None,
        *,
        url: str | None = None,
        user_id: UserOf = None,
        remember: bool = False,
    ) -> None:
        """Create the object, without connecting.

        Args:
            store: an AgentStore.
            url: the URL of a database instead of a store. All adapters in this process share one pool for it, which
                :meth:`close` releases.
            user_id: the owner: an id, or a function that returns it, which receives the SDK's SessionKey. None: each
                session, with its subagents, is the only one of a user of its own, whose id is the session's,
                ``session/project``.
            remember: whether what users and the model write in main transcripts is also added to the user's memory,
                where ``store.memory.search_memory`` finds it.

        Raises:
            NotConfigured: both `store` and `url` are given, or none.
        """
        super().__init__(store, url=url)
        self._user_of = user_id
        self._remember = remember
        self._unconfirmed: dict[Place, tuple[bytes, list[str]]] = {}

    async def append(self, key: Mapping[str, Any], entries: Sequence[Mapping[str, Any]]) -> None:
        """Append entries to a transcript: all of them, in this order, or none. The first ones create it.

        An entry whose ``uuid`` is stored already is ignored, even if its content differs. Entries without one are
        stored each time; after a call that failed without a definite outcome, the same call on this object is safe to
        repeat. More than 10,000 entries are stored by several calls.

        Args:
            key: the SDK's SessionKey.
            entries: the SDK's SessionStoreEntry values, or any other JSON objects.

        Raises:
            InvalidContent: the key is not valid, or an entry is not a JSON object; nothing was written.
            LimitExceeded: an entry is over 32 MB.
        """
        place = place_of(key, self._user_of)
        if isinstance(entries, (str, bytes, Mapping)):
            raise InvalidContent(f"entries must be a list of entries, got {shortened(entries)}")
        if not entries:
            return
        ids = self._ids_of_failed_call(place, entries)
        by_id = await offload.run(_by_id, entries, ids)
        messages = [message for message, _ in by_id.values()]
        patch = _fold(key, {id: entry for id, (_, entry) in by_id.items()}) if place.is_main else None
        try:
            for first in range(0, len(messages), _LARGEST_BATCH):
                await self._append(place, messages[first : first + _LARGEST_BATCH], patch)
        except (Retryable, UnknownOutcome, CancelledError):
            self._unconfirmed[place] = _digest(entries), ids
            if len(self._unconfirmed) > _MAX_UNCONFIRMED:
                del self._unconfirmed[next(iter(self._unconfirmed))]
            raise
        self._unconfirmed.pop(place, None)

    async def load(self, key: Mapping[str, Any]) -> list[Any] | None:
        """Return all entries of a transcript in order, equal to what was appended; None if it does not exist.

        Raises:
            LimitExceeded: the entries have more than 256 MB (the setting `max_reply_bytes`).
        """
        store, place = await self._started(), place_of(key, self._user_of)
        stored = await store.sessions.read_messages(place.user_id, place.session_id)
        return (await offload.run(entries_of, stored) or None) if stored else None

    async def list_sessions(self, project_key: str) -> list[Any]:
        """Return the sessions of a project: the SDK's SessionStoreListEntry values, in no particular order.

        Of all users, unless the owner is an id; with a function, of those users to whom it assigns the session.

        Raises:
            NotConfigured: the owner is not an id, and row-level security hides sessions from the role.
        """
        found = await self._sessions(project_key)
        return [{"session_id": id, "mtime": _mtime(session)} for id, session in found]

    async def list_session_summaries(self, project_key: str) -> list[Any]:
        """Return the summaries of the sessions of a project: the SDK's SessionSummaryEntry values.

        They are written by :meth:`append` in its transaction. A session without one is left out.

        Raises:
            NotConfigured: as :meth:`list_sessions`.
        """
        found = []
        for id, session in await self._sessions(project_key):
            data = _summary_of(session.metadata)
            if data is not None:
                found.append({"session_id": id, "mtime": _mtime(session), "data": data})
        return found

    async def delete(self, key: Mapping[str, Any]) -> None:
        """Delete a transcript; a main one with those of its subagents, and with its memories. Idempotent."""
        store, place = await self._started(), place_of(key, self._user_of)
        if place.is_main:
            for session in await self._list(place.user_id, place.session_id):
                await store.sessions.delete_session(place.user_id, session.id)
            if self._remember:
                await store.memory.delete_memory(place.user_id, place.session_id)
        await store.sessions.delete_session(place.user_id, place.session_id)

    async def list_subkeys(self, key: Mapping[str, Any]) -> list[str]:
        """Return the subpaths of the subagents' transcripts of a session, in the order of their creation."""
        place = place_of({**key, "subpath": None}, self._user_of)
        found = await self._list(place.user_id, place.session_id)
        subpaths = (subpath_in(session, place.session_id) for session in reversed(found))
        return [subpath for subpath in subpaths if subpath is not None]

    async def _append(self, place: Place, messages: list[Message], patch: MetadataPatch | None) -> None:
        store = await self._started()
        user_id, session_id = place.user_id, place.session_id
        new = messages
        while new:
            try:
                await store.sessions.append(user_id, session_id, new, create=False, metadata_patch=patch)
                break
            except NotFound:
                await store.sessions.create_session(user_id, session_id, app=place.app, messages=False)
            except Conflict:
                new = [each for each in new if not await is_stored(store.sessions, user_id, session_id, each.id)]
        if self._remember and place.is_main:
            texts = [message for message in messages if is_memorable(message)]
            await store.memory.add_memory(user_id, texts, session_id)

    async def _sessions(self, project_key: str) -> list[tuple[str, Session]]:
        """Return the main transcripts of a project that have entries, by the SDK's ids."""
        user_id = self._user_of if isinstance(self._user_of, str) else None
        app = app_of(project_key)
        found = []
        for session in await self._list(user_id, app):
            session_id = session_id_in(session, app)
            if session_id is not None:
                place = place_of({"project_key": project_key, "session_id": session_id}, self._user_of)
                if session.user_id == place.user_id:
                    found.append((session_id, session))
        return found

    async def _list(self, user_id: str | None, app: str) -> list[Session]:
        """Return the sessions of an application that have entries, the latest first."""
        store = await self._started()
        found: list[Session] = []
        cursor = None
        while True:
            # By creation: a session that is written to while the pages are read stays in its place.
            page = await store.sessions.list_sessions(user_id, app=app, order="created", limit=_PAGE, cursor=cursor)
            found += [session for session in page if session.message_count]
            cursor = page.next_cursor
            if cursor is None:
                return found

    def _ids_of_failed_call(self, place: Place, entries: Sequence[Mapping[str, Any]]) -> list[str]:
        """Return the ids of entries without a uuid: those of the previous call if it failed, and had these entries."""
        failed = self._unconfirmed.get(place)
        if failed is not None and failed[0] == _digest(entries):
            return failed[1]
        return [new_message_id() for entry in entries if not (isinstance(entry, Mapping) and has_uuid(entry))]


def _by_id(entries: Sequence[Mapping[str, Any]], ids: Sequence[str]) -> dict[str, tuple[Message, Entry]]:
    """Return the Messages of entries, and the entries, by id; the first of each. `ids` are for those without a uuid."""
    found: dict[str, tuple[Message, Entry]] = {}
    without_uuid = iter(ids)
    for position, entry in enumerate(entries):
        message = message_of(entry, position)
        if not has_uuid(entry):
            message.id = next(without_uuid)
        found.setdefault(message.id, (message, dict(entry)))
    return found


def _fold(key: Mapping[str, Any], entries: Mapping[str, Entry]) -> MetadataPatch:
    """Return the function that adds the new ones of these entries to the summary in the metadata of a session."""

    def patch(metadata: dict[str, Any], added: list[str]) -> dict[str, Any]:
        from claude_agent_sdk import fold_session_summary  # pyright: ignore[reportAttributeAccessIssue]

        data = _summary_of(metadata)
        previous: Any = None if data is None else {"session_id": key["session_id"], "mtime": 0, "data": data}
        given: Any = [entries[id] for id in added]
        return {KEY: {"summary": [fold_session_summary(previous, dict(key), given)["data"]]}}

    return patch


def _summary_of(metadata: Mapping[str, Any]) -> dict[str, Any] | None:
    record = metadata.get(KEY)
    summary = record.get("summary") if isinstance(record, dict) else None
    return summary[0] if isinstance(summary, list) and summary and isinstance(summary[0], dict) else None


def _mtime(session: Session) -> int:
    """Return when entries were last stored, in milliseconds since 1970."""
    assert session.updated_at is not None  # noqa: S101 - of every stored session
    return (session.updated_at - _EPOCH) // timedelta(milliseconds=1)


def _digest(entries: Sequence[Mapping[str, Any]]) -> bytes:
    return sha256(dumps(list(entries)).encode("utf-8", "surrogatepass")).digest()
