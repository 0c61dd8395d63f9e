"""The services on Postgres. Every statement of agentstore is here."""

from agentstore.repositories.memory import PostgresMemoryService
from agentstore.repositories.sandbox import PostgresSandboxService
from agentstore.repositories.session_history import PostgresSessionHistoryService
from agentstore.repositories.state import PostgresStateService
from agentstore.repositories.user import PostgresUserService

__all__ = [
    "PostgresMemoryService",
    "PostgresSandboxService",
    "PostgresSessionHistoryService",
    "PostgresStateService",
    "PostgresUserService",
]
