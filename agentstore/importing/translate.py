"""What a piece of a file means: a session with its messages, in whichever of the known forms it is written.

====================================================  ================================================================
a conversation, ``{"messages": [...]}``               OpenAI's chat completions or AgentScope Runtime's, by message
an export of ChatGPT, ``{"mapping": {...}}``          the path that ends in ``current_node``
a message by itself, ``{"role": ...}``                all of a file's that name no session are one conversation
``{"object": "session", ...}``                        what ``agentstore sessions export`` wrote, exactly
====================================================  ================================================================
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from pydantic import ValidationError

from agentstore.errors import InvalidContent
from agentstore.importing import chatgpt, openai
from agentstore.importing.fields import an_object, kind
from agentstore.importing.ids import Ids
from agentstore.schemas import Message, Session
from agentstore.schemas.times import parse_time

_OWNER = ("user", "user_id", "session", "session_id")
_HEAD = {*_OWNER, "id", "title", "time", "created_at", "updated_at", "metadata", "messages"}


class Translator:
    """Makes sessions of the pieces of one file."""

    def __init__(self, user_id: str, session_id: str | None = None) -> None:
        """`user_id` owns what names no user; `session_id` is of messages that are in no conversation."""
        self._user_id = user_id
        self._loose_ids = {} if session_id is None else {user_id: session_id}
        self._ids = Ids()

    def session(self, value: Any) -> Session:
        """Return the session that a JSON value means; several of one file may be parts of the same session.

        Raises:
            InvalidContent: it means none; the message says where in it that shows.
        """
        if not isinstance(value, dict):
            raise InvalidContent(f"it is {kind(value)}, and not an object with messages")
        if "mapping" in value:
            return self._of_chatgpt(value)
        if value.get("object") == "session":
            return _exported(value)
        if "messages" in value:
            return self._of_conversation(value)
        if "role" in value or value.get("object") == "message":
            return self._of_message(value)
        keys = ", ".join(map(repr, list(value)[:5])) or "nothing"
        raise InvalidContent(f'it has neither "messages" nor "mapping" nor "role", but {keys}')

    def _of_conversation(self, value: dict[str, Any]) -> Session:
        raw = _list(value["messages"])
        metadata = an_object(value.get("metadata") or {}, "metadata")
        time = value.get("time")
        if isinstance(time, bool) or not isinstance(time, (str, int, float, type(None))):
            raise InvalidContent(f"time: it is {kind(time)}, and not a string or a number")
        user_id = _id(value, "user", "user_id") or self._user_id
        session_id = _id(value, "session", "session_id", "id")
        translated = [_at(f"messages[{index}]", _messages, each, time) for index, each in enumerate(raw)]
        if session_id is None:
            session_id = self._ids.of_conversation(user_id, value)
            ids = Ids.of_messages(session_id, raw)
        else:
            ids = [_id(each, "id") or self._ids.of_message(user_id, session_id, each) for each in raw]
        dated = parse_time(time)
        if time not in (None, "") and dated is None:
            metadata = {"time": time, **metadata}
        return Session(
            id=session_id,
            user_id=user_id,
            messages=[
                message
                for index, (each, id, fields) in enumerate(zip(raw, ids, translated, strict=True))
                for message in _at(f"messages[{index}]", _numbered, _id(each, "id") or id, fields)
            ],
            title=_title(value),
            metadata={**{name: each for name, each in value.items() if name not in _HEAD}, **metadata},
            created_at=_time(value, "created_at") or dated,
            updated_at=_time(value, "updated_at") or dated,
        )

    def _of_message(self, value: dict[str, Any]) -> Session:
        user_id = _id(value, "user", "user_id") or self._user_id
        raw = {name: each for name, each in value.items() if name not in _OWNER}
        session_id = _id(value, "session", "session_id") or self._loose_ids.get(user_id)
        if session_id is None:
            session_id = self._loose_ids[user_id] = self._ids.of_conversation(user_id, raw)
        id = _id(raw, "id") or self._ids.of_message(user_id, session_id, raw)
        return Session(id=session_id, user_id=user_id, messages=_numbered(id, _messages(raw, None)))

    def _of_chatgpt(self, value: dict[str, Any]) -> Session:
        raw = chatgpt.path(value)
        session_id = _id(value, "conversation_id", "id") or self._ids.of_conversation(self._user_id, value)
        messages = []
        for each in raw:
            where = f"message {each.get('id')}"
            fields = _at(where, chatgpt.message, each)
            if fields is not None:
                id = _id(each, "id") or self._ids.of_message(self._user_id, session_id, each)
                messages += _at(where, _numbered, id, [fields])
        return Session(
            id=session_id,
            user_id=self._user_id,
            messages=messages,
            title=_title(value),
            metadata=chatgpt.metadata(value),
            created_at=_time(value, "create_time"),
            updated_at=_time(value, "update_time"),
        )


def _exported(value: dict[str, Any]) -> Session:
    """Return the session that was exported: nothing in it is read as anything else than it was."""
    _list(value.get("messages"))
    try:
        return Session.model_validate({name: each for name, each in value.items() if name != "object"})
    except ValidationError as error:
        raise _invalid(error) from error


def _messages(raw: Any, time: str | float | None) -> list[dict[str, Any]]:
    """Return the fields of the Messages that one of a conversation is, without ids."""
    if not isinstance(raw, dict):
        raise InvalidContent(f"it is {kind(raw)} and not an object")
    if raw.get("object") == "message" or ("type" in raw and not isinstance(raw.get("content"), str)):
        return [{name: each for name, each in raw.items() if name != "id"}]  # the runtime's, as it is
    return openai.messages(raw, time)


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


def _id(value: dict[str, Any], *names: str) -> str | None:
    """Return the first of these that is there, a number as its digits; a blank one is none."""
    for name in names:
        id = value.get(name)
        if isinstance(id, int) and not isinstance(id, bool):
            return str(id)
        if id is not None and not isinstance(id, str):
            raise InvalidContent(f"{name}: it is {kind(id)} and not a string")
        if id is not None and id.strip():
            return id
    return None


def _title(value: dict[str, Any]) -> str | None:
    title = value.get("title")
    if title is not None and not isinstance(title, str):
        raise InvalidContent(f"title: it is {kind(title)} and not a string")
    return title


def _time(value: dict[str, Any], name: str) -> datetime | None:
    time = value.get(name)
    if time is not None and (found := parse_time(time)) is not None:
        return found
    if time is not None:
        raise InvalidContent(f"{name}: {time!r} is no time")
    return None
