"""AgentScope's Msg as a message of ours, and back: exactly, where it was one, and else as it is best understood."""

# pyright: reportMissingImports=false
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agentscope.message import Msg

from agentstore.schemas import AudioContent, DataContent, ImageContent, Message, TextContent
from agentstore.schemas.memory import text_of
from agentstore.schemas.message import Content, MessageType

_KEY = "agentscope"
_CALLS = {MessageType.FUNCTION_CALL, MessageType.PLUGIN_CALL, MessageType.MCP_TOOL_CALL}
_OUTPUTS = {MessageType.FUNCTION_CALL_OUTPUT, MessageType.PLUGIN_CALL_OUTPUT, MessageType.MCP_TOOL_CALL_OUTPUT}


@dataclass
class Kept:
    """A Msg, the ids of the messages that it was kept in, and its marks."""

    msg: Msg
    row_ids: list[str]
    marks: list[str]


def to_message(msg: Msg, id: str) -> Message:
    """Return a Msg as a message with an id: its text is text, other blocks are data as they are."""
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
        id=id, role=role, content=parts, metadata={"name": name, "timestamp": _aware(timestamp), _KEY: fields}
    )


def from_messages(rows: list[Message], kept: Mapping[str, Any]) -> list[Kept]:
    """Return a session's messages as Msgs, without those that were deleted.

    The runtime's adapter makes several messages of one Msg, with its id in their metadata: they are one again.
    """
    deleted, marks = set(kept.get("deleted", ())), kept.get("marks", {})
    found: list[Kept] = []
    last: object = None
    for row in rows:
        if row.id in deleted:
            continue
        metadata = row.metadata or {}
        if _KEY in metadata:
            found.append(Kept(_as_it_was(row, metadata), [row.id], marks.get(row.id, [])))
            last = None
            continue
        of = metadata.get("original_id")
        if of is not None and of == last:
            found[-1].msg.content = [*found[-1].msg.get_content_blocks(), *_blocks(row)]
            found[-1].row_ids.append(row.id)
        else:
            found.append(Kept(_understood(row, metadata), [row.id], marks.get(row.id, [])))
        last = of
    return found


def _as_it_was(row: Message, metadata: dict[Any, Any]) -> Msg:
    fields = dict(metadata[_KEY])
    content: Any
    if fields.pop("is_text", False):
        content = text_of(row)
    else:
        content = [
            {"type": "text", "text": part.text} if isinstance(part, TextContent) else part.data
            for part in row.content or ()
            if isinstance(part, (TextContent, DataContent))
        ]
    return Msg.from_dict({**fields, "name": metadata["name"], "role": row.role, "content": content})


def _understood(row: Message, metadata: dict[Any, Any]) -> Msg:
    role = row.role if row.role in ("user", "assistant") else "assistant" if row.role is None else "system"
    kept = metadata.get("metadata")
    return Msg.from_dict(
        {
            "id": metadata.get("original_id") or row.id,
            "name": metadata.get("original_name") or metadata.get("name") or row.role or role,
            "role": role,
            "content": _blocks(row),
            "metadata": kept if isinstance(kept, dict) else None,
            "timestamp": metadata.get("timestamp"),
        }
    )


def _blocks(row: Message) -> list[dict[str, Any]]:
    """Return the content of the runtime's kinds of messages as blocks."""
    parts = row.content or ()
    if row.type in _CALLS or row.type in _OUTPUTS:
        # A call that was streamed is there in pieces, and whole in the last of them.
        data = [part.data for part in parts if isinstance(part, DataContent) and part.data is not None]
        call = {name: value for each in data for name, value in each.items() if value is not None}
        id, name = str(call.get("call_id", "")), str(call.get("name", ""))
        if row.type in _CALLS:
            given = _parsed(call.get("arguments"))
            return [{"type": "tool_use", "id": id, "name": name, "input": given if isinstance(given, dict) else {}}]
        output = _parsed(call.get("output", ""))
        is_blocks = isinstance(output, list) and all(isinstance(each, dict) and "type" in each for each in output)
        text = output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
        return [{"type": "tool_result", "id": id, "name": name, "output": output if is_blocks else text}]
    if row.type == MessageType.REASONING:
        return [{"type": "thinking", "thinking": text_of(row)}]
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
    if value.startswith("data:"):
        kind, _, data = value.removeprefix("data:").partition(";base64,")
        return {"type": "base64", "media_type": kind or media_type, "data": data}
    if "://" in value[:20]:
        return {"type": "url", "url": value}
    return {"type": "base64", "media_type": media_type, "data": value}


def _parsed(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def _aware(timestamp: Any) -> Any:
    """Return when a Msg says that it was made, which is this machine's time, with its zone."""
    try:
        return datetime.fromisoformat(timestamp).astimezone().isoformat()
    except (TypeError, ValueError):
        return timestamp
