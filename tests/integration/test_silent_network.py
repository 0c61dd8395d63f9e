"""Connections whose network delivers nothing and reports nothing: stops are bounded, and no call waits in vain."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from agentstore import AgentStore, Settings, Unavailable, UnknownOutcome
from agentstore.database.database import Database
from agentstore.database.hosts import CLOSE_TIMEOUT
from agentstore.database.url import connector
from tests.integration.test_database import ADD_USER, ECHO, USERS, _database
from tests.support.proxy import Proxy

pytestmark = pytest.mark.slow

# Seconds that scheduling on a busy machine may add to what is promised.
_MARGIN = 2.0


@asynccontextmanager
async def _used(
    server: tuple[str, int], connections: int, **settings: float
) -> AsyncIterator[tuple[Proxy, Database, str]]:
    """Yield a database behind a proxy that has opened some connections, all of them idle."""
    url, port = server
    async with Proxy("127.0.0.1", port) as proxy:
        through = url.replace(f":{port}/", f":{proxy.port}/")
        async with _database(through, **settings) as database:
            await asyncio.gather(*(database.fetch(ECHO, value=1, seconds=0.3) for _ in range(connections)))
            assert proxy.connections == connections
            yield proxy, database, through


@pytest.mark.parametrize("state", ["idle", "in use", "canceled", "connecting", "in a transaction"])
async def test_stop_is_bounded(own_tcp_server: tuple[str, int], state: str) -> None:
    async with _used(own_tcp_server, 5) as (proxy, database, _):
        calls: list[asyncio.Task[object]] = []
        entered = asyncio.Event()

        async def hold() -> None:
            async with database.transaction() as transaction:
                entered.set()
                await transaction.fetch(ECHO, value=1, seconds=0.0)

        if state == "in a transaction":
            calls.append(asyncio.create_task(hold()))
            await entered.wait()
        proxy.blackhole = True
        if state in ("in use", "canceled", "connecting"):
            count = 10 if state == "connecting" else 3
            calls += [asyncio.create_task(database.fetch(USERS)) for _ in range(count)]
            await asyncio.sleep(0.1)
        if state in ("canceled", "connecting"):
            for call in calls:
                call.cancel()
        began = time.monotonic()
        await database.stop()
        assert time.monotonic() - began < CLOSE_TIMEOUT + _MARGIN
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


async def test_a_store_with_sandboxes_stops_in_time(own_tcp_server: tuple[str, int]) -> None:
    async with _used(own_tcp_server, 1) as (proxy, _, through):
        store = AgentStore(through, settings=Settings(sandbox_provider="unsafe_subprocess"))
        for number in range(10):
            await store.sandboxes.connect(f"s{number}", "alice")
        proxy.blackhole = True
        began = time.monotonic()
        await store.stop()
        assert time.monotonic() - began < 5 + _MARGIN
        proxy.blackhole = False


async def test_sandboxes_are_ended_over_new_connections_if_the_open_ones_are_silent(
    own_tcp_server: tuple[str, int],
) -> None:
    url, _ = own_tcp_server
    async with _used(own_tcp_server, 1) as (proxy, _, through):
        store = AgentStore(through, settings=Settings(sandbox_provider="unsafe_subprocess"))
        await store.sandboxes.connect("s", "alice")
        proxy.drop_open()
        await store.stop()
        observer = await asyncpg.connect(url)
        assert await observer.fetchval("SELECT count(*) FROM agentstore.sandboxes") == 0
        await observer.close()


@pytest.mark.parametrize("kind", ["statement", "transaction", "ping"])
async def test_after_one_timeout_no_other_connection_is_used_without_a_ping(
    own_tcp_server: tuple[str, int], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Of ten connections that the network has dropped, the first costs its timeout, the second a ping."""
    monkeypatch.setattr("agentstore.database.database._NETWORK_GRACE", 0.2)
    async with _used(own_tcp_server, 10, statement_timeout=1.0) as (proxy, database, _):
        proxy.drop_open()
        if kind == "ping":
            monkeypatch.setattr("agentstore.database.pool._PING_AFTER", 0.0)
        elif kind == "transaction":
            with pytest.raises(Unavailable):
                async with database.transaction() as transaction:
                    await transaction.fetch(USERS)
        else:
            with pytest.raises(UnknownOutcome):
                await database.fetch(ADD_USER, id="lost")
        for number in range(12):
            assert await database.fetch_one(ADD_USER, id=f"u{number}") == (f"u{number}",)
        async with asyncio.TaskGroup() as tasks:
            for number in range(12, 40):
                tasks.create_task(database.fetch(ADD_USER, id=f"u{number}"))
        assert len(await database.fetch(USERS)) == 40


async def test_connections_that_answered_meanwhile_are_not_discarded(own_tcp_server: tuple[str, int]) -> None:
    """A firewall that has dropped one idle connection has not dropped those in use."""
    async with _used(own_tcp_server, 2) as (proxy, database, _):
        proxy.drop_open(first=1)
        pool = database._get_pool()
        pool.suspect_idle()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(2):
                tasks.create_task(database.fetch(ECHO, value=1, seconds=3.0))
        assert proxy.connections == 4  # two, the request to cancel the ping, and one instead of the dropped one


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("", (1, 30, 10, 3, 10_000)),
        ("connect_timeout=3", (1, 30, 10, 3, 3_000)),
        ("keepalives_idle=7&keepalives_interval=5&keepalives_count=2&tcp_user_timeout=4000", (1, 7, 5, 2, 4_000)),
        ("keepalives=0&keepalives_idle=7&tcp_user_timeout=0", (0, None, None, None, 0)),
    ],
)
async def test_tcp_parameters_take_effect(
    own_tcp_server: tuple[str, int], parameters: str, expected: tuple[int | None, ...]
) -> None:
    url, _ = own_tcp_server
    connection = await connector(f"{url}?{parameters}")()
    connected = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]
    found = (
        connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
        connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
        connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
        connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
    )
    assert [value for value, wanted in zip(found, expected, strict=True) if wanted is not None] == [
        wanted for wanted in expected if wanted is not None
    ]
    await connection.close()


async def test_a_host_that_becomes_silent_in_use_is_tried_last(
    own_tcp_server: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """New connections do not wait for CONNECT_TIMEOUT on the host whose connections received no response."""
    url, port = own_tcp_server
    async with Proxy("127.0.0.1", port) as first, Proxy("127.0.0.1", port) as second:
        several = url.replace(f"127.0.0.1:{port}/", f"127.0.0.1:{first.port},127.0.0.1:{second.port}/")
        async with _database(several, connect_timeout=60.0, auto_migrate="upgrade") as database:
            await asyncio.gather(*(database.fetch(ECHO, value=1, seconds=0.3) for _ in range(5)))
            assert second.connections == 0
            first.blackhole = True
            monkeypatch.setattr("agentstore.database.pool._PING_AFTER", 0.0)
            async with asyncio.timeout(30):  # less than an attempt to connect to the first host
                for number in range(10):
                    await database.fetch(ADD_USER, id=f"u{number}")
            assert second.connections > 0
        first.blackhole = False
