"""The database layer: cancellation, lost connections, timeouts, retries and translated errors."""

import asyncio
import pickle
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest
from sqlalchemy import BigInteger, Text, bindparam, func, insert, literal, select, text, update
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from agentstore import (
    AgentStore,
    AgentStoreError,
    Closed,
    NotConfigured,
    PoolTimeout,
    Retryable,
    SchemaBehind,
    Settings,
    StatementFailed,
    StatementTimeout,
    Unavailable,
    UnknownOutcome,
)
from agentstore.database.database import Database
from agentstore.database.statement import Statement
from agentstore.models import UserRow
from agentstore.repositories.connect import open_database
from tests.support.cli import run
from tests.support.pgbouncer import PgBouncer
from tests.support.proxy import Proxy
from tests.support.servers import Server, count_orphans, terminate_all_backends

ECHO = Statement(select(bindparam("value", type_=BigInteger), func.pg_sleep(bindparam("seconds"))), scope="none")
ADD_USER = Statement(insert(UserRow).values(id=bindparam("id")).returning(UserRow.id), scope="all")
ADD_USER_ONCE = Statement(
    text("INSERT INTO agentstore.users (id) VALUES (:id) ON CONFLICT (id) DO NOTHING").bindparams(
        bindparam("id", type_=Text)
    ),
    scope="all",
    repeatable=True,
)
USERS = Statement(select(UserRow.id).order_by(UserRow.id).limit(1000), scope="all")
_WAITING_FOR_ADVISORY_LOCKS = """
SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
WHERE l.locktype = 'advisory' AND NOT l.granted AND d.datname = current_database()
"""
_DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"


async def _wait_for_checkouts(database: Database, count: int) -> None:
    """Wait until `count` connections are checked out: 0 after those of cancelled calls were reset."""
    async with asyncio.timeout(60):
        while database.checked_out() != count:
            await asyncio.sleep(0.01)


async def _open_transactions(observer: asyncpg.Connection) -> int:
    return int(
        await observer.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND (state LIKE 'idle in transaction%' OR state = 'active') AND backend_type = 'client backend'"
        )
    )


@asynccontextmanager
async def _database(url: str, *, password: Any = None, **settings: Any) -> AsyncIterator[Database]:
    opened = open_database(url, settings=Settings(**settings), password=password)
    try:
        yield opened
    finally:
        await opened.stop()


async def test_statements_are_never_compiled_by_jit(direct_url: str, observer: asyncpg.Connection) -> None:
    """It is on by default, for whatever the planner estimates to be expensive."""
    await observer.execute(f'ALTER DATABASE "{await observer.fetchval("SELECT current_database()")}" SET jit = on')
    async with AgentStore(direct_url) as store, store._database.connection() as connection:
        assert await connection.fetchval("SHOW jit") == "off"


async def test_a_statement_runs_with_its_values_in_the_schema_of_the_store(database: Database) -> None:
    assert await database.fetch(Statement(select(literal(7), literal("x")), scope="none")) == [(7, "x")]
    assert await database.fetch_one(ADD_USER, id="alice") == ("alice",)
    assert await database.fetch(USERS) == [("alice",)]
    changed = Statement(
        update(UserRow).where(UserRow.id == bindparam("user_id")).values(metadata_=text("'{}'")).returning(UserRow.id),
        scope="user",
    )
    assert await database.fetch_one(changed, user_id="nobody") is None


async def test_no_statement_depends_on_the_search_path(database: Database, observer: asyncpg.Connection) -> None:
    await observer.execute("CREATE TABLE public.users (id text)")
    await database.fetch(ADD_USER, id="alice")
    assert await observer.fetchval("SELECT count(*) FROM public.users") == 0
    assert await observer.fetchval("SELECT count(*) FROM agentstore.users") == 1


def test_only_statements_that_read_are_repeatable_by_default() -> None:
    assert USERS.repeatable
    assert not ADD_USER.repeatable
    changed = update(UserRow).values(id="x").returning(UserRow.id).cte("changed")
    assert not Statement(select(changed.c.id), scope="all").repeatable


@pytest.fixture
async def cancellable(
    database_url: str, direct_url: str, settings: Settings, pgbouncer: PgBouncer | None
) -> AsyncIterator[Database]:
    """A database on which many calls may be cancelled: bypasses a PgBouncer that may crash on cancellation."""
    if pgbouncer is not None and not pgbouncer.survives_cancels():
        database_url, settings = direct_url, Settings()
    opened = open_database(database_url, settings=settings)
    await opened.start()
    yield opened
    await opened.stop()


@pytest.mark.parametrize("calls", [2_000, pytest.param(10_000, marks=pytest.mark.chaos)])
async def test_calls_cancelled_at_random_leave_no_connection_or_transaction(
    cancellable: Database, observer: asyncpg.Connection, calls: int
) -> None:
    rng = random.Random(1)
    answered = cancelled = 0
    usual = 0.001  # a running average of how long an answered call takes on this machine

    async def call(value: int) -> None:
        nonlocal answered, cancelled, usual
        seconds = rng.choice([0.0, 0.0, 0.0, 0.002])
        if value % 10:
            task = asyncio.create_task(cancellable.fetch(ECHO, value=value, seconds=seconds))
        else:
            task = asyncio.create_task(_two_statements(cancellable, value))
        began = time.monotonic()
        # Every twentieth call is not cancelled: it measures how long a call takes, so that the others are cancelled
        # before or after their answer.
        await asyncio.wait([task], timeout=None if value % 20 == 7 else rng.random() * 2 * usual)
        took = time.monotonic() - began
        task.cancel()
        try:
            rows = await task
        except asyncio.CancelledError:
            cancelled += 1
        else:
            answered += 1
            usual += (took - usual) / 20
            assert rows[0][0] == value

    numbers = iter(range(calls))

    async def caller() -> None:
        for value in numbers:
            await call(value)

    await asyncio.gather(*(caller() for _ in range(16)))
    assert answered + cancelled == calls
    assert cancelled > calls // 5
    assert answered > calls // 10
    await _wait_for_checkouts(cancellable, 0)
    assert await _open_transactions(observer) == 0
    for value in range(200):
        assert (await cancellable.fetch(ECHO, value=value, seconds=0.0))[0][0] == value
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    async with asyncio.timeout(60):  # the server is still ending those that were closed
        while await observer.fetchval(sessions) > cancellable.settings.pool_size:
            await asyncio.sleep(0.01)


async def _two_statements(database: Database, value: int) -> list[Any]:
    async with database.transaction() as transaction:
        await transaction.fetch(ECHO, value=-1, seconds=0.0)
        return await transaction.fetch(ECHO, value=value, seconds=0.0)


async def test_a_cancelled_statement_is_cancelled_on_the_server(
    database: Database, observer: asyncpg.Connection
) -> None:
    """It ends while an equal one that began before it is running."""
    calls: list[asyncio.Task[object]] = []
    for count in (1, 2):
        calls.append(asyncio.create_task(database.fetch(ECHO, value=1, seconds=60.0)))
        while await _open_transactions(observer) != count:
            await asyncio.sleep(0.01)
    earlier, later = calls
    later.cancel()
    with pytest.raises(asyncio.CancelledError):
        await later
    await _wait_for_checkouts(database, 1)
    while await _open_transactions(observer) == 2:  # by a second request, if the first came before the statement
        await asyncio.sleep(0.01)
    assert not earlier.done()
    earlier.cancel()
    with pytest.raises(asyncio.CancelledError):
        await earlier
    await _wait_for_checkouts(database, 0)


async def test_calls_cancelled_before_a_connection_opens_do_not_starve_the_pool(
    database_url: str, settings: Settings
) -> None:
    opened = open_database(database_url, settings=settings.model_copy(update={"auto_migrate": "off"}))
    try:
        opened._started = True  # as if started, with a cold pool
        for _ in range(50):
            task = asyncio.create_task(opened.fetch(ECHO, value=1, seconds=0.0))
            await asyncio.sleep(0.0005)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            if task.cancelled():
                continue
            break
        else:
            await _wait_for_checkouts(opened, 0)
            async with asyncio.timeout(60):
                assert (await opened.fetch(ECHO, value=1, seconds=0.0))[0][0] == 1
        pool = opened._pools.get()
        assert pool is not None
        assert pool._idle
    finally:
        await opened.stop()


async def test_the_next_call_succeeds_after_all_backends_were_terminated(
    database: Database, observer: asyncpg.Connection
) -> None:
    await asyncio.gather(*(database.fetch(ECHO, value=1, seconds=0.01) for _ in range(10)))
    assert await terminate_all_backends(observer) > 0
    # At once, before the client has noticed that the connections are closed.
    assert await database.fetch(ADD_USER_ONCE, id="alice") == []
    await asyncio.gather(*(database.fetch(ECHO, value=1, seconds=0.01) for _ in range(10)))
    assert await terminate_all_backends(observer) > 0
    async with asyncio.timeout(60):
        while await _connections(observer):
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)  # for the event loop to read that they were closed
    # A write that is not safe to retry succeeds as well: closed connections are not used for it.
    assert await database.fetch_one(ADD_USER, id="bob") == ("bob",)
    assert await database.fetch(USERS) == [("alice",), ("bob",)]


async def test_a_deadlock_is_retried(database: Database, observer: asyncpg.Connection) -> None:
    for name in ("a", "b"):
        await database.fetch(ADD_USER, id=name)
    lock_both = Statement(
        text(
            "WITH one AS MATERIALIZED (SELECT id FROM agentstore.users WHERE id = :one FOR UPDATE), "
            "later AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared(1) FROM one) "
            "SELECT id FROM agentstore.users, later WHERE id = :two FOR UPDATE OF users"
        ).bindparams(bindparam("one", type_=Text), bindparam("two", type_=Text)),
        scope="all",
    )
    await observer.execute("SELECT pg_advisory_lock(1)")
    calls = [asyncio.create_task(database.fetch(lock_both, one=one, two=two)) for one, two in ("ab", "ba")]
    async with asyncio.timeout(60):
        while await observer.fetchval(_WAITING_FOR_ADVISORY_LOCKS) < 2:
            await asyncio.sleep(0.01)
    await observer.execute("SELECT pg_advisory_unlock(1)")  # each has locked the row that the other one locks next
    assert await asyncio.gather(*calls) == [[("b",)], [("a",)]]
    await terminate_all_backends(observer)  # which then report what they counted
    async with asyncio.timeout(60):
        while await observer.fetchval(_DEADLOCKS) < 1:
            await asyncio.sleep(0.01)


async def test_a_rejected_statement_raises_a_typed_error(database: Database, observer: asyncpg.Connection) -> None:
    await database.fetch(ADD_USER, id="alice")
    with pytest.raises(StatementFailed) as caught:
        await database.fetch(ADD_USER, id="alice")
    assert caught.value.sqlstate == "23505"
    assert isinstance(caught.value.__cause__, asyncpg.UniqueViolationError)
    await observer.execute("ALTER TABLE agentstore.users RENAME TO lost")
    with pytest.raises(SchemaBehind, match="agentstore upgrade"):
        await database.fetch(USERS)


async def test_a_statement_is_cancelled_after_the_statement_timeout(direct_url: str) -> None:
    """By the server, which a transaction pooler does not tell the limit."""
    opened = open_database(direct_url, settings=Settings(statement_timeout=0.2))
    try:
        async with asyncio.timeout(60):
            with pytest.raises(StatementTimeout, match="AGENTSTORE_STATEMENT_TIMEOUT") as caught:
                await opened.fetch(ECHO, value=1, seconds=600.0)
            assert not isinstance(caught.value, Retryable)
            with pytest.raises(StatementTimeout):
                async with opened.transaction() as transaction:
                    await transaction.fetch(ECHO, value=1, seconds=600.0)
        assert (await opened.fetch(ECHO, value=2, seconds=0.0))[0][0] == 2
    finally:
        await opened.stop()


async def test_a_statement_that_an_administrator_cancels_may_be_retried(
    database: Database, observer: asyncpg.Connection
) -> None:
    call = asyncio.create_task(database.fetch(ECHO, value=1, seconds=600.0))
    async with asyncio.timeout(60):
        # Until it takes effect: it has none while the server prepares the statement.
        while not call.done():
            await observer.execute(
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = current_database() "
                "AND query LIKE '%pg_sleep%' AND state = 'active' AND pid <> pg_backend_pid()"
            )
            await asyncio.sleep(0.01)
        with pytest.raises(Unavailable, match="user request"):
            await call


async def test_a_wait_for_a_lock_names_its_limit(direct_url: str, observer: asyncpg.Connection) -> None:
    """By the server, which a transaction pooler does not tell the limit."""
    opened = open_database(direct_url, settings=Settings(lock_timeout=0.1))
    await observer.execute("BEGIN; LOCK TABLE agentstore.users IN ACCESS EXCLUSIVE MODE")
    try:
        with pytest.raises(Unavailable, match="AGENTSTORE_LOCK_TIMEOUT"):
            await opened.fetch(ADD_USER, id="alice")
    finally:
        await observer.execute("ROLLBACK")
        await opened.stop()


async def test_pool_timeout_reports_the_size_and_the_connections_in_use(database_url: str, settings: Settings) -> None:
    small = settings.model_copy(update={"pool_size": 2, "pool_timeout": 0.2})
    opened = open_database(database_url, settings=small)
    try:
        await opened.start()
        calls = [asyncio.create_task(opened.fetch(ECHO, value=i, seconds=60.0)) for i in range(2)]
        await _wait_for_checkouts(opened, 2)
        with pytest.raises(PoolTimeout, match="2 of 2 connections in use") as caught:
            await opened.fetch(ECHO, value=3, seconds=0.0)
        assert (caught.value.size, caught.value.in_use) == (2, 2)
        restored = pickle.loads(pickle.dumps(caught.value))  # as when it crosses a process boundary
        assert (str(restored), restored.size, restored.in_use) == (str(caught.value), 2, 2)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    finally:
        await opened.stop()


async def test_connections_are_checked_out_in_order_of_arrival(database_url: str, settings: Settings) -> None:
    opened = open_database(database_url, settings=settings.model_copy(update={"pool_size": 1}))
    order: list[int] = []

    async def call(value: int) -> None:
        await opened.fetch(ECHO, value=value, seconds=0.001)
        order.append(value)

    try:
        await opened.start()
        await asyncio.gather(*(call(value) for value in range(100)))
        assert order == list(range(100))
    finally:
        await opened.stop()


async def test_a_transaction_is_all_or_nothing(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as transaction:
            await transaction.fetch(ADD_USER, id="alice")
            raise ZeroDivisionError
    with pytest.raises(StatementFailed):
        async with database.transaction() as transaction:
            await transaction.fetch(ADD_USER, id="bob")
            await transaction.fetch(ADD_USER, id="bob")
    assert await database.fetch(USERS) == []
    with pytest.raises(FileNotFoundError):  # an OSError of the block is not mistaken for one of the driver
        async with database.transaction() as transaction:
            await transaction.fetch(ADD_USER, id="dave")
            raise FileNotFoundError
    with pytest.raises(StatementFailed, match="rolled back"):
        async with database.transaction() as transaction:
            await transaction.fetch(ADD_USER, id="erin")
            with pytest.raises(StatementFailed):
                await transaction.fetch(ADD_USER, id="erin")
    async with database.transaction() as transaction:
        await transaction.fetch(ADD_USER, id="carol")
    assert await database.fetch(USERS) == [("carol",)]
    await _wait_for_checkouts(database, 0)


async def test_calls_after_stop_raise_closed_until_the_next_start(database_url: str, settings: Settings) -> None:
    opened = open_database(database_url, settings=settings)
    assert not await opened.health()
    assert (await opened.fetch(ECHO, value=1, seconds=0.0))[0][0] == 1
    assert await opened.health()
    await opened.stop()
    assert not await opened.health()
    with pytest.raises(Closed):
        await opened.fetch(USERS)
    with pytest.raises(Closed):
        async with opened.transaction():
            pass
    await opened.start()
    assert await opened.fetch(USERS) == []
    await opened.stop()
    await opened.stop()


async def test_concurrent_first_calls_start_the_database_once(database_url: str, settings: Settings) -> None:
    opened = open_database(database_url, settings=settings)
    prepared = 0
    prepare = opened._prepare
    assert prepare is not None

    async def counted(database: Database) -> None:
        nonlocal prepared
        prepared += 1
        await prepare(database)

    opened._prepare = counted
    await asyncio.gather(*(opened.fetch(USERS) for _ in range(50)))
    assert prepared == 1
    await opened.stop()


async def _connections(observer: asyncpg.Connection) -> int:
    return int(
        await observer.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND backend_type = 'client backend'"
        )
    )


@pytest.mark.slow
async def test_stop_closes_all_connections_during_calls_and_when_cancelled(
    own_tcp_server: tuple[str, int],
) -> None:
    url, _ = own_tcp_server
    observer = await asyncpg.connect(url)
    for cancel in (False, True):
        async with _database(url, auto_migrate="upgrade") as database:
            await asyncio.gather(*(database.fetch(ECHO, value=1, seconds=0.05) for _ in range(5)))
            calls = [asyncio.create_task(database.fetch(ECHO, value=1, seconds=1.0)) for _ in range(3)]
            interrupted = asyncio.create_task(database.fetch(ECHO, value=1, seconds=60.0))
            await _wait_for_checkouts(database, 4)
            interrupted.cancel()
            stopping = asyncio.create_task(database.stop())
            await asyncio.sleep(0)
            if cancel:
                stopping.cancel()
            await asyncio.gather(stopping, return_exceptions=True)
            await asyncio.gather(*calls)
            async with asyncio.timeout(60):
                while await _connections(observer):
                    await asyncio.sleep(0.02)
    await observer.close()


async def test_first_calls_to_a_dead_host_fail_together() -> None:
    async def swallow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(swallow, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with _database(f"postgresql://u@127.0.0.1:{port}/db?sslmode=disable", connect_timeout=0.5) as database:
        took = []
        for calls in (1, 20):
            began = time.monotonic()
            results = await asyncio.gather(*(database.fetch(USERS) for _ in range(calls)), return_exceptions=True)
            assert {type(result) for result in results} == {Unavailable}
            took.append(time.monotonic() - began)
        assert took[1] < 10 * took[0]  # one after another they would take 20 times as long
    listener.close()


async def test_stop_during_start_stops_the_database(database_url: str, settings: Settings) -> None:
    opened = open_database(database_url, settings=settings)
    starting = asyncio.create_task(opened.start())
    await asyncio.sleep(0.001)
    await opened.stop()
    with pytest.raises((Closed, Unavailable)):
        await starting
    with pytest.raises(Closed):
        await opened.fetch(USERS)
    await opened.start()
    assert await opened.fetch(USERS) == []
    await opened.stop()


def test_an_engine_with_another_driver_is_refused() -> None:
    from sqlalchemy import create_mock_engine

    for engine in (object(), create_mock_engine("postgresql://", lambda *_: None)):
        with pytest.raises(NotConfigured, match="asyncpg"):
            AgentStore(engine=engine)  # type: ignore[arg-type]


def test_errors_do_not_show_the_password_of_an_engine() -> None:
    engine = create_async_engine("postgresql+asyncpg://u:hunter2@127.0.0.1:1/db?password=hunter2")
    with pytest.raises(Unavailable) as caught:
        asyncio.run(AgentStore(engine=engine).start())
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("host", ["db..example.com", "x" * 70, "h%00"])
async def test_an_invalid_host_name_raises_a_typed_error(host: str) -> None:
    async with _database(f"postgresql://u@{host}/db") as database:
        with pytest.raises((NotConfigured, Unavailable)):
            await database.start()


async def test_the_callers_engine_is_used_and_never_disposed(server: Server, database_name: str) -> None:
    url = server.url_of(database_name).replace("postgresql://", "postgresql+asyncpg://")
    for arguments in ({}, {"pool_size": 1, "max_overflow": 0, "pool_timeout": 0.2}, {"poolclass": NullPool}):
        engine = create_async_engine(url, **arguments)
        async with AgentStore(engine=engine) as store:
            database = store._database
            await database.fetch(USERS)
            if "pool_timeout" in arguments:
                await _wait_for_checkouts(database, 0)
                call = asyncio.create_task(database.fetch(ECHO, value=1, seconds=60.0))
                await _wait_for_checkouts(database, 1)
                with pytest.raises(PoolTimeout, match="1 of 1 connections in use") as caught:
                    await database.fetch(USERS)
                assert (caught.value.size, caught.value.in_use) == (1, 1)
                call.cancel()
                await asyncio.gather(call, return_exceptions=True)
                await _wait_for_checkouts(database, 0)
        async with engine.connect() as connection:
            assert await connection.scalar(text("SHOW search_path")) == '"$user", public'
        await engine.dispose()


async def test_a_lost_answer_is_retried_if_safe_and_unknown_otherwise(own_tcp_server: tuple[str, int]) -> None:
    url, port = own_tcp_server
    async with Proxy("127.0.0.1", port) as proxy:
        through = url.replace(f":{port}/", f":{proxy.port}/")
        async with _database(through, auto_migrate="upgrade") as database:
            await database.start()
            proxy.cut_after_send = True
            assert await database.fetch(USERS) == []
            proxy.cut_after_send = True
            assert await database.fetch(ADD_USER_ONCE, id="repeated") == []
            await database.fetch(ADD_USER, id="known")  # prepares it, so that the next data sent executes it
            proxy.cut_after_send = True
            with pytest.raises(UnknownOutcome):
                await database.fetch(ADD_USER, id="unknown")
            assert not proxy.cut_after_send
            assert await database.fetch(USERS) == [("known",), ("repeated",), ("unknown",)]


def _raising(sqlstate: str) -> Statement:
    """A write that increments a sequence, which no rollback undoes, and then fails with `sqlstate`."""
    return Statement(text(f"SELECT public.fail('{sqlstate}')"), scope="none", repeatable=False)


@pytest.mark.parametrize(
    ("sqlstate", "expected", "executions"),
    [
        ("40003", UnknownOutcome, 1),  # statement_completion_unknown
        ("08007", UnknownOutcome, 1),  # transaction_resolution_unknown
        ("25P03", Unavailable, 4),  # idle_in_transaction_session_timeout
        ("25P04", StatementTimeout, 1),  # transaction_timeout
        ("57014", StatementTimeout, 1),  # query_canceled, with a message that does not say why
        ("55P03", Unavailable, 1),  # lock_not_available
        ("40001", Unavailable, 4),  # serialization_failure
        ("40002", StatementFailed, 1),  # transaction_integrity_constraint_violation
        ("42P05", NotConfigured, 1),  # duplicate_prepared_statement: a pooler that is not configured
        ("26000", NotConfigured, 1),  # invalid_sql_statement_name, likewise
    ],
)
async def test_the_sqlstate_decides_whether_a_write_is_retried(
    database: Database, observer: asyncpg.Connection, sqlstate: str, expected: type[AgentStoreError], executions: int
) -> None:
    """A write is retried if it had no effect, and neither retried nor reported as rejected if it may have had one."""
    await observer.execute(
        "CREATE SEQUENCE public.executions; "
        "CREATE FUNCTION public.fail(sqlstate text) RETURNS int LANGUAGE plpgsql AS $$ BEGIN "
        "PERFORM nextval('public.executions'); RAISE EXCEPTION USING ERRCODE = sqlstate; END $$"
    )
    with pytest.raises(expected):
        await database.fetch(_raising(sqlstate))
    assert await observer.fetchval("SELECT last_value FROM public.executions") == executions
    with pytest.raises(Unavailable if expected is UnknownOutcome else expected):
        async with database.transaction() as transaction:
            await transaction.fetch(_raising(sqlstate))


async def test_a_lost_repeatable_statement_of_unknown_completion_is_retried(
    database: Database, observer: asyncpg.Connection
) -> None:
    await observer.execute(
        "CREATE SEQUENCE public.executions; "
        "CREATE FUNCTION public.fail_once() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN "
        "IF nextval('public.executions') = 1 THEN RAISE EXCEPTION USING ERRCODE = '40003'; END IF; RETURN 7; END $$"
    )
    assert await database.fetch(Statement(text("SELECT public.fail_once()"), scope="none", repeatable=True)) == [(7,)]


async def test_calls_over_a_silent_network_time_out(
    own_tcp_server: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentstore.database.database._NETWORK_GRACE", 0.2)
    monkeypatch.setattr("agentstore.database.pool._PING_TIMEOUT", 0.2)
    monkeypatch.setattr("agentstore.database.queues._ROLLBACK_TIMEOUT", 0.2)
    url, port = own_tcp_server
    async with Proxy("127.0.0.1", port) as proxy:
        through = url.replace(f":{port}/", f":{proxy.port}/")
        limits = {"statement_timeout": 0.3, "connect_timeout": 0.5}
        async with _database(through, auto_migrate="upgrade", **limits) as database:
            await asyncio.gather(*(database.fetch(ECHO, value=1, seconds=0.05) for _ in range(2)))
            proxy.blackhole = True
            async with asyncio.timeout(60):
                with pytest.raises(UnknownOutcome):
                    await database.fetch(ADD_USER, id="alice")
                with pytest.raises(Unavailable):
                    await database.fetch(USERS)
                proxy.blackhole = False
                await _wait_for_checkouts(database, 0)
                assert await database.fetch(USERS) == []


async def test_an_idle_connection_is_pinged_before_use(
    own_tcp_server: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentstore.database.pool._PING_AFTER", 0.0)
    monkeypatch.setattr("agentstore.database.pool._PING_TIMEOUT", 0.3)
    url, port = own_tcp_server
    async with Proxy("127.0.0.1", port) as first, Proxy("127.0.0.1", port) as second:
        through = url.replace(f"127.0.0.1:{port}/", f"127.0.0.1:{first.port},127.0.0.1:{second.port}/")
        async with _database(through, auto_migrate="upgrade", connect_timeout=2.0) as database:
            await database.start()
            assert first.connections > 0
            first.blackhole = True  # a firewall that has dropped the connection: no reset, no answer
            first.refuse()
            # A write that is not safe to retry succeeds, because it was not sent on that connection.
            assert await database.fetch_one(ADD_USER, id="alice") == ("alice",)


@pytest.mark.slow
async def test_passwords_with_all_printable_characters_and_password_functions(
    own_tcp_server: tuple[str, int],
) -> None:
    import string
    from urllib.parse import quote

    url, port = own_tcp_server
    password = string.printable.strip() + " ü密"
    administrator = await asyncpg.connect(url)
    quoted = password.replace("'", "''")
    await administrator.execute(f"SET standard_conforming_strings = on; CREATE ROLE app LOGIN PASSWORD '{quoted}'")
    await administrator.execute("CREATE DATABASE fresh")
    await administrator.close()
    settings = {"auto_migrate": "off"}
    calls = 0

    def current() -> str:
        nonlocal calls
        calls += 1
        return password

    async def current_async() -> str:
        return current()

    address = f"127.0.0.1:{port}/fresh"
    async with _database(f"postgres://app:{quote(password, safe='')}@{address}", **settings) as database:
        assert await database.fetch(ECHO, value=1, seconds=0.0)
    for function in (current, current_async):
        async with _database(f"postgresql://app:wrong@{address}", password=function, **settings) as database:
            assert await database.fetch(ECHO, value=1, seconds=0.0)
    assert calls == 2
    administrator = await asyncpg.connect(url)
    await administrator.execute("GRANT CREATE ON DATABASE fresh TO app")
    await administrator.close()
    for scheme in ("postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg"):
        environment = {"AGENTSTORE_DATABASE_URL": f"{scheme}://app:{quote(password, safe='')}@{address}"}
        for command in (
            ["plan"],
            ["upgrade"],
            ["check"],
            ["check", "--json"],
            ["downgrade", "base", "--lose-data", "--yes"],
        ):
            done = await asyncio.to_thread(run, *command, environment=environment)
            assert done.code == 0 if command[0] != "check" else done.code in (0, 3), done.err
            for part in (password, quote(password, safe="")):
                assert part not in done.out + done.err
    async with _database(f"postgresql://app:hunter2%21@{address}", **settings) as database:
        with pytest.raises(NotConfigured) as caught:
            await database.fetch(USERS)
        assert "hunter2" not in str(caught.value)


async def test_an_unreachable_server_is_unavailable() -> None:
    async with _database("postgresql://u:hunter2@127.0.0.1:1/db") as database:
        with pytest.raises(Unavailable) as caught:
            await database.start()
        assert "hunter2" not in str(caught.value)
        assert not await database.health()


async def test_deleting_a_user_during_inserts_leaves_no_orphans(
    database: Database, observer: asyncpg.Connection
) -> None:
    """The foreign keys hold under any interleaving: no session without a user, no message without a session."""

    def statement(sql: str, *names: str) -> Statement:
        return Statement(text(sql).bindparams(*(bindparam(name, type_=Text) for name in names)), scope="all")

    add_session = statement(
        "INSERT INTO agentstore.sessions (user_id, id) VALUES (:user, :id) RETURNING 1", "user", "id"
    )
    add_message = statement(
        "INSERT INTO agentstore.messages (user_id, session_id, seq, id, payload) "
        "VALUES (:user, :session, 1, :id, '{}') RETURNING 1",
        "user",
        "session",
        "id",
    )
    delete_user = statement("DELETE FROM agentstore.users WHERE id = :id RETURNING 1", "id")
    rejected = []

    async def write(user: str, number: int) -> None:
        try:
            await database.fetch(add_session, user=user, id=f"s{number}")
            await database.fetch(add_message, user=user, session=f"s{number}", id="m")
        except StatementFailed as error:
            rejected.append(error.sqlstate)

    async def remove(user: str) -> None:
        for _ in range(20):
            await database.fetch(ADD_USER_ONCE, id=user)
            await asyncio.sleep(0.002)
            await database.fetch(delete_user, id=user)

    await asyncio.gather(*(remove(f"u{i}") for i in range(3)), *(write(f"u{i % 3}", i) for i in range(200)))
    assert set(rejected) == {"23503"}
    assert await count_orphans(observer) == 0
