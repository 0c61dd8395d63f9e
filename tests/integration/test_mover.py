"""Importing the records of other stores: idempotent, and without overwriting existing data."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentstore import AgentStore, InvalidContent, Message, PostgresMemoryService, ScopedValues, Session, Settings
from agentstore.importing import Moved, Mover, Note, Target, mover
from agentstore.importing.records import MemoriesRecord, Record, SessionRecord, StateRecord, ValuesRecord
from agentstore.importing.translated import Translated
from agentstore.testing import text


async def _move(store: AgentStore, settings: Settings, *records: Record) -> tuple[Moved, list[Note]]:
    async def reader() -> AsyncIterator[Record]:
        for each in records:
            yield each

    problems: list[Note] = []
    imported = Mover(
        Target(store.sessions, store.memory, store.states, store.sessions, store.documents, store.checkpoints),
        settings=settings,
        report=problems.append,
    )
    await imported.run(reader())
    return imported.moved, problems


def _latest(state: dict[str, Any], source: str = "other") -> StateRecord:
    return StateRecord("session s", "alice", "s", None, state, {"agent_id": "a"}, source)


async def _rounds(store: AgentStore) -> list[Any]:
    return [
        await store.states.export_state("alice", "s", each.round_id)
        for each in reversed(await store.states.list_states("alice", "s"))
    ]


@pytest.mark.usefixtures("database_url")
async def test_each_change_of_a_state_in_the_source_becomes_a_round(store: AgentStore, settings: Settings) -> None:
    for n, new in ((1, 1), (1, 0), (2, 1), (2, 0), (1, 1)):
        moved, problems = await _move(store, settings, _latest({"n": n}))
        assert (moved.new_states, problems) == (new, [])
    assert await _rounds(store) == [{"n": 1}, {"n": 2}, {"n": 1}]


async def test_state_is_not_stored_after_a_round_saved_since_the_last_import(
    store: AgentStore, settings: Settings
) -> None:
    await _move(store, settings, _latest({"n": 1}))
    await store.states.save_state("alice", {"local": 1}, "s")
    moved, problems = await _move(store, settings, _latest({"n": 1}))  # unchanged in the source
    assert (moved.new_states, problems) == (0, [])
    moved, problems = await _move(store, settings, _latest({"n": 2}))
    assert (moved.new_states, moved.problems) == (0, 1)
    assert "round 2 was saved since the last import" in problems[0].reason
    assert await _rounds(store) == [{"n": 1}, {"local": 1}]
    moved, problems = await _move(store, settings, _latest({"local": 1}, "another"))  # equal to the stored one
    assert (moved.new_states, problems) == (0, [])
    moved, problems = await _move(store, settings, _latest({"n": 1}, "another"))
    assert len(problems) == 1


async def test_existing_rounds_stay_and_differences_are_reported(store: AgentStore, settings: Settings) -> None:
    def at(number: int, state: dict[str, Any]) -> StateRecord:
        return StateRecord(f"round {number}", "alice", "s", number, state, {}, "other")

    await store.states.save_state("alice", {"local": 1}, "s")
    moved, problems = await _move(store, settings, at(3, {"n": 3}), at(1, {"n": 1}), at(2, {"n": 2}))
    assert (moved.new_states, [each.place for each in problems]) == (2, ["round 1"])
    assert await _rounds(store) == [{"local": 1}, {"n": 2}, {"n": 3}]
    moved, problems = await _move(store, settings, at(3, {"n": 3}), at(2, {"n": 2}))
    assert (moved.new_states, problems) == (0, [])
    assert await store.states.save_state("alice", {}, "s") == 4
    assert not await store.states.import_state("alice", "s", 4, {"n": 4})
    with pytest.raises(InvalidContent):
        await store.states.import_state("alice", "s", -1, {})


def _memories(user: str, session: str, messages: list[Message]) -> MemoriesRecord:
    places = [str(position) for position in range(len(messages))]
    session_with_them = Session(id=session, user_id=user, messages=messages)
    return MemoriesRecord("m", Translated(session_with_them, places, messages=len(messages)))


async def test_memories_that_cannot_be_stored_are_skipped_one_by_one(
    store: AgentStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = [text(f"apples {number}") for number in range(250)]
    invalid = Message(id="a\0", role="user")
    moved, problems = await _move(store, settings, _memories("alice", "a\0", messages))
    assert (moved.memories, len(problems), moved.skipped_messages) == (0, 1, 250)
    assert await store.memory.list_memory("alice") == []
    await store.memory.save_items("carol", {"id": "item", "text": "x"}, "s")
    odd = [*messages[:2], invalid, text("x", id="item"), *messages[2:4]]
    moved, problems = await _move(store, settings, _memories("carol", "s", odd))
    assert (moved.memories, moved.input_messages, moved.stored_messages, moved.skipped_messages) == (4, 6, 4, 2)
    assert [each.reason[:2] for each in problems] == ["2:", "3:"]
    assert len(await store.memory.list_memory("carol")) == 5
    sizes = []
    add = PostgresMemoryService.add_memory

    async def added(self: PostgresMemoryService, user: str, messages: list[Message], session: str) -> None:
        sizes.append(len(messages))
        await add(self, user, messages, session)

    monkeypatch.setattr(PostgresMemoryService, "add_memory", added)
    few = settings.model_copy(update={"max_batch": 100})
    await _move(store, few, _memories("alice", "s", messages))
    assert sizes == [100, 100, 50]
    monkeypatch.setattr(mover, "_CHARACTERS", 2_000)
    sizes.clear()
    moved, problems = await _move(store, settings, _memories("bob", "s", messages))
    assert (moved.memories, problems, sum(sizes)) == (250, [], 250)
    assert len(sizes) == 25
    assert len(await store.memory.list_memory("bob", {"page_size": 1000})) == 250


_WRITTEN = datetime(2024, 1, 2, tzinfo=UTC)


def _session(*ids: str, at: datetime = _WRITTEN) -> SessionRecord:
    messages = [text(f"Message {id}").model_copy(update={"id": id}) for id in ids]
    session = Session(id="s", user_id="alice", app="weather", messages=messages, created_at=_WRITTEN, updated_at=at)
    return SessionRecord("session s", Translated(session, list(ids), [], len(ids)))


def _values(place: str, values: dict[str, Any], at: datetime | None = _WRITTEN) -> ValuesRecord:
    ids: dict[str, tuple[str | None, str | None]] = {"app": (None, None), "user": ("alice", None)}
    return ValuesRecord(place, "weather", *ids.get(place, ("alice", "s")), values, at)


@pytest.mark.parametrize("scope", ["app", "user", "session"])
async def test_values_are_added_and_replaced_until_the_store_is_written_to(
    store: AgentStore, settings: Settings, scope: Any
) -> None:
    async def stored() -> Any:
        return getattr(await store.states.get_values("alice", "s", app="weather"), scope)

    for new in (2, 0):
        moved, problems = await _move(store, settings, _session("a"), _values(scope, {"n": 1, "m": [True]}))
        assert (moved.values, moved.new_values, problems) == (2, new, [])
    later = _WRITTEN + timedelta(seconds=1)
    moved, problems = await _move(
        store, settings, _session("a", "b", at=later), _values(scope, {"n": 2, "m": [1]}, later)
    )
    assert (moved.values, moved.new_values, problems) == (2, 2, [])
    assert await stored() == {"n": 2, "m": [1]}
    assert type((await stored())["m"][0]) is int
    await store.sessions.append(
        "alice", "s", text("of an agent"), values=ScopedValues(**{scope: {"n": 9}}), app="weather"
    )
    source = _values(scope, {"n": 3, "m": [1], "k": 1}, later)
    for new in (1, 0):
        moved, problems = await _move(store, settings, _session("a", "b", at=later), source)
        assert (moved.values, moved.new_values) == (2, new)
        (problem,) = problems
        assert (problem.place, problem.messages) == (scope, 0)
        assert problem.reason.startswith("value 'n': the store has another value, which is left unchanged")
    assert await stored() == {"n": 9, "m": [1], "k": 1}
    moved, (unknown,) = await _move(store, settings, _values(scope, {"m": 2, "n": 9}, None))
    assert (moved.values, moved.new_values) == (1, 0)
    assert "when the source was last written to is not known" in unknown.reason


async def test_values_that_cannot_be_stored_are_reported_one_by_one(
    store: AgentStore, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mover, "_BATCH", 2)
    values = {"a": 1, "x" * 10_000: 1, "b": 2, "c": float("nan"), "d": 4}
    moved, problems = await _move(store, settings, _session("a"), _values("session", values))
    assert (moved.values, moved.new_values, moved.problems) == (3, 3, len(problems))
    assert [each.reason[:9] for each in problems] == ["value 'xx", "value 'c'"]
    assert (await store.states.get_values("alice", "s", app="weather")).session == {"a": 1, "b": 2, "d": 4}
    moved, (missing,) = await _move(store, settings, ValuesRecord("t", "weather", "alice", "t", {"a": 1}, None))
    assert (moved.new_values, missing.place) == (0, "t")
    assert "no session 't'" in missing.reason


async def test_messages_of_a_session_that_is_refused_are_counted(store: AgentStore, settings: Settings) -> None:
    moved, _ = await _move(store, settings, Note("session s", "its id is not valid", messages=3))
    assert (moved.input_messages, moved.stored_messages, moved.skipped_messages) == (3, 0, 3)
