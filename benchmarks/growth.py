"""Measure how each call scales with the length of a session, the size of a table and the memories of other users.

Each size has its own database on one server. The calls are made on all of them in turn, so that a ratio compares times
of the same minute.
"""

import itertools
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import asyncpg

from agentstore import AgentStore, Message, Session, Settings, TextContent
from agentstore.search import ranking
from benchmarks.contender import TEXT, short_messages
from benchmarks.runner import server

Call = Callable[[], Awaitable[object]]
Log = Callable[[str], None]

_SESSION_LENGTH = 100  # messages of each session, where the table is filled
_USERS = "INSERT INTO agentstore.users (id) SELECT 'u' || u FROM generate_series(0, $1::int - 1) u"
_SESSIONS = """
INSERT INTO agentstore.sessions (user_id, id, next_seq)
SELECT 'u' || s % $1::int, 's' || s, $3::int + 1 FROM generate_series(0, $2::int - 1) s
"""
_MESSAGES = """
INSERT INTO agentstore.messages (user_id, session_id, seq, id, payload)
SELECT 'u' || s % $1::int, 's' || s, m, 'msg_' || md5(s || ' ' || m), json_build_object(
    'object', 'message', 'status', 'created', 'id', 'msg_' || md5(s || ' ' || m), 'type', 'message', 'role', 'user',
    'content', json_build_array(json_build_object('object', 'content', 'type', 'text', 'delta', false,
    'text', $4::text || m)))
FROM generate_series($2::int, $3::int - 1) s, generate_series(1, $5::int) m
"""
_MEMORIES = """
WITH new_memories AS MATERIALIZED (SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[]) AS g(u, s, l)),
users AS (INSERT INTO agentstore.users (id) SELECT DISTINCT u FROM new_memories ON CONFLICT DO NOTHING RETURNING 1),
buckets AS (
    INSERT INTO agentstore.memory_buckets (user_id, session_id, count, tokens)
    SELECT u, 's', count(*), count(*) * 9 FROM new_memories, (SELECT count(*) FROM users) AS first GROUP BY u
    ON CONFLICT (user_id, session_id) DO UPDATE SET count = memory_buckets.count + excluded.count RETURNING 1
)
INSERT INTO agentstore.memories (user_id, session_id, seq, id, payload, is_question, tokens, lexemes, analysis)
SELECT u, 's', s, 'm' || s, '{"role": "user"}', false, 9, l::tsvector, 'floor'
FROM new_memories, (SELECT count(*) FROM buckets) AS second
"""


async def measure(url: str | None, large: int, log: Log, *, quick: bool) -> list[dict[str, Any]]:
    """Return the median time of each call at each size in milliseconds, and its ratio to the smallest size."""
    lengths = [10, 1_000] if quick else [10, 1_000, 100_000, 1_000_000]
    rows = [1_000, 100_000] if quick else [1_000, 100_000, large]
    memories = [1_000, 10_000] if quick else [1_000, 100_000, 1_000_000]
    rounds = 4 if quick else 60
    found = []
    async with server(url) as (first, url_of):
        admin = await asyncpg.connect(first)
        for name, sizes, fill, calls in (
            ("messages in the session", lengths, _fill_session, _calls_of_session),
            ("messages in the table", rows, _fill_table, _calls_of_table),
            ("memories of other users", memories, _fill_memories, _calls_of_memories),
        ):
            log(f"-- {name}: {', '.join(f'{size:,}' for size in sizes)}; ms, and the ratio to the smallest size")
            async with AsyncExitStack() as stack:
                by_size = {}
                for size in sizes:
                    database = f"grown_{size}"
                    await admin.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')
                    await admin.execute(f'CREATE DATABASE "{database}"')
                    settings = Settings(auto_migrate="upgrade")
                    store = await stack.enter_async_context(AgentStore(url_of(database), settings=settings))
                    connection = await asyncpg.connect(url_of(database))
                    await connection.execute(
                        "SET session_replication_role = replica"
                    )  # skips foreign key checks: the rows are consistent
                    began = time.perf_counter()
                    await fill(connection, size)
                    await connection.execute("VACUUM ANALYZE", timeout=3600)
                    await connection.close()
                    if size >= 100_000:
                        log(f"   filled with {size:,} in {time.perf_counter() - began:.0f} s")
                    by_size[size] = await calls(store, size)
                await admin.execute("CHECKPOINT", timeout=600)
                for result in await _in_turn(by_size, rounds):
                    result["grows"] = name
                    found.append(result)
                    cells = [
                        f"{ms:.3f} ({ratio:.2f})" for ms, ratio in zip(result["ms"], result["ratios"], strict=True)
                    ]
                    log(f"{result['call']:36} {'  '.join(f'{cell:>16}' for cell in cells)}")
            for size in sizes:
                await admin.execute(f'DROP DATABASE "grown_{size}" WITH (FORCE)')
        await admin.close()
    return found


async def _in_turn(by_size: dict[int, dict[str, Call]], rounds: int) -> list[dict[str, Any]]:
    sizes = list(by_size)
    results = []
    for name in by_size[sizes[0]]:
        times: dict[int, list[float]] = {size: [] for size in sizes}
        for _ in range(3):
            for size in sizes:
                await by_size[size][name]()
        for _ in range(rounds):
            for size in random.sample(sizes, len(sizes)):
                for _ in range(5):
                    began = time.perf_counter()
                    await by_size[size][name]()
                    times[size].append((time.perf_counter() - began) * 1000)
        ms = [statistics.median(times[size]) for size in sizes]
        results.append({"call": name, "sizes": sizes, "ms": ms, "ratios": [each / ms[0] for each in ms]})
    return results


async def _fill_session(connection: asyncpg.Connection, size: int) -> None:
    await connection.execute(_USERS, 1)
    await connection.execute(_SESSIONS, 1, 1, size)
    await connection.execute(_MESSAGES, 1, 0, 1, TEXT, size, timeout=3600)
    await connection.execute(
        "INSERT INTO agentstore.state_heads (user_id, session_id, next_round, last_round) "
        "VALUES ('u0', 's0', $1 + 1, $1)",
        size,
    )
    await connection.execute(
        "INSERT INTO agentstore.state_rounds (user_id, session_id, round, payload, size) "
        "SELECT 'u0', 's0', r, '{\"n\": 1}', 8 FROM generate_series(1, $1::int) r",
        size,
        timeout=3600,
    )


async def _calls_of_session(store: AgentStore, size: int) -> dict[str, Call]:
    session = Session(id="s0", user_id="u0")
    last = await store.sessions.get_session("u0", "s0", limit=1)
    assert last is not None
    middle = await store.sessions.get_session("u0", "s0", limit=max(1, min(size, 10_000) // 2))
    assert middle is not None
    before = middle.messages[0].id
    return {
        "append 1": lambda: store.sessions.append_message(session, _message()),
        "append 100": lambda: store.sessions.append_message(session, [_message() for _ in range(100)]),
        "get the last 10": lambda: store.sessions.get_session("u0", "s0", limit=10),
        "get 10 before a message": lambda: store.sessions.get_session("u0", "s0", limit=10, before=before),
        "iter_messages, first message": lambda: anext(store.sessions.iter_messages("u0", "s0", batch=10)),
        "list_sessions": lambda: store.sessions.list_sessions("u0"),
        "save_state": lambda: store.states.save_state("u0", {"n": 1}, "s0"),
        "export_state": lambda: store.states.export_state("u0", "s0"),
        "list_states, limit 10": lambda: store.states.list_states("u0", "s0", limit=10),
    }


async def _fill_table(connection: asyncpg.Connection, size: int) -> None:
    sessions = size // _SESSION_LENGTH
    users = max(1, sessions // 10)
    await connection.execute(_USERS, users)
    await connection.execute(_SESSIONS, users, sessions, _SESSION_LENGTH, timeout=3600)
    for start in range(0, sessions, 1_000):
        end = min(start + 1_000, sessions)
        await connection.execute(_MESSAGES, users, start, end, TEXT, _SESSION_LENGTH, timeout=3600)


async def _calls_of_table(store: AgentStore, size: int) -> dict[str, Call]:
    sessions = size // _SESSION_LENGTH
    users = max(1, sessions // 10)
    rng = random.Random(size)

    def random_key() -> tuple[str, str]:
        number = rng.randrange(sessions)
        return f"u{number % users}", f"s{number}"

    def random_session() -> Session:
        user_id, id = random_key()
        return Session(id=id, user_id=user_id)

    return {
        "append 1, random session": lambda: store.sessions.append_message(random_session(), _message()),
        "get the last 10, random session": lambda: store.sessions.get_session(*random_key(), limit=10),
        "get all, random session": lambda: store.sessions.get_session(*random_key()),
        "list_sessions, random user": lambda: store.sessions.list_sessions(random_key()[0]),
        "create_session, random user": lambda: store.sessions.create_session(random_key()[0]),
        "create and delete a session of 1 message": lambda: _create_and_delete(store, random_key()[0]),
    }


async def _create_and_delete(store: AgentStore, user_id: str) -> None:
    session = await store.sessions.create_session(user_id)
    await store.sessions.append_message(session, _message())
    await store.sessions.delete_session(user_id, session.id)


async def _fill_memories(connection: asyncpg.Connection, size: int) -> None:
    rng = random.Random(size)
    for start in range(0, size, 10_000):
        users, seqs, lexemes = [], [], []
        for number in range(start, min(start + 10_000, size)):
            user = f"other{number % 1_000}"
            words = {f"word{int(rng.paretovariate(0.7))}" for _ in range(10)}
            users.append(user)
            seqs.append(number)
            lexemes.append(ranking.lexemes(user, list(words)))
        await connection.execute(_MEMORIES, users, seqs, lexemes, timeout=3600)


async def _calls_of_memories(store: AgentStore, size: int) -> dict[str, Call]:
    numbers = itertools.count()
    for start in range(0, 10_000, 1_000):
        await store.memory.add_memory("searcher", [_memory(start + number) for number in range(1_000)], "s")

    def ten_messages() -> list[Message]:
        return [_memory(100_000 + next(numbers)) for _ in range(10)]

    return {
        "add_memory 10": lambda: store.memory.add_memory("adder", ten_messages(), "s"),
        "search_memory among 10,000": lambda: store.memory.search_memory("searcher", _memory(next(numbers))),
    }


def _message() -> Message:
    return Message(role="user", content=[TextContent(text=TEXT)])


def _memory(number: int) -> Message:
    (message,) = short_messages(number, 1)
    return Message(role="user", content=[TextContent(text=message.text)])
