"""What a search is asked, and what it answers."""

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from agentstore.errors import InvalidContent, LimitExceeded
from agentstore.schemas.memory_item import MemoryItem
from agentstore.schemas.message import (
    AudioContent,
    Content,
    DataContent,
    FileContent,
    Message,
    MessagesLike,
    RefusalContent,
    TextContent,
)
from agentstore.schemas.page import check_count, read_cursor, write_cursor
from agentstore.schemas.payload import as_message, aware, check_id
from agentstore.schemas.strategy import SearchStrategy
from agentstore.schemas.times import local_time, parse_time
from agentstore.settings import Settings


def _unmarked(text: str) -> list[tuple[str, bool]]:
    return [(text, False)]


@dataclass(frozen=True, slots=True)
class MemoryHit:
    """A memory that a search found: higher scores fit better, and compare within one search only."""

    message: Message
    score: float
    session_id: str
    position: int
    """Its number in its session's memories, from 1."""
    time: datetime
    """When it was said, where the message's ``metadata["timestamp"]`` tells, else when it was stored."""
    item: MemoryItem | None = None
    """The fact, if it is one; ``message`` then stands for it."""
    highlighter: Callable[[str], list[tuple[str, bool]]] = field(default=_unmarked, repr=False, compare=False)

    @property
    def highlights(self) -> list[tuple[str, bool]]:
        """About 200 characters of its text as parts in order, each with whether it was looked for."""
        return self.highlighter(text_of(self.message))

    @property
    def snippet(self) -> str:
        """The same as HTML: escaped, with what was looked for in ``<mark>``."""
        return "".join(
            f"<mark>{html.escape(part)}</mark>" if is_match else html.escape(part) for part, is_match in self.highlights
        )


@dataclass(frozen=True, slots=True)
class SearchFilters:
    """The filters of a search, read and checked."""

    top_k: int = 10
    order: Literal["relevance", "chronological"] = "relevance"
    session_id: str | None = None
    role: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    min_score: float = 0.0
    kind: str | None = None
    valid_at: datetime | None = None
    strategy: SearchStrategy | None = None


@dataclass(frozen=True, slots=True)
class ListFilters:
    """The filters of a list of memories, read and checked."""

    page_num: int = 1
    page_size: int = 10
    cursor: str | None = None


def read_search_filters(filters: Mapping[str, Any] | None, settings: Settings) -> SearchFilters:
    """Return the filters that a caller gave.

    Raises:
        InvalidContent: one is unknown, or not of its kind.
        LimitExceeded: `top_k` is over 1,000.
    """
    given = _known(filters, SearchFilters)
    if "top_k" in given:
        top_k = check_count(given["top_k"], "top_k")
        if top_k is None:
            raise InvalidContent("top_k must be a whole number from 0, not None")
        if top_k > settings.max_top_k:
            raise LimitExceeded(f"top_k is {top_k}, {settings.max_top_k} is allowed")
    if given.get("order", "relevance") not in ("relevance", "chronological"):
        raise InvalidContent(f'order is "relevance" or "chronological", not {given["order"]!r}')
    for name in ("session_id", "role", "kind"):
        if given.get(name) is not None:
            check_id(given[name], name, settings)
    for name in ("since", "until", "valid_at"):
        if given.get(name) is not None:
            given[name] = _time(given[name], name)
    score = given.get("min_score", 0.0)
    if isinstance(score, bool) or not isinstance(score, (int, float)) or score != score:
        raise InvalidContent(f"min_score must be a number, not {score!r}")
    given["min_score"] = float(max(min(score, 1e300), -1e300))
    if given.get("session_id") is not None:
        given["session_id"] = bucket(given["session_id"], settings)
    if given.get("strategy") is not None:
        given["strategy"] = read_strategy(given["strategy"])
    return SearchFilters(**given)


def read_strategy(value: object) -> SearchStrategy:
    """Return the strategy that is meant, by itself or by its name in any case.

    Raises:
        InvalidContent: there is none of that name.
    """
    try:
        return SearchStrategy(str(value).lower())
    except ValueError as error:
        names = ", ".join(each.value for each in SearchStrategy)
        raise InvalidContent(f"there is no search strategy {value!r}: there are {names}") from error


def read_list_filters(filters: Mapping[str, Any] | None, settings: Settings) -> ListFilters:
    """Return the filters that a caller gave.

    Raises:
        InvalidContent: one is unknown, or not of its kind, or both a page and a cursor are named.
        LimitExceeded: `page_size` is over 10,000.
    """
    given = _known(filters, ListFilters)
    for name in ("page_num", "page_size"):
        if name in given and not check_count(given[name], name, settings.max_page if name == "page_size" else None):
            raise InvalidContent(f"{name} must be a whole number from 1, not {given[name]!r}")
    if given.get("cursor") is not None and "page_num" in given:
        raise InvalidContent("give either page_num or cursor")
    return ListFilters(**given)


def question_of(messages: MessagesLike | str, settings: Settings) -> tuple[str, datetime]:
    """Return what a search looks for, the text of the last message that is one or the string itself, and its time.

    That is now, where the message does not tell.

    Raises:
        InvalidContent: it is neither.
    """
    if isinstance(messages, str):
        return messages[: settings.max_query], datetime.now(UTC)
    many = [messages] if messages is None or isinstance(messages, (Message, Mapping)) else messages
    if not isinstance(many, Sequence) or isinstance(many, (bytes, bytearray)):
        raise InvalidContent(f"a question must be a Message, a dict or a list of them, not {type(many).__name__}")
    last = next((each for each in reversed(many) if each is not None), None)
    if last is None:
        return "", datetime.now(UTC)
    message = as_message(last)
    return text_of(message)[: settings.max_query], said_at(message)


def said_at(message: Message) -> datetime:
    """Return when a message was said, in its own zone; now, where it does not tell, as then it is being said."""
    return local_time((message.metadata or {}).get("timestamp")) or datetime.now(UTC)


def bucket(session_id: str | None, settings: Settings) -> str:
    """Return the name of the bucket that a session's memories are in."""
    return check_id(session_id or "default", "session_id", settings)


def write_memory_cursor(session_id: str, position: int) -> str:
    """Return the place of a memory in the list, for a page's ``next_cursor``."""
    return write_cursor(session_id, str(position))


def read_memory_cursor(cursor: str) -> tuple[str, int]:
    """Return the session and the position that a cursor names.

    Raises:
        InvalidContent: it is not one that such a list gave.
    """
    session_id, position = read_cursor(cursor, str, str)
    if not re.fullmatch("[0-9]{1,18}", str(position)):
        raise InvalidContent(f"{cursor!r} is no cursor of this list: give a page's next_cursor")
    return str(session_id), int(str(position))


def speaker_and_text(message: Message, between: str = " ") -> str:
    """Return the words that a message is found by: its speaker's name, and all text in its content."""
    return with_speaker(message, text_of(message), between)


def with_speaker(message: Message, text: str, between: str = " ") -> str:
    """Return a message's text with its speaker's name before it."""
    if not message.metadata:
        return text
    names = (message.metadata.get(key) for key in ("name", "original_name"))
    name = next((each for each in names if isinstance(each, str)), "")
    return f"{name}{between}{text}" if name else text


def embedded_text(message: Message, settings: Settings) -> str:
    """Return what of a message is embedded, with its speaker as in a play; empty where there is no text."""
    return speaker_and_text(message, ": ")[: settings.max_indexed] if text_of(message).strip() else ""


def text_of(message: Message) -> str:
    """Return all text in a message's content."""
    return " ".join(filter(None, map(_text, message.content or ())))


def _text(part: Content) -> str:
    if isinstance(part, TextContent):
        return part.text or ""
    if isinstance(part, RefusalContent):
        return part.refusal or ""
    if isinstance(part, DataContent):
        return " ".join(_strings(part.data))
    if isinstance(part, FileContent):
        return part.filename or ""
    if isinstance(part, AudioContent):
        said = (part.model_extra or {}).get("transcript")
        return said if isinstance(said, str) else ""
    return ""


def _strings(value: Any) -> list[str]:
    found, stack = [], [value]
    while stack:
        each = stack.pop()
        if isinstance(each, str):
            found.append(each)
        elif isinstance(each, Mapping):
            stack.extend(reversed(list(each.values())))
        elif isinstance(each, (list, tuple)):
            stack.extend(reversed(each))
    return found


def _known(filters: Mapping[str, Any] | None, kind: type[SearchFilters] | type[ListFilters]) -> dict[str, Any]:
    if filters is not None and not isinstance(filters, Mapping):
        raise InvalidContent(f"filters must be a dict, not {type(filters).__name__}")
    given = dict(filters or {})
    if unknown := [name for name in given if name not in kind.__dataclass_fields__]:
        raise InvalidContent(f"there is no filter {unknown[0]!r}: there are {', '.join(kind.__dataclass_fields__)}")
    return given


def _time(value: object, name: str) -> datetime:
    if isinstance(value, datetime):
        aware(value, name)
        return value
    time = parse_time(value)
    if time is None:
        raise InvalidContent(f"{name}: {value!r} is no time")
    return time
