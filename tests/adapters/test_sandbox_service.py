"""AgentScope Runtime's SandboxService on Postgres: synchronous calls, from any thread.

The tests use the provider that isolates nothing, because it runs on every machine.
"""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from agentstore import Closed, InvalidContent, NotConfigured, SandboxLost, SandboxUnavailable, Settings
from agentstore.adapters.agentscope_runtime import (
    PostgresSandboxService,
    SandboxService,
    SandboxServiceFactory,
    register,
)
from agentstore.adapters.agentscope_runtime.upstream import service_class
from agentstore.sandbox.unsafe_subprocess import UnsafeSubprocessProvider
from tests.support.servers import Server

_ROOT = Path(__file__).parents[2]

CreateService = Callable[..., PostgresSandboxService]


@pytest.fixture
async def create_service(database_url: str, settings: Settings) -> AsyncIterator[CreateService]:
    """Create services on this test's database, and stop them at its end."""
    services: list[PostgresSandboxService] = []

    def service(**options: Any) -> PostgresSandboxService:
        arguments: dict[str, Any] = {"provider": "unsafe_subprocess", "settings": settings, **options}
        services.append(PostgresSandboxService(database_url, **arguments))
        return services[-1]

    yield service
    for each in services:
        await each.stop()


@pytest.fixture
def environment(database_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment that sets the database and the provider."""
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", database_url)
    monkeypatch.setenv("AGENTSTORE_SANDBOX_PROVIDER", "unsafe_subprocess")
    if settings.migration_database_url is not None:
        monkeypatch.setenv("AGENTSTORE_MIGRATION_DATABASE_URL", settings.migration_database_url.get_secret_value())
        monkeypatch.setenv("AGENTSTORE_POOLER", settings.pooler)
    return monkeypatch


def _output(result: dict[str, Any]) -> str:
    assert type(result) is dict
    assert not result["isError"], result
    return "".join(part["text"] for part in result["content"] if part.get("description") != "returncode")


def _threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "agentstore-sandboxes"]


async def test_the_runtimes_example_application_runs_unchanged(environment: pytest.MonkeyPatch) -> None:
    service = SandboxService()
    await service.start()
    assert await service.health()
    boxes = service.connect("session 1", "user 1", sandbox_types=["base"])
    for box in boxes:
        assert "run_ipython_cell" in box.list_tools()["generic"]
        assert _output(box.run_ipython_cell("print('hello')")) == "hello\n"
        assert _output(box.run_shell_command("pwd")).endswith("/workspace\n")
    again = service.connect("session 1", "user 1", sandbox_types=["base"])
    assert [box.sandbox_id for box in again] == [box.sandbox_id for box in boxes]
    assert service.release("session 1", "user 1") is True
    assert service.release("session 1", "user 1") is True
    await service.stop()
    assert not await service.health()


async def test_sandbox_state_persists_until_release(create_service: CreateService) -> None:
    service = create_service()
    (box,) = service.connect("s", "alice")
    box.run_ipython_cell("x = 41")
    box.write_file("notes/a.txt", "stored")
    (same,) = create_service().connect("s", "alice")  # as on another replica
    assert _output(same.run_ipython_cell("print(x + 1)")) == "42\n"
    assert _output(same.read_file("notes/a.txt")) == "stored"
    assert service.release("s", "alice")
    with pytest.raises(SandboxLost):
        box.run_shell_command("true")
    (new,) = service.connect("s", "alice")
    assert new.sandbox_id != box.sandbox_id
    assert new.run_ipython_cell("x")["isError"]


def test_connect_works_without_event_loop_and_before_start(database_url: str, settings: Settings) -> None:
    service = PostgresSandboxService(database_url, "2", provider="unsafe_subprocess", settings=settings)
    (box,) = service.connect("s")
    assert _output(box.run_shell_command("echo $((6 * 7))")) == "42\n"
    assert box.get_info()["user_id"] == ""
    assert asyncio.run(service.health())  # on any loop
    asyncio.run(service.stop())
    assert not asyncio.run(service.health())


async def test_ids_that_join_to_the_same_key_have_separate_sandboxes(create_service: CreateService) -> None:
    service = create_service()
    (one,) = service.connect("c", "a_b")
    (other,) = service.connect("b_c", "a")
    assert one.sandbox_id != other.sandbox_id
    one.run_ipython_cell("secret = 1")
    assert other.run_ipython_cell("secret")["isError"]
    service.release("c", "a_b")
    assert _output(other.run_shell_command("echo here")) == "here\n"


async def test_types_are_names_or_members_of_the_runtimes_enum(create_service: CreateService) -> None:
    service = create_service()
    types = service_class("sandbox.sandbox_service.SandboxType")
    wanted = ["base", "filesystem"] if types is None else [types.BASE, types.FILESYSTEM]
    boxes = service.connect("s", "alice", wanted)
    assert [box.sandbox_type for box in boxes] == wanted
    assert [box.get_info()["sandbox_type"] for box in boxes] == ["base", "filesystem"]
    assert [box.sandbox_id for box in service.connect("s", "alice", ["filesystem", None])] == [boxes[1].sandbox_id]
    assert service.connect("s", "alice", []) == []
    with pytest.raises(InvalidContent, match="'nonsense'"):
        service.connect("s", "alice", ["nonsense"])


async def test_file_tools_behave_like_the_runtimes(create_service: CreateService) -> None:
    (box,) = create_service().connect("s", "alice", ["filesystem"])
    box.create_directory("d/e")
    box.write_file("d/a.txt", "one\ntwo\n")
    edits = [{"oldText": "two", "newText": "three"}]
    assert "+three" in _output(box.edit_file("d/a.txt", edits, dry_run=True))
    assert _output(box.read_file("d/a.txt")) == "one\ntwo\n"
    box.edit_file("d/a.txt", edits)
    assert "three" in _output(box.read_multiple_files(("d/a.txt",)))
    assert "[DIR] e" in _output(box.list_directory("d"))
    assert '"a.txt"' in _output(box.directory_tree("d"))
    _output(box.move_file("d/a.txt", "d/e/b.txt"))
    assert "b.txt" in _output(box.search_files(".", "*.txt"))
    assert "b.txt" not in _output(box.search_files(".", "*.txt", exclude_patterns=["b*"]))
    assert "size: 10\n" in _output(box.get_file_info("d/e/b.txt"))
    assert "workspace" in _output(box.list_allowed_directories())
    assert box.read_file("nothing")["isError"]
    with pytest.raises(InvalidContent):
        box.call_tool("no such tool")


async def test_tools_are_listed_by_group_and_called_by_name(create_service: CreateService) -> None:
    (box,) = create_service().connect("s")
    assert box.list_tools("generic") == box.list_tools()
    assert box.list_tools("browser") == {"browser": {}}
    assert await box.list_tools_async("generic") == box.list_tools()
    assert await box.get_info_async() == box.get_info()
    assert _output(box.call_tool("run_shell_command", {"command": "echo 1"})) == "1\n"
    assert _output(await box.call_tool_async("run_shell_command", {"command": "echo 2"})) == "2\n"


async def test_async_calls_run_concurrently_and_can_be_cancelled(create_service: CreateService) -> None:
    (box,) = create_service().connect("s")
    box.run_shell_command("mkfifo one other")
    found = await asyncio.gather(
        box.call_tool_async("run_shell_command", {"command": "echo 1 > one; cat other"}),
        box.call_tool_async("run_shell_command", {"command": "cat one; echo 2 > other"}),
    )
    assert [_output(each) for each in found] == ["2\n", "1\n"]
    waiting = asyncio.create_task(box.call_tool_async("run_shell_command", {"command": "echo 3 > one; cat other"}))
    assert _output(await box.call_tool_async("run_shell_command", {"command": "cat one"})) == "3\n"
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert _output(box.run_shell_command("echo alive")) == "alive\n"


async def test_concurrent_threads_get_the_same_sandbox(create_service: CreateService) -> None:
    service = create_service()

    def work(number: int) -> tuple[str, str]:
        (box,) = service.connect("s", "alice")
        return box.sandbox_id, _output(box.run_shell_command(f"echo {number}"))

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(work, range(16)))
    assert len({id for id, _ in found}) == 1
    assert [output for _, output in found] == [f"{number}\n" for number in range(16)]
    assert len(_threads()) == 1


async def test_stop_ends_own_sandboxes_and_start_creates_new_ones(
    create_service: CreateService, observer: asyncpg.Connection
) -> None:
    service, other = create_service(), create_service()
    (box,) = service.connect("mine", "alice")
    other.connect("others", "alice")
    service.connect("others", "alice")
    assert await service.health()
    await service.stop()
    await service.stop()
    rows = await observer.fetch("SELECT session_id FROM agentstore.sandboxes")
    assert [row[0] for row in rows] == ["others"]
    assert len(_threads()) == 1  # of the other service
    assert not await service.health()
    with pytest.raises(Closed):
        service.connect("mine", "alice")
    with pytest.raises(Closed):
        service.release("mine", "alice")
    with pytest.raises(Closed):
        box.run_shell_command("true")
    async with service:
        (new,) = service.connect("mine", "alice")
        assert new.sandbox_id != box.sandbox_id
        assert _output(new.run_shell_command("echo again")) == "again\n"
        with pytest.raises(Closed):
            await box.call_tool_async("run_shell_command", {"command": "true"})
    assert await observer.fetchval("SELECT count(*) FROM agentstore.sandboxes") == 1


async def test_stop_interrupts_running_calls(create_service: CreateService) -> None:
    service = create_service()
    (box,) = service.connect("s")
    box.run_shell_command("mkfifo never ready")
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(box.run_shell_command, "echo 1 > ready; read line < never")
        assert _output(box.run_shell_command("cat ready")) == "1\n"
        await service.stop()
        with suppress(Closed, SandboxLost):
            assert waiting.result()["isError"]  # the result of the killed command may arrive before the stop


async def test_stop_leaves_sandboxes_without_drain_on_stop(
    create_service: CreateService, observer: asyncpg.Connection
) -> None:
    service = create_service(drain_on_stop="false")
    service.connect("s")
    await service.stop()
    assert await observer.fetchval("SELECT count(*) FROM agentstore.sandboxes") == 1


async def test_provider_object_is_stopped_with_the_service(create_service: CreateService) -> None:
    provider = UnsafeSubprocessProvider()
    service = create_service(provider=provider, drain_on_stop=False)
    for _ in range(2):
        async with service:
            (box,) = service.connect("s")
            assert _output(box.run_shell_command("echo here")) == "here\n"
        assert not provider._running


async def test_unavailable_provider_raises_on_start_and_connect(
    create_service: CreateService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def missing(self: object) -> None:
        raise SandboxUnavailable("nothing is installed")

    monkeypatch.setattr(UnsafeSubprocessProvider, "start", missing)
    service = create_service()
    with pytest.raises(SandboxUnavailable, match="nothing is installed"):
        await service.start()
    with pytest.raises(SandboxUnavailable, match="nothing is installed"):
        service.connect("s")


async def test_factory_reads_options_from_the_environment(
    database_url: str, settings: Settings, environment: pytest.MonkeyPatch
) -> None:
    assert type(await SandboxServiceFactory.create()) is PostgresSandboxService
    environment.setenv("SANDBOX_BACKEND", "Postgres")
    environment.setenv("SANDBOX_POSTGRES_DSN", database_url)
    environment.setenv("SANDBOX_POSTGRES_POOL_SIZE", "3")
    environment.setenv("SANDBOX_POSTGRES_PROVIDER", "unsafe_subprocess")
    environment.setenv("SANDBOX_POSTGRES_DRAIN_ON_STOP", "False")
    environment.setenv("SANDBOX_POSTGRES_BASE_URL", "")
    environment.setenv("SANDBOX_POSTGRES_REDIS_URL", "redis://there")
    service = await SandboxServiceFactory.create()
    assert (service._settings.pool_size, service._drain, service._base_url) == (3, False, None)
    async with await SandboxServiceFactory.create(drain_on_stop=True) as service:
        (box,) = service.connect("s", "alice")
        assert _output(box.run_shell_command("echo here")) == "here\n"


def test_unknown_and_invalid_options_are_rejected(server: Server) -> None:
    url = server.url_of("postgres")
    with pytest.raises(NotConfigured, match="'drain'"):
        PostgresSandboxService(url, drain=True)
    with pytest.raises(NotConfigured, match="drain_on_stop must be true or false, got 'perhaps'"):
        PostgresSandboxService(url, drain_on_stop="perhaps")
    with pytest.raises(NotConfigured, match="pool_size"):
        PostgresSandboxService(url, "many")
    with pytest.raises(NotConfigured, match="docker"):
        PostgresSandboxService(url, provider="docker")
    with pytest.raises(NotConfigured):
        PostgresSandboxService("http://sandboxes.example.com:8000")


@pytest.mark.runtime
async def test_service_is_an_instance_of_the_runtimes_class(environment: pytest.MonkeyPatch) -> None:
    from agentscope_runtime.engine.services.sandbox import SandboxService as RuntimeService
    from agentscope_runtime.engine.services.sandbox import SandboxServiceFactory as RuntimeFactory

    assert isinstance(PostgresSandboxService(), RuntimeService)
    register()
    environment.setenv("SANDBOX_BACKEND", "postgres")
    environment.setenv("SANDBOX_POSTGRES_DRAIN_ON_STOP", "true")
    service = await RuntimeFactory.create()
    assert type(service) is PostgresSandboxService
    async with service:
        (box,) = service.connect("s", "alice", ["base"])
        assert box.sandbox_type.value == "base"
        assert _output(box.run_ipython_cell("print(6 * 7)")) == "42\n"


@pytest.mark.runtime
async def test_methods_can_be_registered_in_a_toolkit(create_service: CreateService) -> None:
    from agentscope.tool import Toolkit
    from agentscope_runtime.adapters.agentscope.tool import sandbox_tool_adapter

    (box,) = create_service().connect("s", "alice")
    toolkit = Toolkit()
    for function in (box.run_ipython_cell, box.run_shell_command, box.read_file, box.edit_file, box.search_files):
        toolkit.register_tool_function(sandbox_tool_adapter(function))
    schemas = {each["function"]["name"]: each["function"] for each in toolkit.get_json_schemas()}
    assert schemas["run_shell_command"]["parameters"]["required"] == ["command"]
    assert schemas["edit_file"]["parameters"]["properties"]["edits"]["type"] == "array"
    assert schemas["run_ipython_cell"]["description"].startswith("Run a cell of IPython.")
    call = {"type": "tool_use", "id": "1", "name": "run_shell_command", "input": {"command": "echo tool"}}
    async for answer in await toolkit.call_tool_function(call):
        assert answer.content[0]["text"] == "tool\n"


_SCRIPT = """
import sys
from agentstore import Settings
from agentstore.adapters.agentscope_runtime import PostgresSandboxService

settings = Settings.model_validate_json(sys.argv[2])
(box,) = PostgresSandboxService(sys.argv[1], provider="unsafe_subprocess", settings=settings).connect("s", "alice")
print(box.run_shell_command("echo $PPID")["content"][0]["text"])
"""


@pytest.mark.slow
def test_unstopped_service_does_not_keep_the_process_alive(database_url: str, settings: Settings) -> None:
    settings_json = Settings(pooler=settings.pooler).model_dump_json()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _SCRIPT, database_url, settings_json],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "Exception" not in done.stderr
    assert "Traceback" not in done.stderr
    box = Path("/proc", done.stdout.strip())
    deadline = time.monotonic() + 60
    while box.exists():  # its sandbox ends with the process
        assert time.monotonic() < deadline
        time.sleep(0.05)


_FORK = """
import os, sys
from agentstore.adapters.agentscope_runtime import PostgresSandboxService
from agentstore import Closed

service = PostgresSandboxService(sys.argv[1], provider="unsafe_subprocess")
(box,) = service.connect("parent")
box.run_shell_command("echo parent > mine")
if not (pid := os.fork()):
    try:
        box.run_shell_command("true")
    except Closed:
        (own,) = service.connect("child")
        listed = own.run_shell_command("ls")["content"][0]["text"]
        (same,) = service.connect("parent")
        os._exit(0 if listed == "" and "parent" in str(same.read_file("mine")) else 3)
    os._exit(2)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(code, box.read_file("mine")["content"][0]["text"].strip())
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="fork is only safe on Linux")
def test_a_forked_child_gets_its_own_service(direct_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FORK, direct_url],
        cwd=_ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "0 parent\n", done.stderr
