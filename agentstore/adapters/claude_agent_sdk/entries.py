"""Convert the entries of a transcript to Messages, and back without loss.

An entry is one line of the transcript that Claude Code writes. One of the type "user" or "assistant" is a message of
Anthropic's API in its field ``message``: its text, tool call or output becomes the content of a Message of that kind,
and the rest of the entry is stored in the metadata under :data:`KEY`, with null where a text was taken out. Any other
entry, such as a title or an attachment, is stored as data.
"""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from agentstore.errors import InvalidContent
from agentstore.exact_json import dumps, loads
from agentstore.schemas import ContentType, Message, MessageType, Role, RunStatus, StoredMessages
from agentstore.schemas.message import new_message_id
from agentstore.schemas.parts import data_part, text_part
from agentstore.schemas.payload import shortened

_log = logging.getLogger(__name__)

KEY = "claude_agent_sdk"
"""The metadata key of what belongs to this adapter.

In a Message: ``entry`` is the entry without its content, unless the entry is the data of the Message. In a session:
``summary`` is a list with the data of the SDK's summary. A list, since a patch of the metadata replaces it as a whole.
"""

Entry: TypeAlias = dict[str, Any]
_Part: TypeAlias = dict[str, Any]

# Fields of blocks that become the text of a part, by the type of the block.
_TEXTS = {"text": "text", "thinking": "thinking"}
_REASONING = ("thinking", "redacted_thinking")  # compared, since the type of a block may be a list, which has no hash
_UNTYPED = "entry"


def message_of(entry: Mapping[str, Any], position: int = 0) -> Message:
    """Return the Message for an entry. Its id is the ``uuid`` of the entry, or a new one.

    Raises:
        InvalidContent: the entry is not a dict; `position` is for the error message.
    """
    if not isinstance(entry, Mapping):
        raise InvalidContent(f"entry {position} must be a dict, got {shortened(entry)}")
    raw = dict(entry)
    fields = _fields_of_message(raw) or {
        "type": raw["type"] if isinstance(raw.get("type"), str) and raw["type"] else _UNTYPED,
        "role": Role.SYSTEM,
        "content": [data_part(raw)],
        "metadata": {KEY: {}},
    }
    if isinstance(raw.get("timestamp"), str):
        fields["metadata"]["timestamp"] = raw["timestamp"]
    fields["id"] = raw["uuid"] if has_uuid(raw) else new_message_id()
    return Message.model_validate({"status": RunStatus.Completed, **fields})


def has_uuid(entry: Mapping[str, Any]) -> bool:
    """Return whether an entry has a uuid, by which it is stored once."""
    return isinstance(entry.get("uuid"), str)


def entries_of(stored: StoredMessages) -> list[Entry]:
    """Return the entries of a transcript.

    What another program has appended is left out. So is a Message that it has changed so that no entry can be restored
    from it, which is logged.
    """
    found = []
    for position, message in enumerate(stored.dicts()):
        record = (message.get("metadata") or {}).get(KEY)
        if not isinstance(record, dict):
            continue
        try:
            found.append(_entry_of(record, message["content"]))
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            id, place = message.get("id"), position + 1
            _log.warning("Message %r, number %d of a transcript, is left out: it was changed", id, place)
    return found


def is_memorable(message: Message) -> bool:
    """Return whether a Message is text that the user or the model has written."""
    if message.type != MessageType.MESSAGE or not message.text:
        return False
    entry = (message.metadata or {})[KEY].get("entry") or {}
    return entry.get("type") in ("user", "assistant") and entry.get("isMeta") is not True


def _fields_of_message(raw: Entry) -> dict[str, Any] | None:
    """Return the fields of the Message for a message of the user or the model; None for any other entry."""
    message = raw.get("message")
    if raw.get("type") not in ("user", "assistant") or not isinstance(message, Mapping):
        return None
    role, content = message.get("role"), message.get("content")
    if role not in (Role.USER, Role.ASSISTANT):
        return None
    message_type: str = MessageType.MESSAGE
    rest: list[Any] | None
    if isinstance(content, str):
        parts, rest = [text_part(content)], None
    elif isinstance(content, Sequence) and content and all(isinstance(block, Mapping) for block in content):
        if len(content) == 1 and (call := _call(content[0])) is not None:
            message_type, part, block = call
            parts, rest = [part], [block]
        else:
            split = [_split(dict(block)) for block in content]
            parts, rest = [part for part, _ in split], [block for _, block in split]
            if all(block.get("type") in _REASONING for block in content):
                message_type = MessageType.REASONING
    else:
        return None
    entry = {**raw, "message": {**message, "content": rest}}
    role = Role.TOOL if message_type == MessageType.FUNCTION_CALL_OUTPUT else role
    # Without the usage, which Claude Code repeats in each entry of an answer: a sum over Messages would count it twice.
    return {"type": message_type, "role": role, "content": parts, "metadata": {KEY: {"entry": entry}}}


def _split(block: dict[str, Any]) -> tuple[_Part, dict[str, Any] | None]:
    """Return the part for a block, and the block without what the part has; None if the part has all of it."""
    name = _TEXTS.get(block.get("type", "")) if isinstance(block.get("type"), str) else None
    if name is not None and isinstance(block.get(name), str):
        return text_part(block[name]), {**block, name: None}
    source = block.get("source")
    if block.get("type") == "image" and isinstance(source, Mapping):
        kind, data = source.get("media_type"), source.get("data")
        if source.get("type") == "base64" and isinstance(kind, str) and isinstance(data, str) and "," not in kind:
            image = {"type": ContentType.IMAGE, "image_url": f"data:{kind};base64,{data}"}
            return image, {**block, "source": {**source, "data": None}}
    return data_part(block), None


def _call(block: Mapping[str, Any]) -> tuple[str, _Part, dict[str, Any]] | None:
    """Return the type of a Message that is a tool call or an output, its part, and the rest of the block; or None."""
    if block.get("type") == "tool_use" and "input" in block:
        data = {"call_id": block.get("id"), "name": block.get("name"), "arguments": dumps(block["input"])}
        return MessageType.FUNCTION_CALL, data_part(data), {**block, "input": None}
    if block.get("type") == "tool_result" and "content" in block:
        output = block["content"]
        is_text = isinstance(output, str)
        data = {"call_id": block.get("tool_use_id"), "output": output if is_text else dumps(output)}
        # True and False instead of null: whether the output is a string, or JSON.
        return MessageType.FUNCTION_CALL_OUTPUT, data_part(data), {**block, "content": is_text}
    return None


def _entry_of(record: Mapping[str, Any], content: Sequence[Mapping[str, Any]]) -> Entry:
    """Return the entry of a Message, of its record and its content."""
    if "entry" not in record:
        data = content[0]["data"]
        return dict(data)
    entry: Entry = dict(record["entry"])
    message = entry["message"] = dict(entry["message"])
    rest = message["content"]
    if rest is None:
        message["content"] = content[0]["text"]
    else:
        message["content"] = [_joined(block, part) for block, part in zip(rest, content, strict=True)]
    return entry


def _joined(block: Mapping[str, Any] | None, part: Mapping[str, Any]) -> dict[str, Any]:
    """Return the block that :func:`_split` or :func:`_call` has split."""
    if block is None:
        return dict(part["data"])
    kind = block["type"]
    if kind in _TEXTS:
        return {**block, _TEXTS[kind]: part["text"]}
    if kind == "image":
        return {**block, "source": {**block["source"], "data": part["image_url"].partition(",")[2]}}
    if kind == "tool_use":
        return {**block, "input": loads(part["data"]["arguments"])}
    output = part["data"]["output"]
    return {**block, "content": output if block["content"] is True else loads(output)}
