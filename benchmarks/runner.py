"""Contenders in processes of their own, taken in turn, so that the machine's moods meet all of them alike."""

import asyncio
import json
import random
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

from agentstore import EmbeddedPostgres
from benchmarks.cases import Case, Writers

OURS, FLOOR, ORM = "agentstore", "floor", "orm"
# Each with the environment that it needs, a folder of `make`'s; None is the one that this runs in.
CONTENDERS: dict[str, str | None] = {
    FLOOR: None,
    OURS: None,
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
# A round of one contender takes about so many seconds.
_ROUND = 0.3
# Those whose calls take longer and longer are not asked any more after so many.
_LONG = 8
# A ratio is taken for stable when the median's 95 % interval is that near to it, on both sides together.
_STABLE = 0.02
# Those who are many times slower than the floor need not be known to three digits.
_STABLE_OF_PEERS = 0.15


class Failed(Exception):
    """A contender could not do what it was asked for; the text is its traceback."""


class Process:
    """A contender that runs, and answers one question after the other."""

    def __init__(self, module: str, process: asyncio.subprocess.Process) -> None:
        self.module = module
        self._process = process
        self.about: dict[str, Any] = {}
        self.filled: set[str] = set()

    async def ask(self, do: str, **given: Any) -> dict[str, Any]:
        """Ask the worker, and return its answer.

        Raises:
            Failed: it raised something, or is gone.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"do": do, **given}).encode() + b"\n")
        line = await self._process.stdout.readline()
        if not line:
            raise Failed(f"{self.module} is gone, with exit code {await self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    async def stop(self) -> None:
        """End it, kindly at first."""
        if self._process.returncode is None and self._process.stdin is not None:
            self._process.stdin.close()
            try:
                await asyncio.wait_for(self._process.wait(), 10)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()


@dataclass
class Result:
    """What a contender's call costs beside the floor's; of writers, ``ms`` is that of one append, waiting included."""

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
    """101 of them, from the fastest to the slowest call."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing was lost, stored twice, or out of order."""
        return not any(count for name, count in self.verified.items() if name not in ("expected", "reads"))


@asynccontextmanager
async def server(url: str | None) -> AsyncIterator[tuple[str, Callable[[str], str]]]:
    """Lend a Postgres with its defaults: a URL, and the URL of each database of it."""
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
                    raise Failed(f"redis-server ended with {process.returncode}")
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
) -> AsyncIterator[dict[str, Process]]:
    """Start those that are wanted and whose environment is there, each with a database of its own.

    `before` is what their commands begin with: a tool that looks at what they do.
    """
    async with AsyncExitStack() as stack:
        running = {}
        redis_url = None
        for module in wanted:
            environment = CONTENDERS[module]
            python = Path(sys.executable)
            if environment is not None:
                if peers is None or not (peers / environment / "bin" / "python").exists():
                    continue
                python = peers / environment / "bin" / "python"
            if module == "runtime_redis":
                if shutil.which("redis-server") is None:
                    log("without redis-server there is none of what runs on it")
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
            process.about = await process.ask("hello")
            running[module] = process
        yield running


async def measure(case: Case, running: dict[str, Process], rounds: int, log: Callable[[str], None]) -> list[Result]:
    """Time a call of each contender that has it, in rounds until the ratios are stable, `rounds` at the most."""
    taking = {name: each for name, each in running.items() if case.able in each.about["able"]}
    calls = {}
    for name, process in list(taking.items()):
        try:
            await prepare(case, process)
            trial = await process.ask(case.do, **case.given, calls=3)
        except Failed as error:
            log(f"{case.name}: {process.about['name']} failed:\n{error}")
            if name in (OURS, FLOOR):
                raise
            del taking[name]
            continue
        calls[name] = max(1, min(case.most_calls, int(_ROUND / (statistics.median(trial["ns"]) / 1e9))))
    # Of one and of the other as many, so that neither is interrupted more often.
    calls[OURS] = calls[FLOOR] = min(calls[OURS], calls[FLOOR])
    times: dict[str, list[list[int]]] = {name: [] for name in taking}
    active = set(taking)
    while active and max(map(len, times.values())) < rounds:
        for name in random.sample(sorted(active), len(active)):
            answer = await taking[name].ask(case.do, **case.given, calls=calls[name])
            times[name].append(answer["ns"])
        active = {
            name
            for name in active
            if not _is_stable(name, times) and not _has_had_enough(name, sum(map(sum, times[name])) / 1e9)
        }
        if active:
            active |= {FLOOR}
    if case.able == "list_sessions":
        for process in taking.values():
            found = (await process.ask(case.do, **case.given, calls=1))["found"]
            if found < case.history:
                raise Failed(f"{process.about['name']} lists {found} of {case.history} sessions")
    results = []
    for name, process in taking.items():
        verified = await process.ask("verify", session=case.session) if case.do == "append" else {}
        ratios = _ratios(name, times)
        every = sorted(ns / 1e6 for round_ in times[name] for ns in round_)
        low, high = _quartiles(ratios)
        results.append(
            Result(
                case=case.name,
                contender=process.about["name"],
                ms=statistics.median(statistics.median(round_) for round_ in times[name]) / 1e6,
                p99_ms=_quantile(every, 0.99),
                ratio=statistics.median(ratios),
                low=low,
                high=high,
                rounds=len(ratios),
                goal=case.goal if name == OURS else None,
                verified=verified,
                quantiles_ms=_quantiles(every),
            )
        )
    return results


async def crowd(case: Writers, running: dict[str, Process], rounds: int, log: Callable[[str], None]) -> list[Result]:
    """Let many writers append, in rounds until the ratios are stable; what is lost is counted."""
    taking = {name: each for name, each in running.items() if "append" in each.about["able"]}
    appends = {name: max(1, 64 // case.writers) for name in taking}
    rates: dict[str, list[float]] = {name: [] for name in taking}
    p99s: dict[str, list[float]] = {name: [] for name in taking}
    every: dict[str, list[float]] = {name: [] for name in taking}
    spent = dict.fromkeys(taking, 0.0)
    verified: dict[str, dict[str, int]] = {name: {} for name in taking}
    active = set(taking)
    number = 0
    while active and number <= rounds:
        for name in random.sample(sorted(active), len(active)):
            sessions = [f"{case.name} {number} {place}" for place in range(case.sessions)]
            try:
                answer = await taking[name].ask("write", sessions=sessions, writers=case.writers, appends=appends[name])
            except Failed as error:
                log(f"{case.name}: {taking[name].about['name']} failed: {str(error).strip().splitlines()[-1]}")
                if name in (OURS, FLOOR):
                    raise
                active.discard(name)
                continue
            for what, count in answer["verified"].items():
                verified[name][what] = verified[name].get(what, 0) + count
            rate = len(answer["ns"]) / answer["seconds"]
            spent[name] += answer["seconds"]
            is_slow = _has_had_enough(name, spent[name])
            if number or is_slow:  # else the first one only says how many appends a round is to have
                rates[name].append(rate)
                ms = sorted(ns / 1e6 for ns in answer["ns"])
                p99s[name].append(_quantile(ms, 0.99))
                every[name] += ms
            appends[name] = max(1, int(min(rate * _ROUND * 2, 12_800) / case.writers))
            if is_slow:
                active.discard(name)
        if number >= 3:
            ratios = {name: [[int(1e9 / rate)] for rate in rates[name]] for name in taking}
            active = {name for name in active if not _is_stable(name, ratios)}
            if active:
                active |= {FLOOR}
        number += 1
    results = []
    for name, process in taking.items():
        if not rates[name]:
            continue
        pairs = list(zip(rates[name], rates[FLOOR], strict=False))
        ratios_of = [one / other for one, other in pairs]
        low, high = _quartiles(ratios_of)
        every[name].sort()
        tails = [one / other for one, other in zip(p99s[name], p99s[FLOOR], strict=False)]
        results.append(
            Result(
                case=case.name,
                contender=process.about["name"],
                ms=_quantile(every[name], 0.5),
                p99_ms=statistics.median(p99s[name]),
                ratio=statistics.median(ratios_of),
                low=low,
                high=high,
                rounds=len(ratios_of),
                goal=case.goal if name == OURS else None,
                per_second=statistics.median(rates[name]),
                p99_ratio=statistics.median(tails),
                goal_p99=case.goal_p99 if name == OURS else None,
                verified=verified[name],
                quantiles_ms=_quantiles(every[name]),
            )
        )
    return results


async def prefixes(running: dict[str, Process], writers: int, appends: int) -> dict[str, dict[str, int]]:
    """Count reads of a session under way that are no prefix of its final order, of ours and of the floor."""
    return {
        name: await running[name].ask("prefixes", session="prefixes", writers=writers, appends=appends)
        for name in (OURS, FLOOR)
    }


async def sizes(running: dict[str, Process], url_of: Callable[[str], str], messages: int) -> list[dict[str, Any]]:
    """Return what a message takes on the disk, and in memory once its session was read."""
    found = []
    for module, process in running.items():
        if "read" not in process.about["able"]:
            continue
        connection = await asyncpg.connect(url_of(f"bench_{module}"))
        before = await connection.fetchval("SELECT pg_database_size(current_database())")
        await process.ask("fill", session="sizes", messages=messages)
        await connection.execute("VACUUM")  # what a table is given in advance, and its maps, are part of it
        after = await connection.fetchval("SELECT pg_database_size(current_database())")
        await connection.close()
        resident = await process.ask("keep", session="sizes")
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
    """Make what a call finds, unless another call had the same."""
    if case.session is not None:
        if case.session in process.filled:
            return
        process.filled.add(case.session)
        await process.ask("fill", session=case.session, messages=case.history)
    elif case.able == "list_sessions":
        await process.ask("fill_many", sessions=case.history)
    elif case.do == "save_state":
        await process.ask("start_states", session=case.given["session"])
        await process.ask("save_state", session=case.given["session"], calls=case.history)


def _ratios(name: str, times: dict[str, list[list[int]]]) -> list[float]:
    pairs = zip(times[name], times[FLOOR], strict=False)
    return [statistics.median(one) / statistics.median(other) for one, other in pairs]


def _has_had_enough(name: str, seconds: float) -> bool:
    return name not in (OURS, FLOOR) and seconds > _LONG


def _is_stable(name: str, times: dict[str, list[list[int]]]) -> bool:
    """Whether the median of the ratios is known well enough: its 95 % interval by order statistics."""
    ratios = sorted(_ratios(name, times))
    count = len(ratios)
    if name == FLOOR:
        return True  # goes on as long as another does
    if count < (12 if name == OURS else 6):
        return name != OURS and count >= 3 and ratios[0] > 3
    reach = 0.98 * count**0.5
    low, high = ratios[max(0, int(count / 2 - reach))], ratios[min(count - 1, int(count / 2 + reach))]
    wanted = _STABLE if name == OURS else _STABLE_OF_PEERS
    return high - low <= wanted * statistics.median(ratios)


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
    """Return results as plain values."""
    return [asdict(each) for each in results]


def now() -> str:
    """Return the time, for a report."""
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime())
