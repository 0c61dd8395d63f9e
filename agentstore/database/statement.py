"""Statements: SQLAlchemy constructs, compiled once to the text and parameters that asyncpg takes."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import asyncpg
from sqlalchemy import BindParameter, ClauseElement, ColumnElement, Select, select
from sqlalchemy.dialects.postgresql.asyncpg import PGCompiler_asyncpg, PGDialect_asyncpg
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.dml import UpdateBase

from agentstore.settings import Settings

Row = asyncpg.Record


class Statement:
    """A statement, as a SQLAlchemy construct; the values of its bind parameters are given when it is said.

    Compared by identity: make each one once, as a constant.
    """

    def __init__(
        self, construct: ClauseElement | Callable[[], ClauseElement], *, repeatable: bool | None = None
    ) -> None:
        """`construct` is the statement, or a function that builds it at the first use.

        `repeatable`: whether executing it again, after its answer was lost, changes nothing more and returns the same
        rows. By default true for a statement that only reads.
        """
        self._construct = construct
        self._repeatable = repeatable

    @cached_property
    def construct(self) -> ClauseElement:
        """The statement, built once."""
        return self._construct() if callable(self._construct) else self._construct

    @cached_property
    def repeatable(self) -> bool:
        """Whether it may be executed again after its answer was lost."""
        if self._repeatable is None:
            return isinstance(self.construct, Select) and not _writes(self.construct)
        return self._repeatable


def _writes(construct: ClauseElement) -> bool:
    """Whether any part of a statement writes. Each part is looked at once: in a statement they are shared."""
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


def generic_plan(value: ColumnElement[Any]) -> ColumnElement[Any]:
    """A parameter, or what is computed of some, at whose value the planner does not look.

    Postgres plans a prepared statement anew at each call where plans for the values seem cheaper than the one for no
    values in particular: for arrays shorter than ten, for a filter that is null. Where the plan is the same for all
    values, this keeps it from that, which takes longer than many a statement.
    """
    return select(value).scalar_subquery()


_SETTING = "setting_"


class _Compiler(PGCompiler_asyncpg):
    """Writes what is the same at every call into the text: a parameter is encoded, sent and bound by each of them."""

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
    """A statement in the driver's form: its text, and the order of its parameters.

    A parameter whose name begins with ``setting_`` is that setting, as a constant.
    """

    __slots__ = ("_constants", "_names", "sql")

    def __init__(self, statement: Statement, settings: Settings) -> None:
        compiled = statement.construct.compile(
            dialect=_Dialect(settings),
            schema_translate_map={None: settings.schema},
            render_schema_translate=True,
        )
        assert isinstance(compiled, SQLCompiler)  # noqa: S101
        self.sql = compiled.string
        self._names = tuple(compiled.positiontup or ())
        self._constants = {name: compiled.params[name] for name in self._names if not compiled.binds[name].required}

    def arguments(self, values: dict[str, Any]) -> list[Any]:
        """Return the values in the order of the statement's parameters."""
        if self._constants:
            values = {**self._constants, **values}
        return [values[name] for name in self._names]
