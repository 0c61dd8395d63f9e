"""The version table: a name of its own, its former name, and the version table of another application."""

import asyncio
from typing import Any

import asyncpg
import pytest

from agentstore import AgentStore, SchemaBehind, Settings, migrate
from agentstore.repositories.connect import open_database
from tests.migrations.test_revisions import _load
from tests.support.cli import run
from tests.support.psql import psql

pytestmark = pytest.mark.slow

_TABLES = """
SELECT relname FROM pg_class WHERE relnamespace = to_regnamespace($1) AND relname ~ 'version' AND relkind = 'r'
ORDER BY 1
"""
_APPLICATION = """
CREATE TABLE public.alembic_version (version_num varchar(32) PRIMARY KEY);
INSERT INTO public.alembic_version VALUES ('{}');
"""


async def _fetch(url: str, sql: str, *arguments: Any) -> list[Any]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(sql, *arguments)
    await connection.close()
    return [row[0] for row in rows]


@pytest.mark.parametrize("revision", ["6a9f914f656c", "0003", migrate.head()])
async def test_the_version_table_of_an_application_in_the_same_schema_is_ignored(empty_url: str, revision: str) -> None:
    await asyncio.to_thread(psql, empty_url, _APPLICATION.format(revision))
    settings = Settings(schema="public")
    environment = {"AGENTSTORE_DATABASE_URL": empty_url, "AGENTSTORE_SCHEMA": "public"}
    assert (await asyncio.to_thread(run, "check", environment=environment)).code == 3
    assert (await asyncio.to_thread(run, "current", environment=environment)).out == "none (behind)\n"
    with pytest.raises(SchemaBehind, match="at revision none"):
        await AgentStore(empty_url, settings=settings).start()
    await migrate.upgrade(empty_url, settings=settings)
    assert await _fetch(empty_url, _TABLES, "public") == ["agentstore_version", "alembic_version"]
    assert await _fetch(empty_url, "SELECT version_num FROM public.alembic_version") == [revision]
    async with AgentStore(empty_url, settings=settings) as store:
        await store.sessions.create_session("alice")
    assert (await asyncio.to_thread(run, "check", environment=environment)).code == 0
    await migrate.downgrade(empty_url, "base", settings=settings, lose_data=True)
    assert await _fetch(empty_url, "SELECT version_num FROM public.alembic_version") == [revision]


async def test_tables_whose_revision_is_lost_are_not_created_again(direct_url: str) -> None:
    await asyncio.to_thread(psql, direct_url, "DROP TABLE agentstore.agentstore_version;")
    for arguments in (("upgrade",), ("upgrade", "pre"), ("upgrade", "0003")):
        done = await asyncio.to_thread(run, *arguments, "--url", direct_url)
        assert (done.code, "has tables of agentstore and records no revision" in done.err) == (1, True)
    assert (await asyncio.to_thread(run, "stamp", "head", "--url", direct_url)).code == 0
    assert (await asyncio.to_thread(run, "check", "--url", direct_url)).code == 0


async def test_an_application_of_the_same_schema_never_sees_our_revision(empty_url: str) -> None:
    await migrate.upgrade(empty_url, settings=Settings(schema="public"))
    assert await _fetch(empty_url, "SELECT to_regclass('public.alembic_version')::text") == [None]


@pytest.mark.parametrize("revision", ["0003", "0011"])
async def test_the_former_version_table_is_renamed_when_no_previous_release_is_left(
    empty_url: str, revision: str
) -> None:
    await _load(empty_url, revision)
    database = open_database(empty_url)
    for _ in range(2):
        await migrate.upgrade(database, "pre", run_earlier_post=True)
        assert await _fetch(empty_url, _TABLES, "agentstore") == ["alembic_version"]
        assert await _fetch(empty_url, "SELECT version_num FROM agentstore.alembic_version") == [migrate.needed()]
    assert (await migrate.status(database)).state == "post pending"
    assert (await asyncio.to_thread(run, "check", "--url", empty_url)).code == 6
    async with AgentStore(empty_url) as store:
        await store.sessions.create_session("bob")
    assert (await migrate.plan(database))[-1].statement == "ALTER TABLE alembic_version RENAME TO agentstore_version"
    await migrate.upgrade(database)
    assert await _fetch(empty_url, _TABLES, "agentstore") == ["agentstore_version"]
    assert await _fetch(empty_url, "SELECT conname FROM pg_constraint WHERE conname ~ '_version_pkc'") == [
        "agentstore_version_pkc"
    ]
    assert (await migrate.status(database)).state == "at head"
    assert await migrate.plan(database) == []
    await database.stop()


async def test_a_script_renames_the_former_version_table(empty_url: str) -> None:
    await _load(empty_url, "0003")
    await asyncio.to_thread(psql, empty_url, migrate.sql(f"0003:{migrate.head()}"))
    assert await _fetch(empty_url, _TABLES, "agentstore") == ["agentstore_version"]
    assert (await asyncio.to_thread(run, "check", "--url", empty_url)).code == 0


async def test_the_former_version_table_of_vectors_is_renamed(empty_url: str, has_pgvector: bool) -> None:
    await migrate.upgrade(empty_url)
    expected = ["agentstore_version"]
    if has_pgvector:
        await migrate.enable_vectors(empty_url)
        expected.append("agentstore_version_vector")
    for table in expected:
        former = table.replace("agentstore", "alembic")
        rename = f"ALTER TABLE agentstore.{table} RENAME TO {former}; "
        rename += f"ALTER TABLE agentstore.{former} RENAME CONSTRAINT {table}_pkc TO {former}_pkc;"
        await asyncio.to_thread(psql, empty_url, rename)
    database = open_database(empty_url)
    assert (await migrate.vector_status(database)).state == ("at head" if has_pgvector else "not enabled")
    await migrate.upgrade(database)
    assert await _fetch(empty_url, _TABLES, "agentstore") == expected
    assert (await migrate.vector_status(database)).state == ("at head" if has_pgvector else "not enabled")
    await database.stop()
