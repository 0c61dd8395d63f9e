"""The data that callers give and get: pydantic models, and their exact way into JSON and back."""

from agentstore.schemas.extraction import Extracted, Extraction, FailedExtraction
from agentstore.schemas.memory import MemoryHit
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
from agentstore.schemas.page import Deleted, Imported, Page, Pruned
from agentstore.schemas.sandbox import SandboxInfo, SandboxLimits, SandboxSpec, ToolResult, register_sandbox_type
from agentstore.schemas.session import Session
from agentstore.schemas.state import StateRound
from agentstore.schemas.stats import SessionStats, Stats, TableStats, UserStats
from agentstore.schemas.stored_messages import StoredMessages
from agentstore.schemas.strategy import Embedder, QuestionEmbedder, SearchStrategy
from agentstore.schemas.user import User

__all__ = [
    "AudioContent",
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
    "MemoryHit",
    "MemoryItem",
    "Message",
    "MessageLike",
    "MessageType",
    "MessagesLike",
    "Page",
    "Pruned",
    "QuestionEmbedder",
    "RefusalContent",
    "Role",
    "RunStatus",
    "SandboxInfo",
    "SandboxLimits",
    "SandboxSpec",
    "SearchStrategy",
    "Session",
    "SessionStats",
    "StateRound",
    "Stats",
    "StoredMessages",
    "TableStats",
    "TextContent",
    "ToolResult",
    "User",
    "UserStats",
    "register_sandbox_type",
]
