"""A PgBouncer in transaction mode before a server."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from agentstore.database.url import parse_url
from tests.support.servers import Server


def free_port() -> int:
    """Return a TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class PgBouncer:
    """Every database of `server`, through a pooler that gives each transaction another connection."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def __enter__(self) -> Self:
        program = _program()
        behind = parse_url(self._server.url_of("postgres"))
        self._folder = Path(tempfile.mkdtemp(prefix="agentstore-pgbouncer-"))
        self._folder.chmod(0o755)
        self.port = free_port()
        login = f"user={behind.user}" + (f" password={behind.password}" if behind.password else "")
        lines = [
            "[databases]",
            f"* = host={behind.hosts[0]} port={behind.ports[0]} {login}",
            "[pgbouncer]",
            "listen_addr = 127.0.0.1",
            f"listen_port = {self.port}",
            "unix_socket_dir =",
            "pool_mode = transaction",
            "auth_type = any",
            "max_client_conn = 1000",
            "default_pool_size = 8",
            # Which no test may lean on.
            "max_prepared_statements = 0" if _version() >= (1, 21) else "",
            f"logfile = {self._folder}/log",
        ]
        if os.geteuid() == 0:
            # As the owner of the server's socket, which is open to nobody else.
            socket_folder = behind.hosts[0] if behind.hosts[0].startswith("/") else None
            owner = pwd.getpwuid(os.stat(socket_folder).st_uid).pw_name if socket_folder else "nobody"
            lines.append(f"user = {owner}")
            (self._folder / "log").touch()
            shutil.chown(self._folder / "log", owner)
        (self._folder / "ini").write_text("\n".join(lines) + "\n")
        self._process = subprocess.Popen([program, "-q", str(self._folder / "ini")])
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return self
            if self._process.poll() is not None:
                break
            time.sleep(0.02)
        raise RuntimeError(f"PgBouncer did not start: {(self._folder / 'log').read_text()}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait()
        shutil.rmtree(self._folder)

    def url_of(self, database: str) -> str:
        return f"postgresql://agentstore@127.0.0.1:{self.port}/{quote(database)}"

    def survives_cancels(self) -> bool:
        """Whether any number of statements may be cancelled: before 1.20.1 it may exit of that (its issue 822)."""
        return _version() >= (1, 20, 1)


def _version() -> tuple[int, ...]:
    said = subprocess.run([_program(), "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in said.split()[1].split("."))


def _program() -> str:
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        raise RuntimeError("--pooler needs PgBouncer: apt-get install pgbouncer")
    return found
