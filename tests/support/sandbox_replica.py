"""A replica for tests: ``python -m tests.support.sandbox_replica URL PROVIDER SETTINGS`` does what its input says.

A line is a JSON list: the name of a command and its arguments. Its answer is a line, too: JSON, or the name of the
error that was raised. At the end of its input it stops.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from agentstore import AgentStoreError, PostgresSandboxService, Settings


async def _main(url: str, provider: str, given: str) -> None:
    settings = Settings(**json.loads(given))
    loop = asyncio.get_running_loop()
    async with PostgresSandboxService(url, provider=provider, settings=settings) as service:
        held: dict[str, Any] = {}

        async def connect(session: str, times: int) -> list[Any]:
            found = await asyncio.gather(*(service.connect(session, "alice") for _ in range(times)))
            held[session] = found[0][0]
            return sorted({(each.sandbox_id, each.generation) for (each,) in found})

        async def shell(session: str, command: str) -> Any:
            return (await held[session].run_shell_command(command)).text

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
