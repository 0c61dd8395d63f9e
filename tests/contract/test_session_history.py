"""The contract of SessionHistoryService, held against each implementation."""

from collections.abc import AsyncIterator

import pytest

from agentstore import (
    InMemorySessionHistoryService,
    PostgresSessionHistoryService,
    Session,
    SessionHistoryService,
    Settings,
)
from agentstore.testing import SessionHistoryContract, text


class TestInMemory(SessionHistoryContract):
    @pytest.fixture
    async def service(self) -> AsyncIterator[SessionHistoryService]:
        async with InMemorySessionHistoryService() as service:
            yield service


class TestPostgres(SessionHistoryContract):
    @pytest.fixture
    async def service(self, database_url: str, settings: Settings) -> AsyncIterator[SessionHistoryService]:
        async with PostgresSessionHistoryService(database_url, settings=settings) as service:
            yield service


@pytest.fixture(params=["in memory", "postgres"])
async def creating(
    request: pytest.FixtureRequest, database_url: str, settings: Settings
) -> AsyncIterator[SessionHistoryService]:
    if request.param == "in memory":
        async with InMemorySessionHistoryService(missing_session="create") as in_memory:
            yield in_memory
    else:
        async with PostgresSessionHistoryService(database_url, missing_session="create", settings=settings) as postgres:
            yield postgres


async def test_a_missing_session_is_created_where_the_service_is_told_so(creating: SessionHistoryService) -> None:
    found = await creating.get_session("alice", "s")
    assert found is not None
    assert found.messages == []
    await creating.append_message(Session(id="t", user_id="bob"), text("hello"))
    created = await creating.get_session("bob", "t")
    assert created is not None
    assert len(created.messages) == 1
