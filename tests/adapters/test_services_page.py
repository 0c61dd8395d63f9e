"""The examples of the runtime's documentation page about its services, one by one: only the imports differ."""

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
def _default_database(database_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", database_url)
    if settings.migration_database_url is not None:
        monkeypatch.setenv("AGENTSTORE_MIGRATION_DATABASE_URL", settings.migration_database_url.get_secret_value())
        monkeypatch.setenv("AGENTSTORE_POOLER", settings.pooler)


async def test_a_custom_service_starts_and_stops() -> None:
    class Custom(ServiceWithLifecycleManager):
        def __init__(self, name: str) -> None:
            self.name, self.is_running = name, False

        async def start(self) -> None:
            self.is_running = True

        async def stop(self) -> None:
            self.is_running = False

        async def health(self) -> bool:
            return self.is_running

    async with Custom("a service") as service:
        assert await service.health()
    assert not await service.health()


@pytest.mark.parametrize("kind", [PostgresSessionHistoryService, PostgresMemoryService, PostgresStateService])
async def test_a_service_is_healthy_between_start_and_stop(kind: Any) -> None:
    service = kind()
    await service.start()
    assert await service.health() is True
    await service.stop()
    assert await service.health() is False


def test_a_session_has_its_id_user_and_messages() -> None:
    session = Session(
        id="session 1",
        user_id="user 1",
        messages=[
            Message(role="user", content=[TextContent(type="text", text="Is it open?")]),
            Message(role="assistant", content=[TextContent(type="text", text="Until six.")]),
        ],
    )
    assert (session.id, session.user_id, len(session.messages)) == ("session 1", "user 1", 2)


async def test_create_session_generates_an_id_unless_one_is_passed() -> None:
    async with PostgresSessionHistoryService() as service:
        session = await service.create_session("u")
        assert session.id
        assert (session.user_id, len(session.messages)) == ("u", 0)
        assert (await service.create_session("u", session_id="my id")).id == "my id"


async def test_get_session_creates_a_missing_session() -> None:
    async with PostgresSessionHistoryService() as service:
        assert await service.get_session("u", "s") is not None


async def test_list_sessions_omits_messages() -> None:
    async with PostgresSessionHistoryService() as service:
        created = {(await service.create_session("u")).id for _ in range(2)}
        listed = await service.list_sessions("u")
        assert {each.id for each in listed} == created
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


async def test_a_deleted_session_is_not_found() -> None:
    """The page shows None for a deleted session, as the Redis service returns; the in-memory one recreates it."""
    async with PostgresSessionHistoryService(compat="redis") as service:
        session = await service.create_session("u")
        assert await service.get_session("u", session.id) is not None
        await service.delete_session("u", session.id)
        assert await service.get_session("u", session.id) is None
        await service.delete_session("u", "missing")


async def test_memories_are_added_searched_listed_and_deleted() -> None:
    service = PostgresMemoryService()
    messages = [Message(role="user", content=[TextContent(type="text", text="I live in Lisbon")])]
    await service.add_memory("u", messages)
    await service.add_memory("u", messages, "s")
    query = [Message(role="user", content=[TextContent(type="text", text="lisbon")])]
    assert await service.search_memory("u", query) == messages * 2
    assert await service.list_memory("u", filters={"page_size": 10, "page_num": 1}) == messages * 2
    await service.delete_memory("u", "s")
    assert await service.list_memory("u") == messages
    await service.delete_memory("u")
    assert await service.list_memory("u") == []
    await service.stop()


async def test_a_saved_state_is_exported() -> None:
    service = PostgresStateService()
    round_id = await service.save_state("u", {"plan": ["pack", "go"]}, "s")
    assert await service.export_state("u", "s") == {"plan": ["pack", "go"]}
    assert await service.export_state("u", "s", round_id) == await service.export_state("u", "s")
    await service.stop()
