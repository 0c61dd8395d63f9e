"""Processes of this machine, as /proc shows them: when they started, and the memory that they use."""

import contextlib
import os
import signal
import sys
from collections.abc import Mapping


def kill(pid: int) -> None:
    """Send SIGKILL to a process, if it exists and this process may kill it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def read_start_time(pid: int) -> str:
    """Return when a process started, in clock ticks since boot; "" if it has exited.

    With its pid it identifies a process, since pids are reused.
    """
    try:
        fields = _read_stat(pid)
        return "" if fields[0] in b"ZX" else fields[19].decode()
    except (OSError, IndexError):
        return ""


def estimate_memory(roots: set[int]) -> dict[int, dict[int, int]]:
    """Return the memory in bytes of each process below each of the roots: ``{root: {pid: bytes}}``.

    Resident memory and page tables. Shared pages count for each process that maps them, so the sum is an upper bound.
    Reads /proc once, whatever the number of roots.
    """
    if sys.platform != "linux" or not roots:
        return {}
    parents, resident = {}, {}
    page = os.sysconf("SC_PAGE_SIZE")
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                fields = _read_stat(name)
                parents[int(name)], resident[int(name)] = int(fields[1]), int(fields[21]) * page
    found: dict[int, dict[int, int]] = {}
    for pid, size in resident.items():
        above = parents[pid]
        while above not in roots and above in parents:
            above = parents[above]
        if above in roots:
            found.setdefault(above, {})[pid] = size + _read_page_tables(pid)
    return found


def measure_memory(estimates: Mapping[int, int]) -> dict[int, int]:
    """Return the memory in bytes of these processes, each with its share of shared pages, without pages of files.

    `estimates` are as :func:`estimate_memory` returned them: the values of processes that cannot be measured.
    """
    found = {}
    for pid, size in estimates.items():
        found[pid] = size
        with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/smaps_rollup") as file:
            kilobytes = dict(line.split()[:2] for line in file if line.startswith("Pss"))
            proportional = 1024 * (int(kilobytes.get("Pss_Anon:", 0)) + int(kilobytes.get("Pss_Shmem:", 0)))
            found[pid] = proportional + _read_page_tables(pid)
    return found


def _read_stat(pid: int | str) -> list[bytes]:
    """Return the fields of /proc/PID/stat after the name: 0 state, 1 parent, 19 start time, 21 resident pages."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()


def _read_page_tables(pid: int) -> int:
    """Return the bytes of a process's page tables, which are not part of its resident memory."""
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/status") as file:
        return 1024 * sum(int(line.split()[1]) for line in file if line.startswith("VmPTE:"))
    return 0
