"""The contract of Store."""

import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentstore.errors import Closed, InvalidContent, LimitExceeded, NotFound
from agentstore.interfaces import Store
from agentstore.schemas import Deleted, Pruned, Session
from agentstore.testing.imports import ImportContract
from agentstore.testing.values import EXACT_VALUES, HOSTILE_IDS, NON_JSON_VALUES, text

_AT_ONCE = timedelta()


async def _fill(store: Store, user_id: str, *session_ids: str) -> None:
    """Store two messages, one memory and two state rounds in each session."""
    for session_id in session_ids:
        messages = [text("zebra"), text("two")]
        await store.sessions.append(user_id, session_id, messages)
        await store.memory.add_memory(user_id, messages[:1], session_id)
        for number in range(2):
            await store.states.save_state(user_id, {"n": number}, session_id)


async def _read(store: Store, user_id: str) -> list[Any]:
    """Return what is stored of a user."""
    sessions = [each.id for each in await store.sessions.list_sessions(user_id)]
    return [
        await store.users.get_user(user_id),
        [await store.sessions.get_session(user_id, id) for id in sessions],
        list(await store.memory.list_memory(user_id)),
        [list(await store.states.list_states(user_id, id)) for id in sessions],
        [await store.states.export_state(user_id, id) for id in sessions],
    ]


@pytest.mark.asyncio
class StoreContract(ImportContract):
    """Tests that every Store must pass.

    Fixture ``store``: a new, empty store.
    """

    async def test_services_share_users(self, store: Store) -> None:
        assert await store.users.get_user("a") is None
        assert await store.users.list_users() == []
        await store.sessions.create_session("a")
        await store.memory.add_memory("b", text("x"))
        await store.states.save_state("c", {})
        await store.sessions.append("d", "s", text("x"))
        await store.memory.save_items("e", {"text": "a fact"})
        created = await store.users.set_metadata("f", {"plan": "free"})
        assert [user.id for user in await store.users.list_users()] == ["a", "b", "c", "d", "e", "f"]
        assert await store.users.get_user("f") == created
        assert created.created_at is not None

    async def test_reads_create_no_user(self, store: Store) -> None:
        await store.sessions.get_session("a", "s")
        await store.sessions.list_sessions("a")
        await store.sessions.delete_session("a", "s")
        await store.memory.search("a", "x")
        await store.memory.delete_memory("a")
        await store.memory.add_memory("a", [])
        await store.states.export_state("a")
        await store.states.delete_state("a")
        assert await store.users.list_users() == []

    async def test_a_user_remains_without_data(self, store: Store) -> None:
        await _fill(store, "alice", "s")
        user = await store.users.get_user("alice")
        await store.sessions.delete_session("alice", "s")
        await store.memory.delete_memory("alice")
        await store.states.delete_state("alice", "s")
        assert await store.users.get_user("alice") == user

    async def test_sessions_are_added_to_memory_once(self, store: Store) -> None:
        stored = {}
        for session in ("t", "s", "密 x"):
            messages = [text(f"apples {n}", id=f"m{n}", metadata={"n": n}) for n in range(5)]
            messages.append(text("dated", id="dated", metadata={"timestamp": "2020-01-01"}))
            await store.sessions.append("alice", session, messages)
            stored[session] = await store.sessions.get_session("alice", session)
        await store.sessions.append("bob", "s", text("apples", id="bobs"))
        await store.sessions.create_session("alice", "empty")
        # Some are in memory already.
        await store.memory.add_memory("alice", [text("another", id="m1")], "t")
        assert await store.memory.add_sessions("alice", ["s", "s"], batch=2) == 6
        assert await store.memory.add_sessions("alice", batch=4, namespace="later") == 5 + 6
        assert await store.memory.add_sessions("alice") == 0
        assert await store.memory.add_sessions("carol") == 0
        hits = await store.memory.search("alice", "apples", {"top_k": 30, "neighbors": False})
        assert sorted((hit.session_id, hit.message.id) for hit in hits) == sorted(
            (session, f"m{n}") for session in stored for n in range(5) if (session, n) != ("t", 1)
        )
        for hit in hits:
            of_session = stored[hit.session_id]
            assert of_session is not None
            (message,) = (each for each in of_session.messages if each.id == hit.message.id)
            assert (hit.message, hit.time) == (message, message.created_at)
            assert hit.namespace == (None if hit.session_id == "s" else "later")
        (dated,) = await store.memory.search("alice", "dated", {"session_id": "s", "neighbors": False})
        assert dated.time.year == 2020
        listed = await store.memory.list_memory("alice", {"session_id": "s"})
        assert [message.id for message in listed] == ["m0", "m1", "m2", "m3", "m4", "dated"]
        assert list(await store.memory.list_memory("bob")) == []

    async def test_a_missing_session_is_not_added_to_memory(self, store: Store) -> None:
        await store.sessions.append("alice", "s", text("apples"))
        with pytest.raises(NotFound, match="'t'"):
            await store.memory.add_sessions("alice", ["s", "t"])
        assert len(await store.memory.list_memory("alice")) == 1
        assert await store.memory.add_sessions("alice", []) == 0
        for wrong in ("s", 7, [7], ["\0"]):
            with pytest.raises(InvalidContent):
                await store.memory.add_sessions("alice", wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidContent):
            await store.memory.add_sessions("alice", namespace="a//b")
        with pytest.raises(LimitExceeded):
            await store.memory.add_sessions("alice", batch=10_001)

    async def test_metadata_of_users_round_trips_exactly(self, store: Store) -> None:
        for value in EXACT_VALUES:
            await store.users.set_metadata("alice", {"x": value})
            user = await store.users.get_user("alice")
            assert user is not None
            assert user.metadata == {"x": value}
        for wrong in NON_JSON_VALUES:
            with pytest.raises(InvalidContent):
                await store.users.set_metadata("alice", {"x": wrong})

    async def test_pages_of_users_contain_each_once_in_order(self, store: Store) -> None:
        for user_id in HOSTILE_IDS:
            await store.sessions.create_session(user_id)
        for limit in (1, 5, len(HOSTILE_IDS), 100):
            seen: list[str] = []
            cursor = None
            while True:
                page = await store.users.list_users(limit=limit, cursor=cursor)
                seen += [user.id for user in page]
                cursor = page.next_cursor
                if cursor is None:
                    break
            assert seen == sorted(HOSTILE_IDS, key=str.encode)
        with pytest.raises(LimitExceeded):
            await store.users.list_users(limit=10_001)
        with pytest.raises(InvalidContent):
            await store.users.list_users(cursor="nonsense")

    async def test_deleting_a_user_deletes_and_counts_all_data(self, store: Store) -> None:
        for user_id in ("alice", "bob"):
            await _fill(store, user_id, "s", "t")
        expected = Deleted(sessions=2, messages=4, memories=2, state_rounds=4)
        assert await store.users.delete_user("alice") == expected
        assert not await store.users.delete_user("alice")
        assert await store.users.get_user("alice") is None
        assert await store.sessions.list_sessions("alice") == []
        assert await store.memory.search("alice", "zebra") == []
        assert await store.states.export_state("alice", "s") is None
        assert await store.states.save_state("alice", {}, "s") == 1
        assert len(await store.sessions.list_sessions("bob")) == 2
        assert len(await store.memory.search("bob", "zebra")) == 2
        assert await store.states.export_state("bob", "t") == {"n": 1}

    async def test_stats_count_everything(self, store: Store) -> None:
        empty = await store.stats()
        assert (empty.users, empty.sessions, empty.messages, empty.memories, empty.state_rounds) == (0, 0, 0, 0, 0)
        assert (empty.oldest, empty.newest, empty.largest_users, empty.largest_sessions) == (None, None, [], [])
        await _fill(store, "alice", "s", "t")
        await _fill(store, "bob", "s")
        await store.sessions.append("bob", "s", [text("three")])
        stats = await store.stats(largest=1)
        assert (stats.users, stats.sessions, stats.messages, stats.memories, stats.state_rounds) == (2, 3, 7, 3, 6)
        assert [(each.user_id, each.messages, each.sessions) for each in stats.largest_users] == [("alice", 4, 2)]
        assert [(each.user_id, each.session_id) for each in stats.largest_sessions] == [("bob", "s")]
        assert stats.oldest is not None
        assert stats.newest is not None
        assert stats.oldest <= stats.newest
        assert stats.bytes > empty.bytes or stats.bytes == sum(each.total_bytes for each in stats.tables)
        assert {"messages", "sessions", "users"} <= {each.name for each in stats.tables}
        with pytest.raises(LimitExceeded):
            await store.stats(largest=10_001)

    async def test_stats_count_what_was_added_on_each_day(self, store: Store) -> None:
        assert (await store.stats()).growth == []
        now = datetime.now(UTC)
        today = now.replace(hour=0, minute=0, second=0, microsecond=0)
        expected: dict[int, tuple[int, int]] = {}
        for age in (0, 1, 1, 3, 28, 29, 30, 400):
            number = len(await store.sessions.list_sessions())
            created_at = today - timedelta(days=age) if number % 2 else now - timedelta(days=age)
            session = Session(
                id=f"s{number}", user_id="alice", messages=[text(str(each)) for each in range(number)],
                created_at=created_at, updated_at=created_at,
            )  # fmt: skip
            await store.sessions.import_session(session)
            sessions, messages = expected.get(age, (0, 0))
            expected[age] = sessions + 1, messages + number
            found = (await store.stats()).growth
            assert len(found) == min(30, age + 1)
            for number, each in enumerate(reversed(found)):
                assert each.day == today - timedelta(days=number)
                assert (each.sessions, each.messages) == expected.get(number, (0, 0))

    async def test_prune_deletes_what_is_old(self, store: Store) -> None:
        await _fill(store, "alice", "a", "b", "c")
        calls: list[tuple[int, Pruned]] = []
        assert not await store.prune()
        counted = await store.prune(_AT_ONCE, dry_run=True)
        assert (counted.sessions, counted.messages, counted.memories, counted.state_rounds) == (3, 6, 3, 6)
        assert len(await store.sessions.list_sessions("alice")) == 3
        pruned = await store.prune(_AT_ONCE, progress=lambda users, so_far: calls.append((users, so_far)))
        assert (pruned.sessions, pruned.messages, pruned.memories, pruned.state_rounds) == (3, 6, 3, 6)
        assert pruned.finished
        assert pruned.bytes > 0
        assert calls[-1][0] == 1
        assert (calls[-1][1].sessions, calls[-1][1].messages) == (3, 6)
        assert await store.sessions.list_sessions("alice") == []
        assert await store.memory.search("alice", "zebra") == []
        assert await store.users.get_user("alice") is not None

    async def test_prune_retains_the_last_sessions_with_their_memories_and_rounds(self, store: Store) -> None:
        await _fill(store, "alice", "a", "b", "c")
        await store.memory.add_memory("alice", text("zebra"), "without session")
        pruned = await store.prune(_AT_ONCE, keep_last=1)
        # The session, and the last one of the memories without a session; the highest round of the session.
        assert (pruned.sessions, pruned.messages, pruned.memories, pruned.state_rounds) == (2, 4, 2, 5)
        assert [session.id for session in await store.sessions.list_sessions("alice")] == ["c"]
        assert {hit.session_id for hit in await store.memory.search("alice", "zebra")} == {"c", "without session"}
        assert await store.states.export_state("alice", "c") == {"n": 1}

    async def test_prune_retains_other_numbers_of_memories_and_states(self, store: Store) -> None:
        await _fill(store, "alice", "a", "b", "c")
        pruned = await store.prune(_AT_ONCE, keep_sessions=1, keep_memories=2, keep_states=3)
        assert (pruned.sessions, pruned.memories, pruned.state_rounds) == (2, 1, 0)
        assert {hit.session_id for hit in await store.memory.search("alice", "zebra")} == {"b", "c"}
        assert await store.states.export_state("alice", "a") == {"n": 1}

    async def test_prune_deletes_old_blobs_unless_their_session_is_retained(self, store: Store) -> None:
        await _fill(store, "alice", "a")
        for session_id in ("a", "b", None):
            await store.blobs.put("alice", "n", b"12345", session_id)
            await store.blobs.put("alice", "n", b"12345", session_id)
        assert (await store.stats()).blobs == 6
        counted = await store.prune(_AT_ONCE, keep_last=1, dry_run=True)
        pruned = await store.prune(_AT_ONCE, keep_last=1)
        assert (counted.blobs, pruned.blobs) == (4, 4)
        assert await store.blobs.list("alice", "b") == await store.blobs.list("alice") == []
        assert b"".join([part async for part in store.blobs.read("alice", "n", "a")]) == b"12345"
        assert (await store.prune(_AT_ONCE)).blobs == 2
        assert await store.blobs.list("alice", "a") == []
        assert (await store.stats()).blobs == 0

    async def test_deleting_a_user_counts_its_blobs(self, store: Store) -> None:
        for user_id in ("alice", "bob"):
            await store.blobs.put(user_id, "n", b"x", "s")
            await store.blobs.put(user_id, "n", b"y")
        assert await store.users.delete_user("alice") == Deleted(blobs=2)
        assert await store.blobs.get("alice", "n") is None
        assert b"".join([part async for part in store.blobs.read("bob", "n")]) == b"y"

    async def test_prune_refuses_invalid_arguments(self, store: Store) -> None:
        wrong: tuple[dict[str, Any], ...] = (
            {"older_than": 90},
            {"older_than": timedelta(-1)},
            {"keep_last": -1},
            {"keep_sessions": True},
            {"pause": None},
            {"max_time": 3},
        )
        for arguments in wrong:
            with pytest.raises(InvalidContent):
                await store.prune(**arguments)
        with pytest.raises(LimitExceeded):
            await store.prune(keep_memories=10_001)
        assert not await store.prune(timedelta.max)

    async def test_an_export_is_restored_once(self, store: Store) -> None:
        await _fill(store, "alice", "s", "t")
        await _fill(store, "bob", "s")
        await store.users.set_metadata("alice", {"x": "\ud800"})
        before = [await _read(store, user) for user in ("alice", "bob")]
        file = io.BytesIO()
        assert await store.export(file) is not None
        unchanged = await store.restore(file)
        assert (sum(unchanged.rows.values()), unchanged.left) == (0, [])
        await store.users.delete_user("alice")
        assert (await store.restore(file, dry_run=True)).rows["messages"] == 6
        assert await store.users.get_user("alice") is None
        restored = await store.restore(file, only_users=["alice", "bob"])
        assert restored.rows["messages"] == restored.rows["state_rounds"] == 4
        assert (restored.rows["users"], restored.rows["sessions"], restored.rows["memories"]) == (1, 2, 2)
        assert (restored.total, restored.users, restored.left) == (len(file.getvalue()), 2, [])
        assert [await _read(store, user) for user in ("alice", "bob")] == before
        assert len(await store.memory.search("alice", "zebra")) == 2
        assert (await store.sessions.append("alice", "s", text("three"))).first_seq == 3
        assert await store.states.save_state("alice", {}, "s") == 3

    async def test_a_restore_reports_what_is_different(self, store: Store) -> None:
        await _fill(store, "alice", "s")
        await store.users.set_metadata("alice", {"x": 1})
        file = io.BytesIO()
        await store.export(file)
        await store.users.delete_user("alice")
        for title, left in (("mine", ["memory_buckets", "sessions", "state_heads", "users"]), (None, [])):
            await store.users.set_metadata("alice", {"x": 2} if title else {})
            await store.sessions.create_session("alice", "s" if title else "u", title=title)
            await store.memory.add_memory("alice", text("mine"), "s" if title else "u")
            await store.states.save_state("alice", {"mine": 1}, "s" if title else "u")
            restored = await store.restore(file)
            assert [table for table, *_ in restored.left] == left
            user = await store.users.get_user("alice")
            assert user is not None
            assert user.metadata == ({"x": 2} if title else {"x": 1})
            assert len(await store.memory.search("alice", "zebra")) == (0 if title else 1)
            await store.users.delete_user("alice")

    async def test_a_damaged_export_is_refused_and_nothing_is_stored(self, store: Store) -> None:
        await _fill(store, "alice", "s")
        file = io.BytesIO()
        await store.export(file)
        await store.users.delete_user("alice")
        data = file.getvalue()
        for damaged in (data[:-1], data[: len(data) // 2], data.replace(b"zebra", b"cobra", 1), b"", b"{}\n"):
            with pytest.raises(InvalidContent):
                await store.restore(io.BytesIO(damaged))
        for users in (["bob"], []):
            with pytest.raises(InvalidContent, match="line 2"):
                await store.restore(file, only_users=users)
        with pytest.raises(InvalidContent):
            await store.restore(file, only_users="alice")
        with pytest.raises(InvalidContent):
            await store.restore("export.jsonl")  # type: ignore[arg-type]
        assert await store.users.list_users() == []

    async def test_stop_closes_all_services_and_start_reopens_them(self, store: Store) -> None:
        await _fill(store, "alice", "s")
        file = io.BytesIO()
        await store.export(file)
        assert await store.health()
        await store.stop()
        assert not await store.health()
        for call in (
            store.sessions.get_session("alice", "s"),
            store.memory.search("alice", "zebra"),
            store.states.export_state("alice"),
            store.users.get_user("alice"),
            store.stats(),
            store.prune(),
            store.restore(file),
        ):
            with pytest.raises(Closed):
                await call
        await store.start()
        await store.start()
        assert await store.sessions.get_session("alice", "s") is not None
        assert await store.users.get_user("alice") is not None
