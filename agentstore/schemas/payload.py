"""Messages on their way to the database and back: validated, limited, exact."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from agentstore.errors import Conflict, InvalidContent, LimitExceeded
from agentstore.exact_json import check, dumps_checked
from agentstore.schemas.message import DataContent, Message, MessagesLike, Role
from agentstore.settings import Settings

_ROLES = (None, Role.ASSISTANT, Role.USER, Role.SYSTEM, Role.TOOL)
_MAX_TITLE = 10_000
_MESSAGES = TypeAdapter(list[Message])


def check_id(value: str, name: str, settings: Settings) -> str:
    """Return `value`, the id called `name`, if it can be kept.

    Raises:
        InvalidContent: it is no string, or holds what text in Postgres cannot, or is longer than 512 bytes.
    """
    if not isinstance(value, str):
        raise InvalidContent(f"{name} must be a string, not {type(value).__name__}")
    if "\0" in value:
        raise InvalidContent(f"{name} holds a NUL character, which an id cannot")
    try:
        length = len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError as error:
        raise InvalidContent(f"{name} holds a lone surrogate, which an id cannot") from error
    if length > settings.max_id_bytes:
        raise InvalidContent(f"{name} has {length} bytes, {settings.max_id_bytes} are allowed")
    return value


def new_session_id(value: str | None) -> str:
    """Return the id of a new session: `value` without blanks around it, or a UUID."""
    if value is not None and not isinstance(value, str):
        raise InvalidContent(f"session_id must be a string, not {type(value).__name__}")
    return (value or "").strip() or str(uuid4())


def check_title(value: str | None) -> str | None:
    """Return a session's title, if it can be kept.

    Raises:
        InvalidContent: it is no string, or holds what text in Postgres cannot.
        LimitExceeded: longer than 10,000 characters.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidContent(f"a title must be a string, not {type(value).__name__}")
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidContent("a title cannot hold a NUL character or a lone surrogate")
    if len(value) > _MAX_TITLE:
        raise LimitExceeded(f"a title has {len(value)} characters, {_MAX_TITLE} are allowed")
    return value


def dump_metadata(value: Mapping[str, Any], settings: Settings) -> str:
    """Return the metadata of a session or a user as the JSON text that is stored.

    Raises:
        InvalidContent: it is no object, or holds what JSON cannot keep.
        LimitExceeded: larger than `max_message_bytes`, or nested deeper than 200 levels.
    """
    if not isinstance(value, Mapping):
        raise InvalidContent(f"metadata must be a dict, not {type(value).__name__}")
    plain = dict(value)
    check(plain, where="metadata")
    return _limited(dumps_checked(plain), "metadata", settings)


def parse_messages(given: MessagesLike, settings: Settings) -> list[Message]:
    """Return what was given, one or many, as Messages with ids that can be kept; each id once.

    None is passed over. The same message twice is once.

    Raises:
        InvalidContent: something is no message, or has an id that cannot be kept.
        Conflict: two messages have one id and different content.
        LimitExceeded: more than `max_batch` messages.
    """
    many: Iterable[object]
    if given is None or isinstance(given, (Message, Mapping)):
        many = (given,)
    elif isinstance(given, Sequence) and not isinstance(given, (str, bytes, bytearray)):
        if len(given) > settings.max_batch:
            raise LimitExceeded(f"{len(given)} messages at once, {settings.max_batch} are allowed")
        many = given
    else:
        raise InvalidContent(f"a message must be a Message or a dict, not {type(given).__name__}")
    found: dict[str, Message] = {}
    for position, each in enumerate(many):
        if each is None:
            continue
        message = each if isinstance(each, Message) else _parse(each, position)
        check_id(message.id, f"the id of message {position}", settings)
        if message.id not in found:
            found[message.id] = message
        elif found[message.id] != message:
            raise Conflict(f"two messages have the id {message.id!r} and different content")
    return list(found.values())


def dump_message(message: Message, settings: Settings) -> str:
    """Return a message as the JSON text that is stored.

    Raises:
        InvalidContent: it holds what JSON cannot keep, or a field was set to what the field cannot be.
        LimitExceeded: larger than `max_message_bytes`, or nested deeper than 200 levels.
    """
    sparse = _none_can_go(message)
    try:
        value = message.model_dump(exclude_none=sparse, warnings="error")
    except PydanticSerializationError:
        value = _validated_again(message, sparse)
    except (ValueError, RecursionError) as error:
        raise LimitExceeded(f"message {message.id!r} is nested too deeply: {error}") from error
    if message.role not in _ROLES:  # which the serializer does not look at
        value = _validated_again(message, sparse)
    _check_free_parts(message, value)
    return _limited(dumps_checked(value), f"message {message.id!r}", settings)


def load_messages(payloads: Sequence[str]) -> list[Message]:
    """Return stored messages, validated in one pass."""
    if not payloads:
        return []
    try:
        return _MESSAGES.validate_json(f"[{','.join(payloads)}]")
    except ValidationError:
        # A lone surrogate, which pydantic's parser refuses and the standard library's does not.
        return _MESSAGES.validate_python([json.loads(payload) for payload in payloads])


def _parse(value: object, position: int) -> Message:
    if not isinstance(value, Mapping):
        raise InvalidContent(f"message {position} is a {type(value).__name__}: give a Message or a dict")
    if value.get("id", "") is None:
        value = {name: each for name, each in value.items() if name != "id"}
    try:
        return Message.model_validate(dict(value) if not isinstance(value, dict) else value)
    except ValidationError as error:
        raise InvalidContent(f"message {position} is not a message: {error}") from error


def _none_can_go(message: Message) -> bool:
    """Whether every None of a message may be left out, to come back as the default of its field."""
    if message.status is None or message.model_extra or (message.error is not None and message.error.model_extra):
        return False
    return all(
        not isinstance(part, BaseModel) or not (part.delta is None or part.model_extra or part.error is not None)
        for part in message.content or ()
    )


def _validated_again(message: Message, sparse: bool) -> dict[str, Any]:
    """Dump a message that was changed, or made, without pydantic's looking at it."""
    try:
        value: dict[str, Any] = message.model_dump(warnings=False)
        return Message.model_validate(value).model_dump(exclude_none=sparse, warnings="error")
    except (ValidationError, PydanticSerializationError) as error:
        raise InvalidContent(f"message {message.id!r} is not a message: {error}") from error


def _check_free_parts(message: Message, value: dict[str, Any]) -> None:
    """Check the parts of a message that may hold anything; the others have been validated."""
    for name in ("metadata", "usage", *(message.model_extra or ())):
        if name in value:
            check(value[name], where=name)
    for index, part in enumerate(message.content or ()):
        extra = part.model_extra
        if extra or part.error is not None or isinstance(part, DataContent):
            dumped = value["content"][index]
            for name in ("data", "error", *(extra or ())):
                if name in dumped:
                    check(dumped[name], where=f"content[{index}].{name}")
    if message.error is not None and message.error.model_extra:
        check(value["error"], where="error")


def _limited(payload: str, name: str, settings: Settings) -> str:
    if len(payload) * 4 > settings.max_message_bytes:  # else it cannot be too large, whatever its characters are
        size = len(payload) if payload.isascii() else len(payload.encode())
        if size > settings.max_message_bytes:
            raise LimitExceeded(f"{name} has {size} bytes, {settings.max_message_bytes} are allowed")
    return payload
