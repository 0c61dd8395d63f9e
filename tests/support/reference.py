"""Write the reference of the site from the code: docstrings, fields, settings, commands, names of telemetry."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from enum import Enum
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import typer

import agentstore
from agentstore.cli import SECTIONS, load_command
from agentstore.database import otel
from agentstore.database.telemetry import EventName
from agentstore.interfaces import ServiceWithLifecycleManager
from agentstore.operations.explain import statements
from tests.support.documents import PAGES, ROOT, blocks

_SERVICES = {
    "AgentStore": agentstore.AgentStore,
    "store.sessions": agentstore.PostgresSessionHistoryService,
    "store.memory": agentstore.PostgresMemoryService,
    "store.states": agentstore.PostgresStateService,
    "store.blobs": agentstore.PostgresBlobService,
    "store.documents": agentstore.PostgresDocumentService,
    "store.checkpoints": agentstore.PostgresCheckpointService,
    "store.users": agentstore.PostgresUserService,
    "store.sandboxes": agentstore.PostgresSandboxService,
}
_ROLE = re.compile(r":\w+:`~?\.?([^`]+)`")
_SECTION = re.compile(r"^(Args|Raises|Attributes|Returns|Yields):$", re.MULTILINE)
_ENTRY = re.compile(r"^    (\S[^:\n]*): ?", re.MULTILINE)
_MODULE = re.compile(r"\b(?:[a-z_]+\.)+(?=[A-Za-z_])")
_NOTE = "<!-- Written by tests/support/reference.py. -->\n"


def markdown(docstring: str) -> str:
    """Return a docstring as Markdown: its roles as code, its sections as lists."""
    text = inspect.cleandoc(docstring)
    text = (
        _ROLE.sub(lambda role: f"`{role[1].removeprefix('agentstore.')}`", text)
        .replace("``", "`")
        .replace("_*", r"_\*")
    )
    parts = _SECTION.split(text)
    result = [_literal_blocks(parts[0]).strip()]
    for title, body in zip(parts[1::2], parts[2::2], strict=True):
        entries = _ENTRY.sub(r"- `\1`: ", body.strip("\n"))
        entries = re.sub(r"^ {8,}", "    ", entries, flags=re.MULTILINE)
        result.append(f"**{title}**\n\n{entries.strip()}")
    return "\n\n".join(result)


def _literal_blocks(text: str) -> str:
    """Return a text in which a block after ``::`` is fenced."""
    return re.sub(
        r"(?m)^(.*)::\n\n((?:    .*\n?|\n(?=    ))+)",
        lambda block: f"{block[1]}\n\n```python\n{textwrap.dedent(block[2]).strip()}\n```\n\n".lstrip(),
        text,
    )


def signature(name: str, function: Any) -> str:
    """Return how a call is written, without the names of modules."""
    found = inspect.signature(function)
    parameters = [each for each in found.parameters.values() if each.name != "self"]
    text = f"{name}{found.replace(parameters=parameters)}"
    text = _MODULE.sub("", re.sub(r"<class '([^']+)'>|<(\w+)\.[^>]*>", r"\1\2", text)).replace("'", '"')
    prefix = "async " if inspect.iscoroutinefunction(function) else ""
    if len(prefix + text) <= 100:
        return prefix + text
    arguments = [_MODULE.sub("", str(each)).replace("'", '"') for each in parameters]
    star = next((i for i, each in enumerate(parameters) if each.kind is each.KEYWORD_ONLY), None)
    if star is not None and not any(each.kind is each.VAR_POSITIONAL for each in parameters):
        arguments.insert(star, "*")
    returns = text.rpartition(" -> ")[2] if found.return_annotation is not found.empty else "None"
    return f"{prefix}{name}(\n" + "".join(f"    {each},\n" for each in arguments) + f") -> {returns}"


def _methods(kind: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods of a class, with the docstrings that they inherit, in the order of their interface."""
    seen = set()
    for base in kind.__mro__[::-1]:
        for name in vars(base):
            if name.startswith("_") or name in seen or base is object:
                continue
            function = getattr(kind, name)
            if inspect.isfunction(function) and inspect.getdoc(function):
                seen.add(name)
                yield name, function


def examples() -> Iterator[tuple[str, str, str]]:
    """Yield each call of a store with an example: the title of its service, its name, and the example as Markdown.

    An example is the first statement of a page of docs/, or of a program in examples/, that makes the call. It is empty
    if there is none.
    """
    sources = [(page, block.code) for page in PAGES for block in blocks(page) if block.language == "python"]
    sources += [(each, each.read_text(encoding="utf-8")) for each in sorted((ROOT / "examples").glob("*.py"))]
    statements = [(path, statement) for path, code in sources for statement in _statements(code)]
    for title, kind in _SERVICES.items():
        for name, _ in _methods(kind):
            call = re.compile(rf"{'(AgentS|s)tore' if kind is agentstore.AgentStore else title}\.{name}\(")
            found = next(((path, text) for path, text in statements if call.search(re.sub(r"  # .*", "", text))), None)
            if found is None and kind is not agentstore.AgentStore and hasattr(ServiceWithLifecycleManager, name):
                continue  # that of the store is called instead
            yield title, name, _example(*found) if found else ""


def _statements(code: str) -> Iterator[str]:
    """Yield the statements of a program that have none within them, and the heads of the others."""
    lines = code.splitlines()
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt) and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            body = getattr(node, "body", None)
            end = body[0].lineno - 1 if body else node.end_lineno
            yield textwrap.dedent("\n".join(lines[node.lineno - 1 : max(end or 0, node.lineno)]))


def _example(path: Path, statement: str) -> str:
    page = path.relative_to(ROOT)
    if page.parts[0] == "docs":
        link = f"../{page.relative_to('docs')}"
    else:
        link = "../index.md" if page.name == "README.md" else "../source/examples.md"
    return f"From [{page.name}]({link}):\n\n```python\n{statement}\n```"


def services() -> str:
    """Return the page of the calls of a store."""
    parts = [f"{_NOTE}# Services\n\nEvery call of a store. [The overview](../api.md) is shorter.\n"]
    found = {(title, name): example for title, name, example in examples()}
    for title, kind in _SERVICES.items():
        parts.append(f"## {title}\n\n{markdown(inspect.getdoc(kind) or '')}\n")
        if kind is agentstore.AgentStore:
            parts.append(
                f"```python\n{signature('AgentStore', kind.__init__)}\n```\n\n{markdown(kind.__init__.__doc__ or '')}\n"
            )
        for name, function in _methods(kind):
            parts.append(f"### {title}.{name}\n\n```python\n{signature(name, function)}\n```\n")
            parts.append(markdown(inspect.getdoc(function) or "") + "\n")
            if example := found.get((title, name)):
                parts.append(example + "\n")
    return "\n".join(parts)


def values() -> str:
    """Return the page of the public classes that are neither errors, nor services of a database, nor the settings."""
    parts = [f"{_NOTE}# Values\n\nWhat calls take and return.\n"]
    for name in agentstore.__all__:
        kind = getattr(agentstore, name)
        if not inspect.isclass(kind) or issubclass(kind, Exception) or name in {"AgentStore", "Settings"}:
            continue
        if name.startswith(("Postgres", "InMemory")) or name.endswith("Service"):
            continue
        parts.append(f"## {name}\n\n{markdown(inspect.getdoc(kind) or '')}\n")
        if issubclass(kind, Enum):
            parts.append(", ".join(f"`{each.value}`" for each in kind) + "\n")
        elif fields := list(_fields(kind)):
            parts.append("| field | type | |\n|---|---|---|")
            parts += [f"| `{field}` | `{annotation}` | {_cell(text)} |" for field, annotation, text in fields]
            parts.append("")
    return "\n".join(parts)


def _fields(kind: type) -> Iterator[tuple[str, str, str]]:
    """Yield the public fields of a class: name, type, and the docstring below it."""
    for base in reversed(kind.__mro__):
        if not base.__module__.startswith("agentstore"):
            continue
        try:
            (definition,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        except TypeError:  # of a named tuple: its fields have no source
            continue
        assert isinstance(definition, ast.ClassDef)
        for node, below in pairwise([*definition.body, ast.Pass()]):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id[0] != "_":
                described = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
                text = markdown(str(below.value.value)) if described else ""  # type: ignore[attr-defined]
                yield node.target.id, re.sub(r"Annotated\[(.+?), .*\]", r"\1", ast.unparse(node.annotation)), text


def errors() -> str:
    """Return the page of the errors, below their base classes."""
    parts = [f"{_NOTE}# Errors\n\n[Errors, retries and failover](../errors.md) says what to do about each.\n"]
    for name in agentstore.__all__:
        kind = getattr(agentstore, name)
        if inspect.isclass(kind) and issubclass(kind, agentstore.AgentStoreError):
            bases = ", ".join(f"`{each.__name__}`" for each in kind.__bases__)
            parts.append(f"## {name}\n\nOf the kinds {bases}.\n\n{markdown(inspect.getdoc(kind) or '')}\n")
    return "\n".join(parts)


def settings() -> str:
    """Return the page of the settings."""
    parts = [
        f"{_NOTE}# Settings\n\nEach is an environment variable, and an argument of `Settings`. "
        "[Configuration](../configuration.md) groups them.\n",
        "| variable | type | default | |\n|---|---|---|---|",
    ]
    for field, info in agentstore.Settings.model_fields.items():
        default = (
            "" if info.default is None or info.is_required() else f"`{getattr(info.default, 'value', info.default)}`"
        )
        kind = _type(info.annotation)
        parts.append(f"| `AGENTSTORE_{field.upper()}` | `{kind}` | {default} | {_cell(info.description or '')} |")
    return "\n".join(parts) + "\n"


def commands() -> str:
    """Return the page of the commands, with the help of each."""
    parts = [f"{_NOTE}# Commands\n\n[Command line](../cli.md) has examples.\n"]
    for title, section in SECTIONS.items():
        parts.append(f"## {title}\n")
        for name in section:
            command = load_command(name)
            parts += _help(command, f"agentstore {name}")
    return "\n".join(parts)


def _help(command: Any, name: str) -> Iterator[str]:
    context = typer.Context(command, info_name=name)
    yield f"### {name}\n\n{inspect.cleandoc(command.help or '')}\n"
    if inner := getattr(command, "commands", None):
        for each, found in inner.items():
            yield from _help(found, f"{name} {each}")
        return
    usage = " ".join(command.collect_usage_pieces(context))
    yield f"```text\n{name} {usage}\n```\n"
    records = [each.get_help_record(context) for each in command.get_params(context)]
    rows = [f"| `{each[0]}` | {_cell(each[1])} |" for each in records if each]
    if rows:
        yield "| | |\n|---|---|\n" + "\n".join(rows) + "\n"


def telemetry() -> str:
    """Return the page of the names that telemetry reports."""
    names = sorted(statements())
    source = inspect.getsource(otel)
    metrics = sorted(set(re.findall(r'"((?:agentstore|db\.client)\.[a-z_.]+)"', source)))
    return "\n".join(
        [
            f"{_NOTE}# Telemetry names\n\n[Telemetry](../telemetry.md) describes them.\n",
            "## Events\n\n" + "\n".join(f"- `{each}`" for each in get_args(EventName)) + "\n",
            "## Metrics and attributes\n\n" + "\n".join(f"- `{each}`" for each in metrics) + "\n",
            "## Statements\n\n" + "\n".join(f"- `{each}`" for each in names) + "\n",
        ]
    )


def _type(annotation: Any) -> str:
    text = annotation.__name__ if inspect.isclass(annotation) and not get_args(annotation) else str(annotation)
    text = re.sub(r"Annotated\[(\w+), .*?\)\]", r"\1", _MODULE.sub("", text))
    return re.sub(r"Optional\[(.*)\]", r"\1 | None", text)


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def pages() -> dict[str, str]:
    """Return the pages by their names."""
    return {
        "services.md": services(),
        "values.md": values(),
        "errors.md": errors(),
        "settings.md": settings(),
        "commands.md": commands(),
        "telemetry.md": telemetry(),
    }
