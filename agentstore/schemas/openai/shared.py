"""What both APIs need of a Message: its tool call or output, and the fields of its parts."""

from typing import Any

from agentstore.exact_json import dumps
from agentstore.schemas.message import Content, DataContent, Message, MessageType
from agentstore.schemas.tool_calls import CALLS

ITEM_PARTS = {"input_text", "output_text", "input_image", "input_file", "summary_text", "reasoning_text"}
"""The types of parts that Responses items have, and messages of chat completions do not."""

_OUTPUTS = {
    MessageType.FUNCTION_CALL_OUTPUT,
    MessageType.PLUGIN_CALL_OUTPUT,
    MessageType.COMPONENT_CALL_OUTPUT,
    MessageType.MCP_TOOL_CALL_OUTPUT,
}


def is_call(message: Message) -> bool:
    """Return whether a message is a tool call: its data has the name of the tool."""
    return message.type in CALLS and "name" in (data := tool_data(message)) and data.get("type") != message.type


def is_output(message: Message) -> bool:
    """Return whether a message is the output of a tool: its data has the output."""
    return message.type in _OUTPUTS and "output" in (data := tool_data(message)) and data.get("type") != message.type


def tool_data(message: Message) -> dict[str, Any]:
    """Return the data of a tool call or an output. Of a streamed one, stored in pieces, the last is complete."""
    found: dict[str, Any] = {}
    for part in message.content or ():
        if isinstance(part, DataContent):
            found.update(
                {
                    str(name): value
                    for name, value in (part.data or {}).items()
                    if value is not None or name not in found
                }
            )
    return found


def as_text(value: Any, default: str) -> str:
    """Return the arguments or the output of a tool as a string: JSON text for other values, the default for None."""
    return default if value is None else value if isinstance(value, str) else dumps(value)


def write_data(part: DataContent, text_type: str, message_type: str) -> dict[str, Any]:
    """Return a part that OpenAI defines and agentstore does not, or data as JSON text in a part of type `text_type`."""
    data = part.data or {}
    if isinstance(data.get("type"), str) and data["type"] != message_type:
        return dict(data)
    return {"type": text_type, "text": dumps(data)}


def set_fields(part: Content, *names: str) -> dict[str, Any]:
    """Return those of the fields that are not None."""
    return {name: value for name in names if (value := getattr(part, name)) is not None}


def extra_fields(part: Content) -> dict[str, Any]:
    """Return a copy of the fields that the class of a part does not define."""
    return dict(part.model_extra or {})
