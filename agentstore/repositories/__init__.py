"""The services on Postgres, with all SQL statements of agentstore.

A service is imported when it is first used (PEP 562): connecting to a database loads none of them.
"""

from typing import TYPE_CHECKING

from agentstore.lazy_imports import defined_in, lazy_attributes

if TYPE_CHECKING:
    from agentstore.repositories.blobs import PostgresBlobService
    from agentstore.repositories.checkpoints.service import PostgresCheckpointService
    from agentstore.repositories.memory.documents import PostgresDocumentService
    from agentstore.repositories.memory.service import PostgresMemoryService
    from agentstore.repositories.sandboxes.service import PostgresSandboxService
    from agentstore.repositories.sessions.service import PostgresSessionHistoryService
    from agentstore.repositories.states import PostgresStateService
    from agentstore.repositories.users import PostgresUserService

__all__ = [
    "PostgresBlobService",
    "PostgresCheckpointService",
    "PostgresDocumentService",
    "PostgresMemoryService",
    "PostgresSandboxService",
    "PostgresSessionHistoryService",
    "PostgresStateService",
    "PostgresUserService",
]

# Where each name of __all__ is defined.
_NAMES = {
    "agentstore.repositories.blobs": "PostgresBlobService",
    "agentstore.repositories.memory.documents": "PostgresDocumentService",
    "agentstore.repositories.checkpoints.service": "PostgresCheckpointService",
    "agentstore.repositories.memory.service": "PostgresMemoryService",
    "agentstore.repositories.sandboxes.service": "PostgresSandboxService",
    "agentstore.repositories.sessions.service": "PostgresSessionHistoryService",
    "agentstore.repositories.states": "PostgresStateService",
    "agentstore.repositories.users": "PostgresUserService",
}
_DEFINED_IN = defined_in(_NAMES)

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_attributes(__name__, _DEFINED_IN)
