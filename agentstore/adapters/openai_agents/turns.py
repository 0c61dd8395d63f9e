"""The turns of a conversation, and what the model's answers in them have cost."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import BaseModel

from agentstore.schemas import Message, Role

_TOKENS = ("input_tokens", "output_tokens", "total_tokens")
_DETAILS = ("input_tokens_details", "output_tokens_details")


@dataclass
class Turn:
    """A message of the user, and what follows it up to the next one."""

    number: int
    """Its number in the conversation, from 1."""
    message_id: str
    """The id of the user's message."""
    text: str
    """The text of the user's message."""
    created_at: datetime | None
    """When the user's message was stored (UTC)."""
    usage: dict[str, Any] = field(default_factory=dict)
    """The sum of the usage of its messages: ``requests``, ``input_tokens``, ``output_tokens`` and so on."""


def add_to_turns(turns: list[Turn], message: Message) -> None:
    """Add the next message of a conversation. What precedes the first message of the user belongs to no turn."""
    if message.role == Role.USER:
        turns.append(Turn(len(turns) + 1, message.id, message.text, message.created_at))
    if turns and message.usage:
        turns[-1].usage = add_usage(turns[-1].usage, message.usage)


def add_usage(total: Mapping[Any, Any], usage: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the sum of two reports of usage: of their numbers, at any depth. Other values are those of the last."""
    added = dict(total)
    for name, value in usage.items():
        before = added.get(name)
        if isinstance(value, Mapping):
            added[name] = add_usage(before if isinstance(before, Mapping) else {}, value)
        elif _is_number(value):
            added[name] = value + (before if _is_number(before) else 0)
        else:
            added[name] = value
    return added


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


class UsageOfRuns:
    """Which requests of each run are recorded already, so that each is recorded once."""

    def __init__(self) -> None:
        """Record nothing yet."""
        self._recorded: WeakKeyDictionary[Any, int] = WeakKeyDictionary()

    def new_usage(self, wrapper: Any) -> dict[str, Any] | None:
        """Return the usage of the requests that a run has made since the last call, or None if it made none.

        Args:
            wrapper: the SDK's RunContextWrapper of the run, or None outside of a run.
        """
        requests = list(getattr(getattr(wrapper, "usage", None), "request_usage_entries", None) or ())
        if wrapper is None:
            return None
        # A run that was resumed in another process reports the requests before its interruption too.
        recorded = self._recorded.get(wrapper, max(0, len(requests) - 1))
        self._recorded[wrapper] = len(requests)
        return _sum(requests[recorded:])


def _sum(requests: Iterable[Any]) -> dict[str, Any] | None:
    total: dict[str, Any] = {}
    for request in requests:
        usage: dict[str, Any] = {"requests": 1} | {name: getattr(request, name) for name in _TOKENS}
        for name in _DETAILS:
            if isinstance(details := getattr(request, name, None), BaseModel):
                usage[name] = details.model_dump(exclude_none=True)
        total = add_usage(total, usage)
    return total or None
