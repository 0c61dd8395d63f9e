"""A pytest plugin that gives the previous release's tests databases with the schema of this release.

Its schema is upgraded as far as it is while the previous release is running. PREVIOUS_KILLS is how many writers the
test of kills starts.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import agentstore.migrate  # type: ignore[import-untyped]  # the previous release's module
import pytest

_ROOT = Path(__file__).parents[2]


_upgrade_previous = agentstore.migrate.upgrade


async def _upgrade(url: str, *_: Any, **options: Any) -> None:
    await _upgrade_previous(url, **options)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, "-m", "agentstore", "upgrade", "pre", "--run-earlier-post", "--url", url]
    await asyncio.to_thread(subprocess.run, command, cwd=_ROOT, env=environment, check=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: Any) -> Iterator[None]:
    """Let the test of fifty kills kill fewer writers, as that of this release does outside of ``make chaos``."""
    if not item.name.startswith("test_fifty_kills"):
        return (yield)
    kills = int(os.environ["PREVIOUS_KILLS"])
    item.module.range = lambda *bounds: range(kills) if bounds == (50,) else range(*bounds)
    try:
        return (yield)
    finally:
        del item.module.range


agentstore.migrate.upgrade = _upgrade  # type: ignore[assignment]
assert not Path(agentstore.migrate.__file__).is_relative_to(_ROOT / "agentstore"), "not the previous release"
