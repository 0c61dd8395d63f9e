"""One contender in a process of its own: ``python -m benchmarks.worker NAME URL [REDIS_URL]``.

It reads commands, a JSON object a line, and answers each with one. Only one contender works at a time; the runner takes
them in turn. Needs the standard library and the contender's package alone.
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

from benchmarks.contender import Contender, remember, say, state
from benchmarks.memory import resident

# How many messages are appended at once where that is not what is measured.
_FILL = 100


class Worker:
    """What the runner can ask for."""

    def __init__(self, contender: Contender) -> None:
        self._contender = contender
        self._numbers = itertools.count()
        self._appended: dict[str, list[str]] = {}
        self._state = 0

    async def hello(self) -> dict[str, Any]:
        """Start, and say who this is and what it can do."""
        await self._contender.start()
        able = [name for name in dir(self._contender) if not name.startswith("_")]
        return {
            "name": self._contender.name,
            "version": self._contender.version,
            "durable": self._contender.durable,
            "able": able,
            "loop": asyncio.get_running_loop().__class__.__module__,
        }

    async def fill(self, session: str, messages: int) -> dict[str, Any]:
        """Make a session of so many messages."""
        await self._contender.create(session)
        self._appended[session] = []
        for start in range(0, messages, _FILL):
            await self._append(session, min(_FILL, messages - start))
        return {}

    async def fill_many(self, sessions: int) -> dict[str, Any]:
        """Make sessions of one message each."""
        for number in range(sessions):
            await self.fill(f"listed {number}", 1)
        return {}

    async def append(self, session: str, batch: int, calls: int) -> dict[str, Any]:
        """Append to one session, one call after the other."""
        made = [self._made(session, batch) for _ in range(calls)]
        return await _timed([partial(self._contender.append, session, each) for each in made])

    async def read(self, session: str, calls: int) -> dict[str, Any]:
        """Read a whole session."""
        return await _timed([partial(self._contender.read, session)] * calls)

    async def list_sessions(self, calls: int) -> dict[str, Any]:
        """List the user's sessions."""
        return {**await _timed([self._contender.list_sessions] * calls), "found": await self._contender.list_sessions()}

    async def start_states(self, session: str) -> dict[str, Any]:
        """Make a session whose states are saved, where a state needs one."""
        if hasattr(self._contender, "create"):
            await self._contender.create(session)
        return {}

    async def save_state(self, session: str, calls: int) -> dict[str, Any]:
        """Save states one after the other, each another one."""
        states = []
        for _ in range(calls):
            self._state += 1
            states.append(state(self._state))
        return await _timed([partial(self._contender.save_state, session, each) for each in states])

    async def load_state(self, session: str, calls: int) -> dict[str, Any]:
        """Load the last state, which must be the one that was saved last."""
        assert await self._contender.load_state(session) == state(self._state), "the state came back different"
        return await _timed([partial(self._contender.load_state, session)] * calls)

    async def add_memory(self, calls: int) -> dict[str, Any]:
        """Add ten messages of ten words to one of fifty sessions."""
        made = [self._contender.make(remember(next(self._numbers) * 10, 10)) for _ in range(calls)]
        sessions = [f"m{next(self._numbers) % 50}" for _ in range(calls)]
        pairs = zip(sessions, made, strict=True)
        return await _timed([partial(self._contender.add_memory, to, each) for to, each in pairs])

    async def verify(self, session: str) -> dict[str, Any]:
        """Compare what a session has with what was acknowledged: how much is lost, twice, or out of order."""
        found = self._contender.texts(await self._contender.read(session))
        return _compared(self._appended[session], found, [self._appended[session]])

    async def write(self, sessions: list[str], writers: int, appends: int) -> dict[str, Any]:
        """Let so many tasks append, one message after the other, each to its own session or all to one."""
        for session in sessions:
            await self._contender.create(session)
        said = [say(0, appends, number) for number in range(writers)]
        made = [[self._contender.make([each]) for each in mine] for mine in said]
        nanoseconds: list[int] = []

        async def writer(number: int) -> None:
            session = sessions[number % len(sessions)]
            for messages in made[number]:
                began = time.perf_counter_ns()
                await self._contender.append(session, messages)
                nanoseconds.append(time.perf_counter_ns() - began)

        gc.collect()
        gc.freeze()  # what was made here is none of the contender's garbage
        began = time.perf_counter()
        await asyncio.gather(*map(writer, range(writers)))
        took = time.perf_counter() - began
        gc.unfreeze()
        verified = {"expected": 0, "lost": 0, "twice": 0, "misplaced": 0}
        for place, session in enumerate(sessions):
            orders = [[each.text for each in mine] for mine in said[place :: len(sessions)]]
            found = self._contender.texts(await self._contender.read(session))
            for name, count in _compared([text for order in orders for text in order], found, orders).items():
                verified[name] += count
        return {"ns": nanoseconds, "seconds": took, "verified": verified}

    async def prefixes(self, session: str, writers: int, appends: int) -> dict[str, Any]:
        """Read while all write, and count the reads that are no prefix of the final order."""
        await self._contender.create(session)
        reads: list[list[str]] = []
        writing = writers

        async def writer(number: int) -> None:
            nonlocal writing
            try:
                for count in range(appends):
                    await self._contender.append(session, self._contender.make(say(count, 1, number)))
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
        """Return by how many bytes the resident memory of this process grows by a session that it reads and keeps."""
        self._appended.clear()
        gc.collect()
        before = resident()
        found = await self._contender.read(session)
        gc.collect()
        grown = resident() - before
        return {"bytes": grown, "messages": len(self._contender.texts(found))}

    async def bye(self) -> dict[str, Any]:
        """Close everything."""
        await self._contender.stop()
        return {}

    def _made(self, session: str, count: int) -> list[Any]:
        said = say(len(self._appended[session]), count)
        self._appended[session] += [each.text for each in said]
        return self._contender.make(said)

    async def _append(self, session: str, count: int) -> None:
        await self._contender.append(session, self._made(session, count))


async def _timed(calls: list[Callable[[], Awaitable[Any]]]) -> dict[str, Any]:
    """Await one call after the other, and return the nanoseconds of each, and those of this process in all of them."""
    nanoseconds = []
    gc.collect()
    spent = time.process_time_ns()
    for call in calls:
        began = time.perf_counter_ns()
        await call()
        nanoseconds.append(time.perf_counter_ns() - began)
    return {"ns": nanoseconds, "cpu_ns": time.process_time_ns() - spent}


def _compared(expected: list[str], found: list[str], orders: list[list[str]]) -> dict[str, int]:
    """Count what is lost, twice, and not in the order in which its writer said it."""
    places = {text: place for place, text in enumerate(found)}
    misplaced = 0
    for order in orders:
        there = [places[text] for text in order if text in places]
        misplaced += sum(one > other for one, other in itertools.pairwise(there))
    return {
        "expected": len(expected),
        "lost": len(set(expected) - set(found)),
        "twice": len(found) - len(set(found)),
        "misplaced": misplaced,
    }


async def _serve(name: str, url: str, redis_url: str | None) -> None:
    """Do what is asked for, until nobody asks any more."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # what a package prints is no answer
    worker = Worker(importlib.import_module(f"benchmarks.contenders.{name}").Contender(url, redis_url))
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        asked = json.loads(line)
        try:
            answer = await getattr(worker, asked.pop("do"))(**asked)
        except Exception:  # noqa: BLE001 - of whatever package; the runner reports it
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None))
