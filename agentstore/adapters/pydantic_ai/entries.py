"""Convert entries of conversations to Messages, and back without loss.

Texts, images, files, tool calls and their returns in a model's request or response become parts of the Message. The
rest is stored in the metadata under :data:`KEY`, with null where something was taken out, and so is the id of the entry
before.
"""

# pyright: reportMissingImports=false
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_ai.conversation_store import ConversationEntry
from pydantic_ai.messages import ModelMessagesTypeAdapter
from pydantic_core import PydanticSerializationError

from agentstore.errors import InvalidContent, NotFound, UnreadableRow
from agentstore.exact_json import dumps, loads
from agentstore.schemas import ContentType, Message, MessageType, Role, RunStatus
from agentstore.schemas.parts import data_part, text_part

KEY = "pydantic_ai"
"""The metadata key of what belongs to this adapter: in a Message, ``message`` without its parts and ``parent_id``."""

T = TypeVar("T")
_Part: TypeAlias = dict[str, Any]
# The alphabets of base64 in URLs, in which pydantic writes bytes, and of that in data URLs.
_TO_DATA_URL, _FROM_DATA_URL = str.maketrans("-_", "+/"), str.maketrans("+/", "-_")
_URLS = {"audio-url", "document-url", "video-url"}
_CALLS, _OUTPUTS = {"tool-call", "builtin-tool-call"}, {"tool-return", "builtin-tool-return"}
# The kinds of parts whose content is the text of a Message: those of the first set of which it has any. What a model
# thinks is not the text of its answer.
_TEXTS = ({"user-prompt", "text"}, {"system-prompt"}, {"thinking"})


class EntryNotFound(NotFound, LookupError):
    """The store has no entry with this id, or it was deleted."""


class Place(NamedTuple):
    """Where an entry is stored."""

    user_id: str
    conversation_id: str


class EntryId(str):
    """The id of an entry that was read from a place, so that the entries before it are read without a search."""

    place: Place | None = None

    @classmethod
    def at(cls, place: Place, id: str) -> "EntryId":
        """Return an id with the place of its entry."""
        found = cls(id)
        found.place = place
        return found


def message_of(entry: ConversationEntry) -> Message:
    """Return the Message for an entry.

    Raises:
        InvalidContent: the entry has a value that JSON cannot represent.
    """
    try:
        (raw,) = ModelMessagesTypeAdapter.dump_python([entry.message], mode="json")
    except PydanticSerializationError as error:
        raise InvalidContent(f"entry {entry.id!r} cannot be represented as JSON: {error}") from error
    fields = _fields_of(raw)
    record: dict[str, Any] = {"parent_id": entry.parent_id, "message": raw}
    if entry.kind != "message":
        record["kind"] = entry.kind
    metadata: dict[str, Any] = {KEY: record}
    if raw.get("timestamp") is not None:
        metadata["timestamp"] = raw["timestamp"]
    usage = raw.pop("usage", None)
    return Message.model_validate(
        {**fields, "id": str(entry.id), "status": RunStatus.Completed, "metadata": metadata, "usage": usage}
    )


def parent_of(stored: Mapping[str, Any], place: Place) -> str | None:
    """Return the id of the entry before a stored message.

    Raises:
        EntryNotFound: the message is not an entry, since another program appended it.
    """
    record = (stored.get("metadata") or {}).get(KEY)
    if not isinstance(record, dict) or "message" not in record:
        raise EntryNotFound(f"message {stored['id']!r} of conversation {place.conversation_id!r} is not an entry")
    parent: str | None = record.get("parent_id")
    return parent


def entries_of(stored: Sequence[Mapping[str, Any]], place: Place) -> list[ConversationEntry]:
    """Return the entries of stored messages.

    Raises:
        UnreadableRow: another program changed a message so that no entry can be restored from it.
    """
    raws = [_raw_message(each, place) for each in stored]
    try:
        messages = validate(ModelMessagesTypeAdapter, raws)
    except ValidationError:
        for each, raw in zip(stored, raws, strict=True):
            try:
                validate(ModelMessagesTypeAdapter, [raw])
            except ValidationError as error:
                raise _changed(each, place) from error
        raise
    return [
        ConversationEntry(
            id=EntryId.at(place, each["id"]),
            parent_id=None if (parent := parent_of(each, place)) is None else EntryId.at(place, parent),
            message=message,
            kind=each["metadata"][KEY].get("kind", "message"),
        )
        for each, message in zip(stored, messages, strict=True)
    ]


def validate(adapter: TypeAdapter[T], raw: Any) -> T:
    """Return the value that a JSON value represents.

    Raises:
        ValidationError: it is not valid.
    """
    try:
        return adapter.validate_json(dumps(raw))
    except ValidationError as error:
        # pydantic's parser rejects lone surrogates, which a streamed text may have.
        if error.errors(include_url=False, include_context=False, include_input=False)[0]["type"] != "json_invalid":
            raise
        return adapter.validate_python(raw)


def _fields_of(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of the Message for a model's message, and take its parts' content out of `raw`."""
    parts: list[_Part] = raw["parts"]
    kinds = {part["part_kind"] for part in parts}
    message_type: str = MessageType.MESSAGE
    role = Role.USER if raw["kind"] == "request" else Role.ASSISTANT
    text = next((each for each in _TEXTS if kinds & each), set())
    if kinds and kinds <= _CALLS:
        message_type = MessageType.FUNCTION_CALL
    elif kinds and kinds <= _OUTPUTS and role == Role.USER:
        message_type, role = MessageType.FUNCTION_CALL_OUTPUT, Role.TOOL
    elif kinds == {"thinking"}:
        message_type = MessageType.REASONING
    elif kinds == {"system-prompt"}:
        role = Role.SYSTEM
    content: list[_Part] = []
    rests: list[_Part] = []
    for part in parts:
        found, rest = _split(part, is_text=part["part_kind"] in text)
        content += found
        rests.append(rest)
    raw["parts"] = rests
    return {"type": message_type, "role": role, "content": content}


def _split(part: _Part, *, is_text: bool) -> tuple[list[_Part], _Part]:
    """Return the parts of a Message for one of a model's message, and the rest of the latter.

    Null in the rest is what the next part of the Message has.
    """
    kind, content = part["part_kind"], part.get("content")
    if is_text and isinstance(content, str):
        return [text_part(content)], {**part, "content": None}
    if kind == "user-prompt" and isinstance(content, list):
        split = [_split_item(item) for item in content]
        return [each for found, _ in split for each in found], {**part, "content": [rest for _, rest in split]}
    if kind == "file" and isinstance(content, dict):
        found, rest = _split_item(content)
        return found, {**part, "content": rest}
    if kind in _CALLS:
        args = part.get("args")
        data = {"call_id": part.get("tool_call_id"), "name": part.get("tool_name"), "arguments": _as_text(args)}
        return [data_part(data)], {**part, "args": _type_of(args)}
    if kind in _OUTPUTS:
        data = {"call_id": part.get("tool_call_id"), "name": part.get("tool_name"), "output": _as_text(content)}
        return [data_part(data)], {**part, "content": _type_of(content)}
    return [], part


def _split_item(item: Any) -> tuple[list[_Part], _Part | None]:
    """Split an item of a user's prompt as :func:`_split` does."""
    if isinstance(item, str):
        return [text_part(item)], None
    kind, media_type = item.get("kind"), item.get("media_type") or ""
    if kind == "text-content":
        return [text_part(item["content"])], {**item, "content": None}
    if kind == "binary":
        data, rest = item["data"].translate(_TO_DATA_URL), {**item, "data": None}
        if _is_image(media_type):
            return [{"type": ContentType.IMAGE, "image_url": f"data:{media_type};base64,{data}"}], rest
        return [{"type": ContentType.FILE, "file_data": data}], rest
    if kind == "image-url":
        return [{"type": ContentType.IMAGE, "image_url": item["url"]}], {**item, "url": None}
    if kind in _URLS:
        return [{"type": ContentType.FILE, "file_url": item["url"]}], {**item, "url": None}
    return [], item


def _is_image(media_type: str) -> bool:
    return media_type.startswith("image/") and "," not in media_type


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else dumps(value)


def _type_of(value: Any) -> str:
    """Return what tells :func:`_from_text` whether a text is the value, or its JSON."""
    return "text" if isinstance(value, str) else "json"


def _from_text(text: str, value_type: str) -> Any:
    return text if value_type == "text" else loads(text)


def _raw_message(stored: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """Return the model's message of a stored message, as JSON."""
    try:
        raw = stored["metadata"][KEY]["message"]
        content = iter(stored.get("content") or ())
        raw = {**raw, "parts": [_joined(rest, content) for rest in raw["parts"]]}
        if next(content, None) is not None:
            raise ValueError("a part was added")
    except (KeyError, IndexError, TypeError, AttributeError, ValueError, StopIteration) as error:
        raise _changed(stored, place) from error
    if stored.get("usage") is not None:
        raw["usage"] = stored["usage"]
    return raw


def _joined(rest: _Part, parts: Iterator[_Part]) -> _Part:
    """Return the part of a model's message that :func:`_split` has split, with the next parts of the Message."""
    kind = rest["part_kind"]
    if kind in _CALLS:
        return {**rest, "args": _from_text(next(parts)["data"]["arguments"], rest["args"])}
    if kind in _OUTPUTS:
        return {**rest, "content": _from_text(next(parts)["data"]["output"], rest["content"])}
    content = rest.get("content")
    if kind == "user-prompt" and isinstance(content, list):
        return {**rest, "content": [_joined_item(item, parts) for item in content]}
    if kind == "file" and isinstance(content, dict):
        return {**rest, "content": _joined_item(content, parts)}
    if content is None and any(kind in each for each in _TEXTS):
        return {**rest, "content": next(parts)["text"]}
    return rest


def _joined_item(rest: _Part | None, parts: Iterator[_Part]) -> Any:
    if rest is None:
        return next(parts)["text"]
    kind = rest.get("kind")
    if kind == "text-content":
        return {**rest, "content": next(parts)["text"]}
    if kind == "binary":
        part = next(parts)
        is_image = _is_image(rest.get("media_type") or "")
        data = part["image_url"].partition(",")[2] if is_image else part["file_data"]
        return {**rest, "data": data.translate(_FROM_DATA_URL)}
    if kind == "image-url":
        return {**rest, "url": next(parts)["image_url"]}
    if kind in _URLS:
        return {**rest, "url": next(parts)["file_url"]}
    return rest


def _changed(stored: Mapping[str, Any], place: Place) -> UnreadableRow:
    return UnreadableRow(
        "another program changed this entry", "messages", place.user_id, place.conversation_id, stored["id"]
    )
