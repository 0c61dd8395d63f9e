"""Convert JSON values to sessions. The supported forms are:

==================================  ================================================================================
``{"messages": [...]}``             a conversation; each message is of OpenAI's chat completions or AgentScope Runtime
``{"mapping": {...}}``              a conversation of a ChatGPT export: the path that ends in ``current_node``
``{"role": ...}``                   a message; those of a file that name no session form one session
``{"object": "session", ...}``      a session that ``agentstore sessions export`` wrote, restored unchanged
==================================  ================================================================================
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from agentstore.errors import InvalidContent
from agentstore.exact_json import dumps_sorted
from agentstore.importing import chatgpt, openai
from agentstore.importing.fields import add_rest, json_type, quote, require_object, wrong_type
from agentstore.importing.ids import Ids
from agentstore.schemas import Message, Session
from agentstore.schemas.times import parse_time

_USER = ("user", "user_id")
_SESSION = ("session", "session_id", "id")
_USED = ("title", "time", "created_at", "updated_at", "metadata", "messages")


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

    def session(self, value: Any) -> Session:
        """Convert a JSON value to a session. Several values of a file may be parts of the same session.

        Raises:
            InvalidContent: it has none of the supported forms; the error begins with the place in the value.
        """
        if not isinstance(value, dict):
            raise InvalidContent(f"expected an object with messages, got {json_type(value)}")
        if self._ids is None:
            # Input from stdin is identified by its first value.
            self._ids = Ids(dumps_sorted(value) if self._file is None else self._file)
        if "mapping" in value:
            return self._from_chatgpt(value, self._ids)
        if value.get("object") == "session":
            return _exported(value)
        if "messages" in value:
            return self._from_conversation(value, self._ids)
        if "role" in value or value.get("object") == "message":
            return self._from_message(value, self._ids)
        keys = ", ".join(map(quote, list(value)[:5]))
        found = f"the keys {keys}" if keys else "no keys"
        raise InvalidContent(f'expected an object with "messages", "mapping" or "role", got {found}')

    def _from_conversation(self, value: dict[str, Any], ids: Ids) -> Session:
        raw = _list(value["messages"])
        time = value.get("time")
        if isinstance(time, bool) or not isinstance(time, (str, int, float, type(None))):
            raise wrong_type("time", "a string or a number", time)
        (user_id, user_field), (session_id, session_field) = _id(value, *_USER), _id(value, *_SESSION)
        user_id = user_id or self._user_id
        translated = [_call_at(f"messages[{index}]", _messages, each) for index, each in enumerate(raw)]
        given = [_call_at(f"messages[{index}]", _id, each, "id")[0] for index, each in enumerate(raw)]
        if session_id is None:
            session_id = ids.for_conversation(user_id, value)
            derived = Ids.for_messages(session_id, raw)
            all_ids = [id or other for id, other in zip(given, derived, strict=True)]
        else:
            all_ids = [id or ids.for_message(user_id, session_id, each) for id, each in zip(given, raw, strict=True)]
        dated = parse_time(time)
        used = {user_field, session_field, *_USED} - ({"time"} if dated is None and time not in (None, "") else set())
        rest = {name: each for name, each in value.items() if name not in used}
        return Session(
            id=session_id,
            user_id=user_id,
            messages=[
                message
                for index, (id, fields) in enumerate(zip(all_ids, translated, strict=True))
                for message in _call_at(f"messages[{index}]", _numbered, id, fields)
            ],
            title=_title(value),
            metadata=add_rest(require_object(value.get("metadata") or {}, "metadata"), rest, "conversation"),
            created_at=_time(value, "created_at") or dated,
            updated_at=_time(value, "updated_at") or _time(value, "created_at") or dated,
        )

    def _from_message(self, value: dict[str, Any], ids: Ids) -> Session:
        (user_id, user_field), (session_id, session_field) = _id(value, *_USER), _id(value, *_SESSION[:2])
        user_id = user_id or self._user_id
        session_id = session_id or self._session_id
        if session_id is None:
            if self._file is None:
                raise InvalidContent("the message belongs to no conversation and names no session: pass --session")
            session_id = ids.for_file()
        raw = {name: each for name, each in value.items() if name not in (user_field, session_field)}
        fields = _messages(raw)
        id = _id(raw, "id")[0] or ids.for_message(user_id, session_id, raw)
        return Session(id=session_id, user_id=user_id, messages=_numbered(id, fields))

    def _from_chatgpt(self, value: dict[str, Any], ids: Ids) -> Session:
        raw = chatgpt.path(value)
        user_id = _id(value, *_USER)[0] or self._user_id
        session_id = _id(value, "conversation_id", "id")[0]
        if session_id is None:
            session_id = ids.for_conversation(user_id, value)
            derived = Ids.for_messages(session_id, raw)
        else:
            derived = [ids.for_message(user_id, session_id, each) for each in raw]
        messages = []
        for each, other in zip(raw, derived, strict=True):
            where = f"message {each.get('id')}"
            fields = _call_at(where, chatgpt.message, each)
            if fields is not None:
                messages += _call_at(where, _numbered, _call_at(where, _id, each, "id")[0] or other, [fields])
        return Session(
            id=session_id,
            user_id=user_id,
            messages=messages,
            title=_title(value),
            metadata=chatgpt.metadata(value),
            created_at=_time(value, "create_time"),
            updated_at=_time(value, "update_time"),
        )


def _exported(value: dict[str, Any]) -> Session:
    """Return a session that agentstore exported, unchanged."""
    for index, message in enumerate(_list(value.get("messages"))):
        if not isinstance(require_object(message, f"messages[{index}]").get("id"), str):
            raise InvalidContent(f"messages[{index}].id: missing")
    if unknown := sorted(value.keys() - Session.model_fields.keys() - {"object"}):
        raise InvalidContent(f"{quote(unknown[0])} is not a field of an exported session")
    try:
        return Session.model_validate({name: each for name, each in value.items() if name != "object"})
    except ValidationError as error:
        raise _invalid(error) from error


def _messages(raw: Any) -> list[dict[str, Any]]:
    """Return the fields of the Messages for a message of a conversation, without ids."""
    if not isinstance(raw, dict):
        raise InvalidContent(f"expected an object, got {json_type(raw)}")
    if raw.get("object") == "message" or ("type" in raw and not isinstance(raw.get("content"), str)):
        return [{name: each for name, each in raw.items() if name != "id"}]  # AgentScope Runtime's, unchanged
    return openai.messages(raw)


def _numbered(id: str, all_fields: list[dict[str, Any]]) -> list[Message]:
    """Return Messages with the ids ``id``, ``id/1``, ``id/2`` and so on."""
    found = []
    for number, fields in enumerate(all_fields):
        try:
            found.append(Message.model_validate({"id": f"{id}/{number}" if number else id, **fields}))
        except ValidationError as error:
            raise _invalid(error) from error
    return found


def _call_at(where: str, call: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function, and put `where` in front of the message of an error."""
    try:
        return call(*arguments)
    except InvalidContent as error:
        raise InvalidContent(f"{where}: {error}") from error


def _invalid(error: ValidationError) -> InvalidContent:
    (first, *_) = error.errors(include_url=False, include_context=False)
    return InvalidContent(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")


def _list(messages: Any) -> list[Any]:
    if not isinstance(messages, list):
        raise wrong_type("messages", "a list", messages)
    return messages


def _id(value: dict[str, Any], *names: str) -> tuple[str | None, str | None]:
    """Return the first of these fields that is set, as a string, and its name; a blank id counts as not set."""
    for name in names:
        id = value.get(name)
        if isinstance(id, int) and not isinstance(id, bool):
            return str(id), name
        if id is not None and not isinstance(id, str):
            raise wrong_type(name, "a string or an integer", id)
        if id is not None and id.strip():
            return id, name
    return None, None


def _title(value: dict[str, Any]) -> str | None:
    title = value.get("title")
    if title is not None and not isinstance(title, str):
        raise wrong_type("title", "a string", title)
    return title


def _time(value: dict[str, Any], name: str) -> datetime | None:
    time = value.get(name)
    if time in (None, ""):
        return None
    if (found := parse_time(time)) is None:
        raise InvalidContent(f"{name}: {quote(time)} is not a valid timestamp")
    return found
