"""Read the databases of Google ADK's DatabaseSessionService and SqliteSessionService, in both of their layouts.

In the newer layout an event is JSON. In the older one its fields are columns, of which that of the actions is a pickle:
it is not read, since reading it could execute code that somebody has written to the database.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, Text, bindparam, cast, column, exists, func, select, table, tuple_

from agentstore.errors import InvalidContent
from agentstore.importing.databases import OtherDatabase, new_session, parse_utc
from agentstore.importing.notes import Note, Notes
from agentstore.importing.records import Reader, SessionRecord, ValuesRecord
from agentstore.importing.translated import Messages, Translated
from agentstore.schemas import Message, Session
from agentstore.schemas.parts import parse_object, wrong_type

_PAGE = 500

_ID = ("app_name", "user_id", "session_id")
_SESSIONS = table("sessions", *map(column, ("app_name", "user_id", "id", "state", "create_time", "update_time")))
_USERS = table("user_states", *map(column, ("app_name", "user_id", "state")))
_APPS = table("app_states", *map(column, ("app_name", "state")))
# The columns of the older layout. Its releases have added some of them.
_VALUES = ("author", "branch", "partial", "turn_complete", "error_code", "error_message", "interrupted")
_OBJECTS = (
    "content",
    "grounding_metadata",
    "custom_metadata",
    "usage_metadata",
    "citation_metadata",
    "input_transcription",
    "output_transcription",
)
_TOOL_IDS = "long_running_tool_ids_json"
_EVENTS = table(
    "events",
    *map(column, (*_ID, "id", "invocation_id", "timestamp", "event_data", "actions", _TOOL_IDS, *_VALUES, *_OBJECTS)),
)
_PICKLED = (
    "the actions are a pickle, which is not read: changes of the state, artifacts, transfers, compactions and requests "
    "of credentials or of confirmations are not in the event"
)

_SELECT_SESSIONS = select(
    _SESSIONS.c.app_name,
    _SESSIONS.c.user_id,
    _SESSIONS.c.id,
    cast(_SESSIONS.c.state, Text),
    _SESSIONS.c.create_time,
    _SESSIONS.c.update_time,
)
_SELECT_USERS = select(
    _USERS.c.app_name,
    _USERS.c.user_id,
    cast(_USERS.c.state, Text),
    select(func.max(_SESSIONS.c.update_time))
    .where(_SESSIONS.c.app_name == _USERS.c.app_name, _SESSIONS.c.user_id == _USERS.c.user_id)
    .scalar_subquery(),
)
_SELECT_APPS = select(
    _APPS.c.app_name,
    cast(_APPS.c.state, Text),
    select(func.max(_SESSIONS.c.update_time)).where(_SESSIONS.c.app_name == _APPS.c.app_name).scalar_subquery(),
)
_EVENTS_WITHOUT_SESSION = (
    select(*(_EVENTS.c[name] for name in _ID), func.count())
    .where(
        ~exists().where(
            _SESSIONS.c.app_name == _EVENTS.c.app_name,
            _SESSIONS.c.user_id == _EVENTS.c.user_id,
            _SESSIONS.c.id == _EVENTS.c.session_id,
        )
    )
    .group_by(*(_EVENTS.c[name] for name in _ID))
)


@dataclass(frozen=True, slots=True)
class Conversion:
    """How ADK's sessions are stored: what the adapter knows, which imports google-adk."""

    session: Callable[[str, str], tuple[str, dict[str, Any]]]
    """Return the id and the metadata of the session, for the ids of an application and of a session in it."""
    message: Callable[[Mapping[str, Any]], Message]
    """Return the Message for the fields of an event."""
    values: Callable[[Mapping[str, Any]], dict[str, Any]]
    """Return the scoped values for a state, by keys without prefix."""


async def read(database: OtherDatabase, conversion: Conversion) -> Reader:
    """Yield each session, followed by its state; then the states of the users, and those of the applications.

    Raises:
        InvalidContent: the database lacks ADK's tables.
    """
    for each in (_SESSIONS, _USERS, _APPS):
        await database.columns(each)
    columns = await database.columns(_EVENTS)
    is_json = "event_data" in columns
    if not is_json and "actions" not in columns:
        raise InvalidContent("the source lacks the expected columns: events has neither event_data nor actions")
    events = _select_events(columns)
    fields_of = _fields_of_json if is_json else _fields_of_columns
    async for app, user_id, id, state, created_at, updated_at in _pages(database, _SELECT_SESSIONS, 3):
        rows = await database.fetch(events, app_name=app, user_id=user_id, session_id=id)
        place = f"session {id} of {user_id} in {app}"
        try:
            stored_id, metadata = conversion.session(app, id)
            session = new_session(stored_id, user_id, _as_text(created_at), _as_text(updated_at))
        except InvalidContent as error:
            yield Note(place, str(error), messages=len(rows))
            continue
        session.app, session.metadata = app, metadata
        named = [dict(zip(events.selected_columns.keys(), row, strict=True)) for row in rows]
        yield SessionRecord(place, _translate(session, named, fields_of, conversion))
        yield _values(f"{place}, state", conversion, app, user_id, stored_id, state, updated_at)
    async for app, user_id, state, written_at in _pages(database, _SELECT_USERS, 2):
        if isinstance(user_id, str):
            yield _values(f"state of {user_id} in {app}", conversion, app, user_id, None, state, written_at)
        else:  # None would name the values of the application
            yield Note(f"state of {user_id} in {app}", str(wrong_type("user_id", "a string", user_id)))
    async for app, state, written_at in _pages(database, _SELECT_APPS, 1):
        yield _values(f"state of {app}", conversion, app, None, None, state, written_at)
    for app, user_id, id, count in await database.fetch(_EVENTS_WITHOUT_SESSION):
        yield Note(f"session {id} of {user_id} in {app}", "its events have no session", messages=count)


def _select_events(columns: set[str]) -> Select[Any]:
    """Return the query for the events of a session, in ADK's order, with the columns that the database has."""
    found: list[ColumnElement[Any]] = [_EVENTS.c.id, _EVENTS.c.invocation_id, _EVENTS.c.timestamp]
    if "event_data" in columns:
        found.append(cast(_EVENTS.c.event_data, Text).label("event_data"))
    else:
        found.append(_EVENTS.c.actions.is_not(None).label("has_actions"))
        found += [_EVENTS.c[name] for name in _VALUES if name in columns]
        found += [cast(_EVENTS.c[name], Text).label(name) for name in (_TOOL_IDS, *_OBJECTS) if name in columns]
    return (
        select(*found)
        .where(*(_EVENTS.c[name] == bindparam(name, type_=Text) for name in _ID))
        .order_by(_EVENTS.c.timestamp, _EVENTS.c.id)
    )


async def _pages(
    database: OtherDatabase, statement: Select[*tuple[Any, ...]], keys: int
) -> AsyncIterator[tuple[Any, ...]]:
    """Yield the rows of a query, ordered by its first columns, which are the primary key of the table."""
    key = list(statement.selected_columns)[:keys]
    first = statement.order_by(*key).limit(_PAGE)
    after = first.where(tuple_(*key) > tuple_(*(bindparam(f"after_{number}", type_=Text) for number in range(keys))))
    rows = await database.fetch(first)
    while True:
        for row in rows:
            yield row
        if len(rows) < _PAGE:
            return
        rows = await database.fetch(after, **{f"after_{number}": rows[-1][number] for number in range(keys)})


def _translate(
    session: Session,
    rows: list[dict[str, Any]],
    fields_of: Callable[[dict[str, Any]], dict[str, Any]],
    conversion: Conversion,
) -> Translated:
    """Add the events to a session as messages."""
    notes = Notes()
    messages = Messages(notes)
    for row in rows:
        place = f"event {row['id']}"
        with notes.message(place):
            fields = fields_of(row)
            if fields.get("timestamp") is None:
                if (time := _time_of(row["timestamp"])) is None:
                    raise InvalidContent("the event has no time")
                fields["timestamp"] = time.timestamp()
            message = conversion.message({**fields, "id": row["id"], "invocation_id": row["invocation_id"]})
            messages.add(place, message.id, [message.model_dump(exclude={"id"}, exclude_unset=True)])
            if row.get("has_actions"):
                notes.changed(place, _PICKLED)
    return messages.build(session, len(rows))


def _fields_of_json(row: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an event of the newer layout; the time is the exact one."""
    return {} if row["event_data"] is None else parse_object(row["event_data"], "the event")


def _fields_of_columns(row: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an event of the older layout, without the actions."""
    fields = {name: row[name] for name in _VALUES if row.get(name) is not None}
    # Early releases have stored null as JSON.
    for name in _OBJECTS:
        if (text := row.get(name)) not in (None, "null"):
            fields[name] = parse_object(text, name)
    if (text := row.get(_TOOL_IDS)) not in (None, "", "null"):
        fields["long_running_tool_ids"] = parse_object(f'{{"ids":{text}}}', _TOOL_IDS)["ids"]
    return fields


def _values(
    place: str, conversion: Conversion, app: Any, user_id: Any, session_id: str | None, state: Any, written_at: Any
) -> ValuesRecord | Note:
    try:
        values = conversion.values({} if state is None else parse_object(state, "the state"))
    except InvalidContent as error:
        return Note(place, str(error))
    return ValuesRecord(place, app, user_id, session_id, values, _time_of(written_at))


def _as_text(value: Any) -> str | None:
    time = _time_of(value)
    return None if time is None else time.isoformat()


def _time_of(value: Any) -> datetime | None:
    """Return a time as a database returns it: Postgres a datetime, SQLite a text or seconds since 1970.

    Without a time zone it is UTC, as ADK reads it. None if it is not valid.
    """
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value
    if isinstance(value, str):
        return parse_utc(value)
    if isinstance(value, int | float):
        try:
            return datetime.fromtimestamp(value, UTC)
        except (ValueError, OverflowError, OSError):
            return None
    return None
