"""Vectors of memories, stored with pgvector: the statements that write them, and the vector and hybrid searches.

The table exists only in a database where `agentstore vector enable` was run. Only this module reads and writes it.
"""

import logging
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import asyncpg
from sqlalchemy import (
    BigInteger,
    Boolean,
    ClauseElement,
    Column,
    Select,
    TableClause,
    Text,
    bindparam,
    cast,
    func,
    literal_column,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import OID

from agentstore.database.database import Database
from agentstore.database.sql import SqlStatements
from agentstore.database.statement import Row, Statement
from agentstore.errors import NotConfigured, SchemaBehind, StatementFailed
from agentstore.migrating.vectors import vector_index_name
from agentstore.models import MemoryBucketRow
from agentstore.models.memory_vector import MemoryVectorRow
from agentstore.repositories.memory.reindex import estimate_count
from agentstore.schemas import Embedder
from agentstore.schemas.memory import embedded_text
from agentstore.schemas.page import Advice
from agentstore.schemas.payload import load_readable_messages
from agentstore.search import embedding, ranking
from agentstore.settings import Settings

_log = logging.getLogger(__name__)

_USER = bindparam("user_id", type_=Text)
# Texts that are embedded by one call of the embedder and inserted by one statement.
_BATCH = 256

# A user with more memories than this is searched by the HNSW index, if there is one. Comparing all vectors of a user
# with fewer takes under 50 ms.
INDEX_FROM = 50_000
# The scan continues until it has found enough vectors of the user, in order of their distance, or has read this many
# vectors of all users. The other settings make the planner use the index, whatever it estimates about the user.
INDEX_SETTINGS = {
    "hnsw.iterative_scan": "strict_order",
    "hnsw.max_scan_tuples": "200000",
    "hnsw.ef_search": "1000",
    "enable_seqscan": "off",
    "enable_sort": "off",
    "plan_cache_mode": "force_custom_plan",
}
# With one of these filters, all vectors of the user are compared: too few of the nearest might pass the filter.
_FILTERS = ("wanted_sessions", "role", "kind", "labels", "since", "until", "valid_at")
# Seconds before an index that does not exist is looked up again, and the time of that for each index.
_RECHECK_MISSING_INDEX = 60.0
_MISSING: WeakKeyDictionary[Database, dict[str, float]] = WeakKeyDictionary()
_PG_INDEX = TableClause("pg_index", Column("indexrelid", OID), Column("indisvalid", Boolean), schema="pg_catalog")

Progress = Callable[[int, int], None]


class Unembedded(NamedTuple):
    """A memory without a vector. `payload` is the stored JSON from which `text` was taken."""

    user_id: str
    id: str
    payload: str
    text: str


def _count_by_embedder() -> ClauseElement:
    return (
        select(MemoryVectorRow.embedder, func.count().label("count"))
        .group_by(MemoryVectorRow.embedder)
        .order_by(MemoryVectorRow.embedder)
    )


def _use_index() -> ClauseElement:
    """Set the index settings until the transaction ends: behind a pooler the connection is another client's then."""
    return select(
        *(
            func.set_config(bindparam(None, name), bindparam(None, value), true())
            for name, value in INDEX_SETTINGS.items()
        )
    )


def _is_large() -> ClauseElement:
    """Return whether the index exists and is valid, and whether the user has more than `many` memories."""
    valid: Select[Any] = select(literal_column("1")).where(
        _PG_INDEX.c.indexrelid == cast(func.to_regclass(bindparam("index", type_=Text)), OID), _PG_INDEX.c.indisvalid
    )
    count = select(func.coalesce(func.sum(MemoryBucketRow.count), 0)).where(MemoryBucketRow.user_id == _USER)
    return select(valid.exists(), count.scalar_subquery() > bindparam("many", type_=BigInteger))


SQL = SqlStatements(__file__, ranking=ranking)

IS_ENABLED = Statement(
    select(func.to_regclass(bindparam("table", type_=Text)).is_not(None)), name="memory.is_enabled", scope="none"
)
INSERT = SQL("insert_vectors")
INSERT_OF_USER = SQL("insert_vectors_of_user")
LIST_UNEMBEDDED = SQL("list_unembedded")
LIST_UNEMBEDDED_OF_USER = SQL("list_unembedded_of_user")
# The number of vectors of each embedder; reads the whole table.
EMBEDDERS = Statement(_count_by_embedder, name="memory.embedders", scope="all")
VECTOR = SQL("vector")
HYBRID = SQL("hybrid")
IS_LARGE = Statement(_is_large, name="memory.is_large", scope="user")
USE_INDEX = Statement(_use_index, name="memory.use_index", scope="none", repeatable=True)


@lru_cache
def by_index(name: str, dimensions: int, *, with_words: bool) -> Statement:
    """Return the vector search, or the hybrid search, that uses the index of an embedder."""
    return SQL(
        "hybrid" if with_words else "vector",
        includes={"similarities.sql": "similarities_by_index.sql"},
        embedder=name,
        dimensions=dimensions,
    )


@contextmanager
def translate_vector_errors(database: Database) -> Iterator[None]:
    """Translate the errors of a database without vectors, or whose vectors do not match the embedder.

    Raises:
        NotConfigured: vectors are not enabled, the login does not see the type, or the dimensions differ.
    """
    try:
        yield
    except SchemaBehind as error:
        if not isinstance(error.__cause__, asyncpg.UndefinedTableError) or "memory_vectors" not in str(error):
            raise
        raise not_enabled(database) from error
    except StatementFailed as error:
        if error.sqlstate in ("42704", "42883"):
            raise NotConfigured(
                f"The type `vector` is not visible to this login in {database.where}: run `agentstore vector enable`, "
                "and add the schema of the extension pgvector to the login's search_path."
            ) from error
        if error.sqlstate == "22000" and "dimensions" in str(error):
            raise NotConfigured(
                f"{database.where} has vectors of other dimensions under this embedder's name: give the embedder "
                f"another name. ({error})"
            ) from error
        raise


def not_enabled(database: Database) -> NotConfigured:
    """Return the error for a database without vectors."""
    return NotConfigured(f"Vectors are not enabled in {database.where}: run `agentstore vector enable`.")


async def is_enabled(database: Database) -> bool:
    """Return whether vectors are enabled in the database."""
    ((found,),) = await database.fetch(IS_ENABLED, table=f'"{database.settings.schema}".memory_vectors')
    return bool(found)


async def search_by_vector(
    database: Database, embedder: Embedder, vector: "array[float]", words: dict[str, Any] | None, values: dict[str, Any]
) -> list[Row]:
    """Return the memories nearest to `vector`, or those that match best by vector and words.

    `words` are the parameters of the question of a hybrid search, `values` those of the filters.

    Raises:
        NotConfigured: see :func:`translate_vector_errors`.
    """
    values = {
        **values,
        "embedder": embedder.name,
        "vector": embedding.to_pgvector(vector),
        "nearest": max(ranking.NEAREST, values["limit"]),
    }
    if words is not None:
        values |= {**words, "weight": database.settings.hybrid_weight}
    with translate_vector_errors(database):
        if await _is_index_worthwhile(database, embedder, values):
            statement = by_index(embedder.name, embedder.dimensions, with_words=words is not None)
            async with database.transaction() as transaction:
                await transaction.fetch(USE_INDEX)
                return await transaction.fetch_page(statement, Advice.SMALLER_TOP_K, **values)
        return await database.fetch_page(VECTOR if words is None else HYBRID, Advice.SMALLER_TOP_K, **values)


async def _is_index_worthwhile(database: Database, embedder: Embedder, values: dict[str, Any]) -> bool:
    """Return whether to use the index: the user has many vectors, there is an index, and the search has no filter.

    A missing index is not looked up again for a minute, during which a search is one statement.
    """
    if any(values[name] is not None for name in _FILTERS):
        return False
    name = vector_index_name(embedder.name, embedder.dimensions)
    index = f'"{database.settings.schema}"."{name}"'
    missing = _MISSING.setdefault(database, {})
    if missing.get(index, 0.0) > time.monotonic():
        return False
    ((exists, is_large),) = await database.fetch(IS_LARGE, user_id=values["user_id"], index=index, many=INDEX_FROM)
    if not exists:
        missing[index] = time.monotonic() + _RECHECK_MISSING_INDEX
    return bool(exists and is_large)


async def add_vectors(
    database: Database, embedder: Embedder, unembedded: Sequence[Unembedded], *, user_id: str | None
) -> int:
    """Embed memories, and insert the vectors of those that did not change meanwhile; return the number inserted.

    `user_id` is None if they may be of several users, which row-level security refuses.

    Raises:
        EmbeddingFailed: the embedder failed; the vectors of earlier batches remain.
        NotConfigured: see :func:`translate_vector_errors`.
    """
    unembedded = [each for each in unembedded if each.text]
    inserted = 0
    for start in range(0, len(unembedded), _BATCH):
        batch = unembedded[start : start + _BATCH]
        vectors = await embedding.embed_texts(embedder, [each.text for each in batch])
        values: dict[str, Any] = {
            "ids": [each.id for each in batch],
            "vectors": [embedding.to_pgvector(vector) for vector in vectors],
            "digests": [sha256(each.payload.encode()).digest() for each in batch],
            "embedder": embedder.name,
        }
        with translate_vector_errors(database):
            if user_id is None:
                rows = await database.fetch(INSERT, users=[each.user_id for each in batch], **values)
            else:
                rows = await database.fetch(INSERT_OF_USER, user_id=user_id, **values)
        inserted += len(rows)
    return inserted


async def embed_all(
    database: Database,
    embedder: Embedder,
    settings: Settings,
    *,
    user_id: str | None,
    batch: int,
    progress: Progress | None,
) -> int:
    """Embed memories that have no vector of this embedder, in key order. See :meth:`PostgresMemoryService.embed`."""
    owner = {} if user_id is None else {"user_id": user_id}
    total = await estimate_count(database, user_id)
    after: tuple[str, str, int] = (user_id or "", "", 0)
    read = 0
    skipping = embedding.SkippingEmbedder[Unembedded](
        lambda unembedded: add_vectors(database, embedder, unembedded, user_id=user_id),
        lambda each: f"Memory {each.id!r} of user {each.user_id!r}",
    )
    while True:
        with translate_vector_errors(database):
            rows = await database.fetch(
                LIST_UNEMBEDDED if user_id is None else LIST_UNEMBEDDED_OF_USER,
                **owner,
                **dict(zip(("after_user", "after_session", "after"), after, strict=True)),
                embedder=embedder.name,
                limit=batch,
            )
        if not rows:
            break
        await skipping.run(_load_unembedded(rows, settings))
        after = (rows[-1][0], rows[-1][1], rows[-1][2])
        read += len(rows)
        if progress is not None:
            progress(read, max(total, read))
    return skipping.finish()


def _load_unembedded(rows: Sequence[Row], settings: Settings) -> list[Unembedded]:
    missing = [row for row in rows if row["payload"] is not None]
    messages = load_readable_messages(
        [row["payload"] for row in missing],
        lambda index: ("memories", missing[index]["user_id"], missing[index]["session_id"], missing[index]["id"]),
    )
    return [
        Unembedded(row["user_id"], row["id"], row["payload"], embedded_text(message, settings))
        for row, message in zip(missing, messages, strict=True)
        if message is not None
    ]
