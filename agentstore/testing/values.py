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
