"""What a store requires of its transactions, whatever the database or role has set as defaults."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import asyncpg
import pytest
from sqlalchemy import bindparam, text, update
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from agentstore import AgentStore, Message, Role, Settings, TextContent, Unavailable
from agentstore.database.statement import Statement
from agentstore.models import UserRow
from tests.integration.test_database import ADD_USER

LEVEL = Statement(text("SELECT current_setting('transaction_isolation')"), scope="none")
LOCK_USER = Statement(
    update(UserRow).where(UserRow.id == bindparam("id")).values(id=UserRow.id).returning(UserRow.id),
    scope="none",
    repeatable=True,
)

Open = Callable[..., AbstractAsyncContextManager[AgentStore]]


@asynccontextmanager
async def _by_url(url: str, **settings: Any) -> AsyncIterator[AgentStore]:
    async with AgentStore(url, settings=Settings(**settings)) as store:
        yield store


@asynccontextmanager
async def _as_through_a_pooler(url: str, **settings: Any) -> AsyncIterator[AgentStore]:
    """No setting of a session is made: a pooler in transaction mode would pass none on."""
    async with AgentStore(url, settings=Settings(pooler="transaction", **settings)) as store:
        yield store


@asynccontextmanager
async def _by_engine(url: str, **settings: Any) -> AsyncIterator[AgentStore]:
    engine = create_async_engine(url.replace("postgresql://", "postgresql+asyncpg://"), poolclass=NullPool)
    async with AgentStore(engine=engine, settings=Settings(**settings)) as store:
        yield store
    await engine.dispose()


async def _set_default(observer: asyncpg.Connection, level: str) -> None:
    name = await observer.fetchval("SELECT quote_ident(current_database())")
    await observer.execute(f"ALTER DATABASE {name} SET default_transaction_isolation = '{level}'")


@pytest.mark.parametrize("open_store", [_by_url, _as_through_a_pooler, _by_engine])
@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
async def test_every_statement_runs_in_read_committed(
    direct_url: str, observer: asyncpg.Connection, level: str, open_store: Open
) -> None:
    await _set_default(observer, level)
    async with open_store(direct_url) as store:
        database = store._database
        assert await database.fetch(LEVEL) == [("read committed",)]
        async with database.transaction() as transaction:
            assert await transaction.fetch(LEVEL) == [("read committed",)]
        async with database.transaction(snapshot=True) as transaction:
            assert await transaction.fetch(LEVEL) == [("repeatable read",)]


@pytest.mark.parametrize("open_store", [_by_url, _as_through_a_pooler, _by_engine])
async def test_concurrent_writes_succeed_whatever_the_default_isolation_level_is(
    direct_url: str, observer: asyncpg.Connection, open_store: Open
) -> None:
    await _set_default(observer, "repeatable read")
    async with open_store(direct_url) as store:
        session = await store.sessions.create_session("alice", "s")

        async def turn(number: int) -> None:
            message = Message(role=Role.USER, content=[TextContent(text=f"pepper {number}")])
            await store.memory.add_memory("alice", [message], "s")
            await store.states.save_state("alice", {"number": number}, "s")
            await store.sessions.append_message(session, message)

        await asyncio.gather(*map(turn, range(20)))
        assert await observer.fetchval("SELECT count(*) FROM agentstore.messages") == 20


async def test_a_default_that_is_changed_after_the_start_is_noticed(
    direct_url: str, observer: asyncpg.Connection
) -> None:
    async with _as_through_a_pooler(direct_url) as store:
        database = store._database
        await database.fetch(ADD_USER, id="alice")
        await _set_default(observer, "repeatable read")
        await observer.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        await asyncio.gather(*(database.fetch(LOCK_USER, id="alice") for _ in range(50)))
        async with observer.transaction():
            await observer.execute("UPDATE agentstore.users SET id = id WHERE id = 'alice'")
            waiting = asyncio.create_task(database.fetch(LOCK_USER, id="alice"))
            while not await observer.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
                await asyncio.sleep(0.01)
        assert await waiting == [("alice",)]
        assert await database.fetch(LEVEL) == [("read committed",)]


@pytest.mark.parametrize("open_store", [_by_url, _as_through_a_pooler, _by_engine])
async def test_a_client_that_is_suspended_in_a_transaction_loses_its_locks(
    direct_url: str, monkeypatch: pytest.MonkeyPatch, open_store: Open
) -> None:
    monkeypatch.setattr("agentstore.database.transaction._MIN_IDLE_TIMEOUT", 0.5)
    async with open_store(direct_url, lock_timeout=0.5) as suspended, _by_url(direct_url, lock_timeout=60.0) as other:
        await suspended._database.fetch(ADD_USER, id="alice")
        with pytest.raises(Unavailable):
            async with suspended._database.transaction() as transaction:
                await transaction.fetch(LOCK_USER, id="alice")
                assert await other._database.fetch(LOCK_USER, id="alice") == [("alice",)]
                await transaction.fetch(LOCK_USER, id="alice")


async def test_the_reader_of_a_snapshot_may_be_slow(direct_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentstore.database.transaction._MIN_IDLE_TIMEOUT", 0.5)
    async with _by_url(direct_url, lock_timeout=0.5) as store, store._database.transaction(snapshot=True) as reader:
        await reader.fetch(LEVEL)
        await asyncio.sleep(1.5)
        assert await reader.fetch(LEVEL) == [("repeatable read",)]
