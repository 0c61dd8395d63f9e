"""Measure searches under load: many clients search while others append messages and add memories."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any

import asyncpg

from agentstore import AgentStore, Message, Settings, TextContent
from benchmarks.contender import short_messages
from benchmarks.runner import server

_SEARCHERS = 32
_TURNS_PER_SECOND = 50
# Name, number of clients, and whether there are turns at the same time.
_SCENARIOS = (
    ("one client", 1, False),
    (f"{_SEARCHERS} clients", _SEARCHERS, False),
    (f"{_SEARCHERS} clients and {_TURNS_PER_SECOND} turns per second", _SEARCHERS, True),
)
_APPEND = "append_message at the same time"


async def measure(url: str | None, log: Callable[[str], None], *, quick: bool) -> dict[str, Any]:
    """Return percentiles of a search in milliseconds: with one client, with 32, and with 32 and 50 turns per second.

    Each of 32 users has 1,000 memories, and each client searches those of a different user. A turn appends a message to
    a session and adds it to memory, as a turn of an agent does.
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
                messages = [_message(user * memories + number) for number in range(memories)]
                await store.memory.add_memory(f"u{user}", messages, "s")
                sessions.append(await store.sessions.create_session(f"u{user}", "s"))
            await asyncio.sleep(1)

            async def search(user: int, until: float, times: list[float]) -> None:
                rng = random.Random(user)
                while (began := time.perf_counter()) < until:
                    question = _message(user * memories + rng.randrange(memories))
                    hits = await store.memory.search_memory(f"u{user}", question)
                    assert hits, "every search must find something"
                    times.append((time.perf_counter() - began) * 1000)

            async def append(until: float, times: list[float]) -> None:
                """Start turns at a fixed rate, however long they take."""
                rng = random.Random(0)
                pending: set[asyncio.Task[None]] = set()
                due = time.perf_counter()
                while due < until:
                    await asyncio.sleep(max(0.0, due - time.perf_counter()))
                    pending.add(asyncio.create_task(turn(rng.randrange(_SEARCHERS), times)))
                    due += 1 / _TURNS_PER_SECOND
                await asyncio.gather(*pending)

            async def turn(user: int, times: list[float]) -> None:
                began = time.perf_counter()
                message = _message(random.randrange(10**9))
                await store.sessions.append_message(sessions[user], message)
                times.append((time.perf_counter() - began) * 1000)
                await store.memory.add_memory(f"u{user}", message, "s")

            report: dict[str, Any] = {"searchers": _SEARCHERS, "memories_each": memories}
            for name, searchers, appends in _SCENARIOS:
                searched: list[float] = []
                appended: list[float] = []
                until = time.perf_counter() + seconds
                work = [search(user, until, searched) for user in range(searchers)]
                await asyncio.gather(*work, *([append(until, appended)] if appends else []))
                searched.sort()
                report[name] = {"searches_per_second": len(searched) / seconds, **_percentiles(searched)}
                line = f"search, {name:37} {len(searched) / seconds:7.0f}/s  p50 {report[name]['p50']:.1f} ms  "
                log(f"{line}p95 {report[name]['p95']:.1f} ms")
                if appended:
                    appended.sort()
                    report[_APPEND] = _percentiles(appended)
                    p50, p95 = report[_APPEND].values()
                    log(f"{_APPEND}, {len(appended) / seconds:.0f}/s: p50 {p50:.1f} ms  p95 {p95:.1f} ms")
        await admin.execute('DROP DATABASE "searching" WITH (FORCE)')
        await admin.close()
    return report


def _percentiles(ordered: list[float]) -> dict[str, float]:
    return {"p50": ordered[len(ordered) // 2], "p95": ordered[int(len(ordered) * 0.95)]}


def _message(number: int) -> Message:
    (message,) = short_messages(number, 1)
    return Message(role="user", content=[TextContent(text=message.text)])
