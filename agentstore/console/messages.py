"""The messages of a conversation as a page shows them: rendered, shortened, calls of tools with their outputs."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any

from markupsafe import Markup

from agentstore.console.files import embedded, embedded_image
from agentstore.console.rendering import (
    MOST_TEXT,
    is_web_link,
    render_argument,
    render_markdown,
    render_text,
    shorten,
    summarize,
)
from agentstore.errors import UnreadableRow
from agentstore.schemas import (
    AudioContent,
    Content,
    DataContent,
    FileContent,
    ImageContent,
    Message,
    RefusalContent,
    StateRound,
    TextContent,
)
from agentstore.schemas.times import parse_time
from agentstore.schemas.tool_calls import call_ids, is_call, is_output

_MOST_ARGUMENT = 6_000
# How many characters of Markdown one page renders; the rest is shown as it is.
_MARKDOWN_BUDGET = 60_000


@dataclass
class Part:
    """A part of the content of a message."""

    kind: str
    """text, data, image, audio, file, refusal or error."""
    html: Markup = field(default_factory=Markup)
    label: str = ""
    href: str | None = None
    """A link of the message, to another site."""
    index: int = 0
    """The position in the content, by which what the message contains is read."""
    is_embedded: bool = False
    """Whether the message contains the image, file or audio itself."""
    is_shown: bool = False
    """Whether that is an image that can be shown."""


@dataclass
class Call:
    """A call of a tool, or its output without the call."""

    name: str
    id: str
    summary: str
    html: Markup


@dataclass
class Entry:
    """A message, as it is shown."""

    message: Message
    time: datetime | None
    parts: list[Part] = field(default_factory=list)
    call: Call | None = None
    outputs: "list[Entry]" = field(default_factory=list)
    """The outputs of the call that are on the same page."""
    output: Call | None = None
    left_out: int = 0
    """How many characters are not shown."""
    rounds: list[StateRound] = field(default_factory=list)
    """The state rounds that were saved after this message and before the next one."""
    day: date | None = None
    """The day, at the first message of a day."""
    problem = ""

    @property
    def seq(self) -> int:
        """The number of the message."""
        return self.message.seq or 0

    @property
    def name(self) -> str:
        """The name of the speaker, if the metadata has one."""
        name = (self.message.metadata or {}).get("name")
        return name if isinstance(name, str) else ""


@dataclass(frozen=True)
class Gap:
    """A message that cannot be shown: another program has changed it."""

    seq: int
    id: str
    """Its id, or "" if it has none."""
    problem: str


def entries(
    messages: Sequence[Message], rounds: Sequence[StateRound] = (), unreadable: Sequence[UnreadableRow] = ()
) -> list[Entry | Gap]:
    """Return messages as they are shown, in order: each output with its call, each round after its message."""
    budget = _MARKDOWN_BUDGET
    found: list[Entry] = []
    by_call: dict[str, Entry] = {}
    for message in messages:
        entry = _entry(message, budget)
        budget -= sum(len(part.html) for part in entry.parts)
        caller = next((by_call[id] for id in call_ids(message) if id in by_call), None) if is_output(message) else None
        if caller is not None:
            caller.outputs.append(entry)
            continue
        if is_call(message):
            by_call |= dict.fromkeys(call_ids(message), entry)
        found.append(entry)
    _add_days(found)
    _add_rounds(found, rounds)
    gaps = [Gap(each.seq or 0, each.id if isinstance(each.id, str) else "", each.reason) for each in unreadable]
    return sorted([*found, *gaps], key=lambda each: each.seq)


def _add_days(found: list[Entry]) -> None:
    day = None
    for entry in found:
        if entry.time is not None and entry.time.date() != day:
            day = entry.day = entry.time.date()


def _add_rounds(found: list[Entry], rounds: Sequence[StateRound]) -> None:
    """Add each round to the last message that was stored before it."""
    placed = [entry for entry in found if entry.message.created_at is not None]
    for each in sorted(rounds, key=lambda saved: saved.round_id):
        before = [entry for entry in placed if _stored_at(entry) <= each.saved_at]
        if before:
            before[-1].rounds.append(each)


def _stored_at(entry: Entry) -> datetime:
    """Return when a message and the outputs of its call were stored."""
    last = entry.outputs[-1].message if entry.outputs else entry.message
    stored = last.created_at or entry.message.created_at
    assert stored is not None  # noqa: S101 - only stored messages are compared
    return stored


def _entry(message: Message, budget: int) -> Entry:
    metadata = message.metadata or {}
    entry = Entry(message, parse_time(metadata.get("timestamp")) or message.created_at)
    for index, part in enumerate(message.content or ()):
        if isinstance(part, DataContent) and (is_call(message) or is_output(message)) and not entry.parts:
            _add_call(entry, part.data or {})
            continue
        shown, left_out = _part(message, part, index, budget)
        entry.left_out += left_out
        entry.parts.append(shown)
        budget -= len(shown.html)
    if message.code or message.message:
        text, left_out = shorten(f"{message.code or ''} {message.message or ''}".strip())
        entry.left_out += left_out
        entry.parts.append(Part("error", render_text(text)))
    return entry


def _add_call(entry: Entry, data: dict[Any, Any]) -> None:
    is_a_call = is_call(entry.message)
    rest = {key: value for key, value in data.items() if key not in ("call_id", "name")}
    only = rest.get("arguments" if is_a_call else "output", rest) if len(rest) == 1 else rest
    html, left_out = render_argument(only, _MOST_ARGUMENT)
    entry.left_out += left_out
    name = data.get("name")
    call = Call(name if isinstance(name, str) else "", str(data.get("call_id") or ""), summarize(only), html)
    if is_a_call:
        entry.call = call
    else:
        entry.output = call


def _part(message: Message, part: Content, index: int, budget: int) -> tuple[Part, int]:
    if isinstance(part, TextContent):
        text, left_out = shorten(part.text or "")
        is_plain = left_out > 0 or len(text) > budget
        return Part("text", render_text(text) if is_plain else render_markdown(text)), left_out
    if isinstance(part, RefusalContent):
        text, left_out = shorten(part.refusal or "")
        return Part("refusal", render_text(text)), left_out
    if isinstance(part, ImageContent):
        return _image(message, part, index), 0
    if isinstance(part, AudioContent):
        transcript, left_out = shorten(str((part.model_extra or {}).get("transcript") or ""))
        html = render_text(transcript) if transcript else Markup("")
        is_embedded = embedded(message, index) is not None
        return Part("audio", html, part.format or "", index=index, is_embedded=is_embedded), left_out
    if isinstance(part, FileContent):
        url = part.file_url or ""
        is_embedded = embedded(message, index) is not None
        label = part.filename or part.file_id or ("" if is_embedded else url)
        href = url if is_web_link(url) else None
        return Part("file", label=label[:200], href=href, index=index, is_embedded=is_embedded), 0
    html, left_out = render_argument(part.data, MOST_TEXT)
    return Part("data", html), left_out


def _image(message: Message, part: ImageContent, index: int) -> Part:
    url = part.image_url or ""
    if is_web_link(url):
        return Part("image", label=url[:200], href=url)
    found = embedded(message, index)
    label = url[:200] if found is None else found[0]
    is_shown = found is not None and embedded_image(message, index)
    return Part("image", label=label, index=index, is_embedded=found is not None, is_shown=is_shown)


def raw_json(message: Message) -> dict[str, Any]:
    """Return all fields of a message, with its place."""
    fields: dict[str, Any] = message.model_dump(serialize_as_any=True)
    created_at = message.created_at
    return {**fields, "seq": message.seq, "created_at": created_at and created_at.isoformat()}


def raw_text(message: Message) -> str:
    """Return the text of a message, and in place of other parts their JSON."""
    texts = []
    for part in message.content or ():
        if isinstance(part, TextContent):
            texts.append(part.text or "")
        elif isinstance(part, RefusalContent):
            texts.append(part.refusal or "")
        else:
            texts.append(json.dumps(part.model_dump(serialize_as_any=True, exclude_none=True), ensure_ascii=False))
    return "\n\n".join(texts)


def size_of(message: Message) -> int:
    """Return about how many characters the content of a message has."""
    return sum(
        len(part.text or "") if isinstance(part, TextContent) else len(repr(part)) for part in message.content or ()
    )
