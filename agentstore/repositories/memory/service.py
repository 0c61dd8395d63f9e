"""The memory service on Postgres.

A call executes one statement. It takes more when a concurrent write gets in between, when a query has words that no
memory has, and when it writes items.
"""

import logging
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import URL
from sqlalchemy.ext.asyncio import AsyncEngine

from agentstore import offload
from agentstore.database.database import Database
from agentstore.database.retry import is_conflict, retry
from agentstore.database.statement import Row
from agentstore.database.telemetry import Telemetry
from agentstore.database.url import Password
from agentstore.errors import (
    EmbeddingFailed,
    LimitExceeded,
    NotConfigured,
    StatementFailed,
)
from agentstore.interfaces import Extractor, StoreMemoryService
from agentstore.repositories.memory import reindex as memory_reindex
from agentstore.repositories.memory.extraction import ExtractionWorker, list_failed, list_pending, retry_failed
from agentstore.repositories.memory.items import FIND_MESSAGES, write_items
from agentstore.repositories.memory.lists import list_expired, list_items, list_memory
from agentstore.repositories.memory.rows import (
    ADD,
    ADD_AGAIN,
    ADD_AND_ENQUEUE,
    values_of_items,
    values_of_messages,
)
from agentstore.repositories.memory.search import query_values, search_by_words
from agentstore.repositories.memory.sessions import add_sessions
from agentstore.repositories.memory.statements import DELETE, DELETE_ALL, EXPIRE, TOUCH
from agentstore.repositories.memory.totals import count_memories
from agentstore.repositories.memory.vectors import (
    Unembedded,
    add_vectors,
    embed_all,
    is_enabled,
    not_enabled,
    search_by_vector,
)
from agentstore.repositories.retention import ttl_of
from agentstore.repositories.service import PostgresService
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
from agentstore.schemas.memory import bucket, embedded_text, query_of
from agentstore.schemas.memory_filters import (
    check_session_ids,
    read_list_filters,
    read_search_filters,
    read_strategy,
)
from agentstore.schemas.memory_item import (
    check_superseded,
    item_has_id_of_message,
    load_memories,
    message_has_id_of_item,
    prepare_items,
)
from agentstore.schemas.namespace import check_namespace
from agentstore.schemas.page import check_count
from agentstore.schemas.payload import MAX_TTL, check_id, prepare_messages
from agentstore.search import analysis, embedding, reranking
from agentstore.search.extraction import configured_extractor
from agentstore.search.labels import labels_of_filter
from agentstore.search.question import read_question
from agentstore.search.ranking import label_query
from agentstore.search.snippets import Highlighter
from agentstore.search.static_embedding import StaticEmbedder, find_static
from agentstore.settings import Settings

_log = logging.getLogger(__name__)

# A token that no text has, for a hybrid search whose query has no tokens: it then matches by meaning alone.
_NO_TOKENS = {" ": 1.0}
# A message to Postgres is limited to 1 GB, and a character takes up to four bytes.
_MAX_CHARACTERS = 200_000_000


class PostgresMemoryService(PostgresService, StoreMemoryService, area="memory"):
    """Long-term memory stored in Postgres and searched in one statement. See :class:`MemoryService`."""

    def __init__(
        self,
        dsn: str | URL | None = None,
        *,
        engine: AsyncEngine | None = None,
        settings: Settings | None = None,
        password: Password | None = None,
        database: Database | None = None,
        telemetry: Telemetry | None = None,
        extractor: Extractor | None = None,
        embedder: Embedder | None = None,
        strategy: SearchStrategy | str = SearchStrategy.FULL_TEXT,
        reranker: Reranker | None = None,
    ) -> None:
        """Create the service. The other arguments are those of :class:`PostgresService`.

        `embedder` defaults to the one configured by AGENTSTORE_EMBEDDING_*, if any; without one, HYBRID searches use a
        :class:`StaticEmbedder`, if its extra is installed, which stores nothing. Vectors are stored only in a
        database where `agentstore vector enable` was run; elsewhere the service logs one warning and embeds nothing.

        With an `extractor`, or with AGENTSTORE_EXTRACTION_URL set, added messages are queued for :meth:`extract`.

        `strategy` is the default of searches: a :class:`SearchStrategy` or its name.

        `reranker` defaults to the one configured by AGENTSTORE_RERANKER_*, if any: see :meth:`search`.

        Raises:
            NotConfigured: `text_search_config` is not a supported language, `embedder` is not a valid embedder,
                `reranker` is not a reranker, or `strategy` needs an embedder and there is none.
            InvalidContent: `strategy` is not a search strategy.
        """
        super().__init__(
            dsn, engine=engine, settings=settings, password=password, database=database, telemetry=telemetry
        )
        self._language = analysis.check_language(self._settings.text_search_config)
        self._extractor = extractor
        self._enqueues = extractor is not None or self._settings.extraction_url is not None
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
        self._stores_vectors = self._has_warned = False

    async def stop(self) -> None:
        """Close the connections, and those of the embedder and the reranker that were created from the settings."""
        await super().stop()
        for own in (self._own_embedder, self._own_reranker):
            if own is not None:
                await own.close()

    async def add_memory(
        self,
        user_id: str,
        messages: MessagesLike,
        session_id: str | None = None,
        *,
        namespace: str | None = None,
    ) -> None:
        """See :meth:`MemoryService.add_memory`. With an embedder, the call also waits for the vectors.

        If the embedder fails, the messages are stored without vectors and a warning is logged. Full-text search finds
        them; :meth:`embed` adds the vectors later.
        """
        check_id(user_id, "user_id", self._settings)
        session_id = bucket(session_id, self._settings)
        check_namespace(namespace, self._settings)
        await self._add_messages(user_id, messages, session_id, namespace, {})

    async def add_sessions(  # noqa: D102
        self,
        user_id: str,
        session_ids: Sequence[str] | None = None,
        *,
        namespace: str | None = None,
        batch: int = 500,
    ) -> int:
        check_id(user_id, "user_id", self._settings)
        check_namespace(namespace, self._settings)
        check_count(batch, "batch", minimum=1, maximum=self._settings.max_page)
        given = None if session_ids is None else check_session_ids(session_ids, self._settings)

        async def add(session_id: str, messages: MessagesLike, stored_at: Mapping[str, datetime]) -> int:
            session_id = bucket(session_id, self._settings)
            return await self._add_messages(user_id, messages, session_id, namespace, stored_at)

        return await add_sessions(self._database, user_id, given, batch, add)

    async def _add_messages(
        self,
        user_id: str,
        messages: MessagesLike,
        session_id: str,
        namespace: str | None,
        stored_at: Mapping[str, datetime],
    ) -> int:
        """Add messages to a bucket; return the number of new ones. `stored_at` are times of messages by their ids."""
        prepared = await offload.run(prepare_messages, messages, self._settings, first_wins=True)
        if not prepared:
            return 0
        pairs = list(prepared.values())
        values = await offload.run(
            values_of_messages, user_id, session_id, pairs, self._language, self._settings, namespace, stored_at
        )
        if sum(map(len, values["lexemes"])) > _MAX_CHARACTERS:
            raise LimitExceeded(
                f"The messages have more than {_MAX_CHARACTERS:,} characters to index: add them in several calls."
            )
        added = await self._add(user_id, session_id, values, len(prepared))
        if added and self._embedder is not None:
            await self._embed_new(
                self._embedder,
                user_id,
                [
                    Unembedded(user_id, message.id, payload, embedded_text(message, self._settings))
                    for message, payload in prepared.values()
                ],
            )
        return added

    async def save_items(
        self,
        user_id: str,
        items: MemoryItem | Mapping[str, Any] | Sequence[MemoryItem | Mapping[str, Any]],
        session_id: str | None = None,
        *,
        supersedes: Iterable[str] = (),
    ) -> list[MemoryItem]:
        """Save items (facts) in one transaction, and return them as stored.

        `items` is a :class:`MemoryItem`, a dict with its fields, or a list of these. An item whose id exists replaces
        the stored one, in whichever bucket that is; the others are added to the bucket of `session_id`. The items
        named by `supersedes` expire: their `valid_until` becomes the current time, and searches no longer find them.

        Raises:
            InvalidContent: a value is not an item or cannot be stored, or an id is both saved and superseded.
            Conflict: an item has the id of a message in the bucket.
            LimitExceeded: too many items, or too large.
        """
        check_id(user_id, "user_id", self._settings)
        session_id = bucket(session_id, self._settings)
        by_id = await offload.run(prepare_items, items, self._settings)
        prepared = list(by_id.values())
        superseded = check_superseded(supersedes, by_id, self._settings)
        if not prepared and not superseded:
            return []
        await self.expire(user_id)
        values = await offload.run(values_of_items, user_id, session_id, prepared, self._language, self._settings)
        for name in ("payloads", "lexemes"):
            if sum(map(len, values[name])) > _MAX_CHARACTERS:
                raise LimitExceeded(f"The items have more than {_MAX_CHARACTERS:,} characters: save them in parts.")
        await count_memories(self._database.fetch, user_id, len(prepared))

        async def write(attempt: int) -> bool:
            if attempt:  # the conflict was with a message, which is permanent, or with another transaction
                ids = [item.id for item in prepared]
                for (id,) in await self._database.fetch(FIND_MESSAGES, user_id=user_id, session_id=session_id, ids=ids):
                    raise item_has_id_of_message(user_id, session_id, id)
            async with self._database.transaction() as transaction:
                await write_items(transaction.fetch, values, superseded)
            return True

        await retry(write, _not_written(user_id, session_id))
        if self._embedder is not None:
            await self._embed_new(
                self._embedder,
                user_id,
                [
                    Unembedded(user_id, item.id, payload, item.text)
                    for item, payload in zip(prepared, values["payloads"], strict=True)
                ],
            )
        return prepared

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
        """Return a page of a user's items (facts), newest first.

        `kind` restricts them to one kind, such as "fact"; `namespace` to a namespace and those below it; `metadata` to
        items whose metadata has all of these keys, up to 100, with equal values. `with_invalid` includes items that are
        not valid now. `limit` is the page size, up to 10,000; `cursor` is the previous page's ``next_cursor``. With
        `stale_ok` the items may be read from a replica.

        Raises:
            InvalidContent: `kind`, `namespace`, `metadata`, `limit` or `cursor` is not valid.
            LimitExceeded: `limit` is over 10,000, or `metadata` has over 100 keys.
        """
        check_id(user_id, "user_id", self._settings)
        return await list_items(
            *(self._database, self._settings, user_id),
            kind=kind,
            namespace=namespace,
            metadata=metadata,
            with_invalid=with_invalid,
            limit=limit,
            cursor=cursor,
            stale_ok=stale_ok,
        )

    async def extract(self, user_id: str | None = None, *, limit: int = 100, settled: bool = True) -> list[Extracted]:
        """Extract items from queued messages that are due, of one user or of all, and return the result of each call.

        Makes up to `limit` calls of the extractor, each for a part of one session, and ends early when the extractor's
        endpoint is unavailable. With `settled` false, it also takes sessions whose conversation may still continue.
        Any number of workers may run concurrently: each part is written exactly once, and a part that fails or whose
        worker dies is retried.

        Raises:
            NotConfigured: there is no extractor.
            InvalidContent, LimitExceeded: `user_id` or `limit` is not valid, or `limit` is over 10,000.
        """
        if user_id is not None:
            check_id(user_id, "user_id", self._settings)
        check_count(limit, "limit", maximum=self._settings.max_page)
        if self._extractor is None:
            self._extractor = configured_extractor(self._settings)
        worker = ExtractionWorker(self._database, self, self._extractor, self._language)
        return await worker.run(user_id, limit, settled=settled)

    async def list_failed_extractions(  # noqa: D102
        self, user_id: str | None = None, *, limit: int = 100, cursor: str | None = None
    ) -> Page[FailedExtraction]:
        return await list_failed(self._database, user_id, limit, cursor)

    async def list_pending_extractions(  # noqa: D102
        self, user_id: str | None = None, *, leased: bool = False, limit: int = 100, cursor: str | None = None
    ) -> Page[PendingExtraction]:
        return await list_pending(self._database, user_id, leased, limit, cursor)

    async def retry_failed_extractions(self, user_id: str | None = None) -> int:  # noqa: D102
        return await retry_failed(self._database, user_id)

    async def search_memory(  # noqa: D102
        self,
        user_id: str,
        messages: MessagesLike | str,
        filters: SearchFilters | None = None,
        *,
        stale_ok: bool = False,
    ) -> list[Message]:
        return [hit.message for hit in await self.search(user_id, messages, filters, stale_ok=stale_ok)]

    async def search(
        self,
        user_id: str,
        messages: MessagesLike | str,
        filters: SearchFilters | None = None,
        *,
        stale_ok: bool = False,
    ) -> list[MemoryHit]:
        """Search a user's memories, and return the hits with their scores, sessions, positions and snippets.

        The query is a string, or the text of the last of `messages`. `filters` may have these keys:

        - ``top_k``: the maximum number of hits, 10 by default, up to 1,000.
        - ``order``: "relevance" (the default), or "chronological" for the same hits sorted by time.
        - ``session_id``, ``exclude_session_id``: only memories of this session, and none of this one; an id or a list
          of up to 1,000.
        - ``namespace``: only memories in this namespace, or below it ("a" has "a/b").
        - ``metadata``: only memories whose metadata has all of these keys, up to 100, with equal values.
        - ``role``, ``kind``: only memories of this role, or kind ("message", or a kind of items).
        - ``since``, ``until``: only memories from `since` on, and before `until`: a datetime, an ISO 8601 string or
          seconds since 1970.
        - ``valid_at``: only items that are valid at this time; now by default.
        - ``now``: the time of the question, in its time zone, by which "yesterday" and "two Tuesdays ago" are dates;
          by default the ``metadata["timestamp"]`` of the query's message, or the current time. Memories of such a date
          are ranked higher, and no others left out.
        - ``min_score``: only hits with at least this score.
        - ``neighbors``: with False, only memories that match themselves, by their own words alone. By default a memory
          also raises the score of its neighbors in the session, which is how many answers are found; ``is_match`` of a
          hit tells them apart.
        - ``strategy``: a :class:`SearchStrategy` or its name; the service's by default.

        Scores compare within one search only. With VECTOR the score is the cosine similarity; with HYBRID it is
        between 0 and about 1. If the embedder fails, HYBRID searches by words alone and logs a warning. With a static
        embedder, HYBRID orders the best matches of the words. With `stale_ok` the memories may be read from a replica.

        With a reranker, the best memories (50 by default) are scored again and ordered by ``rerank_score``, whatever
        the strategy. ``min_score`` is about ``score``, and selects which memories the reranker scores;
        ``order="chronological"`` sorts the best `top_k` of those it scored. If it fails, or takes longer than
        ``reranker_timeout``, a warning is logged, and the hits are those without it, with a ``rerank_score`` of None.

        Raises:
            InvalidContent: the query or a filter is not valid.
            LimitExceeded: ``top_k`` is over 1,000, or the hits have more than 256 MB.
            NotConfigured: the strategy needs vectors, and there is no embedder or vectors are not enabled.
            EmbeddingFailed: the embedder failed, and the strategy is VECTOR.
        """
        check_id(user_id, "user_id", self._settings)
        checked = read_search_filters(filters, self._settings)
        strategy = checked.strategy or self._strategy
        static = self._find_static(strategy)
        text, time = query_of(messages, self._settings, checked.now)
        question = await offload.run(read_question, text, time, self._language)
        by_words = strategy is SearchStrategy.FULL_TEXT or static is not None
        if not checked.top_k or not (question.tokens if by_words else text.strip()):
            return []
        values = {
            "user_id": user_id,
            "wanted_sessions": checked.session_id,
            "role": checked.role,
            "since": checked.since,
            "until": checked.until,
            "min_score": checked.min_score if static is None else 0.0,
            "limit": reranking.candidates(checked, self._reranker, static, self._settings),
            "kind": checked.kind,
            "valid_at": checked.valid_at,
            "neighbors": checked.neighbors,
            "labels": label_query(user_id, labels_of_filter(checked.namespace, checked.metadata)),
        }
        vector = None if by_words else await self._embed_query(strategy, text)

        async def read(database: Database) -> tuple[list[Row], Mapping[str, float]]:
            expired = await list_expired(database, user_id, self._settings)
            found = {**values, "expired": expired, "excluded": [*expired, *(checked.exclude_session_id or ())]}
            if vector is None:
                return await search_by_words(database, text, question, found, language=self._language)
            words = None
            if strategy is SearchStrategy.HYBRID:
                words = query_values(values, question if question.tokens else question._replace(tokens=_NO_TOKENS))
            rows = await search_by_vector(database, self._require_embedder(), vector, words, found)
            return rows, question.tokens

        try:
            rows, tokens = await self._database.read(read, stale_ok=stale_ok)
        except LimitExceeded:
            if values["limit"] == checked.top_k:
                raise
            values["limit"] = checked.top_k  # only these are scored again
            rows, tokens = await self._database.read(read, stale_ok=stale_ok)
        highlighter = Highlighter(tokens, self._language, most=self._settings.max_indexed)
        loaded = await offload.run(
            load_memories,
            [(row["payload"], row["kind"], row["valid_until"], row["namespace"]) for row in rows],
            lambda index: ("memories", user_id, rows[index]["session_id"], rows[index]["seq"]),
        )
        hits = [
            MemoryHit(
                *(memory[0], row["score"], row["session_id"], row["seq"], row["time"], memory[1]),
                is_match=row["is_match"],
                namespace=row["namespace"],
                highlighter=highlighter,
            )
            for memory, row in zip(loaded, rows, strict=True)
            if memory is not None
        ]
        priors = [row["prior"] for memory, row in zip(loaded, rows, strict=True) if memory is not None and static]
        return await reranking.select(
            hits, text, checked, self._settings, reranker=self._reranker, static=static, priors=priors
        )

    async def reindex(
        self,
        *,
        user_id: str | None = None,
        batch: int = 500,
        progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Rebuild the search index of memories that another analysis indexed; return the number of memories rewritten.

        Needed after an upgrade that changes the analysis, and after a change of `text_search_config`. Until then,
        searches match older memories by the tokens that both analyses have in common.

        Runs online, in transactions of `batch` memories, and can be interrupted and resumed: memories that are
        up to date are skipped. `progress` is called with the number of memories read and their approximate total.

        Raises:
            InvalidContent: `batch` is not an integer from 1.
            LimitExceeded: `batch` is over 10,000.
        """
        check_count(batch, "batch", minimum=1, maximum=self._settings.max_page)
        if user_id is not None:
            check_id(user_id, "user_id", self._settings)
        total = await memory_reindex.estimate_count(self._database, user_id)
        after: memory_reindex.Key | None = memory_reindex.START
        read = written = 0
        while after is not None:
            after, count, changed = await memory_reindex.reindex_batch(
                self._database, user_id, after, batch, self._language, self._settings
            )
            read += count
            written += changed
            if progress is not None:
                progress(read, total)
        return written

    async def list_memory(  # noqa: D102
        self, user_id: str, filters: ListFilters | None = None, *, stale_ok: bool = False
    ) -> Page[Message]:
        check_id(user_id, "user_id", self._settings)
        checked = read_list_filters(filters, self._settings)
        return await list_memory(self._database, self._settings, user_id, checked, stale_ok=stale_ok)

    async def delete_memory(self, user_id: str, session_id: str | None = None) -> Deleted:  # noqa: D102
        check_id(user_id, "user_id", self._settings)
        key = {} if session_id is None else {"session_id": bucket(session_id, self._settings)}

        async def delete(_: int) -> int:
            # In a transaction, since whether to count depends on how many are deleted.
            async with self._database.transaction() as transaction:
                rows = await transaction.fetch(DELETE if key else DELETE_ALL, user_id=user_id, **key)
                deleted = sum(int(row[0]) for row in rows)
                await count_memories(transaction.fetch, user_id, deleted)
            return deleted

        return Deleted(memories=await retry(delete, f"could not delete memories of user {user_id!r}"))

    async def embed(  # noqa: D102
        self, *, user_id: str | None = None, batch: int = 100, progress: Callable[[int, int], None] | None = None
    ) -> int:
        if user_id is not None:
            check_id(user_id, "user_id", self._settings)
        check_count(batch, "batch", minimum=1, maximum=self._settings.max_page)
        return await embed_all(
            self._database, self._require_embedder(), self._settings, user_id=user_id, batch=batch, progress=progress
        )

    async def touch(self, user_id: str, *, idle: int = 0) -> None:  # noqa: D102
        check_id(user_id, "user_id", self._settings)
        idle = check_count(idle, "idle", maximum=MAX_TTL)
        await self._database.fetch(TOUCH, user_id=user_id, idle=idle, ttl=ttl_of(self._settings.memory_ttl))

    async def expire(self, user_id: str) -> None:
        """Delete the user's buckets of memories to which nothing was added for `memory_ttl` seconds, if it is set.

        Writes call it. Reads, which may be executed on a standby, filter what has expired.
        """
        check_id(user_id, "user_id", self._settings)
        if self._settings.memory_ttl is not None:
            expired = await self._database.fetch(EXPIRE, user_id=user_id, ttl=self._settings.memory_ttl)
            await count_memories(self._database.fetch, user_id, sum(row[0] for row in expired))

    def _find_static(self, strategy: SearchStrategy) -> StaticEmbedder | None:
        """Return the embedder of a hybrid search without stored vectors, else None. Raises as find_static does."""
        static = find_static(strategy, self._embedder or self._static)
        self._static = static or self._static
        return static

    def _require_embedder(self) -> Embedder:
        if self._embedder is None:
            raise NotConfigured(
                "Searching by meaning needs an embedder: pass one, as in AgentStore(embedder=...), or set "
                "AGENTSTORE_EMBEDDING_URL."
            )
        return self._embedder

    async def _embed_query(self, strategy: SearchStrategy, query: str) -> "array[float] | None":
        """Return the vector of a query, or None if the embedder failed, to search by words alone."""
        try:
            return await embedding.embed_question(self._require_embedder(), query)
        except EmbeddingFailed as error:
            if strategy is SearchStrategy.VECTOR:
                raise
            _log.warning("Hybrid search falls back to searching by words alone: %s", error)
            return None

    async def _embed_new(self, embedder: Embedder, user_id: str, unembedded: list[Unembedded]) -> None:
        """Embed memories that were just stored. A failure is logged: full-text search finds them without vectors."""
        if not self._stores_vectors:
            self._stores_vectors = await is_enabled(self._database)
            if not self._stores_vectors:
                if not self._has_warned:
                    _log.warning("Memories are stored without vectors: %s", not_enabled(self._database))
                self._has_warned = True
                return
        try:
            await add_vectors(self._database, embedder, unembedded, user_id=user_id)
        except EmbeddingFailed as error:
            _log.warning("Memories were stored without vectors; run `agentstore embed` to add them: %s", error)

    async def _add(self, user_id: str, session_id: str, values: dict[str, Any], count: int) -> int:
        """Insert analyzed messages, and queue them for extraction; return the number of new ones."""
        await self.expire(user_id)
        await count_memories(self._database.fetch, user_id, count)
        add = ADD_AND_ENQUEUE if self._enqueues else ADD
        settle = timedelta(seconds=self._settings.extraction_settle)
        values = {**values, "enqueue": self._enqueues, "settle": settle, "slack": settle / 4}
        arguments = {**values, "count": count, "all_tokens": sum(values["tokens"])}
        try:
            await self._database.fetch(add, **arguments)
            return count
        except StatementFailed as error:
            # Most often, an id is stored already.
            if not is_conflict(error):
                raise

        async def add_missing(_: int) -> int:
            ((missing, base, item_id),) = await self._database.fetch(ADD_AGAIN, **values)
            if item_id is not None:
                raise message_has_id_of_item(user_id, session_id, item_id)
            if missing and base is None:  # the bucket does not exist
                await self._database.fetch(add, **arguments)
            return int(missing)

        return await retry(add_missing, _not_written(user_id, session_id))


def _not_written(user_id: str, session_id: str) -> str:
    return f"could not write memories of session {session_id!r} of user {user_id!r}"
