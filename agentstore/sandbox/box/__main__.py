"""The entry point: ``python box.pyz OWNER LISTENING``, two numbers of inherited socket descriptors."""

import asyncio
import json
import os
import signal
import socket
import struct
import sys
from typing import Any

from .confine import adopt_orphans, confine, limit_resources
from .server import Box


def _read_config(owner: socket.socket) -> Any:
    """Read the configuration from the owner's socket: unlike arguments, other processes cannot see it there."""
    with owner.makefile("rb") as stream:
        return json.loads(stream.read(struct.unpack("!I", stream.read(4))[0]))


def _move_down(descriptor: int) -> int:
    """Return the lowest free descriptor instead of this one, which may be above the limit of open files.

    An owner with many files passes such descriptors, and what is forked closes none above the limit.
    """
    moved = os.dup(descriptor)
    os.close(descriptor)
    return moved


def main() -> None:
    """Confine this process as the owner's configuration says, and serve on the listening socket."""
    owner, listening = (socket.socket(fileno=_move_down(int(number))) for number in sys.argv[1:3])
    config = _read_config(owner)
    if "events" in config:
        config["events"] = _move_down(config["events"])
    locks = None
    if config["confined"]:
        locks = confine(config["limits"])
    elif sys.platform == "linux":
        adopt_orphans()
    limit_resources(config["limits"], confined=config["confined"])
    # Signals from inside the sandbox do not reach process 1 unless it has a handler. Python installs one for SIGINT.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.umask(0o022)
    os.makedirs(os.environ["HOME"], exist_ok=True)
    asyncio.run(Box(config).serve(listening, owner, locks))
    os._exit(0)  # without waiting for threads


if __name__ == "__main__":
    main()
