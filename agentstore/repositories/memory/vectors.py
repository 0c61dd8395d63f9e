"""Vectors of memories on Postgres, by pgvector: how they come there, and the searches by meaning.

Only a database in which `agentstore vector enable` was run has their table, and nothing but what is here asks for it.
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
    ARRAY,
    CTE,
    BigInteger,
    Boolean,
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
from agentstore.repositories.memory.reindex import how_many
from agentstore.repositories.memory.search import (
    LIMIT,
    MIN_SCORE,
    is_wanted,
    number,
    order_of,
    place_of,
    prior_of,
    score_of,
    totals,
    with_payloads,
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
# In a subquery, so that a plan for no values in particular reads the text once, and not for each row.
_VECTOR = select(cast(bindparam("vector", type_=Text), Vector())).scalar_subquery()
_NEAREST = bindparam("nearest", type_=BigInteger)
_TIME = DateTime(timezone=True)
# So many texts are embedded and written at once.
_AT_ONCE = 256
# After so many texts that are refused one after the other it is not for what they say.
_REFUSALS = 5

# The memories of a user above which an index is used, where there is one. Below, comparing all takes under 50 ms.
VERY_MANY = 50_000
# The index goes on until it has found enough of the user's, in their order, or has seen so many of everybody's; and it
# is what is used, whatever the planner believes of a user that it does not know.
_BY_INDEX = {
    "hnsw.iterative_scan": "strict_order",
    "hnsw.max_scan_tuples": "200000",
    "hnsw.ef_search": "1000",
    "enable_seqscan": "off",
    "enable_sort": "off",
    "plan_cache_mode": "force_custom_plan",
}
# With one of these all vectors of the user are compared, so that enough of those are left that pass.
_FILTERS = ("wanted_session", "role", "kind", "since", "until", "valid_at")
# Until when an index that was not there is not looked for again.
_MINUTE = 60.0
_MISSING: WeakKeyDictionary[Database, dict[str, float]] = WeakKeyDictionary()
_PG_INDEX = TableClause("pg_index", Column("indexrelid", OID), Column("indisvalid", Boolean), schema="pg_catalog")

Progress = Callable[[int, int], None]


class Unembedded(NamedTuple):
    """A memory that wants a vector: `payload` is what was stored when its text was read."""

    user_id: str
    id: str
    payload: str
    text: str


IS_ENABLED = Statement(select(func.to_regclass(bindparam("table", type_=Text)).is_not(None)))


def _once(statement: Any, name: str) -> CTE:
    cte: CTE = statement.cte(name).prefix_with("MATERIALIZED")
    return cte


def _insert() -> Statement:
    """Insert vectors of memories that still say what was embedded; those that were deleted or changed are left out.

    They are locked against a change until the vectors are there, so that its trigger sees what it has to delete.
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
    there = (
        select(memory.user_id, memory.session_id, memory.seq, given.c.vector)
        .select_from(given.join(memory, (memory.id == given.c.id) & (memory.user_id == given.c.user_id)))
        .where(same)
        .order_by(memory.user_id, memory.session_id, memory.seq)
        .with_for_update(read=True, of=memory)
        .cte("there")
        .prefix_with("MATERIALIZED")
    )
    rows = select(there.c.user_id, there.c.session_id, there.c.seq, _EMBEDDER, cast(there.c.vector, Vector()))
    return Statement(
        upsert(MemoryVectorRow)
        .from_select(["user_id", "session_id", "seq", "embedder", "embedding"], rows)
        .on_conflict_do_nothing()
        .returning(literal_column("1")),
        repeatable=True,
    )


def _lacking(*, of_user: bool) -> Statement:
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
    keys = _once(page.order_by(memory.user_id, memory.session_id, memory.seq).limit(LIMIT), "keys")
    there = (
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
    lacking = (
        select(memory.id, cast(memory.payload, Text).label("payload"))
        .where(
            memory.user_id == keys.c.user_id,
            memory.session_id == keys.c.session_id,
            memory.seq == keys.c.seq,
            ~there,
        )
        .limit(literal_column("1"))
        .correlate(keys)
        .lateral("lacking")
    )
    return Statement(
        select(*keys.c, *lacking.c)
        .select_from(keys.outerjoin(lacking, true()))
        .order_by(keys.c.user_id, keys.c.session_id, keys.c.seq)
    )


INSERT = _insert()
LACKING = _lacking(of_user=False)
LACKING_OF_USER = _lacking(of_user=True)
# How many vectors each embedder has: all of the table is read.
EMBEDDERS = Statement(
    select(MemoryVectorRow.embedder, func.count().label("count"))
    .group_by(MemoryVectorRow.embedder)
    .order_by(MemoryVectorRow.embedder)
)


def _similar() -> CTE:
    """How near each of the user's memories is to the question: 1 is the same direction, -1 the opposite.

    Every vector is compared, by a range of the primary key: an index of all vectors would find few of one user's.
    """
    vectors = MemoryVectorRow
    distance: ColumnElement[float] = vectors.embedding.op("<=>", return_type=Double())(_VECTOR)
    return _once(
        select(vectors.session_id, vectors.seq, _cosine(distance)).where(
            vectors.user_id == _USER,
            vectors.embedder == _EMBEDDER,
            or_(_SESSION.is_(None), vectors.session_id == _SESSION),
        ),
        "similar",
    )


def _similar_by_index(name: str, dimensions: int) -> CTE:
    """How near those memories of the user are that are nearest, about, by the embedder's HNSW index.

    The name is said, since the index is of this embedder alone. The offset keeps the user, of whom the index knows
    nothing, out of its scan.
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
    return _once(
        select(nearest.c.session_id, nearest.c.seq, _cosine(nearest.c.distance))
        .where(nearest.c.user_id == _USER)
        .limit(_NEAREST),
        "similar",
    )


def _cosine(distance: ColumnElement[Any]) -> ColumnElement[Any]:
    # Of a vector of zeros, which has no direction, the distance is NaN.
    cosine = number(1.0) - func.nullif(distance, literal_column("'NaN'::float8"))
    return func.coalesce(cosine, number(0.0)).label("similarity")


def _nearest_first(similar: CTE) -> Subquery:
    """As a subquery that keeps its order, so that what is joined to it is looked up only until there is enough."""
    return (
        select(*similar.c)
        .order_by(similar.c.similarity.desc(), similar.c.session_id, similar.c.seq)
        .offset(literal_column("0"))
        .subquery("nearest")
    )


def _by_meaning(similar: CTE) -> Statement:
    """Return the memories that are nearest in meaning; the score is the cosine."""
    nearest = _nearest_first(similar)
    place = place_of(nearest)
    found = (
        select(nearest.c.session_id, nearest.c.seq, place.c.time, nearest.c.similarity.label("score"))
        .select_from(nearest.join(place, true()))
        .where(*is_wanted(place), nearest.c.similarity >= MIN_SCORE)
        .order_by(nearest.c.similarity.desc(), place.c.time.desc(), nearest.c.session_id, nearest.c.seq.desc())
        .limit(LIMIT)
        .subquery("found")
    )
    return with_payloads(found)


def _by_both(similar: CTE) -> Statement:
    """Return the memories that fit best by words and meaning, as :func:`ranking.fused` says.

    What is found by either is put below each other and grouped, and not joined: a planner who takes each for a row or
    two compares all with all.
    """
    total = totals().total
    place = place_of(total)
    words = _once(
        select(total.c.session_id, total.c.seq, place.c.time, score_of(total, place), prior_of(place).label("prior"))
        .select_from(total.join(place, true()))
        .where(*is_wanted(place)),
        "words",
    )
    nearest = _nearest_first(similar)
    where = place_of(nearest)
    near = _once(
        select(*nearest.c, where.c.time, prior_of(where).label("prior"))
        .select_from(nearest.join(where, true()))
        .where(*is_wanted(where))
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
        # For those that were found by their words alone.
        select(similar.c.session_id, similar.c.seq, no_time, no_number, no_number, similar.c.similarity),
    ).subquery("parts")
    names = ("time", "prior", "score", "similarity")
    each = (
        select(parts.c.session_id, parts.c.seq, *(func.max(parts.c[name]).label(name) for name in names))
        .group_by(parts.c.session_id, parts.c.seq)
        .having(func.count(parts.c.prior) > 0)
        .subquery("each")
    )
    bounds = _once(
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


VECTOR = _by_meaning(_similar())
HYBRID = _by_both(_similar())


@lru_cache
def by_index(name: str, dimensions: int, *, with_words: bool) -> Statement:
    """The searches by an embedder's index."""
    return (_by_both if with_words else _by_meaning)(_similar_by_index(name, dimensions))


def _is_large() -> Statement:
    """Return whether the user has more than `many` memories, and the index is there and can be used."""
    valid: Select[Any] = select(literal_column("1")).where(
        _PG_INDEX.c.indexrelid == cast(func.to_regclass(bindparam("index", type_=Text)), OID), _PG_INDEX.c.indisvalid
    )
    count = select(func.coalesce(func.sum(MemoryBucketRow.count), 0)).where(MemoryBucketRow.user_id == _USER)
    return Statement(select(valid.exists(), count.scalar_subquery() > bindparam("many", type_=BigInteger)))


IS_LARGE = _is_large()
# For the transaction alone: behind a pooler a connection is somebody else's after it.
USE_INDEX = Statement(
    select(
        *(func.set_config(bindparam(None, name), bindparam(None, value), true()) for name, value in _BY_INDEX.items())
    ),
    repeatable=True,
)


@contextmanager
def needing_vectors(database: Database) -> Iterator[None]:
    """Say what to do where the database has no vectors, or none that fit the embedder.

    Raises:
        NotConfigured: vectors are not enabled, not seen by the login, or of another size.
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
                f"{database.where} has no type `vector` that this login sees: run `agentstore vector enable`, and have "
                "the extension's schema in its search_path."
            ) from error
        if error.sqlstate == "22000" and "dimensions" in str(error):
            raise NotConfigured(
                f"{database.where} keeps vectors of other dimensions under this embedder's name: give the embedder "
                f"another name. ({error})"
            ) from error
        raise


def not_enabled(database: Database) -> NotConfigured:
    """Return the error of a database without vectors."""
    return NotConfigured(f"Vectors are not enabled in {database.where}: run `agentstore vector enable`.")


async def is_enabled(database: Database) -> bool:
    """Return whether the database has the table of vectors."""
    ((found,),) = await database.fetch(IS_ENABLED, table=f'"{database.settings.schema}".memory_vectors')
    return bool(found)


async def find_by_meaning(
    database: Database, embedder: Embedder, vector: "array[float]", asked: dict[str, Any] | None, values: dict[str, Any]
) -> list[Row]:
    """Return what is nearest to `vector`, or what fits that and the words that are `asked` for together.

    Raises:
        NotConfigured: see :func:`needing_vectors`.
    """
    values = {
        **values,
        "embedder": embedder.name,
        "vector": embedding.written(vector),
        "nearest": max(ranking.NEAREST, values["limit"]),
    }
    if asked is not None:
        values |= {**asked, "weight": database.settings.hybrid_weight}
    with needing_vectors(database):
        if await _wants_index(database, embedder, values):
            statement = by_index(embedder.name, embedder.dimensions, with_words=asked is not None)
            async with database.transaction() as transaction:
                await transaction.fetch(USE_INDEX)
                return await transaction.fetch(statement, **values)
        return await database.fetch(VECTOR if asked is None else HYBRID, **values)


async def _wants_index(database: Database, embedder: Embedder, values: dict[str, Any]) -> bool:
    """Whether the user has so many vectors that the index is worth it, and nothing else is asked for than the nearest.

    With a filter all are compared, so that enough of those are left that pass. Where no index was found nothing is
    asked for a minute: a search is one statement then.
    """
    if any(values[name] is not None for name in _FILTERS):
        return False
    name = vector_index_name(embedder.name, embedder.dimensions)
    index = f'"{database.settings.schema}"."{name}"'
    missing = _MISSING.setdefault(database, {})
    if missing.get(index, 0.0) > time.monotonic():
        return False
    ((is_there, is_large),) = await database.fetch(IS_LARGE, user_id=values["user_id"], index=index, many=VERY_MANY)
    if not is_there:
        missing[index] = time.monotonic() + _MINUTE
    return bool(is_there and is_large)


async def add_vectors(database: Database, embedder: Embedder, wanting: Sequence[Unembedded]) -> int:
    """Embed memories, and keep the vectors of those that still say the same; return how many were new.

    Raises:
        EmbeddingFailed: the embedder failed; those before have their vectors.
        NotConfigured: see :func:`needing_vectors`.
    """
    wanting = [each for each in wanting if each.text]
    made = 0
    for start in range(0, len(wanting), _AT_ONCE):
        some = wanting[start : start + _AT_ONCE]
        vectors = await embedding.embed_texts(embedder, [each.text for each in some])
        with needing_vectors(database):
            rows = await database.fetch(
                INSERT,
                users=[each.user_id for each in some],
                ids=[each.id for each in some],
                vectors=[embedding.written(vector) for vector in vectors],
                digests=[sha256(each.payload.encode()).digest() for each in some],
                embedder=embedder.name,
            )
        made += len(rows)
    return made


async def embed_all(
    database: Database,
    embedder: Embedder,
    settings: Settings,
    *,
    user_id: str | None,
    batch: int,
    progress: Progress | None,
) -> int:
    """Embed what has no vector of this embedder, by key; return how many vectors were made. See the service's."""
    whose = {} if user_id is None else {"user_id": user_id}
    total = await how_many(database, user_id)
    after: tuple[str, str, int] = (user_id or "", "", 0)
    seen = made = in_a_row = 0
    refusal: EmbeddingFailed | None = None
    while True:
        with needing_vectors(database):
            rows = await database.fetch(
                LACKING if user_id is None else LACKING_OF_USER,
                **whose,
                **dict(zip(("after_user", "after_session", "after"), after, strict=True)),
                embedder=embedder.name,
                limit=batch,
            )
        if not rows:
            break
        wanting = _wanting(rows, settings)
        try:
            made += await add_vectors(database, embedder, wanting)
        except EmbeddingFailed:
            # Each by itself, so that a text that is refused does not keep the others back.
            for each in wanting:
                try:
                    made += await add_vectors(database, embedder, [each])
                    in_a_row = 0
                except EmbeddingFailed as error:
                    refusal, in_a_row = error, in_a_row + 1
                    _log.warning("memory %r of user %r was not embedded: %s", each.id, each.user_id, error)
                    if in_a_row == _REFUSALS:
                        raise
        after = (rows[-1][0], rows[-1][1], rows[-1][2])
        seen += len(rows)
        if progress is not None:
            progress(seen, max(total, seen))
    if refusal is not None and not made:
        raise refusal
    return made


def _wanting(rows: Sequence[Row], settings: Settings) -> list[Unembedded]:
    lacking = [row for row in rows if row["payload"] is not None]
    messages = load_messages([row["payload"] for row in lacking])
    return [
        Unembedded(row["user_id"], row["id"], row["payload"], embedded_text(message, settings))
        for row, message in zip(lacking, messages, strict=True)
    ]
