"""Vectors of memories, stored with pgvector: the statements that write them, and the vector and hybrid searches.

The table exists only in a database where `agentstore vector enable` was run. Only this module reads and writes it.
"""

import logging
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from hashlib import sha256
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import asyncpg
from sqlalchemy import (
    ARRAY,
    CTE,
    BigInteger,
    Boolean,
    ClauseElement,
    Column,
    ColumnElement,
    DateTime,
    Double,
    LargeBinary,
    Numeric,
    Select,
    Subquery,
    TableClause,
    Text,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    null,
    or_,
    select,
    true,
    tuple_,
    union_all,
)
from sqlalchemy.dialects.postgresql import OID
from sqlalchemy.dialects.postgresql import insert as upsert

from agentstore.database.database import Database
from agentstore.database.statement import Row, Statement
from agentstore.errors import EmbeddingFailed, NotConfigured, SchemaBehind, StatementFailed
from agentstore.migrating.vectors import vector_index_name
from agentstore.models import MemoryBucketRow, MemoryRow
from agentstore.models.memory_vector import MemoryVectorRow, Vector
from agentstore.repositories.memory.reindex import estimate_count
from agentstore.repositories.memory.search import (
    LIMIT,
    MIN_SCORE,
    filters_of,
    materialized,
    memory_columns,
    number,
    order_of,
    prior_of,
    score_of,
    with_payloads,
    word_scores,
)
from agentstore.schemas import Embedder
from agentstore.schemas.memory import embedded_text
from agentstore.schemas.payload import load_messages
from agentstore.search import embedding, ranking
from agentstore.settings import Settings

_log = logging.getLogger(__name__)

_USER = bindparam("user_id", type_=Text)
_SESSION = bindparam("wanted_session", type_=Text)
_EMBEDDER = bindparam("embedder", type_=Text)
# In a subquery, so that a generic plan parses the text once, and not for each row.
_VECTOR = select(cast(bindparam("vector", type_=Text), Vector())).scalar_subquery()
_NEAREST = bindparam("nearest", type_=BigInteger)
_TIME = DateTime(timezone=True)
# Texts that are embedded by one call of the embedder and inserted by one statement.
_BATCH = 256
# After this many consecutive rejected texts, the fault is the embedder's and not the texts'.
_MAX_REJECTIONS = 5

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
_FILTERS = ("wanted_session", "role", "kind", "since", "until", "valid_at")
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


def _insert() -> ClauseElement:
    """Insert the vectors of memories whose payload is still the one that was embedded.

    The memories are locked against changes until the vectors are inserted, so that the trigger of a later change sees
    the vector that it has to delete.
    """
    memory = MemoryRow
    arrays = {"user_id": "users", "id": "ids", "vector": "vectors"}
    given = (
        func.unnest(
            *(bindparam(name, type_=ARRAY(Text)) for name in arrays.values()),
            bindparam("digests", type_=ARRAY(LargeBinary)),
        )
        .table_valued(*arrays, "digest", name="given")
        .render_derived()
    )
    same = func.sha256(func.convert_to(cast(memory.payload, Text), "UTF8")) == given.c.digest
    unchanged = (
        select(memory.user_id, memory.session_id, memory.seq, given.c.vector)
        .select_from(given.join(memory, (memory.id == given.c.id) & (memory.user_id == given.c.user_id)))
        .where(same)
        .order_by(memory.user_id, memory.session_id, memory.seq)
        .with_for_update(read=True, of=memory)
        .cte("unchanged")
        .prefix_with("MATERIALIZED")
    )
    rows = select(
        *(unchanged.c.user_id, unchanged.c.session_id, unchanged.c.seq),
        *(_EMBEDDER, cast(unchanged.c.vector, Vector())),
    )
    return (
        upsert(MemoryVectorRow)
        .from_select(["user_id", "session_id", "seq", "embedder", "embedding"], rows)
        .on_conflict_do_nothing()
        .returning(literal_column("1"))
    )


def _list_unembedded(*, of_user: bool) -> ClauseElement:
    """Return the next memories by key, each with its id and payload if it has no vector of the embedder."""
    memory, vectors = MemoryRow, MemoryVectorRow
    after = tuple_(
        *(bindparam(name, type_=Text) for name in ("after_user", "after_session")),
        bindparam("after", type_=BigInteger),
    )
    page = select(memory.user_id, memory.session_id, memory.seq).where(
        tuple_(memory.user_id, memory.session_id, memory.seq) > after
    )
    if of_user:
        page = page.where(memory.user_id == _USER)
    keys = materialized(page.order_by(memory.user_id, memory.session_id, memory.seq).limit(LIMIT), "keys")
    has_vector = (
        select(literal_column("1"))
        .where(
            vectors.user_id == keys.c.user_id,
            vectors.session_id == keys.c.session_id,
            vectors.seq == keys.c.seq,
            vectors.embedder == _EMBEDDER,
        )
        .correlate(keys)
        .exists()
    )
    unembedded = (
        select(memory.id, cast(memory.payload, Text).label("payload"))
        .where(
            memory.user_id == keys.c.user_id,
            memory.session_id == keys.c.session_id,
            memory.seq == keys.c.seq,
            ~has_vector,
        )
        .limit(literal_column("1"))
        .correlate(keys)
        .lateral("unembedded")
    )
    return (
        select(*keys.c, *unembedded.c)
        .select_from(keys.outerjoin(unembedded, true()))
        .order_by(keys.c.user_id, keys.c.session_id, keys.c.seq)
    )


def _count_by_embedder() -> ClauseElement:
    return (
        select(MemoryVectorRow.embedder, func.count().label("count"))
        .group_by(MemoryVectorRow.embedder)
        .order_by(MemoryVectorRow.embedder)
    )


def _similar() -> CTE:
    """Compute the cosine similarity of each of the user's memories to the query.

    Compares all vectors of the user, in a range of the primary key: an index over the vectors of all users would
    return few of one user's.
    """
    vectors = MemoryVectorRow
    distance: ColumnElement[float] = vectors.embedding.op("<=>", return_type=Double())(_VECTOR)
    return materialized(
        select(vectors.session_id, vectors.seq, _cosine(distance)).where(
            vectors.user_id == _USER,
            vectors.embedder == _EMBEDDER,
            or_(_SESSION.is_(None), vectors.session_id == _SESSION),
        ),
        "similar",
    )


def _similar_by_index(name: str, dimensions: int) -> CTE:
    """Compute the cosine similarity of the user's approximately nearest memories, by the embedder's HNSW index.

    The embedder's name is a literal, because the index is partial on it. OFFSET 0 keeps the condition on the user,
    which is not in the index, out of the scan.
    """
    vectors = MemoryVectorRow
    distance: ColumnElement[float] = cast(vectors.embedding, Vector(dimensions)).op("<=>", return_type=Double())(
        _VECTOR
    )
    nearest = (
        select(vectors.user_id, vectors.session_id, vectors.seq, distance.label("distance"))
        .where(vectors.embedder == literal_column("'" + name.replace("'", "''") + "'", Text))
        .order_by(distance)
        .offset(literal_column("0"))
        .subquery("by_index")
    )
    return materialized(
        select(nearest.c.session_id, nearest.c.seq, _cosine(nearest.c.distance))
        .where(nearest.c.user_id == _USER)
        .limit(_NEAREST),
        "similar",
    )


def _cosine(distance: ColumnElement[Any]) -> ColumnElement[Any]:
    # The distance to a vector of zeros is NaN.
    cosine = number(1.0) - func.nullif(distance, literal_column("'NaN'::float8"))
    return func.coalesce(cosine, number(0.0)).label("similarity")


def _nearest_first(similar: CTE) -> Subquery:
    """Order by similarity in a subquery, so that a join to it stops as soon as it has enough rows."""
    return (
        select(*similar.c)
        .order_by(similar.c.similarity.desc(), similar.c.session_id, similar.c.seq)
        .offset(literal_column("0"))
        .subquery("nearest")
    )


def _by_meaning(build_similar: Callable[[], CTE]) -> ClauseElement:
    """Return the memories nearest in meaning; the score is the cosine similarity."""
    nearest = _nearest_first(build_similar())
    columns = memory_columns(nearest)
    found = (
        select(nearest.c.session_id, nearest.c.seq, columns.c.time, nearest.c.similarity.label("score"))
        .select_from(nearest.join(columns, true()))
        .where(*filters_of(columns), nearest.c.similarity >= MIN_SCORE)
        .order_by(nearest.c.similarity.desc(), columns.c.time.desc(), nearest.c.session_id, nearest.c.seq.desc())
        .limit(LIMIT)
        .subquery("found")
    )
    return with_payloads(found)


def _by_both(build_similar: Callable[[], CTE]) -> ClauseElement:
    """Return the memories that match best by words and meaning, as :func:`ranking.fused` defines.

    The matches of either kind are combined by UNION ALL and GROUP BY instead of a join: a planner that estimates a row
    or two for each would choose a nested loop over all of them.
    """
    similar = build_similar()
    total = word_scores().total
    columns = memory_columns(total)
    words = materialized(
        select(
            total.c.session_id, total.c.seq, columns.c.time, score_of(total, columns), prior_of(columns).label("prior")
        )
        .select_from(total.join(columns, true()))
        .where(*filters_of(columns)),
        "words",
    )
    nearest = _nearest_first(similar)
    near_columns = memory_columns(nearest)
    near = materialized(
        select(*nearest.c, near_columns.c.time, prior_of(near_columns).label("prior"))
        .select_from(nearest.join(near_columns, true()))
        .where(*filters_of(near_columns))
        .order_by(nearest.c.similarity.desc(), nearest.c.session_id, nearest.c.seq)
        .limit(_NEAREST),
        "near",
    )
    no_number, no_time = cast(null(), Double), cast(null(), _TIME)
    parts = union_all(
        select(
            words.c.session_id, words.c.seq, words.c.time, words.c.prior, words.c.score, no_number.label("similarity")
        ),
        select(near.c.session_id, near.c.seq, near.c.time, near.c.prior, no_number, near.c.similarity),
        # The similarity of memories that were found by their words alone.
        select(similar.c.session_id, similar.c.seq, no_time, no_number, no_number, similar.c.similarity),
    ).subquery("parts")
    names = ("time", "prior", "score", "similarity")
    each = (
        select(parts.c.session_id, parts.c.seq, *(func.max(parts.c[name]).label(name) for name in names))
        .group_by(parts.c.session_id, parts.c.seq)
        .having(func.count(parts.c.prior) > 0)
        .subquery("each")
    )
    bounds = materialized(
        select(
            select(func.max(words.c.score)).scalar_subquery().label("most"),
            select(func.min(similar.c.similarity)).scalar_subquery().label("low"),
            select(func.max(similar.c.similarity)).scalar_subquery().label("high"),
        ),
        "bounds",
    )
    most, low, high = bounds.c
    by_words = func.coalesce(each.c.score / func.nullif(most, number(0.0), type_=Double), number(0.0), type_=Double)
    by_meaning = case(
        (each.c.similarity.is_(None), number(0.0)),
        (high > low, (each.c.similarity - low) / (high - low)),
        else_=number(1.0),
    )
    weight = bindparam("weight", type_=Double)
    fused = weight * by_words + (number(1.0) - weight) * by_meaning * each.c.prior
    score = cast(func.round(cast(fused, Numeric), 9), Double).label("score")
    scored = (
        select(each.c.session_id, each.c.seq, each.c.time, score)
        .select_from(each.join(bounds, true()))
        .subquery("scored")
    )
    found = (
        select(*scored.c)
        .where(scored.c.score >= MIN_SCORE)
        .order_by(*order_of(scored.c))
        .limit(LIMIT)
        .subquery("found")
    )
    return with_payloads(found)


@lru_cache
def by_index(name: str, dimensions: int, *, with_words: bool) -> Statement:
    """Return the vector search, or the hybrid search, that uses the index of an embedder."""
    similar = partial(_similar_by_index, name, dimensions)
    return Statement(partial(_by_both if with_words else _by_meaning, similar), scope="user")


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


IS_ENABLED = Statement(select(func.to_regclass(bindparam("table", type_=Text)).is_not(None)), scope="none")
INSERT = Statement(_insert, scope="all", repeatable=True)
LIST_UNEMBEDDED = Statement(partial(_list_unembedded, of_user=False), scope="all")
LIST_UNEMBEDDED_OF_USER = Statement(partial(_list_unembedded, of_user=True), scope="user")
# The number of vectors of each embedder; reads the whole table.
EMBEDDERS = Statement(_count_by_embedder, scope="all")
VECTOR = Statement(partial(_by_meaning, _similar), scope="user")
HYBRID = Statement(partial(_by_both, _similar), scope="user")
IS_LARGE = Statement(_is_large, scope="user")
USE_INDEX = Statement(_use_index, scope="none", repeatable=True)


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

    `words` are the parameters `queries` and `weights` of a hybrid search, `values` those of the filters.

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
                return await transaction.fetch(statement, **values)
        return await database.fetch(VECTOR if words is None else HYBRID, **values)


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


async def add_vectors(database: Database, embedder: Embedder, unembedded: Sequence[Unembedded]) -> int:
    """Embed memories, and insert the vectors of those that did not change meanwhile; return the number inserted.

    Raises:
        EmbeddingFailed: the embedder failed; the vectors of earlier batches remain.
        NotConfigured: see :func:`translate_vector_errors`.
    """
    unembedded = [each for each in unembedded if each.text]
    inserted = 0
    for start in range(0, len(unembedded), _BATCH):
        batch = unembedded[start : start + _BATCH]
        vectors = await embedding.embed_texts(embedder, [each.text for each in batch])
        with translate_vector_errors(database):
            rows = await database.fetch(
                INSERT,
                users=[each.user_id for each in batch],
                ids=[each.id for each in batch],
                vectors=[embedding.to_pgvector(vector) for vector in vectors],
                digests=[sha256(each.payload.encode()).digest() for each in batch],
                embedder=embedder.name,
            )
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
    read = inserted = consecutive = 0
    rejection: EmbeddingFailed | None = None
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
        unembedded = _load_unembedded(rows, settings)
        try:
            inserted += await add_vectors(database, embedder, unembedded)
        except EmbeddingFailed:
            # One by one, so that a text which the embedder rejects does not prevent the others.
            for each in unembedded:
                try:
                    inserted += await add_vectors(database, embedder, [each])
                    consecutive = 0
                except EmbeddingFailed as error:
                    rejection, consecutive = error, consecutive + 1
                    _log.warning("Memory %r of user %r was not embedded: %s", each.id, each.user_id, error)
                    if consecutive == _MAX_REJECTIONS:
                        raise
        after = (rows[-1][0], rows[-1][1], rows[-1][2])
        read += len(rows)
        if progress is not None:
            progress(read, max(total, read))
    if rejection is not None and not inserted:
        raise rejection
    return inserted


def _load_unembedded(rows: Sequence[Row], settings: Settings) -> list[Unembedded]:
    missing = [row for row in rows if row["payload"] is not None]
    messages = load_messages([row["payload"] for row in missing])
    return [
        Unembedded(row["user_id"], row["id"], row["payload"], embedded_text(message, settings))
        for row, message in zip(missing, messages, strict=True)
    ]
