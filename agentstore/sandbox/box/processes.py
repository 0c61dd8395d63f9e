"""The processes of a sandbox: they are started, reaped and killed here, with everything that they have started."""

import asyncio
import contextlib
import functools
import gc
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from .confine import adopt_orphans, limit_child
from .protocol import ToolFailed


class Child(NamedTuple):
    """A process that was started, and the future of its exit code."""

    pid: int
    exited: "asyncio.Future[int]"


class Processes:
    """Start processes in the workspace, and reap and kill them.

    The box is process 1 of its sandbox, or the subreaper of its descendants, so that orphans become its children.
    """

    def __init__(self, workspace: str, environment: dict[str, str], limits: dict[str, int], *, confined: bool) -> None:
        self._workspace = workspace
        self._environment = environment
        self._limits = limits
        self._confined = confined
        self._children: dict[int, asyncio.Future[int]] = {}

    async def start(
        self,
        command: list[str],
        environment: dict[str, str],
        *,
        stdout: int,
        stderr: int,
        adopts_orphans: bool = False,
    ) -> Child:
        """Start a program in its own session, with `environment` added to that of the sandbox.

        If it `adopts_orphans`, its descendants remain below it when their parents exit, until it exits itself.
        In a confined sandbox that has reached its limit of processes, all of them are killed first.

        Raises:
            ToolFailed: it cannot be started.
        """
        try:
            return await self._retry(lambda: self._start(command, environment, stdout, stderr, adopts_orphans))
        except (OSError, subprocess.SubprocessError, MemoryError) as error:
            raise ToolFailed(f"{command[0]} cannot be started: {error}") from error

    async def fork(self, work: Callable[[], None], kept: set[int]) -> Child:
        """Run a function in a forked process, which has no descriptors but `kept`, and starts no other process.

        It stays in the session of the box: the kernel weighs sessions, and an owner other than root cannot change the
        weight of one that starts here. Its exit code is 0 if the function returns. Limits are as in :meth:`start`.

        Raises:
            ToolFailed: it cannot be started.
        """
        try:
            return await self._retry(lambda: self._fork(work, kept))
        except (OSError, MemoryError) as error:
            raise ToolFailed(f"the tool cannot be started: {error}") from error

    async def _retry(self, start: Callable[[], Child]) -> Child:
        try:
            try:
                return start()
            except BlockingIOError:
                if not self._confined:
                    raise
                await self.kill_all()
                return start()
        except BlockingIOError:
            raise ToolFailed("no process can be started: the sandbox has reached its limit of processes") from None

    def _fork(self, work: Callable[[], None], kept: set[int]) -> Child:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                gc.disable()  # objects of the parent are not finalized here
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                last = 2
                for each in [*sorted(kept), self._limits["open_files"] + 1]:
                    os.closerange(last + 1, each)
                    last = each
                self._enter_child(False)
                work()
                code = 0
            finally:
                os._exit(code)
        return self._adopt(pid)

    def _start(self, command: list[str], environment: dict[str, str], stdout: int, stderr: int, adopts: bool) -> Child:
        mark = {"AGENTSTORE_BOX": str(os.getpid())}
        process = subprocess.Popen(  # noqa: S603
            command,
            cwd=self._workspace,
            env={**os.environ, **self._environment, **mark, **environment},
            start_new_session=True,
            preexec_fn=functools.partial(self._enter_child, adopts),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )
        process.returncode = 0  # reap() waits for it, not subprocess
        return self._adopt(process.pid)

    def _adopt(self, pid: int) -> Child:
        exited = self._children[pid] = asyncio.get_running_loop().create_future()
        return Child(pid, exited)

    def _enter_child(self, adopts: bool) -> None:
        if adopts and sys.platform == "linux":
            adopt_orphans()
        limit_child(self._limits, confined=self._confined)

    def reap(self) -> None:
        """Wait for all processes that have exited, orphans included, and resolve the futures of their exit codes."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            exited = self._children.pop(pid, None)
            if exited is not None and not exited.done():
                exited.set_result(os.waitstatus_to_exitcode(status))

    async def kill_all(self) -> None:
        """Kill every other process of the sandbox in one system call, which no fork bomb can outrun."""
        if os.getpid() == 1:
            os.kill(-1, signal.SIGKILL)
        await asyncio.sleep(0.02)
        self.reap()

    async def kill_child(self, child: Child) -> None:
        """Kill a process that starts no others, and wait until it has exited."""
        if child.pid in self._children:  # else it is reaped, and its pid may be that of another process
            os.kill(child.pid, signal.SIGKILL)
        await asyncio.wait({child.exited})

    async def kill_tree(self, root: int, mark: str) -> None:
        """Kill a process and all that it started, daemons included.

        On Linux, a process that adopts the orphans among its descendants is killed after them.
        `mark` is a ``NAME=value`` in their environment, by which processes are found after it has exited.
        """
        if root in self._children:
            os.kill(root, signal.SIGSTOP)  # it starts no more, and is not reaped
        for _ in range(20):
            found = _find_started_by(root, mark)
            for pid, started in found:
                if pid != root:
                    _kill_same(pid, started)
            if not any(pid != root for pid, _ in found) and root in self._children:
                os.killpg(root, signal.SIGKILL)
            await asyncio.sleep(0.005)
            self.reap()
            if not found and root not in self._children:
                return
        await self.kill_all()

    async def kill_started_since(self, root: int, mark: str, ticks: int) -> None:
        """Kill what a process has started since a time, in clock ticks since boot; see :func:`read_ticks`.

        Daemons without a mark, that of this process or of another, are taken for daemons of this process.
        """
        name = mark.partition("=")[0].encode() + b"="
        for _ in range(20):
            found = set(_find_started_by(root, mark))
            for pid, started in _find_started_by(os.getpid(), ""):
                if started >= ticks and pid not in self._children and _is_unmarked_orphan(pid, name):
                    found |= {(pid, started), *_find_started_by(pid, "")}
            found = {(pid, started) for pid, started in found if pid != root and started >= ticks}
            for pid, started in found:
                _kill_same(pid, started)
            if not found:
                return
            await asyncio.sleep(0.005)


def read_ticks() -> int:
    """Return the time in clock ticks since boot, in which Linux gives the start time of processes."""
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK")) if sys.platform == "linux" else 0


def _kill_same(pid: int, started: int) -> None:
    """Kill the process with this pid and start time, and no other that has the pid by now."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        opened = os.pidfd_open(pid)
        try:
            if _read_stat(pid)[3] == started:
                signal.pidfd_send_signal(opened, signal.SIGKILL)
        except FileNotFoundError:
            pass  # it has exited
        finally:
            os.close(opened)


def _is_unmarked_orphan(pid: int, name: bytes) -> bool:
    """Return whether the box has adopted a process, and a variable is not in its environment."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return _read_stat(pid)[1] == os.getpid() and name not in file.read()
    except OSError:
        return False  # it has exited


def _read_stat(pid: int) -> tuple[bytes, int, int, int]:
    """Return the state, parent, session and start time of a process."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    return fields[0], int(fields[1]), int(fields[3]), int(fields[19])


def _find_started_by(root: int, mark: str) -> list[tuple[int, int]]:
    """Return the live processes below `root`, in its session, or with `mark` in their environment.

    Each is a pid and a start time. `root` itself is one of them if it is not the box.
    """
    parents: dict[int, int] = {}
    times: dict[int, int] = {}
    found: set[int] = set()
    try:
        names = os.listdir("/proc")
    except OSError:
        return []  # without /proc, killing the process itself has to do
    for name in names:
        if not name.isdigit() or int(name) == os.getpid():
            continue
        pid = int(name)
        try:
            state, parent, session, started = _read_stat(pid)
            if state in b"ZX":
                continue
            parents[pid], times[pid] = parent, started
            if session == root:
                found.add(pid)
            elif mark:
                with open(f"/proc/{name}/environ", "rb") as file:
                    if mark.encode() in file.read().split(b"\0"):
                        found.add(pid)
        except (OSError, ValueError):
            continue  # it has exited, or belongs to another user
    for pid in parents:
        above = pid
        while above in parents and above != root:
            above = parents[above]
        if above == root:
            found.add(pid)
    return [(pid, times[pid]) for pid in sorted(found)]
