"""The hits of a search, its query, the cursors of lists, and the text that is indexed."""

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NamedTuple

from agentstore.errors import InvalidContent
from agentstore.schemas.memory_item import MemoryItem
from agentstore.schemas.message import Message, MessagesLike, text_of
from agentstore.schemas.page import bad_cursor, read_cursor, write_cursor
from agentstore.schemas.payload import as_message, check_id
from agentstore.schemas.times import local_time
from agentstore.settings import Settings


def _unmarked(text: str, length: int = 0) -> list[tuple[str, bool]]:
    return [(text, False)]


class ListedMemory(NamedTuple):
    """The place, the time and the kind of a memory in a list."""

    session_id: str
    position: int
    time: datetime
    kind: str


# In __dict__, like the place of a stored message: neither compared nor dumped.
_LISTED: Final = "_listed"


def listed_message(message: Message, listed: ListedMemory) -> Message:
    """Return a message of a list of memories, with what :func:`listed_memory` returns."""
    vars(message)[_LISTED] = listed
    return message


def listed_memory(message: Message) -> ListedMemory:
    """Return the place, the time and the kind of a message that ``list_memory`` returned."""
    listed: ListedMemory = vars(message)[_LISTED]
    return listed


@dataclass(frozen=True, slots=True)
class MemoryHit:
    """A memory found by a search. Higher scores are better; they compare within one search only.

    With a reranker, hits are ordered by `rerank_score`, and then those that have none by `score`.
    """

    message: Message
    score: float
    session_id: str
    position: int
    """The position in the memories of the session, from 1."""
    time: datetime
    """The message's ``metadata["timestamp"]`` if it has a valid one, else the time it was stored."""
    item: MemoryItem | None = None
    """The item, if the memory is one; ``message`` then represents it."""
    is_match: bool = True
    """Whether the memory matches the query itself, by a word or by its vector; else its neighbors in the session do."""
    namespace: str | None = None
    """The namespace that the memory was added to."""
    rerank_score: float | None = None
    """The reranker's score; None if there is no reranker, it failed, or this hit was not among those it scored."""
    highlighter: Callable[..., list[tuple[str, bool]]] = field(default=_unmarked, repr=False, compare=False)

    @property
    def highlights(self) -> list[tuple[str, bool]]:
        """About 200 characters of the text, as a list of parts, each with whether it matches the query."""
        return self.highlighter(text_of(self.message))

    @property
    def matched_terms(self) -> list[str]:
        """The words of the text that match the query, in order, each once: none of a memory found by its neighbors."""
        text = text_of(self.message)
        return list(dict.fromkeys(part for part, is_match in self.highlighter(text, len(text)) if is_match))

    @property
    def snippet(self) -> str:
        """The highlights as escaped HTML, with the matches in ``<mark>`` elements."""
        return "".join(
            f"<mark>{html.escape(part)}</mark>" if is_match else html.escape(part) for part, is_match in self.highlights
        )


def query_of(messages: MessagesLike | str, settings: Settings, now: datetime | None = None) -> tuple[str, datetime]:
    """Return the query of a search, which is a string or the text of the last message, and its time.

    The time is `now`, or else the message's ``metadata["timestamp"]``, or else the current time.

    Raises:
        InvalidContent: `messages` is neither a string nor messages.
    """
    if isinstance(messages, str):
        return messages[: settings.max_query], now or datetime.now(UTC)
    many = [messages] if messages is None or isinstance(messages, (Message, Mapping)) else messages
    if not isinstance(many, Sequence) or isinstance(many, (bytes, bytearray)):
        raise InvalidContent(
            f"a query must be a string, a Message, a dict or a list of these, got {type(many).__name__}"
        )
    last = next((each for each in reversed(many) if each is not None), None)
    if last is None:
        return "", now or datetime.now(UTC)
    message = as_message(last)
    return text_of(message)[: settings.max_query], now or time_of(message)


def time_of(message: Message, stored_at: datetime | None = None) -> datetime:
    """Return a message's ``metadata["timestamp"]`` in its own time zone, or else `stored_at` or the current time."""
    return local_time((message.metadata or {}).get("timestamp")) or stored_at or datetime.now(UTC)


def bucket(session_id: str | None, settings: Settings) -> str:
    """Return the name of the bucket for a session's memories: the session id, or "default"."""
    return check_id("default" if session_id is None else session_id, "session_id", settings) or "default"


def write_memory_cursor(session_id: str, position: int) -> str:
    """Encode the key of a memory as a page's ``next_cursor``."""
    return write_cursor(session_id, str(position))


def read_memory_cursor(cursor: str | None) -> tuple[str, int]:
    """Decode a cursor to a session id and a position; None to those before the first memory.

    Raises:
        InvalidContent: it is not a cursor of a list of memories.
    """
    if cursor is None:
        return "", 0
    session_id, position = read_cursor(cursor, str, str)
    if not re.fullmatch("[0-9]{1,18}", str(position)):
        raise bad_cursor(cursor)
    return str(session_id), int(str(position))


def speaker_and_text(message: Message, between: str = " ") -> str:
    """Return the text by which a message is indexed: the speaker's name, and all text in its content."""
    return with_speaker(message, text_of(message), between)


def with_speaker(message: Message, text: str, between: str = " ") -> str:
    """Return `text` after the name of the message's speaker."""
    name = speaker_of(message)
    return f"{name}{between}{text}" if name else text


def speaker_of(message: Message) -> str:
    """Return the name of a message's speaker, which is ``metadata["name"]`` or "original_name"; "" if it has none."""
    if not message.metadata:
        return ""
    names = (message.metadata.get(key) for key in ("name", "original_name"))
    return next((each for each in names if isinstance(each, str)), "")


def embedded_text(message: Message, settings: Settings) -> str:
    """Return the text of a message to embed, as "speaker: text"; empty if the message has no text."""
    return speaker_and_text(message, ": ")[: settings.max_indexed] if text_of(message).strip() else ""
