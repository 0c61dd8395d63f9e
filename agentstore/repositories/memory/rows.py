"""The statements that insert memories, and the values they take: columns, tokens and lexemes."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from agentstore.database.sql import SqlStatements
from agentstore.schemas import MemoryItem, Message, extraction
from agentstore.schemas.memory import speaker_of, with_speaker
from agentstore.schemas.memory_item import message_of
from agentstore.schemas.message import text_of
from agentstore.schemas.payload import dump_message
from agentstore.schemas.times import local_time
from agentstore.search import analysis, ranking
from agentstore.search.labels import labels_of_memory
from agentstore.search.question import name_tokens, question_share
from agentstore.settings import Settings

SQL = SqlStatements(__file__, extraction=extraction)

ADD = SQL("add")
ADD_AND_ENQUEUE = SQL("add_and_enqueue")
ADD_AGAIN = SQL("add_again")
ADD_ITEMS = SQL("add_items")


def values_of_messages(
    user_id: str,
    session_id: str,
    prepared: Sequence[tuple[Message, str]],
    language: str,
    settings: Settings,
    namespace: str | None,
    stored_at: Mapping[str, datetime],
) -> dict[str, Any]:
    """Return the parameters of ADD and ADD_AGAIN.

    `prepared` are the messages, each with the JSON text to store. `stored_at` has the times of messages without a
    timestamp, by id.
    """
    messages = [message for message, _ in prepared]
    times = [local_time((message.metadata or {}).get("timestamp")) or stored_at.get(message.id) for message in messages]
    now = datetime.now(UTC)
    texts = [text_of(message) for message in messages]
    indexed = [
        (with_speaker(message, text), time or now) for message, text, time in zip(messages, texts, times, strict=True)
    ]
    labels = [labels_of_memory(namespace, message.metadata) for message in messages]
    analyzed = analyze_texts(user_id, indexed, labels, language, settings)
    return {
        **analyzed,
        "namespace": namespace,
        "user_id": user_id,
        "session_id": session_id,
        "ids": [message.id for message in messages],
        "payloads": [payload for _, payload in prepared],
        "roles": [message.role for message in messages],
        "question_shares": _array_or_null([question_share(text[: settings.max_indexed]) for text in texts]),
        "speakers": _array_or_null([name_tokens(speaker_of(message), language) for message in messages]),
        "times": _array_or_null(times),
        "cuts": _array_or_null(analyzed["cuts"]),
    }


def _array_or_null(array: list[Any]) -> list[Any] | None:
    """Return an array, or None if all its values are the default: an array costs a call with ten messages 1.5 %."""
    return array if any(array) else None


def values_of_items(
    user_id: str, session_id: str, items: Sequence[MemoryItem], language: str, settings: Settings
) -> dict[str, Any]:
    """Return the parameters of ADD_ITEMS and UPDATE_ITEMS."""
    return {
        "user_id": user_id,
        "session_id": session_id,
        "ids": [item.id for item in items],
        "payloads": [dump_message(message_of(item), settings) for item in items],
        "roles": [message_of(item).role for item in items],
        "times": [item.valid_from for item in items],
        "kinds": [item.kind for item in items],
        "importances": [item.importance for item in items],
        "froms": [item.valid_from for item in items],
        "untils": [item.valid_until for item in items],
        "namespaces": [item.namespace for item in items],
        **analyze_texts(
            user_id,
            [(item.text, item.valid_from) for item in items],
            [labels_of_memory(item.namespace, item.metadata) for item in items],
            language,
            settings,
        ),
    }


def analyze_texts(
    user_id: str,
    texts: Sequence[tuple[str, datetime | None]],
    labels: Sequence[Sequence[str]],
    language: str,
    settings: Settings,
) -> dict[str, Any]:
    """Return the analysis of texts, each with its time and labels: an array for each column."""
    limit = settings.max_indexed
    analyzed = [analysis.memory_tokens(text[:limit], time, language) for text, time in texts]
    # What does not count for the length, and the rest.
    uncounted = [[*of_one, *each.dates] for of_one, each in zip(labels, analyzed, strict=True)]
    indexed = [ranking.truncate([*others, *each.words]) for others, each in zip(uncounted, analyzed, strict=True)]
    return {
        "analysis": analysis.fingerprint(language),
        "tokens": [len(tokens) - len(others) for tokens, others in zip(indexed, uncounted, strict=True)],
        "lexemes": [ranking.lexemes(user_id, tokens) for tokens in indexed],
        "cuts": [
            each.is_cut or len(text) > limit or len(others) + len(each.words) > len(tokens)
            for (text, _), each, others, tokens in zip(texts, analyzed, uncounted, indexed, strict=True)
        ],
    }
