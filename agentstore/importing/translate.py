"""Convert JSON values to sessions. The supported forms are:

==================================  ================================================================================
``{"messages": [...]}``             a conversation; each message is of OpenAI's chat completions or AgentScope Runtime
``{"mapping": {...}}``              a conversation of a ChatGPT export: the path that ends in ``current_node``
``{"role": ...}``                   a message; those of a file that name no session form one session
``{"object": "session", ...}``      a session that ``agentstore sessions export`` wrote, restored unchanged
==================================  ================================================================================

and those of :mod:`agentstore.importing.formats`.
"""

from typing import Any

from pydantic import ValidationError

from agentstore.errors import InvalidContent
from agentstore.exact_json import dumps_sorted
from agentstore.importing import chatgpt, openai
from agentstore.importing.fields import json_type, quote, require_object, wrong_type
from agentstore.importing.formats import FORMATS
from agentstore.importing.head import Head
from agentstore.importing.ids import Ids
from agentstore.importing.notes import Notes
from agentstore.importing.translated import Messages, Translated, invalid
from agentstore.schemas import Session

_USER = ("user", "user_id")
_SESSION = ("session", "session_id", "id")
_MAX_ID_BITS = 10_000  # Python converts integers of up to 4,300 digits to text
_USED = ("title", "time", "created_at", "updated_at", "metadata", "messages")


class Refused(InvalidContent):
    """A value that cannot be stored at all, and the number of its messages."""

    def __init__(self, reason: str, messages: int) -> None:
        """Create the error."""
        super().__init__(reason)
        self.messages = messages


class Translator:
    """Converts the values of one file to sessions."""

    def __init__(self, file: str | None, user_id: str, session_id: str | None = None) -> None:
        """Create a translator. `file` identifies the file, for example by its path; None for stdin.

        `user_id` is the default owner; `session_id` is the default session of messages outside of a conversation.
        """
        self._user_id = user_id
        self._session_id = session_id
        self._file = file
        self._ids: Ids | None = None

    def translate(self, value: Any) -> Translated:
        """Convert a JSON value to a session. Several values of a file may be parts of the same session.

        A message that cannot be converted becomes a note, and the others are converted.

        Raises:
            InvalidContent: it has none of the supported forms; the error begins with the place in the value.
        """
        notes = Notes()
        for each in FORMATS:
            if each.matches(value):
                found = each.convert(value, notes)
                return self._from_conversation(found.value, self._ids_for(value), notes, found.places)
        if not isinstance(value, dict):
            raise InvalidContent(f"expected an object with messages, got {json_type(value)}")
        ids = self._ids_for(value)
        if "mapping" in value:
            return self._from_chatgpt(value, ids, notes)
        if value.get("object") == "session":
            return _exported(value, notes)
        if "messages" in value:
            return self._from_conversation(value, ids, notes)
        if "role" in value or value.get("object") == "message":
            return self._from_message(value, ids, notes)
        keys = ", ".join(map(quote, list(value)[:5]))
        found_keys = f"the keys {keys}" if keys else "no keys"
        raise InvalidContent(f'expected an object with "messages", "mapping" or "role", got {found_keys}')

    def _ids_for(self, value: Any) -> Ids:
        if self._ids is None:
            # Input from stdin is identified by its first value.
            self._ids = Ids(dumps_sorted(value) if self._file is None else self._file)
        return self._ids

    def _from_conversation(
        self, value: dict[str, Any], ids: Ids, notes: Notes, places: list[str] | None = None
    ) -> Translated:
        raw = _list(value["messages"])
        count = len(raw) + sum(note.messages for note in notes.found)
        places = [f"messages[{index}]" for index in range(len(raw))] if places is None else places
        (user_id, user_field), (session_id, session_field) = _owner(value, _USER, _SESSION, count)
        user_id = user_id or self._user_id
        if session_id is None:
            session_id = ids.for_conversation(user_id, value)
            derived = Ids.for_messages(session_id, raw)
        else:
            derived = [ids.for_message(user_id, session_id, each) for each in raw]
        messages = Messages(notes)
        for place, each, other in zip(places, raw, derived, strict=True):
            with notes.message(place):
                fields = _messages(each)
                messages.add(place, _message_id(each, other, place, notes), fields)
        head = Head(value, notes)
        title, dated = head.title(), head.time("time")
        created_at, updated_at = head.time("created_at"), head.time("updated_at")
        used = {user_field, session_field, *_USED} - head.unused
        return messages.build(
            Session(
                id=session_id,
                user_id=user_id,
                title=title,
                metadata=head.metadata({name: each for name, each in value.items() if name not in used}),
                created_at=created_at or dated,
                updated_at=updated_at or created_at or dated,
            ),
            count,
        )

    def _from_message(self, value: dict[str, Any], ids: Ids, notes: Notes) -> Translated:
        (user_id, user_field), (session_id, session_field) = _owner(value, _USER, _SESSION[:2], 1)
        user_id = user_id or self._user_id
        session_id = session_id or self._session_id
        if session_id is None:
            if self._file is None:
                raise Refused("the message belongs to no conversation and names no session: pass --session", 1)
            session_id = ids.for_file()
        raw = {name: each for name, each in value.items() if name not in (user_field, session_field)}
        derived = ids.for_message(user_id, session_id, raw)
        messages = Messages(notes)
        with notes.message(""):
            fields = _messages(raw)
            messages.add("", _message_id(raw, derived, "", notes), fields)
        return messages.build(Session(id=session_id, user_id=user_id), 1, is_message=True)

    def _from_chatgpt(self, value: dict[str, Any], ids: Ids, notes: Notes) -> Translated:
        raw, count = chatgpt.path(value, notes)
        user_id = _owner(value, _USER, (), count)[0][0] or self._user_id
        session_id = _owner(value, ("conversation_id", "id"), (), count)[0][0]
        if session_id is None:
            session_id = ids.for_conversation(user_id, value)
        messages = Messages(notes)
        for node, each in raw:
            place = f"mapping.{node}"
            with notes.message(place):
                fields = chatgpt.message(each, place, notes)
                if fields is not None:
                    messages.add(place, _message_id(each, node, place, notes, is_required=True), [fields])
        head = Head(value, notes)
        title, created_at, updated_at = head.title(), head.time("create_time"), head.time("update_time")
        rest = {name: value[name] for name in head.unused & value.keys()}
        return messages.build(
            Session(
                id=session_id,
                user_id=user_id,
                title=title,
                metadata={**chatgpt.metadata(value), **rest},
                created_at=created_at,
                updated_at=updated_at,
            ),
            count,
        )


def _exported(value: dict[str, Any], notes: Notes) -> Translated:
    """Return a session that agentstore exported, unchanged."""
    raw = _list(value.get("messages"))
    if unknown := sorted(value.keys() - Session.model_fields.keys() - {"object"}):
        raise Refused(f"{quote(unknown[0])} is not a field of an exported session", len(raw))
    try:
        session = Session.model_validate(
            {name: each for name, each in value.items() if name not in ("object", "messages")}
        )
    except ValidationError as error:
        raise Refused(str(invalid(error)), len(raw)) from error
    messages = Messages(notes)
    for index, message in enumerate(raw):
        place = f"messages[{index}]"
        with notes.message(place):
            id = require_object(message, "message").get("id")
            if not isinstance(id, str):
                raise InvalidContent("id: missing")
            messages.add(place, id, [{name: each for name, each in message.items() if name != "id"}])
    return messages.build(session, len(raw))


def _messages(raw: Any) -> list[dict[str, Any]]:
    """Return the fields of the Messages for a message of a conversation, without ids."""
    if not isinstance(raw, dict):
        raise InvalidContent(f"expected an object, got {json_type(raw)}")
    if raw.get("object") == "message" or ("type" in raw and not isinstance(raw.get("content"), str)):
        return [{name: each for name, each in raw.items() if name != "id"}]  # AgentScope Runtime's, unchanged
    return openai.messages(raw)


def _message_id(raw: dict[str, Any], derived: str, place: str, notes: Notes, *, is_required: bool = False) -> str:
    """Return the id of a message or, without one that can be used, the derived one."""
    try:
        id, _ = _id(raw, "id")
    except InvalidContent as error:
        notes.changed(place, f"{error}: stored as {quote(derived)}")
        return derived
    if id is None and is_required:
        notes.changed(place, f"id: missing: stored as {quote(derived)}")
    return id or derived


def _list(messages: Any) -> list[Any]:
    if not isinstance(messages, list):
        raise wrong_type("messages", "a list", messages)
    return messages


def _owner(
    value: dict[str, Any], user: tuple[str, ...], session: tuple[str, ...], messages: int
) -> tuple[tuple[str | None, str | None], tuple[str | None, str | None]]:
    """Return the ids of the user and of the session, each with the name of its field.

    Raises:
        Refused: one of them is not an id.
    """
    try:
        return _id(value, *user), _id(value, *session)
    except InvalidContent as error:
        raise Refused(str(error), messages) from error


def _id(value: dict[str, Any], *names: str) -> tuple[str | None, str | None]:
    """Return the first of these fields that is set, as a string, and its name; a blank id counts as not set."""
    for name in names:
        id = value.get(name)
        if isinstance(id, int) and not isinstance(id, bool) and id.bit_length() <= _MAX_ID_BITS:
            return str(id), name
        if id is not None and not isinstance(id, str):
            raise wrong_type(name, "a string or an integer", id)
        if id is not None and id.strip():
            return id, name
    return None, None
