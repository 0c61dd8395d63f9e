"""Convert conversations that LibreChat exported as JSON.

The messages form a tree, since questions can be edited and answers regenerated. They are exported nested, or as a list,
or only those that were displayed.
"""

from typing import Any

from agentstore.importing.conversation import (
    Conversation,
    Fields,
    Part,
    branch,
    call_part,
    file_part,
    group,
    numbered,
    output_part,
    set_fields,
)
from agentstore.importing.notes import Notes
from agentstore.schemas import ContentType, MessageType, Role, RunStatus
from agentstore.schemas.parts import data_part, quote, require_object, text_part, wrong_type

# "exportAt" has the time of the export, which is another one in each.
_HEAD = {
    *("conversationId", "title", "createdAt", "updatedAt", "exportAt"),
    *("messages", "messagesTree", "branches", "recursive"),
}
_USED = {
    *("messageId", "parentMessageId", "conversationId", "text", "content", "isCreatedByUser", "createdAt", "updatedAt"),
    *("children", "files", "attachments", "unfinished", "user", "_id", "__v"),
}


def is_conversation(value: dict[str, Any]) -> bool:
    """Return whether a value is an exported conversation."""
    if "messagesTree" in value:
        return True
    messages = value.get("messages")
    if "conversationId" not in value or not isinstance(messages, list):
        return False
    return not messages or any(isinstance(each, dict) and "messageId" in each for each in messages)


def conversation(value: dict[str, Any], notes: Notes) -> Conversation:
    """Return an exported conversation.

    Raises:
        InvalidContent: it has no list of messages.
    """
    where = "messagesTree" if "messagesTree" in value else "messages"
    listed = value[where]
    if not isinstance(listed, list):
        raise wrong_type(where, "a list", listed)
    listed, places = _flatten(listed, where)
    messages, places = branch(listed, places, notes, id_field="messageId", parent_field="parentMessageId")
    rest = {name: each for name, each in value.items() if name not in _HEAD}
    head = {
        "id": value.get("conversationId"),
        "title": value.get("title"),
        "created_at": value.get("createdAt"),
        "updated_at": value.get("updatedAt"),
        "metadata": {"source": "librechat", **set_fields(rest)},
    }
    return Conversation(head, messages, places, message, "messageId")


def _flatten(tree: list[Any], where: str) -> tuple[list[Any], list[str]]:
    """Return the messages of a tree, each before its children, and their places."""
    found, places = [], []
    waiting = [(each, place, None) for each, place in zip(tree, numbered(where, tree), strict=True)][::-1]
    while waiting:
        each, place, parent = waiting.pop()
        found.append({**each, "parentMessageId": parent} if isinstance(each, dict) and parent is not None else each)
        places.append(place)
        children = each.get("children") if isinstance(each, dict) else None
        if isinstance(children, list):
            # Without the place of its parent, which would be as long as the conversation.
            name = f"children of {quote(each.get('messageId'))}"
            named = zip(children, numbered(name, children), strict=True)
            waiting += [(child, place, each.get("messageId")) for child, place in named][::-1]
    return found, places


def message(raw: Any) -> list[Fields]:
    """Return the fields of the Messages for a message.

    Raises:
        InvalidContent: the message is not valid; the error begins with the name of the field.
    """
    role = _role(require_object(raw, "the message"))
    parts: list[Part] = []
    content, text = raw.get("content"), raw.get("text")
    if isinstance(content, list):
        parts = [part for each in content for part in _parts(each)]
    elif content is not None and not isinstance(content, str):
        raise wrong_type("content", "a list", content)
    if not parts:
        if text is not None and not isinstance(text, str):
            raise wrong_type("text", "a string", text)
        text = text or content
        parts = [(MessageType.MESSAGE, text_part(text))] if isinstance(text, str) and text else []
    for name in ("files", "attachments"):
        files = raw.get(name) or []
        if not isinstance(files, list):
            raise wrong_type(name, "a list", files)
        parts += [file_part("librechat", each) for each in files]
    rest = set_fields({name: each for name, each in raw.items() if name not in _USED})
    if rest.get("error") is False:
        del rest["error"]
    metadata = set_fields({"timestamp": raw.get("createdAt"), "librechat": rest})
    status = RunStatus.Incomplete if raw.get("unfinished") is True else None
    return group(parts, role, metadata, status=status)


def _role(raw: dict[str, Any]) -> str:
    by_user, sender = raw.get("isCreatedByUser"), raw.get("sender")
    if not isinstance(by_user, bool):
        if by_user is not None or not isinstance(sender, str) or not sender:
            raise wrong_type("isCreatedByUser", "a boolean", by_user)
        by_user = sender.lower() == "user"
    return Role.USER if by_user else Role.ASSISTANT


def _parts(part: Any) -> list[Part]:
    if not isinstance(part, dict):
        return [] if part is None else [(MessageType.MESSAGE, data_part({"value": part}))]
    part_type = part.get("type")
    if part_type in ("text", "think", "error"):
        text = part.get("text" if part_type == "error" else part_type)
        text = text.get("value") if isinstance(text, dict) else text
        if isinstance(text, str):
            kind = MessageType.REASONING if part_type == "think" else MessageType.MESSAGE
            return [(kind, text_part(text))] if text.strip() else []
    inner = part.get(part_type) if isinstance(part_type, str) else None
    if part_type == "tool_call" and isinstance(inner, dict):
        return _call(inner)
    if part_type == "image_file" and isinstance(inner, dict):
        return [file_part("librechat", {**inner, "type": "image"})]
    if part_type == "image_url":
        url = inner.get("url") if isinstance(inner, dict) else inner
        if isinstance(url, str):
            return [(MessageType.MESSAGE, {"type": ContentType.IMAGE, "image_url": url})]
    return [(MessageType.MESSAGE, data_part(part))]


def _call(call: dict[str, Any]) -> list[Part]:
    """Return the parts for a tool call and, if it has ended, for its output."""
    inner = call.get(call["type"]) if isinstance(call.get("type"), str) else None
    fields = inner if isinstance(inner, dict) else call
    name = fields.get("name") or (call["type"] if inner is not None else None)
    arguments = next((fields[each] for each in ("args", "arguments", "input") if each in fields), None)
    output = next((fields[each] for each in ("output", "outputs") if fields.get(each) not in (None, "", [])), None)
    used = ("id", "name", "args", "arguments", "input", "output", "outputs", "type", call.get("type"), "progress")
    rest = set_fields({each: value for each, value in {**call, **fields}.items() if each not in used})
    found = [call_part(call.get("id"), name, arguments, rest)]
    return found if output is None else [*found, output_part(call.get("id"), name, output)]
