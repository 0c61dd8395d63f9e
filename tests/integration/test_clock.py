"""A server's clock that steps back: after a correction, or a failover to a host whose clock is behind."""

from datetime import UTC, datetime, timedelta

import asyncpg

from agentstore import AgentStore
from agentstore.testing import text

# What is stored was written by a clock that was an hour ahead of the one now.
_STEP_BACK = """
UPDATE agentstore.sessions SET created_at = created_at + interval '1 hour', updated_at = updated_at + interval '1 hour',
    listed_at = listed_at + interval '1 hour';
UPDATE agentstore.messages SET created_at = created_at + interval '1 hour';
UPDATE agentstore.state_heads SET updated_at = updated_at + interval '1 hour';
UPDATE agentstore.state_rounds SET saved_at = saved_at + interval '1 hour';
UPDATE agentstore.memory_buckets SET updated_at = updated_at + interval '1 hour';
"""


async def test_messages_keep_their_order_and_timestamps_never_decrease(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    session = await store.sessions.create_session("alice", "s")
    await store.sessions.append_message(session, [text("a", id="a"), text("b", id="b")])
    await observer.execute(_STEP_BACK)
    await store.sessions.append_message(session, text("c", id="c"))
    await store.sessions.append_message(session, [text("b", id="b"), text("d", id="d")])
    found = await store.sessions.get_session("alice", "s")
    assert found is not None
    assert [message.id for message in found.messages] == ["a", "b", "c", "d"]
    rows = await observer.fetch("SELECT created_at FROM agentstore.messages ORDER BY seq")
    times = [row[0] for row in rows]
    assert times == sorted(times)
    assert found.updated_at is not None
    assert found.updated_at > datetime.now(UTC) + timedelta(minutes=50)


async def test_nothing_that_is_written_expires_or_is_pruned_early(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    session = await store.sessions.create_session("alice", "s", ttl=1800)
    await store.sessions.append_message(session, text("a", id="a"))
    await store.states.save_state("alice", {"n": 1}, "s")
    await store.memory.add_memory("alice", text("apples"), "s")
    await observer.execute(_STEP_BACK)
    await store.sessions.append_message(session, text("b", id="b"))
    assert await store.states.save_state("alice", {"n": 2}, "s") == 2
    await store.memory.add_memory("alice", text("pears"), "s")
    assert not (await store.prune(timedelta(minutes=30))).messages
    assert len(await store.sessions.list_sessions("alice")) == 1
    assert await store.states.export_state("alice", "s") == {"n": 2}
    assert len(await store.memory.list_memory("alice")) == 2


async def test_a_session_is_listed_by_the_latest_time_that_was_stored_for_it(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    """Until the clock has passed the step, those written before it come first; every page has each session once."""
    for number in range(6):
        await store.sessions.create_session("alice", f"before {number}")
    await observer.execute(_STEP_BACK)
    for number in range(6):
        await store.sessions.create_session("alice", f"after {number}")
    listed, cursor = [], None
    while True:
        page = await store.sessions.list_sessions("alice", limit=5, cursor=cursor)
        listed += [session.id for session in page]
        if (cursor := page.next_cursor) is None:
            break
    expected = [f"{when} {number}" for when in ("before", "after") for number in range(5, -1, -1)]
    assert listed == expected
