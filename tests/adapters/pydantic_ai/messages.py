"""Messages of Pydantic AI with every kind of part, and the contents of prompts."""

# pyright: reportMissingImports=false
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

_TIME = datetime(2026, 11, 30, 12, 0, 0, 123456, tzinfo=UTC)
PNG = b"\x89PNG\r\n\xff\xfe\xfb"


def request(*parts: Any, **fields: Any) -> Any:
    from pydantic_ai.messages import ModelRequest

    return ModelRequest(parts=list(parts), **fields)


def response(*parts: Any, **fields: Any) -> Any:
    from pydantic_ai.messages import ModelResponse

    return ModelResponse(parts=list(parts), **fields)


def question(text: str) -> Any:
    from pydantic_ai.messages import UserPromptPart

    return request(UserPromptPart(text))


def answer(text: str) -> Any:
    from pydantic_ai.messages import TextPart

    return response(TextPart(text))


def contents() -> list[Any]:
    """Return each kind of content of a prompt."""
    from pydantic_ai import messages as m

    return [
        "Any rain in 杭州?",
        "",
        "\0",
        m.TextContent(content="a text", metadata={"a": [None, 1]}),
        m.StructuredContent(value={"city": "Chengdu", "days": [1, None]}),
        m.ImageUrl(url="https://example.com/a.png", vendor_metadata={"detail": "high"}),
        m.AudioUrl(url="https://example.com/a.mp3"),
        m.VideoUrl(url="https://example.com/a.mp4"),
        m.DocumentUrl(url="https://example.com/a.pdf", force_download=True),
        m.BinaryImage(data=PNG, media_type="image/png"),
        m.BinaryContent(data=PNG, media_type="application/pdf", identifier="a file"),
        m.BinaryContent(data=PNG, media_type="audio/wav"),
        m.BinaryContent(data=b"", media_type="text/plain"),
        m.UploadedFile(file_id="file_1", provider_name="openai", media_type="image/png"),
        m.CachePoint(ttl="1h"),
    ]


def request_parts() -> list[Any]:
    """Return each kind of part of a request."""
    from pydantic_ai import messages as m

    retry = m.RetryInfo("validation_error", attempt=1, max_retries=2)
    return [
        m.SystemPromptPart("Be brief.", metadata={"a": None}),
        m.UserPromptPart("What shall I eat?", timestamp=_TIME),
        m.UserPromptPart(contents()),
        m.UserPromptPart([]),
        m.ToolReturnPart("weather", {"rain": False, "wind": None, "n": 2**70}, "c1", metadata={"cost": 1.5}),
        m.ToolReturnPart("weather", "no rain", "c2", outcome="failed"),
        m.ToolReturnPart("weather", None, "c3"),
        m.ToolReturnPart("weather", [1, "a", None], "c4"),
        m.ToolReturnPart("photo", ["a photo", m.BinaryImage(data=PNG, media_type="image/png")], "c5"),
        m.SpeechPart(speaker="user", transcript="hello", audio=m.BinaryAudio(data=PNG, media_type="audio/wav")),
        m.CompactionPart(content="They planned a trip."),
        m.CapabilityLoadDeltaPart(loaded=["a"], tool_call_id="c6"),
        m.RetryFeedbackPart("Give a city.", retry=retry),
        m.ToolAvailabilityDeltaPart(tools_added=["weather"]),
        m.ModelSettingsDeltaPart(settings={"thinking": "high"}),
        m.InstructionDeltaPart(id=None, content="Be kind."),
        m.InstructionBaselinePart(instructions=[m.InstructionPart("Be brief.", dynamic=True)]),
    ]


def response_parts() -> list[Any]:
    """Return each kind of part of a response."""
    from pydantic_ai import messages as m

    details = {"log": [{"p": -0.25}], "none": None}
    return [
        m.TextPart("Duck.", id="t1", provider_name="openai", provider_details=details),
        m.TextPart(""),
        m.ThinkingPart("No peppers.", id="r1", signature="c2lnbmVk", provider_name="openai", provider_details=details),
        m.ToolCallPart("weather", {"city": "Chengdu", "n": 2**70, "none": None}, "c1", id="f1"),
        m.ToolCallPart("weather", '{"city": "Cheng', "c2"),
        m.ToolCallPart("weather", None, "c3"),
        m.NativeToolCallPart("web_search", {"query": "duck"}, "n1", provider_name="openai", provider_details=details),
        m.NativeToolReturnPart("web_search", {"results": [None]}, "n1", provider_name="openai"),
        m.FilePart(m.BinaryImage(data=PNG, media_type="image/png"), id="i1"),
        m.FilePart(m.BinaryContent(data=PNG, media_type="application/pdf")),
        m.CompactionPart(content=None, id="k1", provider_name="openai", provider_details=details),
        m.SpeechPart(speaker="assistant", transcript="hello", interrupted_at_ms=3),
    ]


def all_messages() -> list[Any]:
    """Return messages with each part alone, and with all of them."""
    from pydantic_ai.usage import RequestUsage

    usage = RequestUsage(input_tokens=8, output_tokens=2, cache_read_tokens=1, details={"reasoning_tokens": 1})
    fields: dict[str, Any] = {
        "usage": usage,
        "model_name": "scripted",
        "timestamp": _TIME,
        "provider_name": "openai",
        "provider_url": "https://example.com",
        "provider_details": {"timestamp": "2026-11-30", "none": None},
        "provider_response_id": "resp_1",
        "finish_reason": "tool_call",
        "run_id": "run",
        "conversation_id": "trip",
        "metadata": {"a": None},
        "state": "interrupted",
    }
    return [
        *(request(each) for each in request_parts()),
        *(response(each) for each in response_parts()),
        request(*request_parts(), instructions="Be kind.", timestamp=_TIME, run_id="run", metadata={"a": [None]}),
        response(*response_parts(), **fields),
        request(),
        response(),
    ]


def usage(number: int) -> Any:
    """Return the usage of a conversation."""
    from pydantic_ai.usage import RunUsage

    return RunUsage(requests=number, input_tokens=number, tool_calls=1, details={f"d{number}": 1}, cost=Decimal("0.1"))


def deferred() -> Any:
    """Return tool calls that wait for approval."""
    from pydantic_ai.messages import ToolCallPart
    from pydantic_ai.tools import DeferredToolRequests

    return DeferredToolRequests(
        approvals=[ToolCallPart("pay", {"amount": None}, "c1")], metadata={"c1": {"reason": None, "limits": {"a": 1}}}
    )
