"""The long-term memory of LangGraph."""

# pyright: reportMissingImports=false
import logging
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from langgraph.store.base import (
    BaseStore,
    GetOp,
    ListNamespacesOp,
    MatchCondition,
    PutOp,
    SearchItem,
    SearchOp,
    TTLConfig,
)

from agentstore.adapters.langgraph.filters import indexed_part, matches
from agentstore.adapters.langgraph.items import (
    Namespace,
    document_of,
    id_of,
    item_of,
    labels_of,
    metadata_filter,
    namespace_of,
    renewed_until,
    search_item_of,
    value_of,
)
from agentstore.adapters.langgraph.pages import rows_of
from agentstore.adapters.stores import BlockingOnStore, Store
from agentstore.errors import AgentStoreError, InvalidContent
from agentstore.interfaces import DocumentService
from agentstore.schemas import Page, SearchStrategy, StoredDocument
from agentstore.schemas.document import prepare_documents
from agentstore.schemas.page import check_count
from agentstore.schemas.payload import shortened
from agentstore.settings import settings_from_environment

_log = logging.getLogger(__name__)

# How many documents or namespaces are read at once, if it is not known how many are needed.
_PAGE = 500
# The largest number of results of a search by a query.
_MOST = 1_000
_LARGEST_PAGE = 10_000

Scored = tuple[StoredDocument, float | None]


class AgentStoreStore(BlockingOnStore, BaseStore):  # type: ignore[misc]
    """A BaseStore of LangGraph: items are documents of agentstore's memory.

    ::

        graph = builder.compile(store=AgentStoreStore(store))

    The items of a namespace belong to the user whose id is its first label, or to whom `user_id` names. A search whose
    prefix does not say whose items it is about, and a list of such namespaces, concern all users.

    The synchronous methods may be called in any thread, and block it. They run on an event loop in a thread of this
    object, which the first one starts.
    """

    supports_ttl = True

    def __init__(
        self,
        store: Store | None = None,
        *,
        url: str | None = None,
        ttl: TTLConfig | None = None,
        user_id: str | Callable[[Namespace], str | None] | None = None,
        fields: Sequence[str] | None = None,
        strategy: SearchStrategy | str | None = None,
    ) -> None:
        """Create the store, without connecting.

        Args:
            store: an AgentStore.
            url: the URL of a database instead of a store. All adapters in this process share one pool for it, which
                :meth:`close` releases.
            ttl: a dict with any of these keys: ``default_ttl``, the minutes after which an item expires that was not
                read or written meanwhile (default: never); ``refresh_on_read``, whether a read restarts that time
                (default True); ``sweep_interval_minutes``, that of :meth:`start_ttl_sweeper`. Expired items are never
                returned.
            user_id: whose items they are: the id of one user, or a function that returns the user for a namespace, such
                as ``lambda namespace: namespace[1]``. It is also called with the prefix of a search, and returns None
                or raises LookupError if a prefix does not say the user. Default: the first label.
            fields: the paths of the texts by which items are found, as in LangGraph. Default: all texts of the value.
            strategy: what searches compare, a SearchStrategy or its name. Default: that of the memory.

        Raises:
            NotConfigured: both `store` and `url` are given, or none.
        """
        BlockingOnStore.__init__(self, store, url=url, thread="agentstore-langgraph", kind="store")
        self.ttl_config = ttl
        self._user_id = user_id
        self._fields = fields
        self._strategy = strategy
        self._sweeper: threading.Thread | None = None
        self._stopping = threading.Event()

    async def abatch(self, ops: Iterable[Any]) -> list[Any]:
        """Execute operations and return their results in order: reads first, then writes; of one item, the last write.

        All operations are checked before the first item is written. The items of one user are written all or none.

        Raises:
            InvalidContent, LimitExceeded: an operation is not valid, or a value cannot be stored.
            NotConfigured: an operation concerns all users, and row-level security restricts each call to one.
        """
        documents = (await self._started()).documents
        given = list(ops)
        results: list[Any] = [None] * len(given)
        gets: dict[str, dict[int, tuple[str, bool]]] = {}
        puts: dict[tuple[str, str], dict[str, Any] | None] = {}
        for index, op in enumerate(given):
            if isinstance(op, GetOp):
                gets.setdefault(self._owner(op.namespace), {})[index] = id_of(op.namespace, op.key), op.refresh_ttl
            elif isinstance(op, PutOp):
                key = self._owner(op.namespace), id_of(op.namespace, op.key)
                puts.pop(key, None)
                puts[key] = None if op.value is None else self._document(op)
            elif not isinstance(op, (SearchOp, ListNamespacesOp)):
                raise InvalidContent(f"expected an operation of LangGraph's store, got {shortened(op)}")
        by_owner: dict[str, dict[str, dict[str, Any] | None]] = {}
        for (user_id, id), document in puts.items():
            by_owner.setdefault(user_id, {})[id] = document
        if len(by_owner) > 1:
            prepare_documents([each for each in puts.values() if each is not None], settings_from_environment())
        for user_id, of_user in gets.items():
            await self._get(documents, user_id, of_user, results)
        for index, op in enumerate(given):
            if isinstance(op, SearchOp):
                results[index] = await self._search(documents, op)
            elif isinstance(op, ListNamespacesOp):
                results[index] = await self._list_namespaces(documents, op)
        for user_id, of_owner in by_owner.items():
            new = [each for each in of_owner.values() if each is not None]
            if new:
                await documents.put(user_id, new)
            if gone := [id for id, each in of_owner.items() if each is None]:
                await documents.delete(user_id, gone)
        return results

    def batch(self, ops: Iterable[Any]) -> list[Any]:
        """Execute operations and return their results, as :meth:`abatch` does."""
        return self._runner.run(self.abatch(ops))

    async def asweep_ttl(self) -> int:
        """Delete the items that have expired, of all users, and return their number. ``agentstore prune`` does it too.

        Raises:
            NotConfigured: row-level security restricts each call to one user.
        """
        return await (await self._started()).documents.delete_expired()

    def sweep_ttl(self) -> int:
        """Delete the items that have expired, as :meth:`asweep_ttl` does."""
        return self._runner.run(self.asweep_ttl())

    def start_ttl_sweeper(self, sweep_interval_minutes: float | None = None) -> None:
        """Begin to call :meth:`sweep_ttl` regularly, in a thread that ends with the process. Idempotent.

        `sweep_interval_minutes` is by default that of the ttl configuration, or else 5. A failure is logged.
        """
        if self._sweeper is not None and self._sweeper.is_alive():
            return
        minutes = sweep_interval_minutes or (self.ttl_config or {}).get("sweep_interval_minutes") or 5
        self._stopping.clear()
        self._sweeper = threading.Thread(
            target=self._sweep_regularly, args=(minutes * 60,), name="agentstore-langgraph-ttl", daemon=True
        )
        self._sweeper.start()

    def stop_ttl_sweeper(self, timeout: float | None = None) -> bool:
        """End the calls of :meth:`sweep_ttl`; return whether the running one ended within `timeout` seconds."""
        self._stopping.set()
        if self._sweeper is None:
            return True
        self._sweeper.join(timeout)
        return not self._sweeper.is_alive()

    def _sweep_regularly(self, interval: float) -> None:
        while not self._stopping.wait(interval):
            try:
                self.sweep_ttl()
            except AgentStoreError as error:
                _log.warning("Expired items were not deleted: %s", error)

    async def close(self) -> None:
        """Stop the sweeper, and release the pool of a `url`. A store is stopped by its owner. Idempotent."""
        self._stopping.set()
        await super().close()

    def _owner(self, namespace: Namespace) -> str:
        """Return the user whose items are in a namespace."""
        user_id = self._owner_of_prefix(namespace)
        if user_id is None:
            raise InvalidContent(f"the store's user_id names no user for the namespace {shortened(namespace)}")
        return user_id

    def _owner_of_prefix(self, prefix: Namespace) -> str | None:
        """Return the user whose items are in a namespace and below it, or None if they may be of several users."""
        namespace_of(prefix)
        if isinstance(self._user_id, str):
            return self._user_id
        try:
            return prefix[0] if self._user_id is None else self._user_id(tuple(prefix))
        except LookupError:
            return None

    def _document(self, op: PutOp) -> dict[str, Any]:
        paths = self._fields if op.index is None else op.index or ()
        return document_of(op.namespace, op.key, op.value, op.ttl, paths)

    async def _get(
        self, documents: DocumentService, user_id: str, wanted: Mapping[int, tuple[str, bool]], results: list[Any]
    ) -> None:
        found = await documents.get(user_id, {id for id, _ in wanted.values()})
        for index, (id, _) in wanted.items():
            results[index] = item_of(found[id]) if id in found else None
        read = {id for id, refresh in wanted.values() if refresh}
        await _renew(documents, {user_id: [each for id, each in found.items() if id in read]})

    async def _search(self, documents: DocumentService, op: SearchOp) -> list[SearchItem]:
        limit, offset = check_count(op.limit, "limit"), check_count(op.offset, "offset")
        namespace = namespace_of(op.namespace_prefix)
        equal = indexed_part(op.filter)
        if not limit:
            return []
        search = _Search(documents, namespace, op, equal, self._strategy)
        user_id = self._owner_of_prefix(op.namespace_prefix)
        if user_id is not None:
            found = [(user_id, each) for each in await search.of_user(user_id, limit, offset)]
        else:
            found = []
            users = {user async for user, _ in _namespaces(documents, None, namespace)}
            for each in sorted(users):
                found += [(each, scored) for scored in await search.of_user(each, limit + offset, 0)]
            found.sort(key=lambda pair: (pair[1][1] or 0.0, pair[1][0].created_at, pair[1][0].item.id), reverse=True)
            found = found[offset : offset + limit]
        if op.refresh_ttl:
            read: dict[str, list[StoredDocument]] = {}
            for owner, (document, _) in found:
                read.setdefault(owner, []).append(document)
            await _renew(documents, read)
        return [search_item_of(document, score) for _, (document, score) in found]

    async def _list_namespaces(self, documents: DocumentService, op: ListNamespacesOp) -> list[Namespace]:
        limit, offset = check_count(op.limit, "limit"), check_count(op.offset, "offset")
        depth = None if op.max_depth is None else check_count(op.max_depth, "max_depth")
        conditions = op.match_conditions or ()
        prefix: Namespace = ()
        for condition in conditions:
            if condition.match_type not in ("prefix", "suffix"):
                raise InvalidContent(
                    f"a namespace is matched by 'prefix' or 'suffix', got {shortened(condition.match_type)}"
                )
            if condition.match_type == "prefix":
                literal = tuple(condition.path)
                literal = literal[: literal.index("*")] if "*" in literal else literal
                prefix = max(prefix, literal, key=len)
        user_id = self._owner_of_prefix(prefix)
        found = {
            labels[:depth]
            async for _, labels in _namespaces(documents, user_id, namespace_of(prefix))
            if all(_fits(condition, labels) for condition in conditions)
        }
        return sorted(found)[offset : offset + limit]


class _Search:
    """A search, which is executed for each of its users."""

    def __init__(
        self,
        documents: DocumentService,
        namespace: str,
        op: SearchOp,
        equal: Mapping[str, Any],
        strategy: SearchStrategy | str | None,
    ) -> None:
        self._documents = documents
        self._namespace = namespace
        self._op = op
        self._metadata = metadata_filter(equal)
        # Whether each document that is found has to be compared with the filter.
        self._compares = len(equal) < len(op.filter or {})
        self._strategy = strategy

    async def of_user(self, user_id: str, limit: int, offset: int) -> list[Scored]:
        """Return the documents of a user, best or newest first."""
        if self._op.query:
            return await self._by_query(user_id, self._op.query, limit, offset)
        if self._compares or limit > _LARGEST_PAGE:
            found = self._newest(user_id)
            passed: list[Scored] = []
            async for document in found:
                if self._passes(document):
                    passed.append((document, None))
                    if len(passed) == limit + offset:
                        break
            return passed[offset:]
        # The position is found in the database, which reads no value of the documents before it.
        page = await self._documents.list(
            user_id, namespace=self._namespace, metadata=self._metadata, limit=limit, offset=offset
        )
        return [(document, None) for document in page]

    async def _by_query(self, user_id: str, query: str, limit: int, offset: int) -> list[Scored]:
        hits = await self._documents.search(
            user_id,
            query,
            namespace=self._namespace,
            metadata=self._metadata,
            top_k=_MOST if self._compares else min(limit + offset, _MOST),
            strategy=self._strategy,
        )
        passed = (hit for hit in hits if not self._compares or self._passes(hit[0]))
        return list(islice(passed, offset, offset + limit))

    def _newest(self, user_id: str) -> AsyncIterator[StoredDocument]:
        def read(limit: int, cursor: str | None) -> Awaitable[Page[StoredDocument]]:
            return self._documents.list(
                user_id, namespace=self._namespace, metadata=self._metadata, limit=limit, cursor=cursor
            )

        return rows_of(read, _PAGE)

    def _passes(self, document: StoredDocument) -> bool:
        return matches(value_of(document.item), self._op.filter)


async def _namespaces(
    documents: DocumentService, user_id: str | None, namespace: str
) -> AsyncIterator[tuple[str, Namespace]]:
    """Yield all namespaces of items in one and below it, each with its user."""

    def read(limit: int, cursor: str | None) -> Awaitable[Page[tuple[str, str]]]:
        return documents.list_namespaces(user_id, namespace=namespace, limit=limit, cursor=cursor)

    async for owner, found in rows_of(read, _PAGE):
        yield owner, labels_of(found)


async def _renew(documents: DocumentService, read: Mapping[str, Iterable[StoredDocument]]) -> None:
    """Restart the time to live of documents that were read, by user."""
    for user_id, of_user in read.items():
        times = {each.item.id: until for each in of_user if (until := renewed_until(each)) is not None}
        if times:
            await documents.renew(user_id, times)


def _fits(condition: MatchCondition, labels: Namespace) -> bool:
    path = tuple(condition.path)
    if len(path) > len(labels):
        return False
    part = labels[: len(path)] if condition.match_type == "prefix" else labels[len(labels) - len(path) :]
    return all(wanted in ("*", label) for wanted, label in zip(path, part, strict=True))
