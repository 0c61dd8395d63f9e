"""Statements: SQLAlchemy constructs, compiled once to the SQL and the parameters that asyncpg takes."""

from collections.abc import Callable
from functools import cached_property
from typing import Any, Literal, NamedTuple, Protocol

import asyncpg
from sqlalchemy import BindParameter, ClauseElement, Select
from sqlalchemy.dialects.postgresql.asyncpg import PGCompiler_asyncpg, PGDialect_asyncpg
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import UpdateBase
from sqlalchemy.sql.functions import FunctionElement

from agentstore.settings import Settings

Row = asyncpg.Record


Scope = Literal["user", "all", "none"]
"""Whose rows a statement reads or writes: those of the user ``:user_id``, of all users, or none (the catalog, say)."""


class Compiled(NamedTuple):
    """A statement in asyncpg's form."""

    sql: str
    names: tuple[str, ...]
    """The parameters in their order."""
    constants: dict[str, Any]
    """The values of those parameters that no caller gives."""


class Statement:
    """A SQLAlchemy construct whose bind parameters get their values at each execution.

    Compared by identity: create each one once, as a module constant. Statements longer than a screen are written as
    SQL instead: see :mod:`agentstore.database.sql`.
    """

    def __init__(
        self,
        construct: ClauseElement | Callable[[], ClauseElement],
        *,
        scope: Scope,
        repeatable: bool | None = None,
        name: str = "statement",
    ) -> None:
        """Wrap a construct, or a function that builds it at first use, which keeps imports cheap.

        Args:
            construct: the construct, or the function.
            scope: "user" if the statement reads and writes rows of the user ``:user_id`` alone, so that it can be
                executed under row-level security, and by one worker of a distributed database; "all" if it concerns
                all users, "none" if it concerns no rows of users.
            repeatable: whether executing it again, after its response was lost, changes nothing more and returns the
                same rows. By default true for a statement that only reads.
            name: how logs, spans and metrics name it: ``users.get``, what it is about and what it does.
        """
        self.name = name
        self._construct = construct
        self._repeatable = repeatable
        self.scope: Scope = scope

    @cached_property
    def construct(self) -> ClauseElement:
        """The SQLAlchemy construct, built once."""
        return self._construct() if callable(self._construct) else self._construct

    @cached_property
    def repeatable(self) -> bool:
        """Whether the statement is safe to retry after its response was lost."""
        if self._repeatable is None:
            return isinstance(self.construct, Select) and not _writes(self.construct)
        return self._repeatable

    def compile(self, settings: Settings, *, citus: bool = False) -> Compiled:
        """Return the SQL in asyncpg's form. A parameter ``setting_x`` is rendered as the value of the setting ``x``.

        Raises:
            ValueError: the statement has a parameter `user_id`, and its scope is not "user", or the reverse.
        """
        compiled = self.construct.compile(
            dialect=_Dialect(settings),
            schema_translate_map={None: settings.schema},
            render_schema_translate=True,
        )
        assert isinstance(compiled, SQLCompiler)  # noqa: S101
        names = tuple(compiled.positiontup or ())
        if ("user_id" in names) != (self.scope == "user"):
            raise ValueError(f"a statement of scope {self.scope!r} has the parameters {', '.join(names)}")
        constants = {name: compiled.params[name] for name in names if not compiled.binds[name].required}
        return Compiled(compiled.string, names, constants)


def _writes(construct: ClauseElement) -> bool:
    """Return whether any part of a construct is an INSERT, UPDATE or DELETE. Visits each shared part once."""
    seen: dict[int, object] = {}
    parts = [construct]
    while parts:
        part = parts.pop()
        if id(part) in seen:
            continue
        seen[id(part)] = part
        if isinstance(part, UpdateBase):
            return True
        parts.extend(part.get_children())
    return False


class FunctionOfSchema(FunctionElement[Any]):
    """The call of a function that a migration has created, in the schema of the tables."""

    inherit_cache = False

    def __init__(self, name: str, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.name = name


@compiles(FunctionOfSchema)
def _render(function: FunctionOfSchema, compiler: "_Compiler", **options: Any) -> str:
    assert isinstance(compiler.dialect, _Dialect)  # noqa: S101
    arguments = compiler.process(function.clause_expr, **options)
    return f'"{compiler.dialect.settings.schema}".{function.name}{arguments}'


_SETTING = "setting_"


class _Compiler(PGCompiler_asyncpg):
    """Renders constants as literals: each parameter costs every execution its encoding, transfer and binding."""

    def visit_bindparam(self, bindparam: BindParameter[Any], **options: Any) -> str:  # type: ignore[override]
        if bindparam.key.startswith(_SETTING):
            assert isinstance(self.dialect, _Dialect)  # noqa: S101
            value = getattr(self.dialect.settings, bindparam.key.removeprefix(_SETTING))
            if value is None:
                return "NULL"
            bindparam = BindParameter(bindparam.key, value, type_=bindparam.type)
        if not bindparam.required and isinstance(bindparam.value, (int, str)):
            options["literal_binds"] = True
        text: str = super().visit_bindparam(bindparam, **options)  # type: ignore[no-untyped-call]
        return text


class _Dialect(PGDialect_asyncpg):
    statement_compiler = _Compiler

    def __init__(self, settings: Settings) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.settings = settings


class CompiledStatement:
    """The SQL of a statement in asyncpg's form, and the order of its parameters."""

    __slots__ = ("_constants", "_names", "scope", "sql")

    def __init__(self, statement: Statement, settings: Settings, *, citus: bool = False) -> None:
        """Compile a statement; `citus` chooses its form for a distributed database, if it has one."""
        self.sql, self._names, self._constants = statement.compile(settings, citus=citus)
        self.scope = statement.scope

    def arguments(self, values: dict[str, Any]) -> list[Any]:
        """Return the values in the order of the parameters."""
        if self._constants:
            values = {**self._constants, **values}
        return [values[name] for name in self._names]


class Fetch(Protocol):
    """Executes a statement, by itself or in a transaction."""

    async def __call__(self, statement: Statement, /, **values: Any) -> list[Row]: ...  # noqa: D102
