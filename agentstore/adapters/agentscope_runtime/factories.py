"""Create services by the name of their backend, from the environment, as AgentScope Runtime's factories do."""

import os
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

from agentstore.adapters.agentscope_runtime.memory import PostgresMemoryService
from agentstore.adapters.agentscope_runtime.sandboxes import PostgresSandboxService
from agentstore.adapters.agentscope_runtime.sessions import PostgresSessionHistoryService
from agentstore.adapters.agentscope_runtime.states import PostgresStateService
from agentstore.adapters.agentscope_runtime.upstream import register_subclass, service_class
from agentstore.errors import NotConfigured
from agentstore.inmemory import InMemoryMemoryService, InMemorySessionHistoryService, InMemoryStateService
from agentstore.interfaces import MemoryService, SessionHistoryService, StateService

S = TypeVar("S")


class ServiceFactory(Generic[S]):
    """Creates the service of the backend that {PREFIX}BACKEND names, or of the default backend.

    Options are the environment variables {PREFIX}{BACKEND}_{OPTION}, as strings, and keyword arguments, which take
    precedence.
    """

    _prefix: ClassVar[str]
    _default: ClassVar[str]
    _backends: ClassVar[dict[str, Callable[..., Any]]]

    def __init_subclass__(cls, *, prefix: str, default: str = "in_memory") -> None:
        cls._prefix = prefix
        cls._default = default
        cls._backends = {}

    @classmethod
    def register_backend(cls, backend_type: str, constructor: Callable[..., S]) -> None:
        """Register a backend under a name, which is case-insensitive."""
        cls._backends[backend_type.lower()] = constructor

    @classmethod
    async def create(cls, backend_type: str | None = None, **options: Any) -> S:
        """Create a service, without starting it.

        Raises:
            NotConfigured: the backend is unknown, or does not accept an option.
        """
        name = (backend_type or os.environ.get(f"{cls._prefix}BACKEND") or cls._default).lower()
        constructor = cls._backends.get(name)
        if constructor is None:
            raise NotConfigured(f"{cls._prefix}BACKEND must be one of {', '.join(cls._backends)}, got {name!r:.80}")
        prefix = f"{cls._prefix}{name.upper()}_"
        from_environment = {
            variable.removeprefix(prefix).lower(): value
            for variable, value in os.environ.items()
            if variable.startswith(prefix)
        }
        try:
            service: S = constructor(**{**from_environment, **options})
        except TypeError as error:
            raise NotConfigured(f"the backend {name!r} does not accept these options: {error}") from error
        return service


class SessionHistoryServiceFactory(
    ServiceFactory[PostgresSessionHistoryService | SessionHistoryService], prefix="SESSION_HISTORY_"
):
    """Creates the service that SESSION_HISTORY_BACKEND names, whether the runtime is installed or not."""


class MemoryServiceFactory(ServiceFactory[PostgresMemoryService | MemoryService], prefix="MEMORY_"):
    """Creates the service that MEMORY_BACKEND names, whether the runtime is installed or not."""


class StateServiceFactory(ServiceFactory[PostgresStateService | StateService], prefix="STATE_"):
    """Creates the service that STATE_BACKEND names, whether the runtime is installed or not."""


class SandboxServiceFactory(ServiceFactory[PostgresSandboxService], prefix="SANDBOX_", default="default"):
    """Creates the service that SANDBOX_BACKEND names. The default backend is on Postgres, too."""


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
    """Register the backend `postgres` with those of the runtime's own factories that can be imported.

    They then accept SESSION_HISTORY_BACKEND=postgres, with SESSION_HISTORY_POSTGRES_DSN, _POOL_SIZE and the other
    options of the class, and likewise MEMORY_, STATE_ and SANDBOX_. The runtime's MemoryServiceFactory can only be
    imported if mem0 and reme_ai are installed; agentstore's reads the same variables.

    Raises:
        NotConfigured: AgentScope Runtime is not installed, or has no such services: 1.1 removed them.
    """
    services: tuple[tuple[str, Any], ...] = (
        ("session_history.session_history_service_factory.SessionHistoryServiceFactory", PostgresSessionHistoryService),
        ("memory.memory_service_factory.MemoryServiceFactory", PostgresMemoryService),
        ("agent_state.state_service_factory.StateServiceFactory", PostgresStateService),
        ("sandbox.sandbox_service_factory.SandboxServiceFactory", PostgresSandboxService),
    )
    is_registered = False
    for name, service in services:
        factory = service_class(name)
        if factory is not None:
            factory.register_backend("postgres", service)
            register_subclass(service, service.UPSTREAM_NAME)
            is_registered = True
    if not is_registered:
        raise NotConfigured(
            "No AgentScope Runtime with session, memory and state services can be imported: install 1.0. The "
            "factories in agentstore.adapters.agentscope_runtime read the same variables without it."
        )
