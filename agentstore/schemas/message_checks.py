"""Checks of a message before it is serialized: whether it is plain, and whether JSON represents its values."""

from typing import Any

from pydantic import BaseModel

from agentstore.errors import LimitExceeded
from agentstore.exact_json import check
from agentstore.schemas.message import (
    AudioContent,
    DataContent,
    FileContent,
    ImageContent,
    Message,
    RefusalContent,
    Role,
    TextContent,
)

_ROLES = (None, Role.ASSISTANT, Role.USER, Role.SYSTEM, Role.TOOL)
_PLAIN_PARTS = (TextContent, ImageContent, AudioContent, FileContent, RefusalContent)


def check_plain(message: Message) -> None:
    """Check the fields of a plain message that may have arbitrary values."""
    fields = message.__dict__
    if (metadata := fields.get("metadata")) is not None:
        check(metadata, where="metadata")
    if (usage := fields.get("usage")) is not None:
        check(usage, where="usage")


def is_plain(message: Message) -> bool:
    """Return whether a message has agentstore's classes only, no extra fields, and None only where that is the default.

    Of such a message only metadata and usage can contain arbitrary values: DataContent does not count as plain.
    """
    try:
        return _has_plain_fields(message)
    except KeyError:  # a field was deleted
        return False


def _has_plain_fields(message: Message) -> bool:
    if type(message) is not Message or message.__pydantic_extra__:
        return False
    fields = message.__dict__  # faster than attributes
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
    for part in content or ():  # as is_plain_part, without a call for each
        if type(part) not in _PLAIN_PARTS or part.__pydantic_extra__:
            return False
        fields = part.__dict__
        if fields["error"] is not None or fields["object"] is None or fields["delta"] is None:
            return False
    return True


def is_plain_part(part: object) -> bool:
    """Return whether a part of a content is of agentstore's classes, without extra fields and arbitrary values."""
    if type(part) not in _PLAIN_PARTS or part.__pydantic_extra__:  # type: ignore[attr-defined]
        return False
    fields = part.__dict__
    return fields["error"] is None and fields["object"] is not None and fields["delta"] is not None


def check_free_parts(message: Message) -> None:
    """Check the fields with arbitrary values before pydantic dumps them, which would turn objects into dicts."""
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
