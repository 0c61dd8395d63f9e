"""The Postgres servers that tests use."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg

from agentstore.database.url import connector, with_database


@dataclass(frozen=True)
class Server:
    """A running server on which databases can be created; ``url_of(name)`` is the URL of a database."""

    url_of: Callable[[str], str]

    async def execute(self, statement: str) -> None:
        connection = await connector(self.url_of("postgres"))()
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


def existing_server(url: str) -> Server:
    """Return the running server of a URL. The database in the URL is replaced by that of each test."""
    return Server(lambda database: with_database(url, database))


@contextmanager
def container(image: str = "postgres:18") -> Iterator[Server]:
    """Run the official Postgres image with testcontainers."""
    from testcontainers.community.postgres import PostgresContainer

    with (
        PostgresContainer(image, driver=None)
        .with_env("POSTGRES_INITDB_ARGS", "--no-sync")
        .with_command("postgres -c max_connections=300 -c fsync=off -c max_locks_per_transaction=256") as running
    ):
        yield existing_server(running.get_connection_url())


# A file system in memory: on a disk, half of the CPU time of a short-lived database is the kernel's work on its files.
_MEMORY = Path("/dev/shm")
_NEEDED = 4 << 30


@contextmanager
def data_folder() -> Iterator[Path]:
    """Create a temporary folder for the data of servers: in memory if there are 4 GiB for it, or else on the disk."""
    has_memory = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _NEEDED
    with TemporaryDirectory(prefix="agentstore-tests-", dir=_MEMORY if has_memory else None) as folder:
        yield Path(folder)


def copy_cluster(cluster: Path, folder: Path) -> Path:
    """Copy the folder of a stopped server with its owner, who is not root."""
    subprocess.run(["cp", "-a", str(cluster), str(folder)], check=True)
    return folder


async def terminate_all_backends(observer: asyncpg.Connection) -> int:
    """Terminate all other backends of the observer's database; return their number."""
    rows = await observer.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    return len(rows)


async def count_orphans(observer: asyncpg.Connection) -> int:
    """Return the number of sessions without a user and messages without a session."""
    return int(
        await observer.fetchval(
            "SELECT (SELECT count(*) FROM agentstore.sessions LEFT JOIN agentstore.users ON users.id = user_id "
            "        WHERE users.id IS NULL) + "
            "       (SELECT count(*) FROM agentstore.messages LEFT JOIN agentstore.sessions "
            "        ON (sessions.user_id, sessions.id) = (messages.user_id, session_id) WHERE sessions.id IS NULL)"
        )
    )
