"""Databases of tests: copies of a template."""

import asyncio
import time
from collections.abc import Coroutine
from typing import Any
from uuid import uuid4

import asyncpg

from tests.support.servers import Server

_TERMINATE = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1"


class Databases:
    """Copies of `template`, for one test at a time each. A client of an earlier test does not know the new name."""

    def __init__(self, server: Server, template: str) -> None:
        self._template = template
        self._loop = asyncio.new_event_loop()
        self._admin: asyncpg.Connection = self._loop.run_until_complete(asyncpg.connect(server.url_of("postgres")))

    def take(self) -> str:
        """Return the name of a database that is equal to the template and has no connections."""
        name = f"{self._template}_{uuid4().hex[:8]}"
        # Files: a copy by the WAL takes half as much CPU time again, and the first connection would have to build the
        # cache of the catalog, which is one of the files.
        self._run(self._admin.execute(f'CREATE DATABASE "{name}" TEMPLATE "{self._template}" STRATEGY file_copy'))
        return name

    def give_back(self, name: str) -> None:
        """Terminate all connections to a database, and drop it."""
        self._run(self._drop(name))

    def close(self) -> None:
        """Disconnect. Each database has been given back."""
        self._run(self._admin.close())
        self._loop.close()

    def _run(self, call: Coroutine[Any, Any, object]) -> None:
        self._loop.run_until_complete(call)

    async def _drop(self, name: str) -> None:
        deadline = time.monotonic() + 60
        while await self._admin.fetch(_TERMINATE, name):
            # Neither FORCE nor the timeout of pg_terminate_backend alone, which look every 100 ms.
            assert time.monotonic() < deadline, f"connections to {name} do not end"
            await asyncio.sleep(0.002)
        await self._admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
