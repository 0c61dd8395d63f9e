"""Sandboxes of bubblewrap: what each call costs beside the least that its work costs on this machine."""

import asyncio
import itertools
import random
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.manager import AsyncKernelManager, start_new_async_kernel

from agentstore import PostgresSandboxService, SandboxUnavailable, Settings
from benchmarks.runner import server

Call = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class _Case:
    """``ours`` beside ``floor``. ``goal`` is in milliseconds, or over the floor where `is_over`."""

    name: str
    floor: str
    ours: Call
    least: Call
    rounds: int
    goal: float
    is_over: bool = False


async def measure(url: str | None, log: Callable[[str], None], *, quick: bool) -> dict[str, Any] | None:
    """Return the milliseconds of each call and of its floor, and the seconds of many sandboxes made at once.

    None where there is no bubblewrap to measure.
    """
    async with server(url) as (first, url_of):
        admin = await asyncpg.connect(first)
        await admin.execute('DROP DATABASE IF EXISTS "sandboxes" WITH (FORCE)')
        await admin.execute('CREATE DATABASE "sandboxes"')
        service = PostgresSandboxService(url_of("sandboxes"), settings=Settings(auto_migrate="upgrade"))
        try:
            await service.start()
        except SandboxUnavailable as error:
            log(f"sandboxes are not measured: {error}")
            return None
        manager, kernel = await start_new_async_kernel(stderr=asyncio.subprocess.DEVNULL)
        try:
            found = [await _compared(case, log) for case in await _cases(service, kernel, quick=quick)]
            count = 25 if quick else 100
            seconds = await _at_once(service, count)
            log(f"{count} at once  {seconds:.1f} s, all of them answer")
        finally:
            await _ended(manager, kernel)
            await service.stop()
        await admin.execute('DROP DATABASE "sandboxes" WITH (FORCE)')
        await admin.close()
    return {"calls": found, "at_once": count, "at_once_s": seconds}


async def _cases(service: PostgresSandboxService, kernel: AsyncKernelClient, *, quick: bool) -> list[_Case]:
    numbers = itertools.count()
    (box,) = await service.connect("lives", "u")
    await box.run_ipython_cell("1+1")

    async def made() -> None:
        await service.connect(f"s{next(numbers)}", "u")

    async def made_with_kernel() -> None:
        (new,) = await service.connect(f"s{next(numbers)}", "u")
        assert not (await new.run_ipython_cell("1+1")).is_error

    async def started_kernel() -> None:
        manager, client = await start_new_async_kernel(stderr=asyncio.subprocess.DEVNULL)
        await _cell(client)
        await _ended(manager, client)

    many, few = (40, 2) if quick else (400, 15)
    return [
        _Case(
            "connect to one that lives", "ping", lambda: service.connect("lives", "u"), service.health, many, 2.0, True
        ),
        _Case(
            "make one", "a Python in bare bwrap", made, lambda: _process(*_BARE, sys.executable, "-c", "pass"), few, 200
        ),
        _Case(
            "make one, and its first cell", "a kernel, and its first cell", made_with_kernel, started_kernel, few, 1_500
        ),
        _Case("a cell, 1+1", "jupyter_client", lambda: box.run_ipython_cell("1+1"), lambda: _cell(kernel), many, 20),
        _Case(
            "a command",
            "a process",
            lambda: box.run_shell_command("true"),
            lambda: _process("sh", "-c", "true"),
            many,
            20,
        ),
    ]


_BARE = ("bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp")  # noqa: S108


async def _compared(case: _Case, log: Callable[[str], None]) -> dict[str, Any]:
    """Time a call and its floor in rounds, their order drawn anew for each."""
    times: dict[Call, list[float]] = {case.ours: [], case.least: []}
    for _ in range(case.rounds):
        for call in random.sample([case.ours, case.least], 2):
            began = time.perf_counter()
            assert await call() is not False
            times[call].append((time.perf_counter() - began) * 1000)
    ours, least = (statistics.median(times[call]) for call in (case.ours, case.least))
    low, ratio, high = statistics.quantiles(
        (one / other for one, other in zip(times[case.ours], times[case.least], strict=True)), n=4
    )
    reached = (ours - least if case.is_over else ours) <= case.goal
    goal = f"<= {case.goal:g} ms{' more' if case.is_over else ''} {'yes' if reached else 'NO'}"
    log(f"{case.name:30} {ours:8.2f} ms  {case.floor}: {least:.2f} ms  {ratio:.2f} ({low:.2f}-{high:.2f})  {goal}")
    return {
        "call": case.name,
        "floor": case.floor,
        "ms": ours,
        "floor_ms": least,
        "ratio": ratio,
        "low": low,
        "high": high,
        "goal": goal,
    }


async def _at_once(service: PostgresSandboxService, count: int) -> float:
    """Make many at once, see that all of them answer, and return the seconds until the last was made."""
    began = time.perf_counter()
    made = await asyncio.gather(*(service.connect(f"h{number}", "u") for number in range(count)))
    seconds = time.perf_counter() - began
    answers = await asyncio.gather(*(box.run_shell_command("true") for (box,) in made))
    assert not any(answer.is_error for answer in answers)
    return seconds


async def _cell(client: AsyncKernelClient) -> None:
    """Run a cell as jupyter_client does it, and wait for its result."""
    answer = await client.execute_interactive("1+1", output_hook=lambda message: None)
    assert answer["content"]["status"] == "ok"


async def _ended(manager: AsyncKernelManager, client: AsyncKernelClient) -> None:
    client.stop_channels()
    await manager.shutdown_kernel(now=True)


async def _process(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0
