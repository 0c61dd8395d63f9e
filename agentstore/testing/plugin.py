"""The pytest plugin: fixtures with a store on a throwaway database, and with one in memory, for tests of applications.

pytest loads it where agentstore is installed. It imports nothing but pytest until a fixture is used.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from os import environ
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import pytest

if TYPE_CHECKING:
    from agentstore import AgentStore, InMemoryStore, Settings

_VARIABLE = "PYTEST_AGENTSTORE_URL"


class Server(Protocol):
    """A server of Postgres on which databases can be created."""

    def url_of(self, database: str) -> str:
        """Return the URL of a database."""
        ...


class _ExistingServer:
    def __init__(self, url: str) -> None:
        self._url = url

    def url_of(self, database: str) -> str:
        from agentstore.database.url import with_database

        return with_database(self._url, database)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that names a server."""
    parser.getgroup("agentstore").addoption(
        "--agentstore-url",
        default=None,
        metavar="URL",
        help="a Postgres server for the fixtures of agentstore, on which databases may be created; by default the "
        f"variable {_VARIABLE}, or else an embedded Postgres for this run",
    )


@pytest.fixture(scope="session")
def agentstore_server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The Postgres server of this run: ``url_of(database)`` returns the URL of a database.

    It is that of the option ``--agentstore-url`` or the variable PYTEST_AGENTSTORE_URL; otherwise an embedded Postgres,
    which the workers of pytest-xdist share.
    """
    url = request.config.getoption("--agentstore-url") or environ.get(_VARIABLE)
    if url:
        yield _ExistingServer(url)
        return
    from agentstore import EmbeddedPostgres

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if hasattr(request.config, "workerinput") else base) / "agentstore-server"
    with EmbeddedPostgres(folder, durable=False, parameters={"max_connections": "300"}) as server:
        yield server


@pytest.fixture(scope="session")
def agentstore_template(agentstore_server: Server) -> Iterator[str]:
    """The name of a migrated database without rows, which the database of each test is a copy of.

    Override it to add tables of the application.
    """
    from agentstore import migrate

    name = f"agentstore_{uuid4().hex[:12]}"
    _execute(agentstore_server, f'CREATE DATABASE "{name}"')
    _run(lambda: migrate.upgrade(agentstore_server.url_of(name), settings=_defaults()))
    yield name
    _execute(agentstore_server, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def agentstore_url(agentstore_server: Server, agentstore_template: str) -> Iterator[str]:
    """The URL of a migrated database without rows for this test alone."""
    name = f"{agentstore_template}_{uuid4().hex[:8]}"
    _execute(agentstore_server, f'CREATE DATABASE "{name}" TEMPLATE "{agentstore_template}"')
    yield agentstore_server.url_of(name)
    _execute(agentstore_server, f'DROP DATABASE "{name}" WITH (FORCE)')


@pytest.fixture
def agentstore_settings() -> "Settings":
    """The settings of the stores of a test: the defaults, whatever AGENTSTORE_* variables are set.

    Override it to test with other settings.
    """
    return _defaults()


@pytest.fixture
def agentstore(agentstore_url: str, agentstore_settings: "Settings") -> "Iterator[AgentStore]":
    """A store on a database for this test alone. It starts at the first call, in any event loop, and is stopped."""
    from agentstore import AgentStore

    store = AgentStore(agentstore_url, settings=agentstore_settings)
    yield store
    for pool in store._database._pools.values():  # in the event loop of the test, if it is not closed yet
        if not pool.loop.is_closed() and not pool.loop.is_running():
            pool.loop.run_until_complete(store._database._pools.close(pool))
    _run(store.stop)


@pytest.fixture
def agentstore_memory(agentstore_settings: "Settings") -> "Iterator[InMemoryStore]":
    """A store in memory."""
    from agentstore import AgentStore

    store = AgentStore.in_memory(settings=agentstore_settings)
    yield store
    _run(store.stop)


def _defaults() -> "Settings":
    from agentstore import Settings

    return Settings.model_construct()


def _execute(server: Server, statement: str) -> None:
    from agentstore.database.url import connector

    async def execute() -> None:
        connection = await connector(server.url_of("postgres"))()
        try:
            await connection.execute(statement)
        finally:
            await connection.close()

    _run(execute)


def _run(function: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Run a coroutine function in an event loop of its own, without changing the current one."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(function())
        loop.run_until_complete(loop.shutdown_asyncgens())
        with suppress(RuntimeError):
            loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()
