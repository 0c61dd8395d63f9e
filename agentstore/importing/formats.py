"""The formats of files: how a value of each is recognized and converted, and what an unknown value resembles."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agentstore.importing import claude, librechat, open_webui, openai_logs, sharegpt, sillytavern
from agentstore.importing.conversation import Conversation
from agentstore.importing.notes import Notes
from agentstore.schemas.parts import quote

Matches = Callable[[dict[str, Any]], bool]
Convert = Callable[[dict[str, Any], Notes], Conversation]


@dataclass(frozen=True, slots=True)
class Format:
    """A format of JSON objects, each of which is a conversation or a part of one."""

    name: str
    summary: str
    """What a value is, for example "a conversation of a ChatGPT export"."""
    shape: str
    """The fields by which a value is recognized, as documentation."""
    matches: Matches
    convert: Convert | None
    """Returns the conversation. A message that it leaves out is noted; it raises InvalidContent if there is no
    conversation at all. None if :mod:`agentstore.importing.translate` converts the format by itself."""
    required: tuple[tuple[str, ...], ...] = ()
    """The fields that every value has; of each tuple, one."""
    typical: tuple[str, ...] = ()
    """Fields that most values have, and few of other formats."""


def _has(name: str, kind: type = object) -> Matches:
    return lambda value: name in value and isinstance(value[name], kind)


FORMATS = (
    Format(
        "agentstore",
        "a session that `agentstore sessions export` wrote",
        '{"object": "session", ...}',
        lambda value: value.get("object") == "session",
        None,
    ),
    Format(
        "chatgpt",
        "a conversation of a ChatGPT export",
        '{"mapping": {...}, "current_node": ...}',
        _has("mapping"),
        None,
        (("mapping",),),
        ("conversation_id", "create_time", "update_time", "current_node", "moderation_results", "gizmo_id"),
    ),
    Format(
        "claude",
        "a conversation of Claude's export",
        '{"uuid": ..., "chat_messages": [...]}',
        _has("chat_messages"),
        claude.conversation,
        (("chat_messages",),),
        ("uuid", "name", "summary", "account", "created_at", "updated_at", "project_uuid"),
    ),
    Format(
        "open-webui",
        "a chat of Open WebUI's export",
        '{"chat": {"history": {"messages": {...}, "currentId": ...}}, ...}',
        open_webui.is_chat,
        open_webui.conversation,
        (("chat",),),
        ("user_id", "share_id", "archived", "pinned", "folder_id", "meta"),
    ),
    Format(
        "librechat",
        "a conversation that LibreChat exported",
        '{"conversationId": ..., "messages": [{"messageId": ..., ...}]}, or "messagesTree"',
        librechat.is_conversation,
        librechat.conversation,
        (("messages", "messagesTree"),),
        ("conversationId", "endpoint", "exportAt", "branches", "recursive", "options"),
    ),
    Format(
        "sharegpt",
        "a conversation in ShareGPT's form",
        '{"conversations": [{"from": "human", "value": ...}, ...]}',
        sharegpt.is_conversation,
        sharegpt.conversation,
        (("conversations",),),
    ),
    Format(
        "openai-batch",
        "a line of the input or of the output of OpenAI's Batch API",
        '{"custom_id": ..., "body": {...}}, and {"custom_id": ..., "response": {...}}',
        lambda value: openai_logs.is_batch_request(value) or openai_logs.is_batch_output(value),
        None,
        (("body", "response"),),
        ("custom_id", "method", "url"),
    ),
    Format(
        "chat",
        "a conversation with messages of OpenAI's chat completions or AgentScope Runtime; or a log of such requests",
        '{"messages": [...]}, with the reply in "choices" or "response" if it is a log',
        _has("messages"),
        openai_logs.conversation,
        (("messages",),),
        ("model", "choices", "temperature", "tools", "max_tokens", "stream", "usage"),
    ),
    Format(
        "message",
        "a message of OpenAI's chat completions or AgentScope Runtime by itself; those of a file form one session",
        '{"role": ..., "content": ...}',
        lambda value: "role" in value or value.get("object") == "message",
        None,
        (("role",),),
        ("content", "tool_calls", "tool_call_id", "sequence_number"),
    ),
    Format(
        "openai-responses",
        "a log of OpenAI's Responses API, or of chat completions",
        '{"input": ..., "output": [...]}, or {"request": {...}, "response": {...}}',
        openai_logs.is_log,
        openai_logs.conversation,
        (("input", "request"),),
        ("output", "previous_response_id", "instructions", "max_output_tokens", "parallel_tool_calls", "text"),
    ),
    Format(
        "sillytavern",
        "a line of a chat of SillyTavern",
        '{"user_name": ..., "character_name": ..., ...}, then {"name": ..., "is_user": ..., "mes": ...} on each line',
        sillytavern.is_line,
        sillytavern.conversation,
        (("mes", "chat_metadata"),),
        ("is_user", "is_system", "send_date", "swipes", "user_name", "character_name", "create_date"),
    ),
)
"""In the order in which they are tried."""
LISTED = (
    *((each.name, each.summary, each.shape) for each in FORMATS),
    ("messages", "a conversation that is only a list of messages", '[{"role": ..., "content": ...}, ...] on a line'),
)
"""Name, summary and shape of each format, for people."""


def find_format(value: Any) -> Format | None:
    """Return the format of a JSON value, or None if it is none of these."""
    if not isinstance(value, dict):
        return None
    return next((each for each in FORMATS if each.matches(value)), None)


def describe_unknown(value: dict[str, Any]) -> str:
    """Return why an object has none of the formats: the one that it resembles, and what is missing."""
    keys = ", ".join(map(quote, list(value)[:5]))
    found = f"the keys {keys}{', ...' if len(value) > 5 else ''}" if keys else "no keys"
    nearest = max(FORMATS, key=lambda each: sum(name in value for name in each.typical))
    if sum(name in value for name in nearest.typical) < 2:
        return f"not a known format (see agentstore import --list-formats): an object with {found}"
    missing = [each for each in nearest.required if not any(name in value for name in each)]
    names = " and ".join(" or ".join(f'"{name}"' for name in each) for each in missing)
    expected = f"{names} is missing" if names else f"expected {nearest.shape}"
    return f"looks like {nearest.summary.partition(';')[0]}, but {expected}; it is an object with {found}"
