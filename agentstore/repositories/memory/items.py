"""Items (facts) on Postgres: their statements, and the transaction that writes them."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    ClauseElement,
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
from sqlalchemy.dialects.postgresql import insert as upsert

from agentstore.database.sql import SqlStatements
from agentstore.database.statement import Row, Statement
from agentstore.models import MemoryBucketRow, MemoryRow, UserRow
from agentstore.repositories.memory.rows import ADD_ITEMS, values_of_items
from agentstore.repositories.retention import is_in_no_expired_bucket
from agentstore.schemas import MemoryItem
from agentstore.schemas.memory_item import MESSAGE
from agentstore.settings import Settings

SQL = SqlStatements(__file__)

_USER = bindparam("user_id", type_=Text)
_SESSION = bindparam("session_id", type_=Text)
_IDS = bindparam("ids", type_=ARRAY(Text))
_TIME = DateTime(timezone=True)
_IS_ITEM = MemoryRow.kind != MESSAGE

Fetch = Callable[..., Awaitable[list[Row]]]


def _lock() -> ClauseElement:
    """Lock the buckets of existing items, and the bucket of new ones.

    In the order of their session ids, as every statement that locks several buckets does.
    """
    buckets = MemoryBucketRow
    theirs = select(MemoryRow.session_id).where(MemoryRow.user_id == _USER, MemoryRow.id == func.any(_IDS))
    return (
        select(buckets.session_id)
        .where(buckets.user_id == _USER, or_(buckets.session_id == _SESSION, buckets.session_id.in_(theirs)))
        .order_by(buckets.session_id)
        .with_for_update(key_share=True)
    )


# Inserts the user, or locks it without writing a new version of its row. The items of one user are saved by one
# transaction at a time, since an item may be in any bucket. A statement of its own, because the next one needs a
# snapshot taken after the wait for the lock.
LOCK_USER = Statement(
    upsert(UserRow)
    .values(id=_USER)
    .on_conflict_do_update(index_elements=["id"], set_={"metadata": UserRow.metadata_}, where=false()),
    name="memory.lock_user",
    scope="user",
)
LOCK_ITEMS = Statement(_lock, name="memory.lock_items", scope="user")
UPDATE_ITEMS = SQL("update_items")
# A message of the bucket that has the id of an item.
FIND_MESSAGES = Statement(
    select(MemoryRow.id)
    .where(
        MemoryRow.user_id == _USER,
        MemoryRow.session_id == _SESSION,
        MemoryRow.id == func.any(_IDS),
        MemoryRow.kind == MESSAGE,
    )
    .limit(literal_column("1")),
    name="memory.find_messages",
    scope="user",
)
# A superseded item is valid until now. One that expired before remains unchanged.
SUPERSEDE = Statement(
    update(MemoryRow)
    .where(
        MemoryRow.user_id == _USER,
        MemoryRow.id == func.any(_IDS),
        _IS_ITEM,
        or_(MemoryRow.valid_until.is_(None), MemoryRow.valid_until > func.now()),
    )
    .values(valid_until=func.now())
    .returning(MemoryRow.id),
    name="memory.supersede",
    scope="user",
)


def _list(*, after: bool) -> ClauseElement:
    """Return a user's items, newest first."""
    memory = MemoryRow
    kind = bindparam("kind", type_=Text)
    has_begun = or_(memory.valid_from.is_(None), memory.valid_from <= func.now())
    has_not_ended = or_(memory.valid_until.is_(None), memory.valid_until > func.now())
    conditions = [
        memory.user_id == _USER,
        is_in_no_expired_bucket(memory.session_id),
        _IS_ITEM,
        or_(kind.is_(None), memory.kind == kind),
        or_(bindparam("with_invalid", type_=Boolean), has_begun & has_not_ended),
    ]
    if after:
        key = tuple_(memory.time, memory.id)
        conditions.append(key < tuple_(bindparam("at", type_=_TIME), bindparam("after_id", type_=Text)))
    return (
        select(
            *(memory.session_id, memory.id, cast(memory.payload, Text).label("payload")),
            *(memory.kind, memory.valid_until, memory.namespace, memory.time),
        )
        .where(*conditions)
        .order_by(memory.time.desc(), memory.id.desc())
        .limit(bindparam("limit", type_=BigInteger))
    )


LIST_ITEMS = Statement(partial(_list, after=False), name="memory.list_items", scope="user")
LIST_ITEMS_AFTER = Statement(partial(_list, after=True), name="memory.list_items_after", scope="user")
LIST_LABELED_ITEMS = SQL("list_labeled_items")


async def lock_items(fetch: Fetch, user_id: str, session_id: str, ids: Sequence[str]) -> None:
    """Lock the user, inserting it if missing, and then the buckets of these items and of `session_id`."""
    await fetch(LOCK_USER, user_id=user_id)
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
    """Analyze items and write them: see :func:`write_items`."""
    await write_items(fetch, values_of_items(user_id, session_id, items, language, settings), supersedes)


async def write_items(fetch: Fetch, values: dict[str, Any], supersedes: Sequence[str]) -> None:
    """Write analyzed items in the transaction of `fetch`: update existing ones, insert the others into the bucket.

    Raises:
        StatementFailed: with SQLSTATE 23505 or 23503, another transaction wrote in between: retry the transaction.
    """
    user_id, ids = values["user_id"], values["ids"]
    await lock_items(fetch, user_id, values["session_id"], [*ids, *supersedes])
    if ids:
        existing = {row[0] for row in await fetch(UPDATE_ITEMS, **values)}
        if new := [number for number, id in enumerate(ids) if id not in existing]:
            values = {
                name: [each[number] for number in new] if isinstance(each, list) else each
                for name, each in values.items()
            }
            await fetch(ADD_ITEMS, **values, count=len(new), all_tokens=sum(values["tokens"]))
    if supersedes:
        await fetch(SUPERSEDE, user_id=user_id, ids=list(supersedes))
