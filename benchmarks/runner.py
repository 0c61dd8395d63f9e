"""Run contenders in separate processes that take turns, so that variations of the machine affect all alike."""

import asyncio
import json
import random
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from agentstore import EmbeddedPostgres
from benchmarks.cases import Case, Writers

AGENTSTORE, FLOOR, ORM = "agentstore", "floor", "orm"
# Module and environment of each contender: a folder that `make` creates, or None for the environment of this process.
CONTENDERS: dict[str, str | None] = {
    FLOOR: None,
    AGENTSTORE: None,
    ORM: None,
    "google_adk": "google-adk",
    "openai_agents": "openai-agents",
    "agno_db": "agno",
    "agentscope_memory": "agentscope",
    "langgraph_saver": "langgraph",
    "langgraph_store": "langgraph",
    "runtime_redis": "agentscope-runtime",
    "runtime_memory": "agentscope-runtime",
}
_ROOT = Path(__file__).parent.parent
# Seconds that a round of one contender takes, approximately.
_ROUND_SECONDS = 0.3
# Seconds after which a slow contender is measured no further.
_MAX_SECONDS = 8
# A ratio is stable when the width of the median's 95 % confidence interval is at most this part of the median.
_STABLE_WIDTH = 0.02
# Contenders that are several times slower than the floor need less precision.
_STABLE_WIDTH_OF_PEERS = 0.15


class ContenderFailed(Exception):
    """A contender raised an exception, or could not be run. The message is its traceback or the reason."""


class Process:
    """A running contender, which executes one command at a time."""

    def __init__(self, module: str, process: asyncio.subprocess.Process) -> None:
        self.module = module
        self._process = process
        self.about: dict[str, Any] = {}
        self.filled: set[str] = set()

    async def run(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Run a command of the worker, and return its answer.

        Raises:
            ContenderFailed: it raised an exception, or its process has exited.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"command": command, **arguments}).encode() + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise ContenderFailed(f"the process of {self.module} has exited with code {await self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ContenderFailed(answer["error"])
        return answer

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    async def stop(self) -> None:
        """Stop the process; kill it if that takes longer than 10 s."""
        if self._process.returncode is None and self._process.stdin is not None:
            self._process.stdin.close()
            try:
                await asyncio.wait_for(self._process.wait(), 10)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()


@dataclass
class Result:
    """The measurements of a contender in a case. With writers, ``ms`` is the latency of one append, with waiting."""

    case: str
    contender: str
    ms: float
    p99_ms: float
    ratio: float
    low: float
    high: float
    rounds: int
    goal: float | None = None
    per_second: float | None = None
    p99_ratio: float | None = None
    goal_p99: float | None = None
    verified: dict[str, int] = field(default_factory=dict)
    quantiles_ms: list[float] = field(default_factory=list)
    """101 quantiles, from the fastest to the slowest call."""

    @property
    def is_whole(self) -> bool:
        """Whether no message was lost, duplicated or out of order."""
        return not any(count for name, count in self.verified.items() if name not in ("expected", "reads"))


@asynccontextmanager
async def server(url: str | None) -> AsyncIterator[tuple[str, Callable[[str], str]]]:
    """Run a Postgres with its defaults. Yields its URL, and a function that returns the URL of a database."""
    if url is not None:
        yield url, lambda name: url.rpartition("/")[0] + f"/{name}"
        return
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedPostgres(folder) as embedded:
            yield embedded.url, embedded.url_of


async def _answers(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    return True


@asynccontextmanager
async def _redis() -> AsyncIterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        process = await asyncio.create_subprocess_exec(
            *("redis-server", "--bind", "127.0.0.1", "--port", port),
            *("--save", "", "--appendonly", "no", "--dir", folder),
            stdout=asyncio.subprocess.DEVNULL,
        )
        try:
            while not await _answers(int(port)):
                if process.returncode is not None:
                    raise ContenderFailed(f"redis-server exited with code {process.returncode}")
                await asyncio.sleep(0.02)
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.terminate()
            await process.wait()


@asynccontextmanager
async def contenders(
    url_of: Callable[[str], str],
    admin: asyncpg.Connection,
    peers: Path | None,
    wanted: Sequence[str],
    log: Callable[[str], None],
    *,
    before: Sequence[str] = (),
    environments: Mapping[str, str | None] = CONTENDERS,
) -> AsyncIterator[dict[str, Process]]:
    """Start the wanted contenders whose environments exist, each with its own database.

    `before` is a prefix of their commands, such as a profiler; `environments` are the folders in `peers`.
    """
    async with AsyncExitStack() as stack:
        running = {}
        redis_url = None
        for module in wanted:
            environment = environments[module]
            python = Path(sys.executable)
            if environment is not None:
                if peers is None or not (peers / environment / "bin" / "python").exists():
                    continue
                python = peers / environment / "bin" / "python"
            if module == "runtime_redis":
                if shutil.which("redis-server") is None:
                    log("redis-server is not installed: the contenders that use it are skipped")
                    continue
                redis_url = await stack.enter_async_context(_redis())
            name = f"bench_{module}"
            await admin.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            await admin.execute(f'CREATE DATABASE "{name}"')
            arguments = [url_of(name), *([redis_url] if module == "runtime_redis" and redis_url else [])]
            process = Process(
                module,
                await asyncio.create_subprocess_exec(
                    *(*before, str(python), "-m", "benchmarks.worker", module, *arguments),
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.DEVNULL,
                    limit=2**28,
                    cwd=_ROOT,
                ),
            )
            stack.push_async_callback(process.stop)
            process.about = await process.run("start")
            running[module] = process
        yield running


async def measure(case: Case, running: dict[str, Process], rounds: int, log: Callable[[str], None]) -> list[Result]:
    """Time the calls of each contender that supports the case, until the ratios are stable or for `rounds` rounds."""
    participants = {name: each for name, each in running.items() if case.requires in each.about["methods"]}
    calls = {}
    for name, process in list(participants.items()):
        try:
            await prepare(case, process)
            trial = await process.run(case.command, **case.arguments, calls=3)
        except ContenderFailed as error:
            log(f"{case.name}: {process.about['name']} failed:\n{error}")
            if name in (AGENTSTORE, FLOOR):
                raise
            del participants[name]
            continue
        calls[name] = max(1, min(case.max_calls, int(_ROUND_SECONDS / (statistics.median(trial["ns"]) / 1e9))))
    # The same number of calls for both, so that neither is interrupted more often.
    calls[AGENTSTORE] = calls[FLOOR] = min(calls[AGENTSTORE], calls[FLOOR])
    times: dict[str, list[list[int]]] = {name: [] for name in participants}
    active = set(participants)
    while active and max(map(len, times.values())) < rounds:
        for name in random.sample(sorted(active), len(active)):
            answer = await participants[name].run(case.command, **case.arguments, calls=calls[name])
            times[name].append(answer["ns"])
        active = {
            name
            for name in active
            if not _is_stable(name, times) and not _exceeds_budget(name, sum(map(sum, times[name])) / 1e9)
        }
        if active:
            active |= {FLOOR}
    if case.command.startswith("list_"):
        for process in participants.values():
            found = (await process.run(case.command, **case.arguments, calls=1))["found"]
            if found < case.history:
                raise ContenderFailed(f"{process.about['name']} lists {found} of {case.history} sessions")
    results = []
    for name, process in participants.items():
        verified = await process.run("verify", session=case.session) if case.command == "append" else {}
        ratios = _ratios(name, times)
        all_ms = sorted(ns / 1e6 for round_ in times[name] for ns in round_)
        low, high = _quartiles(ratios)
        results.append(
            Result(
                case=case.name,
                contender=process.about["name"],
                ms=statistics.median(statistics.median(round_) for round_ in times[name]) / 1e6,
                p99_ms=_quantile(all_ms, 0.99),
                ratio=statistics.median(ratios),
                low=low,
                high=high,
                rounds=len(ratios),
                goal=case.goal if name == AGENTSTORE else None,
                verified=verified,
                quantiles_ms=_quantiles(all_ms),
            )
        )
    return results


async def measure_writers(
    case: Writers, running: dict[str, Process], rounds: int, log: Callable[[str], None]
) -> list[Result]:
    """Measure concurrent appends, in rounds until the ratios are stable, and count lost messages."""
    participants = {name: each for name, each in running.items() if "append" in each.about["methods"]}
    appends = {name: max(1, 64 // case.writers) for name in participants}
    rates: dict[str, list[float]] = {name: [] for name in participants}
    p99s: dict[str, list[float]] = {name: [] for name in participants}
    all_ms: dict[str, list[float]] = {name: [] for name in participants}
    spent = dict.fromkeys(participants, 0.0)
    verified: dict[str, dict[str, int]] = {name: {} for name in participants}
    active = set(participants)
    number = 0
    while active and number <= rounds:
        for name in random.sample(sorted(active), len(active)):
            sessions = [f"{case.name} {number} {place}" for place in range(case.sessions)]
            try:
                answer = await participants[name].run(
                    "write", sessions=sessions, writers=case.writers, appends=appends[name]
                )
            except ContenderFailed as error:
                log(f"{case.name}: {participants[name].about['name']} failed: {str(error).strip().splitlines()[-1]}")
                if name in (AGENTSTORE, FLOOR):
                    raise
                active.discard(name)
                continue
            for what, count in answer["verified"].items():
                verified[name][what] = verified[name].get(what, 0) + count
            rate = len(answer["ns"]) / answer["seconds"]
            spent[name] += answer["seconds"]
            is_over_budget = _exceeds_budget(name, spent[name])
            if number or is_over_budget:  # the first round only determines the number of appends per round
                rates[name].append(rate)
                ms = sorted(ns / 1e6 for ns in answer["ns"])
                p99s[name].append(_quantile(ms, 0.99))
                all_ms[name] += ms
            appends[name] = max(1, int(min(rate * _ROUND_SECONDS * 2, 12_800) / case.writers))
            if is_over_budget:
                active.discard(name)
        if number >= 3:
            ratios = {name: [[int(1e9 / rate)] for rate in rates[name]] for name in participants}
            active = {name for name in active if not _is_stable(name, ratios)}
            if active:
                active |= {FLOOR}
        number += 1
    results = []
    for name, process in participants.items():
        if not rates[name]:
            continue
        pairs = list(zip(rates[name], rates[FLOOR], strict=False))
        ratios_of = [one / other for one, other in pairs]
        low, high = _quartiles(ratios_of)
        all_ms[name].sort()
        tails = [one / other for one, other in zip(p99s[name], p99s[FLOOR], strict=False)]
        results.append(
            Result(
                case=case.name,
                contender=process.about["name"],
                ms=_quantile(all_ms[name], 0.5),
                p99_ms=statistics.median(p99s[name]),
                ratio=statistics.median(ratios_of),
                low=low,
                high=high,
                rounds=len(ratios_of),
                goal=case.goal if name == AGENTSTORE else None,
                per_second=statistics.median(rates[name]),
                p99_ratio=statistics.median(tails),
                goal_p99=case.goal_p99 if name == AGENTSTORE else None,
                verified=verified[name],
                quantiles_ms=_quantiles(all_ms[name]),
            )
        )
    return results


async def prefixes(running: dict[str, Process], writers: int, appends: int) -> dict[str, dict[str, int]]:
    """Count reads during appends that are not a prefix of the final order, for agentstore and the floor."""
    return {
        name: await running[name].run("prefixes", session="prefixes", writers=writers, appends=appends)
        for name in (AGENTSTORE, FLOOR)
    }


async def sizes(running: dict[str, Process], url_of: Callable[[str], str], messages: int) -> list[dict[str, Any]]:
    """Return the bytes of a message on disk, and in memory after its session was read."""
    found = []
    for module, process in running.items():
        if "read" not in process.about["methods"]:
            continue
        connection = await asyncpg.connect(url_of(f"bench_{module}"))
        before = await connection.fetchval("SELECT pg_database_size(current_database())")
        await process.run("fill", session="sizes", messages=messages)
        await connection.execute("VACUUM")  # the size includes preallocated pages and the maps of a table
        after = await connection.fetchval("SELECT pg_database_size(current_database())")
        await connection.close()
        resident = await process.run("keep", session="sizes")
        found.append(
            {
                "contender": process.about["name"],
                "messages": messages,
                "bytes_on_disk": (after - before) / messages if process.about["durable"] else None,
                "bytes_resident": resident["bytes"] / messages,
            }
        )
    return found


async def prepare(case: Case, process: Process) -> None:
    """Create the data that a case needs, unless an earlier case has created it."""
    if case.session is not None:
        if case.session in process.filled:
            return
        process.filled.add(case.session)
        await process.run("fill", session=case.session, messages=case.history)
    elif case.command.endswith(("_item", "_items")):
        await process.run("fill_items", items=case.history)
    elif case.requires == "create_with_state":
        await process.run("fill_with_states", sessions=case.history, kilobytes=case.arguments["kilobytes"])
    elif case.requires == "list_sessions":
        await process.run("fill_many", sessions=case.history)
    elif case.command == "save_state":
        await process.run("start_states", session=case.arguments["session"])
        await process.run("save_state", session=case.arguments["session"], calls=case.history)


def _ratios(name: str, times: dict[str, list[list[int]]]) -> list[float]:
    pairs = zip(times[name], times[FLOOR], strict=False)
    return [statistics.median(one) / statistics.median(other) for one, other in pairs]


def _exceeds_budget(name: str, seconds: float) -> bool:
    return name not in (AGENTSTORE, FLOOR) and seconds > _MAX_SECONDS


def _is_stable(name: str, times: dict[str, list[list[int]]]) -> bool:
    """Return whether the median of the ratios is known well enough: its 95 % interval by order statistics."""
    ratios = sorted(_ratios(name, times))
    count = len(ratios)
    if name == FLOOR:
        return True  # measured as long as another contender is
    if count < (12 if name == AGENTSTORE else 6):
        return name != AGENTSTORE and count >= 3 and ratios[0] > 3
    half_width = 0.98 * count**0.5
    low, high = ratios[max(0, int(count / 2 - half_width))], ratios[min(count - 1, int(count / 2 + half_width))]
    width = _STABLE_WIDTH if name == AGENTSTORE else _STABLE_WIDTH_OF_PEERS
    return high - low <= width * statistics.median(ratios)


def _quartiles(values: list[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def _quantiles(ordered: list[float]) -> list[float]:
    return [round(_quantile(ordered, place / 100), 4) for place in range(101)]


def _quantile(ordered: list[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


def as_json(results: list[Result]) -> list[dict[str, Any]]:
    """Return results as JSON values."""
    return [asdict(each) for each in results]


def now() -> str:
    """Return the current time in UTC, as text."""
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime())
