"""Sessions, memory and state of AI agents, kept on Postgres."""

__version__ = "0.1.0"

from agentstore.embedded import EmbeddedPostgres
from agentstore.errors import (
    AgentStoreError,
    AlreadyExists,
    Closed,
    Conflict,
    InvalidContent,
    LimitExceeded,
    NotConfigured,
    NotFound,
    PoolTimeout,
    SchemaAhead,
    SchemaBehind,
    StatementFailed,
    Unavailable,
    UnknownOutcome,
)
from agentstore.inmemory import InMemorySessionHistoryService
from agentstore.interfaces import (
    MemoryService,
    Service,
    ServiceWithLifecycleManager,
    SessionHistoryService,
    StateService,
)
from agentstore.repositories import PostgresSessionHistoryService, PostgresUserService
from agentstore.schemas import (
    AudioContent,
    ContentType,
    DataContent,
    Deleted,
    Error,
    FileContent,
    ImageContent,
    Message,
    MessageType,
    Page,
    RefusalContent,
    Role,
    RunStatus,
    Session,
    TextContent,
    User,
)
from agentstore.settings import Settings
from agentstore.store import AgentStore

__all__ = [
    "AgentStore",
    "AgentStoreError",
    "AlreadyExists",
    "AudioContent",
    "Closed",
    "Conflict",
    "ContentType",
    "DataContent",
    "Deleted",
    "EmbeddedPostgres",
    "Error",
    "FileContent",
    "ImageContent",
    "InMemorySessionHistoryService",
    "InvalidContent",
    "LimitExceeded",
    "MemoryService",
    "Message",
    "MessageType",
    "NotConfigured",
    "NotFound",
    "Page",
    "PoolTimeout",
    "PostgresSessionHistoryService",
    "PostgresUserService",
    "RefusalContent",
    "Role",
    "RunStatus",
    "SchemaAhead",
    "SchemaBehind",
    "Service",
    "ServiceWithLifecycleManager",
    "Session",
    "SessionHistoryService",
    "Settings",
    "StateService",
    "StatementFailed",
    "TextContent",
    "Unavailable",
    "UnknownOutcome",
    "User",
]
