"""Convert events of ADK to Messages, and back without loss.

The parts of an event's content become those of the Message: texts, images, function calls and their responses; other
parts become data. The rest of the event is stored in the metadata under :data:`KEY`, with null where a part was taken
out. An event without content, such as a change of the state, is stored as data.
"""

# pyright: reportMissingImports=false
import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

from google.adk.events import Event
from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from agentstore.errors import InvalidContent
from agentstore.exact_json import dumps, loads
from agentstore.schemas import ContentType, Message, MessageType, Role, RunStatus
from agentstore.schemas.parts import data_part, text_part

_log = logging.getLogger(__name__)

KEY = "adk"
"""The metadata key of what belongs to this adapter: ``event`` is the event without the parts of its content."""

_Part: TypeAlias = dict[str, Any]
# The alphabets of base64 in URLs, in which ADK writes bytes, and of that in data URLs.
_TO_DATA_URL, _FROM_DATA_URL = str.maketrans("-_", "+/"), str.maketrans("+/", "-_")


def message_of(event: Any) -> tuple[Message, dict[str, Any]]:
    """Return the Message for an event, and the event's changes of the state as JSON values.

    Raises:
        InvalidContent: the event has a value that JSON cannot represent.
    """
    raw = json_of(event, f"event {event.id!r}")
    changes = raw["actions"]["stateDelta"]
    id, usage = raw.pop("id"), raw.pop("usageMetadata", None)
    fields = _fields_of_content(raw, event.author == "user") or {
        "type": "event",
        "role": Role.SYSTEM,
        "content": [data_part(raw)],
        "metadata": {KEY: {}},
    }
    if (time := _time_of(event.timestamp)) is not None:
        fields["metadata"]["timestamp"] = time
    message = Message.model_validate({"status": RunStatus.Completed, **fields, "id": id, "usage": usage})
    return message, changes


def message_of_fields(fields: Mapping[str, Any]) -> Message:
    """Return the Message for the fields of an event, by their names in Python or in JSON.

    Raises:
        InvalidContent: they are not those of an event, or JSON cannot represent a value.
    """
    try:
        event = Event.model_validate(fields)
    except ValidationError as error:
        (first, *_) = error.errors(include_url=False, include_context=False)
        raise InvalidContent(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    return message_of(event)[0]


def json_of(model: Any, name: str) -> dict[str, Any]:
    """Return a pydantic model of ADK as JSON, without fields that are None; `name` is for the error message.

    Raises:
        InvalidContent: it has a value that JSON cannot represent.
    """
    try:
        # With aliases: without them, ADK does not read credentials as they were.
        raw: dict[str, Any] = model.model_dump(mode="json", by_alias=True, exclude_none=True)
    except PydanticSerializationError as error:
        raise InvalidContent(f"{name} cannot be represented as JSON: {error}") from error
    return raw


def events_of(messages: Iterable[Message]) -> list[Any]:
    """Return the events of Messages.

    What another program has appended is left out. So is a Message that it has changed so that no event can be restored
    from it, which is logged.
    """
    found = []
    for message in messages:
        record = (message.metadata or {}).get(KEY)
        if not isinstance(record, dict):
            continue
        try:
            found.append(Event.model_validate(_raw_event(message, record)))
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            _log.warning("Message %r is left out of the events: it was changed", message.id)
    return found


def is_memorable(message: Message) -> bool:
    """Return whether the Message for an event is text that the user or an agent has written."""
    return message.type == MessageType.MESSAGE and bool(message.text)


def _fields_of_content(raw: dict[str, Any], is_by_user: bool) -> dict[str, Any] | None:
    """Return the fields of the Message for an event that has content, or None."""
    content = raw.get("content") or {}
    parts = content.get("parts")
    if not parts:
        return None
    message_type: str = MessageType.MESSAGE
    role = Role.USER if is_by_user else Role.ASSISTANT
    if all("functionCall" in part for part in parts):
        message_type = MessageType.FUNCTION_CALL
    elif all("functionResponse" in part for part in parts):
        message_type, role = MessageType.FUNCTION_CALL_OUTPUT, Role.TOOL
    elif all(part.get("thought") for part in parts):
        message_type = MessageType.REASONING
    split = [_split(part) for part in parts]
    event = {**raw, "content": {**content, "parts": [rest for _, rest in split]}}
    return {
        "type": message_type,
        "role": role,
        "content": [part for part, _ in split],
        "metadata": {KEY: {"event": event}},
    }


def _split(part: _Part) -> tuple[_Part, _Part | None]:
    """Return a part of a Message for one of an event, and the rest of the latter; None if there is no rest."""
    if "text" in part:
        return text_part(part["text"]), {**part, "text": None}
    if (call := part.get("functionCall")) is not None and "args" in call:
        data = {"call_id": call.get("id"), "name": call.get("name"), "arguments": dumps(call["args"])}
        return data_part(data), {**part, "functionCall": {**call, "args": None}}
    if (response := part.get("functionResponse")) is not None and "response" in response:
        data = {"call_id": response.get("id"), "name": response.get("name"), "output": dumps(response["response"])}
        return data_part(data), {**part, "functionResponse": {**response, "response": None}}
    if (blob := part.get("inlineData")) is not None and "data" in blob:
        kind = blob.get("mimeType", "")
        if kind.startswith("image/") and "," not in kind:
            url = f"data:{kind};base64,{blob['data'].translate(_TO_DATA_URL)}"
            return {"type": ContentType.IMAGE, "image_url": url}, {**part, "inlineData": {**blob, "data": None}}
    return data_part(part), None


def _raw_event(message: Message, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the event of a Message."""
    content: Any = message.content or ()
    if "event" not in record:
        raw = dict(content[0].data)
    else:
        raw = dict(record["event"])
        parts = [_joined(rest, part) for rest, part in zip(raw["content"]["parts"], content, strict=True)]
        raw["content"] = {**raw["content"], "parts": parts}
    return {**raw, "id": message.id, "usageMetadata": message.usage}


def _joined(rest: _Part | None, part: Any) -> _Part:
    """Return the part of an event that :func:`_split` has split."""
    if rest is None:
        return dict(part.data)
    if "text" in rest:
        return {**rest, "text": part.text}
    if "functionCall" in rest:
        return {**rest, "functionCall": {**rest["functionCall"], "args": loads(part.data["arguments"])}}
    if "functionResponse" in rest:
        return {**rest, "functionResponse": {**rest["functionResponse"], "response": loads(part.data["output"])}}
    data = part.image_url.partition(",")[2].translate(_FROM_DATA_URL)
    return {**rest, "inlineData": {**rest["inlineData"], "data": data}}


def _time_of(timestamp: float) -> str | None:
    """Return seconds since 1970 as ISO 8601; None if there is no such time."""
    try:
        return datetime.fromtimestamp(timestamp, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        return None
