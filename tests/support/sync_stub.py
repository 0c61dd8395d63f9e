"""Writes agentstore/sync.pyi, the types of the blocking calls: ``python -m tests.support.sync_stub``.

They are those of the asynchronous services; tests/unit/test_sync_stub.py fails if they differ.
"""

import ast
import builtins
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import agentstore
from agentstore.interfaces import Sandbox
from agentstore.store import AgentStore

PATH = Path(agentstore.__file__).with_name("sync.pyi")
_SERVICES = {
    "Sessions": agentstore.PostgresSessionHistoryService,
    "Memory": agentstore.PostgresMemoryService,
    "States": agentstore.PostgresStateService,
    "Users": agentstore.PostgresUserService,
    "Blobs": agentstore.PostgresBlobService,
    "Documents": agentstore.PostgresDocumentService,
    "Checkpoints": agentstore.PostgresCheckpointService,
    "Sandboxes": agentstore.PostgresSandboxService,
}
# The store starts and stops its services.
_NOT_OF_SERVICES = {"start", "stop", "reopen"}
_HEADER = '''"""The types of agentstore/sync.py. Written by ``python -m tests.support.sync_stub``."""
'''
_OF_STORE = """
    sessions: Sessions
    memory: Memory
    states: States
    users: Users
    blobs: Blobs
    documents: Documents
    checkpoints: Checkpoints
    @property
    def sandboxes(self) -> Sandboxes: ...
"""
_END = """    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
"""


@cache
def _imports(module: str) -> dict[str, str]:
    """Return where a module imports each name from."""
    source = inspect.getsource(sys.modules[module])
    found = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            found.update({alias.asname or alias.name: node.module or "" for alias in node.names})
    return found


class _Stub:
    """The text of the stub, and the names that it needs."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {"Self": "typing", "TracebackType": "types"}
        self._classes = {*_SERVICES, "Sandbox", "AgentStore"}
        self._text = ""

    def add_class(self, name: str, source: type, body: str = "", *, omit: frozenset[str] = frozenset()) -> None:
        """Add a class with the public calls and properties of `source`."""
        self._text += f'\nclass {name}:\n    """{_first_line(source)}"""\n{body}'
        for each in _members(source):
            if each not in omit:
                self._text += self._member(source, each)

    def render(self) -> str:
        """Return the whole stub."""
        modules: dict[str, list[str]] = {}
        for name, module in self._names.items():
            modules.setdefault(module, []).append(name)
        lines = ["import builtins"] if "builtins." in self._text else []
        lines += [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(modules.items())]
        return "\n".join([_HEADER, *lines, "", self._text])

    def _member(self, source: type, name: str) -> str:
        found = inspect.getattr_static(source, name, None)
        if found is None:
            return f"    {name}: {self._names_of(source.__annotations__[name])}\n"
        if isinstance(found, property):
            assert found.fget is not None
            return self._signature(source, found.fget, "    @property\n")
        return self._signature(source, found)

    def _signature(self, source: type, function: Callable[..., Any], decorator: str = "") -> str:
        node: ast.AST = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
        assert isinstance(node, (ast.AsyncFunctionDef, ast.FunctionDef))
        arguments = node.args
        arguments.defaults = list(map(_default, arguments.defaults))
        arguments.kw_defaults = [None if each is None else _default(each) for each in arguments.kw_defaults]
        for each in [*arguments.args, *arguments.kwonlyargs]:
            if each.annotation is not None:
                each.annotation = self._resolved(each.annotation, source, function)
        assert node.returns is not None
        returns = self._resolved(node.returns, source, function)
        if inspect.isasyncgenfunction(function):
            returns = ast.parse(ast.unparse(returns).replace("AsyncIterator", "Iterator"), mode="eval").body
            self._names["Iterator"] = "collections.abc"
        text = f"    def {node.name}({ast.unparse(arguments)}) -> {ast.unparse(returns)}:\n"
        return decorator + text + f'        """{_first_line(getattr(source, node.name))}"""\n'

    def _names_of(self, annotation: Any) -> str:
        return str(annotation.__name__)

    def _resolved(self, annotation: ast.expr, source: type, function: Callable[..., Any]) -> ast.expr:
        """Note where the names of an annotation come from, and return it."""
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            annotation = ast.parse(annotation.value, mode="eval").body
        for node in ast.walk(annotation):
            if not isinstance(node, ast.Name):
                continue
            if node.id in vars(source) and hasattr(builtins, node.id):  # a method has the name of a type
                node.id = f"builtins.{node.id}"
            elif node.id not in self._classes and not hasattr(builtins, node.id) and node.id != "AsyncIterator":
                module = function.__module__
                self._names[node.id] = _imports(module).get(node.id, module)
        return annotation


def _members(source: type) -> Iterator[str]:
    """Yield the public attributes of a class, in the order of their definition; those of base classes last."""
    seen: dict[str, None] = {}
    for each in source.__mro__[:-1]:
        seen.update(dict.fromkeys((*inspect.get_annotations(each), *vars(each))))
    for name in seen:
        found = inspect.getattr_static(source, name, None)
        is_member = found is None or inspect.isfunction(found) or isinstance(found, property)
        if is_member and not name.startswith("_"):
            yield name


def _default(value: ast.expr) -> ast.expr:
    return value if isinstance(value, (ast.Constant, ast.Tuple)) else ast.Constant(...)


def _first_line(value: object) -> str:
    return (inspect.getdoc(value) or "").partition("\n")[0].replace('"""', "'''")


def generate() -> str:
    """Return the stub of the current services."""
    stub = _Stub()
    stub.add_class("Sandbox", Sandbox)
    for name, service in _SERVICES.items():
        stub.add_class(name, service, omit=frozenset(_NOT_OF_SERVICES))
    constructor = stub._signature(AgentStore, AgentStore.__init__)
    in_memory = stub._signature(AgentStore, AgentStore.in_memory, "    @staticmethod\n")
    del stub._names["InMemoryStore"]
    in_memory = in_memory.replace("InMemoryStore", "AgentStore")
    stub.add_class("AgentStore", AgentStore, _OF_STORE + constructor + in_memory)
    return stub.render() + _END


if __name__ == "__main__":
    PATH.write_text(generate(), encoding="utf-8")
