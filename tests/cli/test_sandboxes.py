"""``agentstore sandboxes``: list, use and end the sandboxes of other processes.

The tests use the provider that isolates nothing, because it runs on every machine.
"""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from agentstore import PostgresSandboxService, SandboxLost
from tests.support.cli import Result, run


@pytest.fixture(autouse=True)
def _environment(direct_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", direct_url)
    monkeypatch.setenv("AGENTSTORE_SANDBOX_PROVIDER", "unsafe_subprocess")


@pytest.fixture
async def service(_environment: None) -> AsyncIterator[PostgresSandboxService]:
    """The service of an application in this process; the commands run in another one."""
    async with PostgresSandboxService() as opened:
        yield opened


async def _run_process(*arguments: str) -> Result:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "agentstore", "sandboxes", *arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "AGENTSTORE_AUTO_MIGRATE": "off"},
    )
    out, err = await process.communicate()
    return Result(process.returncode or 0, out.decode(), err.decode())


async def _run(*arguments: str) -> Result:
    """Run a command in a thread of this process, since it needs its own event loop."""
    return await asyncio.to_thread(run, "sandboxes", *arguments, environment={"AGENTSTORE_AUTO_MIGRATE": "off"})


async def _rows(observer: asyncpg.Connection) -> list[tuple[Any, ...]]:
    rows = await observer.fetch("SELECT user_id, session_id, type FROM agentstore.sandboxes ORDER BY 1, 2, 3")
    return [tuple(row) for row in rows]


@pytest.mark.slow
async def test_commands_list_use_and_end_sandboxes_of_an_application(service: PostgresSandboxService) -> None:
    (box,) = await service.connect("s", "alice")
    await box.run_ipython_cell("x = 41")
    (listed,) = (await _run_process("list", "alice", "--json")).json()["sandboxes"]
    assert (listed["session_id"], listed["type"], listed["state"]) == ("s", "base", "ready")
    assert listed["generation"] == box.generation
    assert (await _run_process("exec", "alice", "s", "--python", "x += 1; print(x)")).out == "42\n"
    failed = await _run_process("exec", "alice", "s", "echo out; echo err >&2; pwd > note; exit 7")
    assert (failed.code, failed.out, failed.err) == (1, "out\n", "err\n")
    assert (await box.run_ipython_cell("print(x)")).text == "42\n"  # the sandbox outlives the command
    assert (await box.run_shell_command("cat note")).text.endswith("/workspace\n")
    (ended,) = (await _run_process("release", "alice", "s", "--yes", "--json")).json()["ended"]
    assert ended["generation"] == box.generation
    with pytest.raises(SandboxLost):
        await box.run_shell_command("true")


def test_sandboxes_are_listed_in_pages(direct_url: str) -> None:
    async def connect() -> None:
        async with PostgresSandboxService(direct_url, drain_on_stop=False) as service:
            for session in ("b", "a"):
                await service.connect(session, "alice", ["base", "filesystem"])
            await service.connect("s")

    asyncio.run(connect())
    page = run("sandboxes", "list", "alice", "--limit", "3", "--json").json()
    assert [(each["session_id"], each["type"]) for each in page["sandboxes"]] == [
        ("a", "base"),
        ("a", "filesystem"),
        ("b", "base"),
    ]
    rest = run("sandboxes", "list", "alice", "--cursor", page["next_cursor"], "--json").json()
    assert ([each["type"] for each in rest["sandboxes"]], rest["next_cursor"]) == (["filesystem"], None)
    printed = run("sandboxes", "list", "alice", "--limit", "3").out
    assert "unsafe_subprocess" in printed
    assert "More: --cursor " in printed
    assert [each["session_id"] for each in run("sandboxes", "list", "", "--json").json()["sandboxes"]] == ["s"]
    assert run("sandboxes", "list", "bob").out == "user 'bob' has no sandboxes\n"


def test_list_does_not_need_the_provider() -> None:
    missing = {"AGENTSTORE_SANDBOX_PROVIDER": "remote", "AGENTSTORE_SANDBOX_URL": "http://127.0.0.1:9"}
    assert run("sandboxes", "list", "alice", environment=missing).code == 0


async def test_exec_creates_a_sandbox_only_with_create(observer: asyncpg.Connection) -> None:
    missing = await _run("exec", "alice", "s", "true")
    none = "error: session 's' of user 'alice' has no sandbox of type 'base': use --create\n"
    assert (missing.code, missing.out, missing.err) == (1, "", none)
    created = await _run(
        *("exec", "alice", "s", "--create", "--type", "filesystem"), "--", "printf", "%s|", "a b", "$HOME"
    )
    assert (created.code, created.out, created.err) == (0, "a b|$HOME|", "")
    assert await _rows(observer) == []  # it ended with the command
    assert (await _run("exec", "alice", "s", "true")).err == none


async def test_dead_sandbox_is_not_found(observer: asyncpg.Connection) -> None:
    async with PostgresSandboxService(drain_on_stop=False) as service:
        await service.connect("s", "alice")
    assert await _rows(observer) == [("alice", "s", "base")]
    missing = await _run("exec", "alice", "s", "true")
    assert (missing.code, missing.err) == (
        1,
        "error: session 's' of user 'alice' has no sandbox of type 'base': use --create\n",
    )
    assert await _rows(observer) == []


async def test_exec_reports_errors(service: PostgresSandboxService) -> None:
    await service.connect("s", "")
    late = await _run("exec", "", "s", "--timeout", "0.2", "sleep 60")
    assert (late.code, late.out, late.err) == (1, "", "timed out after 0.2 s\n")
    wrong = await _run("exec", "", "s", "--python", "1 / 0")
    assert (wrong.code, wrong.out) == (1, "")
    assert "ZeroDivisionError" in wrong.err
    unknown = await _run("exec", "alice", "s", "--create", "--type", "nonsense", "true")
    assert unknown.code == 2
    assert "there is no sandbox type 'nonsense'" in unknown.err


def test_invalid_arguments_are_usage_errors() -> None:
    assert run("sandboxes", "exec", "alice", "s").code == 2
    assert run("sandboxes", "exec", "alice", "s", "true", "--python", "1").code == 2
    assert run("sandboxes", "exec", "alice", "s", "true", "--timeout", "0").code == 2
    assert run("sandboxes", "release", "alice", "s").code == 2  # no terminal to confirm


def test_release_prints_what_it_ended(direct_url: str) -> None:
    async def connect() -> None:
        async with PostgresSandboxService(direct_url, drain_on_stop=False) as service:
            await service.connect("s", "alice", ["base", "filesystem"])

    asyncio.run(connect())
    assert run("sandboxes", "release", "alice", "s", "-y").out == "ended: base, filesystem\n"
    nothing = "nothing ended: session 's' of user 'alice' has no sandboxes\n"
    assert run("sandboxes", "release", "alice", "s", "-y", "--no-snapshot").out == nothing
    assert run("sandboxes", "release", "alice", "s", "-y", "--json").json() == {"ended": []}


async def test_reap_ends_sandboxes_with_expired_leases(observer: asyncpg.Connection) -> None:
    async with PostgresSandboxService(drain_on_stop=False) as service:
        await service.connect("s", "alice")
        await service.connect("used", "alice")
    await observer.execute(
        "UPDATE agentstore.sandboxes SET lease_until = now() - interval '1 s' WHERE session_id = 's'"
    )
    assert (await _run("reap", "--yes")).out == "ended: 1 sandbox\n"
    assert await _rows(observer) == [("alice", "used", "base")]
    assert (await _run("reap", "-y", "--json")).json() == {"ended": 0}


def test_forget_deletes_stored_workspaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTSTORE_SANDBOX_SNAPSHOTS", "true")
    for session in ("s", "t"):
        assert run("sandboxes", "exec", "alice", session, "--create", "echo stored >note").code == 0
    assert run("sandboxes", "forget", "alice", "s").code == 2  # no terminal to confirm
    assert run("sandboxes", "forget", "alice", "s", "--yes", "--json").json() == {"deleted": 1}
    assert run("sandboxes", "forget", "alice", "s", "--yes").out == "deleted: 0 workspaces\n"
    assert run("sandboxes", "exec", "alice", "s", "--create", "cat note").code == 1
    assert run("sandboxes", "exec", "alice", "t", "--create", "cat note").out == "stored\n"
