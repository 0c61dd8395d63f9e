"""What a piece of a file means: a session with its messages, in whichever of the known forms it is written.

====================================================  ================================================================
a conversation, ``{"messages": [...]}``               OpenAI's chat completions or AgentScope Runtime's, by message
an export of ChatGPT, ``{"mapping": {...}}``          the path that ends in ``current_node``
a message by itself, ``{"role": ...}``                all of a file's that name no session are one
``{"object": "session", ...}``                        what ``agentstore sessions export`` wrote, exactly
====================================================  ================================================================
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from agentstore.errors import InvalidContent
from agentstore.exact_json import dumps_sorted
from agentstore.importing import chatgpt, openai
from agentstore.importing.fields import an_object, kind, with_rest
from agentstore.importing.ids import Ids
from agentstore.schemas import Message, Session
from agentstore.schemas.times import parse_time

_USER = ("user", "user_id")
_SESSION = ("session", "session_id", "id")
_READ = ("title", "time", "created_at", "updated_at", "metadata", "messages")


class Translator:
    """Makes sessions of the pieces of one file."""

    def __init__(self, file: str | None, user_id: str, session_id: str | None = None) -> None:
        """`file` tells the file from others; None where nothing does, as of stdin.

        `user_id` owns what names no user; `session_id` is of messages that are in no conversation and name none.
        """
        self._user_id = user_id
        self._session_id = session_id
        self._file = file
        self._ids: Ids | None = None

    def session(self, value: Any) -> Session:
        """Return the session that a JSON value means; several of one file may be parts of the same session.

        Raises:
            InvalidContent: it means none; the message says where in it that shows.
        """
        if not isinstance(value, dict):
            raise InvalidContent(f"it is {kind(value)}, and not an object with messages")
        if self._ids is None:
            # What comes by stdin is told from what else does by how it begins.
            self._ids = Ids(dumps_sorted(value) if self._file is None else self._file)
        if "mapping" in value:
            return self._of_chatgpt(value, self._ids)
        if value.get("object") == "session":
            return _exported(value)
        if "messages" in value:
            return self._of_conversation(value, self._ids)
        if "role" in value or value.get("object") == "message":
            return self._of_message(value, self._ids)
        keys = ", ".join(map(repr, list(value)[:5])) or "nothing"
        raise InvalidContent(f'it has neither "messages" nor "mapping" nor "role", but {keys}')

    def _of_conversation(self, value: dict[str, Any], ids: Ids) -> Session:
        raw = _list(value["messages"])
        time = value.get("time")
        if isinstance(time, bool) or not isinstance(time, (str, int, float, type(None))):
            raise InvalidContent(f"time: it is {kind(time)}, and not a string or a number")
        (user_id, of_user), (session_id, of_session) = _id(value, *_USER), _id(value, *_SESSION)
        user_id = user_id or self._user_id
        translated = [_at(f"messages[{index}]", _messages, each) for index, each in enumerate(raw)]
        given = [_at(f"messages[{index}]", _id, each, "id")[0] for index, each in enumerate(raw)]
        if session_id is None:
            session_id = ids.of_conversation(user_id, value)
            made = Ids.of_messages(session_id, raw)
            all_ids = [id or other for id, other in zip(given, made, strict=True)]
        else:
            all_ids = [id or ids.of_message(user_id, session_id, each) for id, each in zip(given, raw, strict=True)]
        dated = parse_time(time)
        used = {of_user, of_session, *_READ} - ({"time"} if dated is None and time not in (None, "") else set())
        rest = {name: each for name, each in value.items() if name not in used}
        return Session(
            id=session_id,
            user_id=user_id,
            messages=[
                message
                for index, (id, fields) in enumerate(zip(all_ids, translated, strict=True))
                for message in _at(f"messages[{index}]", _numbered, id, fields)
            ],
            title=_title(value),
            metadata=with_rest(an_object(value.get("metadata") or {}, "metadata"), rest, "conversation"),
            created_at=_time(value, "created_at") or dated,
            updated_at=_time(value, "updated_at") or _time(value, "created_at") or dated,
        )

    def _of_message(self, value: dict[str, Any], ids: Ids) -> Session:
        (user_id, of_user), (session_id, of_session) = _id(value, *_USER), _id(value, *_SESSION[:2])
        user_id = user_id or self._user_id
        session_id = session_id or self._session_id
        if session_id is None:
            if self._file is None:
                raise InvalidContent("it is a message of no conversation, and names no session: say --session")
            session_id = ids.of_file()
        raw = {name: each for name, each in value.items() if name not in (of_user, of_session)}
        fields = _messages(raw)
        id = _id(raw, "id")[0] or ids.of_message(user_id, session_id, raw)
        return Session(id=session_id, user_id=user_id, messages=_numbered(id, fields))

    def _of_chatgpt(self, value: dict[str, Any], ids: Ids) -> Session:
        raw = chatgpt.path(value)
        user_id = _id(value, *_USER)[0] or self._user_id
        session_id = _id(value, "conversation_id", "id")[0]
        if session_id is None:
            session_id = ids.of_conversation(user_id, value)
            made = Ids.of_messages(session_id, raw)
        else:
            made = [ids.of_message(user_id, session_id, each) for each in raw]
        messages = []
        for each, other in zip(raw, made, strict=True):
            where = f"message {each.get('id')}"
            fields = _at(where, chatgpt.message, each)
            if fields is not None:
                messages += _at(where, _numbered, _at(where, _id, each, "id")[0] or other, [fields])
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
    """Return the session that was exported: nothing in it is read as anything else than it was."""
    for index, message in enumerate(_list(value.get("messages"))):
        if not isinstance(an_object(message, f"messages[{index}]").get("id"), str):
            raise InvalidContent(f"messages[{index}].id: it is missing")
    if unknown := sorted(value.keys() - Session.model_fields.keys() - {"object"}):
        raise InvalidContent(f"{unknown[0]}: a session that was exported has no such field")
    try:
        return Session.model_validate({name: each for name, each in value.items() if name != "object"})
    except ValidationError as error:
        raise _invalid(error) from error


def _messages(raw: Any) -> list[dict[str, Any]]:
    """Return the fields of the Messages that one of a conversation is, without ids."""
    if not isinstance(raw, dict):
        raise InvalidContent(f"it is {kind(raw)} and not an object")
    if raw.get("object") == "message" or ("type" in raw and not isinstance(raw.get("content"), str)):
        return [{name: each for name, each in raw.items() if name != "id"}]  # the runtime's, as it is
    return openai.messages(raw)


def _numbered(id: str, all_fields: list[dict[str, Any]]) -> list[Message]:
    """Return Messages: the first with this id, the others with a number after it."""
    found = []
    for number, fields in enumerate(all_fields):
        try:
            found.append(Message.model_validate({"id": f"{id}/{number}" if number else id, **fields}))
        except ValidationError as error:
            raise _invalid(error) from error
    return found


def _at(where: str, call: Callable[..., Any], *arguments: Any) -> Any:
    """Call, and say where in the piece it was if something is wrong."""
    try:
        return call(*arguments)
    except InvalidContent as error:
        raise InvalidContent(f"{where}: {error}") from error


def _invalid(error: ValidationError) -> InvalidContent:
    (first, *_) = error.errors(include_url=False, include_context=False)
    return InvalidContent(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")


def _list(messages: Any) -> list[Any]:
    if not isinstance(messages, list):
        raise InvalidContent(f"messages: it is {kind(messages)} and not a list")
    return messages


def _id(value: dict[str, Any], *names: str) -> tuple[str | None, str | None]:
    """Return the first of these that is there, and its name; a number is its digits, and a blank one is none."""
    for name in names:
        id = value.get(name)
        if isinstance(id, int) and not isinstance(id, bool):
            return str(id), name
        if id is not None and not isinstance(id, str):
            raise InvalidContent(f"{name}: it is {kind(id)} and not a string")
        if id is not None and id.strip():
            return id, name
    return None, None


def _title(value: dict[str, Any]) -> str | None:
    title = value.get("title")
    if title is not None and not isinstance(title, str):
        raise InvalidContent(f"title: it is {kind(title)} and not a string")
    return title


def _time(value: dict[str, Any], name: str) -> datetime | None:
    time = value.get(name)
    if time in (None, ""):
        return None
    if (found := parse_time(time)) is None:
        raise InvalidContent(f"{name}: {time!r} is no time")
    return found
