"""The maximum size of what one call reads: the same with a database and without."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from agentstore import AgentStore, LimitExceeded, Settings
from agentstore.interfaces import MemoryService, SessionHistoryService, StateService
from agentstore.schemas import MemoryItem
from agentstore.testing import text

_LARGE = "x" * 20_000
_BUDGET = {"max_reply_bytes": 50_000}  # two large messages fit, three do not


class _Services:
    def __init__(self, sessions: SessionHistoryService, memory: Any, states: StateService) -> None:
        self.sessions = sessions
        self.memory = memory
        self.states = states


@pytest.fixture(params=["in memory", "postgres"])
async def services(request: pytest.FixtureRequest, database_url: str, settings: Settings) -> AsyncIterator[_Services]:
    if request.param == "postgres":
        async with AgentStore(database_url, settings=settings.model_copy(update=_BUDGET)) as store:
            yield _Services(store.sessions, store.memory, store.states)
        return
    from agentstore import InMemoryMemoryService, InMemorySessionHistoryService, InMemoryStateService

    small = Settings().model_copy(update=_BUDGET)
    states = InMemoryStateService(settings=small)
    async with (
        InMemorySessionHistoryService(settings=small, states=states) as sessions,
        InMemoryMemoryService(settings=small) as memory,
    ):
        yield _Services(sessions, memory, states)


async def refuses(call: Awaitable[object], advice: str) -> None:
    with pytest.raises(LimitExceeded, match="more than 50,000 bytes") as error:
        await call
    assert advice in str(error.value)


async def test_a_large_session_is_refused_and_read_in_parts(services: _Services) -> None:
    sessions = services.sessions
    session = await sessions.create_session("alice", "s")
    for number in range(5):
        await sessions.append_message(session, {"id": f"m{number}", **text(_LARGE).model_dump(exclude={"id"})})
    for call in (sessions.get_session, sessions.read_messages):
        await refuses(call("alice", "s"), "limit= and before=")
        await refuses(call("alice", "s", limit=3), "limit= and before=")
        await refuses(call("alice", "s", before="m3"), "limit= and before=")
    await refuses(sessions.create_session("alice", "s"), "iter_messages")
    found = await sessions.get_session("alice", "s", limit=2)
    assert found is not None
    earlier = await sessions.read_messages("alice", "s", limit=2, before=found.messages[0].id)
    assert earlier is not None
    assert [each.id for each in (*earlier, *found.messages)] == ["m1", "m2", "m3", "m4"]
    assert [each.id async for each in sessions.iter_messages("alice", "s", batch=2)] == [f"m{n}" for n in range(5)]


async def test_a_large_copy_exists_although_it_is_not_returned(services: _Services) -> None:
    sessions = services.sessions
    session = await sessions.create_session("alice", "s")
    for _ in range(4):
        await sessions.append_message(session, text(_LARGE))
    await refuses(sessions.fork_session("alice", "s", new_id="t"), "session 't' was created, but")
    assert len([each async for each in sessions.iter_messages("alice", "t", batch=2)]) == 4
    await refuses(sessions.rewind_session("alice", "s", 3), "nothing was changed")
    assert len([each async for each in sessions.iter_messages("alice", "s", batch=2)]) == 4
    assert len(await sessions.list_sessions("alice")) == 2
    assert len((await sessions.rewind_session("alice", "s", 2)).messages) == 2


async def test_large_pages_are_refused(services: _Services) -> None:
    for number in range(4):
        session = await services.sessions.create_session("alice", f"s{number}", metadata={"large": _LARGE})
        await services.memory.add_memory("alice", [text(f"zebra {_LARGE}")], session.id)
        await services.memory.save_items("alice", MemoryItem(id=f"i{number}", kind="fact", text=f"lion {_LARGE}"))
        await services.states.save_state("alice", {}, "s", metadata={"large": _LARGE})
    memory: MemoryService = services.memory
    listed: list[tuple[Callable[[int], Awaitable[Any]], str]] = [
        (lambda size: services.sessions.list_sessions("alice", limit=size), "limit="),
        (lambda size: services.states.list_states("alice", "s", limit=size), "limit="),
        (lambda size: services.memory.list_items("alice", limit=size), "limit="),
        (lambda size: memory.list_memory("alice", {"page_size": size}), "page_size"),
        (lambda size: memory.search_memory("alice", text("zebra"), {"top_k": size}), "top_k"),
    ]
    for call, advice in listed:
        assert len(await call(2)) == 2
        await refuses(call(4), advice)
        assert len(await call(2)) == 2
