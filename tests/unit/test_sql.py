"""Statements in SQL files: what they may contain, which mistakes are detected, and that each file is used."""

from functools import partial
from inspect import getsource
from pathlib import Path
from types import SimpleNamespace

import pytest

import agentstore
from agentstore import Settings
from agentstore.database.sql import InvalidSql, SqlStatement, SqlStatements
from agentstore.database.statement import CompiledStatement
from agentstore.operations.explain import statements
from agentstore.repositories.memory import vectors

_HEADER = """-- Find something.
--
-- Scope: user
-- Repeatable: yes
-- Parameters: user_id text,
--   ids text[]
-- Rows: id
-- Races: none
"""
_VALID = (
    _HEADER
    + "SELECT id -- a comment with :no_parameter\n\nFROM {schema}.users WHERE id = :user_id AND id = ANY (:ids)\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "sql").mkdir()
    return tmp_path / "sql"


def _compile(folder: Path, name: str = "find", *, settings: Settings | None = None, citus: bool = False) -> str:
    numbers = SimpleNamespace(K1=0.5, MANY=7, STEPS=(0, 1, -1), WEIGHTS=[1.0, 0.5], NAME="it's", LIST=set())
    statement = SqlStatements(str(folder.parent / "module.py"), numbers=numbers, embedder="x:y")(name)
    return CompiledStatement(statement, settings or Settings(), citus=citus).sql


def test_parameters_are_cast_wherever_they_occur(folder: Path) -> None:
    (folder / "find.sql").write_text(_VALID.replace("ANY (:ids)", "ANY (:ids) AND id <> :user_id"))
    assert _compile(folder) == (
        'SELECT id\nFROM "agentstore".users WHERE id = $1::text AND id = ANY ($2::text[]) AND id <> $1::text'
    )
    statement = SqlStatement(folder / "find.sql", {})
    assert CompiledStatement(statement, Settings()).arguments({"ids": ["a"], "user_id": "u", "more": 1}) == ["u", ["a"]]
    assert (statement.scope, statement.repeatable) == ("user", True)
    assert not SqlStatement(folder / "find.sql", {}, repeatable=False).repeatable


def test_constants_are_rendered_as_literals(folder: Path) -> None:
    names = ("numbers.K1", "numbers.MANY", "numbers.STEPS", "numbers.WEIGHTS", "numbers.NAME", "embedder")
    listed = ", ".join(f"{{{name}}}" for name in (*names, "settings.session_ttl", "settings.max_page"))
    (folder / "find.sql").write_text(_VALID.replace("SELECT id", f"SELECT {listed}"))
    assert _compile(folder, settings=Settings(max_page=12)).split("\n")[0] == (
        "SELECT 0.5::float8, 7, '{0,1,-1}'::integer[], '{1.0,0.5}'::float8[], 'it''s', 'x:y', NULL, 12"
    )


def test_text_that_only_looks_like_a_parameter_or_a_constant_is_unchanged(folder: Path) -> None:
    sql = """SELECT '{}'::json, '{0,1}'::int[], 'a :b {schema} ''c', ":d", 1::bigint, x[1:2] """
    (folder / "find.sql").write_text(_VALID.replace("SELECT id ", sql))
    assert _compile(folder).startswith(sql.strip())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (":user_id", ":other", "declares no parameter other"),
        ("= ANY (:ids)", "<> ''", "declares ids, which the statement does not use"),
        ("{schema}", "{scheme}", "no constant scheme"),
        ("{schema}", "{settings.nothing}", "no constant settings.nothing"),
        ("{schema}", "{numbers.NOTHING}", "no constant numbers.NOTHING"),
        ("{schema}", "{numbers.LIST}", "no constant of SQL"),
        ("-- Rows: id\n", "", "lacks rows"),
        ("-- Find something.\n", "", "lacks summary"),
        ("-- Races: none\n", "-- Rows: id\n", "Rows twice"),
        ("Scope: user", "Scope: mine", "scope is 'mine'"),
        ("Repeatable: yes", "Repeatable: maybe", "repeatable is 'maybe'"),
        ("ids text[]", "ids", "a name and a type"),
        ("user_id text,", "one text,", "has a parameter user_id"),
    ],
)
def test_a_mistake_is_an_error_that_names_the_file(folder: Path, old: str, new: str, message: str) -> None:
    (folder / "find.sql").write_text(_VALID.replace(old, new))
    with pytest.raises(InvalidSql, match=rf"find\.sql.*{message}|{message}"):
        _compile(folder)


def test_a_missing_file_is_an_error(folder: Path) -> None:
    with pytest.raises(InvalidSql, match=r"find\.sql: there is no such file"):
        _compile(folder)


def test_the_ctes_of_another_file_are_included_with_its_parameters(folder: Path) -> None:
    shared = (
        _HEADER.replace("ids text[]", "at timestamptz")
        + "WITH one AS (\n    SELECT :user_id, :at\n)\nSELECT * FROM one\n"
    )
    (folder / "shared.sql").write_text(shared)
    assert _compile(folder, "shared") == "WITH one AS (\n    SELECT $1::text, $2::timestamptz\n)\nSELECT * FROM one"
    including = "WITH\n-- include: shared.sql\ntwo AS (\n    SELECT :ids\n)\nSELECT * FROM one, two\n"
    (folder / "find.sql").write_text(_HEADER + including)
    ctes = "one AS (\n    SELECT $1::text, $2::timestamptz\n),\ntwo AS (\n    SELECT $3::text[]\n)"
    assert _compile(folder) == f"WITH\n{ctes}\nSELECT * FROM one, two"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("at timestamptz", "ids text", r"ids is text\[\] here, and text in shared"),
        (
            "WITH one AS (\n    SELECT :user_id, :at\n)\nSELECT * FROM one",
            "SELECT :user_id, :at",
            "not of the form WITH",
        ),
    ],
)
def test_an_included_file_that_does_not_fit_is_an_error(folder: Path, old: str, new: str, message: str) -> None:
    shared = (
        _HEADER.replace("ids text[]", "at timestamptz")
        + "WITH one AS (\n    SELECT :user_id, :at\n)\nSELECT * FROM one\n"
    )
    (folder / "shared.sql").write_text(shared.replace(old, new))
    (folder / "find.sql").write_text(_HEADER + "WITH\n-- include: shared.sql\ntwo AS (\n    SELECT :ids\n)\nSELECT 1\n")
    with pytest.raises(InvalidSql, match=message):
        _compile(folder)


def test_a_distributed_database_gets_the_other_form(folder: Path) -> None:
    (folder / "find.sql").write_text(_VALID)
    assert _compile(folder, citus=True) == _compile(folder)
    (folder / "find.citus.sql").write_text(_VALID.replace("SELECT id", "SELECT 1"))
    assert _compile(folder, citus=True) == _compile(folder).replace("SELECT id", "SELECT 1")


def test_a_module_may_include_another_file_in_place_of_the_one_that_a_file_names(folder: Path) -> None:
    for name, sql in (("one", "1"), ("two", "2, :at")):
        header = _HEADER.replace("ids text[]", "at timestamptz") if name == "two" else _HEADER
        (folder / f"{name}.sql").write_text(f"{header}WITH numbers AS (\n    SELECT {sql}\n)\nSELECT * FROM numbers\n")
    (folder / "find.sql").write_text(
        _HEADER + "WITH\n-- include: one.sql\nids AS (\n    SELECT :user_id, :ids\n)\nSELECT 1\n"
    )
    sql_of = SqlStatements(str(folder.parent / "module.py"))
    statement = sql_of("find", includes={"one.sql": "two.sql"})
    for citus in (False, True):
        assert "SELECT 2, $1::timestamptz\n" in CompiledStatement(statement, Settings(), citus=citus).sql
    assert {path.name for path in statement.file.paths} == {"find.sql", "two.sql"}
    assert "SELECT 1\n" in CompiledStatement(sql_of("find"), Settings()).sql
    with pytest.raises(InvalidSql, match="does not include three"):
        CompiledStatement(sql_of("find", includes={"three.sql": "two.sql"}), Settings())


def test_each_file_is_a_valid_statement_and_used() -> None:
    """Of the package: each is executed by a module, included by a file, or the form of one for Citus."""
    used: set[Path] = set()
    for statement in [*statements().values(), vectors.by_index("words", 32, with_words=True)]:
        if isinstance(statement, SqlStatement):
            CompiledStatement(statement, Settings())
            CompiledStatement(statement, Settings(), citus=True)
            used |= {*statement.file.paths, statement.path.with_suffix(".citus.sql")}
    files = {path.resolve() for path in Path(agentstore.__file__).parent.rglob("sql/*.sql")}
    assert files - {path.resolve() for path in used} == set()


def test_statements_longer_than_a_screen_are_files() -> None:
    lengths = {}
    for name, statement in statements().items():
        if not isinstance(statement, SqlStatement):
            build = statement._construct
            function = build.func if isinstance(build, partial) else build
            if callable(function):
                lengths[name] = len(getsource(function).splitlines())
    assert len(lengths) > 5
    assert {name: length for name, length in lengths.items() if length > 25} == {}
