"""The sandboxes of a server: what is asked of it, what its answers mean, and that nothing is left on it."""

import asyncio
import base64
import gc
import io
import json
import logging
import sys
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from agentstore import InMemorySandboxService, SandboxService, Settings
from agentstore.errors import (
    AgentStoreError,
    InvalidContent,
    NotConfigured,
    SandboxFailed,
    SandboxLost,
    SandboxUnavailable,
)
from agentstore.sandbox import commands, managed, remote
from agentstore.sandbox.agentscope_runtime import AgentScopeRuntimeProvider
from agentstore.sandbox.managed import ManagedProvider
from agentstore.sandbox.remote import RemoteProvider
from agentstore.schemas.sandbox import SandboxSpec
from agentstore.testing import SandboxContract
from tests.sandbox.sandbox_server import GENERIC, SandboxServer, sandbox_server
from tests.support.pgbouncer import free_port

_TOKEN = "hunter2-hunter2"
_BASE = SandboxSpec("base")


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (managed, remote):
        monkeypatch.setattr(module, "RETRY_DELAY", 0.01)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SandboxServer]:
    with sandbox_server(tmp_path, _TOKEN) as found:
        yield found


@pytest.fixture
async def provider(server: SandboxServer) -> AsyncIterator[RemoteProvider]:
    provider = RemoteProvider(server.url, _TOKEN, timeout=10)
    await provider.start()
    yield provider
    await provider.stop()


@pytest.fixture(params=["remote", "agentscope_runtime"])
async def either(request: pytest.FixtureRequest, server: SandboxServer) -> AsyncIterator[ManagedProvider]:
    """Over HTTP, and with the server's object as the manager in this process."""
    if request.param == "remote":
        found: ManagedProvider = RemoteProvider(server.url, SecretStr(_TOKEN), timeout=10)
    else:
        found = AgentScopeRuntimeProvider(server, timeout=10)
    await found.start()
    yield found
    await found.stop()


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def _name(handle: str) -> str:
    name = json.loads(handle)["name"]
    assert isinstance(name, str)
    return name


async def _shell(provider: ManagedProvider, handle: str, command: str, timeout: float = 10) -> Any:
    return await provider.exec(handle, "run_shell_command", {"command": command}, timeout)


async def test_a_sandbox_is_made_used_and_released(either: ManagedProvider, server: SandboxServer) -> None:
    handle = await either.create(SandboxSpec("base", environment={"COLOUR": "blue"}))
    assert len(handle.encode()) <= 4_096
    await either.connect(handle)
    assert await either.check(handle)
    answer = await _shell(either, handle, 'printf \'%s %s\' "$COLOUR" "it\'s"; pwd >&2')
    assert answer.part("stdout") == "blue it's"
    assert answer.part("stderr") == f"{server.folder(_name(handle))}\n"
    assert answer.part("returncode") == "0"
    assert not answer.is_error
    assert set(answer["content"][0]) == {"type", "text", "description"}
    cell = await either.exec(handle, "run_ipython_cell", {"code": "print(6 * 7)"}, 10)
    assert (cell.text, cell.is_error) == ("42\n", False)
    tools = await either.list_tools(handle, 10)
    assert tools["more"] == {"echo": {"name": "echo"}}
    assert set(tools["generic"]) == {*GENERIC, "read_file", "write_file", "list_files", "remove_file"}
    assert (await either.exec(handle, "echo", {"a": "é"}, 10)).text == '{"a": "\\u00e9"}'
    await either.destroy(handle)
    assert not server.containers
    await either.destroy(handle)
    assert not await either.check(handle)
    with pytest.raises(SandboxLost):
        await either.connect(handle)
    with pytest.raises(SandboxLost):
        await _shell(either, handle, "true")


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


async def test_the_plain_name_of_a_container_is_a_handle(provider: RemoteProvider, server: SandboxServer) -> None:
    name = server.create("base")
    await provider.connect(name)
    assert (await _shell(provider, name, "echo x")).text == "x\n"


async def test_what_a_command_does_wrong_is_an_answer(either: ManagedProvider) -> None:
    handle = await either.create(_BASE)
    answer = await _shell(either, handle, "exit 3")
    assert (answer.is_error, answer.part("returncode")) == (True, "3")
    answer = await _shell(either, handle, "echo 'unclosed")
    assert answer.is_error
    assert "returncode" in {each["description"] for each in answer["content"]}
    cell = await either.exec(handle, "run_ipython_cell", {"code": "1 / 0"}, 10)
    assert cell.is_error
    assert "ZeroDivisionError" in cell.text
    assert not (await either.exec(handle, "run_ipython_cell", {"code": ""}, 10)).is_error


async def test_what_cannot_be_asked_is_refused(either: ManagedProvider, server: SandboxServer) -> None:
    handle = await either.create(_BASE)
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
            await either.exec(handle, tool, arguments, 10)
    assert not list(server.folder(_name(handle)).iterdir())


async def test_an_argument_that_is_no_json_is_refused(provider: RemoteProvider) -> None:
    handle = await provider.create(_BASE)
    for value in (object(), float("nan"), "\ud800"):
        with pytest.raises(InvalidContent, match="JSON"):
            await provider.exec(handle, "echo", {"value": value}, 10)


async def test_a_command_that_takes_too_long_is_ended_and_says_so(
    either: ManagedProvider, server: SandboxServer
) -> None:
    handle = await either.create(_BASE)
    answer = await _shell(either, handle, "echo begun; sleep 300", timeout=0.5)
    assert answer.is_error
    assert answer.text == "begun\ntimed out after 0.5 s\n"
    assert server.running == 0


async def test_a_command_that_is_cancelled_is_ended(either: ManagedProvider, server: SandboxServer) -> None:
    handle = await either.create(_BASE)
    begun = server.folder(_name(handle)) / "begun"
    task = asyncio.create_task(_shell(either, handle, "(setsid sleep 300 & wait) & touch begun; wait", timeout=60))
    await _until(begun.exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await _until(lambda: server.running == 0)


async def test_a_cell_that_does_not_answer_is_unavailable(provider: RemoteProvider, server: SandboxServer) -> None:
    handle = await provider.create(_BASE)
    server.faults["call_tool"] = ["slow"]
    with pytest.raises(SandboxUnavailable, match=r"0\.2 s"):
        await provider.exec(handle, "run_ipython_cell", {"code": "1"}, 0.2)


_FILES = {
    "plain.txt": b"text\n",
    'it\'s "quoted" $HOME `x` \\.txt': b"'\"$`\\",
    "two\nlines": b"a\r\nb\n\n",
    "-rf": b"dash",
    "--help": b"",
    "*": b"star",
    "名前/深い/ñ.txt": "日本語 ñ 😀".encode(),
    "binary": bytes(range(256)) * 10,
    "nul": b"a\0b",
    " leading and trailing ": b" ",
}


@pytest.mark.parametrize("path", _FILES)
async def test_files_are_written_listed_read_and_removed(
    either: ManagedProvider, server: SandboxServer, path: str
) -> None:
    handle = await either.create(_BASE)
    content = _FILES[path]
    try:
        written: dict[str, Any] = {"path": path, "content": content.decode()}
    except UnicodeDecodeError:
        written = {"path": path, "blob": base64.b64encode(content).decode()}
    assert not (await either.exec(handle, "write_file", {"path": path, "content": "the one before"}, 10)).is_error
    assert not (await either.exec(handle, "write_file", written, 10)).is_error
    assert (server.folder(_name(handle)) / path).read_bytes() == content
    read = await either.exec(handle, "read_file", {"path": path}, 10)
    assert not read.is_error
    if "blob" in written:
        assert read["content"] == [{"type": "blob", "blob": written["blob"]}]
    else:
        assert read["content"] == [{"type": "text", "text": written["content"], "description": "content"}]
    first = path.partition("/")[0]
    kind = "directory" if "/" in path else "file"
    listed = await either.exec(handle, "list_files", {}, 10)
    assert listed["content"] == [{"type": "text", "text": first, "description": kind}]
    assert not (await either.exec(handle, "remove_file", {"path": first}, 10)).is_error
    assert (await either.exec(handle, "list_files", {"path": "."}, 10))["content"] == []


async def test_a_file_call_that_fails_is_an_answer(either: ManagedProvider, server: SandboxServer) -> None:
    handle = await either.create(_BASE)
    folder = server.folder(_name(handle))
    (folder / "folder").mkdir()
    (folder / "link").symlink_to("nowhere")
    await _shell(either, handle, "mkfifo pipe")
    for tool, arguments in (
        ("read_file", {"path": "none"}),
        ("read_file", {"path": "folder"}),
        ("read_file", {"path": "pipe"}),
        ("write_file", {"path": "folder", "content": ""}),
        ("write_file", {"path": "pipe/x", "content": ""}),
        ("list_files", {"path": "none"}),
        ("remove_file", {"path": "none"}),
        ("remove_file", {"path": "."}),
        ("read_file", {"path": "../etc/passwd"}),
        ("read_file", {"path": "folder/../../workspace2/x"}),
        ("read_file", {"path": "/etc/passwd"}),
    ):
        answer = await either.exec(handle, tool, arguments, 10)
        assert answer.is_error, (tool, arguments)
        assert answer.part("stderr")
    assert (await either.exec(handle, "list_files", {}, 10)).text == "folderlinkpipe"
    assert not (await either.exec(handle, "remove_file", {"path": "link"}, 10)).is_error


async def test_a_large_file_is_written_in_pieces_and_replaced_as_a_whole(
    provider: RemoteProvider, server: SandboxServer
) -> None:
    handle = await provider.create(_BASE)
    content = "ä" * 200_000
    server.asked.clear()
    await provider.exec(handle, "write_file", {"path": "large", "content": content}, 30)
    assert server.asked["call_tool"] > 5
    assert (await provider.exec(handle, "read_file", {"path": "large"}, 30)).text == content
    server.faults["call_tool"] = ["", "", "say {}"]
    with pytest.raises(SandboxFailed):
        await provider.exec(handle, "write_file", {"path": "large", "content": "b" * 200_000}, 30)
    await provider.stop()
    assert (await provider.exec(handle, "read_file", {"path": "large"}, 30)).text == content
    assert (await provider.exec(handle, "list_files", {}, 30)).text == "large"


async def test_what_is_too_large_for_a_reply_is_an_answer(
    provider: RemoteProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = await provider.create(_BASE)
    await _shell(provider, handle, "truncate -s 20000001 large")
    answer = await provider.exec(handle, "read_file", {"path": "large"}, 10)
    assert answer.is_error
    assert "20000001" in answer.text
    monkeypatch.setattr(commands, "LARGEST_FILE", 10)
    assert (await provider.exec(handle, "write_file", {"path": "a", "content": "x" * 11}, 10)).is_error


async def _archive(raw: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(raw), 100_000):
        yield raw[start : start + 100_000]


async def test_a_workspace_is_packed_and_unpacked(
    either: ManagedProvider, server: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, "PACKED_PIECE", 50_000)
    assert either.keeps_workspaces
    one, other = await either.create(_BASE), await either.create(_BASE)
    folder = server.folder(_name(one))
    random = bytes((place * 7919 >> 3) % 256 for place in range(150_000))
    files = {**_FILES, "a/b/random": random, "zeros": bytes(3_000_000)}
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    (folder / "run").write_bytes(b"#!/bin/sh\n")
    (folder / "run").chmod(0o755)
    (folder / "link").symlink_to("plain.txt")
    (folder / "empty").mkdir()
    pieces = [piece async for piece in either.pack(one, 30)]
    assert max(map(len, pieces)) <= 1_000_000
    raw = b"".join(pieces)
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        assert "./a/b/random" in archive.getnames()
    await either.unpack(other, _archive(raw), 30)
    filled = server.folder(_name(other))
    assert {path: (filled / path).read_bytes() for path in files} == files
    assert (filled / "run").stat().st_mode & 0o777 == 0o755
    assert (filled / "link").is_symlink()
    assert (filled / "empty").is_dir()
    assert not server.temporary(_name(one))
    assert not server.temporary(_name(other))


async def test_what_is_packed_in_part_leaves_nothing(provider: RemoteProvider, server: SandboxServer) -> None:
    handle = await provider.create(_BASE)
    (server.folder(_name(handle)) / "zeros").write_bytes(bytes(3_000_000))
    pieces = provider.pack(handle, 10)
    async for _ in pieces:
        break
    await pieces.aclose()  # type: ignore[attr-defined]
    with pytest.raises(SandboxFailed):
        await provider.unpack(handle, _archive(b"this is no archive" * 100), 10)

    async def broken() -> AsyncIterator[bytes]:
        yield b"x"
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await provider.unpack(handle, broken(), 10)
    await provider.stop()
    server.faults["call_tool"] = ["", "half"]
    with pytest.raises(SandboxUnavailable):
        await provider.unpack(handle, _archive(bytes(10)), 10)
    await provider.stop()
    assert not server.temporary(_name(handle))
    await provider.destroy(handle)
    with pytest.raises(SandboxLost):
        await anext(provider.pack(handle, 10))


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
        ("say {", SandboxFailed),
        ("say \xff", SandboxFailed),
        ("say " + "[" * 100_000, SandboxFailed),
        ("say []", SandboxFailed),
        ("say {}", SandboxFailed),
        ('say {"data": null}', SandboxFailed),
        ('say {"data": {"content": [1]}}', SandboxFailed),
        ('say {"data": {"content": [{"type": "text"}]}}', SandboxFailed),
        ('say {"data": "Error: HTTP 500 Error: boom"}', SandboxFailed),
        ('say {"data": "Error: No container found with id: x."}', SandboxLost),
        ('say {"data": "Error: Runtime service did not start within the specified timeout."}', SandboxUnavailable),
    ],
)
async def test_each_wrong_answer_is_an_error_of_its_kind(
    provider: RemoteProvider,
    server: SandboxServer,
    fault: str,
    error: type[AgentStoreError],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    handle = await provider.create(_BASE)
    server.asked.clear()
    server.faults["call_tool"] = [fault]
    with pytest.raises(error) as raised:
        await provider.exec(handle, "echo", {}, 20)
    assert server.asked["call_tool"] == 1
    assert _TOKEN not in f"{raised.value!r} {raised.value} {raised.value.__cause__!r} {provider!r}"
    assert _TOKEN not in caplog.text
    assert (await provider.exec(handle, "echo", {}, 20)).text == "{}"


@pytest.mark.parametrize(
    "fault", ["drop after", "half", "garble after", "502 after", "huge", "say {", 'say {"data": null}', "500", "401"]
)
async def test_a_create_that_fails_leaves_nothing_and_is_not_repeated(
    provider: RemoteProvider, server: SandboxServer, fault: str
) -> None:
    provider._timeout = 1.0
    server.faults["create"] = [fault]
    with pytest.raises((SandboxUnavailable, SandboxFailed, NotConfigured)):
        await provider.create(_BASE)
    assert server.asked["create"] == 1
    await provider.stop()
    assert not server.containers


async def test_a_type_that_the_server_does_not_have_is_an_error(either: ManagedProvider) -> None:
    with pytest.raises(SandboxFailed, match="quantum"):
        await either.create(SandboxSpec("quantum"))


@pytest.mark.parametrize("fault", ["500", 'say {"data": false}', "drop before", "401"])
async def test_what_was_made_and_is_not_healthy_is_released(
    provider: RemoteProvider, server: SandboxServer, fault: str
) -> None:
    server.faults["check_health"] = [fault] * 5
    with pytest.raises((SandboxFailed, SandboxUnavailable, NotConfigured)):
        await provider.create(_BASE)
    await provider.stop()
    assert server.asked["create"] == 1
    assert not server.containers


@pytest.mark.parametrize("fault", ["slow", "slow, drop after", "slow, garble after"])
async def test_a_create_that_is_cancelled_leaves_nothing(
    provider: RemoteProvider, server: SandboxServer, fault: str
) -> None:
    server.faults["create"] = [fault]
    task = asyncio.create_task(provider.create(_BASE))
    await asyncio.to_thread(server.arrived.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not server.containers
    server.gate.set()
    await _until(lambda: server.asked["release"] == 1)
    await provider.stop()
    assert not server.containers


@pytest.mark.parametrize("answers", [["²"], ["9" * 5_000], ["10", base64.b64encode(bytes(1_000_001)).decode()]])
async def test_a_container_that_lies_about_its_workspace_is_an_error(
    provider: RemoteProvider, monkeypatch: pytest.MonkeyPatch, answers: list[str]
) -> None:
    handle = await provider.create(_BASE)

    async def said(*_: object) -> str:
        return answers.pop(0)

    monkeypatch.setattr(provider, "_run_checked", said)
    with pytest.raises(SandboxFailed):
        async for _ in provider.pack(handle, 10):
            pass


async def test_what_is_being_made_can_be_ended_by_what_it_was_reserved_by(either: ManagedProvider) -> None:
    reserved = either.reserve()
    for call in (either.connect(reserved), either.exec(reserved, "run_shell_command", {"command": "true"}, 5)):
        with pytest.raises(SandboxLost):
            await call
    assert not await either.check(reserved)
    await either.destroy(reserved)  # nothing is there yet
    made = await either.create(_BASE, reserved)
    other = await either.create(_BASE, either.reserve())
    await either.destroy(reserved)
    assert [await either.check(made), await either.check(other)] == [False, True]


async def test_a_create_that_is_cancelled_while_it_becomes_healthy_leaves_nothing(
    either: ManagedProvider, server: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = server.check_health

    def slow(identity: str) -> bool:
        server.arrived.set()
        server.gate.wait(30)
        return healthy(identity)

    monkeypatch.setattr(server, "check_health", slow)
    task = asyncio.create_task(either.create(_BASE))
    await asyncio.to_thread(server.arrived.wait, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await either.stop()
    assert not server.containers
    server.gate.set()


async def test_a_create_that_takes_too_long_leaves_nothing(provider: RemoteProvider, server: SandboxServer) -> None:
    provider._timeout = 0.2
    server.faults["create"] = ["slow"]
    task = asyncio.create_task(provider.create(_BASE))
    with pytest.raises(SandboxUnavailable, match=r"0\.2 s"):
        await task
    server.gate.set()
    await _until(lambda: server.asked["release"] == 1)
    await _until(lambda: not server.containers)


async def test_only_what_changes_nothing_is_repeated(provider: RemoteProvider, server: SandboxServer) -> None:
    handle = await provider.create(_BASE)
    for fault in ("503", "drop before", "half"):
        server.asked.clear()
        server.faults.update(
            get_info=[fault, fault], check_health=[fault, fault], list_tools=[fault, fault], call_tool=[fault]
        )
        await provider.connect(handle)
        assert server.asked["get_info"] == 3
        assert await provider.check(handle)
        assert server.asked["check_health"] == 3
        await provider.list_tools(handle, 10)
        assert server.asked["list_tools"] == 3
        with pytest.raises((SandboxFailed, SandboxUnavailable)):
            await provider.exec(handle, "echo", {}, 10)
        assert server.asked["call_tool"] == 1
    server.faults["get_info"] = ["500"]
    with pytest.raises(SandboxFailed):
        await provider.connect(handle)
    server.asked.clear()
    server.faults["release"] = ["drop after"]
    await provider.destroy(handle)
    assert server.asked["release"] == 2
    assert not server.containers


async def test_a_server_that_is_not_there_is_unavailable(caplog: pytest.LogCaptureFixture) -> None:
    provider = RemoteProvider(f"http://127.0.0.1:{free_port()}", _TOKEN, timeout=5)
    for call in (
        provider.create(_BASE),
        provider.connect("x"),
        provider.check("x"),
        provider.exec("x", "run_shell_command", {"command": "true"}, 5),
        provider.list_tools("x", 5),
        provider.destroy("x"),
        anext(provider.pack("x", 5)),
    ):
        with pytest.raises(SandboxUnavailable, match="cannot be reached"):
            await call
    await provider.stop()
    assert not caplog.records


async def test_a_wrong_token_says_so(server: SandboxServer) -> None:
    for token in ("wrong-wrong", None, ""):
        provider = RemoteProvider(server.url, token)
        with pytest.raises(NotConfigured, match="bearer token") as raised:
            await provider.create(_BASE)
        assert "wrong-wrong" not in str(raised.value)
        with pytest.raises(NotConfigured):
            await provider.check("x")
        await provider.stop()


async def test_a_user_in_the_url_is_sent_and_never_shown(tmp_path: Path) -> None:
    with sandbox_server(tmp_path, user="me:p@ss/word") as server:
        provider = RemoteProvider(server.url.replace("//", "//me:p%40ss%2Fword@"))
        handle = await provider.create(_BASE)
        assert await provider.check(handle)
        server.faults["get_info"] = ["500"]
        with pytest.raises(SandboxFailed) as raised:
            await provider.connect(handle)
        for said in (handle, repr(provider), str(raised.value), repr(raised.value.__cause__)):
            assert "ss" not in said.replace("process", "").replace(server.url, "").partition("it is")[0]
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
def test_what_is_no_server_is_refused_without_its_secrets(url: str, options: dict[str, Any]) -> None:
    with pytest.raises(NotConfigured) as raised:
        RemoteProvider(url, **options)
    assert "secret" not in f"{raised.value} {raised.value.__cause__}"


def test_httpx_is_asked_for_by_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(NotConfigured, match=r"agentstore-postgres\[http\]"):
        RemoteProvider("http://host")


async def test_the_runtime_is_asked_for_by_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "agentscope_runtime", None)
    with pytest.raises(NotConfigured, match=r"agentstore-postgres\[agentscope-runtime\]"):
        await AgentScopeRuntimeProvider().start()


async def test_a_sandbox_of_another_server_is_said_to_be_there(tmp_path: Path, provider: RemoteProvider) -> None:
    with sandbox_server(tmp_path / "other") as there:
        other = RemoteProvider(there.url)
        handle = await other.create(_BASE)
        for call in (
            provider.connect(handle),
            provider.check(handle),
            provider.exec(handle, "run_shell_command", {"command": "true"}, 5),
            provider.destroy(handle),
        ):
            with pytest.raises(SandboxUnavailable, match=there.url):
                await call
        assert await other.check(handle)
        await other.stop()


async def test_one_server_under_two_names_is_one(provider: RemoteProvider, server: SandboxServer) -> None:
    other = RemoteProvider(server.url.replace("127.0.0.1", "localhost"), _TOKEN)
    handle = await other.create(_BASE)
    assert await provider.check(handle)
    await provider.destroy(handle)
    assert not server.containers
    await other.stop()


async def test_a_sandbox_that_does_not_answer_does_not_live(
    provider: RemoteProvider, server: SandboxServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle = await provider.create(_BASE)
    monkeypatch.setattr(managed, "_HEALTH_TIMEOUT", 0.3)
    server.faults["check_health"] = ["slow"]
    assert not await provider.check(handle)
    server.gate.set()
    assert await provider.check(handle)
    server.faults["get_info"] = ["say {}"]
    with pytest.raises(SandboxUnavailable):
        await provider.check(handle)


async def test_a_release_that_did_not_end_it_is_an_error(either: ManagedProvider, server: SandboxServer) -> None:
    handle = await either.create(_BASE)
    server.statuses[_name(handle)] = "running"
    with pytest.raises(SandboxFailed, match="running"):
        await either.destroy(handle)


async def test_a_release_with_no_answer_is_an_error(provider: RemoteProvider, server: SandboxServer) -> None:
    handle = await provider.create(_BASE)
    server.faults["release"] = ['say {"data": "yes"}']
    with pytest.raises(SandboxFailed):
        await provider.destroy(handle)


async def test_many_calls_at_once_do_not_mix(either: ManagedProvider, server: SandboxServer) -> None:
    handles = await asyncio.gather(*(either.create(_BASE) for _ in range(4)))
    answers = await asyncio.gather(
        *(_shell(either, handles[place % 4], f"echo {place}", timeout=30) for place in range(24))
    )
    assert [each.text for each in answers] == [f"{place}\n" for place in range(24)]
    await asyncio.gather(*(either.destroy(handle) for handle in handles))
    assert not server.containers


def test_it_is_usable_in_one_event_loop_after_another(server: SandboxServer) -> None:
    provider = RemoteProvider(server.url, _TOKEN)

    async def use() -> None:
        for _ in range(2):
            await provider.start()
            await provider.start()
            handle = await provider.create(_BASE)
            assert (await _shell(provider, handle, "echo x")).text == "x\n"
            await provider.destroy(handle)
            await provider.stop()
            await provider.stop()

    asyncio.run(use())
    asyncio.run(use())


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_loop_that_ended_without_stop_does_no_harm(server: SandboxServer) -> None:
    provider = RemoteProvider(server.url, _TOKEN)
    handle = asyncio.run(provider.create(_BASE))

    async def use() -> None:
        assert await provider.check(handle)
        await provider.stop()

    asyncio.run(use())
    # What the first loop left open is told here, and not to another test.
    gc.collect()


async def test_another_process_cannot_use_what_a_manager_without_redis_made(server: SandboxServer) -> None:
    mine = AgentScopeRuntimeProvider(server)
    handle = await mine.create(_BASE)
    server.containers.clear()
    other = AgentScopeRuntimeProvider(server)
    with pytest.raises(SandboxUnavailable, match="process"):
        await other.connect(handle)
    await mine.stop()
