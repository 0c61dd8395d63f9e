"""Sandbox services on Postgres, with the provider that isolates nothing and therefore runs on every machine."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from agentstore import PostgresSandboxService, Settings
from agentstore.interfaces import SandboxProvider
from agentstore.sandbox.unsafe_subprocess import UnsafeSubprocessProvider


@pytest.fixture
async def provider() -> AsyncIterator[UnsafeSubprocessProvider]:
    opened = UnsafeSubprocessProvider()
    yield opened
    await opened.stop()


@pytest.fixture
def create_service(
    database_url: str, settings: Settings, provider: SandboxProvider
) -> Callable[..., PostgresSandboxService]:
    """Create services that share a provider; keyword arguments are settings, and `drain_on_stop`."""

    def create(**options: Any) -> PostgresSandboxService:
        arguments = {
            "provider": provider,
            **{name: options.pop(name) for name in ("drain_on_stop",) if name in options},
        }
        return PostgresSandboxService(database_url, settings=settings.model_copy(update=options), **arguments)

    return create
