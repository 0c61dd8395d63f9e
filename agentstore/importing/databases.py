"""Databases of other applications, from which is only read: Postgres, and SQLite's files."""

import asyncio
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from sqlalchemy import Executable, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from agentstore.database.errors import CONNECT_ERRORS, connection_error
from agentstore.database.url import connector
from agentstore.errors import InvalidContent, NotConfigured


class OtherDatabase:
    """A database that something else writes. ``async with`` closes it."""

    def __init__(self, url: str) -> None:
        """`url` is as :func:`agentstore.url.parse_url` reads it or, of a file of SQLite, SQLAlchemy's.

        Whatever driver it names: ``sqlite:///file.db``, ``postgresql+psycopg://...``.

        Raises:
            NotConfigured: it is of another kind, or names no file.
        """
        self._engine: AsyncEngine | None = None
        self._file: Path | None = None
        kind, separator, _ = url.partition("://")
        kind = kind.partition("+")[0]
        if kind == "sqlite" and separator:
            try:
                parsed = make_url(url)
            except (ArgumentError, ValueError) as error:
                raise NotConfigured("the source is no URL of a file of SQLite") from error
            self._file = Path(parsed.database or "")
            if not self._file.is_file():
                raise NotConfigured(f"there is no file {str(self._file)!r}")
        elif kind in ("postgresql", "postgres") and separator:
            self._engine = create_async_engine(
                "postgresql+asyncpg://", async_creator=connector(url), poolclass=NullPool, hide_parameters=True
            )
        elif separator:
            raise NotConfigured(f"{kind} cannot be read, only postgresql and sqlite")
        else:
            raise NotConfigured("the source is no URL of a database")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._engine is not None:
            await self._engine.dispose()

    async def fetch(self, statement: Executable, **values: Any) -> list[tuple[Any, ...]]:
        """Say a statement that reads, and return its rows.

        Raises:
            Unavailable, NotConfigured: it does not answer, or not us.
            InvalidContent: it has no such tables.
        """
        if self._engine is None:
            return await asyncio.to_thread(self._fetch_from_file, statement, values)
        try:
            async with self._engine.connect() as connection:
                return [tuple(row) for row in await connection.execute(statement, values)]
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) in ("42P01", "42703", "3F000"):
                raise InvalidContent(f"the source has no such tables: {error.orig}") from error
            raise connection_error(error, "the source") from error
        except CONNECT_ERRORS as error:
            raise connection_error(error, "the source") from error

    def _fetch_from_file(self, statement: Executable, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        assert self._file is not None  # noqa: S101
        name = f"file:{quote(str(self._file.resolve()))}?mode=ro"
        engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(name, uri=True), poolclass=NullPool)
        try:
            with engine.connect() as connection:
                return [tuple(row) for row in connection.execute(statement, values)]
        except SQLAlchemyError as error:
            reason = error.orig if isinstance(error, DBAPIError) else error
            raise InvalidContent(f"{self._file}: {reason}") from error


def utc(text: str | None) -> datetime | None:
    """Return a time that a database tells as text and without a zone, which is UTC."""
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time
