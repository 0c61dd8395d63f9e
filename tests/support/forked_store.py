"""A program whose store is used in forked children, run by tests/integration/test_loops.py.

Forks need a process that has no other threads. Arguments: the URL of a database, and which scenario to run. Prints
the numbers that the children found.
"""

import asyncio
import os
import sys
from collections.abc import Callable

from agentstore import AgentStore
from agentstore.testing import text

CHILDREN = 4
CALLS = 20


async def append(store: AgentStore, session_id: str, calls: int = CALLS) -> None:
    for number in range(calls):
        await store.sessions.append("alice", session_id, text(f"{session_id} {number}"))


async def count(store: AgentStore, session_id: str) -> int:
    messages = await store.sessions.read_messages("alice", session_id)
    assert messages is not None
    return len(messages)


def fork(work: Callable[[], None]) -> int:
    """Run `work` in a forked child, and return the child's id."""
    if child := os.fork():
        return child
    status = 1
    try:
        work()
        status = 0
    except Exception:  # noqa: BLE001 - of this process
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(status)


def wait(children: list[int]) -> None:
    for child in children:
        _, status = os.waitpid(child, 0)
        assert status == 0, status


def prefork(store: AgentStore) -> None:
    """As in a server that loads the application before it forks workers, which handle requests at once."""
    asyncio.run(append(store, "parent"))

    def work(number: int) -> None:
        asyncio.run(append(store, f"child {number}"))
        asyncio.run(append(store, "shared"))
        asyncio.run(store.stop())

    wait([fork(lambda number=number: work(number)) for number in range(CHILDREN)])  # type: ignore[misc]


def after_runs(store: AgentStore) -> None:
    """The parent has a connection that no event loop uses, and neither sends anything on that of the other."""
    for _ in range(CALLS):
        asyncio.run(append(store, "parent", 1))
    assert store.pool_stats().idle == 1

    def work(number: int) -> None:
        assert store.pool_stats().idle == 0
        for _ in range(CALLS):
            asyncio.run(append(store, f"child {number}", 1))
            asyncio.run(append(store, "shared", 1))
        assert store.pool_stats().idle == 1

    wait([fork(lambda number=number: work(number)) for number in range(CHILDREN)])  # type: ignore[misc]
    assert store.pool_stats().idle == 1
    asyncio.run(append(store, "parent", 0))
    assert asyncio.run(count(store, "parent")) == CALLS


async def from_running_loop(store: AgentStore) -> None:
    """The parent's calls go on while the children's run."""
    appends = [asyncio.create_task(append(store, "parent", CALLS // 4)) for _ in range(4)]
    while (await store.sessions.append("bob", "s", text("before the fork"))).last_seq < 3:
        pass
    children = [
        fork(lambda number=number: asyncio.run(append(store, f"child {number}")))  # type: ignore[misc]
        for number in range(CHILDREN)
    ]
    children += [fork(lambda: asyncio.run(append(store, "shared"))) for _ in range(CHILDREN)]
    await asyncio.gather(*appends)
    await asyncio.to_thread(wait, children)
    await append(store, "parent", 0)


def in_same_loop(store: AgentStore) -> None:
    """The child goes on to use the event loop object of its parent, which is not running at the fork."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(append(store, "parent"))

    def work(number: int) -> None:
        loop.run_until_complete(append(store, f"child {number}"))
        loop.run_until_complete(append(store, "shared"))

    for number in range(CHILDREN):  # one after the other: they share the selector of the loop
        wait([fork(lambda number=number: work(number))])  # type: ignore[misc]
    loop.run_until_complete(append(store, "parent", 0))
    assert loop.run_until_complete(count(store, "parent")) == CALLS
    loop.run_until_complete(store.stop())
    loop.close()


async def report(store: AgentStore) -> None:
    for session_id in ("parent", *(f"child {number}" for number in range(CHILDREN)), "shared"):
        print(await count(store, session_id))
    await store.stop()


def main(url: str, scenario: str) -> None:
    store = AgentStore(url)
    if scenario == "prefork":
        prefork(store)
    elif scenario == "after runs":
        after_runs(store)
    elif scenario == "same loop":
        in_same_loop(store)
        asyncio.run(store.start())
    else:
        asyncio.run(from_running_loop(store))
    asyncio.run(report(store))


if __name__ == "__main__":
    main(*sys.argv[1:])
