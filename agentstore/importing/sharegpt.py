"""Convert conversations in the form that ShareGPT introduced, as data sets have them."""

import json
from typing import Any

from agentstore.errors import InvalidContent
from agentstore.importing.conversation import Conversation, Fields, call_part, group, numbered, output_part
from agentstore.importing.notes import Notes
from agentstore.schemas import MessageType, Role
from agentstore.schemas.openai import chat
from agentstore.schemas.parts import add_rest, quote, require_object, text_part, wrong_type

_ROLES = {
    "human": Role.USER,
    "user": Role.USER,
    "gpt": Role.ASSISTANT,
    "chatgpt": Role.ASSISTANT,
    "bing": Role.ASSISTANT,
    "bard": Role.ASSISTANT,
    "model": Role.ASSISTANT,
    "assistant": Role.ASSISTANT,
    "system": Role.SYSTEM,
}
_CALLS = ("function_call", "function-call", "tool_call")
_OUTPUTS = ("observation", "tool", "tool_response", "function_response", "function-response")


def is_conversation(value: dict[str, Any]) -> bool:
    """Return whether a value is a conversation of this form."""
    turns = value.get("conversations", value.get("conversation"))
    if "messages" in value or not isinstance(turns, list):
        return False
    return not turns or any(isinstance(each, dict) and ("from" in each or "role" in each) for each in turns)


def conversation(value: dict[str, Any], notes: Notes) -> Conversation:
    """Return a conversation; all of its other fields are its metadata."""
    name = "conversations" if isinstance(value.get("conversations"), list) else "conversation"
    head = {each: field for each, field in value.items() if each != name}
    return Conversation(head, value[name], numbered(name, value[name]), message, is_part=True)


def message(raw: Any) -> list[Fields]:
    """Return the fields of the Messages for a message.

    Raises:
        InvalidContent: the message is not valid; the error begins with the name of the field.
    """
    if "from" not in require_object(raw, "the message") and "role" in raw:
        return chat.messages(raw)
    sender, value = raw.get("from"), raw.get("value")
    known = (*_ROLES, *_CALLS, *_OUTPUTS)
    if not isinstance(sender, str) or sender not in known:
        raise InvalidContent(f"from: {quote(sender)} is not one of {', '.join(known)}")
    if not isinstance(value, str):
        raise wrong_type("value", "a string", value)
    rest = {name: each for name, each in raw.items() if name not in ("id", "from", "value", "metadata")}
    metadata = add_rest(require_object(raw.get("metadata") or {}, "metadata"), rest, "message")
    if not value:
        return []
    if sender in _CALLS:
        return group([_call(value)], Role.ASSISTANT, metadata)
    if sender in _OUTPUTS:
        return group([output_part(None, raw.get("name"), value)], Role.TOOL, metadata)
    return group([(MessageType.MESSAGE, text_part(value))], _ROLES[sender], metadata)


def _call(value: str) -> Any:
    """Return the part for a tool call, which is usually a JSON object with a name and arguments."""
    try:
        call = json.loads(value)
    except (ValueError, RecursionError):
        call = None
    if isinstance(call, dict) and isinstance(call.get("name"), str) and call.keys() <= {"name", "arguments"}:
        return call_part(None, call["name"], call.get("arguments"))
    return call_part(None, None, value)
