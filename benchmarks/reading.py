"""Measure the time and memory of each way to read a long session.

``get_session`` creates Message objects, with garbage collection disabled during that. The other ways return less:
``read_messages`` creates a Message when it is accessed, or returns dicts or the stored JSON; ``iter_messages`` holds
one batch in memory.
"""

import argparse
import asyncio
import gc
import json
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

from agentstore import AgentStore, Message, Session, Settings, StoredMessages, TextContent
from benchmarks.contender import TEXT, USER
from benchmarks.memory import peak, reset_peak, resident, run_in_process
from benchmarks.runner import server

_BATCH = 1_000
Read = Callable[[AgentStore], Awaitable[Any]]


async def _stored(store: AgentStore) -> StoredMessages:
    found = await store.sessions.read_messages(USER, "long")
    assert found is not None
    return found


async def _get(store: AgentStore) -> Session | None:
    return await store.sessions.get_session(USER, "long")


async def _last(store: AgentStore) -> list[Message]:
    return list((await _stored(store))[-10:])


async def _dicts(store: AgentStore) -> list[dict[str, Any]]:
    return (await _stored(store)).dicts()


async def _json(store: AgentStore) -> bytes:
    return (await _stored(store)).json()


async def _iterate(store: AgentStore) -> int:
    return sum([1 async for _ in store.sessions.iter_messages(USER, "long", batch=_BATCH)])


_COLLECTING = "get_session, garbage collection enabled"
_WAYS: dict[str, Read] = {
    "get_session": _get,
    _COLLECTING: _get,
    "read_messages, as stored": _stored,
    "read_messages, the last ten as Messages": _last,
    "read_messages().dicts()": _dicts,
    "read_messages().json()": _json,
    f"iter_messages, {_BATCH:,} at a time": _iterate,
}


@contextmanager
def _collection_enabled() -> Iterator[None]:
    """Leave garbage collection enabled while Message objects are created."""
    modules = ("agentstore.schemas.payload", "agentstore.repositories.sessions.service")
    with (
        patch(f"{modules[0]}.no_collection", lambda _: nullcontext()),
        patch(f"{modules[1]}.no_collection", lambda _: nullcontext()),
    ):
        yield


def _conditions_of(way: str) -> AbstractContextManager[None]:
    return _collection_enabled() if way == _COLLECTING else nullcontext()


async def measure(url: str | None, log: Callable[[str], None], *, quick: bool) -> dict[str, Any]:
    """Return the milliseconds and megabytes of each way to read a session, and the ratio to ``get_session``."""
    count = 2_000 if quick else 10_000
    found: dict[str, dict[str, float]] = {}
    async with server(url) as (first, _):
        async with AgentStore(first, settings=Settings(auto_migrate="upgrade")) as store:
            await store.users.delete_user(USER)
            session = await store.sessions.create_session(USER, "long")
            for start in range(0, count, 100):
                await store.sessions.append_message(session, [_message(start + place) for place in range(100)])
            del session
            times: dict[str, list[float]] = {way: [] for way in _WAYS}
            for _ in range(5 if quick else 40):
                for way in random.sample(list(_WAYS), len(_WAYS)):
                    gc.collect()
                    with _conditions_of(way):
                        began = time.perf_counter()
                        kept = await _WAYS[way](store)
                        times[way].append((time.perf_counter() - began) * 1000)
                    del kept
        log(f"-- read a session of {count:,}: ms (relative to get_session), MB afterwards, MB at the peak")
        for way in _WAYS:
            pairs = zip(times[way], times["get_session"], strict=True)
            memory = json.loads(run_in_process("reading", "--alone", way, first))
            ratio = statistics.median(one / other for one, other in pairs)
            found[way] = {"ms": statistics.median(times[way]), "ratio": ratio, **memory}
            cells = f"{found[way]['ms']:9.1f} ({ratio:.2f}) {memory['kept']:8.1f} {memory['peak']:8.1f}"
            log(f"{way:42} {cells}")
    return {"messages": count, "ways": found}


async def _alone(way: str, url: str) -> None:
    async with AgentStore(url) as store:
        await store.sessions.get_session(USER, "none")  # initializes what the first call initializes
        gc.collect()
        before = resident()
        reset_peak()
        with _conditions_of(way):
            kept = await _WAYS[way](store)
        needed = peak() - before
        gc.collect()
        print(json.dumps({"kept": (resident() - before) / 1e6, "peak": needed / 1e6}))
        del kept


def _message(number: int) -> Message:
    return Message(role="assistant" if number % 2 else "user", content=[TextContent(text=f"{number} {TEXT}")])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alone", nargs=2, metavar=("WAY", "URL"), required=True)
    asyncio.run(_alone(*parser.parse_args().alone))
