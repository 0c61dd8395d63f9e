"""Recognition of connections that lead to a server that no longer accepts writes."""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

import asyncpg

from agentstore.database.errors import CONNECT_ERRORS
from agentstore.errors import AgentStoreError

_log = logging.getLogger(__name__)

ACCEPTS_WRITES = "SELECT current_setting('transaction_read_only') = 'off'"
"""False on a standby, and where writes are turned off."""

# Seconds between two checks of whether new connections accept writes that an open one has refused as read-only.
_CHECK_INTERVAL = 1.0
# Seconds that a new connection has to answer whether it accepts writes.
_TIMEOUT = 2.0


class Failover:
    """Notices that the open connections of a pool refuse writes, which new ones accept.

    Attributes:
        discard_before: connections that were opened before this time of the monotonic clock are to be discarded.
    """

    def __init__(
        self,
        separate_connection: Callable[[], AbstractAsyncContextManager[asyncpg.Connection]],
        in_background: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        """Discard nothing yet.

        Args:
            separate_connection: opens a connection outside of the pool.
            in_background: begins a task that the pool cancels when it is closed.
        """
        self.discard_before = -math.inf
        self._separate_connection = separate_connection
        self._in_background = in_background
        self._checked_at = -math.inf
        self._checking: asyncio.Task[None] | None = None

    async def discard_read_only(self, opened_at: float) -> bool:
        """Handle a write that was refused as read-only; return whether to retry it on another connection.

        After a failover, open connections lead to a server that no longer accepts writes, and new ones to another
        server: then all open ones are discarded. If new ones refuse writes as well, the database is read-only and all
        stay open: they serve reads. At most one connection per interval is opened to find out.

        Args:
            opened_at: when the connection that refused the write was opened, see :meth:`Pool.opened_at`.
        """
        if opened_at >= self.discard_before:
            if self._checking is None:
                if time.monotonic() - self._checked_at < _CHECK_INTERVAL:
                    return False
                self._checking = self._in_background(self._check())
            await asyncio.wait([self._checking])  # a stop may cancel it, and not the caller
        return opened_at < self.discard_before

    async def _check(self) -> None:
        """Discard all open connections if a new one, outside of the pool, accepts writes."""
        began = time.monotonic()
        try:
            async with self._separate_connection() as driver:
                accepts_writes = await driver.fetchval(ACCEPTS_WRITES, timeout=_TIMEOUT)
        except (AgentStoreError, *CONNECT_ERRORS) as error:
            _log.debug("could not find out whether new connections accept writes: %s", error)
        else:
            if accepts_writes:
                _log.warning("open connections refuse writes, which new ones accept: the open ones are discarded")
                self.discard_before = began
        finally:
            self._checked_at, self._checking = time.monotonic(), None
