"""The cases in which each contender is measured, and the goals for agentstore."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Case:
    """A call that is timed in sequence, in rounds in which the contenders take turns."""

    name: str
    requires: str
    """The method that a contender needs for this case."""
    command: str
    """The command of the worker, which receives `arguments` and the number of calls."""
    arguments: dict[str, Any]
    session: str | None = None
    history: int = 0
    """How many messages, sessions or states exist before the first call."""
    goal: float | None = None
    """The highest time of agentstore's call, relative to the floor."""
    max_calls: int = 2_000


@dataclass(frozen=True, slots=True)
class Writers:
    """Concurrent tasks, each of which appends one message at a time."""

    name: str
    writers: int
    sessions: int
    goal: float | None = None
    """The lowest rate of agentstore's appends, relative to the floor."""
    goal_p99: float | None = None


def cases(*, quick: bool) -> list[Case]:
    """Return the cases in the order in which they are measured."""
    few = 100 if quick else 10_000
    return [
        _get(10, 1.15),
        _get(1_000, 1.10),
        *([] if quick else [_get(10_000, 1.10)]),
        # To the same session as the read before it.
        _append(1, few, 1.10),
        _append(100, few, 1.05),
        _list(200 if quick else 1_000, 1.15),
        _state("save", 20 if quick else 1_000, 1.05),
        _state("load", 20 if quick else 1_000, 1.10),
        Case("add_memory 10", "add_memory", "add_memory", {}, goal=1.05, max_calls=300),
    ]


def writers(*, quick: bool) -> list[Writers]:
    """Return the numbers of writers and sessions that are measured."""
    if quick:
        return [_writers(64, 64, 3.5, 0.3), _writers(64, 1, 8)]
    counts = (1, 4, 16, 64, 256)
    return [
        *(_writers(count, count, *((3.5, 0.3) if count == 64 else ())) for count in counts),
        *(_writers(count, 1, *((8,) if count == 64 else ())) for count in counts[1:]),
    ]


def _append(batch: int, history: int, goal: float) -> Case:
    session = f"of {history}"
    arguments = {"session": session, "batch": batch}
    return Case(
        f"append {batch}",
        "append",
        "append",
        arguments,
        session=session,
        history=history,
        goal=goal,
        max_calls=1_000 // batch,
    )


def _get(length: int, goal: float) -> Case:
    session = f"of {length}"
    return Case(f"get {length:,}", "read", "read", {"session": session}, session=session, history=length, goal=goal)


def _list(sessions: int, goal: float) -> Case:
    name = f"list {sessions:,} sessions"
    return Case(name, "list_sessions", "list_sessions", {}, history=sessions, goal=goal)


def _state(verb: str, history: int, goal: float) -> Case:
    return Case(f"{verb} state", "save_state", f"{verb}_state", {"session": "state"}, history=history, goal=goal)


def _writers(count: int, sessions: int, goal: float | None = None, goal_p99: float | None = None) -> Writers:
    where = "one session" if sessions == 1 else f"{sessions} sessions"
    return Writers(f"{count} writer{'s' if count > 1 else ''}, {where}", count, sessions, goal, goal_p99)
