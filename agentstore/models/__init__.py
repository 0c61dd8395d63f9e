"""The tables as SQLAlchemy models, one module each. Row classes are used only inside the repositories."""

from agentstore.models.base import Base
from agentstore.models.blob import BlobChunkRow, BlobRow
from agentstore.models.checkpoint import CheckpointHeadRow, CheckpointRow, CheckpointValueRow, CheckpointWriteRow
from agentstore.models.memory import MemoryBucketRow, MemoryRow
from agentstore.models.memory_extraction import MemoryExtractionRow
from agentstore.models.message import MessageRow
from agentstore.models.sandbox import SandboxRow, WorkspaceChunkRow, WorkspaceRow
from agentstore.models.session import SessionRow
from agentstore.models.state import StateHeadRow, StateRoundRow
from agentstore.models.user import UserRow
from agentstore.models.values import AppValueRow, SessionValueRow, UserValueRow

__all__ = [
    "AppValueRow",
    "Base",
    "BlobChunkRow",
    "BlobRow",
    "CheckpointHeadRow",
    "CheckpointRow",
    "CheckpointValueRow",
    "CheckpointWriteRow",
    "MemoryBucketRow",
    "MemoryExtractionRow",
    "MemoryRow",
    "MessageRow",
    "SandboxRow",
    "SessionRow",
    "SessionValueRow",
    "StateHeadRow",
    "StateRoundRow",
    "UserRow",
    "UserValueRow",
    "WorkspaceChunkRow",
    "WorkspaceRow",
]
