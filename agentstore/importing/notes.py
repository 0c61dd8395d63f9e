"""What an import reports about its input, besides what it stores."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum

from agentstore.errors import InvalidContent, LimitExceeded


class Refused(InvalidContent):
    """A value that cannot be stored at all, and the number of its messages."""

    def __init__(self, reason: str, messages: int) -> None:
        """Create the error."""
        super().__init__(reason)
        self.messages = messages


_LONGEST_REASON = 300


class Kind(StrEnum):
    """What happened to a part of the input."""

    PROBLEM = "problem"
    """Not stored: it is not valid, or differs from what is stored."""
    PASSED_OVER = "passed over"
    """Not stored on purpose, such as a message without content."""
    CHANGED = "changed"
    """Stored, but not literally, such as a title with broken Unicode."""
    NOT_IMPORTED = "not imported"
    """Not a message: a file without conversations, or a request that failed."""


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


@dataclass(slots=True)
class Counts:
    """Counts of what an import was given and of what it did not store, or not literally.

    ``input_messages`` is always the sum of ``stored_messages``, ``skipped_messages`` and ``passed_over``.
    """

    problems: int = 0
    """Parts of the input that were skipped: lines, conversations, messages, states."""
    passed_over: int = 0
    """Messages of the input that are not stored on purpose, such as those without content."""
    changed: int = 0
    """Values that were stored, but not literally, such as a title with broken Unicode."""
    input_messages: int = 0
    """Messages of the input."""
    stored_messages: int = 0
    """Those that are stored, now or before. Each may have become several, as each tool call is a message."""
    skipped_messages: int = 0
    """Those that were skipped."""
    not_imported: int = 0
    """Files without conversations, and requests that failed."""

    def add(self, note: Note) -> None:
        """Count a note."""
        if note.kind is Kind.PROBLEM:
            self.problems += 1
            self.skipped_messages += note.messages
        elif note.kind is Kind.PASSED_OVER:
            self.passed_over += note.messages
        elif note.kind is Kind.CHANGED:
            self.changed += 1
        else:
            self.not_imported += 1


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

    def not_imported(self, place: str, reason: str) -> None:
        """Note that something that is no message is not stored."""
        self.found.append(Note(place, reason, Kind.NOT_IMPORTED))

    @contextmanager
    def message(self, place: str, *, messages: int = 1) -> Iterator[None]:
        """Turn an InvalidContent or LimitExceeded that is raised inside into a problem with the message at `place`."""
        try:
            yield
        except (InvalidContent, LimitExceeded) as error:
            self.problem(place, str(error), messages=messages)


def at(place: str, note: Note) -> Note:
    """Return a note on a part of the value at `place`. The part and its reason are the new reason, shortened."""
    reason = f"{note.place}: {note.reason}" if note.place else note.reason
    if len(reason) > _LONGEST_REASON:  # it may contain a value of the input
        reason = f"{reason[:_LONGEST_REASON]}..."
    return replace(note, place=place, reason=reason)
