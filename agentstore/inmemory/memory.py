"""The memory service without a database, for tests."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import filterfalse
from typing import Any

from agentstore.errors import Closed, EmbeddingFailed, LimitExceeded, NotConfigured, NotFound
from agentstore.inmemory.extraction import Extraction
from agentstore.inmemory.stored_memory import StoredMemory, stored_item, stored_message
from agentstore.inmemory.users import InMemoryUserService
from agentstore.interfaces import Extractor, SessionHistoryService, StoreMemoryService
from agentstore.schemas import (
    Deleted,
    Embedder,
    Extracted,
    FailedExtraction,
    ListFilters,
    MemoryHit,
    MemoryItem,
    Message,
    MessagesLike,
    Page,
    PendingExtraction,
    Reranker,
    SearchFilters,
    SearchStrategy,
)
from agentstore.schemas.memory import (
    ListedMemory,
    bucket,
    embedded_text,
    listed_message,
    query_of,
    read_memory_cursor,
    write_memory_cursor,
)
from agentstore.schemas.memory_filters import (
    check_metadata_filter,
    check_session_ids,
    read_list_filters,
    read_search_filters,
    read_strategy,
)
from agentstore.schemas.memory_item import (
    MESSAGE,
    check_superseded,
    item_has_id_of_message,
    message_has_id_of_item,
    message_of,
    prepare_items,
)
from agentstore.schemas.namespace import check_namespace
from agentstore.schemas.page import Advice, check_count, check_reply, read_cursor, write_cursor
from agentstore.schemas.payload import MAX_TTL, check_id, dump_message, prepare_messages
from agentstore.search import analysis, embedding, ranking, reranking, spelling
from agentstore.search.extraction import configured_extractor
from agentstore.search.labels import labels_of_filter
from agentstore.search.question import read_question
from agentstore.search.snippets import Highlighter
from agentstore.search.static_embedding import StaticEmbedder, find_static
from agentstore.settings import Settings, settings_from_environment

_log = logging.getLogger(__name__)


class InMemoryMemoryService(StoreMemoryService):
    """A :class:`MemoryService` without a database, for tests. Memories are lost when the process ends.

    Searches rank as those of the service on Postgres.
    """

    def __init__(
        self,
        *,
        settings: Settings | None = None,
        embedder: Embedder | None = None,
        strategy: SearchStrategy | str = SearchStrategy.FULL_TEXT,
        extractor: Extractor | None = None,
        reranker: Reranker | None = None,
        users: InMemoryUserService | None = None,
        sessions: SessionHistoryService | None = None,
    ) -> None:
        """Create the service. `users` has the owners of memories, `sessions` the sessions for :meth:`add_sessions`.

        The other arguments are those of PostgresMemoryService.
        """
        self._sessions = sessions
        self._settings = settings or settings_from_environment()
        self._own_embedder = None if embedder is not None else embedding.configured(self._settings)
        embedder = embedder if embedder is not None else self._own_embedder
        self._static = embedder if isinstance(embedder, StaticEmbedder) else None
        # That whose vectors are stored.
        self._embedder = None if embedder is None or self._static else embedding.check_embedder(embedder)
        self._strategy = read_strategy(strategy)
        self._find_static(self._strategy)
        self._own_reranker = None if reranker is not None else reranking.configured_reranker(self._settings)
        reranker = reranker if reranker is not None else self._own_reranker
        self._reranker = reranker if reranker is None else reranking.check_reranker(reranker)
        self._language = analysis.check_language(self._settings.text_search_config)
        self._owners = users or InMemoryUserService(settings=self._settings)
        # User id -> session id -> memory id -> memory, in order.
        self._users: dict[str, dict[str, dict[str, StoredMemory]]] = {}
        # (User id, session id) -> time of the last addition.
        self._updated_at: dict[tuple[str, str], datetime] = {}
        self._extractor = extractor
        self._enqueues = extractor is not None or self._settings.extraction_url is not None
        self._extraction = Extraction(self, self._settings)
        self._started = self._stopped = False

    async def start(self) -> None:  # noqa: D102 - documented in the interface
        self._started, self._stopped = True, False

    async def stop(self) -> None:  # noqa: D102
        self._started, self._stopped = False, True
        for own in (self._own_embedder, self._own_reranker):
            if own is not None:
                await own.close()

    async def health(self, timeout: float = 2.0, *, writable: bool = True) -> bool:  # noqa: D102
        return self._started

    async def add_memory(  # noqa: D102
        self,
        user_id: str,
        messages: MessagesLike,
        session_id: str | None = None,
        *,
        namespace: str | None = None,
    ) -> None:
        check_namespace(namespace, self._settings)
        check_id(user_id, "user_id", self._settings)
        session_id = bucket(session_id, self._settings)
        await self._add_messages(user_id, messages, session_id, namespace, {})

    async def add_sessions(
        self,
        user_id: str,
        session_ids: Sequence[str] | None = None,
        *,
        namespace: str | None = None,
        batch: int = 500,
    ) -> int:
        """See :meth:`StoreMemoryService.add_sessions`.

        Raises:
            NotConfigured: the service was created without `sessions`.
        """
        check_id(user_id, "user_id", self._settings)
        check_namespace(namespace, self._settings)
        check_count(batch, "batch", minimum=1, maximum=self._settings.max_page)
        given = None if session_ids is None else check_session_ids(session_ids, self._settings)
        self._use()
        if self._sessions is None:
            raise NotConfigured("add_sessions needs the service of the sessions: InMemoryMemoryService(sessions=...).")
        if given is None:
            given = sorted(session.id for session in await self._sessions.list_sessions(user_id))
        added = 0
        for id in given:
            session = await self._sessions.get_session(user_id, id)
            if session is None:
                raise NotFound(f"user {user_id!r} has no session {id!r}")
            stored_at = {each.id: each.created_at for each in session.messages if each.created_at is not None}
            name = bucket(id, self._settings)
            for start in range(0, len(session.messages), batch):
                page = session.messages[start : start + batch]
                added += await self._add_messages(user_id, page, name, namespace, stored_at)
        return added

    async def _add_messages(
        self,
        user_id: str,
        messages: MessagesLike,
        session_id: str,
        namespace: str | None,
        stored_at: Mapping[str, datetime],
    ) -> int:
        prepared = prepare_messages(messages, self._settings, first_wins=True)
        self._use(user_id)
        if not prepared:
            return 0
        existing = self._users.get(user_id, {}).get(session_id, {})
        for id in prepared:
            if id in existing and existing[id].item is not None:
                raise message_has_id_of_item(user_id, session_id, id)
        new = []
        memories = self._users.setdefault(user_id, {}).setdefault(session_id, {})
        self._owners._add(user_id)
        for id, (message, payload) in prepared.items():
            if id in memories:
                continue
            key = session_id, len(memories) + 1
            memories[id] = stored_message(message, payload, key, namespace, stored_at.get(id), self._settings)
            if self._enqueues:
                self._extraction.enqueue(user_id, session_id, len(memories))
            new.append(memories[id])
        if new:
            self._updated_at[user_id, session_id] = datetime.now(UTC)
        await self._embed_new(new)
        return len(new)

    async def extract(self, user_id: str | None = None, *, limit: int = 100, settled: bool = True) -> list[Extracted]:
        """See :meth:`PostgresMemoryService.extract`. All messages are due at once, and failures at the next call.

        Raises:
            NotConfigured: there is no extractor.
            InvalidContent, LimitExceeded: `user_id` or `limit` is not valid, or `limit` is over 10,000.
        """
        self._check_owner(user_id)
        check_count(limit, "limit", maximum=self._settings.max_page)
        self._use()
        if self._extractor is None:
            self._extractor = configured_extractor(self._settings)
        return await self._extraction.run(self._extractor, user_id, limit)

    async def list_failed_extractions(  # noqa: D102
        self, user_id: str | None = None, *, limit: int = 100, cursor: str | None = None
    ) -> Page[FailedExtraction]:
        check_count(limit, "limit", maximum=self._settings.max_page)
        self._check_owner(user_id)
        self._use()
        return self._extraction.list_failed(user_id, limit, cursor)

    async def list_pending_extractions(  # noqa: D102
        self, user_id: str | None = None, *, leased: bool = False, limit: int = 100, cursor: str | None = None
    ) -> Page[PendingExtraction]:
        check_count(limit, "limit", maximum=self._settings.max_page)
        self._check_owner(user_id)
        self._use()
        return self._extraction.list_pending(user_id, bool(leased), limit, cursor)

    async def retry_failed_extractions(self, user_id: str | None = None) -> int:  # noqa: D102
        self._check_owner(user_id)
        self._use()
        return self._extraction.retry_failed(user_id)

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
        superseded = check_superseded(supersedes, prepared, self._settings)
        self._use(user_id)
        payloads = {id: dump_message(message_of(item), self._settings) for id, item in prepared.items()}
        buckets = self._users.setdefault(user_id, {}) if prepared or superseded else {}
        if prepared:
            self._owners._add(user_id)
        bucket_of = {
            each.item.id: memories
            for memories in buckets.values()
            for each in memories.values()
            if each.item is not None
        }
        for id in prepared.keys() - bucket_of.keys():
            if id in buckets.get(session_id, {}):
                raise item_has_id_of_message(user_id, session_id, id)
        now = datetime.now(UTC)
        for id, item in prepared.items():
            target = bucket_of.get(id)
            if target is None:
                target = buckets.setdefault(session_id, {})
                self._updated_at[user_id, session_id] = now
            key = target[id].memory[:2] if id in target else (session_id, len(target) + 1)
            is_unchanged = id in target and target[id].payload == payloads[id]
            vector = target[id].vector if is_unchanged else None
            target[id] = stored_item(payloads[id], key, item.namespace, item.valid_until, now, self._settings)
            target[id].vector = vector
        for id in superseded:
            for each in filter(None, (memories.get(id) for memories in buckets.values())):
                if each.item is not None and (each.item.valid_until is None or each.item.valid_until > now):
                    each.item.valid_until = now
                    each.payload = dump_message(message_of(each.item), self._settings)
        saved = [
            each
            for memories in buckets.values()
            for each in memories.values()
            if each.item and each.item.id in prepared
        ]
        await self._embed_new([each for each in saved if each.vector is None])
        return list(prepared.values())

    async def list_items(
        self,
        user_id: str,
        *,
        kind: str | None = None,
        namespace: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        with_invalid: bool = False,
        limit: int = 100,
        cursor: str | None = None,
        stale_ok: bool = False,
    ) -> Page[MemoryItem]:
        """See :meth:`PostgresMemoryService.list_items`."""
        check_id(user_id, "user_id", self._settings)
        check_count(limit, "limit", maximum=self._settings.max_page)
        if kind is not None:
            check_id(kind, "kind", self._settings)
        check_namespace(namespace, self._settings)
        labels = labels_of_filter(namespace, check_metadata_filter(metadata))
        before = None if cursor is None else tuple(read_cursor(cursor, datetime, str))
        self._use()
        now = datetime.now(UTC)
        found = sorted(
            (
                ((each.time, each.item.id), each.item)
                for each in self._all(user_id)
                if each.item is not None
                and kind in (None, each.item.kind)
                and each.labels.issuperset(labels)
                and (with_invalid or each.is_valid(now))
            ),
            key=lambda each: each[0],
            reverse=True,
        )
        page = [each for each in found if before is None or each[0] < before][:limit]
        check_reply((item.text for _, item in page), self._settings, Advice.SMALLER_LIMIT)
        return Page(
            (item.model_copy(deep=True) for _, item in page),
            write_cursor(*page[-1][0]) if page and len(page) == limit else None,
        )

    async def search_memory(  # noqa: D102
        self,
        user_id: str,
        messages: MessagesLike | str,
        filters: SearchFilters | None = None,
        *,
        stale_ok: bool = False,
    ) -> list[Message]:
        return [hit.message for hit in await self.search(user_id, messages, filters)]

    async def search(
        self,
        user_id: str,
        messages: MessagesLike | str,
        filters: SearchFilters | None = None,
        *,
        stale_ok: bool = False,
    ) -> list[MemoryHit]:
        """Search a user's memories, and return the hits with scores. See :meth:`PostgresMemoryService.search`.

        Raises:
            InvalidContent: the query or a filter is not valid.
            LimitExceeded: ``top_k`` is over 1,000, or the hits have more than 256 MB.
            NotConfigured: the strategy needs vectors, and there is no embedder.
            EmbeddingFailed: the embedder failed, and the strategy is VECTOR.
        """
        check_id(user_id, "user_id", self._settings)
        checked = read_search_filters(filters, self._settings)
        strategy = checked.strategy or self._strategy
        text, time = query_of(messages, self._settings, checked.now)
        question = read_question(text, time, self._language)
        query = question.tokens
        self._use()
        static = self._find_static(strategy)
        vector = None
        if strategy is not SearchStrategy.FULL_TEXT and static is None:
            embedder = self._require_embedder()
            if not text.strip() or not checked.top_k:
                return []
            try:
                vector = await embedding.embed_question(embedder, text)
            except EmbeddingFailed as error:
                if strategy is SearchStrategy.VECTOR:
                    raise
                _log.warning("Hybrid search falls back to searching by words alone: %s", error)
        if not checked.top_k:
            return []
        wanted = reranking.candidates(checked, self._reranker, static, self._settings)
        min_score = checked.min_score if static is None else 0.0
        at = checked.valid_at or datetime.now(UTC)
        labels = labels_of_filter(checked.namespace, checked.metadata)
        stored = {(each.memory.session_id, each.memory.seq): each for each in self._all(user_id)}
        memories = [each.memory for each in stored.values()]

        def among(memory: ranking.Memory) -> bool:
            each = stored[memory[:2]]
            kind = MESSAGE if each.item is None else each.item.kind
            return (
                checked.has_session(memory.session_id)
                and checked.kind in (None, kind)
                and each.labels.issuperset(labels)
                and (checked.since is None or each.time >= checked.since)
                and (checked.until is None or each.time < checked.until)
                and each.is_valid(at)
            )

        def has_role(key: tuple[str, int]) -> bool:
            return checked.role in (None, stored[key].memory.role)

        def by_words(tokens: Mapping[str, float]) -> dict[tuple[str, int], ranking.Scored]:
            best = ranking.candidates(wanted, checked.role)
            found = ranking.scores(
                memories, question._replace(tokens=tokens), among, best=best, neighbors=checked.neighbors
            )
            return {key: scored for key, scored in found.items() if has_role(key)}

        def hits_of(scores: Mapping[tuple[str, int], ranking.Scored], tokens: Mapping[str, float]) -> list[MemoryHit]:
            mark = Highlighter(tokens, self._language, most=self._settings.max_indexed)
            return [
                MemoryHit(
                    *(each.message(), scored.score, *key, each.time, each.item and each.item.model_copy(deep=True)),
                    is_match=scored.is_match,
                    namespace=each.namespace,
                    highlighter=mark,
                )
                for key, scored in scores.items()
                if scored.score >= min_score and (each := stored[key])
            ]

        if vector is None:
            hits = hits_of(by_words(query), query)
            counted = [each for each in memories if among(each)] if hits else []
            df = {token: sum(ranking.has(each, token) for each in counted) for token in query}
            known = {token for token in query if df[token]}
            selective = {token for token in known if ranking.is_selective(df[token], len(memories))}
            if len(known) < len(query):
                unknown = spelling.unknown_tokens(analysis.words(text, self._language), known, selective)
                if unknown:
                    existing = {token for each in memories for token in each.tokens}
                    query = {**query, **spelling.replacements(unknown, existing)}
                    hits = hits_of(by_words(query), query)
            if not hits:
                prefixes = ranking.prefixes(filterfalse(analysis.is_function_word, query))
                hits = hits_of(by_words(prefixes), prefixes)
        else:
            meaning = {
                key: embedding.similarity(each.vector, vector)
                for key, each in stored.items()
                if each.vector is not None and checked.has_session(key[0])
            }

            def passes(key: tuple[str, int]) -> bool:
                return among(stored[key].memory) and has_role(key)

            if strategy is SearchStrategy.VECTOR:
                similar = {key: ranking.Scored(score, True) for key, score in meaning.items() if passes(key)}
                hits = hits_of(similar, query)
            else:
                priors = {key: ranking.prior(each.memory, question) for key, each in stored.items()}
                weight = self._settings.hybrid_weight
                hits = hits_of(ranking.fused(by_words(query), meaning, passes, priors, weight, wanted), query)
        hits.sort(key=lambda hit: (-hit.score, -hit.time.timestamp(), hit.session_id, -hit.position))
        hits = hits[:wanted]
        payloads = [stored[hit.session_id, hit.position].payload for hit in hits]
        try:
            check_reply(payloads, self._settings, Advice.SMALLER_TOP_K)
        except LimitExceeded:
            check_reply(payloads[: checked.top_k], self._settings, Advice.SMALLER_TOP_K)
            hits = hits[: checked.top_k]  # only these are scored again
        factors = [ranking.prior(stored[hit.session_id, hit.position].memory, question) for hit in hits if static]
        return await reranking.select(
            hits, text, checked, self._settings, reranker=self._reranker, static=static, priors=factors
        )

    async def embed(  # noqa: D102
        self, *, user_id: str | None = None, batch: int = 100, progress: Callable[[int, int], None] | None = None
    ) -> int:
        self._check_owner(user_id)
        check_count(batch, "batch", minimum=1, maximum=self._settings.max_page)
        embedder = self._require_embedder()
        memories = self._all_of(user_id)

        async def add(part: Sequence[StoredMemory]) -> int:
            return await self._embed(part, embedder)

        skipping = embedding.SkippingEmbedder(add, lambda each: f"Memory {each.message().id!r}")
        for start in range(0, len(memories), batch):
            part = memories[start : start + batch]
            await skipping.run([each for each in part if each.vector is None])
            if progress is not None:
                progress(start + len(part), len(memories))
        return skipping.finish()

    async def reindex(
        self,
        *,
        user_id: str | None = None,
        batch: int = 500,
        progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Return 0: all memories were indexed by the analysis of this process. See :meth:`StoreMemoryService.reindex`.

        `progress` is called once, with all memories.
        """
        check_count(batch, "batch", minimum=1, maximum=self._settings.max_page)
        self._check_owner(user_id)
        count = len(self._all_of(user_id))
        if progress is not None:
            progress(count, count)
        return 0

    async def touch(self, user_id: str, *, idle: int = 0) -> None:  # noqa: D102
        check_id(user_id, "user_id", self._settings)
        check_count(idle, "idle", maximum=MAX_TTL)
        self._use()
        now, expired = datetime.now(UTC), self._list_expired(user_id)
        for session_id in self._users.get(user_id, {}):
            if session_id not in expired and now - self._updated_at[user_id, session_id] >= timedelta(seconds=idle):
                self._updated_at[user_id, session_id] = now

    async def expire(self, user_id: str) -> None:  # noqa: D102
        check_id(user_id, "user_id", self._settings)
        self._use(user_id)

    def _find_static(self, strategy: SearchStrategy) -> StaticEmbedder | None:
        """Return the embedder of a hybrid search without stored vectors, else None. Raises as find_static does."""
        static = find_static(strategy, self._embedder or self._static)
        self._static = static or self._static
        return static

    def _require_embedder(self) -> Embedder:
        if self._embedder is None:
            raise NotConfigured(
                "Searching by meaning needs an embedder: pass one to the service, or set AGENTSTORE_EMBEDDING_URL."
            )
        return self._embedder

    async def _embed_new(self, new: list[StoredMemory]) -> None:
        if self._embedder is not None:
            try:
                await self._embed(new, self._embedder)
            except EmbeddingFailed as error:
                _log.warning("Memories were stored without vectors; call embed() to add them: %s", error)

    async def _embed(self, memories: Sequence[StoredMemory], embedder: Embedder) -> int:
        unembedded = [
            (each, text)
            for each in memories
            if each.vector is None and (text := embedded_text(each.message(), self._settings))
        ]
        vectors = await embedding.embed_texts(embedder, [text for _, text in unembedded])
        for (each, _), vector in zip(unembedded, vectors, strict=True):
            each.vector = vector
        return len(unembedded)

    async def list_memory(  # noqa: D102
        self, user_id: str, filters: ListFilters | None = None, *, stale_ok: bool = False
    ) -> Page[Message]:
        check_id(user_id, "user_id", self._settings)
        checked = read_list_filters(filters, self._settings)
        after = read_memory_cursor(checked.cursor)
        labels = labels_of_filter(checked.namespace, checked.metadata)
        self._use()
        found = [
            each
            for each in self._all(user_id)
            if each.memory[:2] > after
            and checked.has_session(each.memory.session_id)
            and each.labels.issuperset(labels)
        ]
        offset = (checked.page_num - 1) * checked.page_size
        page = found[offset : offset + checked.page_size]
        cursor = write_memory_cursor(*page[-1].memory[:2]) if len(page) == checked.page_size else None
        check_reply((each.payload for each in page), self._settings, Advice.SMALLER_PAGE_SIZE)
        kinds = [each.item.kind if each.item else "message" for each in page]
        places = [ListedMemory(*each.memory[:2], each.time, kind) for each, kind in zip(page, kinds, strict=True)]
        return Page((listed_message(each.message(), at) for each, at in zip(page, places, strict=True)), cursor)

    async def delete_memory(self, user_id: str, session_id: str | None = None) -> Deleted:  # noqa: D102
        check_id(user_id, "user_id", self._settings)
        name = None if session_id is None else bucket(session_id, self._settings)
        self._use()
        buckets = self._users.get(user_id, {})
        names = list(buckets) if name is None else [name]
        return Deleted(memories=sum(self._drop(user_id, each) for each in names))

    def _drop(self, user_id: str, session_id: str) -> int:
        """Delete the memories of a session, with what is queued of them; return their number."""
        self._extraction.delete(user_id, session_id)
        self._updated_at.pop((user_id, session_id), None)
        return len(self._users.get(user_id, {}).pop(session_id, {}))

    def _check_owner(self, user_id: str | None) -> None:
        """Validate the id of a user, or None for all users."""
        if user_id is not None:
            check_id(user_id, "user_id", self._settings)

    def _all_of(self, user_id: str | None) -> list[StoredMemory]:
        """Return the memories of one user or of all."""
        self._use()
        return [each for user in ([*self._users] if user_id is None else [user_id]) for each in self._all(user)]

    def _all(self, user_id: str) -> list[StoredMemory]:
        buckets, expired = self._users.get(user_id, {}), self._list_expired(user_id)
        return [each for name in sorted(buckets) if name not in expired for each in buckets[name].values()]

    def _use(self, user_id: str | None = None) -> None:
        """Raise if the service is stopped. Delete the expired memories of a user, which writes do and reads do not."""
        if self._stopped:
            raise Closed("The service was stopped: call start() to use it again.")
        self._started = True
        if user_id is None:
            return
        for session_id in self._list_expired(user_id):
            self._drop(user_id, session_id)

    def _list_expired(self, user_id: str) -> list[str]:
        """Return the sessions of the user whose memories have expired, and are not deleted yet."""
        ttl = self._settings.memory_ttl
        if ttl is None:
            return []
        limit = datetime.now(UTC) - timedelta(seconds=ttl)
        return [id for id in self._users.get(user_id, {}) if self._updated_at[user_id, id] <= limit]
