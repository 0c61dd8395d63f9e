"""Validation of what callers give, and the exact conversion of messages to the stored JSON and back."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from secrets import token_hex
from typing import TYPE_CHECKING, Any, TypeAlias, cast
from uuid import uuid4

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from agentstore.errors import Conflict, InvalidContent, LimitExceeded, UnreadableRow
from agentstore.exact_json import MAX_DIGITS, dumps, dumps_checked, loads, may_have_long_integer, no_collection
from agentstore.exact_json import shortened as shortened
from agentstore.json_pieces import is_large
from agentstore.offload import spend, works_in_pieces
from agentstore.schemas.message import DataContent, Message, MessagesLike, Place, place_messages, seq_and_time
from agentstore.schemas.message_checks import (
    are_plain,
    check_before_dump,
    check_dumped,
    check_size,
    is_plain_part,
)
from agentstore.schemas.message_pieces import (
    EFFORT_OF_PART,
    MANY_PARTS,
    PIECE,
    dump_parts,
    insert,
    put_aside,
    validate_message,
)
from agentstore.schemas.mistakes import describe_mistake
from agentstore.schemas.times import parse_time

if TYPE_CHECKING:
    from agentstore.settings import Settings

_log = logging.getLogger(__name__)

MAX_TTL = 2**31 - 1
"""The longest time to live in seconds: 68 years."""
MAX_TITLE = 10_000
"""The longest title in characters."""
# Postgres accepts less than 1 GB in one message of the protocol, and a character may have four bytes.
_MAX_BATCH_CHARACTERS = 200_000_000
_MESSAGES = TypeAdapter(list[Message])
_LIST: TypeAdapter[list[Any]] = TypeAdapter(list)
# Separates messages that are serialized together. Random, so that no client can put it into a message.
_SEPARATOR = token_hex(16)
_CHUNK = 100
# Characters of payloads that are serialized, and parsed, in the time of one value.
_DUMPED, _LOADED = 100, 20


def check_id(value: str, name: str, settings: "Settings") -> str:
    """Validate `value`, the id called `name`, and return it.

    Raises:
        InvalidContent: it is not a string, contains a NUL character or a lone surrogate, which text in Postgres cannot
            store, or is longer than `max_id_bytes` (512) in UTF-8.
    """
    if not isinstance(value, str):
        raise _not_an_id(value, name)
    if "\0" in value:
        raise InvalidContent(f"{name} contains a NUL character, which Postgres cannot store")
    try:
        length = len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError as error:
        raise InvalidContent(f"{name} contains a lone surrogate, which Postgres cannot store") from error
    if length > settings.max_id_bytes:
        raise InvalidContent(f"{name} has {length} bytes, the maximum is {settings.max_id_bytes}")
    return value


def _not_an_id(value: object, name: str) -> InvalidContent:
    advice = ": pass its id" if isinstance(getattr(value, "id", None), str) else ""
    return InvalidContent(f"{name} must be a string, got {type(value).__name__}{advice}")


def check_end(before: str | None, through: str | None, settings: "Settings", before_seq: int | None = None) -> None:
    """Validate the messages at which a page ends: one that follows it, by its id or number, or its last one.

    Raises:
        InvalidContent: one is not a valid id, or several are given.
    """
    for name, id in (("before", before), ("through", through)):
        if id is not None:
            check_id(id, name, settings)
    if before is not None and through is not None:
        raise InvalidContent("expected either before or through, got both")
    if before_seq is not None and (before is not None or through is not None):
        raise InvalidContent("expected either before_seq or the id of a message, got both")


def check_ids(values: list[str], name: str, settings: "Settings") -> None:
    """Validate many ids at once: see :func:`check_id`."""
    try:
        joined, longest = "".join(values), max(map(len, values), default=0)
    except TypeError:
        joined, longest = "\0", 0
    if not joined.isascii() or "\0" in joined or longest > settings.max_id_bytes:
        for value in values:
            check_id(value, name, settings)


def new_session_id(value: str | None) -> str:
    """Return the id of a new session: `value` without surrounding whitespace, or a UUID if it is blank or None.

    Raises:
        InvalidContent: it is not a string.
    """
    return ("" if value is None else strip_id(value)) or str(uuid4())


def strip_id(value: str) -> str:
    """Return an id without surrounding whitespace.

    Raises:
        InvalidContent: it is not a string.
    """
    if not isinstance(value, str):
        raise _not_an_id(value, "session_id")
    return value.strip()


def check_ttl(value: int | None) -> int | None:
    """Validate `value`, a time to live in seconds or None, and return it.

    Raises:
        InvalidContent: it is not an integer from 1 to 2**31 - 1, which is 68 years.
    """
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MAX_TTL):
        return value
    raise InvalidContent(f"ttl must be an integer of seconds from 1 to 2**31 - 1, or None, got {shortened(value)}")


def check_place(at: str | int, settings: "Settings", *, minimum: int = 0) -> type[str] | type[int]:
    """Validate `at`, a message of a session, and return its kind: str for an id, int for its number.

    Raises:
        InvalidContent: it is neither.
    """
    if isinstance(at, str):
        check_id(at, "at", settings)
        return str
    if isinstance(at, int) and not isinstance(at, bool) and minimum <= at < 2**63:
        return int
    raise InvalidContent(f"at must be the id of a message or an integer from {minimum}, got {shortened(at)}")


def check_missing_session(value: str) -> bool:
    """Return whether a service creates missing sessions.

    Raises:
        InvalidContent: `value` is neither "error" nor "create".
    """
    if value not in ("error", "create"):
        raise InvalidContent(f'missing_session must be "error" or "create", got {shortened(value)}')
    return value == "create"


def check_session(session: Any, settings: "Settings") -> None:
    """Validate, before anything is written, a Session or an object with the same fields, such as another framework's.

    Raises:
        InvalidContent: it is something else, one of its ids is not valid, or its messages, to which appends add, are
            not a list.
    """
    try:
        user_id, id, messages = session.user_id, session.id, session.messages
    except AttributeError:
        advice = ": to append by ids, call append(user_id, session_id, messages)" if isinstance(session, str) else ""
        raise InvalidContent(f"session must be a Session, got {shortened(session)}{advice}") from None
    check_id(user_id, "user_id", settings)
    check_id(id, "session_id", settings)
    if not isinstance(messages, list):
        raise InvalidContent(f"session.messages must be a list, got {type(messages).__name__}")


def check_title(value: str | None, name: str = "title") -> str | None:
    """Validate the title of a session, or a text called `name` with the same limits, or None, and return it.

    Raises:
        InvalidContent: it is not a string, or contains a NUL character or a lone surrogate.
        LimitExceeded: it is longer than 10,000 characters.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidContent(f"{name} must be a string, got {type(value).__name__}")
    if len(value) > MAX_TITLE:
        raise LimitExceeded(f"{name} has {len(value)} characters, the maximum is {MAX_TITLE}")
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise InvalidContent(f"{name} contains a NUL character or a lone surrogate, which Postgres cannot store")
    return value


def aware(value: datetime | None, name: str) -> datetime | None:
    """Validate a timestamp with a time zone, or None, and return it.

    Raises:
        InvalidContent: it has no time zone, or is in the year 1 or 9999, which the database and its driver use for
            infinity.
    """
    if value is None:
        return None
    if value.tzinfo is None:
        raise InvalidContent(f"{name} has no time zone: pass an aware datetime, such as datetime.now(UTC)")
    if not 1 < value.year < 9999:
        raise InvalidContent(f"{name} is {value.isoformat()}, expected a year from 2 to 9998")
    return value


def read_time(value: object, name: str) -> datetime:
    """Return the time called `name`, given as a datetime, a string or a number of seconds since 1970, with a time zone.

    Raises:
        InvalidContent: it is a datetime without a time zone, or not a time; for the formats see :func:`parse_time`.
    """
    if isinstance(value, datetime):
        aware(value, name)
        return value
    time = parse_time(value)
    if time is None:
        raise InvalidContent(
            f"{name} must be a datetime, an ISO 8601 string or seconds since 1970, got {shortened(value)}"
        )
    return time


def dump_metadata(value: Mapping[str, Any], settings: "Settings") -> str:
    """Serialize the metadata of a session, a user or a state round to the stored JSON text.

    Raises:
        InvalidContent: it is not a mapping, or contains a value that JSON cannot represent exactly.
        LimitExceeded: it is larger than `max_message_bytes`, or nested deeper than 200 levels.
    """
    if not isinstance(value, Mapping):
        raise InvalidContent(f"metadata must be a dict, got {type(value).__name__}")
    return check_size(dumps(dict(value), where="metadata"), "metadata", settings.max_message_bytes)


def dump_state(value: Mapping[str, Any], settings: "Settings") -> str:
    """Serialize an agent's state to the stored JSON text.

    Raises:
        InvalidContent: it is not a mapping, or contains a value that JSON cannot represent exactly.
        LimitExceeded: it is larger than `max_state_bytes`, or nested deeper than 200 levels.
    """
    if not isinstance(value, Mapping):
        raise InvalidContent(f"state must be a dict, got {type(value).__name__}")
    return check_size(dumps(dict(value), where="state"), "state", settings.max_state_bytes)


def prepare_messages(
    given: MessagesLike, settings: "Settings", *, first_wins: bool = False
) -> dict[str, tuple[Message, str]]:
    """Validate one message or several; return each with the JSON text to store, by id, in order.

    None is skipped. A message that occurs twice is returned once. With `first_wins`, of several messages with the same
    id and different content the first one is returned.

    Raises:
        InvalidContent: something is not a message, has an invalid id, or contains a value that JSON cannot represent
            exactly.
        Conflict: two messages have the same id and different content.
        LimitExceeded: there are more than `max_batch` messages, or one is larger than `max_message_bytes` or nested
            deeper than 200 levels, or all together have more than 200 million characters.
    """
    many: Sequence[object]
    if type(given) is list:  # without the checks of the abstract classes
        many = given
    elif isinstance(given, (Message, Mapping, str, bytes, bytearray)) or not isinstance(given, Sequence):
        many = (given,)
    else:
        many = given
    if len(many) > settings.max_batch:
        raise LimitExceeded(f"got {len(many)} messages in one call, the maximum is {settings.max_batch}")
    spend(len(many) * EFFORT_OF_PART)
    messages = [as_message(each, position) for position, each in enumerate(many) if each is not None]
    if len(messages) == 1:  # which takes a fifth less than as many
        (message,) = messages
        id = check_id(message.id, "a message's id", settings)
        (payload,) = _dump_messages(messages, settings)
        return {id: (message, payload)}
    ids = [message.id for message in messages]
    check_ids(ids, "a message's id", settings)
    payloads = _dump_messages(messages, settings)
    found = dict(zip(ids, zip(messages, payloads, strict=True), strict=True))
    if len(found) == len(ids):
        return found
    found = {}
    for id, message, payload in zip(ids, messages, payloads, strict=True):
        if id not in found:
            found[id] = message, payload
        elif not first_wins and not same_content(found[id][1], payload):
            raise Conflict(f"two messages have the id {id!r} and different content")
    return found


def same_content(one: str, other: str) -> bool:
    """Return whether two stored texts are equal as Messages, however each was serialized."""
    try:
        return one == other or load_messages([one]) == load_messages([other])
    except UnreadableRow:  # the stored one, which is then another than the given one
        return False


def _dump_messages(messages: list[Message], settings: "Settings") -> list[str]:
    """Serialize messages as :func:`dump_message` does, and raise the same errors.

    Several plain messages are serialized together, which takes half the time, and split at the separators.
    """
    payloads: list[str] = []
    size = 0
    for start in range(0, len(messages), _CHUNK):
        part = messages[start : start + _CHUNK]
        is_together = len(part) > 1 and not works_in_pieces() and are_plain(part)
        dumped = _dump_plain(part) if is_together else None
        if dumped is None:
            dumped = [dump_message(message, settings) for message in part]
        elif (longest := max(map(len, dumped))) * 4 > settings.max_message_bytes or longest > MAX_DIGITS:
            for payload, message in zip(dumped, part, strict=True):
                _check_message(payload, message, settings)
        length = sum(map(len, dumped))
        spend(length // _DUMPED)
        payloads += dumped
        size += length
    if size > _MAX_BATCH_CHARACTERS:
        raise LimitExceeded(
            f"the messages have {size} characters together, the maximum is {_MAX_BATCH_CHARACTERS}: append them in "
            f"several calls"
        )
    return payloads


def _dump_plain(messages: list[Message]) -> list[str] | None:
    """Serialize plain messages together; None if they have to be serialized one by one."""
    separated: list[object] = [_SEPARATOR] * (2 * len(messages) - 1)
    separated[::2] = messages
    try:
        dumped = _LIST.serializer.to_json(separated, exclude_none=True, warnings="error")
    except PydanticSerializationError:
        return None
    payloads = dumped[1:-1].decode().split(f',"{_SEPARATOR}",')
    return payloads if len(payloads) == len(messages) else None


def dump_message(message: Message, settings: "Settings") -> str:
    """Serialize a message to the stored JSON text.

    Raises:
        InvalidContent: it contains a value that JSON cannot represent exactly, or could not be read as a Message again.
        LimitExceeded: it is larger than `max_message_bytes`, or nested deeper than 200 levels.
    """
    if works_in_pieces() and (in_pieces := _dump_in_pieces(message, settings)) is not None:
        return in_pieces
    if are_plain((message,)):
        try:
            # A field that is None and omitted has its default, None, again when it is read.
            payload = message.__pydantic_serializer__.to_json(message, exclude_none=True, warnings="error").decode()
        except PydanticSerializationError:
            pass  # a lone surrogate, or a field that was set to an invalid value without validation
        else:
            return _check_message(payload, message, settings)
    check_before_dump(message)
    try:
        value = message.model_dump(serialize_as_any=True, warnings=False)
        if isinstance(value.get("content"), str):
            raise ValueError("its content is a string that was set without validation: expected a list of parts")
        check_dumped(value)
        payload = dumps_checked(value)
        load_messages([payload])  # an unreadable message would make the whole session unreadable
    except LimitExceeded:
        raise
    except UnreadableRow as error:
        raise InvalidContent(f"message {message.id!r} cannot be stored as a message: {error.__cause__}") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidContent(f"message {message.id!r} cannot be stored as a message: {error}") from error
    return check_size(payload, message, settings.max_message_bytes)


def _dump_in_pieces(message: Message, settings: "Settings") -> str | None:
    """Serialize a large message as :func:`dump_message` does, in pieces; None if it has to be serialized at once.

    The message is serialized without its parts and its large free values, which are serialized by themselves and
    inserted.
    """
    content = message.content
    if (
        type(message) is not Message
        or message.error is not None
        or not (content is None or type(content) is list)
        or not all(type(part) is DataContent or is_plain_part(part) for part in content or ())
        or not is_large(message)
    ):
        return None
    check_before_dump(message)
    texts: dict[str, str] = {}
    extra = message.model_extra or {}
    fields = put_aside(message.__dict__, ("usage", "metadata"), texts) | put_aside(extra, extra, texts)
    if not texts and not content:
        return None
    runs: list[str] = []
    for start in range(0, len(content or ()), MANY_PARTS):
        of_parts: dict[str, str] = {}
        parts = list((content or ())[start : start + MANY_PARTS])
        for number, part in enumerate(parts):
            if type(part) is DataContent:
                parts[number] = part.model_copy(update=put_aside(part.__dict__, ("data",), of_parts))
        try:
            run = dump_parts(parts)
        except ValueError as error:
            raise InvalidContent(f"message {message.id!r} cannot be stored as a message: {error}") from error
        runs.append(insert(run[1:-1], of_parts))
    if content is not None:
        fields["content"] = []
    payload = insert(dump_message(message.model_copy(update=fields), settings), texts)
    payload = payload.replace('"content":[]', f'"content":[{",".join(runs)}]', 1)
    return check_size(payload, message, settings.max_message_bytes)


def _check_message(payload: str, message: Message, settings: "Settings") -> str:
    """Check the size of a serialized message, and of the integers that pydantic serialized."""
    if may_have_long_integer(payload):
        try:
            load_messages([payload])
        except UnreadableRow as error:
            raise LimitExceeded(f"message {message.id!r} has an integer of more than {MAX_DIGITS:,} digits") from error
    return check_size(payload, message, settings.max_message_bytes)


def as_array(payloads: Sequence[str] | Sequence[bytes]) -> str | bytes:
    """Join stored JSON texts to one JSON array."""
    if payloads and isinstance(payloads[0], bytes):
        return b"[%b]" % b",".join(cast("Sequence[bytes]", payloads))
    return f"[{','.join(cast('Sequence[str]', payloads))}]"


RowKey: TypeAlias = tuple[str, str | None, str | None, str | int | None]
"""Names a stored row in an error: its table, user, session, and its id or position; see :class:`UnreadableRow`."""


def message_key(user_id: str | None, session_id: str | None, first: int = 1) -> Callable[[int], RowKey]:
    """Return the function for :func:`load_messages` that names messages of a session, which begin at a position."""
    return lambda index: ("messages", user_id, session_id, first + index)


def load_messages(
    payloads: Sequence[str] | Sequence[bytes],
    key: Callable[[int], RowKey] | None = None,
    places: Sequence[Place] = (),
) -> list[Message]:
    """Parse stored messages, all at once.

    `key` returns the key of the row with the given index; `places` are the ``seq`` and the ``created_at`` of each.

    Raises:
        UnreadableRow: one of them is not a valid message.
    """
    if not payloads:
        return []
    size = sum(map(len, payloads))
    if works_in_pieces() and size > PIECE:
        messages = _load_in_pieces(payloads, key, places)
    else:
        spend(size // _LOADED)
        with no_collection(len(payloads)):
            try:
                messages = _MESSAGES.validate_json(as_array(payloads))
            except ValidationError:
                messages = [_load_message(payloads[index], index, key, places) for index in range(len(payloads))]
    if places:
        place_messages(messages, places)
    return messages


def _load_in_pieces(
    payloads: Sequence[str] | Sequence[bytes], key: Callable[[int], RowKey] | None, places: Sequence[Place]
) -> list[Message]:
    found: list[Message] = []
    first = size = 0
    for index in range(len(payloads) + 1):
        is_end = index == len(payloads)
        length = 0 if is_end else len(payloads[index])
        if first < index and (is_end or size + length > PIECE):
            run = payloads[first:index]
            if len(run) > 1 or size <= PIECE:
                shifted = partial(_shifted, key, first) if key is not None else None
                found += load_messages(run, shifted, places[first:index])
            else:
                found.append(_load_message(run[0], first, key, places))
            first, size = index, 0
        size += length
    return found


def _shifted(key: Callable[[int], RowKey], first: int, index: int) -> RowKey:
    return key(first + index)


def _load_message(
    payload: str | bytes, index: int, key: Callable[[int], RowKey] | None, places: Sequence[Place] = ()
) -> Message:
    value: object = None
    try:
        if works_in_pieces() and len(payload) > PIECE:
            return validate_message(loads(payload))
        return Message.model_validate_json(payload)
    except (ValueError, RecursionError):
        pass
    try:
        # A lone surrogate, or deep nesting: pydantic's parser rejects it, the standard library's accepts it.
        value = json.loads(payload)
        return Message.model_validate(value)
    except (ValueError, RecursionError) as error:
        table, user_id, session_id, id = (key or message_key(None, None))(index)
        if isinstance(value, dict) and isinstance(given := value.get("id"), str):
            id = given
        reason = f"it is not a valid message: {describe_invalid(error)}"
        seq = seq_and_time(places[index])[0] if places else None
        raise UnreadableRow(reason, table, user_id, session_id, id, seq) from error


def load_readable_messages(
    payloads: Sequence[str] | Sequence[bytes], key: Callable[[int], RowKey]
) -> list[Message | None]:
    """Parse stored messages as :func:`load_messages` does; one that is not valid is None, and a warning names it."""
    found = load_each_message(payloads, key)
    for error in (each for each in found if isinstance(each, UnreadableRow)):
        _log.warning("A row was passed over: %s", error)
    return [None if isinstance(each, UnreadableRow) else each for each in found]


def load_each_message(
    payloads: Sequence[str] | Sequence[bytes], key: Callable[[int], RowKey], places: Sequence[Place] = ()
) -> list[Message | UnreadableRow]:
    """Parse stored messages as :func:`load_messages` does; in place of one that is not valid is the error."""
    with suppress(UnreadableRow):
        return [*load_messages(payloads, key, places)]
    found: list[Message | UnreadableRow] = []
    for index in range(len(payloads)):
        one = slice(index, index + 1)
        try:
            found += load_messages(payloads[one], partial(_shifted, key, index), places[one])
        except UnreadableRow as error:
            found.append(error)
    return found


def load_object(text: str | bytes, key: RowKey) -> dict[str, Any]:
    """Parse a stored JSON object: metadata, or a state. `key` is that of its row.

    Raises:
        UnreadableRow: it is not a JSON object, or is nested too deeply.
    """
    if text == "{}":
        return {}
    try:
        value = loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableRow(describe_invalid(error), *key) from error
    if not isinstance(value, dict):
        raise UnreadableRow(f"expected a JSON object, got {shortened(value)}", *key)
    return value


def describe_invalid(error: Exception) -> str:
    """Return the reason for which pydantic or a JSON parser rejected a stored value, in one line."""
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        return f"{place}: {first['msg']}" if place else first["msg"]
    return "it is nested too deeply" if isinstance(error, RecursionError) else str(error)


def as_message(value: object, position: int = 0) -> Message:
    """Return a Message unchanged, or validate a dict that a caller gives as a message.

    `position` is for the error message.

    Raises:
        InvalidContent: it is neither, the dict is not valid, or it seems to be meant as something else.
    """
    if isinstance(value, Message):
        return value
    if not isinstance(value, Mapping):
        hint = ": pass Message.user(text)" if isinstance(value, str) else ""
        raise InvalidContent(f"message {position} must be a Message or a dict, got {type(value).__name__}{hint}")
    if (mistake := describe_mistake(value)) is not None:
        raise InvalidContent(f"message {position} {mistake}")
    return parse_message(value, position)


def parse_message(value: Mapping[str, Any], position: int = 0) -> Message:
    """Validate a dict of the fields of a Message; `position` is for the error message.

    Raises:
        InvalidContent: the dict is not valid.
    """
    value = drop_null_id(value)
    try:
        return validate_message(value if isinstance(value, dict) else dict(value))
    except ValueError as error:  # a ValidationError, or that of a huge Decimal for an integer
        given = f", got {shortened(error.errors()[0]['input'])}" if isinstance(error, ValidationError) else ""
        raise InvalidContent(f"message {position} is not valid: {describe_invalid(error)}{given}") from error


def drop_null_id(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the fields of a message without an id that is None, so that a new id is generated."""
    if message.get("id", "") is None:
        return {name: value for name, value in message.items() if name != "id"}
    return message
