"""The services on Postgres, with all SQL statements of agentstore."""

from agentstore.repositories.memory.service import PostgresMemoryService
from agentstore.repositories.sandboxes.service import PostgresSandboxService
from agentstore.repositories.sessions.service import PostgresSessionHistoryService
from agentstore.repositories.states import PostgresStateService
from agentstore.repositories.users import PostgresUserService

__all__ = [
    "PostgresMemoryService",
    "PostgresSandboxService",
    "PostgresSessionHistoryService",
    "PostgresStateService",
    "PostgresUserService",
]
