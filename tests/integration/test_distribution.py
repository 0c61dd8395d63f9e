"""Distribution of the tables over the servers of a Citus cluster.

Citus is not available as a Python package. The checks of Postgres's catalog run on real servers; Citus is
replaced by an extension that has its catalogs and functions, and refuses what Citus is known to refuse.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import asyncpg
import pytest

from agentstore import AgentStore, EmbeddedPostgres, InvalidContent, NotConfigured, Settings, migrate
from agentstore.database.server import CITUS_FUNCTION
from agentstore.migrating.citus import function_names, tables
from agentstore.models import Base
from agentstore.operations import doctor
from agentstore.operations.distribution import (
    Distribution,
    DistributionPlan,
    distribute,
    distribution,
    plan,
    undistribute,
)
from agentstore.repositories.connect import open_database
from agentstore.testing import text
from tests.support.cli import run
from tests.support.psql import psql
from tests.support.servers import data_folder

_STAND_IN = """
CREATE TABLE public.pg_dist_node (
    groupid int, nodename text, nodeport int, noderole text, isactive bool, shouldhaveshards bool
);
CREATE TABLE public.pg_dist_placement (shardid bigint, groupid int);
CREATE TABLE public.pg_dist_shard (shardid bigint, logicalrelid regclass);
ALTER TABLE public.pg_dist_placement SET SCHEMA pg_catalog;
ALTER TABLE public.pg_dist_shard SET SCHEMA pg_catalog;
CREATE TABLE public.pg_dist_local_group (groupid int);
INSERT INTO public.pg_dist_local_group VALUES (0);
CREATE TABLE public.pg_dist_partition (logicalrelid regclass, partkey text, colocationid int);
ALTER TABLE public.pg_dist_node SET SCHEMA pg_catalog;
ALTER TABLE public.pg_dist_local_group SET SCHEMA pg_catalog;
ALTER TABLE public.pg_dist_partition SET SCHEMA pg_catalog;
CREATE TABLE public.calls (what text);
CREATE FUNCTION column_to_column_name(table_name regclass, key text) RETURNS text LANGUAGE sql AS 'SELECT key';
CREATE FUNCTION create_distributed_table(
    table_name regclass, distribution_column text, distribution_type text DEFAULT 'hash',
    colocate_with text DEFAULT 'default', shard_count int DEFAULT NULL
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('citus.multi_shard_modify_mode') <> 'sequential' THEN
        RAISE 'parallel';
    END IF;
    IF EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = table_name) THEN
        RAISE 'table % is already distributed', table_name;
    END IF;
    IF EXISTS (
        SELECT FROM pg_constraint f WHERE f.conrelid = table_name AND f.contype = 'f' AND f.confrelid <> table_name
            AND NOT EXISTS (SELECT FROM pg_dist_partition WHERE logicalrelid = f.confrelid)
    ) THEN
        RAISE 'referenced table must be a distributed table';
    END IF;
    INSERT INTO pg_dist_partition SELECT table_name, distribution_column, coalesce(
        (
            SELECT colocationid FROM pg_dist_partition
            WHERE logicalrelid = to_regclass(colocate_with)
        ),
        (SELECT 1 + count(*) FROM pg_dist_partition)
    );
    INSERT INTO public.calls VALUES (format('%s by %s in %s', table_name, distribution_column, shard_count));
END $$;
CREATE FUNCTION create_distributed_function(
    function_name regprocedure, distribution_arg_name text, colocate_with text
) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.calls VALUES (format('function by %s', distribution_arg_name));
END $$;
CREATE FUNCTION undistribute_table(table_name regclass, cascade_via_foreign_keys bool) RETURNS void LANGUAGE plpgsql
AS $$
BEGIN
    DELETE FROM pg_dist_partition WHERE logicalrelid = table_name
        OR colocationid = (SELECT colocationid FROM pg_dist_partition WHERE logicalrelid = table_name)
            AND logicalrelid <> 'agentstore.app_values'::regclass;
    INSERT INTO public.calls VALUES (format('%s is local', table_name));
END $$;
CREATE FUNCTION run_command_on_workers(command text)
RETURNS TABLE (nodename text, nodeport int, success bool, result text) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE command INTO result;
    RETURN QUERY SELECT n.nodename, n.nodeport, n.nodeport <> 0, r.result
        FROM pg_dist_node n, LATERAL (VALUES (result)) AS r (result) WHERE n.groupid > 0;
END $$;
CREATE FUNCTION truncate_local_data_after_distributing_table(table_name regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('TRUNCATE %s CASCADE', table_name);
    INSERT INTO public.calls VALUES ('removed');
END $$;
"""


@pytest.fixture(scope="module")
def coordinator() -> Iterator[EmbeddedPostgres]:
    """A server with an extension named citus. The bundled Postgres: Postgres 15 has no extension_control_path."""
    with data_folder() as folder:
        extension = folder / "share" / "extension"
        extension.mkdir(parents=True)
        control = "default_version = '14.0-1'\nrelocatable = false\nschema = pg_catalog\n"
        (extension / "citus.control").write_text(control)
        (extension / "citus--14.0-1.sql").write_text(_STAND_IN)
        for each in (folder, *folder.rglob("*")):
            each.chmod(0o755)
        parameters = {"extension_control_path": f"$system:{folder / 'share'}"}
        with EmbeddedPostgres(folder / "data", durable=False, parameters=parameters) as running:
            yield running


@pytest.fixture
async def url(coordinator: EmbeddedPostgres) -> AsyncIterator[str]:
    """The URL of a database at head, on a coordinator with two workers."""
    name = f"d{uuid4().hex[:8]}"
    psql(coordinator.url, f"CREATE DATABASE {name};")
    address = coordinator.url_of(name)
    psql(address, "CREATE EXTENSION citus; ALTER DATABASE " + name + " SET citus.multi_shard_modify_mode = 'parallel';")
    psql(address, "INSERT INTO pg_dist_node SELECT n, 'worker', n, 'primary', true, true FROM generate_series(1, 2) n;")
    await migrate.upgrade(address)
    yield address
    psql(coordinator.url, f"DROP DATABASE {name} WITH (FORCE);")


async def _state(url: str) -> Distribution:
    database = open_database(url)
    try:
        return await distribution(database)
    finally:
        await database.stop()


async def _plan(url: str, shards: int = 32) -> DistributionPlan:
    database = open_database(url)
    try:
        return await plan(database, shards=shards)
    finally:
        await database.stop()


async def _calls(url: str) -> list[str]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("SELECT what FROM public.calls")
    await connection.close()
    return [row[0].replace("agentstore.", "") for row in rows]


async def test_without_citus_the_only_obstacle_is_that_it_is_missing(direct_url: str, empty_url: str) -> None:
    """A migration that creates what Citus would refuse makes this fail."""
    assert [each.split(":")[0] for each in (await _plan(direct_url)).obstacles] == ["this server has no Citus"]
    found = await _state(direct_url)
    assert (found.state, found.distributed, set(found.local)) == ("local", (), set(Base.metadata.tables))
    assert found.local[0] == "users"
    with pytest.raises(NotConfigured, match="no Citus"):
        await distribute(direct_url)
    assert any("the schema is behind" in each for each in (await _plan(empty_url)).obstacles)
    for wrong in (0, -1, 1025, True, "32", 1.5):
        with pytest.raises(InvalidContent, match="shards"):
            await distribute(direct_url, shards=wrong)  # type: ignore[arg-type]


_OBSTACLES = {
    "CREATE UNIQUE INDEX x ON agentstore.messages (id)": "agentstore.x on messages is unique without the user",
    "CREATE UNIQUE INDEX x ON agentstore.messages (id) INCLUDE (user_id)": "agentstore.x on messages is unique without",
    "ALTER TABLE agentstore.users DROP CONSTRAINT users_pkey CASCADE;"
    "ALTER TABLE agentstore.users ALTER id DROP NOT NULL":
        "users has no column for the user that is text",
    "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
    "CREATE TRIGGER t BEFORE INSERT ON agentstore.sessions FOR EACH ROW EXECUTE FUNCTION f()": "has the trigger t",
    "CREATE TABLE agentstore.x (y text REFERENCES agentstore.users)": "of x references users from a table that is not",
    "CREATE TABLE x (id text PRIMARY KEY);"
    "ALTER TABLE agentstore.sessions ADD CONSTRAINT f FOREIGN KEY (user_id) REFERENCES x": "f of sessions references x",
    "CREATE UNIQUE INDEX u ON agentstore.sessions (user_id, title);"
    "ALTER TABLE agentstore.messages ADD CONSTRAINT f FOREIGN KEY (session_id, user_id)"
    " REFERENCES agentstore.sessions (user_id, title)": "f of messages does not contain the user",
    "ALTER TABLE agentstore.messages ADD CONSTRAINT f FOREIGN KEY (user_id, session_id)"
    " REFERENCES agentstore.sessions (user_id, id) ON DELETE SET NULL": "f of messages sets a column when",
    "ALTER TABLE agentstore.sessions ENABLE ROW LEVEL SECURITY": "sessions has row-level security",
}  # fmt: skip


@pytest.mark.parametrize("sql", _OBSTACLES)
async def test_a_table_property_that_citus_refuses_is_an_obstacle(direct_url: str, sql: str) -> None:
    psql(direct_url, sql + ";")
    found = (await _plan(direct_url)).obstacles
    assert any(_OBSTACLES[sql] in each for each in found), found


async def test_all_obstacles_are_reported_at_once(url: str) -> None:
    psql(url, "UPDATE pg_dist_node SET isactive = false;" + ";".join(list(_OBSTACLES)[:1]) + ";")
    psql(url, "UPDATE agentstore.agentstore_version SET version_num = '0005';")
    found = await _plan(url, shards=1_024)
    words = ("no server takes shards", "max_locks_per_transaction", "unique without the user", "the schema is behind")
    assert len(found.obstacles) == len(words)
    for word in words:
        assert any(word in each for each in found.obstacles), found.obstacles
    with pytest.raises(NotConfigured, match=r"no server takes shards.*unique without the user"):
        await distribute(url)
    assert await _calls(url) == []
    psql(url, "UPDATE pg_dist_local_group SET groupid = 7;")
    assert any("this server is a worker" in each for each in (await _plan(url)).obstacles)


async def test_the_tables_are_distributed_by_user_once(url: str) -> None:
    async with AgentStore(url) as store:
        session = await store.sessions.create_session("alice", "s")
        await store.sessions.append_message(session, text("hello"))
        assert (await _plan(url)).obstacles == ()
        assert (await _state(url)).state == "local"
        found = await distribute(url, shards=8)
    assert (found.state, found.distributed, found.local) == ("distributed", tuple(tables()), ())
    calls = await _calls(url)
    assert calls[0] == "users by id in 8"
    columns = {"app_values": "app"}  # which belong to no user
    functions = len(function_names())
    assert calls[1 : -1 - functions] == [f"{name} by {columns.get(name, 'user_id')} in " for name in tables()[1:]]
    assert calls[-1 - functions : -1] == ["function by p_user"] * functions
    assert calls[-1] == "removed"
    assert await distribute(url) == found
    assert await _calls(url) == calls
    assert {each.check: each.state for each in await _doctor(url)}["distribution"] == "ok"


async def test_tables_that_were_distributed_by_other_means_are_obstacles(url: str) -> None:
    psql(url, "INSERT INTO pg_dist_partition VALUES ('agentstore.users', 'created_at', 1);")
    psql(url, "INSERT INTO pg_dist_partition VALUES ('agentstore.sessions', 'user_id', 2);")
    found = await _plan(url)
    assert [each.split(":")[0] for each in found.obstacles] == [
        "users is distributed by created_at, not by id",
        "sessions is not colocated with users",
    ]
    finding = {each.check: each for each in await _doctor(url)}["distribution"]
    assert (finding.state, "messages" in finding.found) == ("problem", True)


async def test_an_incomplete_distribution_is_completed(url: str) -> None:
    """Some tables are local, or the coordinator still stores rows."""
    psql(url, "INSERT INTO agentstore.users (id) VALUES ('x'); SET citus.multi_shard_modify_mode = 'sequential';"
         "SELECT create_distributed_table('agentstore.users', 'id', colocate_with => 'none');")  # fmt: skip
    found = await _state(url)
    assert (found.state, found.local) == ("incomplete", tuple(tables()[1:]))
    assert not any("'id'" in each for each in (await _plan(url)).statements)
    assert (await distribute(url)).state == "distributed"
    psql(url, "INSERT INTO agentstore.users (id) VALUES ('x');")
    assert ((await _state(url)).state, len((await _plan(url)).statements)) == ("incomplete", 1)
    assert (await distribute(url)).state == "distributed"


async def _doctor(url: str) -> list[doctor.Finding]:
    database = open_database(url, settings=Settings())
    try:
        return await doctor.examine(database)
    finally:
        await database.stop()


def test_the_distribute_command_prints_or_executes_the_plan(direct_url: str, url: str) -> None:
    done = run("distribute", "--yes", "--url", direct_url)
    assert (done.code, done.out, "this server has no Citus" in done.err) == (1, "local\n", True)
    printed = run("distribute", "--dry-run", "--shards", "4", "--url", url)
    assert printed.code == 0
    assert printed.out.count("create_distributed_table(") == len(tables())
    assert run("distribute", "--dry-run", "--url", url, "--json").json()["state"] == "local"
    psql(url, printed.out)  # the printed SQL can be run by hand
    assert run("distribute", "--yes", "--url", url).out == "distributed\n"
    assert run("distribute", "--yes", "--url", url, "--json").json() == {
        "state": "distributed", "distributed": tables(), "local": [], "has_copies": False, "missing_functions": [],
        "obstacles": [],
        "statements": [],
    }  # fmt: skip
    assert run("distribute", "--shards", "0", "--url", url).code == 2


async def test_an_upgrade_distributes_what_is_local(url: str) -> None:
    """Of a database that is distributed: what an interrupted upgrade has left, and the functions that are missing."""
    await distribute(url)
    psql(url, "DELETE FROM pg_dist_partition WHERE logicalrelid = 'agentstore.user_values'::regclass;"
         f"DROP FUNCTION {_function()};")  # fmt: skip
    found = await _state(url)
    assert (found.state, found.local, len(found.missing_functions)) == ("incomplete", ("user_values",), 1)
    drift = await migrate.find_drift(url)
    assert [each.found for each in drift] == ["table user_values is not distributed"]
    assert (await asyncio.to_thread(run, "check", "--url", url)).code == 7
    findings = [each.found for each in await _doctor(url) if each.check == "distribution"]
    assert [each.split(":")[0] for each in findings] == [
        "not distributed by user", "functions of this release are missing"
    ]  # fmt: skip
    await migrate.upgrade(url)
    assert (await _state(url)).state == "distributed"
    calls = await _calls(url)
    await migrate.upgrade(url)
    assert await _calls(url) == calls


async def test_undistribute_makes_all_tables_local(url: str) -> None:
    await distribute(url)
    assert (await asyncio.to_thread(run, "undistribute", "--yes", "--url", url)).out == "local\n"
    found = await undistribute(url)
    assert (found.state, found.local, found.missing_functions) == ("local", tuple(tables()), ())
    connection = await asyncpg.connect(url)
    assert await connection.fetchval("SELECT to_regprocedure($1) IS NULL", _function())
    await connection.close()


async def test_an_open_store_follows_the_distribution(url: str) -> None:
    async with AgentStore(url) as store:
        await distribute(url)
        database = store._database
        assert not database.is_distributed
        assert await database._has_changed_form()
        session = await store.sessions.create_session("alice", "s")
        await store.sessions.append_message(session, text("2"))
        await undistribute(url)
        assert database.is_distributed
        await store.sessions.append_message(session, text("3"))  # the function does not exist any more
        assert not database.is_distributed
        assert (await store.sessions.get_session("alice", "s")).message_count == 2


async def test_the_doctor_reports_workers_and_uneven_shards(url: str) -> None:
    await distribute(url)
    psql(url, "INSERT INTO pg_dist_shard SELECT n, 'agentstore.users' FROM generate_series(1, 4) n;"
         "INSERT INTO pg_dist_placement SELECT n, 1 FROM generate_series(1, 4) n;"
         "INSERT INTO pg_dist_node VALUES (3, 'lost', 0, 'primary', true, true)")  # fmt: skip
    findings = [(each.state, each.found) for each in await _doctor(url) if each.check == "distribution"]
    assert findings == [
        ("problem", "the worker lost:0 cannot be reached"),
        ("warning", "the shards are not spread evenly: lost:0 has 0, worker:1 has 4, worker:2 has 0"),
    ]


async def test_connections_to_a_distributed_database_see_shards(url: str) -> None:
    """Where Citus hides them, each connection takes a second to read the types of arrays."""

    async def setting() -> str | None:
        connection = await asyncpg.connect(url)
        value: str | None = await connection.fetchval("SELECT current_setting('citus.override_table_visibility', true)")
        await connection.close()
        return value

    await distribute(url)
    assert await setting() == "off"
    assert {each.check: each.state for each in await _doctor(url)}["distribution"] == "ok"
    psql(url, "DO $$ BEGIN EXECUTE format("
         "'ALTER DATABASE %I SET citus.override_table_visibility TO on', current_database()); END $$;")  # fmt: skip
    (finding,) = (each for each in await _doctor(url) if each.check == "distribution")
    assert (finding.state, "types of arrays" in finding.found) == ("warning", True)
    await undistribute(url)
    assert await setting() in (None, "")


async def test_vectors_and_row_level_security_are_refused(url: str) -> None:
    await distribute(url)
    for refused in (migrate.enable_vectors, migrate.enable_row_security):
        with pytest.raises(NotConfigured, match="distributed by Citus"):
            await refused(url)


def _function() -> str:
    return f"agentstore.{CITUS_FUNCTION}(text, text, text[], text[], bigint, bigint, bigint, float8)"
