"""Reads that may be executed on a replica of the database."""

import logging
import math
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from agentstore.errors import NotConfigured, SchemaBehind, StatementFailed, Unavailable

if TYPE_CHECKING:
    from agentstore.database.database import Database

T = TypeVar("T")

_log = logging.getLogger(__name__)

# Seconds between two attempts to use a replica that has failed.
_RETRY_INTERVAL = 10.0
# The replica cannot be reached, has a wrong login, has not replayed a migration yet, or canceled a query for replay.
_FAILURES = (Unavailable, NotConfigured, SchemaBehind, StatementFailed)
# Canceled by an administrator: the primary does not get the query instead.
_QUERY_CANCELED = "57014"


class Replica:
    """A replica, which is used at the first read, and the fallback to the primary while it fails.

    Attributes:
        database: the replica; its connections are in a pool of their own.
    """

    def __init__(self, database: "Database") -> None:
        self.database = database
        self._is_failing = False
        self._retry_at = -math.inf

    @property
    def is_failing(self) -> bool:
        """Whether the last read on the replica failed, and succeeded on the primary."""
        return self._is_failing

    async def read(self, work: "Callable[[Database], Awaitable[T]]", primary: "Database") -> T:
        """Execute `work` on the replica; if that fails, on the primary, and for a while nothing more on the replica.

        A failure is attributed to the replica only if the primary succeeds.
        """
        if (now := time.monotonic()) < self._retry_at:
            return await work(primary)
        if self._is_failing:
            self._retry_at = now + _RETRY_INTERVAL  # other calls do not wait for this one
        try:
            await self.database.start()
            result = await work(self.database)
        except _FAILURES as error:
            if getattr(error.__cause__, "sqlstate", None) == _QUERY_CANCELED:
                raise
            result = await work(primary)
            self._retry_at = time.monotonic() + _RETRY_INTERVAL
            if not self._is_failing:
                self._is_failing = True
                _log.warning("reads with stale_ok are executed on %s for now: %s", primary.where, error)
            return result
        if self._is_failing:
            self._is_failing, self._retry_at = False, -math.inf
            _log.info("reads with stale_ok are executed on %s again", self.database.where)
        return result
