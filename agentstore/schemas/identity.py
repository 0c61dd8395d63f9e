"""Whether two messages with the same id are the same message, whatever their provider noted about it since."""

from typing import Any

from agentstore.errors import UnreadableRow
from agentstore.schemas.message import DataContent, Message, MessageType, RefusalContent, TextContent
from agentstore.schemas.payload import load_messages

# What providers change in the data of a message: references to files, their properties, and the state of a task.
_NOTES = frozenset(("attachments", "height", "metadata", "model", "status", "url", "width"))
_NOTE_ENDINGS = ("pointer", "pointers", "_url", "_id", "_bytes")


def is_same_message(one: Message, other: Message) -> bool:
    """Return whether two messages have the same role, type and text; the text is also that of calls and outputs.

    Their metadata, status, usage and references to files may differ.
    """
    return identity_of(one) == identity_of(other)


def identity_of(message: Message) -> list[Any]:
    """Return what two messages with the same id have in common if they are the same, as a JSON value."""
    return [_role(message), message.type, *_text(message)]


def is_same_payload(one: str, other: str) -> bool:
    """Return whether two stored texts are the same message, see :func:`is_same_message`."""
    try:
        first, second = load_messages([one, other])
    except UnreadableRow:  # the stored one, which is then another than the given one
        return False
    return is_same_message(first, second)


def _role(message: Message) -> Any:
    """Return the role that the message has at its provider; an import stores hidden messages of a user as system's."""
    source = (message.metadata or {}).get("chatgpt")
    return source.get("role", message.role) if isinstance(source, dict) else message.role


def _text(message: Message) -> list[Any]:
    found: list[Any] = [each for each in (message.code, message.message) if each]
    for part in message.content or ():
        if isinstance(part, TextContent) and part.text:
            found.append(part.text)
        elif isinstance(part, RefusalContent) and part.refusal:
            found.append(part.refusal)
        elif isinstance(part, DataContent) and part.data:
            data = part.data
            if message.type != MessageType.MESSAGE and data.keys() & {"arguments", "output"}:
                data = {name: data.get(name) for name in ("name", "arguments", "output")}
            found.append(_without_notes(data))
    return found


def _without_notes(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_notes(each) for name, each in value.items() if not _is_note(name)}
    if isinstance(value, list):
        return [_without_notes(each) for each in value]
    return value


def _is_note(name: Any) -> bool:
    return name in _NOTES or (isinstance(name, str) and name.endswith(_NOTE_ENDINGS))
