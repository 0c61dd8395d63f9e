"""A plugin for pytest that gives the previous release's tests databases with the schema of today's."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import agentstore.migrate  # type: ignore[import-untyped]  # of that release

_TODAY = Path(__file__).parents[2]


async def _upgrade(url: str, *_: Any, **__: Any) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", "agentstore", "upgrade", "--url", url]
    await asyncio.to_thread(subprocess.run, command, cwd=_TODAY, env=environment, check=True)


agentstore.migrate.upgrade = _upgrade  # type: ignore[assignment]
assert not Path(agentstore.migrate.__file__).is_relative_to(_TODAY / "agentstore"), "it is to be the previous release's"
