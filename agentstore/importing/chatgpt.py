"""Convert conversations of a ChatGPT export.

A conversation is a tree, since questions can be edited and answers regenerated. The path from the root to
``current_node`` is what the user saw last; it is imported, the other branches are not.
"""

from typing import Any

from agentstore.errors import InvalidContent
from agentstore.importing.fields import data_part, quote, require_object, text_part
from agentstore.schemas import ContentType, MessageType, Role, RunStatus

_ROLES = {"system": Role.SYSTEM, "user": Role.USER, "assistant": Role.ASSISTANT, "tool": Role.TOOL}
_HEAD = {"mapping", "current_node", "title", "create_time", "update_time", "id", "conversation_id", "user", "user_id"}
# Message metadata that is the same in each export of a conversation; the rest changes from one export to the next.
_STABLE_METADATA = ("model_slug", "attachments")


def path(conversation: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the messages from the root to ``current_node``.

    Raises:
        InvalidContent: the tree is not valid.
    """
    mapping, current = require_object(conversation["mapping"], "mapping"), conversation.get("current_node")
    messages: list[dict[str, Any]] = []
    visited: set[str] = set()
    while current is not None:
        node = mapping.get(current) if isinstance(current, str) else None
        if not isinstance(node, dict):
            raise InvalidContent(f"{'mapping' if visited else 'current_node'}: there is no node {quote(current)}")
        if current in visited:
            raise InvalidContent(f"mapping: node {quote(current)} is its own ancestor")
        visited.add(current)
        message = node.get("message")
        if message is not None:
            messages.append(require_object(message, f"mapping.{current}.message"))
        current = node.get("parent")
    if not visited:
        raise InvalidContent("current_node: missing")
    messages.reverse()
    return messages


def metadata(conversation: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a conversation other than its tree, ids, title and times."""
    rest = {name: value for name, value in conversation.items() if name not in _HEAD and value not in (None, [], {})}
    return {"source": "chatgpt", **rest}


def message(raw: dict[str, Any]) -> dict[str, Any] | None:
    """Return the fields of a Message without its id, or None if the message is empty, such as that of the root.

    Raises:
        InvalidContent: the message is not valid; the error begins with the name of the field.
    """
    author, content = require_object(raw.get("author"), "author"), require_object(raw.get("content"), "content")
    role = author.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise InvalidContent(f"author.role: {quote(role)} is not one of {', '.join(_ROLES)}")
    parts, rest = _parts(content)
    if not parts and not rest:
        return None
    fields: dict[str, Any] = {"role": _ROLES[role], "status": RunStatus.Completed}
    name, recipient = author.get("name"), raw.get("recipient")
    text = _text(parts)
    if content.get("content_type") in ("thoughts", "reasoning_recap"):
        fields["type"] = MessageType.REASONING
    elif role == "tool" and text is not None:
        fields["type"] = MessageType.FUNCTION_CALL_OUTPUT
        parts = [data_part({"call_id": None, "name": name, "output": text})]
    elif role == "assistant" and recipient not in (None, "all") and text is not None:
        fields["type"] = MessageType.FUNCTION_CALL
        parts = [data_part({"call_id": None, "name": recipient, "arguments": text})]
    raw_metadata = require_object(raw.get("metadata") or {}, "metadata")
    details = {
        "author": name,
        "recipient": None if recipient == "all" else recipient,
        "channel": raw.get("channel"),
        "content": rest,
        **{each: raw_metadata.get(each) for each in _STABLE_METADATA},
    }
    found = {
        "timestamp": raw.get("create_time"),
        "chatgpt": {each: value for each, value in details.items() if value not in (None, {}, [])},
    }
    return {**fields, "content": parts or None, "metadata": {each: value for each, value in found.items() if value}}


def _parts(content: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the parts of a content, and its other fields."""

    def without(*names: str) -> dict[str, Any]:
        rest = {name: value for name, value in content.items() if name not in ("content_type", *names)}
        return {name: value for name, value in rest.items() if value not in (None, "", [], {})}

    if isinstance(listed := content.get("parts"), list):
        return [part for each in listed if (part := _part(each)) is not None], without("parts")
    if isinstance(thoughts := content.get("thoughts"), list):
        return [_thought(each) for each in thoughts], without("thoughts")
    texts = [name for name in ("text", "result", "content") if isinstance(content.get(name), str)]
    if len(texts) == 1:
        return [text_part(content[texts[0]])] if content[texts[0]] else [], without(texts[0])
    return [data_part(content)], {}


def _part(part: Any) -> dict[str, Any] | None:
    if isinstance(part, str):
        return text_part(part) if part else None
    if not isinstance(part, dict):
        return None if part is None else data_part({"value": part})
    content_type, pointer = part.get("content_type"), part.get("asset_pointer")
    if content_type == "image_asset_pointer" and isinstance(pointer, str):
        return {**_rest(part), "type": ContentType.IMAGE, "image_url": pointer}
    if content_type == "audio_asset_pointer" and isinstance(pointer, str):
        return {**_rest(part), "type": ContentType.FILE, "file_id": pointer}
    if content_type == "audio_transcription" and isinstance(text := part.get("text"), str):
        return text_part(text)
    return data_part(part)


def _thought(thought: Any) -> dict[str, Any]:
    texts = [thought.get(name) for name in ("summary", "content")] if isinstance(thought, dict) else [thought]
    if not all(isinstance(each, (str, type(None))) for each in texts):
        return data_part({"thought": thought})
    return text_part("\n".join(filter(None, texts)))


def _rest(part: dict[str, Any]) -> dict[str, Any]:
    reserved = ("content_type", "asset_pointer", "type", "object", "error", "status", "index", "delta")
    return {name: value for name, value in part.items() if name not in reserved and value is not None}


def _text(parts: list[dict[str, Any]]) -> str | None:
    """Return the text of parts that are all text, otherwise None."""
    if not parts or any(part["type"] != ContentType.TEXT for part in parts):
        return None
    return "\n".join(part["text"] for part in parts)
