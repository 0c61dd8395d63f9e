"""Statistics about the stored data: the result of ``AgentStore.stats``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta


@dataclass(frozen=True, slots=True)
class TableStats:
    """The size of a table. Sizes are in bytes on disk."""

    name: str
    rows: int
    """The estimate of Postgres (``pg_class.reltuples``); 0 before the first VACUUM or ANALYZE."""
    bytes: int
    """The main part of the table."""
    toast_bytes: int
    """The rest of the table: TOAST, free space map, visibility map."""
    index_bytes: dict[str, int] = field(default_factory=dict)
    """The size of each index by its name."""
    dead_rows: int = 0
    """The estimate of Postgres of updated and deleted rows that VACUUM has not removed yet."""
    freeze_age: int = 0
    """The transactions since the oldest one whose rows are not frozen (``age(relfrozenxid)``)."""
    analyzed_at: datetime | None = None
    """The last ANALYZE, by hand or by autovacuum; None if there was none since the server's statistics were reset."""

    @property
    def total_bytes(self) -> int:
        """The table, its TOAST and its indexes together."""
        return self.bytes + self.toast_bytes + sum(self.index_bytes.values())


@dataclass(frozen=True, slots=True)
class SessionStats:
    """The size of a session."""

    user_id: str
    session_id: str
    messages: int
    """The number of messages."""
    bytes: int
    """The stored size of the messages' payloads, without row headers and indexes."""
    updated_at: datetime
    """The last write (UTC)."""


@dataclass(frozen=True, slots=True)
class UserStats:
    """The number of rows of each kind that a user has."""

    user_id: str
    sessions: int
    messages: int
    memories: int
    state_rounds: int


GROWTH_DAYS = 30
"""For how many days the growth is counted, that of today included."""


@dataclass(frozen=True, slots=True)
class DayStats:
    """What was added on a day."""

    day: datetime
    """The start of the day (UTC)."""
    sessions: int
    """The sessions that were created on this day and exist."""
    messages: int
    """The messages that these sessions have now."""


def start_of_day(time: datetime) -> datetime:
    """Return the start of the day of a time, in UTC."""
    return time.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def days_of(oldest: datetime | None, counted: Mapping[datetime, tuple[int, int]], now: datetime) -> list[DayStats]:
    """Return the last days in order, from that of the oldest session on; `counted` has those with sessions."""
    if oldest is None:
        return []
    today = start_of_day(now)
    count = max(1, min(GROWTH_DAYS, (today - start_of_day(oldest)).days + 1))
    days = [today - timedelta(days=number) for number in range(count - 1, -1, -1)]
    return [DayStats(day, *counted.get(day, (0, 0))) for day in days]


@dataclass(frozen=True, slots=True)
class Stats:
    """The contents of a database: exact counts, and sizes in bytes. Expired rows count until they are deleted."""

    users: int
    sessions: int
    messages: int
    memories: int
    state_rounds: int
    values: int
    """Scoped values, of applications, users and sessions."""
    blobs: int
    """Versions of blobs."""
    checkpoints: int
    """Checkpoints of graphs."""
    bytes: int
    """All tables with their TOAST and indexes."""
    oldest: datetime | None
    """When the oldest session was created (UTC); None without sessions."""
    newest: datetime | None
    """When a session was last written to (UTC); None without sessions."""
    tables: list[TableStats]
    """The tables, ordered by name."""
    largest_users: list[UserStats]
    """The users with the most messages, largest first."""
    largest_sessions: list[SessionStats]
    """The sessions with the most messages, largest first."""
    growth: list[DayStats] = field(default_factory=list)
    """The last 30 days, or those since the oldest session was created, in order."""


@dataclass(frozen=True, slots=True)
class PoolStats:
    """The connections of a store now, those of all event loops together."""

    size: int
    """How many connections it may open: POOL_SIZE, or fewer if the server refuses more. 0 if that is not known."""
    idle: int
    """How many are open and not in use."""
    in_use: int
    """How many execute a call, or are being reset after a canceled one."""
    waiting: int
    """How many calls wait for a connection."""

    @property
    def open(self) -> int:
        """How many are open: `idle` and `in_use`."""
        return self.idle + self.in_use

    def __add__(self, other: "PoolStats") -> "PoolStats":
        """Return the connections of both."""
        return PoolStats(
            self.size + other.size,
            self.idle + other.idle,
            self.in_use + other.in_use,
            self.waiting + other.waiting,
        )
