"""AgentScope's agents on agentstore, with the real AgentScope."""

# pyright: reportMissingImports=false
import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentstore import AgentStore, DataContent, ImageContent, Message, Settings, TextContent

pytestmark = pytest.mark.runtime

BLOCKS: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "密\ud800"},
    {"type": "text", "text": ""},
    {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
    {"type": "tool_use", "id": "1", "name": "f", "input": {"z": [1, None], "a": "\0"}, "raw_input": "{}"},
    {"type": "tool_result", "id": "1", "name": "f", "output": [{"type": "text", "text": "out"}]},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
    {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
]


def _memory(store: AgentStore, session_id: str = "s") -> Any:
    from agentstore.adapters.agentscope import AgentScopeSessionHistoryMemory

    return AgentScopeSessionHistoryMemory(service=store.sessions, user_id="alice", session_id=session_id)


def _msg(content: Any, role: str = "user", name: str = "Alice", **options: Any) -> Any:
    from agentscope.message import Msg

    return Msg(name, content, role, **options)


def _texts(msgs: list[Any]) -> list[str]:
    return [each.content for each in msgs]


async def test_adding_msgs_does_not_load_the_session(database_url: str, settings: Settings) -> None:
    small = settings.model_copy(update={"max_reply_bytes": 50_000})
    async with AgentStore(database_url, settings=small) as store:
        memory, msgs = _memory(store), [_msg("x" * 20_000) for _ in range(4)]
        for msg in msgs:
            await memory.add(msg)
        changed = _msg("changed")
        changed.id = msgs[0].id
        await memory.add([changed, _msg("new")])  # the first one is retained
        await memory.add([msgs[1], _msg("marked")], marks="m")
        session = await store.sessions.get_session("alice", "s", limit=2)
        assert session is not None
        assert (session.message_count, [each.text for each in session.messages]) == (6, ["new", "marked"])


async def test_msgs_round_trip_through_the_session(store: AgentStore) -> None:
    from agentscope.memory import MemoryBase

    memory = _memory(store)
    assert isinstance(memory, MemoryBase)
    assert await memory.get_memory() == []
    assert await memory.size() == 0
    added = [
        _msg("text", metadata={"x": [1]}, timestamp="2026-01-02 03:04:05.678"),
        _msg(""),
        _msg(BLOCKS, "assistant", "Polly"),
        _msg([], "system", "system"),
    ]
    added[1].invocation_id = "call 1"
    await memory.add(added[0])
    await memory.add(added[1:])
    await memory.add(None)
    await memory.add([])
    for each in (memory, _memory(store)):
        stored = await each.get_memory()
        assert [msg.to_dict() for msg in stored] == [msg.to_dict() for msg in added]
        assert [msg.invocation_id for msg in stored] == [None, "call 1", None, None]
        assert await each.size() == 4
    assert await _memory(store, "another").get_memory() == []
    invalid: Any
    for invalid in ("text", [added[0], "text"], {}):
        with pytest.raises(TypeError):
            await memory.add(invalid)


async def test_session_id_is_stripped_and_must_not_be_blank(store: AgentStore) -> None:
    await _memory(store, " s ").add(_msg("a"), marks="m")
    assert await _memory(store, "s").size() == 1
    with pytest.raises(ValueError, match="must not be blank"):
        _memory(store, " ")


async def test_a_msg_is_stored_as_a_readable_message(store: AgentStore) -> None:
    memory = _memory(store)
    await memory.add([_msg("hello", timestamp="2026-01-02 03:04:05.678"), _msg(BLOCKS, "assistant", "Polly")])
    session = await store.sessions.get_session("alice", "s")
    assert session is not None
    first, second = session.messages
    assert first.metadata is not None
    assert first.metadata["timestamp"].startswith("2026-01-02T03:04:05.678")
    assert (first.role, first.metadata["name"], first.content) == ("user", "Alice", [TextContent(text="hello")])
    assert [part.type for part in second.content or ()] == ["data", "text", "data", "data", "data", "data", "data"]


async def test_existing_msgs_are_skipped_unless_duplicates_are_allowed(store: AgentStore) -> None:
    memory = _memory(store)
    one, two, three = _msg("1"), _msg("2"), _msg("3")
    await memory.add([one, two])
    two.content = "changed since"
    await memory.add([two, three, one])
    assert _texts(await memory.get_memory()) == ["1", "2", "3"]
    await memory.add(one, allow_duplicates=True)
    await memory.add([one, two], None, True)
    await memory.add(one, True)  # the position of allow_duplicates in 1.0.9
    stored = await memory.get_memory()
    assert _texts(stored) == ["1", "2", "3", "1", "1", "changed since", "1"]
    assert [each.id for each in stored] == [each.id for each in (one, two, three, one, one, two, one)]
    assert await memory.delete([one.id]) == 4
    assert _texts(await _memory(store).get_memory()) == ["2", "3", "changed since"]
    await memory.add(one)
    await _memory(store).add(one, allow_duplicates=False)
    assert _texts(await memory.get_memory()) == ["2", "3", "changed since", "1", "1"]


async def test_msgs_are_deleted_by_id_and_by_position(store: AgentStore) -> None:
    memory = _memory(store)
    msgs = [_msg(str(number)) for number in range(6)]
    await memory.add(msgs)
    assert await memory.delete([msgs[1].id, "unknown"]) == 1
    assert await memory.delete(msgs[1].id) == 0
    assert await memory.delete(0) == 1
    assert await memory.delete(index=[0, 1]) == 2
    assert _texts(await memory.get_memory()) == ["4", "5"]
    for beyond in (2, -1, [0, 7]):
        with pytest.raises(IndexError):
            await memory.delete(beyond)
    assert await memory.size() == 2
    await memory.clear()
    assert await memory.size() == 0
    await memory.clear()
    await memory.add(msgs)
    assert _texts(await memory.get_memory()) == ["0", "1", "2", "3", "4", "5"]


async def test_marks_select_messages_to_read_update_and_delete(store: AgentStore) -> None:
    memory = _memory(store)
    msgs = [_msg(str(number)) for number in range(5)]
    await memory.add(msgs[:2])
    await memory.add(msgs[2], marks="hint")
    await memory.add(msgs[3], marks=["hint", "x"])
    await memory.add(msgs[4], marks=[])
    for each in (memory, _memory(store)):
        assert _texts(await each.get_memory(mark="hint")) == ["2", "3"]
        assert _texts(await each.get_memory(exclude_mark="hint")) == ["0", "1", "4"]
        assert _texts(await each.get_memory(mark="hint", exclude_mark="x")) == ["2"]
    await memory.add(msgs[0], marks="late")  # exists: it is not changed
    assert await memory.get_memory(mark="late") == []
    assert await memory.update_messages_mark("compressed", msg_ids=[msgs[0].id, msgs[3].id, "unknown"]) == 2
    assert await memory.update_messages_mark("compressed", msg_ids=[msgs[0].id]) == 0
    assert await memory.update_messages_mark("y", old_mark="x") == 1
    assert _texts(await memory.get_memory(mark="y")) == ["3"]
    assert await memory.update_messages_mark(None, old_mark="y") == 1
    assert await memory.update_messages_mark("all") == 5
    assert await memory.update_messages_mark(None, "all", [msgs[4].id]) == 1
    assert _texts(await memory.get_memory(mark="all")) == ["0", "1", "2", "3"]
    assert await memory.delete_by_mark("hint") == 2
    assert await memory.delete_by_mark(["hint", "nothing"]) == 0
    assert _texts(await memory.get_memory(mark="compressed")) == ["0"]
    assert await memory.delete_by_mark([]) == 0
    for invalid in (7, [7], {"hint"}):
        with pytest.raises(TypeError):
            await memory.delete_by_mark(invalid)
        with pytest.raises(TypeError):
            await memory.add(msgs[0], marks=invalid)
        with pytest.raises(TypeError):
            await memory.get_memory(mark=invalid)


async def test_summary_replaces_compressed_messages(store: AgentStore) -> None:
    memory = _memory(store)
    await memory.update_compressed_summary("They spoke of tea.")
    await memory.add(_msg("old"), marks="compressed")
    await memory.add(_msg("new"))
    for each in (memory, _memory(store)):
        found = await each.get_memory(exclude_mark="compressed")
        assert _texts(found) == ["They spoke of tea.", "new"]
        assert found[0].role == "user"
        assert _texts(await each.get_memory(prepend_summary=False)) == ["old", "new"]
    await memory.clear()
    assert await memory.get_memory() == await _memory(store).get_memory() == []


async def test_concurrent_changes_lose_nothing(store: AgentStore) -> None:
    memories = [_memory(store) for _ in range(10)]
    msgs = [_msg(str(number)) for number in range(10)]
    await asyncio.gather(*(each.add(msg, marks="m") for each, msg in zip(memories, msgs, strict=True)))
    await asyncio.gather(
        *(
            each.update_messages_mark(f"n{msg.content}", msg_ids=[msg.id])
            for each, msg in zip(memories, msgs, strict=True)
        )
    )
    assert await memories[0].size() == 10
    for number in range(10):
        assert _texts(await memories[1].get_memory(mark=f"n{number}")) == [str(number)]
    assert await memories[2].delete_by_mark("m") == 10


async def test_metadata_and_messages_of_other_writers_are_preserved(store: AgentStore) -> None:
    session = await store.sessions.create_session("alice", "s", title="Tea", metadata={"mine": 1})
    memory = _memory(store)
    await memory.add(_msg("a"), marks="m")
    await store.sessions.append_message(session, Message(role="tool", content=[TextContent(text="b")]))
    found = await memory.get_memory()
    assert [(each.role, each.get_text_content()) for each in found] == [("user", "a"), ("system", "b")]
    stored = await store.sessions.get_session("alice", "s")
    assert stored is not None
    assert (stored.title, stored.metadata["mine"]) == ("Tea", 1)


async def test_messages_stored_by_the_runtime_can_be_read(store: AgentStore) -> None:
    """The runtime stores a Msg as several messages, by the types of its blocks."""

    def part_of(id: str, **fields: Any) -> Message:
        return Message(
            **{"role": "assistant", **fields},
            metadata={"original_id": id, "original_name": "Polly", "metadata": {"k": 1}},
        )

    call = {"call_id": "c", "name": "f", "arguments": '{"x": 1}'}
    output = {"call_id": "c", "name": "f", "output": '[{"type": "text", "text": "out"}]'}
    session = await store.sessions.create_session("alice", "s")
    await store.sessions.append_message(
        session,
        [
            part_of("m1", type="reasoning", content=[TextContent(text="hm")]),
            part_of("m1", content=[TextContent(text="a"), ImageContent(image_url="data:image/png;base64,AA==")]),
            part_of("m1", type="plugin_call", content=[DataContent(data=call)]),
            part_of("m2", type="plugin_call_output", role="tool", content=[DataContent(data=output)]),
            part_of("m3", content=[TextContent(text="b")]),
        ],
    )
    memory = _memory(store)
    found = await memory.get_memory()
    assert [(each.id, each.name, each.role, each.metadata) for each in found] == [
        ("m1", "Polly", "assistant", {"k": 1}),
        ("m2", "Polly", "system", {"k": 1}),
        ("m3", "Polly", "assistant", {"k": 1}),
    ]
    assert found[0].content == [
        {"type": "thinking", "thinking": "hm"},
        {"type": "text", "text": "a"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
        {"type": "tool_use", "id": "c", "name": "f", "input": {"x": 1}},
    ]
    assert found[1].content == [
        {"type": "tool_result", "id": "c", "name": "f", "output": [{"type": "text", "text": "out"}]}
    ]
    assert await memory.delete(["m1"]) == 1
    assert [each.id for each in await memory.get_memory()] == ["m2", "m3"]


async def test_module_states_are_saved_by_session(store: AgentStore) -> None:
    from agentscope.memory import InMemoryMemory
    from agentscope.session import SessionBase

    from agentstore.adapters.agentscope import AgentScopeSession, NoState

    session = AgentScopeSession(store.states, keep_rounds=3)
    assert isinstance(session, SessionBase)
    with pytest.raises(ValueError, match="keep_rounds"):
        AgentScopeSession(store.states, keep_rounds=0)
    with pytest.raises(NoState):
        await session.load_session_state("s", "alice", allow_not_exist=False, memory=InMemoryMemory())
    memory = InMemoryMemory()
    await session.load_session_state("s", "alice", memory=memory)
    for number in range(5):
        await memory.add(_msg(str(number)))
        await session.save_session_state("s", "alice", memory=memory)
    loaded = InMemoryMemory()
    await session.load_session_state(session_id="s", user_id="alice", memory=loaded, unknown=InMemoryMemory())
    assert _texts(await loaded.get_memory()) == ["0", "1", "2", "3", "4"]
    assert [each.round_id for each in await store.states.list_states("alice", "s")] == [5, 4, 3]
    await session.save_session_state("s", memory=memory)  # without a user
    assert len(await store.states.list_states("", "s")) == 1


async def test_recorded_messages_are_retrieved_in_every_session(store: AgentStore) -> None:
    from agentscope.memory import LongTermMemoryBase

    from agentstore.adapters.agentscope import AgentScopeLongTermMemory

    one, two = (AgentScopeLongTermMemory(store.memory, "alice", each) for each in ("1", "2"))
    assert isinstance(one, LongTermMemoryBase)
    msgs = [
        _msg("I live in Lisbon", timestamp="2026-01-02 12:00:00.000"),
        None,
        _msg("You live in Lisbon!", "assistant", "Polly"),
        _msg("<long_term_memory>Lisbon</long_term_memory>", name="long_term_memory"),
    ]
    for _ in range(2):
        await one.record(msgs)
    await one.record([])
    assert await store.memory.list_memory("alice") != []
    lines = (await two.retrieve(_msg("Where is Lisbon?"))).splitlines()
    assert sorted(line.partition("] ")[2] for line in lines) == [
        "Alice: I live in Lisbon",
        "Polly: You live in Lisbon!",
    ]
    assert "[2026-01-02] Alice: I live in Lisbon" in lines
    assert len((await two.retrieve([_msg("Lisbon"), _msg("lisbon")], limit=1)).splitlines()) == 1
    assert await two.retrieve(None) == ""
    answer = await one.record_to_memory("worth keeping", ["Alice drinks tea", "Bob drinks coffee"])
    assert "2" in answer.content[0]["text"]
    found = (await two.retrieve_from_memory(["tea", "coffee"], limit=1)).content[0]["text"]
    assert "Alice drinks tea" in found
    assert "Bob drinks coffee" in found
    assert "Nothing" in (await two.retrieve_from_memory(["zeppelin"])).content[0]["text"]
    await store.stop()
    assert "Nothing was recorded" in (await one.record_to_memory("", ["x"])).content[0]["text"]
    assert "Nothing could be retrieved" in (await one.retrieve_from_memory(["x"])).content[0]["text"]


@pytest.fixture
def run_turn(database_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run one turn of an agent in a new process, and return its answer."""
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", database_url)
    path = os.pathsep.join(filter(None, (os.getcwd(), os.environ.get("PYTHONPATH"))))
    monkeypatch.setenv("PYTHONPATH", path)

    def run(kind: str, session_id: str, text: str) -> str:
        script = str(Path(__file__).with_name("agent.py"))
        done = subprocess.run(
            [sys.executable, "-W", "ignore", script, kind, session_id, text],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


@pytest.mark.parametrize("kind", ["session", "state"])
def test_an_agent_resumes_in_another_process(kind: str, run_turn: Callable[..., str]) -> None:
    assert run_turn(kind, "s", "My cat is called Tom.") == "My cat is called Tom."
    answer = run_turn(kind, "s", "Who is Tom?")
    assert answer.startswith("My cat is called Tom. / Who is Tom?")
    other = run_turn(kind, "another", "What was my cat called?")
    assert "long_term_memory" in other
    assert "Alice: My cat is called Tom." in other
