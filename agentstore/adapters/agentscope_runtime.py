"""The services of AgentScope Runtime 1.0 on Postgres: its names, its calls and its classes.

An application changes the line that makes its services::

    from agentstore.adapters.agentscope_runtime import PostgresSessionHistoryService

    service = PostgresSessionHistoryService("postgresql://app@db/agents")

or calls :func:`register` once and sets SESSION_HISTORY_BACKEND=postgres. What is given and returned are the runtime's
own Session and Message where it is installed, and ours where it is not. docs/agentscope-runtime.md says what is the
same and what is not.
"""

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Literal, Self, get_args

from pydantic import SecretStr

from agentstore import repositories
from agentstore.adapters import _upstream
from agentstore.adapters._boxes import Sandbox
from agentstore.adapters._embeddings import as_embedder
from agentstore.adapters._factories import ServiceFactory
from agentstore.adapters._loop import LoopThread
from agentstore.adapters._shared import shared_database
from agentstore.database.database import Database
from agentstore.errors import Closed, NotConfigured, NotFound
from agentstore.inmemory import InMemoryMemoryService, InMemorySessionHistoryService, InMemoryStateService
from agentstore.interfaces import MemoryService, SandboxProvider, SessionHistoryService, StateService
from agentstore.schemas import Embedder, MemoryHit, SearchStrategy, Session
from agentstore.schemas.memory import read_strategy, speaker_and_text
from agentstore.schemas.message import MessageType
from agentstore.schemas.session import extend_messages
from agentstore.search.snippets import Highlighter
from agentstore.settings import Settings

_log = logging.getLogger(__name__)

Compat = Literal["in_memory", "redis", "tablestore"]
"""Whose habits a service has where the runtime's own implementations differ."""

# How the runtime's other classes reach their servers, and how they name things there: taken, and without a meaning.
_ELSEWHERE = {
    "redis_url", "redis_client", "socket_timeout", "socket_connect_timeout", "max_connections", "retry_on_timeout",
    "health_check_interval", "socket_keepalive", "tablestore_client", "session_table_name", "message_table_name",
    "session_secondary_index_meta", "session_search_index_schema", "message_search_index_schema", "table_name",
    "search_index_schema", "text_field", "embedding_field", "vector_metric_type",
}  # fmt: skip
_MOST = 1_000


class NoEmbedder(NotConfigured, ValueError):
    """A search by meaning has nothing to embed with. The runtime says it by a ValueError, and so."""


class _Service:
    """What the three have in common: a database that they share, and a life of their own."""

    _KIND = ""

    def __init__(
        self,
        dsn: str | None = None,
        pool_size: int | str | None = None,
        *,
        compat: Compat = "in_memory",
        ttl_seconds: int | str | None = None,
        max_messages_per_session: int | str | None = None,
        settings: Settings | None = None,
        **options: Any,
    ) -> None:
        """`dsn` names the database, else AGENTSTORE_DATABASE_URL does; all services of one have one pool.

        The pool has as many connections as the service says that asks for the most. `ttl_seconds` is how long after
        it was last written or read something is kept, for ever by default. Numbers may be strings, as they are in the
        environment. What tells the runtime's other classes how to reach their servers is taken and has no meaning.

        Raises:
            NotConfigured: no database is named, or an option is not known or cannot be read.
        """
        if unknown := sorted(options.keys() - _ELSEWHERE):
            raise NotConfigured(f"{type(self).__name__} has no option {', '.join(map(repr, unknown))}")
        if compat not in get_args(Compat):
            raise NotConfigured(f"compat is one of {', '.join(get_args(Compat))}, not {compat!r}")
        self._compat = compat
        self._ttl = _number(ttl_seconds, "ttl_seconds")
        self._most = _number(max_messages_per_session, "max_messages_per_session")
        self._settings = settings or Settings()
        self._shared = shared_database(dsn, self._settings, _number(pool_size, "pool_size"))
        self._state: Literal["new", "started", "stopped"] = "new"
        self._open()
        _upstream.be_one(type(self), self._KIND)

    def _open(self) -> None:
        """Make the service behind it."""

    async def start(self) -> None:
        """Connect, and check the schema. Not needed: the first call does it."""
        await self._shared.hold(self)
        self._state = "started"

    async def stop(self) -> None:
        """Let go of the connections; the last service of a database closes them."""
        self._state = "stopped"
        await self._shared.let_go(self)

    async def health(self) -> bool:
        """Return whether the database answers now. False before start and after stop; never raises."""
        return self._state == "started" and await self._shared.database.health()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> bool:
        await self.stop()
        return False

    @property
    def _idle(self) -> int:
        """How long in seconds what is read may be unwritten, before the reading counts as a write."""
        return (self._ttl or 0) // 10

    async def _ready(self) -> None:
        if self._state == "stopped":
            raise Closed(f"the {type(self).__name__} was stopped: start it again")
        if self._state == "new":
            await self.start()


class PostgresSessionHistoryService(_Service):
    """The runtime's SessionHistoryService.

    A session that is not there is made by `get_session`, and what is appended to one is not kept but warned of, as by
    the runtime in memory and on Tablestore; with ``compat="redis"`` the former gives None, and the latter makes it.
    With `max_messages_per_session` only the last so many are given, and all are kept.
    """

    _KIND = "session_history.session_history_service.SessionHistoryService"

    def _open(self) -> None:
        get: Literal["error", "create"]
        append: Literal["error", "create"]
        get, append = ("error", "create") if self._compat == "redis" else ("create", "error")
        self._reading = _Sessions(self._shared.database, get, self._ttl)
        self._writing = _Sessions(self._shared.database, append, self._ttl)
        self.inner = repositories.PostgresSessionHistoryService(database=self._shared.database)
        """The service behind it, with agentstore's own calls and classes."""

    async def create_session(self, user_id: str, session_id: str | None = None) -> Any:
        """Make a session, or return the one that has this id as it stands; the runtime's are emptied then."""
        await self._ready()
        return await self._reading.create_session(user_id, session_id)

    async def get_session(self, user_id: str, session_id: str) -> Any:
        """Return a session with its messages."""
        await self._ready()
        found = await self._reading.get_session(user_id, session_id, limit=self._most)
        if found is not None and self._ttl is not None:
            await self.inner.touch(user_id, session_id, idle=self._idle)
        return found

    async def list_sessions(self, user_id: str) -> list[Any]:
        """Return all sessions of a user, without their messages."""
        await self._ready()
        classes = _upstream.classes()
        found = await self.inner.list_sessions(user_id)
        return list(found) if classes.is_ours else [classes.session(id=each.id, user_id=each.user_id) for each in found]

    async def append_message(self, session: Any, message: Any) -> None:
        """Append one message or many, dicts among them; `session.messages` gains them once they are stored."""
        await self._ready()
        classes = _upstream.classes()
        many = message if isinstance(message, (list, tuple)) else [message]
        given = [classes.given(each) for each in many if each is not None]
        ours = [classes.ours(each) for each in given]
        session_ = Session(id=session.id, user_id=session.user_id)
        try:
            await self._writing.append_message(session_, ours)
        except NotFound:
            if self._compat == "redis":
                raise
            _log.warning("user %r has no session %r: what is appended is not kept", session.user_id, session.id)
        extend_messages(session, given, session_.updated_at)
        if self._most is not None:
            del session.messages[: -self._most]

    async def delete_session(self, user_id: str, session_id: str) -> None:
        """Delete a session, if it is there."""
        await self._ready()
        await self.inner.delete_session(user_id, session_id)

    async def delete_user_sessions(self, user_id: str) -> None:
        """Delete all sessions of a user."""
        await self._ready()
        for session in await self.inner.list_sessions(user_id):
            await self.inner.delete_session(user_id, session.id)


class _Sessions(repositories.PostgresSessionHistoryService):
    """Sessions as the application's, each made with a time to live."""

    def __init__(self, database: Database, missing_session: Literal["error", "create"], ttl: int | None) -> None:
        super().__init__(database=database, missing_session=missing_session)
        self._ttl = ttl

    async def _create(self, user_id: str, session_id: str, **options: Any) -> Any:
        return await super()._create(user_id, session_id, **{**options, "ttl": self._ttl})

    def _session(self, user_id: str, session_id: str, head: Sequence[Any], payloads: Sequence[bytes]) -> Any:
        classes = _upstream.classes()
        if classes.is_ours:
            return super()._session(user_id, session_id, head, payloads)
        return classes.session.model_construct(id=session_id, user_id=user_id, messages=classes.load(payloads))


class PostgresMemoryService(_Service):
    """The runtime's MemoryService.

    A search gives all that it finds, in the order in which it was said, or the last `top_k` of it, as the runtime
    does in memory and on Redis; with ``compat="tablestore"`` it gives the best, the best of them first, 100 unless
    `top_k` says otherwise. A message whose type is not "message" neither asks nor is found. All memories are kept,
    whatever `max_messages_per_session` is. `inner.search` finds more: what was said beside what fits, too.
    """

    _KIND = "memory.memory_service.MemoryService"

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
        """Take the options of the other services, and how a search finds: see :class:`agentstore.AgentStore`.

        `embedding_model` is in place of an `embedder`, as the runtime's Tablestore service takes it: an object with
        ``embed_documents`` and ``embed_query``, whose vectors have `vector_dimension` numbers, 1536 by default.
        """
        super().__init__(dsn, pool_size, **options)
        if embedder is None and embedding_model is not None:
            embedder = as_embedder(embedding_model, _number(vector_dimension, "vector_dimension") or 1536)
        settings = _with_ttl(self._settings, memory_ttl=self._ttl)
        strategy = read_strategy(getattr(search_strategy, "value", search_strategy))
        self._by_words = strategy is SearchStrategy.FULL_TEXT
        if not self._by_words and embedder is None and settings.embedding_url is None:
            raise NoEmbedder(f"Embedding model is required when search strategy is {strategy.name}.")
        self.inner = repositories.PostgresMemoryService(
            database=self._shared.database,
            settings=settings,
            embedder=embedder,
            strategy=strategy,
        )
        """The service behind it, with agentstore's own calls and classes."""

    async def stop(self) -> None:
        """Let go of the connections; the last service of a database closes them."""
        await self.inner.stop()
        await super().stop()

    async def add_memory(self, user_id: str, messages: list[Any], session_id: str | None = None) -> None:
        """Add messages to what is known of a user."""
        await self._ready()
        classes = _upstream.classes()
        given = [classes.ours(classes.given(each)) for each in messages or () if each is not None]
        await self.inner.add_memory(user_id, given, session_id)

    async def search_memory(
        self, user_id: str, messages: list[Any], filters: Mapping[str, Any] | None = None
    ) -> list[Any]:
        """Return the memories that the last message asks for; `filters` may say `top_k`."""
        await self._ready()
        found = await self._search(user_id, messages, filters)
        if found and self._ttl is not None:
            await self.inner.touch(user_id, idle=self._idle)
        return found

    async def _search(self, user_id: str, messages: object, filters: Mapping[str, Any] | None) -> list[Any]:
        classes = _upstream.classes()
        if not isinstance(messages, list) or not messages or messages[-1] is None:
            return []
        question = classes.ours(classes.given(messages[-1]))
        if question.type != MessageType.MESSAGE:
            return []
        best_first = self._compat == "tablestore"
        top_k = (filters or {}).get("top_k")
        if not isinstance(top_k, int):
            top_k = 100 if best_first else _MOST
        top_k = min(top_k, _MOST)
        if top_k <= 0:
            return []
        if not best_first:
            hits = await self.inner.search(user_id, question, {"top_k": _MOST, "order": "chronological"})
            last = list(islice(filter(self._fits, reversed(hits)), top_k))
            return classes.theirs(hit.message for hit in reversed(last))
        hits = await self.inner.search(user_id, question, {"top_k": top_k})
        best = list(filter(self._fits, hits))
        if len(best) < top_k == len(hits):
            hits = await self.inner.search(user_id, question, {"top_k": _MOST})
            best = list(islice(filter(self._fits, hits), top_k))
        return classes.theirs(hit.message for hit in best)

    def _fits(self, hit: MemoryHit) -> bool:
        """Whether the runtime would have found it: no call, and not for what was said beside it alone."""
        if hit.message.type != MessageType.MESSAGE:
            return False
        highlighter = hit.highlighter
        if not self._by_words or not isinstance(highlighter, Highlighter):
            return True
        return highlighter.fits(speaker_and_text(hit.message), hit.time)

    async def list_memory(self, user_id: str, filters: Mapping[str, Any] | None = None) -> list[Any]:
        """Return a page of a user's memories: `page_num` from 1, `page_size` 10."""
        await self._ready()
        wanted = {name: value for name, value in (filters or {}).items() if name in ("page_num", "page_size")}
        found = await self.inner.list_memory(user_id, wanted)
        if found and self._ttl is not None:
            await self.inner.touch(user_id, idle=self._idle)
        return _upstream.classes().theirs(found)

    async def delete_memory(self, user_id: str, session_id: str | None = None) -> None:
        """Delete the memories of a session, or all of a user."""
        await self._ready()
        await self.inner.delete_memory(user_id, session_id or None)

    async def delete_user_memory(self, user_id: str) -> None:
        """Delete all memories of a user."""
        await self.delete_memory(user_id)

    async def clear_all_memory(self) -> None:
        """Delete the memories of all users, one user after the other."""
        await self._ready()
        users = repositories.PostgresUserService(database=self._shared.database)
        cursor: str | None = None
        while True:
            page = await users.list_users(limit=_MOST, cursor=cursor)
            for user in page:
                await self.inner.delete_memory(user.id)
            cursor = page.next_cursor
            if cursor is None:
                return


class PostgresStateService(_Service):
    """The runtime's StateService."""

    _KIND = "agent_state.state_service.StateService"

    def _open(self) -> None:
        self.inner = repositories.PostgresStateService(
            database=self._shared.database, settings=_with_ttl(self._settings, state_ttl=self._ttl)
        )
        """The service behind it, with agentstore's own calls and classes."""

    async def save_state(
        self, user_id: str, state: Mapping[str, Any], session_id: str | None = None, round_id: int | None = None
    ) -> int:
        """Save a state as the next round, or into the one that is given; return which."""
        await self._ready()
        return await self.inner.save_state(user_id, state, session_id, round_id)

    async def export_state(
        self, user_id: str, session_id: str | None = None, round_id: int | None = None
    ) -> dict[str, Any] | None:
        """Return the state of a round, or of the highest."""
        await self._ready()
        state = await self.inner.export_state(user_id, session_id, round_id)
        if state is not None and self._ttl is not None:
            await self.inner.touch(user_id, session_id, idle=self._idle)
        return state


class PostgresSandboxService:
    """The runtime's SandboxService, whose `connect` and `release` wait, and are not awaited.

    They may be called in any thread, also where an event loop runs, which they block meanwhile, as the runtime's do.
    What they do is done by an event loop in a thread of this service's own, with connections of its own, so that it
    takes no connection of the other services'. A session's sandboxes are registered in the database: every replica
    that connects gets the same ones. Which those are, and what ends them, says :class:`agentstore.SandboxService`.
    """

    _KIND = "sandbox.sandbox_service.SandboxService"

    def __init__(
        self,
        dsn: str | None = None,
        pool_size: int | str | None = None,
        *,
        base_url: str | None = None,
        bearer_token: str | SecretStr | None = None,
        provider: SandboxProvider | str | None = None,
        drain_on_stop: bool | str = True,
        settings: Settings | None = None,
        **options: Any,
    ) -> None:
        """`base_url` is a sandbox server's, which `bearer_token` opens; without one `provider` makes sandboxes here.

        That is a SandboxProvider or the name of one: see :class:`agentstore.PostgresSandboxService`. One that is given
        belongs to this service, which uses it on its own event loop, and stops it. `stop` ends the sandboxes that
        this service has made, unless `drain_on_stop` is false. All but the first may be strings, as they are in the
        environment, where an empty one is as none.

        Raises:
            NotConfigured: no database is named, there is no such provider, or an option is not known or cannot be read.
        """
        if unknown := sorted(options.keys() - _ELSEWHERE):
            raise NotConfigured(f"{type(self).__name__} has no option {', '.join(map(repr, unknown))}")
        settings = settings or Settings()
        size = _number(pool_size, "pool_size")
        self._settings = settings if size is None else settings.model_copy(update={"pool_size": size})
        self._dsn = dsn or None
        self._base_url, self._bearer_token = base_url or None, bearer_token or None
        self._provider = provider or None
        self._drain = _flag(drain_on_stop, "drain_on_stop")
        self._is_stopped = False
        self._lock = threading.Lock()
        self._thread: LoopThread | None = None
        self._inner = self._made()
        _upstream.be_one(type(self), self._KIND)

    async def start(self) -> None:
        """Connect, check the schema, and see that sandboxes can be made here. Not needed: the first call does it.

        Raises:
            SandboxUnavailable: they cannot; the message says what to install.
        """
        thread = self._begun(again=True)
        await thread.call_async(self._inner.start())

    async def stop(self) -> None:
        """End the sandboxes that this service has made, unless it was told to leave them, and all that is open."""
        with self._lock:
            thread, self._thread = self._thread, None
            self._is_stopped = True
        if thread is None or not thread.is_of_this_process:
            return
        try:
            await thread.call_async(self._end())
        finally:
            await asyncio.to_thread(thread.close)

    async def health(self) -> bool:
        """Return whether the database answers now. False before start and after stop; never raises."""
        thread = self._thread
        if thread is None or not thread.is_of_this_process:
            return False
        try:
            return await thread.call_async(self._inner.health())
        except Closed:
            return False

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> bool:
        await self.stop()
        return False

    def connect(
        self, session_id: str, user_id: str | None = None, sandbox_types: Sequence[Any] | None = None
    ) -> list[Sandbox]:
        """Return a session's sandboxes of these types, "base" if none are named; those that are not there are made."""
        thread = self._begun()
        found = thread.call(self._inner.connect(session_id, user_id, sandbox_types))
        return [Sandbox(thread, each) for each in found]

    def release(self, session_id: str, user_id: str | None = None) -> bool:
        """End a session's sandboxes, whoever made them. True, also if there are none."""
        self._begun().call(self._inner.release(session_id, user_id))
        return True

    def _made(self) -> repositories.PostgresSandboxService:
        return repositories.PostgresSandboxService(
            self._dsn,
            base_url=self._base_url,
            bearer_token=self._bearer_token,
            provider=self._provider,
            drain_on_stop=self._drain,
            settings=self._settings,
        )

    def _begun(self, *, again: bool = False) -> LoopThread:
        """Return the thread, which is begun if there is none; after a stop only `again`."""
        with self._lock:
            if self._is_stopped and not again:
                raise Closed(f"the {type(self).__name__} was stopped: start it again")
            if self._thread is not None and not self._thread.is_of_this_process:
                self._thread, self._inner = None, self._made()  # what it has open is the other process's
            if self._thread is None:
                self._thread = LoopThread("agentstore-sandboxes")
            self._is_stopped = False
            return self._thread

    async def _end(self) -> None:
        try:
            await self._inner.stop()
        finally:
            if self._provider is not None and not isinstance(self._provider, str):
                await self._provider.stop()


SandboxService = PostgresSandboxService
"""Its name in the runtime."""


class SessionHistoryServiceFactory(
    ServiceFactory[PostgresSessionHistoryService | SessionHistoryService], prefix="SESSION_HISTORY_"
):
    """Makes what SESSION_HISTORY_BACKEND names, with the runtime or without it."""


class MemoryServiceFactory(ServiceFactory[PostgresMemoryService | MemoryService], prefix="MEMORY_"):
    """Makes what MEMORY_BACKEND names, with the runtime or without it."""


class StateServiceFactory(ServiceFactory[PostgresStateService | StateService], prefix="STATE_"):
    """Makes what STATE_BACKEND names, with the runtime or without it."""


class SandboxServiceFactory(ServiceFactory[PostgresSandboxService], prefix="SANDBOX_", default="default"):
    """Makes what SANDBOX_BACKEND names, with the runtime or without it; its default is on Postgres, too."""


SessionHistoryServiceFactory.register_backend(
    "in_memory", lambda: InMemorySessionHistoryService(missing_session="create")
)
SessionHistoryServiceFactory.register_backend("postgres", PostgresSessionHistoryService)
MemoryServiceFactory.register_backend("in_memory", lambda: InMemoryMemoryService())
MemoryServiceFactory.register_backend("postgres", PostgresMemoryService)
StateServiceFactory.register_backend("in_memory", lambda: InMemoryStateService())
StateServiceFactory.register_backend("postgres", PostgresStateService)
SandboxServiceFactory.register_backend("default", PostgresSandboxService)
SandboxServiceFactory.register_backend("postgres", PostgresSandboxService)


def register() -> None:
    """Make `postgres` a backend of the runtime's own factories, of those that can be imported.

    They understand SESSION_HISTORY_BACKEND=postgres then, with SESSION_HISTORY_POSTGRES_DSN, _POOL_SIZE and the other
    options of the class, and MEMORY_, STATE_ and SANDBOX_ in its place. Its MemoryServiceFactory can be imported only
    where mem0 and reme_ai are installed; ours reads the same variables.

    Raises:
        NotConfigured: there is no AgentScope Runtime with these services here: they went with its 1.1.
    """
    services: tuple[tuple[str, Any], ...] = (
        ("session_history.session_history_service_factory.SessionHistoryServiceFactory", PostgresSessionHistoryService),
        ("memory.memory_service_factory.MemoryServiceFactory", PostgresMemoryService),
        ("agent_state.state_service_factory.StateServiceFactory", PostgresStateService),
        ("sandbox.sandbox_service_factory.SandboxServiceFactory", PostgresSandboxService),
    )
    known = False
    for name, service in services:
        factory = _upstream.service_class(name)
        if factory is not None:
            factory.register_backend("postgres", service)
            _upstream.be_one(service, service._KIND)
            known = True
    if not known:
        raise NotConfigured(
            "No AgentScope Runtime with session, memory and state services can be imported: 1.0 has them. The "
            "factories of agentstore.adapters.agentscope_runtime read the same variables without it."
        )


def _number(value: int | str | None, name: str) -> int | None:
    """Return a number from 1, which may come from the environment."""
    if value is None:
        return None
    number = int(value) if isinstance(value, str) and value.strip().isdecimal() else value
    if isinstance(number, bool) or not isinstance(number, int) or not 0 < number < 2**31:
        raise NotConfigured(f"{name} must be a whole number from 1, not {value!r}")
    return number


def _flag(value: bool | str, name: str) -> bool:
    """Return a truth, which may come from the environment."""
    found = {"true": True, "1": True, "false": False, "0": False}.get(str(value).strip().lower())
    if found is None:
        raise NotConfigured(f"{name} must be true or false, not {value!r}")
    return found


def _with_ttl(settings: Settings, **ttl: int | None) -> Settings:
    """Return the settings with the time that something is kept, if one is given."""
    return settings.model_copy(update={name: value for name, value in ttl.items() if value is not None})
