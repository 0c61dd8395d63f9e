"""Creating and releasing the sandboxes of a server: nothing is left on it."""

import asyncio

import pytest

from agentstore.errors import (
    NotConfigured,
    SandboxFailed,
    SandboxLost,
    SandboxUnavailable,
)
from agentstore.sandbox.managed import ManagedProvider
from agentstore.sandbox.remote import RemoteProvider
from agentstore.schemas.sandbox import SandboxSpec
from tests.sandbox.remote.sandbox_server import GENERIC, SandboxServer
from tests.sandbox.remote.support import BASE, HANG_GUARD, name_in, shell, wait_until


async def test_a_sandbox_is_created_used_and_released(any_provider: ManagedProvider, server: SandboxServer) -> None:
    handle = await any_provider.create(SandboxSpec("base", environment={"COLOR": "blue"}))
    assert len(handle.encode()) <= 4_096
    await any_provider.connect(handle)
    assert await any_provider.check(handle)
    result = await shell(any_provider, handle, 'printf \'%s %s\' "$COLOR" "it\'s"; pwd >&2')
    assert result.part("stdout") == "blue it's"
    assert result.part("stderr") == f"{server.folder(name_in(handle))}\n"
    assert result.part("returncode") == "0"
    assert not result.is_error
    assert set(result["content"][0]) == {"type", "text", "description"}
    cell = await any_provider.exec(handle, "run_ipython_cell", {"code": "print(6 * 7)"}, 60)
    assert (cell.text, cell.is_error) == ("42\n", False)
    tools = await any_provider.list_tools(handle, 60)
    assert tools["more"] == {"echo": {"name": "echo"}}
    assert set(tools["generic"]) == {*GENERIC, "read_file", "write_file", "list_files", "remove_file"}
    assert (await any_provider.exec(handle, "echo", {"a": "é"}, 60)).text == '{"a": "\\u00e9"}'
    await any_provider.destroy(handle)
    assert not server.containers
    await any_provider.destroy(handle)
    assert not await any_provider.check(handle)
    with pytest.raises(SandboxLost):
        await any_provider.connect(handle)
    with pytest.raises(SandboxLost):
        await shell(any_provider, handle, "true")


async def test_the_plain_name_of_a_container_is_a_handle(provider: RemoteProvider, server: SandboxServer) -> None:
    name = server.create("base")
    await provider.connect(name)
    assert (await shell(provider, name, "echo x")).text == "x\n"


async def test_an_unknown_type_is_an_error(any_provider: ManagedProvider) -> None:
    with pytest.raises(SandboxFailed, match="quantum"):
        await any_provider.create(SandboxSpec("quantum"))


@pytest.mark.parametrize(
    "fault",
    ["drop after", "half", "garble after", "502 after", "huge", "reply {", 'reply {"data": null}', "500", "401"],
)
async def test_a_failed_create_leaves_no_container_and_is_not_retried(
    provider: RemoteProvider, server: SandboxServer, fault: str
) -> None:
    provider._timeout = 5.0
    server.faults["create"] = [fault]
    with pytest.raises((SandboxUnavailable, SandboxFailed, NotConfigured)):
        await provider.create(BASE)
    assert server.requests["create"] == 1
    await provider.stop()
    assert not server.containers


@pytest.mark.parametrize("fault", ["500", 'reply {"data": false}', "drop before", "401"])
async def test_an_unhealthy_sandbox_is_released(provider: RemoteProvider, server: SandboxServer, fault: str) -> None:
    server.faults["check_health"] = [fault] * 5
    with pytest.raises((SandboxFailed, SandboxUnavailable, NotConfigured)):
        await provider.create(BASE)
    await provider.stop()
    assert server.requests["create"] == 1
    assert not server.containers


@pytest.mark.parametrize("fault", ["slow", "slow, drop after", "slow, garble after"])
async def test_a_cancelled_create_leaves_no_container(
    provider: RemoteProvider, server: SandboxServer, fault: str
) -> None:
    server.faults["create"] = [fault]
    task = asyncio.create_task(provider.create(BASE))
    await asyncio.to_thread(server.arrived.wait, HANG_GUARD)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not server.containers
    server.gate.set()
    await wait_until(lambda: server.requests["release"] == 1)
    await provider.stop()
    assert not server.containers


async def test_a_create_cancelled_during_the_health_check_leaves_no_container(
    any_provider: ManagedProvider, server: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = server.check_health

    def slow(identity: str) -> bool:
        server.arrived.set()
        server.gate.wait(120)
        return healthy(identity)

    monkeypatch.setattr(server, "check_health", slow)
    task = asyncio.create_task(any_provider.create(BASE))
    await asyncio.to_thread(server.arrived.wait, HANG_GUARD)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await any_provider.stop()
    assert not server.containers
    server.gate.set()


async def test_a_create_that_times_out_leaves_no_container(provider: RemoteProvider, server: SandboxServer) -> None:
    provider._timeout = 0.2
    server.faults["create"] = ["slow"]
    task = asyncio.create_task(provider.create(BASE))
    with pytest.raises(SandboxUnavailable, match=r"0\.2 s"):
        await task
    server.gate.set()
    await wait_until(lambda: server.requests["release"] == 1)
    await wait_until(lambda: not server.containers)


async def test_a_reservation_can_be_destroyed_before_and_after_create(any_provider: ManagedProvider) -> None:
    reserved = any_provider.reserve()
    for call in (
        any_provider.connect(reserved),
        any_provider.exec(reserved, "run_shell_command", {"command": "true"}, 5),
    ):
        with pytest.raises(SandboxLost):
            await call
    assert not await any_provider.check(reserved)
    await any_provider.destroy(reserved)  # not created yet: no error
    created = await any_provider.create(BASE, reserved)
    other = await any_provider.create(BASE, any_provider.reserve())
    await any_provider.destroy(reserved)
    assert [await any_provider.check(created), await any_provider.check(other)] == [False, True]


async def test_a_release_that_does_not_end_the_container_is_an_error(
    any_provider: ManagedProvider, server: SandboxServer
) -> None:
    handle = await any_provider.create(BASE)
    server.statuses[name_in(handle)] = "running"
    with pytest.raises(SandboxFailed, match="running"):
        await any_provider.destroy(handle)


async def test_a_release_without_a_boolean_answer_is_an_error(provider: RemoteProvider, server: SandboxServer) -> None:
    handle = await provider.create(BASE)
    server.faults["release"] = ['reply {"data": "yes"}']
    with pytest.raises(SandboxFailed):
        await provider.destroy(handle)
