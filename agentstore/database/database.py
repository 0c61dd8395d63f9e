"""Execution of statements on pooled connections, with retries where they are safe and translation of all errors.

SQLAlchemy compiles the statements and owns the pool; asyncpg executes them. A statement is compiled once, to asyncpg's
form, and executed on the pooled asyncpg connection in autocommit: one round trip, without BEGIN and COMMIT.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import asyncpg
from sqlalchemy import PoolProxiedConnection
from sqlalchemy.exc import TimeoutError as QueueTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from agentstore.database.errors import (
    CONNECT_ERRORS,
    DRIVER_ERRORS,
    Outcome,
    classify_error,
    connection_error,
    is_connection_limit,
    translate_error,
    undecodable,
)
from agentstore.database.links import Connect
from agentstore.database.pool import Pool
from agentstore.database.pooler import refuse_transaction_pooler
from agentstore.database.pools import Pools
from agentstore.database.replica import Replica
from agentstore.database.replies import ReplyLimit
from agentstore.database.retry import back_off
from agentstore.database.row_security import REFUSE_FILTERED_VIEWS, set_user_sql
from agentstore.database.server import ServerFacts, check_facts, check_health, read_facts
from agentstore.database.statement import CompiledStatement, Row, Statement
from agentstore.database.telemetry import Execution, Observer, Server, Telemetry
from agentstore.database.transaction import (
    BEGIN,
    BEGIN_SNAPSHOT,
    BEGIN_WRITABLE_SNAPSHOT,
    Transaction,
    set_idle_timeout,
)
from agentstore.errors import AgentStoreError, Closed, LimitExceeded, NotConfigured, StatementFailed, UnknownOutcome
from agentstore.event_loops import PerLoop
from agentstore.schemas.page import Advice
from agentstore.schemas.stats import PoolStats
from agentstore.settings import Settings

T = TypeVar("T")

_log = logging.getLogger(__name__)

# Seconds that the client waits beyond the server's statement_timeout before it considers the network broken.
_NETWORK_GRACE = 5.0
_ATTEMPTS = 4
# With these Citus rejects the form for tables that are not distributed, and Postgres the form for those that are: a
# feature that is not supported, a type that cannot be inferred, a function that does not exist.
_REJECTS_FORM = frozenset({"0A000", "42804", "42P18", "42883"})


class Database:
    """The connection pools that all services of a store share, one for each event loop.

    Starts at the first call. It can be used from several event loops and threads at once, and in forked children.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        connect: Connect | None = None,
        connect_directly: Callable[[], Awaitable[asyncpg.Connection]] | None = None,
        engine: AsyncEngine | None = None,
        replica: Replica | None = None,
        prepare: Callable[["Database"], Awaitable[None]] | None = None,
        on_stop: Callable[[], Awaitable[None]] | None = None,
        where: str = "the database",
        where_directly: str | None = None,
        telemetry: Telemetry | None = None,
        server: Server = Server(),  # noqa: B008 - immutable
    ) -> None:
        """Create a database that is not connected yet; give either `connect` or `engine`.

        Args:
            settings: the store's settings.
            connect: opens a connection.
            connect_directly: opens a connection for migrations that bypasses any pooler; None if there is no way to.
            engine: the caller's engine, which is used and never disposed.
            replica: a replica for reads that may be stale, stopped with this database.
            prepare: awaited once at the start, before the first statement.
            on_stop: awaited at the stop, after the last connection was closed.
            where: how error messages name the database.
            where_directly: the same for `connect_directly`, if it connects with another login or by another route.
            telemetry: where to report what happens.
            server: how spans and metrics name the database.
        """
        if (connect is None) == (engine is None):
            raise TypeError("expected exactly one of connect and engine")
        self.settings = settings
        self.where = where
        self.where_directly = where_directly or where
        self.replica = replica
        self._connect = connect
        self._connect_directly = connect_directly
        self._engine = engine
        self._prepare = prepare
        self._on_stop = on_stop
        self.observer = Observer(settings, telemetry, server)
        self._pools = Pools(settings, self.observer, connect=connect, engine=engine)
        self._started = self._stopped = False
        self._starting: PerLoop[asyncio.Task[None]] = PerLoop()
        # What the next start waits for: the start that a stop has abandoned, and the last stop.
        self._abandoned: PerLoop[asyncio.Task[None]] = PerLoop()
        self._closing: PerLoop[asyncio.Task[None]] = PerLoop()
        self._compiled: dict[Statement, CompiledStatement] = {}
        self._is_distributed = False
        self._secured = settings.row_level_security
        # Whether the server's default isolation level is another one, so that each statement begins a transaction.
        self._isolates = False
        # Whether connections have the settings of repositories/connect.py.
        has_settings = engine is None and settings.pooler == "none"
        self._refuses_filtered_views = has_settings
        # The server enforces statement_timeout on connections that set it. The client enforces it on all others, and
        # a little later where the network loses the response.
        self._timeout = settings.statement_timeout + (_NETWORK_GRACE if has_settings else 0.0)
        self._begin = BEGIN if has_settings else f"{BEGIN}; {set_idle_timeout(settings)}"

    async def start(self) -> None:
        """Connect, and check or upgrade the schema. Idempotent, and safe to call from several tasks at once.

        Of a start and a stop at the same time, the one that was called last takes effect.

        Raises:
            Unavailable, NotConfigured: see :meth:`fetch`.
            NotConfigured: also as :meth:`check_server`.
            SchemaBehind: the schema does not exist, or is older than this release needs.
        """
        self._stopped = False
        if self._started:
            self._get_pool()
            return
        # One task for all callers: each of them gets its error, and canceling one caller does not cancel the start.
        starting = self._starting.get()
        if starting is None or starting.done():
            work = self._start(self._abandoned.get(), self._closing.get())
            starting = asyncio.get_running_loop().create_task(work)
            starting.add_done_callback(lambda task: task.cancelled() or task.exception())
            self._starting.set(starting)
        await asyncio.shield(starting)

    async def stop(self) -> None:
        """Close the pools of all event loops, and those of the replica. Later calls raise Closed, until start()."""
        await asyncio.shield(asyncio.gather(*self._begin_stop()))

    async def health(self, timeout: float = 2.0, *, writable: bool = True) -> bool:
        """Return whether the database works now; see :meth:`agentstore.AgentStore.health`."""
        if not self._started:
            return False
        try:
            async with asyncio.timeout(timeout):
                await self._check_health(writable=writable)
        except (AgentStoreError, TimeoutError) as error:
            _log.warning("%s is not healthy: %s", self.where, error if str(error) else f"no answer in {timeout:g} s")
            return False
        return True

    async def _check_health(self, *, writable: bool) -> None:
        """Check the database on a connection outside of the pool, so that calls and checks do not wait for each other.

        Where no more connections are allowed, one of the pool is used.

        Raises:
            Unavailable, NotConfigured: it does not answer, or accepts no writes.
        """
        try:
            async with self._get_pool().separate_connection() as connection:
                await check_health(connection, writable=writable)
        except (QueueTimeout, *CONNECT_ERRORS) as error:
            if not is_connection_limit(error):
                raise connection_error(error, self.where) from error
            async with self.connection() as connection:
                await check_health(connection, writable=writable)

    async def is_silent(self, timeout: float) -> bool:
        """Return whether the network delivers nothing: no connection, open or new, answers within `timeout` seconds.

        False if that cannot be found out, since all connections are in use.
        """
        try:
            pool = self._get_pool()
            if pool.is_exhausted():
                return False
            pool.suspect_idle()
            async with asyncio.timeout(timeout), self.connection() as connection:
                await connection.fetch("SELECT 1")
        except TimeoutError:
            return True
        except AgentStoreError:
            pass  # an answer, or an error that each call reports by itself
        return False

    async def fetch(self, statement: Statement, /, **values: Any) -> list[Row]:
        """Execute one statement in its own transaction and return its rows.

        Retried automatically where that is safe: the server rolled it back (deadlock, serialization failure), it was
        never sent, or it is repeatable and the response was lost.

        Raises:
            Unavailable: no connection, no response in time, or the server is shutting down. Safe to retry.
            PoolTimeout: all connections were in use for `pool_timeout` seconds.
            UnknownOutcome: the response was lost, and the statement is not repeatable.
            StatementTimeout: it took longer than `statement_timeout`.
            StatementFailed: the server rejected it, most often because of a constraint.
            NotConfigured: the login was rejected, lacks a privilege, or row-level security hides rows from it.
            SchemaBehind: a table or column does not exist.
        """
        return await self._fetch(statement, values, None)

    async def fetch_page(self, statement: Statement, advice: Advice, /, **values: Any) -> list[Row]:
        """Execute a statement that reads like :meth:`fetch`, and refuse a reply of more than `max_reply_bytes`.

        Raises:
            LimitExceeded: the reply is larger; the message ends with `advice`, which says how to read less at a time.
        """
        return await self._fetch(statement, values, advice)

    async def _fetch(self, statement: Statement, values: dict[str, Any], advice: Advice | None) -> list[Row]:
        if not self._started:
            await self._start_unless_stopped()
        try:
            return await self._fetch_once(statement, values, advice)
        except AgentStoreError as error:
            rejected = getattr(error.__cause__, "sqlstate", None) in _REJECTS_FORM
            is_dropped = "cache lookup failed for function" in str(error)  # while the statement was being executed
            if not (rejected or is_dropped) or not await self._has_changed_form():
                raise
        return await self._fetch_once(statement, values, advice)

    async def _has_changed_form(self) -> bool:
        """Return whether the tables have been distributed, or are no longer, since that was last read."""
        async with self.connection() as connection:
            facts = await read_facts(connection, self.settings, self._timeout)
        return self._set_form(facts)

    def _set_form(self, facts: ServerFacts) -> bool:
        """Choose the form of all statements, and return whether it is another one than before."""
        if facts.is_distributed == self._is_distributed:
            return False
        self._is_distributed = facts.is_distributed
        self._compiled.clear()
        return True

    async def _fetch_once(self, statement: Statement, values: dict[str, Any], advice: Advice | None) -> list[Row]:
        compiled = self._compile(statement)
        if not self.observer.measures:
            return await self._execute(statement, compiled, values, advice, None)
        with self.observer.execution(statement.name, compiled.sql) as execution:
            rows = await self._execute(statement, compiled, values, advice, execution)
            execution.rows = len(rows)
            return rows

    async def _execute(
        self,
        statement: Statement,
        compiled: CompiledStatement,
        values: dict[str, Any],
        advice: Advice | None,
        execution: Execution | None,
    ) -> list[Row]:
        arguments = compiled.arguments(values)
        begin = self._begin if self._isolates else None
        if (begin_with := self._begin_with(compiled, values)) is not None:
            begin = f"{self._begin}; {begin_with}"
        for attempt in range(1, _ATTEMPTS + 1):
            pool = self._get_pool()
            pooled = await self._checkout(pool, execution)
            try:
                driver: asyncpg.Connection = pooled.driver_connection  # type: ignore[assignment]
                if begin is not None:
                    await driver.execute(begin, timeout=self._timeout)
                rows: list[Row]
                with pool.deadlines.limit(self._timeout):
                    if advice is None:
                        rows = await driver.fetch(compiled.sql, *arguments)
                    else:
                        with ReplyLimit.begin(driver, self.settings, advice):
                            rows = await driver.fetch(compiled.sql, *arguments)
                if begin is not None:
                    await driver.execute("COMMIT", timeout=self._timeout)
            except DRIVER_ERRORS as error:
                opened_at = pool.opened_at(pooled)
                pool.release_after_error(pooled, error)
                outcome, translated = classify_error(error, self.where)
                if outcome is Outcome.UNKNOWN and not statement.repeatable:
                    self.observer.unknown_outcome(statement.name)
                    raise UnknownOutcome(
                        f"The response of {self.where} to a write was lost; it may have been committed. ({translated})"
                    ) from error
                if outcome is Outcome.REJECTED or attempt == _ATTEMPTS or isinstance(error, TimeoutError):
                    raise translated from error
                if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
                    if not await pool.discard_read_only(opened_at):
                        raise translated from error
                elif isinstance(error, (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)):
                    if isinstance(error, asyncpg.SerializationError) and self._begin != BEGIN and begin is None:
                        self._isolates, begin = True, self._begin  # the server's default has changed since the start
                    await back_off(attempt + 2)
                self.observer.retried(statement.name, error, attempt)
                if execution is not None:
                    execution.attempts += 1
            except LimitExceeded:
                pool.release(pooled)  # discards it
                raise
            except OverflowError as error:
                pool.reset_and_release(pooled)
                raise undecodable(values) from error
            except BaseException:
                pool.reset_and_release(pooled)
                raise
            else:
                pool.release(pooled)
                return rows
        raise AssertionError("unreachable")

    def _begin_with(self, statement: CompiledStatement, values: Mapping[str, Any]) -> str | None:
        """Return the SQL that the transaction of a statement begins with; None if it needs none.

        It sets the user for the policies of row-level security. Without the setting ROW_LEVEL_SECURITY, where a
        connection cannot be set to refuse filtered views, it lets the server refuse those of statements about all
        users; for the others the role was checked at the start.

        Raises:
            NotConfigured: the statement concerns all users, and the setting restricts each to one.
        """
        if not self._secured:
            return REFUSE_FILTERED_VIEWS if statement.scope == "all" and not self._refuses_filtered_views else None
        if statement.scope == "all":
            raise NotConfigured(
                "This call concerns all users, and AGENTSTORE_ROW_LEVEL_SECURITY restricts each statement to one user: "
                "run it without that setting, as a role with BYPASSRLS."
            )
        return set_user_sql(values["user_id"]) if statement.scope == "user" else None

    async def fetch_one(self, statement: Statement, /, **values: Any) -> Row | None:
        """Execute a statement like :meth:`fetch` and return its first row, or None."""
        rows = await self.fetch(statement, **values)
        return rows[0] if rows else None

    async def read(self, work: Callable[["Database"], Awaitable[T]], *, stale_ok: bool) -> T:
        """Return the result of `work`, which reads from the database that it receives and writes nothing.

        With `stale_ok` it is the replica, if there is one and it works. Otherwise, or if `work` fails there, it is this
        database, for which it may be called a second time.
        """
        if not stale_ok or self.replica is None:
            return await work(self)
        if not self._started:
            await self._start_unless_stopped()
        return await self.replica.read(work, self)

    @asynccontextmanager
    async def transaction(self, *, snapshot: bool = False, read_only: bool = True) -> AsyncIterator[Transaction]:
        """Open a transaction, commit it at the end of the block, and roll it back if the block raises.

        For what one statement cannot do: it is never retried, and holds a connection. With `snapshot` all its
        statements see the same snapshot (REPEATABLE READ). It only reads then, unless `read_only` is false, and may
        insert rows, but not change any: a concurrent change would fail it.

        Raises:
            UnknownOutcome: the response to the commit was lost.
            StatementFailed: the server rolled back, because a statement of the block had failed.
        """
        if not self._started:
            await self._start_unless_stopped()
        pool = self._get_pool()
        pooled = await self._checkout(pool)
        transaction = Transaction(
            pooled.driver_connection,  # type: ignore[arg-type]
            compile_statement=self._compile,
            begin_with=self._begin_with,
            timeout=self._timeout,
            where=self.where,
            settings=self.settings,
            observer=self.observer,
        )
        try:
            if snapshot and read_only:
                await transaction.execute(BEGIN_SNAPSHOT)
            else:
                await transaction.execute(
                    self._begin.replace(BEGIN, BEGIN_WRITABLE_SNAPSHOT) if snapshot else self._begin
                )
            yield transaction
            if await transaction.execute("COMMIT") != "COMMIT":
                raise StatementFailed(
                    f"{self.where} rolled back the transaction, since one of its statements had failed", "25P02"
                )
        except BaseException as error:
            opened_at = pool.opened_at(pooled)
            if isinstance(error.__cause__, TimeoutError):
                pool.note_silence()
            pool.reset_and_release(pooled)
            if isinstance(error.__cause__, asyncpg.ReadOnlySQLTransactionError):
                await pool.discard_read_only(opened_at)
            raise
        else:
            pool.release(pooled)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """Check out a connection from the pool, whether the database has started or not."""
        pool = self._get_pool()
        pooled = await self._checkout(pool)
        try:
            yield pooled.driver_connection  # type: ignore[misc]
        except DRIVER_ERRORS as error:
            pool.release_after_error(pooled, error)
            raise translate_error(error, self.where) from error
        except BaseException:
            pool.reset_and_release(pooled)
            raise
        else:
            pool.release(pooled)

    async def check_server(self) -> ServerFacts:
        """Check what a store needs of the server and of its role, as the start does; return the facts.

        Raises:
            NotConfigured: the database's encoding is not UTF8, or row-level security hides rows from the role and the
                setting ROW_LEVEL_SECURITY is off.
        """
        async with self.connection() as connection:
            if self._connect is not None and self.settings.pooler == "none":
                await refuse_transaction_pooler(connection, self._connect, self.where)
            facts = await read_facts(connection, self.settings, self._timeout)
        check_facts(facts, self.settings, self.where)
        return facts

    @asynccontextmanager
    async def migration_engine(self) -> AsyncIterator[AsyncEngine]:
        """Open an engine for migrations, without a pool: session settings of a migration never reach other calls.

        Raises:
            NotConfigured: the URL is a pooler's, and no direct connection is configured.
        """
        if self._engine is not None:
            yield self._engine
            return
        if self._connect_directly is None:
            raise NotConfigured(
                "Migrations need a direct connection, and AGENTSTORE_POOLER or a parameter of the database URL "
                "(pgbouncer, statement_cache_size) says that the URL is a pooler's: set "
                "AGENTSTORE_MIGRATION_DATABASE_URL."
            )
        connect = self._connect_directly
        opened: list[asyncpg.Connection] = []

        async def connect_and_note() -> asyncpg.Connection:
            opened.append(await connect())
            return opened[-1]

        engine = create_async_engine(
            "postgresql+asyncpg://", async_creator=connect_and_note, poolclass=NullPool, hide_parameters=True
        )
        try:
            yield engine
        finally:
            await engine.dispose()
            # Of a connection whose set-up is canceled, SQLAlchemy before 2.1.9 closes nothing.
            for connection in opened:
                if not connection.is_closed():
                    connection.terminate()

    @property
    def is_distributed(self) -> bool:
        """Whether the tables are distributed over the servers of a Citus cluster, as found at the start."""
        return self._is_distributed

    def limit_concurrency(self, wanted: int) -> int:
        """Return how many of the `wanted` connections one call may use at once: at most a quarter of the pool.

        With the caller's engine, whose pool size is not known, it is one.
        """
        return 1 if self._engine is not None else max(1, min(wanted, self.settings.pool_size // 4))

    def checked_out(self) -> int:
        """Return how many connections are checked out, including those being reset after a canceled call."""
        return sum(pool.checked_out() for pool in self._pools.values())

    def pool_stats(self) -> PoolStats:
        """Return how many connections are open, in use and waited for."""
        size = self.settings.pool_size if self._engine is None else 0
        found = sum((pool.stats() for pool in self._pools.values()), PoolStats(size, self._pools.detached(), 0, 0))
        if self._engine is not None:
            return found
        # A connection that passes to another event loop meanwhile may be counted in both.
        in_use = min(found.in_use, size)
        return PoolStats(found.size, min(found.idle, size - in_use), in_use, found.waiting)

    async def _start(self, *previous: asyncio.Task[None] | None) -> None:
        await _wait_for(*previous)
        self.observer.start(self.pool_stats)
        try:
            facts = await self.check_server()
            self._isolates = facts.isolates
            self._set_form(facts)
            if self._prepare is not None:
                await self._prepare(self)
        except BaseException:
            # A caller whose start() failed does not call stop().
            self._stop_observing_unless_started()
            await asyncio.shield(self._begin_close(self._pools.pop()))
            raise
        if self._starting.get() is not asyncio.current_task():
            self._stop_observing_unless_started()
            await asyncio.shield(self._begin_close(self._pools.pop()))
            raise Closed("The store was stopped while it was starting: call start() to use it again.")
        self._started = True

    def _stop_observing_unless_started(self) -> None:
        if not self._started:  # in another event loop
            self.observer.stop()

    def _begin_stop(self) -> list[asyncio.Task[None]]:
        """Stop, and return the tasks that close the pools: a canceled stop() still closes everything."""
        self._started, self._stopped = False, True
        if (starting := self._starting.get()) is not None:
            self._abandoned.set(starting)
        self._starting.clear()
        self.observer.stop()
        replica = [] if self.replica is None else self.replica.database._begin_stop()
        return [self._begin_close(*self._pools.clear()), *replica]

    def _begin_close(self, *pools: Pool | None) -> asyncio.Task[None]:
        work = self._close(pools, self._closing.get())
        closing = asyncio.get_running_loop().create_task(work)
        self._closing.set(closing)
        return closing

    async def _close(self, pools: tuple[Pool | None, ...], previous: asyncio.Task[None] | None) -> None:
        await _wait_for(previous)
        try:
            await asyncio.gather(*(self._pools.close(pool) for pool in pools if pool is not None))
        finally:
            if not self._pools.values():
                await self._pools.close_detached()
                if self._on_stop is not None:
                    await self._on_stop()

    async def _start_unless_stopped(self) -> None:
        if self._stopped:
            raise Closed("The store was stopped: call start() to use it again.")
        await self.start()

    def _compile(self, statement: Statement) -> CompiledStatement:
        compiled = self._compiled.get(statement)
        if compiled is None:
            compiled = self._compiled[statement] = CompiledStatement(
                statement, self.settings, citus=self._is_distributed
            )
        return compiled

    def _get_pool(self) -> Pool:
        pool = self._pools.get()
        if pool is not None:
            return pool
        if self._stopped:
            raise Closed("The store was stopped: call start() to use it again.")
        return self._pools.open()

    async def _checkout(self, pool: Pool, execution: Execution | None = None) -> PoolProxiedConnection:
        began = time.perf_counter() if self.observer.measures else None
        try:
            pooled = await pool.checkout(self.settings.pool_timeout)
            if began is not None:
                waited = time.perf_counter() - began
                self.observer.waited(waited)
                if execution is not None:
                    execution.waited += waited
            return pooled
        except (QueueTimeout, *CONNECT_ERRORS) as error:
            if isinstance(error, QueueTimeout):
                raise pool.timeout_error(
                    "No connection of the engine became free in time: {}. Raise the engine's pool_size, or find out "
                    "what holds the connections."
                ) from error
            raise connection_error(error, self.where) from error


async def _wait_for(*tasks: asyncio.Task[None] | None) -> None:
    """Wait until the tasks are done, with whatever result."""
    if given := [task for task in tasks if task is not None]:
        await asyncio.wait(given)
