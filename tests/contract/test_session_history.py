"""Each SessionHistoryService implementation against the contract."""

from collections.abc import AsyncIterator

import pytest

from agentstore import (
    InMemorySessionHistoryService,
    InvalidContent,
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


@pytest.mark.asyncio(loop_scope="class")
class TestPostgres(SessionHistoryContract):
    open = PostgresSessionHistoryService


@pytest.fixture(params=["in memory", "postgres"])
async def service_that_creates(
    request: pytest.FixtureRequest, database_url: str, settings: Settings
) -> AsyncIterator[SessionHistoryService]:
    if request.param == "in memory":
        async with InMemorySessionHistoryService(missing_session="create") as in_memory:
            yield in_memory
    else:
        async with PostgresSessionHistoryService(database_url, missing_session="create", settings=settings) as postgres:
            yield postgres


async def test_missing_session_is_created_with_missing_session_create(
    service_that_creates: SessionHistoryService,
) -> None:
    for id in ("s", " s ", ""):  # exactly this id: only create_session strips
        found = await service_that_creates.get_session("alice", id)
        assert found is not None
        assert (found.id, found.messages) == (id, [])
        await service_that_creates.append_message(Session(id=id, user_id="bob"), text("hello"))
        created = await service_that_creates.get_session("bob", id)
        assert created is not None
        assert len(created.messages) == 1
    assert (
        len(await service_that_creates.list_sessions("alice"))
        == len(await service_that_creates.list_sessions("bob"))
        == 3
    )


@pytest.mark.parametrize("kind", ["in memory", "postgres"])
async def test_service_is_healthy_from_the_first_call_to_stop(kind: str, database_url: str, settings: Settings) -> None:
    service: SessionHistoryService = (
        InMemorySessionHistoryService()
        if kind == "in memory"
        else PostgresSessionHistoryService(database_url, settings=settings)
    )
    assert not await service.health()
    await service.create_session("alice")
    assert await service.health()
    await service.stop()
    assert not await service.health()


def test_invalid_missing_session_is_rejected(database_url: str) -> None:
    for create_service in (
        InMemorySessionHistoryService,
        lambda **policy: PostgresSessionHistoryService(database_url, **policy),
    ):
        with pytest.raises(InvalidContent):
            create_service(missing_session="Create")  # type: ignore[arg-type]
