"""Lists of memories and items, with their filters. The statements are in the modules of what they list."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from agentstore import offload
from agentstore.database.database import Database
from agentstore.database.statement import Row, Statement
from agentstore.repositories.memory.items import LIST_ITEMS, LIST_ITEMS_AFTER, LIST_LABELED_ITEMS
from agentstore.repositories.memory.statements import LIST, LIST_AFTER, LIST_EXPIRED, LIST_LABELED, LIST_OF_SESSIONS
from agentstore.schemas import MemoryItem, Message, Page
from agentstore.schemas.memory import ListedMemory, listed_message, read_memory_cursor, write_memory_cursor
from agentstore.schemas.memory_filters import CheckedList, check_metadata_filter
from agentstore.schemas.memory_item import load_memories
from agentstore.schemas.namespace import check_namespace
from agentstore.schemas.page import Advice, check_count, read_cursor, write_cursor
from agentstore.schemas.payload import check_id
from agentstore.search.labels import labels_of_filter
from agentstore.search.ranking import label_query
from agentstore.settings import Settings


async def list_expired(database: Database, user_id: str, settings: Settings) -> list[str]:
    """Return the sessions of the user whose memories have expired, and are not deleted yet."""
    if settings.memory_ttl is None:
        return []
    rows = await database.fetch(LIST_EXPIRED, user_id=user_id, ttl=settings.memory_ttl)
    return [row[0] for row in rows]


async def list_items(
    database: Database,
    settings: Settings,
    user_id: str,
    *,
    kind: str | None,
    namespace: str | None,
    metadata: Mapping[str, Any] | None,
    with_invalid: bool,
    limit: int,
    cursor: str | None,
    stale_ok: bool,
) -> Page[MemoryItem]:
    """See :meth:`PostgresMemoryService.list_items`."""
    check_namespace(namespace, settings)
    labels = labels_of_filter(namespace, check_metadata_filter(metadata))
    at, after_id = (None, None) if cursor is None else read_cursor(cursor, datetime, str)
    values: dict[str, Any] = {
        "user_id": user_id,
        "kind": kind if kind is None else check_id(kind, "kind", settings),
        "with_invalid": bool(with_invalid),
        "limit": check_count(limit, "limit", maximum=settings.max_page),
        "labels": label_query(user_id, labels),
        "at": at,
        "after_id": after_id,
    }
    statement: Statement = LIST_ITEMS if cursor is None else LIST_ITEMS_AFTER
    if labels:
        statement = LIST_LABELED_ITEMS

    async def read(database: Database) -> list[Row]:
        expired = await list_expired(database, user_id, settings)
        return await database.fetch_page(statement, Advice.SMALLER_LIMIT, **values, expired=expired)

    rows = await database.read(read, stale_ok=stale_ok)
    loaded = await offload.run(
        load_memories,
        [(row["payload"], row["kind"], row["valid_until"], row["namespace"]) for row in rows],
        lambda index: ("memories", user_id, rows[index]["session_id"], rows[index]["id"]),
    )
    items = [memory[1] for memory in loaded if memory is not None and memory[1] is not None]
    end = write_cursor(rows[-1]["time"], rows[-1]["id"]) if rows and len(rows) == limit else None
    return Page(items, end)


async def list_memory(
    database: Database, settings: Settings, user_id: str, filters: CheckedList, *, stale_ok: bool
) -> Page[Message]:
    """See :meth:`MemoryService.list_memory`."""
    size = filters.page_size
    after_session, after = read_memory_cursor(filters.cursor)
    labels = labels_of_filter(filters.namespace, filters.metadata)
    values: dict[str, Any] = {
        "user_id": user_id,
        "limit": size,
        "offset": (filters.page_num - 1) * size,
        "after_session": after_session,
        "after": after,
        "wanted_sessions": filters.session_id,
        "labels": label_query(user_id, labels),
    }
    # The first page is found by key. The others without a cursor need the counts of the buckets before them.
    statement: Statement = LIST if values["offset"] else LIST_AFTER
    if labels:
        statement = LIST_LABELED
    elif filters.session_id is not None or filters.exclude_session_id:
        statement = LIST_OF_SESSIONS

    async def read(database: Database) -> list[Row]:
        expired = await list_expired(database, user_id, settings)
        excluded = [*expired, *(filters.exclude_session_id or ())]
        return await database.fetch_page(
            statement, Advice.SMALLER_PAGE_SIZE, **values, expired=expired, excluded=excluded
        )

    is_beyond = values["offset"] >= 2**62
    rows = [] if is_beyond else await database.read(read, stale_ok=stale_ok)
    cursor = write_memory_cursor(rows[-1][0], rows[-1][1]) if len(rows) == size else None
    loaded = await offload.run(
        load_memories,
        [row[2:6] for row in rows],
        lambda index: ("memories", user_id, rows[index][0], rows[index][1]),
    )
    return Page(
        (
            listed_message(memory[0], ListedMemory(row[0], row[1], row[6], row[3]))
            for memory, row in zip(loaded, rows, strict=True)
            if memory is not None
        ),
        cursor,
    )
