"""Measure what calls cost in short event loops, relative to the same calls in one loop.

Both take turns, run by run, each with a store of its own.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg

from agentstore import AgentStore, Message, migrate
from benchmarks.contender import TEXT
from benchmarks.runner import server

_CALLS = (1, 3, 10, 30)
# The highest ratio, of runs with ten calls. In those with fewer, the loop itself counts: asyncio creates and closes it.
_GOAL = 1.3
_GOAL_CALLS = 10

Work = Callable[[AgentStore, int], Awaitable[None]]


async def _get(store: AgentStore, count: int) -> None:
    for _ in range(count):
        session = await store.sessions.get_session("alice", "read", limit=10)
        assert session is not None and len(session.messages) == 10  # noqa: PT018


async def _append(store: AgentStore, count: int) -> None:
    for _ in range(count):
        await store.sessions.append("alice", "written", Message.user(TEXT))


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _measure(url: str, runs: int) -> list[dict[str, Any]]:
    report: list[dict[str, Any]] = []
    one, many = AgentStore(url), AgentStore(url)

    async def prepare() -> None:
        await one.sessions.append("alice", "read", [Message.user(TEXT) for _ in range(10)])
        await _get(one, 20)
        await _append(one, 20)

    calls: list[tuple[str, Work]] = [("get 10", _get), ("append 1", _append)]
    with asyncio.Runner() as runner:
        runner.run(prepare())
        for _, work in calls * 2:
            asyncio.run(work(many, 5))  # type: ignore[arg-type]
        for name, work in calls:
            for count in _CALLS:
                pairs = [
                    (
                        _seconds(lambda work=work, count=count: asyncio.run(work(many, count))),  # type: ignore[misc]
                        _seconds(lambda work=work, count=count: runner.run(work(one, count))),  # type: ignore[misc]
                    )
                    for _ in range(runs)
                ]
                short, long = (statistics.median(seconds) / count for seconds in zip(*pairs, strict=True))
                goal = _GOAL if count == _GOAL_CALLS else None
                found = {"name": name, "calls": count, "ms": short * 1e3, "one_ms": long * 1e3, "ratio": short / long}
                report.append({**found, "goal": goal})
        written = runner.run(one.sessions.get_session("alice", "written"))
        expected = 20 + 10 + 2 * runs * sum(_CALLS)
        if written is None or len(written.messages) != expected:
            raise RuntimeError(f"expected {expected} messages, found {written and len(written.messages)}")
        runner.run(one.stop())
    asyncio.run(many.stop())
    return report


async def measure(url: str | None, log: Callable[[str], None], *, quick: bool) -> list[dict[str, Any]]:
    """Return, for each call and number of calls in a run, the milliseconds of a call and the ratio."""
    async with server(url) as (first, url_of):
        admin = await asyncpg.connect(first)
        await admin.execute('DROP DATABASE IF EXISTS "loops" WITH (FORCE)')
        await admin.execute('CREATE DATABASE "loops"')
        await migrate.upgrade(url_of("loops"))
        report = await asyncio.to_thread(_measure, url_of("loops"), 15 if quick else 60)
        await admin.execute('DROP DATABASE "loops" WITH (FORCE)')
        await admin.close()
    log(f"{'calls by asyncio.run':22} {'ms':>10} {'one loop':>10}   ratio, goal")
    for each in report:
        goal = "" if each["goal"] is None else f", {each['goal']:.2f}"
        missed = "  MISSED" if goal and each["ratio"] > each["goal"] else ""
        name = f"{each['name']}, {each['calls']} a run"
        log(f"{name:22} {each['ms']:10.3f} {each['one_ms']:10.3f}   {each['ratio']:.2f}{goal}{missed}")
    return report
