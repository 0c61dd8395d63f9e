"""Writer processes of the concurrency tests: ``python -m tests.support.writer JOB URL NAME,... NUMBER...``.

There is a process for each name, forked from one that has loaded what they need.
"""

import asyncio
import json
import multiprocessing
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

from agentstore import AgentStore, Conflict, Message, Session, Settings, TextContent


def _text(words: str, id: str) -> Message:
    return Message(id=id, role="user", content=[TextContent(text=words)])


def _store(url: str) -> AgentStore:
    return AgentStore(url, settings=Settings(**json.loads(os.environ.get("WRITER_SETTINGS", "{}"))))


def _print_lines(*lines: object) -> None:
    """Print lines at once, so that they do not mix with those of the other processes."""
    os.write(sys.stdout.fileno(), "".join(f"{line}\n" for line in lines).encode())


async def many(url: str, name: str, tasks: int, appends: int, sessions: int) -> None:
    """Append from many tasks to one session or several; each task numbers its messages."""
    async with _store(url) as store:

        async def write(task: int) -> None:
            for number in range(appends):
                target = Session(id=f"s{(task * appends + number) % sessions}", user_id="alice")
                await store.sessions.append_message(target, _text("x" * 100, id=f"{name}-{task}-{number:03}"))

        await asyncio.gather(*(write(task) for task in range(tasks)))


async def overlapping(url: str, name: str, count: int) -> None:
    """Append shuffled batches of the messages that the other writers append as well."""
    rng = random.Random(name)
    messages = [_text(f"content {number}", id=f"m{number}") for number in range(count)]
    async with _store(url) as store:
        target = Session(id="s0", user_id="alice")
        for _ in range(40):
            await store.sessions.append_message(target, rng.sample(messages, rng.randint(1, 20)))
        await store.sessions.append_message(target, messages)


async def popping(url: str, _name: str, tasks: int) -> None:
    """Pop one to three messages at a time from many tasks, until there are none, and print their ids."""
    async with _store(url) as store:

        async def pop(task: int) -> None:
            while popped := await store.sessions.pop_messages("alice", "s0", task % 3 + 1):
                _print_lines(*(message.id for message in popped))

        await asyncio.gather(*(pop(task) for task in range(tasks)))


async def turns(url: str, name: str, tasks: int, count: int) -> None:
    """Append from many tasks with the number of messages that each has seen, and print the turns that succeed."""
    async with _store(url) as store:

        async def take_turns(task: int) -> None:
            turn = 0
            while turn < count:
                try:
                    message = _text(f"turn {turn}", id=f"{name}-{task}-{turn}")
                    await store.sessions.append("alice", "s0", message, expected_seq=turn)
                    _print_lines(turn)
                    turn += 1
                except Conflict:
                    session = await store.sessions.get_session("alice", "s0", limit=0)
                    turn = session.message_count if session and session.message_count else 0

        await asyncio.gather(*(take_turns(task) for task in range(tasks)))


async def _until_killed(url: str, name: str) -> None:
    """Append batches in an endless loop, and print the number of each once it is acknowledged."""
    async with _store(url) as store:
        target = Session(id="s0", user_id="alice")
        number = 0
        while True:
            size = number % 7 + 1
            batch = [_text("x" * 200, id=f"{name}-{number}-{part}-{size}") for part in range(size)]
            await store.sessions.append_message(target, batch)
            print(f"{name} {number} {size}", flush=True)
            target.messages.clear()
            number += 1


def killed(url: str, name: str, times: int) -> None:
    """Fork writers one after another, kill each with SIGKILL once it writes, and forward their output."""
    for attempt in range(times):
        reading, writing = os.pipe()
        if not (pid := os.fork()):
            os.dup2(writing, sys.stdout.fileno())
            asyncio.run(_until_killed(url, f"{name}.{attempt}"))
        os.close(writing)
        with os.fdopen(reading) as lines:
            first = lines.readline()
            time.sleep(attempt % 10 * 0.003)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            print("".join(line for line in (first, *lines) if line.endswith("\n")), end="", flush=True)


def _run(job: str, url: str, name: str, numbers: list[int]) -> None:
    if job == "killed":
        killed(url, name, *numbers)
    else:
        jobs: dict[str, Callable[..., Coroutine[Any, Any, None]]] = {
            "many": many,
            "overlapping": overlapping,
            "popping": popping,
            "turns": turns,
        }
        asyncio.run(jobs[job](url, name, *numbers))


if __name__ == "__main__":
    job, url, names, *arguments = sys.argv[1:]
    _store(url)  # loads the driver, among others
    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=_run, args=(job, url, name, list(map(int, arguments)))) for name in names.split(",")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    sys.exit(any(writer.exitcode for writer in writers))
