"""What an import loads, and that public names are found by programs, type checkers and editors alike."""

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import agentstore
import agentstore.repositories
import agentstore.schemas
import agentstore.testing

_ROOT = Path(agentstore.__file__).parent


_LAZY = [agentstore, agentstore.schemas, agentstore.repositories, agentstore.migrate, agentstore.testing]


def _imported_for_type_checkers(package: ModuleType) -> dict[str, str]:
    """Return the names below ``if TYPE_CHECKING:`` in a package's __init__.py, with their modules."""
    assert package.__file__ is not None
    tree = ast.parse(Path(package.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    return {
        alias.asname or alias.name: node.module or ""
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@pytest.mark.parametrize("package", _LAZY, ids=lambda package: package.__name__)
def test_names_are_the_same_at_run_time_and_for_type_checkers(package: Any) -> None:
    typed = _imported_for_type_checkers(package)
    if package is agentstore:
        assert typed.pop("migrate") == "agentstore"
    assert typed == package._DEFINED_IN
    assert set(package.__all__) - {"migrate"} == set(typed)
    assert set(package.__all__) <= set(dir(package))


@pytest.mark.parametrize(
    ("package", "name"),
    [(package, name) for package in _LAZY for name in package.__all__],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_each_name_can_be_imported(package: Any, name: str) -> None:
    value = getattr(package, name)
    assert value is getattr(package, name)
    if isinstance(value, type):
        assert value.__name__ == name


@pytest.mark.parametrize("package", _LAZY, ids=lambda package: package.__name__)
def test_a_missing_name_is_an_attribute_error(package: Any) -> None:
    with pytest.raises(AttributeError, match=f"module {package.__name__!r} has no attribute 'Mesage'"):
        _ = package.Mesage
    with pytest.raises(ImportError, match="Mesage"):
        exec(f"from {package.__name__} import Mesage")


def test_a_missing_name_is_an_error_to_type_checkers() -> None:
    """An unused `type: ignore` would fail `make types`."""
    with pytest.raises(AttributeError):
        _ = agentstore.Mesage  # type: ignore[attr-defined]


# Loaded by the call or command that needs it, never by an import of agentstore.
_COMMAND_LINE = {"rich", "pygments", "typer", "click"}
_NEEDED_BY_ONE_CALL = {
    *("alembic", "mako", "httpx", "zstandard", "opencc", "Stemmer", "jsonpatch", "redis", "fastapi", "starlette"),
    *("sentence_transformers", "torch", "jupyter_client", "IPython", "agentscope", "agentscope_runtime", "pytest"),
    *("numpy", "wordllama", "tokenizers"),
}
_DATABASE = {"sqlalchemy", "asyncpg"}


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import agentstore", _COMMAND_LINE | _NEEDED_BY_ONE_CALL | _DATABASE | {"pydantic", "orjson"}),
        (
            "from agentstore import Message, Role, TextContent",
            _COMMAND_LINE | _NEEDED_BY_ONE_CALL | _DATABASE | {"asyncio"},
        ),
        ("from agentstore import AgentStore, Message, Settings", _COMMAND_LINE | _NEEDED_BY_ONE_CALL),
        ("from agentstore import InMemorySessionHistoryService", _COMMAND_LINE | _NEEDED_BY_ONE_CALL | _DATABASE),
        ("from agentstore import InMemoryMemoryService", _COMMAND_LINE | _NEEDED_BY_ONE_CALL | _DATABASE),
        ("import agentstore.sync", _COMMAND_LINE | _NEEDED_BY_ONE_CALL | _DATABASE | {"pydantic", "orjson"}),
        (
            "import agentstore.testing.plugin",
            (_COMMAND_LINE | _NEEDED_BY_ONE_CALL | _DATABASE | {"pydantic", "orjson"}) - {"pytest", "pygments"},
        ),
        (
            "from agentstore.adapters.openai_agents import AgentStoreSession",
            _COMMAND_LINE | _NEEDED_BY_ONE_CALL | _DATABASE | {"agents", "openai"},
        ),
        (
            "from agentstore.adapters.claude_agent_sdk import AgentStoreSessionStore",
            _COMMAND_LINE | _NEEDED_BY_ONE_CALL | _DATABASE | {"claude_agent_sdk", "mcp"},
        ),
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
