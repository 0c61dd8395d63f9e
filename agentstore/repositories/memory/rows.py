"""The statements that insert memories, and the values they take: columns, tokens and lexemes."""

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    ClauseElement,
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
from agentstore.repositories.memory.queue import enqueue_cte
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

# now() is the start of the transaction, which may have waited for one that started later.
_NOW = func.greatest(MemoryBucketRow.updated_at, func.now())

# The values of messages, an array for each column: the name of the column, that of the array, and its element type.
MESSAGE_COLUMNS = {
    "id": ("ids", Text()),
    "payload": ("payloads", Text()),
    "role": ("roles", Text()),
    "is_question": ("questions", Boolean()),
    "time": ("times", _TIME),
    "tokens": ("tokens", BigInteger()),
    "lexemes": ("lexemes", Text()),
    "is_cut": ("cuts", Boolean()),
}
# The values of items.
ITEM_COLUMNS = {
    **MESSAGE_COLUMNS,
    "kind": ("kinds", Text()),
    "importance": ("importances", Double()),
    "valid_from": ("froms", _TIME),
    "valid_until": ("untils", _TIME),
}


def unnest_rows(columns: dict[str, tuple[str, Any]]) -> Any:
    """Return the array parameters as a table with a row for each memory."""
    arrays = [bindparam(name, type_=ARRAY(kind)) for name, kind in columns.values()]
    table = func.unnest(*arrays).table_valued(*columns, with_ordinality="position", name="given")
    return table.render_derived()


def _names(columns: dict[str, tuple[str, Any]]) -> list[str]:
    return ["user_id", "session_id", "seq", *columns, "analysis"]


def _values(table: Any, columns: dict[str, tuple[str, Any]], seq: ColumnElement[Any]) -> list[Any]:
    """Return the inserted values of the rows in `table`, in the order of :func:`_names`."""
    converted = {
        "payload": cast(table.c.payload, JSON),
        "is_question": func.coalesce(table.c.is_question, False),
        "time": func.coalesce(table.c.time, func.now(type_=_TIME)),
        "is_cut": func.coalesce(table.c.is_cut, False),
        "lexemes": cast(table.c.lexemes, TSVECTOR),
    }
    values = [converted.get(name, table.c[name]) for name in columns]
    return [_USER, _SESSION, seq, *values, bindparam("analysis", type_=Text)]


def _add(columns: dict[str, tuple[str, Any]], *, enqueue: bool = False) -> ClauseElement:
    """Insert memories, and their user and bucket if missing. Fails with 23505 if an id exists in the bucket.

    With `enqueue`, also queue them for extraction.
    """
    table = unnest_rows(columns)
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
                # The default of the excluded row is now(), which Citus does not accept here.
                "updated_at": func.greatest(MemoryBucketRow.updated_at, bucket.excluded.updated_at),
            },
        )
        .returning((MemoryBucketRow.count - count).label("base"))
        .cte("claimed")
    )
    inserted: Any = (
        insert(MemoryRow)
        .from_select(
            _names(columns),
            select(*_values(table, columns, claimed.c.base + table.c.position)).select_from(
                table.join(claimed, true())
            ),
        )
        .returning(literal_column("1"))
    )
    statement: ClauseElement = inserted.add_cte(enqueue_cte(claimed, count)) if enqueue else inserted
    return statement


def _add_again(*, enqueue: bool = False) -> ClauseElement:
    """Insert those of the messages whose ids are new; return their number, and the bucket's count before if it exists.

    Fails with 23505 if another transaction inserts one of the ids meanwhile. It is then executed again, because the
    snapshot of a statement does not contain what the statement waited for.
    """
    given = unnest_rows(MESSAGE_COLUMNS)
    exists = (MemoryRow.user_id == _USER) & (MemoryRow.session_id == _SESSION) & (MemoryRow.id == given.c.id)
    new = (
        select(given)
        .select_from(given.outerjoin(MemoryRow, exists))
        .where(MemoryRow.seq.is_(None))
        .cte("new_rows")
        .prefix_with("MATERIALIZED")
    )
    need = (
        select(func.count().label("count"), func.coalesce(func.sum(new.c.tokens), 0).label("tokens"))
        .select_from(new)
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
    seq = claimed.c.base + func.row_number().over(order_by=new.c.position)
    inserted = (
        insert(MemoryRow)
        .from_select(
            _names(MESSAGE_COLUMNS),
            select(*_values(new, MESSAGE_COLUMNS, seq)).select_from(new.join(claimed, true())),
        )
        .returning(literal_column("1"))
        .cte("inserted")
    )
    added = select(need.c.count, select(claimed.c.base).scalar_subquery()).add_cte(inserted)
    return added.add_cte(enqueue_cte(claimed, select(need.c.count).scalar_subquery())) if enqueue else added


# Repeatable, since executing them again with the same ids changes nothing more.
ADD = Statement(partial(_add, MESSAGE_COLUMNS), scope="user", repeatable=True)
ADD_ITEMS = Statement(partial(_add, ITEM_COLUMNS), scope="user", repeatable=True)
ADD_AGAIN = Statement(_add_again, scope="user", repeatable=True)
ADD_AND_ENQUEUE = Statement(partial(_add, MESSAGE_COLUMNS, enqueue=True), scope="user", repeatable=True)
ADD_AGAIN_AND_ENQUEUE = Statement(partial(_add_again, enqueue=True), scope="user", repeatable=True)


def values_of_messages(
    user_id: str, session_id: str, prepared: Sequence[tuple[Message, str]], language: str, settings: Settings
) -> dict[str, Any]:
    """Return the parameters of ADD and ADD_AGAIN. `prepared` are the messages, each with the JSON text to store."""
    messages = [message for message, _ in prepared]
    times = [local_time((message.metadata or {}).get("timestamp")) for message in messages]
    now = datetime.now(UTC)
    texts = [text_of(message) for message in messages]
    indexed = [
        (with_speaker(message, text), time or now) for message, text, time in zip(messages, texts, times, strict=True)
    ]
    analyzed = analyze_texts(user_id, indexed, language, settings)
    return {
        **analyzed,
        "user_id": user_id,
        "session_id": session_id,
        "ids": [message.id for message in messages],
        "payloads": [payload for _, payload in prepared],
        "roles": [message.role for message in messages],
        "questions": _array_or_null([ranking.is_question(text) for text in texts]),
        "times": _array_or_null(times),
        "cuts": _array_or_null(analyzed["cuts"]),
    }


def _array_or_null(array: list[Any]) -> list[Any] | None:
    """Return an array, or None if all its values are the default: an array costs a call with ten messages 1.5 %."""
    return array if any(array) else None


def values_of_items(
    user_id: str, session_id: str, items: Sequence[MemoryItem], language: str, settings: Settings
) -> dict[str, Any]:
    """Return the parameters of ADD_ITEMS and UPDATE_ITEMS."""
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
        **analyze_texts(user_id, [(item.text, item.valid_from) for item in items], language, settings),
    }


def analyze_texts(
    user_id: str, texts: Sequence[tuple[str, datetime | None]], language: str, settings: Settings
) -> dict[str, Any]:
    """Return the analysis of texts, each with its time: an array for each column."""
    limit = settings.max_indexed
    analyzed = [analysis.memory_tokens(text[:limit], time, language) for text, time in texts]
    indexed = [ranking.truncate([*each.dates, *each.words]) for each in analyzed]
    return {
        "analysis": analysis.fingerprint(language),
        "tokens": [len(tokens) - len(each.dates) for tokens, each in zip(indexed, analyzed, strict=True)],
        "lexemes": [ranking.lexemes(user_id, tokens) for tokens in indexed],
        "cuts": [
            len(text) > limit or len(each.dates) + len(each.words) > len(tokens)
            for (text, _), each, tokens in zip(texts, analyzed, indexed, strict=True)
        ],
    }
