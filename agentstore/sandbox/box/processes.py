"""The processes of a sandbox: they are started, reaped and killed here, with everything that they have started."""

import asyncio
import contextlib
import os
import signal
import subprocess
from typing import NamedTuple

from .confine import limit_child
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

    async def start(self, command: list[str], environment: dict[str, str], *, stdout: int, stderr: int) -> Child:
        """Start a program in its own session, with `environment` added to that of the sandbox.

        In a confined sandbox that has reached its limit of processes, all of them are killed first.

        Raises:
            ToolFailed: it cannot be started.
        """
        try:
            try:
                return self._start(command, environment, stdout, stderr)
            except BlockingIOError:
                if not self._confined:
                    raise
                await self.kill_all()
                return self._start(command, environment, stdout, stderr)
        except BlockingIOError:
            raise ToolFailed("no process can be started: the sandbox has reached its limit of processes") from None
        except (OSError, subprocess.SubprocessError, MemoryError) as error:
            raise ToolFailed(f"{command[0]} cannot be started: {error}") from error

    def _start(self, command: list[str], environment: dict[str, str], stdout: int, stderr: int) -> Child:
        mark = {"AGENTSTORE_BOX": str(os.getpid())}
        process = subprocess.Popen(  # noqa: S603
            command,
            cwd=self._workspace,
            env={**os.environ, **self._environment, **mark, **environment},
            start_new_session=True,
            preexec_fn=self._enter_child,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )
        process.returncode = 0  # reap() waits for it, not subprocess
        exited = self._children[process.pid] = asyncio.get_running_loop().create_future()
        return Child(process.pid, exited)

    def _enter_child(self) -> None:
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

    async def kill_tree(self, root: int, mark: str) -> None:
        """Kill a process and all that it started, daemons included.

        `mark` is a ``NAME=value`` in their environment, by which daemons that left the process tree are found.
        """
        for _ in range(20):
            found = _find_started_by(root, mark)
            if root != os.getpid():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(root, signal.SIGKILL)
            for pid in found:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.005)
            self.reap()
            if not found and root not in self._children:
                return
        await self.kill_all()


def _find_started_by(root: int, mark: str) -> list[int]:
    """Return the live processes below `root`, in its session, or with `mark` in their environment."""
    parents: dict[int, int] = {}
    found: set[int] = set()
    try:
        names = os.listdir("/proc")
    except OSError:
        return []  # without /proc, killing the process group has to do
    for name in names:
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                state, parent, _, session = file.read().rpartition(b")")[2].split()[:4]
            if state in b"ZX":
                continue
            parents[int(name)] = int(parent)
            if int(session) == root:
                found.add(int(name))
                continue
            with open(f"/proc/{name}/environ", "rb") as file:
                if mark.encode() in file.read().split(b"\0"):
                    found.add(int(name))
        except (OSError, ValueError):
            continue  # it has exited, or belongs to another user
    for pid in parents:
        above = pid
        while above in parents and above != root:
            above = parents[above]
        if above == root:
            found.add(pid)
    return sorted(found)
