"""Sandboxes that isolate nothing, for development and tests on machines without bubblewrap."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from agentstore.sandbox.handles import id_of
from agentstore.sandbox.local import LocalProvider
from agentstore.sandbox.program import build_archive


class UnsafeSubprocessProvider(LocalProvider):
    """Run cells and commands as processes of the current user, in a temporary folder. This isolates nothing.

    Code in such a sandbox has all privileges of this process: it can read its files and environment, use the network,
    and kill it. Of the limits, only those of single processes and of output are enforced. `python` is the interpreter
    that runs the box and its cells; the default is the one that runs agentstore.
    """

    def __init__(self, *, python: str | None = None) -> None:
        super().__init__()
        self._python = python or sys.executable

    @property
    def name(self) -> str:
        """The provider's name in AGENTSTORE_SANDBOX_PROVIDER: "unsafe_subprocess"."""
        return "unsafe_subprocess"

    def _configuration(self, folder: str) -> dict[str, Any]:
        places = {name: os.path.join(folder, name) for name in ("workspace", "scratch", "home")}
        for place in places.values():
            os.mkdir(place, 0o700)
        return {"confined": False, "python": self._python, **places}

    def _start_process(
        self, folder: str, inherited: list[int], errors: int
    ) -> "tuple[subprocess.Popen[bytes], int | None]":
        home = os.path.join(folder, "home")
        search = os.path.dirname(self._python) + os.pathsep + os.environ.get("PATH", os.defpath)
        program = Path(folder, "box.pyz")
        program.write_bytes(build_archive())
        process = subprocess.Popen(  # noqa: S603
            [self._python, "-I", str(program), *map(str, inherited[:2]), id_of(folder)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            cwd=os.path.join(folder, "workspace"),
            env={"PATH": search, "HOME": home, "IPYTHONDIR": os.path.join(home, "ipython"), "LANG": "C.UTF-8"},
            pass_fds=inherited,
            start_new_session=True,
        )
        return process, None
