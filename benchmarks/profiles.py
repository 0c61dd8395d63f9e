"""``make profile``: where the time of a call goes, by whose code it is spent in, as a table and as flame graphs.

py-spy looks at a worker while it makes one call after the other, and sees what is below the Python functions, too.
Where the wall's clock is too noisy to tell, ``--count`` lets callgrind count the instructions of a call, of ours and of
the floor, which are the same each time.
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
from benchmarks.runner import FLOOR, OURS, Failed, Process, contenders, prepare, server

_SECONDS = 15
_RATE = 200
_COUNTED = 200  # calls, under callgrind
_GRAPHS = {"append 1": "append.svg", "get 1,000": "get_session.svg"}
# Whose a frame is, by its file or function; of a stack, the innermost that is anybody's.
_OWNERS = {
    "sockets": re.compile(r"\b(epoll_wait|sock_send|sock_recv\w*|sock_call\w*|send|recv) \("),
    "pydantic": re.compile("pydantic"),
    "orjson": re.compile("orjson"),
    "asyncpg": re.compile(r"asyncpg[/.]|\(protocol\.c"),
    "SQLAlchemy's pool": re.compile("sqlalchemy/"),
    "garbage collection": re.compile(r"\b(gc_collect\w*|deduce_unreachable|collect_generations)\b"),
    "agentstore": re.compile(r"\(agentstore/"),
    "asyncio": re.compile(r"asyncio|selectors\.py"),
}
# What a call is made with, and what is done between calls.
_PREPARED = re.compile(
    r"\b(_made|make|say|remember|state|gc_collect\w*) \([^;]*benchmarks/|_timed \([^;]*;[^;]*gc_collect"
)


def _log(text: str) -> None:
    print(text, flush=True)


def _owner(frames: Sequence[str]) -> str:
    for frame in reversed(frames):
        for owner, pattern in _OWNERS.items():
            if pattern.search(frame):
                return owner
    return "Python"


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, error = await process.communicate()
    if process.returncode:
        raise Failed(f"{command[0]}: {error.decode().strip()}")


async def _record(process: Process, case: Case, calls: int) -> Counter[tuple[str, ...]]:
    """Let the worker make calls for as long as py-spy looks at it, and return the stacks that it has seen."""
    spy = str(Path(sys.executable).parent / "py-spy")
    with tempfile.TemporaryDirectory() as folder:
        raw = f"{folder}/raw"
        every = ("--pid", str(process.pid), "--duration", str(_SECONDS), "--rate", str(_RATE))
        looking = asyncio.create_task(_run(spy, "record", *every, "--native", "--format", "raw", "--output", raw))
        while not looking.done():
            await process.ask(case.do, **case.given, calls=calls)
        await looking
        stacks: Counter[tuple[str, ...]] = Counter()
        for line in await asyncio.to_thread(_lines, raw):
            stack, _, count = line.rpartition(" ")
            _, ran, rest = stack.partition("._run_once (")
            if ran and not _PREPARED.search(rest):
                frames = rest.split(";")[1:]
                called = next((place for place, frame in enumerate(frames) if frame.startswith("_timed (")), -1)
                stacks[tuple(frames[called + 1 :])] += int(count)
    return stacks


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines()


async def _profile(running: dict[str, Process], wanted: list[Case], folder: Path) -> dict[str, Any]:
    """Return of each call the milliseconds, and the part of them that is spent in whose code."""
    found = {}
    process = running[OURS]
    _log(f"-- {'the time of a call':22} {'ms':>8}   in whose code")
    for case in wanted:
        await prepare(case, process)
        ms = statistics.median((await process.ask(case.do, **case.given, calls=20))["ns"]) / 1e6
        calls = max(1, min(case.most_calls, int(500 / ms)))
        # Before py-spy looks, which stops the worker each time.
        answer = await process.ask(case.do, **case.given, calls=calls)
        waited = max(0.0, 1 - answer["cpu_ns"] / sum(answer["ns"]))
        stacks = await _record(process, case, calls)
        counts: Counter[str] = Counter()
        for frames, count in stacks.items():
            counts[_owner(frames)] += count
        total = counts.total()
        parts = {"the server": waited, **{each: (1 - waited) * n / total for each, n in counts.most_common()}}
        found[case.name] = {"ms": ms, "parts": parts}
        _log(f"{case.name:25} {ms:8.3f}   {', '.join(f'{each} {part:.0%}' for each, part in parts.items())}")
        if case.name in _GRAPHS:
            plots.flames(stacks, waited, f"{case.name}: {ms:.2f} ms", folder / _GRAPHS[case.name])
    return found


async def _count(running: dict[str, Process], wanted: list[Case], folder: Path) -> dict[str, Any]:
    """Return of each call how many instructions of this machine it takes, of ours and of the floor."""
    found = {}
    _log(f"-- {'instructions of a call':22} {'floor':>12} {'ours':>12}   to the floor")
    for case in wanted:
        counted = {}
        for name in (FLOOR, OURS):
            process = running[name]
            await prepare(case, process)
            await process.ask(case.do, **case.given, calls=20)
            await _run("callgrind_control", "--zero", str(process.pid))
            await process.ask(case.do, **case.given, calls=_COUNTED)
            await _run("callgrind_control", "--dump", str(process.pid))
            counted[name] = await asyncio.to_thread(_instructions, folder, process.pid) / _COUNTED
        ratio = counted[OURS] / counted[FLOOR]
        found[case.name] = {**counted, "ratio": ratio}
        _log(f"{case.name:25} {counted[FLOOR]:12,.0f} {counted[OURS]:12,.0f}   {ratio:.2f}")
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
    names = [FLOOR, OURS] if count else [OURS]
    with tempfile.TemporaryDirectory() as counts:
        before: tuple[str, ...] = ()
        if count:
            if shutil.which("valgrind") is None:
                raise Failed("valgrind is needed: apt-get install valgrind")
            before = ("valgrind", "--tool=callgrind", f"--callgrind-out-file={counts}/callgrind.out.%p")
        async with server(url) as (first, url_of):
            admin = await asyncpg.connect(first)
            async with contenders(url_of, admin, None, names, _log, before=before) as running:
                if count:
                    return await _count(running, wanted, Path(counts))
                return await _profile(running, wanted, folder)


async def main() -> int:
    """Profile, print, and write what was asked for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profiles", description=__doc__)
    parser.add_argument("--url", help="a server on which databases may be made, instead of an embedded one")
    parser.add_argument("--count", action="store_true", help="count instructions, with callgrind")
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="where the flame graphs go")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    try:
        report = await measure(given.url, given.out, count=given.count)
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    if given.json:
        given.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
