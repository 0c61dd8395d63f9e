"""Citus accepts every statement when the tables are distributed by user."""

import asyncpg

from agentstore import Settings
from agentstore.database.statement import CompiledStatement, Statement
from agentstore.migrating.citus import function_names, function_statements
from agentstore.repositories import stats, transfer
from tests.integration.test_statements import MODULES, statements_of
from tests.support.citus import Catalog, caches_plan, violations
from tests.support.trees import executed_trees, parse_tree


async def test_every_statement_follows_the_rules_of_citus(observer: asyncpg.Connection) -> None:
    """Except those on memory_vectors, which has a trigger: a database with vectors cannot be distributed."""
    await observer.execute(";".join(each for each in function_statements("agentstore") if each.startswith("CREATE")))
    catalog = await Catalog.read(observer)
    statements = statements_of(*MODULES, stats)
    found = {}
    for name, statement in statements:
        tree = await parse_tree(observer, _sql_of(statement))
        if violated := violations(tree, catalog, of_one_user=statement.scope == "user"):
            found[name] = violated
    assert found == {}
    assert len(statements) > 100


async def test_the_commands_of_a_restore_follow_the_rules_of_citus(observer: asyncpg.Connection) -> None:
    """In the forms for a distributed database; the others join staged tables with those of the store."""
    tables = [name for name in transfer.TABLES if name != transfer.VECTORS]
    settings = Settings(session_ttl=60, memory_ttl=60, state_ttl=60)
    found: dict[bool, set[str]] = {}
    for citus in (True, False):
        found[citus] = set()
        async with observer.transaction():
            for command in transfer.stage("agentstore", tables):
                await observer.execute(command)
            commands = transfer.merge("agentstore", tables, settings, citus=citus)
            queries = transfer.difference_queries("agentstore", tables, settings, citus=citus)
            for unit in transfer.UNITS:
                await observer.execute(commands[f"new_{unit}"])
            catalog = await Catalog.read(observer)
            for command in (*commands.values(), *queries.values()):
                sql = command.split(" ON COMMIT DROP AS", 1)[-1]
                found[citus] |= violations(await parse_tree(observer, sql), catalog)
    assert found[True] == set()
    assert any("with the local" in each for each in found[False])


# What the functions read of Citus, so that they can be executed on a plain server, which stores all rows in place 0.
_CATALOG_OF_CITUS = """
CREATE TABLE pg_temp.pg_dist_local_group AS SELECT 0 AS groupid;
CREATE TABLE pg_temp.pg_dist_placement AS SELECT 1::bigint AS shardid, 0 AS groupid;
CREATE FUNCTION public.get_shard_id_for_distribution_column(regclass, text) RETURNS bigint LANGUAGE sql AS 'SELECT 1';
"""
# Calls that reach every statement of the functions.
_FUNCTION_CALLS = {
    "citus_create_session_1": [
        "'alice', 's', NULL, '{}', NULL, NULL, true, 60, 10", "'alice', 's', NULL, '{}', NULL, NULL, true, 60, 10"
    ],
    "citus_append_messages_1": [
        "'alice', 's', '{a}', ARRAY['{}'], 1, NULL, 60, 10", "'alice', 's', '{b,c}', ARRAY['{}','{}'], 2, NULL, 60, 10"
    ],
    "citus_append_to_many_1": [
        "'alice', '{alice,bob}', '{s,s}', '{1,2}', '{0,1}', '{d,e,f}', ARRAY['{}','{}','{}'], 60"
    ],
    "citus_save_state_1": ["'carol', 's', NULL, '{}', NULL, '{}', 2, 10"],
    "citus_add_memories_1": [
        "'dave', 's', 1, 1, 'en', NULL, '{a}', ARRAY['{}'], '{user}', '{0}', '{now}', '{1}', '{x}', '{f}', '{u}', 10"
    ],
}  # fmt: skip


async def _function_violations(observer: asyncpg.Connection, name: str, calls: list[str]) -> set[str]:
    """Return the rules that the statements of a function violate, which its calls execute."""
    catalog, found = await Catalog.read(observer), set()
    settings = await observer.fetchval("SELECT proconfig FROM pg_proc WHERE proname = $1", name)
    for call in calls:
        for tree in await executed_trees(observer, f"SELECT * FROM agentstore.{name}({call})"):
            found |= violations(tree, catalog, of_one_user=True)
            if caches_plan(tree, catalog) and "plan_cache_mode=force_custom_plan" not in (settings or ()):
                found.add("caches the plan of a statement")
    return found


async def test_the_statements_of_the_functions_follow_the_rules_of_citus(observer: asyncpg.Connection) -> None:
    """Of plpgsql, whose statements Citus plans when they are executed, also those whose SQL a function composes."""
    await observer.execute(";".join(each for each in function_statements("agentstore") if each.startswith("CREATE")))
    await observer.execute(_CATALOG_OF_CITUS)
    await observer.execute(
        "INSERT INTO agentstore.users (id) VALUES ('bob'); INSERT INTO agentstore.sessions (user_id, id)"
        " VALUES ('bob', 's')"
    )
    found = {name: await _function_violations(observer, name, calls) for name, calls in _FUNCTION_CALLS.items()}
    assert found == {name: set() for name in function_names()}
    counts = "SELECT (SELECT count(*) FROM agentstore.messages), (SELECT count(*) FROM agentstore.memories)"
    assert tuple(await observer.fetchrow(counts)) == (6, 1)  # type: ignore[arg-type]


_WRONG_FUNCTIONS = {
    "UPDATE agentstore.sessions SET title = 'x' WHERE user_id = p_user": "caches the plan of a statement",
    "EXECUTE format('UPDATE agentstore.sessions SET title = random()::text WHERE user_id = %L', p_user)": (
        "writes with volatile random"
    ),
    "EXECUTE 'SELECT FROM agentstore.sessions FOR UPDATE'": "locks sessions of several users",
    "EXECUTE format('SELECT FROM agentstore.sessions WHERE id = %L FOR UPDATE', p_user)": (
        "locks sessions of several users"
    ),
}


async def test_the_statements_of_a_function_are_checked(observer: asyncpg.Connection) -> None:
    for sql, violated in _WRONG_FUNCTIONS.items():
        await observer.execute(
            "CREATE OR REPLACE FUNCTION agentstore.citus_x_1(p_user text) RETURNS void LANGUAGE plpgsql AS"
            f" $$ BEGIN {sql}; END $$"
        )
        assert await _function_violations(observer, "citus_x_1", ["'alice'"]) == {violated}


def _sql_of(statement: Statement) -> str:
    return CompiledStatement(statement, Settings(), citus=True).sql


_KEY = "m.user_id = s.user_id AND m.session_id = s.id"
_VIOLATIONS = {
    "UPDATE sessions SET title = random()::text WHERE user_id = $1": "writes with volatile random",
    "DELETE FROM sessions WHERE updated_at + interval '1 day' < now()": (
        "writes with stable timestamptz_pl_interval of a column"
    ),
    "UPDATE sessions SET title = updated_at::text WHERE user_id = $1": "writes with stable cast of a column",
    "WITH x AS (DELETE FROM messages WHERE seq < random() RETURNING 1) SELECT * FROM x": "writes with volatile random",
    "INSERT INTO users (id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET created_at = now()": "now in ON CONFLICT",
    "INSERT INTO users (id) VALUES ($1) ON CONFLICT (id) DO NOTHING RETURNING now()": "now in RETURNING",
    "INSERT INTO users (id) SELECT user_id FROM sessions WHERE user_id = $1 GROUP BY user_id": (
        "INSERT ... SELECT without RETURNING"
    ),
    "INSERT INTO users (id) SELECT $1 ON CONFLICT (id) DO NOTHING RETURNING 1": (
        "INSERT ... SELECT of parameters alone"
    ),
    "INSERT INTO sessions (user_id, id, next_seq) VALUES ($1, $2, (SELECT 1))": "a subquery in VALUES",
    "SELECT id FROM sessions WHERE id = $1 FOR UPDATE": "locks sessions of several users",
    "SELECT id FROM sessions WHERE user_id = $1 OR id = $2 FOR UPDATE": "locks sessions of several users",
    "SELECT id FROM sessions WHERE user_id = ANY ($1) FOR UPDATE SKIP LOCKED": "locks sessions of several users",
    "SELECT 1 FROM sessions s JOIN messages m ON m.session_id = s.id WHERE s.user_id = $1": (
        "joins messages, sessions without the user"
    ),
    "SELECT (SELECT count(*) FROM messages m WHERE m.session_id = s.id) FROM sessions s WHERE s.user_id = $1": (
        "joins messages without the user"
    ),
    "UPDATE sessions SET title = 'x' WHERE user_id = $1 AND coalesce(now() - updated_at < interval '1 day', true)": (
        "writes with now in CASE or COALESCE"
    ),
    "UPDATE sessions SET updated_at = CASE WHEN title = '' THEN updated_at ELSE now() END WHERE user_id = $1": (
        "writes with now in CASE or COALESCE"
    ),
    "DELETE FROM sessions WHERE user_id = $1 AND updated_at < coalesce($2, now())": (
        "writes with now in CASE or COALESCE"
    ),
    "INSERT INTO users (id) SELECT $1 FROM (VALUES (1)) AS one RETURNING id = $1": (
        "a parameter in RETURNING of INSERT ... SELECT"
    ),
    "WITH one AS (SELECT 1) INSERT INTO users (id) SELECT $1 FROM one ON CONFLICT (id) DO UPDATE"
    " SET metadata = excluded.metadata WHERE $2 RETURNING 1": "a parameter in ON CONFLICT of INSERT ... SELECT",
    "SELECT l.seq FROM unnest($2::text[]) AS t (query) CROSS JOIN LATERAL ("
    " SELECT user_id, seq FROM memories WHERE lexemes @@ t.query::tsquery OFFSET 0) AS l WHERE l.user_id = $1": (
        "reads memories in a correlated subquery with LIMIT or OFFSET, without the user"
    ),
    "SELECT id FROM unnest($1::text[]) AS u (id) WHERE EXISTS ("
    " SELECT FROM messages m WHERE m.user_id = u.id ORDER BY m.seq LIMIT 1)": (
        "reads messages in a correlated subquery with LIMIT or OFFSET, without the user"
    ),
    "WITH w AS MATERIALIZED (SELECT user_id FROM sessions LIMIT 5)"
    " SELECT (SELECT count(*) FROM memories m WHERE m.user_id = w.user_id) FROM w": (
        "reads memories in a subquery that is correlated with a CTE, without the user"
    ),
    "WITH u AS MATERIALIZED (SELECT id FROM users WHERE id = $1 FOR UPDATE), l AS MATERIALIZED ("
    " SELECT s.id FROM sessions s JOIN u ON s.user_id = u.id WHERE s.user_id = $1 FOR UPDATE OF s) SELECT * FROM l": (
        "locks sessions in a CTE with the rows of another"
    ),
    "SELECT count(*), (SELECT count(*) FROM memories) FROM sessions": (
        "a subquery that reads a table, in a list of aggregates"
    ),
    "SELECT DISTINCT n.id FROM new_sessions n WHERE NOT EXISTS (SELECT FROM sessions s WHERE s.id = n.id)": (
        "joins sessions with the local new_sessions"
    ),
    "SELECT s.id FROM sessions s JOIN new_sessions n ON s.user_id = n.user_id": (
        "joins sessions with the local new_sessions"
    ),
}
_VALID = [
    "UPDATE sessions SET title = 'x', updated_at = now() WHERE user_id = $1 AND now() - updated_at > interval '1 day'",
    "INSERT INTO users (id) VALUES ($1) ON CONFLICT (id) DO UPDATE SET created_at = excluded.created_at",
    "INSERT INTO users (id) SELECT user_id FROM sessions WHERE user_id = $1 GROUP BY user_id RETURNING 1",
    "SELECT id FROM sessions WHERE user_id = $1 FOR UPDATE SKIP LOCKED",
    "WITH u AS (SELECT id FROM users WHERE id = $1) SELECT 1 FROM u, sessions s WHERE s.user_id = u.id FOR UPDATE OF s",
    f"SELECT 1 FROM sessions s JOIN messages m ON {_KEY} WHERE s.user_id = $1",
    f"SELECT s.id, (SELECT count(*) FROM messages m WHERE {_KEY}) FROM sessions s",
    f"SELECT s.id, n FROM sessions s CROSS JOIN LATERAL (SELECT max(seq) AS n FROM messages m WHERE {_KEY}) AS l",
    "SELECT (SELECT count(*) FROM users), (SELECT count(*) FROM messages) FROM sessions",
    "SELECT user_id, count(*) FROM sessions GROUP BY user_id",
    "UPDATE sessions SET title = 'x' WHERE user_id = $1 AND (now() - updated_at < interval '1 day') IS NOT FALSE",
    "WITH i AS (INSERT INTO users (id) SELECT $1 FROM (VALUES (1)) AS one RETURNING id) SELECT id = $1 FROM i",
    "SELECT l.seq FROM unnest($2::text[]) AS t (query) CROSS JOIN LATERAL ("
    " SELECT seq FROM memories WHERE lexemes @@ t.query::tsquery AND user_id = $1 LIMIT 5) AS l",
    "SELECT u.id, l.id FROM users u CROSS JOIN LATERAL (SELECT id FROM sessions s WHERE s.user_id = u.id LIMIT 1) AS l",
    "WITH l AS MATERIALIZED (SELECT id FROM sessions WHERE user_id = $1 AND id = ANY ($2) FOR UPDATE) SELECT * FROM l",
    "WITH l AS MATERIALIZED ("
    " SELECT s.id FROM sessions s JOIN unnest($2::text[]) AS t (id) ON s.id = t.id WHERE s.user_id = $1"
    " FOR UPDATE OF s) SELECT * FROM l",
    "WITH n AS MATERIALIZED (SELECT * FROM new_sessions) SELECT n.id FROM n JOIN sessions s ON s.user_id = n.user_id",
]


_COUNT = "SELECT id, (SELECT count(*) FROM messages m WHERE m.session_id = s.id AND m.user_id = {}) FROM sessions s"


async def test_a_statement_about_one_user_names_it_in_each_subquery(observer: asyncpg.Connection) -> None:
    await observer.execute("SET search_path = agentstore")
    catalog = await Catalog.read(observer)
    found = []
    for user in ("s.user_id", "$1"):
        sql = f"{_COUNT.format(user)} WHERE s.user_id = $1"
        found.append(violations(await parse_tree(observer, sql), catalog, of_one_user=True))
    assert found == [{"reads messages of all users in a subquery of the list"}, set()]


async def test_each_rule_detects_its_violations_and_nothing_else(observer: asyncpg.Connection) -> None:
    await observer.execute("SET search_path = agentstore; CREATE TEMPORARY TABLE new_sessions (LIKE sessions)")
    catalog = await Catalog.read(observer)
    found = {sql: violations(await parse_tree(observer, sql), catalog) for sql in (*_VIOLATIONS, *_VALID)}
    assert found == {**{sql: {violated} for sql, violated in _VIOLATIONS.items()}, **{sql: set() for sql in _VALID}}
