"""Whether two messages with the same id are the same message, whatever their provider noted about it since."""

from typing import Any

from agentstore.errors import UnreadableRow
from agentstore.schemas.message import DataContent, Message, MessageType, RefusalContent, TextContent
from agentstore.schemas.payload import load_messages

# What providers change in the data of a message: references to files, their properties, and the state of a task.
_NOTES = frozenset(
    (
        "asset_pointer",
        "attachments",
        "file_id",
        "file_url",
        "height",
        "image_url",
        "metadata",
        "model",
        "size_bytes",
        "status",
        "url",
        "width",
    )
)


def is_same_message(one: Message, other: Message) -> bool:
    """Return whether two messages have the same role, type and text; the text is also that of calls and outputs.

    Their metadata, status, usage and references to files may differ.
    """
    return (one.role, one.type) == (other.role, other.type) and _text(one) == _text(other)


def is_same_payload(one: str, other: str) -> bool:
    """Return whether two stored texts are the same message, see :func:`is_same_message`."""
    try:
        first, second = load_messages([one, other])
    except UnreadableRow:  # the stored one, which is then another than the given one
        return False
    return is_same_message(first, second)


def _text(message: Message) -> list[Any]:
    found: list[Any] = [each for each in (message.code, message.message) if each]
    is_call = message.type != MessageType.MESSAGE
    for part in message.content or ():
        if isinstance(part, TextContent) and part.text:
            found.append(part.text)
        elif isinstance(part, RefusalContent) and part.refusal:
            found.append(part.refusal)
        elif isinstance(part, DataContent) and part.data:
            data = part.data
            names = ("name", "arguments", "output") if is_call and data.keys() & {"arguments", "output"} else data
            found.append({name: _without_notes(data.get(name)) for name in names if name not in _NOTES})
    return found


def _without_notes(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_notes(each) for name, each in value.items() if name not in _NOTES}
    if isinstance(value, list):
        return [_without_notes(each) for each in value]
    return value
