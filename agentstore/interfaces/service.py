"""The lifecycle of services."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


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


class ServiceWithLifecycleManager(Service):
    """A service that ``async with`` starts and stops."""

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
