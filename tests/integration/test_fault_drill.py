"""A fault drill: what happens to an application in use is named by its log and its metrics within five seconds."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest

from agentstore import AgentStore, Message, PoolTimeout, Settings, StatementTimeout
from tests.support.failures import FAIL_ONCE
from tests.support.servers import terminate_all_backends
from tests.support.telemetry import Collected

pytestmark = pytest.mark.slow

_SECONDS = 5.0


async def test_each_fault_is_named_within_five_seconds(
    direct_url: str, observer: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    """Through a pooler, the faults are those of its connections, not of the application's."""
    collected = Collected()
    settings = Settings(pool_size=2, pool_timeout=0.5, statement_timeout=1, slow_statement=0.5)
    caplog.set_level(logging.WARNING, logger="agentstore")

    def logged(event: str, **attributes: str) -> bool:
        return any(
            getattr(record, "event", None) == event
            and all(getattr(record, key, None) == value for key, value in attributes.items())
            for record in caplog.records
        )

    def counted(metric: str, **attributes: str) -> bool:
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        points: list[Any] = collected.metrics().get(metric, [])
        return any(wanted.items() <= dict(point.attributes).items() for point in points)

    async def named_soon(*signs: Callable[[], bool]) -> None:
        began = time.monotonic()
        while not all(sign() for sign in signs):
            assert time.monotonic() < began + _SECONDS, [sign() for sign in signs]
            await asyncio.sleep(0.01)

    async with AgentStore(direct_url, settings=settings, telemetry=collected.telemetry()) as store:
        await store.sessions.append("alice", "s", Message.user("Hello"))
        assert not caplog.records

        await terminate_all_backends(observer)
        await store.sessions.append("alice", "s", Message.user("after the kill"))
        await named_soon(lambda: logged("connection.discarded"), lambda: counted("agentstore.connections.discarded"))

        async with observer.transaction():
            await observer.execute("LOCK TABLE agentstore.sessions")
            with pytest.raises(StatementTimeout):
                await store.sessions.append("alice", "s", Message.user("during the stall"))
        await named_soon(
            lambda: logged("statement.slow", statement="sessions.append"),
            lambda: counted("db.client.operation.duration", error__type="agentstore.errors.StatementTimeout"),
        )

        await observer.execute(FAIL_ONCE)
        await store.sessions.create_session("alice", "deadlock")
        await named_soon(
            lambda: logged("statement.retried", sqlstate="40P01"),
            lambda: counted("agentstore.retries", db__response__status_code="40P01"),
        )

        async with store._database.transaction(), store._database.transaction():
            with pytest.raises(PoolTimeout):
                await store.sessions.get_session("alice", "s")
        await named_soon(lambda: logged("pool.timeout"), lambda: counted("db.client.connection.timeouts"))

        texts = [each.text async for each in store.sessions.iter_messages("alice", "s")]
        assert texts == ["Hello", "after the kill"]
