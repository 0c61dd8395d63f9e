"""The program inside a sandbox: it runs cells, commands and the tools of files for whoever connects to its socket.

Read by a provider and run there by a bare Python, so it imports the standard library alone, and jupyter_client when
the first cell comes. One connection is one call: a request and an answer, each JSON after its length; a caller that
hangs up ends what its call runs. It is process 1 of its sandbox, which the code that it runs can neither kill nor
stop, and whose end is everything's end. It ends with the process that started it, whose end of a socket it holds.
"""

import asyncio
import base64
import contextlib
import ctypes
import difflib
import errno
import fnmatch
import json
import os
import platform
import re
import resource
import shutil
import signal
import socket
import stat
import struct
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, cast

PIECE = 1_000_000
LARGEST_REQUEST = 64_000_000
LARGEST_FILE = 16_000_000  # that read_file returns: an answer is held in memory, here and where it goes
_IMAGES = 16_000_000
_INLINE = 10_000
VALUES = {"text": "text", "image": "data", "blob": "blob"}
"""What the value of a part is called, by its type."""

_PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER = 4, 22, 24, 36
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
_CLONE_NEWNS, _MS_NOSUID, _MS_NODEV = 0x20000, 2, 4

# What allocates memory that is in no process and in no quota (memfd, System V's queues and segments, rings, attributes
# of files), and doors of the kernel that no tool of a sandbox needs. They do not exist in there: by machine, its audit
# number, the numbers of memfd_create, memfd_secret, shmget, msgget, semget, mq_open, io_uring_setup, userfaultfd, bpf,
# perf_event_open, keyctl, add_key, request_key, mount, umount2, pivot_root, fsopen, open_tree, move_mount, unshare,
# setns, pidfd_getfd, open_by_handle_at, fanotify_init, process_vm_readv, process_vm_writev, syslog, setxattr,
# lsetxattr, fsetxattr and setxattrat, and those of mmap, socket, setsockopt and prlimit64, which are looked at.
_CLOSED_CALLS: dict[str, tuple[int, str, tuple[int, int, int, int]]] = {
    "x86_64": (
        0xC000003E,
        "319 447 29 68 64 240 425 323 321 298 250 248 249 165 166 155 430 428 429 272 308 438 304 300 310 311 "
        "103 188 189 190 463",
        (9, 41, 54, 302),
    ),
    "aarch64": (
        0xC00000B7,
        "279 447 194 186 190 180 425 282 280 241 219 217 218 40 39 41 430 428 429 97 268 438 265 262 270 271 "
        "116 5 6 7 463",
        (222, 198, 208, 261),
    ),
}

# The processes of the box itself, and those that it can still start when what it runs has used up its own.
_OWN_PROCESSES = 8
_SPARE_PROCESSES = 16

# An IPython kernel whose print() waits for what it printed to be sent. By itself it gathers what is printed in a fifth
# of a second, however much that is, and dies of it where memory is limited.
_KERNEL = """
import sys
del sys.path[0]
from ipykernel import iostream, kernelapp
gather = iostream.OutStream.write
def write(self, string):
    if not isinstance(string, str):
        return gather(self, string)
    for start in range(0, len(string) or 1, 100_000):
        piece = string[start : start + 100_000]
        gather(self, piece)
        self.gathered = getattr(self, "gathered", 0) + len(piece)
        if self.gathered > 100_000:
            self.gathered = 0
            self.flush()
    return len(string)
iostream.OutStream.write = write
del sys.modules["__main__"].write
kernelapp.launch_new_instance()
"""

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")

_SHELL = "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"

Result = dict[str, Any]


class Invalid(Exception):
    """There is no such tool, or an argument is not of its kind."""


class Refused(Exception):
    """A tool cannot do what it was asked, in words for who asked."""


class BrokenArchive(Exception):
    """A workspace cannot be packed, or filled from what came."""


def _schema(description: str, properties: dict[str, Any], *required: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    return {"description": description, "parameters": parameters}


def _string(description: str) -> dict[str, Any]:
    return {"type": "string", "description": description}


_PATH = _string("A path in the workspace.")
_STRINGS = {"type": "array", "items": {"type": "string"}}
_EDITS = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {"oldText": {"type": "string"}, "newText": {"type": "string"}},
        "required": ["oldText", "newText"],
    },
}

TOOLS: dict[str, dict[str, Any]] = {
    "run_ipython_cell": _schema(
        "Run a cell of IPython. Variables are kept between cells.", {"code": _string("The cell.")}, "code"
    ),
    "run_shell_command": _schema(
        "Run a shell command in the workspace.", {"command": _string("The command.")}, "command"
    ),
    "read_file": _schema("Return a file of the workspace.", {"path": _PATH}, "path"),
    "write_file": _schema(
        "Write a file of the workspace, with the folders that it needs.",
        {"path": _PATH, "content": _string("Its text."), "blob": _string("Its bytes in Base64, instead of text.")},
        "path",
    ),
    "list_files": _schema("List the names in a folder of the workspace.", {"path": _PATH}),
    "remove_file": _schema("Remove a file, or a folder with all that is in it.", {"path": _PATH}, "path"),
    "create_directory": _schema("Create a folder, with those that it needs.", {"path": _PATH}, "path"),
    "list_directory": _schema("List a folder, with [FILE] or [DIR] before each name.", {"path": _PATH}, "path"),
    "move_file": _schema(
        "Move or rename a file or a folder. The destination must not exist.",
        {"source": _PATH, "destination": _PATH},
        *("source", "destination"),
    ),
    "get_file_info": _schema("Return a file's size, times, type and permissions.", {"path": _PATH}, "path"),
    "search_files": _schema(
        "Find files and folders by a part of their name or a pattern such as *.py, in a folder and those in it.",
        {"path": _PATH, "pattern": _string("What to find."), "excludePatterns": _STRINGS},
        *("path", "pattern"),
    ),
    "read_multiple_files": _schema("Return the text of several files.", {"paths": _STRINGS}, "paths"),
    "edit_file": _schema(
        "Replace text in a file, and return the difference.",
        {"path": _PATH, "edits": _EDITS, "dryRun": {"type": "boolean", "description": "Change nothing."}},
        *("path", "edits"),
    ),
    "directory_tree": _schema("Return a folder and all that is in it, as JSON.", {"path": _PATH}, "path"),
    "list_allowed_directories": _schema("Return the folders that the tools may use.", {}),
}


def check_arguments(tool: str, arguments: Any) -> None:
    """Raise Invalid where arguments are not those of the tool."""
    if not isinstance(arguments, dict):
        raise Invalid(f"the arguments of {tool} are no object")
    schema = TOOLS[tool]["parameters"]
    for name, value in arguments.items():
        if name not in schema["properties"]:
            raise Invalid(f"{tool} has no argument {name!r}")
        if not _is_of_kind(value, schema["properties"][name]):
            raise Invalid(f"{tool}: {name} is not of its kind, which is {schema['properties'][name]['type']}")
    for name in schema["required"]:
        if name not in arguments:
            raise Invalid(f"{tool} needs the argument {name}")
    if tool == "write_file" and ("content" in arguments) == ("blob" in arguments):
        raise Invalid("write_file needs either content or blob")


def _is_of_kind(value: Any, schema: dict[str, Any]) -> bool:
    if schema["type"] == "string":
        return isinstance(value, str) and _is_unicode(value)
    if schema["type"] == "boolean":
        return isinstance(value, bool)
    if schema["type"] == "array":
        return isinstance(value, list) and all(_is_of_kind(each, schema["items"]) for each in value)
    properties = schema["properties"]
    return (
        isinstance(value, dict)
        and all(name in value for name in schema["required"])
        and all(name in properties and _is_of_kind(each, properties[name]) for name, each in value.items())
    )


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False  # half of a surrogate pair, which is in no file
    return True


def _text(value: str, description: str) -> dict[str, str]:
    return {"type": "text", "text": value, "description": description}


def _answer(*content: dict[str, Any], is_error: bool = False) -> Result:
    return {"content": list(content), "isError": is_error}


def _error(message: str) -> Result:
    return _answer(_text(message + "\n", "stderr"), is_error=True)


def _libc() -> Any:
    return ctypes.CDLL(None, use_errno=True)


def _must(result: int, what: str) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def confine(limits: dict[str, int]) -> None:
    """Mount what may be written, each with its quota, and give up every right for good.

    bwrap's own tmpfs has a size, but no limit of inodes: empty files would cost nothing of it, and 1 kB of the
    kernel's memory each. A mount namespace below bwrap's has its mounts locked, so even before this ends nothing of
    what is read-only can be made writable.
    """
    libc = _libc()
    _must(libc.unshare(_CLONE_NEWNS), "unshare")
    owner = f"uid={os.getuid()},gid={os.getgid()}"
    for place, size, files, mode in (
        ("/workspace", limits["disk"], limits["files"], "0755"),
        ("/tmp", limits["disk"], limits["files"], "1777"),  # noqa: S108 - the sandbox's own
        ("/dev/shm", min(limits["disk"], 64_000_000), 1024, "1777"),  # noqa: S108
    ):
        options = f"size={size},nr_inodes={files + 1},mode={mode},{owner}"
        flags = _MS_NOSUID | _MS_NODEV
        _must(libc.mount(b"tmpfs", place.encode(), b"tmpfs", flags, options.encode()), f"mount {place}")
    for capability in range(64):
        if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break  # the kernel knows no more of them
    _must(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0), "prctl")
    header = struct.pack("Ii", 0x20080522, 0)
    _must(libc.capset(header, bytes(24)), "capset")
    _must(libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "prctl")
    with open("/proc/self/status") as status:
        rights = [line.split()[1] for line in status if line.startswith("Cap")]
    if any(int(each, 16) for each in rights):
        raise OSError(f"rights were left: {rights}")
    _close_calls(libc)
    # The code in here has the same user: without this, it could read the box's memory and use its descriptors.
    _must(libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0), "prctl")


def _close_calls(libc: Any) -> None:
    """Install a filter of system calls; on other machines than two, there is none."""
    if platform.machine() not in _CLOSED_CALLS:
        return
    program = _filter(*_CLOSED_CALLS[platform.machine()])
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in program))
    filter_ = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(code)))
    _must(libc.prctl(_PR_SET_SECCOMP, 2, ctypes.c_void_p(ctypes.addressof(filter_)), 0, 0), "seccomp")


def _filter(architecture: int, closed: str, looked_at: tuple[int, int, int, int]) -> list[tuple[int, int, int, int]]:
    """The filter's program: each step an operation, how many to pass over if it holds and if not, and its value."""
    load, both, equal, at_least, leave = 0x20, 0x54, 0x15, 0x35, 0x06
    allow, refuse = (leave, 0, 0, 0x7FFF0000), 0x00050000  # SECCOMP_RET_ALLOW, and _ERRNO
    missing = (leave, 0, 0, refuse | errno.ENOSYS)
    forbidden = (leave, 0, 0, refuse | errno.EPERM)

    def argument(number: int, *, upper: bool = False) -> tuple[int, int, int, int]:
        return (load, 0, 0, 16 + 8 * number + 4 * upper)

    def one_of(*values: int) -> list[tuple[int, int, int, int]]:
        """Go on with the next step if it is one of them, and with the one after that if not."""
        last = len(values) - 1
        return [(equal, last - place, place == last, value) for place, value in enumerate(values)]

    map_, socket_, setsockopt, prlimit = looked_at
    bodies = {
        # Anonymous memory that is shared is a file of the kernel's own, which may be in no process that has it.
        map_: [argument(3), (both, 0, 0, 0x2F), *one_of(0x21, 0x23), forbidden, allow],
        # AF_UNIX, the Internet's (of which there is none but the loopback), netlink, and packets, which need a right:
        # others, as AF_VSOCK, are in no namespace.
        socket_: [argument(0), *one_of(1, 2, 10, 16, 17), allow, (leave, 0, 0, refuse | errno.EAFNOSUPPORT)],
        # Larger buffers of sockets.
        setsockopt: [argument(1), (equal, 0, 7, 1), argument(2), *one_of(7, 8, 32, 33), forbidden, allow, allow],
        # The limits of others, process 1's among them.
        prlimit: [
            *(argument(0), (equal, 5, 0, 0)),
            *(argument(2), (equal, 0, 2, 0), argument(2, upper=True), (equal, 1, 0, 0)),
            *(forbidden, allow),
        ],
    }
    program = [(load, 0, 0, 4), (equal, 1, 0, architecture), missing, (load, 0, 0, 0)]
    program += [(at_least, 0, 1, 0x40000000), missing]  # the x32 calls, which are others' numbers
    for number in map(int, closed.split()):
        program += [(equal, 0, 1, number), missing]
    for number, body in bodies.items():
        program += [(equal, 0, len(body), number), *body]
    return [*program, allow]


def limit_resources(limits: dict[str, int], *, confined: bool) -> None:
    """Set what each process may use; those of the box's own go a little further, see :func:`_enter_child`.

    The memory is RLIMIT_DATA and not RLIMIT_AS: what is only reserved (thread arenas, a JavaScript engine's cage) is
    not used.
    """
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: limits["file_size"],
        resource.RLIMIT_NOFILE: limits["open_files"],
        resource.RLIMIT_DATA: limits["memory"],
    }
    if confined:  # elsewhere it would count all processes of the user
        wanted[resource.RLIMIT_NPROC] = limits["processes"] + _OWN_PROCESSES + _SPARE_PROCESSES
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
            score.write("1000")  # where the machine has no memory left, it is a sandbox that goes
    for kind, value in wanted.items():
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(ValueError):  # macOS has some that cannot be set
            resource.setrlimit(kind, (value, value))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


class Box:
    """What answers calls: a kernel, a shell and files."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.workspace: str = os.path.realpath(config["workspace"])
        self.scratch: str = config["scratch"]
        self.python: str = config["python"]
        self.limits: dict[str, int] = config["limits"]
        self.environment: dict[str, str] = config["environment"]
        self.confined: bool = config["confined"]
        self.tools: set[str] = set(TOOLS if config["tools"] is None else config["tools"]) & set(TOOLS)
        self.notes: list[list[str]] = []
        self._children: dict[int, asyncio.Future[int]] = {}
        self._calls = 0
        self._kernel = Kernel(self)
        self._files = Files(self.workspace, self.limits["output"])
        self._pending: set[asyncio.Task[Any]] = set()

    async def serve(self, listening: socket.socket, owner: socket.socket) -> None:
        """Answer calls until the owner is gone, or somebody asks for the end."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGCHLD, self._reap)
        self.ended: asyncio.Future[None] = loop.create_future()
        loop.add_reader(owner.fileno(), self.end)
        server = await asyncio.start_unix_server(self._connected, sock=listening)
        async with server:
            owner.setblocking(False)
            owner.send(_frame(json.dumps({"ready": True}).encode()))
            _say_nothing()
            await self.ended
        if not self.confined:  # else the kernel sees to it
            await self.end_tree(os.getpid(), f"AGENTSTORE_BOX={os.getpid()}")

    def end(self) -> None:
        """End, and with process 1 all that is in here."""
        if not self.ended.done():
            self.ended.set_result(None)

    async def spawn(self, command: list[str], environment: dict[str, str], *, stdout: int, stderr: int) -> "Child":
        """Start a program in a session of its own.

        Raises:
            Refused: it cannot be started.
        """
        try:
            try:
                return self._start(command, environment, stdout, stderr)
            except BlockingIOError:
                if not self.confined:
                    raise
                await self.end_everything()
                return self._start(command, environment, stdout, stderr)
        except BlockingIOError:
            raise Refused("no more processes can be started: the sandbox's limit is used up") from None
        except (OSError, subprocess.SubprocessError, MemoryError) as error:
            raise Refused(f"{command[0]} cannot be started: {error}") from error

    def _start(self, command: list[str], environment: dict[str, str], stdout: int, stderr: int) -> "Child":
        mark = {"AGENTSTORE_BOX": str(os.getpid())}
        process = subprocess.Popen(  # noqa: S603
            command,
            cwd=self.workspace,
            env={**os.environ, **self.environment, **mark, **environment},
            start_new_session=True,
            preexec_fn=self._enter_child,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
        )
        process.returncode = 0  # whom this process waits for is its own affair, see _reap
        ended = self._children[process.pid] = asyncio.get_running_loop().create_future()
        return Child(process.pid, ended)

    def _enter_child(self) -> None:
        # Fewer than the box may have itself, so that it can still start a process when these have used up theirs.
        if self.confined:
            most = self.limits["processes"] + _OWN_PROCESSES
            resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
        resource.setrlimit(resource.RLIMIT_CPU, (self.limits["cpu"], self.limits["cpu"] + 5))
        os.nice(5)  # so that the box answers whatever they do
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)

    def _reap(self) -> None:
        """Wait for all that ended: this is process 1, or stands in for it, so orphans are its children too."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            ended = self._children.pop(pid, None)
            if ended is not None and not ended.done():
                ended.set_result(os.waitstatus_to_exitcode(status))

    async def end_everything(self) -> None:
        """Kill all processes in here but this one, at once, which no fork is fast enough for."""
        if os.getpid() == 1:
            os.kill(-1, signal.SIGKILL)
        await asyncio.sleep(0.02)
        self._reap()

    async def end_tree(self, root: int, mark: str) -> None:
        """Kill a process, and all that it started, which the mark in their environment tells even of daemons."""
        for _ in range(20):
            found = _started_by(root, mark)
            if root != os.getpid():
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(root, signal.SIGKILL)
            for pid in found:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.005)
            self._reap()
            if not found and root not in self._children:
                return
        await self.end_everything()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._converse(reader, writer)
        except (OSError, EOFError, ValueError, KeyError):
            pass  # it hung up, or does not speak this language
        finally:
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = json.loads(await _read_frame(reader))
        operation = request["op"]
        if operation == "ping":
            writer.write(_frame(b'{"ok": true}'))
        elif operation == "tools":
            writer.write(_frame(json.dumps({"result": self._listed()}).encode()))
        elif operation == "note":
            for notes in self.notes:
                notes.append(str(request["text"]))
            writer.write(_frame(b'{"ok": true}'))
        elif operation == "shutdown":
            self.end()
            return
        elif operation in ("exec", "unpack", "pack"):
            work: asyncio.Task[dict[str, Any]] = asyncio.create_task(self._work(request, reader, writer))
            # An archive is read by the work itself, which sees the end of it; otherwise nothing more is to come.
            waiting: set[asyncio.Task[Any]] = {work}
            if operation != "unpack":
                waiting.add(asyncio.create_task(reader.read(1)))
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waiting:
                    task.cancel()
            if work.done() and not work.cancelled():
                for piece in _pieces(work.result()):
                    writer.write(piece)
                    await writer.drain()
            else:
                await asyncio.wait({work})
        await writer.drain()

    def _listed(self) -> dict[str, Any]:
        return {
            "generic": {
                name: {"name": name, "json_schema": {"type": "function", "function": {"name": name, **TOOLS[name]}}}
                for name in TOOLS
                if name in self.tools
            }
        }

    async def _work(
        self, request: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> dict[str, Any]:
        try:
            if request["op"] == "pack":
                await self._pack(writer)
                return {"ok": True}
            if request["op"] == "unpack":
                await self._unpack(reader)
                return {"ok": True}
            return {"result": await self._exec(request["tool"], request["arguments"], float(request["timeout"]))}
        except Invalid as error:
            return {"invalid": str(error)}
        except BrokenArchive as error:
            return {"failed": str(error)}
        except NoKernel as error:
            return {"unavailable": str(error)}
        except Exception as error:
            if request["op"] != "exec" and isinstance(error, (OSError, EOFError)):
                raise  # it hung up
            return {"failed": f"{type(error).__name__}: {error}"}

    async def _exec(self, tool: Any, arguments: Any, timeout: float) -> Result:
        if not isinstance(tool, str) or tool not in self.tools:
            raise Invalid(f"there is no tool {tool!r} in this sandbox, of {', '.join(sorted(self.tools))}")
        check_arguments(tool, arguments)
        notes: list[str] = []
        self.notes = [*self.notes, notes]
        try:
            if tool == "run_ipython_cell":
                result = await self._kernel.run(arguments["code"], timeout, notes)
            elif tool == "run_shell_command":
                result = await self._shell(arguments["command"], timeout, notes)
            else:
                result = await _in_thread(lambda: self._files.call(tool, arguments), timeout)
        except TimeoutError:
            result = _error(f"timed out after {timeout:g} s")
        except Refused as error:
            result = _error("".join(f"{note}\n" for note in notes) + str(error))
        except MemoryError:
            result = _error("there is no memory left for the tool in this sandbox")
        finally:
            self.notes = [each for each in self.notes if each is not notes]
        return result

    async def _shell(self, command: str, timeout: float, notes: list[str]) -> Result:
        if "\0" in command:
            raise Invalid("a command cannot have a NUL character")
        self._calls += 1
        mark = f"AGENTSTORE_CALL={self._calls}-{os.getpid()}"
        output, errors = Pipe(self.limits["output"]), Pipe(self.limits["output"])
        name, _, value = mark.partition("=")
        try:
            pid, ended = await self.spawn(
                [_SHELL, "-c", command], {name: value}, stdout=output.writing, stderr=errors.writing
            )
        except Refused:
            output.close()
            errors.close()
            raise
        output.start()
        errors.start()
        why = ""
        try:
            waiting: set[asyncio.Future[Any]] = {ended, output.overflowed, errors.overflowed}
            done, _ = await asyncio.wait(waiting, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if ended in done:
                # What it left in the background may hold the pipes for ever; what it wrote itself is there.
                await asyncio.wait({output.ended, errors.ended}, timeout=0.05)
            if output.overflowed.done() or errors.overflowed.done():
                why = f"the command was ended: it printed more than {self.limits['output']:,} bytes"
            elif ended not in done:
                why = f"timed out after {timeout:g} s"
            if why:
                await self.end_tree(pid, mark)
                await asyncio.wait({ended}, timeout=1)
        except asyncio.CancelledError:
            await asyncio.shield(self.keep(self.end_tree(pid, mark)))
            raise
        finally:
            output.close()
            errors.close()
        code = ended.result() if ended.done() else -9
        said = "".join(f"{note}\n" for note in [*notes, why] if note)
        error_text = errors.text()
        if said and error_text and not error_text.endswith("\n"):
            error_text += "\n"
        parts = [_text(output.text(), "stdout")]
        if error_text + said:
            parts.append(_text(error_text + said, "stderr"))
        parts.append(_text(str(code if code >= 0 else 128 - code), "returncode"))
        return _answer(*parts, is_error=bool(why) or code != 0)

    def keep(self, work: Any) -> "asyncio.Task[Any]":
        """Run something to its end even if who started it is cancelled."""
        task: asyncio.Task[Any] = asyncio.ensure_future(work)
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)
        return task

    async def _pack(self, writer: asyncio.StreamWriter) -> None:
        reading, writing = os.pipe()
        stream, transport = await _stream_of(reading)
        failure: list[str] = []
        thread = threading.Thread(target=_write_archive, args=(self.workspace, writing, self.limits, failure))
        try:
            thread.start()
            while piece := await _read_piece(stream):
                writer.write(_frame(piece))
                await writer.drain()
        except RuntimeError as error:
            os.close(writing)
            raise BrokenArchive(f"no thread can be started: {error}") from error
        finally:
            transport.close()
        await _join(thread)
        writer.write(_frame(b""))
        if failure:
            raise BrokenArchive(failure[0])

    async def _unpack(self, reader: asyncio.StreamReader) -> None:
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        failure: list[str] = []
        thread = threading.Thread(target=_read_archive, args=(self.workspace, reading, failure))
        try:
            thread.start()
        except RuntimeError as error:
            os.close(reading)
            os.close(writing)
            raise BrokenArchive(f"no thread can be started: {error}") from error
        whole = False
        try:
            while piece := await _read_frame(reader):
                await _write_all(writing, piece)
            whole = True
        except BrokenPipeError:
            while await _read_frame(reader):
                pass
            whole = True
        finally:
            os.close(writing)
            if not whole:
                failure.append("the archive has no end")
            await asyncio.shield(self.keep(_join(thread)))
        if failure:
            raise BrokenArchive(failure[0])


class Child(NamedTuple):
    """A process that was started, and what will be its return code."""

    pid: int
    ended: "asyncio.Future[int]"


class Pipe:
    """What a process prints, up to a limit."""

    def __init__(self, limit: int) -> None:
        loop = asyncio.get_running_loop()
        self._limit = limit
        self._kept = bytearray()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.overflowed: asyncio.Future[None] = loop.create_future()
        self._reading, self.writing = os.pipe()
        os.set_blocking(self._reading, False)

    def start(self) -> None:
        """Read what comes. The end that is for writing belongs to the process from here on."""
        os.close(self.writing)
        self.writing = -1
        asyncio.get_running_loop().add_reader(self._reading, self._read)

    def _read(self) -> None:
        try:
            piece = os.read(self._reading, 65_536)
        except BlockingIOError:
            return
        room = self._limit - len(self._kept)
        self._kept += piece[:room]
        if len(piece) > room and not self.overflowed.done():
            self.overflowed.set_result(None)
        if not piece or self.overflowed.done():
            asyncio.get_running_loop().remove_reader(self._reading)
            if not self.ended.done():
                self.ended.set_result(None)

    def close(self) -> None:
        """Stop reading."""
        asyncio.get_running_loop().remove_reader(self._reading)
        os.close(self._reading)
        if self.writing >= 0:
            os.close(self.writing)
        for future in (self.ended, self.overflowed):
            future.cancel()

    def text(self) -> str:
        """What was printed."""
        return self._kept.decode(errors="replace")


def _started_by(root: int, mark: str) -> list[int]:
    """The living processes below `root`, in its session, or with `mark` in their environment."""
    parents: dict[int, int] = {}
    found: set[int] = set()
    try:
        names = os.listdir("/proc")
    except OSError:
        return []  # no Linux: the process group has to do
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
            continue  # it ended, or is another user's
    for pid in parents:
        above = pid
        while above in parents and above != root:
            above = parents[above]
        if above == root:
            found.add(pid)
    return sorted(found)


class NoKernel(Exception):
    """This environment has no IPython kernel."""


class Kernel:
    """An IPython kernel, started with the first cell and again when it ended. One cell runs at a time."""

    def __init__(self, box: Box) -> None:
        self._box = box
        self._turn = asyncio.Lock()
        self._pid = 0
        self._ended: asyncio.Future[int] | None = None
        self._client: Any = None
        self._folder = ""
        self._starts = 0
        self._cancel = asyncio.Event()

    async def run(self, code: str, timeout: float, notes: list[str]) -> Result:
        """Run a cell, and return what it printed, showed and raised."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        try:
            async with asyncio.timeout_at(deadline):
                await self._turn.acquire()
        except TimeoutError:
            return _error(f"timed out after {timeout:g} s, waiting for the cells before it")
        # Once it runs, a cell is seen to its end, so that the next one finds a kernel that is idle, or none.
        cancel = self._cancel = asyncio.Event()
        run = self._box.keep(self._run(code, deadline, timeout, notes))
        run.add_done_callback(lambda _: self._turn.release())
        try:
            return cast("Result", await asyncio.shield(run))
        except asyncio.CancelledError:
            cancel.set()
            raise

    async def _run(self, code: str, deadline: float, timeout: float, notes: list[str]) -> Result:
        lost = ""
        for attempt in (1, 2):
            cell = Cell(self._box.limits["output"])
            if self._ended is None or self._ended.done():
                if self._starts:
                    lost = "the kernel had ended and was started again: the variables of earlier cells are lost"
                try:
                    async with asyncio.timeout_at(deadline):
                        await self._start()
                except TimeoutError:
                    await self._end()
                    self._starts = 0
                    return _error(f"timed out after {timeout:g} s, as the kernel started")
                except Refused:
                    await self._end()
                    raise
            why = await self._execute(cell, code, deadline, timeout)
            if why != "ended":
                break
            if attempt == 2 or cell.began:
                lost = "the kernel ended: all variables are lost"
                break
            # It was ending when the cell came (exit() takes a moment), so the cell goes to a new one.
        cell.errors += "".join(f"{each}\n" for each in [*notes, lost, "" if why == "ended" else why] if each)
        return cell.result(is_error=cell.failed or bool(why))

    async def _execute(self, cell: "Cell", code: str, deadline: float, timeout: float) -> str:
        """Send a cell and gather what comes of it; return why it was ended, or "ended" if the kernel was, or ""."""
        client, loop = self._client, asyncio.get_running_loop()
        assert self._ended is not None  # noqa: S101
        request = client.execute(code, store_history=True, allow_stdin=False)
        reply = asyncio.ensure_future(client.shell_channel.get_msg())
        message = asyncio.ensure_future(client.iopub_channel.get_msg())
        cancelled = asyncio.ensure_future(self._cancel.wait())
        why, until = "", deadline
        try:
            while True:
                waiting = {message, self._ended, *(() if why else (cancelled,)), *(() if reply.done() else (reply,))}
                remaining = max(0.0, until - loop.time())
                done, _ = await asyncio.wait(waiting, timeout=remaining, return_when=asyncio.FIRST_COMPLETED)
                if message in done:
                    try:
                        cell.take(message.result(), request)
                    except (KeyError, TypeError, ValueError, AttributeError):
                        cell.errors += "the kernel sent what is no message\n"
                    if cell.idle:
                        return why
                    message = asyncio.ensure_future(client.iopub_channel.get_msg())
                    if cell.full and not why:
                        why = f"the cell was ended: it printed more than {self._box.limits['output']:,} bytes"
                        until = self._interrupt()
                elif self._ended in done:
                    await self._end()
                    return why or "ended"
                elif cancelled in done and not why:
                    why, until = "cancelled", self._interrupt()
                elif reply in done and not _is_about(reply, request):
                    # Of an earlier cell, which had ended before its reply came.
                    reply = asyncio.ensure_future(client.shell_channel.get_msg())
                elif reply in done:
                    # Output larger than the box takes at once ends the connection that brings it, and what follows.
                    until = min(until, loop.time() + 1)
                elif reply.done():
                    return why or "the cell printed more at once than can be shown"
                elif not why:
                    why, until = f"timed out after {timeout:g} s", self._interrupt()
                else:
                    await self._end()
                    return f"{why}; the kernel did not stop and was ended: all variables are lost"
        finally:
            for task in (reply, message, cancelled):
                task.cancel()

    def _interrupt(self) -> float:
        """Interrupt the kernel and what it started, and return until when it may take to stop."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, signal.SIGINT)
        return asyncio.get_running_loop().time() + 2

    async def _start(self) -> None:
        for folder in _packages():
            if folder not in sys.path:
                sys.path.append(folder)
        try:
            import ipykernel  # noqa: F401
            from jupyter_client.asynchronous.client import AsyncKernelClient
        except ImportError as error:
            raise NoKernel(
                f"there is no IPython kernel for the sandbox ({error}): pip install 'agentstore-postgres[sandbox]'"
            ) from error
        self._starts += 1
        self._folder = os.path.join(self._box.scratch, f".kernel-{os.urandom(8).hex()}")
        place, key = os.path.join(self._folder, "k"), os.urandom(16).hex()
        information: dict[str, Any] = {"transport": "ipc", "ip": place, "signature_scheme": "hmac-sha256"}
        for number, name in enumerate(("shell", "iopub", "stdin", "control", "hb"), 1):
            information[f"{name}_port"] = number
        try:
            file = _write_private(self._folder, json.dumps({**information, "key": key}))
        except OSError as error:
            raise Refused(f"the kernel cannot be started: {error}") from error
        command = [self._box.python, "-c", _KERNEL, "-f", file, "--HistoryManager.enabled=False"]
        environment = {"AGENTSTORE_CALL": self._folder}
        nowhere = subprocess.DEVNULL
        self._pid, self._ended = await self._box.spawn(command, environment, stdout=nowhere, stderr=nowhere)
        while not _exists(f"{place}-2"):
            if self._ended.done():
                raise Refused("the kernel ended as it started")
            await asyncio.sleep(0.01)
        self._client = AsyncKernelClient()
        self._client.load_connection_info({**information, "key": key.encode()})
        self._client.context.setsockopt(_zmq().MAXMSGSIZE, 4 * self._box.limits["output"] + _IMAGES)
        self._client.start_channels(stdin=False, hb=False, control=False)
        # An answer on one channel says nothing about the other: cells may run only when what they print comes here.
        while True:
            request = self._client.kernel_info()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.25):
                    while (await self._client.iopub_channel.get_msg())["parent_header"].get("msg_id") != request:
                        pass
                    break
            if self._ended.done():
                raise Refused("the kernel ended as it started")
        await self._client.shell_channel.get_msg()

    async def _end(self) -> None:
        """End the kernel and what it started, if it has not ended by itself."""
        if self._client is not None:
            self._client.stop_channels()
            self._client = None
        if self._pid:
            await self._box.end_tree(self._pid, f"AGENTSTORE_CALL={self._folder}")
            self._pid = 0
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)


class Cell:
    """What comes of one cell."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.output = ""
        self.errors = ""
        self._others: list[dict[str, Any]] = []
        self._size = {"stdout": 0, "stderr": 0, "others": 0}
        self.began = self.idle = self.failed = self.full = False

    def take(self, message: dict[str, Any], request: str) -> None:
        """Take a message of the kernel, if it is about this cell."""
        if message["parent_header"].get("msg_id") != request:
            return
        kind, content = message["header"]["msg_type"], message["content"]
        if kind == "status":
            self.idle = content["execution_state"] == "idle"
        elif kind == "execute_input":
            self.began = True
        elif kind == "stream":
            self._print(content["name"], content["text"])
        elif kind == "error":
            self.failed = True
            self._print("stderr", _ANSI.sub("", "\n".join(content["traceback"])) + "\n")
        elif kind == "execute_result":
            self._show(content["data"], f"Out[{content['execution_count']}]: ")
        elif kind in ("display_data", "update_display_data"):
            self._show(content["data"], "")

    def _print(self, stream: str, value: str) -> None:
        stream = "stderr" if stream == "stderr" else "stdout"
        encoded = value.encode(errors="replace")
        room = self._limit - self._size[stream]
        if len(encoded) > room:
            self.full = True
            encoded, value = encoded[:room], encoded[:room].decode(errors="ignore")
        self._size[stream] += len(encoded)
        if stream == "stderr":
            self.errors += value
        else:
            self.output += value

    def _show(self, data: dict[str, Any], before: str) -> None:
        images = [kind for kind in data if kind in ("image/png", "image/jpeg", "image/gif", "image/webp")]
        texts = [kind for kind in data if _is_rich_text(kind)]
        if "text/plain" in data and (before or not (images or texts)):
            self._print("stdout", f"{before}{data['text/plain']}\n")
        for kind in images + texts:
            value = data[kind]
            if not isinstance(value, str):
                raise TypeError(f"{kind} is text")
            self._size["others"] += len(value)
            if self._size["others"] > _IMAGES:
                self.full = True
                return
            if kind in images:
                value = value.replace("\n", "")
                part = {"type": "image", "data": value, "mimeType": kind, "description": "display_data"}
                self._others.append(part)
            else:
                self._others.append(_text(value, kind))

    def result(self, *, is_error: bool) -> Result:
        """Return it as the answer of the tool."""
        parts: list[dict[str, Any]] = [_text(self.output, "stdout")]
        if self.errors:
            parts.append(_text(self.errors, "stderr"))
        return _answer(*parts, *self._others, is_error=is_error)


def _is_about(reply: "asyncio.Future[dict[str, Any]]", request: str) -> bool:
    """Whether a reply that came is one to a request."""
    try:
        return bool(reply.result()["parent_header"]["msg_id"] == request)
    except (KeyError, TypeError, ValueError, AttributeError):
        return False


def _pieces(answer: dict[str, Any]) -> Iterator[bytes]:
    """An answer as it is sent: what is long in it comes behind it, and stands in it as its size."""
    behind: list[bytes] = []
    if "result" in answer:
        content = []
        for part in answer["result"]["content"]:
            key = VALUES[part["type"]]
            if len(part[key]) > _INLINE:
                behind.append(part[key].encode("utf-8", "surrogatepass"))
                part = {**{name: value for name, value in part.items() if name != key}, "size": len(behind[-1])}
            content.append(part)
        answer = {"result": {**answer["result"], "content": content}}
    yield _frame(json.dumps(answer).encode())
    yield from behind


def _is_rich_text(kind: str) -> bool:
    return kind == "image/svg+xml" or (kind.startswith("text/") and kind != "text/plain")


def _exists(path: str) -> bool:
    return os.path.exists(path)


def _write_private(folder: str, text: str) -> str:
    os.mkdir(folder, 0o700)
    path = os.path.join(folder, "connection.json")
    with open(path, "w") as file:
        file.write(text)
    return path


def _say_nothing() -> None:
    """Print nowhere: what was said until now is for who started this."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def _zmq() -> Any:
    import zmq

    return zmq


def _packages() -> Iterator[str]:
    """The folders of packages that the box itself does without until a cell comes: it starts without `site`."""
    import site

    yield from os.environ.get("PYTHONPATH", "").split(":")
    yield from site.getsitepackages()


class Files:
    """The tools of files. A path is below the workspace, or is refused.

    That is for whoever calls the tools, whose paths a model may have made up: what code in the sandbox could reach by
    exchanging a link meanwhile, it can reach without.
    """

    def __init__(self, workspace: str, limit: int) -> None:
        self._workspace = workspace
        self._limit = limit

    def call(self, tool: str, arguments: dict[str, Any]) -> Result:
        """Call a tool by its name; its arguments were checked."""
        tools: dict[str, Callable[..., Result]] = {
            "read_file": self._read_file,
            "write_file": self._write_file,
            "list_files": self._list_files,
            "remove_file": self._remove_file,
            "create_directory": self._create_directory,
            "list_directory": self._list_directory,
            "move_file": self._move_file,
            "get_file_info": self._get_file_info,
            "search_files": self._search_files,
            "read_multiple_files": self._read_multiple_files,
            "edit_file": self._edit_file,
            "directory_tree": self._directory_tree,
            "list_allowed_directories": self._list_allowed_directories,
        }
        try:
            return tools[tool](**arguments)
        except OSError as error:
            return _error(f"{error.strerror or error}: {arguments.get('path') or arguments.get('source') or error}")
        except ValueError as error:
            return _error(str(error))

    def _place(self, path: str) -> str:
        """Resolve a path, and all links in it."""
        found = os.path.realpath(os.path.join(self._workspace, path))
        if found != self._workspace and not found.startswith(self._workspace + os.sep):
            raise ValueError(f"{path} is not in the workspace")
        return found

    def _name(self, path: str) -> str:
        """Resolve the folder that a path is in, but not the link that it may be itself."""
        whole = os.path.join(self._workspace, path).rstrip("/")
        if os.path.basename(whole) in ("", ".", ".."):
            return self._place(path)
        return os.path.join(self._place(os.path.dirname(whole)), os.path.basename(whole))

    def _bytes(self, path: str) -> bytes:
        # Without O_NONBLOCK, a pipe that nobody writes to would be waited for.
        opened = os.open(self._place(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(opened, "rb") as file:
            status = os.fstat(opened)
            if not stat.S_ISREG(status.st_mode):
                raise ValueError(f"{path} is no file")
            content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            raise ValueError(f"{path} is larger than {LARGEST_FILE:,} bytes: read it in parts, with a command")
        return content

    def _write(self, place: str, content: bytes) -> None:
        """Write a file under another name, and give it its own when it is whole."""
        if os.path.isdir(place):
            raise ValueError(f"{os.path.relpath(place, self._workspace)} is a directory")
        os.makedirs(os.path.dirname(place), exist_ok=True)
        try:
            mode = stat.S_IMODE(os.stat(place).st_mode)
        except FileNotFoundError:
            mode = 0o644
        unfinished = os.path.join(os.path.dirname(place), f".{os.urandom(6).hex()}.unfinished")
        try:
            with open(unfinished, "xb") as file:
                file.write(content)
                os.fchmod(file.fileno(), mode)
            os.replace(unfinished, place)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(unfinished)
            raise

    def _read_file(self, path: str) -> Result:
        content = self._bytes(path)
        try:
            return _answer(_text(content.decode(), "content"))
        except UnicodeDecodeError:
            return _answer({"type": "blob", "blob": base64.b64encode(content).decode(), "description": "content"})

    def _write_file(self, path: str, content: str = "", blob: str | None = None) -> Result:
        data = content.encode() if blob is None else base64.b64decode(blob, validate=True)
        self._write(self._place(path), data)
        return _answer(_text(f"wrote {len(data)} bytes to {path}\n", "stdout"))

    def _entries(self, path: str) -> list[tuple[str, bool]]:
        with os.scandir(self._place(path)) as entries:
            return sorted((_shown(each.name), each.is_dir()) for each in entries)

    def _list_files(self, path: str = ".") -> Result:
        parts: list[dict[str, Any]] = []
        size = 0
        for name, is_folder in self._entries(path):
            size += len(name.encode())
            if size > self._limit:
                parts.append(_text(f"there are more names than {self._limit:,} bytes\n", "stderr"))
                return _answer(*parts, is_error=True)
            parts.append(_text(name, "directory" if is_folder else "file"))
        return _answer(*parts)

    def _remove_file(self, path: str) -> Result:
        place = self._name(path)
        if place == self._workspace:
            raise ValueError("the workspace itself cannot be removed")
        if os.path.isdir(place) and not os.path.islink(place):
            shutil.rmtree(place)
        else:
            os.unlink(place)
        return _answer(_text(f"removed {path}\n", "stdout"))

    def _create_directory(self, path: str) -> Result:
        os.makedirs(self._place(path), exist_ok=True)
        return _answer(_text(f"created {path}\n", "stdout"))

    def _list_directory(self, path: str) -> Result:
        return self._lines(f"[{'DIR' if is_folder else 'FILE'}] {name}" for name, is_folder in self._entries(path))

    def _move_file(self, source: str, destination: str) -> Result:
        before, after = self._name(source), self._name(destination)
        if before == self._workspace:
            raise ValueError("the workspace itself cannot be moved")
        if os.path.lexists(after):
            raise ValueError(f"{destination} exists")
        os.rename(before, after)
        return _answer(_text(f"moved {source} to {destination}\n", "stdout"))

    def _get_file_info(self, path: str) -> Result:
        status = os.stat(self._place(path))
        return self._lines(
            [
                f"size: {status.st_size}",
                f"created: {_time(status.st_ctime)}",
                f"modified: {_time(status.st_mtime)}",
                f"accessed: {_time(status.st_atime)}",
                f"isDirectory: {str(stat.S_ISDIR(status.st_mode)).lower()}",
                f"isFile: {str(stat.S_ISREG(status.st_mode)).lower()}",
                f"permissions: {stat.S_IMODE(status.st_mode):03o}",
            ]
        )

    def _search_files(self, path: str, pattern: str, excludePatterns: list[str] | None = None) -> Result:  # noqa: N803
        found = []
        top = self._place(path)
        for folder, folders, files in os.walk(top):
            for name in list(folders) + files:
                relative = os.path.relpath(os.path.join(folder, name), top)
                if any(_matches(relative, each) for each in excludePatterns or ()):
                    if name in folders:
                        folders.remove(name)
                elif _matches(relative, pattern):
                    found.append(_shown(os.path.relpath(os.path.join(folder, name), self._workspace)))
        return self._lines(sorted(found) or ["No matches found"])

    def _read_multiple_files(self, paths: list[str]) -> Result:
        parts: list[dict[str, Any]] = []
        size = 0
        for path in paths:
            try:
                value = self._bytes(path).decode(errors="replace")
            except (OSError, ValueError) as error:
                value = f"Error - {error}"
            size += len(value)
            if size > LARGEST_FILE:
                raise ValueError(f"these files are larger than {LARGEST_FILE:,} bytes together")
            parts.append(_text(f"{path}:\n{value}\n", "content"))
        return _answer(*parts)

    def _edit_file(self, path: str, edits: list[dict[str, str]], dryRun: bool = False) -> Result:  # noqa: N803
        place = self._place(path)
        before = after = self._bytes(path).decode()
        for edit in edits:
            if not edit["oldText"] or edit["oldText"] not in after:
                raise ValueError(f"{path} has no such text: {edit['oldText']!r}")
            after = after.replace(edit["oldText"], edit["newText"], 1)
        if not dryRun:
            self._write(place, after.encode())
        lines = difflib.unified_diff(before.splitlines(), after.splitlines(), path, path, lineterm="")
        return self._lines(lines)

    def _directory_tree(self, path: str) -> Result:
        count = 0

        def tree(place: str) -> list[dict[str, Any]]:
            nonlocal count
            with os.scandir(place) as entries:
                listed = sorted(entries, key=lambda each: each.name)
            found: list[dict[str, Any]] = []
            for each in listed:
                count += len(each.name) + 50
                if count > self._limit:
                    raise ValueError(f"the tree of {path} is larger than {self._limit:,} bytes")
                if each.is_dir(follow_symlinks=False):
                    found.append({"name": _shown(each.name), "type": "directory", "children": tree(each.path)})
                else:
                    found.append({"name": _shown(each.name), "type": "file"})
            return found

        try:
            return _answer(_text(json.dumps(tree(self._place(path)), indent=2, ensure_ascii=False), "stdout"))
        except RecursionError:
            raise ValueError(f"the tree of {path} is too deep") from None

    def _list_allowed_directories(self) -> Result:
        return self._lines([self._workspace])

    def _lines(self, lines: Any) -> Result:
        text = "".join(f"{line}\n" for line in lines)
        if len(text) > self._limit:
            return _answer(
                _text(text[: self._limit], "stdout"),
                _text(f"there is more than {self._limit:,} bytes\n", "stderr"),
                is_error=True,
            )
        return _answer(_text(text, "stdout"))


def _shown(name: str) -> str:
    """A name of a file as text, which it need not be."""
    return os.fsencode(name).decode(errors="replace")


def _matches(path: str, pattern: str) -> bool:
    if any(character in pattern for character in "*?["):
        return fnmatch.fnmatch(path, pattern) or fnmatch.fnmatch(os.path.basename(path), pattern)
    return pattern.lower() in os.path.basename(path).lower()


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _write_archive(workspace: str, writing: int, limits: dict[str, int], failure: list[str]) -> None:
    """Write the workspace as a tar archive: folders, files and links, whose owner is nobody's business."""
    size = 0

    def ours(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        nonlocal size
        if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
            return None
        size += member.size
        if size > limits["disk"]:  # files with holes, which are not in the quota
            raise BrokenArchive("the files of the workspace are larger than its quota")
        place = os.path.join(workspace, member.name)
        needed = 0 if member.issym() else 0o500 if member.isdir() else 0o400
        if needed & ~member.mode:
            os.chmod(place, member.mode | needed)
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    try:
        with os.fdopen(writing, "wb") as stream, tarfile.open(fileobj=stream, mode="w|") as archive:
            for name in sorted(os.listdir(workspace)):
                archive.add(os.path.join(workspace, name), name, filter=ours)
    except BrokenPipeError:
        pass  # who asked for it is gone
    except BrokenArchive as error:
        failure.append(str(error))
    except (OSError, ValueError, RecursionError, MemoryError, tarfile.TarError) as error:
        failure.append(f"the workspace cannot be packed: {error!r}")


def _read_archive(workspace: str, reading: int, failure: list[str]) -> None:
    """Unpack folders, files and links below the workspace."""

    def ours(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
        for member in archive:
            folder = os.path.realpath(os.path.join(workspace, os.path.dirname(member.name)))
            inside = folder == workspace or folder.startswith(workspace + os.sep)
            if not inside or os.path.basename(member.name) == "..":
                raise BrokenArchive(f"the archive has {member.name!r}, which is not below the workspace")
            if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
                raise BrokenArchive(f"the archive has {member.name!r}, which is no file, folder or link")
            member.mode &= 0o777
            member.uid, member.gid = os.getuid(), os.getgid()
            member.uname = member.gname = ""
            yield member

    try:
        with os.fdopen(reading, "rb") as stream, tarfile.open(fileobj=stream, mode="r|") as archive:
            # The filters of the standard library refuse links that a workspace may well have, such as a virtual
            # environment's; they would lead nowhere but in this sandbox.
            archive.extraction_filter = lambda member, _: member
            archive.extractall(workspace, members=ours(archive))  # noqa: S202
    except BrokenArchive as error:
        failure.append(str(error))
    except (OSError, EOFError, ValueError, MemoryError, tarfile.TarError) as error:
        failure.append(f"the archive cannot be unpacked: {error}")


async def _in_thread(work: Callable[[], Result], timeout: float) -> Result:
    try:
        future = asyncio.get_running_loop().run_in_executor(None, work)
    except RuntimeError:
        raise Refused("no thread can be started: the sandbox's limit of processes is used up") from None
    async with asyncio.timeout(timeout):
        return await future


async def _join(thread: threading.Thread) -> None:
    while thread.is_alive():  # noqa: ASYNC110 - to wait for it would need another thread
        await asyncio.sleep(0.002)


async def _stream_of(reading: int) -> tuple[asyncio.StreamReader, asyncio.ReadTransport]:
    loop = asyncio.get_running_loop()
    stream = asyncio.StreamReader(limit=PIECE)
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), os.fdopen(reading, "rb", buffering=0)
    )
    return stream, transport


async def _read_piece(stream: asyncio.StreamReader) -> bytes:
    """Read a piece of about the size that a frame may have, fewer at the end."""
    try:
        return await stream.readexactly(PIECE)
    except asyncio.IncompleteReadError as error:
        return error.partial


async def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            await _writable(descriptor)


async def _writable(descriptor: int) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_writer(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(descriptor)


def _frame(data: bytes) -> bytes:
    return struct.pack("!I", len(data)) + data


async def _read_frame(reader: asyncio.StreamReader) -> bytes:
    size = struct.unpack("!I", await reader.readexactly(4))[0]
    if size > LARGEST_REQUEST:
        raise ValueError("a request is too large")
    return await reader.readexactly(size)


def _receive(owner: socket.socket) -> Any:
    """Read the configuration from who started this; it is nowhere that others could look."""
    with owner.makefile("rb") as stream:
        return json.loads(stream.read(struct.unpack("!I", stream.read(4))[0]))


def main() -> None:
    """Serve the sandbox that the owner describes on the first descriptor, on the socket of the second."""
    owner, listening = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    for each in (owner, listening):
        each.set_inheritable(False)
    config = _receive(owner)
    if config["confined"]:
        confine(config["limits"])
    elif sys.platform == "linux":
        _libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # so that orphans are its to end
    limit_resources(config["limits"], confined=config["confined"])
    # Process 1 is spared what is sent from in here and has no handler; Python has one for this.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.umask(0o022)
    os.makedirs(os.environ["HOME"], exist_ok=True)
    asyncio.run(Box(config).serve(listening, owner))
    os._exit(0)  # without waiting for threads


if __name__ == "__main__":
    main()
