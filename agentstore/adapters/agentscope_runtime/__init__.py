"""The services of AgentScope Runtime 1.0 on Postgres, with its names, methods and classes.

To switch, an application changes the line that creates a service::

    from agentstore.adapters.agentscope_runtime import PostgresSessionHistoryService

    service = PostgresSessionHistoryService("postgresql://app@db/agents")

or calls :func:`register` once and sets SESSION_HISTORY_BACKEND=postgres. The services accept and return the runtime's
Session and Message if the runtime is installed, else agentstore's. docs/agentscope-runtime.md lists the differences.
"""

from agentstore.adapters.agentscope_runtime.factories import (
    MemoryServiceFactory,
    SandboxServiceFactory,
    ServiceFactory,
    SessionHistoryServiceFactory,
    StateServiceFactory,
    register,
)
from agentstore.adapters.agentscope_runtime.memory import NoEmbedder, PostgresMemoryService
from agentstore.adapters.agentscope_runtime.options import Compat
from agentstore.adapters.agentscope_runtime.sandbox import Sandbox
from agentstore.adapters.agentscope_runtime.sandboxes import PostgresSandboxService, SandboxService
from agentstore.adapters.agentscope_runtime.sessions import PostgresSessionHistoryService
from agentstore.adapters.agentscope_runtime.states import PostgresStateService

__all__ = [
    "Compat",
    "MemoryServiceFactory",
    "NoEmbedder",
    "PostgresMemoryService",
    "PostgresSandboxService",
    "PostgresSessionHistoryService",
    "PostgresStateService",
    "Sandbox",
    "SandboxService",
    "SandboxServiceFactory",
    "ServiceFactory",
    "SessionHistoryServiceFactory",
    "StateServiceFactory",
    "register",
]
