"""Import files of conversations.

Sessions are stored in windows: while one window is stored, the next one is read.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from agentstore.errors import Conflict, InvalidContent, LimitExceeded
from agentstore.importing.source import Problem, read
from agentstore.importing.translate import Translator
from agentstore.repositories import PostgresSessionHistoryService
from agentstore.repositories.sessions.imports import check_import
from agentstore.schemas import Imported, Session
from agentstore.settings import Settings

# The size of a window: enough work for several connections, and little enough to have two of them in memory.
_WINDOW_MESSAGES = 2_000
_WINDOW_BYTES = 16_000_000
_WRITERS = 4
_LONGEST_REASON = 300

_INVALID = (InvalidContent, LimitExceeded, Conflict)


@dataclass(slots=True)
class Progress:
    """Counts of what was read so far, of what was new in it, and of problems.

    A record is a conversation or a message by itself; a problem is a part of the input that was skipped.
    """

    bytes: int = 0
    records: int = 0
    messages: int = 0
    new_sessions: int = 0
    new_messages: int = 0
    problems: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Read:
    """A session or a part of one, and its place."""

    file: str
    place: str
    session: Session


class Importer:
    """Imports files of conversations; see :mod:`agentstore.importing.translate` for the supported forms.

    Each conversation is stored completely or, if it is not valid, skipped and passed to `report`. An import is
    idempotent: existing messages are not stored again, so it can be interrupted and repeated. Memory is bounded by the
    largest conversation, plus a few bytes for each conversation or message without an id.
    """

    def __init__(
        self,
        sessions: PostgresSessionHistoryService | None,
        *,
        settings: Settings,
        user_id: str = "default",
        session_id: str | None = None,
        report: Callable[[str, Problem], None],
    ) -> None:
        """Create an importer. Without `sessions` it is a dry run: all input is read and checked, and nothing is stored.

        `user_id` is the default owner, `session_id` the default session of messages outside of a conversation.
        `report` is called with the name of a file and a problem in it.
        """
        self.progress = Progress()
        self._sessions = sessions
        self._settings = settings
        self._user_id = user_id
        self._session_id = session_id
        self._report = report
        self._window: dict[tuple[str, str], list[_Read]] = {}
        self._messages = self._bytes = 0
        self._storing: asyncio.Task[None] | None = None

    async def run(self, files: list[tuple[str, Path | BinaryIO]], tick: Callable[[], None] = lambda: None) -> None:
        """Import files, each given with its name for reports; `tick` is called after each conversation.

        Raises:
            OSError: a file cannot be read.
            AgentStoreError: the database failed, see :mod:`agentstore.errors`. What was already stored stays.
        """
        began = time.monotonic()
        try:
            for name, file in files:
                for each in self._read(name, file):
                    self.progress.seconds = time.monotonic() - began
                    await self._add(each)
                    tick()
            await self._flush()
            await self._wait_for_window()
        finally:
            self.progress.seconds = time.monotonic() - began
            if self._storing is not None:
                # However this method ends, nothing is stored afterwards.
                self._storing.cancel()
                await asyncio.wait([self._storing])

    def _read(self, name: str, file: Path | BinaryIO) -> Iterator[_Read]:
        place = str(file.resolve()) if isinstance(file, Path) and file.is_file() else None
        translator = Translator(place, self._user_id, self._session_id)
        max_bytes = 2 * self._settings.max_message_bytes
        before = self.progress.bytes
        with ExitStack() as stack:
            stream = stack.enter_context(file.open("rb")) if isinstance(file, Path) else file
            for piece in read(stream, max_bytes=max_bytes):
                self.progress.bytes = before + (stream.tell() if stream.seekable() else 0)
                if isinstance(piece, Problem):
                    self._skip(name, piece)
                    continue
                try:
                    session = translator.session(piece.value)
                except _INVALID as error:
                    self._skip(name, Problem(piece.place, str(error)))
                    continue
                self._bytes += piece.size
                yield _Read(name, piece.place, session)

    async def _add(self, each: _Read) -> None:
        self._window.setdefault((each.session.user_id, each.session.id), []).append(each)
        self._messages += len(each.session.messages) or 1
        if self._messages >= _WINDOW_MESSAGES or self._bytes >= _WINDOW_BYTES:
            await self._flush()
        await asyncio.sleep(0)  # lets the previous window be stored

    async def _flush(self) -> None:
        await self._wait_for_window()
        window, self._window = self._window, {}
        self._messages = self._bytes = 0
        self._storing = asyncio.create_task(self._store_window(list(window.values())))

    async def _wait_for_window(self) -> None:
        if self._storing is not None:
            await self._storing

    async def _store_window(self, window: list[list[_Read]]) -> None:
        """Store sessions concurrently, and the parts of each session in order."""
        waiting = iter(window)

        async def write() -> None:
            for parts in waiting:
                await self._store_session(parts)

        try:
            async with asyncio.TaskGroup() as writers:
                for _ in range(min(_WRITERS, self._settings.pool_size)):
                    writers.create_task(write())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None

    async def _store_session(self, parts: list[_Read]) -> None:
        first = parts[0].session
        session = first.model_copy(update={"messages": [each for part in parts for each in part.session.messages]})
        try:
            if self._sessions is None:
                check_import(session, self._settings)
                imported = Imported()
            else:
                imported = await self._sessions.import_session(session)
        except _INVALID as error:
            if len(parts) == 1:
                self._skip_part(parts[0], error)
            elif self._sessions is None:
                self._check_parts(parts)
            else:
                for part in parts:  # store the valid parts, and skip the others
                    await self._store_session([part])
            return
        self.progress.new_sessions += imported.sessions
        self.progress.new_messages += imported.messages
        for part in parts:
            self._count(part)

    def _check_parts(self, parts: list[_Read]) -> None:
        """Check the parts of a session one by one, as if the valid ones were stored."""
        stored: dict[str, str] | None = None
        for part in parts:
            try:
                payloads = check_import(part.session, self._settings, stored)
            except _INVALID as error:
                self._skip_part(part, error)
            else:
                stored = {} if stored is None else stored
                stored |= payloads
                self._count(part)

    def _count(self, each: _Read) -> None:
        self.progress.records += 1
        self.progress.messages += len(each.session.messages)

    def _skip_part(self, part: _Read, error: Exception) -> None:
        self._skip(part.file, Problem(part.place, str(error)))

    def _skip(self, file: str, problem: Problem) -> None:
        self.progress.problems += 1
        if len(problem.reason) > _LONGEST_REASON:  # it may contain a value of the file
            problem = Problem(problem.place, f"{problem.reason[:_LONGEST_REASON]}...")
        self._report(file, problem)
