"""Making memories findable anew, after what texts are found by has changed: the statements, and one step.

Online: a step locks the buckets of some hundred memories for a moment, and what others changed meanwhile is left to
them. It may be stopped at any time and said again: what is done is passed over.
"""

import asyncio
from collections import defaultdict
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Text,
    bindparam,
    case,
    cast,
    func,
    literal_column,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import TSVECTOR
from sqlalchemy.types import TypeEngine

from agentstore.database.database import Database
from agentstore.database.statement import Row, Statement
from agentstore.models import MemoryBucketRow, MemoryRow
from agentstore.repositories.memory.rows import analysed
from agentstore.schemas.memory import speaker_and_text, text_of
from agentstore.schemas.memory_item import MESSAGE
from agentstore.schemas.payload import load_messages
from agentstore.schemas.times import local_time
from agentstore.search import analysis
from agentstore.settings import Settings

Place = tuple[str, str, int]
"""A memory's user, session and number."""

_MEMORY = tuple_(MemoryRow.user_id, MemoryRow.session_id, MemoryRow.seq)


def _next(*, of_one: bool) -> Statement:
    """Return the memories after a place, in the order of the primary key, with the payload of those to be done."""
    user = bindparam("user_id", type_=Text)
    session, seq = bindparam("after_session", type_=Text), bindparam("after_seq", type_=BigInteger)
    is_old = MemoryRow.analysis != bindparam("analysis", type_=Text)
    after = (
        [MemoryRow.user_id == user, tuple_(MemoryRow.session_id, MemoryRow.seq) > tuple_(session, seq)]
        if of_one
        else [tuple_(user, session, seq) < _MEMORY]
    )
    return Statement(
        select(
            *(MemoryRow.user_id, MemoryRow.session_id, MemoryRow.seq, MemoryRow.kind, MemoryRow.tokens),
            *(MemoryRow.time, MemoryRow.valid_from),
            # Whoever changes the row meanwhile, an older release also, makes it another one.
            literal_column("memories.xmin::text").label("version"),
            case((is_old, cast(MemoryRow.payload, Text))).label("payload"),
        )
        .where(*after)
        .order_by(*([MemoryRow.session_id, MemoryRow.seq] if of_one else _MEMORY))
        .limit(bindparam("limit", type_=BigInteger))
    )


def _write() -> Statement:
    """Write what memories of a user are found by, where nobody has changed them, and what their buckets count."""
    user = bindparam("user_id", type_=Text)
    names: dict[str, TypeEngine[Any]] = {
        "session_id": Text(), "seq": BigInteger(), "version": Text(), "before": BigInteger(),
        "tokens": BigInteger(), "lexemes": Text(), "is_cut": Boolean(),
    }  # fmt: skip
    arrays = [bindparam(f"new_{name}", type_=ARRAY(kind)) for name, kind in names.items()]
    given = func.unnest(*arrays).table_valued(*names, name="given").render_derived()
    buckets = MemoryBucketRow
    locked = (
        select(buckets.session_id)
        .where(buckets.user_id == user, buckets.session_id == func.any(bindparam("new_session_id", type_=ARRAY(Text))))
        .order_by(buckets.session_id)
        .with_for_update(key_share=True, of=buckets)
        .cte("locked")
        .prefix_with("MATERIALIZED")
    )
    changed = (
        update(MemoryRow)
        .where(
            MemoryRow.user_id == user,
            MemoryRow.session_id == given.c.session_id,
            MemoryRow.seq == given.c.seq,
            literal_column("memories.xmin::text") == given.c.version,
            # Buckets first, as whoever deletes them.
            select(func.count()).select_from(locked).scalar_subquery() > 0,
        )
        .values(
            tokens=given.c.tokens,
            lexemes=cast(given.c.lexemes, TSVECTOR),
            is_cut=given.c.is_cut,
            analysis=bindparam("analysis", type_=Text),
        )
        .returning(MemoryRow.session_id, (given.c.tokens - given.c.before).label("more"))
        .cte("changed")
    )
    sums = (
        select(changed.c.session_id, func.sum(changed.c.more).label("more"))
        .group_by(changed.c.session_id)
        .subquery("sums")
    )
    counted = (
        update(buckets)
        .where(buckets.user_id == user, buckets.session_id == sums.c.session_id, sums.c.more != 0)
        .values(tokens=buckets.tokens + sums.c.more)
        .cte("counted")
    )
    return Statement(select(func.count()).select_from(changed).add_cte(counted), repeatable=True)


NEXT = _next(of_one=False)
NEXT_OF_USER = _next(of_one=True)
WRITE = _write()
# About how much there is to look at: as the database's statistics say, or of one user, as the buckets say.
COUNT = Statement(
    text("SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = to_regclass(:table)").bindparams(
        bindparam("table", type_=Text)
    )
)
COUNT_OF_USER = Statement(
    select(func.coalesce(func.sum(MemoryBucketRow.count), 0)).where(
        MemoryBucketRow.user_id == bindparam("user_id", type_=Text)
    )
)
START: Place = ("", "", -1)


async def how_many(database: Database, user_id: str | None) -> int:
    """Return about how many memories there are, or how many a user has."""
    if user_id is None:
        ((count,),) = await database.fetch(COUNT, table=f'"{database.settings.schema}".memories')
    else:
        ((count,),) = await database.fetch(COUNT_OF_USER, user_id=user_id)
    return int(count)


async def step(
    database: Database, user_id: str | None, after: Place, size: int, language: str, settings: Settings
) -> tuple[Place | None, int, int]:
    """Go over the next `size` memories after a place.

    Return the place of the last (None: there are no more), how many were looked at, and how many written.
    """
    now = analysis.fingerprint(language)
    user, session, seq = after
    rows = await database.fetch(
        NEXT if user_id is None else NEXT_OF_USER,
        user_id=user if user_id is None else user_id,
        after_session=session,
        after_seq=seq,
        limit=size,
        analysis=now,
    )
    if not rows:
        return None, 0, 0
    old = [row for row in rows if row["payload"] is not None]
    written = 0
    if old:
        values = await asyncio.to_thread(_values, old, language, settings)
        # One user's after another, since Citus locks no rows of several; committed once.
        async with database.transaction() as transaction:
            done = await transaction.fetch_many(WRITE, [{**of_user, "analysis": now} for of_user in values])
        written = sum(row[0] for row in done)
    last = rows[-1]
    return (last["user_id"], last["session_id"], last["seq"]), len(rows), written


def _values(rows: list[Row], language: str, settings: Settings) -> list[dict[str, Any]]:
    """Return what WRITE takes, of each user."""
    return [_values_of_user(list(of_user), language, settings) for _, of_user in groupby(rows, itemgetter("user_id"))]


def _values_of_user(rows: list[Row], language: str, settings: Settings) -> dict[str, Any]:
    found: dict[str, list[Any]] = defaultdict(list)
    for row, message in zip(rows, load_messages([row["payload"] for row in rows]), strict=True):
        if row["kind"] == MESSAGE:
            said = speaker_and_text(message), local_time((message.metadata or {}).get("timestamp")) or row["time"]
        else:
            said = text_of(message), row["valid_from"]
        made = analysed(row["user_id"], [said], language, settings)
        found["new_before"].append(row["tokens"])
        for name in ("session_id", "seq", "version"):
            found[f"new_{name}"].append(row[name])
        for name, several in (("tokens", "tokens"), ("lexemes", "lexemes"), ("is_cut", "cuts")):
            found[f"new_{name}"].append(made[several][0])
    return {**found, "user_id": rows[0]["user_id"]}
