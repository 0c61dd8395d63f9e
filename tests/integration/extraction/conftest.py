"""An extractor with a fake endpoint, and a memory service that uses it."""

from collections.abc import AsyncIterator

import pytest

from agentstore import (
    Extractor,
    OpenAIExtractor,
    PostgresMemoryService,
    Settings,
)
from tests.support.chat import KEY, ChatEndpoint, chat_endpoint


@pytest.fixture
async def endpoint() -> AsyncIterator[ChatEndpoint]:
    async with chat_endpoint() as running:
        yield running


@pytest.fixture
def extractor(endpoint: ChatEndpoint) -> Extractor:
    return OpenAIExtractor(endpoint.url, "small", KEY, timeout=20)


@pytest.fixture
def immediate_settings(settings: Settings) -> Settings:
    """Settings with which jobs are due at once."""
    return settings.model_copy(update={"extraction_settle": 0.0})


@pytest.fixture
async def service(
    database_url: str, immediate_settings: Settings, extractor: Extractor
) -> AsyncIterator[PostgresMemoryService]:
    async with PostgresMemoryService(database_url, settings=immediate_settings, extractor=extractor) as opened:
        yield opened
