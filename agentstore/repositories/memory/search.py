"""The full-text search statement, which ranks memories as :mod:`agentstore.search.ranking` defines.

The vector and hybrid searches in :mod:`agentstore.repositories.memory.vectors` use its parts.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    CTE,
    BigInteger,
    ClauseElement,
    ColumnElement,
    DateTime,
    Double,
    Integer,
    Numeric,
    Subquery,
    Text,
    and_,
    bindparam,
    case,
    cast,
    func,
    literal,
    literal_column,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import TSQUERY
from sqlalchemy.sql.selectable import LateralFromClause
from sqlalchemy.types import TypeEngine

from agentstore.database.sql import SqlStatements
from agentstore.models import MemoryBucketRow, MemoryRow
from agentstore.schemas.memory_item import MESSAGE
from agentstore.search import ranking

SQL = SqlStatements(__file__, ranking=ranking)

_USER = bindparam("user_id", type_=Text)
_SESSION = bindparam("wanted_session", type_=Text)
_ROLE = bindparam("role", type_=Text)
_KIND = bindparam("kind", type_=Text)
_TIME = DateTime(timezone=True)
_SINCE, _UNTIL = bindparam("since", type_=_TIME), bindparam("until", type_=_TIME)
MIN_SCORE = bindparam("min_score", type_=Double)
LIMIT = bindparam("limit", type_=BigInteger)
_VALID_AT = func.coalesce(bindparam("valid_at", type_=_TIME), func.now())


def number(value: float) -> ColumnElement[float]:
    """Return a constant of type double precision."""
    return literal(value, Double)


class WordScores(NamedTuple):
    """The scores of a query's words, for each memory that has some of them or is next to one that has."""

    total: Subquery
    # The positions of the terms that match any memory, and of those that are selective.
    known: ColumnElement[Any]
    selective: ColumnElement[Any]


def plan_for_values(value: ColumnElement[Any]) -> ColumnElement[Any]:
    """Return a parameter unchanged, so that Postgres may plan for its value."""
    return value


def word_scores() -> WordScores:
    """Score the words of a query in each memory, including the scores that neighboring memories lend.

    The index is scanned once for each term, and returns only memories of the one user. No tsvector is read. CTEs are
    not joined to each other on keys whose number the planner cannot estimate.
    """
    buckets, memory, plan = MemoryBucketRow, MemoryRow, plan_for_values
    queries = plan(bindparam("queries", type_=ARRAY(Text)))
    weights = plan(bindparam("weights", type_=ARRAY(Double)))
    session, role = plan(_SESSION), plan(_ROLE)
    given = func.unnest(queries, weights).table_valued("query", "weight", with_ordinality="position", name="q")
    given = given.render_derived()
    terms = materialized(select(cast(given.c.query, TSQUERY).label("query"), given.c.weight, given.c.position), "terms")
    average = cast(func.sum(buckets.tokens), Double) / func.nullif(func.sum(buckets.count), 0)
    size = materialized(
        select(
            cast(func.sum(buckets.count), Double).label("count"),
            func.coalesce(func.nullif(average, 0), 1).label("average"),
            cast(
                func.greatest(
                    ranking.COMMON,
                    func.ceil(number(ranking.COMMON_ROOT) * func.sqrt(cast(func.sum(buckets.count), Double))),
                ),
                BigInteger,
            ).label("common"),
        ).where(buckets.user_id == _USER),
        "size",
    )
    common = select(size.c.common).scalar_subquery()
    most = func.greatest(common + 1, ranking.MAX_HITS / func.cardinality(queries))
    # Matched by the lexemes alone, which contain the user's hash: with a condition on user_id beside them the planner
    # would prefer to read all memories of the user. OFFSET 0 keeps the two conditions apart, and the join keeps the
    # planner from choosing a table scan because of the LIMIT.
    matching = (
        select(
            *(memory.user_id, memory.session_id, memory.seq, memory.tokens),
            *(memory.time, memory.kind, memory.valid_from, memory.valid_until),
        )
        .where(memory.lexemes.bool_op("@@")(terms.c.query))
        .offset(literal_column("0"))
        .correlate(terms)
        .subquery("matching")
    )
    matches = (
        select(matching.c.session_id, matching.c.seq, matching.c.tokens, matching.c.kind)
        .select_from(size.join(matching, true()))
        .where(
            matching.c.user_id == _USER,
            or_(session.is_(None), matching.c.session_id == session),
            *_filters(matching.c, plan),
        )
        .limit(most)
        .correlate(terms)
        .lateral("matches")
    )
    hits = materialized(
        select(terms.c.position, terms.c.weight, *matches.c).select_from(terms.join(matches, true())),
        "hits",
    )
    df = materialized(
        select(hits.c.position, hits.c.weight, func.count().label("count")).group_by(hits.c.position, hits.c.weight),
        "df",
    )
    rare = select(func.count()).select_from(df).where(df.c.count <= common).scalar_subquery()
    matched = case((df.c.count >= most, size.c.count), else_=func.least(df.c.count, size.c.count))
    idf = func.ln(1 + (size.c.count - matched + number(0.5)) / (matched + number(0.5)))
    weighed = materialized(
        select(df.c.position, (idf * df.c.weight).label("idf"))
        .select_from(df.join(size, true()))
        .where(or_(df.c.count <= common, rare < ranking.MIN_RARE)),
        "weighed",
    )
    length = number(1 - ranking.B) + number(ranking.B) * hits.c.tokens / func.nullif(size.c.average, 0)
    own = (weighed.c.idf * number(1 + ranking.K1) / (1 + number(ranking.K1) * length)).label("score")
    scored = materialized(
        select(hits.c.position, hits.c.session_id, hits.c.seq, hits.c.kind, own).select_from(
            hits.join(weighed, hits.c.position == weighed.c.position).join(size, true())
        ),
        "scored",
    )
    key = (scored.c.session_id, scored.c.seq)
    summed = materialized(
        select(
            *scored.c,
            _rounded(func.sum(scored.c.score).over(partition_by=key)).label("total"),
            func.row_number().over(partition_by=key).label("copy"),
        ),
        "summed",
    )
    best = (
        select(summed.c.total)
        .where(summed.c.copy == 1)
        .order_by(summed.c.total.desc())
        .limit(ranking.LENDERS)
        .subquery("best")
    )
    least = select(func.min(best.c.total)).scalar_subquery()
    neighbors = (
        func.unnest(_array(ranking.NEIGHBORS, Integer), _array(ranking.NEIGHBORS.values(), Double))
        .table_valued("step", "weight", name="neighbors")
        .render_derived()
    )
    less = func.least(1, number(ranking.TURN) / func.nullif(size.c.average, 0))
    weight = case((neighbors.c.step == 0, number(1.0)), else_=neighbors.c.weight * less)
    seq = (summed.c.seq + neighbors.c.step).label("seq")
    # An item stands alone: it neither lends a score to its neighbors nor borrows one.
    lends = and_(summed.c.total >= least, summed.c.kind == MESSAGE)
    lent = (
        select(
            *(summed.c.session_id, seq, func.max(summed.c.score * weight).label("score")),
            func.max(summed.c.score).filter(neighbors.c.step == 0).label("own"),
        )
        .select_from(summed.join(neighbors, true()).join(size, true()))
        .where(or_(lends, neighbors.c.step == 0))
        .group_by(summed.c.position, summed.c.session_id, seq)
        .subquery("lent")
    )
    scores = materialized(
        select(
            *(lent.c.session_id, lent.c.seq),
            *(func.sum(lent.c.score).label("score"), func.sum(lent.c.own).label("own")),
            _rounded(func.sum(lent.c.score)).label("compared"),
        ).group_by(lent.c.session_id, lent.c.seq),
        "scores",
    )
    candidates = (
        select(scores.c.compared)
        .order_by(scores.c.compared.desc())
        .limit(func.greatest(ranking.CANDIDATES, LIMIT * ranking.CANDIDATES_PER_HIT))
        .subquery("candidates")
    )
    least_candidate = select(func.min(candidates.c.compared)).scalar_subquery()
    total = select(scores).where(or_(role.is_not(None), scores.c.compared >= least_candidate)).subquery("total")
    selective = (
        select(func.array_agg(df.c.position))
        .select_from(df.join(size, true()))
        .where(size.c.count >= ranking.SELECTIVE_FROM, df.c.count <= size.c.count * number(ranking.SELECTIVE))
    )
    return WordScores(
        total,
        select(func.array_agg(df.c.position)).scalar_subquery().label("known"),
        selective.scalar_subquery().label("selective"),
    )


def memory_columns(of: Any) -> LateralFromClause:
    """Look up the columns by which a memory is ranked and filtered; `of` has its `session_id` and `seq`."""
    memory = MemoryRow
    # LIMIT 1 makes the planner use the whole key, whatever it estimates about the user.
    return (
        select(memory.role, memory.is_question, memory.importance)
        .add_columns(memory.time, memory.kind, memory.valid_from, memory.valid_until)
        .where(memory.user_id == _USER, memory.session_id == of.c.session_id, memory.seq == of.c.seq)
        .limit(literal_column("1"))
        .correlate(of)
        .lateral("memory_columns")
    )


def filters_of(columns: Any) -> list[ColumnElement[bool]]:
    """Return the conditions of a search's filters, except for the session."""
    return [or_(_ROLE.is_(None), columns.c.role == _ROLE), *_filters(columns.c)]


def prior_of(columns: LateralFromClause) -> ColumnElement[Any]:
    """Compute the factor for a memory's role and form, or an item's importance: see :func:`ranking.prior`."""
    role = case((columns.c.role != "user", number(ranking.OTHER_SPEAKER)), else_=number(1.0))
    question = case((columns.c.is_question, number(ranking.QUESTION)), else_=number(1.0))
    importance = number(ranking.MIN_IMPORTANCE) + columns.c.importance * number(1 - ranking.MIN_IMPORTANCE) * 2
    return case((columns.c.kind == MESSAGE, role * question), else_=importance)


def score_of(total: Subquery, columns: LateralFromClause) -> ColumnElement[Any]:
    """Compute the full-text score of a memory; an item's without the scores of its neighbors."""
    words = case((columns.c.kind == MESSAGE, total.c.score), else_=total.c.own)
    return _rounded(words * prior_of(columns)).label("score")


def with_payloads(found: Subquery, *columns: ColumnElement[Any]) -> ClauseElement:
    """Select the hits with their payloads and `columns`, best first; no other payload is read."""
    memory = MemoryRow
    payload = (
        select(cast(memory.payload, Text).label("payload"), memory.kind, memory.valid_until)
        .where(memory.user_id == _USER, memory.session_id == found.c.session_id, memory.seq == found.c.seq)
        .limit(literal_column("1"))
        .correlate(found)
        .lateral("payload")
    )
    return (
        select(found.c.score, found.c.session_id, found.c.seq, found.c.time, *payload.c, *columns)
        .select_from(found.join(payload, true()))
        .order_by(*order_of(found.c))
    )


def order_of(found: Any) -> list[ColumnElement[Any]]:
    """Order hits by score, best first, then by time, newest first."""
    return [found.score.desc(), found.time.desc(), found.session_id, found.seq.desc()]


def _filters(memory: Any, plan: Callable[[Any], ColumnElement[Any]] = plan_for_values) -> list[ColumnElement[bool]]:
    """Return the conditions of a search's filters, except for session and role."""
    since, until, kind, valid_at = map(plan, (_SINCE, _UNTIL, _KIND, _VALID_AT))
    return [
        or_(since.is_(None), memory.time >= since),
        or_(until.is_(None), memory.time < until),
        or_(kind.is_(None), memory.kind == kind),
        or_(memory.valid_from.is_(None), memory.valid_from <= valid_at),
        or_(memory.valid_until.is_(None), memory.valid_until > valid_at),
    ]


def _array(values: Iterable[float], kind: type[TypeEngine[Any]]) -> ColumnElement[Any]:
    """Return a constant array, whose length the planner knows."""
    return cast(literal_column(f"'{{{','.join(map(repr, values))}}}'"), ARRAY(kind))


def _rounded(score: ColumnElement[Any]) -> ColumnElement[Any]:
    """Round a score, so that sums of the same numbers in another order are equal."""
    return cast(func.round(cast(score, Numeric), 9), Double)


def materialized(statement: Any, name: str) -> CTE:
    """Return a statement as a materialized CTE, which the planner does not merge into the rest of the query."""
    cte: CTE = statement.cte(name).prefix_with("MATERIALIZED")
    return cte


SEARCH = SQL("search")
