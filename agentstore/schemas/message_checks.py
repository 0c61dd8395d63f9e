"""Checks of a message before it is serialized: whether it is plain, and whether JSON represents its values."""

from collections.abc import Iterable
from functools import cache
from typing import Any

from pydantic import BaseModel

from agentstore.errors import LimitExceeded
from agentstore.exact_json import check
from agentstore.schemas.message import (
    AudioContent,
    DataContent,
    Error,
    FileContent,
    ImageContent,
    Message,
    RefusalContent,
    Role,
    TextContent,
)

_ROLES = frozenset({None, *Role})
_PLAIN_PARTS = frozenset({TextContent, ImageContent, AudioContent, FileContent, RefusalContent})
_MODELS: tuple[type[BaseModel], ...] = (Message, Error, DataContent, *_PLAIN_PARTS)
# Fields with any JSON object, which subclasses may declare with other types of values.
_FREE = ("metadata", "usage", "data")
_JSON_TYPES = (str, int, bool, type(None))


def are_plain(messages: Iterable[Message]) -> bool:
    """Return whether all messages are plain, and check the fields of these that may have arbitrary values.

    A plain message has agentstore's classes only, no extra fields, and None only where that is the default. Of such a
    message only metadata and usage can contain arbitrary values: DataContent does not count as plain.

    Raises:
        InvalidContent, LimitExceeded: see :func:`check`.
    """
    # Every message takes this way: without calls, and with fields of __dict__, which are faster than attributes.
    try:
        for message in messages:
            if type(message) is not Message or message.__pydantic_extra__:
                return False
            fields = message.__dict__
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
            for part in content or ():  # as is_plain_part
                if type(part) not in _PLAIN_PARTS or part.__pydantic_extra__:
                    return False
                of_part = part.__dict__
                if of_part["error"] is not None or of_part["object"] is None or of_part["delta"] is None:
                    return False
            if (metadata := fields.get("metadata")) is not None:
                check(metadata, where="metadata")
            if (usage := fields.get("usage")) is not None:
                check(usage, where="usage")
    except (KeyError, TypeError):  # a field was deleted, or is set to a value that has no hash
        return False
    return True


def is_plain_part(part: object) -> bool:
    """Return whether a part of a content is of agentstore's classes, without extra fields and arbitrary values."""
    if type(part) not in _PLAIN_PARTS or part.__pydantic_extra__:  # type: ignore[attr-defined]
        return False
    fields = part.__dict__
    return fields["error"] is None and fields["object"] is not None and fields["delta"] is not None


def check_before_dump(message: Message) -> None:
    """Check the fields of a message before pydantic dumps them.

    Pydantic dumps an object as a dict, and some values without validation as others, such as a Fraction as a string.
    """
    _check_fields(message, "")
    _check_value(message.error, "error")
    if not isinstance(message.content, (list, tuple)):
        return
    for index, part in enumerate(message.content):
        _check_value(part, f"content[{index}]")
        if isinstance(part, BaseModel):
            _check_value(getattr(part, "error", None), f"content[{index}].error")


def _check_value(value: object, where: str) -> None:
    if isinstance(value, BaseModel):
        _check_fields(value, f"{where}.")
    elif value is not None:
        check(value, where=where)


def _check_fields(model: BaseModel, where: str) -> None:
    """Check the extra fields of a model, and those that it has from a class of agentstore's."""
    values = model.__dict__
    for name in _checked_fields(type(model)):
        if type(value := values.get(name)) not in _JSON_TYPES:
            check(value, where=f"{where}{name}")
    for name, value in (model.model_extra or {}).items():
        check(value, where=f"{where}{name}")


@cache
def _checked_fields(kind: type[BaseModel]) -> tuple[str, ...]:
    """Return the names of agentstore's fields without the models in them, unless a subclass gives them other types."""
    ours = next((each for each in _MODELS if issubclass(kind, each)), None)
    if ours is None:
        return ()
    fields = {name: field for name, field in ours.model_fields.items() if name not in ("content", "error")}
    return tuple(
        name
        for name, field in fields.items()
        if name in _FREE or (name in kind.model_fields and kind.model_fields[name].annotation == field.annotation)
    )


def check_dumped(value: dict[str, Any]) -> None:
    """Check every field of a dumped message; each field starts at depth 0."""
    for name, field in value.items():
        if name != "content" or not isinstance(field, (list, tuple)):
            check(field, where=name)
            continue
        for index, part in enumerate(field):
            for inner_name, inner in part.items() if isinstance(part, dict) else [("", part)]:
                check(inner, where=f"content[{index}].{inner_name}")


def check_size(payload: str, what: str | Message, maximum: int) -> str:
    """Return a JSON text, unless it has more bytes than the maximum."""
    if len(payload) * 4 > maximum:  # a character has four bytes at most
        size = len(payload) if payload.isascii() else len(payload.encode())
        if size > maximum:
            name = what if isinstance(what, str) else f"message {what.id!r}"
            raise LimitExceeded(f"{name} has {size} bytes, the maximum is {maximum}")
    return payload
