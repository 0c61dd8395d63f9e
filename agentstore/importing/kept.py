"""What other stores keep, a piece at a time: what every reader of one yields."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from agentstore.importing.source import Problem
from agentstore.schemas import Message, Session


@dataclass(frozen=True, slots=True)
class KeptSession:
    """A session with all of its messages."""

    place: str
    session: Session


@dataclass(frozen=True, slots=True)
class KeptMemories:
    """Messages of one bucket of memories, in their order."""

    place: str
    user_id: str
    session_id: str
    messages: list[Message]


@dataclass(frozen=True, slots=True)
class KeptState:
    """A state; without a round, the only one that `source` keeps of its session."""

    place: str
    user_id: str
    session_id: str
    round_id: int | None
    state: dict[str, Any]
    metadata: dict[str, Any]
    source: str


Kept = KeptSession | KeptMemories | KeptState | Problem
Reader = AsyncIterator[Kept]
