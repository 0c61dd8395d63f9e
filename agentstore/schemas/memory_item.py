"""Facts: memories that were not said but concluded, each one sentence or a few."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agentstore.errors import InvalidContent, LimitExceeded
from agentstore.exact_json import check
from agentstore.schemas.message import Message, Role, TextContent
from agentstore.schemas.payload import aware, check_id
from agentstore.settings import Settings

# The kind of a memory that is a message.
MESSAGE = "message"
# What a message that stands for an item has its fields under.
_KEY = "memory_item"


class MemoryItem(BaseModel):
    """A fact about a user, an experience with a task, or another thing worth remembering that nobody said as it stands.

    It is found by its text, like a message, for as long as it is valid.
    """

    model_config = ConfigDict(extra="forbid")

    id: str = Field(default_factory=lambda: f"item_{uuid4()}")
    text: str
    """What is remembered. Not empty."""
    kind: str = "fact"
    """What it is: "fact", "preference", "experience" or any word but "message"."""
    metadata: dict[str, Any] = Field(default_factory=dict)
    """Anything that JSON keeps."""
    importance: float = Field(default=0.5, ge=0, le=1)
    """From 0 to 1: a search ranks it up to a quarter lower or higher for it."""
    valid_from: datetime | None = None
    """From when on it is found; None: always."""
    valid_until: datetime | None = None
    """From when on it is found no more; None: never. An item that is superseded gets the time of that."""
    source_ids: list[str] = Field(default_factory=list)
    """The ids of the messages that it was concluded from."""


def prepare_items(given: MemoryItem | Mapping[str, Any] | Sequence[Any], settings: Settings) -> dict[str, MemoryItem]:
    """Return what was given, one or many, as items by id; of two with one id the last.

    Raises:
        InvalidContent: something is no item, or holds what cannot be kept.
        LimitExceeded: too many of them.
    """
    many = [given] if isinstance(given, (MemoryItem, Mapping)) else given
    if not isinstance(many, Sequence) or isinstance(many, (str, bytes, bytearray)):
        raise InvalidContent(f"an item must be a MemoryItem or a dict, not {type(given).__name__}")
    if len(many) > settings.max_batch:
        raise LimitExceeded(f"{len(many)} items at once, {settings.max_batch} are allowed")
    found = {}
    for each in many:
        try:
            # Checked again: a field may have been set to anything since.
            item = MemoryItem.model_validate(each.__dict__ if isinstance(each, MemoryItem) else each)
        except ValidationError as error:
            raise InvalidContent(f"not a memory item: {error}") from error
        check_ids([item.id], settings)
        check_id(item.kind, "an item's kind", settings)
        if not item.kind or item.kind == MESSAGE:
            raise InvalidContent(f"an item's kind is a word other than {MESSAGE!r}, not {item.kind!r}")
        if not item.text.strip():
            raise InvalidContent(f"item {item.id!r} has no text")
        for name in ("valid_from", "valid_until"):
            if (time := aware(getattr(item, name), name)) is not None:
                setattr(item, name, time.astimezone(UTC))
        check(item.metadata, where="metadata")
        found[item.id] = item
    return found


def check_ids(ids: Iterable[str], settings: Settings) -> list[str]:
    """Return the different ids of items, if they can be ones.

    Raises:
        InvalidContent: one cannot be kept, or they are one string.
    """
    if isinstance(ids, str):
        raise InvalidContent("give a list of ids, not a string")
    return list(dict.fromkeys(check_id(each, "an item's id", settings) for each in ids))


def check_superseded(ids: Iterable[str], saved: Mapping[str, MemoryItem], settings: Settings) -> list[str]:
    """Return the different ids of what is superseded.

    Raises:
        InvalidContent: one cannot be an id, or is that of an item that is `saved` in the same call.
    """
    checked = check_ids(ids, settings)
    if both := [id for id in checked if id in saved]:
        raise InvalidContent(f"item {both[0]!r} is saved and superseded at once")
    return checked


def message_of(item: MemoryItem) -> Message:
    """Return the message that stands for an item where messages are wanted, its fields in the metadata."""
    rest = item.model_dump(mode="json", exclude={"id", "text", "metadata"}) | {"metadata": item.metadata}
    return Message(id=item.id, role=Role.SYSTEM, content=[TextContent(text=item.text)], metadata={_KEY: rest})


def item_of(message: Message, valid_until: datetime | None) -> MemoryItem:
    """Return the item that a message stands for; it is valid as long as its row says, which may have changed since."""
    content = message.content or ()
    text = content[0].text if content and isinstance(content[0], TextContent) else None
    fields = (message.metadata or {})[_KEY]
    return MemoryItem.model_validate({**fields, "id": message.id, "text": text, "valid_until": valid_until})


def with_end(message: Message, valid_until: datetime | None) -> Message:
    """Return the message that stands for an item with the end that its row says."""
    return message_of(item_of(message, valid_until))
