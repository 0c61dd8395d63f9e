"""Sandboxes isolated by bubblewrap: kernel namespaces on this machine, without a daemon or container images."""

import asyncio
import inspect
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import sysconfig
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentstore.errors import SandboxUnavailable
from agentstore.event_loops import PerLoop
from agentstore.sandbox.cgroups import find_cgroups
from agentstore.sandbox.handles import id_of
from agentstore.sandbox.local import LocalProvider
from agentstore.sandbox.program import build_archive

_NOBODY = 65534
_OLDEST_BWRAP = (0, 8)
# Since 5.14 the kernel counts the processes of a user separately in each user namespace. Before, the process limit of a
# sandbox would have counted all sandboxes, and whatever else the user runs.
_OLDEST_KERNEL = (5, 14)

_DESCRIBE_PYTHON = """
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
    """An interpreter inside a sandbox: its path there, and the folders of this machine that are mounted for it.

    `folders` are pairs of a path on this machine and a path in the sandbox. `packages` are the paths in the sandbox
    of the folders with packages, and `libraries` the one with libpython, if it is not in the default search path.
    """

    program: str
    folders: tuple[tuple[str, str], ...]
    packages: tuple[str, ...]
    libraries: str | None


class BubblewrapProvider(LocalProvider):
    """Create sandboxes with bubblewrap, with the packages of a Python on this machine.

    A sandbox contains /usr, the Python and its packages, all read-only, and /workspace, /tmp and /dev/shm, in memory
    and with a quota each. It has no network and none of the host's users, other files, environment variables and
    processes. The files in a sandbox use memory of this machine in addition to its processes: at most twice the type's
    ``disk``, and 64 MB. A sandbox ends with the process that created it.

    If this process runs as root, each sandbox runs as a user of its own, as the kernel does not limit the number of
    root's processes, and counts other resources, such as pipes, by user. If it may create cgroups, each sandbox has one
    with its limits, and the kernel enforces them; else the memory of each is measured several times a second.

    `python` is the interpreter whose environment the sandboxes have; the default is the one that runs agentstore.
    """

    def __init__(self, *, python: str | None = None) -> None:
        super().__init__()
        self._requested_python = python
        self._python: _Python | None = None
        self._bwrap = ""
        self._starting: PerLoop[asyncio.Lock] = PerLoop()

    @property
    def name(self) -> str:
        """The provider's name in AGENTSTORE_SANDBOX_PROVIDER: "bubblewrap"."""
        return "bubblewrap"

    async def start(self) -> None:
        """Find bubblewrap and the Python, and check that bubblewrap can create namespaces here. Idempotent.

        Raises:
            SandboxUnavailable: something is missing, too old or forbidden; the message says what to install, or why.
        """
        async with self._starting.get_or_create(asyncio.Lock):
            if self._python is None:
                bwrap, python = await asyncio.to_thread(_find_programs, self._requested_python)
                await super().start()
                self._cgroups = await asyncio.to_thread(find_cgroups)
                if self._cgroups is not None:
                    await asyncio.to_thread(self._cgroups.remove_stale)
                self._bwrap, self._python = bwrap, python

    def _configuration(self, folder: str) -> dict[str, Any]:
        assert self._python is not None  # noqa: S101
        places = {"workspace": "/workspace", "scratch": "/tmp"}  # noqa: S108 - the sandbox's own
        return {"confined": True, "python": self._python.program, **places}

    def _start_process(
        self, folder: str, inherited: list[int], errors: int
    ) -> "tuple[subprocess.Popen[bytes], int | None]":
        python = self._python
        assert python is not None  # noqa: S101
        information, writing = os.pipe()
        with ExitStack() as stack:
            stack.callback(os.close, writing)
            passed = [*inherited, writing]

            def file(content: bytes) -> str:
                """Return the number of a descriptor from which bwrap copies a file."""
                opened = os.memfd_create("agentstore")
                stack.callback(os.close, opened)
                os.write(opened, content)
                os.lseek(opened, 0, os.SEEK_SET)
                passed.append(opened)
                return str(opened)

            is_root = os.geteuid() == 0
            folders = [(os.path.join(folder, str(number)) if is_root else source, place)
                       for number, (source, place) in enumerate(python.folders)]  # fmt: skip
            command = [self._bwrap, *_isolation_arguments(), "--info-fd", str(writing)]
            for source, place in folders:
                command += ["--ro-bind", source, place]
            for place, text in _FILES.items():
                command += ["--file", file(text.encode()), place]
            command += ["--file", file(build_archive()), "/opt/box.pyz"]
            for name in ("python", "python3"):
                command += ["--symlink", python.program, f"/opt/bin/{name}"]
            for name, value in _environment(python).items():
                command += ["--setenv", name, value]
            # Read-only, as these have no quota; and last, as the arguments above create files in them.
            command += ["--remount-ro", "/dev", "--remount-ro", "/"]
            command += ["--", python.program, "-I", "-S", "/opt/box.pyz", *map(str, inherited[:2]), id_of(folder)]
            if is_root:
                sources = [source for source, _ in python.folders]
                plan = {"stage": folder, "folders": sources, "command": command, "user": _choose_user()}
                program = f"{inspect.getsource(_exec_as_user)}\n_exec_as_user()"
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


def _isolation_arguments() -> list[str]:
    """Return the arguments of bwrap that are the same for every sandbox."""
    arguments = ["--unshare-all", "--unshare-user", "--disable-userns", "--new-session", "--die-with-parent"]
    # Other processes of the sandbox can neither kill nor stop process 1, and their orphans become its children.
    arguments += ["--as-pid-1", "--uid", str(_NOBODY), "--gid", str(_NOBODY), "--hostname", "sandbox", "--clearenv"]
    # With these two the box mounts the writable directories. It gives them up before it reads a byte from a client.
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
    # A shared mapping of /dev/zero would be memory that counts for no process. /dev/full reads as zeros, too, and
    # cannot be mapped.
    arguments += ["--dev-bind", "/dev/full", "/dev/zero"]
    # Where container images and administrators often put files of their own.
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
        "HOME": "/tmp/home",  # noqa: S108 - so that caches and dotfiles are not part of the workspace
        "USER": "sandbox",
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        # With an arena per thread, the allocator would hold memory that counts towards the limit.
        "MALLOC_ARENA_MAX": "2",
        **({} if python.libraries is None else {"LD_LIBRARY_PATH": python.libraries}),
    }


def _choose_user() -> int:
    """Return a uid for a sandbox, which is also its gid: the kernel counts pipes and others by user.

    It is one of the highest that this process may use, of which systems give none to users, services or containers.
    """
    first, end = _choose_range(Path("/proc/self/uid_map").read_text(), Path("/proc/self/gid_map").read_text())
    return end - 1 - secrets.randbelow(max(1, min(2**26, (end - first) // 8)))


def _choose_range(users: str, groups: str) -> tuple[int, int]:
    """Return the first and the end of the largest range of ids that both maps of a user namespace have.

    Raises:
        SandboxUnavailable: there is none.
    """

    def ranges(text: str) -> list[tuple[int, int]]:
        return [(int(first), int(first) + int(count)) for first, _, count in map(str.split, text.splitlines())]

    shared = [
        (max(first, other), min(end, other_end, 2**31))
        for first, end in ranges(users)
        for other, other_end in ranges(groups)
    ]
    first, end = max(shared, key=lambda each: each[1] - each[0], default=(0, 0))
    if first >= end:
        raise SandboxUnavailable("sandboxes need a user id that is a group id, too, in this user namespace")
    return first, end


def _exec_as_user() -> None:
    """Mount the plan's folders where the user of a sandbox can reach them, become that user, and exec bwrap.

    The source of this function is run as a program of its own, as root. The folders may be below one that only root
    can enter, such as /root.
    """
    import ctypes
    import json
    import os
    import sys

    plan = json.loads(sys.argv[1])
    libc = ctypes.CDLL(None, use_errno=True)

    def check(result: int, what: str) -> None:
        if result != 0:
            sys.exit(f"{what}: {os.strerror(ctypes.get_errno())}")

    if plan["folders"]:
        check(libc.unshare(0x20000), "a mount namespace cannot be created")  # CLONE_NEWNS
        check(
            libc.mount(b"none", b"/", None, 0x44000, None), "mount propagation cannot be disabled"
        )  # MS_REC, MS_PRIVATE
        check(libc.mount(b"tmpfs", plan["stage"].encode(), b"tmpfs", 0, b"mode=0755,size=64k"), plan["stage"])
        empty = os.path.join(plan["stage"], "empty")
        os.mkdir(empty)
        below = os.open(empty, os.O_PATH)
        for number, folder in enumerate(plan["folders"]):
            place = os.path.join(plan["stage"], str(number))
            os.mkdir(place)
            # As the layer of an overlay, by its descriptor, so that /proc/self/mountinfo does not show its path.
            layers = f"lowerdir=/proc/self/fd/{os.open(folder, os.O_PATH)}:/proc/self/fd/{below}"
            if libc.mount(b"overlay", place.encode(), b"overlay", 1, layers.encode()) != 0:  # MS_RDONLY
                check(libc.mount(folder.encode(), place.encode(), None, 0x1000, None), folder)  # MS_BIND
    os.setgroups([])
    os.setresgid(plan["user"], plan["user"], plan["user"])
    os.setresuid(plan["user"], plan["user"], plan["user"])
    os.execv(plan["command"][0], plan["command"])  # noqa: S606


def _find_programs(python: str | None) -> tuple[str, _Python]:
    """Return the path of bwrap, after a trial run, and the Python.

    Raises:
        SandboxUnavailable: one of them is missing, too old or forbidden.
    """
    if sys.platform != "linux":
        raise SandboxUnavailable(
            f"bubblewrap needs Linux, and this is {sys.platform}: set AGENTSTORE_SANDBOX_URL to use a sandbox server"
        )
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise SandboxUnavailable(
            "sandboxes need bubblewrap, and bwrap is not in PATH: run apt-get install bubblewrap, or install your "
            "system's package"
        )
    version = _run([bwrap, "--version"])
    if _parse_version(version) < _OLDEST_BWRAP:
        raise SandboxUnavailable(f"sandboxes need bubblewrap 0.8 or newer, and {bwrap} is {version.strip()}")
    if _parse_version(os.uname().release) < _OLDEST_KERNEL:
        raise SandboxUnavailable(f"sandboxes need Linux 5.14 or newer, and this is {os.uname().release}")
    # If this is root, run as the user nobody, as sandboxes do: systems may forbid user namespaces to all but root.
    user = {"user": _NOBODY, "group": _NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
    _run([bwrap, *_isolation_arguments(), "--", "/bin/sh", "-c", ":"], **user)
    return bwrap, _find_python(python)


def _find_python(path: str | None) -> _Python:
    if path is None or path == sys.executable:
        version = sys.version_info[:2]
        program = getattr(sys, "_base_executable", sys.executable)
        prefix, packages = sys.base_prefix, [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    else:
        numbers, prefix, program, *packages = json.loads(_run([path, "-I", "-c", _DESCRIBE_PYTHON]))
        version = (numbers[0], numbers[1])
        if version < (3, 11):
            raise SandboxUnavailable(f"{path} is Python {version[0]}.{version[1]}, and sandboxes need 3.11 or newer")
    prefix, program = os.path.realpath(prefix), os.path.realpath(program)
    if prefix == "/":
        raise SandboxUnavailable(f"the prefix of {program} is /, so the whole file system would be in each sandbox")
    folders: list[tuple[str, str]] = []
    libraries = None
    if not _is_below(prefix, "/usr"):
        if not _is_below(program, prefix):
            program = os.path.join(prefix, "bin", f"python{version[0]}.{version[1]}")
        folders.append((prefix, "/opt/python"))
        program = os.path.join("/opt/python", os.path.relpath(program, prefix))
        if any(name.startswith("libpython") and ".so" in name for name in _list_names(os.path.join(prefix, "lib"))):
            libraries = "/opt/python/lib"
    elif not _is_below(program, "/usr"):
        raise SandboxUnavailable(f"{program} must be in /usr, as its prefix {prefix} is")
    inside: list[str] = []
    for folder in dict.fromkeys(os.path.realpath(each) for each in packages):
        if not _is_below(folder, prefix) and not _is_below(folder, "/usr") and os.path.isdir(folder):
            place = f"/opt/packages{len(inside) or ''}"
            folders.append((folder, place))
            inside.append(place)
    return _Python(program, tuple(folders), tuple(inside), libraries)


def _list_names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + os.sep)


def _parse_version(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)[:2]))


def _run(command: list[str], **user: Any) -> str:
    """Run a program and return its stdout.

    Raises:
        SandboxUnavailable: it cannot be run, or fails; the message has its stderr.
    """
    try:
        ended: subprocess.CompletedProcess[str] = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, timeout=20, check=False, cwd="/", stdin=subprocess.DEVNULL, **user
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise SandboxUnavailable(f"{command[0]} cannot be run: {error}") from error
    if ended.returncode != 0:
        raise SandboxUnavailable(f"{command[0]} failed: {ended.stderr.strip() or f'exit code {ended.returncode}'}")
    return ended.stdout
