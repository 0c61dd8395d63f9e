"""Values that the contract suites share."""

import base64
import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from agentstore.schemas import Message, Role, TextContent

HOSTILE_IDS = (
    "", " ", "  ", "%", "_", "*", ":", "a:b", "a_b", "a b", "'", '"', "\\", "'; DROP TABLE users; --", "$1", "{}", "\n",
    "\u200b", "ü", "u\u0308", "密", "😀", "NULL", "null", "0", "A", "a", "x" * 512,
)  # fmt: skip
"""Valid ids that stores have confused with each other or choked on."""

EXACT_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 2**53 + 1, 2**63, 2**70, -(10**400), 0.1, -0.0, 1e308, 5e-324, 1.0, "", "\0", "a\0b", "\ud800",
    "\udfff x", "\u2028", "密 ü 😀", "\\u0000", [], {}, [[[]]], {"z": 1, "a": 2, "": None, "\0": "\ud800"},
    {"nested": [{"deep": [1, 2.0, "3", None, True]}]},
)  # fmt: skip
"""JSON values that must round-trip unchanged, including their types and the order of keys."""

NON_JSON_VALUES: tuple[Any, ...] = (
    math.nan, math.inf, -math.inf, b"bytes", {1, 2}, {1: "a"}, object(), UUID(int=1), datetime(2026, 1, 1, tzinfo=UTC),
    TextContent(text="an object"), "\ud83d\ude00",
)  # fmt: skip
"""Values that JSON cannot represent. The last one is a pair of surrogates, which would be read as one character."""

NOT_MESSAGES: tuple[tuple[dict[str, Any], str], ...] = (
    ({}, 'no "content"'),
    ({"role": "user"}, "got the keys 'role'"),
    ({"role": "user", "text": "hello"}, "has 'text'"),
    ({"role": "user", "content": None, "parts": ["hello"]}, "has 'parts'"),
    ({"from": "human", "value": "hello"}, "has 'value'"),
    ({"type": "message", "role": "user", "text": "hello"}, "has 'text'"),
    ({"type": "later", "role": "user"}, 'known "type"'),
    ({"messages": [{"role": "user", "content": "hello"}]}, "got the keys 'messages'"),
    ({"role": "assistant", "content": None, "tool_calls": [{"id": "c"}]}, "since it has 'tool_calls'"),
    ({"role": "assistant", "content": "hello", "tool_calls": [{"id": "c"}]}, "Message.from_openai"),
    ({"role": "assistant", "function_call": {"name": "f"}}, "Message.from_openai"),
    ({"role": "tool", "tool_call_id": "c", "content": "4"}, "Message.from_openai"),
    ({"role": "assistant", "content": None, "refusal": "no"}, "Message.from_openai"),
    ({"role": "developer", "content": "hello"}, "Message.from_openai"),
    ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}, "a part of type 'image_url'"),
    ({"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "input_audio"}]}, "Message.from_openai"),
    ({"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}, "Message.from_openai"),
    ({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"}]}, "Message.from_openai"),
    ({"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}, "Message.from_openai"),
    ({"type": "function_call_output", "call_id": "c", "output": "4"}, "Message.from_openai"),
    ({"type": "reasoning", "id": "rs_1", "summary": []}, "Message.from_openai"),
)
"""Dicts that look like messages and are none, each with a part of the error."""

_INVALID_KEYS: tuple[Any, ...] = (
    ["0001-01-01T00:00:00+14:00", "s"], ["9999-12-31T23:59:59-14:00", "s"], ["2026-01-01T00:00:00", "s"],
    ["2026-01-01T00:00:00+00:00", "\ud800"], ["2026-01-01T00:00:00+00:00", "\0"], ["2026-01-01T00:00:00+00:00", 7],
    ["2026-01-01T00:00:00+00:00"], ["a", "b"], [1, 2], {},
)  # fmt: skip
INVALID_CURSORS = [
    *(base64.urlsafe_b64encode(json.dumps(key).encode()).decode() for key in _INVALID_KEYS),
    base64.urlsafe_b64encode(b"[" * 100_000).decode(),
]
"""Well-encoded cursors that no list has returned."""

CLOCK_SKEW = timedelta(minutes=1)
"""By how much the clocks of the test and the service may differ."""


def text(words: str, **fields: Any) -> Message:
    """Return a user's message with one text; `fields` are other fields of the Message."""
    return Message(**{"role": Role.USER, "content": [TextContent(text=words)], **fields})


def nested(depth: int) -> dict[str, Any]:
    """Return a JSON object that is nested `depth` levels deep."""
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"x": value}
    return value
