"""The locations of boxes on this machine: folders and sockets, and the handles by which other processes find them."""

import contextlib
import functools
import json
import os
import re
import shutil
import socket
import stat
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from agentstore.errors import SandboxElsewhere, SandboxFailed
from agentstore.sandbox.client import can_connect
from agentstore.sandbox.processes import read_start_time

_PREFIX = "agentstore-sandbox-"
_ID = re.compile("[0-9a-f]{16}")
# Seconds after which a folder whose socket has no listener is removed: a younger one may belong to a box that is being
# started.
_STALE_AFTER = 60.0


@dataclass(frozen=True, slots=True)
class Handle:
    """The location of a box. `pid` and `started` identify its process, to kill it if it does not respond."""

    host: str
    machine: str
    path: str
    id: str
    pid: int
    started: str

    def encode(self) -> str:
        """Return the handle as text."""
        return json.dumps(asdict(self))


def folder_of(id: str) -> str:
    """Return the folder of a box, which has its socket and whatever else it needs on this machine."""
    return os.path.join(find_base(), f"{_PREFIX}{id}")


def id_of(folder: str) -> str:
    """Return the id of the box that a folder belongs to."""
    return os.path.basename(folder).removeprefix(_PREFIX)


def socket_in(folder: str) -> str:
    """Return the path of the socket in the folder of a box."""
    return os.path.join(folder, "s")


def make_handle(id: str, pid: int) -> Handle:
    """Return the handle of a box that this process has started."""
    host, machine = _identify_machine(os.getpid())
    return Handle(host, machine, socket_in(folder_of(id)), id, pid, read_start_time(pid))


def parse_handle(text: str) -> Handle:
    """Return the handle of a box on this machine.

    Raises:
        SandboxFailed: it is not a handle of a local sandbox.
        SandboxElsewhere: the box is on another machine, or in a container with other files.
    """
    try:
        values = json.loads(text)
        handle = Handle(**values)
        kinds = (str, str, str, str, int, str)
        well_formed = all(type(values[name]) is kind for name, kind in zip(Handle.__slots__, kinds, strict=True))
    except (ValueError, TypeError, RecursionError) as error:
        raise SandboxFailed(f"{text[:80]!r} is not a handle of a local sandbox") from error
    if not well_formed or not _ID.fullmatch(handle.id) or handle.pid <= 1:
        raise SandboxFailed(f"{text[:80]!r} is not a handle of a local sandbox")
    host, machine = _identify_machine(os.getpid())
    if (handle.host, handle.machine) != (host, machine):
        same = " (before a reboot, or in another container)" if handle.host == host else ""
        raise SandboxElsewhere(
            f"the sandbox runs on the host {handle.host}{same} and can only be used there; this is {host}"
        )
    # Handles are stored in the database: a writer of it must not be able to make this process use another path.
    if handle.path != socket_in(folder_of(handle.id)):
        raise SandboxFailed(f"{text[:80]!r} is not a handle of a local sandbox")
    with contextlib.suppress(FileNotFoundError):
        status = os.lstat(os.path.dirname(handle.path))
        if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (0, os.geteuid()):
            raise SandboxFailed(f"the folder of the sandbox {handle.id} belongs to another user")
    return handle


def remove_stale_folders() -> None:
    """Remove the folders of boxes whose owner was killed before it could remove them."""
    with os.scandir(find_base()) as entries:
        found = [each for each in entries if each.name.startswith(_PREFIX)]
    for each in found:
        with contextlib.suppress(OSError):
            status = each.stat(follow_symlinks=False)
            stale = status.st_uid == os.geteuid() and time.time() - status.st_mtime > _STALE_AFTER
            if stale and not can_connect(socket_in(each.path)):
                shutil.rmtree(each.path, ignore_errors=True)


def find_base() -> str:
    """Return the parent of the folders of boxes: /tmp if it is writable, since paths of sockets must be short."""
    return "/tmp" if os.access("/tmp", os.W_OK) else tempfile.gettempdir()  # noqa: S108 - private, with random names


@functools.cache
def _identify_machine(pid: int) -> tuple[str, str]:
    """Return the host's name, and what distinguishes it from others of that name: its boot and its folder of sockets.

    `pid` is the key of the cache: a fork may be in another container.
    """
    status = os.stat(find_base())
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    return socket.gethostname(), f"{boot}:{status.st_dev}:{status.st_ino}"
