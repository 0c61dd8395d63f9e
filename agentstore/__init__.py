"""Sessions, memory, state and sandboxes of AI agents, stored in Postgres.

A public name is imported from the module that defines it when it is first used (PEP 562), so that ``from agentstore
import Message`` loads pydantic and no database driver. Type checkers and editors read the imports below.
"""

from typing import TYPE_CHECKING

from agentstore.lazy_imports import defined_in, lazy_attributes

__version__ = "0.1.0"

if TYPE_CHECKING:
    from agentstore import migrating as migrate
    from agentstore.database.telemetry import StatementEvent, Telemetry, TelemetryEvent
    from agentstore.embedded.postgres import EmbeddedPostgres
    from agentstore.errors import (
        AgentStoreError,
        AlreadyExists,
        Closed,
        Conflict,
        EmbeddingFailed,
        ExtractionFailed,
        InvalidContent,
        LimitExceeded,
        NotConfigured,
        NotFound,
        PoolTimeout,
        ReadOnly,
        RerankingFailed,
        Retryable,
        SandboxElsewhere,
        SandboxFailed,
        SandboxLost,
        SandboxUnavailable,
        SchemaAhead,
        SchemaBehind,
        StatementFailed,
        StatementTimeout,
        Unavailable,
        UnknownOutcome,
        UnreadableRow,
    )
    from agentstore.inmemory import (
        InMemoryBlobService,
        InMemoryCheckpointService,
        InMemoryDocumentService,
        InMemoryMemoryService,
        InMemorySandboxService,
        InMemorySessionHistoryService,
        InMemoryStateService,
        InMemoryUserService,
    )
    from agentstore.inmemory_store import InMemoryStore
    from agentstore.interfaces import (
        BlobService,
        CheckpointService,
        DocumentService,
        Extractor,
        MemoryService,
        Sandbox,
        SandboxProvider,
        SandboxService,
        Service,
        ServiceWithLifecycleManager,
        SessionHistoryService,
        StateService,
        Store,
        StoreMemoryService,
        StoreSessionHistoryService,
        StoreStateService,
        UserService,
    )
    from agentstore.repositories import (
        PostgresBlobService,
        PostgresCheckpointService,
        PostgresDocumentService,
        PostgresMemoryService,
        PostgresSandboxService,
        PostgresSessionHistoryService,
        PostgresStateService,
        PostgresUserService,
    )
    from agentstore.schemas import (
        Appended,
        AudioContent,
        Blob,
        BlobData,
        ContentType,
        DataContent,
        Deleted,
        Embedder,
        Error,
        Extracted,
        Extraction,
        FailedExtraction,
        FileContent,
        ImageContent,
        Imported,
        ListFilters,
        MemoryHit,
        MemoryItem,
        Message,
        MessageType,
        Page,
        PendingExtraction,
        PoolStats,
        Pruned,
        QuestionEmbedder,
        RefusalContent,
        Reranker,
        Role,
        RunStatus,
        SandboxInfo,
        SandboxLimits,
        SandboxSpec,
        ScopedValues,
        SearchFilters,
        SearchStrategy,
        Session,
        StateRound,
        Stats,
        StoredDocument,
        StoredMessages,
        TextContent,
        ToolResult,
        User,
        ValueScope,
        register_sandbox_type,
    )
    from agentstore.search.embedding import CallableEmbedder, OpenAIEmbedder, SentenceTransformerEmbedder
    from agentstore.search.extraction import OpenAIExtractor
    from agentstore.search.reranking import CrossEncoderReranker, HttpReranker
    from agentstore.search.static_embedding import StaticEmbedder
    from agentstore.settings import Settings
    from agentstore.store import AgentStore

__all__ = [
    "AgentStore",
    "AgentStoreError",
    "AlreadyExists",
    "Appended",
    "AudioContent",
    "Blob",
    "BlobData",
    "BlobService",
    "CallableEmbedder",
    "CheckpointService",
    "Closed",
    "Conflict",
    "ContentType",
    "CrossEncoderReranker",
    "DataContent",
    "Deleted",
    "DocumentService",
    "EmbeddedPostgres",
    "Embedder",
    "EmbeddingFailed",
    "Error",
    "Extracted",
    "Extraction",
    "ExtractionFailed",
    "Extractor",
    "FailedExtraction",
    "FileContent",
    "HttpReranker",
    "ImageContent",
    "Imported",
    "InMemoryBlobService",
    "InMemoryCheckpointService",
    "InMemoryDocumentService",
    "InMemoryMemoryService",
    "InMemorySandboxService",
    "InMemorySessionHistoryService",
    "InMemoryStateService",
    "InMemoryStore",
    "InMemoryUserService",
    "InvalidContent",
    "LimitExceeded",
    "ListFilters",
    "MemoryHit",
    "MemoryItem",
    "MemoryService",
    "Message",
    "MessageType",
    "NotConfigured",
    "NotFound",
    "OpenAIEmbedder",
    "OpenAIExtractor",
    "Page",
    "PendingExtraction",
    "PoolStats",
    "PoolTimeout",
    "PostgresBlobService",
    "PostgresCheckpointService",
    "PostgresDocumentService",
    "PostgresMemoryService",
    "PostgresSandboxService",
    "PostgresSessionHistoryService",
    "PostgresStateService",
    "PostgresUserService",
    "Pruned",
    "QuestionEmbedder",
    "ReadOnly",
    "RefusalContent",
    "Reranker",
    "RerankingFailed",
    "Retryable",
    "Role",
    "RunStatus",
    "Sandbox",
    "SandboxElsewhere",
    "SandboxFailed",
    "SandboxInfo",
    "SandboxLimits",
    "SandboxLost",
    "SandboxProvider",
    "SandboxService",
    "SandboxSpec",
    "SandboxUnavailable",
    "SchemaAhead",
    "SchemaBehind",
    "ScopedValues",
    "SearchFilters",
    "SearchStrategy",
    "SentenceTransformerEmbedder",
    "Service",
    "ServiceWithLifecycleManager",
    "Session",
    "SessionHistoryService",
    "Settings",
    "StateRound",
    "StateService",
    "StatementEvent",
    "StatementFailed",
    "StatementTimeout",
    "StaticEmbedder",
    "Stats",
    "Store",
    "StoreMemoryService",
    "StoreSessionHistoryService",
    "StoreStateService",
    "StoredDocument",
    "StoredMessages",
    "Telemetry",
    "TelemetryEvent",
    "TextContent",
    "ToolResult",
    "Unavailable",
    "UnknownOutcome",
    "UnreadableRow",
    "User",
    "UserService",
    "ValueScope",
    "migrate",
    "register_sandbox_type",
]

# Where each name of __all__ is defined; a test compares the two and the imports above.
_NAMES = {
    "agentstore.database.telemetry": "StatementEvent Telemetry TelemetryEvent",
    "agentstore.embedded.postgres": "EmbeddedPostgres",
    "agentstore.errors": (
        "AgentStoreError AlreadyExists Closed Conflict EmbeddingFailed ExtractionFailed InvalidContent "
        "LimitExceeded NotConfigured NotFound PoolTimeout ReadOnly RerankingFailed Retryable SandboxElsewhere "
        "SandboxFailed SandboxLost SandboxUnavailable SchemaAhead SchemaBehind StatementFailed StatementTimeout "
        "Unavailable UnknownOutcome UnreadableRow"
    ),
    "agentstore.inmemory": (
        "InMemoryBlobService InMemoryCheckpointService InMemoryDocumentService InMemoryMemoryService "
        "InMemorySandboxService InMemorySessionHistoryService InMemoryStateService InMemoryUserService"
    ),
    "agentstore.inmemory_store": "InMemoryStore",
    "agentstore.interfaces": (
        "BlobService CheckpointService DocumentService Extractor MemoryService Sandbox SandboxProvider SandboxService "
        "Service ServiceWithLifecycleManager SessionHistoryService StateService Store StoreMemoryService "
        "StoreSessionHistoryService StoreStateService UserService"
    ),
    "agentstore.repositories": (
        "PostgresBlobService PostgresCheckpointService PostgresDocumentService PostgresMemoryService "
        "PostgresSandboxService PostgresSessionHistoryService PostgresStateService PostgresUserService"
    ),
    "agentstore.schemas": (
        "Appended AudioContent Blob BlobData ContentType DataContent Deleted Embedder Error Extracted Extraction "
        "FailedExtraction FileContent ImageContent Imported ListFilters MemoryHit MemoryItem Message MessageType "
        "Page PendingExtraction PoolStats Pruned QuestionEmbedder RefusalContent Reranker Role RunStatus "
        "SandboxInfo SandboxLimits SandboxSpec ScopedValues SearchFilters SearchStrategy Session StateRound Stats "
        "StoredDocument StoredMessages TextContent ToolResult User ValueScope register_sandbox_type"
    ),
    "agentstore.search.embedding": "CallableEmbedder OpenAIEmbedder SentenceTransformerEmbedder",
    "agentstore.search.extraction": "OpenAIExtractor",
    "agentstore.search.reranking": "CrossEncoderReranker HttpReranker",
    "agentstore.search.static_embedding": "StaticEmbedder",
    "agentstore.settings": "Settings",
    "agentstore.store": "AgentStore",
}
_DEFINED_IN = defined_in(_NAMES)

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_attributes(__name__, _DEFINED_IN, submodules={"migrate": "agentstore.migrating"})
