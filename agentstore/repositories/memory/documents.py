"""Documents on Postgres: the statements, then the service that executes them. Each is in a bucket of its own."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any

from sqlalchemy import ARRAY, Text, bindparam, cast, func, or_, select

from agentstore import offload
from agentstore.database.database import Database
from agentstore.database.retry import retry
from agentstore.database.sql import SqlStatements
from agentstore.database.statement import Row, Statement
from agentstore.errors import LimitExceeded
from agentstore.interfaces import DocumentService
from agentstore.models import MemoryBucketRow, MemoryRow
from agentstore.repositories.memory.lists import list_expired
from agentstore.repositories.memory.rows import values_of_items
from agentstore.repositories.memory.service import _MAX_CHARACTERS, PostgresMemoryService
from agentstore.repositories.memory.totals import count_memories
from agentstore.repositories.memory.vectors import Unembedded
from agentstore.repositories.retention import has_expired, ttl_of
from agentstore.repositories.service import PostgresService
from agentstore.schemas import Deleted, MemoryItem, Page, SearchStrategy, StoredDocument
from agentstore.schemas.document import (
    check_times,
    document_filters,
    is_below,
    namespaces_from,
    not_a_document,
    prepare_documents,
    prepare_imported,
    read_document_cursor,
    write_namespace_cursor,
)
from agentstore.schemas.memory_filters import check_metadata_filter
from agentstore.schemas.memory_item import DOCUMENT, check_ids, load_memories
from agentstore.schemas.namespace import check_namespace
from agentstore.schemas.page import Advice, check_count, write_cursor
from agentstore.schemas.payload import check_id
from agentstore.search.labels import labels_of_filter
from agentstore.search.ranking import label_query

SQL = SqlStatements(__file__)

_USER = bindparam("user_id", type_=Text)
_IDS = bindparam("ids", type_=ARRAY(Text))
# Those that one statement deletes, which locks them.
_EXPIRED_BATCH = 500

PUT = SQL("put_documents")


def _get() -> Any:
    return (
        select(
            *(MemoryRow.id, cast(MemoryRow.payload, Text).label("payload"), MemoryRow.kind, MemoryRow.valid_until),
            *(MemoryRow.namespace, MemoryRow.time, MemoryBucketRow.updated_at),
        )
        .join(
            MemoryBucketRow,
            (MemoryBucketRow.user_id == MemoryRow.user_id) & (MemoryBucketRow.session_id == MemoryRow.session_id),
        )
        .where(
            MemoryRow.user_id == _USER,
            MemoryRow.session_id == func.any(_IDS),
            MemoryRow.seq == 1,
            MemoryRow.id == MemoryRow.session_id,
            MemoryRow.kind == DOCUMENT,
            or_(MemoryRow.valid_until.is_(None), MemoryRow.valid_until > func.now()),
            ~has_expired(MemoryBucketRow.updated_at),
        )
    )


GET = Statement(_get, name="memory.get_documents", scope="user")
LIST = SQL("list_documents")
LIST_LABELED = SQL("list_labeled_documents")
RENEW = SQL("renew_documents")
LIST_NAMESPACES = SQL("list_namespaces")
LIST_ALL_NAMESPACES = SQL("list_all_namespaces")
DELETE = SQL("delete_documents")
FIND_EXPIRED = SQL("find_expired_documents")
COUNT_EXPIRED = SQL("count_expired_documents")
DELETE_EXPIRED = SQL("delete_expired_documents")


class PostgresDocumentService(PostgresService, DocumentService, area="documents"):
    """Documents stored in Postgres; see :class:`DocumentService`."""

    def __init__(self, *args: Any, memory: PostgresMemoryService | None = None, **options: Any) -> None:
        """Create the service. `memory` searches and embeds documents; the other arguments are PostgresService's."""
        super().__init__(*args, **options)
        self._memory = memory or PostgresMemoryService(database=self._database, settings=self._settings)

    async def put(  # noqa: D102
        self, user_id: str, documents: MemoryItem | Mapping[str, Any] | Sequence[MemoryItem | Mapping[str, Any]]
    ) -> None:
        check_id(user_id, "user_id", self._settings)
        prepared = await offload.run(prepare_documents, documents, self._settings)
        times = [None] * len(prepared)
        if len(await self._write(user_id, prepared, times, times, replace=True)) < len(prepared):
            raise not_a_document(user_id, [each.id for each in prepared])

    async def import_documents(self, user_id: str, stored: Sequence[StoredDocument]) -> int:  # noqa: D102
        check_id(user_id, "user_id", self._settings)
        prepared = await offload.run(prepare_imported, stored, self._settings)
        items = [each.item for each in prepared]
        times = [each.created_at for each in prepared], [each.updated_at for each in prepared]
        return len(await self._write(user_id, items, *times, replace=False))

    async def _write(
        self,
        user_id: str,
        items: Sequence[MemoryItem],
        created_at: Sequence[datetime | None],
        updated_at: Sequence[datetime | None],
        *,
        replace: bool,
    ) -> set[str]:
        """Write documents, and return the ids of those that were written."""
        if not items:
            return set()
        await self._memory.expire(user_id)
        values = await offload.run(values_of_items, user_id, "", items, self._memory._language, self._settings)
        for name in ("payloads", "lexemes"):
            if sum(map(len, values[name])) > _MAX_CHARACTERS:
                raise LimitExceeded(f"The documents have more than {_MAX_CHARACTERS:,} characters: put them in parts.")
        values |= {"created_at": list(created_at), "updated_at": list(updated_at), "replace": replace}
        given = {name: values[name] for name in PUT.file.parameters}
        await count_memories(self._database.fetch, user_id, len(items))

        async def put(_: int) -> set[str]:
            return {row[0] for row in await self._database.fetch(PUT, **given)}

        written = await retry(put, f"could not write documents of user {user_id!r}")
        if self._memory._embedder is not None:
            unembedded = [
                Unembedded(user_id, item.id, payload, item.text)
                for item, payload in zip(items, values["payloads"], strict=True)
                if item.id in written and item.text.strip()
            ]
            await self._memory._embed_new(self._memory._embedder, user_id, unembedded)
        return written

    async def get(  # noqa: D102
        self, user_id: str, ids: Iterable[str], *, stale_ok: bool = False
    ) -> dict[str, StoredDocument]:
        check_id(user_id, "user_id", self._settings)
        values = {"user_id": user_id, "ids": check_ids(ids, self._settings), "ttl": ttl_of(self._settings.memory_ttl)}
        if not values["ids"]:
            return {}
        rows = await self._database.read(
            lambda database: database.fetch_page(GET, Advice.FEWER_IDS, **values), stale_ok=stale_ok
        )
        return {each.item.id: each for each in await offload.run(_load, user_id, rows)}

    async def list(  # noqa: D102
        self,
        user_id: str,
        *,
        namespace: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        limit: int = 100,
        cursor: str | None = None,
        offset: int = 0,
        stale_ok: bool = False,
    ) -> Page[StoredDocument]:
        check_id(user_id, "user_id", self._settings)
        check_namespace(namespace, self._settings)
        labels = labels_of_filter(namespace, check_metadata_filter(metadata))
        at, after_id = read_document_cursor(cursor)
        values: dict[str, Any] = {"user_id": user_id, "at": at, "after_id": after_id}
        values["limit"] = check_count(limit, "limit", maximum=self._settings.max_page)
        values["offset"] = check_count(offset, "offset")
        if labels:
            values["labels"] = label_query(user_id, labels)

        async def read(database: Database) -> "list[Row]":
            expired = await list_expired(database, user_id, self._settings)
            statement = LIST_LABELED if labels else LIST
            return await database.fetch_page(statement, Advice.SMALLER_LIMIT, **values, expired=expired)

        rows = await self._database.read(read, stale_ok=stale_ok)
        end = write_cursor(rows[-1]["time"], rows[-1]["id"]) if rows and len(rows) == limit else None
        return Page(await offload.run(_load, user_id, rows), end)

    async def search(  # noqa: D102
        self,
        user_id: str,
        query: str,
        *,
        namespace: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        top_k: int = 10,
        strategy: SearchStrategy | str | None = None,
        stale_ok: bool = False,
    ) -> Sequence[tuple[StoredDocument, float]]:
        filters = document_filters(namespace, metadata, top_k, strategy)
        hits = await self._memory.search(user_id, query, filters, stale_ok=stale_ok)
        found = await self.get(user_id, [hit.message.id for hit in hits], stale_ok=stale_ok)
        return [(found[hit.message.id], hit.score) for hit in hits if hit.message.id in found]

    async def renew(self, user_id: str, times: Mapping[str, datetime]) -> None:  # noqa: D102
        check_id(user_id, "user_id", self._settings)
        checked = check_times(times, self._settings)
        if checked:
            await self._database.fetch(RENEW, user_id=user_id, ids=list(checked), untils=list(checked.values()))

    async def list_namespaces(  # noqa: D102
        self,
        user_id: str | None = None,
        *,
        namespace: str | None = None,
        limit: int = 1000,
        cursor: str | None = None,
        stale_ok: bool = False,
    ) -> Page[tuple[str, str]]:
        if user_id is not None:
            check_id(user_id, "user_id", self._settings)
        wanted: dict[str, Any] = namespaces_from(namespace, user_id, cursor, self._settings)
        wanted["limit"] = check_count(limit, "limit", maximum=self._settings.max_page)
        if not limit:
            return Page()
        statement = LIST_ALL_NAMESPACES
        if user_id is not None:
            statement = LIST_NAMESPACES
            wanted = {"user_id": user_id, **{name: wanted[name] for name in ("first", "until", "limit")}}
        rows = await self._database.read(lambda database: database.fetch(statement, **wanted), stale_ok=stale_ok)
        pairs = [(row[0], row[1]) for row in rows] if user_id is None else [(user_id, row[0]) for row in rows]
        end = write_namespace_cursor(pairs[-1]) if len(pairs) == limit else None
        return Page([pair for pair in pairs if is_below(pair[1], namespace)], end)

    async def delete(self, user_id: str, ids: Iterable[str]) -> Deleted:  # noqa: D102
        check_id(user_id, "user_id", self._settings)
        checked = check_ids(ids, self._settings)
        if not checked:
            return Deleted()
        await count_memories(self._database.fetch, user_id, len(checked))
        return Deleted(memories=len(await self._database.fetch(DELETE, user_id=user_id, ids=checked)))

    async def delete_expired(self) -> int:  # noqa: D102
        return await delete_expired(self._database)


async def find_expired(database: Database) -> "list[tuple[str, list[str]]]":
    """Return the ids of some expired documents, for each of their users."""
    rows = sorted(await database.fetch(FIND_EXPIRED, limit=_EXPIRED_BATCH), key=itemgetter(0))
    return [(user_id, [row[1] for row in of_user]) for user_id, of_user in groupby(rows, key=itemgetter(0))]


async def delete_expired(database: Database) -> int:
    """Delete the documents that have expired, in small transactions, and return their number.

    What another transaction has locked is left to the next call.
    """
    total = 0
    while True:
        deleted = 0
        for user_id, ids in await find_expired(database):
            of_user = await database.fetch(DELETE_EXPIRED, user_id=user_id, ids=ids)
            await count_memories(database.fetch, user_id, len(of_user))
            deleted += len(of_user)
        total += deleted
        if not deleted:
            return total


def _load(user_id: str, rows: Sequence[Any]) -> "list[StoredDocument]":
    """Parse the rows of documents; one that cannot be read is left out, and a warning names it."""
    loaded = load_memories(
        [(row["payload"], row["kind"], row["valid_until"], row["namespace"]) for row in rows],
        lambda index: ("memories", user_id, rows[index]["id"], rows[index]["id"]),
    )
    return [
        StoredDocument(memory[1], row["time"], row["updated_at"])
        for row, memory in zip(rows, loaded, strict=True)
        if memory is not None and memory[1] is not None
    ]
