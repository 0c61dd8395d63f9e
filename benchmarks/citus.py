"""Compare a Citus cluster with a plain server: ``python -m benchmarks.citus URL`` of the coordinator.

Both databases are on the servers of the cluster: the plain one is on the coordinator. Their calls alternate.
"""

import asyncio
import itertools
import sys
import time
from collections.abc import Awaitable, Callable
from statistics import median
from uuid import uuid4

import asyncpg

from agentstore import AgentStore, Settings, migrate
from agentstore.testing import text
from tests.support.cluster import Cluster, cluster_of
from tests.support.servers import existing_server

_ROUNDS, _TURNS, _SECONDS, _WRITERS = 60, 12, 0.5, 40
_MEMORIES = 200
_WORDS = "apples pears plums cherries peppers onions garlic carrots leeks beans"

Call = Callable[[AgentStore], Awaitable[object]]


def _calls() -> dict[str, Call]:
    """Return the calls to measure: of a user with a session of 10 messages, and with 200 memories."""
    numbers = itertools.count()

    def new() -> str:
        return f"n{next(numbers)}"

    return {
        "create_session": lambda store: store.sessions.create_session("alice", new()),
        "append a message": lambda store: store.sessions.append("alice", "written", text("x")),
        "append 10 messages": lambda store: store.sessions.append("alice", "written", [text("x") for _ in range(10)]),
        "append to a missing session": lambda store: store.sessions.append("alice", new(), text("x")),
        "get a session of 10 messages": lambda store: store.sessions.get_session("alice", "read"),
        "list_sessions": lambda store: store.sessions.list_sessions("alice"),
        "set_title": lambda store: store.sessions.set_title("alice", "read", "x"),
        "save_state": lambda store: store.states.save_state("alice", {"a": 1}, "read"),
        "export_state": lambda store: store.states.export_state("alice", "read"),
        "add a memory": lambda store: store.memory.add_memory("alice", text("x"), "written"),
        "search 200 memories": lambda store: store.memory.search("bob", "peppers onions", {"top_k": 5}),
        "fork of 10 messages": lambda store: store.sessions.fork_session("alice", "read", new_id=new()),
    }


async def _fill(store: AgentStore) -> None:
    session = await store.sessions.create_session("alice", "read")
    await store.sessions.append_message(session, [text("x") for _ in range(10)])
    await store.sessions.create_session("alice", "written")
    words = _WORDS.split()
    memories = [text(f"{words[n % 10]} {words[n % 7]} number {n}") for n in range(_MEMORIES)]
    await store.memory.add_memory("bob", memories, "s")


async def _throughput(store: AgentStore) -> float:
    """Return the appends a second of 40 users at once, for half a second."""
    users = [f"writer{number}" for number in range(_WRITERS)]
    for user in users:
        await store.sessions.create_session(user, "s", exist_ok=True, messages=False)
    count, end = 0, time.perf_counter() + _SECONDS

    async def write(user: str) -> None:
        nonlocal count
        while time.perf_counter() < end:
            await store.sessions.append(user, "s", text("x"))
            count += 1

    await asyncio.gather(*map(write, users))
    return count / _SECONDS


async def _compare(plain: AgentStore, distributed: AgentStore) -> None:
    for store in (plain, distributed):
        await _fill(store)
    print("| median, ms | plain server | cluster | ratio |\n| --- | --- | --- | --- |")
    for name, call in _calls().items():
        times: dict[AgentStore, list[float]] = {plain: [], distributed: []}
        for _ in range(_ROUNDS):
            for store, taken in times.items():
                began = time.perf_counter()
                await call(store)
                taken.append(time.perf_counter() - began)
        one, other = (1_000 * median(taken[10:]) for taken in times.values())
        print(f"| {name} | {one:.1f} | {other:.1f} | {other / one:.1f} |")
    rates: dict[AgentStore, list[float]] = {plain: [], distributed: []}
    for _ in range(_TURNS):
        for store, found in rates.items():
            found.append(await _throughput(store))
    one, other = (median(found[2:]) for found in rates.values())
    print(f"| appends a second, {_WRITERS} users | {one:,.0f} | {other:,.0f} | {other / one:.2f} |")


async def _run(cluster: Cluster) -> None:
    names = [f"agentstore_bench_{kind}_{uuid4().hex[:8]}" for kind in ("plain", "cluster")]
    await cluster.execute(f'CREATE DATABASE "{names[0]}"')
    try:
        await migrate.upgrade(cluster.url_of(names[0]), settings=Settings())
        await cluster.create(names[1], shards=32)
        await cluster.open(names[1])
        connection = await asyncpg.connect(cluster.url_of(names[1]))
        versions = await connection.fetchval(
            "SELECT split_part(citus_version(), ' on ', 1) || ', Postgres ' || current_setting('server_version')"
        )
        await connection.close()
        print(f"{versions}, {len(cluster.workers)} workers\n")
        async with AgentStore(cluster.url_of(names[0])) as plain, AgentStore(cluster.url_of(names[1])) as distributed:
            await _compare(plain, distributed)
    finally:
        for name in names:
            await cluster.drop(name)


if __name__ == "__main__":
    found = cluster_of(existing_server(sys.argv[1]).url_of, sys.argv[1])
    assert found is not None, "expected the URL of the coordinator of a Citus cluster"
    asyncio.run(_run(found))
