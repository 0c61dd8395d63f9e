"""A process that writes: ``python -m tests.support.writer JOB URL ...``, started by the concurrency tests."""

import asyncio
import json
import os
import random
import sys
from collections.abc import Callable, Coroutine
from typing import Any

from agentstore import AgentStore, Message, Session, Settings, TextContent


def _text(words: str, id: str) -> Message:
    return Message(id=id, role="user", content=[TextContent(text=words)])


def _store(url: str) -> AgentStore:
    return AgentStore(url, settings=Settings(**json.loads(os.environ.get("WRITER_SETTINGS", "{}"))))


async def many(url: str, name: str, tasks: int, appends: int, sessions: int) -> None:
    """Append from many tasks to one session or to several; each task numbers its messages."""
    async with _store(url) as store:

        async def write(task: int) -> None:
            for number in range(appends):
                target = Session(id=f"s{(task * appends + number) % sessions}", user_id="alice")
                await store.sessions.append_message(target, _text("x" * 100, id=f"{name}-{task}-{number:03}"))

        await asyncio.gather(*(write(task) for task in range(tasks)))


async def overlapping(url: str, name: str, count: int) -> None:
    """Append shuffled batches of the same messages that the other writers append."""
    rng = random.Random(name)
    messages = [_text(f"content {number}", id=f"m{number}") for number in range(count)]
    async with _store(url) as store:
        target = Session(id="s0", user_id="alice")
        for _ in range(40):
            await store.sessions.append_message(target, rng.sample(messages, rng.randint(1, 20)))
        await store.sessions.append_message(target, messages)


async def until_killed(url: str, name: str) -> None:
    """Append batches for ever, and print each one's number once it is acknowledged."""
    async with _store(url) as store:
        target = Session(id="s0", user_id="alice")
        number = 0
        while True:
            size = number % 7 + 1
            batch = [_text("x" * 200, id=f"{name}-{number}-{part}-{size}") for part in range(size)]
            await store.sessions.append_message(target, batch)
            print(f"{number} {size}", flush=True)
            target.messages.clear()
            number += 1


if __name__ == "__main__":
    job, url, name, *numbers = sys.argv[1:]
    jobs: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {
        each.__name__: each for each in (many, overlapping, until_killed)
    }
    asyncio.run(jobs[job](url, name, *map(int, numbers)))
