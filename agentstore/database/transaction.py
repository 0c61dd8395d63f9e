"""A transaction of several statements on one connection."""

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import asyncpg

from agentstore.database.errors import DRIVER_ERRORS, Outcome, classify_error, translate_error, undecodable
from agentstore.database.replies import ReplyLimit
from agentstore.database.statement import CompiledStatement, Row, Statement
from agentstore.database.telemetry import Observer
from agentstore.errors import UnknownOutcome
from agentstore.schemas.page import Advice
from agentstore.settings import Settings

# Every statement is written for READ COMMITTED: one that has waited for a lock continues with the committed row.
BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
BEGIN_WRITABLE_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ"
# A snapshot holds no lock that writers wait for, and its reader may be slow.
BEGIN_SNAPSHOT = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET LOCAL idle_in_transaction_session_timeout = 0"
_MIN_IDLE_TIMEOUT = 5.0


def idle_timeout(settings: Settings) -> str:
    """Return after how many milliseconds the server ends a transaction whose client sends nothing.

    So a client that is suspended or has lost its network holds no lock for longer than other clients wait for one; at
    least five seconds, since a client may be busy.
    """
    return f"{max(settings.lock_timeout, _MIN_IDLE_TIMEOUT) * 1000:.0f}"


def set_idle_timeout(settings: Settings) -> str:
    """Return the SQL that sets :func:`idle_timeout` for the current transaction."""
    return f"SET LOCAL idle_in_transaction_session_timeout = {idle_timeout(settings)}"


class Transaction:
    """Executes statements in one transaction. Obtained from :meth:`Database.transaction`."""

    def __init__(
        self,
        driver: asyncpg.Connection,
        *,
        compile_statement: Callable[[Statement], CompiledStatement],
        begin_with: Callable[[CompiledStatement, Mapping[str, Any]], str | None],
        timeout: float,
        where: str,
        settings: Settings,
        observer: Observer,
    ) -> None:
        """Wrap a connection on which a transaction begins, and report to `observer`.

        `compile_statement` and `begin_with` are the database's: see :meth:`Database._begin_with`.
        """
        self._driver = driver
        self._compile = compile_statement
        self._begin_with = begin_with
        self._timeout: float | None = timeout
        self._where = where
        self._settings = settings
        self._observer = observer

    async def fetch(self, statement: Statement, /, **values: Any) -> list[Row]:
        """Execute a statement and return its rows. Raises the errors of :meth:`Database.fetch`; never retries."""
        compiled = await self._prepare(statement, values)
        try:
            return await self._fetch(statement.name, compiled.sql, compiled.arguments(values))
        except OverflowError as error:
            raise undecodable(values) from error

    async def fetch_page(self, statement: Statement, advice: Advice, /, **values: Any) -> list[Row]:
        """Execute a statement as :meth:`Database.fetch_page` does; a reply that is too large ends the transaction."""
        compiled = await self._prepare(statement, values)
        try:
            with ReplyLimit.begin(self._driver, self._settings, advice):
                return await self._observed(statement.name, compiled.sql, compiled.arguments(values))
        except DRIVER_ERRORS as error:
            raise translate_error(error, self._where) from error
        except OverflowError as error:
            raise undecodable(values) from error

    async def fetch_many(self, statement: Statement, many: Sequence[Mapping[str, Any]]) -> list[Row]:
        """Execute a statement once with each set of values, in one round trip, and return the rows of all."""
        compiled = self._compile(statement)
        if many and self._begin_with(compiled, many[0]) is not None:
            return [row for values in many for row in await self.fetch(statement, **values)]
        arguments = [compiled.arguments(dict(values)) for values in many]
        with self._observer.execution(statement.name, compiled.sql) as execution:
            try:
                rows: list[Row] = await self._driver.fetchmany(compiled.sql, arguments, timeout=self._timeout)
            except DRIVER_ERRORS as error:
                raise translate_error(error, self._where) from error
            execution.rows = len(rows)
            return rows

    async def disable_timeout(self) -> None:
        """Remove the statement timeout for the rest of this transaction: it is meant for an application's calls."""
        await self.execute("SET LOCAL statement_timeout = 0")
        self._timeout = None

    async def copy_out(self, statement: Statement, write: Callable[[bytes], Any], /, **values: str) -> int:
        """Stream the rows of a statement to `write`, one line each, by COPY, and return their number.

        The statement returns one text column without line breaks. Memory use is bounded by one row and the network
        buffer: the server waits for `write`.
        """
        compiled = await self._prepare(statement, values)
        arguments = compiled.arguments(values)
        # COPY accepts no parameters: the server quotes the values as literals first.
        literals = ", ".join(f"quote_literal(${number}::text)" for number in range(1, len(arguments) + 1))
        (quoted,) = await self._fetch("transaction.quote", f"SELECT {literals}", arguments)
        sql = re.sub(r"\$(\d+)", lambda number: str(quoted[int(number[1]) - 1]), compiled.sql)

        async def output(data: bytes) -> None:
            write(data)

        with self._observer.execution(statement.name, compiled.sql) as execution:
            try:
                # CSV with a delimiter and a quote that no text contains leaves every other character unchanged.
                status = await self._driver.copy_from_query(
                    sql, output=output, format="csv", delimiter="\x02", quote="\x01"
                )
            except DRIVER_ERRORS as error:
                raise translate_error(error, self._where) from error
            execution.rows = int(status.removeprefix("COPY "))
            return execution.rows

    async def copy_in(
        self, table: str, columns: Sequence[str], source: AsyncIterator[bytes], *, schema: str | None = None
    ) -> int:
        """Copy rows in Postgres' text format into a table (a temporary one without `schema`); return their number."""
        with self._observer.execution("transaction.copy_in") as execution:
            try:
                status = await self._driver.copy_to_table(
                    table, schema_name=schema, columns=columns, source=source, format="text"
                )
            except DRIVER_ERRORS as error:
                raise translate_error(error, self._where) from error
            execution.rows = int(status.removeprefix("COPY "))
            return execution.rows

    async def query(self, sql: str) -> list[Row]:
        """Execute SQL without parameters and return its rows, for tables that no :class:`Statement` can name."""
        return await self._fetch("transaction.query", sql, ())

    async def _prepare(self, statement: Statement, values: Mapping[str, Any]) -> CompiledStatement:
        """Compile a statement, and execute what it needs before, such as its user for row-level security."""
        compiled = self._compile(statement)
        if (begin_with := self._begin_with(compiled, values)) is not None:
            await self.execute(begin_with, is_private=True)
        return compiled

    async def _fetch(self, name: str, sql: str, arguments: Sequence[Any]) -> list[Row]:
        try:
            return await self._observed(name, sql, arguments)
        except DRIVER_ERRORS as error:
            raise translate_error(error, self._where) from error

    async def _observed(self, name: str, sql: str, arguments: Sequence[Any]) -> list[Row]:
        if not self._observer.measures:
            return await self._driver.fetch(sql, *arguments, timeout=self._timeout)
        with self._observer.execution(name, sql) as execution:
            rows: list[Row] = await self._driver.fetch(sql, *arguments, timeout=self._timeout)
            execution.rows = len(rows)
            return rows

    async def execute(self, sql: str, *, is_private: bool = False) -> str:
        """Execute SQL without parameters or rows, such as BEGIN or COMMIT, and return the server's status tag.

        With `is_private`, no report has the SQL, which has the id of a user.
        """
        if not self._observer.measures:
            return await self._execute(sql)
        command = sql.partition(" ")[0].lower()
        with self._observer.execution(f"transaction.{command}", None if is_private else sql):
            return await self._execute(sql)

    async def _execute(self, sql: str) -> str:
        try:
            return await self._driver.execute(sql, timeout=self._timeout)
        except DRIVER_ERRORS as error:
            outcome, translated = classify_error(error, self._where)
            if sql == "COMMIT" and outcome is Outcome.UNKNOWN:
                self._observer.unknown_outcome("transaction.commit")
                raise UnknownOutcome(
                    f"The response to a COMMIT was lost; the transaction may have been committed. ({translated})"
                ) from error
            raise translated from error
