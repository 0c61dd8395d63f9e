"""Run the blocks of code of the README and docs."""

import ast
import asyncio
import inspect
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import agentstore
from agentstore import AgentStore, MemoryItem, Message
from tests.support import translations
from tests.support.servers import Server

ROOT = Path(__file__).parents[2]
_EVERY_PAGE = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
PAGES = [each for each in _EVERY_PAGE if translations.find(each) is None]
"""The pages whose blocks run. Those of a translation are the same: ``tests/unit/test_site.py`` compares them."""
_PLUGIN = "agentstore.testing.plugin"
_IS_INSTALLED = any(each.value == _PLUGIN for each in entry_points(group="pytest11"))
LOAD_PLUGIN = () if _IS_INSTALLED else ("-p", _PLUGIN)
"""Options of pytest that load the plugin by name, unless the installed package has it as an entry point."""
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of code of a page."""

    page: Path
    line: int
    language: str
    code: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """Return the blocks of code of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [Block(page, text.count("\n", 0, each.start()) + 1, each[1], each[2]) for each in _BLOCK.finditer(text)]


async def seed(store: AgentStore) -> dict[str, Any]:
    """Store what the blocks of the pages refer to, unless it is stored, and return their names."""
    session = await store.sessions.create_session("alice", "trip", title="A week in Chengdu")
    said = ["I do not eat peppers. 我不吃辣.", "Then try the duck.", "我要去成都."]
    messages = [Message(id=f"said-{number}", role="user", content=text) for number, text in enumerate(said)]
    await store.sessions.append("alice", "trip", messages)
    await store.memory.add_memory("alice", messages, "trip")
    old = MemoryItem(id="old", text="Alice lives in Beijing", kind="fact")
    if not await store.memory.list_items("alice"):
        await store.memory.save_items("alice", old)
    if await store.states.export_state("alice", "trip", 1) is None:
        await store.states.save_state("alice", {"plan": []}, "trip", 1)
    session = await store.sessions.create_session("alice", "trip")
    names = {name: getattr(agentstore, name) for name in agentstore.__all__}
    return names | {"store": store, "session": session, "message": messages[1], "old": old, "user_id": "bob"}


async def run_python(block: Block, names: dict[str, Any]) -> None:
    """Run a block with these names, to which it may add; ``await`` is allowed outside of functions."""
    code = "\n" * block.line + block.code  # so that tracebacks name the line of the page
    compiled = compile(code, str(block.page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    result = eval(compiled, names)
    if inspect.iscoroutine(result):
        await result


async def run_pytest(file: Path, server: Server, *options: str) -> str:
    """Run a file of tests as an application's, with the plugin of agentstore, and return what is printed.

    Raises:
        AssertionError: a test failed.
    """
    return await run_process(
        *(sys.executable, "-m", "pytest", "-q", *LOAD_PLUGIN, *options, file.name),
        environment={"PYTEST_AGENTSTORE_URL": server.url_of("postgres")},
        folder=file.parent,
    )


async def run_process(*command: str, environment: Mapping[str, str], folder: Path, stdin: str = "") -> str:
    """Run a command, and return what it prints.

    Raises:
        AssertionError: it failed; the message is what it wrote to stderr.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **environment},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(stdin.encode())
    assert process.returncode == 0, f"exit code {process.returncode}\n{out.decode()}\n{err.decode()}"
    return out.decode()
