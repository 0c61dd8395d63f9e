"""Measure sandboxes of bubblewrap, compared with the least that the same work costs on this machine."""

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
    """A call and its floor. ``goal`` is in milliseconds; with `is_over_floor`, in addition to the time of the floor."""

    name: str
    floor: str
    call: Call
    floor_call: Call
    rounds: int
    goal: float
    is_over_floor: bool = False


async def measure(url: str | None, log: Callable[[str], None], *, quick: bool) -> dict[str, Any] | None:
    """Return the milliseconds of each call and of its floor, and the seconds to create many sandboxes concurrently.

    Return None if bubblewrap cannot be used here.
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
            found = [await _compare(case, log) for case in await _cases(service, kernel, quick=quick)]
            count = 25 if quick else 100
            seconds = await _create_concurrently(service, count)
            log(f"create {count} concurrently  {seconds:.1f} s, all of them answer")
        finally:
            await _shut_down(manager, kernel)
            await service.stop()
        await admin.execute('DROP DATABASE "sandboxes" WITH (FORCE)')
        await admin.close()
    return {"calls": found, "at_once": count, "at_once_s": seconds}


async def _cases(service: PostgresSandboxService, kernel: AsyncKernelClient, *, quick: bool) -> list[_Case]:
    numbers = itertools.count()
    (running,) = await service.connect("running", "u")
    await running.run_ipython_cell("1+1")

    async def create() -> None:
        await service.connect(f"s{next(numbers)}", "u")

    async def create_with_kernel() -> None:
        (new,) = await service.connect(f"s{next(numbers)}", "u")
        assert not (await new.run_ipython_cell("1+1")).is_error

    async def start_kernel() -> None:
        manager, client = await start_new_async_kernel(stderr=asyncio.subprocess.DEVNULL)
        await _cell(client)
        await _shut_down(manager, client)

    many, few = (40, 2) if quick else (400, 15)
    return [
        _Case(
            "connect to a running sandbox",
            "ping",
            lambda: service.connect("running", "u"),
            service.health,
            many,
            2.0,
            True,
        ),
        _Case(
            "create a sandbox",
            "python -c pass in plain bwrap",
            create,
            lambda: _process(*_PLAIN_BWRAP, sys.executable, "-c", "pass"),
            few,
            200,
        ),
        _Case(
            "create a sandbox and run its first cell",
            "start a kernel and run its first cell",
            create_with_kernel,
            start_kernel,
            few,
            1_500,
        ),
        _Case(
            "run a cell, 1+1",
            "jupyter_client",
            lambda: running.run_ipython_cell("1+1"),
            lambda: _cell(kernel),
            many,
            20,
        ),
        _Case(
            "run a command",
            "a process",
            lambda: running.run_shell_command("true"),
            lambda: _process("sh", "-c", "true"),
            many,
            20,
        ),
    ]


_PLAIN_BWRAP = ("bwrap", "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp")  # noqa: S108


async def _compare(case: _Case, log: Callable[[str], None]) -> dict[str, Any]:
    """Time a call and its floor in rounds, each in random order."""
    times: dict[Call, list[float]] = {case.call: [], case.floor_call: []}
    for _ in range(case.rounds):
        for call in random.sample([case.call, case.floor_call], 2):
            began = time.perf_counter()
            assert await call() is not False
            times[call].append((time.perf_counter() - began) * 1000)
    ms, floor_ms = (statistics.median(times[call]) for call in (case.call, case.floor_call))
    low, ratio, high = statistics.quantiles(
        (one / other for one, other in zip(times[case.call], times[case.floor_call], strict=True)), n=4
    )
    reached = (ms - floor_ms if case.is_over_floor else ms) <= case.goal
    goal = f"<= {'floor + ' if case.is_over_floor else ''}{case.goal:g} ms, {'met' if reached else 'MISSED'}"
    log(f"{case.name:40} {ms:8.2f} ms  {case.floor}: {floor_ms:.2f} ms  {ratio:.2f} ({low:.2f}-{high:.2f})  {goal}")
    return {
        "call": case.name,
        "floor": case.floor,
        "ms": ms,
        "floor_ms": floor_ms,
        "ratio": ratio,
        "low": low,
        "high": high,
        "goal": goal,
    }


async def _create_concurrently(service: PostgresSandboxService, count: int) -> float:
    """Create many sandboxes concurrently, and check that all answer. Return the seconds until the last was created."""
    began = time.perf_counter()
    created = await asyncio.gather(*(service.connect(f"h{number}", "u") for number in range(count)))
    seconds = time.perf_counter() - began
    answers = await asyncio.gather(*(each.run_shell_command("true") for (each,) in created))
    assert not any(answer.is_error for answer in answers)
    return seconds


async def _cell(client: AsyncKernelClient) -> None:
    """Run a cell with jupyter_client, and wait for its result."""
    answer = await client.execute_interactive("1+1", output_hook=lambda message: None)
    assert answer["content"]["status"] == "ok"


async def _shut_down(manager: AsyncKernelManager, client: AsyncKernelClient) -> None:
    client.stop_channels()
    await manager.shutdown_kernel(now=True)


async def _process(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0
