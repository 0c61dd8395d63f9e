"""Convert chats of SillyTavern: JSON Lines of which the first is the head of the chat, and each other one a message."""

import re
from typing import Any

from agentstore.importing.conversation import Conversation, Fields, group, set_fields
from agentstore.importing.notes import Notes
from agentstore.schemas import MessageType, Role
from agentstore.schemas.parts import require_object, text_part, wrong_type

_HEAD = ("user_name", "character_name")
_USED = {"name", "is_user", "is_system", "send_date", "mes", "swipe_info"}
_DATE = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2}) ?@(\d{1,2})h ?(\d{1,2})m ?(\d{1,2})s(?: (\d{1,3})ms)?")


def is_line(value: dict[str, Any]) -> bool:
    """Return whether a value is a line of a chat."""
    is_head = all(name in value for name in _HEAD) and ("chat_metadata" in value or "create_date" in value)
    return is_head or ("mes" in value and ("is_user" in value or "name" in value))


def conversation(value: dict[str, Any], notes: Notes) -> Conversation:
    """Return a line of a chat as a part of the conversation of its file."""
    if "mes" in value:
        return Conversation({}, [value], [""], message, is_part=True, is_file=True)
    rest = {name: each for name, each in value.items() if name != "create_date"}
    created_at = _date(value.get("create_date"))
    name = value.get("character_name")
    head = {
        "title": name if isinstance(name, str) and name != "unused" else None,
        "created_at": created_at,
        "metadata": {"source": "sillytavern", **set_fields(rest)},
    }
    return Conversation(head, [], [], message, is_part=True, is_file=True)


def message(raw: Any) -> list[Fields]:
    """Return the fields of the Messages for a message.

    Raises:
        InvalidContent: the message is not valid; the error begins with the name of the field.
    """
    text = require_object(raw, "the message")["mes"]
    if not isinstance(text, str):
        raise wrong_type("mes", "a string", text)
    if not text:
        return []
    extra = raw.get("extra")
    if raw.get("is_user") is True:
        role = Role.USER
    elif raw.get("is_system") is True and isinstance(extra, dict) and extra.get("type"):
        role = (
            Role.SYSTEM
        )  # of the narrator, or a comment; without a type it is a message that is hidden from the model
    else:
        role = Role.ASSISTANT
    rest = {name: each for name, each in raw.items() if name not in _USED}
    if raw.get("is_system") is True:
        rest["is_system"] = True
    if raw.get("swipes") == [text]:
        rest = {name: each for name, each in rest.items() if name not in ("swipes", "swipe_id")}
    metadata = {"timestamp": _date(raw.get("send_date")), "name": raw.get("name"), "sillytavern": set_fields(rest)}
    return group([(MessageType.MESSAGE, text_part(text))], role, set_fields(metadata))


def _date(value: Any) -> Any:
    """Return a time in the notation of SillyTavern's file names as ISO 8601, and any other value unchanged."""
    found = _DATE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return value
    year, month, day, hour, minute, second = (f"{int(each):02}" for each in found.groups()[:6])
    return f"{year}-{month}-{day}T{hour}:{minute}:{second}.{int(found[7] or 0):03}Z"
