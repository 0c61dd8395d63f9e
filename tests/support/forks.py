"""Concurrent upgrades and application starts: ``python -m tests.support.forks UPGRADES STARTS URL``.

The processes are forked, which starts them closer together than separate interpreters.
"""

import asyncio
import os
import sys

from agentstore import AgentStore, Settings, migrate
from agentstore.cli import load_command, main


async def _start(url: str) -> None:
    async with AgentStore(url, settings=Settings(auto_migrate="upgrade")) as store:
        assert await store.health()
        await store.sessions.create_session("app")


if __name__ == "__main__":
    upgrades, starts, url = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    _ = load_command("upgrade"), migrate.upgrade  # loads what all processes need
    started = []
    for number in range(upgrades + starts):
        if not (pid := os.fork()):
            if number < upgrades:
                sys.argv = ["agentstore", "upgrade", "--url", url]
                main()
            else:
                asyncio.run(_start(url))
            sys.exit(0)
        started.append(pid)
    failed = [pid for pid in started if os.waitpid(pid, 0)[1]]
    sys.exit(f"{len(failed)} of {len(started)} failed" if failed else 0)
