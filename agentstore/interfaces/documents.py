"""The interface of documents: memories that are written and read by key."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from agentstore.interfaces.service import ServiceWithLifecycleManager
from agentstore.schemas import Deleted, MemoryItem, Page, SearchStrategy, StoredDocument


class DocumentService(ServiceWithLifecycleManager):
    """Memory items that are replaced, read and deleted one by one, by their ids.

    A document is a :class:`MemoryItem` of the kind "document", in a bucket of its own, whose name is its id. Searches
    of memory find it by its text, unless that is empty. After its ``valid_until`` it no longer exists: a deletion of
    expired data removes it.
    """

    @abstractmethod
    async def put(
        self, user_id: str, documents: MemoryItem | Mapping[str, Any] | Sequence[MemoryItem | Mapping[str, Any]]
    ) -> None:
        """Insert documents, or replace those with the same ids, all or none. Of concurrent calls, the last one wins.

        Args:
            user_id: the owner.
            documents: items, or dicts with the fields of one, whose ``kind`` may be left out. The text may be empty.
                ``metadata`` is any JSON object.

        Raises:
            InvalidContent: a value is not a document, or cannot be stored.
            Conflict: a session with the id of a document has memories of its own; nothing was written.
            LimitExceeded: too many documents, or too large.
        """

    @abstractmethod
    async def get(self, user_id: str, ids: Iterable[str], *, stale_ok: bool = False) -> dict[str, StoredDocument]:
        """Return those of the documents that exist, by id.

        Raises:
            InvalidContent: an id is not valid.
            LimitExceeded: the documents have more than 256 MB.
        """

    @abstractmethod
    async def list(
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
        """Return a page of a user's documents, newest first. The order does not change when a document is replaced.

        Args:
            user_id: the owner.
            namespace: only documents in this namespace, or below it: "a" has "a" and "a/b".
            metadata: only documents whose metadata has all of these keys, up to 100, with equal values.
            limit: the size of the page, up to 10,000.
            cursor: ``next_cursor`` of the previous page.
            offset: how many documents to skip. Pages by `cursor` cost the same however far they are.
            stale_ok: whether the documents may be read from a replica.

        Raises:
            InvalidContent: an argument is not valid.
            LimitExceeded: `limit` is over 10,000, `metadata` has over 100 keys, or the page has more than 256 MB.
        """

    @abstractmethod
    async def search(
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
        """Return the documents that match a query, each with its score, best first. Any text is a valid query.

        Args:
            user_id: the owner.
            query: the text.
            namespace, metadata, stale_ok: as in :meth:`list`.
            top_k: the maximum number of results, up to 1,000.
            strategy: a SearchStrategy or its name; default: that of the memory.

        Raises:
            InvalidContent, LimitExceeded, NotConfigured, EmbeddingFailed: as in :meth:`MemoryService.search_memory`.
        """

    @abstractmethod
    async def renew(self, user_id: str, times: Mapping[str, datetime]) -> None:
        """Extend the life of documents that expire; `times` has their new ``valid_until``, by id.

        Nothing happens to a document that does not expire, has expired, or lives longer already.

        Raises:
            InvalidContent: an id is not valid, or a time is not an aware datetime.
        """

    @abstractmethod
    async def list_namespaces(
        self,
        user_id: str | None = None,
        *,
        namespace: str | None = None,
        limit: int = 1000,
        cursor: str | None = None,
        stale_ok: bool = False,
    ) -> Page[tuple[str, str]]:
        """Return a page of the namespaces that have documents: pairs of the user and the namespace, in their order.

        Args:
            user_id: the owner; None lists those of all users, which row-level security may forbid.
            namespace: only this namespace, and those below it.
            limit: how many to read, up to 10,000; the page may be shorter and nevertheless have a next one.
            cursor: ``next_cursor`` of the previous page.
            stale_ok: whether they may be read from a replica.

        Raises:
            InvalidContent: an argument is not valid.
            LimitExceeded: `limit` is over 10,000.
        """

    @abstractmethod
    async def delete(self, user_id: str, ids: Iterable[str]) -> Deleted:
        """Delete documents, and return how many existed. Idempotent.

        Raises:
            InvalidContent: an id is not valid.
        """

    @abstractmethod
    async def delete_expired(self) -> int:
        """Delete the documents of all users that have expired, as ``prune`` does; return their number."""

    @abstractmethod
    async def import_documents(self, user_id: str, stored: Sequence[StoredDocument]) -> int:
        """Insert documents of another system with their times; return how many were written.

        An existing one is replaced if it was last written before ``updated_at``, and otherwise remains unchanged: the
        call is idempotent. A document whose place another memory has is not written.

        Raises:
            InvalidContent, LimitExceeded: see :meth:`put`; a time is not an aware datetime.
        """
