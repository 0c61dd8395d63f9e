"""Find what is left of a user in the tables."""

import asyncpg


async def traces(observer: asyncpg.Connection, *words: str) -> list[tuple[str, str]]:
    """Return every table and column of the schema that contains one of the words."""
    columns = await observer.fetch(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'agentstore'"
    )
    found = []
    for table, column in columns:
        for word in words:
            hit = await observer.fetchval(
                f'SELECT EXISTS (SELECT FROM agentstore."{table}" WHERE strpos("{column}"::text, $1) > 0)', word
            )
            if hit:
                found.append((table, column))
    return sorted(set(found))
