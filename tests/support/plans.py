"""The plans of prepared statements, as a connection that executes them repeatedly gets them."""

import json
from typing import Any

import asyncpg

from agentstore import Settings
from agentstore.database.statement import CompiledStatement, Statement

MODES = ("force_custom_plan", "force_generic_plan")


async def nodes_of(
    connection: asyncpg.Connection, statement: Statement, values: dict[str, Any], mode: str, *, analyze: bool = False
) -> list[dict[str, Any]]:
    """Return all nodes of a statement's plan, the root first.

    The statement is prepared: EXPLAIN with its own parameters creates a custom plan, whatever the `mode`.
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
        ((*literals,),) = await connection.fetch(f"SELECT {quoted}", *arguments)
        options = "ANALYZE, FORMAT JSON" if analyze else "FORMAT JSON"
        execute = f"EXECUTE planned({', '.join(literals)})" if literals else "EXECUTE planned"
        plan = await connection.fetchval(f"EXPLAIN ({options}) {execute}")
    finally:
        await connection.execute("DEALLOCATE planned")
    return nodes(json.loads(plan)[0]["Plan"])


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Return all nodes of a plan, the root first."""
    return [plan, *(node for child in plan.get("Plans", ()) for node in nodes(child))]
