"""The services without a database: for tests, and as the reference that the Postgres ones are held against."""

from agentstore.inmemory.memory import InMemoryMemoryService
from agentstore.inmemory.session_history import InMemorySessionHistoryService

__all__ = ["InMemoryMemoryService", "InMemorySessionHistoryService"]
