"""The runtime's MemoryService."""

from collections.abc import Mapping
from itertools import islice
from typing import Any, cast

from agentstore import repositories
from agentstore.adapters.agentscope_runtime.embedding import as_embedder
from agentstore.adapters.agentscope_runtime.options import override_ttl, parse_number
from agentstore.adapters.agentscope_runtime.service import PostgresService
from agentstore.adapters.agentscope_runtime.upstream import message_classes
from agentstore.errors import NotConfigured
from agentstore.schemas import Embedder, ListFilters, MemoryHit, SearchStrategy
from agentstore.schemas.memory import speaker_and_text
from agentstore.schemas.memory_filters import read_strategy
from agentstore.schemas.message import MessageType
from agentstore.search.snippets import Highlighter

_MAX_HITS = 1_000
_USERS_PER_PAGE = 1_000


class NoEmbedder(NotConfigured, ValueError):
    """Vector search has no embedding model. Also a ValueError, as in the runtime."""


class PostgresMemoryService(PostgresService):
    """The runtime's MemoryService on Postgres.

    By default, as in the runtime's in-memory and Redis services, a search returns all matches in chronological order,
    or the last `top_k` of them. With ``compat="tablestore"`` it returns the `top_k` best matches, 100 by default, in
    order of score. A message whose type is not "message" is stored and listed, but a search neither uses it as a query
    nor returns it. All memories are stored, regardless of `max_messages_per_session`. ``inner.search`` also returns
    the neighbors of matching messages.
    """

    UPSTREAM_NAME = "memory.memory_service.MemoryService"

    def __init__(
        self,
        dsn: str | None = None,
        pool_size: int | str | None = None,
        *,
        search_strategy: Any = SearchStrategy.FULL_TEXT,
        embedder: Embedder | None = None,
        embedding_model: Any = None,
        vector_dimension: int | str | None = None,
        **options: Any,
    ) -> None:
        """Create a service, without connecting.

        Args:
            dsn: the database URL; default: AGENTSTORE_DATABASE_URL.
            pool_size: the maximum number of connections of the shared pool.
            search_strategy: "full_text", "vector" or "hybrid", or the runtime's enum, see
                :class:`agentstore.AgentStore`.
            embedder: an agentstore Embedder for "vector" and "hybrid".
            embedding_model: instead of `embedder`, as in the runtime's Tablestore service: an object with
                ``embed_documents`` and ``embed_query``.
            vector_dimension: the length of the vectors of `embedding_model`; default: 1536.
            options: `compat`, `ttl_seconds`, `max_messages_per_session` and `settings`, as for the other services.

        Raises:
            NotConfigured: no database is configured, or an option is unknown or invalid.
            NoEmbedder: the strategy needs an embedding model, and neither an option nor a setting names one.
        """
        super().__init__(dsn, pool_size, **options)
        if embedder is None and embedding_model is not None:
            embedder = as_embedder(embedding_model, parse_number(vector_dimension, "vector_dimension") or 1536)
        settings = override_ttl(self._settings, memory_ttl=self._ttl)
        strategy = read_strategy(getattr(search_strategy, "value", search_strategy))
        self._is_full_text = strategy is SearchStrategy.FULL_TEXT
        if not self._is_full_text and embedder is None and settings.embedding_url is None:
            raise NoEmbedder(f"Embedding model is required when search strategy is {strategy.name}.")
        self.inner = repositories.PostgresMemoryService(
            database=self._shared.database,
            settings=settings,
            embedder=embedder,
            strategy=strategy,
        )
        """The wrapped service, with agentstore's own methods and classes."""

    async def stop(self) -> None:
        """Stop the service; the last service of a database closes its connections."""
        await super().stop()
        await self.inner.stop()

    async def add_memory(self, user_id: str, messages: list[Any], session_id: str | None = None) -> None:
        """Add messages, each a Message or a dict, to a user's memory."""
        await self._ensure_started()
        classes = message_classes()
        own = [classes.to_own(classes.validate(each)) for each in messages or () if each is not None]
        await self.inner.add_memory(user_id, own, session_id)

    async def search_memory(
        self, user_id: str, messages: list[Any], filters: Mapping[str, Any] | None = None
    ) -> list[Any]:
        """Return the memories that match the text of the last message.

        `filters` may have `top_k`, the maximum number of memories, at most 1,000. Other keys are ignored.
        """
        await self._ensure_started()
        found = await self._search(user_id, messages, filters)
        if found and self._ttl is not None:
            await self.inner.touch(user_id, idle=self._touch_interval)
        return found

    async def _search(self, user_id: str, messages: object, filters: Mapping[str, Any] | None) -> list[Any]:
        classes = message_classes()
        if not isinstance(messages, list) or not messages or messages[-1] is None:
            return []
        query = classes.to_own(classes.validate(messages[-1]))
        if query.type != MessageType.MESSAGE:
            return []
        best_first = self._compat == "tablestore"
        top_k = (filters or {}).get("top_k")
        if not isinstance(top_k, int):
            top_k = 100 if best_first else _MAX_HITS
        top_k = min(top_k, _MAX_HITS)
        if top_k <= 0:
            return []
        if not best_first:
            hits = await self.inner.search(user_id, query, {"top_k": _MAX_HITS, "order": "chronological"})
            last = list(islice(filter(self._matches, reversed(hits)), top_k))
            return classes.convert(hit.message for hit in reversed(last))
        hits = await self.inner.search(user_id, query, {"top_k": top_k})
        best = list(filter(self._matches, hits))
        if len(best) < top_k == len(hits):
            hits = await self.inner.search(user_id, query, {"top_k": _MAX_HITS})
            best = list(islice(filter(self._matches, hits), top_k))
        return classes.convert(hit.message for hit in best)

    def _matches(self, hit: MemoryHit) -> bool:
        """Return whether the runtime would return a hit: a plain message that matches itself, not a neighbor of one."""
        if hit.message.type != MessageType.MESSAGE:
            return False
        highlighter = hit.highlighter
        if not self._is_full_text or not isinstance(highlighter, Highlighter):
            return True
        return highlighter.contains_match(speaker_and_text(hit.message), hit.time)

    async def list_memory(self, user_id: str, filters: Mapping[str, Any] | None = None) -> list[Any]:
        """Return a page of a user's memories.

        `filters` may have `page_num`, from 1, default 1, and `page_size`, default 10. Other keys are ignored.
        """
        await self._ensure_started()
        page = {name: value for name, value in (filters or {}).items() if name in ("page_num", "page_size")}
        found = await self.inner.list_memory(user_id, cast("ListFilters", page))
        if found and self._ttl is not None:
            await self.inner.touch(user_id, idle=self._touch_interval)
        return message_classes().convert(found)

    async def delete_memory(self, user_id: str, session_id: str | None = None) -> None:
        """Delete the memories of a session, or all memories of a user."""
        await self._ensure_started()
        await self.inner.delete_memory(user_id, None if session_id == "" else session_id)

    async def delete_user_memory(self, user_id: str) -> None:
        """Delete all memories of a user."""
        await self.delete_memory(user_id)

    async def clear_all_memory(self) -> None:
        """Delete the memories of all users, one user at a time."""
        await self._ensure_started()
        users = repositories.PostgresUserService(database=self._shared.database)
        cursor: str | None = None
        while True:
            page = await users.list_users(limit=_USERS_PER_PAGE, cursor=cursor)
            for user in page:
                await self.inner.delete_memory(user.id)
            cursor = page.next_cursor
            if cursor is None:
                return
