"""Convert items of OpenAI's Responses API, which openai-agents stores too, to Messages, and back.

Nothing is dropped: fields without a counterpart become metadata, and an item of an unknown type becomes data.
"""

from collections.abc import Mapping
from typing import Any

from agentstore.errors import InvalidContent
from agentstore.exact_json import dumps
from agentstore.schemas.message import (
    AudioContent,
    Content,
    ContentType,
    DataContent,
    FileContent,
    ImageContent,
    Message,
    MessageType,
    RefusalContent,
    Role,
    RunStatus,
    TextContent,
)
from agentstore.schemas.openai.shared import (
    as_text,
    extra_fields,
    is_call,
    is_output,
    set_fields,
    tool_data,
    write_data,
)
from agentstore.schemas.parts import add_rest, data_part, quote, require_object, text_part, with_timestamp, wrong_type

_ROLES = {"system": Role.SYSTEM, "developer": Role.SYSTEM, "user": Role.USER, "assistant": Role.ASSISTANT}
_STATUSES = (RunStatus.InProgress, RunStatus.Completed, RunStatus.Incomplete)
# The type of a Message that stores an item without a type as data, such as a reference to another item.
_UNTYPED = "item"
_TEXT_TYPES = ("input_text", "output_text", "text", "summary_text", "reasoning_text")


def message(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of the Message for an item, without an id.

    Raises:
        InvalidContent: the item is not valid; the error begins with the name of the field.
    """
    item_type = raw.get("type", "message")
    if not isinstance(item_type, str):
        raise wrong_type("type", "a string", item_type)
    if item_type == "message":
        return _message(raw)
    if item_type == "function_call":
        data = {"call_id": raw.get("call_id"), "name": raw.get("name"), "arguments": raw.get("arguments")}
        return _fields(raw, {"call_id", "name", "arguments"}, MessageType.FUNCTION_CALL, Role.ASSISTANT, [data])
    if item_type == "custom_tool_call":
        data = {"call_id": raw.get("call_id"), "name": raw.get("name"), "arguments": raw.get("input"), "type": "custom"}
        return _fields(raw, {"call_id", "name", "input"}, MessageType.FUNCTION_CALL, Role.ASSISTANT, [data])
    if item_type in ("function_call_output", "custom_tool_call_output"):
        output = raw.get("output")
        text = output if output is None or isinstance(output, str) else dumps(output)
        data = {"call_id": raw.get("call_id"), "output": text}
        if item_type == "custom_tool_call_output":
            data["type"] = "custom"
        return _fields(raw, {"call_id", "output"}, MessageType.FUNCTION_CALL_OUTPUT, Role.TOOL, [data])
    if item_type == "reasoning":
        return _reasoning(raw)
    return opaque(raw)


def opaque(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of the Message that stores an item as data, without an id."""
    item_type, given = _type_of(raw), raw.get("role")
    default = Role.TOOL if item_type.endswith("_output") else Role.ASSISTANT
    role = _ROLES.get(given, default) if isinstance(given, str) else default
    return {"type": item_type, "role": role, "status": RunStatus.Completed, "content": [data_part(raw)]}


def _type_of(raw: Mapping[Any, Any]) -> str:
    item_type = raw.get("type")
    return item_type if isinstance(item_type, str) and item_type else _UNTYPED


def _message(raw: dict[str, Any]) -> dict[str, Any]:
    role = raw.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise InvalidContent(f"role: {quote(role)} is not one of {', '.join(_ROLES)}")
    used = {"role"} if _ROLES[role] == role else set()
    fields = _fields(raw, {"content", *used}, MessageType.MESSAGE, _ROLES[role], [])
    content = raw.get("content")
    if content is None:
        fields["content"] = None
    elif isinstance(content, str):
        fields["content"] = [text_part(content)]
    elif isinstance(content, list):
        fields["content"] = [_part(require_object(part, f"content[{index}]")) for index, part in enumerate(content)]
    else:
        raise wrong_type("content", "a string, a list or null", content)
    return fields


def _reasoning(raw: dict[str, Any]) -> dict[str, Any]:
    fields = _fields(raw, {"summary", "content"}, MessageType.REASONING, Role.ASSISTANT, [])
    for name in ("summary", "content"):
        parts = raw.get(name) or []
        if not isinstance(parts, list):
            raise wrong_type(name, "a list", parts)
        fields["content"] += [_part(require_object(part, f"{name}[{index}]")) for index, part in enumerate(parts)]
    return fields


def _fields(
    raw: dict[str, Any], used: set[str], message_type: str, role: str, data: list[dict[str, Any]]
) -> dict[str, Any]:
    rest = {name: value for name, value in raw.items() if name not in {"type", *used}}
    status = rest.pop("status", None) or RunStatus.Completed
    fields = {"type": message_type, "role": role, "status": status, "content": [data_part(each) for each in data]}
    return {**fields, "metadata": with_timestamp(rest)} if rest else fields


def _part(part: dict[str, Any]) -> dict[str, Any]:
    part_type = part.get("type")
    rest = {name: value for name, value in part.items() if name != "type"}
    if part_type in _TEXT_TYPES and isinstance(part.get("text"), str):
        # Distinguishes reasoning text from its summary; the other types follow from the role.
        kind = {"kind": part_type} if part_type == "reasoning_text" else {}
        return add_rest({**text_part(rest.pop("text")), **kind}, rest, "part")
    if part_type == "refusal":
        return {**rest, "type": ContentType.REFUSAL}
    if part_type == "input_image" and isinstance(part.get("image_url"), str):
        return add_rest({"type": ContentType.IMAGE, "image_url": rest.pop("image_url")}, rest, "part")
    if part_type == "input_file":
        return add_rest({"type": ContentType.FILE}, rest, "part")
    if part_type == "input_audio" and isinstance(part.get("input_audio"), dict):
        return add_rest(add_rest({"type": ContentType.AUDIO}, rest.pop("input_audio"), "input_audio"), rest, "part")
    return data_part(part)


def write(message: Message, *, as_parts: bool = False) -> dict[str, Any]:
    """Return the item for a Message.

    A content that is one text is written as a string, or with `as_parts` as a list of parts.
    """
    parts = message.content or []
    if len(parts) == 1 and isinstance(part := parts[0], DataContent) and _type_of(part.data or {}) == message.type:
        return dict(part.data or {})
    if message.type == MessageType.REASONING:
        return _write_reasoning(message)
    data = tool_data(message)
    custom = data.get("type") == "custom"
    if is_call(message):
        name, arguments = data.get("name"), as_text(data.get("arguments"), "" if custom else "{}")
        call = {"call_id": data.get("call_id"), "name": name, "input" if custom else "arguments": arguments}
        return {"type": "custom_tool_call" if custom else "function_call", **call, **_identity(message)}
    if is_output(message):
        output = {"call_id": data.get("call_id"), "output": as_text(data.get("output"), "")}
        return {"type": "custom_tool_call_output" if custom else "function_call_output", **output, **_identity(message)}
    role: str = "user" if message.role == "tool" else message.role or "assistant"
    if role == "system" and (message.metadata or {}).get("role") == "developer":
        role = "developer"
    raw: dict[str, Any] = {"type": "message"} if role == "assistant" else {}
    raw |= {"role": role, "content": message.message, **_identity(message)}
    text_type = "output_text" if role == "assistant" else "input_text"
    written = [_write_part(part, text_type, message.type) for part in parts]
    if len(written) == 1 and written[0].keys() == {"type", "text"} and not as_parts:
        raw["content"] = written[0]["text"]
    elif message.content is not None and (written or message.message is None):
        raw["content"] = written
    return raw


def _write_reasoning(message: Message) -> dict[str, Any]:
    raw: dict[str, Any] = {"type": "reasoning", **_identity(message), "summary": []}
    if (encrypted := (message.metadata or {}).get("encrypted_content")) is not None:
        raw["encrypted_content"] = encrypted
    for part in message.content or ():
        kind = extra_fields(part).get("kind")
        name, text_type = ("content", kind) if kind == "reasoning_text" else ("summary", "summary_text")
        raw.setdefault(name, []).append(_write_part(part, text_type, message.type))
    return raw


def _identity(message: Message) -> dict[str, Any]:
    """Return the id of an item that has one, and its status."""
    id = (message.metadata or {}).get("id")
    if not isinstance(id, str):
        return {}
    return {"id": id, "status": message.status} if message.status in _STATUSES else {"id": id}


def _write_part(part: Content, text_type: str, message_type: str) -> dict[str, Any]:
    extra = extra_fields(part)
    if isinstance(part, TextContent):
        if extra.get("kind") == text_type:
            del extra["kind"]
        return {"type": text_type, "text": part.text or "", **extra}
    if isinstance(part, RefusalContent):
        return {"type": "refusal", "refusal": part.refusal or "", **extra}
    if isinstance(part, ImageContent):
        return {"type": "input_image", "image_url": part.image_url, **extra}
    if isinstance(part, AudioContent):
        return {"type": "input_audio", "input_audio": set_fields(part, "data", "format"), **extra}
    if isinstance(part, FileContent):
        return {"type": "input_file", **set_fields(part, "file_id", "filename", "file_data", "file_url"), **extra}
    return write_data(part, text_type, message_type)
