"""Concurrent writers in several processes, some killed: no acknowledged message is lost, and seq has no gaps."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from agentstore import AgentStore, Conflict, Session, Settings
from agentstore.testing import text

_BUSY = """
SELECT count(*) FROM pg_stat_activity
WHERE state = 'active' AND pid <> pg_backend_pid() AND datname = current_database()
"""
_ROOT = Path(__file__).parents[2]


def _start(settings: Settings, *arguments: object, **options: Any) -> "subprocess.Popen[str]":
    non_defaults = settings.model_dump(exclude_defaults=True, exclude={"migration_database_url"})
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.writer", *map(str, arguments)],
        cwd=_ROOT,
        env={**os.environ, "WRITER_SETTINGS": json.dumps(non_defaults)},
        text=True,
        **options,
    )


def _names(count: int) -> str:
    """Return the names of the processes that `_start` starts."""
    return ",".join(f"p{number}" for number in range(count))


async def _finish(processes: "subprocess.Popen[str]") -> None:
    assert await asyncio.to_thread(processes.wait, 300) == 0


async def _read_ids(observer: asyncpg.Connection, session_id: str) -> list[str]:
    """Return the ids of a session's messages in order; check that seq has no gaps and agrees with the counter."""
    rows = await observer.fetch(
        "SELECT seq, id FROM agentstore.messages WHERE user_id = 'alice' AND session_id = $1 ORDER BY seq", session_id
    )
    assert [row[0] for row in rows] == list(range(1, len(rows) + 1))
    next_seq = await observer.fetchval(
        "SELECT next_seq FROM agentstore.sessions WHERE user_id = 'alice' AND id = $1", session_id
    )
    assert next_seq == len(rows) + 1
    return [row[1] for row in rows]


def _check_order(ids: list[str]) -> None:
    last: dict[str, int] = {}
    for id in ids:
        writer, _, number = id.rpartition("-")
        assert int(number) > last.get(writer, -1)
        last[writer] = int(number)


@pytest.mark.parametrize(
    ("sessions", "tasks", "appends"),
    [
        *((1, 20, 40), (50, 20, 40)),
        *(pytest.param(sessions, 50, 100, marks=pytest.mark.chaos) for sessions in (1, 200)),
    ],
)
async def test_four_processes_of_many_tasks_lose_nothing(
    store: AgentStore,
    observer: asyncpg.Connection,
    database_url: str,
    settings: Settings,
    sessions: int,
    tasks: int,
    appends: int,
) -> None:
    expected = 4 * tasks * appends
    for number in range(sessions):
        await store.sessions.create_session("alice", f"s{number}")
    await _finish(_start(settings, "many", database_url, _names(4), tasks, appends, sessions))
    total = 0
    for number in range(sessions):
        ids = await _read_ids(observer, f"s{number}")
        assert len(ids) == len(set(ids)) == expected // sessions
        _check_order(ids)
        total += len(ids)
    assert total == expected
    assert await observer.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0


@pytest.mark.parametrize("count", [60, pytest.param(300, marks=pytest.mark.chaos)])
async def test_eight_writers_of_the_same_messages_store_each_message_once(
    store: AgentStore, observer: asyncpg.Connection, database_url: str, settings: Settings, count: int
) -> None:
    await store.sessions.create_session("alice", "s0")
    await _finish(_start(settings, "overlapping", database_url, _names(8), count))
    assert sorted(await _read_ids(observer, "s0")) == sorted(f"m{number}" for number in range(count))


@pytest.mark.parametrize("messages", [20, pytest.param(100, marks=pytest.mark.chaos)])
async def test_two_contents_with_one_id_are_never_both_acknowledged(
    store: AgentStore, observer: asyncpg.Connection, messages: int
) -> None:
    await store.sessions.create_session("alice", "s0")
    for number in range(messages):
        results = await asyncio.gather(
            *(
                store.sessions.append_message(
                    Session(id="s0", user_id="alice"), [text(f"by {writer}", id=f"m{number}"), text("own")]
                )
                for writer in range(8)
            ),
            return_exceptions=True,
        )
        assert Counter(map(type, results)) == {type(None): 1, Conflict: 7}
    assert (
        len(await _read_ids(observer, "s0")) == 2 * messages
    )  # two per winner: a batch with a conflict stores nothing


async def _output(processes: "subprocess.Popen[str]") -> list[str]:
    """Return the lines that the processes print, once all have ended with success."""
    output, _ = await asyncio.to_thread(processes.communicate, timeout=300)
    assert processes.returncode == 0
    return output.splitlines()


@pytest.mark.parametrize("count", [200, pytest.param(3_000, marks=pytest.mark.chaos)])
async def test_four_processes_of_many_tasks_pop_each_message_once(
    store: AgentStore, observer: asyncpg.Connection, database_url: str, settings: Settings, count: int
) -> None:
    ids = [f"m{number}" for number in range(count)]
    await store.sessions.append("alice", "s0", [text(id, id=id) for id in ids])
    popped = await _output(_start(settings, "popping", database_url, _names(4), 20, stdout=subprocess.PIPE))
    assert sorted(popped) == sorted(ids)
    assert await observer.fetchval("SELECT count(*) FROM agentstore.messages") == 0


@pytest.mark.parametrize("count", [20, pytest.param(300, marks=pytest.mark.chaos)])
async def test_of_the_appends_of_four_processes_that_expect_one_number_one_succeeds(
    observer: asyncpg.Connection, database_url: str, settings: Settings, count: int
) -> None:
    taken = await _output(_start(settings, "turns", database_url, _names(4), 5, count, stdout=subprocess.PIPE))
    assert sorted(map(int, taken)) == list(range(count))
    assert len(await _read_ids(observer, "s0")) == count


async def test_a_reader_sees_a_prefix_of_the_final_order(store: AgentStore) -> None:
    session = await store.sessions.create_session("alice", "s0")
    reads: list[list[str]] = []

    async def write(writer: int) -> None:
        for number in range(50):
            await store.sessions.append_message(
                Session(id="s0", user_id="alice"), [text("", id=f"{writer}-{number}-{part}") for part in range(3)]
            )

    async def read() -> None:
        while len(reads) < 60:
            found = await store.sessions.get_session("alice", "s0")
            assert found is not None
            reads.append([message.id for message in found.messages])

    await asyncio.gather(*(write(writer) for writer in range(6)), read(), read())
    found = await store.sessions.get_session("alice", session.id)
    assert found is not None
    final = [message.id for message in found.messages]
    assert len(final) == 900
    assert all(seen == final[: len(seen)] for seen in reads)


@pytest.mark.parametrize("kills", [(3, 3, 2), pytest.param((17, 17, 16), marks=pytest.mark.chaos)], ids=sum)
async def test_killed_writers_lose_nothing_acknowledged_and_leave_no_partial_batch(
    store: AgentStore, observer: asyncpg.Connection, database_url: str, settings: Settings, kills: tuple[int, ...]
) -> None:
    await store.sessions.create_session("alice", "s0")

    lanes = [
        _start(settings, "killed", database_url, lane, times, stdout=subprocess.PIPE)
        for lane, times in enumerate(kills)
    ]
    printed = await asyncio.gather(*(asyncio.to_thread(lane.communicate) for lane in lanes))
    assert [lane.returncode for lane in lanes] == [0, 0, 0]
    acknowledged = [line.split() for lines, _ in printed for line in lines.splitlines()]
    assert len({name for name, _, _ in acknowledged}) == sum(kills)
    async with asyncio.timeout(60):  # for statements that killed writers have sent
        while await observer.fetchval(_BUSY):
            await asyncio.sleep(0.05)
    ids = await _read_ids(observer, "s0")
    stored = set(ids)
    for name, number, size in acknowledged:
        assert {f"{name}-{number}-{part}-{size}" for part in range(int(size))} <= stored
    batches = Counter((id.rsplit("-", 2)[0], id.rsplit("-", 1)[1]) for id in ids)
    assert all(count == int(size) for (_, size), count in batches.items())
