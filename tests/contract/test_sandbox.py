"""Run the contract suite of SandboxService against each implementation.

With the provider that isolates nothing and therefore runs on every machine; isolation has separate tests.
"""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentstore import InMemorySandboxService, PostgresSandboxService, SandboxService, Settings
from agentstore.interfaces import SandboxProvider
from agentstore.sandbox.unsafe_subprocess import UnsafeSubprocessProvider
from agentstore.testing import SandboxContract

_SNAPSHOTS: dict[str, Any] = {"sandbox_snapshots": True, "max_workspace_bytes": 100_000}


@pytest.fixture
async def provider() -> AsyncIterator[SandboxProvider]:
    opened = UnsafeSubprocessProvider()
    yield opened
    await opened.stop()


class TestInMemory(SandboxContract):
    @pytest.fixture
    async def service(self, provider: SandboxProvider) -> AsyncIterator[SandboxService]:
        async with InMemorySandboxService(provider=provider) as service:
            yield service

    @pytest.fixture
    async def keeping(self, provider: SandboxProvider) -> AsyncIterator[SandboxService]:
        settings = Settings(**_SNAPSHOTS)
        async with InMemorySandboxService(provider=provider, settings=settings) as service:
            yield service


class TestPostgres(SandboxContract):
    @pytest.fixture
    async def service(
        self, provider: SandboxProvider, database_url: str, settings: Settings
    ) -> AsyncIterator[SandboxService]:
        async with PostgresSandboxService(database_url, provider=provider, settings=settings) as service:
            yield service

    @pytest.fixture
    async def keeping(
        self, provider: SandboxProvider, database_url: str, settings: Settings
    ) -> AsyncIterator[SandboxService]:
        settings = settings.model_copy(update=_SNAPSHOTS)
        async with PostgresSandboxService(database_url, provider=provider, settings=settings) as service:
            yield service
