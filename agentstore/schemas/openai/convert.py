"""Convert between Messages and OpenAI's messages and items, so that a round trip loses nothing.

What cannot be derived from a Message, such as whether a content of one text was a string or a list, is recorded in the
metadata of the first Message under the key "openai". The record is used only while the Message has the content that it
was created with. Its presence also marks the beginning of a message that would otherwise continue the previous one.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from agentstore.errors import InvalidContent
from agentstore.exact_json import loads
from agentstore.schemas.message import Message, MessageType, OpenAIAPI, new_message_id
from agentstore.schemas.openai import chat, responses
from agentstore.schemas.openai.shared import ITEM_PARTS, is_call, is_output
from agentstore.schemas.parts import json_type, require_object
from agentstore.schemas.payload import describe_invalid, shortened

M = TypeVar("M", bound=Message)

KEY = "openai"
"""The metadata key of the record, which may have:

===========  ==========================================================================================
``api``      "responses" for an item of the Responses API
``parts``    true if a content of one text is a list
``fields``   names of fields whose values are in the metadata or, for "status", in the Message
``nulls``    names of fields that are null
``values``   other fields that cannot be derived
``parsed``   names of fields that are the JSON values of the texts that are derived
``absent``   names of derived fields that are missing
===========  ==========================================================================================
"""

# The record of an answer of the Agents SDK that is one text.
_WITHOUT_TYPE = {"absent": ["type"], "api": "responses"}
# The id of all items that openai-agents gets from other APIs than Responses.
_FAKE_ID = "__fake_id__"


def from_openai(message_class: type[M], given: object) -> list[M]:
    """Convert one message or item, or several: see :meth:`Message.from_openai`."""
    if isinstance(given, (Mapping, BaseModel)):
        return _read(message_class, given)
    if not isinstance(given, Sequence) or isinstance(given, (str, bytes, bytearray)):
        raise InvalidContent(f"expected a message of OpenAI's, a dict or a list of them, got {shortened(given)}")
    found = []
    for position, each in enumerate(given):
        try:
            found += _read(message_class, each)
        except InvalidContent as error:
            raise InvalidContent(f"message {position}: {error}") from error
    return found


def from_item(item: Mapping[str, Any]) -> Message:
    """Convert an item of a session of openai-agents, whatever it is; ``to_openai("responses")`` returns it unchanged.

    An item that is not a valid item of the Responses API, such as one that was encrypted, is stored as data. The
    Message has a new id, since an application may store the same item several times.

    Raises:
        InvalidContent: the item is not a JSON object.
    """
    raw = require_object(dict(item) if isinstance(item, Mapping) else item, "item")
    message: Message | None = None
    with suppress(InvalidContent):
        (message,) = _read(Message, raw, "responses")
    # Without a record, what was written to make it was equal to the item.
    if message is None or (KEY in (message.metadata or {}) and write([message], "responses") != raw):
        message = Message.model_validate(responses.opaque(raw))
    message.id = new_message_id()
    return message


def to_openai(messages: Iterable[Message], api: OpenAIAPI) -> list[dict[str, Any]]:
    """Convert the messages of a conversation: see :meth:`Message.to_openai_all`."""
    check_api(api)
    groups: list[list[Message]] = []
    for message in messages:
        if message.type == MessageType.HEARTBEAT:
            continue
        if groups and api == "chat" and _continues(groups[-1], message):
            groups[-1].append(message)
        else:
            groups.append([message])
    return [write(group, api) for group in groups]


def check_api(api: str) -> None:
    """Validate the name of an API.

    Raises:
        InvalidContent: it is neither "chat" nor "responses".
    """
    if api not in ("chat", "responses"):
        raise InvalidContent(f'api must be "chat" or "responses", got {shortened(api)}')


def write(group: Sequence[Message], api: OpenAIAPI) -> dict[str, Any]:
    """Return the message or item that consists of these Messages."""
    record = _record_of(group[0], api)
    if record is None:
        return _write(group, api)
    written = _write(group, api, as_parts=record.get("parts") is True)
    if record == _WITHOUT_TYPE and written.get("type") == "message" and isinstance(written["content"], str):
        del written["type"]  # the record of most answers, which fits whatever text the Message has now
        return written
    raw = _restore(written, record, group[0])
    try:
        original = _validate(type(group[0]), _fields(raw, api))
    except InvalidContent:
        original = []
    if [*map(_content_of, original)] == [*map(_content_of, group)]:
        return raw
    return _write(group, api)


def api_of(raw: Mapping[str, Any]) -> OpenAIAPI:
    """Return whether a dict is a message of chat completions or an item of the Responses API."""
    if raw.get("type") == "message" or ("type" in raw and "role" not in raw):
        return "responses"
    content = raw.get("content")
    types = [part.get("type") for part in content if isinstance(part, Mapping)] if isinstance(content, list) else []
    return "responses" if any(each in ITEM_PARTS for each in types if isinstance(each, str)) else "chat"


def _read(message_class: type[M], given: object, api: OpenAIAPI | None = None) -> list[M]:
    if isinstance(given, BaseModel):  # of OpenAI's package
        given = given.model_dump(exclude_unset=True)
    if not isinstance(given, Mapping):
        raise InvalidContent(f"expected an object, got {json_type(given)}")
    raw = dict(given)
    api = api or api_of(raw)
    found = _validate(message_class, _fields(raw, api), raw.get("id"))
    record = _record(raw, found, api)
    if record or (api == "chat" and (is_call(found[0]) or found[-1].type == MessageType.REASONING)):
        found[0].metadata = {**(found[0].metadata or {}), KEY: record}
    return found


def _fields(raw: dict[str, Any], api: OpenAIAPI) -> list[dict[str, Any]]:
    return chat.messages(raw) if api == "chat" else [responses.message(raw)]


def _validate(message_class: type[M], all_fields: list[dict[str, Any]], id: object = None) -> list[M]:
    first = id if isinstance(id, str) and id.strip() and id != _FAKE_ID else new_message_id()
    try:
        return [
            message_class.model_validate({**fields, "id": f"{first}/{number}" if number else first})
            for number, fields in enumerate(all_fields)
        ]
    except ValidationError as error:
        raise InvalidContent(describe_invalid(error)) from error


def _write(group: Sequence[Message], api: OpenAIAPI, *, as_parts: bool = False) -> dict[str, Any]:
    if api == "chat":
        return chat.write(group, as_parts=as_parts)
    return responses.write(group[0], as_parts=as_parts)


def _record(raw: dict[str, Any], group: Sequence[Message], api: OpenAIAPI) -> dict[str, Any]:
    """Return what has to be recorded so that `raw` can be written again."""
    written = _write(group, api)
    record: dict[str, Any] = {}
    if isinstance(raw.get("content"), list) and isinstance(written.get("content"), str):
        parts = _write(group, api, as_parts=True)
        if isinstance(parts["content"], list):
            written = parts
            record["parts"] = True
    available = _available(group[0])
    for name, value in raw.items():
        if name in written and written[name] == value:
            continue
        if value is None:
            record.setdefault("nulls", []).append(name)
        elif name in available and available[name] == value:
            record.setdefault("fields", []).append(name)
        elif isinstance(value, (list, dict)) and _is_text_of(written.get(name), value):
            record.setdefault("parsed", []).append(name)
        else:
            record.setdefault("values", {})[name] = value
    if absent := [name for name in written if name not in raw]:
        record["absent"] = absent
    if record and api == "responses":
        record["api"] = api
    return record


def _restore(written: dict[str, Any], record: dict[str, Any], first: Message) -> dict[str, Any]:
    """Return the message that `record` was made of, unless the record or the Message was changed."""

    def names(kind: str) -> list[str]:
        given = record.get(kind)
        return [each for each in given if isinstance(each, str)] if isinstance(given, list) else []

    available, values = _available(first), record.get("values")
    raw = {name: value for name, value in written.items() if name not in names("absent")}
    raw.update({name: available[name] for name in names("fields") if name in available})
    raw.update(dict.fromkeys(names("nulls")))
    raw.update(values if isinstance(values, dict) else {})
    for name in names("parsed"):
        if isinstance(text := written.get(name), str):
            try:
                raw[name] = loads(text)
            except ValueError:
                raw[name] = text
    return raw


def _available(message: Message) -> dict[str, Any]:
    return {**(message.metadata or {}), "status": message.status}


def _is_text_of(text: object, value: object) -> bool:
    if not isinstance(text, str) or not text.startswith(("[", "{")):
        return False
    try:
        return bool(loads(text) == value)
    except ValueError:
        return False


def _record_of(message: Message, api: OpenAIAPI) -> dict[str, Any] | None:
    record = (message.metadata or {}).get(KEY)
    return record if isinstance(record, dict) and record.get("api", "chat") == api else None


def _content_of(message: Message) -> tuple[object, ...]:
    return message.role, message.type, message.content


def _continues(group: list[Message], message: Message) -> bool:
    """Return whether a message belongs to the same message of chat completions as the ones before it."""
    first = group[0]
    if not _is_models(first) or not _is_models(message):
        return False
    head, _, number = message.id.rpartition("/")
    if head == first.id and number.isdigit():
        return True
    if _record_of(message, "chat") is not None or _record_of(first, "chat") is not None:
        return False
    return is_call(message) or all(each.type == MessageType.REASONING for each in group)


def _is_models(message: Message) -> bool:
    """Return whether a message is the model's: its reasoning, its answer or a tool call."""
    return message.role in ("assistant", None) and not is_output(message)
