"""What openai-agents' SQLAlchemySession (and its SQLiteSession) keeps: sessions of items of the Responses API."""

import json
from collections.abc import Iterator
from uuid import UUID, uuid5

from pydantic import ValidationError
from sqlalchemy import Text, bindparam, cast, column, select, table

from agentstore.errors import InvalidContent
from agentstore.importing import responses
from agentstore.importing.databases import OtherDatabase, utc
from agentstore.importing.fields import parsed
from agentstore.importing.kept import Kept, KeptSession, Reader
from agentstore.importing.source import Problem
from agentstore.schemas import Message, Session

_NAMESPACE = UUID("0d9f1c0a-3a6e-5d0c-8a56-2f1d7d1a4b6e")
_PAGE = 500

_SESSIONS = table("agent_sessions", column("session_id"), column("created_at"), column("updated_at"))
_ITEMS = table("agent_messages", column("id"), column("session_id"), column("message_data"), column("created_at"))
_FIRST_SESSIONS = (
    select(
        _SESSIONS.c.session_id,
        cast(_SESSIONS.c.created_at, Text).label("created_at"),
        cast(_SESSIONS.c.updated_at, Text).label("updated_at"),
    )
    .order_by(_SESSIONS.c.session_id)
    .limit(_PAGE)
)
_NEXT_SESSIONS = _FIRST_SESSIONS.where(_SESSIONS.c.session_id > bindparam("after", type_=Text))
_OF_SESSION = (
    select(_ITEMS.c.id, cast(_ITEMS.c.message_data, Text), cast(_ITEMS.c.created_at, Text))
    .where(_ITEMS.c.session_id == bindparam("session_id", type_=Text))
    .order_by(_ITEMS.c.created_at, _ITEMS.c.id)
)


async def read(database: OtherDatabase, user_id: str) -> Reader:
    """Yield its sessions, all of them of one user, since it knows none.

    The id of a message is made of its session, its place and what it is, so what was taken back and said anew is
    another one.

    Raises:
        InvalidContent: it has no such tables.
    """
    after: str | None = None
    while True:
        if after is None:
            rows = await database.fetch(_FIRST_SESSIONS)
        else:
            rows = await database.fetch(_NEXT_SESSIONS, after=after)
        for session_id, created_at, updated_at in rows:
            items = await database.fetch(_OF_SESSION, session_id=session_id)
            session = Session(id=session_id, user_id=user_id, created_at=utc(created_at), updated_at=utc(updated_at))
            for kept in _kept(session, [(number, data, time) for number, data, time in items]):
                yield kept
        if len(rows) < _PAGE:
            return
        after = rows[-1][0]


def _kept(session: Session, items: list[tuple[int, str, str]]) -> Iterator[Kept]:
    """Yield a session, after what of it cannot be read."""
    place = f"session {session.id}"
    for number, data, time in items:
        try:
            fields = responses.message(parsed(data, "the item"))
            if (at := utc(time)) is not None:
                fields["metadata"] = {"timestamp": at.isoformat(), **fields.get("metadata", {})}
            id = f"msg_{uuid5(_NAMESPACE, json.dumps([session.id, number, data]))}"
            session.messages.append(Message.model_validate({**fields, "id": id}))
        except (InvalidContent, ValidationError, ValueError) as error:
            yield Problem(f"{place}, item {number}", str(error))
    yield KeptSession(place, session)
