"""What is measured of each contender, and the goals for ours."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Case:
    """A call that is timed: one after the other, in rounds that contenders take in turn."""

    name: str
    able: str
    """The method of a contender that it needs."""
    do: str
    """What the worker is asked for, with `given` and a number of calls."""
    given: dict[str, Any]
    session: str | None = None
    history: int = 0
    """How many messages the session has before, or how many sessions or states there are."""
    goal: float | None = None
    """What our call may cost at the most, the floor's being 1."""
    most_calls: int = 2_000


@dataclass(frozen=True, slots=True)
class Writers:
    """Many tasks that append at once, one message after the other."""

    name: str
    writers: int
    sessions: int
    goal: float | None = None
    """How many times the floor's appends a second ours must be."""
    goal_p99: float | None = None


def cases(*, quick: bool) -> list[Case]:
    """Return the calls, in the order in which they are measured."""
    few = 100 if quick else 10_000
    return [
        _get(10, 1.15),
        _get(1_000, 1.10),
        *([] if quick else [_get(10_000, 1.10)]),
        # To the same session, after it was read.
        _append(1, few, 1.10),
        _append(100, few, 1.05),
        _list(200 if quick else 1_000, 1.15),
        _state("save", 20 if quick else 1_000, 1.05),
        _state("load", 20 if quick else 1_000, 1.10),
        Case("add_memory 10", "add_memory", "add_memory", {}, goal=1.05, most_calls=300),
    ]


def writers(*, quick: bool) -> list[Writers]:
    """Return the crowds of writers."""
    if quick:
        return [_crowd(64, 64, 3.5, 0.3), _crowd(64, 1, 8)]
    counts = (1, 4, 16, 64, 256)
    return [
        *(_crowd(count, count, *((3.5, 0.3) if count == 64 else ())) for count in counts),
        *(_crowd(count, 1, *((8,) if count == 64 else ())) for count in counts[1:]),
    ]


def _append(batch: int, history: int, goal: float) -> Case:
    session = f"of {history}"
    given = {"session": session, "batch": batch}
    return Case(
        f"append {batch}",
        "append",
        "append",
        given,
        session=session,
        history=history,
        goal=goal,
        most_calls=1_000 // batch,
    )


def _get(length: int, goal: float) -> Case:
    session = f"of {length}"
    return Case(f"get {length:,}", "read", "read", {"session": session}, session=session, history=length, goal=goal)


def _list(sessions: int, goal: float) -> Case:
    name = f"list {sessions:,} sessions"
    return Case(name, "list_sessions", "list_sessions", {}, history=sessions, goal=goal)


def _state(verb: str, history: int, goal: float) -> Case:
    return Case(f"{verb} state", "save_state", f"{verb}_state", {"session": "state"}, history=history, goal=goal)


def _crowd(count: int, sessions: int, goal: float | None = None, goal_p99: float | None = None) -> Writers:
    where = "one session" if sessions == 1 else f"{sessions} sessions"
    return Writers(f"{count} writers, {where}", count, sessions, goal, goal_p99)
