"""Writes that are refused as read-only: by a read-only database, and by a server that is no longer the primary."""

import asyncio
import math
from typing import Any

import asyncpg
import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from agentstore import AgentStore, Settings, Unavailable, migrate
from agentstore.database.database import Database
from agentstore.database.statement import Statement
from tests.integration.test_database import ADD_USER, ECHO, USERS, _database, _wait_for_checkouts
from tests.support.proxy import Proxy


class _Opened:
    """Counts the connections that a database opens."""

    def __init__(self, database: Database) -> None:
        self.count = 0
        self._connect = database._connect
        database._connect = self._counted

    async def _counted(self) -> asyncpg.Connection:
        self.count += 1
        assert self._connect is not None
        return await self._connect()


async def _make_read_only(observer: asyncpg.Connection, value: str) -> None:
    """Set whether sessions that begin from now on are read-only; the others are not changed."""
    name = await observer.fetchval("SELECT quote_ident(current_database())")
    await observer.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {value}")


async def test_writes_refused_by_a_read_only_database_leave_its_connections_open(
    direct_url: str, observer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentstore.database.pool._WRITABLE_CHECK_INTERVAL", 3_600.0)
    await _make_read_only(observer, "on")
    async with _database(direct_url) as database:
        opened = _Opened(database)
        await asyncio.gather(*(database.fetch(ECHO, value=1, seconds=0.2) for _ in range(10)))
        assert opened.count == 10

        async def write() -> None:
            for number in range(20):
                with pytest.raises(Unavailable, match=r"accepts no writes now.*target_session_attrs"):
                    await database.fetch(ADD_USER, id=f"alice{number}")
                with pytest.raises(Unavailable, match="accepts no writes now"):
                    async with database.transaction() as transaction:
                        await transaction.fetch(ADD_USER, id="bob")

        async def read() -> None:
            for _ in range(100):
                assert await database.fetch(USERS) == []

        await asyncio.gather(write(), write(), *(read() for _ in range(8)))
        assert opened.count == 11  # one, outside of the pool, found that new connections refuse writes as well
        await _wait_for_checkouts(database, 0)
        await asyncio.gather(*(database.fetch(ECHO, value=1, seconds=0.2) for _ in range(10)))
        assert opened.count == 11


@pytest.mark.parametrize("in_transaction", [False, True])
async def test_connections_to_a_server_that_no_longer_accepts_writes_are_replaced(
    direct_url: str, observer: asyncpg.Connection, in_transaction: bool
) -> None:
    """As after a failover behind an unchanged address: open connections are read-only, and new ones are not."""
    await _make_read_only(observer, "on")
    async with _database(direct_url) as database:
        opened = _Opened(database)
        held = asyncio.create_task(database.fetch(ECHO, value=1, seconds=2.0))  # in use when the failover is noticed
        await asyncio.gather(*(database.fetch(ECHO, value=1, seconds=0.2) for _ in range(9)))
        await _make_read_only(observer, "off")
        if in_transaction:
            with pytest.raises(Unavailable):
                async with database.transaction() as transaction:
                    await transaction.fetch(ADD_USER, id="alice")
            async with database.transaction() as transaction:
                await transaction.fetch(ADD_USER, id="alice")
        else:
            await database.fetch(ADD_USER, id="alice")
        await held
        await asyncio.gather(*(database.fetch(ADD_USER, id=f"u{number}") for number in range(50)))
        assert opened.count <= 21  # at most the ten connections again, and the one that noticed
        is_read_only = Statement(text("SELECT current_setting('transaction_read_only'), pg_sleep(0.2)"), scope="none")
        rows = await asyncio.gather(*(database.fetch(is_read_only) for _ in range(10)))
        assert {row[0][0] for row in rows} == {"off"}


async def test_a_refused_write_is_reported_while_no_server_can_be_reached(
    own_tcp_server: tuple[str, int],
) -> None:
    """During a failover, with no primary yet: open connections stay, and serve reads."""
    url, port = own_tcp_server
    administrator = await asyncpg.connect(url)
    await migrate.upgrade(url)
    await _make_read_only(administrator, "on")
    async with Proxy("127.0.0.1", port) as proxy, _database(url.replace(f":{port}/", f":{proxy.port}/")) as database:
        await asyncio.gather(*(database.fetch(ECHO, value=1, seconds=0.2) for _ in range(3)))
        proxy.refuse()
        for _ in range(5):
            with pytest.raises(Unavailable, match="accepts no writes now"):
                await database.fetch(ADD_USER, id="alice")
            assert await database.fetch(USERS) == []
    await administrator.close()


@pytest.mark.parametrize("arguments", [{}, {"pool_size": 1, "max_overflow": 0}, {"poolclass": NullPool}])
async def test_connections_of_the_callers_engine_are_replaced_too(
    direct_url: str, observer: asyncpg.Connection, arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentstore.database.pool._WRITABLE_CHECK_INTERVAL", 3_600.0)
    await _make_read_only(observer, "on")
    engine = create_async_engine(direct_url.replace("postgresql://", "postgresql+asyncpg://"), **arguments)
    opened = 0

    def count(*_: Any) -> None:
        nonlocal opened
        opened += 1

    event.listen(engine.sync_engine, "connect", count)
    async with AgentStore(engine=engine, settings=Settings(row_level_security=True)) as store:
        for number in range(30):
            with pytest.raises(Unavailable, match="accepts no writes now"):
                await store.sessions.create_session("alice", f"s{number}")
        refused = opened
        await _make_read_only(observer, "off")
        monitored = store._database._pool
        assert monitored is not None
        monitored._writable_checked_at = -math.inf  # as if the interval were over
        await store.sessions.create_session("alice", "s")
        assert await store.sessions.get_session("alice", "s") is not None
        if "poolclass" not in arguments:
            assert refused <= 6  # at most the engine's five connections, and one to find out
    await engine.dispose()
