"""Interfaces of the services: AgentScope Runtime's names and signatures, as abstract base classes.

The contract suites in ``agentstore.testing`` test what each method promises beyond its signature; run them on an
implementation of your own.
"""

from agentstore.interfaces.memory import Extractor, MemoryService
from agentstore.interfaces.sandboxes import Sandbox, SandboxProvider, SandboxService
from agentstore.interfaces.service import Service, ServiceWithLifecycleManager
from agentstore.interfaces.sessions import SessionHistoryService
from agentstore.interfaces.states import StateService

__all__ = [
    "Extractor",
    "MemoryService",
    "Sandbox",
    "SandboxProvider",
    "SandboxService",
    "Service",
    "ServiceWithLifecycleManager",
    "SessionHistoryService",
    "StateService",
]
