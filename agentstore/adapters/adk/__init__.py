"""The session, memory and artifact services for Google's Agent Development Kit (google-adk) on agentstore.

::

    from agentstore.adapters.adk import AgentStoreArtifactService, AgentStoreMemoryService, AgentStoreSessionService

    services = {
        "session_service": AgentStoreSessionService(store),
        "memory_service": AgentStoreMemoryService(store),
        "artifact_service": AgentStoreArtifactService(store),
    }
    runner = Runner(app_name="weather", agent=agent, **services)

Events are stored as ordinary Messages, and the state as scoped values, so that every other part of agentstore can read
them. Importing this package imports google-adk.
"""

from agentstore.adapters.adk.artifacts import AgentStoreArtifactService
from agentstore.adapters.adk.memory import AgentStoreMemoryService
from agentstore.adapters.adk.sessions import AgentStoreSessionService
from agentstore.adapters.adk.uris import artifact_service, memory_service, register, session_service
from agentstore.adapters.stores import Store

__all__ = [
    "AgentStoreArtifactService",
    "AgentStoreMemoryService",
    "AgentStoreSessionService",
    "Store",
    "artifact_service",
    "memory_service",
    "register",
    "session_service",
]
