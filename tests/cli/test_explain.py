"""``agentstore explain``."""

import asyncio
import json
import re
from uuid import uuid4

import asyncpg
import pytest

from agentstore import AgentStore, NotConfigured, NotFound, SchemaBehind, Settings, migrate
from agentstore.database.database import Database
from agentstore.database.sql import SqlStatement
from agentstore.operations.explain import Explained, explain, statements
from agentstore.operations.grants import grants
from agentstore.repositories.connect import open_database
from tests.integration.test_statements import MODULES, statements_of
from tests.support.cli import run
from tests.support.pgbouncer import PgBouncer
from tests.support.psql import psql
from tests.support.roles import with_role

_KEY = ("--param", "user_id=alice", "--param", "session_id=s")
_LIST = "SELECT tablename FROM pg_tables WHERE schemaname = 'agentstore' AND tablename NOT LIKE 'alembic%'"


async def _explain_all(database: Database, has_pgvector: bool, values: dict[str, str] | None = None) -> list[Explained]:
    found = []
    for name, statement in statements().items():
        if not has_pgvector and "memory_vectors" in statement.compile(Settings()).sql:
            with pytest.raises(NotConfigured, match="vector enable"):
                await explain(database, name, values)
        else:
            found.append(await explain(database, name, values))
    return found


def test_each_statement_is_listed_once_with_its_purpose() -> None:
    listed = {each["name"]: each for each in run("explain", "--json").json()}
    assert list(listed) == sorted(statements())
    for each in listed.values():
        assert each["purpose"].endswith(".")
        assert each["sql"].startswith(("SELECT", "WITH", "INSERT", "UPDATE", "DELETE"))
    assert listed["memory/search"]["purpose"] == "Find the memories of a user whose words match a query best."
    assert listed["memory/search"]["races"] == "none, since it only reads"
    assert listed["users.SET_METADATA"]["purpose"] == "Insert or update rows of users."
    assert listed["sandboxes.workspaces.FENCE"]["purpose"] == "Lock rows of sandboxes."
    assert (listed["states.LIST"]["scope"], listed["users.LIST"]["scope"]) == ("user", "all")
    rows = [line.split() for line in run("explain").out.splitlines()]
    assert [row[0] for row in rows[1:]] == list(listed)


def test_no_statement_of_the_repositories_is_missing() -> None:
    paths = {each.path for each in statements().values() if isinstance(each, SqlStatement)}
    found = set(statements().values())
    for name, statement in statements_of(*MODULES):
        assert statement in found or (isinstance(statement, SqlStatement) and statement.path in paths), name


@pytest.mark.slow
async def test_every_statement_is_explained_and_none_executed(
    store: AgentStore, direct_url: str, observer: asyncpg.Connection, has_pgvector: bool
) -> None:
    if has_pgvector:
        await migrate.enable_vectors(direct_url)
    await store.users.set_metadata("alice", {"a": 1})
    values: dict[str, str] | None
    for values in (None, {}):
        for found in await _explain_all(store._database, has_pgvector, values):
            assert found.plan_json["Plan"]["Node Type"]
            numbers = set(re.findall(r"\$(\d+)", found.sql))
            assert numbers == {str(number) for number in range(1, len(found.parameters) + 1)}
            assert found.values == (None if values is None else dict.fromkeys(found.parameters))
    tables = [row[0] for row in await observer.fetch(_LIST)]
    counts = {table: await observer.fetchval(f"SELECT count(*) FROM agentstore.{table}") for table in tables}
    assert {table for table, count in counts.items() if count} == {
        "users",
        "agentstore_version",
        *(["agentstore_version_vector"] if has_pgvector else []),
    }
    assert await observer.fetchval("SELECT metadata::text FROM agentstore.users") == '{"a":1}'


def test_the_plan_is_generic_or_for_the_values_given(direct_url: str) -> None:
    url = ("--url", direct_url)
    generic = run("explain", "states.LIST", *url)
    assert (generic.code, generic.err) == (0, "")
    assert "Generic plan:\nLimit" in generic.out
    assert "user_id = $1" in generic.out
    assert "before bigint\n" in generic.out
    planned = run("explain", "states.LIST", *_KEY, "--param", "before=7", *url)
    assert "\nPlan:\n" in planned.out
    assert "user_id = 'alice'::text" in planned.out
    assert "before bigint = '7'\n" in planned.out
    assert "limit bigint = NULL\n" in planned.out
    assert planned.err == "note: planned for null, since no value was given: ttl, limit\n"
    arrays = run("explain", "memory/search", *_KEY[:2], "--param", "queries={'a','b'}", *url, "--json").json()
    assert arrays["values"]["queries"] == "{'a','b'}"
    assert arrays["parameters"]["queries"] == "text[]"
    assert "alice" in json.dumps(arrays["plan"])
    assert (arrays["scope"], arrays["repeatable"]) == ("user", True)
    assert run("explain", "memory/search.sql", *url).out.startswith("memory/search\nFind the memories of a user")


def test_values_are_quoted(direct_url: str) -> None:
    hostile = "'); DROP TABLE agentstore.users; --"
    found = run("explain", "users.GET", "--param", f"user_id={hostile}", "--url", direct_url, "--json").json()
    assert hostile in json.dumps(found["plan"]).replace("''", "'")
    assert run("explain", "users.GET", "--url", direct_url).code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["memory/serch"], 2, "there is no statement 'memory/serch'. Did you mean 'memory/search'?"),
        (["user.GET"], 2, "Did you mean 'users.GET'?"),
        (["zzzzzzzzzz"], 2, "`agentstore explain` lists all"),
        (["--param", "a=1"], 2, "--param needs the name of a statement"),
        (["users.GET", "--param", "user_id"], 2, "expects NAME=VALUE"),
        (["users.GET", "--param", "user_id=a", "--param", "user_id=b"], 2, "each name once"),
        (["users.GET", "--param", "id=a"], 2, "users.GET has no parameter 'id', but user_id"),
        (["states.LIST", "--param", "before=x"], 2, "before must be a bigint in Postgres' text format, got 'x'"),
    ],
)
def test_what_is_wrong_with_the_arguments(direct_url: str, arguments: list[str], code: int, message: str) -> None:
    done = run("explain", *arguments, "--url", direct_url)
    assert done.code == code
    assert message in " ".join(done.err.split())


async def test_errors(empty_url: str) -> None:
    database = open_database(empty_url)
    with pytest.raises(SchemaBehind):
        await explain(database, "users.GET")
    with pytest.raises(NotFound, match="no statement 'x'"):
        await explain(database, "x")
    await database.stop()


@pytest.mark.slow
async def test_under_row_level_security_the_plan_has_the_policy(direct_url: str, has_pgvector: bool) -> None:
    role = f"agentstore_explain_{uuid4().hex[:8]}"
    psql(direct_url, f"CREATE ROLE {role}; " + "; ".join(grants(app=role)) + ";")
    try:
        await migrate.enable_row_security(direct_url)
        for secured in (False, True):
            database = open_database(with_role(direct_url, role), settings=Settings(row_level_security=secured))
            found = {each.name: each for each in await _explain_all(database, False)}
            assert "agentstore.user_id" in found["users.GET"].plan
            assert "agentstore.user_id" in (await explain(database, "users.GET", {"user_id": "alice"})).plan
            await database.stop()
    finally:
        psql(direct_url, f"DROP OWNED BY {role}; DROP ROLE {role};")


@pytest.mark.pooler
async def test_behind_a_pooler_no_server_connection_retains_the_statement(
    pgbouncer: PgBouncer | None, database_name: str
) -> None:
    assert pgbouncer is not None
    url = pgbouncer.url_of(database_name)
    database = open_database(url, settings=Settings(pooler="transaction"))
    await asyncio.gather(*(explain(database, name) for name in ("users.GET", "sessions/create", "save_state") * 10))
    for value in ("x", "1"):
        if value == "x":
            with pytest.raises(Exception, match="must be a bigint"):
                await explain(database, "users.LIST", {"limit": value})
        else:
            await explain(database, "users.LIST", {"limit": value})
    await database.stop()
    raw = await asyncpg.connect(url, statement_cache_size=0)
    for _ in range(20):
        names = await raw.fetch("SELECT name FROM pg_prepared_statements WHERE name LIKE 'agentstore%'")
        assert names == []
    await raw.close()
