"""The memory service with the types of google-adk, and with its Runner."""

# pyright: reportMissingImports=false
from typing import Any

import asyncpg
import pytest

from agentstore import AgentStore, InvalidContent, MemoryItem, Message, NotConfigured
from tests.adapters.adk.events import all_events, event, text_event
from tests.adapters.adk.test_sdk import ask, runner_of
from tests.support.traces import traces

pytestmark = pytest.mark.adapters

_ID: Any = {"app_name": "chat", "user_id": "alice"}


def _service(store: Any = None, **options: Any) -> Any:
    from agentstore.adapters.adk import AgentStoreMemoryService

    return AgentStoreMemoryService(store, **options)


def _session(*events: Any, id: str = "s", **ids: str) -> Any:
    from google.adk.sessions import Session

    return Session(**{**_ID, "id": id, **ids}, events=list(events))


def _entry(text: str, **fields: Any) -> Any:
    from google.adk.memory.memory_entry import MemoryEntry

    return MemoryEntry.model_validate({"content": {"role": "user", "parts": [{"text": text}]}, **fields})


async def _texts(service: Any, query: str, **ids: str) -> list[str]:
    found = await service.search_memory(**{**_ID, **ids}, query=query)
    return [" ".join(part.text for part in each.content.parts if part.text) for each in found.memories]


@pytest.fixture(params=["Postgres", "InMemory"])
def any_store(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue("store") if request.param == "Postgres" else AgentStore.in_memory()


@pytest.fixture
def service(any_store: Any) -> Any:
    return _service(any_store)


async def test_events_of_sessions_are_found_in_their_application(any_store: Any, service: Any) -> None:
    rain = text_event("Any rain in 杭州?", timestamp=1700000000.5)
    assert await _texts(service, "rain") == []
    await service.add_session_to_memory(_session(rain, event("a call"), event("an error"), event("a thought")))
    await service.add_session_to_memory(_session(text_event("Rain again"), id="t"))
    await service.add_session_to_memory(_session(text_event("Rain of bob"), user_id="bob"))
    await service.add_session_to_memory(_session(text_event("Rain elsewhere"), app_name="chat/a"))
    assert sorted(await _texts(service, "rain")) == ["Any rain in 杭州?", "Rain again"]
    assert await _texts(service, "weather Hm E oops") == []
    assert await _texts(service, "rain", user_id="bob") == ["Rain of bob"]
    assert await _texts(service, "rain", app_name="chat/a") == ["Rain elsewhere"]
    (found,) = (await service.search_memory(**_ID, query="杭州")).memories
    assert (found.content, found.author, found.id) == (rain.content, "user", None)
    assert found.timestamp == "2023-11-14T22:13:20.500000+00:00"
    assert (await any_store.memory.delete_memory("alice", "s/chat")).memories == 1
    assert await _texts(service, "rain") == ["Rain again"]


async def test_events_are_added_once(any_store: Any, service: Any) -> None:
    events = [text_event(f"rain {number}") for number in range(3)]
    await service.add_session_to_memory(_session(*events[:1]))
    await service.add_session_to_memory(_session(*events[:2]))
    await service.add_events_to_memory(**_ID, events=events, session_id="s", custom_metadata={"a": [None]})
    assert sorted(await _texts(service, "rain")) == ["rain 0", "rain 1", "rain 2"]
    found = (await service.search_memory(**_ID, query="rain 2")).memories[0]
    assert found.custom_metadata == {"a": [None]}
    for _ in range(2):
        await service.add_events_to_memory(**_ID, events=[text_event("snow", id="x"), text_event("", id="y")])
    assert await _texts(service, "snow") == ["snow"]
    await service.add_events_to_memory(**_ID, events=all_events())
    assert len(await any_store.memory.list_memory("alice", {"page_size": 100})) > 4


async def test_many_events_are_added_by_several_calls(service: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from agentstore.adapters.adk import memory

    monkeypatch.setattr(memory, "_LARGEST_BATCH", 2)
    await service.add_session_to_memory(_session(*(text_event(f"rain {number}") for number in range(15))))
    assert len(await _texts(service, "rain")) == 10


async def test_explicit_memories_are_found_replaced_and_deleted(service: Any) -> None:
    given = _entry("I do not eat 花生", id="a/b", author="alice", timestamp="2026-01-01", custom_metadata={"x": None})
    await service.add_memory(**_ID, memories=[given, _entry("I like rain")], custom_metadata={"x": 1, "y": 2})
    await service.add_memory(**{**_ID, "app_name": "other"}, memories=[_entry("Elsewhere I eat 花生", id="a/b")])
    (found,) = (await service.search_memory(**_ID, query="花生")).memories
    assert found == given.model_copy(update={"custom_metadata": {"x": None, "y": 2}})
    await service.add_memory(**_ID, memories=[_entry("I eat 花生 again", id="a/b")])
    assert await _texts(service, "花生") == ["I eat 花生 again"]
    (liked,) = (await service.search_memory(**_ID, query="rain")).memories
    for id in (None, "", "unknown", liked.id, liked.id):
        await service.delete_memory(**_ID, memory_id=id)
    assert await _texts(service, "rain") == []
    await service.delete_memory(**_ID, memory_id="a/b")
    assert await _texts(service, "花生") == []
    assert await _texts(service, "花生", app_name="other") == ["Elsewhere I eat 花生"]


async def test_memories_of_other_programs_are_found(any_store: Any, service: Any) -> None:
    said = Message.user("rain of a program", metadata={"timestamp": "2026-01-01T00:00:00+00:00"})
    await any_store.memory.add_memory("alice", said, "x", namespace="chat/notes")
    await any_store.memory.save_items("alice", MemoryItem(text="Alice likes snow", namespace="chat"))
    (found,) = (await service.search_memory(**_ID, query="rain")).memories
    assert (found.author, found.timestamp) == ("user", "2026-01-01T00:00:00+00:00")
    assert found.content.parts[0].text == "rain of a program"
    assert await _texts(service, "snow") == ["Alice likes snow"]


async def test_invalid_input_is_refused_before_anything_is_written(any_store: Any, service: Any) -> None:
    long, good = "x" * 600, _entry("good")
    not_json = good.model_copy(update={"custom_metadata": {"x": object()}})
    for memory in (not_json, _entry(""), _entry("x", id=long), _entry("x", custom_metadata={"x": "\ud83d\ude00"})):
        with pytest.raises(InvalidContent):
            await service.add_memory(**_ID, memories=[good, memory])
    with pytest.raises(InvalidContent, match="memory 1 has no text"):
        await service.add_memory(**_ID, memories=[good, _entry("")])
    for ids in ({"app_name": ""}, {"app_name": long}, {"user_id": long}):
        with pytest.raises(InvalidContent):
            await service.add_memory(**{**_ID, **ids}, memories=[good])
        with pytest.raises(InvalidContent):
            await service.add_session_to_memory(_session(text_event("x"), **ids))
    assert list(await any_store.memory.list_memory("alice")) == []


async def test_an_agent_recalls_what_another_session_said(store: AgentStore) -> None:
    from google.adk.tools import preload_memory

    runner = runner_of(store, "Noted.")
    await ask(runner, "I do not eat peppers.")
    memory = _service(store)
    session = await runner.session_service.get_session(**_ID, session_id="s")
    await memory.add_session_to_memory(session)
    other = runner_of(store, "Duck.", tools=[preload_memory])
    other.memory_service = memory
    requests: list[Any] = []
    other.agent.before_model_callback = lambda callback_context, llm_request: requests.append(llm_request)
    await ask(other, "Shall I eat peppers?", session="t")
    assert "I do not eat peppers." in str(requests[0])


async def test_a_url_is_used_by_one_pool(database_url: str, direct_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotConfigured, match="a store or a url"):
        _service()
    if database_url != direct_url:
        monkeypatch.setenv("AGENTSTORE_POOLER", "transaction")
        monkeypatch.setenv("AGENTSTORE_MIGRATION_DATABASE_URL", direct_url)
    async with _service(url=database_url) as one, _service(url=database_url) as two:
        await one.add_session_to_memory(_session(text_event("rain")))
        await one.close()
        assert await _texts(two, "rain") == ["rain"]


async def test_erasing_a_user_leaves_nothing_of_the_memories(store: AgentStore, observer: asyncpg.Connection) -> None:
    service = _service(store)
    for user, word in (("aardvark", "zyzzyva"), ("bob", "quokka")):
        ids = {"app_name": "chat", "user_id": user}
        await service.add_session_to_memory(_session(text_event(f"the {word}"), id=word, user_id=user))
        await service.add_memory(**ids, memories=[_entry(f"the {word}", id=word)], custom_metadata={word: word})
    assert await traces(observer, "zyzzyva", "aardvark")
    assert await store.users.delete_user("aardvark")
    assert await traces(observer, "zyzzyva", "aardvark") == []
    assert await traces(observer, "quokka")
