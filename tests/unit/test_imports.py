"""What an import loads, and that public names are found by programs, type checkers and editors alike."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import agentstore

_ROOT = Path(agentstore.__file__).parent


def _imported_for_type_checkers() -> dict[str, str]:
    """Return the names below ``if TYPE_CHECKING:`` in agentstore/__init__.py, with their modules."""
    tree = ast.parse((_ROOT / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.asname or alias.name: node.module or ""
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_public_names_are_the_same_at_run_time_and_for_type_checkers() -> None:
    typed = _imported_for_type_checkers()
    assert typed.pop("migrate") == "agentstore"
    assert typed == agentstore._DEFINED_IN
    assert sorted(agentstore.__all__) == sorted([*typed, "migrate"])
    assert set(agentstore.__all__) <= set(dir(agentstore))


@pytest.mark.parametrize("name", agentstore.__all__)
def test_each_public_name_can_be_imported(name: str) -> None:
    value = getattr(agentstore, name)
    assert value is getattr(agentstore, name)
    if isinstance(value, type):
        assert value.__name__ == name


def test_a_missing_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'agentstore' has no attribute 'Mesage'"):
        agentstore.Mesage  # type: ignore[attr-defined] # noqa: B018
    with pytest.raises(ImportError, match="Mesage"):
        from agentstore import Mesage  # type: ignore[attr-defined] # noqa: F401


# Loaded by the call or command that needs it, never by an import of agentstore.
_COMMAND_LINE = {"rich", "pygments", "typer", "click"}
_NEEDED_BY_ONE_CALL = {
    *("alembic", "mako", "httpx", "zstandard", "opencc", "Stemmer", "jsonpatch", "redis", "fastapi", "starlette"),
    *("sentence_transformers", "torch", "jupyter_client", "IPython", "agentscope", "agentscope_runtime", "pytest"),
}
_DATABASE = {"sqlalchemy", "asyncpg"}


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import agentstore", _COMMAND_LINE | _NEEDED_BY_ONE_CALL | _DATABASE | {"pydantic", "orjson"}),
        ("from agentstore import Message, Role, TextContent", _COMMAND_LINE | _NEEDED_BY_ONE_CALL | _DATABASE),
        ("from agentstore import AgentStore, Message, Settings", _COMMAND_LINE | _NEEDED_BY_ONE_CALL),
        ("from agentstore import InMemorySessionHistoryService", _COMMAND_LINE | _NEEDED_BY_ONE_CALL | _DATABASE),
        ("from agentstore import InMemoryMemoryService", _COMMAND_LINE | _NEEDED_BY_ONE_CALL | _DATABASE),
        ("import agentstore.cli", {"alembic", "mako", "pygments", "rich", "httpx"} | _DATABASE),
    ],
)
def test_an_import_loads_no_more_than_it_needs(statement: str, forbidden: set[str]) -> None:
    program = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not forbidden & set(done.stdout.split())


def test_no_module_is_longer_than_620_lines() -> None:
    """About 600 lines: a class that needs more is two things."""
    lengths = {str(path.relative_to(_ROOT)): len(path.read_text().splitlines()) for path in _ROOT.rglob("*.py")}
    assert {name: length for name, length in lengths.items() if length > 620} == {}
