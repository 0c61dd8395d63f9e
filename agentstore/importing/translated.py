"""A session that was converted from another format, with the places of its messages and the notes on it."""

from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from agentstore.errors import InvalidContent
from agentstore.importing.notes import Kind, Note, Notes
from agentstore.schemas import Message, Session
from agentstore.schemas.identity import is_same_message
from agentstore.schemas.parts import quote
from agentstore.schemas.times import first_and_last


@dataclass(frozen=True, slots=True)
class Translated:
    """A session, or a part of one, and the notes on its translation.

    Each message of the value is in the session, or has a note: ``messages`` is the number of different `places`, plus
    that of the messages of the notes.
    """

    session: Session
    places: list[str]
    """For each message of the session, the place of its source in the value."""
    notes: list[Note] = field(default_factory=list)
    messages: int = 0
    """The number of messages of the value."""
    is_message: bool = False
    """Whether the value is a message and no conversation."""

    def count(self) -> int:
        """Return how many messages of the value are in the session."""
        return len(set(self.places))

    def has_anything(self) -> bool:
        """Return whether there is something to store: not for a message, or messages, none of which is valid."""
        is_invalid = self.is_message or any(note.kind is Kind.PROBLEM for note in self.notes)
        return bool(self.places) or not is_invalid

    def refuse(self, reasons: dict[int, str]) -> list[Note]:
        """Return a note on each message of the value that was not stored, by the positions of its messages."""
        found = {self.places[position]: reason for position, reason in sorted(reasons.items(), reverse=True)}
        return [Note(place, reason, messages=1) for place, reason in reversed(found.items())]

    def refuse_all(self, error: Exception) -> Note:
        """Return the note on a session that was not stored because of `error`."""
        count = self.count()
        more = f" (all of its {count:,} messages are skipped)" if count > 1 else ""
        return Note("", f"{error}{more}", messages=count)


class Messages:
    """The messages of a session, with the places of their sources."""

    def __init__(self, notes: Notes) -> None:
        """Create an empty list; what is not stored literally is added to `notes`."""
        self._notes = notes
        self._messages: list[Message] = []
        self._places: list[str] = []
        self._known: dict[str, list[list[Message]]] = {}

    def add(self, place: str, id: str, all_fields: list[dict[str, Any]]) -> None:
        """Add the Messages of one message of the input, with the ids ``id``, ``id/1``, ``id/2`` and so on.

        If the id is used, the message is passed over if it is the same, otherwise it gets ``#2`` and so on at its end.

        Raises:
            InvalidContent: a field is not valid.
        """
        found = _numbered(id, all_fields)
        if (others := self._known.get(id)) is None:
            self._known[id] = [found]
        elif any(len(other) == len(found) and all(map(is_same_message, other, found)) for other in others):
            self._notes.passed_over(place, f"repeats message {quote(id)}")
            return
        else:
            others.append(found)
            number = len(others)
            while (other := f"{id}#{number}") in self._known:
                number += 1
            self._known[other] = [found]
            self._notes.changed(place, f"the id {quote(id)} is used twice: stored as {quote(other)}")
            found = [each.model_copy(update={"id": f"{other}{each.id[len(id) :]}"}) for each in found]
        self._messages += found
        self._places += [place] * len(found)

    def build(self, session: Session, messages: int, *, is_message: bool = False) -> Translated:
        """Return the result for a session without messages, which is dated by them unless it has times."""
        session.messages = self._messages
        if session.created_at is None or session.updated_at is None:
            first, last = first_and_last(each.metadata.get("timestamp") for each in self._messages if each.metadata)
            session.created_at = session.created_at or min(filter(None, (first, session.updated_at)), default=None)
            session.updated_at = session.updated_at or max(filter(None, (last, session.created_at)), default=None)
        return Translated(session, self._places, self._notes.found, messages, is_message)


def _numbered(id: str, all_fields: list[dict[str, Any]]) -> list[Message]:
    """Return Messages with the ids ``id``, ``id/1``, ``id/2`` and so on."""
    found = []
    for number, fields in enumerate(all_fields):
        try:
            found.append(Message.model_validate({"id": f"{id}/{number}" if number else id, **fields}))
        except ValidationError as error:
            raise invalid(error) from error
    return found


def invalid(error: ValidationError) -> InvalidContent:
    """Return the error for values of which the first invalid one is `error`'s."""
    (first, *_) = error.errors(include_url=False, include_context=False)
    return InvalidContent(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
