"""Upgrades that are killed: ``python -m tests.support.killed FOLDER TEMPLATE URL FIRST STEP``.

It upgrades copies of the database TEMPLATE with the migrations in FOLDER; URL has ``{}`` for the database's name. The
first upgrade is killed with SIGKILL after FIRST messages to the server, each following one STEP messages later, until
an upgrade completes. Each copy is then upgraded again. Prints the names of the copies.
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


def kill_after(messages: int) -> None:
    """Kill this process right after it has sent this many messages to servers."""
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
    """Run a coroutine in a child process, and return its exit code."""
    if not (pid := os.fork()):
        asyncio.run(call())
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(folder: str, template: str, url: str, first: int, step: int) -> None:
    """Run the upgrades; see the module."""
    revisions.folder = lambda: Path(folder)  # type: ignore[assignment]
    apply = migrate.upgrade  # loads Alembic, once for all processes
    number = first
    while True:
        name = f"{template}_{number}"

        async def upgrade(name: str = name) -> None:
            await apply(url.format(name))

        async def killed(name: str = name, number: int = number) -> None:
            await _copy(url, template, name)
            kill_after(number)
            await upgrade(name)

        code = _fork(killed)
        if code not in (0, -signal.SIGKILL) or _fork(upgrade) != 0:
            sys.exit(f"failed when killed after {number} messages")
        print(name, flush=True)
        if code == 0:
            return
        number += step


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
