"""The services on Postgres. Every statement of agentstore is here."""

from agentstore.repositories.session_history import PostgresSessionHistoryService
from agentstore.repositories.user import PostgresUserService

__all__ = ["PostgresSessionHistoryService", "PostgresUserService"]
