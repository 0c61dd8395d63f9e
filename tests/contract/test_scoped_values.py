"""Each Store implementation against the contract of scoped values."""

from collections.abc import AsyncIterator

import pytest

from agentstore import AgentStore, Settings, Store
from agentstore.testing import ScopedValuesContract


class TestInMemory(ScopedValuesContract):
    @pytest.fixture
    async def store(self) -> AsyncIterator[Store]:
        async with AgentStore.in_memory() as store:
            yield store


class TestPostgres(ScopedValuesContract):
    @pytest.fixture
    async def store(self, database_url: str, settings: Settings) -> AsyncIterator[Store]:
        async with AgentStore(database_url, settings=settings) as store:
            yield store
