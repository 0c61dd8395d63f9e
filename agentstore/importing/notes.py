"""What an import reports about its input, besides what it stores."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum

from agentstore.errors import InvalidContent


class Kind(StrEnum):
    """What happened to a part of the input."""

    PROBLEM = "problem"
    """Not stored: it is not valid, or differs from what is stored."""
    PASSED_OVER = "passed over"
    """Not stored on purpose, such as a message without content."""
    CHANGED = "changed"
    """Stored, but not literally, such as a title with broken Unicode."""


@dataclass(frozen=True, slots=True)
class Note:
    """A remark about a part of the input.

    `place` is for example ``line 7`` or ``element 7 (byte 1234)``, or empty for a whole file. `messages` is the number
    of messages of the input that are not stored because of it.
    """

    place: str
    reason: str
    kind: Kind = Kind.PROBLEM
    messages: int = 0


class Notes:
    """Collects the notes on one conversation while it is translated."""

    def __init__(self) -> None:
        """Create an empty collection."""
        self.found: list[Note] = []

    def problem(self, place: str, reason: str, *, messages: int = 1) -> None:
        """Note that a message, or `messages` of them, cannot be stored."""
        self.found.append(Note(place, reason, Kind.PROBLEM, messages))

    def passed_over(self, place: str, reason: str) -> None:
        """Note that a message is not stored on purpose."""
        self.found.append(Note(place, reason, Kind.PASSED_OVER, 1))

    def changed(self, place: str, reason: str) -> None:
        """Note that something is stored, but not literally."""
        self.found.append(Note(place, reason, Kind.CHANGED))

    @contextmanager
    def message(self, place: str) -> Iterator[None]:
        """Turn an InvalidContent that is raised inside into a problem with the message at `place`."""
        try:
            yield
        except InvalidContent as error:
            self.problem(place, str(error))


def at(place: str, note: Note) -> Note:
    """Return a note on a part of the value at `place`, which is put in front of the reason."""
    return replace(note, place=place, reason=f"{note.place}: {note.reason}" if note.place else note.reason)
