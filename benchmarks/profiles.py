"""Profile calls: the share of each library in the time of a call, as a table and as flame graphs.

py-spy samples a worker while it makes calls, including native functions. Where timings vary too much, ``--count``
counts the instructions of a call with callgrind, for agentstore and the floor; they are the same in each run.
"""

import argparse
import asyncio
import json
import re
import shutil
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks import plots
from benchmarks.cases import Case, cases
from benchmarks.runner import AGENTSTORE, FLOOR, ContenderFailed, Process, contenders, prepare, server

_SECONDS = 15
_RATE = 200
_COUNTED = 200  # calls, under callgrind
_GRAPHS = {"append 1": "append.svg", "get 1,000": "get_session.svg"}
# The library of a frame, by its file or function. A stack belongs to the library of its innermost known frame.
_LIBRARIES = {
    "sockets": re.compile(r"\b(epoll_wait|sock_send|sock_recv\w*|sock_call\w*|send|recv) \("),
    "pydantic": re.compile("pydantic"),
    "orjson": re.compile("orjson"),
    "asyncpg": re.compile(r"asyncpg[/.]|\(protocol\.c"),
    "SQLAlchemy's pool": re.compile("sqlalchemy/"),
    "garbage collection": re.compile(r"\b(gc_collect\w*|deduce_unreachable|collect_generations)\b"),
    "agentstore": re.compile(r"\(agentstore/"),
    "asyncio": re.compile(r"asyncio|selectors\.py"),
}
# The preparation of calls, and what happens between them: not part of a call.
_PREPARATION = re.compile(
    r"\b(_next_batch|convert|new_messages|short_messages|agent_state|gc_collect\w*) \([^;]*benchmarks/"
    r"|_timed \([^;]*;[^;]*gc_collect"
)


def _log(text: str) -> None:
    print(text, flush=True)


def _library(frames: Sequence[str]) -> str:
    for frame in reversed(frames):
        for library, pattern in _LIBRARIES.items():
            if pattern.search(frame):
                return library
    return "Python"


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, error = await process.communicate()
    if process.returncode:
        raise ContenderFailed(f"{command[0]}: {error.decode().strip()}")


async def _record(process: Process, case: Case, calls: int) -> Counter[tuple[str, ...]]:
    """Let the worker make calls while py-spy samples it, and return the sampled stacks."""
    spy = str(Path(sys.executable).parent / "py-spy")
    with tempfile.TemporaryDirectory() as folder:
        raw = f"{folder}/raw"
        options = ("--pid", str(process.pid), "--duration", str(_SECONDS), "--rate", str(_RATE))
        recording = asyncio.create_task(_run(spy, "record", *options, "--native", "--format", "raw", "--output", raw))
        while not recording.done():
            await process.run(case.command, **case.arguments, calls=calls)
        await recording
        stacks: Counter[tuple[str, ...]] = Counter()
        for line in await asyncio.to_thread(_lines, raw):
            stack, _, count = line.rpartition(" ")
            _, ran, rest = stack.partition("._run_once (")
            if ran and not _PREPARATION.search(rest):
                frames = rest.split(";")[1:]
                called = next((place for place, frame in enumerate(frames) if frame.startswith("_timed (")), -1)
                stacks[tuple(frames[called + 1 :])] += int(count)
    return stacks


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines()


async def _profile(running: dict[str, Process], wanted: list[Case], folder: Path) -> dict[str, Any]:
    """Return the milliseconds of each call, and the share of each library."""
    found = {}
    process = running[AGENTSTORE]
    _log(f"-- {'call':22} {'ms':>8}   share of each library")
    for case in wanted:
        await prepare(case, process)
        ms = statistics.median((await process.run(case.command, **case.arguments, calls=20))["ns"]) / 1e6
        calls = max(1, min(case.max_calls, int(500 / ms)))
        # Measured without py-spy, which stops the worker for each sample.
        answer = await process.run(case.command, **case.arguments, calls=calls)
        server_share = max(0.0, 1 - answer["cpu_ns"] / sum(answer["ns"]))
        stacks = await _record(process, case, calls)
        counts: Counter[str] = Counter()
        for frames, count in stacks.items():
            counts[_library(frames)] += count
        total = counts.total()
        parts = {"server": server_share, **{each: (1 - server_share) * n / total for each, n in counts.most_common()}}
        found[case.name] = {"ms": ms, "parts": parts}
        _log(f"{case.name:25} {ms:8.3f}   {', '.join(f'{each} {part:.0%}' for each, part in parts.items())}")
        if case.name in _GRAPHS:
            plots.flames(stacks, server_share, f"{case.name}: {ms:.2f} ms", folder / _GRAPHS[case.name])
    return found


async def _count(running: dict[str, Process], wanted: list[Case], folder: Path) -> dict[str, Any]:
    """Return the number of instructions of each call, for agentstore and the floor."""
    found = {}
    _log(f"-- {'instructions of a call':22} {'floor':>12} {'agentstore':>12}   relative to the floor")
    for case in wanted:
        counted = {}
        for name in (FLOOR, AGENTSTORE):
            process = running[name]
            await prepare(case, process)
            await process.run(case.command, **case.arguments, calls=20)
            await _run("callgrind_control", "--zero", str(process.pid))
            await process.run(case.command, **case.arguments, calls=_COUNTED)
            await _run("callgrind_control", "--dump", str(process.pid))
            counted[name] = await asyncio.to_thread(_instructions, folder, process.pid) / _COUNTED
        ratio = counted[AGENTSTORE] / counted[FLOOR]
        found[case.name] = {**counted, "ratio": ratio}
        _log(f"{case.name:25} {counted[FLOOR]:12,.0f} {counted[AGENTSTORE]:12,.0f}   {ratio:.2f}")
    return found


def _instructions(folder: Path, pid: int) -> int:
    (dumped,) = folder.glob(f"callgrind.out.{pid}.*")
    total = re.search(r"^(?:summary|totals): (\d+)", dumped.read_text(encoding="utf-8"), re.MULTILINE)
    dumped.unlink()
    assert total is not None
    return int(total[1])


async def measure(url: str | None, folder: Path, *, count: bool) -> dict[str, Any]:
    """Profile the calls, or count their instructions."""
    wanted = [case for case in cases(quick=True) if not case.name.startswith("list")]
    names = [FLOOR, AGENTSTORE] if count else [AGENTSTORE]
    with tempfile.TemporaryDirectory() as counts:
        before: tuple[str, ...] = ()
        if count:
            if shutil.which("valgrind") is None:
                raise ContenderFailed("--count needs valgrind: run apt-get install valgrind")
            before = ("valgrind", "--tool=callgrind", f"--callgrind-out-file={counts}/callgrind.out.%p")
        async with server(url) as (first, url_of):
            admin = await asyncpg.connect(first)
            async with contenders(url_of, admin, None, names, _log, before=before) as running:
                if count:
                    return await _count(running, wanted, Path(counts))
                return await _profile(running, wanted, folder)


async def main() -> int:
    """Profile, print the results and write the requested files; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiles", description=__doc__)
    parser.add_argument(
        "--url", help="use this server, where the user may create databases, instead of an embedded one"
    )
    parser.add_argument("--count", action="store_true", help="count instructions with callgrind")
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="the folder for the flame graphs")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to this file")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    try:
        report = await measure(arguments.url, arguments.out, count=arguments.count)
    except ContenderFailed as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
