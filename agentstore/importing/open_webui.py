"""Convert chats of Open WebUI's export.

The messages of a chat form a tree, since questions can be edited and answers regenerated; ``currentId`` is the message
that was displayed last.
"""

from typing import Any

from agentstore.importing.conversation import (
    Conversation,
    Fields,
    branch,
    file_part,
    numbered,
    set_fields,
    with_metadata,
)
from agentstore.importing.notes import Notes
from agentstore.schemas import MessageType, RunStatus
from agentstore.schemas.openai import chat, responses
from agentstore.schemas.parts import require_object, wrong_type

_HEAD = {"id", "user_id", "title", "chat", "created_at", "updated_at"}
_CHAT = {"id", "title", "history", "messages", "timestamp"}
_USED = {"id", "parentId", "childrenIds", "role", "content", "output", "timestamp", "files", "done"}


def is_chat(value: dict[str, Any]) -> bool:
    """Return whether a value is a chat of an export, or a chat of an older one, which has no envelope."""
    chat = value["chat"] if isinstance(value.get("chat"), dict) else value
    history = chat.get("history")
    has_tree = isinstance(history, dict) and "messages" in history
    return has_tree or (chat is not value and isinstance(chat.get("messages"), list))


def conversation(value: dict[str, Any], notes: Notes) -> Conversation:
    """Return a chat of an export.

    Raises:
        InvalidContent: it has no messages.
    """
    chat = value["chat"] if isinstance(value.get("chat"), dict) else value
    history = chat["history"] if isinstance(chat.get("history"), dict) else {}
    by_id = require_object(history.get("messages") or {}, "history.messages")
    if by_id or "messages" not in chat:
        items = [_with_id(id, each) for id, each in by_id.items()]
        places = [f"history.messages.{id}" for id in by_id]
        messages, places = branch(
            items, places, notes, id_field="id", parent_field="parentId", leaf=history.get("currentId")
        )
    else:
        messages = chat["messages"]
        if not isinstance(messages, list):
            raise wrong_type("messages", "a list", messages)
        places = numbered("messages", messages)
    rest = {name: each for name, each in chat.items() if name not in _CHAT}
    if chat is not value:
        rest |= {name: each for name, each in value.items() if name not in _HEAD}
    times = chat.get("timestamp") if chat is value else None
    head = {
        "id": value.get("id"),
        "user": value.get("user_id"),
        "title": value.get("title") or chat.get("title"),
        "created_at": value.get("created_at") or times,
        "updated_at": value.get("updated_at") or times,
        "metadata": {"source": "open-webui", **set_fields(rest)},
    }
    return Conversation(head, messages, places, message)


def message(raw: Any) -> list[Fields]:
    """Return the fields of the Messages for a message.

    Raises:
        InvalidContent: the message is not valid; the error begins with the name of the field.
    """
    found: list[Fields] = []
    output = require_object(raw, "the message").get("output")
    if isinstance(output, list) and output and raw.get("role") == "assistant":
        # The steps of the answer; "content" has the same as text with HTML in it.
        for index, item in enumerate(output):
            item = {name: each for name, each in require_object(item, f"output[{index}]").items() if name != "id"}
            found.append(responses.message(item))
    elif raw.get("content") not in (None, "", []):
        found = chat.messages({"role": raw.get("role"), "content": raw["content"]})
    else:
        chat.messages({"role": raw.get("role"), "content": None})  # raises if the role is not valid
    files = raw.get("files") or []
    if not isinstance(files, list):
        raise wrong_type("files", "a list", files)
    if parts := [file_part("open_webui", each)[1] for each in files]:
        if found and found[0].get("type", MessageType.MESSAGE) == MessageType.MESSAGE:
            found[0]["content"] = [*(found[0]["content"] or []), *parts]
        else:
            found[:0] = chat.messages({"role": raw["role"], "content": None})
            found[0]["content"] = parts
    if not found:
        return []
    rest = set_fields({name: each for name, each in raw.items() if name not in _USED})
    with_metadata(found, set_fields({"timestamp": raw.get("timestamp"), "open_webui": rest}))
    if raw.get("done") is False:
        found[-1]["status"] = RunStatus.Incomplete
    return found


def _with_id(id: str, message: Any) -> Any:
    """Return a message with its id in the tree, which it usually repeats."""
    return {"id": id, "parentId": None, **message} if isinstance(message, dict) else message
