"""Drift: each change of the schema by hand is found, named and corrected, and nothing else is reported."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence

import asyncpg
import pytest

from agentstore import AgentStore, Conflict, NotConfigured, Settings, migrate
from agentstore.migrating.catalog import FILE, Catalog, Key, expected_catalog
from agentstore.migrating.drift import Difference, differences
from agentstore.migrating.revisions import folder
from tests.migrations.catalog import catalogs, rows
from tests.migrations.dump import FOLDER, dump
from tests.migrations.test_revisions import _load
from tests.support.cli import run
from tests.support.psql import psql

pytestmark = pytest.mark.slow

_HEAD = expected_catalog(migrate.head())
_VECTORS = expected_catalog(migrate.head("vector"), "vector")
# Another type, to which values of the type can be converted.
_OTHER_TYPES = {
    "text": "varchar(900)",
    "bigint": "integer",
    "smallint": "integer",
    "boolean": "text",
    "json": "jsonb",
    "timestamp with time zone": "timestamp",
    "double precision": "real",
    "tsvector": "text",
    "bytea": "text",
    "text[]": "varchar[]",
    "character varying(32)": "text",
    "vector": "public.vector(3)",
}


@pytest.mark.parametrize("line", ["", "vector"])
async def test_the_stored_catalog_is_what_the_migrations_create(empty_url: str, line: str, has_pgvector: bool) -> None:
    if line and not has_pgvector:
        return
    stored = json.loads((folder() / FILE).read_text())[line]
    advice = "run `python -m tests.migrations.catalog`"
    assert [list(row) for row in rows(await catalogs(empty_url, line))] == stored, advice


async def test_no_revision_has_drift_with_and_without_row_security(empty_url: str) -> None:
    for revision in reversed(migrate.history()):
        await migrate.upgrade(empty_url, revision.id)
        assert await migrate.find_drift(empty_url) == []
    await migrate.enable_row_security(empty_url)
    for _ in migrate.history():
        assert await migrate.find_drift(empty_url) == []
        await migrate.downgrade(empty_url, "-1")
    assert await migrate.find_drift(empty_url) == []


@pytest.mark.parametrize("revision", sorted(path.stem for path in FOLDER.glob("*.sql")))
async def test_an_upgraded_schema_has_no_drift(empty_url: str, revision: str) -> None:
    await _load(empty_url, revision)
    assert await migrate.find_drift(empty_url) == []
    for target in ("pre", "head"):
        await migrate.upgrade(empty_url, target, run_earlier_post=True)
        assert await migrate.find_drift(empty_url) == []
    assert (await asyncio.to_thread(run, "check", "--url", empty_url)).code == 0


@pytest.mark.parametrize("schema", ["public", "other_1"])
async def test_a_schema_of_any_name_with_vectors_and_row_security_has_no_drift(
    empty_url: str, schema: str, has_pgvector: bool
) -> None:
    settings = Settings(schema=schema)
    await migrate.upgrade(empty_url, settings=settings)
    assert await migrate.find_drift(empty_url, settings=settings) == []
    if has_pgvector:
        await migrate.enable_vectors(empty_url, settings=settings)
        assert await migrate.find_drift(empty_url, settings=settings) == []
    await migrate.enable_row_security(empty_url, settings=settings)
    assert await migrate.find_drift(empty_url, settings=settings) == []
    await migrate.disable_row_security(empty_url, settings=settings)
    assert await migrate.find_drift(empty_url, settings=settings) == []


async def test_a_restored_schema_has_no_drift(empty_url: str, direct_url: str, has_pgvector: bool) -> None:
    if has_pgvector:
        await migrate.enable_vectors(direct_url)
        psql(empty_url, "CREATE EXTENSION vector;")
    await migrate.enable_row_security(direct_url)
    psql(empty_url, await asyncio.to_thread(dump, direct_url))
    assert await migrate.find_drift(empty_url) == []
    psql(empty_url, "DROP POLICY agentstore_user ON agentstore.users;")
    assert len(await migrate.find_drift(empty_url)) == 1


_NO_DRIFT = [
    "CREATE TABLE agentstore.theirs (id int PRIMARY KEY)",
    "ALTER TABLE agentstore.sessions ADD COLUMN theirs text",
    "ALTER TABLE agentstore.sessions ADD COLUMN theirs text NOT NULL DEFAULT 'x'",
    "CREATE INDEX theirs ON agentstore.sessions (title)",
    "ALTER TABLE agentstore.messages SET (autovacuum_vacuum_scale_factor = 0.01)",
    "ALTER TABLE agentstore.messages ALTER COLUMN payload SET STORAGE EXTERNAL",
]


@pytest.mark.parametrize("change", _NO_DRIFT)
async def test_what_harms_no_statement_is_no_drift(direct_url: str, change: str) -> None:
    psql(direct_url, f"{change};")
    assert await migrate.find_drift(direct_url) == []


@pytest.fixture
async def altered(direct_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection in whose transaction the schema is altered; the search_path lacks the schema."""
    connection = await asyncpg.connect(direct_url)
    yield connection
    await connection.close()


async def _assert_found(
    connection: asyncpg.Connection, expected: Catalog, change: str, named: Sequence[str]
) -> list[Difference]:
    """Change the schema in a transaction: a difference has these names, and the statements correct all of them."""
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute(change)
    found = await differences(connection, "agentstore", expected)
    assert any(all(name in each.found for name in named) for each in found), (change, found)
    for each in found:
        try:
            await connection.execute(each.statement.replace("CONCURRENTLY ", ""))
        except asyncpg.PostgresError as error:
            raise AssertionError((change, each)) from error
    assert await differences(connection, "agentstore", expected) == [], (change, found)
    await transaction.rollback()
    return found


def _drops(expected: Catalog, key: Key) -> str:
    """Return the SQL that drops an object."""
    table = f"agentstore.{key.table}"
    if key.kind == "table":
        return f"DROP TABLE {table} CASCADE"
    if key.kind == "column":
        # A column that may not be NULL can be added to an empty table.
        empty = f"DELETE FROM {table}; " if "version" in key.table else ""
        return f"{empty}ALTER TABLE {table} DROP COLUMN {key.name} CASCADE"
    if key.kind == "storage parameter":
        return f"ALTER TABLE {table} RESET ({key.name})"
    if key.kind == "default":
        return f"ALTER TABLE {table} ALTER COLUMN {key.name} DROP DEFAULT"
    if key.kind == "constraint":
        return f"ALTER TABLE {table} DROP CONSTRAINT {key.name} CASCADE"
    if key.kind == "index":
        return f"DROP INDEX agentstore.{key.name}"
    if key.kind == "function":
        return f"DROP FUNCTION agentstore.{key.name} CASCADE"
    if key.kind == "row security":
        return f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY"
    if key.kind in ("trigger", "policy"):
        return f"DROP {key.kind} {key.name} ON {table}"
    assert key.kind == "not null"
    keys = [
        f"ALTER TABLE {table} DROP CONSTRAINT {other.name} CASCADE; "
        for other, definition in expected.items()
        if (other.kind, other.table) == ("constraint", key.table)
        and definition.startswith("PRIMARY KEY")
        and key.name in definition.removeprefix("PRIMARY KEY (").removesuffix(")").split(", ")
    ]
    return f"{''.join(keys)}ALTER TABLE {table} ALTER COLUMN {key.name} DROP NOT NULL"


_OF_POLICIES = ("row security", "policy")


async def test_each_dropped_object_is_found_and_named(altered: asyncpg.Connection) -> None:
    expected = {key: it for key, it in _HEAD.items() if key.kind not in _OF_POLICIES}
    kinds = {"table", "storage parameter", "column", "default", "not null", "constraint", "function", "index"}
    assert {key.kind for key in expected} == kinds
    for key in expected:
        found = await _assert_found(altered, expected, _drops(expected, key), [key.table, key.name])
        if key.kind in ("default", "index", "storage parameter"):
            assert len(found) == 1


async def test_each_altered_type_and_collation_is_found_and_named(altered: asyncpg.Connection) -> None:
    columns = {key: it for key, it in _HEAD.items() if key.kind == "column"}
    for key, definition in columns.items():
        alter = f"ALTER TABLE agentstore.{key.table} ALTER COLUMN {key.name}"
        name = definition.partition(" COLLATE ")[0]
        # A default and a predicate may have no conversion.
        indexes = [each.name for each in _HEAD if each.kind == "index" and each.table == key.table]
        change = "".join(
            f"DROP INDEX agentstore.{each}; " for each in indexes if name in ("boolean", "tsvector", "json")
        )
        change += (
            f"{alter} DROP DEFAULT; {alter} TYPE {_OTHER_TYPES[name]} USING {key.name}::text::{_OTHER_TYPES[name]}"
        )
        await _assert_found(altered, _HEAD, change, [f"{key.table}.{key.name}", definition])
        if name != definition:
            await _assert_found(altered, _HEAD, f"{alter} TYPE text", [f"{key.table}.{key.name}", definition])


async def test_each_altered_constraint_is_found_and_named(altered: asyncpg.Connection) -> None:
    for key, definition in _HEAD.items():
        if key.kind != "constraint":
            continue
        table, names = f"agentstore.{key.table}", [key.table, key.name]
        rename = f"ALTER TABLE {table} RENAME CONSTRAINT {key.name} TO other"
        assert len(await _assert_found(altered, _HEAD, rename, [*names, "other"])) == 1
        if definition.startswith("FOREIGN KEY"):
            again = definition.replace("REFERENCES ", "REFERENCES agentstore.")
            recreate = f"ALTER TABLE {table} DROP CONSTRAINT {key.name}, ADD CONSTRAINT {key.name} "
            for other in (f"{again} NOT VALID", again.replace("CASCADE", "RESTRICT"), f"{again} DEFERRABLE"):
                assert len(await _assert_found(altered, _HEAD, recreate + other, names)) == 1
            await _assert_found(altered, _HEAD, f"ALTER TABLE {table} DISABLE TRIGGER ALL", [*names, "DISABLED"])


_CHANGES = {
    "ALTER TABLE agentstore.messages SET UNLOGGED": ["table messages", "UNLOGGED"],
    "ALTER TABLE agentstore.users ADD COLUMN x int NOT NULL": ["column users.x"],
    "ALTER TABLE agentstore.users ALTER COLUMN metadata SET DEFAULT '[]'": ["users.metadata", "'[]'", "'{}'"],
    "ALTER TABLE agentstore.sessions ALTER COLUMN title SET NOT NULL": ["sessions.title"],
    "ALTER TABLE agentstore.sessions ALTER COLUMN title SET DEFAULT ''": ["sessions.title"],
    "ALTER TABLE agentstore.sessions ADD CONSTRAINT x UNIQUE (title)": ["constraint x of sessions"],
    "ALTER TABLE agentstore.sessions ADD CONSTRAINT x CHECK (title <> '')": ["constraint x of sessions"],
    "CREATE UNIQUE INDEX x ON agentstore.sessions (title)": ["index x of sessions"],
    "DROP INDEX agentstore.sessions_ttl_idx; CREATE INDEX sessions_ttl_idx ON agentstore.sessions (ttl)": ["ttl_idx"],
    "ALTER INDEX agentstore.sessions_ttl_idx RENAME TO other": ["sessions_ttl_idx", "other"],
    "DROP TABLE agentstore.messages, agentstore.sessions CASCADE": ["table messages is missing"],
    "ALTER FUNCTION agentstore.metadata_terms(json) VOLATILE": ["function metadata_terms"],
    "CREATE OR REPLACE FUNCTION agentstore.metadata_terms(metadata json) RETURNS bigint[] IMMUTABLE STRICT COST 500 "
    "LANGUAGE sql AS $$ SELECT '{}'::bigint[] $$": ["function metadata_terms"],
}


async def test_a_not_null_constraint_that_is_not_valid_is_found(altered: asyncpg.Connection) -> None:
    if altered.get_server_version().major < 18:  # it has no such constraints
        return
    change = """
    ALTER TABLE agentstore.sessions ALTER COLUMN next_seq DROP NOT NULL;
    ALTER TABLE agentstore.sessions ADD CONSTRAINT x NOT NULL next_seq NOT VALID
    """
    assert len(await _assert_found(altered, _HEAD, change, ["sessions.next_seq may be NULL"])) == 1
    change = "ALTER TABLE agentstore.sessions DROP CONSTRAINT sessions_next_seq_not_null"
    assert len(await _assert_found(altered, _HEAD, change, ["sessions.next_seq may be NULL"])) == 1
    change = """
    ALTER TABLE agentstore.sessions DROP CONSTRAINT sessions_ttl_check;
    ALTER TABLE agentstore.sessions ADD CONSTRAINT sessions_ttl_check CHECK (ttl > 0) NOT ENFORCED
    """
    assert len(await _assert_found(altered, _HEAD, change, ["sessions_ttl_check", "NOT ENFORCED"])) == 1


async def test_other_parameters_of_an_index_are_corrected_without_rebuilding_it(altered: asyncpg.Connection) -> None:
    for change in ("SET (fastupdate = on, gin_pending_list_limit = 64)", "RESET (fastupdate)"):
        alter = f"ALTER INDEX agentstore.memories_lexemes_idx {change}"
        (found,) = await _assert_found(altered, _HEAD, alter, ["memories_lexemes_idx", "fastupdate=off"])
        assert "DROP INDEX" not in found.statement
        assert "gin_clean_pending_list" in found.statement  # what was collected remains otherwise


@pytest.mark.parametrize("change", _CHANGES)
async def test_each_other_change_is_found_and_named(altered: asyncpg.Connection, change: str) -> None:
    await _assert_found(altered, _HEAD, change, _CHANGES[change])


async def test_each_difference_of_policies_is_found_and_named(altered: asyncpg.Connection, direct_url: str) -> None:
    await migrate.enable_row_security(direct_url)
    for key in _HEAD:
        if key.kind not in _OF_POLICIES or key.table.startswith("agentstore_version"):
            continue
        table = f"agentstore.{key.table}"
        await _assert_found(altered, _HEAD, _drops(_HEAD, key), [key.table, key.name])
        if key.kind == "policy":
            other = "false" if key.table == "app_values" else "true"  # whose values all users share
            for change in (f"USING ({other})", f"WITH CHECK ({other})", "TO pg_monitor"):
                alter = f"ALTER POLICY {key.name} ON {table} {change}"
                assert len(await _assert_found(altered, _HEAD, alter, [key.table, key.name])) == 1
            other = f"CREATE POLICY x ON {table} USING (true)"
            assert len(await _assert_found(altered, _HEAD, other, [key.table, "policy x"])) == 1
        else:
            force = f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY"
            assert len(await _assert_found(altered, _HEAD, force, [key.table])) == 1


async def test_each_difference_of_vectors_is_found_and_named(
    altered: asyncpg.Connection, direct_url: str, has_pgvector: bool
) -> None:
    if not has_pgvector:
        return
    await migrate.enable_vectors(direct_url)
    expected = {**_HEAD, **_VECTORS}
    for key in _VECTORS:
        if key.kind not in _OF_POLICIES:
            await _assert_found(altered, expected, _drops(expected, key), [key.table, key.name])
    for change, named in {
        "ALTER TABLE agentstore.memories DISABLE TRIGGER memory_vectors_forget": ["memory_vectors_forget", "DISABLED"],
        "ALTER FUNCTION agentstore.memory_vectors_forget() RESET search_path": ["function memory_vectors_forget"],
        "ALTER TABLE agentstore.memory_vectors ALTER COLUMN embedding TYPE public.vector(3)": ["embedding", "vector"],
    }.items():
        await _assert_found(altered, expected, change, named)


_END_TO_END = {
    "ALTER TABLE agentstore.messages DROP CONSTRAINT messages_user_id_session_id_id_key": "user_id_session_id_id_key",
    "ALTER TABLE agentstore.messages DROP CONSTRAINT messages_user_id_session_id_fkey": "messages_user_id_session_id_f",
    "ALTER TABLE agentstore.sandboxes DROP CONSTRAINT sandboxes_state_check": "sandboxes_state_check",
    "DROP INDEX agentstore.memories_items_idx": "memories_items_idx",
    "ALTER TABLE agentstore.sessions ALTER COLUMN metadata DROP DEFAULT": "sessions.metadata",
    "ALTER TABLE agentstore.state_rounds ALTER COLUMN size TYPE int": "state_rounds.size",
    "ALTER TABLE agentstore.users ALTER COLUMN metadata DROP NOT NULL": "users.metadata",
    "DROP POLICY agentstore_user ON agentstore.state_heads": "policy agentstore_user of state_heads",
    "DROP TABLE agentstore.workspaces CASCADE": "table workspaces",
}


@pytest.mark.parametrize("change", _END_TO_END)
def test_check_fails_and_doctor_prints_the_statement_that_corrects_it(direct_url: str, change: str) -> None:
    asyncio.run(migrate.enable_row_security(direct_url))
    assert run("check", "--url", direct_url).code == 0
    psql(direct_url, f"{change};")
    done = run("check", "--url", direct_url)
    assert (done.code, _END_TO_END[change] in done.err) == (7, True)
    listed = run("check", "--json", "--url", direct_url)
    assert (listed.code, len(json.loads(listed.out)["drift"])) == (7, done.err.count("doctor"))
    diagnosed = run("doctor", "--json", "--url", direct_url)
    findings = [each for each in json.loads(diagnosed.out) if each["check"] == "drift"]
    assert (diagnosed.code, _END_TO_END[change] in findings[0]["found"]) == (1, True)
    for finding in findings:
        psql(direct_url, f"{finding['advice'].replace('; ', chr(10) + ';')};")
    assert run("check", "--url", direct_url).code == 0


async def test_a_start_on_a_schema_that_lacks_a_table_is_refused(direct_url: str) -> None:
    psql(direct_url, "DROP TABLE agentstore.messages, agentstore.workspaces CASCADE;")
    for mode in ("check", "upgrade"):
        with pytest.raises(NotConfigured, match="lacks tables of its revision: messages, workspaces"):
            await AgentStore(direct_url, settings=Settings(auto_migrate=mode)).start()
    # What this release needs exists on the schema of a later one as well.
    psql(direct_url, "UPDATE agentstore.agentstore_version SET version_num = 'later';")
    with pytest.raises(NotConfigured, match="lacks tables of its revision: messages"):
        await AgentStore(direct_url).start()
    assert await migrate.find_drift(direct_url) == []


async def test_a_stamp_on_a_schema_that_lacks_tables_or_columns_is_refused(empty_url: str) -> None:
    with pytest.raises(
        Conflict, match=rf"not at revision {migrate.head()}: table app_values is missing, .*table workspaces is miss"
    ):
        await migrate.stamp(empty_url, "head")
    await migrate.upgrade(empty_url, "0004")
    with pytest.raises(Conflict, match=r"not at revision 0005: column sessions.forked_at is missing"):
        await migrate.stamp(empty_url, "0005")
    done = await asyncio.to_thread(run, "stamp", "head", "--url", empty_url)
    assert (done.code, "table sandboxes is missing" in done.err) == (1, True)
    for revision in ("0003", "0004", "base"):
        await migrate.stamp(empty_url, revision)
    database = await asyncio.to_thread(run, "current", "--url", empty_url)
    assert database.out == "none (behind)\n"
