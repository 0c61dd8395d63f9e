"""Import the records of another store. Existing data is not stored again, so a move can be repeated."""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agentstore.errors import Conflict, InvalidContent, LimitExceeded
from agentstore.importing.notes import Note
from agentstore.importing.records import MemoriesRecord, Reader, Record, SessionRecord, StateRecord
from agentstore.interfaces import MemoryService
from agentstore.repositories import PostgresSessionHistoryService, PostgresStateService
from agentstore.repositories.sessions.imports import check_import
from agentstore.schemas import Message, StateRound
from agentstore.schemas.payload import check_id, dump_metadata, dump_state, prepare_messages
from agentstore.schemas.state import check_round
from agentstore.settings import Settings

# The number of memories, and of characters of them, in one statement.
_BATCH, _CHARACTERS = 1_000, 8_000_000
_PAGE = 100


@dataclass(slots=True)
class Moved:
    """Counts of what was read so far, of what was new in it, and of what was not stored, or not literally.

    A problem is a record or a message that was skipped; see :class:`agentstore.importing.Note`.
    """

    sessions: int = 0
    messages: int = 0
    memories: int = 0
    states: int = 0
    new_sessions: int = 0
    new_messages: int = 0
    new_states: int = 0
    problems: int = 0
    passed_over: int = 0
    changed: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Target:
    """The services that store the records."""

    sessions: PostgresSessionHistoryService
    memory: MemoryService
    states: PostgresStateService


class Mover:
    """Stores the records of a reader.

    Each record is stored completely or, if it is not valid, skipped and passed to `report`. Only the memories of one
    session are stored by several statements, once all of them have been checked.
    """

    def __init__(self, target: Target | None, *, settings: Settings, report: Callable[[Note], None]) -> None:
        """Create a mover. Without `target` it is a dry run: all records are read and checked, and nothing is stored."""
        self.moved = Moved()
        self._target = target
        self._settings = settings
        self._report = report

    async def run(self, reader: Reader, tick: Callable[[], None] = lambda: None) -> None:
        """Store all records; `tick` is called after each.

        Raises:
            AgentStoreError: a database failed, see :mod:`agentstore.errors`. What was already stored stays.
        """
        began = time.monotonic()
        async for record in reader:
            try:
                if isinstance(record, Note):
                    self._skip(record)
                else:
                    await self._store(record)
            except (InvalidContent, LimitExceeded, Conflict) as error:
                assert not isinstance(record, Note)  # noqa: S101
                self._skip(Note(record.place, str(error)))
            self.moved.seconds = time.monotonic() - began
            tick()

    async def _store(self, record: Record) -> None:
        moved, target = self.moved, self._target
        if isinstance(record, SessionRecord):
            if target is None:
                check_import(record.session, self._settings)
            else:
                imported = await target.sessions.import_session(record.session)
                moved.new_sessions += imported.sessions
                moved.new_messages += imported.messages
            moved.sessions += 1
            moved.messages += len(record.session.messages)
        elif isinstance(record, MemoriesRecord):
            check_id(record.user_id, "user_id", self._settings)
            check_id(record.session_id, "session_id", self._settings)
            for part in list(self._parts(record.messages)):
                if target is not None:
                    await target.memory.add_memory(record.user_id, part, record.session_id)
            moved.memories += len(record.messages)
        elif isinstance(record, StateRecord):
            check_id(record.user_id, "user_id", self._settings)
            check_id(record.session_id, "session_id", self._settings)
            if record.round_id is not None:
                check_round(record.round_id)
            dump_metadata(record.metadata, self._settings)
            text = dump_state(record.state, self._settings)
            if target is not None:
                store = _store_next if record.round_id is None else _store_round
                moved.new_states += await store(target.states, record, text)
            moved.states += 1

    def _parts(self, messages: list[Message]) -> Iterator[list[Message]]:
        """Yield the messages of each statement; raise if one of them cannot be stored."""
        part: list[Message] = []
        size = 0
        for message in messages:
            ((_, payload),) = prepare_messages(message, self._settings).values()
            if part and (len(part) >= min(_BATCH, self._settings.max_batch) or size + len(payload) > _CHARACTERS):
                yield part
                part, size = [], 0
            part.append(message)
            size += len(payload)
        if part:
            yield part

    def _skip(self, problem: Note) -> None:
        self.moved.problems += 1
        self._report(problem)


async def _store_round(states: PostgresStateService, record: StateRecord, text: str) -> bool:
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


async def _store_next(states: PostgresStateService, record: StateRecord, text: str) -> bool:
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


async def _last_round(
    states: PostgresStateService, record: StateRecord, source: str | None = None
) -> StateRound | None:
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
