"""A sandbox server for tests, and the providers that use it."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from agentstore import http_client
from agentstore.sandbox import managed
from agentstore.sandbox.agentscope_runtime import AgentScopeRuntimeProvider
from agentstore.sandbox.managed import ManagedProvider
from agentstore.sandbox.remote import RemoteProvider
from tests.sandbox.remote.sandbox_server import SandboxServer, sandbox_server
from tests.sandbox.remote.support import TOKEN


@pytest.fixture(autouse=True)
def _retry_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(managed, "RETRY_DELAY", 0.01)
    monkeypatch.setattr(http_client, "_DELAY", 0.01)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SandboxServer]:
    with sandbox_server(tmp_path, TOKEN) as running:
        yield running


@pytest.fixture
async def provider(server: SandboxServer) -> AsyncIterator[RemoteProvider]:
    provider = RemoteProvider(server.url, TOKEN, timeout=30)
    await provider.start()
    yield provider
    await provider.stop()


@pytest.fixture(params=["remote", "agentscope_runtime"])
async def any_provider(request: pytest.FixtureRequest, server: SandboxServer) -> AsyncIterator[ManagedProvider]:
    """Over HTTP, and with the server object as the manager in this process."""
    if request.param == "remote":
        provider: ManagedProvider = RemoteProvider(server.url, SecretStr(TOKEN), timeout=30)
    else:
        provider = AgentScopeRuntimeProvider(server, timeout=30)
    await provider.start()
    yield provider
    await provider.stop()
