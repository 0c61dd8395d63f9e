"""The contract of scoped values, which a store's states and sessions share."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agentstore.errors import Conflict, InvalidContent, LimitExceeded, NotFound
from agentstore.interfaces import Store
from agentstore.schemas import Deleted, ScopedValues, Session
from agentstore.testing.values import EXACT_VALUES, HOSTILE_IDS, NON_JSON_VALUES, nested, text


async def _values(store: Store, user_id: str | None = "alice", session_id: str | None = "s", **options: Any) -> Any:
    found = await store.states.get_values(user_id, session_id, **options)
    return found.app, found.user, found.session


@pytest.mark.asyncio
class ScopedValuesContract:
    """Tests that the scoped values of every Store must pass.

    Fixture ``store``: a new, empty store.
    """

    async def test_values_are_read_by_scope_and_merged(self, store: Store) -> None:
        await store.sessions.create_session("alice", "s")
        changes = ScopedValues(app={"a": 1, "x": "app"}, user={"u": 2, "x": "user"}, session={"s": 3, "x": "session"})
        await store.states.merge_values("alice", "s", values=changes, app="chat")
        assert await store.states.get_values("alice", "s", app="chat") == changes
        assert changes.merged() == {"a": 1, "u": 2, "s": 3, "x": "session"}
        assert await _values(store, None, None, app="chat") == ({"a": 1, "x": "app"}, {}, {})
        assert await _values(store, "alice", None, app="chat") == ({"a": 1, "x": "app"}, {"u": 2, "x": "user"}, {})
        for scope in ("app", "user", "session"):
            found = await store.states.get_values("alice", "s", app="chat", scope=scope)
            assert found == ScopedValues(**{scope: getattr(changes, scope)})
        assert await store.states.get_values("alice", "s", app="chat", stale_ok=True) == changes

    async def test_values_of_applications_users_and_sessions_are_separate(self, store: Store) -> None:
        for user_id in ("alice", "bob"):
            for session_id in ("s", "t"):
                await store.sessions.create_session(user_id, session_id)
        await store.states.merge_values(
            "alice", "s", values=ScopedValues(app={"k": 1}, user={"k": 2}, session={"k": 3}), app="one"
        )
        assert await _values(store, "bob", "s", app="one") == ({"k": 1}, {}, {})
        assert await _values(store, "alice", "t", app="one") == ({"k": 1}, {"k": 2}, {})
        # A session belongs to its user, whatever the application.
        assert await _values(store, "alice", "s", app="two") == ({}, {}, {"k": 3})
        assert await _values(store, "alice", "s") == ({}, {}, {"k": 3})

    async def test_a_merge_sets_and_deletes_keys_and_leaves_the_others(self, store: Store) -> None:
        await store.sessions.create_session("alice", "s")
        for scope in ("app", "user", "session"):
            first = ScopedValues(**{scope: {"a": 1, "b": [1], "c": {"x": None}}})
            await store.states.merge_values("alice", "s", values=first)
            await store.states.merge_values("alice", "s", values=ScopedValues(**{scope: {"a": None, "b": 2, "d": 0}}))
            await store.states.merge_values("alice", "s", values=ScopedValues(**{scope: {"nothing": None}}))
            found = await store.states.get_values("alice", "s", scope=scope)
            assert getattr(found, scope) == {"b": 2, "c": {"x": None}, "d": 0}
            assert list(getattr(found, scope)) == ["b", "c", "d"]
        await store.states.merge_values("alice", "s", values=ScopedValues())

    async def test_values_of_several_sessions_are_read_together(self, store: Store) -> None:
        sessions = []
        for user_id in ("alice", "bob", *HOSTILE_IDS):
            for session_id in ("s", "t"):
                sessions.append(await store.sessions.create_session(user_id, session_id))
                changes = ScopedValues(
                    {"n": len(sessions), user_id: 1}, {user_id: 2}, {session_id: [user_id], "k": None}
                )
                await store.states.merge_values(user_id, session_id, values=changes, app="chat")
        sessions += [Session(id="missing", user_id="alice"), sessions[0]]
        for some in (sessions, [each for each in sessions if each.user_id == "alice"], sessions[:1], []):
            for app in ("chat", "other"):
                expected = [await store.states.get_values(each.user_id, each.id, app=app) for each in some]
                assert await store.states.get_values_of(some, app=app) == expected
        assert await store.states.get_values_of(sessions, stale_ok=True, app="chat") != []
        wrong: list[Any] = ["s", {"s": 1}, None, 7, ["s"], [None], [Session(id="\0", user_id="alice")]]
        for invalid in wrong:
            with pytest.raises(InvalidContent):
                await store.states.get_values_of(invalid)
        with pytest.raises(LimitExceeded):
            await store.states.get_values_of(sessions[:1] * 10_001)

    @pytest.mark.parametrize("value", EXACT_VALUES, ids=lambda value: repr(value)[:20])
    async def test_any_json_value_round_trips(self, store: Store, value: Any) -> None:
        await store.states.merge_values("alice", values=ScopedValues(app={"x": [value]}, user={"y": {"z": value}}))
        found = await store.states.get_values("alice")
        assert repr((found.app, found.user)) == repr(({"x": [value]}, {"y": {"z": value}}))

    async def test_hostile_ids_and_keys_do_not_collide(self, store: Store) -> None:
        for number, id in enumerate(HOSTILE_IDS):
            await store.states.merge_values(
                id, values=ScopedValues(app={id: number}, user={id: number, "x": number}), app=id
            )
        for number, id in enumerate(HOSTILE_IDS):
            assert await _values(store, id, None, app=id) == ({id: number}, {id: number, "x": number}, {})

    async def test_stored_and_returned_values_are_copies(self, store: Store) -> None:
        value: dict[str, Any] = {"list": []}
        await store.states.merge_values("alice", values=ScopedValues(user={"k": value}))
        value["list"].append(1)
        found = await store.states.get_values("alice")
        found.user["k"]["list"].append(2)
        assert (await store.states.get_values("alice")).user == {"k": {"list": []}}

    async def test_invalid_values_are_refused_and_nothing_is_written(self, store: Store) -> None:
        await store.sessions.create_session("alice", "s")
        good = {"good": 1}
        wrong: list[Any] = [ScopedValues(app=good, user=good, session={"x": value}) for value in NON_JSON_VALUES]
        wrong += [ScopedValues(app=good, user=good, session={key: 1}) for key in ("\0", "\ud800", "x" * 513)]
        wrong += [ScopedValues(app=good, session=[1]), ScopedValues(user={1: 1}), {"app": good}, None]  # type: ignore[arg-type,dict-item]
        for values in wrong:
            with pytest.raises(InvalidContent):
                await store.states.merge_values("alice", "s", values=values)
            if values is not None:
                with pytest.raises(InvalidContent):
                    await store.sessions.append("alice", "s", text("x"), values=values)
        for values in (
            ScopedValues(app=good, session={"x": nested(201)}),
            ScopedValues(app=good, user=dict.fromkeys(map(str, range(10_001)), 1)),
            ScopedValues(app=good, session={"x": "x" * 32_000_001}),
        ):
            with pytest.raises(LimitExceeded):
                await store.states.merge_values("alice", "s", values=values)
        assert await _values(store) == ({}, {}, {})
        session = await store.sessions.get_session("alice", "s")
        assert session is not None
        assert session.messages == []

    async def test_ids_must_name_the_scopes(self, store: Store) -> None:
        calls: list[Callable[[], Any]] = [
            lambda: store.states.merge_values(None, values=ScopedValues(app={"a": 1}, user={"a": 1})),
            lambda: store.states.merge_values("alice", values=ScopedValues(app={"a": 1}, session={"a": None})),
            lambda: store.states.merge_values(None, "s", values=ScopedValues(app={"a": 1})),
            lambda: store.states.get_values(None, "s"),
            lambda: store.states.get_values(None, scope="user"),
            lambda: store.states.get_values("alice", scope="session"),
            lambda: store.states.get_values("alice", scope="temp"),  # type: ignore[arg-type]
            lambda: store.states.delete_values(None, "s"),
        ]
        for call in calls:
            with pytest.raises(InvalidContent):
                await call()
        assert await _values(store) == ({}, {}, {})

    async def test_values_of_a_missing_session_are_refused_and_nothing_is_written(self, store: Store) -> None:
        with pytest.raises(NotFound):
            await store.states.merge_values("alice", "s", values=ScopedValues({"a": 1}, {"u": 1}, {"s": 1}))
        assert await _values(store) == ({}, {}, {})
        assert await store.users.get_user("alice") is None
        await store.states.merge_values("alice", "s", values=ScopedValues(user={"u": 1}))
        assert await store.users.get_user("alice") is not None

    async def test_an_append_and_its_values_are_one_change(self, store: Store) -> None:
        changes = ScopedValues({"a": 1}, {"u": 1}, {"s": 1})
        appended = await store.sessions.append("alice", "s", text("one", id="1"), app="chat", values=changes)
        assert (appended.first_seq, appended.last_seq) == (1, 1)
        assert await store.states.get_values("alice", "s", app="chat") == changes
        session = await store.sessions.get_session("alice", "s")
        assert session is not None
        assert (session.app, session.message_count) == ("chat", 1)
        later = ScopedValues({"a": None, "b": 2}, {"u": 2}, {"s": None})
        await store.sessions.append("alice", "s", text("two", id="2"), expected_seq=1, app="chat", values=later)
        assert await _values(store, app="chat") == ({"b": 2}, {"u": 2}, {})
        # Repeated, as after a lost response: what other calls have set since stays.
        await store.states.merge_values("alice", "s", values=ScopedValues({"b": 3}), app="chat")
        await store.sessions.append("alice", "s", text("two", id="2"), expected_seq=1, app="chat", values=later)
        assert await _values(store, app="chat") == ({"b": 3}, {"u": 2}, {})
        await store.sessions.append("alice", "s", [], values=ScopedValues(session={"n": 1}), metadata_patch={"m": 1})
        assert (await store.states.get_values("alice", "s")).session == {"n": 1}

    async def test_a_refused_append_changes_no_values(self, store: Store) -> None:
        changes = ScopedValues({"a": 1}, {"u": 1}, {"s": 1})
        with pytest.raises(NotFound):
            await store.sessions.append("alice", "s", text("x"), create=False, values=changes)
        with pytest.raises(Conflict):
            await store.sessions.append("alice", "s", text("x"), expected_seq=1, values=changes)
        assert await _values(store) == ({}, {}, {})
        await store.sessions.append("alice", "s", text("one", id="1"))
        with pytest.raises(Conflict):
            await store.sessions.append("alice", "s", text("x"), expected_seq=0, values=changes)
        with pytest.raises(Conflict):
            await store.sessions.append("alice", "s", text("another", id="1"), values=changes)
        assert await _values(store) == ({}, {}, {})

    async def test_one_of_concurrent_appends_with_the_same_expected_seq_succeeds(self, store: Store) -> None:
        for seen in range(5):
            results = await asyncio.gather(
                *(
                    store.sessions.append(
                        "alice", "s", text(f"{seen} {n}"), expected_seq=seen, values=ScopedValues(session={"by": n})
                    )
                    for n in range(6)
                ),
                return_exceptions=True,
            )
            (winner,) = [n for n, each in enumerate(results) if not isinstance(each, Conflict)]
            assert (await store.states.get_values("alice", "s")).session == {"by": winner}

    async def test_concurrent_changes_of_the_same_keys_all_succeed(self, store: Store) -> None:
        def changes(n: int) -> dict[str, Any]:
            keys = [f"k{key}" for key in range(6)]
            return {key: (n if (n + place) % 3 else None) for place, key in enumerate(keys[::-1] if n % 2 else keys)}

        await asyncio.gather(
            *(
                store.sessions.append(
                    "alice", f"s{n % 4}", text(f"{n}"), values=ScopedValues(changes(n), changes(n), changes(n))
                )
                for n in range(24)
            ),
            *(store.states.merge_values("alice", values=ScopedValues(changes(n), changes(n))) for n in range(12)),
        )
        await store.states.merge_values("alice", values=ScopedValues({"last": 1}, {"last": 1}))
        found = await store.states.get_values("alice")
        assert (found.app["last"], found.user["last"]) == (1, 1)

    async def test_values_of_a_session_are_deleted_with_it(self, store: Store) -> None:
        changes = ScopedValues({"a": 1}, {"u": 1}, {"s": 1})
        await store.sessions.append("alice", "s", text("x"), values=changes)
        assert await store.sessions.delete_session("alice", "s") == Deleted(sessions=1, messages=1)
        await store.sessions.create_session("alice", "s")
        assert await _values(store) == ({"a": 1}, {"u": 1}, {})

    async def test_a_fork_has_the_values_of_its_session_and_a_rewind_retains_them(self, store: Store) -> None:
        await store.sessions.append("alice", "s", [text("1", id="1"), text("2", id="2")])
        await store.states.merge_values("alice", "s", values=ScopedValues(session={"a": [1]}))
        await store.sessions.fork_session("alice", "s", at="1", new_id="fork")
        await store.states.merge_values("alice", "fork", values=ScopedValues(session={"b": 2}))
        assert (await store.states.get_values("alice", "fork")).session == {"a": [1], "b": 2}
        await store.sessions.rewind_session("alice", "s", 1, new_id="before")
        for session_id in ("s", "before"):
            assert (await store.states.get_values("alice", session_id)).session == {"a": [1]}

    async def test_delete_values_deletes_the_narrowest_scope(self, store: Store) -> None:
        changes = ScopedValues({"a": 1}, {"u": 1, "v": 2}, {"s": 1})
        await store.sessions.append("alice", "s", text("x"), values=changes)
        assert await store.states.delete_values("alice", "s") == Deleted(values=1)
        assert await _values(store) == ({"a": 1}, {"u": 1, "v": 2}, {})
        assert not await store.states.delete_values("alice", app="other")
        assert await store.states.delete_values("alice") == Deleted(values=2)
        assert await store.states.delete_values(None) == Deleted(values=1)
        assert not await store.states.delete_values(None)
        assert await _values(store) == ({}, {}, {})

    async def test_deleting_a_user_leaves_the_values_of_the_application(self, store: Store) -> None:
        changes = ScopedValues({"a": 1}, {"u": 1}, {"s": 1})
        await store.sessions.append("alice", "s", text("x"), values=changes)
        await store.states.merge_values("alice", values=ScopedValues(user={"u": 1, "v": 1}), app="other")
        assert (await store.stats()).values == 5
        deleted = await store.users.delete_user("alice")
        assert (deleted.sessions, deleted.values) == (1, 3)
        assert await _values(store) == ({"a": 1}, {}, {})
        assert (await store.stats()).values == 1
