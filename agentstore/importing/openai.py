"""Messages of OpenAI's chat completions, as Messages of ours. Translation only.

One of theirs can be several of ours: what a model reasoned, what it said, and each tool that it called.
"""

import json
from typing import Any

from agentstore.errors import InvalidContent
from agentstore.importing.fields import an_object, data_part, kind, text_part
from agentstore.schemas import ContentType, MessageType, Role, RunStatus

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
}
_SAYS = ("content", "refusal", "audio", "tool_calls", "function_call", "reasoning_content")
_KNOWN = {*_SAYS, "id", "role", "metadata", "time", "tool_call_id"}


def messages(raw: dict[str, Any], time: str | float | None = None) -> list[dict[str, Any]]:
    """Return the fields of the Messages that one of OpenAI's is, without ids; `time` is the conversation's.

    Raises:
        InvalidContent: it is none; the message begins with the name of the field.
    """
    role = raw.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise InvalidContent(f"role: {role!r} is none of {', '.join(_ROLES)}")
    if not any(name in raw for name in _SAYS):
        raise InvalidContent("content: it is missing")
    common: dict[str, Any] = {"role": _ROLES[role], "status": RunStatus.Completed}
    if metadata := _metadata(raw, role, time):
        common["metadata"] = metadata
    if role in ("tool", "function"):
        output: dict[str, Any] = {"call_id": raw.get("tool_call_id"), "output": _output(raw.get("content"))}
        if "name" in raw:
            output["name"] = raw["name"]
        return [{**common, "type": MessageType.FUNCTION_CALL_OUTPUT, "content": [data_part(output)]}]
    found = []
    if reasoning := raw.get("reasoning_content"):
        found.append({**common, "type": MessageType.REASONING, "content": [text_part(reasoning)]})
    calls = [{**common, "type": MessageType.FUNCTION_CALL, "content": [data_part(call)]} for call in _calls(raw)]
    content = _content(raw)
    if content and not (calls and content == [text_part("")]):
        found.append({**common, "content": content})
    found += calls
    return found or [{**common, "content": None}]


def _metadata(raw: dict[str, Any], role: str, time: str | float | None) -> dict[str, Any]:
    metadata = an_object(raw.get("metadata") or {}, "metadata")
    found = {name: value for name, value in raw.items() if name not in _KNOWN}
    if role in ("developer", "function"):
        found["role"] = role
    if (said := raw.get("time", time)) not in (None, ""):
        found.setdefault("timestamp", said)
    return {**found, **metadata}


def _content(raw: dict[str, Any]) -> list[dict[str, Any]]:
    content = raw.get("content")
    if content is None:
        parts = []
    elif isinstance(content, str):
        parts = [text_part(content)]
    elif isinstance(content, list):
        parts = [_part(part, f"content[{index}]") for index, part in enumerate(content)]
    else:
        raise InvalidContent(f"content: it is {kind(content)}, and not a string, a list or null")
    if (refusal := raw.get("refusal")) is not None:
        parts.append({"type": ContentType.REFUSAL, "refusal": refusal})
    if (audio := raw.get("audio")) is not None:
        parts.append({**an_object(audio, "audio"), "type": ContentType.AUDIO})
    return parts


def _part(part: Any, where: str) -> dict[str, Any]:
    if isinstance(part, str):
        return text_part(part)
    of = an_object(part, where).get("type")
    if not isinstance(of, str):
        raise InvalidContent(f"{where}.type: it is {kind(of)} and not a string")
    if of in ("text", "refusal"):
        return dict(part)
    if of == "image_url":
        image = part.get("image_url")
        image = {"url": image} if isinstance(image, str) else dict(an_object(image, f"{where}.image_url"))
        url = image.pop("url", None)
        return {**image, "type": ContentType.IMAGE, "image_url": url}
    if of == "input_audio":
        return {**an_object(part.get("input_audio"), f"{where}.input_audio"), "type": ContentType.AUDIO}
    if of == "file":
        return {**an_object(part.get("file"), f"{where}.file"), "type": ContentType.FILE}
    return data_part(part)


def _calls(raw: dict[str, Any]) -> list[dict[str, Any]]:
    calls = raw.get("tool_calls") or []
    if not isinstance(calls, list):
        raise InvalidContent(f"tool_calls: it is {kind(calls)} and not a list")
    found = [_call(call, f"tool_calls[{index}]") for index, call in enumerate(calls)]
    if (function := raw.get("function_call")) is not None:
        found.append({"call_id": None, **_function(function, "function_call")})
    return found


def _call(call: Any, where: str) -> dict[str, Any]:
    call_id = an_object(call, where).get("id")
    if "function" in call:
        return {"call_id": call_id, **_function(call["function"], f"{where}.function")}
    if "custom" in call:
        custom = an_object(call["custom"], f"{where}.custom")
        return {"call_id": call_id, "name": custom.get("name"), "arguments": custom.get("input"), "type": "custom"}
    raise InvalidContent(f"{where}: it names no function")


def _function(function: Any, where: str) -> dict[str, Any]:
    arguments = an_object(function, where).get("arguments")
    if arguments is not None and not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {"name": function.get("name"), "arguments": arguments}


def _output(content: Any) -> str | None:
    """What a tool answered, as text: that of its text parts, or JSON where it is something else."""
    if content is None or isinstance(content, str):
        return content
    if isinstance(content, list) and all(isinstance(part, dict) and part.get("type") == "text" for part in content):
        return "".join(str(part.get("text")) for part in content)
    return json.dumps(content, ensure_ascii=False)
