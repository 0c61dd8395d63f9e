"""One service and one database for the tests of a class, which is emptied for each: creating them takes longer.

Such a class is marked with ``asyncio(loop_scope="class")``, and its `open` returns a service for a URL and settings.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from agentstore import Settings
from tests.support.databases import Databases
from tests.support.pgbouncer import PgBouncer
from tests.support.servers import Server


@pytest.fixture(scope="class")
def shared_databases(request: pytest.FixtureRequest) -> Databases:
    """The databases of which the class uses one: of the fixture that its `databases` names."""
    databases: Databases = request.getfixturevalue(getattr(request.cls, "databases", "databases"))
    return databases


@pytest.fixture(scope="class")
def shared_name(shared_databases: Databases) -> Iterator[str]:
    """The name of the database of the class."""
    name = shared_databases.take()
    yield name
    shared_databases.give_back(name)


@pytest.fixture(scope="class")
def shared_url(server: Server, pgbouncer: PgBouncer | None, shared_name: str) -> str:
    """The URL of the database of the class, through the pooler if there is one."""
    return server.url_of(shared_name) if pgbouncer is None else pgbouncer.url_of(shared_name)


@pytest.fixture(scope="class")
def shared_settings(server: Server, pgbouncer: PgBouncer | None, shared_name: str) -> Settings:
    """The settings for the database of the class."""
    if pgbouncer is None:
        return Settings()
    return Settings(pooler="transaction", migration_database_url=server.url_of(shared_name))


@pytest_asyncio.fixture(loop_scope="class", scope="class")
async def _administrator(server: Server, shared_name: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(server.url_of(shared_name))
    yield connection
    await connection.close()


@pytest_asyncio.fixture(loop_scope="class", scope="class")
async def _opened(request: pytest.FixtureRequest, shared_url: str, shared_settings: Settings) -> AsyncIterator[Any]:
    assert request.cls is not None
    async with request.cls.open(shared_url, settings=shared_settings) as opened:
        yield opened


@pytest_asyncio.fixture(loop_scope="class")
async def shared(_opened: Any, _administrator: asyncpg.Connection) -> Any:
    """The service of the class, without rows: each row belongs to a user."""
    await _administrator.execute("DELETE FROM agentstore.users")
    return _opened


@pytest.fixture
def service(shared: Any) -> Any:
    """The service of the class; one that opens a service for each test overrides it."""
    return shared
