"""Each DocumentService implementation against the contract, and where documents meet other memories."""

from collections.abc import AsyncIterator

import pytest

from agentstore import (
    AgentStore,
    Conflict,
    DocumentService,
    InMemoryDocumentService,
    Message,
    PostgresDocumentService,
    Settings,
)
from agentstore.interfaces import Store
from agentstore.testing import DocumentContract


class TestInMemory(DocumentContract):
    @pytest.fixture
    async def service(self) -> AsyncIterator[DocumentService]:
        async with InMemoryDocumentService() as service:
            yield service


class TestPostgres(DocumentContract):
    @pytest.fixture
    async def service(self, database_url: str, settings: Settings) -> AsyncIterator[DocumentService]:
        async with PostgresDocumentService(database_url, settings=settings) as service:
            yield service


async def test_document_is_not_put_in_the_place_of_other_memories(store: AgentStore, settings: Settings) -> None:
    each: Store
    for each in (store, AgentStore.in_memory(settings=settings)):
        await each.memory.add_memory("alice", Message.user("likes tea"), "a")
        await each.memory.save_items("alice", {"id": "f", "text": "likes apples"}, "f")
        for id in ("a", "f"):
            with pytest.raises(Conflict, match="a session with the id of one has memories"):
                await each.documents.put("alice", [{"id": "b", "text": "x"}, {"id": id, "text": "x"}])
            assert await each.documents.get("alice", ["b", id]) == {}
            assert not await each.documents.delete("alice", [id])
        assert len(await each.memory.list_memory("alice")) == 2
