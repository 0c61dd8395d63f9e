"""What the runtime's page about its services shows, block by block, on ours: only the imports are others."""

from typing import Any

import pytest

from agentstore import Settings
from agentstore.adapters.agentscope_runtime import (
    PostgresMemoryService,
    PostgresSessionHistoryService,
    PostgresStateService,
)
from agentstore.interfaces import ServiceWithLifecycleManager
from tests.adapters.kinds import Message, Session, TextContent


@pytest.fixture(autouse=True)
def _the_environment_names_the_database(database_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", database_url)
    if settings.migration_database_url is not None:
        monkeypatch.setenv("AGENTSTORE_MIGRATION_DATABASE_URL", settings.migration_database_url.get_secret_value())
        monkeypatch.setenv("AGENTSTORE_POOLER", settings.pooler)


async def test_a_service_of_ones_own() -> None:
    class Mine(ServiceWithLifecycleManager):
        def __init__(self, name: str) -> None:
            self.name, self.runs = name, False

        async def start(self) -> None:
            self.runs = True

        async def stop(self) -> None:
            self.runs = False

        async def health(self) -> bool:
            return self.runs

    async with Mine("a service") as service:
        assert await service.health()
    assert not await service.health()


@pytest.mark.parametrize("kind", [PostgresSessionHistoryService, PostgresMemoryService, PostgresStateService])
async def test_the_life_of_a_service(kind: Any) -> None:
    service = kind()
    await service.start()
    assert await service.health() is True
    await service.stop()
    assert await service.health() is False


def test_a_session_as_an_object() -> None:
    session = Session(
        id="session 1",
        user_id="user 1",
        messages=[
            Message(role="user", content=[TextContent(type="text", text="Is it open?")]),
            Message(role="assistant", content=[TextContent(type="text", text="Until six.")]),
        ],
    )
    assert (session.id, session.user_id, len(session.messages)) == ("session 1", "user 1", 2)


async def test_sessions_are_created() -> None:
    async with PostgresSessionHistoryService() as service:
        session = await service.create_session("u")
        assert session.id
        assert (session.user_id, len(session.messages)) == ("u", 0)
        assert (await service.create_session("u", session_id="an id of mine")).id == "an id of mine"


async def test_a_session_is_retrieved_and_made_where_it_is_not() -> None:
    async with PostgresSessionHistoryService() as service:
        assert await service.get_session("u", "s") is not None


async def test_sessions_are_listed() -> None:
    async with PostgresSessionHistoryService() as service:
        made = {(await service.create_session("u")).id for _ in range(2)}
        listed = await service.list_sessions("u")
        assert {each.id for each in listed} == made
        assert [each.messages for each in listed] == [[], []]


async def test_messages_and_dicts_are_appended() -> None:
    async with PostgresSessionHistoryService() as service:
        session = await service.create_session("u")
        await service.append_message(session, Message(role="user", content=[TextContent(type="text", text="One")]))
        assert len(session.messages) == 1
        await service.append_message(
            session,
            [
                {"role": "user", "content": [{"type": "text", "text": "Two"}]},
                Message(role="assistant", content=[TextContent(type="text", text="Three")]),
            ],
        )
        assert len(session.messages) == 3


async def test_sessions_are_deleted() -> None:
    """The page has None for what was deleted, which the runtime's Redis service gives; in memory it is made anew."""
    async with PostgresSessionHistoryService(compat="redis") as service:
        session = await service.create_session("u")
        assert await service.get_session("u", session.id) is not None
        await service.delete_session("u", session.id)
        assert await service.get_session("u", session.id) is None
        await service.delete_session("u", "never there")


async def test_memories_are_added_searched_listed_and_deleted() -> None:
    service = PostgresMemoryService()
    messages = [Message(role="user", content=[TextContent(type="text", text="I live in Lisbon")])]
    await service.add_memory("u", messages)
    await service.add_memory("u", messages, "s")
    question = [Message(role="user", content=[TextContent(type="text", text="lisbon")])]
    assert await service.search_memory("u", question) == messages * 2
    assert await service.list_memory("u", filters={"page_size": 10, "page_num": 1}) == messages * 2
    await service.delete_memory("u", "s")
    assert await service.list_memory("u") == messages
    await service.delete_memory("u")
    assert await service.list_memory("u") == []
    await service.stop()


async def test_states_are_saved_and_exported() -> None:
    service = PostgresStateService()
    round_id = await service.save_state("u", {"plan": ["pack", "go"]}, "s")
    assert await service.export_state("u", "s") == {"plan": ["pack", "go"]}
    assert await service.export_state("u", "s", round_id) == await service.export_state("u", "s")
    await service.stop()
