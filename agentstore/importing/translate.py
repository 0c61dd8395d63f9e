"""Convert JSON values to sessions; :mod:`agentstore.importing.formats` has the supported forms."""

from typing import Any

from pydantic import ValidationError

from agentstore.errors import InvalidContent, LimitExceeded
from agentstore.exact_json import dumps_sorted
from agentstore.importing import chatgpt, openai_logs, sharegpt
from agentstore.importing.conversation import Conversation, numbered
from agentstore.importing.formats import describe_unknown, find_format
from agentstore.importing.head import Head
from agentstore.importing.ids import Ids
from agentstore.importing.notes import Notes, Refused
from agentstore.importing.translated import Messages, Translated, invalid
from agentstore.schemas import Session
from agentstore.schemas.parts import json_type, quote, require_object, wrong_type

Requests = dict[str, list[tuple[str, str]]]
"""By the ``custom_id`` of requests of OpenAI's Batch API: the users and the sessions of those that have it."""

_USER = ("user", "user_id")
_SESSION = ("session", "session_id", "id")
_MAX_ID_BITS = 10_000  # Python converts integers of up to 4,300 digits to text
_USED = ("title", "time", "created_at", "updated_at", "metadata", "messages")


class Translator:
    """Converts the values of one file to sessions."""

    def __init__(
        self, file: str | None, user_id: str, session_id: str | None = None, requests: Requests | None = None
    ) -> None:
        """Create a translator. `file` identifies the file, for example by its path; None for stdin.

        `user_id` is the default owner; `session_id` is the default session of messages outside of a conversation.
        `requests` has the requests of OpenAI's Batch API that other files have, and is extended.
        """
        self._user_id = user_id
        self._session_id = session_id
        self._file = file
        self._requests: Requests = {} if requests is None else requests
        self._ids: Ids | None = None

    def translate(self, value: Any) -> Translated:
        """Convert a JSON value to a session. Several values of a file may be parts of the same session.

        A message that cannot be converted becomes a note, and the others are converted.

        Raises:
            InvalidContent: it has none of the supported forms; the error begins with the place in the value.
        """
        notes = Notes()
        if isinstance(value, list):
            return self._from_conversation(_array(value), value, notes)
        if not isinstance(value, dict):
            raise InvalidContent(f"expected an object with messages, got {json_type(value)}")
        found = find_format(value)
        if found is None:
            raise InvalidContent(describe_unknown(value))
        if found.convert is not None:
            return self._from_conversation(found.convert(value, notes), value, notes)
        if found.name == "openai-batch":
            return self._from_batch(value, notes)
        if found.name == "chatgpt":
            return self._from_chatgpt(value, self._ids_for(value), notes)
        if found.name == "agentstore":
            return _exported(value, notes)
        return self._from_message(value, self._ids_for(value), notes)

    def _ids_for(self, value: Any) -> Ids:
        if self._ids is None:
            # Input from stdin is identified by its first value.
            self._ids = Ids(dumps_sorted(value) if self._file is None else self._file)
        return self._ids

    def _from_conversation(self, found: Conversation, value: Any, notes: Notes) -> Translated:
        count = len(found.messages) + sum(note.messages for note in notes.found)
        (user_id, user_field), (session_id, session_field) = _owner(found.head, _USER, _SESSION, count)
        user_id, ids = user_id or self._user_id, self._ids_for(value)
        if found.is_file:
            session_id = self._session_id or ids.for_file()
        if session_id is None:
            session_id = ids.for_conversation(user_id, value)
            derived = Ids.for_messages(session_id, found.messages)
        elif found.is_part:
            derived = [
                "" if _has_id(each, found.id_field) else ids.for_message(user_id, session_id, each)
                for each in found.messages
            ]
        else:
            derived = Ids.for_messages(session_id, found.messages)
        messages = Messages(notes)
        for place, each, other in zip(found.places, found.messages, derived, strict=True):
            try:  # for many messages faster than notes.message()
                if fields := found.convert(each):
                    messages.add(place, _message_id(each, other, place, notes, found.id_field), fields)
                else:
                    notes.passed_over(place, "the message has no content")
            except (InvalidContent, LimitExceeded) as error:
                notes.problem(place, str(error))
        head = Head(found.head, notes)
        title, dated = head.title(), head.time("time")
        created_at, updated_at = head.time("created_at") or dated, head.time("updated_at")
        used = {user_field, session_field, *_USED} - head.unused
        session = Session(
            id=session_id,
            user_id=user_id,
            title=title,
            metadata=head.metadata({name: each for name, each in found.head.items() if name not in used}),
            created_at=created_at,
            updated_at=updated_at,
        )
        return messages.build(session, count, is_message=found.is_file and bool(found.messages))

    def _from_batch(self, value: dict[str, Any], notes: Notes) -> Translated:
        """Convert a line of the input of a Batch, or add the reply of a line of its output to its request."""
        custom_id = value["custom_id"]
        known = self._requests.setdefault(custom_id, []) if isinstance(custom_id, str) else []
        nothing = Session(id="", user_id="")
        if openai_logs.is_batch_request(value):
            if not openai_logs.is_conversation_of_batch(value):
                notes.not_imported("url", f"{quote(value['url'])} is not an API for conversations")
                return Messages(notes).build(nothing, 0, is_message=True)
            request = openai_logs.conversation(openai_logs.batch_request(value), notes)
            translated = self._from_conversation(request, value, notes)
            known.append((translated.session.user_id, translated.session.id))
            return translated
        if (failure := openai_logs.batch_failure(value)) is not None:
            notes.not_imported("", failure)
            return Messages(notes).build(nothing, 0, is_message=True)
        reply = openai_logs.batch_reply(value, notes)
        if len(known) != 1:
            reason = f"names {len(known)} requests of this import" if known else "is not in this import"
            count = len(reply.messages) + sum(note.messages for note in notes.found)
            raise Refused(f"custom_id: the request {quote(custom_id)} {reason}, so the reply has no question", count)
        (reply.head["user"], reply.head["session"]), *_ = known
        return self._from_conversation(reply, value, notes)

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
            fields = openai_logs.chat_message(raw)
            messages.add("", _message_id(raw, derived, "", notes), fields)
        return messages.build(Session(id=session_id, user_id=user_id), 1, is_message=True)

    def _from_chatgpt(self, value: dict[str, Any], ids: Ids, notes: Notes) -> Translated:
        raw, count = chatgpt.path(value, notes)
        user_id = _owner(value, _USER, (), count)[0][0] or self._user_id
        session_id = _owner(value, ("conversation_id", "id"), (), count)[0][0]
        if session_id is None:
            session_id = ids.for_conversation(user_id, chatgpt.beginning(raw) or value)
        messages = Messages(notes)
        for node, each in raw:
            place = f"mapping.{node}"
            try:
                if (fields := chatgpt.message(each, place, notes)) is not None:
                    messages.add(place, _message_id(each, node, place, notes, is_required=True), [fields])
            except (InvalidContent, LimitExceeded) as error:
                notes.problem(place, str(error))
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


def _array(value: list[Any]) -> Conversation:
    """Return the conversation of a list of messages.

    Raises:
        InvalidContent: it has none.
    """
    first = next((each for each in value if isinstance(each, dict)), None)
    if first is None or not any(name in first for name in ("role", "from", "type")):
        raise InvalidContent(f"expected a list of messages, got {quote(value)}")
    convert = sharegpt.message if "role" not in first and "from" in first else openai_logs.chat_message
    return Conversation({}, value, numbered("", value), convert)


def _has_id(raw: Any, name: str) -> bool:
    id = raw.get(name) if isinstance(raw, dict) else None
    return isinstance(id, str) and bool(id.strip())


def _message_id(
    raw: dict[str, Any], derived: str, place: str, notes: Notes, name: str = "id", *, is_required: bool = False
) -> str:
    """Return the id of a message or, without one that can be used, the derived one."""
    try:
        id, _ = _id(raw, name)
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
