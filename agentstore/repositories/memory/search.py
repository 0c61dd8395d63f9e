"""The search statement: from the tokens of a question to the memories that fit best, in one round trip."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    CTE,
    BigInteger,
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

from agentstore.database.statement import Statement, generic_plan
from agentstore.models import MemoryBucketRow, MemoryRow
from agentstore.schemas.memory_item import MESSAGE
from agentstore.search import ranking

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
    """A number as Postgres computes with it."""
    return literal(value, Double)


class Totals(NamedTuple):
    """What the words of a question count in each memory, and around it."""

    total: Subquery
    # Which of the queries any memory fits, and which of those are telling.
    known: ColumnElement[Any]
    telling: ColumnElement[Any]


def plan_for_values(value: ColumnElement[Any]) -> ColumnElement[Any]:
    """A value at which the planner may look. The other way is :func:`generic_plan`."""
    return value


def totals(shown: Callable[[Any], ColumnElement[Any]] = plan_for_values) -> Totals:
    """What the words of a question count in each memory, and around it; the planner has little to guess.

    The index is asked once for each token, and gives one user's memories only. No tsvector is read. CTEs are not
    joined to each other on keys whose number the planner cannot know.
    """
    buckets, memory = MemoryBucketRow, MemoryRow
    queries = shown(bindparam("queries", type_=ARRAY(Text)))
    weights = shown(bindparam("weights", type_=ARRAY(Double)))
    session, role = shown(_SESSION), shown(_ROLE)
    given = func.unnest(queries, weights).table_valued("query", "weight", with_ordinality="position", name="q")
    given = given.render_derived()
    asked = _once(select(cast(given.c.query, TSQUERY).label("query"), given.c.weight, given.c.position), "asked")
    average = cast(func.sum(buckets.tokens), Double) / func.nullif(func.sum(buckets.count), 0)
    size = _once(
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
    most = func.greatest(common + 1, ranking.HITS / func.cardinality(queries))
    # By its lexemes alone, which are the user's: a planner who knows the user too prefers reading all that the user
    # has. The offset keeps the two apart, and the join keeps the limit from being taken for a reason to scan the table.
    probed = (
        select(
            *(memory.user_id, memory.session_id, memory.seq, memory.tokens),
            *(memory.time, memory.kind, memory.valid_from, memory.valid_until),
        )
        .where(memory.lexemes.bool_op("@@")(asked.c.query))
        .offset(literal_column("0"))
        .correlate(asked)
        .subquery("probed")
    )
    probe = (
        select(probed.c.session_id, probed.c.seq, probed.c.tokens, probed.c.kind)
        .select_from(size.join(probed, true()))
        .where(
            probed.c.user_id == _USER,
            or_(session.is_(None), probed.c.session_id == session),
            *_wanted(probed.c, shown),
        )
        .limit(most)
        .correlate(asked)
        .lateral("probe")
    )
    hits = _once(
        select(asked.c.position, asked.c.weight, *probe.c).select_from(asked.join(probe, true())),
        "hits",
    )
    df = _once(
        select(hits.c.position, hits.c.weight, func.count().label("count")).group_by(hits.c.position, hits.c.weight),
        "df",
    )
    rare = select(func.count()).select_from(df).where(df.c.count <= common).scalar_subquery()
    having = case((df.c.count >= most, size.c.count), else_=func.least(df.c.count, size.c.count))
    idf = func.ln(1 + (size.c.count - having + number(0.5)) / (having + number(0.5)))
    weighed = _once(
        select(df.c.position, (idf * df.c.weight).label("idf"))
        .select_from(df.join(size, true()))
        .where(or_(df.c.count <= common, rare < ranking.FEW)),
        "weighed",
    )
    length = number(1 - ranking.B) + number(ranking.B) * hits.c.tokens / func.nullif(size.c.average, 0)
    own = (weighed.c.idf * number(1 + ranking.K1) / (1 + number(ranking.K1) * length)).label("score")
    scored = _once(
        select(hits.c.position, hits.c.session_id, hits.c.seq, hits.c.kind, own).select_from(
            hits.join(weighed, hits.c.position == weighed.c.position).join(size, true())
        ),
        "scored",
    )
    of_memory = (scored.c.session_id, scored.c.seq)
    summed = _once(
        select(
            *scored.c,
            _rounded(func.sum(scored.c.score).over(partition_by=of_memory)).label("total"),
            func.row_number().over(partition_by=of_memory).label("copy"),
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
    around = (
        func.unnest(_array(ranking.NEIGHBOURS, Integer), _array(ranking.NEIGHBOURS.values(), Double))
        .table_valued("step", "weight", name="around")
        .render_derived()
    )
    less = func.least(1, number(ranking.TURN) / func.nullif(size.c.average, 0))
    weight = case((around.c.step == 0, number(1.0)), else_=around.c.weight * less)
    seq = (summed.c.seq + around.c.step).label("seq")
    # A fact stands by itself: it neither lends nor borrows.
    lends = and_(summed.c.total >= least, summed.c.kind == MESSAGE)
    lent = (
        select(
            *(summed.c.session_id, seq, func.max(summed.c.score * weight).label("score")),
            func.max(summed.c.score).filter(around.c.step == 0).label("own"),
        )
        .select_from(summed.join(around, true()).join(size, true()))
        .where(or_(lends, around.c.step == 0))
        .group_by(summed.c.position, summed.c.session_id, seq)
        .subquery("lent")
    )
    every = _once(
        select(
            *(lent.c.session_id, lent.c.seq),
            *(func.sum(lent.c.score).label("score"), func.sum(lent.c.own).label("own")),
            _rounded(func.sum(lent.c.score)).label("compared"),
        ).group_by(lent.c.session_id, lent.c.seq),
        "every",
    )
    looked_at = (
        select(every.c.compared)
        .order_by(every.c.compared.desc())
        .limit(func.greatest(ranking.LOOKED_AT, LIMIT * ranking.TIMES))
        .subquery("looked_at")
    )
    least_looked_at = select(func.min(looked_at.c.compared)).scalar_subquery()
    total = select(every).where(or_(role.is_not(None), every.c.compared >= least_looked_at)).subquery("total")
    telling = (
        select(func.array_agg(df.c.position))
        .select_from(df.join(size, true()))
        .where(size.c.count >= ranking.MANY, df.c.count <= size.c.count * number(ranking.TELLING))
    )
    return Totals(
        total,
        select(func.array_agg(df.c.position)).scalar_subquery().label("known"),
        telling.scalar_subquery().label("telling"),
    )


def place_of(of: Any) -> LateralFromClause:
    """What a memory is ranked and filtered by, beside its words; `of` has its session and number."""
    memory = MemoryRow
    # By all of its key, whatever the planner believes of a user that it does not know.
    return (
        select(memory.role, memory.is_question, memory.importance)
        .add_columns(memory.time, memory.kind, memory.valid_from, memory.valid_until)
        .where(memory.user_id == _USER, memory.session_id == of.c.session_id, memory.seq == of.c.seq)
        .limit(literal_column("1"))
        .correlate(of)
        .lateral("place")
    )


def is_wanted(place: Any) -> list[ColumnElement[bool]]:
    """The filters that a memory has to pass, beside its session."""
    return [or_(_ROLE.is_(None), place.c.role == _ROLE), *_wanted(place.c)]


def prior_of(place: LateralFromClause) -> ColumnElement[Any]:
    """What a memory counts for who said it, and how, or for a fact's importance: see :func:`ranking.prior`."""
    role = case((place.c.role != "user", number(ranking.NOT_THE_USERS)), else_=number(1.0))
    question = case((place.c.is_question, number(ranking.QUESTION)), else_=number(1.0))
    importance = number(ranking.LEAST_IMPORTANT) + place.c.importance * number(1 - ranking.LEAST_IMPORTANT) * 2
    return case((place.c.kind == MESSAGE, role * question), else_=importance)


def score_of(total: Subquery, place: LateralFromClause) -> ColumnElement[Any]:
    """What a memory's words count. A fact stands by itself."""
    words = case((place.c.kind == MESSAGE, total.c.score), else_=total.c.own)
    return _rounded(words * prior_of(place)).label("score")


def with_payloads(found: Subquery, *columns: ColumnElement[Any]) -> Statement:
    """Return what was found with its payloads, the best first, and `columns`; no other payload is read."""
    memory = MemoryRow
    payload = (
        select(cast(memory.payload, Text).label("payload"), memory.kind, memory.valid_until)
        .where(memory.user_id == _USER, memory.session_id == found.c.session_id, memory.seq == found.c.seq)
        .limit(literal_column("1"))
        .correlate(found)
        .lateral("payload")
    )
    return Statement(
        select(found.c.score, found.c.session_id, found.c.seq, found.c.time, *payload.c, *columns)
        .select_from(found.join(payload, true()))
        .order_by(*order_of(found.c)),
    )


def order_of(found: Any) -> list[ColumnElement[Any]]:
    """The best first; of equal ones the newest."""
    return [found.score.desc(), found.time.desc(), found.session_id, found.seq.desc()]


def _search() -> Statement:
    """Return the memories whose words fit best, as :mod:`agentstore.search.ranking` says.

    With each comes which of the queries any memory fits, by their positions, and which of those are telling.
    """
    total, known, telling = totals(generic_plan)
    place = place_of(total)
    score = score_of(total, place)
    found = (
        select(total.c.session_id, total.c.seq, place.c.time, score)
        .select_from(total.join(place, true()))
        .where(*is_wanted(place), score >= MIN_SCORE)
        .order_by(score.desc(), place.c.time.desc(), total.c.session_id, total.c.seq.desc())
        .limit(generic_plan(LIMIT))
        .subquery("found")
    )
    return with_payloads(found, known, telling)


def _wanted(memory: Any, shown: Callable[[Any], ColumnElement[Any]] = plan_for_values) -> list[ColumnElement[bool]]:
    """The filters that a memory has to pass, beside its session and role."""
    since, until, kind, valid_at = map(shown, (_SINCE, _UNTIL, _KIND, _VALID_AT))
    return [
        or_(since.is_(None), memory.time >= since),
        or_(until.is_(None), memory.time < until),
        or_(kind.is_(None), memory.kind == kind),
        or_(memory.valid_from.is_(None), memory.valid_from <= valid_at),
        or_(memory.valid_until.is_(None), memory.valid_until > valid_at),
    ]


def _array(values: Iterable[float], kind: type[TypeEngine[Any]]) -> ColumnElement[Any]:
    """An array whose length the planner knows."""
    return cast(literal_column(f"'{{{','.join(map(repr, values))}}}'"), ARRAY(kind))


def _rounded(score: ColumnElement[Any]) -> ColumnElement[Any]:
    """Sums of the same numbers in another order are equal."""
    return cast(func.round(cast(score, Numeric), 9), Double)


def _once(statement: Any, name: str) -> CTE:
    cte: CTE = statement.cte(name).prefix_with("MATERIALIZED")
    return cte


SEARCH = _search()
