"""Memory items: facts and experience derived from conversations, each a sentence or a few."""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field

from agentstore.errors import Conflict, InvalidContent, LimitExceeded, UnreadableRow
from agentstore.exact_json import check
from agentstore.schemas.message import Message, Role, TextContent
from agentstore.schemas.namespace import check_namespace
from agentstore.schemas.payload import RowKey, aware, check_id, describe_invalid, load_messages, shortened
from agentstore.settings import Settings

_log = logging.getLogger(__name__)

# The kind of memories that are messages.
MESSAGE = "message"
# The kind of items that are written by put_documents, each in a bucket of its own.
DOCUMENT = "document"
# The metadata key of the item's fields in the message that represents an item.
_KEY = "memory_item"


class MemoryItem(BaseModel):
    """A fact about a user, an experience with a task, or anything else worth remembering that is not itself a message.

    Searches find it by its text, like a message, while it is valid.
    """

    model_config = ConfigDict(extra="forbid")

    id: str = Field(default_factory=lambda: f"item_{uuid4()}", strict=True)
    text: str
    """The text to remember. Not empty."""
    kind: str = Field(default="fact", strict=True)
    """The kind of item: "fact", "preference", "experience" or any other word except "message"."""
    metadata: dict[str, Any] = Field(default_factory=dict)
    """Any JSON object."""
    importance: float = Field(default=0.5, ge=0, le=1)
    """From 0 to 1. Scales the score in a search by up to a quarter down (0) or up (1)."""
    valid_from: datetime | None = None
    """The time from which searches find it; None for always."""
    valid_until: datetime | None = None
    """The time from which searches no longer find it; None for never. Superseding an item sets it."""
    source_ids: list[str] = Field(default_factory=list)
    """The ids of the messages from which it was derived."""
    namespace: str | None = None
    """A path such as "project/x", by whose prefixes items are filtered; None for none."""


def prepare_items(
    given: MemoryItem | Mapping[str, Any] | Sequence[Any], settings: Settings, *, kind: str | None = None
) -> dict[str, MemoryItem]:
    """Validate one or several items, and return them by id; of items with the same id, the last one.

    With `kind` it is the default of dicts, the only one allowed, and the text may be empty.

    Raises:
        InvalidContent: a value is not an item, or cannot be stored.
        LimitExceeded: there are more than the setting `max_batch`.
    """
    many = [given] if isinstance(given, (MemoryItem, Mapping)) else given
    if not isinstance(many, Sequence) or isinstance(many, (str, bytes, bytearray)):
        raise InvalidContent(f"items must be a MemoryItem, a dict or a list of these, got {type(given).__name__}")
    if len(many) > settings.max_batch:
        raise LimitExceeded(f"{len(many)} items in one call: at most {settings.max_batch} are allowed")
    found = {}
    for each in many:
        try:
            # Validated again, since fields may have been assigned after the item was created.
            fields = each.__dict__ if isinstance(each, MemoryItem) else each
            if kind is not None and isinstance(each, Mapping):
                fields = {"kind": kind, **each}
            item = MemoryItem.model_validate(fields)
        except ValueError as error:  # a ValidationError, or that of a huge Decimal for a timestamp
            raise InvalidContent(f"not a valid memory item: {error}") from error
        check_ids([item.id], settings)
        check_id(item.kind, "an item's kind", settings)
        if not item.kind or item.kind == MESSAGE:
            raise InvalidContent(f"an item's kind must be a word other than {MESSAGE!r}, got {item.kind!r}")
        if kind not in (None, item.kind):
            raise InvalidContent(f"the kind of item {item.id!r} must be {kind!r}, got {shortened(item.kind)}")
        if kind is None and not item.text.strip():
            raise InvalidContent(f"item {item.id!r} has no text")
        for name in ("valid_from", "valid_until"):
            if (time := aware(getattr(item, name), name)) is not None:
                setattr(item, name, time.astimezone(UTC))
        check_namespace(item.namespace, settings)
        check(item.metadata, where="metadata")
        found[item.id] = item
    return found


def check_ids(ids: Iterable[str], settings: Settings) -> list[str]:
    """Validate the ids of items, and return them without duplicates.

    Raises:
        InvalidContent: an id is not valid, or `ids` is a string.
    """
    if isinstance(ids, str):
        raise InvalidContent(f"the ids of items must be a list of strings, got the string {shortened(ids)}")
    return list(dict.fromkeys(check_id(each, "an item's id", settings) for each in ids))


def check_superseded(ids: Iterable[str], saved: Mapping[str, MemoryItem], settings: Settings) -> list[str]:
    """Validate the ids of superseded items, and return them without duplicates.

    Raises:
        InvalidContent: an id is not valid, or is that of an item in `saved`.
    """
    checked = check_ids(ids, settings)
    if both := [id for id in checked if id in saved]:
        raise InvalidContent(f"item {both[0]!r} is both saved and superseded in one call")
    return checked


def item_has_id_of_message(user_id: str, session_id: str, id: str) -> Conflict:
    """Return the error for a new item whose id a message in its bucket has."""
    return Conflict(
        f"Item {id!r} has the id of a message in session {session_id!r} of user {user_id!r}: give the item another id."
    )


def message_has_id_of_item(user_id: str, session_id: str, id: str) -> Conflict:
    """Return the error for a new message whose id an item in its bucket has."""
    return Conflict(
        f"Message {id!r} has the id of an item in session {session_id!r} of user {user_id!r}: "
        "give the message another id."
    )


def message_of(item: MemoryItem) -> Message:
    """Return the message that represents an item, with the item's fields in its metadata, except for its namespace."""
    rest = item.model_dump(mode="json", exclude={"id", "text", "metadata", "namespace"}) | {"metadata": item.metadata}
    return Message(id=item.id, role=Role.SYSTEM, content=[TextContent(text=item.text)], metadata={_KEY: rest})


def metadata_of(message: Message, *, is_item: bool) -> Mapping[str, Any] | None:
    """Return the metadata of a memory: that of the message, or of the item that the message represents."""
    if not is_item:
        return message.metadata
    fields = (message.metadata or {}).get(_KEY)
    metadata = fields.get("metadata") if isinstance(fields, Mapping) else None
    return metadata if isinstance(metadata, Mapping) else None


def item_of(message: Message, valid_until: datetime | None, namespace: str | None) -> MemoryItem:
    """Return the item that a message represents.

    `valid_until` and `namespace` are the row's, which supersede the message's.
    """
    content = message.content or ()
    text = content[0].text if content and isinstance(content[0], TextContent) else None
    fields = (message.metadata or {})[_KEY]
    return MemoryItem.model_validate(
        {**fields, "id": message.id, "text": text, "valid_until": valid_until, "namespace": namespace}
    )


Memory: TypeAlias = tuple[Message, MemoryItem | None]
"""A memory: the message that is stored, or represents an item, and the item."""
MemoryValues: TypeAlias = tuple[str, str, datetime | None, str | None]
"""The values of a row from which a memory is loaded: payload, kind, `valid_until` and namespace."""


def load_memories(rows: Sequence[MemoryValues], key: Callable[[int], RowKey]) -> list[Memory | None]:
    """Parse stored memories; one that cannot be read is None, and a warning names it.

    `rows` are their payload, kind, `valid_until` and namespace. `key` returns the key of the row with the given index.
    """
    try:
        return [*parse_memories(rows, key)]
    except UnreadableRow:
        return [_load_memory(row, key(index)) for index, row in enumerate(rows)]


def parse_memories(rows: Sequence[MemoryValues], key: Callable[[int], RowKey]) -> list[Memory]:
    """Parse stored memories as :func:`load_memories` does.

    Raises:
        UnreadableRow: one of them is not a valid message, or does not represent an item.
    """
    found: list[Memory] = []
    for index, message in enumerate(load_messages([row[0] for row in rows], key)):
        _, kind, valid_until, namespace = rows[index]
        if kind == MESSAGE:
            found.append((message, None))
            continue
        try:
            item = item_of(message, valid_until, namespace)
        except (LookupError, TypeError, ValueError) as error:
            table, user_id, session_id, _ = key(index)
            reason = f"it does not represent a memory item: {describe_invalid(error)}"
            raise UnreadableRow(reason, table, user_id, session_id, message.id) from error
        found.append((message_of(item), item))
    return found


def _load_memory(row: MemoryValues, key: RowKey) -> Memory | None:
    try:
        return parse_memories([row], lambda _: key)[0]
    except UnreadableRow as error:
        _log.warning("A row was passed over: %s", error)
        return None
