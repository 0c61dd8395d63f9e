"""Measure an export and its import, compared with COPY of the same rows into the same tables."""

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg

from agentstore import AgentStore, EmbeddedPostgres, Message, Settings, TextContent
from benchmarks.contender import short_messages
from benchmarks.memory import peak, reset_peak, resident, run_in_process

_TABLES = ("users", "sessions", "messages", "memory_buckets", "memories")
_GOAL = 0.95
_FILL = """
INSERT INTO agentstore.users (id) SELECT 'user' || u FROM generate_series(1, $1::int) u;
"""
_SESSIONS = """
INSERT INTO agentstore.sessions (user_id, id, next_seq)
SELECT 'user' || u, 'session' || s, 501 FROM generate_series(1, $1::int) u, generate_series(1, 2) s
"""
_MESSAGES = """
INSERT INTO agentstore.messages (user_id, session_id, seq, id, payload)
SELECT 'user' || u, 'session' || s, m, 'msg_' || md5(u || ' ' || s || ' ' || m), format(
    '{"object":"message","status":"created","id":"%s","type":"message","role":"user","content":['
    '{"object":"content","delta":false,"type":"text","text":"%s"}]}',
    'msg_' || md5(u || ' ' || s || ' ' || m),
    repeat('The quick brown fox \\"jumps\\" over the lazy dog. ', 6) || m)::json
FROM generate_series(1, $1::int) u, generate_series(1, 2) s, generate_series(1, 500) m
"""


async def _fill(url: str, messages: int) -> None:
    connection = await asyncpg.connect(url)
    for sql in (_FILL, _SESSIONS, _MESSAGES):
        await connection.execute(sql, messages // 1_000, timeout=600)
    await connection.close()
    async with AgentStore(url) as store:
        for start in range(0, messages // 10, 1_000):
            messages_to_add = [
                Message(id=each.id, role="user", content=[TextContent(text=each.text)])
                for each in short_messages(start, 1_000)
            ]
            await store.memory.add_memory(f"user{start // 1_000 % 50 + 1}", messages_to_add, "session1")


async def _connect_to_emptied(url: str) -> asyncpg.Connection:
    connection = await asyncpg.connect(url)
    await connection.execute("TRUNCATE agentstore.users CASCADE")
    await connection.execute("CHECKPOINT")
    return connection


async def _copy(url: str, folder: Path) -> float:
    """COPY each table from a file in Postgres's text format. Return the seconds."""
    connection = await _connect_to_emptied(url)
    began = time.perf_counter()
    async with connection.transaction():
        for table in _TABLES:
            await connection.copy_to_table(table, schema_name="agentstore", source=folder / table, timeout=600)
    seconds = time.perf_counter() - began
    await connection.close()
    return seconds


async def _restore(url: str, file: Path) -> float:
    await (await _connect_to_emptied(url)).close()
    async with AgentStore(url) as store:
        began = time.perf_counter()
        with file.open("rb") as stream:
            await store.restore(stream)
        return time.perf_counter() - began


async def _alone(what: str, url: str, file: Path) -> None:
    async with AgentStore(url) as store:
        before = resident()
        reset_peak()
        began = time.perf_counter()
        with file.open("w+b" if what == "export" else "rb") as stream:
            await (store.export(stream) if what == "export" else store.restore(stream))
        seconds = time.perf_counter() - began
    print(json.dumps({"seconds": seconds, "megabytes": peak() / 1e6, "before": before / 1e6}))


async def measure(messages: int, rounds: int, log: Callable[[str], None]) -> dict[str, Any]:
    """Return the rate of an import relative to COPY, and the memory that an export and an import need."""
    report: dict[str, Any] = {"messages": messages, "memories": messages // 10}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "export.jsonl"
        async with EmbeddedPostgres(folder / "one") as one, EmbeddedPostgres(folder / "two") as two:
            for server in (one, two):
                async with AgentStore(server.url, settings=Settings(auto_migrate="upgrade")):
                    pass
            await _fill(one.url, messages)
            report["export"] = done = json.loads(run_in_process("transfer", "--alone", "export", one.url, str(file)))
            size = file.stat().st_size
            log(
                f"-- export of {messages:,} messages and {messages // 10:,} memories ({size / 1e6:,.0f} MB): "
                f"{_describe(done)}"
            )
            source = await asyncpg.connect(one.url)
            for table in _TABLES:
                await source.copy_from_table(table, schema_name="agentstore", output=folder / table, timeout=600)
            await source.close()
            await (await _connect_to_emptied(two.url)).close()
            report["import"] = done = json.loads(run_in_process("transfer", "--alone", "restore", two.url, str(file)))
            log(f"import, with its check of the file: {_describe(done)}")
            ratios = []
            for _ in range(rounds):
                calls = {"copy": lambda: _copy(two.url, folder), "restore": lambda: _restore(two.url, file)}
                found = {name: await calls[name]() for name in random.sample(list(calls), 2)}
                copied, restored = found["copy"], found["restore"]
                ratios.append(copied / restored)
                log(f"COPY {copied:.2f} s, import {restored:.2f} s, {messages / restored:,.0f} messages/s")
            report["ratios"] = ratios
            rate = statistics.median(ratios)
            verdict = "met" if rate >= _GOAL else f"MISSED by {_GOAL / rate - 1:.1%}"
            log(f"import rate relative to COPY: {rate:.2f}; goal >= {_GOAL:.2f}, {verdict}")
    return report


def _describe(done: dict[str, float]) -> str:
    return f"{done['seconds']:.1f} s, {done['megabytes']:.0f} MB at the peak, {done['before']:.0f} MB before"


async def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", nargs=3, metavar=("WHAT", "URL", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        await _alone(options.alone[0], options.alone[1], Path(options.alone[2]))
    else:
        await measure(options.messages, options.rounds, print)


if __name__ == "__main__":
    asyncio.run(_main())
