"""An agent's short-term memory, stored as a session."""

# pyright: reportMissingImports=false
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from uuid import uuid4

from agentscope.memory import MemoryBase
from agentscope.message import Msg

from agentstore.adapters.agentscope.messages import KEY, StoredMsg, from_messages, list_of_msgs, to_message
from agentstore.adapters.stores import is_stored
from agentstore.errors import Conflict, InvalidContent, NotFound
from agentstore.interfaces import SessionHistoryService
from agentstore.schemas import Message, Session
from agentstore.schemas.payload import strip_id

Annotations = dict[str, Any]
"""The value under KEY in a session's metadata: `marks` by message id, the ids that are `deleted`, and the `summary`."""


class AgentScopeSessionHistoryMemory(MemoryBase):  # type: ignore[misc]
    """An agent's memory in a session: all memories with the same user and session ids share their content.

    Each Msg is one message of the session. Messages of a session are never changed or removed: its metadata lists
    which are marked and which are deleted. Sessions that the runtime's class of this name has stored can be read.
    """

    def __init__(self, service: Any, user_id: str, session_id: str) -> None:
        """Create the memory. `service` is a SessionHistoryService. The first message creates the session.

        Raises:
            InvalidContent: `session_id` is blank or not a string.
        """
        super().__init__()
        self._sessions: SessionHistoryService = getattr(service, "inner", service)
        self.user_id = user_id
        self.session_id = strip_id(session_id)
        if not self.session_id:
            raise InvalidContent("session_id must not be blank")
        self._deleted: set[str] | None = None

    async def add(self, memories: Any, marks: Any = None, allow_duplicates: bool = False, **_: Any) -> None:
        """Append a Msg or a list of them, with marks. Existing ids are skipped unless duplicates are allowed.

        Raises:
            TypeError: `memories` has an item that is not a Msg, or `marks` one that is not a string.
        """
        if isinstance(marks, bool):  # the position of allow_duplicates in AgentScope up to 1.0.9
            marks, allow_duplicates = None, marks
        marks = _list_of_marks(marks)
        msgs = list_of_msgs(memories)
        if not msgs:
            return
        if self._deleted is None:
            await self._read(limit=0)
        messages = [to_message(msg, self._message_id(msg, allow_duplicates)) for msg in msgs]
        if marks:
            messages = await self._missing(messages)
            # Marks are written first: if the append fails, a mark without a message is harmless, whereas a message
            # without its marks would remain.
            await self._annotate(lambda old: _with_marks(old, {each.id: marks for each in messages}))
        await self._append(messages)

    async def delete(self, msg_ids: Any = None, index: Any = None, **_: Any) -> int:
        """Delete messages by id, or by position from 0 as in AgentScope up to 1.0.9; return how many.

        Raises:
            IndexError: a position does not exist.
        """
        wanted = msg_ids if index is None else index
        wanted = {wanted} if isinstance(wanted, (str, int)) else set(wanted or ())
        stored = from_messages(*await self._read())
        positions = {each for each in wanted if isinstance(each, int)}
        if invalid := sorted(each for each in positions if not 0 <= each < len(stored)):
            raise IndexError(f"the memory has {len(stored)} messages, and none at {invalid}")
        return await self._delete(
            each for position, each in enumerate(stored) if position in positions or each.msg.id in wanted
        )

    async def delete_by_mark(self, mark: Any, *_: Any, **__: Any) -> int:
        """Delete the messages that have any of these marks; return how many.

        Raises:
            TypeError: a mark is not a string.
        """
        wanted = set(_list_of_marks(mark))
        if not wanted:
            return 0
        annotations = (await self._read(limit=0))[1]
        if not any(wanted.intersection(each) for each in annotations.get("marks", {}).values()):
            return 0
        stored = from_messages(*await self._read())
        return await self._delete(each for each in stored if wanted.intersection(each.marks))

    async def size(self) -> int:
        """Return the number of messages."""
        return len(from_messages(*await self._read()))

    async def clear(self) -> None:
        """Delete the session; the next message creates it again."""
        await self._sessions.delete_session(self.user_id, self.session_id)
        self._deleted, self._compressed_summary = set(), ""

    async def get_memory(
        self, mark: str | None = None, exclude_mark: str | None = None, prepend_summary: bool = True, **_: Any
    ) -> list[Msg]:
        """Return the messages with `mark` and without `exclude_mark`, after the compressed summary if there is one.

        Raises:
            TypeError: a mark is not a string.
        """
        for each in (mark, exclude_mark):
            if each is not None and not isinstance(each, str):
                raise TypeError(f"a mark must be a string, got {type(each).__name__}")
        messages, annotations = await self._read()
        found = [
            each.msg
            for each in from_messages(messages, annotations)
            if (mark is None or mark in each.marks) and (exclude_mark is None or exclude_mark not in each.marks)
        ]
        if prepend_summary and self._compressed_summary:
            return [Msg("user", self._compressed_summary, "user"), *found]
        return found

    async def update_messages_mark(
        self, new_mark: str | None, old_mark: str | None = None, msg_ids: list[str] | None = None
    ) -> int:
        """Replace `old_mark` of messages by `new_mark`, or remove it if `new_mark` is None; return how many changed.

        Only messages that have `old_mark`, if given, and one of `msg_ids`, if given, are changed. Without `old_mark`,
        `new_mark` is added.
        """
        changed: dict[str, list[str]] = {}
        count = 0
        for each in from_messages(*await self._read()):
            if (msg_ids is not None and each.msg.id not in msg_ids) or (
                old_mark is not None and old_mark not in each.marks
            ):
                continue
            marks = [mark for mark in each.marks if mark != old_mark]
            if new_mark is not None and new_mark not in marks:
                marks.append(new_mark)
            if marks != each.marks:
                count += 1
                changed |= dict.fromkeys(each.message_ids, marks)
        if changed:
            await self._annotate(lambda old: _with_marks(old, changed))
        return count

    async def update_compressed_summary(self, summary: str) -> None:
        """Store the summary that replaces the messages marked as compressed."""
        await self._annotate(lambda old: {**old, "summary": summary})
        self._compressed_summary = summary

    async def retrieve(self, *_: Any, **__: Any) -> None:
        """Not supported: use AgentScopeLongTermMemory to search.

        Raises:
            NotImplementedError: always, as in AgentScope's own memory.
        """
        raise NotImplementedError("this memory cannot be searched: give the agent an AgentScopeLongTermMemory")

    def state_dict(self) -> dict[str, Any]:
        """Return an empty dict: everything is stored in the database."""
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> None:
        """Do nothing: everything is stored in the database."""

    def _message_id(self, msg: Msg, is_duplicate: bool) -> str:
        return f"{msg.id}:{uuid4().hex}" if is_duplicate or msg.id in (self._deleted or ()) else msg.id

    async def _append(self, messages: list[Message]) -> None:
        session = Session(id=self.session_id, user_id=self.user_id)
        while True:
            try:
                return await self._sessions.append_message(session, messages)
            except NotFound:
                await self._sessions.create_session(self.user_id, self.session_id, messages=False)
            except Conflict:
                # A Msg was changed after it was added: as in AgentScope's own memory, the first one is retained.
                missing = await self._missing(messages)
                if len(missing) == len(messages):
                    raise
                messages = missing

    async def _missing(self, messages: list[Message]) -> list[Message]:
        """Return those of the messages that the session does not have."""
        return [
            each for each in messages if not await is_stored(self._sessions, self.user_id, self.session_id, each.id)
        ]

    async def _read(self, limit: int | None = None) -> tuple[list[Message], Annotations]:
        """Return the session's messages and its annotations."""
        session = await self._sessions.get_session(self.user_id, self.session_id, limit=limit)
        annotations: Annotations = {} if session is None else session.metadata.get(KEY, {})
        self._deleted = set(annotations.get("deleted", ()))
        self._compressed_summary = annotations.get("summary", "")
        return [] if session is None else session.messages, annotations

    async def _delete(self, stored: Iterable[StoredMsg]) -> int:
        found = list(stored)
        ids = [message_id for each in found for message_id in each.message_ids]
        if ids:
            annotations = await self._annotate(lambda old: _with_deleted(old, ids))
            self._deleted = set(annotations["deleted"])
        return len(found)

    async def _annotate(self, change: Callable[[Annotations], Annotations]) -> Annotations:
        """Apply `change` to the stored annotations atomically, and return the result."""
        while True:
            try:
                metadata = await self._sessions.change_metadata(
                    self.user_id, self.session_id, lambda old: {**old, KEY: change(old.get(KEY, {}))}
                )
            except NotFound:
                await self._sessions.create_session(self.user_id, self.session_id, messages=False)
            else:
                annotations: Annotations = metadata[KEY]
                return annotations


def _list_of_marks(marks: Any) -> list[str]:
    many = [] if marks is None else [marks] if isinstance(marks, str) else marks
    if not isinstance(many, list) or not all(isinstance(each, str) for each in many):
        raise TypeError(f"marks must be a string or a list of strings, got {type(marks).__name__}")
    return many


def _with_marks(old: Annotations, marks: Mapping[str, list[str]]) -> Annotations:
    return {**old, "marks": {id: each for id, each in {**old.get("marks", {}), **marks}.items() if each}}


def _with_deleted(old: Annotations, ids: list[str]) -> Annotations:
    marks = {id: each for id, each in old.get("marks", {}).items() if id not in ids}
    return {**old, "marks": marks, "deleted": [*dict.fromkeys([*old.get("deleted", ()), *ids])]}
