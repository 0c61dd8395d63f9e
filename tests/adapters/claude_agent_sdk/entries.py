"""Entries of the transcripts that Claude Code writes, by what they are, and what is stored of each.

Each has the type, the role and the text of its Message.
"""

from typing import Any

_HEAD: dict[str, Any] = {
    "isSidechain": False,
    "userType": "external",
    "cwd": "/srv/app",
    "sessionId": "722547eb-58b9-4a04-8575-538ffafdbcc9",
    "version": "2.1.332",
    "gitBranch": "HEAD",
    "timestamp": "2026-11-30T11:17:33.536Z",
}


def entry(number: int, role: str, content: Any, **fields: Any) -> dict[str, Any]:
    """Return an entry of a user or of the model, as Claude Code writes it."""
    message: dict[str, Any] = {"role": role, "content": content}
    if role == "assistant":
        message = {
            "id": f"msg_{number}",
            "type": "message",
            "role": role,
            "model": "claude-sonnet-4-5",
            "content": content,
            "stop_reason": None,
            "usage": {"input_tokens": 8, "output_tokens": 2, "service_tier": "standard"},
        }
    parent = f"00000000-0000-4000-8000-{number - 1:012}" if number else None
    uuid = f"00000000-0000-4000-8000-{number:012}"
    return {"parentUuid": parent, **_HEAD, "type": role, "message": message, "uuid": uuid, **fields}


_IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}

ENTRIES: dict[str, tuple[dict[str, Any], str, str, str]] = {
    "a prompt": (entry(1, "user", "Any rain in 杭州?"), "message", "user", "Any rain in 杭州?"),
    "a prompt in blocks": (
        entry(
            2, "user", [{"type": "text", "text": "See"}, _IMAGE, {"type": "text", "text": "this", "citations": None}]
        ),
        "message",
        "user",
        "See this",
    ),
    "an empty prompt": (entry(3, "user", ""), "message", "user", ""),
    "an answer": (entry(4, "assistant", [{"type": "text", "text": "A little."}]), "message", "assistant", "A little."),
    "thinking": (
        entry(5, "assistant", [{"type": "thinking", "thinking": "Look it up.", "signature": "EqQB"}]),
        "reasoning",
        "assistant",
        "Look it up.",
    ),
    "hidden thinking": (
        entry(6, "assistant", [{"type": "redacted_thinking", "data": "EmwK"}]),
        "reasoning",
        "assistant",
        "redacted_thinking EmwK",
    ),
    "a call": (
        entry(7, "assistant", [{"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "杭州"}}]),
        "function_call",
        "assistant",
        'toolu_1 weather {"city":"杭州"}',
    ),
    "a call without arguments": (
        entry(8, "assistant", [{"id": "toolu_2", "input": {}, "name": "date", "type": "tool_use"}]),
        "function_call",
        "assistant",
        "toolu_2 date {}",
    ),
    "an output": (
        entry(
            9,
            "user",
            [{"tool_use_id": "toolu_1", "type": "tool_result", "content": "3 mm", "is_error": False}],
            toolUseResult={"stdout": "3 mm", "interrupted": False},
        ),
        "function_call_output",
        "tool",
        "toolu_1 3 mm",
    ),
    "an output in blocks": (
        entry(10, "user", [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": "3 mm"}]}]),
        "function_call_output",
        "tool",
        't [{"type":"text","text":"3 mm"}]',
    ),
    "an output that is null": (
        entry(11, "user", [{"type": "tool_result", "tool_use_id": "t", "content": None}]),
        "function_call_output",
        "tool",
        "t null",
    ),
    "an output without content": (
        entry(12, "user", [{"type": "tool_result", "tool_use_id": "t"}]),
        "message",
        "user",
        "tool_result t",
    ),
    "several blocks": (
        entry(
            13,
            "assistant",
            [
                {"type": "thinking", "thinking": "Hm.", "signature": ""},
                {"type": "text", "text": "I ask."},
                {"type": "tool_use", "id": "toolu_3", "name": "weather", "input": {"days": 1.0}},
                {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "rain"}},
                {},
            ],
        ),
        "message",
        "assistant",
        "Hm. I ask. tool_use toolu_3 weather server_tool_use s web_search rain",
    ),
    "invalid blocks": (
        entry(14, "user", [{"type": "text", "text": None}, {"type": "text"}, {"type": ["text"]}, {"type": "image"}]),
        "message",
        "user",
        "text text text image",
    ),
    "a type that is a list": (entry(17, "user", [{"type": ["thinking"]}]), "message", "user", "thinking"),
    "an image by its URL": (
        entry(15, "user", [{"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}}]),
        "message",
        "user",
        "image url https://example.com/a.png",
    ),
    "a meta message": (
        entry(16, "user", "<local-command-caveat>", isMeta=True),
        "message",
        "user",
        "<local-command-caveat>",
    ),
}
"""Entries that are messages."""

_NOT_MESSAGES: list[dict[str, Any]] = [
    {"type": "summary", "summary": "Rain", "leafUuid": "00000000-0000-4000-8000-000000000004"},
    {"type": "custom-title", "customTitle": "Rain", "sessionId": "s"},
    {"type": "ai-title", "aiTitle": "Rain", "sessionId": "s"},
    {"type": "tag", "tag": "weather", "sessionId": "s"},
    {"type": "mode", "mode": "normal", "sessionId": "s"},
    {"type": "last-prompt", "lastPrompt": "Any rain?", "leafUuid": "e0a2cad4", "sessionId": "s"},
    {"type": "queue-operation", "operation": "enqueue", "timestamp": "2026-11-30T11:17:33.476Z", "content": "Rain?"},
    {"type": "agent_metadata", "agentType": "Explore", "toolUseId": "toolu_4"},
    {
        "type": "file-history-snapshot",
        "messageId": "m",
        "snapshot": {"trackedFileBackups": {}},
        "isSnapshotUpdate": False,
    },
    {"type": "system", "subtype": "compact_boundary", "content": "Conversation compacted", **_HEAD, "uuid": "c"},
    {"type": "attachment", "attachment": {"type": "date", "date": "2026-11-30"}, "uuid": "d", "timestamp": "never"},
    {"type": "message", "message": {"role": "user", "content": "of another type"}},
    {"type": "heartbeat"},
    {"type": "function_call", "name": "x", "arguments": "{}"},
    {"type": ""},
    {"type": 7, "uuid": 8, "timestamp": 9},
    {},
    {"type": "user", "message": "text"},
    {"type": "user", "message": {"role": "system", "content": "x"}},
    {"type": "user", "message": {"role": ["user"], "content": "x"}},
    {"type": "user", "message": {"role": "user"}},
    {"type": "user", "message": {"role": "user", "content": []}},
    {"type": "user", "message": {"role": "user", "content": ["x"]}},
    {"type": "x", "text": "\0 \ud800 😀", "integer": 10**30, "float": 1e300, "nested": {"": [None, [], {}, -0.0]}},
]
OTHER_ENTRIES: dict[str, dict[str, Any]] = {f"{n}: {each.get('type')}": each for n, each in enumerate(_NOT_MESSAGES)}
"""Entries that are stored as data."""

ALL = [each for each, *_ in ENTRIES.values()] + [*OTHER_ENTRIES.values()]
