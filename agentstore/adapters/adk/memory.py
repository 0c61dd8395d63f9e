"""The long-term memory of ADK."""

# pyright: reportMissingImports=false
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from google.adk.events import Event
from google.adk.memory.base_memory_service import BaseMemoryService, SearchMemoryResponse
from google.adk.memory.memory_entry import MemoryEntry
from google.adk.sessions import Session
from google.genai.types import Content, Part

from agentstore.adapters.adk.events import KEY, events_of, is_memorable, json_of, message_of
from agentstore.adapters.adk.keys import escaped, stored_id
from agentstore.adapters.stores import OnStore
from agentstore.errors import InvalidContent
from agentstore.exact_json import dumps
from agentstore.schemas import MemoryHit, MemoryItem, Role
from agentstore.schemas.memory_item import prepare_items
from agentstore.schemas.message_checks import check_size
from agentstore.schemas.payload import check_id
from agentstore.settings import settings_from_environment

_LARGEST_BATCH, _RESULTS = 500, 10
# The kind of the items that are memories of ADK, and the last part of their buckets.
_KIND = "memory"


class AgentStoreMemoryService(OnStore, BaseMemoryService):  # type: ignore[misc]
    """A BaseMemoryService of ADK: the memory of agentstore, in a namespace for each application.

    Events become memories of their session, and explicit memories items, which can be deleted one by one.
    """

    async def add_session_to_memory(self, session: Session) -> None:
        """Add the events of a session that are text. Idempotent: those that memory has already are skipped."""
        await self._add(session.app_name, session.user_id, session.events, session.id)

    async def add_events_to_memory(
        self,
        *,
        app_name: str,
        user_id: str,
        events: Sequence[Event],
        session_id: str | None = None,
        custom_metadata: Mapping[str, object] | None = None,
    ) -> None:
        """Add events that are text. Idempotent: those that the session has in memory already are skipped.

        Args:
            app_name: the application.
            user_id: the owner.
            events: the events.
            session_id: their session; None adds them to one without an id.
            custom_metadata: what searches return as ``custom_metadata`` of the memories.

        Raises:
            InvalidContent, LimitExceeded: an id, an event or the metadata cannot be stored.
        """
        await self._add(app_name, user_id, events, session_id or "", custom_metadata)

    async def add_memory(
        self,
        *,
        app_name: str,
        user_id: str,
        memories: Sequence[MemoryEntry],
        custom_metadata: Mapping[str, object] | None = None,
    ) -> None:
        """Add explicit memories, one after the other. One whose id exists in the application replaces the stored one.

        Args:
            app_name: the application.
            user_id: the owner.
            memories: the memories; one without an id gets a new one.
            custom_metadata: what is added to the ``custom_metadata`` of each, where that has not the same keys.

        Raises:
            InvalidContent, LimitExceeded: a memory has no text, or cannot be stored; nothing was written.
        """
        store = await self._started()
        namespace = escaped(app_name, "app_name")
        items = []
        for number, entry in enumerate(memories):
            id = entry.id or str(uuid4())
            text = " ".join(part.text for part in entry.content.parts or () if part.text)
            if not text:
                raise InvalidContent(f"memory {number} has no text")
            merged = {**(custom_metadata or {}), **entry.custom_metadata}
            given = entry.model_copy(update={"id": id, "custom_metadata": merged})
            dumped = json_of(given, f"memory {number}")
            item_id = stored_id(app_name, id)
            items.append(
                MemoryItem(id=item_id, text=text, kind=_KIND, namespace=namespace, metadata={KEY: {"memory": dumped}})
            )
        settings = settings_from_environment()
        prepare_items(items, settings)  # so that all are validated before the first one is stored
        for item in items:
            check_id(_bucket(item.id), "the id of a memory", settings)
            check_size(dumps(item.metadata, where="memories"), "a memory", settings.max_message_bytes)
        for item in items:
            # In a bucket of its own, since a bucket is what can be deleted.
            await store.memory.save_items(user_id, item, _bucket(item.id))

    async def search_memory(self, *, app_name: str, user_id: str, query: str) -> SearchMemoryResponse:
        """Return the ten memories of the user in the application that match the query best.

        Only explicit memories have an id, by which :meth:`delete_memory` deletes them.
        """
        store = await self._started()
        filters: Any = {"namespace": escaped(app_name, "app_name"), "top_k": _RESULTS}
        hits = await store.memory.search(user_id, query, filters)
        return SearchMemoryResponse(memories=[_entry_of(hit) for hit in hits])

    async def delete_memory(self, *, app_name: str, user_id: str, memory_id: str | None = None) -> None:
        """Delete an explicit memory. Idempotent.

        Memories of events are deleted with all of their session, by ``store.memory.delete_memory(user_id,
        f"{session_id}/{app_name}")``.
        """
        if memory_id:
            store = await self._started()
            await store.memory.delete_memory(user_id, _bucket(stored_id(app_name, memory_id)))

    async def _add(
        self,
        app_name: str,
        user_id: str,
        events: Iterable[Event],
        session_id: str,
        custom_metadata: Mapping[str, object] | None = None,
    ) -> None:
        store = await self._started()
        namespace, bucket = escaped(app_name, "app_name"), stored_id(app_name, session_id)
        messages = []
        for event in events:
            message, _ = message_of(event)
            if is_memorable(message):
                if custom_metadata and message.metadata is not None:
                    message.metadata[KEY]["custom_metadata"] = dict(custom_metadata)
                messages.append(message)
        for first in range(0, len(messages), _LARGEST_BATCH):
            batch = messages[first : first + _LARGEST_BATCH]
            await store.memory.add_memory(user_id, batch, bucket, namespace=namespace)


def _bucket(item_id: str) -> str:
    # Unlike the bucket of a session, it has three parts.
    return f"{item_id}/{_KIND}"


def _entry_of(hit: MemoryHit) -> MemoryEntry:
    """Return the memory of ADK for one that was found. Another program may have added it."""
    if hit.item is not None:
        record = hit.item.metadata.get(KEY)
        memory = record.get("memory") if isinstance(record, dict) else None
        if isinstance(memory, dict):
            return MemoryEntry.model_validate(memory)
        return MemoryEntry(content=Content(role="model", parts=[Part(text=hit.item.text)]))
    events = events_of([hit.message])
    metadata = hit.message.metadata or {}
    if not events:
        role = "user" if hit.message.role == Role.USER else "model"
        time = metadata.get("timestamp")
        return MemoryEntry(
            content=Content(role=role, parts=[Part(text=hit.message.text)]),
            author=hit.message.role,
            timestamp=time if isinstance(time, str) else None,
        )
    (event,) = events
    return MemoryEntry(
        content=event.content,
        author=event.author,
        timestamp=datetime.fromtimestamp(event.timestamp, UTC).isoformat(),
        custom_metadata=metadata[KEY].get("custom_metadata", {}),
    )
