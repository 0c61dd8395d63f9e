"""Convert conversations of Claude's export.

Its ``chat_messages`` form a tree if they name their parents, since questions can be edited and answers regenerated.
"""

from typing import Any

from agentstore.errors import InvalidContent
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
from agentstore.schemas import MessageType, Role
from agentstore.schemas.parts import data_part, quote, require_object, text_part, wrong_type

_ROLES = {"human": Role.USER, "assistant": Role.ASSISTANT}
_HEAD = {"uuid", "name", "created_at", "updated_at", "chat_messages", "account", "current_leaf_message_uuid"}
_USED = {"uuid", "text", "content", "sender", "created_at", "updated_at", "attachments", "files", "parent_message_uuid"}


def conversation(value: dict[str, Any], notes: Notes) -> Conversation:
    """Return a conversation of an export.

    Raises:
        InvalidContent: it has no list of messages.
    """
    listed = value["chat_messages"]
    if not isinstance(listed, list):
        raise wrong_type("chat_messages", "a list", listed)
    leaf = value.get("current_leaf_message_uuid")
    places = numbered("chat_messages", listed)
    messages, places = branch(listed, places, notes, id_field="uuid", parent_field="parent_message_uuid", leaf=leaf)
    rest = {name: each for name, each in value.items() if name not in _HEAD}
    head = {
        "id": value.get("uuid"),
        "title": value.get("name") or None,
        "created_at": value.get("created_at"),
        "updated_at": value.get("updated_at"),
        "metadata": {"source": "claude", **set_fields(rest)},
    }
    return Conversation(head, messages, places, message, "uuid")


def message(raw: Any) -> list[Fields]:
    """Return the fields of the Messages for a message.

    Raises:
        InvalidContent: the message is not valid; the error begins with the name of the field.
    """
    sender = require_object(raw, "the message").get("sender")
    if not isinstance(sender, str) or sender not in _ROLES:
        raise InvalidContent(f"sender: {quote(sender)} is not one of {', '.join(_ROLES)}")
    blocks = _list(raw, "content")
    parts = [part for each in blocks if (part := _part(each)) is not None]
    if not parts and isinstance(text := raw.get("text"), str) and text:
        parts = [(MessageType.MESSAGE, text_part(text))]
    parts += [_attachment(each) for each in _list(raw, "attachments")]
    parts += [file_part("claude", each) for each in _list(raw, "files")]
    rest = set_fields({name: each for name, each in raw.items() if name not in _USED})
    return group(parts, _ROLES[sender], set_fields({"timestamp": raw.get("created_at"), "claude": rest}))


def _list(raw: dict[str, Any], name: str) -> list[Any]:
    listed = raw.get(name)
    if listed is None:
        return []
    if isinstance(listed, str) and name == "content":
        return [{"type": "text", "text": listed}]
    if not isinstance(listed, list):
        raise wrong_type(name, "a list", listed)
    return listed


def _part(block: Any) -> Part | None:
    """Return the part for a block of a content, or None if it has no content."""
    if not isinstance(block, dict):
        return MessageType.MESSAGE, data_part({"value": block})
    block_type = block.get("type")
    rest = set_fields({name: each for name, each in block.items() if name != "type"})
    if block_type == "token_budget":
        return None
    if block_type == "text" and isinstance(block.get("text", ""), str):
        text = rest.pop("text", "")
        return (MessageType.MESSAGE, _with_rest(text, rest)) if text.strip() else None
    if block_type == "thinking" and isinstance(block.get("thinking"), str):
        text = rest.pop("thinking", "")
        return (MessageType.REASONING, _with_rest(text, rest)) if text.strip() or "summaries" in rest else None
    if block_type == "tool_use":
        return call_part(rest.pop("id", None), rest.pop("name", None), block.get("input"), _without(rest, "input"))
    if block_type == "tool_result":
        call_id, name = rest.pop("tool_use_id", None), rest.pop("name", None)
        return output_part(call_id, name, block.get("content"), _without(rest, "content"))
    return MessageType.MESSAGE, data_part(block)


def _attachment(attachment: Any) -> Part:
    """Return the part for a text that was attached or pasted; of other files only the name is in the export."""
    if isinstance(attachment, dict) and isinstance(text := attachment.get("extracted_content"), str) and text.strip():
        return MessageType.MESSAGE, _with_rest(text, set_fields(_without(attachment, "extracted_content")))
    return file_part("claude", attachment)


def _with_rest(text: str, rest: dict[str, Any]) -> dict[str, Any]:
    return {**text_part(text), "claude": rest} if rest else text_part(text)


def _without(fields: dict[str, Any], name: str) -> dict[str, Any]:
    return {each: value for each, value in fields.items() if each != name}
