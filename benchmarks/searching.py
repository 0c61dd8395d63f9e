"""Search under load: many who search while others append and add, as a busy deployment has it."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import asyncpg

from agentstore import AgentStore, Message, Settings, TextContent
from benchmarks.contender import remember
from benchmarks.runner import server

_SEARCHERS = 32
_APPENDS_PER_SECOND = 50


async def measure(url: str | None, log: Callable[[str], None], *, quick: bool) -> dict[str, Any]:
    """Return the milliseconds of a search: alone, among 32 at once, and among them while 50 appends a second come.

    Each of 32 users has 1,000 memories, and each searcher asks for another one's. An append goes to a session and to
    memory, as an agent's turn does.
    """
    seconds = 2 if quick else 30
    memories = 300 if quick else 1_000
    async with server(url) as (first, url_of):
        admin = await asyncpg.connect(first)
        await admin.execute('DROP DATABASE IF EXISTS "searching" WITH (FORCE)')
        await admin.execute('CREATE DATABASE "searching"')
        async with AgentStore(url_of("searching"), settings=Settings(auto_migrate="upgrade")) as store:
            sessions = []
            for user in range(_SEARCHERS):
                said = [_message(user * memories + number) for number in range(memories)]
                await store.memory.add_memory(f"u{user}", said, "s")
                sessions.append(await store.sessions.create_session(f"u{user}", "s"))
            await asyncio.sleep(1)

            async def search(user: int, until: float, times: list[float]) -> None:
                rng = random.Random(user)
                while (began := time.perf_counter()) < until:
                    question = _message(user * memories + rng.randrange(memories))
                    hits = await store.memory.search_memory(f"u{user}", question)
                    assert hits, "every question has an answer"
                    times.append((time.perf_counter() - began) * 1000)

            async def append(until: float, times: list[float]) -> None:
                """At a fixed rate, whatever the answers take."""
                rng = random.Random(0)
                pending: set[asyncio.Task[None]] = set()
                due = time.perf_counter()
                while due < until:
                    await asyncio.sleep(max(0.0, due - time.perf_counter()))
                    pending.add(asyncio.create_task(turn(rng.randrange(_SEARCHERS), times)))
                    due += 1 / _APPENDS_PER_SECOND
                await asyncio.gather(*pending)

            async def turn(user: int, times: list[float]) -> None:
                began = time.perf_counter()
                message = _message(random.randrange(10**9))
                await store.sessions.append_message(sessions[user], message)
                times.append((time.perf_counter() - began) * 1000)
                await store.memory.add_memory(f"u{user}", message, "s")

            report: dict[str, Any] = {"searchers": _SEARCHERS, "memories_each": memories}
            for name, searchers, appends in (("alone", 1, False), ("32 at once", 32, False), ("and appends", 32, True)):
                searched: list[float] = []
                appended: list[float] = []
                until = time.perf_counter() + seconds
                work = [search(user, until, searched) for user in range(searchers)]
                await asyncio.gather(*work, *([append(until, appended)] if appends else []))
                searched.sort()
                report[name] = {"searches_per_second": len(searched) / seconds, **_percentiles(searched)}
                line = f"search, {name:12} {len(searched) / seconds:7.0f}/s  p50 {report[name]['p50']:.1f} ms  "
                log(f"{line}p95 {report[name]['p95']:.1f} ms")
                if appended:
                    appended.sort()
                    report["append meanwhile"] = _percentiles(appended)
                    p50, p95 = report["append meanwhile"].values()
                    log(f"append meanwhile, {len(appended) / seconds:.0f}/s: p50 {p50:.1f} ms  p95 {p95:.1f} ms")
        await admin.execute('DROP DATABASE "searching" WITH (FORCE)')
        await admin.close()
    return report


def _percentiles(ordered: list[float]) -> dict[str, float]:
    return {"p50": ordered[len(ordered) // 2], "p95": ordered[int(len(ordered) * 0.95)]}


def _message(number: int) -> Message:
    (said,) = remember(number, 1)
    return Message(role="user", content=[TextContent(text=said.text)])
