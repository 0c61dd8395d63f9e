"""What looks like a sandbox and is none: for a developer's machine without bubblewrap, and for nothing else."""

import os
import socket
import subprocess
import sys
from typing import Any

from agentstore.sandbox.local import PROGRAM, LocalProvider


class UnsafeSubprocessProvider(LocalProvider):
    """Run cells and commands as processes of this user, in a temporary folder. This isolates nothing.

    What runs there can do all that this process can: read its files and environment, use the network, kill it. Of the
    limits, only those of single processes and of output hold.
    """

    def __init__(self, *, python: str | None = None) -> None:
        super().__init__()
        self._python = python or sys.executable

    _is_process_1 = False

    @property
    def name(self) -> str:
        """``unsafe_subprocess``."""
        return "unsafe_subprocess"

    def _configuration(self, folder: str) -> dict[str, Any]:
        places = {name: os.path.join(folder, name) for name in ("workspace", "scratch", "home")}
        for place in places.values():
            os.mkdir(place, 0o700)
        return {"confined": False, "python": self._python, **places}

    def _start_process(
        self, folder: str, owner: socket.socket, listening: socket.socket, errors: int
    ) -> "tuple[subprocess.Popen[bytes], int | None]":
        passed = (owner.fileno(), listening.fileno())
        home = os.path.join(folder, "home")
        search = os.path.dirname(self._python) + os.pathsep + os.environ.get("PATH", os.defpath)
        process = subprocess.Popen(  # noqa: S603
            [self._python, "-I", str(PROGRAM), *map(str, passed)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            cwd=os.path.join(folder, "workspace"),
            env={"PATH": search, "HOME": home, "IPYTHONDIR": os.path.join(home, "ipython"), "LANG": "C.UTF-8"},
            pass_fds=passed,
            start_new_session=True,
        )
        return process, None
