"""From what another store keeps to ours. What is there already is not stored again, so it may be repeated."""

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from agentstore.errors import Conflict, InvalidContent, LimitExceeded
from agentstore.importing.importer import check_session
from agentstore.importing.kept import Kept, KeptMemories, KeptSession, KeptState, Reader
from agentstore.importing.source import Problem
from agentstore.interfaces import MemoryService
from agentstore.repositories import PostgresSessionHistoryService, PostgresStateService
from agentstore.schemas import Message, StateRound
from agentstore.schemas.payload import check_id, dump_state, prepare_messages
from agentstore.schemas.state import check_round
from agentstore.settings import Settings

# Of memories, what is given to a statement at a time.
_BATCH, _CHARACTERS = 1_000, 8_000_000
_PAGE = 100


@dataclass(slots=True)
class Moved:
    """What was read so far, what of it was new, and what was left out."""

    sessions: int = 0
    messages: int = 0
    memories: int = 0
    states: int = 0
    new_sessions: int = 0
    new_messages: int = 0
    new_states: int = 0
    problems: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Target:
    """The services that it is stored by."""

    sessions: PostgresSessionHistoryService
    memory: MemoryService
    states: PostgresStateService


class Mover:
    """Stores what a reader yields; each piece as a whole or, with a reason that goes to `report`, not at all.

    Only many memories of one bucket are stored in parts, once all of them have been looked at.
    """

    def __init__(self, target: Target | None, *, settings: Settings, report: Callable[[Problem], None]) -> None:
        """Without `target` everything is read and checked, and nothing stored."""
        self.moved = Moved()
        self._target = target
        self._settings = settings
        self._report = report

    async def run(self, reader: Reader, tick: Callable[[], None] = lambda: None) -> None:
        """Store everything; `tick` is called after each piece.

        Raises:
            Unavailable and others: a database does not answer. What was stored until then stays.
        """
        began = time.monotonic()
        async for kept in reader:
            try:
                if isinstance(kept, Problem):
                    self._refuse(kept)
                else:
                    await self._store(kept)
            except (InvalidContent, LimitExceeded, Conflict) as error:
                assert not isinstance(kept, Problem)  # noqa: S101
                self._refuse(Problem(kept.place, str(error)))
            self.moved.seconds = time.monotonic() - began
            tick()

    async def _store(self, kept: Kept) -> None:
        moved, target = self.moved, self._target
        if isinstance(kept, KeptSession):
            if target is None:
                check_session(kept.session, self._settings)
            else:
                imported = await target.sessions.import_session(kept.session)
                moved.new_sessions += imported.sessions
                moved.new_messages += imported.messages
            moved.sessions += 1
            moved.messages += len(kept.session.messages)
        elif isinstance(kept, KeptMemories):
            check_id(kept.user_id, "user_id", self._settings)
            check_id(kept.session_id, "session_id", self._settings)
            for part in list(self._parts(kept.messages)):
                if target is not None:
                    await target.memory.add_memory(kept.user_id, part, kept.session_id)
            moved.memories += len(kept.messages)
        elif isinstance(kept, KeptState):
            check_id(kept.user_id, "user_id", self._settings)
            check_id(kept.session_id, "session_id", self._settings)
            if kept.round_id is not None:
                check_round(kept.round_id)
            text = dump_state(kept.state, self._settings)
            if target is not None:
                store = _store_only if kept.round_id is None else _store_round
                moved.new_states += await store(target.states, kept, text)
            moved.states += 1

    def _parts(self, messages: list[Message]) -> Iterator[list[Message]]:
        """Yield as many messages as a statement takes at a time; all can be stored."""
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

    def _refuse(self, problem: Problem) -> None:
        self.moved.problems += 1
        self._report(problem)


async def _store_round(states: PostgresStateService, kept: KeptState, text: str) -> bool:
    """Store a state as its round, and return whether it is new; what was saved here under that number stays."""
    key = kept.user_id, kept.session_id, kept.round_id
    if await states.import_state(*key, kept.state, metadata=kept.metadata):  # type: ignore[arg-type]
        return True
    if await states.export_state(*key) != kept.state:
        raise Conflict(f"round {kept.round_id} is another state here, which stays")
    return False


async def _store_only(states: PostgresStateService, kept: KeptState, text: str) -> bool:
    """Store the only state that there is as the next round, and return whether it is new.

    What was stored of the same source before says in its metadata so: a state that has not changed there since is not
    stored again, and none goes on top of what was saved here since.
    """
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    last = await _last(states, kept)
    imported = await _last(states, kept, kept.source)
    if imported is not None and imported.metadata["imported"].get("sha256") == sha256:
        return False
    if last is not None and (imported is None or imported.round_id != last.round_id):
        if await states.export_state(kept.user_id, kept.session_id, last.round_id) == kept.state:
            return False
        raise Conflict(f"round {last.round_id} was saved here since, and is another state, which stays the last")
    metadata = {**kept.metadata, "imported": {"from": kept.source, "sha256": sha256}}
    expected = 0 if last is None else last.round_id
    await states.save_state(kept.user_id, kept.state, kept.session_id, metadata=metadata, expected_round=expected)
    return True


async def _last(states: PostgresStateService, kept: KeptState, source: str | None = None) -> StateRound | None:
    """Return the last round, or the last of those that were imported from a source."""
    cursor: str | None = None
    while True:
        page = await states.list_states(kept.user_id, kept.session_id, limit=_PAGE, cursor=cursor)
        for each in page:
            mark = each.metadata.get("imported")
            if source is None or (isinstance(mark, dict) and mark.get("from") == source):
                return each
        cursor = page.next_cursor
        if cursor is None:
            return None
