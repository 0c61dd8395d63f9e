"""AgentScope 1.0 agents on agentstore: their memory, their saved state, and what they know for long.

::

    from agentstore.adapters.agentscope import AgentScopeSessionHistoryMemory

    memory = AgentScopeSessionHistoryMemory(store.sessions, user_id="alice", session_id="s1")
    agent = ReActAgent(..., memory=memory)

For agentscope 1.0.9 and every later 1.0. The services are a store's, those of
:mod:`agentstore.adapters.agentscope_runtime`, or the ones in memory.
"""

# pyright: reportMissingImports=false
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import uuid4

from agentscope.memory import LongTermMemoryBase, MemoryBase
from agentscope.message import Msg, TextBlock
from agentscope.module import StateModule
from agentscope.session import SessionBase
from agentscope.tool import ToolResponse

from agentstore.adapters import _agentscope_messages as messages
from agentstore.errors import AgentStoreError, Conflict, InvalidContent, NotFound
from agentstore.interfaces import MemoryService, SessionHistoryService, StateService
from agentstore.schemas import Message, Session, TextContent
from agentstore.schemas.memory import text_of

# Under which a session's metadata says what is marked, what was deleted, and the summary.
_KEY = "agentscope"


class AgentScopeSessionHistoryMemory(MemoryBase):  # type: ignore[misc]
    """An agent's memory that is a session: whoever has the same user and session ids has the same memory.

    A Msg is one message of the session. Messages of a session are not changed and not taken out: its metadata says
    which are marked and which were deleted. What the runtime's class of this name has stored is read, too.
    """

    def __init__(self, service: Any, user_id: str, session_id: str) -> None:
        """`service` is a SessionHistoryService; the session is made by the first message.

        Raises:
            InvalidContent: `session_id` is blank.
        """
        super().__init__()
        self._sessions: SessionHistoryService = getattr(service, "inner", service)
        self.user_id = user_id
        self.session_id = session_id.strip()
        if not self.session_id:
            raise InvalidContent("a memory's session needs an id")
        self._deleted: set[str] | None = None

    async def add(self, memories: Any, marks: Any = None, allow_duplicates: bool = False, **_: Any) -> None:
        """Append one Msg or many; those whose ids are there are passed over, unless duplicates are allowed.

        Raises:
            TypeError: something is no Msg, or a mark is no string.
        """
        if isinstance(marks, bool):  # where it stands until 1.0.9
            marks, allow_duplicates = None, marks
        marks = _marks(marks)
        msgs = _list_of(memories)
        if not msgs:
            return
        if self._deleted is None:
            await self._present(limit=0)
        rows = [messages.to_message(msg, self._row_id(msg, allow_duplicates)) for msg in msgs]
        if marks:
            present, _ = await self._present()
            there = {row.id for row in present}
            rows = [row for row in rows if row.id not in there]
            # First: what is marked and not there does no harm, what is there and not marked would stay.
            await self._change(lambda kept: _marked(kept, {row.id: marks for row in rows}))
        await self._append(rows)

    async def delete(self, msg_ids: Any = None, index: Any = None, **_: Any) -> int:
        """Delete messages by their ids, or by their places from 0, as until 1.0.9; return how many there were.

        Raises:
            IndexError: there is no such place.
        """
        wanted = msg_ids if index is None else index
        wanted = {wanted} if isinstance(wanted, (str, int)) else set(wanted or ())
        present = messages.from_messages(*await self._present())
        places = {each for each in wanted if isinstance(each, int)}
        if beyond := sorted(each for each in places if not 0 <= each < len(present)):
            raise IndexError(f"there is nothing at {beyond}")
        return await self._delete(
            each for place, each in enumerate(present) if place in places or each.msg.id in wanted
        )

    async def delete_by_mark(self, mark: Any, *_: Any, **__: Any) -> int:
        """Delete the messages that have one of these marks; return how many there were.

        Raises:
            TypeError: a mark is no string.
        """
        wanted = set(_marks(mark))
        if not wanted:
            return 0
        kept = (await self._present(limit=0))[1]
        if not any(wanted.intersection(each) for each in kept.get("marks", {}).values()):
            return 0
        present = messages.from_messages(*await self._present())
        return await self._delete(each for each in present if wanted.intersection(each.marks))

    async def size(self) -> int:
        """Return how many messages there are."""
        return len(messages.from_messages(*await self._present()))

    async def clear(self) -> None:
        """Delete the session; the next message makes it again."""
        await self._sessions.delete_session(self.user_id, self.session_id)
        self._deleted, self._compressed_summary = set(), ""

    async def get_memory(
        self, mark: str | None = None, exclude_mark: str | None = None, prepend_summary: bool = True, **_: Any
    ) -> list[Msg]:
        """Return the messages, those with `mark` and without `exclude_mark`, after the summary if there is one.

        Raises:
            TypeError: a mark is no string.
        """
        for each in (mark, exclude_mark):
            if each is not None and not isinstance(each, str):
                raise TypeError(f"a mark is a string, not {type(each).__name__}")
        rows, kept = await self._present()
        found = [
            each.msg
            for each in messages.from_messages(rows, kept)
            if (mark is None or mark in each.marks) and (exclude_mark is None or exclude_mark not in each.marks)
        ]
        if prepend_summary and self._compressed_summary:
            return [Msg("user", self._compressed_summary, "user"), *found]
        return found

    async def update_messages_mark(
        self, new_mark: str | None, old_mark: str | None = None, msg_ids: list[str] | None = None
    ) -> int:
        """Give messages a mark in place of another one, or take it from them where `new_mark` is None.

        Of all messages, those with `old_mark` and those with one of the ids. Return how many were changed.
        """
        changed: dict[str, list[str]] = {}
        count = 0
        for each in messages.from_messages(*await self._present()):
            if (msg_ids is not None and each.msg.id not in msg_ids) or (
                old_mark is not None and old_mark not in each.marks
            ):
                continue
            marks = [kept for kept in each.marks if kept != old_mark]
            if new_mark is not None and new_mark not in marks:
                marks.append(new_mark)
            if marks != each.marks:
                count += 1
                changed |= dict.fromkeys(each.row_ids, marks)
        if changed:
            await self._change(lambda kept: _marked(kept, changed))
        return count

    async def update_compressed_summary(self, summary: str) -> None:
        """Keep what stands for the messages that are marked as compressed."""
        await self._change(lambda kept: {**kept, "summary": summary})
        self._compressed_summary = summary

    async def retrieve(self, *_: Any, **__: Any) -> None:
        """Search is what long-term memory is for.

        Raises:
            NotImplementedError: always, as AgentScope's own.
        """
        raise NotImplementedError("give the agent an AgentScopeLongTermMemory to search in")

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: all that this holds is in the database."""
        return {}

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> None:
        """Load nothing: all that this holds is in the database."""

    def _row_id(self, msg: Msg, is_another: bool) -> str:
        return f"{msg.id}:{uuid4().hex}" if is_another or msg.id in (self._deleted or ()) else msg.id

    async def _append(self, rows: list[Message]) -> None:
        session = Session(id=self.session_id, user_id=self.user_id)
        while True:
            try:
                return await self._sessions.append_message(session, rows)
            except NotFound:
                await self._sessions.create_session(self.user_id, self.session_id)
            except Conflict:
                # A Msg that was changed since: the first one stays, as in AgentScope's own memory.
                there = await self._sessions.get_session(self.user_id, self.session_id)
                known = {each.id for each in there.messages} if there is not None else set()
                left = [each for each in rows if each.id not in known]
                if len(left) == len(rows):
                    raise
                rows = left

    async def _present(self, limit: int | None = None) -> tuple[list[Message], dict[str, Any]]:
        """Return the session's messages, and what its metadata says about them."""
        session = await self._sessions.get_session(self.user_id, self.session_id, limit=limit)
        kept: dict[str, Any] = {} if session is None else session.metadata.get(_KEY, {})
        self._deleted = set(kept.get("deleted", ()))
        self._compressed_summary = kept.get("summary", "")
        return [] if session is None else session.messages, kept

    async def _delete(self, gone: Iterable[messages.Kept]) -> int:
        found = list(gone)
        ids = [row_id for each in found for row_id in each.row_ids]
        if ids:
            kept = await self._change(lambda kept: _without(kept, ids))
            self._deleted = set(kept["deleted"])
        return len(found)

    async def _change(self, change: Any) -> dict[str, Any]:
        while True:
            try:
                metadata = await self._sessions.change_metadata(
                    self.user_id, self.session_id, lambda old: {**old, _KEY: change(old.get(_KEY, {}))}
                )
            except NotFound:
                await self._sessions.create_session(self.user_id, self.session_id)
            else:
                kept: dict[str, Any] = metadata[_KEY]
                return kept


class NoState(NotFound, ValueError):
    """Nothing was saved for a session. AgentScope's own sessions raise ValueError."""


class AgentScopeSession(SessionBase):  # type: ignore[misc]
    """The states of an application's modules, agents most of all, by session: in place of JSONSession."""

    def __init__(self, service: Any, keep_rounds: int | None = 10) -> None:
        """`service` is a StateService. Each save is a round of its own, and the last `keep_rounds` are kept.

        None keeps all: a state that holds its conversation grows with it, and so does each round.
        """
        if keep_rounds is not None and keep_rounds < 1:
            raise InvalidContent(f"keep_rounds must be a whole number from 1, not {keep_rounds!r}")
        self._states: StateService = getattr(service, "inner", service)
        self._keep_rounds = keep_rounds

    async def save_session_state(
        self, session_id: str, user_id: str = "", **state_modules_mapping: StateModule
    ) -> None:
        """Save the states of the modules together, under their names."""
        state = {name: module.state_dict() for name, module in state_modules_mapping.items()}
        saved = await self._states.save_state(user_id, state, session_id)
        if self._keep_rounds is not None and saved > self._keep_rounds:
            await self._states.delete_state(user_id, session_id, saved - self._keep_rounds)

    async def load_session_state(
        self, session_id: str, user_id: str = "", allow_not_exist: bool = True, **state_modules_mapping: StateModule
    ) -> None:
        """Load into the modules what was last saved under their names.

        Raises:
            NoState: nothing was saved, and `allow_not_exist` is false.
        """
        state = await self._states.export_state(user_id, session_id)
        if state is None:
            if not allow_not_exist:
                raise NoState(f"user {user_id!r} has no state of session {session_id!r}")
            return
        for name, module in state_modules_mapping.items():
            if name in state:
                module.load_state_dict(state[name])


class AgentScopeLongTermMemory(LongTermMemoryBase):  # type: ignore[misc]
    """What an agent knows of a user, from all sessions: recorded under one session, found in all."""

    def __init__(self, service: Any, user_id: str, session_id: str) -> None:
        """`service` is a MemoryService."""
        super().__init__()
        self._memory: MemoryService = getattr(service, "inner", service)
        self.user_id = user_id
        self.session_id = session_id

    async def record(self, msgs: Any, **_: Any) -> None:
        """Record messages, each once. What an agent was told from this memory is not recorded again."""
        rows = [
            messages.to_message(msg, msg.id)
            for msg in _list_of(msgs if isinstance(msgs, Msg) else [each for each in msgs or () if each is not None])
            if msg.name != "long_term_memory"
        ]
        await self._memory.add_memory(self.user_id, rows, self.session_id)

    async def retrieve(self, msg: Any, limit: int = 5, **_: Any) -> str:
        """Return what fits a message, or each of several, a line each, `limit` for each of them."""
        questions = [each.get_text_content() or "" for each in _list_of(msg)]
        return "\n".join(await self._lines(questions, limit))

    async def record_to_memory(self, thinking: str, content: list[str], **_: Any) -> ToolResponse:
        """Use this function to record important information that you may need later.

        The content should be specific and concise: who, when, where, what, why, how.

        Args:
            thinking (`str`):
                Your reasoning about what to record.
            content (`list[str]`):
                The facts to remember, one string for each.
        """
        said_at = datetime.now().astimezone().isoformat()
        rows = [
            Message(
                role="assistant",
                content=[TextContent(text=each)],
                metadata={"timestamp": said_at, "thinking": thinking},
            )
            for each in content
        ]
        try:
            await self._memory.add_memory(self.user_id, rows, self.session_id)
        except AgentStoreError as error:
            return _answer(f"Nothing was recorded: {error}")
        return _answer(f"Recorded: {len(rows)}.")

    async def retrieve_from_memory(self, keywords: list[str], limit: int = 5, **_: Any) -> ToolResponse:
        """Retrieve what was recorded about keywords.

        Args:
            keywords (`list[str]`):
                What to look for, specific and concise: a name, a date, a place. Each is looked for by itself.
            limit (`int`, optional):
                The most memories to retrieve for each keyword.
        """
        try:
            lines = await self._lines(keywords, limit)
        except AgentStoreError as error:
            return _answer(f"Nothing could be retrieved: {error}")
        return _answer("\n".join(lines) or "Nothing is known about that.")

    async def _lines(self, questions: Iterable[str], limit: int) -> list[str]:
        lines: dict[str, None] = {}
        for question in questions:
            asked = Message(role="user", content=[TextContent(text=question)])
            found = await self._memory.search_memory(self.user_id, asked, {"top_k": limit})
            lines |= dict.fromkeys(map(_line, found))
        return list(lines)


def _line(message: Message) -> str:
    """Return a memory as a model reads it: when, who and what."""
    metadata = message.metadata or {}
    when = metadata.get("timestamp")
    day = f"[{when[:10]}] " if isinstance(when, str) else ""
    return f"{day}{metadata.get('name') or message.role}: {text_of(message)}"


def _answer(text: str) -> ToolResponse:
    return ToolResponse(content=[TextBlock(type="text", text=text)])


def _list_of(msgs: Any) -> list[Msg]:
    many = [] if msgs is None else [msgs] if isinstance(msgs, Msg) else msgs
    if not isinstance(many, list) or not all(isinstance(each, Msg) for each in many):
        raise TypeError(f"give a Msg or a list of them, not {type(msgs).__name__}")
    return many


def _marks(marks: Any) -> list[str]:
    many = [] if marks is None else [marks] if isinstance(marks, str) else marks
    if not isinstance(many, list) or not all(isinstance(each, str) for each in many):
        raise TypeError(f"give a mark or a list of them, not {type(marks).__name__}")
    return many


def _marked(kept: dict[str, Any], marks: Mapping[str, list[str]]) -> dict[str, Any]:
    return {**kept, "marks": {id: each for id, each in {**kept.get("marks", {}), **marks}.items() if each}}


def _without(kept: dict[str, Any], ids: list[str]) -> dict[str, Any]:
    marks = {id: each for id, each in kept.get("marks", {}).items() if id not in ids}
    return {**kept, "marks": marks, "deleted": [*dict.fromkeys([*kept.get("deleted", ()), *ids])]}
