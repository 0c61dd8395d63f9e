"""A memory as the memory service without a database stores it: analyzed, as a row on Postgres is."""

from array import array
from dataclasses import dataclass
from datetime import UTC, datetime

from agentstore.schemas import MemoryItem, Message, Role
from agentstore.schemas.memory import speaker_and_text, speaker_of, time_of
from agentstore.schemas.memory_item import item_of
from agentstore.schemas.message import text_of
from agentstore.schemas.payload import load_messages
from agentstore.search import analysis, ranking
from agentstore.search.labels import labels_of_memory
from agentstore.search.question import name_tokens, question_share
from agentstore.settings import Settings

Key = tuple[str, int]
"""The session id of a memory, and its number in the session."""


@dataclass
class StoredMemory:
    """A message or an item, with what searches read."""

    payload: str
    time: datetime
    memory: ranking.Memory
    labels: frozenset[str]
    namespace: str | None
    item: MemoryItem | None = None
    # None: not embedded yet, or without text.
    vector: "array[float] | None" = None

    def is_valid(self, at: datetime) -> bool:
        """Return whether it is a message, or an item that is valid at a time."""
        item = self.item
        return item is None or (
            (item.valid_from is None or item.valid_from <= at) and (item.valid_until is None or item.valid_until > at)
        )

    def message(self) -> Message:
        """Return the message that the caller added, or that represents the item."""
        return load_messages([self.payload])[0]


def stored_message(
    message: Message, payload: str, key: Key, namespace: str | None, stored_at: datetime | None, settings: Settings
) -> StoredMemory:
    """Return the memory of a message. `stored_at` is its time, if its metadata has none; default: now."""
    time = time_of(message, stored_at)
    analyzed = _analyze(key, speaker_and_text(message), time, message.role, settings)
    speaker = name_tokens(speaker_of(message), settings.text_search_config)
    analyzed = analyzed._replace(
        question_share=question_share(text_of(message)[: settings.max_indexed]),
        speaker=frozenset(speaker.split() if speaker else ()),
    )
    labels = frozenset(labels_of_memory(namespace, message.metadata))
    return StoredMemory(payload, time.astimezone(UTC), analyzed, labels, namespace)


def stored_item(
    payload: str, key: Key, namespace: str | None, valid_until: datetime | None, time: datetime, settings: Settings
) -> StoredMemory:
    """Return the memory of an item, whose message has this payload."""
    item = item_of(load_messages([payload])[0], valid_until, namespace)
    analyzed = _analyze(key, item.text, item.valid_from, Role.SYSTEM, settings)
    labels = frozenset(labels_of_memory(namespace, item.metadata))
    return StoredMemory(
        payload, item.valid_from or time, analyzed._replace(importance=item.importance), labels, namespace, item
    )


def _analyze(key: Key, text: str, time: datetime | None, role: str | None, settings: Settings) -> ranking.Memory:
    found = analysis.memory_tokens(text[: settings.max_indexed], time, settings.text_search_config)
    tokens = ranking.truncate([*found.dates, *found.words])
    return ranking.Memory(*key, frozenset(tokens), len(tokens) - len(found.dates), role)
