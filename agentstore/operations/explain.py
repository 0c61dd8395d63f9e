"""Explain a statement: what it is for, its parameters, and the plan that the database chooses for it."""

import inspect
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import walk_packages
from typing import Any

import asyncpg
from sqlalchemy import ClauseElement, Delete, Insert, Select, TableClause, Update
from sqlalchemy.sql.visitors import iterate

from agentstore import repositories
from agentstore.database.database import Database
from agentstore.database.row_security import set_user_sql
from agentstore.database.server import IS_DISTRIBUTED
from agentstore.database.sql import SqlStatement
from agentstore.database.statement import Scope, Statement
from agentstore.errors import InvalidContent, NotFound
from agentstore.repositories.memory.vectors import translate_vector_errors
from agentstore.schemas.payload import shortened
from agentstore.settings import Settings

_PREFIX = "agentstore.repositories."
_TYPES = "SELECT parameter_types::text[] FROM pg_catalog.pg_prepared_statements WHERE name = 'agentstore_explain'"


@dataclass(frozen=True)
class StatementInfo:
    """What a statement is for, without its plan."""

    name: str
    """The path of an SQL file without its folder ``sql``, such as ``memory/search``; or the module and the constant of
    a SQLAlchemy construct, such as ``users.GET``."""
    purpose: str
    scope: Scope
    """Whose rows it reads or writes: those of one user, of all users, or none."""
    repeatable: bool
    """Whether it is safe to retry after its response was lost."""
    rows: str | None
    """The rows that it returns; None if it is not an SQL file."""
    races: str | None
    """What it returns if a concurrent transaction comes first; None if it is not an SQL file."""
    sql: str
    """The SQL that the server receives."""


@dataclass(frozen=True)
class Explained(StatementInfo):
    """A statement and its plan."""

    parameters: dict[str, str]
    """The types of its parameters by name, in the order of ``$1``, ``$2``, ..."""
    values: dict[str, str | None] | None
    """The values of the parameters that it is planned for; None if the plan is the generic one."""
    plan: str
    plan_json: dict[str, Any]
    """The plan as ``EXPLAIN (FORMAT JSON)`` returns it."""


@cache
def statements() -> Mapping[str, Statement]:
    """Return all statements by name. Constants that execute the same file are one statement."""
    found: dict[str, Statement] = {}
    for each in walk_packages(repositories.__path__, _PREFIX):
        module = import_module(each.name)
        source = inspect.getsource(module)
        for constant, value in vars(module).items():
            if not re.search(rf"^{constant}\b.* = ", source, re.MULTILINE):
                continue  # imported from another module
            if isinstance(value, dict):
                named = {f"{constant}[{getattr(key, '__name__', key)}]": each for key, each in value.items()}
            else:
                named = {constant: value}
            for name, statement in named.items():
                if isinstance(statement, SqlStatement):
                    found.setdefault(_name_of_file(statement), statement)
                elif isinstance(statement, Statement):
                    found[f"{module.__name__.removeprefix(_PREFIX)}.{name}"] = statement
    return dict(sorted(found.items()))


def describe(name: str, settings: Settings, *, citus: bool = False) -> StatementInfo:
    """Return what the statement of a name is for; `citus` chooses its form for a distributed database.

    Raises:
        NotFound: there is no such statement.
    """
    try:
        statement = statements()[name]
    except KeyError:
        raise NotFound(f"there is no statement {shortened(name)}") from None
    if isinstance(statement, SqlStatement):
        purpose, rows, races = statement.file.summary, statement.file.rows, statement.file.races
    else:
        purpose, rows, races = _purpose(statement.construct), None, None
    sql = statement.compile(settings, citus=citus).sql
    return StatementInfo(name, purpose, statement.scope, statement.repeatable, rows, races, sql)


async def explain(database: Database, name: str, values: Mapping[str, str] | None = None) -> Explained:
    """Return a statement with its plan, without executing it.

    With `values` of parameters, in Postgres' text format, it is planned for these, and for null in place of those that
    are missing; otherwise the plan is the generic one, for any values. It is prepared and planned in one read-only
    transaction, with the role of the application, so that this also works behind a transaction pooler.

    Raises:
        NotFound: there is no such statement.
        InvalidContent: the statement has no such parameter, or a value is not of its type.
        SchemaBehind: a table or column does not exist.
        NotConfigured: the statement is one of vectors, which are not enabled.
    """
    settings = database.settings
    with translate_vector_errors(database):
        async with database.connection() as connection:
            is_distributed = await connection.fetchval(f"SELECT {IS_DISTRIBUTED}", f'"{settings.schema}"')
            info = describe(name, settings, citus=is_distributed)
            compiled = statements()[name].compile(settings, citus=is_distributed)
            if unknown := sorted(set(values or ()) - set(compiled.names)):
                raise InvalidContent(
                    f"{name} has no parameter {shortened(unknown[0])}, but {', '.join(compiled.names) or 'none'}"
                )
            # Read-only: EXPLAIN executes nothing, and nothing could be written.
            async with connection.transaction(readonly=True):
                # The plan may have the conditions of policies: no row is returned.
                await connection.execute("SET LOCAL row_security = on")
                if settings.row_level_security and info.scope == "user":
                    await connection.execute(set_user_sql((values or {}).get("user_id", "")))
                mode = "force_generic_plan" if values is None else "force_custom_plan"
                await connection.execute(f"SET LOCAL plan_cache_mode = {mode}")
                await connection.execute(f"PREPARE agentstore_explain AS {compiled.sql}")
                try:
                    # In a savepoint: after an error, DEALLOCATE would fail, and a pooler would retain the statement.
                    async with connection.transaction():
                        types = await connection.fetchval(_TYPES)
                        execute = await _execute_sql(connection, compiled.names, types, values or {})
                        rows = await connection.fetch(f"EXPLAIN (SETTINGS) {execute}")
                        as_json = await connection.fetchval(f"EXPLAIN (SETTINGS, FORMAT JSON) {execute}")
                finally:
                    await connection.execute("DEALLOCATE agentstore_explain")
    return Explained(
        **vars(info),
        parameters=dict(zip(compiled.names, types, strict=True)),
        values=None if values is None else {each: values.get(each) for each in compiled.names},
        plan="\n".join(row[0] for row in rows),
        # Decoded already, if the engine has a codec.
        plan_json=(json.loads(as_json) if isinstance(as_json, str) else as_json)[0],
    )


async def _execute_sql(
    connection: asyncpg.Connection, names: Sequence[str], types: Sequence[str], values: Mapping[str, str]
) -> str:
    """Return the EXECUTE command with the values as literals, which the server has parsed and quoted."""
    literals: list[str] = []
    for name, type_ in zip(names, types, strict=True):
        try:
            quoted = await connection.fetchval(f"SELECT quote_nullable($1::text::{type_}::text)", values.get(name))
        except asyncpg.DataError as error:
            raise InvalidContent(
                f"{name} must be a {type_} in Postgres' text format, got {shortened(values[name])}"
            ) from error
        literals.append(quoted)
    return f"EXECUTE agentstore_explain({', '.join(literals)})" if literals else "EXECUTE agentstore_explain"


def _name_of_file(statement: SqlStatement) -> str:
    path = statement.path.relative_to(repositories.__path__[0]).with_suffix("")
    return "/".join(part for part in path.parts if part != "sql")


def _purpose(construct: ClauseElement) -> str:
    """Return what a construct does, by its kind and its tables; each is short, and its SQL says the rest."""
    parts = list(iterate(construct))
    tables = dict.fromkeys(str(each.name) for each in parts if isinstance(each, TableClause))
    verb = "Read"
    for each in parts:
        if isinstance(each, Select) and each._for_update_arg is not None:
            verb = "Lock"
    for kind in (Insert, Update, Delete):
        if any(isinstance(each, kind) for each in parts):
            verb = "Insert or update" if kind is Insert and "ON CONFLICT" in str(construct) else kind.__name__
    return f"{verb} rows of {', '.join(tables)}." if tables else "Call functions of the server."
