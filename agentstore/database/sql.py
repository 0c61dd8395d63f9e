"""Statements written as SQL, each in a file named for it, in the folder ``sql`` beside the module that executes them.

A file begins with a header, a comment that says what the statement does and declares how it may be executed::

    -- Find the memories of a user that match a query best.
    --
    -- Scope: user
    -- Repeatable: yes
    -- Parameters: user_id text, queries text[], since timestamptz
    -- Rows: score, session_id, seq; the best first
    -- Races: none, since it only reads

Scope and repeatability are those of :class:`Statement`. `Rows` and `Races` (what the statement returns if a concurrent
transaction comes first) are for the reader. In the SQL:

- ``:name`` is a parameter, which is cast to its declared type wherever it occurs.
- ``{schema}`` is the schema of the tables, ``{settings.x}`` the value of a setting, and ``{name}`` or ``{name.x}`` a
  constant that the module passes, or an attribute of it. They are rendered as literals.
- ``-- include: other.sql``, in a list of CTEs, is replaced by the CTEs of another file. That file is a complete
  statement by itself, and its parameters become parameters of this one. The module may include a file with other rows
  in its place.

- ``-- citus:`` begins a line of SQL that only a distributed database executes.

A file ``x.citus.sql`` beside ``x.sql`` is the form of the statement for a distributed database.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple, get_args

from agentstore.database.statement import Compiled, Scope, Statement
from agentstore.settings import Settings

_FIELDS = ("scope", "repeatable", "parameters", "rows", "races")
# What has a meaning of its own, or may contain what looks like a parameter: comments, strings, quoted names, casts.
_TOKENS = re.compile(
    r"""--[^\n]*|'(?:[^']|'')*'|"[^"]*"|::|(?<![\w:]):(?P<parameter>[a-z_]\w*)|\{(?P<constant>[a-z_]\w*(?:\.\w+)?)\}"""
)
_CITUS = re.compile(r"^( *)-- citus: ", re.MULTILINE)
_INCLUDE = re.compile(r"^ *-- include: (\S+)$", re.MULTILINE)
_INCLUDED = re.compile(r"\AWITH\s+(?P<ctes>.*\n\))\nSELECT\b.*\Z", re.DOTALL)
_PARAMETER = re.compile(r"([a-z_]\w*) ([a-z]\w*(?:\[\])?)")


class InvalidSql(Exception):
    """A file does not have the form that this module describes, or names something that does not exist."""


class SqlFile(NamedTuple):
    """The contents of a file."""

    summary: str
    scope: Scope
    repeatable: bool
    parameters: Mapping[str, str]
    """The type of each parameter by its name, those of included files as well."""
    rows: str
    races: str
    sql: str
    """The SQL after the header, with the CTEs of included files."""
    paths: frozenset[Path]
    """The file, and the files that it includes."""


class SqlStatements:
    """The statements in the folder ``sql`` beside a module, with the constants that their files name."""

    def __init__(self, module_file: str, **constants: Any) -> None:
        """Name the module by its ``__file__``; no file is read yet."""
        module = Path(module_file)
        self._folder = module.parent / "sql"
        self._area = module.stem if module.parent.name == "repositories" else module.parent.name
        self._constants = constants

    def __call__(
        self,
        name: str,
        *,
        repeatable: bool | None = None,
        includes: Mapping[str, str] | None = None,
        **constants: Any,
    ) -> "SqlStatement":
        """Return the statement of the file ``name.sql``, with `constants` besides those of the folder.

        `repeatable` overrides what the file declares, where only the caller makes a difference. `includes` names files
        to include in place of those that the file names.
        """
        return SqlStatement(
            self._folder / f"{name}.sql",
            {**self._constants, **constants},
            repeatable=repeatable,
            includes=tuple((includes or {}).items()),
            name=f"{self._area}.{name}",
        )


class SqlStatement(Statement):
    """A statement whose SQL is in a file, which is read when the statement is first used."""

    def __init__(
        self,
        path: Path,
        constants: Mapping[str, Any],
        *,
        repeatable: bool | None = None,
        includes: tuple[tuple[str, str], ...] = (),
        name: str | None = None,
    ) -> None:
        """Name the file; `repeatable` overrides what it declares, and `includes` which files it includes.

        `name` is that of :class:`Statement`, by default the name of the file.
        """
        self.path = path
        self.name = name or path.stem
        self._includes = includes
        self._constants = constants
        self._given_repeatable = repeatable

    @property
    def file(self) -> SqlFile:
        """The contents of the file.

        Raises:
            InvalidSql: it does not exist, or is not of the form that this module describes.
        """
        return read(self.path, self._includes)

    @property
    def scope(self) -> Scope:  # type: ignore[override]
        """Whose rows the statement reads or writes."""
        return self.file.scope

    @cached_property
    def repeatable(self) -> bool:
        """Whether the statement is safe to retry after its response was lost."""
        return self.file.repeatable if self._given_repeatable is None else self._given_repeatable

    def compile(self, settings: Settings, *, citus: bool = False) -> Compiled:
        """Return the SQL in asyncpg's form, and the names of its parameters in their order.

        Raises:
            InvalidSql: the file names an unknown parameter, constant or setting, or declares a parameter that it does
                not use.
        """
        path = self.path.with_suffix(".citus.sql")
        file = read(path, self._includes) if citus and path.exists() else self.file
        names: list[str] = []

        def render(token: re.Match[str]) -> str:
            if (name := token["parameter"]) is not None:
                if name not in file.parameters:
                    raise InvalidSql(f"{self.path}: the header declares no parameter {name}")
                if name not in names:
                    names.append(name)
                return f"${names.index(name) + 1}::{file.parameters[name]}"
            if (constant := token["constant"]) is not None:
                return _constant(self._value(constant, settings), settings, constant)
            return "" if token[0].startswith("--") else token[0]

        source = _CITUS.sub(r"\1", file.sql) if citus else file.sql
        sql = re.sub(r"\s*\n(?:\s*\n)*", "\n", _TOKENS.sub(render, source)).strip()
        if unused := sorted(set(file.parameters) - set(names)):
            raise InvalidSql(f"{self.path}: the header declares {', '.join(unused)}, which the statement does not use")
        return Compiled(sql, tuple(names), {})

    def _value(self, constant: str, settings: Settings) -> Any:
        if constant == "schema":
            return _Name(settings.schema)
        name, _, attribute = constant.partition(".")
        try:
            value = settings if name == "settings" else self._constants[name]
            return getattr(value, attribute) if attribute else value
        except (KeyError, AttributeError):
            raise InvalidSql(f"{self.path}: there is no constant {constant}") from None


@cache
def read(path: Path, includes: tuple[tuple[str, str], ...] = ()) -> SqlFile:
    """Read a file, and the files that it includes, or those that `includes` names in their place.

    Raises:
        InvalidSql: it does not exist, its header is incomplete, or an included file does not fit.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InvalidSql(f"{path}: there is no such file") from None
    lines = text.split("\n")
    length = next(number for number, line in enumerate([*lines, ""]) if not line.startswith("--"))
    comments = [line.removeprefix("--").strip() for line in lines[:length]]
    header = _read_header(path, comments)
    parameters = dict(_read_parameters(path, header["parameters"]))
    sql = "\n".join(lines[length:]).strip()
    instead = dict(includes)
    paths = {path.resolve()}

    def include(line: re.Match[str]) -> str:
        file = read((path.parent / instead.pop(line[1], line[1])).resolve())
        paths.update(file.paths)
        ctes = _INCLUDED.match(file.sql)
        if ctes is None:
            raise InvalidSql(
                f"{path}: {line[1]} is not of the form WITH ... SELECT, with each keyword on a line's start"
            )
        for name, type_ in file.parameters.items():
            if parameters.setdefault(name, type_) != type_:
                raise InvalidSql(f"{path}: {name} is {parameters[name]} here, and {type_} in {line[1]}")
        return ctes["ctes"] + ","

    sql = _INCLUDE.sub(include, sql)
    if instead:
        raise InvalidSql(f"{path}: it does not include {', '.join(instead)}")
    if header["scope"] not in get_args(Scope):
        raise InvalidSql(f"{path}: the scope is {header['scope']!r}, expected {', '.join(get_args(Scope))}")
    if header["repeatable"] not in ("yes", "no"):
        raise InvalidSql(f"{path}: repeatable is {header['repeatable']!r}, expected yes or no")
    if header["scope"] == "user" and "user_id" not in parameters:
        raise InvalidSql(f"{path}: a statement about one user has a parameter user_id")
    scope: Scope = header["scope"]  # type: ignore[assignment]
    is_repeatable = header["repeatable"] == "yes"
    rows, races = header["rows"], header["races"]
    return SqlFile(header["summary"], scope, is_repeatable, parameters, rows, races, sql, frozenset(paths))


def _read_header(path: Path, comments: Iterable[str]) -> dict[str, str]:
    """Return the fields of a header by name. A field ends at an empty line; what belongs to none is for the reader."""
    header = {"summary": ""}
    field = "summary"
    for line in comments:
        name, colon, value = line.partition(":")
        if colon and name.lower() in _FIELDS and name[:1].isupper():
            field, line = name.lower(), value
            if field in header:
                raise InvalidSql(f"{path}: the header has {name} twice")
        elif not line:
            field = "notes"
        header[field] = f"{header.get(field, '')} {line.strip()}".strip()
    missing = [name for name in ("summary", *_FIELDS) if not header.get(name)]
    if missing:
        raise InvalidSql(f"{path}: the header lacks {', '.join(missing)}")
    return header


def _read_parameters(path: Path, value: str) -> Iterable[tuple[str, str]]:
    """Return the names and types of ``name type, name type``, or nothing for ``none``."""
    if value == "none":
        return
    for each in value.split(","):
        match = _PARAMETER.fullmatch(each.strip())
        if match is None:
            raise InvalidSql(f"{path}: a parameter is declared as {each.strip()!r}, expected a name and a type")
        yield match[1], match[2]


class _Name(str):
    """A name in SQL, as opposed to a string."""


def literal(text: str) -> str:
    """Return a text as a literal of SQL, where no parameter can stand."""
    return "'" + text.replace("'", "''") + "'"


def _constant(value: Any, settings: Settings, constant: str) -> str:
    """Return a constant as SQL: numbers, strings, arrays of numbers, and null."""
    if isinstance(value, _Name):
        return f'"{value}"'
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"{value!r}::float8"
    if isinstance(value, str):
        return literal(value)
    if isinstance(value, (tuple, list)) and value:
        kind = "float8" if any(isinstance(each, float) for each in value) else "integer"
        return f"'{{{','.join(map(repr, value))}}}'::{kind}[]"
    raise InvalidSql(f"{constant} is {value!r}, which is no constant of SQL")
