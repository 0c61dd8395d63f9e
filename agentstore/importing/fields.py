"""The fields that messages are made of, and what is said of one that is something else."""

import json
from typing import Any

from agentstore.errors import InvalidContent
from agentstore.schemas import ContentType


def text_part(text: Any) -> dict[str, Any]:
    """Return a part of a message's content that is text."""
    return {"type": ContentType.TEXT, "text": text}


def data_part(data: Any) -> dict[str, Any]:
    """Return a part of a message's content that is an object."""
    return {"type": ContentType.DATA, "data": data}


def with_rest(fields: dict[str, Any], rest: dict[str, Any], of: str) -> dict[str, Any]:
    """Return `fields` with what else there is: under its own name or, where that is taken, with `of` before it."""
    found = dict(fields)
    for name, value in rest.items():
        while name in found:
            name = f"{of}.{name}"
        found[name] = value
    return found


def parsed(text: str | bytes, where: str) -> dict[str, Any]:
    """Return what a text of JSON, which is called `where`, says, if that is an object.

    Raises:
        InvalidContent: it is something else.
    """
    try:
        return an_object(json.loads(text), where)
    except RecursionError as error:
        raise InvalidContent(f"{where}: it is nested too deeply") from error
    except ValueError as error:
        raise InvalidContent(f"{where}: it is no JSON: {error}") from error


def an_object(value: Any, where: str) -> dict[str, Any]:
    """Return `value`, the field that is called `where`, if it is an object.

    Raises:
        InvalidContent: it is something else.
    """
    if not isinstance(value, dict):
        raise InvalidContent(f"{where}: it is {kind(value)} and not an object")
    return value


def kind(value: Any) -> str:
    """Say what JSON calls a value."""
    names = {str: "a string", bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), "null")
