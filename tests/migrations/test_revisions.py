"""Every released revision upgrades to the head and keeps its rows; a downgrade lists the data that it would lose."""

import ast
import re
from typing import Any

import asyncpg
import pytest

from agentstore import AgentStore, Conflict, Message, migrate
from agentstore.database.database import Database
from agentstore.migrating.effects import created_table, effects, migration_statements
from agentstore.migrating.revisions import folder
from agentstore.repositories.connect import open_database
from tests.migrations.dump import FOLDER, added, columns

pytestmark = pytest.mark.slow

_COLUMNS = """
SELECT table_name, column_name FROM information_schema.columns
WHERE table_schema = 'agentstore' AND table_name !~ '^(agentstore|alembic)_version' ORDER BY 1, ordinal_position
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
UNION ALL
SELECT 'function', p.proname, pg_get_functiondef(p.oid), NULL, NULL, NULL, NULL, NULL
FROM pg_proc p WHERE p.pronamespace = 'agentstore'::regnamespace
ORDER BY 1, 2, 3
"""
_DEFAULTS = """
SELECT table_name, column_name, column_default FROM information_schema.columns WHERE table_schema = 'agentstore'
"""
_LOCKS = """
SELECT c.relname, l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
WHERE l.pid = pg_backend_pid() AND l.granted AND c.relnamespace = 'agentstore'::regnamespace
    AND c.relkind = CASE WHEN $1 LIKE 'ALTER INDEX%' THEN 'i' ELSE 'r' END
"""
_WEAK = {"AccessShareLock", "RowShareLock", "RowExclusiveLock"}
_REVISIONS = [revision.id for revision in reversed(migrate.history())]


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
    """Return the number of rows of each table, and a checksum of these columns."""
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
    """Return the definitions of what the schema consists of, but those of the version table."""
    connection = await asyncpg.connect(url)
    rows: list[asyncpg.Record] = await connection.fetch(_CATALOG)
    await connection.close()
    return [row for row in rows if not re.match("(agentstore|alembic)_version", row[1])]


def test_each_released_revision_has_a_dump() -> None:
    dumped = {path.stem for path in FOLDER.glob("*.sql")}
    missing = [revision for revision in _REVISIONS if revision not in dumped]
    assert not missing, (
        f"Add rows for new tables and columns to _ROWS, and run `python -m tests.migrations.dump {' '.join(missing)}`"
    )
    assert sorted(dumped) == sorted(_REVISIONS)
    for path in FOLDER.glob("*.sql"):
        assert "INSERT INTO agentstore.messages" in path.read_text()


@pytest.mark.parametrize("revision", _REVISIONS)
async def test_a_dump_has_values_in_every_table_and_column_that_its_revision_adds(
    empty_url: str, revision: str
) -> None:
    """So that the other tests see whether an upgrade or a downgrade loses them."""
    await _load(empty_url, revision)
    assert {table: sorted(names) for table, names in (await _columns(empty_url)).items()} == {
        table: sorted(names) for table, names in columns(revision).items()
    }
    connection = await asyncpg.connect(empty_url)
    defaults = {(table, name): default for table, name, default in await connection.fetch(_DEFAULTS)}
    new_tables, new_columns = added(revision)
    new_columns += [(table, name) for table in new_tables for name in columns(revision)[table]]
    advice = f"fill it in tests/migrations/dump.py and run `python -m tests.migrations.dump {revision}`"
    for table in new_tables:
        rows = await connection.fetchval(f"SELECT count(*) FROM agentstore.{table}")
        assert rows, f"The dump of revision {revision} has no rows of its new table {table}: {advice}"
    for table, name in new_columns:
        default = defaults[table, name] or "NULL"
        values = await connection.fetchval(
            f'SELECT count(*) FROM agentstore.{table} WHERE "{name}"::text IS DISTINCT FROM ({default})::text'
        )
        assert values, (
            f"The dump of revision {revision} has no value other than the default in its new column {table}.{name}: "
            f"{advice}"
        )
    await connection.close()


@pytest.mark.parametrize("revision", _REVISIONS)
async def test_a_revision_upgrades_to_the_head_and_keeps_every_row(
    empty_url: str, direct_url: str, revision: str
) -> None:
    await _load(empty_url, revision)
    columns_before = await _columns(empty_url)
    before = await checksums(empty_url, columns_before)
    assert all(count > 0 for count, _ in before.values())
    await migrate.upgrade(empty_url)
    assert await checksums(empty_url, columns_before) == before
    assert await catalog(empty_url) == await catalog(direct_url)
    async with AgentStore(empty_url) as store:
        for user in ("", "alice", "密:%", "a\\b'c "):
            for id in ("", "s", "会:%"):
                session = await store.sessions.get_session(user, id)
                assert session is not None
                stored = 20 if (user, id) in (("alice", "s"), ("密:%", "s")) else 19
                removed = 2 if revision >= "0012" and id == "s" else 0
                assert len(session.messages) == session.message_count == stored - removed
                await store.sessions.append_message(session, Message(role="user"))
                await store.states.save_state(user, {}, id)


# Revisions that add only indexes and constraints, and those that add tables or columns, according to their dumps.
_LOSSLESS = [revision for revision in _REVISIONS if added(revision) == ([], [])]
# Revisions that change nothing but the order in which indexes were created.
_REORDERING = ("0021",)
_LOSING = [revision for revision in _REVISIONS if revision not in _LOSSLESS]


@pytest.mark.parametrize("revision", _LOSSLESS)
async def test_a_downgrade_and_an_upgrade_keep_every_row(empty_url: str, revision: str) -> None:
    await _load(empty_url, revision)
    columns_before, catalog_before = await _columns(empty_url), await catalog(empty_url)
    before = await checksums(empty_url, columns_before)
    await migrate.downgrade(empty_url, "-1")
    assert (await catalog(empty_url) == catalog_before) == (revision in _REORDERING)
    assert await checksums(empty_url, columns_before) == before
    await migrate.upgrade(empty_url, revision)
    assert await checksums(empty_url, columns_before) == before
    assert await catalog(empty_url) == catalog_before


async def _expected_losses(url: str, revision: str) -> set[str]:
    """Return what a downgrade from a revision must report: all that the revision adds, with the numbers of rows."""
    tables, new_columns = added(revision)
    connection = await asyncpg.connect(url)
    expected = {
        f"{await connection.fetchval(f'SELECT count(*) FROM agentstore.{each}')} rows of {each}" for each in tables
    }
    for table, name in new_columns:
        rows = await connection.fetchval(f'SELECT count("{name}") FROM agentstore.{table}')
        expected.add(f"{rows} rows of {table} have a {name}")
    await connection.close()
    return expected


@pytest.mark.parametrize("revision", _LOSING)
async def test_a_downgrade_that_would_lose_data_is_refused_and_lists_it(empty_url: str, revision: str) -> None:
    await _load(empty_url, revision)
    columns_before, catalog_before = await _columns(empty_url), await catalog(empty_url)
    before = await checksums(empty_url, columns_before)
    with pytest.raises(Conflict, match="would lose data: ") as refused:
        await migrate.downgrade(empty_url, "-1")
    listed = str(refused.value).partition("would lose data: ")[2].removesuffix(".").split(", ")
    assert set(listed) == await _expected_losses(empty_url, revision)
    assert await catalog(empty_url) == catalog_before
    assert await checksums(empty_url, columns_before) == before
    await migrate.downgrade(empty_url, "-1", lose_data=True)
    remaining = await _columns(empty_url)
    before = await checksums(empty_url, remaining)
    await migrate.upgrade(empty_url, revision)
    assert await checksums(empty_url, remaining) == before
    assert await catalog(empty_url) == catalog_before


async def test_an_empty_database_is_downgraded_step_by_step(empty_url: str) -> None:
    await migrate.upgrade(empty_url)
    for _ in migrate.history():
        await migrate.downgrade(empty_url, "-1")
    assert await _columns(empty_url) == {}


async def test_predicted_locks_are_those_that_the_server_takes(observer: asyncpg.Connection) -> None:
    """Execute each statement, and compare its locks on existing tables with what was predicted."""
    connection = observer
    await connection.execute("DROP SCHEMA agentstore CASCADE; CREATE SCHEMA agentstore; SET search_path TO agentstore")
    await connection.execute("CREATE TABLE agentstore_version (version_num text)")
    for revision in reversed(migrate.history()):
        sql = migrate.sql(f"{revision.previous or 'base'}:{revision.id}")
        created: set[str] = set()
        for statement in migration_statements(sql):
            created.add(created_table(statement) or "")
            predicted = effects(statement)
            assert "unknown" not in {effect.work for effect in predicted}, statement
            if "CONCURRENTLY" in statement:
                await connection.execute(statement)
                continue
            await connection.execute("BEGIN")
            await connection.execute(statement)
            taken = {
                (table, _mode(mode))
                for table, mode in await connection.fetch(_LOCKS, statement)
                if mode not in _WEAK and table not in created
            }
            await connection.execute("COMMIT")
            assert taken == {(each.table, each.lock) for each in predicted if each.table not in created}, statement


def _mode(mode: str) -> str:
    """Convert ShareRowExclusiveLock to SHARE ROW EXCLUSIVE."""
    return " ".join(re.findall("[A-Z][a-z]+", mode.removesuffix("Lock"))).upper()


@pytest.mark.parametrize(
    ("statement", "lock", "work", "online"),
    [
        ("CREATE INDEX x ON sessions (title)", "SHARE", "scan", False),
        ("CREATE UNIQUE INDEX CONCURRENTLY x ON sessions (title)", "SHARE UPDATE EXCLUSIVE", "scan", True),
        ("REINDEX INDEX CONCURRENTLY sessions_pkey", "SHARE UPDATE EXCLUSIVE", "scan", True),
        ("ALTER TABLE sessions ALTER COLUMN title SET NOT NULL", "ACCESS EXCLUSIVE", "scan", False),
        ("ALTER TABLE sessions ALTER COLUMN ttl TYPE TEXT", "ACCESS EXCLUSIVE", "rewrite", False),
        ("ALTER TABLE sessions ADD COLUMN x UUID DEFAULT gen_random_uuid()", "ACCESS EXCLUSIVE", "rewrite", False),
        ("ALTER TABLE sessions ADD COLUMN x BIGINT DEFAULT 7", "ACCESS EXCLUSIVE", "none", True),
        ("ALTER TABLE sessions ADD CONSTRAINT x CHECK (ttl > 0)", "ACCESS EXCLUSIVE", "scan", False),
        ("UPDATE sessions SET ttl = 1", "ROW EXCLUSIVE", "rows", True),
        ("VACUUM FULL sessions", "", "unknown", False),
    ],
)
def test_effects_show_what_is_not_safe_in_use(statement: str, lock: str, work: str, online: bool) -> None:
    (effect,) = effects(statement)
    assert (effect.lock, effect.work, effect.online) == (lock, work, online)


async def test_a_plan_lists_the_pending_migrations_with_sizes_and_changes_nothing(empty_url: str) -> None:
    await _load(empty_url, "0003")
    pending = _REVISIONS[_REVISIONS.index("0003") + 1 :]
    database: Database = open_database(empty_url)
    planned = await migrate.plan(database)
    assert list(dict.fromkeys(each.revision for each in planned)) == pending
    assert all(effect.online for each in planned for effect in each.effects)
    (scan,) = [effect for each in planned for effect in each.effects if each.revision == "0009"]
    assert (scan.table, scan.work, scan.bytes > 0) == ("sessions", "scan", True)
    assert (await migrate.status(database)).current == "0003"
    assert [each.revision for each in await migrate.plan(database, "+1")] == ["0004"] * 5
    # Up to the last migration that this release needs, including pending ones of the previous release.
    assert (await migrate.plan(database, "pre"))[-1].revision == migrate.needed()
    await database.stop()


def test_every_migration_states_its_phase_its_locks_and_its_time() -> None:
    for path in (*folder().glob("versions/*.py"), *folder().glob("vector/versions/*.py")):
        text = path.read_text()
        assert re.search(r'^phase = "(pre|post)"$', text, re.MULTILINE), path.name
        docstring = " ".join((ast.get_docstring(ast.parse(text)) or "").split())
        assert re.search(r" Locks: \w.*\. Time: \w.*\.", docstring), path.name


def test_every_migration_imports_only_what_never_changes() -> None:
    """Models describe the newest schema, so a migration that imports them no longer runs once they change."""
    allowed = {"sqlalchemy", "alembic", "agentstore.migrating.steps"}
    for path in (*folder().glob("versions/*.py"), *folder().glob("vector/versions/*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            wrong = [name for name in names if name not in allowed and not name.startswith("sqlalchemy.")]
            assert not wrong, f"{path.name} imports {wrong[0]}: write the table and its columns in the migration"


def test_every_migration_names_the_locks_that_it_takes() -> None:
    paths = {path.stem.partition("_")[0]: path for path in folder().glob("versions/*.py")}
    for revision in migrate.history():
        docstring = " ".join((ast.get_docstring(ast.parse(paths[revision.id].read_text())) or "").split())
        locks = docstring.partition("Locks: ")[2].partition(" Time: ")[0]
        existing = columns(revision.previous)
        for statement in migration_statements(migrate.sql(f"{revision.previous or 'base'}:{revision.id}")):
            for effect in effects(statement):
                if effect.table in existing:
                    named = effect.lock in locks and effect.table in locks
                    assert named, f"{paths[revision.id].name}: Locks lacks {effect.lock} on {effect.table}"
