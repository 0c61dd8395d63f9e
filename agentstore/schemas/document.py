"""Documents: memory items that are replaced, read and deleted one by one, by their ids."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from agentstore.errors import Conflict, InvalidContent
from agentstore.schemas.memory_filters import SearchFilters
from agentstore.schemas.memory_item import DOCUMENT, MemoryItem, check_ids, prepare_items
from agentstore.schemas.namespace import check_namespace
from agentstore.schemas.page import read_cursor, write_cursor
from agentstore.schemas.payload import aware, shortened
from agentstore.schemas.strategy import SearchStrategy
from agentstore.settings import Settings

# After every namespace, in the order of bytes.
_END = "\U0010ffff"
# The character after "/", which begins no namespace below another one.
_AFTER_SLASH = chr(ord("/") + 1)
# Appended to a namespace, it makes the least one after it.
_LEAST = "\x01"
# After the time of every document.
_LAST_TIME = datetime(9998, 12, 31, tzinfo=UTC)


class StoredDocument(NamedTuple):
    """A document, and when it was first and last written (UTC)."""

    item: MemoryItem
    created_at: datetime
    updated_at: datetime


def prepare_documents(
    given: MemoryItem | Mapping[str, Any] | Sequence[MemoryItem | Mapping[str, Any]], settings: Settings
) -> list[MemoryItem]:
    """Validate documents, and return them in the order of the bytes of their ids; of equal ids, the last one.

    Raises:
        InvalidContent: a value is not an item of the kind "document", or cannot be stored.
        LimitExceeded: there are more than the setting `max_batch`.
    """
    prepared = prepare_items(given, settings, kind=DOCUMENT)
    for item in prepared.values():
        if item.valid_from is not None:
            raise InvalidContent(f"document {item.id!r} has valid_from, which only other items have")
    return [prepared[id] for id in sorted(prepared, key=str.encode)]


def prepare_imported(given: Sequence[StoredDocument], settings: Settings) -> list[StoredDocument]:
    """Validate documents with their times, and return them as :func:`prepare_documents` does.

    Raises:
        InvalidContent, LimitExceeded: see there; a value is not a StoredDocument, or a time not an aware datetime.
    """
    for each in given:
        if not isinstance(each, StoredDocument):
            raise InvalidContent(f"expected a StoredDocument, got {shortened(each)}")
    prepared = prepare_documents([each.item for each in given], settings)
    times = {each.item.id: each for each in given}
    return [
        StoredDocument(
            item,
            *(
                min(_utc(times[item.id][part], f"{name} of document {item.id!r}"), datetime.now(UTC))
                for part, name in ((1, "created_at"), (2, "updated_at"))
            ),
        )
        for item in prepared
    ]


def _utc(time: object, name: str) -> datetime:
    if not isinstance(time, datetime):
        raise InvalidContent(f"{name} must be an aware datetime, got {shortened(time)}")
    checked = aware(time, name)
    assert checked is not None  # noqa: S101
    return checked.astimezone(UTC)


def document_filters(
    namespace: str | None, metadata: Mapping[str, Any] | None, top_k: int, strategy: SearchStrategy | str | None
) -> SearchFilters:
    """Return the filters of a search of memory that finds documents alone."""
    filters: SearchFilters = {"kind": DOCUMENT, "top_k": top_k, "neighbors": False}
    if namespace is not None:
        filters["namespace"] = namespace
    if metadata:
        filters["metadata"] = metadata
    if strategy is not None:
        filters["strategy"] = strategy
    return filters


def read_document_cursor(cursor: str | None) -> tuple[datetime, str]:
    """Decode a cursor to the time and the id of a document; None to what is after all documents.

    Raises:
        InvalidContent: it is not a cursor of a list of documents.
    """
    if cursor is None:
        return _LAST_TIME, ""
    at, id = read_cursor(cursor, datetime, str)
    assert isinstance(at, datetime)  # noqa: S101
    return at, str(id)


def check_times(times: Mapping[str, datetime], settings: Settings) -> dict[str, datetime]:
    """Validate the times until which documents live, by id, and return them in UTC, in the order of the ids' bytes.

    Raises:
        InvalidContent: an id is not valid, or a value is not an aware datetime.
    """
    if not isinstance(times, Mapping):
        raise InvalidContent(f"times must be a mapping of ids to datetimes, got {shortened(times)}")
    ids = check_ids(times, settings)
    return {id: _utc(times[id], f"the time of document {id!r}") for id in sorted(ids, key=str.encode)}


def not_a_document(user_id: str, ids: Sequence[str]) -> Conflict:
    """Return the error for documents one of whose ids is that of a bucket with other memories."""
    named = ", ".join(map(repr, ids[:3])) + (", ..." if len(ids) > 3 else "")
    return Conflict(
        f"The documents {named} of user {user_id!r} were not written: a session with the id of one has memories of its "
        "own. Give the document another id."
    )


def namespaces_from(
    namespace: str | None, user_id: str | None, cursor: str | None, settings: Settings
) -> dict[str, str]:
    """Return the range of namespaces that are listed: of those below `namespace`, after `cursor`.

    Raises:
        InvalidContent: `namespace` or `cursor` is not valid.
    """
    least = check_namespace(namespace, settings) or ""
    until = least + _AFTER_SLASH if least else _END
    if cursor is None:
        return {"from_user": "", "first": least, "least": least, "until": until}
    from_user, after = map(str, read_cursor(cursor, str, str))
    if user_id not in (None, from_user):
        raise InvalidContent(f"{shortened(cursor)} is a cursor of another user's namespaces")
    return {"from_user": from_user, "first": after + _LEAST, "least": least, "until": until}


def is_below(namespace: str, above: str | None) -> bool:
    """Return whether a namespace is another one, or below it; every one is below None."""
    return above is None or namespace == above or namespace.startswith(f"{above}/")


def write_namespace_cursor(last: tuple[str, str]) -> str:
    """Encode the last namespace of a page, with its user, as the page's ``next_cursor``."""
    return write_cursor(*last)
