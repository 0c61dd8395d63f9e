"""The contract of a store's imports, of its queue of failed extractions, and of what maintains its memories."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentstore.errors import Conflict, InvalidContent, LimitExceeded
from agentstore.interfaces import Store
from agentstore.schemas import Imported, Message, Session
from agentstore.testing.values import CLOCK_SKEW, EXACT_VALUES, HOSTILE_IDS, text

_CREATED = datetime(2020, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
_UPDATED = datetime(2021, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
_REFUSED: tuple[tuple[dict[str, Any], type[Exception]], ...] = (
    ({"id": "\0"}, InvalidContent),
    ({"user_id": "\ud800"}, InvalidContent),
    ({"title": "\0"}, InvalidContent),
    ({"metadata": {"x": float("nan")}}, InvalidContent),
    ({"created_at": datetime(2020, 1, 1)}, InvalidContent),
    ({"messages": [Message(role="user", metadata={"x": {1}})]}, InvalidContent),
    ({"messages": [Message(id="m", role="user"), Message(id="m", role="system")]}, Conflict),
    ({"title": "x" * 10_001}, LimitExceeded),
)


class ImportContract:
    """Tests of imports and maintenance; a base class of StoreContract."""

    async def test_an_imported_session_round_trips(self, store: Store) -> None:
        session = Session(
            id="s",
            user_id="alice",
            messages=[text(str(number)) for number in range(10)],
            title="t",
            metadata={"values": list(EXACT_VALUES)},
            created_at=_CREATED,
            updated_at=_UPDATED,
            forked_from="r",
            forked_at=3,
            ttl=2**31 - 1,
            app="app",
        )
        assert await store.sessions.import_session(session) == Imported(sessions=1, messages=10)
        assert session.messages[0].seq is None
        stored = await store.sessions.get_session("alice", "s")
        assert stored == session
        assert stored is not None
        assert [(each.seq, each.created_at) for each in stored.messages] == [(n, _UPDATED) for n in range(1, 11)]
        later = await store.sessions.create_session("alice", "later")
        await store.sessions.import_session(Session(id="older", user_id="alice", updated_at=_CREATED))
        assert [each.id for each in await store.sessions.list_sessions("alice")] == [later.id, "s", "older"]
        await store.sessions.append_message(session, text("next"))
        assert await store.sessions.get_session("alice", "s") == session

    async def test_hostile_ids_of_imported_sessions_round_trip(self, store: Store) -> None:
        for id in HOSTILE_IDS:
            session = Session(id=id, user_id=id, messages=[text("x", id=id)])
            assert await store.sessions.import_session(session) == Imported(sessions=1, messages=1)
        for id in HOSTILE_IDS:
            stored = await store.sessions.get_session(id, id)
            assert stored is not None
            assert [message.id for message in stored.messages] == [id]

    async def test_imports_complete_sessions_and_leave_their_fields_unchanged(self, store: Store) -> None:
        messages = [text(str(number)) for number in range(5)]
        session = Session(id="s", user_id="alice", messages=messages[:3], title="first")
        await store.sessions.import_session(session)
        before = await store.sessions.get_session("alice", "s")
        again = Session(id="s", user_id="alice", messages=messages, title="second", updated_at=_UPDATED)
        assert await store.sessions.import_session(again) == Imported(sessions=0, messages=2)
        assert await store.sessions.import_session(again) == Imported()
        stored = await store.sessions.get_session("alice", "s")
        assert before is not None
        assert stored is not None
        assert (stored.messages, stored.title, stored.updated_at) == (messages, "first", before.updated_at)

    async def test_missing_and_future_timestamps_of_imports_become_now(self, store: Store) -> None:
        before = datetime.now(UTC)
        future = datetime.now(UTC) + timedelta(days=1)
        for session in (
            Session(id="none", user_id="alice"),
            Session(id="future", user_id="alice", created_at=future, updated_at=future),
            Session(id="reversed", user_id="alice", created_at=_UPDATED, updated_at=_CREATED),
            Session(id="updated", user_id="alice", updated_at=_UPDATED),
        ):
            await store.sessions.import_session(session)
        times = {each.id: (each.created_at, each.updated_at) for each in await store.sessions.list_sessions("alice")}
        for name in ("none", "future"):
            created, updated = times[name]
            assert created == updated
            assert created is not None
            assert before - CLOCK_SKEW <= created <= datetime.now(UTC) + CLOCK_SKEW
        assert times["reversed"] == times["updated"] == (_UPDATED, _UPDATED)

    async def test_refused_imports_store_nothing(self, store: Store) -> None:
        for change, error in _REFUSED:
            session = Session(id="s", user_id="alice", messages=[text("x")]).model_copy(update=change)
            with pytest.raises(error):
                await store.sessions.import_session(session)
        with pytest.raises(InvalidContent, match="differences must be"):
            await store.sessions.import_session(session, differences="drop")  # type: ignore[arg-type]
        assert await store.users.list_users() == []

    async def test_an_import_with_different_content_is_a_conflict_and_stores_nothing(self, store: Store) -> None:
        await store.sessions.import_session(Session(id="s", user_id="alice", messages=[text("x", id="m")]))
        before = await store.sessions.get_session("alice", "s")
        with pytest.raises(Conflict, match="'m'"):
            await store.sessions.import_session(
                Session(id="s", user_id="alice", messages=[text("new"), text("other", id="m")])
            )
        assert await store.sessions.get_session("alice", "s") == before

    async def test_differing_messages_stay_and_the_others_are_imported_in_order(self, store: Store) -> None:
        stored = [text("a", id="1"), text("b", id="2"), text("c", id="3")]
        newer = [
            text("a", id="1").model_copy(update={"metadata": {"model": "x"}, "status": "completed"}),
            text("new", id="0"),
            text("other", id="2"),
            Message(id="3", role="assistant", content=[{"type": "text", "text": "c"}]),
            text("d", id="4"),
            text("e", id="5"),
            text("d", id="4"),
            text("f", id="5"),
        ]
        await store.sessions.import_session(Session(id="s", user_id="alice", messages=stored))
        given = Session(id="s", user_id="alice", messages=newer, title="not stored")
        with pytest.raises(Conflict):
            await store.sessions.import_session(given)
        imported = await store.sessions.import_session(given, differences="keep")
        assert (imported.sessions, imported.messages) == (0, 3)
        assert sorted(imported.differing) == ["2", "3", "5"]
        found = await store.sessions.get_session("alice", "s")
        assert found is not None
        assert (found.messages, found.title) == ([*stored, newer[1], newer[4], newer[5]], None)
        again = await store.sessions.import_session(given, differences="keep")
        assert (again.messages, sorted(again.differing)) == (0, ["2", "3", "5"])
        assert await store.sessions.get_session("alice", "s") == found
        created = await store.sessions.import_session(given.model_copy(update={"id": "t"}), differences="keep")
        assert created == Imported(sessions=1, messages=6, differing=("5",))

    async def test_imported_states_keep_their_numbers(self, store: Store) -> None:
        await store.states.save_state("alice", {"n": 1}, "s")
        assert await store.states.import_state("alice", "s", 4, {"n": 4}, metadata={"x": 1})
        assert not await store.states.import_state("alice", "s", 4, {"n": "other"})
        assert await store.states.import_state("alice", "s", 2, {"n": 2})
        assert [(each.round_id, each.metadata) for each in await store.states.list_states("alice", "s")] == [
            (4, {"x": 1}),
            (2, {}),
            (1, {}),
        ]
        assert await store.states.export_state("alice", "s") == {"n": 4}
        assert await store.states.save_state("alice", {}, "s") == 5
        for round_id, state in ((0, {}), (-1, {}), (7, {"x": {1}})):
            with pytest.raises(InvalidContent):
                await store.states.import_state("alice", "s", round_id, state)
        assert await store.states.import_state("bob", None, 3, {})
        assert await store.states.export_state("bob", round_id=3) == {}

    async def test_a_touch_makes_a_session_the_last_used_one(self, store: Store) -> None:
        for name in ("a", "b"):
            await store.sessions.import_session(Session(id=name, user_id="alice", updated_at=_UPDATED))
        await store.sessions.touch("alice", "a")
        await store.sessions.touch("alice", "missing")
        (first, second) = await store.sessions.list_sessions("alice")
        assert [first.id, second.id, second.updated_at] == ["a", "b", _UPDATED]
        await store.sessions.touch("alice", "b", idle=3_600)
        assert [each.id for each in await store.sessions.list_sessions("alice")] == ["b", "a"]
        (before, _) = await store.sessions.list_sessions("alice")
        await store.sessions.touch("alice", "b", idle=3_600)
        assert (await store.sessions.list_sessions("alice"))[0] == before

    async def test_touches_of_what_does_not_exist_create_nothing(self, store: Store) -> None:
        await store.sessions.touch("alice", "s")
        await store.memory.touch("alice")
        await store.memory.expire("alice")
        await store.states.touch("alice", "s")
        assert await store.users.list_users() == []
        for wrong, error in (
            (-1, InvalidContent),
            (1.5, InvalidContent),
            (True, InvalidContent),
            (2**31, LimitExceeded),
        ):
            for call in (
                store.sessions.touch("alice", "s", idle=wrong),  # type: ignore[arg-type]
                store.memory.touch("alice", idle=wrong),  # type: ignore[arg-type]
                store.states.touch("alice", "s", idle=wrong),  # type: ignore[arg-type]
            ):
                with pytest.raises(error):
                    await call

    async def test_memories_of_this_release_need_no_reindexing(self, store: Store) -> None:
        await store.memory.add_memory("alice", [text(str(number)) for number in range(5)], "s")
        await store.memory.add_memory("bob", text("x"))
        calls: list[tuple[int, int]] = []
        assert await store.memory.reindex(progress=lambda read, total: calls.append((read, total))) == 0
        assert calls[-1][0] == 6
        assert await store.memory.reindex(user_id="alice", batch=2) == 0
        with pytest.raises(InvalidContent):
            await store.memory.reindex(batch=0)

    async def test_there_are_no_failed_extractions_without_an_extractor(self, store: Store) -> None:
        await store.memory.add_memory("alice", text("x"))
        assert await store.memory.list_failed_extractions() == []
        assert await store.memory.list_failed_extractions("alice", limit=1) == []
        for leased in (False, True):
            assert await store.memory.list_pending_extractions(leased=leased) == []
            assert await store.memory.list_pending_extractions("alice", leased=leased, limit=1) == []
        with pytest.raises(InvalidContent):
            await store.memory.list_pending_extractions(cursor="nonsense")
        assert await store.memory.retry_failed_extractions() == await store.memory.retry_failed_extractions("a") == 0
        with pytest.raises(InvalidContent):
            await store.memory.list_failed_extractions(cursor="nonsense")
        with pytest.raises(LimitExceeded):
            await store.memory.list_failed_extractions(limit=10_001)
