"""From what another store keeps to ours. What is there already is not stored again, so it may be repeated."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from agentstore.errors import Conflict, InvalidContent, LimitExceeded
from agentstore.importing.importer import check_session
from agentstore.importing.kept import Kept, KeptMemories, KeptSession, Reader
from agentstore.importing.source import Problem
from agentstore.interfaces import MemoryService, StateService
from agentstore.repositories import PostgresSessionHistoryService
from agentstore.schemas.payload import check_id, dump_state, prepare_messages
from agentstore.schemas.state import check_round
from agentstore.settings import Settings

# More than a statement may take is given to it in parts.
_BATCH = 1_000


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
    states: StateService


class Mover:
    """Stores what a reader yields; each piece as a whole or, with a reason that goes to `report`, not at all."""

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
            for start in range(0, len(kept.messages), _BATCH):
                part = kept.messages[start : start + _BATCH]
                check_id(kept.user_id, "user_id", self._settings)
                prepare_messages(part, self._settings, first_wins=True)
                if target is not None:
                    await target.memory.add_memory(kept.user_id, part, kept.session_id)
            moved.memories += len(kept.messages)
        elif not isinstance(kept, Problem):
            check_id(kept.user_id, "user_id", self._settings)
            dump_state(kept.state, self._settings)
            if kept.round_id is not None:
                check_round(kept.round_id)
            if target is not None:
                # What was saved here since under the same number stays.
                there = await target.states.export_state(kept.user_id, kept.session_id, kept.round_id)
                if there is None or (kept.round_id is None and there != kept.state):
                    await target.states.save_state(
                        kept.user_id, kept.state, kept.session_id, kept.round_id, metadata=kept.metadata
                    )
                    moved.new_states += 1
            moved.states += 1

    def _refuse(self, problem: Problem) -> None:
        self.moved.problems += 1
        self._report(problem)
