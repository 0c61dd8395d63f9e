"""The hits of a search, the filters of searches and lists, and the text that is indexed."""

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from agentstore.errors import InvalidContent
from agentstore.schemas.memory_item import MemoryItem
from agentstore.schemas.message import Message, MessagesLike, text_of
from agentstore.schemas.page import bad_cursor, check_count, read_cursor, write_cursor
from agentstore.schemas.payload import as_message, aware, check_id, shortened
from agentstore.schemas.strategy import SearchStrategy
from agentstore.schemas.times import local_time, parse_time
from agentstore.settings import Settings


def _unmarked(text: str) -> list[tuple[str, bool]]:
    return [(text, False)]


@dataclass(frozen=True, slots=True)
class MemoryHit:
    """A memory found by a search. Higher scores are better; they compare within one search only."""

    message: Message
    score: float
    session_id: str
    position: int
    """The position in the memories of the session, from 1."""
    time: datetime
    """The message's ``metadata["timestamp"]`` if it has a valid one, else the time it was stored."""
    item: MemoryItem | None = None
    """The item, if the memory is one; ``message`` then represents it."""
    highlighter: Callable[[str], list[tuple[str, bool]]] = field(default=_unmarked, repr=False, compare=False)

    @property
    def highlights(self) -> list[tuple[str, bool]]:
        """About 200 characters of the text, as a list of parts, each with whether it matches the query."""
        return self.highlighter(text_of(self.message))

    @property
    def snippet(self) -> str:
        """The highlights as escaped HTML, with the matches in ``<mark>`` elements."""
        return "".join(
            f"<mark>{html.escape(part)}</mark>" if is_match else html.escape(part) for part, is_match in self.highlights
        )


@dataclass(frozen=True, slots=True)
class SearchFilters:
    """The validated filters of a search."""

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
    """The validated filters of a list of memories."""

    page_num: int = 1
    page_size: int = 10
    cursor: str | None = None


def read_search_filters(filters: Mapping[str, Any] | None, settings: Settings) -> SearchFilters:
    """Validate the filters of a search.

    Raises:
        InvalidContent: a filter is unknown, or its value is not valid.
        LimitExceeded: `top_k` is over the setting `max_top_k`.
    """
    given = _known(filters, SearchFilters)
    if "top_k" in given:
        check_count(given["top_k"], "top_k", maximum=settings.max_top_k)
    if given.get("order", "relevance") not in ("relevance", "chronological"):
        raise InvalidContent(f'order must be "relevance" or "chronological", got {shortened(given["order"])}')
    for name in ("session_id", "role", "kind"):
        if given.get(name) is not None:
            check_id(given[name], name, settings)
    for name in ("since", "until", "valid_at"):
        if given.get(name) is not None:
            given[name] = _time(given[name], name)
    score = given.get("min_score", 0.0)
    if isinstance(score, bool) or not isinstance(score, (int, float)) or score != score:
        raise InvalidContent(f"min_score must be a number, got {shortened(score)}")
    given["min_score"] = float(max(min(score, 1e300), -1e300))
    if given.get("session_id") is not None:
        given["session_id"] = bucket(given["session_id"], settings)
    if given.get("strategy") is not None:
        given["strategy"] = read_strategy(given["strategy"])
    return SearchFilters(**given)


def read_strategy(value: object) -> SearchStrategy:
    """Return a search strategy, given as one or by its name in any case.

    Raises:
        InvalidContent: it is not a search strategy.
    """
    strategies = {each.value: each for each in SearchStrategy}
    # Not by a call of the enum, whose error shows the whole value.
    if not isinstance(value, str) or (strategy := strategies.get(value.lower())) is None:
        raise InvalidContent(f"unknown search strategy {shortened(value)}: expected one of {', '.join(strategies)}")
    return strategy


def read_list_filters(filters: Mapping[str, Any] | None, settings: Settings) -> ListFilters:
    """Validate the filters of a list of memories.

    Raises:
        InvalidContent: a filter is unknown, its value is not valid, or both `page_num` and `cursor` are given.
        LimitExceeded: `page_size` is over 10,000.
    """
    given = _known(filters, ListFilters)
    for name, maximum in (("page_num", None), ("page_size", settings.max_page)):
        if name in given:
            check_count(given[name], name, minimum=1, maximum=maximum)
    if given.get("cursor") is not None and "page_num" in given:
        raise InvalidContent("page_num and cursor cannot be combined: pass one of them")
    return ListFilters(**given)


def query_of(messages: MessagesLike | str, settings: Settings) -> tuple[str, datetime]:
    """Return the query of a search, which is a string or the text of the last message, and its time.

    The time is the message's ``metadata["timestamp"]``, or else the current time.

    Raises:
        InvalidContent: `messages` is neither a string nor messages.
    """
    if isinstance(messages, str):
        return messages[: settings.max_query], datetime.now(UTC)
    many = [messages] if messages is None or isinstance(messages, (Message, Mapping)) else messages
    if not isinstance(many, Sequence) or isinstance(many, (bytes, bytearray)):
        raise InvalidContent(
            f"a query must be a string, a Message, a dict or a list of these, got {type(many).__name__}"
        )
    last = next((each for each in reversed(many) if each is not None), None)
    if last is None:
        return "", datetime.now(UTC)
    message = as_message(last)
    return text_of(message)[: settings.max_query], time_of(message)


def time_of(message: Message) -> datetime:
    """Return a message's ``metadata["timestamp"]`` in its own time zone, or else the current time."""
    return local_time((message.metadata or {}).get("timestamp")) or datetime.now(UTC)


def bucket(session_id: str | None, settings: Settings) -> str:
    """Return the name of the bucket for a session's memories: the session id, or "default"."""
    return check_id("default" if session_id is None else session_id, "session_id", settings) or "default"


def write_memory_cursor(session_id: str, position: int) -> str:
    """Encode the key of a memory as a page's ``next_cursor``."""
    return write_cursor(session_id, str(position))


def read_memory_cursor(cursor: str) -> tuple[str, int]:
    """Decode a cursor to a session id and a position.

    Raises:
        InvalidContent: it is not a cursor of a list of memories.
    """
    session_id, position = read_cursor(cursor, str, str)
    if not re.fullmatch("[0-9]{1,18}", str(position)):
        raise bad_cursor(cursor)
    return str(session_id), int(str(position))


def speaker_and_text(message: Message, between: str = " ") -> str:
    """Return the text by which a message is indexed: the speaker's name, and all text in its content."""
    return with_speaker(message, text_of(message), between)


def with_speaker(message: Message, text: str, between: str = " ") -> str:
    """Return `text` after the name of the message's speaker, which is ``metadata["name"]`` or "original_name"."""
    if not message.metadata:
        return text
    names = (message.metadata.get(key) for key in ("name", "original_name"))
    name = next((each for each in names if isinstance(each, str)), "")
    return f"{name}{between}{text}" if name else text


def embedded_text(message: Message, settings: Settings) -> str:
    """Return the text of a message to embed, as "speaker: text"; empty if the message has no text."""
    return speaker_and_text(message, ": ")[: settings.max_indexed] if text_of(message).strip() else ""


def _known(filters: Mapping[str, Any] | None, kind: type[SearchFilters] | type[ListFilters]) -> dict[str, Any]:
    if filters is not None and not isinstance(filters, Mapping):
        raise InvalidContent(f"filters must be a dict, got {type(filters).__name__}")
    given = dict(filters or {})
    if unknown := [name for name in given if name not in kind.__dataclass_fields__]:
        names = ", ".join(kind.__dataclass_fields__)
        raise InvalidContent(f"unknown filter {shortened(unknown[0])}: expected one of {names}")
    return given


def _time(value: object, name: str) -> datetime:
    if isinstance(value, datetime):
        aware(value, name)
        return value
    time = parse_time(value)
    if time is None:
        raise InvalidContent(
            f"{name} must be a datetime, an ISO 8601 string or seconds since 1970, got {shortened(value)}"
        )
    return time
