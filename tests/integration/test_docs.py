"""Every block of code of the README and docs runs, twice on the same database."""

import gzip
import json
import os
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
import yaml
from fastapi import FastAPI, Response

from agentstore import AgentStore
from tests.support.cli import run
from tests.support.documents import PAGES, ROOT, Block, blocks, run_process, run_pytest, run_python, seed
from tests.support.forked_commands import forked_commands
from tests.support.servers import Server

# Blocks that are not run here, by a part of their code, and why.
_NOT_RUN = {
    "SESSION_HISTORY_BACKEND": "variables of AgentScope Runtime, tested in adapters/test_factories.py",
    "pip install 'agentstore-postgres[agentscope-runtime]'": "installs packages: `make runtime`",
    "context.configure": "inside of Alembic's env.py, tested in migrations/test_migrations.py",
    "redis://cache.example.com": "databases that other packages wrote: `make peers`",
    "AGENTSTORE_EXTRACTION_URL": "needs a model, tested in cli/test_extract.py",
    "agentstore embed": "needs a model, tested in cli/test_vector.py",
    "agentstore distribute": "needs a cluster, tested in integration/test_distribution.py",
    "agentstore.adapters.adk.session_service": "read by ADK, tested in adapters/adk/test_sdk.py",
    "import --from langgraph postgresql://user": "written by LangGraph, adapters/langgraph/test_*_import.py",
    "import --from openai-agents postgresql://db.example.com": "tested in adapters/openai_agents/test_sdk.py",
    "import --from adk postgresql://user": "a database that ADK wrote, tested in adapters/adk/test_import.py",
    "pg_stat_statements": "needs an extension that is loaded when the server starts",
    "ALTER FUNCTION pg_catalog": "changes the server for all tests, tested in integration/test_row_security.py",
    "agentstore grants --app agents --readonly": "roles belong to the server, tested in migrations/test_grants.py",
}
# What installs packages is not executed, nor what serves until it is interrupted: see tests/console.
# `doctor` finds that the server of the tests does not write to disk.
_FUNCTIONS = """set -euo pipefail
pip() { :; }
apt-get() { :; }
agentstore() {
    test "$1" != console || return 0
    command agentstore "$@" || test "$? $1" = "1 doctor"
}
"""
# Their Python runs in `make runtime` and `make adapters`: adapters/test_docs.py, adapters/*/test_sdk.py.
_OTHER_PACKAGES = {
    "adk.md",
    "agentscope-runtime.md",
    "claude-agent-sdk.md",
    "langgraph.md",
    "openai-agents.md",
    "pydantic-ai.md",
}
# Its Python is an application's tests.
_TESTS = "testing.md"
# Its commands change servers: test_operations.py.
_OPERATIONS = "operations.md"


def _selected(*languages: str) -> list[Any]:
    """Return a parameter for each page that has blocks in these languages, which are to be run."""
    found = []
    for page in PAGES:
        run = [
            each
            for each in blocks(page)
            if each.language in languages and not any(part in each.code for part in _NOT_RUN)
        ]
        if page.name == _OPERATIONS:
            continue
        if run and not (page.name in {*_OTHER_PACKAGES, _TESTS} and "python" in languages):
            found.append(pytest.param(run, id=page.name))
    return found


def test_each_block_says_its_language_and_each_exception_is_needed() -> None:
    every = [each for page in PAGES for each in blocks(page)]
    assert {each.language for each in every} <= {"python", "bash", "sql", "yaml", "text"}
    for part in _NOT_RUN:
        assert sum(part in each.code for each in every) == 1, part


@pytest.fixture
def environment(database_url: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    values = {"AGENTSTORE_DATABASE_URL": database_url, "AGENTSTORE_SANDBOX_PROVIDER": "unsafe_subprocess"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


@pytest.mark.parametrize("page", _selected("python"))
async def test_python_runs_twice(
    page: list[Block], environment: dict[str, str], observer: asyncpg.Connection, tmp_path: Path
) -> None:
    for _ in range(2):
        async with AgentStore() as store:
            names: dict[str, Any] = {}
            for block in page:
                if "asyncio.run(" in block.code:
                    (tmp_path / "program.py").write_text(block.code, encoding="utf-8")
                    printed = await run_process("python", "program.py", environment=environment, folder=tmp_path)
                    said = re.search(r"It prints `([^`]+)`", block.page.read_text(encoding="utf-8"))
                    assert said is not None
                    assert printed.strip() == said[1]
                    continue
                if not names:
                    names = {**await seed(store), "app": FastAPI(), "Response": Response}
                await run_python(block, names)
            if names:
                await _request_every_route(names["app"])


@pytest.mark.slow
async def test_the_tests_of_an_application_run_twice(server: Server, tmp_path: Path) -> None:
    code = "\n".join(each.code for page in PAGES if page.name == _TESTS for each in blocks(page))
    (tmp_path / "test_page.py").write_text(code, encoding="utf-8")
    for _ in range(2):
        assert "2 passed" in await run_pytest(tmp_path / "test_page.py", server, "-o", "asyncio_mode=auto")


async def _request_every_route(app: FastAPI) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
        for path, methods in app.openapi()["paths"].items():
            for method in methods:
                url = path.format(user="alice", chat="trip")
                body = {"id": "asked", "text": "Which dish has no pepper?"} if method == "post" else None
                response = await client.request(method, url, params={"user": "alice"}, json=body)
                assert response.status_code == 200, f"{method} {path}: {response.text}"


@pytest.fixture(scope="module")
def search_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """PATH with the command in forks. The wheel's step and ``make bench-quick`` run it as it is installed."""
    with forked_commands(tmp_path_factory.mktemp("commands")) as folder:
        yield os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])


@pytest.mark.documentation
@pytest.mark.parametrize("page", _selected("bash"))
async def test_commands_run_twice(
    page: list[Block],
    environment: dict[str, str],
    search_path: str,
    database_url: str,
    other_url: str,
    tmp_path: Path,
) -> None:
    environment = {**environment, "PATH": search_path}
    _write_files(tmp_path)
    # The URLs of the pages are those of databases of this test.
    hosts = {
        "postgresql://app:secret@db.example.com/agents": database_url,
        "postgresql://other.example.com/agents": other_url,
    }
    for _ in range(2):
        async with AgentStore() as store:
            await seed(store)
            await store.users.set_metadata("bob", {"plan": "free"})
        (tmp_path / "theirs.jsonl").unlink(missing_ok=True)
        await run_process("agentstore", "export", "theirs.jsonl", environment=environment, folder=tmp_path)
        for block in page:
            code = block.code
            for shown, url in hosts.items():
                code = code.replace(shown, f"'{url}'")
            names = {**environment, "SESSION": "trip", "ID": "said-1"}
            try:
                await run_process("bash", "-c", _FUNCTIONS + code, environment=names, folder=tmp_path)
            except AssertionError as error:
                raise AssertionError(f"{block}: {error}") from None


_CHATGPT = {
    "conversation_id": "c1",
    "current_node": "n1",
    "mapping": {
        "n0": {"id": "n0", "parent": None, "children": ["n1"], "message": None},
        "n1": {
            "id": "n1",
            "parent": "n0",
            "children": [],
            "message": {
                "id": "m1",
                "author": {"role": "user"},
                "create_time": 1_700_000_000.5,
                "content": {"content_type": "text", "parts": ["Hello"]},
            },
        },
    },
}


def _write_files(folder: Path) -> None:
    """Write the files that the commands of the pages read."""
    samples = ROOT / "tests" / "support" / "imports"
    shutil.copy(ROOT / "examples" / "conversations.jsonl", folder / "logs.jsonl")
    (folder / "logs.jsonl.gz").write_bytes(gzip.compress((folder / "logs.jsonl").read_bytes()))
    with zipfile.ZipFile(folder / "claude-export.zip", "w") as archive:
        archive.write(samples / "claude.json", "conversations.json")
    (folder / "chatgpt-export").mkdir()
    (folder / "chatgpt-export" / "conversations.json").write_text(json.dumps([_CHATGPT]), encoding="utf-8")


@pytest.mark.parametrize("page", _selected("sql"))
async def test_queries_run(page: list[Block], observer: asyncpg.Connection) -> None:
    for block in page:
        await observer.execute(block.code)


@pytest.mark.parametrize("page", _selected("yaml"))
def test_the_commands_of_manifests_run(page: list[Block], environment: dict[str, str]) -> None:
    for block in page:
        commands = [each["command"] for each in _containers(yaml.safe_load(block.code))]
        assert commands, block
        for program, *arguments in commands:
            assert program == "agentstore"
            assert run(*arguments).code == 0, arguments


def _containers(value: Any) -> list[dict[str, Any]]:
    """Return the containers of a manifest, however deep they are."""
    found: list[dict[str, Any]] = []
    for key, each in value.items():
        if key == "containers":
            found += each
        elif isinstance(each, dict):
            found += _containers(each)
    return found
