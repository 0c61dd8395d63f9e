"""Interleaved rounds: what is compared runs in turn, so that the machine's moods meet all of it alike."""

import gc
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

Call = Callable[[], Awaitable[object]]

# What a message says: about 500 bytes.
WORDS = "The quick brown fox jumps over the lazy dog, and 敏捷的棕色狐狸跳过了懒狗. " * 6


@dataclass(frozen=True)
class Ratio:
    """What a call costs beside another: medians in milliseconds, and the ratio with its middle half."""

    name: str
    ours_ms: float
    floor_ms: float
    ratio: float
    low: float
    high: float
    goal: float | None

    def row(self) -> str:
        """Return a line of a table."""
        goal = "" if self.goal is None else f"<= {self.goal:.2f} {'yes' if self.ratio <= self.goal else 'NO'}"
        return (
            f"{self.name:44} {self.ours_ms:9.3f} {self.floor_ms:9.3f}   {self.ratio:5.2f} "
            f"({self.low:.2f}-{self.high:.2f})  {goal}"
        )


async def compare(name: str, ours: Call, floor: Call, *, calls: int, rounds: int, goal: float | None = None) -> Ratio:
    """Measure two calls in pairs of rounds of `calls` each, their order drawn anew for each pair.

    The ratio is the median of the pairs' ratios, so that a slow moment of the machine counts for both.
    """
    for call in (ours, floor):
        for _ in range(max(3, calls // 10)):
            await call()
    times: dict[Call, list[float]] = {ours: [], floor: []}
    for _ in range(rounds):
        for call in random.sample([ours, floor], 2):
            gc.collect()
            began = time.perf_counter()
            for _ in range(calls):
                await call()
            times[call].append((time.perf_counter() - began) / calls * 1000)
    ratios = sorted(one / two for one, two in zip(times[ours], times[floor], strict=True))
    low, _, high = statistics.quantiles(ratios, n=4)
    ours_ms, floor_ms = statistics.median(times[ours]), statistics.median(times[floor])
    return Ratio(name, ours_ms, floor_ms, statistics.median(ratios), low, high, goal)
