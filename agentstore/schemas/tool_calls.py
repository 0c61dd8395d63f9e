"""Which messages belong together as a tool call and its output, so that a part of a conversation has both or neither.

Providers reject an output without its call. A call and its outputs name each other by ``call_id`` in their data; an
output that names none belongs to the assistant's messages before it.
"""

from collections.abc import Sequence

from agentstore.schemas.message import DataContent, Message, MessageType, Role

CALLS = {
    MessageType.FUNCTION_CALL,
    MessageType.PLUGIN_CALL,
    MessageType.COMPONENT_CALL,
    MessageType.MCP_TOOL_CALL,
}
"""The types of messages that are tool calls."""


def is_call(message: Message) -> bool:
    """Return whether a message is a tool call."""
    return message.type in CALLS


def is_output(message: Message) -> bool:
    """Return whether a message is the output of a tool."""
    return message.type.endswith("_output") or (message.role == Role.TOOL and not is_call(message))


def call_ids(message: Message) -> set[str]:
    """Return the ids of the calls that a call or an output names."""
    parts = [part.data for part in message.content or () if isinstance(part, DataContent)]
    ids = [data.get("call_id") for data in parts if data]
    return {id for id in ids if isinstance(id, str)}


def find_orphans(messages: Sequence[Message]) -> list[int]:
    """Return the indices of the outputs whose calls are not among the messages before them."""
    orphans: list[int] = []
    called: set[str] = set()
    has_assistant = False
    for index, message in enumerate(messages):
        if is_output(message):
            ids = call_ids(message)
            if not ids <= called or not (ids or has_assistant):
                orphans.append(index)
        elif is_call(message):
            called |= call_ids(message)
        has_assistant = has_assistant or message.role == Role.ASSISTANT
    return orphans


def first_question(messages: Sequence[Message]) -> int:
    """Return the index of the first message of the user, or the number of messages if there is none."""
    return next((index for index, message in enumerate(messages) if message.role == Role.USER), len(messages))


def has_cut_calls(messages: Sequence[Message]) -> bool:
    """Return whether messages begin within a turn, after a call whose output is among them."""
    end = first_question(messages)
    return any(index < end for index in find_orphans(messages))


def drop_orphans(messages: Sequence[Message]) -> list[Message]:
    """Return the end of a conversation without outputs whose calls are not in it.

    Where it begins within a turn, it is cut after the last output whose call was before it, so that the calls of one
    answer are not separated. Further outputs without a call are removed one by one.
    """
    rest = list(messages)
    while cut := [index for index in find_orphans(rest) if index < first_question(rest)]:
        del rest[: cut[-1] + 1]
    orphans = set(find_orphans(rest))
    return [message for index, message in enumerate(rest) if index not in orphans]
