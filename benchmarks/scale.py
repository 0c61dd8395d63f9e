"""Measure each call on databases of growing size: ``python -m benchmarks.scale --sizes=10000,100000,1000000``.

A database of SIZE messages has SIZE / 100 users with ten sessions of ten messages, a user with SIZE / 100 sessions, a
session of 3 % of all messages, a user with 10 % of them as memories, and others with a few. Every call is made cold,
by a new store for keys that nothing has read before, and warm; before the first ANALYZE, and after VACUUM (ANALYZE).
"""

import argparse
import asyncio
import itertools
import json
import random
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg

from agentstore import AgentStore, Message, Session, Settings
from agentstore.repositories.memory.loading import bulk_load
from agentstore.schemas.payload import prepare_messages
from benchmarks.contender import TEXT
from benchmarks.runner import server

MANY, LONG, REMEMBERING = "many sessions", "long session", "many memories"
_SESSIONS, _MESSAGES = 10, 10  # of each user and of each session
_VOCABULARY = 50_000
_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_ROUNDS = 30
_FIRST = datetime(2026, 1, 1, tzinfo=UTC)

Call = Callable[[], Awaitable[object]]


def sessions(size: int) -> Iterator[tuple[str, str, int]]:
    """Yield the sessions of a database: user, session, and number of messages."""
    for number in range(size // (_SESSIONS * _MESSAGES)):
        for session in range(_SESSIONS):
            yield f"u{number}", f"s{session}", _MESSAGES
    for session in range(size // 100):
        yield MANY, f"s{session}", 1
    yield LONG, "s0", size * 3 // 100


def messages(user: str, session: str, count: int) -> Iterator[Message]:
    """Yield the messages of a session, which are the same each time."""
    for number in range(count):
        yield Message(id=f"{user}:{session}:{number}", role="user", content=f"{number} {TEXT}")


def memories(user: str, count: int) -> Iterator[Message]:
    """Yield memories of 20 words. As in natural languages, a few words are frequent (Zipf)."""
    rng = random.Random(f"{user} {count}")
    for number in range(count):
        yield Message(id=f"{user}:{number}", role="user", content=question(rng, 20))


def question(rng: random.Random, words: int) -> str:
    """Return some words."""
    return " ".join(f"word{min(int(rng.paretovariate(0.7)), _VOCABULARY)}" for _ in range(words))


async def fill(store: AgentStore, connection: asyncpg.Connection, size: int) -> None:
    """Fill an empty database with the rows that the calls of a store write, most of them by COPY."""
    settings = Settings()
    users = dict.fromkeys(user for user, _, _ in sessions(size))
    # Foreign keys are not checked: the rows are consistent.
    await connection.execute("SET session_replication_role = replica")
    await _copy(connection, "users", ["id"], ([user] for user in users))
    # One a second, as the calls of users are spread over time.
    times = (str(_FIRST + timedelta(seconds=number)) for number in itertools.count())
    columns = ["user_id", "id", "next_seq", "created_at", "updated_at", "listed_at"]
    await _copy(
        connection,
        "sessions",
        columns,
        ([user, id, str(count + 1), at, at, at] for (user, id, count), at in zip(sessions(size), times, strict=False)),
    )

    def rows() -> Iterator[list[str]]:
        for user, id, count in sessions(size):
            given = messages(user, id, count)
            seqs = itertools.count(1)
            while batch := list(itertools.islice(given, 1_000)):
                for message, payload in prepare_messages(batch, settings).values():
                    yield [user, id, str(next(seqs)), message.id, payload]

    await _copy(connection, "messages", ["user_id", "session_id", "seq", "id", "payload"], rows())
    await connection.execute("RESET session_replication_role")
    async with bulk_load(store._database):
        for user in [REMEMBERING, *itertools.islice(users, 100)]:
            given = memories(user, size // 10 if user == REMEMBERING else size // 2_000)
            for session in itertools.count():
                if not (batch := list(itertools.islice(given, 500))):
                    break
                await store.memory.add_memory(user, batch, f"s{session}")
    for user in itertools.islice(users, 10):
        for number in range(20):
            await store.states.save_state(user, {"n": number}, "s0")


async def _copy(connection: asyncpg.Connection, table: str, columns: list[str], rows: Iterable[list[str]]) -> None:
    async def lines() -> AsyncIterator[bytes]:
        given = iter(rows)
        while batch := list(itertools.islice(given, 1_000)):
            yield "".join("\t".join(each.translate(_ESCAPES) for each in row) + "\n" for row in batch).encode()

    await connection.copy_to_table(
        table, schema_name="agentstore", columns=columns, source=lines(), format="text", timeout=3_600
    )


def calls(store: AgentStore, size: int, rng: random.Random) -> dict[str, Call]:
    """Return the calls by name. Each uses random keys."""
    numbers = itertools.count(rng.randrange(10**9) * 1_000)

    def user() -> str:
        return f"u{rng.randrange(size // (_SESSIONS * _MESSAGES))}"

    def session() -> str:
        return f"s{rng.randrange(_SESSIONS)}"

    def message() -> Message:
        return Message(role="user", content=f"{next(numbers)} {TEXT}")

    def remembered() -> str:
        return f"u{rng.randrange(min(100, size // 100))}"

    def search(words: int) -> Call:
        return lambda: store.memory.search(REMEMBERING, question(rng, words))

    async def second_page() -> object:
        page = await store.sessions.list_sessions(MANY, limit=20)
        return await store.sessions.list_sessions(MANY, limit=20, cursor=page.next_cursor)

    return {
        "append 1": lambda: store.sessions.append_message(Session(id=session(), user_id=user()), message()),
        "append 1 to the long session": lambda: store.sessions.append_message(
            Session(id="s0", user_id=LONG), message()
        ),
        "create a session": lambda: store.sessions.create_session(user()),
        "get all 10": lambda: store.sessions.get_session(user(), session()),
        "get the last 20 of the long session": lambda: store.sessions.get_session(LONG, "s0", limit=20),
        "list sessions": lambda: store.sessions.list_sessions(user(), limit=20),
        "list two pages of many sessions": second_page,
        "add 1 to memory": lambda: store.memory.add_memory(user(), Message.user(question(rng, 20)), "s0"),
        "list memory": lambda: store.memory.list_memory(REMEMBERING),
        "search, few memories, 5 words": lambda: store.memory.search(remembered(), question(rng, 5)),
        "search, many memories, 5 words": search(5),
        "search, many memories, 50 words": search(50),
        "search, many memories, 200 words": search(200),
        "search, many memories, 400 words": search(400),
        "save a state": lambda: store.states.save_state(user(), {"n": 1}, "s0"),
        "load a state": lambda: store.states.export_state(f"u{rng.randrange(min(10, size // 100))}", "s0"),
    }


async def measure(url: str | None, sizes: list[int], parts: str, log: Callable[[str], None]) -> list[dict[str, Any]]:
    """Return for each size, state of the statistics and call: cold ms, and the median and p95 of warm ones."""
    found = []
    async with server(url) as (first, url_of):
        admin = await asyncpg.connect(first)
        urls = {size: url_of(f"scale_{size}") for size in sizes}
        for size in sizes:
            await admin.execute(f'DROP DATABASE IF EXISTS "scale_{size}" WITH (FORCE)')
            await admin.execute(f'CREATE DATABASE "scale_{size}"')
            connection = await asyncpg.connect(urls[size])
            began = time.perf_counter()
            async with AgentStore(urls[size], settings=Settings(auto_migrate="upgrade")) as store:
                await store.health()
                await fill(store, connection, size)
            await connection.close()
            log(f"-- {size:,} messages, filled in {time.perf_counter() - began:.0f} s")
        for state in ("never analyzed", "analyzed"):
            for size in sizes if state == "analyzed" else ():
                connection = await asyncpg.connect(urls[size])
                await connection.execute("VACUUM (ANALYZE)", timeout=3_600)
                await connection.close()
            found += await measure_calls(urls, state, parts, log)
        for size in sizes:
            await admin.execute(f'DROP DATABASE "scale_{size}" WITH (FORCE)')
        await admin.close()
    return found


async def measure_calls(
    urls: dict[int, str], state: str, parts: str, log: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Make each call on the filled databases in turn, so that the sizes compare calls of the same minute."""
    found = []
    log(f"{state:40} {'messages':>10} {'cold':>10} {'median':>10} {'p95':>10} ms")
    rngs = {size: random.Random(f"{size} {state}") for size in urls}
    async with AgentStore(next(iter(urls.values()))) as any_store:
        names = [name for name in calls(any_store, next(iter(urls)), random.Random(1)) if parts in name]
    for name in names:
        times: dict[int, list[float]] = {}
        async with AsyncExitStack() as stack:
            made = {}
            for size, url in urls.items():
                store = await stack.enter_async_context(AgentStore(url))
                made[size] = calls(store, size, rngs[size])[name]
                await store.health()
                times[size] = [await _time(made[size])]
            for _ in range(_ROUNDS):
                for size in random.sample(list(urls), len(urls)):
                    times[size].append(await _time(made[size]))
        for size, (cold, *warm) in times.items():
            result = {
                "size": size, "statistics": state, "call": name, "cold": cold,
                "median": statistics.median(warm), "p95": sorted(warm)[int(len(warm) * 0.95)],
            }  # fmt: skip
            found.append(result)
            log(f"{name:40} {size:10} {result['cold']:10.2f} {result['median']:10.2f} {result['p95']:10.2f}")
    return found


async def _time(call: Call) -> float:
    began = time.perf_counter()
    await call()
    return (time.perf_counter() - began) * 1_000


def main() -> None:
    """Measure, print the tables, and write the requested files."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--sizes", default="10000,100000,1000000", help="the numbers of messages, at least 1,000 each")
    parser.add_argument("--parts", default="", help="measure the calls with this text in their names")
    parser.add_argument("--url", help="use this server, where the user may create databases, not an embedded one")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements to this file")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the medians by size as SVG (needs matplotlib)")
    options = parser.parse_args()
    sizes = [int(each) for each in options.sizes.split(",")]
    found = asyncio.run(measure(options.url, sizes, options.parts, lambda line: print(line, flush=True)))
    if options.json:
        options.json.write_text(json.dumps(found) + "\n", encoding="utf-8")
    if options.plot:
        from benchmarks import plots  # matplotlib is not installed in every environment

        plots.draw_scale(found, options.plot)


if __name__ == "__main__":
    main()
