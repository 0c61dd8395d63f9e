"""Health checks: on a connection of their own, bounded in time, and true about writes."""

import asyncio
import logging
import os
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from agentstore import AgentStore, EmbeddedPostgres, Settings, Unavailable
from agentstore.operations.doctor import examine
from agentstore.repositories.connect import open_database
from agentstore.testing import text
from tests.support.proxy import Proxy
from tests.support.psql import psql
from tests.support.servers import copy_cluster


@pytest.fixture(params=["url", "engine", "engine without a pool"])
async def busy(request: pytest.FixtureRequest, direct_url: str) -> AsyncIterator[AgentStore]:
    """A store all of whose connections are in use."""
    url = direct_url.replace("postgresql://", "postgresql+asyncpg://")
    engine = None
    if request.param == "url":
        store = AgentStore(direct_url, settings=Settings(pool_size=1, pool_timeout=0.05))
    else:
        pool = {"poolclass": NullPool} if request.param != "engine" else {"pool_size": 1, "max_overflow": 0}
        engine = create_async_engine(url, **pool)
        store = AgentStore(engine=engine)
    async with store, store._database.transaction():
        yield store
    if engine is not None:
        await engine.dispose()


async def test_a_check_does_not_compete_with_calls(busy: AgentStore, observer: asyncpg.Connection) -> None:
    count = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    before, in_use = await observer.fetchval(count), busy._database.checked_out()
    for service in (busy, busy.sessions, busy.memory, busy.states, busy.users, busy.sandboxes):
        assert await service.health()
    assert busy._database.checked_out() == in_use
    async with asyncio.timeout(60):
        while await observer.fetchval(count) != before:  # the server ends closed connections a little later
            await asyncio.sleep(0.01)


async def test_a_database_that_accepts_no_writes_is_not_healthy(
    direct_url: str, database_name: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with AgentStore(direct_url) as store:
        assert await store.health()
        for setting in ("default_transaction_read_only = on", "temp_file_limit = 0"):
            psql(direct_url, f'ALTER DATABASE "{database_name}" SET {setting};')
            assert not await store.health()
            assert await store.health(writable=False)
            psql(direct_url, f'SET default_transaction_read_only = off; ALTER DATABASE "{database_name}" RESET ALL;')
            assert await store.health()
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert ["accepts no writes" in each for each in warnings] == [True, False]


@pytest.mark.slow
async def test_a_check_of_a_silent_server_ends_in_time(own_tcp_server: tuple[str, int]) -> None:
    url, port = own_tcp_server
    async with Proxy("127.0.0.1", port) as proxy:
        settings = Settings(auto_migrate="upgrade")
        async with AgentStore(url.replace(f":{port}/", f":{proxy.port}/"), settings=settings) as store:
            assert await store.health()
            proxy.blackhole = True
            began = time.monotonic()
            assert not await store.health(timeout=0.2)
            assert time.monotonic() - began < settings.connect_timeout


async def test_a_check_uses_a_connection_of_the_pool_where_no_more_are_allowed(direct_url: str) -> None:
    role = f"agentstore_limited_{uuid4().hex[:8]}"
    psql(direct_url, f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 1; GRANT USAGE ON SCHEMA agentstore TO {role};")
    psql(direct_url, f"GRANT SELECT ON ALL TABLES IN SCHEMA agentstore TO {role};")
    try:
        database = open_database(direct_url.replace("postgres@", f"{role}@"))
        await database.start()
        assert await database.health()
        await database.stop()
    finally:
        psql(direct_url, f"DROP OWNED BY {role}; DROP ROLE {role};")


@pytest.mark.chaos
def test_a_full_disk_is_not_healthy(tmp_path: Path, cluster: Path, binaries: str | None) -> None:
    """Requires the right to mount: run it as root."""
    small, filler = tmp_path / "small", tmp_path / "small" / "filler"

    async def check(url: str) -> None:
        async with AgentStore(url, settings=Settings(auto_migrate="upgrade")) as store:
            session = await store.sessions.create_session("alice")
            assert await store.health()
            await asyncio.to_thread(subprocess.run, ["dd", "if=/dev/zero", f"of={filler}", "bs=64k"], check=False)
            assert not await store.health()
            found = {each.check: each for each in await examine(store._database)}
            assert (found["writes"].state, "No space left on device" in found["writes"].found) == ("problem", True)
            assert found["schema"].state == "ok", "the checks after it do not fail"
            with pytest.raises(Unavailable):
                await store.sessions.append_message(session, text(os.urandom(500_000).hex()))
            filler.unlink()
            assert await store.health()
            assert "writes" not in {each.check for each in await examine(store._database)}

    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(small)], check=True)
    try:
        with EmbeddedPostgres(copy_cluster(cluster, small / "data"), binaries=binaries) as server:
            asyncio.run(check(server.url))
    finally:
        subprocess.run(["umount", "--lazy", str(small)], check=True)
