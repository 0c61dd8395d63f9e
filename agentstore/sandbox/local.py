"""Sandboxes on this machine: the process that a box is in, and the client's side of its socket.

Shared by the providers that run :mod:`agentstore.sandbox.box` here. What a box answers may be made up by what runs in
it, so nothing is believed: sizes are bounded, and what is not of the protocol is SandboxFailed.
"""

import asyncio
import contextlib
import functools
import json
import logging
import os
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from agentstore.errors import InvalidContent, SandboxElsewhere, SandboxFailed, SandboxLost, SandboxUnavailable
from agentstore.interfaces import SandboxProvider
from agentstore.sandbox import box
from agentstore.schemas.sandbox import SandboxSpec, ToolResult

_log = logging.getLogger(__name__)

PROGRAM = Path(box.__file__)

_PREFIX = "agentstore-sandbox-"
_LARGEST_ANSWER = 64_000_000
# A folder may have 50,000 files, each of them a part of an answer with three values.
_MOST_VALUES = 1_000_000
_STARTING = 15.0
_MOMENT = 1.5
_GRACE = 5.0  # beside a call's timeout: what is needed to end what the call runs, and to say so
_STALE = 60.0


@dataclass(frozen=True, slots=True)
class _Handle:
    """Where a box is. ``pid`` and ``started`` are of its process, to end one that does not answer."""

    host: str
    machine: str
    path: str
    id: str
    pid: int
    started: str


class _Running:
    """A box that this process started."""

    def __init__(
        self, spec: SandboxSpec, folder: str, owner: socket.socket, process: "subprocess.Popen[bytes]", *, kill: bool
    ) -> None:
        self.spec = spec
        self.folder = folder
        self._kill = kill
        self.process = process
        self.pid = process.pid
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self._waiting: asyncio.Task[None] | None = None

    def watch(self) -> None:
        """Notice its end, at which the other end of its socket closes."""
        self._owner.setblocking(False)
        self._loop.add_reader(self._owner.fileno(), self._readable)

    def _readable(self) -> None:
        try:
            said = self._owner.recv(4096)
        except BlockingIOError:
            return
        except ConnectionResetError:
            said = b""
        if not said:
            self._loop.remove_reader(self._owner.fileno())
            self._waiting = self._loop.create_task(self._wait())

    async def _wait(self) -> None:
        await asyncio.to_thread(self.process.wait)
        self._clear()
        if not self.ended.done():
            self.ended.set_result(None)

    async def end(self) -> None:
        """End it, and all that runs in it, and wait until nothing is left."""
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
        """End it where nobody notices its end any more, since its event loop has gone."""
        if self._waiting is None:
            if not self._loop.is_closed():
                self._loop.remove_reader(self._owner.fileno())
            self._begin_to_end()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._clear()

    def _begin_to_end(self) -> None:
        if self._kill:
            _kill(self.pid)  # and bwrap, whose child it is, sees its end and waits for it
        else:
            self._owner.shutdown(socket.SHUT_WR)  # at which it ends by itself, and first what it started

    def _clear(self) -> None:
        """Remove what it leaves when its process has ended."""
        self._owner.close()
        shutil.rmtree(self.folder, ignore_errors=True)


class LocalProvider(SandboxProvider):
    """What the providers of boxes on this machine have in common: all but how the process is started."""

    # Whether the kernel ends all that is in a box when its process is killed.
    _is_process_1 = True

    def __init__(self) -> None:
        self._running: dict[str, _Running] = {}
        self._watcher: asyncio.Task[None] | None = None

    @property
    def keeps_workspaces(self) -> bool:
        """True: the box makes and unpacks the archive, on its side of the walls."""
        return True

    @abstractmethod
    def _start_process(
        self, folder: str, owner: socket.socket, listening: socket.socket, errors: int
    ) -> "tuple[subprocess.Popen[bytes], int | None]":
        """Start the box's process, and return it, and what can be read to learn of its number if it is another."""

    @abstractmethod
    def _configuration(self, folder: str) -> dict[str, Any]:
        """Return what the box is told beside its type's specification."""

    async def start(self) -> None:
        """Remove what killed processes have left."""
        await asyncio.to_thread(_remove_stale)

    async def stop(self) -> None:
        """End the sandboxes that were made here: without this process, nothing would watch their memory."""
        running, self._running = list(self._running.values()), {}
        await asyncio.gather(*(each.end() for each in running))
        watcher, self._watcher = self._watcher, None
        if watcher is not None and watcher.get_loop() is asyncio.get_running_loop():
            watcher.cancel()
            await asyncio.wait({watcher})

    async def create(self, spec: SandboxSpec, reserved: str = "") -> str:
        """Start a box; see :meth:`agentstore.SandboxProvider.create`."""
        await self.start()
        id = secrets.token_hex(8)
        folder = os.path.join(_base(), f"{_PREFIX}{id}")
        os.mkdir(folder, 0o700)
        path = os.path.join(folder, "s")
        try:
            running = await self._start_box(spec, folder, path)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._running[id] = running
        running.ended.add_done_callback(lambda _: self._running.pop(id, None))
        loop = asyncio.get_running_loop()
        if self._watcher is None or self._watcher.done() or self._watcher.get_loop() is not loop:
            self._watcher = asyncio.create_task(self._watch_memory())
        host, machine = _here()
        handle = _Handle(host, machine, path, id, running.pid, _start_time(running.pid))
        return json.dumps(asdict(handle))

    async def _start_box(self, spec: SandboxSpec, folder: str, path: str) -> _Running:
        limits = asdict(spec.limits)
        tools = None if spec.tools is None else sorted(spec.tools)
        environment = dict(spec.environment)
        configuration = {"limits": limits, "tools": tools, "environment": environment, **self._configuration(folder)}
        with contextlib.ExitStack() as stack:
            listening = stack.enter_context(socket.socket(socket.AF_UNIX))
            listening.bind(path)
            listening.listen(128)
            ours, theirs = socket.socketpair()
            stack.enter_context(theirs)
            errors = stack.enter_context(tempfile.TemporaryFile())
            try:
                process, information = self._start_process(folder, theirs, listening, errors.fileno())
            except OSError as error:
                ours.close()
                raise SandboxUnavailable(f"a sandbox could not be started: {error}") from error
            theirs.close()
            running = _Running(spec, folder, ours, process, kill=self._is_process_1)
            try:
                said = await _first_words(ours, json.dumps(configuration).encode())
                if information is not None:
                    running.pid = _number_of_child(os.read(information, 4096)) or running.pid
            except BaseException as error:
                process.kill()
                await asyncio.shield(asyncio.to_thread(process.wait))
                ours.close()
                if isinstance(error, (OSError, ValueError, EOFError, struct.error)):
                    errors.seek(0)
                    words = " | ".join(errors.read(4000).decode(errors="replace").strip().splitlines()[-3:])
                    raise SandboxUnavailable(
                        f"a sandbox could not be started: {words or str(error) or 'it did not answer'}"
                    ) from error
                raise
            finally:
                if information is not None:
                    os.close(information)
        running.watch()
        if said != {"ready": True}:
            await running.end()
            raise SandboxFailed("a sandbox said something else than that it is ready")
        return running

    async def connect(self, handle: str) -> None:
        """See whether a box is there; see :meth:`agentstore.SandboxProvider.connect`."""
        if not await self.check(handle):
            raise SandboxLost("the sandbox is no more, or does not answer")

    async def check(self, handle: str) -> bool:
        """Return whether a box answers; see :meth:`agentstore.SandboxProvider.check`."""
        place = _find(handle)
        try:
            async with asyncio.timeout(_MOMENT):
                return await _ask(place.path, {"op": "ping"}) == {"ok": True}
        except (TimeoutError, SandboxLost, SandboxFailed):
            return False

    async def exec(self, handle: str, tool: str, arguments: Mapping[str, Any], timeout: float) -> ToolResult:
        """Call a tool; see :meth:`agentstore.SandboxProvider.exec`."""
        request = {"op": "exec", "tool": tool, "arguments": dict(arguments), "timeout": timeout}
        answer = await self._call(handle, request, timeout + _GRACE)
        return _as_result(answer.get("result"))

    async def list_tools(self, handle: str, timeout: float) -> dict[str, Any]:
        """Return the tools of a box; see :meth:`agentstore.Sandbox.list_tools`."""
        tools = (await self._call(handle, {"op": "tools"}, timeout)).get("result")
        if not isinstance(tools, dict) or not all(isinstance(group, dict) for group in tools.values()):
            raise SandboxFailed("the sandbox answered with something else than its tools")
        return cast("dict[str, Any]", tools)

    async def _call(self, handle: str, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        place = _find(handle)
        try:
            async with asyncio.timeout(timeout):
                answer = await _ask(place.path, request)
        except TimeoutError:
            raise SandboxUnavailable(f"the sandbox did not answer within {timeout:g} s") from None
        return _checked(answer)

    async def destroy(self, handle: str) -> None:
        """End a box; see :meth:`agentstore.SandboxProvider.destroy`.

        One of another machine ends with the process that made it, or is ended by that when it has lost its lease.
        """
        try:
            place = _find(handle)
        except SandboxElsewhere as error:
            _log.info("a sandbox is left to its owner: %s", error)
            return
        running = self._running.get(place.id)
        if running is not None:
            await running.end()
            self._running.pop(place.id, None)
            return
        deadline = time.monotonic() + _GRACE
        with contextlib.suppress(TimeoutError, SandboxLost, SandboxFailed):
            async with asyncio.timeout(_MOMENT):
                await _ask(place.path, {"op": "shutdown"})
        while True:
            # A number says little; with the time of its start, it is that process.
            lives = bool(place.started) and _start_time(place.pid) == place.started
            if not lives and not await asyncio.to_thread(_listens, place.path):
                break
            if time.monotonic() > deadline:
                raise SandboxUnavailable(f"the sandbox could not be ended: process {place.pid} does not answer")
            if lives and time.monotonic() > deadline - _GRACE / 2:
                _kill(place.pid)  # it does not do what it is asked
            await asyncio.sleep(0.01)
        shutil.rmtree(os.path.dirname(place.path), ignore_errors=True)

    async def pack(self, handle: str, timeout: float) -> AsyncGenerator[bytes, None]:
        """Yield the workspace; see :meth:`agentstore.SandboxProvider.pack`."""
        place = _find(handle)
        deadline = asyncio.get_running_loop().time() + timeout
        async with _connection(place.path) as (reader, writer):
            async with _in_time(deadline):
                await _send(writer, {"op": "pack"})
            while True:
                async with _in_time(deadline):
                    piece = await _receive(reader, box.PIECE)
                if not piece:
                    break
                yield piece
            async with _in_time(deadline):
                _checked(await _receive_answer(reader))

    async def unpack(self, handle: str, archive: AsyncIterator[bytes], timeout: float) -> None:
        """Fill the workspace; see :meth:`agentstore.SandboxProvider.unpack`."""
        place = _find(handle)
        deadline = asyncio.get_running_loop().time() + timeout
        async with _connection(place.path) as (reader, writer):
            async with _in_time(deadline):
                await _send(writer, {"op": "unpack"})
            async for data in archive:
                async with _in_time(deadline):
                    for start in range(0, len(data), box.PIECE):
                        piece = data[start : start + box.PIECE]
                        writer.write(struct.pack("!I", len(piece)) + piece)
                        await writer.drain()
            async with _in_time(deadline):
                writer.write(struct.pack("!I", 0))
                await writer.drain()
                _checked(await _receive_answer(reader))

    async def _watch_memory(self) -> None:
        """Kill the largest process of each box whose processes use more memory than they may, together.

        There may be no cgroup that this process could make, and the limits of a process say nothing of their sum.
        """
        while True:
            try:
                is_near = await self._look_at_memory()
            except Exception:  # noqa: BLE001 - who watches goes on watching
                _log.warning("the memory of sandboxes could not be looked at", exc_info=True)
                is_near = True
            await asyncio.sleep(0.05 if is_near else 0.25)

    async def _look_at_memory(self) -> bool:
        """Do it once, and return whether a box is near its limit."""
        is_near = False
        boxes = {running.pid: running for running in self._running.values()}
        for pid, members in (await asyncio.to_thread(_members, set(boxes))).items():
            running = boxes[pid]
            limit = running.spec.limits.memory
            is_near |= 2 * sum(members.values()) > limit
            if sum(members.values()) > limit:  # what is shared counts here for each that shares it
                exact = await asyncio.to_thread(_exactly, members)
                if sum(exact.values()) > limit:
                    await self._kill_largest(running, exact)
        return is_near

    async def _kill_largest(self, running: _Running, members: Mapping[int, int]) -> None:
        largest = max(members, key=lambda pid: members[pid])
        text = (
            f"process killed: the sandbox's processes used {sum(members.values()):,} bytes of memory together, "
            f"and {running.spec.limits.memory:,} are allowed"
        )
        with contextlib.suppress(TimeoutError, SandboxLost, SandboxUnavailable, SandboxFailed):
            async with asyncio.timeout(0.2):
                await _ask(os.path.join(running.folder, "s"), {"op": "note", "text": text})
        _log.info("a sandbox's %s", text)
        _kill(largest)


@contextlib.asynccontextmanager
async def _connection(path: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Open a connection to a box; what happens to it is raised as what it says of the sandbox.

    Raises:
        SandboxLost, SandboxUnavailable: it is no more; or it is another user's, or has too many callers.
    """
    writer = None
    try:
        reader, writer = await asyncio.open_unix_connection(path)
        yield reader, writer
    except (FileNotFoundError, ConnectionError) as error:
        raise SandboxLost("the sandbox is no more") from error
    except EOFError as error:
        raise SandboxLost("the sandbox ended before it answered") from error
    except OSError as error:
        raise SandboxUnavailable(f"the sandbox cannot be reached: {error}") from error
    finally:
        if writer is not None:
            # Not with what it has not read yet: hanging up is how a call is ended.
            writer.transport.abort()


@contextlib.asynccontextmanager
async def _in_time(deadline: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError:
        raise SandboxUnavailable("the sandbox did not answer in time") from None


async def _ask(path: str, request: Mapping[str, Any]) -> dict[str, Any]:
    async with _connection(path) as (reader, writer):
        await _send(writer, request)
        return await _receive_answer(reader)


async def _send(writer: asyncio.StreamWriter, request: Mapping[str, Any]) -> None:
    try:
        data = json.dumps(request, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidContent(f"the arguments are no JSON: {error}") from error
    if len(data) > box.LARGEST_REQUEST:
        raise InvalidContent(f"the arguments are larger than {box.LARGEST_REQUEST:,} bytes")
    writer.write(struct.pack("!I", len(data)) + data)
    await writer.drain()


async def _receive(reader: asyncio.StreamReader, largest: int) -> bytes:
    size = struct.unpack("!I", await reader.readexactly(4))[0]
    if size > largest:
        raise SandboxFailed(f"the sandbox answered with {size:,} bytes, which is more than it may")
    return await reader.readexactly(size)


async def _receive_answer(reader: asyncio.StreamReader) -> dict[str, Any]:
    data = await _receive(reader, _LARGEST_ANSWER // 4)
    # Nothing else of this process goes on while it is read. What is long comes behind it, and is not.
    if sum(map(data.count, (b"[", b"{", b","))) > _MOST_VALUES:
        raise SandboxFailed("the sandbox answered with more values than it may")
    try:
        answer = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise SandboxFailed("the sandbox answered with what is no JSON") from error
    if not isinstance(answer, dict):
        raise SandboxFailed("the sandbox answered with something else than an object")
    await _receive_long(reader, answer.get("result"))
    return cast("dict[str, Any]", answer)


async def _receive_long(reader: asyncio.StreamReader, result: Any) -> None:
    """Put into a result what came behind it."""
    content = result.get("content") if isinstance(result, dict) else None
    total = 0
    for part in content if isinstance(content, list) else ():
        if not isinstance(part, dict) or "size" not in part:
            continue
        size, key = part.pop("size"), box.VALUES.get(str(part.get("type")))
        if type(size) is not int or size < 0 or key is None:
            raise SandboxFailed("the sandbox answered with a size that is none")
        total += size
        if total > _LARGEST_ANSWER:
            raise SandboxFailed(f"the sandbox answered with {total:,} bytes, which is more than it may")
        try:
            part[key] = (await reader.readexactly(size)).decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise SandboxFailed("the sandbox answered with what is no text") from error


def _checked(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer, or raise what it says."""
    for key, error in (("invalid", InvalidContent), ("unavailable", SandboxUnavailable), ("failed", SandboxFailed)):
        if key in answer:
            raise error(str(answer[key])[:2000])
    return answer


def _as_result(value: Any) -> ToolResult:
    if isinstance(value, dict) and isinstance(value.get("isError"), bool) and isinstance(value.get("content"), list):
        parts = value["content"]
        if all(
            isinstance(part, dict)
            and all(isinstance(each, str) for each in part.values())
            and box.VALUES.get(part.get("type", ""), "") in part
            for part in parts
        ):
            return ToolResult.of(*parts, is_error=value["isError"])
    raise SandboxFailed("the sandbox answered with what is no result of a tool")


async def _first_words(owner: socket.socket, configuration: bytes) -> Any:
    """Tell a box what it is to be, and return what it says when it is that."""
    loop = asyncio.get_running_loop()
    owner.setblocking(False)
    async with asyncio.timeout(_STARTING):
        await loop.sock_sendall(owner, struct.pack("!I", len(configuration)) + configuration)
        said = b""
        while len(said) < 4 or len(said) < 4 + min(struct.unpack("!I", said[:4])[0], 1000):
            piece = await loop.sock_recv(owner, 1000)
            if not piece:
                raise EOFError
            said += piece
    return json.loads(said[4:])


def _number_of_child(information: bytes) -> int | None:
    try:
        return int(json.loads(information)["child-pid"])
    except (ValueError, KeyError, TypeError):
        return None


def _base() -> str:
    """The folder of sockets, whose paths have to be short."""
    return "/tmp" if os.access("/tmp", os.W_OK) else tempfile.gettempdir()  # noqa: S108 - private, and named at random


@functools.cache
def _machine(pid: int) -> tuple[str, str]:
    """The host, and what tells it from another of that name: this boot of it, and its folder of sockets."""
    status = os.stat(_base())
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    return socket.gethostname(), f"{boot}:{status.st_dev}:{status.st_ino}"


def _here() -> tuple[str, str]:
    return _machine(os.getpid())


def _find(text: str) -> _Handle:
    """Read a handle.

    Raises:
        SandboxFailed: it is none of this provider's.
        SandboxUnavailable: it is of another machine, or of a container that has other files.
    """
    try:
        values = json.loads(text)
        handle = _Handle(**values)
        kinds = (str, str, str, str, int, str)
        well_formed = all(isinstance(values[name], kind) for name, kind in zip(_Handle.__slots__, kinds, strict=True))
    except (ValueError, TypeError) as error:
        raise SandboxFailed("this is no handle of a sandbox on a machine like this") from error
    if not well_formed or os.path.basename(os.path.dirname(handle.path)) != f"{_PREFIX}{handle.id}":
        raise SandboxFailed("this is no handle of a sandbox on a machine like this")
    host, machine = _here()
    if (handle.host, handle.machine) != (host, machine):
        same = " (before it was started again, or in another container)" if handle.host == host else ""
        raise SandboxElsewhere(
            f"the sandbox lives on the host {handle.host}{same}, and can only be used there; this is {host}"
        )
    return handle


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(0.2)
        try:
            probe.connect(path)
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        except OSError:
            return True
    return True


def _remove_stale() -> None:
    """Remove the folders of boxes whose owner was killed before it could."""
    with os.scandir(_base()) as entries:
        found = [each for each in entries if each.name.startswith(_PREFIX)]
    for each in found:
        with contextlib.suppress(OSError):
            status = each.stat(follow_symlinks=False)
            stale = status.st_uid == os.geteuid() and time.time() - status.st_mtime > _STALE
            if stale and not _listens(os.path.join(each.path, "s")):
                shutil.rmtree(each.path, ignore_errors=True)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _stat(pid: int | str) -> list[bytes]:
    """The fields of a process after its name: state, parent, ..., start time (19), ..., resident pages (21)."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()


def _start_time(pid: int) -> str:
    """When a process started, in ticks; nothing if it has ended."""
    try:
        fields = _stat(pid)
        return "" if fields[0] in b"ZX" else fields[19].decode()
    except (OSError, IndexError):
        return ""


def _members(boxes: set[int]) -> dict[int, dict[int, int]]:
    """The processes below each box, and how much memory each has: one look at all processes, whatever their number."""
    if sys.platform != "linux" or not boxes:
        return {}
    parents, resident = {}, {}
    page = os.sysconf("SC_PAGE_SIZE")
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                fields = _stat(name)
                parents[int(name)], resident[int(name)] = int(fields[1]), int(fields[21]) * page
    found: dict[int, dict[int, int]] = {}
    for pid, size in resident.items():
        above = parents[pid]
        while above not in boxes and above in parents:
            above = parents[above]
        if above in boxes:
            found.setdefault(above, {})[pid] = size + _tables(pid)
    return found


def _tables(pid: int) -> int:
    """The bytes of a process's page tables, which are not in what it has resident."""
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/status") as file:
        return 1024 * sum(int(line.split()[1]) for line in file if line.startswith("VmPTE:"))
    return 0


def _exactly(members: Mapping[int, int]) -> dict[int, int]:
    """How much memory that is no file's each process has, with its share of what it shares."""
    found = {}
    for pid, size in members.items():
        found[pid] = size
        with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/smaps_rollup") as file:
            kilobytes = dict(line.split()[:2] for line in file if line.startswith("Pss"))
            own = 1024 * (int(kilobytes.get("Pss_Anon:", 0)) + int(kilobytes.get("Pss_Shmem:", 0)))
            found[pid] = own + _tables(pid)
    return found
