"""Upgrades that are killed: ``python -m tests.support.killed FOLDER TEMPLATE URL FIRST STEP``.

Of a database like TEMPLATE, whose URL is given with ``{}`` for its name, one copy after another is upgraded by the
migrations of FOLDER, by a process that is killed with SIGKILL right after its FIRST message to the server, the next by
one that is killed STEP messages later, and so on, until one comes to its end. Each is then upgraded once more. Prints
the names of the copies.
"""

import asyncio
import os
import signal
import sys
from asyncio import selector_events
from pathlib import Path
from typing import Any

import asyncpg

from agentstore import migrate
from agentstore.migrating import revisions


async def _copy(url: str, template: str, name: str) -> None:
    connection = await asyncpg.connect(url.format("postgres"))
    await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
    await connection.close()


def _kill_after(messages: int) -> None:
    """Let this process die with its so many-th message to a server: the message is sent."""
    transport: Any = selector_events._SelectorSocketTransport  # type: ignore[attr-defined]
    write, sent = transport.write, 0

    def counted(self: Any, data: Any) -> None:
        nonlocal sent
        write(self, data)
        sent += 1
        if sent == messages:
            os.kill(os.getpid(), signal.SIGKILL)

    transport.write = counted


def _fork(call: Any) -> int:
    """Run a coroutine in a process of its own, and return how that ended."""
    if not (pid := os.fork()):
        asyncio.run(call())
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(folder: str, template: str, url: str, first: int, step: int) -> None:
    """See the module."""
    revisions.folder = lambda: Path(folder)  # type: ignore[assignment]
    number = first
    while True:
        name = f"{template}_{number}"

        async def upgrade(name: str = name) -> None:
            await migrate.upgrade(url.format(name))

        async def killed(name: str = name, number: int = number) -> None:
            await _copy(url, template, name)
            _kill_after(number)
            await upgrade(name)

        code = _fork(killed)
        if code not in (0, -signal.SIGKILL) or _fork(upgrade) != 0:
            sys.exit(f"after {number} messages")
        print(name, flush=True)
        if code == 0:
            return
        number += step


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
