"""The lifecycle of services."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from agentstore.errors import Closed


class Service(ABC):
    """The lifecycle methods of every service."""

    @abstractmethod
    async def start(self) -> None:
        """Make the service ready. Idempotent, and optional: the first call starts the service."""

    @abstractmethod
    async def stop(self) -> None:
        """Release the resources of the service. Later calls raise Closed, until start() is called."""

    @abstractmethod
    async def health(self) -> bool:
        """Return whether the service works now. False before start and after stop; never raises."""


class StopInProgress:
    """Lets a start wait for stops in progress, which would otherwise stop what the start has just begun to use."""

    def __init__(self) -> None:
        self._began = 0
        self._in_progress: set[asyncio.Future[None]] = set()

    @contextmanager
    def during(self) -> Iterator[None]:
        """Mark a stop as in progress during the block."""
        done = asyncio.get_running_loop().create_future()
        self._began += 1
        self._in_progress.add(done)
        try:
            yield
        finally:
            self._in_progress.discard(done)
            done.set_result(None)

    async def wait(self) -> None:
        """Wait for the stops that are in progress in this event loop.

        Raises:
            Closed: another stop began meanwhile.
        """
        loop, began = asyncio.get_running_loop(), self._began
        if in_progress := [done for done in self._in_progress if done.get_loop() is loop]:
            await asyncio.wait(in_progress)
            if self._began != began:
                raise Closed("The service was stopped while it was starting: call start() to use it again.")


class ServiceWithLifecycleManager(Service):
    """A service that ``async with`` starts and stops."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
