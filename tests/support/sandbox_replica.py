"""Another process with its own sandbox service: `replica` starts it, and :class:`Replica` sends it commands.

The process is ``python -m tests.support.sandbox_replica URL PROVIDER SETTINGS``. It reads commands from its stdin, one
JSON list per line: the name of a command and its arguments. It answers each with a line of JSON: the result, or the
name of the exception. At the end of its stdin it stops the service and exits.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agentstore import AgentStoreError, PostgresSandboxService, Settings

_ROOT = Path(__file__).parents[2]


class Replica:
    """The process, as seen by a test."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    async def read_answer(self) -> Any:
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            line = await self.process.stdout.readline()
        assert line, "the replica has exited"
        return json.loads(line)

    async def run(self, *command: Any) -> Any:
        """Run a command of :func:`_main` in the replica, and return its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        return await self.read_answer()

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)


@asynccontextmanager
async def replica(url: str, settings: Settings, **overrides: Any) -> AsyncIterator[Replica]:
    """Start a replica with the connection settings of the test, and `overrides`."""
    migrations = settings.migration_database_url
    values = {
        "pooler": settings.pooler,
        "migration_database_url": migrations and migrations.get_secret_value(),
        **overrides,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.sandbox_replica", url, "unsafe_subprocess", json.dumps(values)),
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    running = Replica(process)
    try:
        assert await running.read_answer() == "ready"
        yield running
    finally:
        if process.returncode is None:
            running.signal(signal.SIGCONT)
            assert process.stdin is not None
            process.stdin.close()
            try:
                async with asyncio.timeout(60):
                    await process.wait()
            finally:
                if process.returncode is None:
                    process.kill()


async def _main(url: str, provider: str, values: str) -> None:
    settings = Settings(**json.loads(values))
    loop = asyncio.get_running_loop()
    async with PostgresSandboxService(url, provider=provider, settings=settings) as service:
        sandboxes: dict[str, Any] = {}

        async def connect(session: str, times: int) -> list[Any]:
            """Connect concurrently, and return each distinct sandbox: its id and generation."""
            found = await asyncio.gather(*(service.connect(session, "alice") for _ in range(times)))
            sandboxes[session] = found[0][0]
            return sorted({(each.sandbox_id, each.generation) for (each,) in found})

        async def shell(session: str, command: str) -> Any:
            return (await sandboxes[session].run_shell_command(command)).text

        async def release(session: str) -> int:
            return len(await service.release(session, "alice"))

        commands: dict[str, Callable[..., Awaitable[Any]]] = {"connect": connect, "shell": shell, "release": release}
        print(json.dumps("ready"), flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            name, *arguments = json.loads(line)
            try:
                answer = await commands[name](*arguments)
            except AgentStoreError as error:
                answer = type(error).__name__
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
