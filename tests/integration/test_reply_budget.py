"""A reply that is larger than the budget of a call is not loaded."""

import asyncio
import tracemalloc

import pytest

from agentstore import AgentStore, LimitExceeded, Settings
from agentstore.testing import text


async def test_a_reply_over_the_budget_is_not_loaded(database_url: str, settings: Settings) -> None:
    async with AgentStore(database_url, settings=settings) as store:
        session = await store.sessions.create_session("alice", "s")
        for _ in range(10):
            await store.sessions.append_message(session, text("x" * 2_000_000))
    small = settings.model_copy(update={"max_reply_bytes": 3_000_000, "pool_size": 2})
    async with AgentStore(database_url, settings=small) as store:
        await store.sessions.get_session("alice", "s", limit=1)
        tracemalloc.start()
        try:
            with pytest.raises(LimitExceeded):
                await store.sessions.get_session("alice", "s")
            assert tracemalloc.get_traced_memory()[1] < 3 * 3_000_000
        finally:
            tracemalloc.stop()


async def test_calls_beside_a_reply_over_the_budget_succeed(database_url: str, settings: Settings) -> None:
    small = settings.model_copy(update={"max_reply_bytes": 100_000, "pool_size": 2})
    async with AgentStore(database_url, settings=small) as store:
        session = await store.sessions.create_session("alice", "s")
        for _ in range(3):
            await store.sessions.append_message(session, text("x" * 40_000))
        await store.memory.add_memory("alice", text("zebra"))
        calls = [
            call
            for _ in range(10)
            for call in (
                store.sessions.get_session("alice", "s"),
                store.sessions.get_session("alice", "s", limit=2),
                store.memory.list_memory("alice"),
            )
        ]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(each) for each in results[0::3]} == {LimitExceeded}
        for each in (*results[1::3], *results[2::3]):
            assert not isinstance(each, BaseException), each
        assert store._database.checked_out() == 0


async def test_a_canceled_call_leaves_its_budget_to_the_next_one(database_url: str, settings: Settings) -> None:
    small = settings.model_copy(update={"max_reply_bytes": 1_000_000, "pool_size": 1})
    async with AgentStore(database_url, settings=small) as store:
        session = await store.sessions.create_session("alice", "s")
        for _ in range(4):
            await store.sessions.append_message(session, text("x" * 200_000))
        for _ in range(5):
            canceled = asyncio.create_task(store.sessions.get_session("alice", "s"))
            await asyncio.sleep(0)
            canceled.cancel()
            await asyncio.wait([canceled])
            found = await store.sessions.get_session("alice", "s")
            assert found is not None
            assert len(found.messages) == 4
