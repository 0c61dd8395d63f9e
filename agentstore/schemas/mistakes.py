"""Recognize dicts that are not messages, whose fields would become the extra fields of an empty Message."""

from collections.abc import Mapping
from typing import Any

from agentstore.schemas.message import MessageType
from agentstore.schemas.openai.shared import ITEM_PARTS
from agentstore.schemas.parts import quote

_CONTENT = ("content", "error", "code", "message")
# Names under which others have the content of a message.
_MEANT_AS_CONTENT = ("text", "parts", "contents", "body", "value", "msg", "prompt", "answer", "response")
_OPENAI_FIELDS = frozenset(("tool_calls", "function_call", "tool_call_id", "refusal", "audio", "reasoning_content"))
# A tuple, since the type of a part may be a value that has no hash.
_OPENAI_PARTS = (*sorted(ITEM_PARTS), "image_url", "input_audio")
_TYPES = frozenset(MessageType)


def describe_mistake(fields: Mapping[str, Any]) -> str | None:
    """Return why a dict is not a message, as the end of a sentence about it, or None if it may be one.

    A dict that a Message was dumped to is one, whatever extra fields it has.
    """
    if fields.get("object") == "message":
        return None
    if (sign := _sign_of_openai(fields)) is not None:
        return f"is a message of OpenAI's, since it has {sign}: convert it with Message.from_openai"
    if not any(fields.get(name) is not None for name in _CONTENT):
        for name in _MEANT_AS_CONTENT:
            if fields.get(name) is not None:
                return f'has {quote(name)}, which no message has: expected it in "content", a string or a list of parts'
    if any(name in fields for name in _CONTENT) or (isinstance(type_ := fields.get("type"), str) and type_ in _TYPES):
        return None
    keys = ", ".join(map(quote, list(fields)[:5])) or "none"
    return f'has no "content", "error", "code", "message" or known "type", got the keys {keys}'


def _sign_of_openai(fields: Mapping[str, Any]) -> str | None:
    """Return what a message of chat completions or an item of the Responses API has, and no dict of a Message."""
    if not _OPENAI_FIELDS.isdisjoint(fields):
        for name in fields:
            if name in _OPENAI_FIELDS and fields[name] not in (None, [], {}):
                return quote(name)
    role, content = fields.get("role"), fields.get("content")
    if role == "developer" or role == "function":
        return f"the role {quote(role)}"
    for part in content if isinstance(content, (list, tuple)) else ():
        if isinstance(part, dict):
            type_ = part.get("type")
            if type_ in _OPENAI_PARTS or (type_ == "file" and isinstance(part.get("file"), dict)):
                return f"a part of type {quote(type_)}"
    if content is None and "content" not in fields:
        return next((quote(name) for name in ("call_id", "summary") if name in fields), None)
    return None
