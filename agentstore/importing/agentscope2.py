"""What AgentScope 2 keeps by its SQL storage: sessions of users, their messages of blocks, and the agents' state."""

from typing import Any

from pydantic import ValidationError
from sqlalchemy import Text, bindparam, cast, column, select, table

from agentstore.errors import InvalidContent
from agentstore.exact_json import dumps
from agentstore.importing.databases import OtherDatabase, utc
from agentstore.importing.fields import an_object, data_part, parsed, text_part, with_rest
from agentstore.importing.kept import KeptSession, KeptState, Reader
from agentstore.importing.source import Problem
from agentstore.schemas import ContentType, Message, MessageType, Role, RunStatus, Session

SOURCE = "agentscope-2"
_PAGE = 500

_SESSIONS = table("sessions", *map(column, ("id", "user_id", "agent_id", "created_at", "updated_at", "payload")))
_MESSAGES = table("messages", *map(column, ("session_id", "msg_id", "created_at", "payload")))
_FIRST_SESSIONS = select(_SESSIONS.c.id).order_by(_SESSIONS.c.id).limit(_PAGE)
# Alone, since it holds the agent's state.
_SESSION = select(
    _SESSIONS.c.user_id,
    _SESSIONS.c.agent_id,
    cast(_SESSIONS.c.created_at, Text),
    cast(_SESSIONS.c.updated_at, Text),
    cast(_SESSIONS.c.payload, Text),
).where(_SESSIONS.c.id == bindparam("session_id", type_=Text))
_NEXT_SESSIONS = _FIRST_SESSIONS.where(_SESSIONS.c.id > bindparam("after", type_=Text))
_OF_SESSION = (
    select(_MESSAGES.c.msg_id, cast(_MESSAGES.c.payload, Text))
    .where(_MESSAGES.c.session_id == bindparam("session_id", type_=Text))
    .order_by(_MESSAGES.c.created_at, _MESSAGES.c.msg_id)
)


async def read(database: OtherDatabase) -> Reader:
    """Yield its sessions, and after each the state of its agent.

    Raises:
        InvalidContent: it has no such tables.
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
            try:
                about = parsed(payload, "payload")
                state = about.pop("state", None)
                messages = await database.fetch(_OF_SESSION, session_id=id)
                session = Session(
                    id=id,
                    user_id=user_id,
                    messages=[message for msg_id, text in messages for message in _messages(msg_id, text)],
                    title=_title(about),
                    metadata={"agent_id": agent_id, **about},
                    created_at=utc(created_at),
                    updated_at=utc(updated_at),
                )
            except (InvalidContent, ValidationError, ValueError) as error:
                yield Problem(place, str(error))
                continue
            yield KeptSession(place, session)
            if isinstance(state, dict) and state:
                yield KeptState(f"{place}, state", user_id, id, None, state, {"agent_id": agent_id}, SOURCE)
        if len(rows) < _PAGE:
            return
        after = rows[-1][0]


def _title(about: dict[str, Any]) -> str | None:
    config = about.get("config")
    name = config.get("name") if isinstance(config, dict) else None
    return name if isinstance(name, str) else None


def _messages(id: str, text: str) -> list[Message]:
    """Return the Messages that one of theirs is: one for what was said, and one for each call, result and thought.

    The first has its id, the others that id with /1, /2 and so on, in the order of the blocks.
    """
    try:
        raw = parsed(text, "the message")
        parts = _parts(raw.get("content"))
        rest = {name: value for name, value in raw.items() if name not in ("id", "role", "content", "metadata")}
        about = {**an_object(raw.get("metadata") or {}, "metadata"), "agentscope": rest}
        if isinstance(time := rest.get("created_at"), str):
            about.setdefault("timestamp", time)
        role = raw.get("role")
        found = []
        for number, (of, parts_of_one) in enumerate(parts or [(MessageType.MESSAGE, [])]):
            said_by = {MessageType.FUNCTION_CALL_OUTPUT: Role.TOOL}.get(of, role)
            found.append(
                Message.model_validate(
                    {
                        "id": f"{id}/{number}" if number else id,
                        "type": of,
                        "role": said_by,
                        "status": RunStatus.Completed,
                        "content": parts_of_one,
                        "metadata": about if number == 0 else None,
                    }
                )
            )
    except (InvalidContent, ValidationError, ValueError) as error:
        raise InvalidContent(f"message {id}: {error}") from error
    return found


def _parts(content: Any) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the content of each Message: blocks that were said one after the other are one."""
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(blocks, list):
        raise InvalidContent("content: it is no list of blocks")
    found: list[tuple[str, list[dict[str, Any]]]] = []
    for index, each in enumerate(blocks):
        block = an_object(each, f"content[{index}]")
        of, part = _part(block)
        if of == MessageType.MESSAGE and found and found[-1][0] == of:
            found[-1][1].append(part)
        else:
            found.append((of, [part]))
    return found


def _part(block: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return of which type the Message of a block is, and the part that it is in it."""
    of = block.get("type")
    rest = {name: value for name, value in block.items() if name not in ("type",)}
    if of == "text" and isinstance(block.get("text"), str):
        return MessageType.MESSAGE, with_rest(text_part(rest.pop("text")), rest, "block")
    if of == "thinking" and isinstance(block.get("thinking"), str):
        return MessageType.REASONING, with_rest(text_part(rest.pop("thinking")), rest, "block")
    if of == "tool_call":
        data = {"call_id": rest.pop("id", None), "name": rest.pop("name", None), "arguments": rest.pop("input", None)}
        return MessageType.FUNCTION_CALL, data_part({**data, **rest})
    if of == "tool_result":
        output = rest.pop("output", None)
        output = output if output is None or isinstance(output, str) else dumps(output)
        data = {"call_id": rest.pop("id", None), "name": rest.pop("name", None), "output": output}
        return MessageType.FUNCTION_CALL_OUTPUT, data_part({**data, **rest})
    if of == "data" and isinstance(source := block.get("source"), dict):
        media = str(source.get("media_type"))
        url = source.get("url") if source.get("type") == "url" else f"data:{media};base64,{source.get('data')}"
        if media.startswith("image/"):
            rest.pop("source")
            return MessageType.MESSAGE, with_rest({"type": ContentType.IMAGE, "image_url": url}, rest, "block")
    return MessageType.MESSAGE, data_part(block)
