"""Each BlobService implementation against the contract."""

from collections.abc import AsyncIterator

import pytest

from agentstore import BlobService, InMemoryBlobService, PostgresBlobService, Settings
from agentstore.testing import BlobContract


class TestInMemory(BlobContract):
    @pytest.fixture
    async def service(self) -> AsyncIterator[BlobService]:
        async with InMemoryBlobService(settings=Settings(max_blob_bytes=2_000_000)) as service:
            yield service


class TestPostgres(BlobContract):
    @pytest.fixture
    async def service(self, database_url: str, settings: Settings) -> AsyncIterator[BlobService]:
        limited = settings.model_copy(update={"max_blob_bytes": 2_000_000})
        async with PostgresBlobService(database_url, settings=limited) as service:
            yield service
