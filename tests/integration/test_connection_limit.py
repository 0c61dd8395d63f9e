"""Limits on connections that are lower than the pool: calls wait for the connections that the process has."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator

import asyncpg
import pytest

from agentstore import AgentStore, PoolTimeout, Settings, Unavailable
from tests.integration.test_database import ECHO, _database
from tests.support.servers import Server

pytestmark = pytest.mark.slow

ROLE = f"limited_{os.getpid()}"  # other worker processes use the same server
QUICK = {"auto_migrate": "off"}


@pytest.fixture
async def limited_url(server: Server, database_name: str, observer: asyncpg.Connection) -> AsyncIterator[str]:
    """The URL of a login that is not a superuser, and that limits therefore apply to."""
    await observer.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD 'limited'")
    yield server.url_of(database_name).replace("postgres@", f"{ROLE}:limited@").replace("postgres:postgres@", "")
    await observer.execute(f"DROP ROLE {ROLE}")
    name = await observer.fetchval("SELECT quote_ident(current_database())")
    await observer.execute(f"ALTER DATABASE {name} CONNECTION LIMIT -1")


async def _limit(observer: asyncpg.Connection, what: str, limit: int) -> None:
    name = await observer.fetchval("SELECT quote_ident(current_database())") if what == "DATABASE" else ROLE
    await observer.execute(f"ALTER {what} {name} CONNECTION LIMIT {limit}")


@pytest.mark.parametrize("what", ["ROLE", "DATABASE"])
async def test_calls_wait_for_the_connections_within_the_limit(
    limited_url: str, observer: asyncpg.Connection, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    # The limit of a database counts the observer's connection as well.
    await _limit(observer, what, 3 if what == "ROLE" else 4)
    async with _database(limited_url, **QUICK) as database:
        for _ in range(3):
            with caplog.at_level(logging.WARNING):
                rows = await asyncio.gather(*(database.fetch(ECHO, value=n, seconds=0.02) for n in range(60)))
            assert [row[0][0] for row in rows] == list(range(60))
        assert len([record for record in caplog.records if "accepts no more connections" in record.message]) == 1
        pool = database._get_pool()
        assert len(pool._idle) == 3
        await _limit(observer, what, -1)
        async with asyncio.timeout(60):  # once the limit is raised, the pool grows again
            while len(pool._idle) < pool.size:
                await asyncio.gather(*(database.fetch(ECHO, value=1, seconds=0.05) for _ in range(20)))


async def test_one_event_loop_after_another_needs_one_connection(
    limited_url: str, observer: asyncpg.Connection
) -> None:
    """A loop does not wait until the server has ended the connection of the loop before it."""
    await _limit(observer, "ROLE", 1)
    store = AgentStore(limited_url, settings=Settings(auto_migrate="off", pool_size=1))

    def run_loops() -> None:
        for number in range(40):
            assert asyncio.run(store._database.fetch(ECHO, value=number, seconds=0.0))[0][0] == number
        asyncio.run(store.stop())

    await asyncio.to_thread(run_loops)


async def test_a_connection_that_the_server_is_ending_is_waited_for(
    limited_url: str, observer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentstore.database.budget._ENDING", 600.0)
    await _limit(observer, "ROLE", 1)
    ending = await asyncpg.connect(limited_url)
    async with _database(limited_url, **QUICK) as database:
        pool = database._get_pool()
        assert pool._budget is not None
        pool._budget.note_ending()
        fetching = asyncio.create_task(database.fetch(ECHO, value=1, seconds=0.0))
        await asyncio.wait([fetching], timeout=0.2)
        assert not fetching.done()
        await ending.close()
        assert (await fetching)[0][0] == 1


async def test_waiting_for_a_connection_within_the_limit_is_bounded(
    limited_url: str, observer: asyncpg.Connection
) -> None:
    await _limit(observer, "ROLE", 1)
    async with _database(limited_url, pool_timeout=0.3, **QUICK) as database:
        holding = asyncio.create_task(database.fetch(ECHO, value=1, seconds=3.0))
        while not database.checked_out():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        errors = await asyncio.gather(
            *(database.fetch(ECHO, value=2, seconds=0.0) for _ in range(12)), return_exceptions=True
        )
        assert all(isinstance(error, PoolTimeout) for error in errors), errors
        assert "The server refuses more" in str(errors[0])
        assert (await holding)[0][0] == 1
        assert (await database.fetch(ECHO, value=2, seconds=0.0))[0][0] == 2


async def test_a_process_without_connections_fails_at_once(limited_url: str, observer: asyncpg.Connection) -> None:
    """Those that the limit is used up by belong to other processes: when they close them is not known."""
    await _limit(observer, "ROLE", 1)
    other = await asyncpg.connect(limited_url)
    async with _database(limited_url, **QUICK) as database:
        async with asyncio.timeout(20):  # less than POOL_TIMEOUT
            errors = await asyncio.gather(
                *(database.fetch(ECHO, value=1, seconds=0.0) for _ in range(30)), return_exceptions=True
            )
        assert all(isinstance(error, Unavailable) and not isinstance(error, PoolTimeout) for error in errors), errors
        await other.close()
        async with asyncio.timeout(60):
            while True:  # the server counts the closed connection until its process has ended
                try:
                    assert (await database.fetch(ECHO, value=1, seconds=0.0))[0][0] == 1
                    break
                except Unavailable:
                    continue
