"""Convert messages of OpenAI's chat completions to Messages, and back.

A message can become several: the model's reasoning, its answer, and each tool call. Nothing is dropped: fields without
a counterpart become metadata.
"""

import re
from collections.abc import Sequence
from typing import Any

from agentstore.errors import InvalidContent
from agentstore.exact_json import dumps
from agentstore.schemas.message import (
    AudioContent,
    Content,
    ContentType,
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

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
}
_CONTENT_FIELDS = ("content", "refusal", "audio", "tool_calls", "function_call", "reasoning_content")
_NAMED_ROLES = ("system", "developer", "user", "assistant")
# Fields of the text parts of Responses items, which chat completions refuse.
_ITEM_FIELDS = {"annotations", "logprobs", "kind"}
_VALID_NAME = re.compile(r"[^\s<|\\/>]{1,64}")


def messages(raw: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the fields of the Messages for a message, without ids.

    Raises:
        InvalidContent: the message is not valid; the error begins with the name of the field.
    """
    role = raw.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise InvalidContent(f"role: {quote(role)} is not one of {', '.join(_ROLES)}")
    if not any(name in raw for name in _CONTENT_FIELDS):
        raise InvalidContent("content: missing")
    is_tool = role in ("tool", "function")
    used = {"id", "role", "metadata", "time", *(("content", "tool_call_id", "name") if is_tool else _CONTENT_FIELDS)}
    rest = {name: value for name, value in raw.items() if name not in used}
    if role in ("developer", "function"):
        rest["role"] = role
    if raw.get("time") not in (None, ""):
        rest = add_rest({"timestamp": raw["time"]}, rest, "message")
    given = require_object(raw.get("metadata") or {}, "metadata")
    metadata = add_rest(given, rest if "timestamp" in given else with_timestamp(rest), "message")
    common: dict[str, Any] = {"role": _ROLES[role], "status": RunStatus.Completed}
    if metadata:
        common["metadata"] = metadata
    if is_tool:
        output: dict[str, Any] = {"call_id": raw.get("tool_call_id"), "output": _output(raw.get("content"))}
        if "name" in raw:
            output["name"] = raw["name"]
        return [{**common, "type": MessageType.FUNCTION_CALL_OUTPUT, "content": [data_part(output)]}]
    found = []
    if (reasoning := raw.get("reasoning_content")) is not None:
        found.append({**common, "type": MessageType.REASONING, "content": [text_part(reasoning)]})
    calls = [{**common, "type": MessageType.FUNCTION_CALL, "content": [data_part(call)]} for call in _calls(raw)]
    content = _content(raw)
    if content and not (calls and content == [text_part("")]):
        found.append({**common, "content": content})
    found += calls
    return found or [{**common, "content": None}]


def _content(raw: dict[str, Any]) -> list[dict[str, Any]]:
    content = raw.get("content")
    if content is None:
        parts = []
    elif isinstance(content, str):
        parts = [text_part(content)]
    elif isinstance(content, list):
        parts = [_part(part, f"content[{index}]") for index, part in enumerate(content)]
    else:
        raise wrong_type("content", "a string, a list or null", content)
    if (refusal := raw.get("refusal")) is not None:
        parts.append({"type": ContentType.REFUSAL, "refusal": refusal})
    if (audio := raw.get("audio")) is not None:
        parts.append({**require_object(audio, "audio"), "type": ContentType.AUDIO})
    return parts


def _part(part: Any, where: str) -> dict[str, Any]:
    if isinstance(part, str):
        return text_part(part)
    part_type = require_object(part, where).get("type")
    if not isinstance(part_type, str):
        raise wrong_type(f"{where}.type", "a string", part_type)
    if part_type in ("text", "refusal"):
        return dict(part)
    inner = part.get(part_type)
    if part_type == "image_url":
        image = {"url": inner} if isinstance(inner, str) else dict(require_object(inner, f"{where}.{part_type}"))
        fields = {"type": ContentType.IMAGE, "image_url": image.pop("url", None)}
        return add_rest(add_rest(fields, image, part_type), _rest(part), "part")
    if part_type in ("input_audio", "file"):
        fields = {"type": ContentType.AUDIO if part_type == "input_audio" else ContentType.FILE}
        return add_rest(add_rest(fields, require_object(inner, f"{where}.{part_type}"), part_type), _rest(part), "part")
    return data_part(part)


def _rest(part: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name not in ("type", part["type"])}


def _calls(raw: dict[str, Any]) -> list[dict[str, Any]]:
    calls = raw.get("tool_calls") or []
    if not isinstance(calls, list):
        raise wrong_type("tool_calls", "a list", calls)
    found = [_call(call, f"tool_calls[{index}]") for index, call in enumerate(calls)]
    if (function := raw.get("function_call")) is not None:
        found.append(add_rest({"call_id": None}, _function(function, "function_call", "arguments"), "function"))
    return found


def _call(call: Any, where: str) -> dict[str, Any]:
    require_object(call, where)
    for call_type, arguments in (("function", "arguments"), ("custom", "input")):
        if call_type in call:
            function = _function(call[call_type], f"{where}.{call_type}", arguments)
            data = add_rest({"call_id": call.get("id")}, function, call_type)
            rest = {name: value for name, value in call.items() if name not in ("id", call_type)}
            if rest.get("type") == "function":
                del rest["type"]
            return add_rest(data, rest, "call")
    raise InvalidContent(f'{where}: expected a "function" or "custom" field')


def _function(function: Any, where: str, arguments_field: str) -> dict[str, Any]:
    arguments = require_object(function, where).get(arguments_field)
    if arguments is not None and not isinstance(arguments, str):
        arguments = dumps(arguments)
    rest = {name: value for name, value in function.items() if name not in ("name", arguments_field)}
    return add_rest({"name": function.get("name"), "arguments": arguments}, rest, "function")


def _output(content: Any) -> str | None:
    """Return the output of a tool as text: its text parts, or JSON if there are other parts."""
    if content is None or isinstance(content, str):
        return content
    if isinstance(content, list) and all(_is_plain_text(part) for part in content):
        return "".join(part["text"] for part in content)
    return dumps(content)


def _is_plain_text(part: Any) -> bool:
    return (
        isinstance(part, dict)
        and part.keys() == {"type", "text"}
        and part["type"] == "text"
        and isinstance(part["text"], str)
    )


def write(group: Sequence[Message], *, as_parts: bool = False) -> dict[str, Any]:
    """Return the message that consists of these Messages: of one, or of the model's reasoning, answer and tool calls.

    A content that is one text is written as a string, or with `as_parts` as a list of parts.
    """
    first = group[0]
    if is_output(first):
        return _write_output(first)
    role: str = first.role or "assistant"
    metadata = first.metadata or {}
    if role == "system" and metadata.get("role") == "developer":
        role = "developer"
    raw: dict[str, Any] = {"role": role, "content": None}
    name = metadata.get("name")
    if role in _NAMED_ROLES and isinstance(name, str) and _VALID_NAME.fullmatch(name):
        raw["name"] = name
    calls = []
    for message in group:
        if message.type == MessageType.REASONING:
            before = [raw["reasoning_content"]] if "reasoning_content" in raw else []
            raw["reasoning_content"] = "\n\n".join([*before, message.text])
        elif is_call(message):
            calls.append(tool_data(message))
        else:
            _write_content(raw, message, as_parts)
    if len(calls) == 1 and calls[0].get("call_id") is None:
        raw["function_call"] = _write_function(calls[0], "arguments")
    elif calls:
        raw["tool_calls"] = [_write_call(call) for call in calls]
    return raw


def _write_output(message: Message) -> dict[str, Any]:
    data = tool_data(message)
    content = as_text(data.get("output"), "")
    name = {"name": data["name"]} if data.get("name") is not None else {}
    if (message.metadata or {}).get("role") == "function":
        return {"role": "function", **name, "content": content}
    id = {"tool_call_id": data["call_id"]} if data.get("call_id") is not None else {}
    return {"role": "tool", **id, **name, "content": content}


def _write_content(raw: dict[str, Any], message: Message, as_parts: bool) -> None:
    parts = list(message.content or ())
    if not parts and message.message is not None:
        parts = [TextContent(text=message.message)]
    if raw["role"] == "assistant":
        if parts and isinstance(parts[-1], AudioContent):
            raw["audio"] = set_fields(parts[-1], "data", "format")
            raw["audio"].update(extra_fields(parts.pop()))
        if parts and isinstance(parts[-1], RefusalContent) and not extra_fields(parts[-1]):
            raw["refusal"] = parts.pop().model_dump()["refusal"]
    written = [_write_part(part, message.type) for part in parts]
    if len(written) == 1 and written[0].keys() == {"type", "text"} and not as_parts:
        raw["content"] = written[0]["text"]
    elif written:
        raw["content"] = written


def _write_part(part: Content, message_type: str) -> dict[str, Any]:
    extra = {name: value for name, value in extra_fields(part).items() if name not in _ITEM_FIELDS}
    if isinstance(part, TextContent):
        return {"type": "text", "text": part.text or "", **extra}
    if isinstance(part, RefusalContent):
        return {"type": "refusal", "refusal": part.refusal or "", **extra}
    if isinstance(part, ImageContent):
        detail = {"detail": extra.pop("detail")} if "detail" in extra else {}
        return {"type": "image_url", "image_url": {"url": part.image_url, **detail}, **extra}
    if isinstance(part, AudioContent):
        return {"type": "input_audio", "input_audio": set_fields(part, "data", "format"), **extra}
    if isinstance(part, FileContent):
        inner = set_fields(part, "file_id", "filename", "file_data", "file_url")
        return {"type": "file", "file": inner, **extra}
    return write_data(part, "text", message_type)


def _write_call(data: dict[str, Any]) -> dict[str, Any]:
    id = {"id": data["call_id"]} if data.get("call_id") is not None else {}
    if data.get("type") == "custom":
        return {**id, "type": "custom", "custom": _write_function(data, "input")}
    return {**id, "type": "function", "function": _write_function(data, "arguments")}


def _write_function(data: dict[str, Any], arguments_field: str) -> dict[str, Any]:
    return {"name": data.get("name"), arguments_field: as_text(data.get("arguments"), "{}")}
