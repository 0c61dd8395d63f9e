"""Memories in memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from agentstore.errors import Closed
from agentstore.interfaces import MemoryService
from agentstore.schemas import Deleted, MemoryHit, Message, MessagesLike, Page
from agentstore.schemas.memory import (
    bucket,
    question_of,
    read_list_filters,
    read_memory_cursor,
    read_search_filters,
    said_at,
    speaker_and_text,
    text_of,
    write_memory_cursor,
)
from agentstore.schemas.payload import check_id, load_messages, prepare_messages
from agentstore.search import analysis, ranking, spelling
from agentstore.settings import Settings


@dataclass
class _Stored:
    payload: str
    time: datetime
    memory: ranking.Memory


class InMemoryMemoryService(MemoryService):
    """Memory for tests: as :class:`MemoryService` says, in the order that Postgres finds, and gone with the process."""

    def __init__(self, *, settings: Settings | None = None) -> None:
        """Nothing is read from anywhere but the settings."""
        self._settings = settings or Settings()
        self._language = analysis.check_language(self._settings.text_search_config)
        # user -> session -> id -> memory, in order
        self._users: dict[str, dict[str, dict[str, _Stored]]] = {}
        self._started = self._stopped = False

    async def start(self) -> None:  # noqa: D102 - the interface says it
        self._started, self._stopped = True, False

    async def stop(self) -> None:  # noqa: D102
        self._started, self._stopped = False, True

    async def health(self) -> bool:  # noqa: D102
        return self._started

    async def add_memory(self, user_id: str, messages: MessagesLike, session_id: str | None = None) -> None:  # noqa: D102
        check_id(user_id, "user_id", self._settings)
        session_id = bucket(session_id, self._settings)
        prepared = prepare_messages(messages, self._settings, first_wins=True)
        self._use()
        if not prepared:
            return
        there = self._users.setdefault(user_id, {}).setdefault(session_id, {})
        for id, (message, payload) in prepared.items():
            if id in there:
                continue
            text = speaker_and_text(message)[: self._settings.max_indexed]
            time = said_at(message)
            found = analysis.of_memory(text, time, self._language)
            tokens = ranking.fitting([*found.dates, *found.words])
            there[id] = _Stored(
                payload,
                time.astimezone(UTC),
                ranking.Memory(
                    session_id,
                    len(there) + 1,
                    frozenset(tokens),
                    len(tokens) - len(found.dates),
                    message.role,
                    ranking.is_question(text_of(message)),
                ),
            )

    async def search_memory(  # noqa: D102
        self, user_id: str, messages: MessagesLike, filters: Mapping[str, Any] | None = None
    ) -> list[Message]:
        return [hit.message for hit in await self.search(user_id, messages, filters)]

    async def search(
        self, user_id: str, messages: MessagesLike | str, filters: Mapping[str, Any] | None = None
    ) -> list[MemoryHit]:
        """Return what :meth:`search_memory` does, with scores and places; the question may be a string.

        Raises:
            InvalidContent, LimitExceeded: see :meth:`search_memory`.
        """
        check_id(user_id, "user_id", self._settings)
        wanted = read_search_filters(filters, self._settings)
        text, time = question_of(messages, self._settings)
        asked = analysis.of_question(text, time, self._language)
        asked = dict(islice(asked.items(), ranking.MOST_TOKENS))
        self._use()
        stored = {(each.memory.session_id, each.memory.seq): each for each in self._all(user_id)}
        memories = [each.memory for each in stored.values()]

        def among(memory: ranking.Memory) -> bool:
            time = stored[memory[:2]].time
            return (
                wanted.session_id in (None, memory.session_id)
                and (wanted.since is None or time >= wanted.since)
                and (wanted.until is None or time < wanted.until)
            )

        def fitting(tokens: Mapping[str, float]) -> list[MemoryHit]:
            return [
                MemoryHit(load_messages([each.payload])[0], score, *place, each.time)
                for place, score in ranking.scores(memories, tokens, among).items()
                if wanted.role in (None, (each := stored[place]).memory.role) and score >= wanted.min_score
            ]

        hits = fitting(asked)
        counted = [each for each in memories if among(each)] if hits else []
        df = {token: sum(ranking.has(each, token) for each in counted) for token in asked}
        known = {token for token in asked if df[token]}
        telling = {token for token in known if ranking.is_telling(df[token], len(memories))}
        if len(known) < len(asked):
            unknown = spelling.unknown(analysis.words(text, self._language), known, telling)
            if unknown:
                there = {token for each in memories for token in each.tokens}
                hits = fitting(asked | spelling.meant(unknown, there))
        if not hits:
            hits = fitting(ranking.beginnings(asked))
        hits.sort(key=lambda hit: (-hit.score, -hit.time.timestamp(), hit.session_id, -hit.position))
        hits = hits[: wanted.top_k]
        if wanted.order == "chronological":
            hits.sort(key=lambda hit: (hit.time, hit.session_id, hit.position))
        return hits

    async def list_memory(self, user_id: str, filters: Mapping[str, Any] | None = None) -> Page[Message]:  # noqa: D102
        check_id(user_id, "user_id", self._settings)
        wanted = read_list_filters(filters, self._settings)
        after = None if wanted.cursor is None else read_memory_cursor(wanted.cursor)
        self._use()
        found = [each for each in self._all(user_id) if after is None or each.memory[:2] > after]
        offset = (wanted.page_num - 1) * wanted.page_size
        page = found[offset : offset + wanted.page_size]
        cursor = write_memory_cursor(*page[-1].memory[:2]) if len(page) == wanted.page_size else None
        return Page(load_messages([each.payload for each in page]), cursor)

    async def delete_memory(self, user_id: str, session_id: str | None = None) -> Deleted:  # noqa: D102
        check_id(user_id, "user_id", self._settings)
        name = None if session_id is None else bucket(session_id, self._settings)
        self._use()
        buckets = self._users.get(user_id, {})
        names = list(buckets) if name is None else [name]
        return Deleted(memories=sum(len(buckets.pop(each, {})) for each in names))

    def _all(self, user_id: str) -> list[_Stored]:
        buckets = self._users.get(user_id, {})
        return [each for name in sorted(buckets) for each in buckets[name].values()]

    def _use(self) -> None:
        if self._stopped:
            raise Closed("The service was stopped: call start() to use it again.")
        self._started = True
