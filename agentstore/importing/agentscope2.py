"""Read AgentScope 2's SQL storage: sessions, their messages, and the agents' states."""

from typing import Any

from sqlalchemy import Text, bindparam, cast, column, select, table

from agentstore.errors import InvalidContent
from agentstore.exact_json import dumps
from agentstore.importing.conversation import group
from agentstore.importing.databases import OtherDatabase, new_session
from agentstore.importing.head import Head
from agentstore.importing.notes import Note, Notes
from agentstore.importing.records import Reader, SessionRecord, StateRecord
from agentstore.importing.translated import Messages, Translated
from agentstore.schemas import ContentType, MessageType, RunStatus, Session
from agentstore.schemas.parts import add_rest, data_part, parse_object, require_object, text_part, wrong_type

SOURCE = "agentscope-2"
_PAGE = 500

_SESSIONS = table("sessions", *map(column, ("id", "user_id", "agent_id", "created_at", "updated_at", "payload")))
_MESSAGES = table("messages", *map(column, ("session_id", "msg_id", "created_at", "payload")))
_FIRST_SESSIONS = select(_SESSIONS.c.id).order_by(_SESSIONS.c.id).limit(_PAGE)
_NEXT_SESSIONS = _FIRST_SESSIONS.where(_SESSIONS.c.id > bindparam("after", type_=Text))
# One session at a time, since the payload contains the agent's state.
_SESSION = select(
    _SESSIONS.c.user_id,
    _SESSIONS.c.agent_id,
    cast(_SESSIONS.c.created_at, Text),
    cast(_SESSIONS.c.updated_at, Text),
    cast(_SESSIONS.c.payload, Text),
).where(_SESSIONS.c.id == bindparam("session_id", type_=Text))
_MESSAGES_OF_SESSION = (
    select(_MESSAGES.c.msg_id, cast(_MESSAGES.c.payload, Text))
    .where(_MESSAGES.c.session_id == bindparam("session_id", type_=Text))
    .order_by(_MESSAGES.c.created_at, _MESSAGES.c.msg_id)
)


async def read(database: OtherDatabase) -> Reader:
    """Yield each session, followed by the state of its agent.

    Raises:
        InvalidContent: the database lacks AgentScope's tables.
    """
    after: str | None = None
    while True:
        if after is None:
            rows = await database.fetch(_FIRST_SESSIONS)
        else:
            rows = await database.fetch(_NEXT_SESSIONS, after=after)
        for (id,) in rows:
            found = await database.fetch(_SESSION, session_id=id)
            if not found:
                continue  # deleted meanwhile
            ((user_id, agent_id, created_at, updated_at, payload),) = found
            place = f"session {id}"
            messages = await database.fetch(_MESSAGES_OF_SESSION, session_id=id)
            try:
                session = new_session(id, user_id, created_at, updated_at)
            except InvalidContent as error:
                yield Note(place, str(error), messages=len(messages))
                continue
            notes = Notes()
            fields: dict[str, Any] = {}
            with notes.message("payload", messages=0):
                fields = parse_object(payload, "the session")
            state = fields.pop("state", None)
            yield SessionRecord(place, _translate(session, {"agent_id": agent_id, **fields}, messages, notes))
            if isinstance(state, dict) and state:
                yield StateRecord(f"{place}, state", user_id, id, None, state, {"agent_id": agent_id}, SOURCE)
        if len(rows) < _PAGE:
            return
        after = rows[-1][0]


def _translate(session: Session, metadata: dict[str, Any], rows: list[tuple[Any, ...]], notes: Notes) -> Translated:
    """Add metadata, the title and the messages to a session."""
    config = metadata.get("config")
    head = Head({"title": config.get("name")} if isinstance(config, dict) else {}, notes)
    session.title = head.title()
    session.metadata = metadata
    messages = Messages(notes)
    for id, text in rows:
        with notes.message(f"message {id}"):
            messages.add(f"message {id}", id, _fields(text))
    return messages.build(session, len(rows))


def _fields(text: str) -> list[dict[str, Any]]:
    """Convert a message: adjacent text and data become one Message; each thought, tool call and result another.

    The first Message has the original id, the others that id with ``/1``, ``/2`` and so on, in the order of the blocks.
    """
    raw = parse_object(text, "the message")
    rest = {name: value for name, value in raw.items() if name not in ("id", "role", "content", "metadata")}
    metadata = {**require_object(raw.get("metadata") or {}, "metadata"), "agentscope": rest}
    if isinstance(time := rest.get("created_at"), str):
        metadata.setdefault("timestamp", time)
    content = raw.get("content")
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(blocks, list):
        raise wrong_type("content", "a string or a list of blocks", content)
    parts = [_part(require_object(block, f"content[{index}]")) for index, block in enumerate(blocks)]
    if not parts:
        return [{"role": raw.get("role"), "status": RunStatus.Completed, "content": [], "metadata": metadata}]
    return group(parts, raw.get("role"), metadata)


def _part(block: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the type of the Message to which a block belongs, and the block as a content part."""
    block_type = block.get("type")
    rest = {name: value for name, value in block.items() if name != "type"}
    if block_type == "text" and isinstance(block.get("text"), str):
        return MessageType.MESSAGE, add_rest(text_part(rest.pop("text")), rest, "block")
    if block_type == "thinking" and isinstance(block.get("thinking"), str):
        return MessageType.REASONING, add_rest(text_part(rest.pop("thinking")), rest, "block")
    if block_type == "tool_call":
        data = {"call_id": rest.pop("id", None), "name": rest.pop("name", None), "arguments": rest.pop("input", None)}
        return MessageType.FUNCTION_CALL, data_part({**data, **rest})
    if block_type == "tool_result":
        output = rest.pop("output", None)
        output = output if output is None or isinstance(output, str) else dumps(output)
        data = {"call_id": rest.pop("id", None), "name": rest.pop("name", None), "output": output}
        return MessageType.FUNCTION_CALL_OUTPUT, data_part({**data, **rest})
    if block_type == "data" and isinstance(source := block.get("source"), dict):
        media = str(source.get("media_type"))
        url = source.get("url") if source.get("type") == "url" else f"data:{media};base64,{source.get('data')}"
        if media.startswith("image/"):
            rest.pop("source")
            return MessageType.MESSAGE, add_rest({"type": ContentType.IMAGE, "image_url": url}, rest, "block")
    return MessageType.MESSAGE, data_part(block)
