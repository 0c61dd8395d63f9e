"""The types of the blocking calls are those of the asynchronous ones."""

import ast

from tests.support.sync_stub import PATH, generate


def _content(source: str) -> tuple[set[tuple[str, str]], list[str]]:
    """Return what a module imports, and its other statements, whatever their format."""
    body = ast.parse(source).body
    imports = {
        (getattr(node, "module", None) or "", alias.name)
        for node in body
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    return imports, [ast.dump(node) for node in body if not isinstance(node, (ast.Import, ast.ImportFrom))]


def test_the_stub_of_the_blocking_store_is_up_to_date() -> None:
    found, expected = _content(PATH.read_text(encoding="utf-8")), _content(generate())
    assert found == expected, "run `python -m tests.support.sync_stub` and `ruff check --fix`, `ruff format`"
