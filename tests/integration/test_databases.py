"""The databases of tests."""

import asyncio

import asyncpg
import pytest

from tests.support.databases import Databases
from tests.support.servers import Server


async def test_a_database_is_dropped_with_its_connections(databases: Databases, server: Server) -> None:
    name = await asyncio.to_thread(databases.take)
    left = await asyncpg.connect(server.url_of(name))
    await left.execute("BEGIN; CREATE TEMP TABLE mine (); LOCK TABLE agentstore.users; SELECT pg_advisory_lock(1)")
    await asyncio.to_thread(databases.give_back, name)
    assert left.is_closed()
    with pytest.raises(asyncpg.InvalidCatalogNameError):  # for clients that connect again
        await asyncpg.connect(server.url_of(name))
