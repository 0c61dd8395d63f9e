"""Control groups of sandboxes, in which the kernel bounds the memory, processes and processor time of each as a whole.

A process may create them if it is root, or if a cgroup was delegated to it: by systemd with ``Delegate=yes`` and
``DelegateSubgroup=``, for example. Both versions of cgroups are supported.
"""

import contextlib
import errno
import functools
import logging
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from agentstore.schemas.sandbox import SandboxLimits

_log = logging.getLogger(__name__)

_PREFIX = "agentstore-"
# Processes beyond the limit of a type: the box, its helpers, and those that it can start when the limit is reached.
_OWN_PROCESSES = 32
_MAX_TCP_BUFFERS = 16_000_000
# Seconds after which a cgroup without processes is removed: a younger one may belong to a sandbox that is being
# started.
_STALE_AFTER = 60.0
# Seconds in which the kernel notices that the processes of a cgroup have exited.
_REMOVAL_TIMEOUT = 2.0
_NEEDED, _OPTIONAL = {"memory", "pids"}, {"cpu"}


@dataclass(frozen=True, slots=True)
class Cgroup:
    """The control group of one sandbox. `folders` are its folders by controller: in version 2, all are the same."""

    version: int
    folders: dict[str, Path]
    limits: SandboxLimits

    @property
    def weighs_processor(self) -> bool:
        """Whether its processes are weighed as one process: not without the controller of processor time."""
        return "cpu" in self.folders

    def add(self, pid: int) -> None:
        """Move a process into the group; what it starts belongs to it, too."""
        for folder in set(self.folders.values()):
            (folder / "cgroup.procs").write_text(str(pid))

    def open_events(self) -> int:
        """Open the file in which the kernel counts the processes that it killed, in the line ``oom_kill``."""
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        return os.open(self.folders["memory"] / name, os.O_RDONLY | os.O_CLOEXEC)

    def allow_files(self) -> None:
        """Set the memory limit to that of the processes, and what the files of the sandbox take in addition.

        The files are in memory, with a separate quota. Those that are written before the next call must fit into a
        twentieth of the limit, if the processes have reached it.
        """
        statistics = (self.folders["memory"] / "memory.stat").read_text()
        name = "shmem " if self.version == 2 else "total_shmem "
        files = sum(int(line.split()[1]) for line in statistics.splitlines() if line.startswith(name))
        quota = 2 * self.limits.disk + 64_000_000
        step = self.limits.memory // 20
        wanted = self.limits.memory + min(quota, files + step)
        file = self.folders["memory"] / ("memory.max" if self.version == 2 else "memory.limit_in_bytes")
        if abs(int(file.read_text()) - wanted) > step // 4:
            try:
                _write(file, wanted)
            except OSError as error:
                # The processes use more than the new limit, of what the kernel cannot free: the next call tries again.
                if error.errno != errno.EBUSY:
                    raise

    def remove(self) -> None:
        """Remove the group. Its processes have exited, but the kernel may take a moment to notice."""
        for folder in set(self.folders.values()):
            until = time.monotonic() + _REMOVAL_TIMEOUT
            while True:
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    break
                except OSError as error:
                    if time.monotonic() > until:
                        _log.warning("the cgroup of a sandbox could not be removed, and is later: %s", error)
                        break
                    time.sleep(0.01)
                else:
                    break


@dataclass(frozen=True, slots=True)
class Cgroups:
    """The folders in which this process may create control groups, by controller."""

    version: int
    folders: dict[str, Path]

    def create(self, id: str, limits: SandboxLimits) -> Cgroup:
        """Create the group of a sandbox, with its limits.

        Raises:
            OSError: it cannot be created.
        """
        folders = {name: folder / f"{_PREFIX}{id}" for name, folder in self.folders.items()}
        group = Cgroup(self.version, folders, limits)
        try:
            for folder in set(folders.values()):
                folder.mkdir()
            memory = folders["memory"]
            if self.version == 2:
                _write(memory / "memory.max", limits.memory)
                _write_if_exists(memory / "memory.swap.max", 0)
            else:
                _write(memory / "memory.limit_in_bytes", limits.memory)
                _write_if_exists(memory / "memory.swappiness", 0)
                _write_if_exists(memory / "memory.kmem.tcp.limit_in_bytes", _MAX_TCP_BUFFERS)
            _write(folders["pids"] / "pids.max", limits.processes + _OWN_PROCESSES)
            if "cpu" in folders:
                # All processes of a sandbox together weigh as much as one other process, or one other group.
                name, weight = ("cpu.weight", 100) if self.version == 2 else ("cpu.shares", 1024)
                _write(folders["cpu"] / name, weight)
            group.allow_files()
        except BaseException:
            group.remove()
            raise
        return group

    def remove_stale(self) -> None:
        """Remove the groups of sandboxes whose owner was killed before it could remove them."""
        for folder in set(self.folders.values()):
            for each in folder.glob(f"{_PREFIX}*"):
                with contextlib.suppress(OSError):  # it has processes, or another process has removed it
                    if time.time() - each.stat().st_mtime > _STALE_AFTER:
                        each.rmdir()


@functools.cache
def find_cgroups() -> Cgroups | None:
    """Return where this process may create control groups that limit memory and processes; None if nowhere."""
    if sys.platform != "linux":
        return None
    for candidate in _candidates():
        try:
            _try(candidate)
        except OSError as error:
            # No right to create one there or to move a process into it, or not one with these controllers.
            _log.debug("no sandbox can have a cgroup below %s: %s", candidate.folders["memory"], error)
            continue
        return candidate
    return None


def _try(candidate: Cgroups) -> None:
    """Create a group, and move a process of this user into it: the right to the one is not the right to the other.

    Raises:
        OSError: one of them is not possible.
    """
    # Pids are not unique: processes of several containers may share a folder.
    probe = candidate.create(f"probe-{secrets.token_hex(8)}", SandboxLimits())
    try:
        with subprocess.Popen(["/bin/sh", "-c", "read line"], stdin=subprocess.PIPE) as process:
            probe.add(process.pid)
    finally:
        probe.remove()


def _candidates() -> Iterator[Cgroups]:
    own = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    mounts = [line.split() for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return _find_candidates(own, mounts)


def _find_candidates(own: list[list[str]], mounts: list[list[str]]) -> Iterator[Cgroups]:
    """Yield the folders below which sandboxes could have groups, of this process's cgroups and the mounts of them.

    In version 2, a group with processes has no groups with limits below it, except the root: the folder is that of this
    process, its parent, or that of the whole mount. No limit of a group that this process is in is left behind.
    """
    found: dict[str, Path] = {}
    for fields in mounts:
        kind, options = fields[fields.index("-") + 1], fields[-1].split(",")
        root, place = fields[3], Path(fields[4])
        if kind == "cgroup2":
            path = next((path for number, _, path in own if number == "0"), "/")
            folder = _below(place, root, path)
            for each in dict.fromkeys((folder, folder.parent if folder != place else folder, place)):
                if _is_limited_below(each, folder):
                    break
                if controllers := _enable_controllers(each):
                    yield Cgroups(2, dict.fromkeys(sorted(controllers), each))
        elif kind == "cgroup":
            for _, names, path in own:
                for name in (_NEEDED | _OPTIONAL) & set(names.split(",")) & set(options):
                    found[name] = _below(place, root, path)
    if set(found) >= _NEEDED:
        yield Cgroups(1, found)


def _below(place: Path, root: str, path: str) -> Path:
    """Return the folder of a cgroup's path in a mount of its hierarchy, or that of the mount if it is not below it."""
    relative = os.path.relpath(path, root)
    return place if relative.startswith("..") else place / relative


def _is_limited_below(top: Path, folder: Path) -> bool:
    """Return whether a group of version 2 above or at `folder`, but below `top`, limits memory or processor time."""
    while folder != top:
        for name in ("memory.max", "memory.high", "cpu.max"):
            with contextlib.suppress(FileNotFoundError):  # the controller is not enabled there
                if not (folder / name).read_text().startswith("max"):
                    return True
        folder = folder.parent
    return False


def _enable_controllers(folder: Path) -> set[str]:
    """Return the controllers of groups below a folder of version 2, after an attempt to enable them.

    Empty if memory and processes cannot be limited there.
    """
    try:
        wanted = (_NEEDED | _OPTIONAL) & set((folder / "cgroup.controllers").read_text().split())
        if not wanted >= _NEEDED:
            return set()
        if missing := wanted - set((folder / "cgroup.subtree_control").read_text().split()):
            _write(folder / "cgroup.subtree_control", " ".join(f"+{name}" for name in sorted(missing)))
    except OSError:
        return set()  # no right to do so, or the group has processes itself
    return wanted


def _write(file: Path, value: object) -> None:
    with open(file, "w") as opened:
        opened.write(str(value))


def _write_if_exists(file: Path, value: object) -> None:
    """Write a limit of what not every kernel has, such as swap."""
    if file.exists():
        _write(file, value)
