"""What comes from other stores goes in once, and never over what is here."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentstore import AgentStore, InvalidContent, Message, PostgresMemoryService, Settings
from agentstore.importing import Moved, Mover, Problem, Target, mover
from agentstore.importing.kept import Kept, KeptMemories, KeptState
from agentstore.testing import text


async def _move(store: AgentStore, settings: Settings, *kept: Kept) -> tuple[Moved, list[Problem]]:
    async def reader() -> AsyncIterator[Kept]:
        for each in kept:
            yield each

    problems: list[Problem] = []
    moving = Mover(Target(store.sessions, store.memory, store.states), settings=settings, report=problems.append)
    await moving.run(reader())
    return moving.moved, problems


def _only(state: dict[str, Any], source: str = "theirs") -> KeptState:
    return KeptState("session s", "alice", "s", None, state, {"agent_id": "a"}, source)


async def _rounds(store: AgentStore) -> list[Any]:
    return [
        await store.states.export_state("alice", "s", each.round_id)
        for each in reversed(await store.states.list_states("alice", "s"))
    ]


@pytest.mark.usefixtures("database_url")
async def test_a_state_that_changes_elsewhere_is_a_round_each_time_it_has_changed(
    store: AgentStore, settings: Settings
) -> None:
    for n, new in ((1, 1), (1, 0), (2, 1), (2, 0), (1, 1)):
        moved, problems = await _move(store, settings, _only({"n": n}))
        assert (moved.new_states, problems) == (new, [])
    assert await _rounds(store) == [{"n": 1}, {"n": 2}, {"n": 1}]


async def test_no_state_from_elsewhere_goes_on_top_of_one_that_was_saved_here_since(
    store: AgentStore, settings: Settings
) -> None:
    await _move(store, settings, _only({"n": 1}))
    await store.states.save_state("alice", {"ours": 1}, "s")
    moved, problems = await _move(store, settings, _only({"n": 1}))  # nothing has changed there
    assert (moved.new_states, problems) == (0, [])
    moved, problems = await _move(store, settings, _only({"n": 2}))
    assert (moved.new_states, moved.problems) == (0, 1)
    assert "round 2 was saved here since" in problems[0].reason
    assert await _rounds(store) == [{"n": 1}, {"ours": 1}]
    moved, problems = await _move(store, settings, _only({"ours": 1}, "another"))  # the same as here
    assert (moved.new_states, problems) == (0, [])
    moved, problems = await _move(store, settings, _only({"n": 1}, "another"))
    assert len(problems) == 1


async def test_a_round_that_is_here_stays_and_another_one_is_said(store: AgentStore, settings: Settings) -> None:
    def at(number: int, state: dict[str, Any]) -> KeptState:
        return KeptState(f"round {number}", "alice", "s", number, state, {}, "theirs")

    await store.states.save_state("alice", {"ours": 1}, "s")
    moved, problems = await _move(store, settings, at(3, {"n": 3}), at(1, {"n": 1}), at(2, {"n": 2}))
    assert (moved.new_states, [each.place for each in problems]) == (2, ["round 1"])
    assert await _rounds(store) == [{"ours": 1}, {"n": 2}, {"n": 3}]
    moved, problems = await _move(store, settings, at(3, {"n": 3}), at(2, {"n": 2}))
    assert (moved.new_states, problems) == (0, [])
    assert await store.states.save_state("alice", {}, "s") == 4
    assert not await store.states.import_state("alice", "s", 4, {"n": 4})
    with pytest.raises(InvalidContent):
        await store.states.import_state("alice", "s", -1, {})


async def test_memories_are_looked_at_before_the_first_is_stored(
    store: AgentStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [text(f"apples {number}") for number in range(250)]
    wrong = Message(id="a\0", role="user")
    for session_id, messages in (("s", [*said, wrong]), ("a\0", said)):
        moved, problems = await _move(store, settings, KeptMemories("m", "alice", session_id, messages))
        assert (moved.memories, len(problems)) == (0, 1)
    assert await store.memory.list_memory("alice") == []
    sizes = []
    add = PostgresMemoryService.add_memory

    async def added(self: PostgresMemoryService, user: str, messages: list[Message], session: str) -> None:
        sizes.append(len(messages))
        await add(self, user, messages, session)

    monkeypatch.setattr(PostgresMemoryService, "add_memory", added)
    few = settings.model_copy(update={"max_batch": 100})
    await _move(store, few, KeptMemories("m", "alice", "s", said))
    assert sizes == [100, 100, 50]
    monkeypatch.setattr(mover, "_CHARACTERS", 2_000)
    sizes.clear()
    moved, problems = await _move(store, settings, KeptMemories("m", "bob", "s", said))
    assert (moved.memories, problems, sum(sizes)) == (250, [], 250)
    assert len(sizes) == 25
    assert len(await store.memory.list_memory("bob", {"page_size": 1000})) == 250
