"""The database of the tests: a real Postgres, migrated by the project's migrations.

``--database=embedded`` (the default) starts one, ``--database=container`` runs ``postgres:18`` by testcontainers,
``--database=URL`` uses a server on which databases may be created; on the coordinator of a Citus cluster, where the
database that it names has Citus and its workers, the tables of all databases are distributed. ``--postgres=DIR`` names
the binaries of the embedded one, and ``--pooler`` puts a PgBouncer in transaction mode in front of the server. An
option that cannot be satisfied is an error, never a skip.

``-n auto`` runs the tests in a worker process per core. All workers use one server, which the controlling process
starts; each has its own template database.
"""

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import hypothesis
import pytest

import tests.support.plain  # noqa: F401

# isort: split
from agentstore import AgentStore, EmbeddedPostgres, NotConfigured, Settings, migrate
from agentstore.database.database import Database
from agentstore.repositories.connect import open_database
from agentstore.repositories.memory import totals
from tests.support.cluster import Cluster, ClusterDatabases, cluster_of
from tests.support.databases import Databases
from tests.support.pgbouncer import PgBouncer, free_port
from tests.support.servers import Server, container, copy_cluster, data_folder, existing_server
from tests.support.vectors import WordEmbedder, is_available

# A slow example on a loaded machine is not a failure. `make chaos` tries more examples.
for _name, _examples in (("agentstore", 40), ("long", 1_000)):
    hypothesis.settings.register_profile(
        _name, deadline=None, max_examples=_examples, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
hypothesis.settings.load_profile("agentstore")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--database", default="embedded", help="embedded, container, or the URL of a server")
    parser.addoption("--postgres", default=None, help="the installation that the embedded server runs")
    parser.addoption("--labelled", type=Path, help="a folder of labeled conversations, for -m labelled")
    parser.addoption("--peers", help="a folder of environments with other packages, for -m peers")
    parser.addoption("--pooler", action="store_true", help="put a PgBouncer in transaction mode in front of the server")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect without a search for garbage, and leave the tests and all modules out of later ones: both stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def _no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith(("AGENTSTORE_", "PG")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _no_count_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests count statements: calls that change few memories do not count them, except in test_totals.py."""
    monkeypatch.setattr(totals, "random", lambda: 0.999)


@pytest.fixture(scope="session")
def binaries(request: pytest.FixtureRequest) -> str | None:
    """The installation that embedded servers of the tests run, or None for the bundled one."""
    value: str | None = request.config.getoption("--postgres")
    return value


@contextmanager
def _running_server(config: pytest.Config) -> Iterator[Server]:
    """Run the server that the options name."""
    database: str = config.getoption("--database")
    if database == "embedded":
        parameters = {"max_connections": "300", "max_locks_per_transaction": "256"}
        binaries = config.getoption("--postgres")
        with (
            data_folder() as folder,
            EmbeddedPostgres(folder / "server", binaries=binaries, durable=False, parameters=parameters) as embedded,
        ):
            yield Server(embedded.url_of)
    elif database == "container":
        with container() as running:
            yield running
    else:
        yield _existing(database)


def _existing(url: str) -> Server:
    """Return the server of a URL, or the cluster of which it is the coordinator."""
    found = existing_server(url)
    return cluster_of(found.url_of, url) or found


class _SharedServer:
    """In the controlling process of ``-n``: starts the server with the first worker, stops it after the last."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._url = ""

    def pytest_configure_node(self, node: Any) -> None:
        if not self._url:
            server = self._stack.enter_context(_running_server(node.config))
            self._url = server.url_of("postgres")
        node.workerinput["server"] = self._url

    def pytest_sessionfinish(self) -> None:
        self._stack.close()


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("dist", "no") != "no":  # of pytest-xdist; in its workers it is "no"
        config.pluginmanager.register(_SharedServer())


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """The server of this run; each test has its own database."""
    shared_url = getattr(request.config, "workerinput", {}).get("server")
    if shared_url is not None:
        yield _existing(shared_url)
        return
    with _running_server(request.config) as running:
        yield running


@pytest.fixture(scope="session")
def pgbouncer(request: pytest.FixtureRequest, server: Server) -> Iterator[PgBouncer | None]:
    if not request.config.getoption("--pooler"):
        yield None
        return
    with PgBouncer(server) as running:
        yield running


@pytest.fixture(scope="session")
def template(server: Server) -> Iterator[str]:
    """The name of a database at head, which each test's database is a copy of."""
    name = f"agentstore_test_{uuid4().hex[:12]}"
    if isinstance(server, Cluster):
        asyncio.run(server.create(name))
        yield name
        asyncio.run(server.drop(name))
        return
    asyncio.run(server.execute(f'CREATE DATABASE "{name}"'))
    asyncio.run(migrate.upgrade(server.url_of(name), settings=Settings()))
    yield name
    asyncio.run(server.execute(f'DROP DATABASE "{name}" WITH (FORCE)'))


@pytest.fixture(scope="session")
def databases(server: Server, template: str) -> Iterator[Databases | ClusterDatabases]:
    """The databases of tests: a test that needs a second one takes it here."""
    copies = ClusterDatabases(server, template) if isinstance(server, Cluster) else Databases(server, template)
    yield copies
    copies.close()


@pytest.fixture
def database_name(databases: Databases) -> Iterator[str]:
    """The name of a migrated database without rows for this test alone."""
    name = databases.take()
    yield name
    databases.give_back(name)


@pytest.fixture
def other_url(server: Server, databases: Databases) -> Iterator[str]:
    """The URL of a second migrated database without rows for this test alone, bypassing any pooler."""
    name = databases.take()
    yield server.url_of(name)
    databases.give_back(name)


@pytest.fixture
def empty_url(server: Server) -> Iterator[str]:
    """The URL of an empty database for this test alone, bypassing any pooler."""
    name = f"agentstore_test_empty_{uuid4().hex[:12]}"
    asyncio.run(server.execute(f'CREATE DATABASE "{name}"'))
    yield server.url_of(name)
    asyncio.run(server.execute(f'DROP DATABASE "{name}" WITH (FORCE)'))


@pytest.fixture
def direct_url(server: Server, database_name: str) -> str:
    """The URL of this test's database, bypassing any pooler."""
    return server.url_of(database_name)


@pytest.fixture
def database_url(direct_url: str, pgbouncer: PgBouncer | None, database_name: str) -> str:
    """The URL of this test's database that the store uses, through the pooler if there is one."""
    return direct_url if pgbouncer is None else pgbouncer.url_of(database_name)


@pytest.fixture
def settings(direct_url: str, pgbouncer: PgBouncer | None) -> Settings:
    if pgbouncer is None:
        return Settings()
    return Settings(pooler="transaction", migration_database_url=direct_url)


@pytest.fixture
async def database(database_url: str, settings: Settings) -> AsyncIterator[Database]:
    opened = open_database(database_url, settings=settings)
    await opened.start()
    yield opened
    await opened.stop()


@pytest.fixture
async def store(database_url: str, settings: Settings) -> AsyncIterator[AgentStore]:
    async with AgentStore(database_url, settings=settings) as opened:
        yield opened


@pytest.fixture(scope="session")
def has_pgvector(server: Server) -> bool:
    """Whether vectors can be enabled: pgvector is a separate package of Linux distributions, and Citus refuses it."""
    return not isinstance(server, Cluster) and is_available(server.url_of("postgres"))


@pytest.fixture
def embedder() -> WordEmbedder:
    return WordEmbedder()


@pytest.fixture
async def vector_store(
    has_pgvector: bool, database_url: str, direct_url: str, settings: Settings, embedder: WordEmbedder
) -> AsyncIterator[AgentStore]:
    """A store with an embedder, on a database with vectors, or on one that cannot have them: enabling is refused."""
    if has_pgvector:
        await migrate.enable_vectors(direct_url)
    else:
        with pytest.raises(NotConfigured, match=r"no pgvector|distributed"):
            await migrate.enable_vectors(direct_url)
    async with AgentStore(database_url, settings=settings, embedder=embedder) as opened:
        yield opened


@pytest.fixture
async def observer(direct_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A driver connection that bypasses the store and any pooler, to check what is stored."""
    connection = await asyncpg.connect(direct_url)
    yield connection
    await connection.close()


@pytest.fixture
def labelled(request: pytest.FixtureRequest) -> Path:
    """The folder of labeled conversations that ``--labelled`` names."""
    folder: Path | None = request.config.getoption("--labelled")
    assert folder is not None, "-m labelled needs --labelled=DIR"
    assert folder.is_dir()
    return folder


@pytest.fixture
def server_folder() -> Iterator[Path]:
    """A folder for the data of servers of this test, which it stops."""
    with data_folder() as folder:
        yield folder


@pytest.fixture(scope="session")
def cluster(binaries: str | None) -> Iterator[Path]:
    """The folder of a server that has been stopped. Starting a copy takes a tenth of the time of creating a cluster."""
    with data_folder() as folder:
        with EmbeddedPostgres(folder / "server", binaries=binaries, durable=False):
            pass
        yield folder / "server"


@pytest.fixture
def own_server(server_folder: Path, cluster: Path, binaries: str | None) -> Iterator[EmbeddedPostgres]:
    """A server for this test alone, to be killed and restarted; durable, like a production server."""
    with EmbeddedPostgres(copy_cluster(cluster, server_folder / "own server"), binaries=binaries) as running:
        yield running


@pytest.fixture(scope="session")
def tcp_cluster(cluster: Path, binaries: str | None) -> Iterator[Path]:
    """The folder of a stopped server with a password, whose database "postgres" is at head."""
    with data_folder() as parent:
        folder = copy_cluster(cluster, parent / "server")
        with EmbeddedPostgres(folder, binaries=binaries, durable=False) as running:
            asyncio.run(Server(running.url_of).execute("ALTER ROLE postgres PASSWORD 'postgres'"))
            asyncio.run(migrate.upgrade(running.url_of("postgres"), settings=Settings()))
        yield folder


@pytest.fixture
def own_tcp_server(server_folder: Path, tcp_cluster: Path, binaries: str | None) -> Iterator[tuple[str, int]]:
    """The URL and the port of a migrated server for this test alone that requires passwords on TCP."""
    port = free_port()
    # The socket is named by the port as well, so the URL has to name it.
    parameters = {"listen_addresses": "127.0.0.1", "port": str(port)}
    folder = copy_cluster(tcp_cluster, server_folder / "tcp")
    with EmbeddedPostgres(folder, binaries=binaries, parameters=parameters, durable=False):
        yield f"postgresql://postgres:postgres@127.0.0.1:{port}/postgres", port
