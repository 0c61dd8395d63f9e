"""The conversation store of Pydantic AI."""

# pyright: reportMissingImports=false
import logging
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from datetime import timedelta
from typing import Any

from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    ConversationStore,
)

from agentstore import offload
from agentstore.adapters.pydantic_ai.entries import EntryId, EntryNotFound, Place, entries_of, message_of
from agentstore.adapters.pydantic_ai.log import Log, UserOf
from agentstore.adapters.pydantic_ai.records import metadata_of, record_of
from agentstore.adapters.stores import OnStore, Store, is_stored
from agentstore.errors import AgentStoreError, Conflict, Retryable, UnknownOutcome, UnreadableRow
from agentstore.schemas import Message

_log = logging.getLogger(__name__)

# Of `append`.
_LARGEST_BATCH = 10_000
# How many sessions are read beyond the limit of a list, some of which are no conversations.
_MORE = 10
# By how much the clocks of two machines may differ.
_SKEW = timedelta(minutes=1)


class _Unknown(Exception):
    """Entries that a record or a new entry refers to, and that are not known to be in the conversation."""

    def __init__(self, ids: set[str]) -> None:
        super().__init__()
        self.ids = ids


class AgentStoreConversationStore(OnStore, ConversationStore):  # type: ignore[misc]
    """A ConversationStore of Pydantic AI: each conversation is a session, and each entry a message of it.

    A conversation has all entries of its history and of the branches that it left. A fork copies those of its history,
    so that the original conversation can be deleted, with all of its messages.
    """

    def __init__(
        self,
        store: Store | None = None,
        *,
        url: str | None = None,
        user_id: UserOf = None,
        app: str = "pydantic_ai",
    ) -> None:
        """Create the object, without connecting.

        Args:
            store: an AgentStore.
            url: the URL of a database instead of a store. All adapters in this process share one pool for it, which
                :meth:`close` releases.
            user_id: the owner of all conversations of this object: an id, or a function that returns it at each call,
                such as the ``get`` of a ContextVar. None: each conversation is the only one of a user of its own,
                whose id is the id of the conversation.
            app: the application of agentstore that new conversations belong to.

        Raises:
            NotConfigured: both `store` and `url` are given, or none.
        """
        super().__init__(store, url=url)
        self._user_of = user_id
        self._app = app

    async def read_record(self, conversation_id: str) -> ConversationRecord | None:
        """Return the record of a conversation; None if it does not exist.

        Raises:
            UnreadableRow: another program changed the record.
        """
        log = await self._agentstore_log()
        place, sessions = log.place_of(conversation_id), log.sessions
        session = await sessions.get_session(*place, limit=0)
        return None if session is None else record_of(session.metadata, place)

    async def read_records(self, *, scope: str | None = None, limit: int | None = None) -> list[ConversationRecord]:
        """Return the records of conversations, by the time of their last save, the latest first.

        They are those of the user; without `user_id` those of all users in the application. One that is not valid,
        since another program changed it, is left out and logged.

        Args:
            scope: only records with this scope.
            limit: the maximum number of records.

        Raises:
            NotConfigured: without `user_id`, row-level security hides sessions from the role.
        """
        found: list[ConversationRecord] = []
        if limit == 0:
            return found
        log = await self._agentstore_log()
        options: dict[str, Any] = {} if limit is None else {"page": limit + _MORE}
        async with aclosing(log.iter_sessions(scope=scope, **options)) as sessions:
            async for session in sessions:
                # The sessions are ordered by the clock of the database, the records by those of their writers.
                if limit is not None and len(found) >= limit:
                    found.sort(key=_updated_at, reverse=True)
                    del found[limit:]
                    assert session.updated_at is not None  # noqa: S101 - of every stored session
                    if session.updated_at + _SKEW < found[-1].updated_at:
                        break
                try:
                    record = record_of(session.metadata, Place(session.user_id, session.id))
                except UnreadableRow as error:
                    _log.warning("A conversation is left out of the list: %s", error)
                    continue
                if record is not None:
                    found.append(record)
        found.sort(key=_updated_at, reverse=True)
        return found[:limit]

    async def write_record(
        self,
        record: ConversationRecord,
        *,
        new_entries: Sequence[ConversationEntry] = (),
        expected_revision: str | None,
    ) -> None:
        """Store a record and new entries in one transaction, if the stored record has the expected revision.

        A call that failed without a definite outcome is safe to repeat. Entries of other conversations that the record
        or a new entry refers to are copied, with those before them.

        Args:
            record: the record.
            new_entries: the new entries, each after the one that it refers to.
            expected_revision: the revision of the stored record; None if there is none.

        Raises:
            ConversationConflict: the stored record has another revision; or an entry to continue from does not exist;
                or a new entry has the id of a stored one with other content. Nothing was written.
            InvalidContent, LimitExceeded: the id, the record or an entry cannot be stored; nothing was written.
        """
        log = await self._agentstore_log()
        place, sessions = log.place_of(record.conversation_id), log.sessions
        new, changes = await offload.run(_prepare, record, new_entries)
        added = {entry.id for entry in new_entries}
        needed = {record.head_id, *(entry.parent_id for entry in new_entries)} - {None, *added}
        referred = needed | (set(record.branches) - added)
        copied: list[Message] = []
        known: set[str] = set()
        if not new and record.head_id is not None:
            # A branch or a fork: that its entries are known is not to be expected.
            copied += await _copies(log, place, {record.head_id}, needed, record)
            known.add(record.head_id)
        while True:
            messages = list({each.id: each for each in (*copied, *new)}.values())
            if len(messages) > _LARGEST_BATCH and copied:
                # Without a record these are no conversation yet.
                await _check_revision(log, place, expected_revision)
                while len(messages) > _LARGEST_BATCH:
                    await sessions.append(*place, messages[:_LARGEST_BATCH], app=self._app)
                    messages = messages[_LARGEST_BATCH:]
            write = _Write(place, record, changes, expected_revision, referred, known)
            try:
                await sessions.append(*place, messages, app=self._app, metadata_patch=write.patch)
            except _Unknown as error:
                copied += await _copies(log, place, error.ids, needed, record)
                known |= error.ids
                continue
            except Conflict as error:
                raise ConversationConflict(record.conversation_id) from error
            except (Retryable, UnknownOutcome):
                if not await _is_written(log, place, record):
                    raise
                return
            if write.is_done:
                break
            copied, new = [], []  # all of them were stored before, and with them the record or not
        if not messages:
            await sessions.touch(*place)

    async def delete_record(self, conversation_id: str, *, expected_revision: str) -> None:
        """Delete a conversation with all of its entries. Forks of it remain, with copies of the entries.

        Raises:
            ConversationConflict: no record with this revision is stored; nothing was deleted.
        """
        log = await self._agentstore_log()
        place, sessions = log.place_of(conversation_id), log.sessions

        def is_expected(metadata: dict[str, Any]) -> bool:
            stored = record_of(metadata, place)
            return stored is not None and stored.revision == expected_revision

        if not await sessions.delete_session(*place, only_if=is_expected):
            raise ConversationConflict(conversation_id)

    async def read_entry(self, entry_id: str) -> ConversationEntry:
        """Return an entry by its id.

        An id that this object has read names the conversation too. Any other id, such as one from another process, is
        searched in the conversations of the user, by one more statement.

        Raises:
            EntryNotFound: no conversation of the user has this entry; or the conversation is not known, and this object
                was created without `user_id`.
        """
        log = await self._agentstore_log()
        place, stored = await log.read_line(entry_id, 1)
        return entries_of(stored, place)[0]

    async def read_history(self, head_id: str | None, *, limit: int | None = None) -> list[ConversationEntry]:
        """Return the entries from the first one up to `head_id`, in order, or only the last `limit` of them.

        One statement reads them, and one more for each branch that the history leaves, if entries of more branches lie
        between them than fit in `limit`.

        Raises:
            EntryNotFound: as for :meth:`read_entry`.
        """
        if head_id is None or (limit is not None and limit <= 0):
            return []
        log = await self._agentstore_log()
        place, stored = await log.read_line(head_id, limit)
        return await offload.run(entries_of, stored, place)

    async def _agentstore_log(self) -> Log:
        return Log((await self._started()).sessions, self._user_of, self._app)


async def _copies(log: Log, place: Place, ids: set[str], needed: set[str], record: ConversationRecord) -> list[Message]:
    """Return the messages that a conversation lacks, for entries that it refers to and other ones have.

    Raises:
        ConversationConflict: there is no such entry, and it is one of those that are needed to continue from.
    """
    messages: dict[str, Message] = {}
    for id in sorted(ids):
        if await is_stored(log.sessions, *place, id):
            continue
        if record.forked_from is not None and not isinstance(id, EntryId):
            id = EntryId.at(log.place_of(record.forked_from), id)
        try:
            _, stored = await log.read_line(id, None)
        except EntryNotFound as error:
            if id not in needed:
                continue
            raise ConversationConflict(record.conversation_id) from error
        messages |= {each["id"]: Message.model_validate(each) for each in stored if each["id"] not in messages}
    return list(messages.values())


async def _is_written(log: Log, place: Place, record: ConversationRecord) -> bool:
    """Return whether a record is stored, after a write whose response was lost."""
    try:
        revision = await _read_revision(log, place)
    except AgentStoreError:
        return False  # the error of the write is raised
    return revision is not None and revision == str(record.revision)


async def _check_revision(log: Log, place: Place, expected: str | None) -> None:
    if await _read_revision(log, place) != expected:
        raise ConversationConflict(place.conversation_id)


async def _read_revision(log: Log, place: Place) -> str | None:
    session = await log.sessions.get_session(*place, limit=0)
    record = None if session is None else record_of(session.metadata, place)
    return None if record is None else record.revision


class _Write:
    """Compares the stored record with the expected one, while its session is locked, and replaces it."""

    def __init__(
        self,
        place: Place,
        record: ConversationRecord,
        changes: dict[str, Any],
        expected: str | None,
        referred: set[str],
        known: set[str],
    ) -> None:
        self.is_done = False
        self._place = place
        self._record = record
        self._changes = changes
        self._expected = expected
        self._unknown = referred - known

    def patch(self, metadata: Mapping[str, Any], added: Sequence[str]) -> dict[str, Any]:
        """Return the change of the metadata.

        Raises:
            ConversationConflict: the stored record has another revision.
            _Unknown: an entry may not be in the conversation.
        """
        self.is_done = True
        stored = record_of(metadata, self._place)
        revision = None if stored is None else stored.revision
        if revision != self._expected:
            if revision == self._record.revision and not added:
                return {}  # an earlier attempt has stored it
            raise ConversationConflict(self._record.conversation_id)
        unknown = self._unknown - ({stored.head_id, *stored.branches} if stored is not None else set())
        if unknown:
            raise _Unknown(unknown)
        return self._changes


def _prepare(record: ConversationRecord, entries: Sequence[ConversationEntry]) -> tuple[list[Message], dict[str, Any]]:
    return [message_of(entry) for entry in entries], metadata_of(record)


def _updated_at(record: ConversationRecord) -> Any:
    return record.updated_at
