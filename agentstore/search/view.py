"""The input of an extractor: a part of a conversation, and the existing items it may change; and its call."""

import asyncio
from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol

from agentstore.errors import ExtractionFailed
from agentstore.schemas import Extraction, MemoryHit, MemoryItem, Message, Page, SearchFilters
from agentstore.schemas.memory import speaker_and_text
from agentstore.schemas.message import text_of
from agentstore.schemas.times import parse_time

# The items of each kind: the best hits of a search for the conversation's words, and the newest ones.
_HITS, _NEWEST = 20, 20
# Characters at the end of the conversation that are searched for: about as many words as a query may have.
_QUERY = 1_500
# Characters that a small model reads reliably. The rest of the messages is left to the next call.
_MAX_CHARACTERS = 24_000


class ItemSource(Protocol):
    """A memory service in which items are searched and listed."""

    @abstractmethod
    async def search(self, user_id: str, messages: str, filters: SearchFilters | None = None) -> list[MemoryHit]:
        """See :meth:`PostgresMemoryService.search`."""

    @abstractmethod
    async def list_items(self, user_id: str, *, kind: str | None = None, limit: int = 100) -> Page[MemoryItem]:
        """See :meth:`PostgresMemoryService.list_items`."""


async def find_related_items(
    source: ItemSource, user_id: str, messages: Sequence[Message], kinds: Sequence[str]
) -> list[MemoryItem]:
    """Return the items that `messages` may be about, at most 40 of each kind, best hits first."""
    query = " ".join(filter(None, map(text_of, messages)))[-_QUERY:]
    found: dict[str, MemoryItem] = {}
    for kind in kinds:
        hits = await source.search(user_id, query, {"kind": kind, "top_k": _HITS})
        newest = await source.list_items(user_id, kind=kind, limit=_NEWEST)
        for item in [*(hit.item for hit in hits if hit.item is not None), *newest]:
            found.setdefault(item.id, item)
    return list(found.values())


def count_for_one_call(messages: Sequence[Message]) -> int:
    """Return how many of the first messages fit into one call of an extractor; at least one, if there are any."""
    remaining = _MAX_CHARACTERS
    for count, message in enumerate(messages):
        remaining -= len(speaker_and_text(message))
        if remaining < 0:
            return max(count, 1)
    return len(messages)


def with_timestamp(message: Message, time: datetime) -> Message:
    """Return a message with a ``metadata["timestamp"]``: its own, or else `time`."""
    metadata = message.metadata or {}
    if parse_time(metadata.get("timestamp")) is not None:
        return message
    return message.model_copy(update={"metadata": {**metadata, "timestamp": time.isoformat()}})


async def call_extractor(
    extract: Callable[[Sequence[Message], Sequence[MemoryItem]], Awaitable[Extraction]],
    kinds: Sequence[str],
    source: ItemSource,
    user_id: str,
    messages: list[Message],
    timeout: float,
) -> tuple[Extraction, list[MemoryItem]]:
    """Call an extractor of `kinds`; return its result, and the existing items that it was given.

    Without messages it is not called.

    Raises:
        ExtractionFailed: the extractor failed, or took longer than `timeout` seconds, which is an outage.
    """
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            existing = await find_related_items(source, user_id, messages, kinds)
            if not messages:
                return Extraction(), existing
            # The extractor gets copies, which it may modify: the originals are compared with the stored items.
            copies = [item.model_copy(deep=True) for item in existing]
            return await extract(messages, copies), existing
    except TimeoutError as error:
        if not limit.expired():
            raise  # raised by the extractor itself
        raise ExtractionFailed(f"the extractor took longer than {timeout:g} s", outage=True) from error
