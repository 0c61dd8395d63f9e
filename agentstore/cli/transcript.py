"""A conversation as people read it."""

import json
from collections.abc import Iterator
from typing import Any

from rich.text import Text

from agentstore.cli.console import one_line, plain
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

_STYLES = {Role.USER: "bold cyan", Role.ASSISTANT: "bold green", Role.SYSTEM: "bold yellow", Role.TOOL: "bold magenta"}
_LONGEST_NAME = 120


def transcript(session: Session) -> Iterator[Text]:
    """Yield a session's head and then its messages."""
    head = Text(one_line(session.title or "(no title)"), style="bold")
    head.append(f"\n{one_line(session.user_id)} / {one_line(session.id)}", style="dim")
    if session.updated_at is not None:
        head.append(f", last used {session.updated_at:%Y-%m-%d %H:%M} UTC", style="dim")
    if session.metadata:
        head.append(f"\n{one_line(json.dumps(session.metadata, ensure_ascii=False))}", style="dim")
    yield head
    for message in session.messages:
        yield _message(message)


def _message(message: Message) -> Text:
    role = message.role or "?"
    text = Text("\n").append(role, style=_STYLES.get(role, "bold"))
    if message.type != MessageType.MESSAGE:
        text.append(f" {one_line(message.type)}", style="dim")
    if (name := (message.metadata or {}).get("name")) is not None:
        text.append(f" {one_line(name)}", style="dim")
    if (time := parse_time((message.metadata or {}).get("timestamp"))) is not None:
        text.append(f" {time:%Y-%m-%d %H:%M}", style="dim")
    style = "dim italic" if message.type == MessageType.REASONING else ""
    said = [_part(part, message.type) for part in message.content or ()]
    if message.code or message.message:
        said.append(f"{message.code or ''} {message.message or ''}".strip())
    for each in said:
        # Indented, so that no text can look like the head of a message.
        text.append("".join(f"\n  {line}" for line in plain(each).split("\n")), style=style)
    return text


def _part(part: Content, of: str) -> str:
    if isinstance(part, TextContent):
        return part.text or ""
    if isinstance(part, DataContent):
        return _data(part.data or {}, of)
    if isinstance(part, RefusalContent):
        return f"(refused) {part.refusal or ''}"
    if isinstance(part, ImageContent):
        return f"[image {_short(part.image_url)}]"
    if isinstance(part, AudioContent):
        said = (part.model_extra or {}).get("transcript")
        return f"[audio {_short(part.format)}]{f' {said}' if said else ''}"
    if isinstance(part, FileContent):
        return f"[file {_short(part.filename or part.file_url or part.file_id)}]"
    raise AssertionError(part)


def _data(data: dict[Any, Any], of: str) -> str:
    if of.endswith("call_output") and data.keys() <= {"call_id", "name", "output"}:
        return f"← {_said(data.get('output'))}"
    if of.endswith("call") and data.keys() <= {"call_id", "name", "arguments"}:
        return f"→ {data.get('name')}({_said(data.get('arguments'))})"
    return _said(data)


def _said(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _short(name: str | None) -> str:
    name = one_line(name or "")
    return name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..."
