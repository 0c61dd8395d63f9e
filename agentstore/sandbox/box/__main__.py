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


def main() -> None:
    """Confine this process as the owner's configuration says, and serve on the listening socket."""
    owner, listening = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    for each in (owner, listening):
        each.set_inheritable(False)
    config = _read_config(owner)
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
