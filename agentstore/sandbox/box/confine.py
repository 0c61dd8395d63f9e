"""The confinement of a box: mounts with quotas, capabilities, the seccomp filter and resource limits."""

import ctypes
import os
import resource
import signal
import struct
import sys
from typing import Any

from .seccomp import install_filter

_PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER = 4, 24, 36
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
_CLONE_NEWNS = 0x20000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT, _MS_BIND = 1, 2, 4, 8, 32, 4096

# Files of /proc that describe the machine, not the sandbox.
_HIDDEN = (
    "cmdline config.gz consoles devices diskstats iomem ioports kallsyms kcore key-users keys latency_stats locks "
    "modules mtrr partitions sched_debug slabinfo swaps timer_list vmallocinfo zoneinfo"
)
# The pseudo-terminals of a sandbox: those of the machine are limited, too, for all users together.
_MAX_TERMINALS = 32
# The signals and timers that may wait in each process.
_MAX_PENDING_SIGNALS = 4_096

# The box's own processes and threads, and those that it can still start when its children have reached their limit.
_OWN_PROCESSES = 8
_SPARE_PROCESSES = 16


def _load_libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def confine(limits: dict[str, int]) -> tuple[int, int]:
    """Mount the writable directories, each with its quota, hide the machine, and give up all capabilities.

    The tmpfs that bwrap can mount is limited in bytes but not in inodes: empty files would take nothing of the quota,
    and 1 kB of kernel memory each. Mounts of a namespace below bwrap's are locked, so nothing that is read-only can be
    made writable even before the capabilities are given up.

    Returns the arguments of :class:`.locks.LockCounter`.

    Raises:
        OSError: a part of the confinement is not possible here; the message says which.
    """
    libc = _load_libc()
    # When the machine runs out of memory, sandboxes are killed first. Only a dumpable process may set this itself.
    _write("/proc/self/oom_score_adj", "1000")
    locks = os.open("/proc/locks", os.O_RDONLY | os.O_CLOEXEC)
    _check(libc.unshare(_CLONE_NEWNS), "unshare")
    owner = f"uid={os.getuid()},gid={os.getgid()}"
    for place, size, files, mode in (
        ("/workspace", limits["disk"], limits["files"], "0755"),
        ("/tmp", limits["disk"], limits["files"], "1777"),  # noqa: S108 - the sandbox's own
        ("/dev/shm", min(limits["disk"], 64_000_000), 1024, "1777"),  # noqa: S108
    ):
        options = f"size={size},nr_inodes={files + 1},mode={mode},{owner}"
        _mount(libc, "tmpfs", place, "tmpfs", _MS_NOSUID | _MS_NODEV, options)
    options = f"newinstance,ptmxmode=0666,mode=620,max={_MAX_TERMINALS}"
    _mount(libc, "devpts", "/dev/pts", "devpts", _MS_NOSUID | _MS_NOEXEC, options)
    for name in _HIDDEN.split():
        if os.path.isfile(f"/proc/{name}"):
            _mount(libc, os.devnull, f"/proc/{name}", "", _MS_BIND, "")
    # Read-only, so that no process can lower its oom_score_adj.
    flags = _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    _mount(libc, "none", "/proc", "", flags, "")
    for capability in range(64):
        if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break  # the last capability that this kernel has
    _check(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "prctl")
    header = struct.pack("Ii", 0x20080522, 0)
    _check(libc.capset(header, bytes(24)), "capset")
    _check(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    with open("/proc/self/status") as status:
        capabilities = [line.split()[1] for line in status if line.startswith("Cap")]
    if any(int(each, 16) for each in capabilities):
        raise OSError(f"capabilities could not be dropped: {capabilities}")
    listener = install_filter(libc)
    # The code in the sandbox runs as the same user: without this, it could read the box's memory and descriptors.
    _check(libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "prctl")
    return listener, locks


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _mount(libc: Any, source: str, place: str, kind: str, flags: int, options: str) -> None:
    result = libc.mount(source.encode(), place.encode(), kind.encode() or None, flags, options.encode() or None)
    _check(result, f"mount {place}")


def adopt_orphans() -> None:
    """Make this process the parent of its orphaned descendants, as process 1 is by itself."""
    _load_libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def limit_resources(limits: dict[str, int], *, confined: bool) -> None:
    """Set the limits of each process. Those of the box are a little higher, see :func:`limit_child`.

    Memory is limited by RLIMIT_DATA and not by RLIMIT_AS: address space that is only reserved, by arenas of threads or
    by JavaScript engines, uses no memory.
    """
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: limits["file_size"],
        resource.RLIMIT_NOFILE: limits["open_files"],
        resource.RLIMIT_DATA: limits["memory"],
    }
    if confined:  # outside a user namespace they would count for all processes of the user
        wanted[resource.RLIMIT_NPROC] = limits["processes"] + _OWN_PROCESSES + _SPARE_PROCESSES
        wanted[resource.RLIMIT_SIGPENDING] = _MAX_PENDING_SIGNALS
    for kind, value in wanted.items():
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        try:
            resource.setrlimit(kind, (value, value))
        except ValueError:
            if sys.platform == "linux":
                raise
            # macOS has some that cannot be set.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def limit_child(limits: dict[str, int], *, confined: bool) -> None:
    """Set the limits of a process that the box starts, between fork and exec."""
    if confined:
        # Lower than the box's own, so that the box can start a process when its children have reached their limit.
        most = limits["processes"] + _OWN_PROCESSES
        resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
        # They run when neither the box nor the machine has other work, and cannot change that.
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
        for kind in (resource.RLIMIT_NICE, resource.RLIMIT_RTPRIO):
            resource.setrlimit(kind, (0, 0))
    else:
        os.nice(5)  # so that the box responds however busy they are
    resource.setrlimit(resource.RLIMIT_CPU, (limits["cpu"], limits["cpu"] + 5))
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
