"""Sandboxes of AgentScope Runtime's real manager and server, with local processes in place of containers."""

import asyncio
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from agentstore.errors import InvalidContent, NotConfigured, SandboxFailed, SandboxLost
from agentstore.sandbox import commands
from agentstore.sandbox.agentscope_runtime import AgentScopeRuntimeProvider
from agentstore.sandbox.managed import ManagedProvider
from agentstore.sandbox.remote import RemoteProvider
from agentstore.schemas.sandbox import SandboxSpec
from tests.support.pgbouncer import free_port

pytestmark = pytest.mark.runtime

_TOKEN = "hunter2-hunter2"
_BASE = SandboxSpec("base")

# The program of a container: the runtime's own application, mounted as in the container's web server. GitPython, which
# these tests do not need, is an empty module.
_INSIDE = """
import sys, types, importlib.util
from pathlib import Path
found = importlib.util.find_spec("agentscope_runtime").submodule_search_locations[0]
sys.path.insert(0, str(Path(found, "sandbox", "box", "shared")))
sys.modules.setdefault("git", types.ModuleType("git"))
import uvicorn
from fastapi import FastAPI
from app import app
outer = FastAPI()
outer.mount("/fastapi", app)
uvicorn.run(outer, host="127.0.0.1", port=int(sys.argv[1]), log_level="error")
"""


class _Processes:
    """A container client whose containers are processes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def create(self, image: str, *, name: str, environment: dict[str, str], **_: Any) -> tuple[str, list[int], str]:
        port = free_port()
        self.running[name] = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _INSIDE, str(port)],
            env={**os.environ, **environment, "IPYTHONDIR": str(self.root / "ipython")},
            start_new_session=True,
        )
        return name, [port], "127.0.0.1"

    def stop(self, name: str, timeout: float | None = None) -> bool:
        # The container may have exited.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.running[name].pid, signal.SIGKILL)
        self.running[name].wait()
        return True

    def remove(self, name: str, force: bool = False) -> bool:
        return self.running.pop(name, None) is not None

    def inspect(self, name: str) -> dict[str, str] | None:
        return {"name": name} if name in self.running else None

    def get_status(self, name: str) -> str | None:
        process = self.running.get(name)
        return None if process is None else "running" if process.poll() is None else "exited"


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    import agentscope_runtime.sandbox  # noqa: F401 - registers the types
    from agentscope_runtime.common.container_clients import ContainerClientFactory
    from agentscope_runtime.sandbox.manager import SandboxManager, sandbox_manager
    from agentscope_runtime.sandbox.model import SandboxManagerEnvConfig

    processes = _Processes(tmp_path)
    monkeypatch.setattr(ContainerClientFactory, "create_client", lambda **_: processes)
    # Otherwise it waits a minute for a dead container, and the shutdown of the server waits for that.
    client = partial(sandbox_manager.SandboxHttpClient, timeout=8)
    monkeypatch.setattr(sandbox_manager, "SandboxHttpClient", client)
    config = SandboxManagerEnvConfig(
        default_mount_dir=str(tmp_path / "mounts"), storage_folder=str(tmp_path / "stored")
    )
    manager = SandboxManager(config=config)
    yield manager
    for name in list(processes.running):
        processes.stop(name)


@pytest.fixture
def url(manager: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of the runtime's server on this manager."""
    from agentscope_runtime.sandbox.manager.server import app as module

    fastapi, uvicorn = importlib.import_module("fastapi"), importlib.import_module("uvicorn")
    settings = module.get_settings()
    monkeypatch.setattr(settings, "BEARER_TOKEN", _TOKEN)
    app = fastapi.FastAPI()
    module.register_routes(app, manager)
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture(params=["remote", "agentscope_runtime"])
async def provider(request: pytest.FixtureRequest, manager: Any) -> AsyncIterator[ManagedProvider]:
    if request.param == "remote":
        found: ManagedProvider = RemoteProvider(request.getfixturevalue("url"), _TOKEN)
    else:
        found = AgentScopeRuntimeProvider(manager)
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
async def handle(provider: ManagedProvider, manager: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """A sandbox, whose workspace is a local folder rather than /workspace."""
    handle = await provider.create(SandboxSpec("base", environment={"COLOR": "blue"}))
    monkeypatch.setattr(commands, "WORKSPACE", manager.get_info(json.loads(handle)["name"])["mount_dir"])
    return handle


def _is_running(file: Path) -> bool:
    return Path("/proc", file.read_text().strip()).exists()


async def test_tools_run_and_kernel_variables_persist(provider: ManagedProvider, handle: str) -> None:
    await provider.connect(handle)
    assert await provider.check(handle)
    assert not (await provider.exec(handle, "run_ipython_cell", {"code": "a = 6"}, 20)).is_error
    answer = await provider.exec(handle, "run_ipython_cell", {"code": "print(a * 7)"}, 20)
    assert answer["content"] == [{"type": "text", "text": "42\n", "description": "stdout"}]
    assert not (await provider.exec(handle, "run_ipython_cell", {"code": ""}, 20)).is_error
    answer = await provider.exec(handle, "run_shell_command", {"command": "echo $COLOR; echo no >&2; exit 3"}, 20)
    assert (answer.part("stdout"), answer.part("stderr"), answer.part("returncode")) == ("blue\n", "no\n", "3")
    assert answer.is_error
    assert not (await provider.exec(handle, "run_shell_command", {"command": "echo warned >&2"}, 20)).is_error
    assert {"run_ipython_cell", "run_shell_command", "read_file"} <= set(
        (await provider.list_tools(handle, 20))["generic"]
    )
    with pytest.raises(InvalidContent, match="no tool 'fly'"):
        await provider.exec(handle, "fly", {}, 20)


async def test_command_ends_at_timeout_and_on_cancellation(provider: ManagedProvider, handle: str) -> None:
    answer = await provider.exec(handle, "run_shell_command", {"command": "echo a; sleep 300"}, 2.5)
    assert answer.text == "a\ntimed out after 2.5 s\n"
    folder = Path(commands.WORKSPACE)
    task = asyncio.create_task(
        provider.exec(handle, "run_shell_command", {"command": "echo $$ > pid.new; mv pid.new pid; sleep 300"}, 60)
    )
    async with asyncio.timeout(60):
        while not (folder / "pid").exists():
            await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while _is_running(folder / "pid"):
            await asyncio.sleep(0.05)


async def test_files_and_workspaces_round_trip(provider: ManagedProvider, handle: str, manager: Any) -> None:
    content = "'\"$\\\n日本語" * 20_000
    assert not (await provider.exec(handle, "write_file", {"path": "ñ/-a b", "content": content}, 60)).is_error
    assert (await provider.exec(handle, "read_file", {"path": "ñ/-a b"}, 20)).text == content
    blob = {"path": "raw", "blob": "/wAA/w=="}
    assert not (await provider.exec(handle, "write_file", blob, 60)).is_error
    answer = await provider.exec(handle, "read_file", {"path": "raw"}, 20)
    assert answer["content"] == [{"type": "blob", "blob": "/wAA/w=="}]
    listed = await provider.exec(handle, "list_files", {}, 20)
    assert [(each["text"], each["description"]) for each in listed["content"]] == [("raw", "file"), ("ñ", "directory")]
    archive = [piece async for piece in provider.pack(handle, 60)]
    assert not (await provider.exec(handle, "remove_file", {"path": "ñ"}, 20)).is_error

    async def pieces() -> AsyncIterator[bytes]:
        for piece in archive:
            yield piece

    await provider.unpack(handle, pieces(), 60)
    assert (await provider.exec(handle, "read_file", {"path": "ñ/-a b"}, 20)).text == content
    assert (await provider.exec(handle, "read_file", {"path": "none"}, 20)).is_error


async def test_no_container_remains_after_destroy_or_cancelled_create(
    provider: ManagedProvider, handle: str, manager: Any
) -> None:
    await provider.destroy(handle)
    assert not manager.client.running
    await provider.destroy(handle)
    assert not await provider.check(handle)
    for call in (provider.connect(handle), provider.exec(handle, "run_shell_command", {"command": "true"}, 20)):
        with pytest.raises(SandboxLost):
            await call
    with pytest.raises(SandboxFailed, match="quantum"):
        await provider.create(SandboxSpec("quantum"))
    task = asyncio.create_task(provider.create(_BASE))
    async with asyncio.timeout(60):
        while not manager.client.running:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while manager.client.running:
            await asyncio.sleep(0.05)


async def test_dead_container_fails_its_check(provider: ManagedProvider, handle: str, manager: Any) -> None:
    manager.client.stop(json.loads(handle)["name"])
    assert not await provider.check(handle)
    await provider.destroy(handle)
    assert not manager.client.running


async def test_wrong_token_is_reported(url: str) -> None:
    for token in ("wrong", None):
        provider = RemoteProvider(url, token)
        with pytest.raises(NotConfigured, match="bearer token"):
            await provider.create(_BASE)
        await provider.stop()
