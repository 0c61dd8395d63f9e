"""Memories in memory."""

import logging
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from agentstore.errors import Closed, Conflict, EmbeddingFailed, NotConfigured
from agentstore.interfaces import MemoryService
from agentstore.schemas import (
    Deleted,
    Embedder,
    MemoryHit,
    MemoryItem,
    Message,
    MessagesLike,
    Page,
    Role,
    SearchStrategy,
)
from agentstore.schemas.memory import (
    bucket,
    embedded_text,
    question_of,
    read_list_filters,
    read_memory_cursor,
    read_search_filters,
    read_strategy,
    speaker_and_text,
    text_of,
    write_memory_cursor,
)
from agentstore.schemas.memory_item import MESSAGE, check_ids, message_of, prepare_items
from agentstore.schemas.page import check_count, read_cursor, write_cursor
from agentstore.schemas.payload import check_id, dump_message, load_messages, prepare_messages
from agentstore.schemas.times import parse_time
from agentstore.search import analysis, embedding, ranking
from agentstore.settings import Settings

_log = logging.getLogger(__name__)


@dataclass
class _Stored:
    payload: str
    time: datetime
    memory: ranking.Memory
    item: MemoryItem | None = None
    # None: not embedded yet, or there is no text.
    vector: "array[float] | None" = None

    def is_valid(self, at: datetime) -> bool:
        item = self.item
        return item is None or (
            (item.valid_from is None or item.valid_from <= at) and (item.valid_until is None or item.valid_until > at)
        )

    def message(self) -> Message:
        return load_messages([self.payload])[0]


class InMemoryMemoryService(MemoryService):
    """Memory for tests: as :class:`MemoryService` says, in the order that Postgres finds, and gone with the process."""

    def __init__(
        self,
        *,
        settings: Settings | None = None,
        embedder: Embedder | None = None,
        strategy: SearchStrategy | str = SearchStrategy.FULL_TEXT,
    ) -> None:
        """The arguments are those of :class:`PostgresMemoryService`; nothing else is read than the settings."""
        self._settings = settings or Settings()
        embedder = embedder if embedder is not None else embedding.configured(self._settings)
        self._embedder = embedder if embedder is None else embedding.check_embedder(embedder)
        self._strategy = read_strategy(strategy)
        if self._strategy is not SearchStrategy.FULL_TEXT:
            self._need_embedder()
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
        now = datetime.now(UTC)
        new = []
        there = self._users.setdefault(user_id, {}).setdefault(session_id, {})
        for id, (message, payload) in prepared.items():
            if id in there:
                continue
            text = speaker_and_text(message)[: self._settings.max_indexed]
            tokens = ranking.fitting(analysis.tokens(text, self._language))
            there[id] = _Stored(
                payload,
                parse_time((message.metadata or {}).get("timestamp")) or now,
                ranking.Memory(
                    session_id, len(there) + 1, frozenset(tokens), message.role, ranking.is_question(text_of(message))
                ),
            )
            new.append(there[id])
        await self._embed_new(new)

    async def save_items(
        self,
        user_id: str,
        items: MemoryItem | Mapping[str, Any] | Sequence[MemoryItem | Mapping[str, Any]],
        session_id: str | None = None,
        *,
        supersedes: Iterable[str] = (),
    ) -> list[MemoryItem]:
        """See :meth:`PostgresMemoryService.save_items`."""
        check_id(user_id, "user_id", self._settings)
        session_id = bucket(session_id, self._settings)
        prepared = prepare_items(items, self._settings)
        gone = check_ids(supersedes, self._settings)
        self._use()
        payloads = {id: dump_message(message_of(item), self._settings) for id, item in prepared.items()}
        buckets = self._users.setdefault(user_id, {}) if prepared or gone else {}
        items_in = {
            each.item.id: there for there in buckets.values() for each in there.values() if each.item is not None
        }
        for id in prepared.keys() - items_in.keys():
            if id in buckets.get(session_id, {}):
                raise Conflict(f"{id!r} is the id of a message in bucket {session_id!r} of user {user_id!r}")
        now = datetime.now(UTC)
        for id, item in prepared.items():
            into = items_in.get(id)
            if into is None:
                into = buckets.setdefault(session_id, {})
            place = into[id].memory[:2] if id in into else (session_id, len(into) + 1)
            tokens = ranking.fitting(analysis.tokens(item.text[: self._settings.max_indexed], self._language))
            memory = ranking.Memory(*place, frozenset(tokens), Role.SYSTEM, False, item.importance)
            same = id in into and into[id].payload == payloads[id]
            vector = into[id].vector if same else None
            into[id] = _Stored(payloads[id], item.valid_from or now, memory, item.model_copy(deep=True), vector)
        for id in gone:
            for each in filter(None, (there.get(id) for there in buckets.values())):
                if each.item is not None and (each.item.valid_until is None or each.item.valid_until > now):
                    each.item.valid_until = now
                    each.payload = dump_message(message_of(each.item), self._settings)
        saved = [
            each for there in buckets.values() for each in there.values() if each.item and each.item.id in prepared
        ]
        await self._embed_new([each for each in saved if each.vector is None])
        return list(prepared.values())

    async def list_items(
        self,
        user_id: str,
        *,
        kind: str | None = None,
        with_invalid: bool = False,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[MemoryItem]:
        """See :meth:`PostgresMemoryService.list_items`."""
        check_id(user_id, "user_id", self._settings)
        check_count(limit, "limit", self._settings.max_page)
        before = None if cursor is None else tuple(read_cursor(cursor, datetime, str))
        self._use()
        now = datetime.now(UTC)
        found = sorted(
            (
                ((each.time, each.item.id), each.item)
                for each in self._all(user_id)
                if each.item is not None and kind in (None, each.item.kind) and (with_invalid or each.is_valid(now))
            ),
            key=lambda each: each[0],
            reverse=True,
        )
        page = [each for each in found if before is None or each[0] < before][:limit]
        return Page(
            (item.model_copy(deep=True) for _, item in page),
            write_cursor(*page[-1][0]) if page and len(page) == limit else None,
        )

    async def search_memory(  # noqa: D102
        self, user_id: str, messages: MessagesLike, filters: Mapping[str, Any] | None = None
    ) -> list[Message]:
        return [hit.message for hit in await self.search(user_id, messages, filters)]

    async def search(
        self, user_id: str, messages: MessagesLike | str, filters: Mapping[str, Any] | None = None
    ) -> list[MemoryHit]:
        """Return what :meth:`search_memory` does, with scores and places. See :meth:`PostgresMemoryService.search`.

        Raises:
            InvalidContent, LimitExceeded: see :meth:`search_memory`.
            NotConfigured: the strategy needs vectors, and there is no embedder.
            EmbeddingFailed: the embedder failed, and the strategy is VECTOR.
        """
        check_id(user_id, "user_id", self._settings)
        wanted = read_search_filters(filters, self._settings)
        strategy = wanted.strategy or self._strategy
        question = question_of(messages, self._settings)
        asked = analysis.tokens(question, self._language)[: ranking.MOST_TOKENS]
        self._use()
        vector = None
        if strategy is not SearchStrategy.FULL_TEXT:
            embedder = self._need_embedder()
            if not question.strip() or not wanted.top_k:
                return []
            try:
                vector = await embedding.embed_question(embedder, question)
            except EmbeddingFailed as error:
                if strategy is SearchStrategy.VECTOR:
                    raise
                _log.warning("a search finds by words alone: %s", error)
        at = wanted.valid_at or datetime.now(UTC)
        stored = {(each.memory.session_id, each.memory.seq): each for each in self._all(user_id)}
        memories = [each.memory for each in stored.values()]

        def among(memory: ranking.Memory) -> bool:
            each = stored[memory[:2]]
            kind = MESSAGE if each.item is None else each.item.kind
            return (
                wanted.session_id in (None, memory.session_id)
                and wanted.kind in (None, kind)
                and (wanted.since is None or each.time >= wanted.since)
                and (wanted.until is None or each.time < wanted.until)
                and each.is_valid(at)
            )

        def is_wanted(place: tuple[str, int]) -> bool:
            return wanted.role in (None, stored[place].memory.role)

        def by_words(tokens: list[str], *, prefix: bool = False) -> dict[tuple[str, int], float]:
            found = ranking.scores(memories, tokens, among, prefix=prefix)
            return {place: score for place, score in found.items() if is_wanted(place)}

        def hits_of(scores: Mapping[tuple[str, int], float]) -> list[MemoryHit]:
            return [
                MemoryHit(
                    (each := stored[place]).message(),
                    score,
                    *place,
                    each.time,
                    each.item and each.item.model_copy(deep=True),
                )
                for place, score in scores.items()
                if score >= wanted.min_score
            ]

        if vector is None:
            hits = hits_of(by_words(asked)) or hits_of(by_words(ranking.beginnings(asked), prefix=True))
        else:
            meaning = {
                place: embedding.similarity(each.vector, vector)
                for place, each in stored.items()
                if each.vector is not None and wanted.session_id in (None, place[0])
            }

            def fits(place: tuple[str, int]) -> bool:
                return among(stored[place].memory) and is_wanted(place)

            if strategy is SearchStrategy.VECTOR:
                hits = hits_of({place: score for place, score in meaning.items() if fits(place)})
            else:
                priors = {place: ranking.prior(each.memory) for place, each in stored.items()}
                weight = self._settings.hybrid_weight
                hits = hits_of(ranking.fused(by_words(asked), meaning, fits, priors, weight, wanted.top_k))
        hits.sort(key=lambda hit: (-hit.score, -hit.time.timestamp(), hit.session_id, -hit.position))
        hits = hits[: wanted.top_k]
        if wanted.order == "chronological":
            hits.sort(key=lambda hit: (hit.time, hit.session_id, hit.position))
        return hits

    async def embed(self, *, user_id: str | None = None) -> int:
        """Embed what has no vector: everybody's memories or one user's; return how many were made.

        Raises:
            NotConfigured: there is no embedder.
            EmbeddingFailed: the embedder failed.
        """
        embedder = self._need_embedder()
        self._use()
        users = list(self._users) if user_id is None else [user_id]
        return await self._embed([each for user in users for each in self._all(user)], embedder)

    def _need_embedder(self) -> Embedder:
        if self._embedder is None:
            raise NotConfigured("To search by meaning, give the service an embedder, or set AGENTSTORE_EMBEDDING_URL.")
        return self._embedder

    async def _embed_new(self, new: list[_Stored]) -> None:
        if self._embedder is not None:
            try:
                await self._embed(new, self._embedder)
            except EmbeddingFailed as error:
                _log.warning("stored, and to be embedded later: %s", error)

    async def _embed(self, those: list[_Stored], embedder: Embedder) -> int:
        lacking = [
            (each, said)
            for each in those
            if each.vector is None and (said := embedded_text(each.message(), self._settings))
        ]
        vectors = await embedding.embed_texts(embedder, [said for _, said in lacking])
        for (each, _), vector in zip(lacking, vectors, strict=True):
            each.vector = vector
        return len(lacking)

    async def list_memory(self, user_id: str, filters: Mapping[str, Any] | None = None) -> Page[Message]:  # noqa: D102
        check_id(user_id, "user_id", self._settings)
        wanted = read_list_filters(filters, self._settings)
        after = None if wanted.cursor is None else read_memory_cursor(wanted.cursor)
        self._use()
        found = [each for each in self._all(user_id) if after is None or each.memory[:2] > after]
        offset = (wanted.page_num - 1) * wanted.page_size
        page = found[offset : offset + wanted.page_size]
        cursor = write_memory_cursor(*page[-1].memory[:2]) if len(page) == wanted.page_size else None
        return Page((each.message() for each in page), cursor)

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
