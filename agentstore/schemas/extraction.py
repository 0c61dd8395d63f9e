"""What an extractor answers, what became of it, and what could not be done."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from agentstore.errors import InvalidContent
from agentstore.schemas.memory_item import MemoryItem, check_ids, prepare_items
from agentstore.schemas.message import Message
from agentstore.settings import Settings

# Of an item that is written anew again and again, the last ones.
_MOST_SOURCES = 200


@dataclass(frozen=True, slots=True)
class Extraction:
    """What was concluded from messages, the items that were there before in view."""

    items: list[MemoryItem] = field(default_factory=list)
    """New items, and those shown that are to be written anew, under the id that they have."""
    supersedes: list[str] = field(default_factory=list)
    """The ids of the items shown that hold no more."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """What became of a conversation, or the part of one, that was given to an extractor."""

    user_id: str
    session_id: str
    messages: int
    items: tuple[MemoryItem, ...] = ()
    """As they are written."""
    superseded: tuple[str, ...] = ()
    error: str | None = None
    """Why nothing was written; the messages wait for another try, unless `failed`."""
    failed: bool = False
    """It was tried often enough, and is set aside until somebody says to try again."""
    outage: bool = False
    """The reason is the endpoint, and not this conversation: others would fare no better now."""


@dataclass(frozen=True, slots=True)
class FailedExtraction:
    """Messages of a session, by their numbers in it, that were set aside because extracting failed too often."""

    user_id: str
    session_id: str
    first_position: int
    last_position: int
    attempts: int
    failed_at: datetime
    error: str


def prepare_extraction(
    given: Extraction, messages: Sequence[Message], shown: Sequence[MemoryItem], extractor: str, settings: Settings
) -> tuple[list[MemoryItem], list[str]]:
    """Return the items to write and the ids to supersede, each item with where it is from.

    An item without sources has all the messages; one that was shown keeps those it had. What is to be superseded and
    was not shown, or is written anew as well, is passed over: nobody ends what they have not seen.

    Raises:
        InvalidContent, LimitExceeded: it cannot be kept.
    """
    if not isinstance(given, Extraction):
        raise InvalidContent(f"an extractor answers an Extraction, not {type(given).__name__}")
    before = {item.id: item for item in shown}
    said = [message.id for message in messages]
    items = []
    for item in prepare_items(given.items, settings).values():
        known = before[item.id].source_ids if item.id in before else []
        new = item.source_ids if item.source_ids != known else []
        sources = list(dict.fromkeys([*known, *(new or said)]))[-_MOST_SOURCES:]
        metadata = {**item.metadata, "extractor": extractor}
        items.append(item.model_copy(update={"source_ids": sources, "metadata": metadata}))
    written = {item.id for item in items}
    gone = [id for id in check_ids(given.supersedes, settings) if id in before and id not in written]
    return items, gone
