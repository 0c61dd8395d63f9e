"""What an extractor gets to see: a part of a conversation, and the items that it may change."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from agentstore.schemas import MemoryHit, MemoryItem, Message, Page
from agentstore.schemas.memory import speaker_and_text, text_of
from agentstore.schemas.times import parse_time

# Of each kind: those that the conversation's words find, and the newest.
_FOUND, _NEWEST = 20, 20
# Characters, about as many words as a search looks for; of a long conversation the end is what it has come to.
_QUESTION = 1_500
# What a small model reads with care; the rest is the next call's.
_MOST_CHARACTERS = 24_000


class Facts(Protocol):
    """Where items are found: a memory service."""

    @abstractmethod
    async def search(self, user_id: str, messages: str, filters: Mapping[str, Any] | None = None) -> list[MemoryHit]:
        """See :meth:`PostgresMemoryService.search`."""

    @abstractmethod
    async def list_items(self, user_id: str, *, kind: str | None = None, limit: int = 100) -> Page[MemoryItem]:
        """See :meth:`PostgresMemoryService.list_items`."""


async def items_in_view(
    facts: Facts, user_id: str, messages: Sequence[Message], kinds: Sequence[str]
) -> list[MemoryItem]:
    """Return the items that `messages` may be about, at most 40 of each kind, the best first."""
    question = " ".join(filter(None, map(text_of, messages)))[-_QUESTION:]
    found: dict[str, MemoryItem] = {}
    for kind in kinds:
        hits = await facts.search(user_id, question, {"kind": kind, "top_k": _FOUND})
        newest = await facts.list_items(user_id, kind=kind, limit=_NEWEST)
        for item in [*(hit.item for hit in hits if hit.item is not None), *newest]:
            found.setdefault(item.id, item)
    return list(found.values())


def readable(messages: Sequence[Message]) -> int:
    """Return how many of the first messages are enough for one call; at least one."""
    room = _MOST_CHARACTERS
    for count, message in enumerate(messages):
        room -= len(speaker_and_text(message))
        if room < 0:
            return max(count, 1)
    return len(messages)


def with_time(message: Message, time: datetime) -> Message:
    """Return a message that says when it was said, at least when it was stored."""
    known = message.metadata or {}
    if parse_time(known.get("timestamp")) is not None:
        return message
    return message.model_copy(update={"metadata": {**known, "timestamp": time.isoformat()}})
