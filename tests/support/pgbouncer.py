"""A PgBouncer in transaction mode in front of a server."""

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
    """Return an unused TCP port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class PgBouncer:
    """Makes all databases of `server` available through a pooler in transaction mode."""

    def __init__(self, server: Server, *, ignored: str = "") -> None:
        """Prepare a pooler that ignores the startup parameters in `ignored`, as hosted poolers do."""
        self._server = server
        self._ignored = ignored

    def __enter__(self) -> Self:
        program = _program()
        backend = parse_url(self._server.url_of("postgres"))
        self._folder = Path(tempfile.mkdtemp(prefix="agentstore-pgbouncer-"))
        self._folder.chmod(0o755)
        self.port = free_port()
        login = f"user={backend.user}" + (f" password={backend.password}" if backend.password else "")
        lines = [
            "[databases]",
            f"* = host={backend.hosts[0]} port={backend.ports[0]} {login}",
            "[pgbouncer]",
            "listen_addr = 127.0.0.1",
            f"listen_port = {self.port}",
            "unix_socket_dir =",
            "pool_mode = transaction",
            "auth_type = any",
            "max_client_conn = 1000",
            f"ignore_startup_parameters = {self._ignored}" if self._ignored else "",
            "default_pool_size = 8",
            # No test may depend on prepared statements in the pooler.
            "max_prepared_statements = 0" if _version() >= (1, 21) else "",
            f"logfile = {self._folder}/log",
        ]
        if os.geteuid() == 0:
            # Run as the owner of the server's socket, which no other user may open.
            socket_folder = backend.hosts[0] if backend.hosts[0].startswith("/") else None
            owner = pwd.getpwuid(os.stat(socket_folder).st_uid).pw_name if socket_folder else "nobody"
            lines.append(f"user = {owner}")
            (self._folder / "log").touch()
            shutil.chown(self._folder / "log", owner)
        (self._folder / "ini").write_text("\n".join(lines) + "\n")
        self._process = subprocess.Popen([program, "-q", str(self._folder / "ini")])
        deadline = time.monotonic() + 60
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
        """Return whether many statements may be cancelled: before 1.20.1 PgBouncer may crash (its issue 822)."""
        return _version() >= (1, 20, 1)


def _version() -> tuple[int, ...]:
    output = subprocess.run([_program(), "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in output.split()[1].split("."))


def _program() -> str:
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        raise RuntimeError("--pooler needs PgBouncer: apt-get install pgbouncer")
    return found
