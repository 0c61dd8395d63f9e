"""How much is stored, and of whom."""

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class TableStats:
    """A table's size in bytes: the rows themselves, what is kept outside of them (TOAST), and each index.

    ``rows`` is what Postgres last counted or estimated.
    """

    name: str
    rows: int
    bytes: int
    toast_bytes: int
    index_bytes: dict[str, int] = field(default_factory=dict)

    @property
    def total_bytes(self) -> int:
        """All of it together."""
        return self.bytes + self.toast_bytes + sum(self.index_bytes.values())


@dataclass(frozen=True, slots=True)
class SessionStats:
    """A session, and the bytes of its messages as they are stored."""

    user_id: str
    session_id: str
    messages: int
    bytes: int
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class UserStats:
    """What a user has."""

    user_id: str
    sessions: int
    messages: int
    memories: int
    state_rounds: int


@dataclass(frozen=True, slots=True)
class Stats:
    """What is stored: exact counts, from counters where there are some, and sizes.

    ``oldest`` is when the oldest session was made, ``newest`` when one was last written to.
    """

    users: int
    sessions: int
    messages: int
    memories: int
    state_rounds: int
    bytes: int
    oldest: datetime | None
    newest: datetime | None
    tables: list[TableStats]
    largest_users: list[UserStats]
    largest_sessions: list[SessionStats]
