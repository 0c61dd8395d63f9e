"""Read openai-agents' SQLAlchemySession and SQLiteSession: sessions of items of the Responses API."""

import json
from collections.abc import Iterator
from uuid import UUID, uuid5

from pydantic import ValidationError
from sqlalchemy import Text, bindparam, cast, column, select, table

from agentstore.errors import InvalidContent
from agentstore.importing import responses
from agentstore.importing.databases import OtherDatabase, parse_utc
from agentstore.importing.fields import parse_object
from agentstore.importing.notes import Note
from agentstore.importing.records import Reader, Record, SessionRecord
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
_ITEMS_OF_SESSION = (
    select(_ITEMS.c.id, cast(_ITEMS.c.message_data, Text), cast(_ITEMS.c.created_at, Text))
    .where(_ITEMS.c.session_id == bindparam("session_id", type_=Text))
    .order_by(_ITEMS.c.created_at, _ITEMS.c.id)
)


async def read(database: OtherDatabase, user_id: str) -> Reader:
    """Yield the sessions, all as sessions of `user_id`, since openai-agents stores no user.

    The id of a message is derived from its session, the item's id and its content, so that an item that replaces a
    removed one gets another id.

    Raises:
        InvalidContent: the database lacks openai-agents' tables.
    """
    after: str | None = None
    while True:
        if after is None:
            rows = await database.fetch(_FIRST_SESSIONS)
        else:
            rows = await database.fetch(_NEXT_SESSIONS, after=after)
        for session_id, created_at, updated_at in rows:
            items = await database.fetch(_ITEMS_OF_SESSION, session_id=session_id)
            session = Session(
                id=session_id, user_id=user_id, created_at=parse_utc(created_at), updated_at=parse_utc(updated_at)
            )
            for record in _records(session, [(number, data, time) for number, data, time in items]):
                yield record
        if len(rows) < _PAGE:
            return
        after = rows[-1][0]


def _records(session: Session, items: list[tuple[int, str, str]]) -> Iterator[Record]:
    """Yield a problem for each item that is not valid, then the session with the others."""
    place = f"session {session.id}"
    for number, data, time in items:
        try:
            fields = responses.message(parse_object(data, "the item"))
            if (at := parse_utc(time)) is not None:
                fields["metadata"] = {"timestamp": at.isoformat(), **fields.get("metadata", {})}
            id = f"msg_{uuid5(_NAMESPACE, json.dumps([session.id, number, data]))}"
            session.messages.append(Message.model_validate({**fields, "id": id}))
        except (InvalidContent, ValidationError, ValueError) as error:
            yield Note(f"{place}, item {number}", str(error))
    yield SessionRecord(place, session)
