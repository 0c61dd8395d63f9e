"""The records that a reader of another store yields."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agentstore.importing.notes import Note
from agentstore.importing.translated import Translated
from agentstore.schemas import StoredDocument
from agentstore.schemas.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session with all of its messages; `place` names it in reports."""

    place: str
    translated: Translated


@dataclass(frozen=True, slots=True)
class MemoriesRecord:
    """The memories of one session, in order, as the messages of a session."""

    place: str
    translated: Translated


@dataclass(frozen=True, slots=True)
class StateRecord:
    """A state. `round_id` is None if `source` stores only the latest state of a session."""

    place: str
    user_id: str
    session_id: str
    round_id: int | None
    state: dict[str, Any]
    metadata: dict[str, Any]
    source: str


@dataclass(frozen=True, slots=True)
class ValuesRecord:
    """Scoped values: those of a session, without `session_id` of a user, without `user_id` of the application."""

    place: str
    app: str
    user_id: str | None
    session_id: str | None
    values: dict[str, Any]
    written_at: datetime | None
    """When the source last wrote to a session of the scope, and so may have changed a value; None if unknown."""


@dataclass(frozen=True, slots=True)
class DocumentsRecord:
    """Documents of a user."""

    place: str
    user_id: str
    documents: list[StoredDocument]


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """A checkpoint of a graph with its writes, and the values that no earlier one of its session had."""

    place: str
    user_id: str
    session_id: str
    checkpoint: Checkpoint
    complete: Callable[[], Awaitable[Checkpoint]]
    """Read it with the values of all of its versions, for a target that lacks those of earlier ones."""


Record = SessionRecord | MemoriesRecord | StateRecord | ValuesRecord | DocumentsRecord | CheckpointRecord | Note
Reader = AsyncIterator[Record]
