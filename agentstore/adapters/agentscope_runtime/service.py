"""The base class of the session, memory and state services: options, shared pool, lifecycle."""

from typing import Any, ClassVar, Literal, Self, get_args

from agentstore.adapters.agentscope_runtime.options import Compat, check_options, parse_number
from agentstore.adapters.agentscope_runtime.upstream import register_subclass
from agentstore.adapters.shared_database import shared_database
from agentstore.errors import Closed, NotConfigured
from agentstore.settings import Settings, settings_from_environment


class PostgresService:
    """A service on the shared pool of its database, which starts at its first call."""

    UPSTREAM_NAME: ClassVar[str]
    """The runtime's abstract class below ``engine.services``, of which this class becomes a virtual subclass."""

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
        """Create a service, without connecting. Numbers may be strings, as in environment variables.

        Args:
            dsn: the database URL; default: AGENTSTORE_DATABASE_URL.
            pool_size: the maximum number of connections. All services of a database share one pool, whose size is the
                largest that any of them requests before the first is started.
            compat: the runtime's implementation whose behavior to follow where they differ.
            ttl_seconds: time to live in seconds after the last write or read; default: no expiry.
            max_messages_per_session: how many of a session's last messages are returned; default: all.
            settings: default: from the environment.
            options: connection options of the runtime's other implementations, which are ignored.

        Raises:
            NotConfigured: no database is configured, or an option is unknown or invalid.
        """
        check_options(type(self), options)
        if compat not in get_args(Compat):
            raise NotConfigured(f"compat must be one of {', '.join(get_args(Compat))}, got {compat!r:.80}")
        self._compat = compat
        self._ttl = parse_number(ttl_seconds, "ttl_seconds")
        self._max_messages = parse_number(max_messages_per_session, "max_messages_per_session")
        self._settings = settings or settings_from_environment()
        self._shared = shared_database(dsn, self._settings, parse_number(pool_size, "pool_size"))
        self._state: Literal["new", "started", "stopped"] = "new"
        self._open()
        register_subclass(type(self), self.UPSTREAM_NAME)

    def _open(self) -> None:
        """Create the wrapped agentstore service."""

    async def start(self) -> None:
        """Connect, and check the schema. Optional: the first call does it."""
        await self._shared.acquire(self)
        self._state = "started"

    async def stop(self) -> None:
        """Stop the service; the last service of a database closes its connections."""
        self._state = "stopped"
        await self._shared.release(self)

    async def health(self) -> bool:
        """Return whether the database answers. False before start and after stop; never raises."""
        return self._state == "started" and await self._shared.database.health()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> bool:
        await self.stop()
        return False

    @property
    def _touch_interval(self) -> int:
        """Seconds since the last write after which a read counts as a write: a tenth of the time to live."""
        return (self._ttl or 0) // 10

    async def _ensure_started(self) -> None:
        if self._state == "stopped":
            raise Closed(f"the {type(self).__name__} was stopped: start it again")
        if self._state == "new":
            await self.start()
