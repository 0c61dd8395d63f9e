"""Print a session for reading."""

import json
from typing import Any

from agentstore.cli.output import counted, echo_hanging, echo_spans
from agentstore.cli.visible import format_id, one_line
from agentstore.schemas import (
    AudioContent,
    Content,
    DataContent,
    FileContent,
    ImageContent,
    Message,
    MessageType,
    RefusalContent,
    Role,
    Session,
    TextContent,
)
from agentstore.schemas.times import parse_time

_STYLES: dict[str, str] = {
    Role.USER: "bold cyan",
    Role.ASSISTANT: "bold green",
    Role.SYSTEM: "bold yellow",
    Role.TOOL: "bold magenta",
}
_LONGEST_NAME = 120


def echo_transcript(session: Session, *, wide: bool = False) -> None:
    """Print the heading of a session, then each of its messages.

    The time of a message is when it was said, if its metadata says so, otherwise when it was stored. With `wide`, long
    lines are not wrapped.
    """
    heading = [(one_line(session.title or "(no title)"), "bold")]
    heading.append((f"\n{format_id(session.user_id)} / {format_id(session.id)}", "dim"))
    if session.message_count is not None:
        heading.append((f", {counted(message=session.message_count)}", "dim"))
    if session.updated_at is not None:
        heading.append((f", last used {session.updated_at:%Y-%m-%d %H:%M} UTC", "dim"))
    if session.metadata:
        heading.append((f"\n{one_line(json.dumps(session.metadata, ensure_ascii=False))}", "dim"))
    echo_spans(heading)
    for message in session.messages:
        echo_message(message, wide)


def echo_message(message: Message, wide: bool) -> None:
    """Print a message, as :func:`echo_transcript` does."""
    role = message.role or "?"
    spans = [("\n", ""), (role, _STYLES.get(role, "bold"))]
    metadata = message.metadata or {}
    if message.type != MessageType.MESSAGE:
        spans.append((f" {one_line(message.type)}", "dim"))
    if (name := metadata.get("name")) is not None:
        spans.append((f" {one_line(name)}", "dim"))
    if (time := parse_time(metadata.get("timestamp")) or message.created_at) is not None:
        spans.append((f" {time:%Y-%m-%d %H:%M}", "dim"))
    number = "" if message.seq is None else f" #{message.seq}"
    spans.append((f"{number} {format_id(message.id)}", "dim"))
    echo_spans(spans)
    style = "dim italic" if message.type == MessageType.REASONING else ""
    parts = [_part(part, message.type) for part in message.content or ()]
    if message.code or message.message:
        parts.append(("", f"{message.code or ''} {message.message or ''}".strip()))
    for arrow, text in parts:
        # Indented, so that no text can look like the heading of a message.
        label = f"  {arrow} " if arrow else "  "
        echo_hanging([(label, style)], text, style, indent=len(label), wide=wide)


def _part(part: Content, message_type: str) -> tuple[str, str]:
    """Return the arrow of a call or its output, or "", and the text of a part."""
    if isinstance(part, DataContent):
        return _data(part.data or {}, message_type)
    return "", _text(part)


def _text(part: Content) -> str:
    if isinstance(part, TextContent):
        return part.text or ""
    if isinstance(part, RefusalContent):
        return f"(refusal) {part.refusal or ''}"
    if isinstance(part, ImageContent):
        return f"[image {_shorten(part.image_url)}]"
    if isinstance(part, AudioContent):
        spoken = (part.model_extra or {}).get("transcript")
        return f"[audio {_shorten(part.format)}]{f' {spoken}' if spoken else ''}"
    if isinstance(part, FileContent):
        return f"[file {_shorten(part.filename or part.file_url or part.file_id)}]"
    raise AssertionError(part)


def _data(data: dict[Any, Any], message_type: str) -> tuple[str, str]:
    if message_type.endswith("call_output") and data.keys() <= {"call_id", "name", "output"}:
        return "←", _value(data.get("output"))
    if message_type.endswith("call") and data.keys() <= {"call_id", "name", "arguments"}:
        return "→", f"{data.get('name')}({_value(data.get('arguments'))})"
    return "", _value(data)


def _value(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _shorten(name: str | None) -> str:
    name = one_line(name or "")
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..."
