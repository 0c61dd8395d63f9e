"""The data types of the API: pydantic models and dataclasses, and their exact conversion to JSON and back.

A name is imported from the module that defines it when it is first used (PEP 562), so that importing one schema does
not load the others. Type checkers and editors read the imports below.
"""

from typing import TYPE_CHECKING

from agentstore.lazy_imports import defined_in, lazy_attributes

if TYPE_CHECKING:
    from agentstore.schemas.blob import Blob, BlobData
    from agentstore.schemas.document import StoredDocument
    from agentstore.schemas.extraction import Extracted, Extraction, FailedExtraction, PendingExtraction
    from agentstore.schemas.memory import MemoryHit
    from agentstore.schemas.memory_filters import ListFilters, SearchFilters
    from agentstore.schemas.memory_item import MemoryItem
    from agentstore.schemas.message import (
        AudioContent,
        Content,
        ContentType,
        DataContent,
        Error,
        FileContent,
        ImageContent,
        Message,
        MessageLike,
        MessagesLike,
        MessageType,
        RefusalContent,
        Role,
        RunStatus,
        TextContent,
    )
    from agentstore.schemas.page import Appended, Deleted, Imported, Page, Pruned
    from agentstore.schemas.sandbox import SandboxInfo, SandboxLimits, SandboxSpec, ToolResult, register_sandbox_type
    from agentstore.schemas.session import Session
    from agentstore.schemas.state import StateRound
    from agentstore.schemas.stats import PoolStats, SessionStats, Stats, TableStats, UserStats
    from agentstore.schemas.stored_messages import StoredMessages
    from agentstore.schemas.strategy import Embedder, QuestionEmbedder, Reranker, SearchStrategy
    from agentstore.schemas.user import User
    from agentstore.schemas.values import ScopedValues, ValueScope

__all__ = [
    "Appended",
    "AudioContent",
    "Blob",
    "BlobData",
    "Content",
    "ContentType",
    "DataContent",
    "Deleted",
    "Embedder",
    "Error",
    "Extracted",
    "Extraction",
    "FailedExtraction",
    "FileContent",
    "ImageContent",
    "Imported",
    "ListFilters",
    "MemoryHit",
    "MemoryItem",
    "Message",
    "MessageLike",
    "MessageType",
    "MessagesLike",
    "Page",
    "PendingExtraction",
    "PoolStats",
    "Pruned",
    "QuestionEmbedder",
    "RefusalContent",
    "Reranker",
    "Role",
    "RunStatus",
    "SandboxInfo",
    "SandboxLimits",
    "SandboxSpec",
    "ScopedValues",
    "SearchFilters",
    "SearchStrategy",
    "Session",
    "SessionStats",
    "StateRound",
    "Stats",
    "StoredDocument",
    "StoredMessages",
    "TableStats",
    "TextContent",
    "ToolResult",
    "User",
    "UserStats",
    "ValueScope",
    "register_sandbox_type",
]

# The module of this package that defines each name of __all__; a test compares the two and the imports above.
_NAMES = {
    "blob": "Blob BlobData",
    "document": "StoredDocument",
    "extraction": "Extracted Extraction FailedExtraction PendingExtraction",
    "memory": "MemoryHit",
    "memory_filters": "ListFilters SearchFilters",
    "memory_item": "MemoryItem",
    "message": (
        "AudioContent Content ContentType DataContent Error FileContent ImageContent Message MessageLike MessageType "
        "MessagesLike RefusalContent Role RunStatus TextContent"
    ),
    "page": "Appended Deleted Imported Page Pruned",
    "sandbox": "SandboxInfo SandboxLimits SandboxSpec ToolResult register_sandbox_type",
    "session": "Session",
    "state": "StateRound",
    "stats": "PoolStats SessionStats Stats TableStats UserStats",
    "stored_messages": "StoredMessages",
    "strategy": "Embedder QuestionEmbedder Reranker SearchStrategy",
    "user": "User",
    "values": "ScopedValues ValueScope",
}
_DEFINED_IN = defined_in({f"{__name__}.{module}": names for module, names in _NAMES.items()})

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_attributes(__name__, _DEFINED_IN)
