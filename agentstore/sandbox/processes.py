"""Processes of this machine, as /proc shows them: when they started, and the memory that they use."""

import contextlib
import errno
import math
import os
import signal
import sys
from collections.abc import Iterable, Mapping
from typing import NamedTuple

# Bytes of kernel memory that count for no process: the buffers of a socket, and a mapping.
_SOCKET_SIZE = 213_000
_MAPPING_SIZE = 250


def kill(opened: int) -> None:
    """Send SIGKILL to the process of a pidfd, unless it has exited."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(opened, signal.SIGKILL)


def kill_same(pid: int, started: str) -> None:
    """Kill the process with this pid and start time, and no other that has the pid by now."""
    with contextlib.suppress(ProcessLookupError):
        opened = os.pidfd_open(pid)
        try:
            if read_start_time(pid) == started:
                kill(opened)
        finally:
            os.close(opened)


def is_box(pid: int, id: str) -> bool:
    """Return whether a process is the box with this id, as its command line has it."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            arguments = file.read().split(b"\0")
    except OSError:
        return False
    return len(arguments) > 2 and arguments[-2] == id.encode() and any(each.endswith(b"box.pyz") for each in arguments)


def read_start_time(pid: int) -> str:
    """Return when a process started, in clock ticks since boot; "" if it has exited.

    With its pid it identifies a process, since pids are reused.
    """
    try:
        fields = _read_stat(pid)
        return "" if fields[0] in b"ZX" else fields[19].decode()
    except (OSError, IndexError):
        return ""


def read_parent(pid: int) -> int:
    """Return the pid of a process's parent; 0 if the process has exited."""
    try:
        return int(_read_stat(pid)[1])
    except (OSError, IndexError):
        return 0


def read_available_memory() -> tuple[int, int]:
    """Return the bytes of memory that the machine has available, and those that its kernel holds for itself."""
    with open("/proc/meminfo", "rb") as file:
        fields = dict(line.split()[:2] for line in file)
    return 1024 * int(fields[b"MemAvailable:"]), 1024 * int(fields[b"SUnreclaim:"])


def estimate_sockets(root: int) -> int:
    """Return the most bytes that data in the sockets of a box may take, whose process 1 is `root`."""
    with contextlib.suppress(OSError, IndexError), open(f"/proc/{root}/net/sockstat", "rb") as file:
        return int(file.readline().split()[2]) * _SOCKET_SIZE
    return 0


def estimate_mappings(pids: Iterable[int]) -> int:
    """Return the bytes of kernel memory for the mappings of these processes. Takes 20 ms for 65,000 mappings."""
    count = 0
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/maps", "rb") as file:
            while chunk := file.read(1 << 20):
                count += chunk.count(b"\n")
    return count * _MAPPING_SIZE


def has_autogroups() -> bool:
    """Return whether Linux weighs each session as one process, however many it has, outside of cgroups: sched(7)."""
    try:
        with open("/proc/sys/kernel/sched_autogroup_enabled", "rb") as file:
            return file.read().strip() == b"1"
    except FileNotFoundError:
        return False


def weigh_sessions(root: int, pids: Iterable[int]) -> None:
    """Let the sessions of these processes, those of a sandbox, together weigh about as much as one other process.

    SCHED_IDLE, under which the processes of a sandbox run, compares the processes of one session only if Linux
    :func:`has_autogroups`, and each of many sessions would weigh as much as the application. The session of the box,
    whose process is `root`, keeps its weight.
    """
    own = {os.getsid(0)}
    with contextlib.suppress(ProcessLookupError):
        own.add(os.getsid(root))
    sessions: dict[int, int] = {}
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            if (session := os.getsid(pid)) not in own:
                sessions[session] = pid
    # Each step of nice changes the weight by a factor of 1.25: sched(7).
    wanted = b"%d" % min(19, math.ceil(math.log(max(len(sessions), 1), 1.25)))
    for pid in sessions.values():
        try:
            with open(f"/proc/{pid}/autogroup", "r+b", buffering=0) as file:
                if file.read(100).split()[-1:] != [wanted]:
                    file.write(wanted)
        except OSError as error:
            if error.errno not in _NOT_WEIGHED:
                raise


# It has exited; the kernel allows others than root ten changes a second, and the next look has another; the process is
# not dumpable, and this is not root; it is in the root group, whose weight is fixed.
_NOT_WEIGHED = {errno.ENOENT, errno.ESRCH, errno.EAGAIN, errno.EACCES, errno.EPERM, errno.EINVAL}


class Process(NamedTuple):
    """A process. Pids are reused: its start time distinguishes it from others that had its pid, or will have it."""

    pid: int
    started: str


def estimate_memory(roots: set[int]) -> dict[int, dict[Process, int]]:
    """Return the memory in bytes of each process below each of the roots: ``{root: {process: bytes}}``.

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
                process = Process(int(name), fields[19].decode())
                parents[process.pid], resident[process] = int(fields[1]), int(fields[21]) * page
    found: dict[int, dict[Process, int]] = {}
    for process, size in resident.items():
        above = parents[process.pid]
        while above not in roots and above in parents:
            above = parents[above]
        if above in roots:
            found.setdefault(above, {})[process] = size + _read_page_tables(process.pid)
    return found


def measure_memory(estimates: Mapping[Process, int]) -> dict[Process, int]:
    """Return the memory in bytes of these processes, each with its share of shared pages, without pages of files.

    `estimates` are as :func:`estimate_memory` returned them: the values of processes that cannot be measured.
    """
    found = {}
    for process, size in estimates.items():
        found[process] = size
        with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{process.pid}/smaps_rollup") as file:
            kilobytes = dict(line.split()[:2] for line in file if line.startswith("Pss"))
            proportional = 1024 * (int(kilobytes.get("Pss_Anon:", 0)) + int(kilobytes.get("Pss_Shmem:", 0)))
            found[process] = proportional + _read_page_tables(process.pid)
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
