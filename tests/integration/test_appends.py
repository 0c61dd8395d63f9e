"""Concurrent appends share statements; each gets its own result and waits for no other session."""

import asyncio
from typing import Any

import asyncpg
import pytest

from agentstore import AgentStore, Conflict, NotFound, PoolTimeout, Session, Settings
from agentstore.testing import text


def _session(id: str) -> Session:
    return Session(id=id, user_id="alice")


async def _read_ids(observer: asyncpg.Connection, session_id: str) -> list[str]:
    rows = await observer.fetch(
        "SELECT seq, id FROM agentstore.messages WHERE user_id = 'alice' AND session_id = $1 ORDER BY seq", session_id
    )
    assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
    return [row[1] for row in rows]


async def test_concurrent_appends_share_statements(store: AgentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = [await store.sessions.create_session("alice", f"s{number}") for number in range(20)]
    executed = 0
    fetch = asyncpg.Connection.fetch

    async def count(self: asyncpg.Connection, *args: Any, **kwargs: Any) -> Any:
        nonlocal executed
        executed += 1
        return await fetch(self, *args, **kwargs)

    monkeypatch.setattr(asyncpg.Connection, "fetch", count)
    await asyncio.gather(*(store.sessions.append_message(each, text("x")) for each in sessions for _ in range(10)))
    assert executed <= 20
    for each in sessions:
        found = await store.sessions.get_session("alice", each.id)
        assert found is not None
        assert found.messages == each.messages
        assert len(each.messages) == 10


async def test_failing_appends_do_not_affect_others(store: AgentStore, observer: asyncpg.Connection) -> None:
    sessions = [await store.sessions.create_session("alice", f"s{number}") for number in range(10)]
    await store.sessions.append_message(sessions[3], text("first", id="m3"))
    calls = [store.sessions.append_message(each, text("x", id=f"m{each.id[1:]}")) for each in sessions]
    calls.append(store.sessions.append_message(_session("missing"), text("x")))
    results = await asyncio.gather(*calls, return_exceptions=True)
    failed = {place: type(result) for place, result in enumerate(results) if result is not None}
    assert failed == {3: Conflict, 10: NotFound}
    for number, each in enumerate(sessions):
        assert await _read_ids(observer, each.id) == [f"m{number}"]


async def test_a_cancelled_append_does_not_affect_others(store: AgentStore, observer: asyncpg.Connection) -> None:
    sessions = [await store.sessions.create_session("alice", f"s{number}") for number in range(4)]
    for turn in range(50):
        tasks = [
            asyncio.create_task(store.sessions.append_message(each, text("x", id=f"{turn}-{place}")))
            for each in sessions
            for place in range(8)
        ]
        await asyncio.sleep(turn * 0.0001)
        for task in tasks[::3]:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
        assert not any(results[place] for place in range(len(tasks)) if place % 3)
    for each in sessions:
        stored = set(await _read_ids(observer, each.id))
        assert {message.id for message in each.messages} <= stored


async def test_a_locked_session_delays_no_other(store: AgentStore, observer: asyncpg.Connection) -> None:
    sessions = [await store.sessions.create_session("alice", f"s{number}") for number in range(12)]
    async with observer.transaction():
        await observer.execute("SELECT FROM agentstore.sessions WHERE id IN ('s0', 's1', 's2') FOR UPDATE")
        waiting = [asyncio.create_task(store.sessions.append_message(each, text("x"))) for each in sessions[:3]]
        async with asyncio.timeout(60):
            await asyncio.gather(
                *(store.sessions.append_message(each, text("x")) for each in sessions[3:] for _ in range(5))
            )
        assert not any(task.done() for task in waiting)
    await asyncio.gather(*waiting)


async def test_a_session_with_many_writers_does_not_starve_another(store: AgentStore) -> None:
    busy = await store.sessions.create_session("alice", "busy")
    other = await store.sessions.create_session("alice", "other")
    many = [asyncio.create_task(store.sessions.append_message(busy, text("x"))) for _ in range(4_000)]
    await asyncio.sleep(0)
    await store.sessions.append_message(other, text("x"))
    # At most two batches are executed before the next one, which has the message of the other session.
    assert sum(task.done() for task in many) <= 1_500
    await asyncio.gather(*many)


async def test_each_append_without_a_connection_gets_its_own_pool_timeout(
    database_url: str, settings: Settings
) -> None:
    small = settings.model_copy(update={"pool_size": 1, "pool_timeout": 0.3})
    async with AgentStore(database_url, settings=small) as store:
        sessions = [await store.sessions.create_session("alice", f"s{number}") for number in range(20)]
        async with store._database.connection():
            calls = (store.sessions.append_message(each, text("x")) for each in sessions)
            results = await asyncio.gather(*calls, return_exceptions=True)
        assert len(set(map(id, results))) == 20  # each with its own traceback
        assert {(type(each), each.size, each.in_use) for each in results if isinstance(each, PoolTimeout)} == {
            (PoolTimeout, 1, 1)
        }
        assert all(isinstance(each, PoolTimeout) for each in results)
        for each in sessions:
            await store.sessions.append_message(each, text("y"))
            found = await store.sessions.get_session("alice", each.id)
            assert found is not None
            assert [message.content[0].text for message in found.messages] == ["y"]  # type: ignore[index, union-attr]


_ONE_SESSION_A_STATEMENT = """
CREATE FUNCTION agentstore.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF (SELECT count(DISTINCT session_id) FROM fresh) > 1 THEN
        RAISE EXCEPTION 'several sessions in one statement' USING ERRCODE = 'feature_not_supported';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER refuse AFTER INSERT ON agentstore.messages REFERENCING NEW TABLE AS fresh
FOR EACH STATEMENT EXECUTE FUNCTION agentstore.refuse();
"""


async def test_appends_to_one_session_share_statements_where_several_sessions_cannot(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    await observer.execute(_ONE_SESSION_A_STATEMENT)  # as Citus does
    sessions = [await store.sessions.create_session("alice", f"s{number}") for number in range(20)]
    for turn in range(3):
        calls = [
            store.sessions.append_message(each, text("x", id=f"{turn}-{place}"))
            for each in sessions
            for place in range(10)
        ]
        await asyncio.gather(*calls)
    for each in sessions:
        stored = await _read_ids(observer, each.id)
        assert sorted(stored) == sorted(f"{turn}-{place}" for turn in range(3) for place in range(10))
    statements = await observer.fetchval(
        "SELECT count(DISTINCT created_at) FROM agentstore.messages WHERE user_id = 'alice' AND id LIKE '2-%'"
    )
    assert statements < 100  # for 200 messages
