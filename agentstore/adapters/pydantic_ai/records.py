"""The records of conversations in the metadata of sessions.

A record is a list with one object: a change of metadata merges objects, and replaces lists.
"""

# pyright: reportMissingImports=false
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_ai.conversation_store import ConversationRecord
from pydantic_core import PydanticSerializationError

from agentstore.adapters.pydantic_ai.entries import KEY, EntryId, Place, validate
from agentstore.errors import InvalidContent, UnreadableRow

SCOPE_KEY = "pydantic_ai_scope"
"""The metadata key with the scope of a conversation, by which sessions are listed."""

_RECORDS = TypeAdapter(ConversationRecord)


def metadata_of(record: ConversationRecord) -> dict[str, Any]:
    """Return the change of a session's metadata that stores a record.

    Raises:
        InvalidContent: the record has a value that JSON cannot represent.
    """
    try:
        raw: dict[str, Any] = _RECORDS.dump_python(record, mode="json")
    except PydanticSerializationError as error:
        raise InvalidContent(
            f"the record of conversation {record.conversation_id!r} cannot be represented as JSON: {error}"
        ) from error
    del raw["conversation_id"]
    return {KEY: [raw], SCOPE_KEY: raw.pop("scope")}


def record_of(metadata: Mapping[str, Any], place: Place) -> ConversationRecord | None:
    """Return the record in the metadata of a session; None if the session has none.

    Raises:
        UnreadableRow: another program changed the record.
    """
    if KEY not in metadata:
        return None
    stored = metadata[KEY]
    try:
        (raw,) = stored
        raw = {**raw, "conversation_id": place.conversation_id, "scope": metadata.get(SCOPE_KEY)}
        record = validate(_RECORDS, raw)
    except (ValidationError, ValueError, TypeError) as error:
        raise UnreadableRow(
            f"another program changed its metadata {KEY!r}", "sessions", place.user_id, place.conversation_id
        ) from error
    record.head_id = None if record.head_id is None else EntryId.at(place, record.head_id)
    record.branches = [EntryId.at(place, each) for each in record.branches]
    record.forked_at = None if record.forked_at is None else EntryId.at(place, record.forked_at)
    return record
