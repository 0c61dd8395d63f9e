"""Import files of conversations.

Sessions are stored in windows: while one window is stored, the next one is read.
"""

import asyncio
import io
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO

from agentstore.errors import InvalidContent, LimitExceeded
from agentstore.importing import openai_logs
from agentstore.importing.dry_run import DryRun
from agentstore.importing.files import File, find
from agentstore.importing.formats import describe_unknown, find_format
from agentstore.importing.notes import Counts, Kind, Note, Refused, at
from agentstore.importing.source import EMPTY, Piece, read
from agentstore.importing.storing import Sessions, store_session
from agentstore.importing.translate import Requests, Translator
from agentstore.importing.translated import Translated
from agentstore.schemas import Session
from agentstore.schemas.payload import shortened
from agentstore.settings import Settings

# The size of a window: enough work for several connections, and little enough to have two of them in memory.
_WINDOW_MESSAGES = 2_000
_WINDOW_BYTES = 16_000_000
_WRITERS = 4
_FIRST_VALUES = 20  # by which a file that was found in a folder or an archive is recognized
_BATCH_LINE = 1 << 20  # the longest first line by which the output of a Batch is recognized

_INVALID = (InvalidContent, LimitExceeded)


@dataclass(slots=True)
class Progress(Counts):
    """Counts of what was read so far, of what was new in it, and of what was not stored."""

    bytes: int = 0
    records: int = 0
    """Conversations, parts of conversations and messages outside of one that were stored, now or before."""
    messages: int = 0
    """The messages that they have in the store."""
    new_sessions: int = 0
    new_messages: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Read:
    """A session or a part of one, and its place."""

    file: str
    place: str
    translated: Translated


class Importer:
    """Imports files of conversations; see :mod:`agentstore.importing.translate` for the supported forms.

    A conversation is stored with all of its messages that can be stored; whatever is skipped, passed over or changed is
    passed to `report`. An import is idempotent: existing messages are not stored again, so it can be interrupted and
    repeated, and a newer copy of the input adds what is new in it. Memory is bounded by the
    largest conversation, plus a few bytes for each conversation or message without an id.
    """

    def __init__(
        self,
        sessions: Sessions | None,
        *,
        settings: Settings,
        user_id: str = "default",
        session_id: str | None = None,
        only_users: Collection[str] | None = None,
        report: Callable[[str, Note], None],
    ) -> None:
        """Create an importer. Without `sessions` it is a dry run: all input is read and checked, and nothing is stored.

        `user_id` is the default owner, `session_id` the default session of messages outside of a conversation.
        Conversations of other users than `only_users` are skipped; None allows all. `report` is called with the name of
        a file and a note on it.
        """
        self.progress = Progress()
        self._sessions = sessions or DryRun(settings)
        self._settings = settings
        self._user_id = user_id
        self._session_id = session_id
        self._only_users = only_users
        self._requests: Requests = {}
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
            for file in self._find(files):
                for each in self._read(file):
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

    def _find(self, files: list[tuple[str, Path | BinaryIO]]) -> list[File]:
        """Return the files with conversations, those with the output of a Batch after those with its requests."""
        found: list[File] = []
        for name, source in files:
            for each in find(name, source):
                if isinstance(each, Note):
                    self._note(name, each.place, replace(each, place=""))
                else:
                    found.append(each)
        return sorted(found, key=_is_batch_output) if len(found) > 1 else found

    def _read(self, file: File) -> Iterator[_Read]:
        translator = Translator(file.path, self._user_id, self._session_id, self._requests)
        max_bytes = 2 * self._settings.max_message_bytes
        before = self.progress.bytes
        try:
            with file.open() as stream:
                pieces = read(stream, max_bytes=max_bytes, is_lines=file.is_lines)
                if file.is_found:
                    first = list(islice(pieces, _FIRST_VALUES))
                    if all(map(_is_other, first)):
                        self._note(file.name, "", Note("", _describe(first[0]), Kind.NOT_IMPORTED))
                        return
                    pieces = chain(first, pieces)
                for piece in pieces:
                    self.progress.bytes = before + (stream.tell() if stream.seekable() else 0)
                    if isinstance(piece, Note):
                        self._note(file.name, piece.place, Note("", piece.reason))
                    elif (translated := self._translate(translator, file.name, piece)) is not None:
                        yield translated
        except InvalidContent as error:  # the file is compressed, and damaged
            self._note(file.name, "", Note("", str(error)))

    def _translate(self, translator: Translator, name: str, piece: Piece) -> _Read | None:
        try:
            translated = translator.translate(piece.value)
        except _INVALID as error:
            count = error.messages if isinstance(error, Refused) else 0
            self.progress.input_messages += count
            self._note(name, piece.place, Note("", str(error), messages=count))
            return None
        self.progress.input_messages += translated.messages
        user_id = translated.session.user_id
        if self._only_users is not None and user_id not in self._only_users and translated.has_anything():
            reason = f"it belongs to user {shortened(user_id)}, who is not among the users to import"
            self._note(name, piece.place, Note("", reason, messages=translated.messages))
            return None
        for note in translated.notes:
            self._note(name, piece.place, note)
        self._bytes += piece.size
        return _Read(name, piece.place, translated) if translated.has_anything() else None

    async def _add(self, each: _Read) -> None:
        session = each.translated.session
        self._window.setdefault((session.user_id, session.id), []).append(each)
        self._messages += len(session.messages) or 1
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
        """Store the parts of a session together; parts with which the session cannot be stored are skipped."""
        while parts:
            session = _join(parts)
            try:
                done = await store_session(self._sessions, session, self._settings)
            except _INVALID as error:
                refused, parts = _split(parts)
                for part in refused:
                    self._note(part.file, part.place, part.translated.refuse_all(error))
                continue
            self.progress.new_sessions += done.sessions
            self.progress.new_messages += done.messages
            if done.metadata is not None:
                self._note(parts[0].file, parts[0].place, Note("", f"{done.metadata}: the metadata is not stored"))
            position = 0
            for part in parts:
                end = position + len(part.translated.places)
                numbers = range(position, end) if done.refused else ()
                self._count(part, {each - position: done.refused[each] for each in numbers if each in done.refused})
                position = end
            return

    def _count(self, part: _Read, refused: dict[int, str]) -> None:
        """Count a stored part, and report those of its messages that were refused."""
        translated = part.translated
        skipped = translated.refuse(refused)
        for note in skipped:
            self._note(part.file, part.place, note)
        self.progress.records += not translated.places or len(refused) < len(translated.places)
        self.progress.messages += len(translated.places) - len(refused)
        self.progress.stored_messages += translated.count() - len(skipped)

    def _note(self, file: str, place: str, note: Note) -> None:
        """Count and report a note on the value at `place`."""
        self.progress.add(note)
        self._report(file, at(place, note))


def _is_other(piece: Piece | Note) -> bool:
    """Return whether a value is neither a conversation nor broken; an empty file has none."""
    if isinstance(piece, Note):
        return piece.reason == EMPTY
    return not isinstance(piece.value, list) and find_format(piece.value) is None


def _describe(piece: Piece | Note) -> str:
    """Return why a file that begins with `piece` has no conversations."""
    if isinstance(piece, Note):
        return piece.reason
    return describe_unknown(piece.value) if isinstance(piece.value, dict) else "it has no JSON objects"


def _is_batch_output(file: File) -> bool:
    """Return whether a file begins with a line of the output of OpenAI's Batch API."""
    if file.path is None or (file.is_found and not file.is_lines):
        return False
    try:
        with file.open() as stream:
            line = stream.read(_BATCH_LINE).partition(b"\n")[0]
            if b'"custom_id"' not in line:
                return False
            piece = next(read(io.BytesIO(line), max_bytes=_BATCH_LINE), None)
    except InvalidContent:
        return False  # reported when it is read
    value = piece.value if isinstance(piece, Piece) else None
    return isinstance(value, dict) and not openai_logs.is_batch_request(value) and openai_logs.is_batch_output(value)


def _join(parts: list[_Read]) -> Session:
    """Return the session of the first part with the messages of all parts, and the latest of their times."""
    first, *others = [part.translated.session for part in parts]
    if not others:
        return first
    joined: dict[str, object] = {
        "messages": [message for part in parts for message in part.translated.session.messages],
        "updated_at": max(filter(None, (part.translated.session.updated_at for part in parts)), default=None),
    }
    if parts[0].translated.is_message:  # it has no head, whose time would count
        created = (part.translated.session.created_at for part in parts)
        joined["created_at"] = min(filter(None, created), default=None)
    return first.model_copy(update=joined)


def _split(parts: list[_Read]) -> tuple[list[_Read], list[_Read]]:
    """Return the first parts, whose heads are the same except for the times, and the others."""
    unset: dict[str, object] = {"messages": [], "created_at": None, "updated_at": None}
    heads = [part.translated.session.model_copy(update=unset) for part in parts]
    count = next((at for at, head in enumerate(heads) if head != heads[0]), len(parts))
    return parts[:count], parts[count:]
