"""The database: executes statements on pooled connections, retries what is safe, and translates every error.

SQLAlchemy writes the statements and owns the pool; the driver executes them. A statement is compiled once, to the form
that asyncpg takes, and executed on the pooled asyncpg connection: one round trip, no transaction commands.
"""

import asyncio
import gc
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy import PoolProxiedConnection
from sqlalchemy.exc import TimeoutError as QueueTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from agentstore.database.errors import CONNECT_ERRORS, DRIVER_ERRORS, Fate, connection_error, translate_error
from agentstore.database.pool import Pool
from agentstore.database.row_security import for_user
from agentstore.database.statement import CompiledStatement, Row, Statement
from agentstore.database.transaction import Transaction
from agentstore.database.url import Connect
from agentstore.errors import AgentStoreError, Closed, NotConfigured, StatementFailed, UnknownOutcome
from agentstore.settings import Settings

_log = logging.getLogger(__name__)

# The server's own timeout answers first; this much later the network is to blame.
_NETWORK_GRACE = 5.0
_ATTEMPTS = 4


class Database:
    """One engine and its pool, for every service of a store.

    It starts by itself at the first call. It may be used from one event loop at a time: when the loop of its
    connections is closed, the next one gets a pool of its own.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        connect: Connect | None = None,
        connect_directly: Connect | None = None,
        engine: AsyncEngine | None = None,
        prepare: Callable[["Database"], Awaitable[None]] | None = None,
        release: Callable[[], Awaitable[None]] | None = None,
        where: str = "the database",
    ) -> None:
        """`connect` opens a connection, `connect_directly` one for migrations around any pooler, if there is a way.

        `engine` is used instead of them and never disposed. `prepare` is awaited once, before the first statement,
        `release` at the stop, after the last; `where` names the database in errors.
        """
        if (connect is None) == (engine is None):
            raise TypeError("either connect or engine")
        self.settings = settings
        self.where = where
        self._connect = connect
        self._connect_directly = connect_directly
        self._engine = engine
        self._prepare = prepare
        self._release = release
        self._pool: Pool | None = None
        self._started = self._stopped = False
        self._starting: asyncio.Task[None] | None = None
        self._compiled: dict[Statement, CompiledStatement] = {}
        self._secured = settings.row_level_security
        # The server ends a statement that runs too long, where it was told to; the client where it could not be, and
        # where the network does not bring the answer.
        told = engine is None and settings.pooler == "none"
        self._timeout = settings.statement_timeout + (_NETWORK_GRACE if told else 0.0)

    async def start(self) -> None:
        """Connect, and prepare what the database needs. Safe to call again, and from many tasks at once.

        Raises:
            Unavailable, NotConfigured: see :meth:`fetch`.
            SchemaBehind: the schema is not there, or older than this release.
        """
        self._stopped = False
        if self._started:
            self._pool_of_this_loop()
            return
        # One task for everybody who waits: they all get its error, and a cancelled one does not take it along.
        loop = asyncio.get_running_loop()
        if self._starting is None or self._starting.done() or self._starting.get_loop() is not loop:
            self._starting = loop.create_task(self._start())
            self._starting.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._starting)

    async def stop(self) -> None:
        """Close the pool. Calls raise Closed from now on, until start() is called."""
        self._started, self._stopped = False, True
        await self._close()

    async def health(self) -> bool:
        """Return whether the database answers, by a round trip. False before start and after stop; never raises."""
        if not self._started:
            return False
        try:
            async with self.connection() as connection:
                await connection.fetch("SELECT 1", timeout=self._timeout)
        except AgentStoreError as error:
            _log.warning("%s is not healthy: %s", self.where, error)
            return False
        return True

    async def fetch(self, statement: Statement, /, **values: Any) -> list[Row]:
        """Say one statement, in a transaction of its own, and return its rows.

        Said again by itself where that is safe: the server undid it (a deadlock, a serialization failure), it never
        arrived, or it is repeatable and the answer was lost.

        Raises:
            Unavailable: no connection, no answer in time, or the server is shutting down; the call may be repeated.
            PoolTimeout: every connection was in use for `pool_timeout` seconds.
            UnknownOutcome: the answer was lost, and the statement is not repeatable.
            StatementFailed: the server refused it: a constraint, most of all.
            NotConfigured: the login or the rights do not suffice.
            SchemaBehind: a table or column is not there.
        """
        if not self._started:
            await self._start_unless_stopped()
        compiled = self._compile(statement)
        arguments = compiled.arguments(values)
        named = self._named(values) if self._secured else None
        for attempt in range(1, _ATTEMPTS + 1):
            pool = self._pool_of_this_loop()
            held = await self._checkout(pool)
            try:
                driver: asyncpg.Connection = held.driver_connection  # type: ignore[assignment]
                if named is not None:
                    await driver.execute(f"BEGIN; {named}", timeout=self._timeout)
                rows: list[Row] = await driver.fetch(compiled.sql, *arguments, timeout=self._timeout)
                if named is not None:
                    await driver.execute("COMMIT", timeout=self._timeout)
            except DRIVER_ERRORS as error:
                pool.take_back_after(held, error)
                fate, translated = translate_error(error, self.where)
                if fate is Fate.UNKNOWN and not statement.repeatable:
                    raise UnknownOutcome(
                        f"The answer of {self.where} to a write was lost; it may have happened. ({translated})"
                    ) from error
                if fate is Fate.REFUSED or attempt == _ATTEMPTS or isinstance(error, TimeoutError):
                    raise translated from error
                if isinstance(error, (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)):
                    await asyncio.sleep(random.random() * 0.01 * 2**attempt)  # noqa: S311
            except BaseException:
                pool.take_back_interrupted(held)
                raise
            else:
                pool.take_back(held)
                return rows
        raise AssertionError("unreachable")

    def _named(self, values: Mapping[str, Any]) -> str:
        """Return what names the user of a statement to the server.

        Raises:
            NotConfigured: it is about more than one.
        """
        if (user_id := values.get("user_id")) is None:
            raise NotConfigured(
                "This is about all users, and with AGENTSTORE_ROW_LEVEL_SECURITY one is seen at a time: let a role "
                "with BYPASSRLS do it, without that setting."
            )
        return for_user(user_id)

    async def fetch_one(self, statement: Statement, /, **values: Any) -> Row | None:
        """Like :meth:`fetch`; return the first row, or None."""
        rows = await self.fetch(statement, **values)
        return rows[0] if rows else None

    @asynccontextmanager
    async def transaction(self, *, snapshot: bool = False) -> AsyncIterator[Transaction]:
        """Several statements in one transaction, committed at the end of the block, rolled back if it raises.

        Never said again by itself, and holds a connection: for what one statement cannot say. With `snapshot` all of
        them see what there was at the first, and write nothing.

        Raises:
            UnknownOutcome: the answer to the commit was lost.
        """
        if not self._started:
            await self._start_unless_stopped()
        pool = self._pool_of_this_loop()
        held = await self._checkout(pool)
        transaction = Transaction(
            held.driver_connection,  # type: ignore[arg-type]
            compile_statement=self._compile,
            name_user=self._named if self._secured else None,
            timeout=self._timeout,
            where=self.where,
        )
        try:
            await transaction.command("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY" if snapshot else "BEGIN")
            yield transaction
            if await transaction.command("COMMIT") != "COMMIT":
                raise StatementFailed(f"{self.where} rolled back, since a statement of the transaction failed", "25P02")
        except BaseException:
            pool.take_back_interrupted(held)
            raise
        else:
            pool.take_back(held)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """Borrow a connection of the pool, whether the database has started or not."""
        pool = self._pool_of_this_loop()
        held = await self._checkout(pool)
        try:
            yield held.driver_connection  # type: ignore[misc]
        except DRIVER_ERRORS as error:
            pool.take_back_after(held, error)
            raise translate_error(error, self.where)[1] from error
        except BaseException:
            pool.take_back_interrupted(held)
            raise
        else:
            pool.take_back(held)

    @asynccontextmanager
    async def migration_engine(self) -> AsyncIterator[AsyncEngine]:
        """An engine for migrations, whose session settings never reach the pool: its connections are not kept."""
        if self._engine is not None:
            yield self._engine
            return
        if self._connect_directly is None:
            raise NotConfigured(
                "Migrations need a direct connection, and AGENTSTORE_POOLER says that the URL is a pooler's: set "
                "AGENTSTORE_MIGRATION_DATABASE_URL."
            )
        engine = create_async_engine(
            "postgresql+asyncpg://", async_creator=self._connect_directly, poolclass=NullPool, hide_parameters=True
        )
        try:
            yield engine
        finally:
            await engine.dispose()

    def share(self, connections: int) -> int:
        """Return how many connections one call may use at a time, of so many: others are to find some free.

        Of a caller's engine one: what it has is not known.
        """
        return 1 if self._engine is not None else max(1, min(connections, self.settings.pool_size // 4))

    def checked_out(self) -> int:
        """Return how many connections are in use, those included that a cancelled call is being cleaned from."""
        return 0 if self._pool is None else self._pool.checked_out()

    async def _start(self) -> None:
        try:
            async with self.connection():
                pass
            if self._prepare is not None:
                await self._prepare(self)
        except BaseException:
            await self._close()  # nobody stops what did not start
            raise
        if self._stopped:
            await self._close()
            raise Closed("The store was stopped while it started.")
        self._started = True

    async def _close(self) -> None:
        pool, self._pool = self._pool, None
        # In a task of its own: a stop that is cancelled closes everything all the same.
        await asyncio.shield(asyncio.get_running_loop().create_task(self._close_pool(pool)))

    async def _close_pool(self, pool: "Pool | None") -> None:
        try:
            if pool is not None and pool.loop is asyncio.get_running_loop():
                await pool.close()
        finally:
            if self._release is not None:
                await self._release()

    async def _start_unless_stopped(self) -> None:
        if self._stopped:
            raise Closed("The store was stopped: call start() to use it again.")
        await self.start()

    def _compile(self, statement: Statement) -> CompiledStatement:
        compiled = self._compiled.get(statement)
        if compiled is None:
            compiled = self._compiled[statement] = CompiledStatement(statement, self.settings)
        return compiled

    def _pool_of_this_loop(self) -> Pool:
        loop = asyncio.get_running_loop()
        pool = self._pool
        if pool is not None and pool.loop is loop:
            return pool
        if pool is not None and not pool.loop.is_closed():
            raise AgentStoreError(
                "This store is in use in another event loop, which is still open: connections belong to the loop that "
                "opened them. Make one store for each loop, or stop() it there first."
            )
        if self._stopped:
            raise Closed("The store was stopped: call start() to use it again.")
        if pool is not None:
            if pool.keeps_connections_of(self._engine):
                raise AgentStoreError(
                    "The engine's connections belong to an event loop that is closed: await engine.dispose() before a "
                    "loop ends, or make the engine with poolclass=NullPool."
                )
            pool = self._pool = None
            gc.collect()  # closes the sockets of the old loop's connections, which it has left open
        engine, slots = self._engine, None
        if engine is None:
            size = self.settings.pool_size
            slots = asyncio.Semaphore(size)
            engine = create_async_engine(
                "postgresql+asyncpg://",
                async_creator=self._connect,
                pool_size=size,
                max_overflow=0,
                pool_use_lifo=True,
                pool_reset_on_return=None,  # what is returned is in no transaction: see take_back
                hide_parameters=True,
            )
        self._pool = Pool(loop, engine, slots)
        return self._pool

    async def _checkout(self, pool: Pool) -> PoolProxiedConnection:
        try:
            return await pool.checkout(self.settings.pool_timeout)
        except (QueueTimeout, *CONNECT_ERRORS) as error:
            if isinstance(error, QueueTimeout):
                raise pool.timed_out("No connection of the engine was free in time: {}.") from error
            raise connection_error(error, self.where) from error
