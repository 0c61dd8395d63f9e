"""Interfaces of the services: AgentScope Runtime's names and signatures, as abstract base classes.

The contract suites in ``agentstore.testing`` test what each method promises beyond its signature; run them on an
implementation of your own.

Every method treats its arguments by the same rules:

- An id is any text of at most 512 bytes in UTF-8 without NUL, and is compared byte by byte: "" and surrounding
  whitespace count. Anything else raises InvalidContent. Only the id of a new session is changed: ``create_session``,
  and ``new_id`` of a fork, remove surrounding whitespace, and replace a blank id by a UUID.
- A number, such as ``limit`` or ``batch``, is an int and not a bool. Below its minimum it raises InvalidContent; over
  its maximum LimitExceeded, if it is the size of a page or a batch, otherwise InvalidContent.
- None is accepted where the signature says so. As a ``limit`` it means all entries.
- ``stale_ok=True`` allows a read to be executed on a replica of the database (the setting READ_URL), which may lack
  what was written last, by the caller too. Without a replica it has no effect.
"""

from agentstore.interfaces.blobs import BlobService
from agentstore.interfaces.checkpoints import CheckpointService
from agentstore.interfaces.documents import DocumentService
from agentstore.interfaces.memory import Extractor, MemoryService
from agentstore.interfaces.sandboxes import Sandbox, SandboxProvider, SandboxService
from agentstore.interfaces.service import Service, ServiceWithLifecycleManager, StopInProgress
from agentstore.interfaces.sessions import SessionHistoryService
from agentstore.interfaces.states import StateService
from agentstore.interfaces.stores import (
    Store,
    StoreMemoryService,
    StoreSessionHistoryService,
    StoreStateService,
)
from agentstore.interfaces.users import UserService

__all__ = [
    "BlobService",
    "CheckpointService",
    "DocumentService",
    "Extractor",
    "MemoryService",
    "Sandbox",
    "SandboxProvider",
    "SandboxService",
    "Service",
    "ServiceWithLifecycleManager",
    "SessionHistoryService",
    "StateService",
    "StopInProgress",
    "Store",
    "StoreMemoryService",
    "StoreSessionHistoryService",
    "StoreStateService",
    "UserService",
]
