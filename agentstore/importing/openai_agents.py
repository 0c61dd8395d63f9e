"""Read openai-agents' SQLAlchemySession and SQLiteSession: sessions of items of the Responses API."""

import json
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import Text, bindparam, cast, column, select, table

from agentstore.errors import InvalidContent
from agentstore.importing.databases import OtherDatabase, new_session, parse_utc
from agentstore.importing.notes import Note, Notes
from agentstore.importing.records import Reader, SessionRecord
from agentstore.importing.translated import Messages, Translated
from agentstore.schemas import Session
from agentstore.schemas.openai.convert import from_item
from agentstore.schemas.parts import parse_object

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
            place = f"session {session_id}"
            try:
                session = new_session(session_id, user_id, created_at, updated_at)
            except InvalidContent as error:
                yield Note(place, str(error), messages=len(items))
            else:
                yield SessionRecord(place, _translate(session, items))
        if len(rows) < _PAGE:
            return
        after = rows[-1][0]


def _translate(session: Session, items: list[tuple[Any, ...]]) -> Translated:
    """Add the items to a session as messages."""
    notes = Notes()
    messages = Messages(notes)
    for number, data, time in items:
        with notes.message(f"item {number}"):
            message = from_item(parse_object(data, "the item"))
            fields = message.model_dump(exclude={"id"}, exclude_unset=True)
            if (at := parse_utc(time)) is not None:
                fields["metadata"] = {"timestamp": at.isoformat(), **fields.get("metadata", {})}
            id = f"msg_{uuid5(_NAMESPACE, json.dumps([session.id, number, data]))}"
            messages.add(f"item {number}", id, [fields])
    return messages.build(session, len(items))
