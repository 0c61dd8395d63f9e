"""Connecting to one of the hosts that a database URL names."""

import asyncio
import contextlib
import socket
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

from agentstore.database.links import Link, link_of

Address = tuple[str, int]
"""A host name, IP address or socket directory, and a port."""

CLOSE_TIMEOUT = 2.0
"""Seconds that closing a connection may take before it is aborted."""

# The system's defaults notice a host that has disappeared after two hours if the connection is idle, and after fifteen
# minutes if it is not.
_TCP = {"keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
# The names of the options differ between operating systems; not all systems have all of them.
_TCP_OPTIONS = {
    "keepalives_idle": ("TCP_KEEPIDLE", "TCP_KEEPALIVE"),
    "keepalives_interval": ("TCP_KEEPINTVL",),
    "keepalives_count": ("TCP_KEEPCNT",),
    "tcp_user_timeout": ("TCP_USER_TIMEOUT",),
}

# The server cannot accept a connection now, and another host may: connection exceptions, too_many_connections,
# admin_shutdown, crash_shutdown, cannot_connect_now. A rejected login is not tried elsewhere, as in libpq.
_TRY_NEXT_HOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.TooManyConnectionsError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TargetServerAttributeNotMatched,
)


class NoHostAvailable(ConnectionError):
    """None of the hosts of a URL could be used; the message has the reason for each.

    Attributes:
        sqlstate: the error code of the first host that reported one, or None.
    """

    def __init__(self, failures: Mapping[Address, Exception], target: str) -> None:
        """Describe the failures; `target` is the value of ``target_session_attrs``."""
        super().__init__("; ".join(f"{host}:{port} {_reason(failures[host, port], target)}" for host, port in failures))
        self.sqlstate = next(filter(None, (getattr(error, "sqlstate", None) for error in failures.values())), None)


def _reason(error: Exception, target: str) -> str:
    if isinstance(error, TimeoutError):
        return "did not answer in time"
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return f"is not {target}, as target_session_attrs requires"
    return f"failed: {error}"


class _Connection(asyncpg.Connection):
    """A connection that is closed in a bounded time, also if the network does not deliver anything.

    Attributes:
        link: what the connection belongs to instead of an event loop, or None.
    """

    __slots__ = ("link",)

    link: Link | None

    async def close(self, *, timeout: float | None = None) -> None:
        """Close the connection, and abort it after `timeout` seconds; the default is CLOSE_TIMEOUT."""
        # On a timeout, asyncpg has aborted the connection: it is closed in any case.
        with contextlib.suppress(TimeoutError):
            await super().close(timeout=CLOSE_TIMEOUT if timeout is None else timeout)

    async def set_type_codec(self, typename: str, **options: Any) -> None:
        """Set a codec, unless the connection comes from another event loop, where it got its codecs.

        SQLAlchemy sets the same ones whenever a pool receives a connection, and the driver then forgets all statements
        that the connection has prepared.
        """
        if (link := link_of(self)) is None or not link.is_reused:
            await super().set_type_codec(typename, **options)


def _set_tcp_options(connection: asyncpg.Connection, values: Mapping[str, int]) -> None:
    """Set TCP keepalives and the TCP user timeout of a connection; 0 leaves the system's default, as in libpq."""
    transport: asyncio.Transport = connection._transport  # type: ignore[attr-defined]
    connected = transport.get_extra_info("socket")
    if connected.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, values["keepalives"])
    for name, options in _TCP_OPTIONS.items():
        option = next((getattr(socket, option) for option in options if hasattr(socket, option)), None)
        if option is not None and values[name] > 0 and (values["keepalives"] or name == "tcp_user_timeout"):
            connected.setsockopt(socket.IPPROTO_TCP, option, values[name])


class Hosts:
    """Opens connections to the first of several hosts that accepts one and matches ``target_session_attrs``.

    The host that accepted the last connection is tried first, then the others in the order of the URL; last, a host
    whose connections have become silent. Each has the whole timeout: a host that does not answer leaves the next one as
    much time as it had itself.
    """

    def __init__(
        self,
        addresses: Sequence[Address],
        arguments: Mapping[str, Any],
        *,
        timeout: float,
        target: str,
        tcp: Mapping[str, int],
    ) -> None:
        """Prepare to connect.

        Args:
            addresses: the hosts; if there are none, the driver looks for a local server.
            arguments: the driver's arguments, without those that are given here.
            timeout: seconds that an attempt to connect to one host may take.
            target: the value of ``target_session_attrs``.
            tcp: libpq's ``keepalives``, ``keepalives_idle``, ``keepalives_interval``, ``keepalives_count`` (in seconds)
                and ``tcp_user_timeout`` (in milliseconds), where they differ from the defaults of this module.
        """
        self._addresses = list(addresses)
        self._arguments = arguments
        self._timeout = timeout
        self._target = target
        # A host that acknowledges nothing for as long as an attempt to connect may take is considered unreachable.
        self._tcp = {**_TCP, "tcp_user_timeout": round(timeout * 1000), **tcp}
        self._last_good: Address | None = None
        self._silent: Address | None = None

    def try_others_first(self) -> None:
        """Try the last good host after the others, since a connection to it received no response in time."""
        self._last_good, self._silent = None, self._last_good or self._silent

    async def __call__(self, *, link: Link | None = None) -> asyncpg.Connection:
        """Open a connection; with a link, one that may pass to other event loops.

        Raises:
            NoHostAvailable: there are several hosts, and none of them could be used.
            OSError, asyncpg.PostgresError, asyncpg.InterfaceError: the only host failed, or a login was rejected.
        """
        if len(self._addresses) < 2:
            return await self._attempt(self._addresses, self._target, link)
        failures: dict[Address, Exception] = {}
        order = {self._last_good: 0, self._silent: 2}
        candidates = sorted(self._addresses, key=lambda address: order.get(address, 1))
        # prefer-standby, as in libpq: a standby, or if there is none, any host.
        for target in ("standby", "any") if self._target == "prefer-standby" else (self._target,):
            for address in candidates:
                try:
                    connection = await self._attempt([address], target, link)
                except _TRY_NEXT_HOST as error:
                    failures[address] = error
                else:
                    self._last_good, self._silent = address, None
                    return connection
            candidates = [
                address
                for address in candidates
                if isinstance(failures[address], asyncpg.TargetServerAttributeNotMatched)
            ]
        raise NoHostAvailable(failures, self._target)

    async def _attempt(self, addresses: Sequence[Address], target: str, link: Link | None) -> asyncpg.Connection:
        arguments: dict[str, Any] = {
            **self._arguments,
            "host": [host for host, _ in addresses] or None,
            "port": [port for _, port in addresses] or None,
            "target_session_attrs": target,
            "timeout": self._timeout,
            "connection_class": _Connection,
        }
        if link is not None:
            # Without timers for its statements, an idle connection has nothing in the event loop that it leaves.
            arguments |= {"loop": link, "max_cached_statement_lifetime": 0}
        connection: asyncpg.Connection = await asyncpg.connect(**arguments)
        assert isinstance(connection, _Connection)  # noqa: S101
        connection.link = link
        if link is not None:
            link.opened(connection._transport)  # type: ignore[attr-defined]
        _set_tcp_options(connection, self._tcp)
        return connection
