"""Memories on Postgres: the statements, then the class that says them.

Each method is one statement, unless another caller is in the way or a question has words that no memory has.
"""

import asyncio
from collections.abc import Mapping
from itertools import islice
from typing import Any

from sqlalchemy import (
    ARRAY,
    CTE,
    URL,
    BigInteger,
    Boolean,
    ColumnElement,
    Double,
    Float,
    Integer,
    Numeric,
    Text,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    literal,
    literal_column,
    or_,
    select,
    true,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import JSON, TSQUERY, TSVECTOR
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncEngine

from agentstore.database import Database, Row, Statement
from agentstore.errors import LimitExceeded, StatementFailed, Unavailable
from agentstore.interfaces import MemoryService
from agentstore.models import MemoryBucketRow, MemoryRow, UserRow
from agentstore.repositories.memory_words import WORDS, alternatives
from agentstore.repositories.service import PostgresService, back_off
from agentstore.schemas import Deleted, MemoryHit, Message, MessagesLike, Page
from agentstore.schemas.memory import (
    bucket,
    question_of,
    read_list_filters,
    read_memory_cursor,
    read_search_filters,
    said_at,
    speaker_and_text,
    text_of,
    write_memory_cursor,
)
from agentstore.schemas.payload import check_id, load_messages, prepare_messages
from agentstore.schemas.times import parse_time
from agentstore.search import analysis, ranking, spelling
from agentstore.settings import Settings
from agentstore.url import Password

_TRIES = 20
_LONG = 200_000
# Postgres takes less than 1 GB at once, and a character may be four bytes.
_MOST_LEXEMES = 200_000_000

_USER = bindparam("user_id", type_=Text)
_SESSION = bindparam("session_id", type_=Text)
_LIMIT = bindparam("limit", type_=BigInteger)
_THIS = (MemoryBucketRow.user_id == _USER) & (MemoryBucketRow.session_id == _SESSION)
_PAYLOAD = cast(MemoryRow.payload, Text).label("payload")
_TIME = MemoryRow.time.type
_GIVEN = (
    func.unnest(
        bindparam("ids", type_=ARRAY(Text)),
        bindparam("payloads", type_=ARRAY(Text)),
        bindparam("roles", type_=ARRAY(Text)),
        bindparam("questions", type_=ARRAY(Boolean)),
        bindparam("times", type_=ARRAY(_TIME)),
        bindparam("tokens", type_=ARRAY(BigInteger)),
        bindparam("lexemes", type_=ARRAY(Text)),
        bindparam("cuts", type_=ARRAY(Boolean)),
    )
    .table_valued(
        *("id", "payload", "role", "is_question", "time", "tokens", "lexemes", "is_cut"),
        with_ordinality="position",
        name="given",
    )
    .render_derived()
)
_MEMORY = [
    *("user_id", "session_id", "seq", "id", "payload", "role", "is_question", "time", "tokens", "lexemes", "is_cut"),
    "analysis",
]


def _rows(given: Any, seq: ColumnElement[Any]) -> list[Any]:
    """What is inserted of `given`, with the number `seq`."""
    return [
        _USER,
        _SESSION,
        seq,
        given.c.id,
        cast(given.c.payload, JSON),
        given.c.role,
        given.c.is_question,
        func.coalesce(given.c.time, func.now(type_=_TIME)),
        given.c.tokens,
        cast(given.c.lexemes, TSVECTOR),
        given.c.is_cut,
        bindparam("analysis", type_=Text),
    ]


def _add() -> Statement:
    """Insert the memories, and the bucket and the user if they are the first. 23505: an id is there already."""
    user_is_new = ~select(UserRow.id).where(UserRow.id == _USER).exists()
    user = (
        upsert(UserRow)
        .from_select(["id"], select(_USER).where(user_is_new))
        .on_conflict_do_nothing(index_elements=["id"])
        .returning(UserRow.id)
        .cte("made_user")
    )
    # Reads the user's CTE, so that it runs first: the bucket's foreign key needs its row.
    first = select(func.count().label("count")).select_from(user).subquery("first")
    count, tokens = bindparam("count", type_=BigInteger), bindparam("all_tokens", type_=BigInteger)
    bucket = upsert(MemoryBucketRow).from_select(
        ["user_id", "session_id", "count", "tokens"], select(_USER, _SESSION, count, tokens).select_from(first)
    )
    claimed = (
        bucket.on_conflict_do_update(
            index_elements=["user_id", "session_id"],
            set_={
                "count": MemoryBucketRow.count + bucket.excluded.count,
                "tokens": MemoryBucketRow.tokens + bucket.excluded.tokens,
            },
        )
        .returning((MemoryBucketRow.count - count).label("base"))
        .cte("claimed")
    )
    return Statement(
        insert(MemoryRow)
        .from_select(
            _MEMORY,
            select(*_rows(_GIVEN, claimed.c.base + _GIVEN.c.position)).select_from(_GIVEN.join(claimed, true())),
        )
        .returning(literal_column("1")),
        repeatable=True,  # with the same ids it changes nothing more
    )


def _add_again() -> Statement:
    """Insert those of the memories that are not there, and return how many were wanted and the bucket's count, if any.

    An id that comes in between is 23505, and the statement is said again: a snapshot does not see what it waited for.
    """
    there = (MemoryRow.user_id == _USER) & (MemoryRow.session_id == _SESSION) & (MemoryRow.id == _GIVEN.c.id)
    fresh = (
        select(_GIVEN)
        .select_from(_GIVEN.outerjoin(MemoryRow, there))
        .where(MemoryRow.seq.is_(None))
        .cte("fresh")
        .prefix_with("MATERIALIZED")
    )
    need = (
        select(func.count().label("count"), func.coalesce(func.sum(fresh.c.tokens), 0).label("tokens"))
        .select_from(fresh)
        .cte("need")
    )
    claimed = (
        update(MemoryBucketRow)
        .where(_THIS, need.c.count > 0)
        .values(count=MemoryBucketRow.count + need.c.count, tokens=MemoryBucketRow.tokens + need.c.tokens)
        .returning((MemoryBucketRow.count - need.c.count).label("base"))
        .cte("claimed")
    )
    seq = claimed.c.base + func.row_number().over(order_by=fresh.c.position)
    made = (
        insert(MemoryRow)
        .from_select(_MEMORY, select(*_rows(fresh, seq)).select_from(fresh.join(claimed, true())))
        .returning(literal_column("1"))
        .cte("made")
    )
    return Statement(select(need.c.count, select(claimed.c.base).scalar_subquery()).add_cte(made), repeatable=True)


def _search() -> Statement:
    """Return the memories that fit best, as :mod:`agentstore.search.ranking` says; the planner has little to guess.

    With each comes which of the queries any memory fits, by their positions, and which of those are telling.

    The index is asked once for each token, and gives one user's memories only. No tsvector and no payload is read of
    what is not returned. CTEs are not joined to each other on keys whose number the planner cannot know.
    """
    buckets, memory = MemoryBucketRow, MemoryRow

    def number(value: float) -> ColumnElement[float]:
        return literal(value, Double)

    queries, weights = bindparam("queries", type_=ARRAY(Text)), bindparam("weights", type_=ARRAY(Double))
    wanted_session = bindparam("wanted_session", type_=Text)
    since, until = bindparam("since", type_=_TIME), bindparam("until", type_=_TIME)
    given = func.unnest(queries, weights).table_valued("query", "weight", with_ordinality="position", name="q")
    given = given.render_derived()
    asked = _once(select(cast(given.c.query, TSQUERY).label("query"), given.c.weight, given.c.position), "asked")
    size = _once(
        select(
            cast(func.sum(buckets.count), Double).label("count"),
            (cast(func.sum(buckets.tokens), Double) / func.nullif(func.sum(buckets.count), 0)).label("average"),
            cast(
                func.greatest(
                    ranking.COMMON, func.ceil(func.sum(buckets.count) * literal(ranking.COMMON_PART, Double))
                ),
                BigInteger,
            ).label("common"),
        ).where(buckets.user_id == _USER),
        "size",
    )
    common = select(size.c.common).scalar_subquery()
    # By its lexemes alone, which are the user's: a planner who knows the user too prefers reading all that the user
    # has. The offset keeps the two apart, and the join keeps the limit from being taken for a reason to scan the table.
    probed = (
        select(memory.user_id, memory.session_id, memory.seq, memory.tokens, memory.time)
        .where(memory.lexemes.bool_op("@@")(asked.c.query))
        .offset(literal_column("0"))
        .correlate(asked)
        .subquery("probed")
    )
    probe = (
        select(probed.c.session_id, probed.c.seq, probed.c.tokens)
        .select_from(size.join(probed, true()))
        .where(
            probed.c.user_id == _USER,
            or_(wanted_session.is_(None), probed.c.session_id == wanted_session),
            or_(since.is_(None), probed.c.time >= since),
            or_(until.is_(None), probed.c.time < until),
        )
        .limit(func.greatest(common + 1, ranking.HITS / func.cardinality(queries)))
        .correlate(asked)
        .lateral("probe")
    )
    hits = _once(
        select(asked.c.position, asked.c.weight, probe.c.session_id, probe.c.seq, probe.c.tokens).select_from(
            asked.join(probe, true())
        ),
        "hits",
    )
    df = _once(
        select(hits.c.position, hits.c.weight, func.count().label("count")).group_by(hits.c.position, hits.c.weight),
        "df",
    )
    rare = select(func.count()).select_from(df).where(df.c.count <= common).scalar_subquery()
    idf = func.ln(1 + (size.c.count - func.least(df.c.count, size.c.count) + number(0.5)) / (df.c.count + number(0.5)))
    weighed = _once(
        select(df.c.position, (idf * df.c.weight).label("idf"))
        .select_from(df.join(size, true()))
        .where(or_(df.c.count <= common, rare < ranking.FEW)),
        "weighed",
    )
    length = number(1 - ranking.B) + number(ranking.B) * hits.c.tokens / func.nullif(size.c.average, 0)
    own = (weighed.c.idf * number(1 + ranking.K1) / (1 + number(ranking.K1) * length)).label("score")
    scored = _once(
        select(hits.c.position, hits.c.session_id, hits.c.seq, own).select_from(
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
        func.unnest(
            literal(list(ranking.NEIGHBOURS), ARRAY(Integer)), literal(list(ranking.NEIGHBOURS.values()), ARRAY(Float))
        )
        .table_valued("step", "weight", name="around")
        .render_derived()
    )
    less = func.least(1, number(ranking.TURN) / func.nullif(size.c.average, 0))
    weight = case((around.c.step == 0, number(1.0)), else_=around.c.weight * less)
    seq = (summed.c.seq + around.c.step).label("seq")
    lent = (
        select(summed.c.session_id, seq, func.max(summed.c.score * weight).label("score"))
        .select_from(summed.join(around, true()).join(size, true()))
        .where(or_(summed.c.total >= least, around.c.step == 0))
        .group_by(summed.c.position, summed.c.session_id, seq)
        .subquery("lent")
    )
    total = (
        select(lent.c.session_id, lent.c.seq, func.sum(lent.c.score).label("score"))
        .group_by(lent.c.session_id, lent.c.seq)
        .subquery("total")
    )
    # By all of its key, whatever the planner believes of a user that it does not know.
    place = (
        select(memory.role, memory.is_question, memory.time)
        .where(memory.user_id == _USER, memory.session_id == total.c.session_id, memory.seq == total.c.seq)
        .limit(literal_column("1"))
        .correlate(total)
        .lateral("place")
    )
    role = case((place.c.role != "user", number(ranking.NOT_THE_USERS)), else_=number(1.0))
    question = case((place.c.is_question, number(ranking.QUESTION)), else_=number(1.0))
    score = _rounded(total.c.score * role * question).label("score")
    role_wanted = bindparam("role", type_=Text)
    found = (
        select(total.c.session_id, total.c.seq, place.c.time, score)
        .select_from(total.join(place, true()))
        .where(
            or_(role_wanted.is_(None), place.c.role == role_wanted),
            or_(since.is_(None), place.c.time >= since),
            or_(until.is_(None), place.c.time < until),
            score >= bindparam("min_score", type_=Double),
        )
        .order_by(score.desc(), place.c.time.desc(), total.c.session_id, total.c.seq.desc())
        .limit(_LIMIT)
        .subquery("found")
    )
    known = select(func.array_agg(df.c.position)).scalar_subquery().label("known")
    telling = (
        select(func.array_agg(df.c.position))
        .select_from(df.join(size, true()))
        .where(size.c.count >= ranking.MANY, df.c.count <= size.c.count * number(ranking.TELLING))
        .scalar_subquery()
        .label("telling")
    )
    payload = (
        select(_PAYLOAD)
        .where(memory.user_id == _USER, memory.session_id == found.c.session_id, memory.seq == found.c.seq)
        .limit(literal_column("1"))
        .correlate(found)
        .lateral("payload")
    )
    return Statement(
        select(payload.c.payload, found.c.score, found.c.session_id, found.c.seq, found.c.time, known, telling)
        .select_from(found.join(payload, true()))
        .order_by(found.c.score.desc(), found.c.time.desc(), found.c.session_id, found.c.seq.desc())
    )


def _rounded(score: ColumnElement[Any]) -> ColumnElement[Any]:
    """Sums of the same numbers in another order are equal."""
    return cast(func.round(cast(score, Numeric), 9), Double)


def _once(statement: Any, name: str) -> CTE:
    cte: CTE = statement.cte(name).prefix_with("MATERIALIZED")
    return cte


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
        select(memory.session_id, memory.seq, _PAYLOAD)
        .where(memory.user_id == _USER, from_there)
        .order_by(memory.session_id, memory.seq)
        .limit(_LIMIT)
    )


ADD = _add()
ADD_AGAIN = _add_again()
SEARCH = _search()
LIST = _list()
LIST_AFTER = Statement(
    select(MemoryRow.session_id, MemoryRow.seq, _PAYLOAD)
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


def _delete_all() -> Statement:
    """Delete all of a user's buckets, locked in the order of their sessions, so that two deletions do not deadlock."""
    buckets = MemoryBucketRow
    locked = (
        select(buckets.session_id)
        .where(buckets.user_id == _USER)
        .order_by(buckets.session_id)
        .with_for_update()
        .cte("locked")
        .prefix_with("MATERIALIZED")
    )
    return Statement(
        delete(buckets)
        .where(buckets.user_id == _USER, buckets.session_id == locked.c.session_id)
        .returning(buckets.count)
    )


DELETE_ALL = _delete_all()


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
    ) -> None:
        """The arguments are :class:`PostgresService`'s.

        Raises:
            NotConfigured: `text_search_config` is no language that can be stemmed.
        """
        super().__init__(dsn, engine=engine, settings=settings, password=password, database=database)
        self._language = analysis.check_language(self._settings.text_search_config)

    async def add_memory(self, user_id: str, messages: MessagesLike, session_id: str | None = None) -> None:  # noqa: D102
        check_id(user_id, "user_id", self._settings)
        session_id = bucket(session_id, self._settings)
        prepared = prepare_messages(messages, self._settings, first_wins=True)
        if not prepared:
            return
        # Long texts take a while to analyse, in which the event loop has other things to do.
        is_long = sum(len(payload) for _, payload in prepared.values()) > _LONG
        make = self._values
        values = (
            await asyncio.to_thread(make, user_id, session_id, prepared)
            if is_long
            else make(user_id, session_id, prepared)
        )
        if sum(map(len, values["lexemes"])) > _MOST_LEXEMES:
            raise LimitExceeded(f"more than {_MOST_LEXEMES:,} characters to be found by at once: add in parts")
        for attempt in range(_TRIES):
            try:
                if attempt == 0:
                    await self._database.fetch(ADD, **values, count=len(prepared), all_tokens=sum(values["tokens"]))
                    return
                ((needed, base),) = await self._database.fetch(ADD_AGAIN, **values)
                if not needed or base is not None:
                    return
                await self._database.fetch(ADD, **values, count=len(prepared), all_tokens=sum(values["tokens"]))
                return
            except StatementFailed as error:
                # An id is there or came in between, or the user or the bucket was deleted in between.
                if error.sqlstate not in ("23505", "23503"):
                    raise
            if attempt:
                await back_off(attempt)
        raise Unavailable(f"the memories of session {session_id!r} of user {user_id!r} are written all the time")

    def _values(self, user_id: str, session_id: str, prepared: dict[str, tuple[Message, str]]) -> dict[str, Any]:
        most = self._settings.max_indexed
        messages = [message for message, _ in prepared.values()]
        texts = [speaker_and_text(message) for message in messages]
        said = [said_at(message) for message in messages]
        found = [analysis.of_memory(text[:most], time, self._language) for text, time in zip(texts, said, strict=True)]
        tokens = [ranking.fitting([*each.dates, *each.words]) for each in found]
        return {
            "user_id": user_id,
            "session_id": session_id,
            "analysis": analysis.fingerprint(self._language),
            "ids": list(prepared),
            "payloads": [payload for _, payload in prepared.values()],
            "roles": [message.role for message in messages],
            "questions": [ranking.is_question(text_of(message)) for message in messages],
            "times": [parse_time((message.metadata or {}).get("timestamp")) for message in messages],
            "tokens": [len(fitting) - len(each.dates) for fitting, each in zip(tokens, found, strict=True)],
            "lexemes": [ranking.lexemes(user_id, each) for each in tokens],
            "cuts": [
                len(text) > most or len(each.dates) + len(each.words) > len(fitting)
                for text, each, fitting in zip(texts, found, tokens, strict=True)
            ],
        }

    async def search_memory(  # noqa: D102
        self, user_id: str, messages: MessagesLike, filters: Mapping[str, Any] | None = None
    ) -> list[Message]:
        return [hit.message for hit in await self.search(user_id, messages, filters)]

    async def search(
        self, user_id: str, messages: MessagesLike | str, filters: Mapping[str, Any] | None = None
    ) -> list[MemoryHit]:
        """Return what :meth:`search_memory` does, with scores and places; the question may be a string.

        Raises:
            InvalidContent, LimitExceeded: see :meth:`search_memory`.
        """
        check_id(user_id, "user_id", self._settings)
        wanted = read_search_filters(filters, self._settings)
        text, time = question_of(messages, self._settings)
        asked = analysis.of_question(text, time, self._language)
        tokens = dict(islice(asked.items(), ranking.MOST_TOKENS))
        if not tokens or not wanted.top_k:
            return []
        values = {
            "user_id": user_id,
            "wanted_session": wanted.session_id,
            "role": wanted.role,
            "since": wanted.since,
            "until": wanted.until,
            "min_score": wanted.min_score,
            "limit": wanted.top_k,
        }
        rows = await self._database.fetch(SEARCH, **values, **_asked(user_id, tokens))
        known, telling = (
            {token for at, token in enumerate(tokens, 1) if rows and at in (rows[0][column] or ())}
            for column in (-2, -1)
        )
        if len(known) < len(tokens) and (
            unknown := spelling.unknown(analysis.words(text, self._language), known, telling)
        ):
            meant = spelling.meant(unknown, await self._those_there(user_id, spelling.all_spellings(unknown)))
            rows = await self._database.fetch(SEARCH, **values, **_asked(user_id, tokens | meant))
        if not rows and (begun := ranking.beginnings(tokens)):
            rows = await self._database.fetch(SEARCH, **values, **_asked(user_id, begun))
        hits = [
            MemoryHit(message, *row[1:-2])
            for message, row in zip(load_messages([row[0] for row in rows]), rows, strict=True)
        ]
        if wanted.order == "chronological":
            hits.sort(key=lambda hit: (hit.time, hit.session_id, hit.position))
        return hits

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
        return Page(load_messages([row[2] for row in rows]), cursor)

    async def delete_memory(self, user_id: str, session_id: str | None = None) -> Deleted:  # noqa: D102
        check_id(user_id, "user_id", self._settings)
        rows: list[Row]
        if session_id is None:
            rows = await self._database.fetch(DELETE_ALL, user_id=user_id)
        else:
            session_id = bucket(session_id, self._settings)
            rows = await self._database.fetch(DELETE, user_id=user_id, session_id=session_id)
        return Deleted(memories=sum(row[0] for row in rows))


def _asked(user_id: str, tokens: Mapping[str, float]) -> dict[str, Any]:
    return {"queries": ranking.queries(user_id, tokens), "weights": list(tokens.values())}
