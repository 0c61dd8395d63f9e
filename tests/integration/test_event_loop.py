"""The event loop runs while large messages, states and texts are written, read and searched."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from agentstore import AgentStore, Settings
from agentstore.testing import text
from tests.support.heartbeat import longest_gap

pytestmark = pytest.mark.slow

_LIGATURE = "\ufdfa"  # normalized to 18 characters


async def check(call: Callable[[], Awaitable[Any]], share: float) -> None:
    """Run a call, and check that no gap in which the event loop did not run is a larger share of its CPU time."""
    took, gap = await longest_gap(call)
    assert gap <= took * share, f"{gap:.3f} s of {took:.3f} s"


def with_list(entries: int) -> dict[str, Any]:
    return {**text("zebra").model_dump(), "metadata": {"a": [0] * entries}}


async def run_all(store: AgentStore, entries: int, characters: int, hits: int, entries_of_hits: int) -> None:
    """Run the calls with a list of `entries`, a text of `characters`, and a search with as many large hits."""
    listed = with_list(entries)
    session = await store.sessions.create_session("alice", "s")
    await check(lambda: store.sessions.append_message(session, listed), 1 / 3)
    await check(lambda: store.sessions.get_session("alice", "s"), 1 / 2)
    await check(lambda: store.memory.add_memory("alice", listed, "s"), 1 / 3)
    await check(lambda: store.memory.search("alice", "zebra"), 1 / 2)
    await check(lambda: store.states.save_state("alice", {"a": [0] * entries}, "s"), 1 / 3)
    await check(lambda: store.states.export_state("alice", "s"), 1 / 2)
    await check(lambda: store.memory.add_memory("alice", text(_LIGATURE * characters)), 1 / 2)
    await store.memory.delete_memory("alice")
    for start in range(0, hits, 20):
        await store.memory.add_memory("alice", [with_list(entries_of_hits) for _ in range(start, start + 20)], "h")
    await check(lambda: store.memory.search("alice", "zebra", {"top_k": hits}), 1 / 2)


async def test_the_event_loop_runs_during_large_calls(database_url: str, settings: Settings) -> None:
    async with AgentStore(database_url, settings=settings) as store:
        await run_all(store, entries=1_000_000, characters=100_000, hits=40, entries_of_hits=40_000)


@pytest.mark.chaos
async def test_the_event_loop_runs_during_the_largest_calls(database_url: str, settings: Settings) -> None:
    async with AgentStore(database_url, settings=settings) as store:
        await run_all(store, entries=10_000_000, characters=200_000, hits=1_000, entries_of_hits=10_000)
        session = await store.sessions.create_session("alice", "large")
        large = text("lorem ipsum " * 2_500_000)
        await check(lambda: store.sessions.append_message(session, large), 1 / 2)
        await check(lambda: store.sessions.get_session("alice", "large"), 1 / 2)


async def test_concurrent_large_calls_leave_nothing_behind(database_url: str, settings: Settings) -> None:
    async with AgentStore(database_url, settings=settings) as store:
        sessions = [await store.sessions.create_session("alice", str(number)) for number in range(4)]
        given = [{**text("x").model_dump(), "metadata": {"a": [number] * 150_000}} for number in range(4)]
        await asyncio.gather(
            *(store.sessions.append_message(session, message) for session, message in zip(sessions, given, strict=True))
        )
        found = await asyncio.gather(*(store.sessions.get_session("alice", session.id) for session in sessions))
        for number, session in enumerate(found):
            assert session is not None
            assert session.messages[0].metadata == {"a": [number] * 150_000}
