"""Read the databases of other applications: Postgres, and SQLite files."""

import asyncio
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypeAlias
from urllib.parse import quote

from sqlalchemy import Executable, TableClause, create_engine, literal_column, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from agentstore.database.errors import CONNECT_ERRORS, connection_error
from agentstore.database.row_security import REFUSE_FILTERED_VIEWS
from agentstore.database.url import connector
from agentstore.errors import InvalidContent, NotConfigured
from agentstore.schemas import Session
from agentstore.schemas.parts import wrong_type

_UNDEFINED = ("42P01", "42703", "3F000")  # undefined table, undefined column, invalid schema name

_Result: TypeAlias = tuple[list[str], list[tuple[Any, ...]]]


class OtherDatabase:
    """A database that another application writes; it is only read. ``async with`` closes it."""

    def __init__(self, url: str) -> None:
        """Prepare to read the database at `url`; connections are opened when they are needed.

        `url` is a Postgres URL, see :func:`agentstore.database.url.parse_url`, or SQLAlchemy's URL of a SQLite file.
        The driver that it names does not matter: ``sqlite:///file.db``, ``postgresql+psycopg://...``.

        Raises:
            NotConfigured: it is not a URL of Postgres or SQLite, or the file does not exist.
        """
        self._engine: AsyncEngine | None = None
        self._file: Path | None = None
        scheme, separator, _ = url.partition("://")
        scheme = scheme.partition("+")[0]
        if scheme == "sqlite" and separator:
            try:
                parsed = make_url(url)
            except (ArgumentError, ValueError) as error:
                raise NotConfigured(
                    "the source is not a valid URL of a SQLite file: expected sqlite:///FILE"
                ) from error
            self._file = Path(parsed.database or "")
            if not self._file.is_file():
                raise NotConfigured(f"there is no file {str(self._file)!r}")
        elif scheme in ("postgresql", "postgres") and separator:
            self._engine = create_async_engine(
                "postgresql+asyncpg://", async_creator=connector(url), poolclass=NullPool, hide_parameters=True
            )
        elif separator:
            raise NotConfigured(f"{scheme} databases are not supported as a source: expected postgresql or sqlite")
        else:
            raise NotConfigured("the source is not a database URL: expected postgresql://... or sqlite:///FILE")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._engine is not None:
            await self._engine.dispose()

    async def fetch(self, statement: Executable, **values: Any) -> list[tuple[Any, ...]]:
        """Execute a query and return its rows.

        Raises:
            Unavailable, NotConfigured: the connection failed or was refused.
            InvalidContent: the database lacks the tables.
        """
        _, rows = await self._execute(statement, values)
        return rows

    async def columns(self, table: TableClause) -> set[str]:
        """Return the names of the columns of a table.

        Raises:
            Unavailable, NotConfigured: the connection failed or was refused.
            InvalidContent: the database lacks the table.
        """
        names, _ = await self._execute(select(literal_column("*")).select_from(table).limit(0), {})
        return set(names)

    async def _execute(self, statement: Executable, values: dict[str, Any]) -> _Result:
        """Execute a query and return the names of its columns, and its rows."""
        if self._engine is None:
            return await asyncio.to_thread(self._execute_in_file, statement, values)
        try:
            async with self._engine.connect() as connection:
                await connection.execute(text(REFUSE_FILTERED_VIEWS))
                result = await connection.execute(statement, values)
                return list(result.keys()), [tuple(row) for row in result]
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) in _UNDEFINED:
                raise InvalidContent(f"the source lacks the expected tables: {error.orig}") from error
            raise connection_error(error, "the source") from error
        except CONNECT_ERRORS as error:
            raise connection_error(error, "the source") from error

    def _execute_in_file(self, statement: Executable, values: dict[str, Any]) -> _Result:
        assert self._file is not None  # noqa: S101
        name = f"file:{quote(str(self._file.resolve()))}?mode=ro"
        engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(name, uri=True), poolclass=NullPool)
        try:
            with engine.connect() as connection:
                result = connection.execute(statement, values)
                return list(result.keys()), [tuple(row) for row in result]
        except SQLAlchemyError as error:
            reason = error.orig if isinstance(error, DBAPIError) else error
            raise InvalidContent(f"{self._file}: {reason}") from error


def new_session(id: Any, user_id: Any, created_at: str | None, updated_at: str | None) -> Session:
    """Return a session without messages, with timestamps as :func:`parse_utc` parses them.

    Raises:
        InvalidContent: an id is not a string, which SQLite does not prevent.
    """
    for name, value in (("session_id", id), ("user_id", user_id)):
        if not isinstance(value, str):
            raise wrong_type(name, "a string", value)
    return Session(id=id, user_id=user_id, created_at=parse_utc(created_at), updated_at=parse_utc(updated_at))


def parse_utc(text: str | None) -> datetime | None:
    """Parse a timestamp that a database returned as text; without a time zone it is UTC. None if it is not valid."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time
