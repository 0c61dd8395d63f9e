"""The databases of ``benchmarks.scale`` have the rows that the calls of a store write."""

import random

import asyncpg

from agentstore import AgentStore, Message, Settings
from benchmarks import scale

_SIZE = 1_000
# The columns without the times, which differ.
_COLUMNS = """
SELECT table_name::text, string_agg(quote_ident(column_name) || '::text', ', ' ORDER BY ordinal_position)
FROM information_schema.columns
WHERE table_schema = 'agentstore' AND data_type <> 'timestamp with time zone'
    AND table_name IN ('users', 'sessions', 'messages')
GROUP BY table_name
"""


async def _rows(url: str) -> dict[str, list[tuple[object, ...]]]:
    connection = await asyncpg.connect(url)
    found = {
        table: sorted(map(tuple, await connection.fetch(f"SELECT {columns} FROM agentstore.{table}")), key=repr)
        for table, columns in await connection.fetch(_COLUMNS)
    }
    await connection.close()
    return found


async def test_the_generator_writes_the_rows_that_calls_write(
    store: AgentStore, direct_url: str, empty_url: str
) -> None:
    async with AgentStore(empty_url, settings=Settings(auto_migrate="upgrade")) as other:
        connection = await asyncpg.connect(empty_url)
        await scale.fill(other, connection, _SIZE)
        await connection.close()
        for user, session, count in scale.sessions(_SIZE):
            created = await store.sessions.create_session(user, session)
            await store.sessions.append_message(created, list(scale.messages(user, session, count)))
        await store.memory.add_memory(scale.REMEMBERING, Message.user("something"))
        assert await _rows(empty_url) == await _rows(direct_url)
        for call in scale.calls(other, _SIZE, random.Random(1)).values():
            await call()
