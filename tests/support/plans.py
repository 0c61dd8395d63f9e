"""The plans of our statements, as a connection that says them again and again has them."""

import json
from typing import Any

import asyncpg

from agentstore import Settings
from agentstore.database.statement import CompiledStatement, Statement

MODES = ("force_custom_plan", "force_generic_plan")


async def nodes_of(
    connection: asyncpg.Connection, statement: Statement, values: dict[str, Any], mode: str, *, analyze: bool = False
) -> list[dict[str, Any]]:
    """Return every node of a statement's plan, the root first.

    Of a prepared statement, since EXPLAIN with parameters of its own plans for their values, whatever the `mode`.
    """
    compiled = CompiledStatement(statement, Settings())
    arguments = compiled.arguments(values)
    await connection.execute(f"SET plan_cache_mode = {mode}")
    await connection.execute(f"PREPARE planned AS {compiled.sql}")
    try:
        types = await connection.fetchval(
            "SELECT parameter_types::text[] FROM pg_prepared_statements WHERE name = 'planned'"
        )
        quoted = ", ".join(f"quote_nullable(${number}::{name}::text)" for number, name in enumerate(types, 1))
        ((*given,),) = await connection.fetch(f"SELECT {quoted}", *arguments)
        options = "ANALYZE, FORMAT JSON" if analyze else "FORMAT JSON"
        execute = f"EXECUTE planned({', '.join(given)})" if given else "EXECUTE planned"
        said = await connection.fetchval(f"EXPLAIN ({options}) {execute}")
    finally:
        await connection.execute("DEALLOCATE planned")
    return _nodes(json.loads(said)[0]["Plan"])


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in _nodes(child))]
