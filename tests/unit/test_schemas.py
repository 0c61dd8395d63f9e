"""The names of agentstore.schemas, which are imported when they are first used."""

import ast
from pathlib import Path

import pytest

from agentstore import schemas


def test_schema_names_are_the_same_at_run_time_and_for_type_checkers() -> None:
    tree = ast.parse(Path(schemas.__file__).read_text())
    typed = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == {name: f"agentstore.schemas.{module}" for name, module in schemas._DEFINED_IN.items()}
    assert sorted(schemas.__all__) == sorted(typed)
    assert set(schemas.__all__) <= set(dir(schemas))
    for name in schemas.__all__:
        assert getattr(schemas, name) is not None


def test_an_unknown_schema_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Mesage"):
        _ = schemas.Mesage  # type: ignore[attr-defined]
