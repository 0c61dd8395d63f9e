"""How much memory a process has, and had at the most (Linux)."""

import resource
import subprocess
import sys


def in_a_process(module: str, *arguments: str) -> str:
    """Run a module of the benchmarks in a process of its own, whose memory has seen nothing else; return its output."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def forget_peak() -> None:
    """Let :func:`peak` count from now on; else it begins with what the process had that started this one."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as clear:
        clear.write("5")


def peak() -> int:
    """Return the most bytes that were in memory."""
    with open("/proc/self/status", encoding="ascii") as status:
        (line,) = (each for each in status if each.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
