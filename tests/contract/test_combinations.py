"""The contract suites with what applications combine: row-level security, retention, an embedder and an extractor.

Each suite is run by `make combinations`, and once in the gate; behind PgBouncer the gate runs the suites as they are.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from urllib.parse import quote
from uuid import uuid4

import pytest

from agentstore import (
    MemoryService,
    PostgresMemoryService,
    PostgresSessionHistoryService,
    PostgresStateService,
    SessionHistoryService,
    Settings,
    StateService,
    migrate,
)
from agentstore.operations.grants import grants
from agentstore.testing import MemoryContract, SessionHistoryContract, StateContract
from tests.integration.extraction.support import EchoExtractor
from tests.support.databases import Databases
from tests.support.psql import psql
from tests.support.servers import Server
from tests.support.vectors import WordEmbedder

pytestmark = pytest.mark.combinations


@pytest.fixture(scope="module")
def vectors(server: Server, template: str, has_pgvector: bool) -> Iterator[Databases]:
    """Databases with vectors, or without on a server that has no pgvector: memories are stored without them there."""
    name = f"{template}_vectors"
    asyncio.run(server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"'))
    if has_pgvector:
        asyncio.run(migrate.enable_vectors(server.url_of(name)))
    with closing(Databases(server, name)) as databases:
        yield databases
    asyncio.run(server.execute(f'DROP DATABASE "{name}" WITH (FORCE)'))


@pytest.fixture
def vectors_url(server: Server, vectors: Databases) -> Iterator[str]:
    name = vectors.take()
    yield server.url_of(name)
    vectors.give_back(name)


@pytest.fixture(scope="module")
def secured(server: Server, vectors: Databases) -> Iterator[tuple[Databases, str]]:
    """Databases with policies, and a role that may only read and write rows."""
    role, name = f"agentstore_rls_{uuid4().hex[:8]}", vectors.take()
    psql(server.url_of(name), f"CREATE ROLE {role} LOGIN PASSWORD 'app'; " + "; ".join(grants(app=role)) + ";")
    asyncio.run(migrate.enable_row_security(server.url_of(name)))
    with closing(Databases(server, name)) as databases:
        yield databases, role
    psql(server.url_of(name), f"DROP OWNED BY {role}; DROP ROLE {role};")
    vectors.give_back(name)


@pytest.fixture
def secured_url(server: Server, secured: tuple[Databases, str]) -> Iterator[str]:
    databases, role = secured
    name = databases.take()
    yield f"{server.url_of(name)}{'&' if '?' in server.url_of(name) else '?'}options={quote('-c role=' + role)}"
    databases.give_back(name)


_SECURED = Settings(row_level_security=True)


class TestSessionsUnderRowSecurity(SessionHistoryContract):
    lists_all_users = False

    @pytest.fixture
    async def service(self, secured_url: str) -> AsyncIterator[SessionHistoryService]:
        async with PostgresSessionHistoryService(secured_url, settings=_SECURED) as service:
            yield service


class TestStatesUnderRowSecurity(StateContract):
    @pytest.fixture
    async def service(self, secured_url: str) -> AsyncIterator[StateService]:
        async with PostgresStateService(secured_url, settings=_SECURED) as service:
            yield service


class TestMemoryUnderRowSecurity(MemoryContract):
    @pytest.fixture
    async def service(self, secured_url: str) -> AsyncIterator[MemoryService]:
        async with PostgresMemoryService(secured_url, settings=_SECURED) as service:
            yield service


_MONTHS = 10_000_000


@pytest.fixture
def with_ttl(settings: Settings) -> Settings:
    return settings.model_copy(update={"session_ttl": _MONTHS, "memory_ttl": _MONTHS, "state_ttl": _MONTHS})


class TestSessionsWithTtl(SessionHistoryContract):
    @pytest.fixture
    async def service(self, database_url: str, with_ttl: Settings) -> AsyncIterator[SessionHistoryService]:
        async with PostgresSessionHistoryService(database_url, settings=with_ttl) as service:
            yield service


class TestStatesWithTtl(StateContract):
    @pytest.fixture
    async def service(self, database_url: str, with_ttl: Settings) -> AsyncIterator[StateService]:
        async with PostgresStateService(database_url, settings=with_ttl) as service:
            yield service


class TestMemoryWithTtl(MemoryContract):
    @pytest.fixture
    async def service(self, database_url: str, with_ttl: Settings) -> AsyncIterator[MemoryService]:
        async with PostgresMemoryService(database_url, settings=with_ttl) as service:
            yield service


class TestMemoryWithEmbedderAndExtractor(MemoryContract):
    @pytest.fixture
    async def service(self, vectors_url: str) -> AsyncIterator[MemoryService]:
        async with PostgresMemoryService(
            vectors_url, settings=Settings(), embedder=WordEmbedder(), extractor=EchoExtractor()
        ) as service:
            yield service


class TestMemoryWithEmbedderAndExtractorUnderRowSecurity(MemoryContract):
    @pytest.fixture
    async def service(self, secured_url: str) -> AsyncIterator[MemoryService]:
        async with PostgresMemoryService(
            secured_url, settings=_SECURED, embedder=WordEmbedder(), extractor=EchoExtractor()
        ) as service:
            yield service
