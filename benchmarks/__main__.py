"""``make bench``: the public API beside the floor, on an embedded Postgres with its defaults, or on ``--url``."""

import argparse
import asyncio
import itertools
import json
import random
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

import asyncpg
from sqlalchemy import BigInteger, Text, bindparam, select, text

from agentstore import AgentStore, EmbeddedPostgres, Message, Session, Settings, TextContent
from agentstore.database import Statement
from benchmarks.adapters import adapters
from benchmarks.floor import BareConnection, Floor
from benchmarks.rounds import WORDS, Call, Ratio, compare


def _message() -> Message:
    return Message(role="user", content=[TextContent(text=WORDS)])


def _append(append: Callable[[Session, list[Message]], Awaitable[None]], session: Session, batch: int) -> Call:
    """A call that appends that many new messages."""
    return lambda: append(session, [_message() for _ in range(batch)])


@asynccontextmanager
async def _server(url: str | None) -> AsyncIterator[str]:
    if url is not None:
        yield url
        return
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedPostgres(folder) as server:
            yield server.url


async def _statement_path(store: AgentStore, pool: Any, calls: int, rounds: int) -> list[Ratio]:
    """The database layer alone: the same SQL through it and through the driver's pool."""
    database = store._database
    one = Statement(select(bindparam("value", type_=BigInteger)))
    add = Statement(
        text("INSERT INTO agentstore.users (id) VALUES (:id) RETURNING 1").bindparams(bindparam("id", type_=Text))
    )
    number = itertools.count()
    return [
        await compare(
            "statement path: select 1",
            lambda: database.fetch(one, value=1),
            lambda: pool.fetch("SELECT $1::bigint", 1),
            calls=calls * 2,
            rounds=rounds,
            goal=1.05,
        ),
        await compare(
            "statement path: insert a row",
            lambda: database.fetch(add, id=f"row {next(number)}"),
            lambda: pool.fetch("INSERT INTO agentstore.users (id) VALUES ($1) RETURNING 1", f"row {next(number)}"),
            calls=calls,
            rounds=rounds,
            goal=1.05,
        ),
    ]


async def _sessions(store: AgentStore, floor: Floor, calls: int, rounds: int) -> list[Ratio]:
    results = []
    for batch, goal in ((1, 1.25), (100, 1.25)):
        ours = await store.sessions.create_session("bench", f"ours {batch}")
        theirs = await store.sessions.create_session("bench", f"floor {batch}")
        results.append(
            await compare(
                f"append {batch}",
                _append(store.sessions.append_message, ours, batch),
                _append(floor.append, theirs, batch),
                calls=max(5, calls // batch * 2),
                rounds=rounds,
                goal=goal,
            )
        )
        for session in (ours, theirs):
            stored = await store.sessions.get_session("bench", session.id)
            assert stored is not None
            assert stored.messages == session.messages  # everything is there, once and in order
    for length in (10, 1_000, 10_000):
        session = await store.sessions.create_session("bench", f"of {length}")
        for _ in range(0, length, 1_000):
            await store.sessions.append_message(session, [_message() for _ in range(min(length, 1_000))])
        one, two = await store.sessions.get_session("bench", session.id), await floor.get("bench", session.id)
        assert one is not None
        assert one.messages == two.messages == session.messages
        results.append(
            await compare(
                f"get {length}",
                partial(store.sessions.get_session, "bench", session.id),
                partial(floor.get, "bench", session.id),
                calls=max(2, calls * 5 // length),
                rounds=rounds,
                goal=1.25,
            )
        )
    for number in range(1_000):
        await store.sessions.create_session("lister", f"s{number}")
    assert [each.id for each in await store.sessions.list_sessions("lister")] == [
        each.id
        for each in sorted(await floor.list("lister"), key=lambda each: each.updated_at, reverse=True)  # type: ignore[arg-type, return-value]
    ]
    results.append(
        await compare(
            "list 1000",
            lambda: store.sessions.list_sessions("lister"),
            lambda: floor.list("lister"),
            calls=max(5, calls // 20),
            rounds=rounds,
            goal=1.25,
        )
    )
    return results


async def _states(store: AgentStore, floor: Floor, long: int, calls: int, rounds: int) -> list[Ratio]:
    """Saving and loading beside the floor, which keeps the JSON as it is; then as the history grows."""
    results = []

    async def ours(session: str, state: dict[str, Any]) -> None:
        await store.states.save_state("states", state, session)

    async def theirs(session: str, state: dict[str, Any]) -> None:
        await floor.save_state("states", session, state)

    def save(to: Callable[[str, dict[str, Any]], Awaitable[None]], session: str, state: dict[str, Any]) -> Call:
        numbers = itertools.count()
        return lambda: to(session, {**state, "round": next(numbers)})

    for messages, filled in ((50, 1_000), (200, 20), (2_000, 5)):
        state = _state(messages)
        kilobytes = len(json.dumps(state)) // 1_000
        for session, fill in ((f"ours {messages}", ours), (f"floor {messages}", theirs)):
            for _ in range(filled):
                await fill(session, state)
        options: dict[str, Any] = {"calls": max(3, calls * 50 // messages), "rounds": rounds}
        goals = (1.05, 1.10) if messages == 50 else (1.0, 1.0)
        results.append(
            await compare(
                f"save {kilobytes} KB after {filled:,} rounds",
                save(ours, f"ours {messages}", state),
                save(theirs, f"floor {messages}", state),
                goal=goals[0],
                **options,
            )
        )
        assert await store.states.export_state("states", f"floor {messages}") is not None
        results.append(
            await compare(
                f"load the last of them, {kilobytes} KB",
                partial(store.states.export_state, "states", f"ours {messages}"),
                partial(floor.load_state, "states", f"floor {messages}"),
                goal=goals[1],
                **options,
            )
        )
        stored = [await floor.size_of_states("states", f"{whose} {messages}") for whose in ("ours", "floor")]
        print(f"a state of {kilobytes} KB is stored in {stored[0][1]:,} bytes, as JSON in {stored[1][1]:,}", flush=True)
    for _ in range(long):
        await ours("long", {"n": 1})
    await ours("short", {"n": 1})
    growing: list[tuple[str, Callable[[str], Call]]] = [
        ("save", lambda session: save(ours, session, {"n": 1})),
        ("load", lambda session: partial(store.states.export_state, "states", session)),
    ]
    for name, call in growing:
        title = f"{name} after {long:,} rounds, to a new session"
        results.append(await compare(title, call("long"), call("short"), calls=calls, rounds=rounds))
    return results


def _state(messages: int) -> dict[str, Any]:
    """A state as agents keep it: the messages so far, and a plan."""
    said = [
        {
            "id": f"{random.getrandbits(128):032x}",
            "role": "assistant" if number % 2 else "user",
            "content": [{"type": "text", "text": " ".join(_a_word() for _ in range(120))}],
            "timestamp": f"2026-11-23 10:{number % 60:02}:{random.randrange(60):02}.{random.randrange(1000):03}",
        }
        for number in range(messages)
    ]
    steps = [{"name": f"step {number}", "state": "todo"} for number in range(8)]
    return {"memory": {"content": said}, "plan": {"steps": steps}, "toolkit": {"active_groups": ["basic"]}}


def _a_word() -> str:
    """A made-up word; few of them are frequent, as in every language (Zipf)."""
    rank = int(random.paretovariate(0.7))
    word = ""
    while rank or not word:
        rank, letter = divmod(rank, 19)
        word += "etaoinshrdlcumwfgyp"[letter]
    return word


async def _growth(store: AgentStore, lengths: tuple[int, ...], calls: int, rounds: int) -> list[Ratio]:
    """A long history beside an empty one: the same calls, so the ratio says how they grow."""
    results = []
    for length in lengths:
        long, short = [await store.sessions.create_session("growth", f"{name} {length}") for name in ("long", "short")]
        for _ in range(0, length, 10_000):
            await store.sessions.append_message(long, [_message() for _ in range(min(length, 10_000))])
        await store.sessions.append_message(short, [_message() for _ in range(50)])
        results.append(
            await compare(
                f"append 1 after {length} messages, to a new one",
                _append(store.sessions.append_message, long, 1),
                _append(store.sessions.append_message, short, 1),
                calls=calls,
                rounds=rounds,
            )
        )
        results.append(
            await compare(
                f"get the last 50 of {length}, to those of 50",
                partial(store.sessions.get_session, "growth", long.id, limit=50),
                partial(store.sessions.get_session, "growth", short.id, limit=50),
                calls=calls,
                rounds=rounds,
            )
        )
        assert len(long.messages) == length + calls * rounds + max(3, calls // 10)
    return results


async def _memories(store: AgentStore, floor: Floor, sizes: tuple[int, ...], calls: int, rounds: int) -> list[Ratio]:
    """Adding beside the floor; then adding and searching beside themselves, as others' memories grow in the table."""
    numbers = itertools.count()

    def add(to: Callable[[str, str, list[Message]], Awaitable[None]], user: str) -> Call:
        return lambda: to(user, f"s{next(numbers) % 50}", [_said(10) for _ in range(10)])

    async def ours(user: str, session: str, messages: list[Message]) -> None:
        await store.memory.add_memory(user, messages, session)

    results = [
        await compare(
            "add_memory 10",
            add(ours, "adds"),
            add(floor.add_memory, "floor adds"),
            calls=calls,
            rounds=rounds,
            goal=1.15,
        )
    ]
    await store.memory.add_memory("searches", [_said(10) for _ in range(10_000)], "s")
    empty = {name: await _milliseconds(call, calls * 3) for name, call in _memory_calls(store).items()}
    filled = 0
    for size in sizes:
        await floor.fill_memories(filled, size)
        filled = size
        for name, call in _memory_calls(store).items():
            now = await _milliseconds(call, calls * 3)
            before, at = empty[name], f"{name} beside {size:,} of others, to none"
            results.append(Ratio(at, now, before, now / before, now / before, now / before, None))
        print(await floor.size_of_memories(), flush=True)
    return results


def _memory_calls(store: AgentStore) -> dict[str, Call]:
    return {
        "add_memory 10": lambda: store.memory.add_memory("grows", [_said(10) for _ in range(10)], "s"),
        "search 10,000": lambda: store.memory.search_memory("searches", _said(4)),
    }


def _said(words: int) -> Message:
    """A message of words of which few are frequent, as in every language (Zipf)."""
    said = " ".join(f"word{int(random.paretovariate(0.7))}" for _ in range(words))
    return Message(role="user", content=[TextContent(text=said)])


async def _milliseconds(call: Call, calls: int) -> float:
    """Return the median time of a call."""
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        await call()
        times.append((time.perf_counter() - began) * 1000)
    return statistics.median(times)


async def main() -> None:
    """Measure, print a table, and write JSON where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", help="a database whose schema may be filled and emptied")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds")
    parser.add_argument("--json", metavar="FILE")
    given = parser.parse_args()
    calls, rounds = (60, 5) if given.quick else (200, 31)
    async with _server(given.url) as url:
        pool = await asyncpg.create_pool(url, min_size=10, max_size=10, connection_class=BareConnection)
        async with AgentStore(url, settings=Settings(auto_migrate="upgrade")) as store:
            floor = Floor(pool)
            version = await pool.fetchval("SHOW server_version")
            print(f"Postgres {version}, {asyncio.get_running_loop().__class__.__module__}, {rounds} rounds")
            print(f"{'':44} {'ours ms':>9} {'floor ms':>9}   ratio (middle half)  goal")
            results = []
            for measured in (
                _statement_path(store, pool, calls, rounds),
                _sessions(store, floor, calls, rounds),
                adapters(store, url, calls, rounds),
                _memories(store, floor, (20_000,) if given.quick else (100_000, 1_000_000), calls // 2, rounds),
                _states(store, floor, 2_000 if given.quick else 100_000, calls, rounds),
                _growth(store, (1_000,) if given.quick else (1_000, 100_000), calls // 2, rounds),
            ):
                for result in await measured:
                    print(result.row(), flush=True)
                    results.append(result)
            for user in ("bench", "adapters", "lister", "growth", "adds", "floor adds", "searches", "grows", "states"):
                await store.users.delete_user(user)
        await pool.close()
    if given.json:
        with open(given.json, "w", encoding="utf-8") as file:  # noqa: ASYNC230 - nothing else runs any more
            json.dump([asdict(result) for result in results], file, indent=1)


if __name__ == "__main__":
    asyncio.run(main())
