"""The services without a database: for tests, and as the reference that the Postgres ones are held against."""

from agentstore.inmemory.memory import InMemoryMemoryService
from agentstore.inmemory.sandboxes import InMemorySandboxService
from agentstore.inmemory.sessions import InMemorySessionHistoryService
from agentstore.inmemory.states import InMemoryStateService

__all__ = [
    "InMemoryMemoryService",
    "InMemorySandboxService",
    "InMemorySessionHistoryService",
    "InMemoryStateService",
]
