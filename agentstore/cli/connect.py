"""Open the database or the store for a command."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from agentstore.database.database import Database
    from agentstore.settings import Settings
    from agentstore.store import AgentStore

T = TypeVar("T")


def load_settings() -> "Settings":
    """Return the settings from the environment, after setting up the log by them.

    Raises:
        NotConfigured: a setting is not valid.
    """
    from agentstore.settings import settings_from_environment

    settings = settings_from_environment()
    if settings.log_format != "text":
        from agentstore.cli.log import configure_log

        configure_log(settings.log_format)
    return settings


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


def run_with_store(
    url: str | None, run: "Callable[[AgentStore], Coroutine[Any, Any, T]]", *, is_large: bool = False
) -> T:
    """Run a coroutine on the store, once the schema has been checked.

    With `is_large` its statements may take as long as they need: STATEMENT_TIMEOUT is meant for an application's calls.
    """
    from agentstore.store import AgentStore

    settings = load_settings()
    if is_large:
        from agentstore.settings import MAX_SECONDS

        settings = settings.model_copy(update={"statement_timeout": MAX_SECONDS})

    async def main() -> T:
        async with AgentStore(url, settings=settings) as store:
            return await run(store)

    return asyncio.run(main())
