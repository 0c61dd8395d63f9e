"""Read the table of the store of langgraph-checkpoint-postgres: PostgresStore and AsyncPostgresStore."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Text, bindparam, cast, column, select, table, tuple_

from agentstore.errors import InvalidContent
from agentstore.importing.databases import OtherDatabase
from agentstore.importing.notes import Kind, Note
from agentstore.importing.records import DocumentsRecord, Reader
from agentstore.schemas import MemoryItem, StoredDocument
from agentstore.schemas.parts import parse_object

_PAGE = 500

_STORE = table(
    "store",
    *map(column, ("prefix", "key", "value", "created_at", "updated_at", "expires_at", "ttl_minutes")),
)


@dataclass(frozen=True, slots=True)
class Conversion:
    """How items are stored: what the adapter knows, which imports langgraph-checkpoint."""

    document: Callable[[tuple[str, ...], str, dict[str, Any], float | None], dict[str, Any]]
    """Return the document for the namespace, the key, the value and the time to live in minutes of an item."""


async def read(database: OtherDatabase, conversion: Conversion, user: str | None) -> Reader:
    """Yield the items of each page, for each of their users: `user`, or else the first label of the namespace.

    Raises:
        InvalidContent: the database lacks the table.
    """
    columns = await database.columns(_STORE)
    # The first releases have no time to live.
    names = ["created_at", "updated_at", *(["expires_at", "ttl_minutes"] if "expires_at" in columns else [])]
    keys = [_STORE.c.prefix, _STORE.c.key]
    first = select(*keys, cast(_STORE.c.value, Text), *(_STORE.c[name] for name in names)).order_by(*keys).limit(_PAGE)
    after = first.where(
        tuple_(*keys) > tuple_(bindparam("after_prefix", type_=Text), bindparam("after_key", type_=Text))
    )
    rows = await database.fetch(first)
    while rows:
        found: dict[str, list[StoredDocument]] = {}
        for row in rows:
            place = f"item {row[1]} in {row[0]}"
            try:
                document = _document(row, conversion)
            except InvalidContent as error:
                yield Note(place, str(error))
                continue
            until = document.item.valid_until
            if until is not None and until <= datetime.now(UTC):
                yield Note(place, "it has expired", Kind.PASSED_OVER)
                continue
            found.setdefault(row[0].split(".")[0] if user is None else user, []).append(document)
        for user_id, documents in found.items():
            yield DocumentsRecord(f"items of {user_id}", user_id, documents)
        if len(rows) < _PAGE:
            return
        rows = await database.fetch(after, after_prefix=rows[-1][0], after_key=rows[-1][1])


def _document(row: tuple[Any, ...], conversion: Conversion) -> StoredDocument:
    prefix, key, value, created_at, updated_at = row[:5]
    expires_at, ttl = row[5:] or (None, None)
    fields = conversion.document(tuple(prefix.split(".")), key, parse_object(value, "the value"), ttl)
    return StoredDocument(MemoryItem(**{**fields, "valid_until": expires_at}), created_at, updated_at)
