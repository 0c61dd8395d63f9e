"""Memories on their way into their table: what is written of each, and the statements that write it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    ColumnElement,
    DateTime,
    Double,
    Text,
    bindparam,
    cast,
    func,
    insert,
    literal_column,
    select,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import JSON, TSVECTOR
from sqlalchemy.dialects.postgresql import insert as upsert

from agentstore.database.statement import Statement
from agentstore.models import MemoryBucketRow, MemoryRow
from agentstore.repositories.memory.queue import enqueued
from agentstore.repositories.users import insert_user_if_missing
from agentstore.schemas import MemoryItem, Message
from agentstore.schemas.memory import text_of, with_speaker
from agentstore.schemas.memory_item import message_of
from agentstore.schemas.payload import dump_message
from agentstore.schemas.times import local_time
from agentstore.search import analysis, ranking
from agentstore.settings import Settings

_TIME = DateTime(timezone=True)
_USER = bindparam("user_id", type_=Text)
_SESSION = bindparam("session_id", type_=Text)
_THIS = (MemoryBucketRow.user_id == _USER) & (MemoryBucketRow.session_id == _SESSION)

# now() is when the statement began, which may have waited for a later one.
_NOW = func.greatest(MemoryBucketRow.updated_at, func.now())

# What is given of each message, as an array: the name of the column, that of the array, and its type.
GIVEN = {
    "id": ("ids", Text()),
    "payload": ("payloads", Text()),
    "role": ("roles", Text()),
    "is_question": ("questions", Boolean()),
    "time": ("times", _TIME),
    "tokens": ("tokens", BigInteger()),
    "lexemes": ("lexemes", Text()),
    "is_cut": ("cuts", Boolean()),
}
# And of each fact beside that.
GIVEN_ITEM = {
    **GIVEN,
    "kind": ("kinds", Text()),
    "importance": ("importances", Double()),
    "valid_from": ("froms", _TIME),
    "valid_until": ("untils", _TIME),
}


def table_of(given: dict[str, tuple[str, Any]]) -> Any:
    """The arrays as a table, a row a memory."""
    arrays = [bindparam(name, type_=ARRAY(kind)) for name, kind in given.values()]
    table = func.unnest(*arrays).table_valued(*given, with_ordinality="position", name="given")
    return table.render_derived()


def _columns(given: dict[str, tuple[str, Any]]) -> list[str]:
    return ["user_id", "session_id", "seq", *given, "analysis"]


def _rows(table: Any, given: dict[str, tuple[str, Any]], seq: ColumnElement[Any]) -> list[Any]:
    """What is inserted of `table`, with the number `seq`."""
    said = {
        "payload": cast(table.c.payload, JSON),
        "is_question": func.coalesce(table.c.is_question, False),
        "time": func.coalesce(table.c.time, func.now(type_=_TIME)),
        "is_cut": func.coalesce(table.c.is_cut, False),
        "lexemes": cast(table.c.lexemes, TSVECTOR),
    }
    values = [said.get(name, table.c[name]) for name in given]
    return [_USER, _SESSION, seq, *values, bindparam("analysis", type_=Text)]


def _add(given: dict[str, tuple[str, Any]], *, enqueue: bool = False) -> Statement:
    """Insert the memories, and the bucket and the user if they are the first. 23505: an id is there already.

    With `enqueue` the job of extracting facts from them is written too.
    """
    table = table_of(given)
    count, tokens = bindparam("count", type_=BigInteger), bindparam("all_tokens", type_=BigInteger)
    bucket = upsert(MemoryBucketRow).from_select(
        ["user_id", "session_id", "count", "tokens"],
        select(_USER, _SESSION, count, tokens).select_from(insert_user_if_missing()),
    )
    claimed = (
        bucket.on_conflict_do_update(
            index_elements=["user_id", "session_id"],
            set_={
                "count": MemoryBucketRow.count + bucket.excluded.count,
                "tokens": MemoryBucketRow.tokens + bucket.excluded.tokens,
                # What the row would have been made with is now(), which Citus does not take here.
                "updated_at": func.greatest(MemoryBucketRow.updated_at, bucket.excluded.updated_at),
            },
        )
        .returning((MemoryBucketRow.count - count).label("base"))
        .cte("claimed")
    )
    made: Any = (
        insert(MemoryRow)
        .from_select(
            _columns(given),
            select(*_rows(table, given, claimed.c.base + table.c.position)).select_from(table.join(claimed, true())),
        )
        .returning(literal_column("1"))
    )
    if enqueue:
        made = made.add_cte(enqueued(claimed, count))
    return Statement(made, repeatable=True)  # with the same ids it changes nothing more


def _add_again(*, enqueue: bool = False) -> Statement:
    """Insert those of the memories that are not there, and return how many were wanted and the bucket's count, if any.

    An id that comes in between is 23505, and the statement is said again: a snapshot does not see what it waited for.
    """
    given = table_of(GIVEN)
    there = (MemoryRow.user_id == _USER) & (MemoryRow.session_id == _SESSION) & (MemoryRow.id == given.c.id)
    fresh = (
        select(given)
        .select_from(given.outerjoin(MemoryRow, there))
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
        .values(
            count=MemoryBucketRow.count + need.c.count,
            tokens=MemoryBucketRow.tokens + need.c.tokens,
            updated_at=_NOW,
        )
        .returning((MemoryBucketRow.count - need.c.count).label("base"))
        .cte("claimed")
    )
    seq = claimed.c.base + func.row_number().over(order_by=fresh.c.position)
    made = (
        insert(MemoryRow)
        .from_select(_columns(GIVEN), select(*_rows(fresh, GIVEN, seq)).select_from(fresh.join(claimed, true())))
        .returning(literal_column("1"))
        .cte("made")
    )
    added = select(need.c.count, select(claimed.c.base).scalar_subquery()).add_cte(made)
    if enqueue:
        added = added.add_cte(enqueued(claimed, select(need.c.count).scalar_subquery()))
    return Statement(added, repeatable=True)


ADD = _add(GIVEN)
ADD_ITEMS = _add(GIVEN_ITEM)
ADD_AGAIN = _add_again()
ADD_AND_ENQUEUE = _add(GIVEN, enqueue=True)
ADD_AGAIN_AND_ENQUEUE = _add_again(enqueue=True)


def values_of_messages(
    user_id: str, session_id: str, prepared: Sequence[tuple[Message, str]], language: str, settings: Settings
) -> dict[str, Any]:
    """Return the values that ADD and ADD_AGAIN take of messages, each with the text of JSON that is stored."""
    messages = [message for message, _ in prepared]
    times = [local_time((message.metadata or {}).get("timestamp")) for message in messages]
    now = datetime.now(UTC)
    texts = [text_of(message) for message in messages]
    said = [
        (with_speaker(message, text), time or now) for message, text, time in zip(messages, texts, times, strict=True)
    ]
    found = analysed(user_id, said, language, settings)
    return {
        **found,
        "user_id": user_id,
        "session_id": session_id,
        "ids": [message.id for message in messages],
        "payloads": [payload for _, payload in prepared],
        "roles": [message.role for message in messages],
        "questions": _or_null([ranking.is_question(text) for text in texts]),
        "times": _or_null(times),
        "cuts": _or_null(found["cuts"]),
    }


def _or_null(array: list[Any]) -> list[Any] | None:
    """Return an array, or None where all of it is what null stands for: each array costs a call of ten 1.5 %."""
    return array if any(array) else None


def values_of_items(
    user_id: str, session_id: str, items: Sequence[MemoryItem], language: str, settings: Settings
) -> dict[str, Any]:
    """Return the values that ADD_ITEMS takes."""
    return {
        "user_id": user_id,
        "session_id": session_id,
        "ids": [item.id for item in items],
        "payloads": [dump_message(message_of(item), settings) for item in items],
        "roles": [message_of(item).role for item in items],
        "questions": [False] * len(items),
        "times": [item.valid_from for item in items],
        "kinds": [item.kind for item in items],
        "importances": [item.importance for item in items],
        "froms": [item.valid_from for item in items],
        "untils": [item.valid_until for item in items],
        **analysed(user_id, [(item.text, item.valid_from) for item in items], language, settings),
    }


def analysed(
    user_id: str, texts: Sequence[tuple[str, datetime | None]], language: str, settings: Settings
) -> dict[str, Any]:
    """Return what texts, each with its time, are found by: an array a column."""
    most = settings.max_indexed
    found = [analysis.of_memory(text[:most], time, language) for text, time in texts]
    tokens = [ranking.fitting([*each.dates, *each.words]) for each in found]
    return {
        "analysis": analysis.fingerprint(language),
        "tokens": [len(fitting) - len(each.dates) for fitting, each in zip(tokens, found, strict=True)],
        "lexemes": [ranking.lexemes(user_id, each) for each in tokens],
        "cuts": [
            len(text) > most or len(each.dates) + len(each.words) > len(fitting)
            for (text, _), each, fitting in zip(texts, found, tokens, strict=True)
        ],
    }
