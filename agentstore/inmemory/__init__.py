"""In-memory services: for tests of applications, and as the reference for the tests of the Postgres services."""

from agentstore.inmemory.blobs import InMemoryBlobService
from agentstore.inmemory.checkpoints import InMemoryCheckpointService
from agentstore.inmemory.documents import InMemoryDocumentService
from agentstore.inmemory.memory import InMemoryMemoryService
from agentstore.inmemory.sandboxes import InMemorySandboxService
from agentstore.inmemory.sessions import InMemorySessionHistoryService
from agentstore.inmemory.states import InMemoryStateService
from agentstore.inmemory.users import InMemoryUserService

__all__ = [
    "InMemoryBlobService",
    "InMemoryCheckpointService",
    "InMemoryDocumentService",
    "InMemoryMemoryService",
    "InMemorySandboxService",
    "InMemorySessionHistoryService",
    "InMemoryStateService",
    "InMemoryUserService",
]
