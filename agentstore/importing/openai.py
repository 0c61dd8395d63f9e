"""Messages of OpenAI's chat completions, as Messages of ours. Translation only: nothing that is there is left out.

One of theirs can be several of ours: what a model reasoned, what it said, and each tool that it called.
"""

from typing import Any

from agentstore.errors import InvalidContent
from agentstore.exact_json import dumps
from agentstore.importing.fields import an_object, data_part, kind, text_part, with_rest
from agentstore.schemas import ContentType, MessageType, Role, RunStatus

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
}
_SAID = ("content", "refusal", "audio", "tool_calls", "function_call", "reasoning_content")


def messages(raw: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the fields of the Messages that one of OpenAI's is, without ids.

    Raises:
        InvalidContent: it is none; the message begins with the name of the field.
    """
    role = raw.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise InvalidContent(f"role: {role!r} is none of {', '.join(_ROLES)}")
    if not any(name in raw for name in _SAID):
        raise InvalidContent("content: it is missing")
    is_tool = role in ("tool", "function")
    used = {"id", "role", "metadata", "time", *(("content", "tool_call_id", "name") if is_tool else _SAID)}
    rest = {name: value for name, value in raw.items() if name not in used}
    if role in ("developer", "function"):
        rest["role"] = role
    if raw.get("time") not in (None, ""):
        rest = with_rest({"timestamp": raw["time"]}, rest, "message")
    metadata = with_rest(an_object(raw.get("metadata") or {}, "metadata"), rest, "message")
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
    inner = part.get(of)
    if of == "image_url":
        image = {"url": inner} if isinstance(inner, str) else dict(an_object(inner, f"{where}.{of}"))
        fields = {"type": ContentType.IMAGE, "image_url": image.pop("url", None)}
        return with_rest(with_rest(fields, image, of), _rest(part), "part")
    if of in ("input_audio", "file"):
        fields = {"type": ContentType.AUDIO if of == "input_audio" else ContentType.FILE}
        return with_rest(with_rest(fields, an_object(inner, f"{where}.{of}"), of), _rest(part), "part")
    return data_part(part)


def _rest(part: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name not in ("type", part["type"])}


def _calls(raw: dict[str, Any]) -> list[dict[str, Any]]:
    calls = raw.get("tool_calls") or []
    if not isinstance(calls, list):
        raise InvalidContent(f"tool_calls: it is {kind(calls)} and not a list")
    found = [_call(call, f"tool_calls[{index}]") for index, call in enumerate(calls)]
    if (function := raw.get("function_call")) is not None:
        found.append(with_rest({"call_id": None}, _function(function, "function_call", "arguments"), "function"))
    return found


def _call(call: Any, where: str) -> dict[str, Any]:
    an_object(call, where)
    for of, arguments in (("function", "arguments"), ("custom", "input")):
        if of in call:
            data = with_rest({"call_id": call.get("id")}, _function(call[of], f"{where}.{of}", arguments), of)
            rest = {name: value for name, value in call.items() if name not in ("id", of)}
            if rest.get("type") == "function":
                del rest["type"]
            return with_rest(data, rest, "call")
    raise InvalidContent(f"{where}: it names no function")


def _function(function: Any, where: str, name_of_arguments: str) -> dict[str, Any]:
    arguments = an_object(function, where).get(name_of_arguments)
    if arguments is not None and not isinstance(arguments, str):
        arguments = dumps(arguments)
    rest = {name: value for name, value in function.items() if name not in ("name", name_of_arguments)}
    return with_rest({"name": function.get("name"), "arguments": arguments}, rest, "function")


def _output(content: Any) -> str | None:
    """What a tool answered, as text: that of its text parts, or JSON where it is something else."""
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
