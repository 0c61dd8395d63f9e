"""The real AgentScope Runtime 1.0 on agentstore's services."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from agentstore import AgentStore, Settings
from agentstore.adapters.agentscope_runtime import (
    PostgresMemoryService,
    PostgresSessionHistoryService,
    PostgresStateService,
    register,
)
from tests.support.pgbouncer import free_port

pytestmark = pytest.mark.runtime


def test_services_are_instances_of_the_runtimes_classes(database_url: str) -> None:
    from agentscope_runtime.engine.services.agent_state import StateService
    from agentscope_runtime.engine.services.base import Service, ServiceWithLifecycleManager
    from agentscope_runtime.engine.services.memory import MemoryService
    from agentscope_runtime.engine.services.session_history import SessionHistoryService

    for kind, base in (
        (PostgresSessionHistoryService, SessionHistoryService),
        (PostgresMemoryService, MemoryService),
        (PostgresStateService, StateService),
    ):
        service = kind(database_url)
        assert isinstance(service, base)
        assert isinstance(service, ServiceWithLifecycleManager)
        assert isinstance(service, Service)


async def test_runtime_factories_create_agentstore_services(
    database_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agentscope_runtime.engine.services.agent_state import StateServiceFactory
    from agentscope_runtime.engine.services.session_history import SessionHistoryServiceFactory

    register()
    register()
    for prefix, factory, kind in (
        ("SESSION_HISTORY", SessionHistoryServiceFactory, PostgresSessionHistoryService),
        ("STATE", StateServiceFactory, PostgresStateService),
    ):
        monkeypatch.setenv(f"{prefix}_BACKEND", "postgres")
        monkeypatch.setenv(f"{prefix}_POSTGRES_DSN", database_url)
        monkeypatch.setenv(f"{prefix}_POSTGRES_POOL_SIZE", "7")
        service = await factory.create(settings=settings)
        assert type(service) is kind
        assert not await service.health()
        async with service:
            assert await service.health()
            assert service._shared.database.settings.pool_size == 7


async def test_runtime_memory_factory_creates_agentstore_service_if_importable(
    database_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The factory imports packages that only its own services need; empty modules replace them."""
    name = "agentscope_runtime.engine.services.memory.memory_service_factory"
    monkeypatch.delitem(sys.modules, name, raising=False)
    for package, kind in (
        ("mem0", "AsyncMemoryClient"),
        ("reme_ai", ""),
        ("reme_ai.service", ""),
        ("reme_ai.service.personal_memory_service", "PersonalMemoryService"),
        ("reme_ai.service.task_memory_service", "TaskMemoryService"),
    ):
        module: Any = ModuleType(package)
        setattr(module, kind, object)
        monkeypatch.setitem(sys.modules, package, module)
    register()
    factory = sys.modules[name].MemoryServiceFactory
    monkeypatch.setenv("MEMORY_BACKEND", "postgres")
    monkeypatch.setenv("MEMORY_POSTGRES_DSN", database_url)
    async with await factory.create(settings=settings) as service:
        assert type(service) is PostgresMemoryService
        assert await service.list_memory("alice") == []


class _App:
    """The application of tests/adapters/runtime_app.py in a new process."""

    def __init__(self, memory: str) -> None:
        self._port = free_port()
        command = [
            sys.executable,
            "-W",
            "ignore",
            str(Path(__file__).with_name("runtime_app.py")),
            str(self._port),
            memory,
        ]
        self._process = subprocess.Popen(command)
        deadline = time.monotonic() + 120
        while True:
            assert self._process.poll() is None
            assert time.monotonic() < deadline
            try:
                if httpx.get(f"http://127.0.0.1:{self._port}/health").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.2)

    def send(self, text: str, session_id: str = "s") -> str:
        """Send a message, and return the streamed response."""
        content = [{"type": "text", "text": text}]
        request = {
            "input": [{"role": "user", "type": "message", "content": content}],
            "session_id": session_id,
            "user_id": "alice",
        }
        answer = httpx.post(f"http://127.0.0.1:{self._port}/process", json=request, timeout=60)
        assert answer.status_code == 200
        return answer.text

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()


@pytest.fixture
def start(database_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], _App]]:
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", database_url)
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    for prefix in ("SESSION_HISTORY", "STATE"):
        monkeypatch.setenv(f"{prefix}_BACKEND", "postgres")
    apps: list[_App] = []

    def start_one(memory: str) -> _App:
        apps.append(_App(memory))
        return apps[-1]

    yield start_one
    for each in apps:
        each.kill()


@pytest.mark.parametrize("memory", ["runtime", "agentstore"])
async def test_application_resumes_its_sessions_after_a_kill(
    memory: str, start: Callable[[str], _App], store: AgentStore
) -> None:
    app = start(memory)
    assert "You said: I am Alice." in app.send("I am Alice.")
    app.kill()
    app = start(memory)
    assert "You said: I am Alice. / Who am I?" in app.send("Who am I?")
    assert "You said: And here?" in app.send("And here?", "another")
    session = await store.sessions.get_session("alice", "s")
    assert session is not None
    messages: list[Any] = [(each.role, each.content[0].text) for each in session.messages if each.content]  # type: ignore[union-attr]
    assert messages == [
        ("user", "I am Alice."),
        ("assistant", "You said: I am Alice."),
        ("user", "Who am I?"),
        ("assistant", "You said: I am Alice. / Who am I?"),
    ]
    assert len(await store.states.list_states("alice", "s")) == 2
