"""The services without a database: for tests, and as the reference that the Postgres ones are held against."""

from agentstore.inmemory.memory import InMemoryMemoryService
from agentstore.inmemory.sandbox import InMemorySandboxService
from agentstore.inmemory.session_history import InMemorySessionHistoryService
from agentstore.inmemory.state import InMemoryStateService

__all__ = [
    "InMemoryMemoryService",
    "InMemorySandboxService",
    "InMemorySessionHistoryService",
    "InMemoryStateService",
]
