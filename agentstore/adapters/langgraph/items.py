"""Items of LangGraph as documents of agentstore: their ids, namespaces, values and texts.

The item "food" in the namespace ("alice", "memories") is the document "langgraph/alice/memories/food" in the namespace
"langgraph/alice/memories". Slashes, white space and control characters in a label or a key are escaped as in a URL, so
that different items never have the same id.
"""

# pyright: reportMissingImports=false
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, unquote

from langgraph.store.base import Item, SearchItem, get_text_at_path, tokenize_path

from agentstore.errors import InvalidContent
from agentstore.schemas import MemoryItem, StoredDocument
from agentstore.schemas.memory_item import DOCUMENT
from agentstore.schemas.payload import shortened

ROOT = "langgraph"
"""The first segment of the ids and namespaces of all items."""

# The key in the metadata of a document of what is stored beside the value. Such a key of a value gets another $.
_RECORD = "$langgraph"
_ESCAPED_KEY = re.compile(r"\$+langgraph")
_ESCAPED = re.compile(r"[%/\s\x00-\x1f\x7f]")
_TTL = "ttl"

Namespace = tuple[str, ...]


def namespace_of(labels: Sequence[str]) -> str:
    """Return the namespace of agentstore for one of LangGraph, or for a prefix of one.

    Raises:
        InvalidContent: it is not a tuple of strings, or one of them is empty.
    """
    if not isinstance(labels, (tuple, list)) or not all(isinstance(label, str) and label for label in labels):
        raise InvalidContent(f"a namespace must be a tuple of strings that are not empty, got {shortened(labels)}")
    return "/".join([ROOT, *map(_escape, labels)])


def id_of(labels: Sequence[str], key: str) -> str:
    """Return the id of the document for an item.

    Raises:
        InvalidContent: the namespace is empty or not valid, or the key is not a string.
    """
    if not labels:
        raise InvalidContent("the namespace of an item must have at least one label")
    if not isinstance(key, str):
        raise InvalidContent(f"the key of an item must be a string, got {shortened(key)}")
    return f"{namespace_of(labels)}/{_escape(key)}"


def labels_of(namespace: str) -> Namespace:
    """Return the namespace of LangGraph for one of agentstore."""
    return tuple(map(unquote, namespace.split("/")[1:]))


def _escape(text: str) -> str:
    return _ESCAPED.sub(lambda found: quote(found[0], safe=""), text)


def document_of(
    labels: Sequence[str], key: str, value: Any, ttl: float | None, paths: Sequence[str] | None = None
) -> dict[str, Any]:
    """Return the document for an item.

    `ttl` is in minutes. Searches find it by the texts at `paths`, or by all texts of the value if that is None.

    Raises:
        InvalidContent: an argument is not valid.
    """
    if not isinstance(value, Mapping):
        raise InvalidContent(f"the value of item {shortened(key)} must be a dict, got {shortened(value)}")
    metadata = {_escape_key(name): each for name, each in value.items()}
    valid_until = None
    if ttl is not None:
        valid_until = _after(ttl)
        metadata[_RECORD] = {_TTL: ttl}
    texts = _texts_of(value) if paths is None else _texts_at(value, paths)
    return {
        "id": id_of(labels, key),
        "kind": DOCUMENT,
        "text": "\n".join(texts),
        "namespace": namespace_of(labels),
        "metadata": metadata,
        "valid_until": valid_until,
    }


def _escape_key(name: Any) -> Any:
    # A name that is not a string is refused where the document is stored.
    return f"${name}" if isinstance(name, str) and _ESCAPED_KEY.fullmatch(name) else name


def metadata_filter(conditions: Mapping[str, Any]) -> dict[str, Any]:
    """Return the filter of a document's metadata for equal values of an item's keys."""
    return {_escape_key(name): value for name, value in conditions.items()}


def _texts_of(value: Any) -> Iterator[str]:
    pending = [value]
    while pending:
        each = pending.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, Mapping):
            pending.extend(reversed(list(each.values())))
        elif isinstance(each, (list, tuple)):
            pending.extend(reversed(each))


def _texts_at(value: Any, paths: Iterable[str]) -> Iterator[str]:
    if isinstance(paths, str) or not all(isinstance(path, str) for path in paths):
        raise InvalidContent(f"index must be False, None or a list of paths, got {shortened(paths)}")
    for path in paths:
        if path == "$":
            yield from _texts_of(value)
        else:
            yield from get_text_at_path(value, tokenize_path(path))


def _after(ttl: float) -> datetime:
    """Return the time after a number of minutes from now."""
    if isinstance(ttl, bool) or not isinstance(ttl, (int, float)) or not ttl >= 0:
        raise InvalidContent(f"ttl must be a number of minutes >= 0, or None, got {shortened(ttl)}")
    try:
        return datetime.now(UTC) + timedelta(minutes=ttl)
    except OverflowError as error:
        raise InvalidContent(f"ttl is {shortened(ttl)} minutes, which is too long") from error


def renewed_until(document: StoredDocument) -> datetime | None:
    """Return until when a document that is read now lives; None if it does not expire."""
    record = document.item.metadata.get(_RECORD)
    ttl = record.get(_TTL) if isinstance(record, Mapping) else None
    if document.item.valid_until is None or not isinstance(ttl, (int, float)):
        return None
    return _after(ttl)


def value_of(item: MemoryItem) -> dict[str, Any]:
    """Return the value of the item that a document represents."""
    return {
        name[1:] if _ESCAPED_KEY.fullmatch(name) else name: each
        for name, each in item.metadata.items()
        if name != _RECORD
    }


def item_of(document: StoredDocument) -> Item:
    """Return the item that a document represents."""
    return Item(**_fields_of(document))


def search_item_of(document: StoredDocument, score: float | None) -> SearchItem:
    """Return the result of a search that a document represents."""
    return SearchItem(**_fields_of(document), score=score)


def _fields_of(document: StoredDocument) -> dict[str, Any]:
    item = document.item
    return {
        "namespace": labels_of(item.namespace or ROOT),
        "key": unquote(item.id.rpartition("/")[2]),
        "value": value_of(item),
        "created_at": document.created_at,
        "updated_at": document.updated_at,
    }
