"""Convert between AgentScope's Msg and agentstore's Message.

A Msg that was stored by this package round-trips unchanged. Messages from other writers, such as the runtime's adapter,
are converted as closely as possible.
"""

# pyright: reportMissingImports=false
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agentscope.message import Msg

from agentstore.schemas import AudioContent, DataContent, ImageContent, Message, TextContent
from agentstore.schemas.message import Content, MessageType, text_of

KEY = "agentscope"
"""The key in the metadata of messages and sessions under which this package stores its values."""

_CALLS = {MessageType.FUNCTION_CALL, MessageType.PLUGIN_CALL, MessageType.MCP_TOOL_CALL}
_OUTPUTS = {MessageType.FUNCTION_CALL_OUTPUT, MessageType.PLUGIN_CALL_OUTPUT, MessageType.MCP_TOOL_CALL_OUTPUT}


@dataclass
class StoredMsg:
    """A Msg, the ids of the messages that it is stored in, and its marks."""

    msg: Msg
    message_ids: list[str]
    marks: list[str]


def list_of_msgs(msgs: Any) -> list[Msg]:
    """Return a Msg, a list of them, or None as a list.

    Raises:
        TypeError: an item is not a Msg.
    """
    many = [] if msgs is None else [msgs] if isinstance(msgs, Msg) else msgs
    if not isinstance(many, list) or not all(isinstance(each, Msg) for each in many):
        raise TypeError(f"expected a Msg or a list of Msg objects, got {type(msgs).__name__}")
    return many


def to_message(msg: Msg, id: str) -> Message:
    """Convert a Msg to a message with this id: text becomes text content, every other block data content."""
    fields = dict(msg.to_dict())
    content = fields.pop("content")
    name, role, timestamp = fields.pop("name"), fields.pop("role"), fields.get("timestamp")
    if (invocation := getattr(msg, "invocation_id", None)) is not None:
        fields["invocation_id"] = invocation
    parts: list[Content]
    if isinstance(content, str):
        fields["is_text"] = True
        parts = [TextContent(text=content)]
    else:
        parts = [
            TextContent(text=block["text"])
            if block.get("type") == "text" and block.keys() == {"type", "text"} and isinstance(block["text"], str)
            else DataContent(data=dict(block))
            for block in content
        ]
    return Message(
        id=id, role=role, content=parts, metadata={"name": name, "timestamp": _with_zone(timestamp), KEY: fields}
    )


def from_messages(messages: list[Message], annotations: Mapping[str, Any]) -> list[StoredMsg]:
    """Convert a session's messages to Msgs, without deleted ones.

    The runtime's adapter stores one Msg as several messages, with the Msg's id in their metadata: they are merged.
    """
    deleted, marks = set(annotations.get("deleted", ())), annotations.get("marks", {})
    found: list[StoredMsg] = []
    last: object = None
    for message in messages:
        if message.id in deleted:
            continue
        metadata = message.metadata or {}
        if KEY in metadata:
            found.append(StoredMsg(_restore(message, metadata), [message.id], marks.get(message.id, [])))
            last = None
            continue
        original = metadata.get("original_id")
        if original is not None and original == last:
            found[-1].msg.content = [*found[-1].msg.get_content_blocks(), *_blocks(message)]
            found[-1].message_ids.append(message.id)
        else:
            found.append(StoredMsg(_convert(message, metadata), [message.id], marks.get(message.id, [])))
        last = original
    return found


def _restore(message: Message, metadata: dict[Any, Any]) -> Msg:
    """Return the Msg that was stored by `to_message`."""
    fields = dict(metadata[KEY])
    content: Any
    if fields.pop("is_text", False):
        content = text_of(message)
    else:
        content = [
            {"type": "text", "text": part.text} if isinstance(part, TextContent) else part.data
            for part in message.content or ()
            if isinstance(part, (TextContent, DataContent))
        ]
    return Msg.from_dict({**fields, "name": metadata["name"], "role": message.role, "content": content})


def _convert(message: Message, metadata: dict[Any, Any]) -> Msg:
    """Return a Msg for a message of another writer."""
    role = message.role if message.role in ("user", "assistant") else "assistant" if message.role is None else "system"
    inner = metadata.get("metadata")
    return Msg.from_dict(
        {
            "id": metadata.get("original_id") or message.id,
            "name": metadata.get("original_name") or metadata.get("name") or message.role or role,
            "role": role,
            "content": _blocks(message),
            "metadata": inner if isinstance(inner, dict) else None,
            "timestamp": metadata.get("timestamp"),
        }
    )


def _blocks(message: Message) -> list[dict[str, Any]]:
    """Convert the content of the runtime's message types to blocks."""
    parts = message.content or ()
    if message.type in _CALLS or message.type in _OUTPUTS:
        # A streamed call is stored in pieces, the last of which is complete.
        data = [part.data for part in parts if isinstance(part, DataContent) and part.data is not None]
        call = {name: value for each in data for name, value in each.items() if value is not None}
        id, name = str(call.get("call_id", "")), str(call.get("name", ""))
        if message.type in _CALLS:
            arguments = _parse(call.get("arguments"))
            if not isinstance(arguments, dict):
                arguments = {}
            return [{"type": "tool_use", "id": id, "name": name, "input": arguments}]
        output = _parse(call.get("output", ""))
        is_blocks = isinstance(output, list) and all(isinstance(each, dict) and "type" in each for each in output)
        text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
        return [{"type": "tool_result", "id": id, "name": name, "output": output if is_blocks else text}]
    if message.type == MessageType.REASONING:
        return [{"type": "thinking", "thinking": text_of(message)}]
    return [block for part in parts if (block := _block(part)) is not None]


def _block(part: Content) -> dict[str, Any] | None:
    if isinstance(part, TextContent):
        return {"type": "text", "text": part.text or ""}
    if isinstance(part, ImageContent) and part.image_url:
        return {"type": "image", "source": _source(part.image_url, "image/jpeg")}
    if isinstance(part, AudioContent) and part.data:
        return {"type": "audio", "source": _source(part.data, f"audio/{part.format or 'wav'}")}
    if isinstance(part, DataContent) and part.data is not None:
        return {"type": "text", "text": json.dumps(part.data, ensure_ascii=False)}
    text = getattr(part, "refusal", None) or getattr(part, "file_url", None) or getattr(part, "filename", None)
    return {"type": "text", "text": text} if text else None


def _source(value: str, media_type: str) -> dict[str, str]:
    """Return the source of a block from a data URL, a URL, or Base64; `media_type` is the default."""
    if value.startswith("data:"):
        kind, _, data = value.removeprefix("data:").partition(";base64,")
        return {"type": "base64", "media_type": kind or media_type, "data": data}
    if "://" in value[:20]:
        return {"type": "url", "url": value}
    return {"type": "base64", "media_type": media_type, "data": value}


def _parse(value: Any) -> Any:
    """Parse a string as JSON; return it unchanged if it is not JSON."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _with_zone(timestamp: Any) -> Any:
    """Add the local time zone to a Msg's timestamp, which is in local time; return an unparsable one unchanged."""
    try:
        return datetime.fromisoformat(timestamp).astimezone().isoformat()
    except (TypeError, ValueError):
        return timestamp
