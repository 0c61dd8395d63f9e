"""Convert items of OpenAI's Responses API, as openai-agents stores them, to Messages.

Nothing is dropped: fields without a counterpart become metadata, and an item of an unknown type becomes data.
"""

from typing import Any

from agentstore.errors import InvalidContent
from agentstore.exact_json import dumps
from agentstore.importing.fields import (
    add_rest,
    data_part,
    quote,
    require_object,
    text_part,
    with_timestamp,
    wrong_type,
)
from agentstore.schemas import ContentType, MessageType, Role, RunStatus

_ROLES = {"system": Role.SYSTEM, "developer": Role.SYSTEM, "user": Role.USER, "assistant": Role.ASSISTANT}
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
    if item_type == "function_call_output":
        output = raw.get("output")
        text = output if output is None or isinstance(output, str) else dumps(output)
        data = {"call_id": raw.get("call_id"), "output": text}
        return _fields(raw, {"call_id", "output"}, MessageType.FUNCTION_CALL_OUTPUT, Role.TOOL, [data])
    if item_type == "reasoning":
        return _reasoning(raw)
    role = Role.TOOL if item_type.endswith("_output") else Role.ASSISTANT
    return {"type": item_type, "role": role, "status": RunStatus.Completed, "content": [data_part(raw)]}


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
    return data_part(part)
