"""The interfaces of the services: AgentScope Runtime's names and signatures, as abstract base classes of our own.

What each call promises beyond its signature is proved by the contract tests in ``agentstore.testing``.
"""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self


class Service(ABC):
    """What every service can do."""

    @abstractmethod
    async def start(self) -> None:
        """Make the service ready. Idempotent, and not needed: the first call starts it."""

    @abstractmethod
    async def stop(self) -> None:
        """Release what the service holds. A call after it raises Closed, until start() is called."""

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
