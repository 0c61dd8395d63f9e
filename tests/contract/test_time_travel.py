"""Forks and rewinds of sessions, with the states that belong to them."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentstore import (
    AgentStore,
    AlreadyExists,
    InMemorySessionHistoryService,
    InMemoryStateService,
    InvalidContent,
    NotFound,
    Session,
    SessionHistoryService,
    Settings,
    StateService,
)
from agentstore.testing import text

Services = tuple[SessionHistoryService, StateService]


@pytest.fixture(params=["in memory", "postgres"])
async def services(request: pytest.FixtureRequest, database_url: str, settings: Settings) -> AsyncIterator[Services]:
    if request.param == "in memory":
        states = InMemoryStateService()
        yield InMemorySessionHistoryService(states=states), states
    else:
        async with AgentStore(database_url, settings=settings) as store:
            yield store.sessions, store.states


async def _talk(services: Services) -> Session:
    """Four messages, and after each the state that the agent saved: round 1 to 4."""
    sessions, states = services
    session = await sessions.create_session("alice", "s", title="Plans", metadata={"z": 1, "a": "\0"})
    for number in range(1, 5):
        await sessions.append_message(session, text(str(number), id=f"m{number}"))
        await states.save_state("alice", {"step": number}, "s", metadata={"of": f"m{number}"})
    return session


def _ids(session: Session | None) -> list[str]:
    assert session is not None
    return [message.id for message in session.messages]


@pytest.mark.parametrize(("at", "count"), [(None, 4), ("m4", 4), (4, 4), ("m3", 3), (3, 3), ("m1", 1), (1, 1), (0, 0)])
async def test_a_fork_has_what_there_was_at_a_message(services: Services, at: Any, count: int) -> None:
    sessions, states = services
    source = await _talk(services)
    fork = await sessions.fork_session("alice", "s", at=at, new_id=" f ")
    assert (fork.id, fork.user_id, fork.forked_from, fork.forked_at) == ("f", "alice", "s", count)
    assert (fork.title, fork.metadata, fork.messages) == (source.title, source.metadata, source.messages[:count])
    assert await sessions.get_session("alice", "f") == fork
    assert [(each.round_id, each.metadata) for each in await states.list_states("alice", "f")] == [
        (number, {"of": f"m{number}"}) for number in range(count, 0, -1)
    ]
    assert await states.export_state("alice", "f") == ({"step": count} if count else None)
    assert await sessions.get_session("alice", "s") == source
    assert len(await states.list_states("alice", "s")) == 4


async def test_a_fork_and_its_source_go_their_own_ways(services: Services) -> None:
    sessions, states = services
    source = await _talk(services)
    fork = await sessions.fork_session("alice", "s", at="m2")
    await sessions.append_message(fork, text("another way", id="m3"))
    assert await states.save_state("alice", {"step": "another"}, fork.id) == 3
    await sessions.append_message(source, text("5", id="m5"))
    assert _ids(await sessions.get_session("alice", fork.id)) == ["m1", "m2", "m3"]
    assert _ids(await sessions.get_session("alice", "s")) == ["m1", "m2", "m3", "m4", "m5"]
    assert await states.export_state("alice", "s") == {"step": 4}
    assert (await sessions.delete_session("alice", "s")).messages == 5
    again = await sessions.fork_session("alice", fork.id)
    assert (_ids(again), again.forked_from, again.forked_at) == (["m1", "m2", "m3"], fork.id, 3)
    assert (await sessions.delete_session("alice", fork.id)).messages == 3
    listed = {each.id: (each.forked_from, each.forked_at) for each in await sessions.list_sessions("alice")}
    assert listed == {again.id: (fork.id, 3)}


async def test_a_round_that_was_overwritten_since_is_not_of_then(services: Services) -> None:
    sessions, states = services
    await _talk(services)
    await states.save_state("alice", {"step": "changed"}, "s", 2)
    fork = await sessions.fork_session("alice", "s", at="m2")
    assert [each.round_id for each in await states.list_states("alice", fork.id)] == [1]


async def test_what_cannot_be_forked_says_why_and_leaves_nothing(services: Services) -> None:
    sessions, states = services
    await _talk(services)
    await states.save_state("alice", {}, "only states")
    wrong: list[tuple[type[Exception], dict[str, Any]]] = [
        (NotFound, {"at": "m5"}), (NotFound, {"at": 5}), (NotFound, {"at": 2**62}), (AlreadyExists, {"new_id": "s"}),
        (AlreadyExists, {"new_id": "only states"}), (InvalidContent, {"at": -1}), (InvalidContent, {"at": True}),
        (InvalidContent, {"at": 1.0}), (InvalidContent, {"at": "\0"}), (InvalidContent, {"new_id": "\0"}),
        (InvalidContent, {"at": 2**63}),
    ]  # fmt: skip
    for error, arguments in wrong:
        with pytest.raises(error):
            await sessions.fork_session("alice", "s", **arguments)
    for user, id in (("alice", "t"), ("bob", "s")):
        with pytest.raises(NotFound):
            await sessions.fork_session(user, id)
        with pytest.raises(NotFound):
            await sessions.rewind_session(user, id, 0)
    assert [each.id for each in await sessions.list_sessions("alice")] == ["s"]
    assert await states.list_states("alice", "t") == []


async def test_states_that_are_there_already_are_in_the_way_of_a_fork_that_brings_none(services: Services) -> None:
    sessions, states = services
    await sessions.create_session("alice", "s")
    await states.save_state("alice", {"theirs": 1}, "f")
    with pytest.raises(AlreadyExists):
        await sessions.fork_session("alice", "s", new_id="f")
    assert await sessions.get_session("alice", "f") is None
    assert await states.export_state("alice", "f") == {"theirs": 1}


async def test_a_session_of_the_empty_id_takes_the_states_that_are_its(services: Services) -> None:
    sessions, states = services
    session = Session(id="", user_id="alice")
    sessions._create_missing = True  # type: ignore[attr-defined]
    await sessions.append_message(session, text("1", id="m1"))
    await states.save_state("alice", {"step": 1}, "")
    await sessions.fork_session("alice", "", new_id="f")
    assert await states.export_state("alice", "f") == {"step": 1}


@pytest.mark.parametrize("at", ["m2", 2])
@pytest.mark.parametrize("keep", [True, False])
async def test_a_rewind_removes_what_came_after_and_keeps_it_in_a_fork(
    services: Services, at: str | int, keep: bool
) -> None:
    sessions, states = services
    source = await _talk(services)
    back = await sessions.rewind_session("alice", "s", at, keep=keep, new_id="kept")
    assert (back.id, back.messages, back.title) == ("s", source.messages[:2], "Plans")
    assert back == await sessions.get_session("alice", "s")
    assert await states.export_state("alice", "s") == {"step": 2}
    kept = await sessions.get_session("alice", "kept")
    if keep:
        assert kept is not None
        assert (kept.messages, kept.forked_from, kept.forked_at) == (source.messages, "s", 4)
        assert await states.export_state("alice", "kept") == {"step": 4}
    else:
        assert kept is None
        assert await states.export_state("alice", "kept") is None
    await sessions.append_message(back, text("another", id="m4"))
    assert _ids(await sessions.get_session("alice", "s")) == ["m1", "m2", "m4"]
    assert await states.save_state("alice", {"step": 3}, "s", expected_round=2) == 5
    assert (await sessions.delete_session("alice", "s")).messages == 3


async def test_a_rewind_to_the_last_message_changes_nothing(services: Services) -> None:
    sessions, states = services
    source = await _talk(services)
    assert await sessions.rewind_session("alice", "s", "m4", new_id="kept") == source
    assert await sessions.get_session("alice", "kept") is None
    assert len(await states.list_states("alice", "s")) == 4


async def test_a_rewind_whose_fork_cannot_be_made_changes_nothing(services: Services) -> None:
    sessions, states = services
    source = await _talk(services)
    await sessions.create_session("alice", "kept")
    for error, at, new_id in ((AlreadyExists, 1, "kept"), (NotFound, 5, "new"), (NotFound, "m5", "new")):
        with pytest.raises(error):
            await sessions.rewind_session("alice", "s", at, new_id=new_id)
    assert await sessions.get_session("alice", "s") == source
    assert await states.export_state("alice", "s") == {"step": 4}
    assert await sessions.get_session("alice", "new") is None


async def test_a_rewind_to_the_beginning_leaves_an_empty_session(services: Services) -> None:
    sessions, states = services
    await _talk(services)
    assert (await sessions.rewind_session("alice", "s", 0, keep=False)).messages == []
    assert await states.export_state("alice", "s") is None
    assert await states.save_state("alice", {}, "s", expected_round=0) == 5
