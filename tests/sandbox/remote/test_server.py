"""The connection to a sandbox server: its errors, retries, credentials and event loops."""

import asyncio
import gc
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from agentstore.errors import (
    AgentStoreError,
    NotConfigured,
    SandboxFailed,
    SandboxLost,
    SandboxUnavailable,
)
from agentstore.sandbox import managed
from agentstore.sandbox.agentscope_runtime import AgentScopeRuntimeProvider
from agentstore.sandbox.remote import RemoteProvider
from tests.sandbox.remote.sandbox_server import SandboxServer, sandbox_server
from tests.sandbox.remote.support import BASE, TOKEN, shell
from tests.support.pgbouncer import free_port


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("drop before", SandboxUnavailable),
        ("half", SandboxUnavailable),
        ("500", SandboxFailed),
        ("502", SandboxFailed),
        ("404", SandboxFailed),
        ("redirect", SandboxFailed),
        ("401", NotConfigured),
        ("403", NotConfigured),
        ("huge", SandboxFailed),
        ("encoded", SandboxFailed),
        ("reply {", SandboxFailed),
        ("reply \xff", SandboxFailed),
        ("reply " + "[" * 100_000, SandboxFailed),
        ("reply []", SandboxFailed),
        ("reply {}", SandboxFailed),
        ('reply {"data": null}', SandboxFailed),
        ('reply {"data": {"content": [1]}}', SandboxFailed),
        ('reply {"data": {"content": [{"type": "text"}]}}', SandboxFailed),
        ('reply {"data": "Error: HTTP 500 Error: boom"}', SandboxFailed),
        ('reply {"data": "Error: No container found with id: x."}', SandboxLost),
        ('reply {"data": "Error: Runtime service did not start within the specified timeout."}', SandboxUnavailable),
    ],
)
async def test_each_invalid_reply_raises_its_error(
    provider: RemoteProvider,
    server: SandboxServer,
    fault: str,
    error: type[AgentStoreError],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    handle = await provider.create(BASE)
    server.requests.clear()
    server.faults["call_tool"] = [fault]
    with pytest.raises(error) as raised:
        await provider.exec(handle, "echo", {}, 60)
    assert server.requests["call_tool"] == 1
    assert TOKEN not in f"{raised.value!r} {raised.value} {raised.value.__cause__!r} {provider!r}"
    assert TOKEN not in caplog.text
    assert (await provider.exec(handle, "echo", {}, 60)).text == "{}"


async def test_only_idempotent_requests_are_retried(provider: RemoteProvider, server: SandboxServer) -> None:
    handle = await provider.create(BASE)
    for fault in ("503", "drop before", "half"):
        server.requests.clear()
        server.faults.update(
            get_info=[fault, fault], check_health=[fault, fault], list_tools=[fault, fault], call_tool=[fault]
        )
        await provider.connect(handle)
        assert server.requests["get_info"] == 3
        assert await provider.check(handle)
        assert server.requests["check_health"] == 3
        await provider.list_tools(handle, 60)
        assert server.requests["list_tools"] == 3
        with pytest.raises((SandboxFailed, SandboxUnavailable)):
            await provider.exec(handle, "echo", {}, 60)
        assert server.requests["call_tool"] == 1
    server.faults["get_info"] = ["500"]
    with pytest.raises(SandboxFailed):
        await provider.connect(handle)
    server.requests.clear()
    server.faults["release"] = ["drop after"]
    await provider.destroy(handle)
    assert server.requests["release"] == 2
    assert not server.containers


async def test_an_unreachable_server_is_unavailable(caplog: pytest.LogCaptureFixture) -> None:
    provider = RemoteProvider(f"http://127.0.0.1:{free_port()}", TOKEN, timeout=5)
    for call in (
        provider.create(BASE),
        provider.connect("x"),
        provider.check("x"),
        provider.exec("x", "run_shell_command", {"command": "true"}, 5),
        provider.list_tools("x", 5),
        provider.destroy("x"),
        anext(provider.pack("x", 5)),
    ):
        with pytest.raises(SandboxUnavailable, match="could not be reached"):
            await call
    await provider.stop()
    assert not caplog.records


async def test_a_wrong_token_is_reported(server: SandboxServer) -> None:
    for token in ("wrong-wrong", None, ""):
        provider = RemoteProvider(server.url, token)
        with pytest.raises(NotConfigured, match="bearer token") as raised:
            await provider.create(BASE)
        assert "wrong-wrong" not in str(raised.value)
        with pytest.raises(NotConfigured):
            await provider.check("x")
        await provider.stop()


async def test_a_user_in_the_url_is_sent_and_never_shown(tmp_path: Path) -> None:
    with sandbox_server(tmp_path, user="me:p@ss/word") as server:
        provider = RemoteProvider(server.url.replace("//", "//me:p%40ss%2Fword@"))
        handle = await provider.create(BASE)
        assert await provider.check(handle)
        server.faults["get_info"] = ["500"]
        with pytest.raises(SandboxFailed) as raised:
            await provider.connect(handle)
        for printed in (handle, repr(provider), str(raised.value), repr(raised.value.__cause__)):
            assert "ss" not in printed.replace("process", "").replace(server.url, "").partition("it is")[0]
        await provider.stop()


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("host:8000", {}),
        ("ftp://host", {}),
        ("http://", {}),
        ("http://[::secret", {}),
        ("http://secret@a b", {}),
        ("http://secret@host:port", {}),
        ("http://host/?token=secret", {}),
        ("http://host/\x07secret", {}),
        ("http://host", {"bearer_token": "secret\n"}),
        ("http://host", {"bearer_token": "sécret secret"}),
        ("http://secret:secret@host", {"bearer_token": "x"}),
        ("http://host", {"timeout": 0}),
    ],
)
def test_invalid_arguments_are_refused_without_showing_secrets(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(NotConfigured) as raised:
        RemoteProvider(url, **options)
    assert "secret" not in f"{raised.value} {raised.value.__cause__}"


def test_without_httpx_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(NotConfigured, match=r"agentstore-postgres\[http\]"):
        RemoteProvider("http://host")


async def test_without_the_runtime_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "agentscope_runtime", None)
    with pytest.raises(NotConfigured, match=r"agentstore-postgres\[agentscope-runtime\]"):
        await AgentScopeRuntimeProvider().start()


async def test_the_error_for_a_sandbox_of_another_server_names_that_server(
    tmp_path: Path, provider: RemoteProvider
) -> None:
    with sandbox_server(tmp_path / "other") as other_server:
        other = RemoteProvider(other_server.url)
        handle = await other.create(BASE)
        for call in (
            provider.connect(handle),
            provider.check(handle),
            provider.exec(handle, "run_shell_command", {"command": "true"}, 5),
            provider.destroy(handle),
        ):
            with pytest.raises(SandboxUnavailable, match=other_server.url):
                await call
        assert await other.check(handle)
        await other.stop()


async def test_a_handle_is_valid_under_another_name_of_the_same_server(
    provider: RemoteProvider, server: SandboxServer
) -> None:
    other = RemoteProvider(server.url.replace("127.0.0.1", "localhost"), TOKEN)
    handle = await other.create(BASE)
    assert await provider.check(handle)
    await provider.destroy(handle)
    assert not server.containers
    await other.stop()


async def test_a_sandbox_that_does_not_answer_fails_the_check(
    provider: RemoteProvider, server: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = await provider.create(BASE)
    monkeypatch.setattr(managed, "_HEALTH_TIMEOUT", 2.0)
    server.faults["check_health"] = ["slow"]
    assert not await provider.check(handle)
    server.gate.set()
    monkeypatch.setattr(managed, "_HEALTH_TIMEOUT", 30.0)
    assert await provider.check(handle)
    server.faults["get_info"] = ["reply {}"]
    with pytest.raises(SandboxUnavailable):
        await provider.check(handle)


def test_a_provider_can_be_used_in_one_event_loop_after_another(server: SandboxServer) -> None:
    provider = RemoteProvider(server.url, TOKEN)

    async def use() -> None:
        for _ in range(2):
            await provider.start()
            await provider.start()
            handle = await provider.create(BASE)
            assert (await shell(provider, handle, "echo x")).text == "x\n"
            await provider.destroy(handle)
            await provider.stop()
            await provider.stop()

    asyncio.run(use())
    asyncio.run(use())


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_provider_can_be_used_after_a_loop_that_ended_without_stop(server: SandboxServer) -> None:
    provider = RemoteProvider(server.url, TOKEN)
    handle = asyncio.run(provider.create(BASE))

    async def use() -> None:
        assert await provider.check(handle)
        await provider.stop()

    asyncio.run(use())
    # The ResourceWarning of the first loop is raised in this test, and not in another one.
    gc.collect()


async def test_another_process_cannot_use_a_sandbox_of_a_manager_without_redis(server: SandboxServer) -> None:
    creator = AgentScopeRuntimeProvider(server)
    handle = await creator.create(BASE)
    server.containers.clear()
    other = AgentScopeRuntimeProvider(server)
    with pytest.raises(SandboxUnavailable, match="process"):
        await other.connect(handle)
    await creator.stop()
