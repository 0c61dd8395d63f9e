"""Conversations of a ChatGPT export, as sessions of ours. Translation only.

A conversation is a tree there, since an answer can be made anew and a question be edited; what was seen last is the
path from the root to ``current_node``, and that is what is imported.
"""

from typing import Any

from agentstore.errors import InvalidContent
from agentstore.importing.fields import an_object, data_part, text_part
from agentstore.schemas import ContentType, MessageType, Role, RunStatus

_ROLES = {"system": Role.SYSTEM, "user": Role.USER, "assistant": Role.ASSISTANT, "tool": Role.TOOL}
_HEAD = {"mapping", "current_node", "title", "create_time", "update_time", "id", "conversation_id", "user", "user_id"}
# Of what OpenAI notes about a message the export of next month has more; this is what stays and means something.
_NOTES = ("model_slug", "attachments")


def path(conversation: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the messages from the root to ``current_node``.

    Raises:
        InvalidContent: the tree is broken.
    """
    mapping, current = an_object(conversation["mapping"], "mapping"), conversation.get("current_node")
    found: list[dict[str, Any]] = []
    passed: set[str] = set()
    while current is not None:
        node = mapping.get(current) if isinstance(current, str) else None
        if not isinstance(node, dict):
            raise InvalidContent(f"{'mapping' if passed else 'current_node'}: there is no node {current!r}")
        if current in passed:
            raise InvalidContent(f"mapping: node {current!r} is its own ancestor")
        passed.add(current)
        message = node.get("message")
        if message is not None:
            found.append(an_object(message, f"mapping.{current}.message"))
        current = node.get("parent")
    if not passed:
        raise InvalidContent("current_node: it is missing")
    found.reverse()
    return found


def metadata(conversation: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of a conversation beside its tree, its title and its times."""
    rest = {name: value for name, value in conversation.items() if name not in _HEAD and value not in (None, [], {})}
    return {"source": "chatgpt", **rest}


def message(raw: dict[str, Any]) -> dict[str, Any] | None:
    """Return the fields of a Message, without its id, or None if nothing is said in it, as in the tree's root.

    Raises:
        InvalidContent: it is none; the message begins with the name of the field.
    """
    author, content = an_object(raw.get("author"), "author"), an_object(raw.get("content"), "content")
    role = author.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise InvalidContent(f"author.role: {role!r} is none of {', '.join(_ROLES)}")
    parts, rest = _parts(content)
    if not parts and not rest:
        return None
    fields: dict[str, Any] = {"role": _ROLES[role], "status": RunStatus.Completed}
    name, recipient = author.get("name"), raw.get("recipient")
    text = _joined(parts)
    if content.get("content_type") in ("thoughts", "reasoning_recap"):
        fields["type"] = MessageType.REASONING
    elif role == "tool" and text is not None:
        fields["type"] = MessageType.FUNCTION_CALL_OUTPUT
        parts = [data_part({"call_id": None, "name": name, "output": text})]
    elif role == "assistant" and recipient not in (None, "all") and text is not None:
        fields["type"] = MessageType.FUNCTION_CALL
        parts = [data_part({"call_id": None, "name": recipient, "arguments": text})]
    notes = an_object(raw.get("metadata") or {}, "metadata")
    kept = {
        "author": name,
        "recipient": None if recipient == "all" else recipient,
        "channel": raw.get("channel"),
        "content": rest,
        **{each: notes.get(each) for each in _NOTES},
    }
    of_ours = {
        "timestamp": raw.get("create_time"),
        "chatgpt": {each: value for each, value in kept.items() if value not in (None, {}, [])},
    }
    return {**fields, "content": parts or None, "metadata": {each: value for each, value in of_ours.items() if value}}


def _parts(content: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the parts of a content, and what else it has."""

    def but(*names: str) -> dict[str, Any]:
        rest = {name: value for name, value in content.items() if name not in ("content_type", *names)}
        return {name: value for name, value in rest.items() if value not in (None, "", [], {})}

    if isinstance(listed := content.get("parts"), list):
        return [part for each in listed if (part := _part(each)) is not None], but("parts")
    if isinstance(thoughts := content.get("thoughts"), list):
        return [_thought(each) for each in thoughts], but("thoughts")
    said = [name for name in ("text", "result", "content") if isinstance(content.get(name), str)]
    if len(said) == 1:
        return [text_part(content[said[0]])] if content[said[0]] else [], but(said[0])
    return [data_part(content)], {}


def _part(part: Any) -> dict[str, Any] | None:
    if isinstance(part, str):
        return text_part(part) if part else None
    if not isinstance(part, dict):
        return None if part is None else data_part({"value": part})
    kind, pointer = part.get("content_type"), part.get("asset_pointer")
    if kind == "image_asset_pointer" and isinstance(pointer, str):
        return {**_rest(part), "type": ContentType.IMAGE, "image_url": pointer}
    if kind == "audio_asset_pointer" and isinstance(pointer, str):
        return {**_rest(part), "type": ContentType.FILE, "file_id": pointer}
    if kind == "audio_transcription" and isinstance(said := part.get("text"), str):
        return text_part(said)
    return data_part(part)


def _thought(thought: Any) -> dict[str, Any]:
    said = [thought.get(name) for name in ("summary", "content")] if isinstance(thought, dict) else [thought]
    if not all(isinstance(each, (str, type(None))) for each in said):
        return data_part({"thought": thought})
    return text_part("\n".join(filter(None, said)))


def _rest(part: dict[str, Any]) -> dict[str, Any]:
    own = ("content_type", "asset_pointer", "type", "object", "error", "status", "index", "delta")
    return {name: value for name, value in part.items() if name not in own and value is not None}


def _joined(parts: list[dict[str, Any]]) -> str | None:
    """The text of parts that are all text."""
    if not parts or any(part["type"] != ContentType.TEXT for part in parts):
        return None
    return "\n".join(part["text"] for part in parts)
