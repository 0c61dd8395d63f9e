"""Load many memories: the search index collects their entries meanwhile, and merges them in large parts."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from agentstore.database.database import Database
from agentstore.errors import AgentStoreError

_log = logging.getLogger(__name__)

_INDEX = "memories_lexemes_idx"
# Each entry is inserted at once, as the migrations create the index.
_DIRECTLY = "gin_pending_list_limit = 128, fastupdate = off"
# In kB. A merge of this many entries reads most pages of the index once, instead of some for each memory.
_LIMIT = "gin_pending_list_limit=65536"
_COLLECTING = f"fastupdate = on, {_LIMIT}"


@asynccontextmanager
async def bulk_load(database: Database) -> AsyncIterator[None]:
    """Let the search index collect the entries of new memories, and merge them at the end of the block.

    Loading many memories then takes half of the time, and a quarter of the WAL. Searches meanwhile read what was
    collected, so nothing is done if there are memories already, unless a load that was killed has left the index
    collecting; nor if the login does not own the table, or a transaction prevents the change of the index.
    """
    if not await _begin(database):
        yield
        return
    try:
        yield
    finally:
        # Also if the caller is cancelled: the index would stay slow to search.
        await asyncio.shield(asyncio.create_task(_end(database)))


async def _begin(database: Database) -> bool:
    schema = database.settings.schema
    applies = (
        "SELECT pg_has_role(relowner, 'USAGE') "  # noqa: S608
        f"AND (coalesce('{_LIMIT}' = ANY (reloptions), FALSE) OR NOT EXISTS (SELECT FROM \"{schema}\".memories)) "
        f"FROM pg_class WHERE oid = '\"{schema}\".{_INDEX}'::regclass"
    )
    try:
        async with database.transaction() as transaction:
            ((begins,),) = await transaction.query(applies)
            if begins:
                await transaction.execute(f'ALTER INDEX "{schema}"."{_INDEX}" SET ({_COLLECTING})')
    except AgentStoreError as error:
        _log.info("The search index is updated for each memory: %s", error)
        return False
    return bool(begins)


async def _end(database: Database) -> None:
    index = f'"{database.settings.schema}"."{_INDEX}"'
    try:
        async with database.transaction() as transaction:
            await transaction.execute(f"ALTER INDEX {index} SET ({_DIRECTLY})")
        async with database.transaction() as transaction:
            await transaction.disable_timeout()
            await transaction.query(f"SELECT gin_clean_pending_list('{index}')")
    except AgentStoreError as error:
        _log.warning(
            "Searches may be slow until these are executed: ALTER INDEX %s SET (%s); "
            "SELECT gin_clean_pending_list('%s') - %s",
            *(index, _DIRECTLY, index, error),
        )
