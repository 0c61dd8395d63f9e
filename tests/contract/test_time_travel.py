"""Forks and rewinds of sessions, with their states, in memory and on Postgres."""

from collections.abc import AsyncIterator
from typing import Any
from unittest.mock import ANY

import pytest

from agentstore import (
    AgentStore,
    AlreadyExists,
    Appended,
    InMemorySessionHistoryService,
    InMemoryStateService,
    InvalidContent,
    NotFound,
    Session,
    SessionHistoryService,
    Settings,
    StateService,
)
from agentstore.repositories import steps
from agentstore.testing import text

Services = tuple[SessionHistoryService, StateService]


@pytest.fixture(params=["in memory", "postgres", "postgres, a message at a time"])
async def services(
    request: pytest.FixtureRequest, database_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Services]:
    if request.param == "postgres, a message at a time":
        monkeypatch.setattr(steps, "STEP", 1)
    if request.param == "in memory":
        states = InMemoryStateService()
        yield InMemorySessionHistoryService(states=states), states
    else:
        async with AgentStore(database_url, settings=settings) as store:
            yield store.sessions, store.states


async def _create_conversation(services: Services) -> Session:
    """Append four messages, and save a state after each: rounds 1 to 4."""
    sessions, _ = services
    await sessions.create_session("alice", "s", title="Plans", metadata={"z": 1, "a": "\0"})
    return await _append_with_states(services)


async def _append_with_states(services: Services) -> Session:
    sessions, states = services
    session = await sessions.get_session("alice", "s")
    assert session is not None
    for number in range(1, 5):
        await sessions.append_message(session, text(str(number), id=f"m{number}"))
        await states.save_state("alice", {"step": number}, "s", metadata={"of": f"m{number}"})
    return session


def _ids(session: Session | None) -> list[str]:
    assert session is not None
    return [message.id for message in session.messages]


@pytest.mark.parametrize(("at", "count"), [(None, 4), ("m4", 4), (4, 4), ("m3", 3), (3, 3), ("m1", 1), (1, 1), (0, 0)])
async def test_fork_copies_messages_and_states_up_to_a_message(services: Services, at: Any, count: int) -> None:
    sessions, states = services
    source = await _create_conversation(services)
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


async def test_fork_and_source_are_independent(services: Services) -> None:
    sessions, states = services
    source = await _create_conversation(services)
    fork = await sessions.fork_session("alice", "s", at="m2")
    await sessions.append_message(fork, text("another answer", id="m3"))
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


async def test_fork_omits_rounds_overwritten_after_the_message(services: Services) -> None:
    sessions, states = services
    await _create_conversation(services)
    await states.save_state("alice", {"step": "changed"}, "s", 2)
    fork = await sessions.fork_session("alice", "s", at="m2")
    assert [each.round_id for each in await states.list_states("alice", fork.id)] == [1]


async def test_failed_fork_raises_and_writes_nothing(services: Services) -> None:
    sessions, states = services
    await _create_conversation(services)
    await states.save_state("alice", {}, "only states")
    invalid: list[tuple[type[Exception], dict[str, Any]]] = [
        (NotFound, {"at": "m5"}), (NotFound, {"at": 5}), (NotFound, {"at": 2**62}), (AlreadyExists, {"new_id": "s"}),
        (AlreadyExists, {"new_id": "only states"}), (InvalidContent, {"at": -1}), (InvalidContent, {"at": True}),
        (InvalidContent, {"at": 1.0}), (InvalidContent, {"at": "\0"}), (InvalidContent, {"new_id": "\0"}),
        (InvalidContent, {"at": 2**63}),
    ]  # fmt: skip
    for error, arguments in invalid:
        with pytest.raises(error):
            await sessions.fork_session("alice", "s", **arguments)
    for user, id in (("alice", "t"), ("bob", "s")):
        with pytest.raises(NotFound):
            await sessions.fork_session(user, id)
        with pytest.raises(NotFound):
            await sessions.rewind_session(user, id, 0)
    assert [each.id for each in await sessions.list_sessions("alice")] == ["s"]
    assert await states.list_states("alice", "t") == []


async def test_fork_to_an_id_with_states_already_exists(services: Services) -> None:
    sessions, states = services
    await sessions.create_session("alice", "s")
    await states.save_state("alice", {"theirs": 1}, "f")
    with pytest.raises(AlreadyExists):
        await sessions.fork_session("alice", "s", new_id="f")
    assert await sessions.get_session("alice", "f") is None
    assert await states.export_state("alice", "f") == {"theirs": 1}


@pytest.mark.parametrize("call", ["fork", "rewind"])
@pytest.mark.parametrize("remains", ["of a rewind", "of a deleted round"])
async def test_what_remains_of_deleted_states_does_not_prevent_a_fork(
    services: Services, remains: str, call: str
) -> None:
    """A fork copies its states; their next round has a number that was not used before."""
    sessions, states = services
    await _create_conversation(services)
    if remains == "of a rewind":
        await sessions.append_message(await sessions.create_session("alice", "f"), [text("1"), text("2")])
        await sessions.rewind_session("alice", "f", 1, keep=False)
        await sessions.delete_session("alice", "f")
    else:
        await states.save_state("alice", {}, "f", 7)
        await states.delete_state("alice", "f", 7)
    if call == "fork":
        await sessions.fork_session("alice", "s", at="m2", new_id="f")
    else:
        await sessions.rewind_session("alice", "s", "m2", new_id="f")
    rounds = [1, 2] if call == "fork" else [3, 4]
    assert [each.round_id for each in await states.list_states("alice", "f")] == rounds[::-1]
    following = max(rounds[-1], 0 if remains == "of a rewind" else 7) + 1
    assert await states.save_state("alice", {}, "f", expected_round=rounds[-1]) == following


async def test_fork_of_the_empty_session_id_copies_its_states(services: Services) -> None:
    sessions, states = services
    session = Session(id="", user_id="alice")
    sessions._create_missing = True  # type: ignore[attr-defined]
    await sessions.append_message(session, text("1", id="m1"))
    await states.save_state("alice", {"step": 1}, "")
    await sessions.fork_session("alice", "", new_id="f")
    assert await states.export_state("alice", "f") == {"step": 1}


@pytest.mark.parametrize("at", ["m2", 2])
@pytest.mark.parametrize("keep", [True, False])
async def test_rewind_moves_later_messages_to_another_session(services: Services, at: str | int, keep: bool) -> None:
    sessions, states = services
    source = await _create_conversation(services)
    rewound = await sessions.rewind_session("alice", "s", at, keep=keep, new_id="backup")
    assert (rewound.id, rewound.messages, rewound.title) == ("s", source.messages[:2], "Plans")
    assert rewound == await sessions.get_session("alice", "s")
    assert await states.export_state("alice", "s") == {"step": 2}
    backup = await sessions.get_session("alice", "backup")
    if keep:
        assert backup is not None
        assert (backup.messages, backup.forked_from, backup.forked_at) == (source.messages[2:], "s", 4)
        assert (backup.title, backup.metadata, backup.message_count) == (source.title, source.metadata, 2)
        assert [(each.seq, each.created_at) for each in backup.messages] == [
            (each.seq, each.created_at) for each in source.messages[2:]
        ]
        assert [(each.round_id, each.metadata) for each in await states.list_states("alice", "backup")] == [
            (4, {"of": "m4"}), (3, {"of": "m3"})
        ]  # fmt: skip
        assert await states.export_state("alice", "backup") == {"step": 4}
        assert _ids(await sessions.get_session("alice", "backup", limit=1)) == ["m4"]
    else:
        assert backup is None
        assert await states.export_state("alice", "backup") is None
    await sessions.append_message(rewound, text("another", id="m4"))
    assert _ids(await sessions.get_session("alice", "s")) == ["m1", "m2", "m4"]
    assert await states.save_state("alice", {"step": 3}, "s", expected_round=2) == 5
    assert (await sessions.delete_session("alice", "s")).messages == 3


async def test_what_a_rewind_has_moved_can_be_appended_again(services: Services) -> None:
    sessions, _ = services
    source = await _create_conversation(services)
    rewound = await sessions.rewind_session("alice", "s", "m1", new_id="backup")
    backup = await sessions.get_session("alice", "backup")
    assert backup is not None
    assert await sessions.append("alice", "backup", text("5", id="m5")) == Appended(5, 5, ANY)
    await sessions.append_message(rewound, backup.messages)
    assert _ids(await sessions.get_session("alice", "s")) == _ids(source)
    assert (await sessions.delete_session("alice", "backup")).messages == 4


async def test_rewind_past_deleted_messages_moves_the_others(services: Services) -> None:
    sessions, states = services
    await _create_conversation(services)
    await sessions.delete_messages("alice", "s", ["m1", "m3"])
    rewound = await sessions.rewind_session("alice", "s", 2, new_id="backup")
    assert (_ids(rewound), rewound.message_count) == (["m2"], 1)
    backup = await sessions.get_session("alice", "backup", limit=5)
    assert backup is not None
    assert (_ids(backup), backup.message_count) == (["m4"], 1)
    assert [each.round_id for each in await states.list_states("alice", "backup")] == [4]
    await sessions.delete_messages("alice", "s", ["m2"])
    rewound = await sessions.rewind_session("alice", "s", 1, new_id="nothing")  # nothing is left to remove
    assert (rewound.messages, rewound.message_count) == ([], 0)
    assert await sessions.get_session("alice", "nothing") is None
    assert (await sessions.append("alice", "s", text("again"))).first_seq == 2


async def test_rewind_to_the_beginning_moves_the_states_since_the_first_message(services: Services) -> None:
    sessions, states = services
    await sessions.create_session("alice", "s")
    await states.save_state("alice", {"step": 0}, "s")
    await _append_with_states(services)
    await sessions.rewind_session("alice", "s", 0, new_id="backup")
    assert [each.round_id for each in await states.list_states("alice", "s")] == [1]
    assert [each.round_id for each in await states.list_states("alice", "backup")] == [5, 4, 3, 2]


@pytest.mark.parametrize("keep", [True, False])
async def test_a_fork_and_a_rewind_return_no_messages_if_told_so(services: Services, keep: bool) -> None:
    sessions, _ = services
    source = await _create_conversation(services)
    fork = await sessions.fork_session("alice", "s", at=3, messages=False)
    assert (fork.messages, fork.message_count, fork.forked_from) == ([], 3, "s")
    rewound = await sessions.rewind_session("alice", "s", 2, keep=keep, messages=False)
    assert (rewound.messages, rewound.message_count, rewound.title) == ([], 2, source.title)
    assert _ids(await sessions.get_session("alice", fork.id)) == ["m1", "m2", "m3"]


async def test_rewind_to_the_last_message_changes_nothing(services: Services) -> None:
    sessions, states = services
    source = await _create_conversation(services)
    assert await sessions.rewind_session("alice", "s", "m4", new_id="backup") == source
    assert await sessions.get_session("alice", "backup") is None
    assert len(await states.list_states("alice", "s")) == 4


async def test_rewind_changes_nothing_if_its_fork_fails(services: Services) -> None:
    sessions, states = services
    source = await _create_conversation(services)
    await sessions.create_session("alice", "backup")
    for error, at, new_id in ((AlreadyExists, 1, "backup"), (NotFound, 5, "new"), (NotFound, "m5", "new")):
        with pytest.raises(error):
            await sessions.rewind_session("alice", "s", at, new_id=new_id)
    assert await sessions.get_session("alice", "s") == source
    assert await states.export_state("alice", "s") == {"step": 4}
    assert await sessions.get_session("alice", "new") is None


async def test_rewind_to_the_beginning_leaves_an_empty_session(services: Services) -> None:
    sessions, states = services
    await _create_conversation(services)
    assert (await sessions.rewind_session("alice", "s", 0, keep=False)).messages == []
    assert await states.export_state("alice", "s") is None
    assert await states.save_state("alice", {}, "s", expected_round=0) == 5
