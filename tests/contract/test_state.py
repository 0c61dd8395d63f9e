"""Each StateService implementation against the contract."""

from collections.abc import AsyncIterator

import pytest

from agentstore import InMemoryStateService, LimitExceeded, PostgresStateService, Settings, StateService
from agentstore.testing import StateContract


class TestInMemory(StateContract):
    @pytest.fixture
    async def service(self) -> AsyncIterator[StateService]:
        async with InMemoryStateService() as service:
            yield service


@pytest.mark.asyncio(loop_scope="class")
class TestPostgres(StateContract):
    open = PostgresStateService


@pytest.mark.parametrize("kind", ["in memory", "postgres"])
async def test_state_of_20_mb_is_stored_and_65_mb_is_rejected(kind: str, database_url: str, settings: Settings) -> None:
    service: StateService = (
        InMemoryStateService() if kind == "in memory" else PostgresStateService(database_url, settings=settings)
    )
    async with service:
        state = {"parts": ["密x" * 1_000] * 5_000}
        assert await service.save_state("alice", state, "s") == 1
        assert await service.export_state("alice", "s") == state
        (found,) = await service.list_states("alice", "s")
        assert found.size == 5_000 * (4 * 1_000 + 3) - 1 + len('{"parts":[]}')
        with pytest.raises(LimitExceeded):
            await service.save_state("alice", {"x": "x" * 65_000_000}, "s")
        assert len(await service.list_states("alice", "s")) == 1
