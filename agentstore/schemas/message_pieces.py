"""Parts and fields of a large message, validated and serialized by themselves: see :mod:`agentstore.json_pieces`."""

import json
from collections.abc import Iterable, Mapping, Sequence
from secrets import token_hex
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from agentstore import json_pieces
from agentstore.exact_json import check, dumps_checked, may_have_long_integer
from agentstore.json_pieces import is_large
from agentstore.offload import spend, works_in_pieces
from agentstore.schemas.message import Content, Message
from agentstore.schemas.message_checks import is_plain_part

# Parts of a message that are validated and serialized together, and the effort for each: about that of ten values.
MANY_PARTS, EFFORT_OF_PART = 500, 10
# Bytes of payloads that are parsed together where other threads run in between, and the size of a value from which it
# is serialized by itself there.
PIECE = 200_000

_LIST: TypeAdapter[list[Any]] = TypeAdapter(list)
_PARTS = TypeAdapter(list[Content])
_PART: TypeAdapter[Content] = TypeAdapter(Content)


def put_aside(values: Mapping[str, Any], names: Iterable[str], texts: dict[str, str]) -> dict[str, Any]:
    """Add the JSON text of each large value to `texts`, by the text of a small value; return that to use instead."""
    instead = {}
    for name in names:
        value = values.get(name)
        if isinstance(value, (dict, list)) and is_large(value, PIECE):
            instead[name] = {(token := token_hex(16)): 0}
            texts[f'{{"{token}":0}}'] = json_pieces.dumps(value, dumps_checked)
    return instead


def insert(text: str, texts: Mapping[str, str]) -> str:
    """Replace each marker by its text; they are in the order in which they occur."""
    pieces, at = [], 0
    for marker, each in texts.items():
        end = text.index(marker, at)
        pieces += [text[at:end], each]
        at = end + len(marker)
    return "".join([*pieces, text[at:]])


def dump_parts(parts: Sequence[Content]) -> str:
    """Serialize parts of a content to a JSON array that is valid for :class:`Message`.

    Raises:
        ValueError: they could not be read again. InvalidContent, LimitExceeded: JSON does not represent them.
    """
    if all(map(is_plain_part, parts)):
        try:
            text = _LIST.serializer.to_json(parts, exclude_none=True, warnings="error").decode()
        except PydanticSerializationError:
            pass
        else:
            if not may_have_long_integer(text):
                return text
    values = [part.model_dump(serialize_as_any=True, warnings=False) for part in parts]
    for index, value in enumerate(values):
        check(value, where=f"content[{index}]")
    text = dumps_checked(values)
    try:
        _PARTS.validate_json(text)
    except ValidationError:
        _PARTS.validate_python(json.loads(text))  # a lone surrogate, which pydantic's parser rejects
    return text


def validate_message(value: Any) -> Message:
    """Validate the fields of a message. In pieces, parts of its content are, and large free values are not visited."""
    if not isinstance(value, dict):
        return Message.model_validate(value)
    content = value.get("content")
    if type(content) is list and len(content) > MANY_PARTS:
        spend(len(content) * EFFORT_OF_PART)
    for name in ("metadata", "usage"):
        if type(free := value.get(name)) is dict and len(free) > MANY_PARTS:
            spend(len(free))
    for part in content if type(content) is list else ():
        if type(part) is dict and type(data := part.get("data")) is dict and len(data) > MANY_PARTS:
            spend(len(data))
    if not works_in_pieces():
        return Message.model_validate(value)
    shell, free_values = _without_free_values(value, ("metadata", "usage"))
    if type(content) is list:
        shell["content"] = []
    try:
        message = Message.model_validate(shell)
        if type(content) is list:
            parts: list[Content] = []
            for start in range(0, len(content), MANY_PARTS):
                parts += map(_validate_part, content[start : start + MANY_PARTS])
            vars(message)["content"] = parts
    except ValidationError:
        return Message.model_validate(value)  # for the error of the whole
    vars(message).update(free_values)
    return message


def _validate_part(value: Any) -> Content:
    if type(value) is not dict or value.get("type") != "data":
        return _PART.validate_python(value)
    shell, free_values = _without_free_values(value, ("data",))
    part = _PART.validate_python(shell)
    vars(part).update(free_values)
    return part


def _without_free_values(value: dict[str, Any], names: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the fields with empty dicts in place of dicts that may have any value, and copies of these."""
    free = {name: dict(each) for name in names if type(each := value.get(name)) is dict}
    return {**value, **{name: {} for name in free}}, free
