"""What the modules of the formats share: a conversation before it is translated to a session."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from agentstore.exact_json import dumps
from agentstore.importing.notes import Notes
from agentstore.schemas import ContentType, MessageType, Role, RunStatus
from agentstore.schemas.parts import data_part

Fields = dict[str, Any]
"""The fields of a Message, without its id."""
Part = tuple[str, dict[str, Any]]
"""A part of a message of the input: the type of the Message to which it belongs, and the content part."""


@dataclass(slots=True)
class Conversation:
    """A conversation of the input: its head, and its messages, each still in the form of its format."""

    head: dict[str, Any]
    """``id``, ``user``, ``title``, ``created_at``, ``updated_at`` and ``metadata``; all of them may be missing."""
    messages: list[Any]
    places: list[str]
    """Where each of the messages is in the value, for reports."""
    convert: Callable[[Any], list[Fields]]
    """Converts one of the messages; the result is empty if the message has no content. Raises InvalidContent."""
    id_field: str = "id"
    """The field of a message that is its id."""
    is_part: bool = False
    """Whether other values of the input may have messages of the same conversation."""
    is_file: bool = False
    """Whether all values of the file belong to the same conversation, which has no id."""


def branch(
    items: list[Any], places: list[str], notes: Notes, *, id_field: str, parent_field: str, leaf: Any = None
) -> tuple[list[Any], list[str]]:
    """Return the messages of the branch that ends in `leaf`, and their places; the others are passed over.

    `items` are the messages of a tree, each of which names its parent; by default the branch ends in the last of them.
    If they form no tree, because an id or a parent is missing or an id is used twice, all are returned as listed.
    """
    positions: dict[Any, int] = {}
    parents: list[Any] = []
    for index, each in enumerate(items):
        if not isinstance(each, dict) or parent_field not in each or not isinstance(each.get(id_field), str):
            return items, places
        positions[each[id_field]] = index
        parents.append(each[parent_field])
    if not all(isinstance(each, (str, type(None))) for each in parents) or len(positions) < len(items):
        return items, places
    roots = [each for each in parents if each not in positions]
    if len(roots) == len(items) or len(set(roots)) > 1:
        return items, places
    at: int | None = positions.get(leaf, len(items) - 1) if isinstance(leaf, str) else len(items) - 1
    path: set[int] = set()
    while at is not None:
        if at in path:
            return items, places  # it is its own ancestor
        path.add(at)
        at = positions.get(parents[at])
    for index, place in enumerate(places):
        if index not in path:
            notes.passed_over(place, "on another branch")
    kept = sorted(path)
    return [items[index] for index in kept], [places[index] for index in kept]


def numbered(where: str, messages: list[Any]) -> list[str]:
    """Return the places of the messages of a list, such as ``messages[0]``."""
    return [f"{where}[{index}]" for index in range(len(messages))]


def group(parts: Iterable[Part], role: Any, metadata: dict[str, Any], *, status: str | None = None) -> list[Fields]:
    """Return the fields of the Messages for the parts of one message, see :func:`with_metadata`.

    Adjacent parts of a Message of type ``message`` are one Message, each other part is a Message of its own.
    """
    grouped: list[Fields] = []
    for message_type, part in parts:
        if message_type == MessageType.MESSAGE and grouped and grouped[-1]["type"] == message_type:
            grouped[-1]["content"].append(part)
        else:
            is_output = message_type == MessageType.FUNCTION_CALL_OUTPUT
            grouped.append(
                {
                    "type": message_type,
                    "role": Role.TOOL if is_output else role,
                    "status": status or RunStatus.Completed,
                    "content": [part],
                }
            )
    return with_metadata(grouped, metadata)


def with_metadata(messages: list[Fields], metadata: dict[str, Any]) -> list[Fields]:
    """Add metadata to the first of the Messages for a message, and its time to the others."""
    time = {"timestamp": metadata["timestamp"]} if "timestamp" in metadata else {}
    for index, each in enumerate(messages):
        if added := time if index else metadata:
            each["metadata"] = {**(each.get("metadata") or {}), **added}
    return messages


def call_part(call_id: Any, name: Any, arguments: Any, rest: dict[str, Any] | None = None) -> Part:
    """Return the part for a tool call; `rest` are its other fields."""
    if arguments is not None and not isinstance(arguments, str):
        arguments = dumps(arguments)
    return MessageType.FUNCTION_CALL, data_part(
        {**(rest or {}), "call_id": call_id, "name": name, "arguments": arguments}
    )


def output_part(call_id: Any, name: Any, output: Any, rest: dict[str, Any] | None = None) -> Part:
    """Return the part for the output of a tool: its text, or JSON if it is not all text."""
    if isinstance(output, list) and all(_is_text(each) for each in output):
        output = "\n".join(each["text"] for each in output)
    if output is not None and not isinstance(output, str):
        output = dumps(output)
    return MessageType.FUNCTION_CALL_OUTPUT, data_part(
        {**(rest or {}), "call_id": call_id, "name": name, "output": output}
    )


def file_part(source: str, file: Any) -> Part:
    """Return the part for a file or an image that a message refers to; `source` is the key of its other fields."""
    if not isinstance(file, dict):
        return MessageType.MESSAGE, data_part({source: file})
    rest = dict(file)

    def take(*names: str) -> str | None:
        return next((rest.pop(name) for name in names if isinstance(file.get(name), str) and file[name]), None)

    id, name, url = take("file_uuid", "file_id", "id"), take("file_name", "filename", "name"), take("url", "filepath")
    is_image = str(file.get("type")).partition("/")[0] == "image" and url is not None
    if is_image:
        part = {"type": ContentType.IMAGE, "image_url": url, "filename": name, "file_id": id}
    else:
        part = {"type": ContentType.FILE, "file_url": url, "filename": name, "file_id": id}
    return MessageType.MESSAGE, set_fields({**part, source: set_fields(rest)})


def set_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that have a value: neither null nor an empty string, list or object."""
    return {name: value for name, value in fields.items() if value is not None and value not in ("", [], {})}


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
