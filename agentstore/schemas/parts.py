"""Build content parts, and check the types of JSON values."""

import json
from typing import Any

from agentstore.errors import InvalidContent
from agentstore.schemas.message import ContentType
from agentstore.schemas.times import parse_time

_LONGEST_VALUE = 80
_TIMES = ("created_at", "create_time", "createdAt", "created", "date")


def text_part(text: Any) -> dict[str, Any]:
    """Return a content part that is text."""
    return {"type": ContentType.TEXT, "text": text}


def data_part(data: Any) -> dict[str, Any]:
    """Return a content part that is a JSON object."""
    return {"type": ContentType.DATA, "data": data}


def add_rest(fields: dict[str, Any], rest: dict[str, Any], prefix: str) -> dict[str, Any]:
    """Return `fields` and those of `rest`; a name that is already used gets `prefix` and a dot in front."""
    merged = dict(fields)
    for name, value in rest.items():
        while name in merged:
            name = f"{prefix}.{name}"
        merged[name] = value
    return merged


def with_timestamp(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a message with its time as ``timestamp``, whichever of the usual names it has."""
    names = [each for each in _TIMES if each in fields]
    if not names or parse_time(fields.get("timestamp")) is not None:
        return fields
    name = next((each for each in names if parse_time(fields[each]) is not None), None)
    if name is None:
        return fields
    rest = {each: value for each, value in fields.items() if each != name}
    return add_rest({"timestamp": fields[name]}, rest, "message")


def parse_object(text: str | bytes, where: str) -> dict[str, Any]:
    """Parse a JSON object; `where` names it in the error.

    Raises:
        InvalidContent: it is not JSON, or not an object.
    """
    try:
        return require_object(json.loads(text), where)
    except RecursionError as error:
        raise InvalidContent(f"{where}: nested too deeply") from error
    except (ValueError, TypeError) as error:
        raise InvalidContent(f"{where}: not JSON: {error}") from error


def require_object(value: Any, where: str) -> dict[str, Any]:
    """Return a value that must be a JSON object; `where` names it in the error.

    Raises:
        InvalidContent: it has another type.
    """
    if not isinstance(value, dict):
        raise wrong_type(where, "an object", value)
    return value


def wrong_type(where: str, expected: str, value: Any) -> InvalidContent:
    """Return the error for a value of a type that is not `expected`."""
    return InvalidContent(f"{where}: expected {expected}, got {json_type(value)}")


def json_type(value: Any) -> str:
    """Return JSON's name for the type of a value, with its article."""
    names = {str: "a string", bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), "null")


def quote(value: Any) -> str:
    """Return a value for an error message, shortened to 80 characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of more digits than Python converts, or a deeply nested value
        return f"{json_type(value)} that is too large to show"
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."
