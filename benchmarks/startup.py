"""Measure the CPU time of imports and of short commands, each as a ratio to the dependencies that it always loads.

Each runs in its own process, and they take turns in rounds. CPU time (user and system) of a process is less
noisy than elapsed time on a shared machine; a ratio to an import measured in the same rounds is less noisy still.
"""

import asyncio
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from agentstore import migrate
from benchmarks.runner import server

# The packages that `AgentStore` needs, the one that `Message` needs, and an interpreter that does nothing.
_DATABASE = "import sqlalchemy.ext.asyncio, asyncpg, pydantic_settings, orjson"
_PYDANTIC = "import pydantic"
# `import pydantic` imports its parts at first use, so it costs less than any program that has a model.
_MODEL = "import pydantic\nclass M(pydantic.BaseModel):\n    x: int"
_NOTHING = "pass"


@dataclass(frozen=True, slots=True)
class _Case:
    """A program and its baseline, another program. The goal is the highest ratio of their CPU times.

    For imports (`is_import`), the start of the interpreter is subtracted from both, because it would hide a difference.
    """

    name: str
    arguments: Sequence[str]
    baseline: str
    goal: float
    is_import: bool = True


# The goals of commands are shares of their ratios before imports were lazy: 0.4 of 2.0 for --version and of 2.3 for
# --help, 0.7 of 2.1 for check.
_CASES = [
    _Case("import agentstore", ["-c", "import agentstore"], _DATABASE, 1.6),
    _Case("import AgentStore", ["-c", "from agentstore import AgentStore"], _DATABASE, 1.6),
    _Case("import Message", ["-c", "from agentstore import Message"], _PYDANTIC, 1.4),
    _Case("... to any model", ["-c", "from agentstore import Message"], _MODEL, 1.4),
    _Case("agentstore --version", ["-m", "agentstore", "--version"], _DATABASE, 0.8, is_import=False),
    _Case("agentstore --help", ["-m", "agentstore", "--help"], _DATABASE, 0.9, is_import=False),
    _Case("agentstore check", ["-m", "agentstore", "check"], _DATABASE, 1.45, is_import=False),
]


def _cpu_seconds(arguments: Sequence[str], environment: dict[str, str]) -> float:
    """Run Python with these arguments; return the user and system time of the process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(  # noqa: S603
        [sys.executable, *arguments], env=environment, check=True, stdout=subprocess.DEVNULL
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def _rounds(count: int, environment: dict[str, str]) -> dict[tuple[str, ...], list[float]]:
    """Run each program once per round, after a first run that compiles its modules. Return the seconds of each."""
    programs = {("-c", code) for code in (_NOTHING, _PYDANTIC, _MODEL, _DATABASE)} | {
        tuple(each.arguments) for each in _CASES
    }
    found: dict[tuple[str, ...], list[float]] = {program: [] for program in sorted(programs)}
    for number in range(count + 1):
        for program, seconds in found.items():
            taken = _cpu_seconds(program, environment)
            if number:
                seconds.append(taken)
    return found


async def measure(url: str | None, log: Callable[[str], None], *, quick: bool) -> list[dict[str, Any]]:
    """Return each case's CPU milliseconds, its ratio to the baseline, and the goal."""
    async with server(url) as (first, url_of):
        admin = await asyncpg.connect(first)
        await admin.execute('DROP DATABASE IF EXISTS "startup" WITH (FORCE)')
        await admin.execute('CREATE DATABASE "startup"')
        await migrate.upgrade(url_of("startup"))
        environment = {**os.environ, "AGENTSTORE_DATABASE_URL": url_of("startup")}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # else each run would compile our modules again
        seconds = await asyncio.to_thread(_rounds, 7 if quick else 25, environment)
        await admin.execute('DROP DATABASE "startup" WITH (FORCE)')
        await admin.close()
    log(f"{'CPU time':22} {'ms':>10} {'baseline':>10}   ratio, goal")
    report = []
    nothing = statistics.median(seconds["-c", _NOTHING])
    for case in _CASES:
        own, baseline = (
            statistics.median(seconds[tuple(case.arguments)]),
            statistics.median(seconds["-c", case.baseline]),
        )
        if case.is_import:
            own, baseline = own - nothing, baseline - nothing
        ratio = own / baseline
        missed = "" if ratio <= case.goal else "  MISSED"
        log(f"{case.name:22} {own * 1e3:10.1f} {baseline * 1e3:10.1f}   {ratio:.2f}, {case.goal:.2f}{missed}")
        report.append(
            {"name": case.name, "ms": own * 1e3, "baseline": baseline * 1e3, "ratio": ratio, "goal": case.goal}
        )
    return report
