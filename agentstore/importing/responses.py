"""Items of OpenAI's Responses API, as openai-agents keeps them, as Messages of ours. Translation only.

Nothing that is there is left out: what has no place of its own is metadata, and an item of another type is data.
"""

from typing import Any

from agentstore.errors import InvalidContent
from agentstore.exact_json import dumps
from agentstore.importing.fields import an_object, data_part, kind, text_part, with_rest
from agentstore.schemas import ContentType, MessageType, Role, RunStatus

_ROLES = {"system": Role.SYSTEM, "developer": Role.SYSTEM, "user": Role.USER, "assistant": Role.ASSISTANT}
_TEXTS = ("input_text", "output_text", "text", "summary_text", "reasoning_text")


def message(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of the Message that an item is, without an id.

    Raises:
        InvalidContent: it is none; the message begins with the name of the field.
    """
    of = raw.get("type", "message")
    if not isinstance(of, str):
        raise InvalidContent(f"type: it is {kind(of)} and not a string")
    if of == "message":
        return _said(raw)
    if of == "function_call":
        data = {"call_id": raw.get("call_id"), "name": raw.get("name"), "arguments": raw.get("arguments")}
        return _fields(raw, {"call_id", "name", "arguments"}, MessageType.FUNCTION_CALL, Role.ASSISTANT, [data])
    if of == "function_call_output":
        output = raw.get("output")
        text = output if output is None or isinstance(output, str) else dumps(output)
        data = {"call_id": raw.get("call_id"), "output": text}
        return _fields(raw, {"call_id", "output"}, MessageType.FUNCTION_CALL_OUTPUT, Role.TOOL, [data])
    if of == "reasoning":
        return _reasoned(raw)
    role = Role.TOOL if of.endswith("_output") else Role.ASSISTANT
    return {"type": of, "role": role, "status": RunStatus.Completed, "content": [data_part(raw)]}


def _said(raw: dict[str, Any]) -> dict[str, Any]:
    role = raw.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise InvalidContent(f"role: {role!r} is none of {', '.join(_ROLES)}")
    used = {"role"} if _ROLES[role] == role else set()
    fields = _fields(raw, {"content", *used}, MessageType.MESSAGE, _ROLES[role], [])
    content = raw.get("content")
    if content is None:
        fields["content"] = None
    elif isinstance(content, str):
        fields["content"] = [text_part(content)]
    elif isinstance(content, list):
        fields["content"] = [_part(an_object(part, f"content[{index}]")) for index, part in enumerate(content)]
    else:
        raise InvalidContent(f"content: it is {kind(content)}, and not a string, a list or null")
    return fields


def _reasoned(raw: dict[str, Any]) -> dict[str, Any]:
    fields = _fields(raw, {"summary", "content"}, MessageType.REASONING, Role.ASSISTANT, [])
    for name in ("summary", "content"):
        parts = raw.get(name) or []
        if not isinstance(parts, list):
            raise InvalidContent(f"{name}: it is {kind(parts)} and not a list")
        fields["content"] += [_part(an_object(part, f"{name}[{index}]")) for index, part in enumerate(parts)]
    return fields


def _fields(raw: dict[str, Any], used: set[str], of: str, role: str, data: list[dict[str, Any]]) -> dict[str, Any]:
    rest = {name: value for name, value in raw.items() if name not in {"type", *used}}
    status = rest.pop("status", None) or RunStatus.Completed
    fields = {"type": of, "role": role, "status": status, "content": [data_part(each) for each in data]}
    return {**fields, "metadata": rest} if rest else fields


def _part(part: dict[str, Any]) -> dict[str, Any]:
    of = part.get("type")
    rest = {name: value for name, value in part.items() if name != "type"}
    if of in _TEXTS and isinstance(part.get("text"), str):
        # What tells a text of the reasoning from its summary; the others follow from the role.
        kept = {"kind": of} if of == "reasoning_text" else {}
        return with_rest({**text_part(rest.pop("text")), **kept}, rest, "part")
    if of == "refusal":
        return {**rest, "type": ContentType.REFUSAL}
    if of == "input_image" and isinstance(part.get("image_url"), str):
        return with_rest({"type": ContentType.IMAGE, "image_url": rest.pop("image_url")}, rest, "part")
    if of == "input_file":
        return with_rest({"type": ContentType.FILE}, rest, "part")
    return data_part(part)
