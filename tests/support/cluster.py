"""A Citus cluster for tests: databases that exist on all its servers, with distributed tables."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

import asyncpg
from sqlalchemy import make_url

from agentstore import migrate
from agentstore.operations.distribution import distribute
from agentstore.settings import Settings
from tests.support.servers import Server

_WORKERS = """
SELECT nodename, nodeport FROM pg_dist_node WHERE isactive AND noderole = 'primary' AND groupid > 0 ORDER BY nodeid
"""
# The maintenance daemon of Citus connects to each database, and connects again unless no connections are allowed.
_TERMINATE = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{}'"
_ADD_NODE = "SELECT citus_add_node('{}', {})"


@dataclass(frozen=True)
class Cluster(Server):
    """A coordinator, with which other tests work as with any server, and its workers."""

    workers: tuple[tuple[str, int], ...] = ()
    """The host and the port of each."""

    def worker_url(self, worker: tuple[str, int], database: str) -> str:
        """Return the URL of a database on a worker, with the login of the coordinator."""
        host, port = worker
        url = make_url(self.url_of(database)).set(host=host, port=port)
        return url.update_query_dict({"host": host, "port": str(port)}).render_as_string(hide_password=False)

    async def create(self, name: str, *, shards: int = 4) -> None:
        """Create a database at head with distributed tables, which no connection is open to."""
        await self.create_empty(name)
        await migrate.upgrade(self.url_of(name), settings=Settings())
        await distribute(self.url_of(name), shards=shards, settings=Settings())
        for url in self._urls("postgres"):
            await _execute(url, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
            await _execute(url, _TERMINATE.format(name))

    async def open(self, name: str) -> None:
        """Allow connections to a database that :meth:`create` has created."""
        for url in self._urls("postgres"):
            await _execute(url, f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')

    async def create_empty(self, name: str) -> None:
        """Create an empty database with Citus."""
        for url in self._urls("postgres"):
            await _execute(url, f'CREATE DATABASE "{name}"')
        for url in self._urls(name):
            await _execute(url, "CREATE EXTENSION citus")
        (coordinator,) = await _fetch(self.url_of("postgres"), "SELECT * FROM pg_dist_node WHERE groupid = 0")
        host, port = coordinator["nodename"], coordinator["nodeport"]
        await _execute(self.url_of(name), f"SELECT citus_set_coordinator_host('{host}', {port})")
        for worker in self.workers:
            await _execute(self.url_of(name), _ADD_NODE.format(*worker))

    async def copy(self, template: str, name: str) -> None:
        """Create a database as a copy of one that :meth:`create` has created."""
        for url in self._urls("postgres"):
            await _execute(url, f'CREATE DATABASE "{name}" TEMPLATE "{template}"')

    async def drop(self, name: str) -> None:
        """Drop a database on all servers."""
        for url in self._urls("postgres"):
            deadline = time.monotonic() + 60
            while True:
                try:
                    await _execute(url, f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
                    break
                except asyncpg.ObjectInUseError:  # by a maintenance daemon that has just started
                    assert time.monotonic() < deadline, f"connections to {name} do not end"

    def _urls(self, database: str) -> list[str]:
        return [self.url_of(database), *(self.worker_url(worker, database) for worker in self.workers)]


class ClusterDatabases:
    """Copies of a database of a cluster, for one test each."""

    def __init__(self, cluster: Cluster, template: str) -> None:
        self._cluster, self._template = cluster, template

    def take(self) -> str:
        """Return the name of a database that is equal to the template and has no connections."""
        name = f"{self._template}_{uuid4().hex[:8]}"
        asyncio.run(self._cluster.copy(self._template, name))
        return name

    def give_back(self, name: str) -> None:
        """Drop a database."""
        asyncio.run(self._cluster.drop(name))

    def close(self) -> None:
        """Do nothing: no database is left."""


def earlier(column: str, seconds: int) -> str:
    """Return the value of a timestamp some seconds earlier. Citus refuses timestamptz - interval in an UPDATE."""
    return f"({column} AT TIME ZONE 'UTC' - {seconds} * interval '1 second') AT TIME ZONE 'UTC'"


def cluster_of(url_of: Callable[[str], str], url: str) -> Cluster | None:
    """Return the cluster whose coordinator a URL names; None if its database has no Citus."""

    async def workers() -> list[asyncpg.Record] | None:
        if not await _fetch(url, "SELECT FROM pg_extension WHERE extname = 'citus'"):
            return None
        return await _fetch(url, _WORKERS)

    found = asyncio.run(workers())
    return None if found is None else Cluster(url_of, tuple((row[0], row[1]) for row in found))


async def _fetch(url: str, sql: str) -> list[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetch(sql)
    finally:
        await connection.close()


async def _execute(url: str, sql: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()
