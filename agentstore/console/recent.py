"""What the process of the console remembers for a while: expensive results, statements, reports of browsers."""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from agentstore.database.telemetry import StatementEvent
from agentstore.errors import AgentStoreError

T = TypeVar("T")


@dataclass
class StatementTimes:
    """How often the console executed a statement, and how long that took, in seconds."""

    name: str
    count: int = 0
    total: float = 0.0
    longest: float = 0.0
    failed: int = 0

    @property
    def mean(self) -> float:
        """The mean time of an execution."""
        return self.total / self.count


@dataclass
class Recent:
    """Results that several visitors share, each computed at most once in its time."""

    statements: dict[str, StatementTimes] = field(default_factory=dict)
    reports: deque[str] = field(default_factory=lambda: deque(maxlen=100))
    """Violations of the Content-Security-Policy, as browsers reported them."""
    _results: dict[str, tuple[float, Any]] = field(default_factory=dict)
    _failures: dict[str, tuple[float, AgentStoreError]] = field(default_factory=dict)
    _locks: dict[str, asyncio.Lock] = field(default_factory=dict)

    async def get(self, name: str, seconds: float, compute: Callable[[], Awaitable[T]]) -> T:
        """Return a result that is at most `seconds` old; concurrent callers wait for the same computation.

        If it fails, it fails for all who have waited: one after the other, they would wait for each to time out.
        """
        called_at = time.monotonic()
        async with self._locks.setdefault(name, asyncio.Lock()):
            failed = self._failures.get(name)
            if failed is not None and failed[0] > called_at:
                raise failed[1]
            found = self._results.get(name)
            if found is not None and time.monotonic() - found[0] < seconds:
                result: T = found[1]
                return result
            try:
                result = await compute()
            except AgentStoreError as error:
                self._failures[name] = (time.monotonic(), error)
                raise
            self._results[name] = (time.monotonic(), result)
            return result

    def forget(self) -> None:
        """Compute all results again, after a write."""
        self._results.clear()

    def add_statement(self, event: StatementEvent) -> None:
        """Count an executed statement; the hook ``on_statement`` of a store's telemetry."""
        times = self.statements.setdefault(event.name, StatementTimes(event.name))
        times.count += 1
        times.total += event.duration
        times.longest = max(times.longest, event.duration)
        times.failed += event.error is not None
