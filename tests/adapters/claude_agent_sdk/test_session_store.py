"""The session store with the types of claude-agent-sdk: its contracts, owners, lists, summaries and retries."""

# pyright: reportMissingImports=false
import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from agentstore import (
    AgentStore,
    InMemoryMemoryService,
    InMemorySessionHistoryService,
    InvalidContent,
    Message,
    NotConfigured,
    Settings,
    Unavailable,
    migrate,
)
from agentstore.adapters.claude_agent_sdk import AgentStoreSessionStore, session_store
from agentstore.operations.grants import grants
from tests.adapters.claude_agent_sdk.entries import ALL, ENTRIES, entry
from tests.support.cli import run
from tests.support.psql import psql
from tests.support.roles import with_role
from tests.support.traces import traces

pytestmark = pytest.mark.adapters

_KEY: Any = {"project_key": "-srv-app", "session_id": "722547eb-58b9-4a04-8575-538ffafdbcc9"}
_ID = "722547eb-58b9-4a04-8575-538ffafdbcc9/-srv-app"


def _subagent(name: str = "subagents/agent-1") -> Any:
    return {**_KEY, "subpath": name}


def _prompts(first: int, count: int = 1) -> list[Any]:
    return [entry(number, "user", f"prompt {number}") for number in range(first, first + count)]


def _title(text: str) -> Any:
    return {"type": "custom-title", "customTitle": text}


@pytest.fixture(params=["Postgres", "InMemory"])
def any_store(request: pytest.FixtureRequest) -> Any:
    if request.param == "Postgres":
        return request.getfixturevalue("store")
    return SimpleNamespace(sessions=InMemorySessionHistoryService(), memory=InMemoryMemoryService())


@pytest.mark.parametrize("owner", ["an id", "a function", "none"])
async def test_the_contracts_of_the_sdk_are_met(any_store: Any, owner: str) -> None:
    from claude_agent_sdk.testing import run_session_store_conformance

    number = 0

    async def make_store() -> Any:
        nonlocal number
        number += 1
        user = f"user {number}"
        if owner == "an id":
            return AgentStoreSessionStore(any_store, user_id=user)
        if owner == "a function":
            return AgentStoreSessionStore(any_store, user_id=lambda key: f"{user} in {key['project_key']}")
        for session in await any_store.sessions.list_sessions():
            await any_store.sessions.delete_session(session.user_id, session.id)
        return AgentStoreSessionStore(any_store)

    await run_session_store_conformance(make_store)
    assert number == 15  # the 14 contracts, none skipped, and a first look at the methods


async def test_every_entry_is_loaded_as_it_was_appended(any_store: Any) -> None:
    store = AgentStoreSessionStore(any_store, user_id="alice")
    assert await store.load(_KEY) is None
    await store.append(_KEY, [])
    assert await store.load(_KEY) is None
    await store.append(_KEY, ALL[:5])
    await store.append(_KEY, ALL[5:])
    await store.append(_subagent(), ALL)
    assert await AgentStoreSessionStore(any_store, user_id="alice").load(_KEY) == ALL
    assert await store.load(_subagent()) == ALL
    session = await any_store.sessions.get_session("alice", _ID)
    assert session.message_count == len(ALL)
    assert [each.text for each in session.messages][:1] == ["Any rain in 杭州?"]
    assert session.app == "-srv-app"


async def test_the_uuid_is_the_key_of_an_entry(any_store: Any) -> None:
    store = AgentStoreSessionStore(any_store)
    one, two, three = _prompts(1, 3)
    other = {**two, "message": {"role": "user", "content": "other"}}
    await store.append(_KEY, [one, _title("x"), two, other, one])
    await store.append(_KEY, [one, _title("x"), two])
    await store.append(_KEY, [other, three, _title("x"), _title("x")])
    await store.append(_KEY, [other])
    assert await store.load(_KEY) == [one, _title("x"), two, _title("x"), three, _title("x"), _title("x")]
    await store.append(_subagent(), [other])
    assert await store.load(_subagent()) == [other]


async def test_invalid_entries_are_refused_before_anything_is_written(any_store: Any) -> None:
    store = AgentStoreSessionStore(any_store)
    invalid: Any
    for invalid in (["text"], [*_prompts(1), None], [*_prompts(1), {"type": "x", "n": float("nan")}], "text", {}, b""):
        for key in (_KEY, _subagent()):
            with pytest.raises(InvalidContent, match=r"entry|entries|content"):
                await store.append(key, invalid)
            assert await store.load(key) is None
    for key in ({**_KEY, "subpath": ""}, {"project_key": "p"}):
        for call in (store.load(key), store.append(key, _prompts(1)), store.delete(key)):
            with pytest.raises(InvalidContent, match="key"):
                await call
    owners: list[Any] = [7, lambda key: None]
    for owner in owners:
        with pytest.raises(InvalidContent, match="user_id"):
            await AgentStoreSessionStore(any_store, user_id=owner).append(_KEY, _prompts(1))


async def test_the_owner_is_the_session_an_id_or_a_function_of_the_key(any_store: Any) -> None:
    other: Any = {**_KEY, "session_id": "other"}
    user_id: Callable[[Any], str] = lambda key: "bob" if key["session_id"] == "other" else "carol"  # noqa: E731
    stores = [AgentStoreSessionStore(any_store, user_id=each) for each in (None, "alice", user_id)]
    for number, store in enumerate(stores):
        await store.append(_KEY, _prompts(number))
        await store.append(other, _prompts(number))
        await store.append(_subagent(), _prompts(number))
    for number, store in enumerate(stores):
        assert await store.load(_KEY) == _prompts(number)
        ids = [each["session_id"] for each in await store.list_sessions("-srv-app")]
        assert sorted(ids) == sorted([_KEY["session_id"], "other"])
        assert len(await store.list_session_summaries("-srv-app")) == 2
        assert await store.list_subkeys(_KEY) == ["subagents/agent-1"]
    users = {each.user_id for each in await any_store.sessions.list_sessions()}
    assert users == {_ID, "other/-srv-app", "alice", "bob", "carol"}


async def test_projects_with_the_same_ids_never_meet(any_store: Any) -> None:
    """So do sessions of other programs in the same application."""
    keys: list[Any] = [
        {"project_key": project, "session_id": session, **({"subpath": subpath} if subpath else {})}
        for project in ("a", "a/s", "a%2Fs", "A", "密", "")
        for session in ("s", "s/s", " s", "s ", "%20s", "")
        for subpath in (None, "s", "s/s", " ", "%20")
    ]
    for owner in (None, "alice"):
        store = AgentStoreSessionStore(any_store, user_id=owner)
        for number, key in enumerate(keys):
            await store.append(key, _prompts(number))
        await any_store.sessions.create_session("alice", "a", app="a", messages=False)
        await any_store.sessions.append("alice", "a", Message.user("of another program"))
        await any_store.sessions.create_session("alice", "t", app="a", messages=False)
        await any_store.sessions.append("alice", "t", Message.user("of another program"))
        for number, key in enumerate(keys):
            assert await store.load(key) == _prompts(number)
            if "subpath" not in key:
                assert await store.list_subkeys(key) == ["s", "s/s", " ", "%20"]
        for project in ("a", "a/s", "a%2Fs", "A", "密", ""):
            listed = [each["session_id"] for each in await store.list_sessions(project)]
            assert sorted(listed) == ["", " s", "%20s", "s", "s ", "s/s"]
        await store.delete(keys[0])
        left = [await store.load(key) for key in keys]
        assert left[:5] == [None] * 5
        assert None not in left[5:]


async def test_a_message_of_another_program_is_no_entry(any_store: Any) -> None:
    store = AgentStoreSessionStore(any_store, user_id="alice")
    await any_store.sessions.create_session("alice", _ID, app="-srv-app", messages=False)
    assert await store.list_sessions("-srv-app") == []
    await any_store.sessions.append("alice", _ID, Message.user("Hello"))
    assert await store.load(_KEY) is None
    await store.append(_KEY, _prompts(1))
    assert await store.load(_KEY) == _prompts(1)


async def test_lists_have_the_time_of_the_last_append(any_store: Any) -> None:
    store = AgentStoreSessionStore(any_store)
    await store.append(_KEY, _prompts(1))
    await store.append({**_KEY, "session_id": "other"}, _prompts(1))
    for _ in range(2):
        await store.append(_KEY, [_title("x")])
        await store.append(_subagent(), _prompts(1))
        listed = {each["session_id"]: each["mtime"] for each in await store.list_sessions("-srv-app")}
        summaries = {each["session_id"]: each["mtime"] for each in await store.list_session_summaries("-srv-app")}
        assert listed == summaries
        session = await any_store.sessions.get_session(_ID, _ID)
        assert listed[_KEY["session_id"]] == int(session.updated_at.timestamp() * 1000)
        assert listed[_KEY["session_id"]] >= listed["other"]


async def test_the_summary_is_that_of_the_entries_that_are_stored(any_store: Any) -> None:
    from claude_agent_sdk import fold_session_summary

    store = AgentStoreSessionStore(any_store, user_id="alice")
    batches: list[Any] = [
        [{"type": "queue-operation", "timestamp": "2026-11-30T11:17:33.476Z"}, *_prompts(1)],
        [_title("first"), {"type": "tag", "tag": "a"}],
        [_title("second"), *_prompts(1, 2)],
        [*_prompts(2), {"type": "tag", "tag": ""}],
    ]
    for batch in batches:
        await store.append(_KEY, batch)
        stored: Any = await store.load(_KEY)
        (summary,) = await store.list_session_summaries("-srv-app")
        assert summary["data"] == fold_session_summary(None, _KEY, stored)["data"]
    assert summary["data"]["custom_title"] == "second"
    # An entry that is stored already, beside a new one, is not folded again.
    titled = {**_title("third"), "uuid": "u"}
    for batch in ([titled], [_title("fourth")], [titled, *_prompts(3)]):
        await store.append(_KEY, batch)
    (summary,) = await store.list_session_summaries("-srv-app")
    assert summary["data"]["custom_title"] == "fourth"
    await any_store.sessions.set_metadata("alice", _ID, {"claude_agent_sdk": {"summary": 7}, "mine": True})
    assert await store.list_session_summaries("-srv-app") == []
    await store.append(_KEY, [_title("fifth")])
    (summary,) = await store.list_session_summaries("-srv-app")
    assert summary["data"]["custom_title"] == "fifth"
    assert (await any_store.sessions.get_session("alice", _ID)).metadata["mine"] is True


async def test_concurrent_appends_fold_each_entry_once_and_in_order(any_store: Any) -> None:
    from claude_agent_sdk import fold_session_summary

    batches: list[Any] = [[_title(str(n)), {"type": "mode", "n": n}, *_prompts(n)] for n in range(20)]
    store = AgentStoreSessionStore(any_store)
    others = [AgentStoreSessionStore(any_store) for _ in range(4)]
    await asyncio.gather(*(others[n % 4].append(_KEY, batch) for n, batch in enumerate(batches)))
    stored: Any = await store.load(_KEY)
    assert sorted([stored[n : n + 3] for n in range(0, 60, 3)], key=lambda batch: batch[1]["n"]) == batches
    (summary,) = await store.list_session_summaries("-srv-app")
    assert summary["data"] == fold_session_summary(None, _KEY, stored)["data"]


@pytest.mark.parametrize("key", [_KEY, _subagent()], ids=["main", "subagent"])
@pytest.mark.parametrize("remember", [False, True])
async def test_a_call_whose_response_was_lost_can_be_repeated(
    any_store: Any, monkeypatch: pytest.MonkeyPatch, key: Any, remember: bool
) -> None:
    store = AgentStoreSessionStore(any_store, remember=remember)
    service = any_store.memory if remember and "subpath" not in key else any_store.sessions
    name = "add_memory" if service is any_store.memory else "append"
    work = getattr(service, name)
    entries = [_title("x"), *_prompts(1), _title("x")]
    expected: list[Any] = []
    for error in (Unavailable("the response was lost"), asyncio.CancelledError()):

        async def lose_response(*args: Any, error: BaseException = error, **kwargs: Any) -> Any:
            await work(*args, **kwargs)
            raise error

        await store.append(key, [_title("before")])
        monkeypatch.setattr(service, name, lose_response)
        with pytest.raises(type(error)):
            await store.append(key, entries)
        monkeypatch.setattr(service, name, work)
        await store.append(key, [dict(each) for each in entries])
        expected += [_title("before"), _title("x"), *([] if expected else _prompts(1)), _title("x")]
        assert await store.load(key) == expected
        await store.append(key, entries)  # appended, not repeated
        expected += [_title("x")] * 2
        assert await store.load(key) == expected


async def test_deleting_a_session_deletes_its_subagents_and_memories(any_store: Any) -> None:
    store = AgentStoreSessionStore(any_store, user_id="alice", remember=True)
    other: Any = {**_KEY, "session_id": "other"}
    for key in (_KEY, other):
        await store.append(key, [ENTRIES["a prompt"][0], ENTRIES["an answer"][0], ENTRIES["a meta message"][0]])
        for number in range(3):
            await store.append({**key, "subpath": f"subagents/workflows/{number}/agent-{number}"}, _prompts(number))
    found = await any_store.memory.search_memory("alice", "杭州 caveat prompt", {"neighbors": False})
    assert [each.text for each in found] == ["Any rain in 杭州?"] * 2
    await store.delete(_subagent("subagents/workflows/1/agent-1"))
    assert await store.list_subkeys(_KEY) == ["subagents/workflows/0/agent-0", "subagents/workflows/2/agent-2"]
    for _ in range(2):
        await store.delete(_KEY)
        assert await store.load(_KEY) is None
        assert await store.list_subkeys(_KEY) == []
    assert len(await store.list_subkeys(other)) == 3
    assert len(await any_store.memory.search_memory("alice", "杭州", {"neighbors": False})) == 1
    assert [each.id for each in await any_store.sessions.list_sessions("alice")][-1] == "other/-srv-app"


async def test_many_entries_are_stored_by_several_calls(any_store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_store, "_LARGEST_BATCH", 7)
    monkeypatch.setattr(session_store, "_PAGE", 3)
    store = AgentStoreSessionStore(any_store, user_id="alice")
    entries = [each for n in range(10) for each in (_title(str(n)), *_prompts(n))]
    await store.append(_KEY, entries)
    assert await store.load(_KEY) == entries
    (summary,) = await store.list_session_summaries("-srv-app")
    assert (summary["data"]["custom_title"], summary["data"]["first_prompt"]) == ("9", "prompt 0")
    for number in range(8):
        await store.append({**_KEY, "session_id": str(number)}, _prompts(number))
        await store.append(_subagent(f"subagents/agent-{number}"), _prompts(number))
    assert len(await store.list_sessions("-srv-app")) == 9
    assert await store.list_subkeys(_KEY) == [f"subagents/agent-{number}" for number in range(8)]


async def test_appends_of_subagents_and_loads_are_one_statement(
    store: AgentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    executed: list[str] = []
    fetch, execute = asyncpg.Connection.fetch, asyncpg.Connection.execute

    async def count_fetch(self: asyncpg.Connection, query: str, *args: Any, **kwargs: Any) -> Any:
        executed.append(query)
        return await fetch(self, query, *args, **kwargs)

    async def count_execute(self: asyncpg.Connection, query: str, *args: Any, **kwargs: Any) -> Any:
        executed.append(query)
        return await execute(self, query, *args, **kwargs)

    transcripts = AgentStoreSessionStore(store, user_id="alice")
    for key in (_KEY, _subagent()):
        await transcripts.append(key, _prompts(0))
    monkeypatch.setattr(asyncpg.Connection, "fetch", count_fetch)
    monkeypatch.setattr(asyncpg.Connection, "execute", count_execute)
    many = _prompts(1, 500)
    calls: list[tuple[Callable[[], Any], int]] = [
        (lambda: transcripts.append(_subagent(), many), 1),
        # A transaction: the lock of the session, the append, and the metadata, if the summary has changed.
        (lambda: transcripts.append(_KEY, [_title("x"), *many]), 5),
        (lambda: transcripts.append(_KEY, _prompts(501)), 4),
        (lambda: transcripts.load(_KEY), 1),
        (lambda: transcripts.list_sessions("-srv-app"), 1),
        (lambda: transcripts.list_session_summaries("-srv-app"), 1),
        (lambda: transcripts.list_subkeys(_KEY), 1),
    ]
    for number, (call, expected) in enumerate(calls):
        executed.clear()
        await call()
        assert len(executed) <= expected, (number, executed)


async def test_a_url_is_used_by_one_pool(database_url: str, direct_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotConfigured, match="a store or a url"):
        AgentStoreSessionStore()
    if database_url != direct_url:
        monkeypatch.setenv("AGENTSTORE_POOLER", "transaction")
        monkeypatch.setenv("AGENTSTORE_MIGRATION_DATABASE_URL", direct_url)
    async with AgentStoreSessionStore(url=database_url) as one, AgentStoreSessionStore(url=database_url) as two:
        await one.append(_KEY, ALL)
        await one.close()
        assert await two.load(_KEY) == ALL
        assert len(await one.list_sessions("-srv-app")) == 1
        await one.delete(_KEY)
        assert await one.list_subkeys(_KEY) == []


async def test_a_fixed_owner_works_under_row_level_security(direct_url: str) -> None:
    role = f"agentstore_claude_{uuid4().hex[:8]}"
    psql(direct_url, f"CREATE ROLE {role} LOGIN; {'; '.join(grants(app=role))};")
    try:
        await migrate.enable_row_security(direct_url)
        secured = AgentStore(with_role(direct_url, role), settings=Settings(row_level_security=True))
        async with secured as store:
            for user in ("alice", "bob"):
                transcripts = AgentStoreSessionStore(store, user_id=user, remember=True)
                for key in (_KEY, _subagent()):
                    await transcripts.append(key, ALL)
                    await transcripts.append(key, ALL[:1])
                assert len(await transcripts.load(_KEY) or ()) == len(ALL)
                assert len(await transcripts.list_sessions("-srv-app")) == 1
                assert len(await transcripts.list_session_summaries("-srv-app")) == 1
                assert await transcripts.list_subkeys(_KEY) == ["subagents/agent-1"]
            await transcripts.delete(_KEY)
            assert await transcripts.list_sessions("-srv-app") == []
            assert await AgentStoreSessionStore(store, user_id="alice").load(_subagent()) == ALL
            without = AgentStoreSessionStore(store)
            await without.append(_KEY, ALL)
            assert await without.load(_KEY) == ALL
            assert await without.list_subkeys(_KEY) == []
            with pytest.raises(NotConfigured, match="ROW_LEVEL_SECURITY"):
                await without.list_sessions("-srv-app")
    finally:
        psql(direct_url, f"DROP OWNED BY {role}; DROP ROLE {role};")


async def test_the_command_line_shows_transcripts(
    store: AgentStore, direct_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", direct_url)
    await AgentStoreSessionStore(store, user_id="alice").append(_KEY, ALL[:10])
    shown = await asyncio.to_thread(run, "sessions", "show", "alice", _ID)
    assert "Any rain in 杭州?" in shown.out
    assert "weather" in shown.out
    assert await store.memory.add_sessions("alice")
    found = await store.memory.search_memory("alice", "杭州", {"neighbors": False, "role": "user"})
    assert [each.text for each in found] == ["Any rain in 杭州?"]
    assert await AgentStoreSessionStore(store, user_id="alice").load(_KEY) == ALL[:10]


async def test_erasing_a_user_leaves_nothing_of_the_transcripts(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    for owner, word in (("aardvark", "zyzzyva"), ("bob", "quokka"), (None, "xylophone")):
        transcripts = AgentStoreSessionStore(store, user_id=owner, remember=True)
        for key in ({"project_key": word, "session_id": word}, {**_KEY, "subpath": f"subagents/{word}"}):
            await transcripts.append(key, [_title(word), entry(1, "user", f"the {word}"), {"type": "x", word: word}])
    assert await traces(observer, "zyzzyva", "aardvark")
    assert await store.users.delete_user("aardvark")
    assert await traces(observer, "zyzzyva", "aardvark") == []
    assert await traces(observer, "quokka")
    for user in ("xylophone/xylophone", _ID):
        assert await traces(observer, "xylophone")
        assert await store.users.delete_user(user)
    assert await traces(observer, "xylophone") == []
