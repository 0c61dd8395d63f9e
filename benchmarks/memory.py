"""The resident memory of this process, and its peak (Linux)."""

import resource
import subprocess
import sys


def run_in_process(module: str, *arguments: str) -> str:
    """Run a module of the benchmarks in a new process, whose memory is not used by anything else. Return its output."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603


def resident() -> int:
    """Return the resident memory of this process in bytes."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def reset_peak() -> None:
    """Reset :func:`peak`, which otherwise includes the memory of the parent process at the fork."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as clear:
        clear.write("5")


def peak() -> int:
    """Return the highest resident memory since the last reset, in bytes."""
    with open("/proc/self/status", encoding="ascii") as status:
        (line,) = (each for each in status if each.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
