"""Commands, cells and other tools in the sandboxes of a server."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from agentstore import InMemorySandboxService, SandboxService, Settings
from agentstore.errors import (
    InvalidContent,
    SandboxFailed,
    SandboxUnavailable,
)
from agentstore.sandbox.managed import ManagedProvider
from agentstore.sandbox.remote import RemoteProvider
from agentstore.testing import SandboxContract
from tests.sandbox.remote.sandbox_server import SandboxServer
from tests.sandbox.remote.support import BASE, name_in, shell, wait_until


class TestContract(SandboxContract):
    @pytest.fixture
    async def service(self, provider: RemoteProvider) -> AsyncIterator[SandboxService]:
        async with InMemorySandboxService(provider=provider) as service:
            yield service

    @pytest.fixture
    async def keeping(self, provider: RemoteProvider) -> AsyncIterator[SandboxService]:
        settings = Settings(sandbox_snapshots=True, max_workspace_bytes=100_000)
        async with InMemorySandboxService(provider=provider, settings=settings) as service:
            yield service


async def test_a_failing_command_is_a_result(any_provider: ManagedProvider) -> None:
    handle = await any_provider.create(BASE)
    result = await shell(any_provider, handle, "exit 3")
    assert (result.is_error, result.part("returncode")) == (True, "3")
    result = await shell(any_provider, handle, "echo 'unclosed")
    assert result.is_error
    assert "returncode" in {each["description"] for each in result["content"]}
    cell = await any_provider.exec(handle, "run_ipython_cell", {"code": "1 / 0"}, 60)
    assert cell.is_error
    assert "ZeroDivisionError" in cell.text
    assert not (await any_provider.exec(handle, "run_ipython_cell", {"code": ""}, 60)).is_error


async def test_reply_with_too_many_values_or_levels_is_an_error(
    any_provider: ManagedProvider, server: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = await any_provider.create(BASE)
    nested: list[object] = []
    for _ in range(150):
        nested = [nested]
    replies: list[object] = [nested, [{}] * 200_001, {"content": [nested]}]
    for value in replies:
        monkeypatch.setattr(server, "call_tool", lambda value=value, **_: value)
        with pytest.raises(SandboxFailed, match=r"more than 200,000 values( for call_tool, or more than 100 levels)?"):
            await any_provider.exec(handle, "echo", {}, 60)


async def test_invalid_arguments_are_refused(any_provider: ManagedProvider, server: SandboxServer) -> None:
    handle = await any_provider.create(BASE)
    for tool, arguments in (
        ("run_shell_command", {}),
        ("run_shell_command", {"command": 1}),
        ("run_shell_command", {"command": "echo \0"}),
        ("run_shell_command", {"command": "x" * 140_000}),
        ("run_ipython_cell", {"code": "1", "more": 2}),
        ("no such tool", {}),
        ("read_file", {"path": "a\0"}),
        ("read_file", {"path": ""}),
        ("write_file", {"path": "a"}),
        ("write_file", {"path": "a", "blob": "!"}),
        ("write_file", {"path": "a", "content": "\ud800"}),
    ):
        with pytest.raises(InvalidContent):
            await any_provider.exec(handle, tool, arguments, 60)
    assert not list(server.folder(name_in(handle)).iterdir())


async def test_an_argument_that_json_cannot_represent_is_refused(provider: RemoteProvider) -> None:
    handle = await provider.create(BASE)
    for value in (object(), float("nan"), "\ud800"):
        with pytest.raises(InvalidContent, match="JSON"):
            await provider.exec(handle, "echo", {"value": value}, 60)


async def test_a_command_that_times_out_is_killed_and_reported(
    any_provider: ManagedProvider, server: SandboxServer
) -> None:
    handle = await any_provider.create(BASE)
    result = await shell(any_provider, handle, "echo begun; sleep 300", timeout=2)
    assert result.is_error
    assert result.text == "begun\ntimed out after 2 s\n"
    assert server.running == 0


async def test_a_cancelled_command_is_killed(any_provider: ManagedProvider, server: SandboxServer) -> None:
    handle = await any_provider.create(BASE)
    begun = server.folder(name_in(handle)) / "begun"
    task = asyncio.create_task(shell(any_provider, handle, "(setsid sleep 300 & wait) & touch begun; wait", timeout=60))
    await wait_until(begun.exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await wait_until(lambda: server.running == 0)


async def test_a_cell_that_does_not_answer_is_unavailable(provider: RemoteProvider, server: SandboxServer) -> None:
    handle = await provider.create(BASE)
    server.faults["call_tool"] = ["slow"]
    with pytest.raises(SandboxUnavailable, match=r"0\.2 s"):
        await provider.exec(handle, "run_ipython_cell", {"code": "1"}, 0.2)


async def test_concurrent_calls_get_their_own_results(any_provider: ManagedProvider, server: SandboxServer) -> None:
    handles = await asyncio.gather(*(any_provider.create(BASE) for _ in range(4)))
    results = await asyncio.gather(
        *(shell(any_provider, handles[place % 4], f"echo {place}", timeout=30) for place in range(24))
    )
    assert [each.text for each in results] == [f"{place}\n" for place in range(24)]
    await asyncio.gather(*(any_provider.destroy(handle) for handle in handles))
    assert not server.containers
