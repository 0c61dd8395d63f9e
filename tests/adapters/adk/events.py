"""Events of google-adk, with the Message that each becomes."""

# pyright: reportMissingImports=false
from typing import Any

_STATE: dict[str, Any] = {"a": None, "b": {"c": [None, 1.5, 2**70, "\x00"]}, "app:c": 1, "user:d": [], "": 0}
_EVERY_FIELD: dict[str, Any] = {
    "model_version": "m-1",
    "grounding_metadata": {"web_search_queries": ["rain"], "search_entry_point": {"sdk_blob": "__4="}},
    "partial": False,
    "turn_complete": True,
    "turn_complete_reason": "MALFORMED_FUNCTION_CALL",
    "interaction_status": "IDLE",
    "finish_reason": "STOP",
    "error_code": "E",
    "error_message": "an error",
    "interrupted": True,
    "custom_metadata": {"a": None, "b": {"c": []}},
    "usage_metadata": {"prompt_token_count": 1, "candidates_token_count": 2, "total_token_count": 3},
    "live_session_resumption_update": {"new_handle": "h", "resumable": True},
    "live_session_id": "live",
    "go_away": {"time_left": "3s"},
    "voice_activity": {"voice_activity_type": "ACTIVITY_START"},
    "input_transcription": {"text": "in", "finished": True},
    "output_transcription": {"text": "out", "finished": False},
    "avg_logprobs": -0.1,
    "logprobs_result": {"chosen_candidates": [{"token": "a", "log_probability": -0.5}]},
    "cache_metadata": {"fingerprint": "f", "contents_count": 2},
    "citation_metadata": {"citations": [{"uri": "https://example.com"}]},
    "interaction_id": "interaction",
    "environment_id": "environment",
    "invocation_id": "inv",
    "author": "weather",
    "actions": {
        "skip_summarization": True,
        "state_delta": _STATE,
        "artifact_delta": {"a.png": 0},
        "transfer_to_agent": "other",
        "transfer_reason": "why",
        "escalate": True,
        "requested_tool_confirmations": {"c": {"hint": "Sure?", "confirmed": False, "payload": {"x": None}}},
        "compaction": {"start_timestamp": 1.5, "end_timestamp": 2.5, "compacted_content": {"parts": [{"text": "t"}]}},
        "end_of_agent": True,
        "agent_state": {},
        "rewind_before_invocation_id": "inv-0",
        "route": ["a", 1, True],
        "render_ui_widgets": [{"id": "w", "provider": "mcp", "payload": {"x": 1}}],
        "set_model_response": {"x": None},
    },
    "output": {"x": [None]},
    "node_info": {"path": "a@1/b@2", "output_for": ["a@1"], "message_as_output": True},
    "long_running_tool_ids": ["c1", "c2"],
    "branch": "a.b",
    "isolation_scope": "c1",
    "id": "every",
    "timestamp": 1700000000.123,
}


def _content(*parts: dict[str, Any], role: str | None = "model") -> dict[str, Any]:
    return {"content": {"parts": [*parts], **({} if role is None else {"role": role})}}


_CALL = {"function_call": {"id": "c1", "name": "weather", "args": {"city": "Chengdu", "x": None}}}
_RESPONSE = {"function_response": {"id": "c1", "name": "weather", "response": {"result": "3 mm", "x": None}}}
_THOUGHT = {"text": "Hm.", "thought": True, "thought_signature": "_-8="}

EVENTS: dict[str, tuple[dict[str, Any], str, str, str]] = {
    # name: the fields of the event, and the type, the role and a part of the text of its Message
    "a question": (
        {"author": "user", **_content({"text": "Any rain in 杭州?"}, role="user")},
        "message",
        "user",
        "杭州",
    ),
    "an answer": ({"author": "weather", **_content({"text": "A little."})}, "message", "assistant", "A little."),
    "without a role": (
        {"author": "weather", **_content({"text": "None."}, role=None)},
        "message",
        "assistant",
        "None.",
    ),
    "an empty text": ({"author": "weather", **_content({"text": ""})}, "message", "assistant", ""),
    "odd characters": ({"author": "user", **_content({"text": "\x00\ud800 %"})}, "message", "user", "%"),
    "a thought": ({"author": "weather", **_content(_THOUGHT)}, "reasoning", "assistant", "Hm."),
    "an answer with a thought": (
        {"author": "weather", **_content(_THOUGHT, {"text": "A little."})},
        "message",
        "assistant",
        "Hm. A little.",
    ),
    "a call": ({"author": "weather", **_content(_CALL)}, "function_call", "assistant", "Chengdu"),
    "two calls": (
        {
            "author": "weather",
            "long_running_tool_ids": ["c2"],
            **_content(_CALL, {"function_call": {"id": "c2", "name": "now"}}),
        },
        "function_call",
        "assistant",
        "now",
    ),
    "a response": ({"author": "weather", **_content(_RESPONSE, role="user")}, "function_call_output", "tool", "3 mm"),
    "two responses": (
        {
            "author": "weather",
            **_content(_RESPONSE, {"function_response": {"id": "c2", "name": "now", "response": {}}}, role="user"),
        },
        "function_call_output",
        "tool",
        "3 mm",
    ),
    "a text and a call": (
        {"author": "weather", **_content({"text": "I ask."}, _CALL)},
        "message",
        "assistant",
        "I ask.",
    ),
    "media": (
        {
            "author": "user",
            **_content(
                {"text": "These:"},
                {"inline_data": {"mime_type": "image/png", "data": "__4-", "display_name": "a.png"}},
                {"inline_data": {"mime_type": "audio/wav", "data": "__4-"}},
                {"file_data": {"file_uri": "https://example.com/a.pdf", "mime_type": "application/pdf"}},
                {"video_metadata": {"fps": 1.0}, "text": "frames"},
                role="user",
            ),
        },
        "message",
        "user",
        "These:",
    ),
    "code": (
        {
            "author": "weather",
            **_content(
                {"executable_code": {"code": "print(1)", "language": "PYTHON"}},
                {"code_execution_result": {"outcome": "OUTCOME_OK", "output": "1"}},
            ),
        },
        "message",
        "assistant",
        "print(1)",
    ),
    "content without parts": ({"author": "weather", "content": {"role": "model", "parts": []}}, "event", "system", ""),
    "a change of the state": ({"author": "weather", "actions": {"state_delta": _STATE}}, "event", "system", ""),
    "an error": ({"author": "weather", "error_code": "X", "error_message": "oops"}, "event", "system", "oops"),
    "every field": ({**_EVERY_FIELD, **_content({"text": "All."})}, "message", "assistant", "All."),
    "every field but the content": (_EVERY_FIELD | {"id": "without"}, "event", "system", "an error"),
}


def event(name: str) -> Any:
    """Return a new event of this name."""
    from google.adk.events import Event

    return Event.model_validate(EVENTS[name][0])


def all_events() -> list[Any]:
    """Return a new event of each kind."""
    return [event(name) for name in EVENTS]


def text_event(text: str, author: str = "user", **fields: Any) -> Any:
    """Return an event that is a text."""
    from google.adk.events import Event

    role = "user" if author == "user" else "model"
    return Event.model_validate({"author": author, **_content({"text": text}, role=role), **fields})


def delta_event(delta: dict[str, Any], **fields: Any) -> Any:
    """Return an event that changes the state."""
    from google.adk.events import Event, EventActions

    return Event(author="weather", actions=EventActions(state_delta=delta), **fields)
