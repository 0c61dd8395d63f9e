"""Write ``migrations/catalog.json``, what each revision consists of: ``python -m tests.migrations.catalog``."""

import asyncio
import json
import tempfile

import asyncpg

from agentstore import EmbeddedPostgres, migrate
from agentstore.migrating.catalog import FILE, Catalog, Key, read_catalog
from agentstore.migrating.revisions import folder

_TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'agentstore'::regnamespace AND relkind = 'r'"
Row = tuple[str, str | None, str, str, str, str]


async def catalog_of(url: str) -> Catalog:
    """Return what all tables of the schema ``agentstore`` consist of."""
    connection = await asyncpg.connect(url)
    tables = {row[0] for row in await connection.fetch(_TABLES)}
    found = await read_catalog(connection, "agentstore", tables)
    await connection.close()
    return found


async def catalogs(url: str, line: str) -> dict[str, Catalog]:
    """Migrate an empty database from one revision of a line to the next, with row-level security; return the catalogs.

    Those of the line "vector" are without what the main line consists of.
    """
    if line:
        await migrate.upgrade(url)
        await migrate.enable_row_security(url)
        before = await catalog_of(url)
        await migrate.enable_vectors(url)
        return {migrate.head(line): {key: it for key, it in (await catalog_of(url)).items() if key not in before}}
    found = {}
    for revision in reversed(migrate.history()):
        await migrate.upgrade(url, revision.id)
        await migrate.enable_row_security(url)
        found[revision.id] = await catalog_of(url)
    return found


def rows(found: dict[str, Catalog]) -> list[Row]:
    """Return each object once, with the revision that adds it and the one that removes or changes it."""
    listed: list[Row] = []
    present: dict[tuple[Key, str], str] = {}
    for revision, catalog in found.items():
        for item in present.keys() - catalog.items():
            listed.append((present.pop(item), revision, *item[0], item[1]))
        for item in catalog.items():
            present.setdefault(item, revision)
    listed += [(since, None, *key, definition) for (key, definition), since in present.items()]
    return sorted(listed, key=lambda row: (row[3], row[2], row[4], row[0]))


async def main() -> None:
    """Write the file."""
    lines = []
    with tempfile.TemporaryDirectory() as temporary:
        async with EmbeddedPostgres(temporary, durable=False) as server:
            for line in ("", "vector"):
                connection = await asyncpg.connect(server.url)
                await connection.execute(f'CREATE DATABASE "line{line}"')
                await connection.close()
                listed = rows(await catalogs(server.url_of(f"line{line}"), line))
                text = ",\n".join(f"  {json.dumps(row, ensure_ascii=False)}" for row in listed)
                lines.append(f"{json.dumps(line)}: [\n{text}\n]")
    (folder() / FILE).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main())
