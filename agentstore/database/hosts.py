"""Connecting to one of the hosts that a database URL names."""

from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg

Address = tuple[str, int]
"""A host name, IP address or socket directory, and a port."""

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


class Hosts:
    """Opens connections to the first of several hosts that accepts one and matches ``target_session_attrs``.

    The host that accepted the last connection is tried first, then the others in the order of the URL. Each has the
    whole timeout: a host that does not answer leaves the next one as much time as it had itself.
    """

    def __init__(
        self, addresses: Sequence[Address], arguments: Mapping[str, Any], *, timeout: float, target: str
    ) -> None:
        """Prepare to connect.

        Args:
            addresses: the hosts; if there are none, the driver looks for a local server.
            arguments: the driver's arguments, without those that are given here.
            timeout: seconds that an attempt to connect to one host may take.
            target: the value of ``target_session_attrs``.
        """
        self._addresses = list(addresses)
        self._arguments = arguments
        self._timeout = timeout
        self._target = target
        self._last_good: Address | None = None

    async def connect(self) -> asyncpg.Connection:
        """Open a connection.

        Raises:
            NoHostAvailable: there are several hosts, and none of them could be used.
            OSError, asyncpg.PostgresError, asyncpg.InterfaceError: the only host failed, or a login was rejected.
        """
        if len(self._addresses) < 2:
            return await self._attempt(self._addresses, self._target)
        failures: dict[Address, Exception] = {}
        candidates = sorted(self._addresses, key=lambda address: address != self._last_good)
        # prefer-standby, as in libpq: a standby, or if there is none, any host.
        for target in ("standby", "any") if self._target == "prefer-standby" else (self._target,):
            for address in candidates:
                try:
                    connection = await self._attempt([address], target)
                except _TRY_NEXT_HOST as error:
                    failures[address] = error
                else:
                    self._last_good = address
                    return connection
            candidates = [
                address
                for address in candidates
                if isinstance(failures[address], asyncpg.TargetServerAttributeNotMatched)
            ]
        raise NoHostAvailable(failures, self._target)

    async def _attempt(self, addresses: Sequence[Address], target: str) -> asyncpg.Connection:
        arguments: dict[str, Any] = {
            **self._arguments,
            "host": [host for host, _ in addresses] or None,
            "port": [port for _, port in addresses] or None,
            "target_session_attrs": target,
            "timeout": self._timeout,
        }
        return await asyncpg.connect(**arguments)
