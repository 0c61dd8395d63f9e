"""URLs with several hosts: hosts that are silent, refuse connections, or do not match target_session_attrs."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import asyncpg
import pytest

from agentstore import Settings, Unavailable, migrate
from agentstore.database.hosts import NoHostAvailable
from agentstore.database.url import connector
from tests.integration.test_database import ADD_USER_ONCE, ECHO, _database
from tests.support.pgbouncer import free_port
from tests.support.proxy import Proxy
from tests.support.standby import Pair, primary_and_standby

pytestmark = pytest.mark.slow

TIMEOUT = 1.0


class _Host(asyncio.Protocol):
    """Accepts connections and never answers, or closes them at once; counts them."""

    def __init__(self, *, closes: bool = False) -> None:
        self._closes = closes
        self._transports: list[asyncio.Transport] = []

    @property
    def connections(self) -> int:
        return len(self._transports)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transports.append(transport)
        if self._closes:
            transport.abort()

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[int]:
        listener = await asyncio.get_running_loop().create_server(lambda: self, "127.0.0.1", 0)
        try:
            yield listener.sockets[0].getsockname()[1]
        finally:
            listener.close()
            for transport in self._transports:
                transport.abort()


def _through(url: str, port: int, *ports: int) -> str:
    """Return the URL with these ports of this machine as its hosts."""
    return url.replace(f"127.0.0.1:{port}/", ",".join(f"127.0.0.1:{each}" for each in ports) + "/")


@pytest.mark.parametrize("kind", ["silent", "refusing", "closing"])
async def test_the_next_host_is_used_and_remembered(own_tcp_server: tuple[str, int], kind: str) -> None:
    url, port = own_tcp_server
    bad = _Host(closes=kind == "closing")
    async with AsyncExitStack() as stack:
        listening = free_port() if kind == "refusing" else await stack.enter_async_context(bad.listening())
        connect = connector(_through(url, port, listening, listening, port), timeout=TIMEOUT)
        for _ in range(3):
            connection = await connect()
            assert await connection.fetchval("SELECT 1") == 1
            await connection.close()
        if kind != "refusing":
            assert bad.connections == 2  # of the first attempt, named twice in the URL


async def test_each_host_has_the_whole_timeout(own_tcp_server: tuple[str, int]) -> None:
    url, port = own_tcp_server
    silent = [_Host() for _ in range(3)]
    async with AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(host.listening()) for host in silent]
        async with _database(_through(url, port, *ports, port), connect_timeout=0.5, auto_migrate="off") as database:
            results = await asyncio.gather(*(database.fetch(ECHO, value=1, seconds=0.0) for _ in range(3)))
        assert [row[0][0] for row in results] == [1, 1, 1]


async def test_a_failure_names_the_reason_of_each_host(own_tcp_server: tuple[str, int]) -> None:
    url, port = own_tcp_server
    refusing = free_port()
    async with _Host().listening() as silent:
        several = f"{_through(url, port, silent, refusing, port)}?target_session_attrs=standby"
        async with _database(several, connect_timeout=0.3) as database:
            with pytest.raises(Unavailable) as caught:
                await database.start()
    assert isinstance(caught.value.__cause__, NoHostAvailable)
    assert f"127.0.0.1:{silent} did not answer in time" in str(caught.value)
    assert f"127.0.0.1:{refusing} failed: " in str(caught.value)
    assert f"127.0.0.1:{port} is not standby, as target_session_attrs requires" in str(caught.value)
    assert "postgres:postgres" not in str(caught.value)


async def test_hosts_of_the_environment_have_a_timeout_each(
    own_tcp_server: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, port = own_tcp_server
    silent = _Host()
    async with silent.listening() as listening:
        monkeypatch.setenv("PGHOST", "127.0.0.1,127.0.0.1")
        monkeypatch.setenv("PGPORT", f"{listening},{port}")
        monkeypatch.setenv("PGTARGETSESSIONATTRS", "read-write")
        connect = connector("postgresql://postgres:postgres@/postgres", timeout=0.5)
        for _ in range(2):
            await (await connect()).close()
    assert silent.connections == 1


async def test_a_rejected_login_is_not_tried_on_the_next_host(own_tcp_server: tuple[str, int]) -> None:
    url, port = own_tcp_server
    async with Proxy("127.0.0.1", port) as second:
        connect = connector(_through(url, port, port, second.port).replace("postgres:postgres@", "postgres:no@"))
        with pytest.raises(asyncpg.InvalidPasswordError):
            await connect()
        assert second.connections == 0


@pytest.fixture
def pair(server_folder: Path, cluster: Path, binaries: str | None) -> Iterator[Pair]:
    with primary_and_standby(server_folder, cluster, binaries) as running:
        yield running


async def test_the_first_host_that_matches_target_session_attrs_is_used(pair: Pair) -> None:
    async with _Host().listening() as silent:
        hosts = ",".join(f"127.0.0.1:{port}" for port in (silent, pair.primary, pair.standby, pair.primary))
        for target in ("any", "primary", "read-write", "standby", "read-only", "prefer-standby"):
            url = f"postgresql://postgres@{hosts}/postgres?target_session_attrs={target}"
            connect = connector(url, timeout=TIMEOUT)
            for _ in range(2):
                connection = await connect()
                is_standby = await connection.fetchval("SELECT pg_is_in_recovery()")
                assert is_standby == (target in ("standby", "read-only", "prefer-standby"))
                await connection.close()


async def test_prefer_standby_uses_a_primary_if_no_standby_answers(pair: Pair) -> None:
    async with _Host().listening() as silent:
        hosts = f"127.0.0.1:{pair.primary},127.0.0.1:{silent}"
        connect = connector(f"postgresql://postgres@{hosts}/postgres?target_session_attrs=prefer-standby", timeout=0.5)
        await (await connect()).close()


@pytest.mark.parametrize("first", ["silent", "refusing", "standby"])
async def test_writes_resume_on_the_promoted_standby_and_nothing_acknowledged_is_lost(pair: Pair, first: str) -> None:
    async with _Host().listening() as silent:
        port = {"silent": silent, "refusing": free_port(), "standby": pair.standby}[first]
        hosts = ",".join(f"127.0.0.1:{each}" for each in (port, pair.primary, pair.standby))
        url = f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write"
        await migrate.upgrade(url, settings=Settings(connect_timeout=TIMEOUT))
        acknowledged: list[str] = []
        acknowledged_at = promoted_at = 0.0
        ended = False

        async def write(name: str) -> None:
            nonlocal acknowledged_at
            number = 0
            while not ended:
                try:
                    await database.fetch(ADD_USER_ONCE, id=f"{name}{number}")
                except Unavailable:
                    await asyncio.sleep(0.01)
                else:
                    acknowledged.append(f"{name}{number}")
                    number += 1
                    if promoted_at and not acknowledged_at:
                        acknowledged_at = time.monotonic()

        async with _database(url, connect_timeout=TIMEOUT) as database, asyncio.TaskGroup() as tasks:
            for name in ("a", "b", "c"):
                tasks.create_task(write(name))
            while len(acknowledged) < 20:
                await asyncio.sleep(0.01)
            pair.kill_primary()
            observer = await asyncpg.connect(f"postgresql://postgres@127.0.0.1:{pair.standby}/postgres")
            assert await observer.fetchval("SELECT pg_promote()")
            promoted_at = time.monotonic()
            async with asyncio.timeout(60):
                while not acknowledged_at:
                    await asyncio.sleep(0.01)
            ended = True
        # The servers run beside the writers: what is promised for one attempt is asserted, and not a measured time.
        assert acknowledged_at - promoted_at < TIMEOUT + 2
        stored = {row[0] for row in await observer.fetch("SELECT id FROM agentstore.users")}
        await observer.close()
        assert stored.issuperset(acknowledged)
