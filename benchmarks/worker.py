"""Run one contender in its own process: ``python -m benchmarks.worker NAME URL [REDIS_URL]``.

Reads commands from stdin, one JSON object per line, and answers each with one. The runner sends a command to one
contender at a time. Needs only the standard library and the contender's package.
"""

import asyncio
import gc
import importlib
import itertools
import json
import sys
import time
import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from benchmarks.contender import Contender, agent_state, memory_item, new_messages, short_messages
from benchmarks.memory import resident

# How many messages each append has when a session is filled, which is not measured.
_FILL = 100


class Worker:
    """The commands of a worker."""

    def __init__(self, contender: Contender) -> None:
        self._contender = contender
        self._numbers = itertools.count()
        self._appended: dict[str, list[str]] = {}
        self._last_state = 0
        self._items = 0
        self._with_states: dict[int, int] = {}

    async def start(self) -> dict[str, Any]:
        """Start the contender, and return its name, version and methods."""
        await self._contender.start()
        methods = [name for name in dir(self._contender) if not name.startswith("_")]
        return {
            "name": self._contender.name,
            "version": self._contender.version,
            "durable": self._contender.durable,
            "methods": methods,
            "loop": asyncio.get_running_loop().__class__.__module__,
        }

    async def fill(self, session: str, messages: int) -> dict[str, Any]:
        """Create a session with this number of messages."""
        await self._contender.create(session)
        self._appended[session] = []
        for start in range(0, messages, _FILL):
            await self._append(session, min(_FILL, messages - start))
        return {}

    async def fill_many(self, sessions: int) -> dict[str, Any]:
        """Create sessions of one message each."""
        for number in range(sessions):
            await self.fill(f"listed {number}", 1)
        return {}

    async def fill_with_states(self, sessions: int, kilobytes: int) -> dict[str, Any]:
        """Create sessions that have a state of this size, and no messages, unless they exist."""
        for number in range(self._with_states.get(kilobytes, 0), sessions):
            await self._contender.create_with_state(f"listed {number}", kilobytes)
        self._with_states[kilobytes] = sessions
        return {}

    async def append(self, session: str, batch: int, calls: int) -> dict[str, Any]:
        """Append batches to one session."""
        batches = [self._next_batch(session, batch) for _ in range(calls)]
        return await _timed([partial(self._contender.append, session, each) for each in batches])

    async def read(self, session: str, calls: int) -> dict[str, Any]:
        """Read a whole session."""
        return await _timed([partial(self._contender.read, session)] * calls)

    async def converse(self, calls: int) -> dict[str, Any]:
        """Hold new conversations of ten turns: each reads the conversation, and appends a question and an answer."""
        sessions = [f"conversation {next(self._numbers)}" for _ in range(calls)]
        return await _timed([partial(self._converse, session) for session in sessions])

    async def _converse(self, session: str) -> None:
        await self._contender.create(session)
        for turn in range(10):
            found = self._contender.texts(await self._contender.read(session))
            assert len(found) == 2 * turn, f"{len(found)} of {2 * turn} messages were read"
            await self._contender.append(session, self._contender.convert(new_messages(2 * turn, 2)))

    async def list_sessions(self, calls: int) -> dict[str, Any]:
        """List the user's sessions."""
        return {**await _timed([self._contender.list_sessions] * calls), "found": await self._contender.list_sessions()}

    async def list_with_state(self, kilobytes: int, look_at: bool, calls: int) -> dict[str, Any]:
        """List the sessions that have a state of this size."""
        call = partial(self._contender.list_with_state, kilobytes, look_at)
        return {**await _timed([call] * calls), "found": await call()}

    async def start_states(self, session: str) -> dict[str, Any]:
        """Create a session for states, if the contender has sessions."""
        if hasattr(self._contender, "create"):
            await self._contender.create(session)
        return {}

    async def save_state(self, session: str, calls: int) -> dict[str, Any]:
        """Save states, each a different one."""
        states = []
        for _ in range(calls):
            self._last_state += 1
            states.append(agent_state(self._last_state))
        return await _timed([partial(self._contender.save_state, session, each) for each in states])

    async def load_state(self, session: str, calls: int) -> dict[str, Any]:
        """Load the latest state, and check that it is the one that was saved last."""
        assert await self._contender.load_state(session) == agent_state(self._last_state), (
            "the state did not round-trip unchanged"
        )
        return await _timed([partial(self._contender.load_state, session)] * calls)

    async def add_memory(self, calls: int) -> dict[str, Any]:
        """Add ten messages of ten words to one of fifty sessions."""
        batches = [self._contender.convert(short_messages(next(self._numbers) * 10, 10)) for _ in range(calls)]
        sessions = [f"m{next(self._numbers) % 50}" for _ in range(calls)]
        pairs = zip(sessions, batches, strict=True)
        return await _timed([partial(self._contender.add_memory, session, each) for session, each in pairs])

    async def fill_items(self, items: int) -> dict[str, Any]:
        """Put items, unless there are as many."""
        for number in range(self._items, items):
            await self._contender.put_item(f"item {number}", memory_item(number))
        self._items = max(self._items, items)
        return {}

    async def put_item(self, calls: int) -> dict[str, Any]:
        """Put items, every second one of which exists."""
        numbers = [self._items + number // 2 for number in range(calls)]
        self._items += calls // 2 + 1
        return await _timed([partial(self._contender.put_item, f"item {each}", memory_item(each)) for each in numbers])

    async def get_item(self, calls: int) -> dict[str, Any]:
        """Get different items, and check that the first is the one that was put."""
        assert await self._contender.get_item("item 7") == memory_item(7), "the item did not round-trip unchanged"
        keys = [f"item {number % self._items}" for number in range(calls)]
        return await _timed([partial(self._contender.get_item, key) for key in keys])

    async def search_items(self, calls: int) -> dict[str, Any]:
        """Search ten items of a topic."""
        found = await self._contender.search_items({"topic": "topic 7"})
        assert [each["topic"] for each in found] == ["topic 7"] * 10, "other items were found"
        conditions = [{"topic": f"topic {number % 100}"} for number in range(calls)]
        return await _timed([partial(self._contender.search_items, each) for each in conditions])

    async def verify(self, session: str) -> dict[str, Any]:
        """Compare a session with the acknowledged messages: how many are lost, duplicated or out of order."""
        found = self._contender.texts(await self._contender.read(session))
        return _compared(self._appended[session], found, [self._appended[session]])

    async def write(self, sessions: list[str], writers: int, appends: int) -> dict[str, Any]:
        """Append concurrently: each writer one message at a time, to its own session or all to one."""
        for session in sessions:
            await self._contender.create(session)
        plain = [new_messages(0, appends, number) for number in range(writers)]
        converted = [[self._contender.convert([each]) for each in own] for own in plain]
        nanoseconds: list[int] = []

        async def writer(number: int) -> None:
            session = sessions[number % len(sessions)]
            for messages in converted[number]:
                began = time.perf_counter_ns()
                await self._contender.append(session, messages)
                nanoseconds.append(time.perf_counter_ns() - began)

        gc.collect()
        gc.freeze()  # so that the contender's collections do not traverse these messages
        began = time.perf_counter()
        await asyncio.gather(*map(writer, range(writers)))
        took = time.perf_counter() - began
        gc.unfreeze()
        verified = {"expected": 0, "lost": 0, "twice": 0, "misplaced": 0}
        for place, session in enumerate(sessions):
            orders = [[each.text for each in own] for own in plain[place :: len(sessions)]]
            found = self._contender.texts(await self._contender.read(session))
            for name, count in _compared([text for order in orders for text in order], found, orders).items():
                verified[name] += count
        return {"ns": nanoseconds, "seconds": took, "verified": verified}

    async def prefixes(self, session: str, writers: int, appends: int) -> dict[str, Any]:
        """Read during concurrent appends, and count the reads that are not a prefix of the final order."""
        await self._contender.create(session)
        reads: list[list[str]] = []
        writing = writers

        async def writer(number: int) -> None:
            nonlocal writing
            try:
                for count in range(appends):
                    await self._contender.append(session, self._contender.convert(new_messages(count, 1, number)))
            finally:
                writing -= 1

        async def reader() -> None:
            while writing:
                reads.append(self._contender.texts(await self._contender.read(session)))

        await asyncio.gather(*map(writer, range(writers)), reader(), reader())
        final = self._contender.texts(await self._contender.read(session))
        wrong = sum(seen != final[: len(seen)] for seen in reads)
        return {"reads": len(reads), "wrong": wrong, "lost": writers * appends - len(final)}

    async def keep(self, session: str) -> dict[str, Any]:
        """Return by how many bytes the resident memory of this process grows when it reads a session and keeps it."""
        self._appended.clear()
        gc.collect()
        before = resident()
        found = await self._contender.read(session)
        gc.collect()
        grown = resident() - before
        return {"bytes": grown, "messages": len(self._contender.texts(found))}

    async def stop(self) -> dict[str, Any]:
        """Close everything."""
        await self._contender.stop()
        return {}

    def _next_batch(self, session: str, count: int) -> list[Any]:
        messages = new_messages(len(self._appended[session]), count)
        self._appended[session] += [each.text for each in messages]
        return self._contender.convert(messages)

    async def _append(self, session: str, count: int) -> None:
        await self._contender.append(session, self._next_batch(session, count))


async def _timed(calls: list[Callable[[], Awaitable[Any]]]) -> dict[str, Any]:
    """Await the calls in sequence. Return the nanoseconds of each, and the processor time of this process in all."""
    nanoseconds = []
    gc.collect()
    spent = time.process_time_ns()
    for call in calls:
        began = time.perf_counter_ns()
        await call()
        nanoseconds.append(time.perf_counter_ns() - began)
    return {"ns": nanoseconds, "cpu_ns": time.process_time_ns() - spent}


def _compared(expected: list[str], found: list[str], orders: list[list[str]]) -> dict[str, int]:
    """Count messages that are lost, duplicated, or not in the order in which their writer appended them."""
    places = {text: place for place, text in enumerate(found)}
    misplaced = 0
    for order in orders:
        found_places = [places[text] for text in order if text in places]
        misplaced += sum(one > other for one, other in itertools.pairwise(found_places))
    return {
        "expected": len(expected),
        "lost": len(set(expected) - set(found)),
        "twice": len(found) - len(set(found)),
        "misplaced": misplaced,
    }


async def _serve(name: str, url: str, redis_url: str | None) -> None:
    """Execute commands until the end of stdin."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # output of packages must not mix with answers
    worker = Worker(importlib.import_module(f"benchmarks.contenders.{name}").Contender(url, redis_url))
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        arguments = json.loads(line)
        try:
            answer = await getattr(worker, arguments.pop("command"))(**arguments)
        except Exception:  # noqa: BLE001 - any exception of a package; the runner reports it
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None))
