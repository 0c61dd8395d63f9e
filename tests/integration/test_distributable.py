"""Citus accepts every statement when the tables are distributed by user."""

import asyncpg
import pytest

from agentstore import Settings
from agentstore.database.statement import CompiledStatement
from agentstore.repositories import stats
from tests.integration.test_statements import MODULES, statements_of
from tests.support.citus import Catalog, violations
from tests.support.trees import parse_tree


async def test_every_statement_follows_the_rules_of_citus(observer: asyncpg.Connection) -> None:
    """Except those on memory_vectors, which has a trigger: a database with vectors cannot be distributed."""
    catalog = await Catalog.read(observer)
    statements = statements_of(*MODULES, stats)
    found = {
        name: violated
        for name, statement in statements
        if (violated := violations(await parse_tree(observer, CompiledStatement(statement, Settings()).sql), catalog))
    }
    # Appends of several users in one statement; once Citus has rejected it, each user's is executed separately.
    assert found == {"sessions.append_statements.APPEND_TO_MANY": {"locks sessions of several users"}}
    assert len(statements) > 100


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
]


@pytest.mark.parametrize("sql", [*_VIOLATIONS, *_VALID])
async def test_each_rule_detects_its_violations_and_nothing_else(observer: asyncpg.Connection, sql: str) -> None:
    await observer.execute("SET search_path = agentstore")
    found = violations(await parse_tree(observer, sql), await Catalog.read(observer))
    assert found == ({_VIOLATIONS[sql]} if sql in _VIOLATIONS else set())
