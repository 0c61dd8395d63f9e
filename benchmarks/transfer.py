"""``python -m benchmarks.transfer``: an export and its import, beside COPY of the same rows into the same tables."""

import argparse
import asyncio
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import asyncpg

from agentstore import AgentStore, EmbeddedPostgres, Settings

_TABLES = ("users", "sessions", "messages")
_FILL = """
INSERT INTO agentstore.users (id) SELECT 'user' || u FROM generate_series(1, $1::int) u;
"""
_SESSIONS = """
INSERT INTO agentstore.sessions (user_id, id, next_seq)
SELECT 'user' || u, 'session' || s, 501 FROM generate_series(1, $1::int) u, generate_series(1, 2) s
"""
_MESSAGES = """
INSERT INTO agentstore.messages (user_id, session_id, seq, id, payload)
SELECT 'user' || u, 'session' || s, m, 'msg_' || md5(u || ' ' || s || ' ' || m), json_build_object(
    'object', 'message', 'status', 'created', 'id', 'msg_' || md5(u || ' ' || s || ' ' || m), 'type', 'message',
    'role', 'user', 'content', json_build_array(json_build_object('object', 'content', 'type', 'text', 'delta', false,
    'text', repeat('The quick brown fox "jumps" over the lazy dog. ', 6) || m)))
FROM generate_series(1, $1::int) u, generate_series(1, 2) s, generate_series(1, 500) m
"""


async def _fill(url: str, messages: int) -> None:
    connection = await asyncpg.connect(url)
    for sql in (_FILL, _SESSIONS, _MESSAGES):
        await connection.execute(sql, messages // 1_000, timeout=600)
    await connection.close()


async def _emptied(url: str) -> asyncpg.Connection:
    connection = await asyncpg.connect(url)
    await connection.execute("TRUNCATE agentstore.users CASCADE")
    await connection.execute("CHECKPOINT")
    return connection


async def _raw(url: str, folder: Path) -> float:
    """COPY each table from a file in Postgres's own format."""
    connection = await _emptied(url)
    began = time.perf_counter()
    async with connection.transaction():
        for table in _TABLES:
            await connection.copy_to_table(table, schema_name="agentstore", source=folder / table, timeout=600)
    seconds = time.perf_counter() - began
    await connection.close()
    return seconds


async def _restore(url: str, file: Path) -> float:
    await (await _emptied(url)).close()
    async with AgentStore(url) as store:
        began = time.perf_counter()
        with file.open("rb") as stream:
            await store.restore(stream)
        return time.perf_counter() - began


def _in_a_process(*arguments: str) -> str:
    """Run a part of this in a process of its own, whose memory says what that part needs."""
    command = [sys.executable, "-m", "benchmarks.transfer", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603


async def _alone(what: str, url: str, file: Path) -> None:
    async with AgentStore(url) as store:
        began = time.perf_counter()
        with file.open("w+b" if what == "export" else "rb") as stream:
            await (store.export(stream) if what == "export" else store.restore(stream))
        seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1_000
    print(f"{seconds:.1f} s, at most {peak} MB in memory")


async def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", nargs=3, metavar=("WHAT", "URL", "FILE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        await _alone(given.alone[0], given.alone[1], Path(given.alone[2]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "export.jsonl"
        async with EmbeddedPostgres(folder / "one") as one, EmbeddedPostgres(folder / "two") as two:
            for server in (one, two):
                async with AgentStore(server.url, settings=Settings(auto_migrate="upgrade")):
                    pass
            await _fill(one.url, given.messages)
            done = _in_a_process("--alone", "export", one.url, str(file)).strip()
            print(f"export of {given.messages:,} messages ({file.stat().st_size / 1e6:,.0f} MB): {done}", flush=True)
            source = await asyncpg.connect(one.url)
            for table in _TABLES:
                await source.copy_from_table(table, schema_name="agentstore", output=folder / table, timeout=600)
            await source.close()
            await (await _emptied(two.url)).close()
            done = _in_a_process("--alone", "restore", two.url, str(file)).strip()
            print(f"import of it, its check included: {done}", flush=True)
            ratios = []
            for _ in range(given.rounds):
                calls = {"raw": lambda: _raw(two.url, folder), "ours": lambda: _restore(two.url, file)}
                found = {name: await calls[name]() for name in random.sample(list(calls), 2)}
                raw, ours = found["raw"], found["ours"]
                ratios.append(raw / ours)
                print(f"COPY {raw:.1f} s, import {ours:.1f} s, {given.messages / ours:,.0f} messages/s", flush=True)
            print(f"the import's rate to COPY's: {statistics.median(ratios):.2f} (goal 0.90)")


if __name__ == "__main__":
    asyncio.run(main())
