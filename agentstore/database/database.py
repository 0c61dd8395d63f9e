"""The database: its connections, the statements said on them, and the translation of every error into ours.

SQLAlchemy writes the statements and owns the pool; the driver says them. A statement is compiled once, to the form
that asyncpg speaks, and said on the asyncpg connection that the pool lends: one round trip, no transaction commands.
"""

import asyncio
import gc
import logging
import random
import re
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import Enum, auto
from typing import Any

import asyncpg
import sqlalchemy
from sqlalchemy import BindParameter, ClauseElement, ColumnElement, PoolProxiedConnection, Select, select
from sqlalchemy.dialects.postgresql.asyncpg import AsyncAdapt_asyncpg_dbapi, PGCompiler_asyncpg, PGDialect_asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as QueueTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool, QueuePool
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.util import greenlet_spawn

from agentstore.database.row_security import for_user
from agentstore.database.url import Connect
from agentstore.errors import (
    AgentStoreError,
    Closed,
    LimitExceeded,
    NotConfigured,
    PoolTimeout,
    SchemaBehind,
    StatementFailed,
    Unavailable,
    UnknownOutcome,
)
from agentstore.settings import Settings

_log = logging.getLogger(__name__)

Row = asyncpg.Record

# A connection that was idle for longer is asked for a sign of life first: firewalls forget idle connections
# without a word, and a write sent into one would end as UnknownOutcome.
_PING_AFTER = 15.0
# How long a sign of life may take, and the end of a statement that was cancelled.
_PING_TIMEOUT = 5.0
# The server's own timeout answers first; this much later the network is to blame.
_NETWORK_GRACE = 5.0
_ATTEMPTS = 4


class Statement:
    """A statement, as a SQLAlchemy construct; the values of its bind parameters are given when it is said.

    Compared by identity: make each one once, as a constant.
    """

    __slots__ = ("construct", "repeatable")

    def __init__(self, construct: ClauseElement, *, repeatable: bool | None = None) -> None:
        """`repeatable`: whether saying it again, when the answer was lost, changes nothing more and answers the same.

        True by default for what only reads.
        """
        self.construct = construct
        if repeatable is None:
            repeatable = isinstance(construct, Select) and not _writes(construct)
        self.repeatable = repeatable


def _writes(construct: ClauseElement) -> bool:
    """Whether any part of a statement writes. Each part is looked at once: in a statement they are shared."""
    seen: dict[int, object] = {}
    parts = [construct]
    while parts:
        part = parts.pop()
        if id(part) in seen:
            continue
        seen[id(part)] = part
        if isinstance(part, UpdateBase):
            return True
        parts.extend(part.get_children())
    return False


def unplanned(value: ColumnElement[Any]) -> ColumnElement[Any]:
    """A parameter, or what is computed of some, at whose value the planner does not look.

    Postgres plans a prepared statement anew at each call where plans for the values seem cheaper than the one for no
    values in particular: for arrays shorter than ten, for a filter that is null. Where the plan is the same for all
    values, this keeps it from that, which takes longer than many a statement.
    """
    return select(value).scalar_subquery()


_SETTING = "setting_"


class _Compiler(PGCompiler_asyncpg):
    """Writes what is the same at every call into the text: a parameter is encoded, sent and bound by each of them."""

    def visit_bindparam(self, bindparam: BindParameter[Any], **options: Any) -> str:  # type: ignore[override]
        if bindparam.key.startswith(_SETTING):
            assert isinstance(self.dialect, _Dialect)  # noqa: S101
            value = getattr(self.dialect.settings, bindparam.key.removeprefix(_SETTING))
            if value is None:
                return "NULL"
            bindparam = BindParameter(bindparam.key, value, type_=bindparam.type)
        if not bindparam.required and isinstance(bindparam.value, (int, str)):
            options["literal_binds"] = True
        text: str = super().visit_bindparam(bindparam, **options)  # type: ignore[no-untyped-call]
        return text


class _Dialect(PGDialect_asyncpg):
    statement_compiler = _Compiler

    def __init__(self, settings: Settings) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.settings = settings


class _Compiled:
    """A statement in the driver's form: its text, and the order of its parameters.

    A parameter whose name begins with ``setting_`` is that setting, as a constant.
    """

    __slots__ = ("_constants", "_names", "sql")

    def __init__(self, statement: Statement, settings: Settings) -> None:
        compiled = statement.construct.compile(
            dialect=_Dialect(settings),
            schema_translate_map={None: settings.schema},
            render_schema_translate=True,
        )
        assert isinstance(compiled, SQLCompiler)  # noqa: S101
        self.sql = compiled.string
        self._names = tuple(compiled.positiontup or ())
        self._constants = {name: compiled.params[name] for name in self._names if not compiled.binds[name].required}

    def arguments(self, values: dict[str, Any]) -> list[Any]:
        if self._constants:
            values = {**self._constants, **values}
        return [values[name] for name in self._names]


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
        self._pool: _Pool | None = None
        self._started = self._stopped = False
        self._starting: asyncio.Task[None] | None = None
        self._compiled: dict[Statement, _Compiled] = {}
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
            except _DRIVER_ERRORS as error:
                pool.take_back_after(held, error)
                fate, translated = _judge(error, self.where)
                if fate is _Fate.UNKNOWN and not statement.repeatable:
                    raise UnknownOutcome(
                        f"The answer of {self.where} to a write was lost; it may have happened. ({translated})"
                    ) from error
                if fate is _Fate.REFUSED or attempt == _ATTEMPTS or isinstance(error, TimeoutError):
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

    def _named(self, values: dict[str, Any]) -> str:
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
    async def transaction(self, *, snapshot: bool = False) -> AsyncIterator["Transaction"]:
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
        transaction = Transaction(self, held.driver_connection)  # type: ignore[arg-type]
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
        except _DRIVER_ERRORS as error:
            pool.take_back_after(held, error)
            raise _judge(error, self.where)[1] from error
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

    async def _close_pool(self, pool: "_Pool | None") -> None:
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

    def _compile(self, statement: Statement) -> _Compiled:
        compiled = self._compiled.get(statement)
        if compiled is None:
            compiled = self._compiled[statement] = _Compiled(statement, self.settings)
        return compiled

    def _pool_of_this_loop(self) -> "_Pool":
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
        self._pool = _Pool(loop, engine, slots)
        return self._pool

    async def _checkout(self, pool: "_Pool") -> PoolProxiedConnection:
        try:
            return await pool.checkout(self.settings.pool_timeout)
        except (QueueTimeout, *CONNECT_ERRORS) as error:
            if isinstance(error, QueueTimeout):
                raise pool.timed_out("No connection of the engine was free in time: {}.") from error
            raise connection_error(error, self.where) from error


class Transaction:
    """Statements that are said in one transaction: what :meth:`Database.transaction` gives."""

    def __init__(self, database: Database, driver: asyncpg.Connection) -> None:
        self._database = database
        self._driver = driver
        self._timeout: float | None = database._timeout

    async def fetch(self, statement: Statement, /, **values: Any) -> list[Row]:
        """Say a statement and return its rows. Errors are those of :meth:`Database.fetch`."""
        compiled = self._database._compile(statement)
        if self._database._secured:
            await self._fetch(self._database._named(values))
        return await self._fetch(compiled.sql, *compiled.arguments(values))

    async def fetch_each(self, statement: Statement, many: Sequence[Mapping[str, Any]]) -> list[Row]:
        """Say a statement with each of these values, and return the rows of all: one way to the server and back."""
        if self._database._secured:
            return [row for values in many for row in await self.fetch(statement, **values)]
        compiled = self._database._compile(statement)
        arguments = [compiled.arguments(dict(values)) for values in many]
        try:
            return await self._driver.fetchmany(compiled.sql, arguments, timeout=self._timeout)
        except _DRIVER_ERRORS as error:
            raise _judge(error, self._database.where)[1] from error

    async def without_a_limit(self) -> None:
        """Let the statements of this transaction take as long as they do: limits are for those of an application."""
        await self.command("SET LOCAL statement_timeout = 0")
        self._timeout = None

    async def copy_out(self, statement: Statement, write: Callable[[bytes], Any], /, **values: str) -> int:
        """Say a statement that reads texts without a line break, give them to `write`, a line each, and count them.

        No more is held than a row and what the network gives at a time: the server waits for `write`.
        """
        compiled = self._database._compile(statement)
        arguments = compiled.arguments(values)
        # COPY takes no parameters.
        said = ", ".join(f"quote_literal(${number}::text)" for number in range(1, len(arguments) + 1))
        (quoted,) = await self._fetch(f"SELECT {said}", *arguments)
        sql = re.sub(r"\$(\d+)", lambda number: str(quoted[int(number[1]) - 1]), compiled.sql)

        async def output(data: bytes) -> None:
            write(data)

        try:
            # Of CSV, whose marks are in no text, every other letter stays as it is.
            done = await self._driver.copy_from_query(sql, output=output, format="csv", delimiter="\x02", quote="\x01")
        except _DRIVER_ERRORS as error:
            raise _judge(error, self._database.where)[1] from error
        return int(done.removeprefix("COPY "))

    async def copy(
        self, table: str, columns: Sequence[str], source: AsyncIterator[bytes], *, schema: str | None = None
    ) -> int:
        """Copy rows in Postgres's text format into a table, and return how many; without `schema` a temporary one."""
        try:
            done = await self._driver.copy_to_table(
                table, schema_name=schema, columns=columns, source=source, format="text"
            )
        except _DRIVER_ERRORS as error:
            raise _judge(error, self._database.where)[1] from error
        return int(done.removeprefix("COPY "))

    async def query(self, sql: str) -> list[Row]:
        """Say what has no parameters and reads, as of a table that a :class:`Statement` cannot know."""
        return await self._fetch(sql)

    async def _fetch(self, sql: str, *arguments: Any) -> list[Row]:
        try:
            return await self._driver.fetch(sql, *arguments, timeout=self._timeout)
        except _DRIVER_ERRORS as error:
            raise _judge(error, self._database.where)[1] from error

    async def command(self, command: str) -> str:
        """Say what has no parameters and returns no rows, as BEGIN or COMMIT, and return what the server did."""
        try:
            return await self._driver.execute(command, timeout=self._timeout)
        except _DRIVER_ERRORS as error:
            fate, translated = _judge(error, self._database.where)
            if command == "COMMIT" and fate is _Fate.UNKNOWN:
                raise UnknownOutcome(
                    f"The answer to a commit was lost; it may have happened. ({translated})"
                ) from error
            raise translated from error


# Before 2.1 the queue of a pool that has opened all its connections is waited for, also where one is in it.
_TAKES_AT_ONCE = tuple(map(int, sqlalchemy.__version__.split(".")[:2])) >= (2, 1)


class _Pool:
    """SQLAlchemy's pool in one event loop, with a fair queue before it and the care that asyncio needs.

    ``slots`` is that queue: SQLAlchemy's own does not serve in order of arrival. Without it (an engine of the
    caller's) the pool's own limits rule.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, engine: AsyncEngine, slots: asyncio.Semaphore | None) -> None:
        self.loop = loop
        self._engine = engine
        self._slots = slots
        self._size = slots._value if slots is not None else 0
        self._idle = self._opening = 0
        self._closed = False
        self._tasks: set[asyncio.Task[Any]] = set()
        self._verify_before = self._discard_before = 0.0
        self._queue = engine.sync_engine.pool

    async def checkout(self, timeout: float) -> PoolProxiedConnection:
        """Wait for a connection that works."""
        if self._slots is not None:
            if self._slots.locked():
                await self._wait_for_slot(self._slots, timeout)
            else:
                await self._slots.acquire()
        try:
            while True:
                # Where all that the pool has are connections that work, it has nothing to wait for: no greenlet is
                # needed, and no task. While another call is at it, nobody knows which one that will get.
                if _TAKES_AT_ONCE and not self._opening and 0 < self._idle == self._checked_in():
                    held = self._queue.connect()
                    idle_since = self._idle_since(held)
                else:
                    held, idle_since = await self._open()
                if await self._works(held, idle_since):
                    return held
        except BaseException:
            self._release_slot()
            raise

    def take_back(self, held: PoolProxiedConnection) -> None:
        """Return a connection after a statement that was answered."""
        driver = held.driver_connection
        unwanted = self._closed and self._slots is not None
        if unwanted or driver.is_closed() or driver.is_in_transaction():  # type: ignore[union-attr]
            held.invalidate()
        else:
            self._return(held)
        self._release_slot()

    def take_back_after(self, held: PoolProxiedConnection, error: BaseException) -> None:
        """Return a connection after a statement that failed."""
        if isinstance(error, TimeoutError):
            self.take_back_interrupted(held)
            return
        if isinstance(error, asyncpg.ReadOnlySQLTransactionError):
            # A failover: this server, and so every connection of now, is not the one that takes writes.
            self._discard_before = time.monotonic()
            held.invalidate()
            self._release_slot()
            return
        if held.driver_connection.is_closed():  # type: ignore[union-attr]
            self._verify_before = time.monotonic()
        if held.driver_connection.is_in_transaction():  # type: ignore[union-attr]
            self.take_back_interrupted(held)
        else:
            self.take_back(held)

    def take_back_interrupted(self, held: PoolProxiedConnection) -> None:
        """Return a connection in the middle of something, once the server has ended it; the caller does not wait."""
        if held.driver_connection.is_closed():  # type: ignore[union-attr]
            self.take_back(held)
        else:
            self._in_background(self._clean(held))

    async def close(self) -> None:
        """Close every connection, unless the engine is the caller's; those in use when they are returned."""
        self._closed = True
        while self._tasks:
            await asyncio.wait(self._tasks)
        if self._slots is not None:
            await self._engine.dispose()

    def keeps_connections_of(self, engine: AsyncEngine | None) -> bool:
        """Whether this is about the pool that a caller's engine still has, and that keeps connections."""
        return engine is not None and engine.sync_engine.pool is self._queue and not isinstance(self._queue, NullPool)

    def checked_out(self) -> int:
        return self._queue.checkedout() if isinstance(self._queue, QueuePool) else len(self._tasks)

    def timed_out(self, message: str) -> PoolTimeout:
        """Return the error of a call that waited for too long; the braces of `message` say what is in use."""
        if self._slots is not None:
            size, in_use = self._size, self._size - self._slots._value
        elif isinstance(self._queue, QueuePool):
            size, in_use = self._queue.size() + max(0, self._queue._max_overflow), self._queue.checkedout()
        else:
            return PoolTimeout(message.format(self._queue.status()))
        return PoolTimeout(message.format(f"{in_use} of {size} connections in use"), size=size, in_use=in_use)

    async def _wait_for_slot(self, slots: asyncio.Semaphore, timeout: float) -> None:
        try:
            async with asyncio.timeout(timeout):
                await slots.acquire()
        except TimeoutError as error:
            raise self.timed_out(
                f"No connection was free for {timeout:g} s: {{}}. Raise AGENTSTORE_POOL_SIZE, or look for "
                "what holds them."
            ) from error

    def _release_slot(self) -> None:
        if self._slots is not None:
            self._slots.release()

    async def _open(self) -> tuple[PoolProxiedConnection, float | None]:
        # In a task of its own: a cancelled call would take the new connection with it, and calls that are cancelled
        # sooner than a connection opens would never have one.
        opening = self.loop.create_task(self._connect())
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            self._in_background(self._keep(opening))
            raise

    async def _connect(self) -> tuple[PoolProxiedConnection, float | None]:
        self._opening += 1
        try:
            held = await self._engine.raw_connection()
            return held, self._idle_since(held)
        finally:
            self._opening -= 1

    async def _keep(self, opening: asyncio.Task[tuple[PoolProxiedConnection, float | None]]) -> None:
        """Give the connection that a cancelled call was opening to the calls after it."""
        try:
            held, _ = await opening
        except (QueueTimeout, *CONNECT_ERRORS) as error:
            _log.debug("a connection whose caller was cancelled could not be opened: %s", error)
        else:
            self._return(held)

    def _return(self, held: PoolProxiedConnection) -> None:
        held.info["idle_since"] = time.monotonic()
        if self._slots is not None:
            # Our pool has no overflow, so that returning a connection never closes one, which would have to wait.
            self._idle += 1
            held.close()
        else:
            self._in_background(greenlet_spawn(held.close))

    def _checked_in(self) -> int:
        return self._queue.checkedin() if isinstance(self._queue, QueuePool) else 0

    def _idle_since(self, held: PoolProxiedConnection) -> float | None:
        """Take note that a connection is in use, and return since when it was not; None if it was just opened."""
        idle_since: float | None = held.info.pop("idle_since", None)
        if idle_since is not None and self._slots is not None:
            self._idle -= 1
        return idle_since

    async def _works(self, held: PoolProxiedConnection, idle_since: float | None) -> bool:
        """Whether a connection can be used; it is invalidated if not."""
        if idle_since is None:
            return True
        driver: asyncpg.Connection = held.driver_connection  # type: ignore[assignment]
        works = not driver.is_closed() and idle_since > self._discard_before
        if works and (idle_since <= self._verify_before or time.monotonic() - idle_since > _PING_AFTER):
            try:
                await driver.fetch("SELECT 1", timeout=_PING_TIMEOUT)
            except _DRIVER_ERRORS:
                works = False
            except BaseException:
                held.invalidate()
                raise
        if not works:
            held.invalidate()
        return works

    async def _clean(self, held: PoolProxiedConnection) -> None:
        driver: asyncpg.Connection = held.driver_connection  # type: ignore[assignment]
        try:
            # asyncpg has asked the server to cancel the statement, and waits here until it has. Once this is
            # answered no cancel request is on its way any more that could hit the next call's statement.
            async with asyncio.timeout(_PING_TIMEOUT):
                try:
                    await driver.execute("ROLLBACK")
                except asyncpg.QueryCanceledError:
                    await driver.execute("ROLLBACK")
        except _DRIVER_ERRORS as error:
            _log.debug("a connection is closed, which did not come back from a cancelled call: %s", error)
            held.invalidate()
            self._release_slot()
        except BaseException:
            held.invalidate()
            self._release_slot()
            raise
        else:
            self.take_back(held)

    def _in_background(self, work: Any) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Fate(Enum):
    """What became of a statement that failed."""

    REFUSED = auto()
    UNDONE = auto()  # nothing of it remains, and the same statement may succeed
    UNKNOWN = auto()


_DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)

# As the driver raises them, or wrapped by SQLAlchemy, which differs from release to release.
# ValueError: a host name that cannot be one.
CONNECT_ERRORS = (DBAPIError, AsyncAdapt_asyncpg_dbapi.Error, ValueError, *_DRIVER_ERRORS)

# The server says these before it commits, or instead: admin_shutdown, cannot_connect_now, read_only, deadlock,
# serialization failure.
_UNDONE = {"57P01", "57P03", "25006", "40P01", "40001"}
_LOGIN = {"28000", "28P01", "3D000", "42501"}
_MISSING = {"42P01", "42703", "3F000"}
_BUSY = {"53000", "53100", "53200", "53300", "53400", "55P03", "57014", "57P04", "58000", "58030"}


def _cause(error: BaseException) -> BaseException:
    """The driver's error in SQLAlchemy's wrappings."""
    while True:
        if isinstance(error, DBAPIError) and error.orig is not None:
            error = error.orig
        elif not isinstance(error, _DRIVER_ERRORS) and error.__cause__ is not None:
            error = error.__cause__
        else:
            return error


def _judge(error: BaseException, where: str) -> tuple[_Fate, AgentStoreError]:
    """What became of the statement that ended in `error`, and the error to raise."""
    if isinstance(error, asyncpg.PostgresConnectionError) and isinstance(error.__cause__, asyncpg.PostgresError):
        error = error.__cause__  # the server's last words before the connection closed
    if isinstance(error, TimeoutError):
        return _Fate.UNKNOWN, Unavailable(f"{where} did not answer in time")
    if isinstance(error, asyncpg.InternalClientError) and "cannot switch to state" in str(error):
        # The server's farewell came in before the statement could be sent, and asyncpg has not seen the end yet.
        return _Fate.UNDONE, Unavailable(f"The connection to {where} was closed by the server")
    state = getattr(error, "sqlstate", None)
    if not isinstance(error, asyncpg.PostgresError) or state is None or state[:2] == "08":
        return _Fate.UNKNOWN, Unavailable(f"The connection to {where} broke: {error}")
    if state in _UNDONE:
        return _Fate.UNDONE, Unavailable(f"{where} undid a statement: {error}")
    if state in ("57P02", "57P05"):
        return _Fate.UNKNOWN, Unavailable(f"{where} is going down: {error}")
    if state in _LOGIN:
        return _Fate.REFUSED, NotConfigured(f"{where} refused: {error}. See what `agentstore check` says.")
    if state in _MISSING:
        return _Fate.REFUSED, SchemaBehind(
            f"{where} lacks what this release needs ({error}): run `agentstore upgrade`."
        )
    if state in _BUSY:
        return _Fate.REFUSED, Unavailable(f"{where} could not do it now: {error}")
    if state[:2] == "54":
        return _Fate.REFUSED, LimitExceeded(f"{where} has a limit: {error}")
    return _Fate.REFUSED, StatementFailed(f"{where} refused a statement: {error}", state)


def connection_error(error: BaseException, where: str) -> AgentStoreError:
    """Return the error to raise for a connection that could not be opened."""
    error = _cause(error)
    if isinstance(error, AgentStoreError):
        return error
    if "unsupported startup parameter" in str(error):
        return NotConfigured(f"{where} is a pooler: set AGENTSTORE_POOLER=transaction. ({error})")
    if isinstance(error, (ValueError, ssl.SSLCertVerificationError)):
        return NotConfigured(f"The connection to {where} is not configured: {error}")
    if isinstance(error, asyncpg.PostgresError) and error.sqlstate in _LOGIN:
        return NotConfigured(f"{where} refused the login: {error}")
    if isinstance(error, TimeoutError):
        return Unavailable(f"{where} could not be reached in time")
    return Unavailable(f"{where} could not be reached: {error}")
