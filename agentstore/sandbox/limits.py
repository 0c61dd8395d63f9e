"""Enforce what the kernel does not where there are no cgroups: limits of all processes of a sandbox together.

They are the memory of its processes, and their weight when the processor is busy.
"""

import asyncio
import errno
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Generic, Protocol, TypeVar

from agentstore.sandbox.cgroups import Cgroup
from agentstore.sandbox.processes import (
    Process,
    estimate_mappings,
    estimate_memory,
    estimate_sockets,
    has_autogroups,
    kill_same,
    measure_memory,
    read_available_memory,
    weigh_sessions,
)

_log = logging.getLogger(__name__)

# Seconds between two looks at all processes while no sandbox is near its limit, and between two looks at what the
# machine has left, which is one small file.
_LONG_INTERVAL = 0.25
_SHORT_INTERVAL = 0.025
# A sandbox that exceeds its limit is reduced to this part of it. One that exceeds it this often in so many seconds
# allocates faster than its processes can be killed one by one.
_REDUCED = 0.75
_MAX_EXCESSES = 3
_EXCESS_PERIOD = 5.0
# Growth of the kernel's own memory after which the mappings of all processes are counted.
_KERNEL_GROWTH = 50_000_000


class Box(Protocol):
    """What :class:`MemoryWatch` must know of a sandbox: its process 1, its limit and its cgroup, if it has one."""

    pid: int
    memory_limit: int
    cgroup: Cgroup | None
    excesses: list[float]


_B = TypeVar("_B", bound=Box)


class MemoryWatch(Generic[_B]):
    """Keep the processes of each sandbox below its memory limit.

    Sandboxes with a cgroup need nothing but room for their files. Of the others, all processes are measured several
    times a second, and sooner when the memory of the machine decreases quickly. Of one above its limit, the largest
    processes are killed at once, until the others are well below it; if that happens again and again, the sandbox is
    ended.
    """

    def __init__(
        self,
        boxes: Callable[[], Iterable[_B]],
        note: Callable[[_B, str], Awaitable[None]],
        end: Callable[[_B, str], Awaitable[None]],
    ) -> None:
        """Watch the `boxes`; `note` adds a line to the results of running calls, and `end` ends a sandbox."""
        self._boxes = boxes
        self._note = note
        self._end = end
        self._looked_at = float("-inf")
        self._available = self._kernel = 0
        self._room = 0

    async def run(self) -> None:
        """Watch until this task is canceled."""
        while True:
            try:
                await self._look()
            except Exception:  # noqa: BLE001 - the limit must hold after an error, too
                _log.warning("the memory of sandboxes could not be measured", exc_info=True)
            await asyncio.sleep(_SHORT_INTERVAL if any(each.cgroup is None for each in self._boxes()) else 0.1)

    async def _look(self) -> None:
        boxes = list(self._boxes())
        for each in boxes:
            if each.cgroup is not None:
                try:
                    each.cgroup.allow_files()
                except OSError as error:
                    if error.errno not in (errno.ENOENT, errno.ENODEV):  # else it has just been ended
                        raise
        polled = {each.pid: each for each in boxes if each.cgroup is None or not each.cgroup.weighs_processor}
        if not polled:
            return
        available, kernel = read_available_memory()
        now = time.monotonic()
        has_grown = self._available - available > self._room / 2
        if now - self._looked_at < _LONG_INTERVAL and not has_grown:
            return
        self._looked_at, self._available = now, available
        counts_mappings = kernel - self._kernel > _KERNEL_GROWTH
        self._kernel = min(self._kernel, kernel) if self._kernel else kernel
        self._room = min(each.memory_limit for each in polled.values())
        limits = {pid: box.memory_limit for pid, box in polled.items()}
        found = await asyncio.to_thread(_measure, limits, counts_mappings=counts_mappings)
        for pid, (memory, others) in found.items():
            used = sum(memory.values()) + others
            self._room = min(self._room, max(polled[pid].memory_limit - used, 0))
            if polled[pid].cgroup is None and used > polled[pid].memory_limit:
                await self._reduce(polled[pid], memory, others)

    async def _reduce(self, box: _B, memory: Mapping[Process, int], others: int) -> None:
        used = sum(memory.values()) + others
        text = (
            f"process killed: the sandbox's processes used {used:,} bytes of memory together, and "
            f"{box.memory_limit:,} are allowed"
        )
        now = time.monotonic()
        box.excesses[:] = [each for each in box.excesses if now - each < _EXCESS_PERIOD] + [now]
        largest = sorted(memory, key=lambda process: memory[process], reverse=True)
        if len(box.excesses) >= _MAX_EXCESSES or not largest:
            await self._end(box, text)
            return
        victims: list[Process] = []
        while largest and used > _REDUCED * box.memory_limit:
            victims.append(largest.pop(0))
            used -= memory[victims[-1]]
        # Before they are killed: the calls that started them end with them.
        await self._note(box, text)
        for process in victims:
            kill_same(*process)
        _log.info("sandbox: %s", text)
        self._looked_at = float("-inf")


def _measure(limits: Mapping[int, int], *, counts_mappings: bool) -> dict[int, tuple[dict[Process, int], int]]:
    """Return the memory of the processes of each sandbox, and that of the kernel for them, by the pid of its box.

    Their sessions are weighed meanwhile.

    Shared pages are counted once for each process unless the sandbox would then be above its limit.
    """
    found = {}
    are_weighed = has_autogroups()
    for root, memory in estimate_memory(set(limits)).items():
        if are_weighed:
            weigh_sessions(root, (each.pid for each in memory))
        others = estimate_sockets(root) + (estimate_mappings(each.pid for each in memory) if counts_mappings else 0)
        exact = measure_memory(memory) if sum(memory.values()) + others > limits[root] else memory
        found[root] = (exact, others)
    return found
