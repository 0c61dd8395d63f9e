"""The ``agentstore`` command in forks of a process that has imported it: the imports are most of what a command costs.

Each command runs in a process of its own, with the arguments, environment, folder and standard streams of the program
that was called, and exits as an interpreter does. See :func:`forked_commands`.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import tests.support.plain  # noqa: F401

# isort: split
from agentstore.cli import COMMANDS, load_command, main

# Isolated, without the packages of the environment: it starts in some ten milliseconds.
_PROGRAM = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect({path!r})
    request = json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]).encode()
    socket.send_fds(connection, [len(request).to_bytes(4, "big")], [0, 1, 2])
    connection.sendall(request)
    code = connection.recv(1)
sys.exit(code[0] if code else "the command did not exit")
"""
# What commands import when they run.
_MODULES = ("agentstore.store", "agentstore.migrating.migrate", "alembic.command")


@contextmanager
def forked_commands(folder: Path) -> Iterator[Path]:
    """Serve commands; yield a folder for PATH, whose program ``agentstore`` has its command run in a fork."""
    path, programs = folder / "socket", folder / "programs"
    programs.mkdir()
    program = programs / "agentstore"
    program.write_text(_PROGRAM.format(python=sys.executable, path=str(path)), encoding="utf-8")
    program.chmod(0o755)
    with subprocess.Popen([sys.executable, "-m", __name__, str(path)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield programs
        finally:
            process.terminate()


def _accept(path: str) -> socket.socket:
    """Accept connections indefinitely, and return each one in a child of its own."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the children are not waited for
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        print("ready", flush=True)
        while True:
            connection, _ = listening.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                return connection
            connection.close()


def _read_exactly(connection: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        piece = connection.recv(size - len(found))
        assert piece, "the request is incomplete"
        found += piece
    return found


def _run(connection: socket.socket) -> None:
    """Run the command of a request in another fork; report how it exited."""
    size, streams, _, _ = socket.recv_fds(connection, 4, 3)
    arguments, environment, folder = json.loads(_read_exactly(connection, int.from_bytes(size, "big")))
    if child := os.fork():
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        connection.sendall(bytes([code if code >= 0 else 128 - code]))
        os._exit(0)
    connection.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    # Not those of this process, which know whether its streams can seek.
    sys.stdin = os.fdopen(0, "r", encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, encoding="utf-8", closefd=False)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["agentstore", *arguments]
    main()


if __name__ == "__main__":
    for each in COMMANDS:
        load_command(each)
    for each in _MODULES:
        import_module(each)
    _run(_accept(sys.argv[1]))
