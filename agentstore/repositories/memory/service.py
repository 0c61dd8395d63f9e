"""Memories on Postgres: the statements, then the class that says them.

Each method is one statement, unless another caller is in the way, a question has words that no memory has, or it is
about facts.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from sqlalchemy import (
    CTE,
    URL,
    BigInteger,
    ColumnElement,
    Text,
    bindparam,
    cast,
    delete,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.asyncio import AsyncEngine

from agentstore.database.database import Database
from agentstore.database.statement import Row, Statement
from agentstore.database.url import Password
from agentstore.errors import (
    Conflict,
    EmbeddingFailed,
    InvalidContent,
    LimitExceeded,
    NotConfigured,
    StatementFailed,
    Unavailable,
)
from agentstore.interfaces import Extractor, MemoryService
from agentstore.models import MemoryBucketRow, MemoryRow
from agentstore.repositories.memory import reindex as memory_reindex
from agentstore.repositories.memory.extraction import Extractions, list_failed, retry_failed
from agentstore.repositories.memory.items import LIST_ITEMS, LIST_ITEMS_AFTER, NAMED, write_items
from agentstore.repositories.memory.rows import (
    ADD,
    ADD_AGAIN,
    ADD_AGAIN_AND_ENQUEUE,
    ADD_AND_ENQUEUE,
    values_of_items,
    values_of_messages,
)
from agentstore.repositories.memory.search import SEARCH
from agentstore.repositories.memory.vectors import (
    Unembedded,
    add_vectors,
    embed_all,
    find_by_meaning,
    is_enabled,
    not_enabled,
)
from agentstore.repositories.memory.words import WORDS, alternatives
from agentstore.repositories.retention import has_expired, is_idle
from agentstore.repositories.service import PostgresService, back_off
from agentstore.schemas import (
    Deleted,
    Embedder,
    Extracted,
    FailedExtraction,
    MemoryHit,
    MemoryItem,
    Message,
    MessagesLike,
    Page,
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
    write_memory_cursor,
)
from agentstore.schemas.memory_item import MESSAGE, check_superseded, item_of, message_of, prepare_items, with_end
from agentstore.schemas.page import check_count, read_cursor, write_cursor
from agentstore.schemas.payload import check_id, load_messages, prepare_messages
from agentstore.search import analysis, embedding, ranking, spelling
from agentstore.search.extraction import configured_extractor
from agentstore.search.snippets import Highlighter
from agentstore.settings import Settings

_log = logging.getLogger(__name__)

_TRIES = 20
_LONG = 200_000
# What no text has: a question without a word finds by its meaning alone.
_NO_TOKENS = {" ": 1.0}
# Postgres takes less than 1 GB at once, and a character may be four bytes.
_MOST_LEXEMES = 200_000_000

_USER = bindparam("user_id", type_=Text)
_SESSION = bindparam("session_id", type_=Text)
_LIMIT = bindparam("limit", type_=BigInteger)
_THIS = (MemoryBucketRow.user_id == _USER) & (MemoryBucketRow.session_id == _SESSION)
_PAYLOAD = cast(MemoryRow.payload, Text).label("payload")
_TIME = MemoryRow.time.type


def _list() -> Statement:
    """Return the memories from the `offset`-th on; the buckets say where that is, and none before it is read."""
    buckets, memory = MemoryBucketRow, MemoryRow
    offset = bindparam("offset", type_=BigInteger)
    counted = (
        select(
            buckets.session_id,
            buckets.count,
            (func.sum(buckets.count).over(order_by=buckets.session_id) - buckets.count).label("before"),
        )
        .where(buckets.user_id == _USER)
        .subquery("counted")
    )
    start = (
        select(counted.c.session_id, cast(offset - counted.c.before + 1, BigInteger).label("seq"))
        .where(counted.c.before <= offset, counted.c.before + counted.c.count > offset)
        .cte("start")
        .prefix_with("MATERIALIZED")
    )
    from_there = tuple_(memory.session_id, memory.seq) >= tuple_(
        select(start.c.session_id).scalar_subquery(), select(start.c.seq).scalar_subquery()
    )
    return Statement(
        select(memory.session_id, memory.seq, _PAYLOAD, memory.kind, memory.valid_until)
        .where(memory.user_id == _USER, from_there)
        .order_by(memory.session_id, memory.seq)
        .limit(_LIMIT)
    )


LIST = _list()
LIST_AFTER = Statement(
    select(MemoryRow.session_id, MemoryRow.seq, _PAYLOAD, MemoryRow.kind, MemoryRow.valid_until)
    .where(
        MemoryRow.user_id == _USER,
        tuple_(MemoryRow.session_id, MemoryRow.seq)
        > tuple_(bindparam("after_session", type_=Text), bindparam("after", type_=BigInteger)),
    )
    .order_by(MemoryRow.session_id, MemoryRow.seq)
    .limit(_LIMIT)
)
# The memories go by the foreign key; how many there are the bucket knows.
DELETE = Statement(delete(MemoryBucketRow).where(_THIS).returning(MemoryBucketRow.count))


def _locked(*which: ColumnElement[bool]) -> CTE:
    """Lock a user's buckets in the order of their sessions, so that two who do it do not deadlock."""
    buckets = MemoryBucketRow
    return (
        select(buckets.session_id)
        .where(buckets.user_id == _USER, *which)
        .order_by(buckets.session_id)
        .with_for_update()
        .cte("locked")
        .prefix_with("MATERIALIZED")
    )


def _delete_all(*which: ColumnElement[bool]) -> Statement:
    buckets, locked = MemoryBucketRow, _locked(*which)
    return Statement(
        delete(buckets)
        .where(buckets.user_id == _USER, buckets.session_id == locked.c.session_id)
        .returning(buckets.count)
    )


def _touch() -> Statement:
    written = MemoryBucketRow.updated_at
    buckets, locked = MemoryBucketRow, _locked(is_idle(written), ~has_expired(written, "ttl"))
    return Statement(
        update(buckets)
        .where(buckets.user_id == _USER, buckets.session_id == locked.c.session_id)
        .values(updated_at=func.now())
        .returning(buckets.session_id),
        repeatable=True,
    )


DELETE_ALL = _delete_all()
TOUCH = _touch()
# Said before every call where memories expire, so that no other statement has to ask.
EXPIRE = _delete_all(has_expired(MemoryBucketRow.updated_at, "ttl"))


class PostgresMemoryService(PostgresService, MemoryService):
    """Long-term memory that survives the process, searched in one statement. See :class:`MemoryService`."""

    def __init__(
        self,
        dsn: str | URL | None = None,
        *,
        engine: AsyncEngine | None = None,
        settings: Settings | None = None,
        password: Password | None = None,
        database: Database | None = None,
        extractor: Extractor | None = None,
        embedder: Embedder | None = None,
        strategy: SearchStrategy | str = SearchStrategy.FULL_TEXT,
    ) -> None:
        """The arguments are :class:`PostgresService`'s, and what makes vectors, how a search finds, what makes facts.

        Without an `embedder` it is the one that AGENTSTORE_EMBEDDING_* name, if they do. It needs a database in which
        `agentstore vector enable` was run; in another one nothing is embedded, which a warning says. With an
        `extractor`, or with AGENTSTORE_EXTRACTION_URL set, what is added is queued for :meth:`extract`.

        Raises:
            NotConfigured: `text_search_config` is no language that can be stemmed, `embedder` is none, or there is
                none and `strategy` needs one.
            InvalidContent: there is no such strategy.
        """
        super().__init__(dsn, engine=engine, settings=settings, password=password, database=database)
        self._language = analysis.check_language(self._settings.text_search_config)
        self._extractor = extractor
        self._enqueues = extractor is not None or self._settings.extraction_url is not None
        self._own_embedder = None if embedder is not None else embedding.configured(self._settings)
        embedder = embedder if embedder is not None else self._own_embedder
        self._embedder = embedder if embedder is None else embedding.check_embedder(embedder)
        self._strategy = read_strategy(strategy)
        if self._strategy is not SearchStrategy.FULL_TEXT:
            self._need_embedder()
        self._keeps_vectors = self._has_warned = False

    async def stop(self) -> None:
        """Close the connections, also those of an embedder that the settings named; a caller's stays open."""
        await super().stop()
        if self._own_embedder is not None:
            await self._own_embedder.close()

    async def add_memory(self, user_id: str, messages: MessagesLike, session_id: str | None = None) -> None:
        """See :meth:`MemoryService.add_memory`. With an embedder the call waits for the vectors, too.

        Where the embedder fails the memories are stored all the same, and found by their words: a warning says so,
        and :meth:`embed` makes up for it.
        """
        check_id(user_id, "user_id", self._settings)
        session_id = bucket(session_id, self._settings)
        prepared = prepare_messages(messages, self._settings, first_wins=True)
        if not prepared:
            return
        values = await self._values(user_id, session_id, list(prepared.values()))
        if sum(map(len, values["lexemes"])) > _MOST_LEXEMES:
            raise LimitExceeded(f"more than {_MOST_LEXEMES:,} characters to be found by at once: add in parts")
        if await self._add(user_id, session_id, values, len(prepared)) and self._embedder is not None:
            await self._embed_new(
                self._embedder,
                [
                    Unembedded(user_id, message.id, payload, embedded_text(message, self._settings))
                    for message, payload in prepared.values()
                ],
            )

    async def save_items(
        self,
        user_id: str,
        items: MemoryItem | Mapping[str, Any] | Sequence[MemoryItem | Mapping[str, Any]],
        session_id: str | None = None,
        *,
        supersedes: Iterable[str] = (),
    ) -> list[MemoryItem]:
        """Save facts, all or none of them, and return them as they are now.

        An id that is there is written anew, wherever it is; other items are added to the bucket of `session_id`. The
        items whose ids `supersedes` names are valid until now, and found no more.

        Raises:
            InvalidContent: something is no item, holds what cannot be kept, or is both saved and superseded.
            Conflict: an item's id is that of a message in the bucket.
            LimitExceeded: too many or too large ones.
        """
        check_id(user_id, "user_id", self._settings)
        session_id = bucket(session_id, self._settings)
        by_id = prepare_items(items, self._settings)
        prepared = list(by_id.values())
        gone = check_superseded(supersedes, by_id, self._settings)
        if not prepared and not gone:
            return []
        await self.expire(user_id)
        given = user_id, session_id, prepared, self._language, self._settings
        is_long = sum(len(item.text) for item in prepared) > _LONG
        values = await asyncio.to_thread(values_of_items, *given) if is_long else values_of_items(*given)
        for what in ("payloads", "lexemes"):
            if sum(map(len, values[what])) > _MOST_LEXEMES:
                raise LimitExceeded(f"more than {_MOST_LEXEMES:,} characters at once: save in parts")
        for attempt in range(_TRIES):
            try:
                async with self._database.transaction() as transaction:
                    await write_items(transaction.fetch, values, gone)
            except StatementFailed as error:
                # An item came in between, or the user or the bucket was deleted.
                if error.sqlstate not in ("23505", "23503"):
                    raise
            except Unavailable as error:
                # Undone by the server, for a deadlock or the like: as if it had not been said.
                if getattr(error.__cause__, "sqlstate", None) not in ("40P01", "40001"):
                    raise
            else:
                if self._embedder is not None:
                    await self._embed_new(
                        self._embedder,
                        [
                            Unembedded(user_id, item.id, payload, item.text)
                            for item, payload in zip(prepared, values["payloads"], strict=True)
                        ],
                    )
                return prepared
            ids = [item.id for item in prepared]
            for (id,) in await self._database.fetch(NAMED, user_id=user_id, session_id=session_id, ids=ids):
                raise Conflict(f"{id!r} is the id of a message in bucket {session_id!r} of user {user_id!r}")
            await back_off(attempt)
        raise Unavailable(f"the memories of session {session_id!r} of user {user_id!r} are written all the time")

    async def list_items(
        self,
        user_id: str,
        *,
        kind: str | None = None,
        with_invalid: bool = False,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[MemoryItem]:
        """Return a page of a user's facts, the newest first: of one kind or all, with those not valid now or without.

        Raises:
            InvalidContent, LimitExceeded: `limit` or `cursor` is none, or over 10,000.
        """
        check_id(user_id, "user_id", self._settings)
        values: dict[str, Any] = {
            "user_id": user_id,
            "kind": kind if kind is None else check_id(kind, "kind", self._settings),
            "with_invalid": bool(with_invalid),
            "limit": check_count(limit, "limit", self._settings.max_page),
        }
        at, after = (None, None) if cursor is None else read_cursor(cursor, datetime, str)
        await self.expire(user_id)
        if cursor is None:
            rows = await self._database.fetch(LIST_ITEMS, **values)
        else:
            rows = await self._database.fetch(LIST_ITEMS_AFTER, **values, at=at, after_id=after)
        messages = load_messages([row[0] for row in rows])
        items = [item_of(message, row[1]) for message, row in zip(messages, rows, strict=True)]
        return Page(items, write_cursor(rows[-1][2], items[-1].id) if items and len(items) == limit else None)

    async def extract(self, user_id: str | None = None, *, limit: int = 100, settled: bool = True) -> list[Extracted]:
        """Extract facts from what was added and is due, of one user or of all, and say what became of each part.

        At most `limit` calls of the extractor, each about a part of one session. Ends early where the endpoint is
        out. With `settled` false sessions that may still go on are taken too. Any number of workers may do this at
        once: each part has its effect once, and what fails or is left by a worker that dies is tried again.

        Raises:
            NotConfigured: there is no extractor.
        """
        if user_id is not None:
            check_id(user_id, "user_id", self._settings)
        check_count(limit, "limit", self._settings.max_page)
        if self._extractor is None:
            self._extractor = configured_extractor(self._settings)
        extractions = Extractions(self._database, self, self._extractor, self._language)
        found: list[Extracted] = []
        while len(found) < limit and not (found and found[-1].outage):
            extracted = await extractions.next(user_id, settled=settled)
            if extracted is None:
                break
            found.append(extracted)
        return found

    async def list_failed_extractions(
        self, user_id: str | None = None, *, limit: int = 100, cursor: str | None = None
    ) -> Page[FailedExtraction]:
        """Return a page of what could not be extracted and is tried no more, of one user or of all.

        Raises:
            InvalidContent, LimitExceeded: `limit` or `cursor` is none, or over 10,000.
        """
        return await list_failed(self._database, user_id, limit, cursor)

    async def retry_failed_extractions(self, user_id: str | None = None) -> int:
        """Make what failed due again, of one user or of all; return how many there were."""
        return await retry_failed(self._database, user_id)

    async def search_memory(  # noqa: D102
        self, user_id: str, messages: MessagesLike, filters: Mapping[str, Any] | None = None
    ) -> list[Message]:
        return [hit.message for hit in await self.search(user_id, messages, filters)]

    async def search(
        self, user_id: str, messages: MessagesLike | str, filters: Mapping[str, Any] | None = None
    ) -> list[MemoryHit]:
        """Return what :meth:`search_memory` does, with scores and places; the question may be a string.

        ``filters["strategy"]`` is a :class:`SearchStrategy` or its name. The score of VECTOR is the cosine, that of
        HYBRID goes from 0 to about 1. Where the embedder fails, HYBRID finds by words alone, and a warning says so.

        Raises:
            InvalidContent, LimitExceeded: see :meth:`search_memory`.
            NotConfigured: the strategy needs vectors, and there is no embedder, or they are not enabled.
            EmbeddingFailed: the embedder failed, and the strategy is VECTOR.
        """
        check_id(user_id, "user_id", self._settings)
        wanted = read_search_filters(filters, self._settings)
        strategy = wanted.strategy or self._strategy
        if strategy is not SearchStrategy.FULL_TEXT:
            self._need_embedder()
        text, time = question_of(messages, self._settings)
        asked = analysis.of_question(text, time, self._language)
        tokens = dict(islice(asked.items(), ranking.MOST_TOKENS))
        if not wanted.top_k or not (tokens if strategy is SearchStrategy.FULL_TEXT else text.strip()):
            return []
        values = {
            "user_id": user_id,
            "wanted_session": wanted.session_id,
            "role": wanted.role,
            "since": wanted.since,
            "until": wanted.until,
            "min_score": wanted.min_score,
            "limit": wanted.top_k,
            "kind": wanted.kind,
            "valid_at": wanted.valid_at,
        }
        await self.expire(user_id)
        rows = None
        if strategy is not SearchStrategy.FULL_TEXT:
            rows = await self._find_by_meaning(strategy, text, tokens, values)
        if rows is None:
            rows, tokens = await self._find_by_words(text, tokens, values)
        highlighter = Highlighter(tokens, self._language, most=self._settings.max_indexed)
        messages = load_messages([row["payload"] for row in rows])
        hits = [_hit(message, row, highlighter) for message, row in zip(messages, rows, strict=True)]
        if wanted.order == "chronological":
            hits.sort(key=lambda hit: (hit.time, hit.session_id, hit.position))
        return hits

    async def reindex(
        self,
        *,
        user_id: str | None = None,
        batch: int = 500,
        progress: Callable[[int, int], None] | None = None,
    ) -> int:
        """Make every memory findable as this release and `text_search_config` would, and return how many were not.

        After an upgrade that changes the analysis, or another `text_search_config`; until then what was stored before
        is found by the tokens that are the same. Online, and safe to stop and to say again: only what differs is
        written. `progress` is told how many were looked at, of about how many.

        Raises:
            InvalidContent: `batch` is none.
        """
        check_count(batch, "batch", self._settings.max_batch)
        if user_id is not None:
            check_id(user_id, "user_id", self._settings)
        total = await memory_reindex.how_many(self._database, user_id)
        after: memory_reindex.Place | None = memory_reindex.START
        seen = written = 0
        while after is not None:
            after, looked_at, changed = await memory_reindex.step(
                self._database, user_id, after, max(1, batch), self._language, self._settings
            )
            seen += looked_at
            written += changed
            if progress is not None:
                progress(seen, total)
        return written

    async def _those_there(self, user_id: str, words: list[str]) -> set[str]:
        """Return those of the words that any memory of the user has."""
        if not words:
            return set()
        of_query = dict(zip(ranking.queries(user_id, words), words, strict=True))
        found = await self._database.fetch(WORDS, queries=alternatives(list(of_query)))
        return {of_query[row[0]] for row in found}

    async def list_memory(self, user_id: str, filters: Mapping[str, Any] | None = None) -> Page[Message]:  # noqa: D102
        check_id(user_id, "user_id", self._settings)
        wanted = read_list_filters(filters, self._settings)
        size = wanted.page_size
        await self.expire(user_id)
        if wanted.cursor is not None:
            session_id, seq = read_memory_cursor(wanted.cursor)
            rows = await self._database.fetch(
                LIST_AFTER, user_id=user_id, after_session=session_id, after=seq, limit=size
            )
        else:
            offset = (wanted.page_num - 1) * size
            rows = (
                [] if offset >= 2**62 else await self._database.fetch(LIST, user_id=user_id, offset=offset, limit=size)
            )
        cursor = write_memory_cursor(rows[-1][0], rows[-1][1]) if len(rows) == size else None
        messages = load_messages([row[2] for row in rows])
        return Page(
            (
                message if row[3] == MESSAGE else with_end(message, row[4])
                for message, row in zip(messages, rows, strict=True)
            ),
            cursor,
        )

    async def delete_memory(self, user_id: str, session_id: str | None = None) -> Deleted:  # noqa: D102
        check_id(user_id, "user_id", self._settings)
        rows: list[Row]
        if session_id is None:
            rows = await self._database.fetch(DELETE_ALL, user_id=user_id)
        else:
            session_id = bucket(session_id, self._settings)
            rows = await self._database.fetch(DELETE, user_id=user_id, session_id=session_id)
        return Deleted(memories=sum(row[0] for row in rows))

    async def embed(
        self, *, user_id: str | None = None, batch: int = 100, progress: Callable[[int, int], None] | None = None
    ) -> int:
        """Embed what has no vector of this embedder: everybody's memories or one user's; return how many were made.

        It goes by the key, a `batch` of memories at a time, beside all other work; broken off, it goes on where it is
        called again. `progress` is told how many memories were looked at, and of how many. A text that the embedder
        refuses, where it takes others, is passed over with a warning.

        Raises:
            NotConfigured: there is no embedder, or vectors are not enabled.
            EmbeddingFailed: the embedder failed. What was embedded before stays.
            InvalidContent, LimitExceeded: `batch` is no number from 1, or over 10,000.
        """
        if user_id is not None:
            check_id(user_id, "user_id", self._settings)
        if not check_count(batch, "batch", self._settings.max_page):
            raise InvalidContent(f"batch must be a whole number from 1, not {batch!r}")
        return await embed_all(
            self._database, self._need_embedder(), self._settings, user_id=user_id, batch=batch, progress=progress
        )

    async def touch(self, user_id: str, *, idle: int = 0) -> None:
        """Keep a user's memories for their time from now on, as adding does, if none was added for `idle` seconds."""
        check_id(user_id, "user_id", self._settings)
        await self._database.fetch(TOUCH, user_id=user_id, idle=idle, ttl=self._settings.memory_ttl)

    async def expire(self, user_id: str) -> None:
        """Delete the user's memories whose time has passed."""
        if self._settings.memory_ttl is not None:
            await self._database.fetch(EXPIRE, user_id=user_id, ttl=self._settings.memory_ttl)

    def _need_embedder(self) -> Embedder:
        if self._embedder is None:
            raise NotConfigured(
                "To search by meaning, give the store an embedder, as in AgentStore(embedder=...), or set "
                "AGENTSTORE_EMBEDDING_URL."
            )
        return self._embedder

    async def _find_by_words(
        self, text: str, tokens: dict[str, float], values: dict[str, Any]
    ) -> tuple[list[Row], dict[str, float]]:
        """Return what fits, and the tokens that it fits: others, where those of the question are in no memory."""
        if not tokens:
            return [], tokens
        user_id = values["user_id"]
        rows = await self._database.fetch(SEARCH, **values, **_asked(user_id, tokens))
        known, telling = (
            {token for at, token in enumerate(tokens, 1) if rows and at in (rows[0][column] or ())}
            for column in ("known", "telling")
        )
        if len(known) < len(tokens) and (
            unknown := spelling.unknown(analysis.words(text, self._language), known, telling)
        ):
            tokens |= spelling.meant(unknown, await self._those_there(user_id, spelling.all_spellings(unknown)))
            rows = await self._database.fetch(SEARCH, **values, **_asked(user_id, tokens))
        if not rows and (begun := ranking.beginnings(tokens)):
            tokens = begun
            rows = await self._database.fetch(SEARCH, **values, **_asked(user_id, tokens))
        return rows, tokens

    async def _find_by_meaning(
        self, strategy: SearchStrategy, question: str, tokens: dict[str, float], values: dict[str, Any]
    ) -> list[Row] | None:
        """Return what fits by meaning, or by words and meaning; None where words alone have to do."""
        embedder = self._need_embedder()
        try:
            vector = await embedding.embed_question(embedder, question)
        except EmbeddingFailed as error:
            if strategy is SearchStrategy.VECTOR:
                raise
            _log.warning("a search finds by words alone: %s", error)
            return None
        asked = None
        if strategy is SearchStrategy.HYBRID:
            asked = _asked(values["user_id"], tokens or _NO_TOKENS)
        return await find_by_meaning(self._database, embedder, vector, asked, values)

    async def _embed_new(self, embedder: Embedder, wanting: list[Unembedded]) -> None:
        """Embed what was just stored. A failure costs no more than that it is found by its words alone for now."""
        if not self._keeps_vectors:
            self._keeps_vectors = await is_enabled(self._database)
            if not self._keeps_vectors:
                if not self._has_warned:
                    _log.warning("nothing is embedded: %s", not_enabled(self._database))
                self._has_warned = True
                return
        try:
            await add_vectors(self._database, embedder, wanting)
        except EmbeddingFailed as error:
            _log.warning("stored, and to be embedded by `agentstore embed`: %s", error)

    async def _add(self, user_id: str, session_id: str, values: dict[str, Any], count: int) -> bool:
        """Store analysed memories, and queue them for the extractor; return whether any of them was new."""
        await self.expire(user_id)
        add, add_again = ADD, ADD_AGAIN
        if self._enqueues:
            add, add_again = ADD_AND_ENQUEUE, ADD_AGAIN_AND_ENQUEUE
            settle = timedelta(seconds=self._settings.extraction_settle)
            values = {**values, "settle": settle, "slack": settle / 4}
        for attempt in range(_TRIES):
            try:
                if attempt:
                    ((needed, base),) = await self._database.fetch(add_again, **values)
                    if not needed or base is not None:
                        return bool(needed)
                await self._database.fetch(add, **values, count=count, all_tokens=sum(values["tokens"]))
                return True
            except StatementFailed as error:
                # An id is there or came in between, or the user or the bucket was deleted in between.
                if error.sqlstate not in ("23505", "23503"):
                    raise
            if attempt:
                await back_off(attempt)
        raise Unavailable(f"the memories of session {session_id!r} of user {user_id!r} are written all the time")

    async def _values(self, user_id: str, session_id: str, prepared: list[tuple[Message, str]]) -> dict[str, Any]:
        """Analyse what is added; long texts in another thread, since the event loop has other things to do."""
        given = user_id, session_id, prepared, self._language, self._settings
        if sum(len(payload) for _, payload in prepared) > _LONG:
            return await asyncio.to_thread(values_of_messages, *given)
        return values_of_messages(*given)


def _asked(user_id: str, tokens: Mapping[str, float]) -> dict[str, Any]:
    return {"queries": ranking.queries(user_id, tokens), "weights": list(tokens.values())}


def _hit(message: Message, row: Row, highlighter: Highlighter) -> MemoryHit:
    score, session_id, position, time, _, kind, valid_until, *_ = row
    if kind == MESSAGE:
        return MemoryHit(message, score, session_id, position, time, highlighter=highlighter)
    item = item_of(message, valid_until)
    return MemoryHit(message_of(item), score, session_id, position, time, item, highlighter)
