"""Open the database or the store for a command."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from agentstore.cli.output import echo_error

if TYPE_CHECKING:
    from agentstore.database.database import Database
    from agentstore.settings import Settings
    from agentstore.store import AgentStore

T = TypeVar("T")


def load_settings() -> "Settings":
    """Return the settings from the environment.

    Raises:
        typer.Exit: a setting is not valid; the reason has been printed.
    """
    from agentstore.errors import NotConfigured
    from agentstore.settings import settings_from_environment

    try:
        return settings_from_environment()
    except NotConfigured as error:
        for line in str(error).splitlines():
            echo_error(line)
        raise typer.Exit(1) from error


def run_with_database(url: str | None, run: "Callable[[Database], Coroutine[Any, Any, T]]") -> T:
    """Run a coroutine on the database, whatever revision its schema is at."""
    from agentstore.repositories.connect import open_database

    async def main() -> T:
        database = open_database(url, settings=load_settings())
        try:
            return await run(database)
        finally:
            await database.stop()

    return asyncio.run(main())


def run_with_store(url: str | None, run: "Callable[[AgentStore], Coroutine[Any, Any, T]]") -> T:
    """Run a coroutine on the store, once the schema has been checked."""
    from agentstore.store import AgentStore

    async def main() -> T:
        async with AgentStore(url, settings=load_settings()) as store:
            return await run(store)

    return asyncio.run(main())
