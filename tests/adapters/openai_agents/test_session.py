"""Sessions for openai-agents, without the package: items, turns, branches, usage, search and retries."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest

from agentstore import (
    AgentStore,
    AlreadyExists,
    InMemoryMemoryService,
    InMemorySessionHistoryService,
    InvalidContent,
    Message,
    NotConfigured,
    NotFound,
    Unavailable,
)
from agentstore.adapters.openai_agents import AgentStoreSession, AgentStoreSessions
from tests.adapters.openai_agents.items import ITEMS, OTHER_ITEMS
from tests.support.cli import run

_CONVERSATION: list[dict[str, Any]] = [
    {"role": "user", "content": "Any rain in 杭州?"},
    ITEMS["function_call"][0],
    ITEMS["function_call_output"][0],
    ITEMS["message of the model"][0],
    {"role": "user", "content": "And in Chengdu?"},
    {"role": "assistant", "content": "None."},
    {"role": "user", "content": "Thanks"},
]


@dataclass(eq=False)
class _Wrapper:
    """The SDK's RunContextWrapper, as far as it is read."""

    context: Any = None
    usage: Any = field(default_factory=lambda: SimpleNamespace(request_usage_entries=[]))

    def request(self, tokens: int) -> None:
        self.usage.request_usage_entries.append(
            SimpleNamespace(input_tokens=tokens, output_tokens=1, total_tokens=tokens + 1)
        )


@pytest.fixture(params=["Postgres", "InMemory"])
def any_store(request: pytest.FixtureRequest) -> Any:
    if request.param == "Postgres":
        return request.getfixturevalue("store")
    return SimpleNamespace(sessions=InMemorySessionHistoryService(), memory=InMemoryMemoryService())


async def test_every_item_is_read_as_it_was_added(any_store: Any) -> None:
    items = [item for item, *_ in (ITEMS | OTHER_ITEMS).values()]
    session = AgentStoreSession("s", any_store, user_id="alice")
    assert await session.get_items() == []
    assert await session.pop_item() is None
    await session.add_items([])
    assert await any_store.sessions.get_session("alice", "s") is None
    await session.add_items(items[:5])
    await session.add_items(items[5:])
    assert await session.get_items() == items
    assert await AgentStoreSession("s", any_store, user_id="alice").get_items(limit=3) == items[-3:]
    assert await session.get_items(limit=0) == []
    assert await session.get_items(limit=2**31 - 1) == items
    with pytest.raises(InvalidContent, match="limit"):
        await session.get_items(limit=-1)
    for item in reversed(items):
        assert await session.pop_item() == item
    assert await session.pop_item() is None
    await session.add_items(items[:1])
    await session.clear_session()
    await session.clear_session()
    assert await session.get_items() == []
    assert await any_store.sessions.get_session("alice", "s") is None


async def test_the_settings_limit_what_is_read(any_store: Any) -> None:
    session = AgentStoreSession("s", any_store, session_settings=SimpleNamespace(limit=2))
    await session.add_items(_CONVERSATION)
    assert await session.get_items() == _CONVERSATION[-2:]
    assert await session.get_items(limit=3) == _CONVERSATION[-3:]


async def test_equal_items_are_stored_each_time(any_store: Any) -> None:
    session = AgentStoreSession("s", any_store)
    item = ITEMS["message of the model"][0]
    await session.add_items([item, item])
    await session.add_items([item])
    await session.add_items([{**item, "content": []}])
    assert await session.get_items() == [item, item, item, {**item, "content": []}]


async def test_invalid_items_are_refused_before_anything_is_written(any_store: Any) -> None:
    session = AgentStoreSession("s", any_store)
    invalid: Any
    for invalid in (["text"], [_CONVERSATION[0], None], [_CONVERSATION[0], {"role": "user", "content": float("nan")}]):
        with pytest.raises(InvalidContent, match=r"item|content"):
            await session.add_items(invalid)
    for invalid in (_CONVERSATION[0], "text"):
        with pytest.raises(InvalidContent, match="items must be a list"):
            await session.add_items(invalid)
    assert await session.get_items() == []


async def test_the_messages_of_any_session_can_be_read(any_store: Any) -> None:
    messages = [
        Message.system("Be short."),
        Message.user("Any rain?", usage={"seconds": 1}),
        Message(type="heartbeat"),
        *Message.from_openai(
            {
                "role": "assistant",
                "content": "I ask.",
                "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
            }
        ),
        Message.tool({"mm": 3}, "c1"),
        Message.assistant("A little."),
        Message(type="heartbeat"),
    ]
    await any_store.sessions.append("alice", "s", messages)
    session = AgentStoreSession("s", any_store, user_id="alice")
    assert await session.get_items() == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Any rain?"},
        {"type": "message", "role": "assistant", "content": "I ask."},
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": '{"mm":3}'},
        {"type": "message", "role": "assistant", "content": "A little."},
    ]
    assert await session.get_items(limit=1) == [{"type": "message", "role": "assistant", "content": "A little."}]
    assert await session.pop_item() == {"type": "message", "role": "assistant", "content": "A little."}
    assert [each.number for each in await session.turns()] == [1]


async def test_the_user_is_the_session_an_id_or_a_function_of_the_run(any_store: Any) -> None:
    item = _CONVERSATION[:1]
    await AgentStoreSession("s", any_store).add_items(item)
    sessions = AgentStoreSessions(any_store, user_id=lambda wrapper: "nobody" if wrapper is None else wrapper.context)
    run_of_alice = _Wrapper("alice")
    await sessions("s").add_items(item, wrapper=run_of_alice)
    await sessions("s", user_id="bob").add_items(item)
    for user in ("s", "alice", "bob"):
        assert (await any_store.sessions.get_session(user, "s")).message_count == 1
    assert await sessions("s").get_items() == []
    assert await sessions("s").get_items(wrapper=run_of_alice) == item
    assert await sessions("s").pop_item(wrapper=run_of_alice) == item[0]
    await sessions("s", user_id="bob").clear_session()
    assert await any_store.sessions.get_session("bob", "s") is None


async def test_branches_copy_the_turns_before(any_store: Any) -> None:
    session = AgentStoreSession("s", any_store, user_id="alice", remember=True)
    with pytest.raises(NotFound):
        await session.branch(1)
    await session.add_items(_CONVERSATION)
    assert [(each.number, each.text) for each in await session.turns()] == [
        (1, "Any rain in 杭州?"),
        (2, "And in Chengdu?"),
        (3, "Thanks"),
    ]
    for turn, count in ((1, 0), (2, 4), (3, 6), (4, 7)):
        branch = await session.branch(turn, f"branch {turn}")
        assert await branch.get_items() == _CONVERSATION[:count]
    await branch.add_items(_CONVERSATION[:1])
    assert await session.get_items() == _CONVERSATION
    copy = await any_store.sessions.get_session("alice", "branch 2")
    assert (copy.forked_from, copy.forked_at) == ("s", 4)
    assert (await session.branch(2)).session_id not in ("s", "")
    with pytest.raises(NotFound, match="3 turns"):
        await session.branch(5)
    with pytest.raises(AlreadyExists):
        await session.branch(2, "branch 2")
    for invalid in (0, True, "2"):
        with pytest.raises(InvalidContent, match="turn"):
            await session.branch(invalid)  # type: ignore[arg-type]


async def test_items_are_replaced_in_one_transaction(any_store: Any) -> None:
    session = AgentStoreSession("s", any_store, user_id="alice")
    await session.replace_items(_CONVERSATION[:1])
    await any_store.sessions.set_title("alice", "s", "Rain")
    await session.add_items(_CONVERSATION[1:])
    await session.pop_item()
    await session.replace_items([ITEMS["compaction"][0], _CONVERSATION[-1]])
    assert await session.get_items() == [ITEMS["compaction"][0], _CONVERSATION[-1]]
    await session.replace_items([])
    assert await session.get_items() == []
    assert (await any_store.sessions.get_session("alice", "s")).title == "Rain"


async def test_a_snapshot_is_replaced_unless_the_conversation_was_changed(any_store: Any) -> None:
    """The compaction of the SDK calls it: see test_sdk.py."""
    summary, added = ITEMS["compaction"][0], {"role": "user", "content": "meanwhile"}
    session = AgentStoreSession("s", any_store)
    assert await session._get_compaction_snapshot(3) is None
    await session.add_items(_CONVERSATION)
    for change in (session.pop_item, lambda: session.add_items([added])):
        snapshot = await session._get_compaction_snapshot(3)
        assert snapshot is not None
        before = await session.get_items()
        assert (snapshot.items, snapshot.complete) == (before[-3:], False)
        await change()
        after = await session.get_items()
        assert not await snapshot.replace_suffix(0, [summary])
        assert await session.get_items() == after
    snapshot = await session._get_compaction_snapshot(7, prune_prefix=lambda item: item in _CONVERSATION[:2])
    assert snapshot is not None
    assert snapshot.complete
    assert not await snapshot.replace_suffix(7, [summary])
    assert not await snapshot.replace_suffix(5, [])
    assert await snapshot.replace_suffix(5, [summary])
    assert await session.get_items() == [*_CONVERSATION[2:5], summary]
    assert not await snapshot.replace_suffix(0, [summary])
    snapshot = await session._get_compaction_snapshot(10, prune_prefix=lambda item: True)
    assert snapshot is not None
    assert await snapshot.replace_suffix(0, [summary, added])
    assert await session.get_items() == [summary, added]


async def test_usage_is_stored_once_with_the_turn(any_store: Any) -> None:
    session = AgentStoreSession("s", any_store)
    assert await session.usage() == {}
    first, resumed = _Wrapper(), _Wrapper()
    await session.add_items(_CONVERSATION[:1], wrapper=first)
    first.request(10)
    await session.add_items(_CONVERSATION[1:3], wrapper=first)
    first.request(20)
    first.request(30)
    await session.add_items(_CONVERSATION[3:4], wrapper=first)
    await session.add_items(_CONVERSATION[4:5], wrapper=first)
    resumed.request(10)  # of the run before it was interrupted
    resumed.request(40)
    await session.add_items(_CONVERSATION[5:], wrapper=resumed)
    one, two, three = await session.turns()
    assert one.usage["requests"] == 3
    assert (one.usage["input_tokens"], one.usage["output_tokens"], one.usage["total_tokens"]) == (60, 3, 63)
    assert two.usage == {}
    assert (three.usage["requests"], three.usage["input_tokens"]) == (1, 40)
    assert (await session.usage())["total_tokens"] == 104
    assert await session.get_items() == _CONVERSATION


async def test_search_finds_messages_of_this_conversation(any_store: Any) -> None:
    session = AgentStoreSession("s", any_store, user_id="alice", remember=True)
    other = AgentStoreSession("other", any_store, user_id="alice", remember=True)
    await session.add_items(_CONVERSATION)
    await other.add_items([{"role": "user", "content": "Chengdu again"}])
    assert [each.text for each in await session.search("chengdu")] == ["And in Chengdu?"]
    assert [each.text for each in await session.search("杭州")] == ["Any rain in 杭州?"]
    assert await session.search("weather 3 mm") == []  # calls and outputs of tools are not added
    assert len(await any_store.memory.search_memory("alice", "Chengdu")) >= 2
    with pytest.raises(InvalidContent, match="remember=True"):
        await AgentStoreSession("s", any_store, user_id="alice").search("chengdu")
    await session.clear_session()
    assert await session.search("chengdu") == []
    assert len(await other.search("chengdu")) == 1


@pytest.mark.parametrize("remember", [False, True])
async def test_a_call_whose_response_was_lost_can_be_repeated(
    any_store: Any, monkeypatch: pytest.MonkeyPatch, remember: bool
) -> None:
    session = AgentStoreSession("s", any_store, remember=remember)
    service = any_store.memory if remember else any_store.sessions
    name = "add_memory" if remember else "append"
    work = getattr(service, name)
    for error in (Unavailable("the response was lost"), asyncio.CancelledError()):

        async def lose_response(*args: Any, error: BaseException = error, **kwargs: Any) -> Any:
            await work(*args, **kwargs)
            raise error

        await session.clear_session()
        wrapper = _Wrapper()
        wrapper.request(1)
        items = [dict(each) for each in _CONVERSATION[:2]]
        monkeypatch.setattr(service, name, lose_response)
        with pytest.raises(type(error)):
            await session.add_items(items, wrapper=wrapper)
        monkeypatch.setattr(service, name, work)
        wrapper.request(1)
        await session.add_items(items, wrapper=wrapper)
        assert await session.get_items() == items
        await session.add_items(items)  # added, not repeated
        assert await session.get_items() == items * 2
        monkeypatch.setattr(service, name, lose_response)
        with pytest.raises(type(error)):
            await session.add_items(items)
        monkeypatch.setattr(service, name, work)
        items[0]["content"] = "something else"
        await session.add_items(items)
        assert len(await session.get_items()) == 8


async def test_concurrent_pops_return_each_item_once(any_store: Any) -> None:
    session = AgentStoreSession("s", any_store)
    await session.add_items([{"role": "user", "content": str(number)} for number in range(40)])
    others = [AgentStoreSession("s", any_store) for _ in range(4)]
    popped = await asyncio.gather(*(each.pop_item() for each in others * 12))
    assert sorted(int(each["content"]) for each in popped if each) == list(range(40))


async def test_concurrent_adds_keep_each_batch_together(any_store: Any) -> None:
    batches = [[{"role": "user", "content": f"{n}"}, {"role": "assistant", "content": f"{n}"}] for n in range(20)]
    await asyncio.gather(*(AgentStoreSession("new", any_store).add_items(each) for each in batches))
    texts = [each["content"] for each in await AgentStoreSession("new", any_store).get_items()]
    assert texts[::2] == texts[1::2]
    assert len(set(texts)) == 20


async def test_each_call_is_one_statement(store: AgentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    executed = 0
    fetch = asyncpg.Connection.fetch

    async def count(self: asyncpg.Connection, *args: Any, **kwargs: Any) -> Any:
        nonlocal executed
        executed += 1
        return await fetch(self, *args, **kwargs)

    session = AgentStoreSession("s", store)
    await session.add_items(_CONVERSATION[:1])
    monkeypatch.setattr(asyncpg.Connection, "fetch", count)
    calls: tuple[Callable[[], Any], ...] = (
        lambda: session.add_items(_CONVERSATION * 20),
        lambda: session.get_items(),
        lambda: session.get_items(100),
        lambda: session.pop_item(),
        lambda: session.clear_session(),
    )
    for number, call in enumerate(calls, 1):
        await call()
        assert executed == number


async def test_messages_that_are_not_valid_are_left_out_and_logged(
    store: AgentStore, observer: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    session = AgentStoreSession("s", store)
    await session.add_items(_CONVERSATION[:4])
    damage = """UPDATE agentstore.messages SET payload = '{"role": "alien"}' WHERE seq = $1"""
    await observer.execute(damage, 2)
    with caplog.at_level(logging.WARNING):
        assert await session.get_items() == [_CONVERSATION[0], *_CONVERSATION[2:4]]
    assert "left out of the conversation" in caplog.text
    assert await session.get_items(limit=2) == _CONVERSATION[2:4]
    assert await session.get_items(limit=3) == [_CONVERSATION[0], *_CONVERSATION[2:4]]
    await observer.execute(damage, 4)
    assert await session.pop_item() == _CONVERSATION[2]
    assert await session.pop_item() == _CONVERSATION[0]
    assert await session.pop_item() is None


async def test_a_url_is_used_by_one_pool(database_url: str, direct_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotConfigured, match="a store or a url"):
        AgentStoreSession("s")
    with pytest.raises(NotConfigured, match="a store or a url"):
        AgentStoreSessions(SimpleNamespace(), url=database_url)
    if database_url != direct_url:
        monkeypatch.setenv("AGENTSTORE_POOLER", "transaction")
        monkeypatch.setenv("AGENTSTORE_MIGRATION_DATABASE_URL", direct_url)
    async with AgentStoreSession("s", url=database_url) as session, AgentStoreSessions(url=database_url) as sessions:
        await session.add_items(_CONVERSATION)
        await session.close()
        assert await sessions("s").get_items() == _CONVERSATION
        assert await session.get_items(1) == _CONVERSATION[-1:]
        branch = await session.branch(2)
        assert await branch.get_items() == _CONVERSATION[:4]


async def test_the_command_line_shows_and_erases_sessions(
    store: AgentStore, direct_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", direct_url)
    await AgentStoreSession("trip", store, user_id="alice", remember=True).add_items(_CONVERSATION)
    shown = await asyncio.to_thread(run, "sessions", "show", "alice", "trip")
    assert "And in Chengdu?" in shown.out
    assert await store.users.delete_user("alice")
    assert await AgentStoreSession("trip", store, user_id="alice").get_items() == []
    assert await store.memory.search_memory("alice", "Chengdu") == []
