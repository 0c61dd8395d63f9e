"""Memories in memory."""

import logging
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

from agentstore.errors import (
    Closed,
    Conflict,
    EmbeddingFailed,
    ExtractionFailed,
    InvalidContent,
    LimitExceeded,
    NotConfigured,
)
from agentstore.interfaces import Extractor, MemoryService
from agentstore.schemas import (
    Deleted,
    Embedder,
    Extracted,
    MemoryHit,
    MemoryItem,
    Message,
    MessagesLike,
    Page,
    Role,
    SearchStrategy,
)
from agentstore.schemas.extraction import prepare_extraction
from agentstore.schemas.memory import (
    bucket,
    embedded_text,
    question_of,
    read_list_filters,
    read_memory_cursor,
    read_search_filters,
    read_strategy,
    said_at,
    speaker_and_text,
    text_of,
    write_memory_cursor,
)
from agentstore.schemas.memory_item import MESSAGE, check_superseded, message_of, prepare_items
from agentstore.schemas.page import check_count, read_cursor, write_cursor
from agentstore.schemas.payload import check_id, dump_message, load_messages, prepare_messages
from agentstore.search import analysis, embedding, ranking, spelling
from agentstore.search.extraction import configured_extractor
from agentstore.search.snippets import Highlighter
from agentstore.search.view import items_in_view, readable, with_time
from agentstore.settings import Settings

_log = logging.getLogger(__name__)
_MOST_MESSAGES = 50


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
        extractor: Extractor | None = None,
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
        self._written: dict[tuple[str, str], datetime] = {}
        self._extractor = extractor
        self._enqueues = extractor is not None or self._settings.extraction_url is not None
        # By user and session: the ids of the messages to extract from, in order.
        self._waiting: dict[tuple[str, str], list[str]] = {}
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
        self._use(user_id)
        if not prepared:
            return
        new = []
        there = self._users.setdefault(user_id, {}).setdefault(session_id, {})
        for id, (message, payload) in prepared.items():
            if id in there:
                continue
            text = speaker_and_text(message)[: self._settings.max_indexed]
            time = said_at(message)
            found = self._found_by((session_id, len(there) + 1), text, time, message.role)
            found = found._replace(is_question=ranking.is_question(text_of(message)))
            there[id] = _Stored(payload, time.astimezone(UTC), found)
            if self._enqueues:
                self._waiting.setdefault((user_id, session_id), []).append(id)

            new.append(there[id])
        if new:
            self._written[user_id, session_id] = datetime.now(UTC)
        await self._embed_new(new)

    async def extract(self, user_id: str | None = None, *, limit: int = 100, settled: bool = True) -> list[Extracted]:
        """See :meth:`PostgresMemoryService.extract`; everything is due, and what fails is due at the next call.

        Raises:
            NotConfigured: there is no extractor.
        """
        self._use()
        if self._extractor is None:
            self._extractor = configured_extractor(self._settings)
        found: list[Extracted] = []
        failed: set[tuple[str, str]] = set()
        while len(found) < limit and not (found and found[-1].outage):
            due = (each for each in self._waiting if user_id in (None, each[0]) and each not in failed)
            place = next(due, None)
            if place is None:
                break
            self._use(place[0])
            if place not in self._waiting:
                continue  # it had expired
            extracted = await self._extract(self._extractor, place, self._waiting.pop(place))
            if extracted.error is not None:
                failed.add(place)
            found.append(extracted)
        return found

    async def _extract(self, extractor: Extractor, place: tuple[str, str], ids: list[str]) -> Extracted:
        """Extract from the first of these messages; the others wait, and all of them if it fails."""
        user_id, session_id = place
        there = self._users.get(user_id, {}).get(session_id, {})
        stored = [there[id] for id in ids[:_MOST_MESSAGES] if id in there]
        messages = [with_time(each.message(), each.time) for each in stored]
        messages = messages[: readable(messages)]
        waits = ids
        try:
            shown = await items_in_view(self, user_id, messages, extractor.kinds)
            extraction = await extractor.extract(messages, [item.model_copy(deep=True) for item in shown])
            items, gone = prepare_extraction(extraction, messages, shown, extractor.name, self._settings)
            if self._users.get(user_id, {}).get(session_id) is not there:
                return Extracted(user_id, session_id, len(messages), error="it was deleted")
            touched = {item.id for item in items}.union(gone)
            now = {each.item.id: each.item for each in self._all(user_id) if each.item is not None}
            if any(now.get(item.id) != item for item in shown if item.id in touched):
                raise Conflict("what it was to change has changed")
            await self.save_items(user_id, items, session_id, supersedes=gone)
            waits = ids[len(messages) :]
        except (ExtractionFailed, InvalidContent, LimitExceeded, Conflict) as error:
            outage = isinstance(error, ExtractionFailed) and error.outage
            return Extracted(user_id, session_id, len(messages), error=str(error), outage=outage)
        finally:
            if waits and self._users.get(user_id, {}).get(session_id) is there:
                self._waiting[place] = waits + self._waiting.pop(place, [])
        return Extracted(user_id, session_id, len(messages), tuple(items), tuple(gone))

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
        gone = check_superseded(supersedes, prepared, self._settings)
        self._use(user_id)
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
                self._written[user_id, session_id] = now
            place = into[id].memory[:2] if id in into else (session_id, len(into) + 1)
            memory = self._found_by(place, item.text[: self._settings.max_indexed], item.valid_from, Role.SYSTEM)
            memory = memory._replace(importance=item.importance)
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
        if kind is not None:
            check_id(kind, "kind", self._settings)
        before = None if cursor is None else tuple(read_cursor(cursor, datetime, str))
        self._use(user_id)
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
        text, time = question_of(messages, self._settings)
        asked = analysis.of_question(text, time, self._language)
        asked = dict(islice(asked.items(), ranking.MOST_TOKENS))
        self._use(user_id)
        vector = None
        if strategy is not SearchStrategy.FULL_TEXT:
            embedder = self._need_embedder()
            if not text.strip() or not wanted.top_k:
                return []
            try:
                vector = await embedding.embed_question(embedder, text)
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

        def by_words(tokens: Mapping[str, float]) -> dict[tuple[str, int], float]:
            found = ranking.scores(memories, tokens, among, best=ranking.looked_at(wanted.top_k, wanted.role))
            return {place: score for place, score in found.items() if is_wanted(place)}

        def hits_of(scores: Mapping[tuple[str, int], float], tokens: Mapping[str, float]) -> list[MemoryHit]:
            mark = Highlighter(tokens, self._language, most=self._settings.max_indexed)
            return [
                MemoryHit(each.message(), score, *place, each.time, each.item and each.item.model_copy(deep=True), mark)
                for place, score in scores.items()
                if score >= wanted.min_score and (each := stored[place])
            ]

        if vector is None:
            hits = hits_of(by_words(asked), asked)
            counted = [each for each in memories if among(each)] if hits else []
            df = {token: sum(ranking.has(each, token) for each in counted) for token in asked}
            known = {token for token in asked if df[token]}
            telling = {token for token in known if ranking.is_telling(df[token], len(memories))}
            if len(known) < len(asked):
                unknown = spelling.unknown(analysis.words(text, self._language), known, telling)
                if unknown:
                    there = {token for each in memories for token in each.tokens}
                    asked |= spelling.meant(unknown, there)
                    hits = hits_of(by_words(asked), asked)
            if not hits:
                begun = ranking.beginnings(asked)
                hits = hits_of(by_words(begun), begun)
        else:
            meaning = {
                place: embedding.similarity(each.vector, vector)
                for place, each in stored.items()
                if each.vector is not None and wanted.session_id in (None, place[0])
            }

            def fits(place: tuple[str, int]) -> bool:
                return among(stored[place].memory) and is_wanted(place)

            if strategy is SearchStrategy.VECTOR:
                hits = hits_of({place: score for place, score in meaning.items() if fits(place)}, asked)
            else:
                priors = {place: ranking.prior(each.memory) for place, each in stored.items()}
                weight = self._settings.hybrid_weight
                hits = hits_of(ranking.fused(by_words(asked), meaning, fits, priors, weight, wanted.top_k), asked)
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
        self._use(user_id)
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
        for each in names:
            self._waiting.pop((user_id, each), None)
        return Deleted(memories=sum(len(buckets.pop(each, {})) for each in names))

    def _found_by(self, place: tuple[str, int], text: str, time: datetime | None, role: str | None) -> ranking.Memory:
        found = analysis.of_memory(text, time, self._language)
        tokens = ranking.fitting([*found.dates, *found.words])
        return ranking.Memory(*place, frozenset(tokens), len(tokens) - len(found.dates), role, False)

    def _all(self, user_id: str) -> list[_Stored]:
        buckets = self._users.get(user_id, {})
        return [each for name in sorted(buckets) for each in buckets[name].values()]

    def _use(self, user_id: str | None = None) -> None:
        """Refuse if it is stopped, and forget those of the user's memories whose time has passed."""
        if self._stopped:
            raise Closed("The service was stopped: call start() to use it again.")
        self._started = True
        ttl = self._settings.memory_ttl
        if ttl is not None and user_id is not None:
            past = datetime.now(UTC) - timedelta(seconds=ttl)
            for session_id in [name for name in self._users.get(user_id, {}) if self._written[user_id, name] <= past]:
                del self._users[user_id][session_id]
                self._waiting.pop((user_id, session_id), None)
