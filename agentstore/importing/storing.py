"""Store a session of an import message by message: what cannot be stored is reported, and the rest is stored."""

from dataclasses import dataclass, field
from typing import Literal, Protocol

from agentstore.errors import InvalidContent, LimitExceeded
from agentstore.schemas import Imported, Message, Session
from agentstore.schemas.identity import is_same_message
from agentstore.schemas.parts import quote
from agentstore.schemas.payload import check_id, dump_metadata, prepare_messages
from agentstore.settings import Settings


@dataclass(slots=True)
class Stored:
    """What was new in a session, and what of it was not stored."""

    sessions: int = 0
    messages: int = 0
    refused: dict[int, str] = field(default_factory=dict)
    """The reasons, by the position of the message in the session."""
    metadata: str | None = None
    """Why its metadata was not stored, if it was not."""


class Sessions(Protocol):
    """The session history service on Postgres, or a dry run."""

    async def import_session(self, session: Session, *, differences: Literal["keep"]) -> Imported:
        """Store what is missing of a session."""
        ...


async def store_session(sessions: Sessions, session: Session, settings: Settings) -> Stored:
    """Store a session or what is missing of it.

    A stored message stays unchanged. A message with its id, role, type and text is the same message; one with another
    text is refused, as is a message that cannot be stored.

    Raises:
        InvalidContent, LimitExceeded: the session cannot be stored, with whatever messages.
    """
    done = Stored()
    positions: dict[str, int] = {}
    for position, message in enumerate(session.messages):
        first = positions.setdefault(message.id, position)
        if first != position and not is_same_message(session.messages[first], message):
            done.refused[position] = f"the id {quote(message.id)} is that of another message with a different text"
    try:
        imported = await _store(sessions, session, positions)
    except (InvalidContent, LimitExceeded):
        check_id(session.user_id, "user_id", settings)
        check_id(session.id, "session_id", settings)
        for id, position in list(positions.items()):
            if (reason := _reason(session.messages[position], settings)) is not None:
                done.refused[position] = reason
                del positions[id]
        try:
            dump_metadata(session.metadata, settings)
        except (InvalidContent, LimitExceeded) as error:
            done.metadata = str(error)
            session = session.model_copy(update={"metadata": {}})
        if not done.refused and done.metadata is None:
            raise
        if session.messages and not positions:
            return done  # not an empty session
        imported = await _store(sessions, session, positions)
    done.sessions, done.messages = imported.sessions, imported.messages
    for id in imported.differing:
        done.refused[positions[id]] = (
            f"session {quote(session.id)} already has a message {quote(id)} with a different text, which is unchanged"
        )
    return done


async def _store(sessions: Sessions, session: Session, positions: dict[str, int]) -> Imported:
    messages = [session.messages[each] for each in positions.values()]
    return await sessions.import_session(session.model_copy(update={"messages": messages}), differences="keep")


def _reason(message: Message, settings: Settings) -> str | None:
    """Return why a message cannot be stored, or None if it can be."""
    try:
        prepare_messages(message, settings)
    except (InvalidContent, LimitExceeded) as error:
        return str(error)
    return None
