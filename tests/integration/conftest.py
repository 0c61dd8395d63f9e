"""Fixtures of the tests of telemetry."""

from collections.abc import AsyncIterator

import pytest

from agentstore import AgentStore, Settings
from tests.support.telemetry import Collected


@pytest.fixture
def collected() -> Collected:
    return Collected()


@pytest.fixture
async def observed(database_url: str, settings: Settings, collected: Collected) -> AsyncIterator[AgentStore]:
    """A store that reports to `collected`."""
    async with AgentStore(database_url, settings=settings, telemetry=collected.telemetry()) as store:
        await collected.spans()
        collected.statements.clear()
        yield store
