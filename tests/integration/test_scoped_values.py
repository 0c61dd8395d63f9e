"""Scoped values on Postgres: what appends of an application wait for, and when values expire."""

import asyncio
from typing import Any

import asyncpg
import pytest

from agentstore import AgentStore, NotFound, ScopedValues
from agentstore.testing import text

_WAITING = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


async def test_appends_of_an_application_wait_only_for_a_change_of_the_same_key(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    """While another transaction has changed a value of the application, and has not committed."""
    await store.states.merge_values(None, values=ScopedValues({"a": 1, "b": 1}), app="chat")
    transaction = observer.transaction()
    await transaction.start()
    await observer.execute("UPDATE agentstore.app_values SET value = '2' WHERE app = 'chat' AND key = 'a'")
    async with asyncio.timeout(60):
        await asyncio.gather(
            *(
                store.sessions.append(f"u{n}", "s", text("x"), app="chat", values=ScopedValues(user={"a": n}))
                for n in range(8)
            ),
            store.sessions.append("alice", "s", text("x"), app="chat", values=ScopedValues({"b": 2, "new": 1})),
            store.sessions.append("alice", "t", text("x"), app="other", values=ScopedValues({"a": 1})),
        )
    append = store.sessions.append("bob", "s", text("x"), app="chat", values=ScopedValues({"a": 3}))
    waiting = asyncio.create_task(append)
    async with asyncio.timeout(60):
        while await observer.fetchval(_WAITING) == 0:
            await asyncio.sleep(0.001)
    assert not waiting.done()
    await transaction.rollback()
    await waiting
    assert (await store.states.get_values("bob", app="chat")).app == {"a": 3, "b": 2, "new": 1}


async def test_an_append_with_values_executes_five_statements(store: AgentStore, monkeypatch: Any) -> None:
    """BEGIN, the lock of the session, the append, the values, COMMIT; one more for values of the application."""
    await store.sessions.create_session("alice", "s")
    executed = 0

    def counted(call: Any) -> Any:
        async def count(*args: Any, **options: Any) -> Any:
            nonlocal executed
            executed += 1
            return await call(*args, **options)

        return count

    for name in ("fetch", "execute"):
        monkeypatch.setattr(asyncpg.Connection, name, counted(getattr(asyncpg.Connection, name)))
    values = ScopedValues(user={"u": 1}, session={"s": 1, "t": None})
    await store.sessions.append("alice", "s", text("1"), expected_seq=0, values=values)
    assert executed == 5
    await store.sessions.append("alice", "s", text("2"), values=ScopedValues({"a": 1}, {"u": 1}, {"s": 1}))
    assert executed == 5 + 6


async def test_values_of_an_expired_session_are_gone(store: AgentStore, observer: asyncpg.Connection) -> None:
    await store.sessions.create_session("alice", "s", ttl=60)
    values = ScopedValues(user={"u": 1}, session={"s": 1})
    await store.states.merge_values("alice", "s", values=values)
    await observer.execute("UPDATE agentstore.sessions SET updated_at = updated_at - interval '1 hour'")
    assert await store.states.get_values("alice", "s") == ScopedValues(user={"u": 1})
    with pytest.raises(NotFound):
        await store.states.merge_values("alice", "s", values=ScopedValues(user={"u": 2}, session={"s": 2}))
    await store.sessions.append("alice", "s", text("x"), values=ScopedValues(session={"t": 3}))
    assert await store.states.get_values("alice", "s") == ScopedValues(user={"u": 1}, session={"t": 3})
    await observer.execute("UPDATE agentstore.sessions SET updated_at = updated_at - interval '1 hour', ttl = 60")
    assert (await store.prune()).sessions == 1
    assert await observer.fetchval("SELECT count(*) FROM agentstore.session_values") == 0
    assert await store.states.get_values("alice") == ScopedValues(user={"u": 1})
