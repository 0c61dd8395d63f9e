"""The document service without a database, for tests."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from agentstore.inmemory.memory import InMemoryMemoryService
from agentstore.inmemory.stored_memory import StoredMemory, stored_item
from agentstore.interfaces import DocumentService
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
from agentstore.schemas.memory_item import DOCUMENT, check_ids, message_of
from agentstore.schemas.namespace import check_namespace
from agentstore.schemas.page import Advice, check_count, check_reply, write_cursor
from agentstore.schemas.payload import check_id, dump_message
from agentstore.search.labels import labels_of_filter
from agentstore.settings import Settings


class InMemoryDocumentService(DocumentService):
    """Documents in memory, for tests. They are lost when the process ends.

    See :class:`agentstore.DocumentService` for what each method does and raises.
    """

    def __init__(self, *, memory: InMemoryMemoryService | None = None, settings: Settings | None = None) -> None:
        """Create the service. `memory` has the documents, and searches them; its settings are those of the service."""
        self._memory = memory or InMemoryMemoryService(settings=settings)
        self._settings = self._memory._settings

    async def start(self) -> None:  # noqa: D102 - documented by the interface
        await self._memory.start()

    async def stop(self) -> None:  # noqa: D102
        await self._memory.stop()

    async def health(self, timeout: float = 2.0, *, writable: bool = True) -> bool:  # noqa: D102
        return await self._memory.health(timeout, writable=writable)

    async def put(  # noqa: D102
        self, user_id: str, documents: MemoryItem | Mapping[str, Any] | Sequence[MemoryItem | Mapping[str, Any]]
    ) -> None:
        check_id(user_id, "user_id", self._settings)
        now = datetime.now(UTC)
        prepared = [StoredDocument(item, now, now) for item in prepare_documents(documents, self._settings)]
        await self._write(user_id, prepared, replace=True)

    async def import_documents(self, user_id: str, stored: Sequence[StoredDocument]) -> int:  # noqa: D102
        check_id(user_id, "user_id", self._settings)
        return await self._write(user_id, prepare_imported(stored, self._settings), replace=False)

    async def _write(self, user_id: str, documents: Sequence[StoredDocument], *, replace: bool) -> int:
        memory = self._memory
        memory._use(user_id)
        payloads = [dump_message(message_of(each.item), self._settings) for each in documents]
        buckets = memory._users.get(user_id, {})
        for each in documents:
            bucket = buckets.get(each.item.id)
            if bucket and replace and _document_in(bucket, each.item.id) is None:
                raise not_a_document(user_id, [each.item.id for each in documents])
        new = []
        for each, payload in zip(documents, payloads, strict=True):
            item = each.item
            existing = _document_in(buckets.get(item.id, {}), item.id)
            is_older = existing is not None and memory._updated_at[user_id, item.id] < each.updated_at
            if item.id in buckets and not (replace or is_older):
                continue
            until = existing.item.valid_until if existing is not None and existing.item is not None else None
            has_expired = until is not None and until <= each.created_at
            created_at = each.created_at if existing is None or has_expired else existing.time
            stored = stored_item(payload, (item.id, 1), item.namespace, item.valid_until, created_at, self._settings)
            if existing is not None and existing.payload == payload:
                stored.vector = existing.vector
            buckets = memory._users.setdefault(user_id, {})
            buckets[item.id] = {item.id: stored}
            memory._owners._add(user_id)
            memory._updated_at[user_id, item.id] = each.updated_at
            new.append(stored)
        await memory._embed_new([each for each in new if each.vector is None])
        return len(new)

    async def get(  # noqa: D102
        self, user_id: str, ids: Iterable[str], *, stale_ok: bool = False
    ) -> dict[str, StoredDocument]:
        check_id(user_id, "user_id", self._settings)
        checked = check_ids(ids, self._settings)
        self._memory._use()
        found = {each.memory.session_id: each for each in self._all(user_id)}
        rows = [found[id] for id in checked if id in found]
        check_reply((each.payload for each in rows), self._settings, Advice.FEWER_IDS)
        return {each.memory.session_id: self._document(user_id, each) for each in rows}

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
        before = read_document_cursor(cursor)
        check_count(limit, "limit", maximum=self._settings.max_page)
        check_count(offset, "offset")
        self._memory._use()
        found = [
            ((each.time, each.memory.session_id), each) for each in self._all(user_id) if each.labels.issuperset(labels)
        ]
        ordered = sorted((each for each in found if each[0] < before), key=lambda each: each[0], reverse=True)
        page = ordered[offset : offset + limit]
        check_reply((each.payload for _, each in page), self._settings, Advice.SMALLER_LIMIT)
        end = write_cursor(*page[-1][0]) if page and len(page) == limit else None
        return Page([self._document(user_id, each) for _, each in page], end)

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
        hits = await self._memory.search(user_id, query, document_filters(namespace, metadata, top_k, strategy))
        found = await self.get(user_id, [hit.message.id for hit in hits])
        return [(found[hit.message.id], hit.score) for hit in hits if hit.message.id in found]

    async def renew(self, user_id: str, times: Mapping[str, datetime]) -> None:  # noqa: D102
        check_id(user_id, "user_id", self._settings)
        checked = check_times(times, self._settings)
        self._memory._use()
        for each in self._all(user_id):
            item, time = each.item, checked.get(each.memory.session_id)
            if item is not None and time is not None and item.valid_until is not None and item.valid_until < time:
                item.valid_until = time
                each.payload = dump_message(message_of(item), self._settings)

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
        wanted = namespaces_from(namespace, user_id, cursor, self._settings)
        check_count(limit, "limit", maximum=self._settings.max_page)
        self._memory._use()
        first = (user_id or wanted["from_user"], wanted["first"])
        pairs = {
            (user, each.namespace)
            for user in ([*self._memory._users] if user_id is None else [user_id])
            for each in self._all(user)
            if each.namespace is not None
        }
        page = sorted(
            (pair for pair in pairs if pair >= first and wanted["least"] <= pair[1] < wanted["until"]),
            key=lambda pair: (pair[0].encode(), pair[1].encode()),
        )[:limit]
        end = write_namespace_cursor(page[-1]) if page and len(page) == limit else None
        return Page([pair for pair in page if is_below(pair[1], namespace)], end)

    async def delete(self, user_id: str, ids: Iterable[str]) -> Deleted:  # noqa: D102
        check_id(user_id, "user_id", self._settings)
        checked = check_ids(ids, self._settings)
        self._memory._use()
        buckets = self._memory._users.get(user_id, {})
        found = [id for id in checked if _document_in(buckets.get(id, {}), id) is not None]
        return Deleted(memories=sum(self._memory._drop(user_id, id) for id in found))

    async def delete_expired(self) -> int:  # noqa: D102
        self._memory._use()
        expired = [(user, id) for user in self._memory._users for id in expired_documents(self._memory, user)]
        return sum(self._memory._drop(user, id) for user, id in expired)

    def _all(self, user_id: str) -> Sequence[StoredMemory]:
        """Return the documents of a user that have not expired."""
        now, buckets = datetime.now(UTC), self._memory._users.get(user_id, {})
        gone = self._memory._list_expired(user_id)
        found = [_document_in(bucket, id) for id, bucket in buckets.items() if id not in gone]
        return [each for each in found if each is not None and each.is_valid(now)]

    def _document(self, user_id: str, stored: StoredMemory) -> StoredDocument:
        assert stored.item is not None  # noqa: S101
        updated_at = self._memory._updated_at[user_id, stored.memory.session_id]
        return StoredDocument(stored.item.model_copy(deep=True), stored.time, updated_at)


def expired_documents(memory: InMemoryMemoryService, user_id: str) -> list[str]:
    """Return the ids of a user's documents that have expired, and are not deleted yet."""
    now, buckets = datetime.now(UTC), memory._users.get(user_id, {})
    found = [(id, _document_in(bucket, id)) for id, bucket in buckets.items()]
    return [id for id, each in found if each is not None and not each.is_valid(now)]


def _document_in(bucket: Mapping[str, StoredMemory], id: str) -> StoredMemory | None:
    """Return the document of a bucket, if that is all that it has."""
    stored = bucket.get(id) if len(bucket) == 1 else None
    return stored if stored is not None and stored.item is not None and stored.item.kind == DOCUMENT else None
