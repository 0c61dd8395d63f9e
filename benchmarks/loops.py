"""Measure what calls cost in short event loops, relative to the same calls in one loop.

Both take turns, run by run, each with a store of its own, and with an ``asyncio.run`` that does nothing: the floor of
a run. A run of ``asyncio.run`` consists of the calls that are awaited in it, what asyncio does to begin and end an
event loop, and what the store does to begin and end its pool. That begins in the first call, so that it counts as part
of the calls, and ends with the loop.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg

from agentstore import AgentStore, Message, migrate
from benchmarks.contender import TEXT
from benchmarks.runner import server

_CALLS = (1, 3, 10, 30)
# The highest time of a run's call, relative to one loop's, in runs of ten calls. In those with fewer, the loop itself
# counts: asyncio creates and closes it.
_GOAL = 1.3
_GOAL_CALLS = 10

Work = Callable[[AgentStore, int], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Spent:
    """What a run has taken, in milliseconds."""

    run: float
    calls: float
    """The part in which its calls were awaited."""
    cpu: float
    """The processor time of the process."""


async def _get(store: AgentStore, count: int) -> None:
    for _ in range(count):
        session = await store.sessions.get_session("alice", "read", limit=10)
        assert session is not None and len(session.messages) == 10  # noqa: PT018


async def _append(store: AgentStore, count: int) -> None:
    for _ in range(count):
        await store.sessions.append("alice", "written", Message.user(TEXT))


async def _nothing(_: AgentStore, __: int) -> None:
    pass


def _spend(run: Callable[..., Any], work: Work, store: AgentStore, count: int) -> Spent:
    calls = 0.0

    async def timed() -> None:
        nonlocal calls
        began = time.perf_counter()
        await work(store, count)
        calls = time.perf_counter() - began

    began, spent = time.perf_counter(), time.process_time()
    run(timed())
    return Spent((time.perf_counter() - began) * 1e3, calls * 1e3, (time.process_time() - spent) * 1e3)


def _medians(spent: list[Spent]) -> Spent:
    return Spent(*(statistics.median(getattr(each, name) for each in spent) for name in ("run", "calls", "cpu")))


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
                short: list[Spent] = []
                long: list[Spent] = []
                empty: list[Spent] = []
                for _ in range(runs):
                    short.append(_spend(asyncio.run, work, many, count))
                    long.append(_spend(runner.run, work, one, count))
                    empty.append(_spend(asyncio.run, _nothing, many, 0))
                ratio = statistics.median(a.run / b.run for a, b in zip(short, long, strict=True))
                awaited = statistics.median(a.calls / b.calls for a, b in zip(short, long, strict=True))
                ours = statistics.median(a.cpu - b.cpu - c.cpu for a, b, c in zip(short, long, empty, strict=True))
                report.append(
                    {
                        "name": name,
                        "calls": count,
                        "run_ms": _medians(short).run,
                        "calls_ms": _medians(short).calls,
                        "one_ms": _medians(long).run,
                        "empty_ms": _medians(empty).run,
                        "ours_cpu_ms": ours,
                        "calls_ratio": awaited,
                        "ratio": ratio,
                        "goal": _GOAL if count == _GOAL_CALLS else None,
                    }
                )
        written = runner.run(one.sessions.get_session("alice", "written"))
        expected = 20 + 10 + 2 * runs * sum(_CALLS)
        if written is None or len(written.messages) != expected:
            raise RuntimeError(f"expected {expected} messages, found {written and len(written.messages)}")
        runner.run(one.stop())
    asyncio.run(many.stop())
    return report


async def measure(url: str | None, log: Callable[[str], None], *, quick: bool) -> list[dict[str, Any]]:
    """Return, for each call and number of calls in a run, the milliseconds of a run and its parts, and the ratios.

    The report's ``ratio`` is that of the whole run to the same calls in one loop, and ``calls_ratio`` that of the
    awaited calls alone. ``ours_cpu_ms`` is the processor time of a run beyond that of the calls in one loop and of an
    empty run.
    """
    async with server(url) as (first, url_of):
        admin = await asyncpg.connect(first)
        await admin.execute('DROP DATABASE IF EXISTS "loops" WITH (FORCE)')
        await admin.execute('CREATE DATABASE "loops"')
        await migrate.upgrade(url_of("loops"))
        report = await asyncio.to_thread(_measure, url_of("loops"), 40 if quick else 120)
        await admin.execute('DROP DATABASE "loops" WITH (FORCE)')
        await admin.close()
    columns = ("run ms", "its calls", "one loop", "empty run", "our CPU")
    log(f"{'calls by asyncio.run':22}" + "".join(f" {each:>10}" for each in columns) + "   run, its calls: ratio, goal")
    for each in report:
        goal = "" if each["goal"] is None else f", {each['goal']:.2f}"
        missed = "  MISSED" if goal and each["ratio"] > each["goal"] else ""
        ms = (each[name] for name in ("run_ms", "calls_ms", "one_ms", "empty_ms", "ours_cpu_ms"))
        log(
            f"{each['name'] + ', ' + str(each['calls']) + ' a run':22}"
            + "".join(f" {value:10.3f}" for value in ms)
            + f"   {each['ratio']:.2f}, {each['calls_ratio']:.2f}{goal}{missed}"
        )
    return report
