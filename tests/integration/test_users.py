"""Users: created when first needed, deleted with all their data."""

import asyncio
import math
from typing import Any

import asyncpg
import pytest

from agentstore import AgentStore, Deleted, InvalidContent, LimitExceeded, NotFound, Session
from agentstore.testing import HOSTILE_IDS, text
from tests.support.servers import count_orphans


async def test_a_user_is_created_with_the_first_session(store: AgentStore) -> None:
    assert await store.users.get_user("alice") is None
    await store.sessions.create_session("alice")
    user = await store.users.get_user("alice")
    assert user is not None
    assert (user.id, user.metadata) == ("alice", {})
    assert user.created_at is not None
    await store.sessions.create_session("alice")
    assert await store.users.list_users() == [user]


async def test_metadata_round_trips_exactly_and_creates_the_user(store: AgentStore) -> None:
    created = await store.users.set_metadata("alice", {"z": "\0", "a": [2**70]})
    assert created == await store.users.get_user("alice")
    await store.sessions.create_session("alice")
    changed = await store.users.set_metadata("alice", {})
    assert (changed.metadata, changed.created_at) == ({}, created.created_at)
    invalid: tuple[Any, ...] = ({"x": math.nan}, {1: 2}, [], None)
    for wrong in invalid:
        with pytest.raises(InvalidContent):
            await store.users.set_metadata("alice", wrong)


async def test_pages_contain_every_user_once_including_the_empty_id(store: AgentStore) -> None:
    for name in HOSTILE_IDS:
        await store.sessions.create_session(name)
    for limit in (1, 5, len(HOSTILE_IDS), 100):
        seen: list[str] = []
        cursor = None
        while True:
            page = await store.users.list_users(limit=limit, cursor=cursor)
            seen += [user.id for user in page]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert len(seen) == len(HOSTILE_IDS)
        assert set(seen) == set(HOSTILE_IDS)
    with pytest.raises(LimitExceeded):
        await store.users.list_users(limit=10_001)
    with pytest.raises(InvalidContent):
        await store.users.list_users(cursor="nonsense")


async def test_users_are_listed_by_prefix(store: AgentStore) -> None:
    last = "\U0010ffff" * 128
    for name in ("a", "ab", "ab\U0010ffff", "abc", "ac", "b", "", "\ud7ff", "\ue000", last):
        await store.sessions.create_session(name)
    in_memory = AgentStore.in_memory()
    for user in await store.users.list_users():
        await in_memory.sessions.create_session(user.id)
    for prefix, expected in (
        ("", ["", "a", "ab", "abc", "ab\U0010ffff", "ac", "b", "\ud7ff", "\ue000", last]),
        ("a", ["a", "ab", "abc", "ab\U0010ffff", "ac"]),
        ("ab", ["ab", "abc", "ab\U0010ffff"]),
        ("ab\U0010ffff", ["ab\U0010ffff"]),
        ("\ud7ff", ["\ud7ff"]),
        ("\U0010ffff", [last]),
        ("missing", []),
    ):
        for each in (store, in_memory):
            assert [user.id for user in await each.users.list_users(prefix=prefix)] == expected
            seen: list[str] = []
            cursor = None
            while True:
                page = await each.users.list_users(prefix=prefix, limit=2, cursor=cursor)
                seen += [user.id for user in page]
                if (cursor := page.next_cursor) is None:
                    break
            assert seen == expected
    with pytest.raises(InvalidContent, match="prefix"):
        await store.users.list_users(prefix="\0")


async def test_delete_removes_and_counts_all_data_of_one_user(store: AgentStore, observer: asyncpg.Connection) -> None:
    for name in HOSTILE_IDS:
        for session_id in ("a", "b"):
            session = await store.sessions.create_session(name, session_id)
            await store.sessions.append_message(session, [text("1"), text("2")])
    for name in HOSTILE_IDS:
        assert await store.users.delete_user(name) == Deleted(sessions=2, messages=4)
        assert await store.users.get_user(name) is None
        assert await store.sessions.list_sessions(name) == []
        for table, column in (("users", "id"), ("sessions", "user_id"), ("messages", "user_id")):
            assert await observer.fetchval(f"SELECT count(*) FROM agentstore.{table} WHERE {column} = $1", name) == 0
        assert not await store.users.delete_user(name)
    assert await observer.fetchval("SELECT count(*) FROM agentstore.messages") == 0


async def test_deleting_a_user_during_writes_leaves_no_orphans_and_raises_nothing(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    running = True
    appended = 0

    async def write(writer: int) -> None:
        nonlocal appended
        while running:
            session = await store.sessions.create_session("alice", f"s{writer % 4}")
            try:
                await store.sessions.append_message(session, [text("1"), text("2")])
                appended += 1
            except NotFound:
                continue

    async def delete() -> None:
        for _ in range(40):
            await store.users.delete_user("alice")
            await asyncio.sleep(0.01)

    writers = [asyncio.create_task(write(writer)) for writer in range(12)]
    await asyncio.gather(delete(), delete(), delete())
    running = False
    await asyncio.gather(*writers)
    assert appended > 0
    assert await count_orphans(observer) == 0
    await store.users.delete_user("alice")
    assert await observer.fetchval("SELECT count(*) FROM agentstore.messages") == 0
    await store.stop()  # a backend reports its statistics when it exits
    assert await observer.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0


async def test_writers_to_different_sessions_of_a_user_do_not_block_each_other(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    """While one session is locked, appends to another one and the creation of a third succeed."""
    sessions = [await store.sessions.create_session("alice", name) for name in ("a", "b")]
    async with observer.transaction():
        await observer.execute("SELECT FROM agentstore.sessions WHERE id = 'a' FOR UPDATE")
        await asyncio.wait_for(store.sessions.append_message(sessions[1], text("x")), 60)
        await asyncio.wait_for(store.sessions.create_session("alice", "c"), 60)
        blocked = asyncio.create_task(store.sessions.append_message(Session(id="a", user_id="alice"), text("x")))
        done, _ = await asyncio.wait([blocked], timeout=0.2)
        assert not done
    await blocked
