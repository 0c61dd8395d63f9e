"""Sandboxes of bubblewrap: namespaces of the kernel, on this machine, without a daemon or a container's image."""

import asyncio
import inspect
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from agentstore.errors import SandboxUnavailable
from agentstore.sandbox.local import PROGRAM, LocalProvider

_NOBODY = 65534
_OLDEST_BWRAP = (0, 8)
# Since then the kernel counts the processes of a user in each user namespace by themselves. Before, the limit of one
# sandbox's processes would be one of all of them together, and of all else that the user runs.
_OLDEST_KERNEL = (5, 14)

_ASK = """
import json, sys, sysconfig
print(json.dumps([list(sys.version_info[:2]), sys.base_prefix, getattr(sys, "_base_executable", sys.executable),
                  sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]))
"""

_FILES = {
    "/etc/passwd": "sandbox:x:65534:65534::/tmp/home:/bin/bash\n",
    "/etc/group": "sandbox:x:65534:\n",
    "/etc/hosts": "127.0.0.1 localhost sandbox\n::1 localhost\n",
}


@dataclass(frozen=True, slots=True)
class _Python:
    """An interpreter as it is in a sandbox: where it is, and which folders of this machine that needs, and where."""

    program: str
    folders: tuple[tuple[str, str], ...]
    packages: tuple[str, ...]
    libraries: str | None


class BubblewrapProvider(LocalProvider):
    """Make sandboxes with bubblewrap, of the packages of a Python of this machine.

    In one are: /usr, read-only; the Python and its packages, read-only; /workspace, /tmp and /dev/shm, each in memory
    and with a quota; and no network, user of the host, file, variable or process of it. What is in its workspace uses
    memory of the machine, beside that of its processes: at most twice the type's ``disk``, and 64 MB. A sandbox ends
    with the process that made it.

    As root it gives up root before anything else: the kernel does not limit how many processes root has. `python` is
    an interpreter whose environment the sandboxes have, else this one's.
    """

    def __init__(self, *, python: str | None = None) -> None:
        super().__init__()
        self._asked_python = python
        self._python: _Python | None = None
        self._bwrap = ""
        self._starting = asyncio.Lock()

    @property
    def name(self) -> str:
        """``bubblewrap``."""
        return "bubblewrap"

    async def start(self) -> None:
        """Look for bubblewrap, and whether it may do here what it has to.

        Raises:
            SandboxUnavailable: something is missing; the message says what to install, or why it is forbidden.
        """
        async with self._starting:
            if self._python is None:
                bwrap, python = await asyncio.to_thread(_look, self._asked_python)
                await super().start()
                self._bwrap, self._python = bwrap, python

    def _configuration(self, folder: str) -> dict[str, Any]:
        assert self._python is not None  # noqa: S101
        places = {"workspace": "/workspace", "scratch": "/tmp"}  # noqa: S108 - the sandbox's own
        return {"confined": True, "python": self._python.program, **places}

    def _start_process(
        self, folder: str, owner: socket.socket, listening: socket.socket, errors: int
    ) -> "tuple[subprocess.Popen[bytes], int | None]":
        python = self._python
        assert python is not None  # noqa: S101
        information, writing = os.pipe()
        with ExitStack() as stack:
            stack.callback(os.close, writing)
            passed = [owner.fileno(), listening.fileno(), writing]

            def file(content: bytes) -> str:
                """Return a descriptor from which bwrap copies a file."""
                opened = os.memfd_create("agentstore")
                stack.callback(os.close, opened)
                os.write(opened, content)
                os.lseek(opened, 0, os.SEEK_SET)
                passed.append(opened)
                return str(opened)

            rooted = os.geteuid() == 0
            folders = [(os.path.join(folder, str(number)) if rooted else source, place)
                       for number, (source, place) in enumerate(python.folders)]  # fmt: skip
            command = [self._bwrap, *_walls(), "--info-fd", str(writing)]
            for source, place in folders:
                command += ["--ro-bind", source, place]
            for place, text in _FILES.items():
                command += ["--file", file(text.encode()), place]
            command += ["--file", file(PROGRAM.read_bytes()), "/opt/box.py"]
            for name in ("python", "python3"):
                command += ["--symlink", python.program, f"/opt/bin/{name}"]
            for name, value in _environment(python).items():
                command += ["--setenv", name, value]
            # Last: all that was mounted until here is of no limited size.
            command += ["--remount-ro", "/dev", "--remount-ro", "/"]
            command += ["--", python.program, "-I", "-S", "/opt/box.py", str(owner.fileno()), str(listening.fileno())]
            if rooted:
                plan = {"stage": folder, "folders": [source for source, _ in python.folders], "command": command}
                program = f"{inspect.getsource(_exec_as_nobody)}\n_exec_as_nobody()"
                command = [sys.executable, "-I", "-S", "-c", program, json.dumps(plan)]
            try:
                process = subprocess.Popen(  # noqa: S603
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    cwd="/",
                    env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
                    pass_fds=passed,
                )
            except BaseException:
                os.close(information)
                raise
        return process, information


def _walls() -> list[str]:
    """The arguments of bwrap that are the same for every sandbox."""
    arguments = ["--unshare-all", "--unshare-user", "--disable-userns", "--new-session", "--die-with-parent"]
    # Process 1 can be neither killed nor stopped by the others, and their orphans are its children.
    arguments += ["--as-pid-1", "--uid", str(_NOBODY), "--gid", str(_NOBODY), "--hostname", "sandbox", "--clearenv"]
    # With these two the box mounts what can be written, and gives them up, before it reads a byte of anybody's.
    arguments += ["--cap-drop", "ALL", "--cap-add", "CAP_SYS_ADMIN", "--cap-add", "CAP_SETPCAP"]
    arguments += ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        if os.path.islink(f"/{name}"):
            arguments += ["--symlink", os.readlink(f"/{name}"), f"/{name}"]
        elif os.path.isdir(f"/{name}"):
            arguments += ["--ro-bind", f"/{name}", f"/{name}"]
    for name in ("/etc/ld.so.cache", "/etc/alternatives"):
        arguments += ["--ro-bind-try", name, name]
    arguments += ["--proc", "/proc", "--dev", "/dev", "--chdir", "/"]
    # Mapped by several processes, /dev/zero is memory of none. This reads as zeros too, and cannot be mapped.
    arguments += ["--dev-bind", "/dev/full", "/dev/zero"]
    # Where images of containers and administrators have what is their own.
    for name in ("/usr/src", "/usr/local/src", "/usr/local/etc"):
        if os.path.isdir(name):
            arguments += ["--tmpfs", name, "--remount-ro", name]
    for name in ("/workspace", "/tmp", "/opt/bin"):  # noqa: S108
        arguments += ["--dir", name]
    return arguments


def _environment(python: _Python) -> dict[str, str]:
    search = dict.fromkeys(["/opt/bin", os.path.dirname(python.program), "/usr/local/bin", "/usr/bin", "/bin"])
    return {
        "PATH": ":".join(search),
        "PYTHONPATH": ":".join(python.packages),
        "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": "/tmp/home",  # noqa: S108 - what programs leave there is no part of the workspace
        "USER": "sandbox",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        # Each thread's arena of the allocator would count as memory that is used.
        "MALLOC_ARENA_MAX": "2",
        **({} if python.libraries is None else {"LD_LIBRARY_PATH": python.libraries}),
    }


def _exec_as_nobody() -> None:
    """Become nobody, with some folders mounted where nobody can reach them, and become bwrap.

    A program of its own, made of this function's text: it runs as root and before the walls stand. The folders may be
    below one that is root's alone, such as /root.
    """
    import ctypes
    import json
    import os
    import sys

    plan = json.loads(sys.argv[1])
    libc = ctypes.CDLL(None, use_errno=True)

    def must(result: int, what: str) -> None:
        if result != 0:
            sys.exit(f"{what}: {os.strerror(ctypes.get_errno())}")

    if plan["folders"]:
        must(libc.unshare(0x20000), "a mount namespace cannot be made")  # CLONE_NEWNS
        must(libc.mount(b"none", b"/", None, 0x44000, None), "mounts cannot be made private")  # MS_REC, MS_PRIVATE
        must(libc.mount(b"tmpfs", plan["stage"].encode(), b"tmpfs", 0, b"mode=0755,size=64k"), plan["stage"])
        for number, folder in enumerate(plan["folders"]):
            place = os.path.join(plan["stage"], str(number))
            os.mkdir(place)
            must(libc.mount(folder.encode(), place.encode(), None, 0x1000, None), folder)  # MS_BIND
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
    os.execv(plan["command"][0], plan["command"])  # noqa: S606


def _look(asked: str | None) -> tuple[str, _Python]:
    """Find bwrap and a Python, and try the first.

    Raises:
        SandboxUnavailable: one is missing, too old, or may not be used.
    """
    if sys.platform != "linux":
        raise SandboxUnavailable("bubblewrap is for Linux: set AGENTSTORE_SANDBOX_URL to a sandbox server")
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise SandboxUnavailable("sandboxes need bubblewrap: apt-get install bubblewrap (or your system's way)")
    said = _run([bwrap, "--version"])
    if _version(said) < _OLDEST_BWRAP:
        raise SandboxUnavailable(f"sandboxes need bubblewrap 0.8 or newer, and {bwrap} is {said.strip()}")
    if _version(os.uname().release) < _OLDEST_KERNEL:
        raise SandboxUnavailable(f"sandboxes need Linux 5.14 or newer, and this is {os.uname().release}")
    # Root tries it as nobody too: where namespaces are forbidden, they are to users.
    user = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    _run([bwrap, *_walls(), "--", "/bin/sh", "-c", ":"], **user)
    return bwrap, _find_python(asked)


def _find_python(asked: str | None) -> _Python:
    if asked is None or asked == sys.executable:
        version = sys.version_info[:2]
        program = getattr(sys, "_base_executable", sys.executable)
        prefix, packages = sys.base_prefix, [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    else:
        said, prefix, program, *packages = json.loads(_run([asked, "-I", "-c", _ASK]))
        version = (said[0], said[1])
        if version < (3, 11):
            raise SandboxUnavailable(f"{asked} is Python {version[0]}.{version[1]}, and sandboxes need 3.11 or newer")
    prefix, program = os.path.realpath(prefix), os.path.realpath(program)
    if prefix == "/":
        raise SandboxUnavailable(f"{program} has its packages in /, which would be in each sandbox as a whole")
    folders: list[tuple[str, str]] = []
    libraries = None
    if not _is_below(prefix, "/usr"):
        if not _is_below(program, prefix):
            program = os.path.join(prefix, "bin", f"python{version[0]}.{version[1]}")
        folders.append((prefix, "/opt/python"))
        program = os.path.join("/opt/python", os.path.relpath(program, prefix))
        if any(name.startswith("libpython") and ".so" in name for name in _names(os.path.join(prefix, "lib"))):
            libraries = "/opt/python/lib"
    elif not _is_below(program, "/usr"):
        raise SandboxUnavailable(f"{program} is not in /usr, as the rest of its Python is")
    inside: list[str] = []
    for folder in dict.fromkeys(os.path.realpath(each) for each in packages):
        if not _is_below(folder, prefix) and not _is_below(folder, "/usr") and os.path.isdir(folder):
            place = f"/opt/packages{len(inside) or ''}"
            folders.append((folder, place))
            inside.append(place)
    return _Python(program, tuple(folders), tuple(inside), libraries)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + os.sep)


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)[:2]))


def _run(command: list[str], **user: Any) -> str:
    """Run a program and return what it prints.

    Raises:
        SandboxUnavailable: it cannot be run, or fails; in its own words.
    """
    try:
        ended: subprocess.CompletedProcess[str] = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=20, check=False, cwd="/", stdin=subprocess.DEVNULL, **user
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise SandboxUnavailable(f"{command[0]} cannot be run: {error}") from error
    if ended.returncode != 0:
        raise SandboxUnavailable(f"{command[0]} failed: {ended.stderr.strip() or f'it ended with {ended.returncode}'}")
    return ended.stdout
