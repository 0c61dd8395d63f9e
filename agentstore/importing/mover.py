"""Import the records of another store. Existing data is not stored again, so a move can be repeated."""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from agentstore.errors import Conflict, InvalidContent, LimitExceeded, NotConfigured, NotFound
from agentstore.exact_json import dumps_sorted
from agentstore.importing.dry_run import DryRun
from agentstore.importing.notes import Counts, Note, at
from agentstore.importing.records import (
    CheckpointRecord,
    DocumentsRecord,
    MemoriesRecord,
    Reader,
    SessionRecord,
    StateRecord,
    ValuesRecord,
)
from agentstore.importing.storing import Sessions, store_session
from agentstore.interfaces import (
    CheckpointService,
    DocumentService,
    MemoryService,
    SessionHistoryService,
    StoreStateService,
)
from agentstore.schemas import Message, ScopedValues, Session, StateRound
from agentstore.schemas.checkpoint import check_checkpoint, check_writes
from agentstore.schemas.document import prepare_imported
from agentstore.schemas.parts import quote
from agentstore.schemas.payload import check_id, dump_metadata, dump_state, prepare_messages
from agentstore.schemas.state import check_round
from agentstore.schemas.values import check_value_scope, prepare_values
from agentstore.settings import Settings

# The number of memories, and of characters of them, in one statement.
_BATCH, _CHARACTERS = 1_000, 8_000_000
_PAGE = 100
_INVALID = (InvalidContent, LimitExceeded, Conflict)


@dataclass(slots=True)
class Moved(Counts):
    """Counts of what was read so far, of what was new in it, and of what was not stored."""

    sessions: int = 0
    messages: int = 0
    """The messages that they have in the store."""
    memories: int = 0
    states: int = 0
    values: int = 0
    """Scoped values: those that the store has, now or before."""
    documents: int = 0
    checkpoints: int = 0
    """Those that the store has, now or before."""
    new_sessions: int = 0
    new_messages: int = 0
    new_states: int = 0
    new_values: int = 0
    """Those that were added or changed."""
    new_documents: int = 0
    """Those that were added or replaced."""
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Target:
    """The services that store the records."""

    sessions: Sessions
    memory: MemoryService
    states: StoreStateService
    history: SessionHistoryService
    """Where the times of the sessions are read."""
    documents: DocumentService
    checkpoints: CheckpointService


class Mover:
    """Stores the records of a reader.

    A session and the memories of one are stored with all of the messages that can be stored, a state completely.
    Whatever is skipped, passed over or changed is passed to `report`.
    """

    def __init__(self, target: Target | None, *, settings: Settings, report: Callable[[Note], None]) -> None:
        """Create a mover. Without `target` it is a dry run: all records are read and checked, and nothing is stored."""
        self.moved = Moved()
        self._target = target
        self._dry_run = DryRun(settings)
        self._settings = settings
        self._report = report

    async def run(self, reader: Reader, tick: Callable[[], None] = lambda: None) -> None:
        """Store all records; `tick` is called after each.

        Raises:
            AgentStoreError: a database failed, see :mod:`agentstore.errors`. What was already stored stays.
        """
        began = time.monotonic()
        async for record in reader:
            if isinstance(record, Note):
                self.moved.input_messages += record.messages
                self._note(record.place, replace(record, place=""))
            elif isinstance(record, StateRecord):
                await self._store_state(record)
            elif isinstance(record, ValuesRecord):
                await self._store_values(record)
            elif isinstance(record, DocumentsRecord):
                await self._store_documents(record)
            elif isinstance(record, CheckpointRecord):
                await self._store_checkpoint(record)
            else:
                translated = record.translated
                self.moved.input_messages += translated.messages
                for note in translated.notes:
                    self._note(record.place, note)
                if translated.has_anything():
                    await self._store(record)
            self.moved.seconds = time.monotonic() - began
            tick()

    async def _store(self, record: SessionRecord | MemoriesRecord) -> None:
        translated, moved = record.translated, self.moved
        store = self._store_session if isinstance(record, SessionRecord) else self._store_memories
        try:
            refused = await store(record.place, translated.session)
        except _INVALID as error:
            self._note(record.place, translated.refuse_all(error))
            return
        skipped = translated.refuse(refused)
        for note in skipped:
            self._note(record.place, note)
        stored = len(translated.places) - len(refused)
        moved.stored_messages += translated.count() - len(skipped)
        if isinstance(record, MemoriesRecord):
            moved.memories += stored
        elif stored or not refused:
            moved.sessions += 1
            moved.messages += stored

    async def _store_session(self, place: str, session: Session) -> dict[int, str]:
        """Store a session; return why messages of it were not, by their positions."""
        sessions = self._dry_run if self._target is None else self._target.sessions
        done = await store_session(sessions, session, self._settings)
        self.moved.new_sessions += done.sessions
        self.moved.new_messages += done.messages
        if done.metadata is not None:
            self._note(place, Note("", f"{done.metadata}: the metadata is not stored"))
        return done.refused

    async def _store_memories(self, _: str, session: Session) -> dict[int, str]:
        """Store the messages of a session as memories; return why some were not, by their positions."""
        check_id(session.user_id, "user_id", self._settings)
        check_id(session.id, "session_id", self._settings)
        refused: dict[int, str] = {}
        for part in list(self._parts(session.messages, refused)):
            if self._target is not None:
                await self._add_memories(session, part, refused)
        return refused

    async def _add_memories(self, session: Session, part: dict[int, Message], refused: dict[int, str]) -> None:
        """Add memories together or, if that is refused, one by one."""
        assert self._target is not None  # noqa: S101
        try:
            await self._target.memory.add_memory(session.user_id, list(part.values()), session.id)
        except _INVALID as error:
            if len(part) == 1:
                refused |= dict.fromkeys(part, str(error))
                return
            for position, message in part.items():
                await self._add_memories(session, {position: message}, refused)

    async def _store_documents(self, record: DocumentsRecord) -> None:
        """Store the documents that the store lacks, or has in an older version, each by itself if one is refused."""
        try:
            check_id(record.user_id, "user_id", self._settings)
            prepare_imported(record.documents, self._settings)
            if self._target is not None:
                self.moved.new_documents += await self._target.documents.import_documents(
                    record.user_id, record.documents
                )
            self.moved.documents += len(record.documents)
        except _INVALID as error:
            if len(record.documents) == 1:
                self._note(record.place, Note(quote(record.documents[0].item.id), str(error)))
                return
            for document in record.documents:
                await self._store_documents(replace(record, documents=[document]))

    async def _store_checkpoint(self, record: CheckpointRecord) -> None:
        """Store a checkpoint and its writes. Both are idempotent."""
        checkpoint = record.checkpoint
        try:
            check_id(record.user_id, "user_id", self._settings)
            check_id(record.session_id, "session_id", self._settings)
            check_checkpoint(checkpoint, self._settings)
            check_writes(checkpoint.writes, self._settings)
            if self._target is not None:
                key = record.user_id, record.session_id
                try:
                    await self._target.checkpoints.put(*key, checkpoint)
                except Conflict:
                    # The parent was refused, is not in the source, or was deleted here meanwhile.
                    checkpoint = await record.complete()
                    check_checkpoint(checkpoint, self._settings)
                    await self._target.checkpoints.put(*key, checkpoint, is_complete=True)
                if checkpoint.writes:
                    place = checkpoint.namespace, checkpoint.id
                    await self._target.checkpoints.put_writes(*key, *place, checkpoint.writes)
            self.moved.checkpoints += 1
        except _INVALID as error:
            self._note(record.place, Note("", str(error)))

    async def _store_state(self, record: StateRecord) -> None:
        try:
            check_id(record.user_id, "user_id", self._settings)
            check_id(record.session_id, "session_id", self._settings)
            if record.round_id is not None:
                check_round(record.round_id)
            dump_metadata(record.metadata, self._settings)
            text = dump_state(record.state, self._settings)
            if self._target is not None:
                store = _store_next if record.round_id is None else _store_round
                self.moved.new_states += await store(self._target.states, record, text)
            self.moved.states += 1
        except _INVALID as error:
            self._note(record.place, Note("", str(error)))

    async def _store_values(self, record: ValuesRecord) -> None:
        """Store the values that the store lacks.

        Another value of a key is replaced, unless a session of the scope was written to in the store since the source
        was: it is then the newer one.
        """
        try:
            scope = check_value_scope(record.user_id, record.session_id, record.app, self._settings)
            parts = list(self._parts_of_values(record, scope))
            self.moved.values += sum(map(len, parts))
            if self._target is None or not parts:
                return
            states, ids = self._target.states, (record.user_id, record.session_id)
            stored = getattr(await states.get_values(*ids, app=record.app, scope=scope), scope)
            other = {
                key
                for part in parts
                for key in part.keys() & stored.keys()
                if dumps_sorted(part[key]) != dumps_sorted(stored[key])
            }
            if other and (reason := await self._reason_to_keep(record)) is not None:
                for key in sorted(other):
                    why = f"the store has another value, which is left unchanged: {reason}"
                    self._note(record.place, Note(f"value {quote(key)}", why))
                self.moved.values -= len(other)
                other = set()
            for part in parts:
                changes = {key: value for key, value in part.items() if key not in stored or key in other}
                if changes:
                    await states.merge_values(*ids, values=ScopedValues(**{scope: changes}), app=record.app)
                    self.moved.new_values += len(changes)
        except (*_INVALID, NotFound) as error:
            self._note(record.place, Note("", str(error)))

    async def _reason_to_keep(self, record: ValuesRecord) -> str | None:
        """Return why values of the store may be newer than those of the source, or None if they are not."""
        assert self._target is not None  # noqa: S101
        if record.written_at is None:
            return "when the source was last written to is not known"
        history = self._target.history
        is_later = False
        if record.user_id is not None and record.session_id is not None:
            session = await history.get_session(record.user_id, record.session_id, limit=0)
            is_later = session is not None and session.updated_at is not None and session.updated_at > record.written_at
        else:
            since = record.written_at + timedelta(microseconds=1)
            try:
                is_later = bool(await history.list_sessions(record.user_id, app=record.app, since=since, limit=1))
            except NotConfigured as error:  # row-level security hides the sessions of other users
                return f"when the store was last written to is not known: {error}"
        return "the store was written to after the source" if is_later else None

    def _parts_of_values(self, record: ValuesRecord, scope: str) -> Iterator[dict[str, Any]]:
        """Yield the values of each statement by key, and report those that cannot be stored."""
        part: dict[str, Any] = {}
        size = 0
        for key, value in record.values.items():
            try:
                changes = prepare_values(ScopedValues(**{scope: {key: value}}), record.app, self._settings)
            except _INVALID as error:
                self._note(record.place, Note(f"value {quote(key)}", str(error)))
                continue
            length = sum(map(len, getattr(changes, scope).texts))
            if part and (len(part) >= min(_BATCH, self._settings.max_batch) or size + length > _CHARACTERS):
                yield part
                part, size = {}, 0
            part[key] = value
            size += length
        if part:
            yield part

    def _parts(self, messages: list[Message], refused: dict[int, str]) -> Iterator[dict[int, Message]]:
        """Yield the messages of each statement by their positions, and add those that cannot be stored to `refused`."""
        part: dict[int, Message] = {}
        size = 0
        for position, message in enumerate(messages):
            try:
                ((_, payload),) = prepare_messages(message, self._settings).values()
            except _INVALID as error:
                refused[position] = str(error)
                continue
            if part and (len(part) >= min(_BATCH, self._settings.max_batch) or size + len(payload) > _CHARACTERS):
                yield part
                part, size = {}, 0
            part[position] = message
            size += len(payload)
        if part:
            yield part

    def _note(self, place: str, note: Note) -> None:
        """Count and report a note on the record at `place`."""
        self.moved.add(note)
        self._report(at(place, note))


async def _store_round(states: StoreStateService, record: StateRecord, text: str) -> bool:
    """Store a state with its round number, and return whether it is new. An existing round is never replaced.

    Raises:
        Conflict: the round exists with another state.
    """
    key = record.user_id, record.session_id, record.round_id
    if await states.import_state(*key, record.state, metadata=record.metadata):  # type: ignore[arg-type]
        return True
    if await states.export_state(*key) != record.state:
        raise Conflict(f"round {record.round_id} already exists with a different state, which is left unchanged")
    return False


async def _store_next(states: StoreStateService, record: StateRecord, text: str) -> bool:
    """Store the latest state of a source as the next round, and return whether it is new.

    The metadata of an imported round names its source and the state's digest. A state that has not changed since its
    last import is not stored again. No state is stored after a round that was saved by an agent since.

    Raises:
        Conflict: another round was saved since the last import.
    """
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    last = await _last_round(states, record)
    imported = await _last_round(states, record, record.source)
    if imported is not None and imported.metadata["imported"].get("sha256") == sha256:
        return False
    if last is not None and (imported is None or imported.round_id != last.round_id):
        if await states.export_state(record.user_id, record.session_id, last.round_id) == record.state:
            return False
        raise Conflict(f"round {last.round_id} was saved since the last import and has a different state")
    metadata = {**record.metadata, "imported": {"from": record.source, "sha256": sha256}}
    expected = 0 if last is None else last.round_id
    await states.save_state(record.user_id, record.state, record.session_id, metadata=metadata, expected_round=expected)
    return True


async def _last_round(states: StoreStateService, record: StateRecord, source: str | None = None) -> StateRound | None:
    """Return the highest round or, with `source`, the highest of those that were imported from it."""
    cursor: str | None = None
    while True:
        page = await states.list_states(record.user_id, record.session_id, limit=_PAGE, cursor=cursor)
        for each in page:
            mark = each.metadata.get("imported")
            if source is None or (isinstance(mark, dict) and mark.get("from") == source):
                return each
        cursor = page.next_cursor
        if cursor is None:
            return None
