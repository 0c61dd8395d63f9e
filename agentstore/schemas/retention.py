"""The arguments of ``prune``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from agentstore.errors import InvalidContent
from agentstore.schemas.page import check_count
from agentstore.schemas.payload import shortened
from agentstore.settings import Settings


@dataclass(frozen=True, slots=True)
class PruneOptions:
    """What ``prune`` deletes and retains."""

    before: datetime | None
    """What was last written before this time is deleted, too; None deletes only what has expired."""
    keep: Mapping[str, int]
    """How many of the last "sessions", "memories" and "states" of each user are retained."""
    following: Sequence[str]
    """What follows its session, "memories" or "states", since it has no number of its own."""
    retains_sessions: bool
    """Whether the last sessions are retained, with what follows them."""


def read_prune_options(
    settings: Settings,
    *,
    older_than: timedelta | None,
    keep_last: int,
    keep_sessions: int | None,
    keep_memories: int | None,
    keep_states: int | None,
    max_time: timedelta | None,
    pause: timedelta,
) -> PruneOptions:
    """Validate the arguments of ``prune``.

    Raises:
        InvalidContent: a time is not a timedelta >= 0, or a number to keep is not an integer >= 0.
        LimitExceeded: a number to keep is over 10,000.
    """
    for name, value in (("older_than", older_than), ("max_time", max_time), ("pause", pause)):
        if (value is not None or name == "pause") and (not isinstance(value, timedelta) or value < timedelta()):
            raise InvalidContent(f"{name} must be a timedelta of at least 0, got {shortened(value)}")
    check_count(keep_last, "keep_last", maximum=settings.max_page)
    keep: dict[str, int] = {}
    own: set[str] = set()
    for kind, number in (("sessions", keep_sessions), ("memories", keep_memories), ("states", keep_states)):
        if number is not None:
            check_count(number, f"keep_{kind}", maximum=settings.max_page)
            own.add(kind)
        keep[kind] = keep_last if number is None else number
    try:
        before = None if older_than is None else datetime.now(UTC) - older_than
    except OverflowError:  # before the year 1
        before = None
    following = [kind for kind in ("memories", "states") if kind not in own]
    return PruneOptions(before, keep, following, bool(keep_last or keep["sessions"]))
