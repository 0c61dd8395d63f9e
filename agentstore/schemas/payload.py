"""Messages on their way to the database and back: validated, limited, exact."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from secrets import token_hex
from typing import Any, cast
from uuid import uuid4

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from agentstore.errors import Conflict, InvalidContent, LimitExceeded
from agentstore.exact_json import check, dumps, dumps_checked, no_collection
from agentstore.schemas.message import (
    AudioContent,
    DataContent,
    FileContent,
    ImageContent,
    Message,
    MessagesLike,
    RefusalContent,
    Role,
    TextContent,
)
from agentstore.settings import Settings

_ROLES = (None, Role.ASSISTANT, Role.USER, Role.SYSTEM, Role.TOOL)
_PLAIN_PARTS = (TextContent, ImageContent, AudioContent, FileContent, RefusalContent)
_MAX_TITLE = 10_000
# Postgres takes less than 1 GB at once, and a character may be four bytes.
_MAX_BATCH_CHARACTERS = 200_000_000
_MESSAGES = TypeAdapter(list[Message])
_LIST: TypeAdapter[list[Any]] = TypeAdapter(list)
# Between messages that are dumped together: nobody knows it who could put it into one of them.
_SECRET = token_hex(16)
_TOGETHER = 100


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


def check_ids(values: list[str], name: str, settings: Settings) -> None:
    """Make sure that each of many ids can be kept: see :func:`check_id`."""
    try:
        joined, longest = "".join(values), max(map(len, values), default=0)
    except TypeError:
        joined, longest = "\0", 0
    if not joined.isascii() or "\0" in joined or longest > settings.max_id_bytes:
        for value in values:
            check_id(value, name, settings)


def new_session_id(value: str | None) -> str:
    """Return the id of a new session: `value` without blanks around it, or a UUID."""
    if value is not None and not isinstance(value, str):
        raise InvalidContent(f"session_id must be a string, not {type(value).__name__}")
    return (value or "").strip() or str(uuid4())


def check_ttl(value: int | None) -> int | None:
    """Return for how many seconds a session is kept, if that can be.

    Raises:
        InvalidContent: it is no whole number from 1 to 2**31 - 1, which are 68 years.
    """
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**31):
        return value
    raise InvalidContent(f"a ttl is a whole number of seconds from 1 to 2**31 - 1, or None, not {value!r}")


def check_place(at: str | int, settings: Settings) -> type[str] | type[int]:
    """Return of which kind `at` is, the last message that is wanted: its id, or how many come before it and with it.

    Raises:
        InvalidContent: it is neither.
    """
    if isinstance(at, str):
        check_id(at, "at", settings)
        return str
    if isinstance(at, int) and not isinstance(at, bool) and 0 <= at < 2**63:
        return int
    raise InvalidContent(f"at must be a message's id or a whole number from 0, not {at!r}")


def check_missing_session(value: str) -> bool:
    """Return whether a service creates the session that is missing.

    Raises:
        InvalidContent: `value` is neither "error" nor "create".
    """
    if value not in ("error", "create"):
        raise InvalidContent(f'missing_session is "error" or "create", not {value!r}')
    return value == "create"


def check_list(messages: object) -> None:
    """Make sure, before anything is written, that a session's messages can be added to.

    Raises:
        InvalidContent: they are no list.
    """
    if not isinstance(messages, list):
        raise InvalidContent(f"session.messages must be a list, not {type(messages).__name__}")


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


def aware(value: datetime | None, name: str) -> datetime | None:
    """Return a time that says which time zone it is of, or None.

    Raises:
        InvalidContent: it does not say so, or is of the first or the last year that there is, which the database
            and its driver use for infinity.
    """
    if value is None:
        return None
    if value.tzinfo is None:
        raise InvalidContent(f"{name} has no time zone: give it one, as in datetime.now(UTC)")
    if not 1 < value.year < 9999:
        raise InvalidContent(f"{name} is {value.isoformat()}: a time is of the years 2 to 9998")
    return value


def dump_metadata(value: Mapping[str, Any], settings: Settings) -> str:
    """Return the metadata of a session or a user as the JSON text that is stored.

    Raises:
        InvalidContent: it is no object, or holds what JSON cannot keep.
        LimitExceeded: larger than `max_message_bytes`, or nested deeper than 200 levels.
    """
    if not isinstance(value, Mapping):
        raise InvalidContent(f"metadata must be a dict, not {type(value).__name__}")
    return _limited(dumps(dict(value), where="metadata"), "metadata", settings.max_message_bytes)


def dump_state(value: Mapping[str, Any], settings: Settings) -> str:
    """Return an agent's state as the JSON text that is stored.

    Raises:
        InvalidContent: it is no object, or holds what JSON cannot keep.
        LimitExceeded: larger than `max_state_bytes`, or nested deeper than 200 levels.
    """
    if not isinstance(value, Mapping):
        raise InvalidContent(f"a state must be a dict, not {type(value).__name__}")
    return _limited(dumps(dict(value), where="state"), "the state", settings.max_state_bytes)


def prepare_messages(
    given: MessagesLike, settings: Settings, *, first_wins: bool = False
) -> dict[str, tuple[Message, str]]:
    """Return what was given, one or many, as Messages and the JSON text that is stored of each, by id, in order.

    None is passed over. The same message twice is once; with `first_wins` so is the same id with other content.

    Raises:
        InvalidContent: something is no message, has an id that cannot be kept, or holds what JSON cannot keep.
        Conflict: two messages have one id and different content.
        LimitExceeded: too many messages, or too large or too deep ones.
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
    messages = [as_message(each, position) for position, each in enumerate(many) if each is not None]
    ids = [message.id for message in messages]
    check_ids(ids, "a message's id", settings)
    payloads = _dump_messages(messages, settings)
    found: dict[str, tuple[Message, str]] = {}
    for id, message, payload in zip(ids, messages, payloads, strict=True):
        if id not in found:
            found[id] = message, payload
        elif not first_wins and not same_content(found[id][1], payload):
            raise Conflict(f"two messages have the id {id!r} and different content")
    if (size := sum(map(len, payloads))) > _MAX_BATCH_CHARACTERS:
        raise LimitExceeded(f"{size} characters at once, {_MAX_BATCH_CHARACTERS} are allowed: append in parts")
    return found


def same_content(one: str, other: str) -> bool:
    """Whether two stored texts are the same message: equal as Messages, however each was written."""
    return one == other or load_messages([one]) == load_messages([other])


def _dump_messages(messages: list[Message], settings: Settings) -> list[str]:
    """Return what :func:`dump_message` returns of each, and raise what it raises.

    Many are one document of pydantic's, which takes half as long, and is taken apart where a secret is.
    """
    payloads: list[str] = []
    for start in range(0, len(messages), _TOGETHER):
        part = messages[start : start + _TOGETHER]
        dumped = _dump_plain(part) if len(part) > 1 and all(map(_is_plain, part)) else None
        if dumped is None:
            dumped = [dump_message(message, settings) for message in part]
        elif max(map(len, dumped)) * 4 > settings.max_message_bytes:
            for payload, message in zip(dumped, part, strict=True):
                _limited(payload, message, settings.max_message_bytes)
        payloads += dumped
    return payloads


def _dump_plain(messages: list[Message]) -> list[str] | None:
    """Return the texts of plain messages, or None where they are to be looked at one by one."""
    for message in messages:
        _check_plain(message)
    parted: list[object] = [_SECRET] * (2 * len(messages) - 1)
    parted[::2] = messages
    try:
        dumped = _LIST.serializer.to_json(parted, exclude_none=True, warnings="error")
    except PydanticSerializationError:
        return None
    payloads = dumped[1:-1].decode().split(f',"{_SECRET}",')
    return payloads if len(payloads) == len(messages) else None


def _check_plain(message: Message) -> None:
    fields = message.__dict__
    if (metadata := fields.get("metadata")) is not None:
        check(metadata, where="metadata")
    if (usage := fields.get("usage")) is not None:
        check(usage, where="usage")


def dump_message(message: Message, settings: Settings) -> str:
    """Return a message as the JSON text that is stored.

    Raises:
        InvalidContent: it holds what JSON cannot keep, or what would not come back as a message.
        LimitExceeded: larger than `max_message_bytes`, or nested deeper than 200 levels.
    """
    if _is_plain(message):
        _check_plain(message)
        try:
            # A None that is left out comes back as the default of its field.
            payload = message.__pydantic_serializer__.to_json(message, exclude_none=True, warnings="error").decode()
        except PydanticSerializationError:
            pass  # a lone surrogate, or a field that was given what it cannot hold behind pydantic's back
        else:
            return _limited(payload, message, settings.max_message_bytes)
    _check_free_parts(message)
    try:
        value = message.model_dump(serialize_as_any=True, warnings=False)
        _check_dumped(value)
        Message.model_validate(value)  # what could not be read back would make the whole session unreadable
    except LimitExceeded:
        raise
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidContent(f"message {message.id!r} cannot be stored as a message: {error}") from error
    return _limited(dumps_checked(value), message, settings.max_message_bytes)


def as_array(payloads: Sequence[str] | Sequence[bytes]) -> str | bytes:
    """Return stored texts as the text of one JSON array."""
    if payloads and isinstance(payloads[0], bytes):
        return b"[%b]" % b",".join(cast("Sequence[bytes]", payloads))
    return f"[{','.join(cast('Sequence[str]', payloads))}]"


def load_messages(payloads: Sequence[str] | Sequence[bytes]) -> list[Message]:
    """Return stored messages, validated in one pass."""
    if not payloads:
        return []
    with no_collection(len(payloads)):
        try:
            return _MESSAGES.validate_json(as_array(payloads))
        except ValidationError:
            # A lone surrogate, which pydantic's parser refuses and the standard library's does not.
            return _MESSAGES.validate_python([json.loads(payload) for payload in payloads])


def as_message(value: object, position: int = 0) -> Message:
    """Return a Message, or the one that a dict's fields are; `position` is where it was given.

    Raises:
        InvalidContent: it is neither.
    """
    if isinstance(value, Message):
        return value
    if not isinstance(value, Mapping):
        raise InvalidContent(f"message {position} is a {type(value).__name__}: give a Message or a dict")
    value = without_no_id(value)
    try:
        return Message.model_validate(dict(value) if not isinstance(value, dict) else value)
    except ValidationError as error:
        raise InvalidContent(f"message {position} is not a message: {error}") from error


def without_no_id(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Leave out the id of a message that has None for it, so that it gets one."""
    if message.get("id", "") is None:
        return {name: value for name, value in message.items() if name != "id"}
    return message


def _is_plain(message: Message) -> bool:
    """Whether a message is of our own classes, and every None in it is the default of its field.

    Only metadata and usage may then hold anything: a part with data is not plain.
    """
    try:
        return _has_plain_fields(message)
    except KeyError:  # one was deleted
        return False


def _has_plain_fields(message: Message) -> bool:
    if type(message) is not Message or message.__pydantic_extra__:
        return False
    fields = message.__dict__  # at a part of the price of attributes
    content = fields["content"]
    if (
        fields["error"] is not None
        or fields["role"] not in _ROLES
        or fields["object"] is None
        or fields["type"] is None
        or fields["status"] is None
        or not (content is None or type(content) is list)
    ):
        return False
    for part in content or ():
        if type(part) not in _PLAIN_PARTS or part.__pydantic_extra__:
            return False
        fields = part.__dict__
        if fields["error"] is not None or fields["object"] is None or fields["delta"] is None:
            return False
    return True


def _check_free_parts(message: Message) -> None:
    """Check what may hold anything, as it is and not as pydantic would dump it, which writes objects as dicts."""
    for name in ("metadata", "usage"):
        if (value := getattr(message, name, None)) is not None:
            check(value, where=name)
    _check_extra(message, "")
    _check_extra(message.error, "error.")
    if not isinstance(message.content, (list, tuple)):
        return
    for index, part in enumerate(message.content):
        if isinstance(part, DataContent) and part.data is not None:
            check(part.data, where=f"content[{index}].data")
        _check_extra(part, f"content[{index}].")
        _check_extra(getattr(part, "error", None), f"content[{index}].error.")


def _check_extra(model: object, where: str) -> None:
    if isinstance(model, BaseModel) and model.model_extra:
        for name, value in model.model_extra.items():
            check(value, where=f"{where}{name}")


def _check_dumped(value: dict[str, Any]) -> None:
    """Check every field of a dumped message, each from its own first level."""
    for name, field in value.items():
        if name != "content" or not isinstance(field, (list, tuple)):
            check(field, where=name)
            continue
        for index, part in enumerate(field):
            for inner_name, inner in part.items() if isinstance(part, dict) else [("", part)]:
                check(inner, where=f"content[{index}].{inner_name}")


def _limited(payload: str, what: str | Message, most: int) -> str:
    if len(payload) * 4 > most:  # else it cannot be too large, whatever its characters are
        size = len(payload) if payload.isascii() else len(payload.encode())
        if size > most:
            name = what if isinstance(what, str) else f"message {what.id!r}"
            raise LimitExceeded(f"{name} has {size} bytes, {most} are allowed")
    return payload
