"""The formats of other applications, each of which is converted to the generic form of a conversation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from agentstore.importing.notes import Notes


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation in the generic form, ``{"id", "user", "title", "created_at", "metadata", "messages": [...]}``.

    `places` are those of its messages in the original value, for reports; None stands for ``messages[0]`` and so on.
    """

    value: dict[str, Any]
    places: list[str] | None = None


@dataclass(frozen=True, slots=True)
class Format:
    """A format of conversations.

    `matches` returns whether a JSON value has it, from a few keys. `convert` returns the conversation in the generic
    form. It reports a message that it leaves out to the notes, and raises InvalidContent for a value that is not a
    conversation at all. A message that it cannot convert may stay in the list as it is: it is then reported with the
    reason why it is no valid message of the generic form.
    """

    name: str
    summary: str
    matches: Callable[[Any], bool]
    convert: Callable[[Any, Notes], Conversation]


FORMATS: tuple[Format, ...] = ()
"""In the order in which they are tried, before the generic form."""
