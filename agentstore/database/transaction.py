"""Several statements in one transaction."""

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import asyncpg

from agentstore.database.errors import DRIVER_ERRORS, Fate, translate_error
from agentstore.database.statement import CompiledStatement, Row, Statement
from agentstore.errors import UnknownOutcome


class Transaction:
    """Statements that are said in one transaction: what :meth:`Database.transaction` gives."""

    def __init__(
        self,
        driver: asyncpg.Connection,
        *,
        compile_statement: Callable[[Statement], CompiledStatement],
        name_user: Callable[[Mapping[str, Any]], str] | None,
        timeout: float,
        where: str,
    ) -> None:
        """`compile_statement` and `name_user` are the database's; `name_user` is None without row-level security."""
        self._driver = driver
        self._compile = compile_statement
        self._name_user = name_user
        self._timeout: float | None = timeout
        self._where = where

    async def fetch(self, statement: Statement, /, **values: Any) -> list[Row]:
        """Say a statement and return its rows. Errors are those of :meth:`Database.fetch`."""
        compiled = self._compile(statement)
        if self._name_user is not None:
            await self._fetch(self._name_user(values))
        return await self._fetch(compiled.sql, *compiled.arguments(values))

    async def fetch_each(self, statement: Statement, many: Sequence[Mapping[str, Any]]) -> list[Row]:
        """Say a statement with each of these values, and return the rows of all: one way to the server and back."""
        if self._name_user is not None:
            return [row for values in many for row in await self.fetch(statement, **values)]
        compiled = self._compile(statement)
        arguments = [compiled.arguments(dict(values)) for values in many]
        try:
            return await self._driver.fetchmany(compiled.sql, arguments, timeout=self._timeout)
        except DRIVER_ERRORS as error:
            raise translate_error(error, self._where)[1] from error

    async def without_a_limit(self) -> None:
        """Let the statements of this transaction take as long as they do: limits are for those of an application."""
        await self.command("SET LOCAL statement_timeout = 0")
        self._timeout = None

    async def copy_out(self, statement: Statement, write: Callable[[bytes], Any], /, **values: str) -> int:
        """Say a statement that reads texts without a line break, give them to `write`, a line each, and count them.

        No more is held than a row and what the network gives at a time: the server waits for `write`.
        """
        compiled = self._compile(statement)
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
        except DRIVER_ERRORS as error:
            raise translate_error(error, self._where)[1] from error
        return int(done.removeprefix("COPY "))

    async def copy(
        self, table: str, columns: Sequence[str], source: AsyncIterator[bytes], *, schema: str | None = None
    ) -> int:
        """Copy rows in Postgres's text format into a table, and return how many; without `schema` a temporary one."""
        try:
            done = await self._driver.copy_to_table(
                table, schema_name=schema, columns=columns, source=source, format="text"
            )
        except DRIVER_ERRORS as error:
            raise translate_error(error, self._where)[1] from error
        return int(done.removeprefix("COPY "))

    async def query(self, sql: str) -> list[Row]:
        """Say what has no parameters and reads, as of a table that a :class:`Statement` cannot know."""
        return await self._fetch(sql)

    async def _fetch(self, sql: str, *arguments: Any) -> list[Row]:
        try:
            return await self._driver.fetch(sql, *arguments, timeout=self._timeout)
        except DRIVER_ERRORS as error:
            raise translate_error(error, self._where)[1] from error

    async def command(self, command: str) -> str:
        """Say what has no parameters and returns no rows, as BEGIN or COMMIT, and return what the server did."""
        try:
            return await self._driver.execute(command, timeout=self._timeout)
        except DRIVER_ERRORS as error:
            fate, translated = translate_error(error, self._where)
            if command == "COMMIT" and fate is Fate.UNKNOWN:
                raise UnknownOutcome(
                    f"The answer to a commit was lost; it may have happened. ({translated})"
                ) from error
            raise translated from error
