"""How long the event loop does not run during a call."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any


async def longest_gap(call: Callable[[], Awaitable[Any]]) -> tuple[float, float]:
    """Return the CPU time of a call, and how much of it passed at most without the event loop running.

    CPU time of this process, so that other programs make no difference.
    """
    gap = 0.0

    async def beat() -> None:
        nonlocal gap
        while True:
            before = time.process_time()
            await asyncio.sleep(0.001)
            gap = max(gap, time.process_time() - before)

    heartbeat = asyncio.create_task(beat())
    try:
        await asyncio.sleep(0.01)
        gap, began = 0.0, time.process_time()
        await call()
        took = time.process_time() - began
        await asyncio.sleep(0.005)
    finally:
        heartbeat.cancel()
    return took, gap
