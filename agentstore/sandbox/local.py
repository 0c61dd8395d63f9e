"""The base of providers whose sandboxes are processes on this machine: start, end and watch the process of a box."""

import asyncio
import contextlib
import errno
import json
import logging
import os
import secrets
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import asdict
from typing import Any, cast

from agentstore.errors import SandboxElsewhere, SandboxFailed, SandboxLost, SandboxUnavailable
from agentstore.event_loops import leave_to_parent, notify_after_fork
from agentstore.interfaces import SandboxProvider
from agentstore.sandbox.cgroups import Cgroup, Cgroups
from agentstore.sandbox.client import (
    START_TIMEOUT,
    can_connect,
    configure,
    parse_result,
    raise_errors,
    receive_workspace,
    send_request,
    send_workspace,
)
from agentstore.sandbox.handles import folder_of, id_of, make_handle, parse_handle, remove_stale_folders, socket_in
from agentstore.sandbox.limits import MemoryWatch
from agentstore.sandbox.processes import is_box, kill, kill_same, read_parent, read_start_time
from agentstore.sandbox.program import build_archive
from agentstore.schemas.sandbox import SandboxSpec, ToolResult

_log = logging.getLogger(__name__)

# Seconds in which a box answers a ping or confirms a shutdown.
_PING_TIMEOUT = 1.5
# Seconds beyond the timeout of a call, in which the box kills what the call runs and responds.
_GRACE = 5.0


class _Running:
    """A box that this process started."""

    def __init__(
        self,
        spec: SandboxSpec,
        folder: str,
        owner: socket.socket,
        process: "subprocess.Popen[bytes]",
        cgroup: Cgroup | None,
    ) -> None:
        self.spec = spec
        self.memory_limit = spec.limits.memory
        self.excesses: list[float] = []
        self.folder = folder
        self.cgroup = cgroup
        self.process = process
        self.pid = process.pid
        self._opened: int | None = None
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._waiting: asyncio.Task[None] | None = None

    def open_process(self, pid: int) -> None:
        """Use a pidfd of the box, which is process 1 of its sandbox and a child of `process`, to end it.

        Raises:
            OSError: the box has exited, and the pid may be that of another process.
        """
        opened = os.pidfd_open(pid)
        if read_parent(pid) != self.process.pid:
            os.close(opened)
            raise ProcessLookupError(errno.ESRCH, "the process of the sandbox has exited")
        self.pid, self._opened = pid, opened

    def watch(self) -> None:
        """Resolve `ended` when the box has exited, which closes the other end of the owner's socket."""
        self._owner.setblocking(False)
        self._loop.add_reader(self._owner.fileno(), self._on_readable)

    def _on_readable(self) -> None:
        try:
            received = self._owner.recv(4096)
        except BlockingIOError:
            return
        except ConnectionResetError:
            received = b""
        if not received:
            self._loop.remove_reader(self._owner.fileno())
            self._waiting = self._loop.create_task(self._wait())

    async def _wait(self) -> None:
        await asyncio.to_thread(self.wait_and_clean_up)
        if not self.ended.done():
            self.ended.set_result(None)

    async def end(self) -> None:
        """End the box and everything that runs in it, and wait until it has exited."""
        if self._loop is not asyncio.get_running_loop():
            if self._loop.is_running():  # in another thread
                await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.end(), self._loop))
            else:
                await asyncio.to_thread(self._end_without_loop)
            return
        if self._waiting is None:
            self._begin_to_end()
            done, _ = await asyncio.wait({self.ended}, timeout=2)
            if not done:
                self.process.kill()
        await asyncio.wait({self.ended})

    def _end_without_loop(self) -> None:
        """End the box after its event loop has stopped, so that the loop no longer notices the exit."""
        if self._waiting is None:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._owner.fileno())
            self._begin_to_end()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
        self.wait_and_clean_up()

    def _begin_to_end(self) -> None:
        if self._opened is not None:
            kill(self._opened)  # bwrap, whose child the box is, notices its exit and exits too
        else:
            self._owner.shutdown(socket.SHUT_WR)  # the box then kills the processes that it has started, and exits

    def wait_and_clean_up(self) -> None:
        """Wait until the box has exited, and remove what it has on this machine. Blocks."""
        self.process.wait()
        self._owner.close()
        if self._opened is not None:
            os.close(self._opened)
            self._opened = None
        if self.cgroup is not None:
            self.cgroup.remove()
        shutil.rmtree(self.folder, ignore_errors=True)


class LocalProvider(SandboxProvider):
    """The base of providers whose sandboxes are processes on this machine. A subclass starts the process of a box."""

    def __init__(self) -> None:
        self._cgroups: Cgroups | None = None
        self._running: dict[str, _Running] = {}
        self._stops = 0
        self._watcher: asyncio.Task[None] | None = None
        notify_after_fork(self)

    def after_fork(self) -> None:
        """Leave the sandboxes of the parent to it: a stop in a forked child does not end them."""
        leave_to_parent((self._running, self._watcher))
        self._running, self._watcher = {}, None

    @property
    def keeps_workspaces(self) -> bool:
        """True: the box packs and unpacks the archive, inside the sandbox."""
        return True

    @abstractmethod
    def _start_process(
        self, folder: str, inherited: list[int], errors: int
    ) -> "tuple[subprocess.Popen[bytes], int | None]":
        """Start the process of a box, which inherits these descriptors and has its stderr in `errors`.

        The first two of them are its sockets, and their numbers its first two arguments; the third argument is the id
        of the box, which is the end of the name of its folder.

        Returns the process, and a descriptor from which JSON with the ``child-pid`` of the box can be read, if the box
        is a child of the process.
        """

    @abstractmethod
    def _configuration(self, folder: str) -> dict[str, Any]:
        """Return the configuration of a box beyond what the specification of its type determines."""

    async def start(self) -> None:
        """Remove the folders of boxes whose owner was killed, and build the archive with the box."""
        await asyncio.to_thread(remove_stale_folders)
        await asyncio.to_thread(build_archive)

    async def stop(self) -> None:
        """End the sandboxes that this process started: nothing would limit their memory without it."""
        self._stops += 1  # a sandbox that is being created is ended by its create()
        running, self._running = list(self._running.values()), {}
        await asyncio.gather(*(each.end() for each in running))
        watcher, self._watcher = self._watcher, None
        if watcher is not None and watcher.get_loop() is asyncio.get_running_loop():
            watcher.cancel()
            await asyncio.wait({watcher})

    async def create(self, spec: SandboxSpec, reserved: str = "") -> str:
        """Start a box; see :meth:`agentstore.SandboxProvider.create`."""
        stops = self._stops
        await self.start()
        id = secrets.token_hex(8)
        folder = folder_of(id)
        os.mkdir(folder, 0o700)
        try:
            running = await self._start_box(spec, folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        if self._stops != stops:
            await running.end()
            raise SandboxUnavailable("the provider was stopped while it created the sandbox")
        self._running[id] = running
        running.ended.add_done_callback(lambda _: self._running.pop(id, None))
        loop = asyncio.get_running_loop()
        if self._watcher is None or self._watcher.done() or self._watcher.get_loop() is not loop:
            watch = MemoryWatch(self._running.values, self._note, self._end)
            self._watcher = asyncio.create_task(watch.run())
        return make_handle(id, running.pid).encode()

    async def _start_box(self, spec: SandboxSpec, folder: str) -> _Running:
        limits = asdict(spec.limits)
        tools = None if spec.tools is None else sorted(spec.tools)
        environment = dict(spec.environment)
        configuration = {"limits": limits, "tools": tools, "environment": environment, **self._configuration(folder)}
        cgroup = self._create_cgroup(spec, folder)
        running = None
        with contextlib.ExitStack() as stack:
            listening = stack.enter_context(socket.socket(socket.AF_UNIX))
            listening.bind(socket_in(folder))
            listening.listen(128)
            ours, theirs = socket.socketpair()
            stack.enter_context(theirs)
            errors = stack.enter_context(tempfile.TemporaryFile())
            inherited = [theirs.fileno(), listening.fileno()]
            try:
                if cgroup is not None:
                    configuration["events"] = cgroup.open_events()
                    stack.callback(os.close, configuration["events"])
                    inherited.append(configuration["events"])
                process, information = self._start_process(folder, inherited, errors.fileno())
                running = _Running(spec, folder, ours, process, cgroup)
                theirs.close()
                if information is not None:
                    stack.callback(os.close, information)
                    running.open_process(await _read_child_pid(information))
                    # Before the box has read its configuration it starts nothing.
                    if cgroup is not None:
                        cgroup.add(running.pid)
                message = await configure(ours, json.dumps(configuration).encode())
            except BaseException as error:
                if running is None:
                    ours.close()
                    if cgroup is not None:
                        cgroup.remove()
                else:
                    running.process.kill()
                    await asyncio.shield(asyncio.to_thread(running.wait_and_clean_up))
                if isinstance(error, (OSError, ValueError, EOFError, KeyError, TypeError, struct.error)):
                    errors.seek(0)
                    printed = " | ".join(errors.read(4000).decode(errors="replace").strip().splitlines()[-3:])
                    raise SandboxUnavailable(
                        f"the sandbox could not be started: {printed or str(error) or 'it did not respond'}"
                    ) from error
                raise
        running.watch()
        if message != {"ready": True}:
            await running.end()
            raise SandboxFailed("the sandbox did not report that it is ready")
        return running

    def _create_cgroup(self, spec: SandboxSpec, folder: str) -> Cgroup | None:
        if self._cgroups is None:
            return None
        try:
            return self._cgroups.create(id_of(folder), spec.limits)
        except OSError as error:
            raise SandboxUnavailable(f"the cgroup of a sandbox cannot be created: {error}") from error

    async def connect(self, handle: str) -> None:
        """Check that a box responds; see :meth:`agentstore.SandboxProvider.connect`."""
        if not await self.check(handle):
            raise SandboxLost("the sandbox no longer exists, or does not respond")

    async def check(self, handle: str) -> bool:
        """Return whether a box responds; see :meth:`agentstore.SandboxProvider.check`."""
        box = parse_handle(handle)
        try:
            async with asyncio.timeout(_PING_TIMEOUT):
                return await send_request(box.path, {"op": "ping"}) == {"ok": True}
        except (TimeoutError, SandboxLost, SandboxFailed):
            return False

    async def exec(self, handle: str, tool: str, arguments: Mapping[str, Any], timeout: float) -> ToolResult:
        """Call a tool; see :meth:`agentstore.SandboxProvider.exec`."""
        request = {"op": "exec", "tool": tool, "arguments": dict(arguments), "timeout": timeout}
        response = await self._call(handle, request, timeout + _GRACE)
        return parse_result(response.get("result"))

    async def list_tools(self, handle: str, timeout: float) -> dict[str, Any]:
        """Return the tools of a box; see :meth:`agentstore.Sandbox.list_tools`."""
        tools = (await self._call(handle, {"op": "tools"}, timeout)).get("result")
        if not isinstance(tools, dict) or not all(isinstance(group, dict) for group in tools.values()):
            raise SandboxFailed("the sandbox returned a malformed list of tools")
        return cast("dict[str, Any]", tools)

    async def _call(self, handle: str, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        box = parse_handle(handle)
        try:
            async with asyncio.timeout(timeout):
                response = await send_request(box.path, request)
        except TimeoutError:
            raise SandboxUnavailable(f"the sandbox did not respond within {timeout:g} s") from None
        return raise_errors(response)

    async def destroy(self, handle: str) -> None:
        """End a box; see :meth:`agentstore.SandboxProvider.destroy`.

        A box on another machine is left alone: it ends with the process that started it, or that process ends it when
        its lease has expired.
        """
        try:
            box = parse_handle(handle)
        except SandboxElsewhere as error:
            _log.info("a sandbox is left to the process that started it: %s", error)
            return
        running = self._running.get(box.id)
        if running is not None:
            await running.end()
            self._running.pop(box.id, None)
            return
        deadline = time.monotonic() + _GRACE
        # The handle is data: only with the same start time and id is it the process of the box. Once it is exiting, its
        # command line is gone.
        is_known = bool(box.started) and read_start_time(box.pid) == box.started and is_box(box.pid, box.id)
        with contextlib.suppress(TimeoutError, SandboxLost, SandboxFailed):
            async with asyncio.timeout(_PING_TIMEOUT):
                await send_request(box.path, {"op": "shutdown"})
        while True:
            lives = is_known and read_start_time(box.pid) == box.started
            if not lives and not await asyncio.to_thread(can_connect, box.path):
                break
            if time.monotonic() > deadline:
                raise SandboxUnavailable(f"the sandbox could not be ended: its process {box.pid} does not respond")
            if lives and time.monotonic() > deadline - _GRACE / 2:
                kill_same(box.pid, box.started)  # it ignored the request to shut down
            await asyncio.sleep(0.01)
        shutil.rmtree(os.path.dirname(box.path), ignore_errors=True)

    async def pack(self, handle: str, timeout: float) -> AsyncGenerator[bytes, None]:
        """Yield the workspace as an archive; see :meth:`agentstore.SandboxProvider.pack`."""
        async with contextlib.aclosing(receive_workspace(parse_handle(handle).path, timeout)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def unpack(self, handle: str, archive: AsyncIterator[bytes], timeout: float) -> None:
        """Unpack an archive into the workspace; see :meth:`agentstore.SandboxProvider.unpack`."""
        await send_workspace(parse_handle(handle).path, archive, timeout)

    async def _note(self, box: _Running, text: str) -> None:
        """Add a line to the results of the calls that are running in a box, if it answers at once."""
        with contextlib.suppress(TimeoutError, SandboxLost, SandboxUnavailable, SandboxFailed):
            async with asyncio.timeout(0.05):
                await send_request(socket_in(box.folder), {"op": "note", "text": text})

    async def _end(self, box: _Running, reason: str) -> None:
        _log.warning("a sandbox is ended, as its processes exceed its memory limit again and again: %s", reason)
        await box.end()


async def _read_child_pid(information: int) -> int:
    """Read the pid of the box from what bwrap writes about it, in several pieces.

    Raises:
        EOFError: bwrap has not started it.
    """
    loop = asyncio.get_running_loop()
    received = b""
    readable = asyncio.Event()
    loop.add_reader(information, readable.set)
    try:
        async with asyncio.timeout(START_TIMEOUT):
            while b"}" not in received:
                await readable.wait()
                readable.clear()
                data = os.read(information, 4096)
                if not data:
                    raise EOFError
                received += data
    finally:
        loop.remove_reader(information)
    return int(json.loads(received)["child-pid"])
