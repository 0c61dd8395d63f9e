"""Every revision that was released comes to this release's, with every row; and one step back and forth."""

import re
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from agentstore import AgentStore, Conflict, Message, migrate
from agentstore.database.database import Database
from agentstore.migrating.effects import created_table, effects, migration_statements
from agentstore.migrating.revisions import folder
from agentstore.repositories.connect import open_database
from tests.migrations.dump import FOLDER

_COLUMNS = """
SELECT table_name, column_name FROM information_schema.columns
WHERE table_schema = 'agentstore' AND table_name NOT LIKE 'alembic%' ORDER BY 1, ordinal_position
"""
_CATALOG = """
SELECT 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text,
    pg_get_expr(d.adbin, d.adrelid), a.attstorage::text, co.collname
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid LEFT JOIN pg_collation co ON co.oid = a.attcollation
LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
WHERE c.relnamespace = 'agentstore'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT 'table', c.relname, c.reloptions::text, c.relpersistence::text, c.relrowsecurity::text, NULL, NULL, NULL
FROM pg_class c WHERE c.relnamespace = 'agentstore'::regnamespace AND c.relkind = 'r'
UNION ALL
SELECT 'index', c.relname, pg_get_indexdef(c.oid), i.indisvalid::text, c.reloptions::text, NULL, NULL, NULL
FROM pg_class c JOIN pg_index i ON i.indexrelid = c.oid WHERE c.relnamespace = 'agentstore'::regnamespace
UNION ALL
SELECT 'constraint', c.relname, n.conname, pg_get_constraintdef(n.oid), n.convalidated::text, NULL, NULL, NULL
FROM pg_constraint n JOIN pg_class c ON c.oid = n.conrelid WHERE c.relnamespace = 'agentstore'::regnamespace
ORDER BY 1, 2, 3
"""
_LOCKS = """
SELECT c.relname, l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
WHERE l.pid = pg_backend_pid() AND l.granted AND c.relnamespace = 'agentstore'::regnamespace AND c.relkind = 'r'
"""
_WEAK = {"AccessShareLock", "RowShareLock", "RowExclusiveLock"}
_DUMPED = sorted(path.stem for path in FOLDER.glob("*.sql"))


async def _load(url: str, revision: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute((FOLDER / f"{revision}.sql").read_text())
    await connection.close()


async def _columns(url: str) -> dict[str, list[str]]:
    connection = await asyncpg.connect(url)
    found: dict[str, list[str]] = {}
    for table, column in await connection.fetch(_COLUMNS):
        found.setdefault(table, []).append(column)
    await connection.close()
    return found


async def checksums(url: str, columns: dict[str, list[str]]) -> dict[str, Any]:
    """How many rows each table has, and a sum over all that these columns hold."""
    connection = await asyncpg.connect(url)
    found = {}
    for table, names in columns.items():
        listed = ", ".join(f'"{name}"::text' for name in names)
        rows = f"SELECT md5(ROW({listed})::text) AS sum FROM agentstore.{table}"
        (found[table],) = await connection.fetch(
            f"SELECT count(*), md5(string_agg(sum, '' ORDER BY sum)) FROM ({rows}) r"
        )
    await connection.close()
    return found


async def catalog(url: str) -> list[asyncpg.Record]:
    """All that the catalog says of our tables."""
    connection = await asyncpg.connect(url)
    rows: list[asyncpg.Record] = await connection.fetch(_CATALOG)
    await connection.close()
    return rows


def test_each_released_revision_has_a_dump() -> None:
    assert sorted(revision.id for revision in migrate.history()) == _DUMPED
    for path in FOLDER.glob("*.sql"):
        assert "INSERT INTO agentstore.messages" in path.read_text()


@pytest.mark.parametrize("revision", _DUMPED)
async def test_a_revision_comes_to_head_with_every_row(empty_url: str, direct_url: str, revision: str) -> None:
    await _load(empty_url, revision)
    columns = await _columns(empty_url)
    before = await checksums(empty_url, columns)
    assert all(count > 0 for count, _ in before.values())
    await migrate.upgrade(empty_url)
    assert await checksums(empty_url, columns) == before
    assert await catalog(empty_url) == await catalog(direct_url)
    async with AgentStore(empty_url) as store:
        for user in ("", "alice", "密:%", "a\\b'c "):
            for id in ("", "s", "会:%"):
                session = await store.sessions.get_session(user, id)
                assert session is not None
                assert len(session.messages) == (20 if (user, id) in (("alice", "s"), ("密:%", "s")) else 19)
                await store.sessions.append_message(session, Message(role="user"))
                await store.states.save_state(user, {}, id)


@pytest.mark.parametrize("revision", ["0007", "0008", "0009"])
async def test_one_step_back_and_forth_keeps_every_row(empty_url: str, revision: str) -> None:
    await _load(empty_url, revision)
    columns, shape = await _columns(empty_url), await catalog(empty_url)
    before = await checksums(empty_url, columns)
    await migrate.downgrade(empty_url, "-1")
    assert await catalog(empty_url) != shape
    assert await checksums(empty_url, columns) == before
    await migrate.upgrade(empty_url, revision)
    assert await checksums(empty_url, columns) == before
    assert await catalog(empty_url) == shape


@pytest.mark.parametrize(
    ("revision", "lost"),
    [
        ("0001", "230 rows of messages"), ("0002", "48 rows of memories"), ("0003", "4 rows of memory_extractions"),
        ("0004", "24 rows of state_rounds"), ("0005", "4 rows of sessions have a forked_from"),
        ("0006", "4 rows of sessions have a ttl"),
    ],
)  # fmt: skip
async def test_one_step_back_that_would_lose_something_says_what(empty_url: str, revision: str, lost: str) -> None:
    await _load(empty_url, revision)
    columns, shape = await _columns(empty_url), await catalog(empty_url)
    before = await checksums(empty_url, columns)
    with pytest.raises(Conflict, match=f"would lose data: .*{lost}"):
        await migrate.downgrade(empty_url, "-1")
    assert await catalog(empty_url) == shape
    assert await checksums(empty_url, columns) == before
    await migrate.downgrade(empty_url, "-1", lose_data=True)
    kept = await _columns(empty_url)
    before = await checksums(empty_url, kept)
    await migrate.upgrade(empty_url, revision)
    assert await checksums(empty_url, kept) == before
    assert await catalog(empty_url) == shape


async def test_an_empty_database_goes_back_to_nothing_step_by_step(empty_url: str) -> None:
    await migrate.upgrade(empty_url)
    for _ in migrate.history():
        await migrate.downgrade(empty_url, "-1")
    assert await _columns(empty_url) == {}


async def test_the_plan_says_the_locks_that_the_server_takes(observer: asyncpg.Connection) -> None:
    """Each statement is run, and what it locks of tables that others use is compared with what was said before."""
    connection = observer
    await connection.execute("DROP SCHEMA agentstore CASCADE; CREATE SCHEMA agentstore; SET search_path TO agentstore")
    await connection.execute("CREATE TABLE alembic_version (version_num text)")
    for revision in reversed(migrate.history()):
        sql = migrate.sql(f"{revision.previous or 'base'}:{revision.id}")
        made: set[str] = set()
        for statement in migration_statements(sql):
            made.add(created_table(statement) or "")
            said = effects(statement)
            assert "unknown" not in {effect.work for effect in said}, statement
            if "CONCURRENTLY" in statement:
                await connection.execute(statement)
                continue
            await connection.execute("BEGIN")
            await connection.execute(statement)
            taken = {
                (table, _mode(mode))
                for table, mode in await connection.fetch(_LOCKS)
                if mode not in _WEAK and table not in made
            }
            await connection.execute("COMMIT")
            assert taken == {(each.table, each.lock) for each in said if each.table not in made}, statement


def _mode(mode: str) -> str:
    """ShareRowExclusiveLock is SHARE ROW EXCLUSIVE."""
    return " ".join(re.findall("[A-Z][a-z]+", mode.removesuffix("Lock"))).upper()


@pytest.mark.parametrize(
    ("statement", "lock", "work", "online"),
    [
        ("CREATE INDEX x ON sessions (title)", "SHARE", "scan", False),
        ("CREATE UNIQUE INDEX CONCURRENTLY x ON sessions (title)", "SHARE UPDATE EXCLUSIVE", "scan", True),
        ("ALTER TABLE sessions ALTER COLUMN title SET NOT NULL", "ACCESS EXCLUSIVE", "scan", False),
        ("ALTER TABLE sessions ALTER COLUMN ttl TYPE TEXT", "ACCESS EXCLUSIVE", "rewrite", False),
        ("ALTER TABLE sessions ADD COLUMN x UUID DEFAULT gen_random_uuid()", "ACCESS EXCLUSIVE", "rewrite", False),
        ("ALTER TABLE sessions ADD COLUMN x BIGINT DEFAULT 7", "ACCESS EXCLUSIVE", "none", True),
        ("ALTER TABLE sessions ADD CONSTRAINT x CHECK (ttl > 0)", "ACCESS EXCLUSIVE", "scan", False),
        ("UPDATE sessions SET ttl = 1", "ROW EXCLUSIVE", "rows", True),
        ("VACUUM FULL sessions", "", "unknown", False),
    ],
)
def test_what_is_not_safe_in_use_is_said(statement: str, lock: str, work: str, online: bool) -> None:
    (effect,) = effects(statement)
    assert (effect.lock, effect.work, effect.online) == (lock, work, online)


async def test_a_plan_has_what_is_left_with_sizes_and_changes_nothing(empty_url: str) -> None:
    await _load(empty_url, "0003")
    database: Database = open_database(empty_url)
    planned = await migrate.plan(database)
    assert list(dict.fromkeys(each.revision for each in planned)) == [
        *("0004", "0005", "0006", "0007", "0008", "0009", "0010", "0011")
    ]
    assert all(effect.online for each in planned for effect in each.effects)
    (scan,) = [effect for each in planned for effect in each.effects if each.revision == "0009"]
    assert (scan.table, scan.work, scan.bytes > 0) == ("sessions", "scan", True)
    assert (await migrate.status(database)).current == "0003"
    assert [each.revision for each in await migrate.plan(database, "+1")] == ["0004"] * 5
    # Up to the last that this release needs, and with it what was left of the release before.
    assert (await migrate.plan(database, "pre"))[-1].revision == migrate.needed()
    await database.stop()


def test_every_migration_says_when_it_is_to_run() -> None:
    for path in (*folder().glob("versions/*.py"), *folder().glob("vector/versions/*.py")):
        if path.name[:4] > "0003" and path.name[0] != "v":  # those before were released without
            assert re.search(r'^phase = "(pre|post)"$', path.read_text(), re.MULTILINE), path.name
    assert isinstance(FOLDER, Path)
