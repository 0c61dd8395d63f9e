"""Facts on Postgres: the statements, and how they follow each other in one transaction."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    DateTime,
    Text,
    bindparam,
    cast,
    false,
    func,
    literal_column,
    or_,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import JSON, TSVECTOR
from sqlalchemy.dialects.postgresql import insert as upsert

from agentstore.database.statement import Row, Statement
from agentstore.models import MemoryBucketRow, MemoryRow, UserRow
from agentstore.repositories.memory.rows import ADD_ITEMS, GIVEN_ITEM, table_of, values_of_items
from agentstore.schemas import MemoryItem
from agentstore.schemas.memory_item import MESSAGE
from agentstore.settings import Settings

_USER = bindparam("user_id", type_=Text)
_SESSION = bindparam("session_id", type_=Text)
_IDS = bindparam("ids", type_=ARRAY(Text))
_TIME = DateTime(timezone=True)
_IS_ITEM = MemoryRow.kind != MESSAGE

Fetch = Callable[..., Awaitable[list[Row]]]


def _lock() -> Statement:
    """Lock the buckets of the items that are there, and the one that new ones go to.

    In the order of their sessions, as every statement does that locks several.
    """
    buckets = MemoryBucketRow
    theirs = select(MemoryRow.session_id).where(MemoryRow.user_id == _USER, MemoryRow.id == func.any(_IDS))
    return Statement(
        select(buckets.session_id)
        .where(buckets.user_id == _USER, or_(buckets.session_id == _SESSION, buckets.session_id.in_(theirs)))
        .order_by(buckets.session_id)
        .with_for_update(key_share=True)
    )


def _update() -> Statement:
    """Write the items that are there, wherever that is, and return their ids. The buckets are locked already."""
    given = table_of(GIVEN_ITEM)
    old = (
        select(MemoryRow.session_id, MemoryRow.seq, MemoryRow.tokens.label("before"), given)
        .select_from(given.join(MemoryRow, MemoryRow.id == given.c.id))
        .where(MemoryRow.user_id == _USER, _IS_ITEM)
        .cte("old")
        .prefix_with("MATERIALIZED")
    )
    more = (
        select(old.c.session_id, func.sum(old.c.tokens - old.c.before).label("tokens"))
        .group_by(old.c.session_id)
        .subquery("more")
    )
    counted = (
        update(MemoryBucketRow)
        .where(MemoryBucketRow.user_id == _USER, MemoryBucketRow.session_id == more.c.session_id)
        .values(tokens=MemoryBucketRow.tokens + more.c.tokens)
        .cte("counted")
    )
    return Statement(
        update(MemoryRow)
        .where(MemoryRow.user_id == _USER, MemoryRow.session_id == old.c.session_id, MemoryRow.seq == old.c.seq)
        .values(
            payload=cast(old.c.payload, JSON),
            time=func.coalesce(old.c.time, func.now(type_=_TIME)),
            tokens=old.c.tokens,
            lexemes=cast(old.c.lexemes, TSVECTOR),
            is_cut=old.c.is_cut,
            kind=old.c.kind,
            importance=old.c.importance,
            valid_from=old.c.valid_from,
            valid_until=old.c.valid_until,
            analysis=bindparam("analysis", type_=Text),
        )
        .returning(MemoryRow.id)
        .add_cte(counted)
    )


# Makes the user or locks it, without a new version of its row: facts of one user are saved one after the other, since
# an item may be in any bucket. A statement of its own: the next one has to see what it waited for.
OWN = Statement(
    upsert(UserRow)
    .values(id=_USER)
    .on_conflict_do_update(index_elements=["id"], set_={"metadata": UserRow.metadata_}, where=false())
)
LOCK_ITEMS = _lock()
UPDATE_ITEMS = _update()
# An id that a message has in the bucket is no item's.
NAMED = Statement(
    select(MemoryRow.id)
    .where(
        MemoryRow.user_id == _USER,
        MemoryRow.session_id == _SESSION,
        MemoryRow.id == func.any(_IDS),
        MemoryRow.kind == MESSAGE,
    )
    .limit(literal_column("1"))
)
# What is superseded was valid until now; what ended before stays as it is.
SUPERSEDE = Statement(
    update(MemoryRow)
    .where(
        MemoryRow.user_id == _USER,
        MemoryRow.id == func.any(_IDS),
        _IS_ITEM,
        or_(MemoryRow.valid_until.is_(None), MemoryRow.valid_until > func.now()),
    )
    .values(valid_until=func.now())
    .returning(MemoryRow.id)
)


def _list(*, after: bool) -> Statement:
    """Return a user's items, the newest first."""
    memory = MemoryRow
    kind = bindparam("kind", type_=Text)
    key = tuple_(memory.time, memory.id)
    wanted = [
        memory.user_id == _USER,
        _IS_ITEM,
        or_(kind.is_(None), memory.kind == kind),
        or_(
            bindparam("with_invalid", type_=Boolean),
            or_(memory.valid_from.is_(None), memory.valid_from <= func.now())
            & or_(memory.valid_until.is_(None), memory.valid_until > func.now()),
        ),
    ]
    if after:
        wanted.append(key < tuple_(bindparam("at", type_=_TIME), bindparam("after_id", type_=Text)))
    return Statement(
        select(cast(memory.payload, Text).label("payload"), memory.valid_until, memory.time)
        .where(*wanted)
        .order_by(memory.time.desc(), memory.id.desc())
        .limit(bindparam("limit", type_=BigInteger))
    )


LIST_ITEMS = _list(after=False)
LIST_ITEMS_AFTER = _list(after=True)


async def lock_items(fetch: Fetch, user_id: str, session_id: str, ids: Sequence[str]) -> None:
    """Lock the user, who is made where there is none, and then the buckets of these items and of `session_id`."""
    await fetch(OWN, user_id=user_id)
    await fetch(LOCK_ITEMS, user_id=user_id, session_id=session_id, ids=list(ids))


async def save_items(
    fetch: Fetch,
    user_id: str,
    session_id: str,
    items: Sequence[MemoryItem],
    supersedes: Sequence[str],
    language: str,
    settings: Settings,
) -> None:
    """Analyse items and write them: see :func:`write_items`."""
    await write_items(fetch, values_of_items(user_id, session_id, items, language, settings), supersedes)


async def write_items(fetch: Fetch, values: dict[str, Any], supersedes: Sequence[str]) -> None:
    """Write analysed items in the transaction of `fetch`: those that are there anew, the others into the bucket.

    Raises:
        StatementFailed: 23505 or 23503, where another transaction came in between: say all of it again.
    """
    user_id, ids = values["user_id"], values["ids"]
    await lock_items(fetch, user_id, values["session_id"], [*ids, *supersedes])
    if ids:
        there = {row[0] for row in await fetch(UPDATE_ITEMS, **values)}
        if new := [number for number, id in enumerate(ids) if id not in there]:
            values = {
                name: [each[number] for number in new] if isinstance(each, list) else each
                for name, each in values.items()
            }
            await fetch(ADD_ITEMS, **values, count=len(new), all_tokens=sum(values["tokens"]))
    if supersedes:
        await fetch(SUPERSEDE, user_id=user_id, ids=list(supersedes))
