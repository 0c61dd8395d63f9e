"""The contract suites with what applications combine: row-level security, retention, an embedder and an extractor.

Each suite is run by `make combinations`, and once in the gate; behind PgBouncer the gate runs the suites as they are.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any
from uuid import uuid4

import pytest

from agentstore import (
    PostgresMemoryService,
    PostgresSessionHistoryService,
    PostgresStateService,
    Settings,
    migrate,
)
from agentstore.operations.grants import grants
from agentstore.testing import MemoryContract, SessionHistoryContract, StateContract
from tests.integration.extraction.support import EchoExtractor
from tests.support.databases import Databases
from tests.support.psql import psql
from tests.support.roles import with_role
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


_ROLE = f"agentstore_rls_{uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def secured(server: Server, vectors: Databases) -> Iterator[Databases]:
    """Databases with policies, and a role that may only read and write rows."""
    name = vectors.take()
    psql(server.url_of(name), f"CREATE ROLE {_ROLE} LOGIN PASSWORD 'app'; " + "; ".join(grants(app=_ROLE)) + ";")
    asyncio.run(migrate.enable_row_security(server.url_of(name)))
    with closing(Databases(server, name)) as databases:
        yield databases
    psql(server.url_of(name), f"DROP OWNED BY {_ROLE}; DROP ROLE {_ROLE};")
    vectors.give_back(name)


def _opener(cls: Any, changes: dict[str, Any], role: str = "", **options: Any) -> Any:
    """Return an `open` of a class: a service with these settings and options, whose connections use a role."""

    def open_(url: str, settings: Settings) -> Any:
        return cls(with_role(url, role) if role else url, settings=settings.model_copy(update=changes), **options)

    return staticmethod(open_)


_SECURED = {"row_level_security": True}
_WITH_TTL = {"session_ttl": 10_000_000, "memory_ttl": 10_000_000, "state_ttl": 10_000_000}
_MODELS: dict[str, Any] = {"embedder": WordEmbedder(), "extractor": EchoExtractor()}


class _SameOrder:
    """A reranker whose scores keep the order."""

    async def rerank(self, question: str, texts: Sequence[str]) -> list[float]:
        return [-float(place) for place in range(len(texts))]


@pytest.mark.asyncio(loop_scope="class")
class TestSessionsUnderRowSecurity(SessionHistoryContract):
    lists_all_users = False
    databases = "secured"
    open = _opener(PostgresSessionHistoryService, _SECURED, _ROLE)


@pytest.mark.asyncio(loop_scope="class")
class TestStatesUnderRowSecurity(StateContract):
    databases = "secured"
    open = _opener(PostgresStateService, _SECURED, _ROLE)


@pytest.mark.asyncio(loop_scope="class")
class TestMemoryUnderRowSecurity(MemoryContract):
    databases = "secured"
    open = _opener(PostgresMemoryService, _SECURED, _ROLE)


@pytest.mark.asyncio(loop_scope="class")
class TestSessionsWithTtl(SessionHistoryContract):
    open = _opener(PostgresSessionHistoryService, _WITH_TTL)


@pytest.mark.asyncio(loop_scope="class")
class TestStatesWithTtl(StateContract):
    open = _opener(PostgresStateService, _WITH_TTL)


@pytest.mark.asyncio(loop_scope="class")
class TestMemoryWithTtl(MemoryContract):
    open = _opener(PostgresMemoryService, _WITH_TTL)


@pytest.mark.asyncio(loop_scope="class")
class TestMemoryWithEmbedderAndExtractor(MemoryContract):
    databases = "vectors"
    open = _opener(PostgresMemoryService, {}, **_MODELS)


@pytest.mark.asyncio(loop_scope="class")
class TestMemoryWithEmbedderAndExtractorUnderRowSecurity(MemoryContract):
    databases = "secured"
    open = _opener(PostgresMemoryService, _SECURED, _ROLE, **_MODELS)


@pytest.mark.asyncio(loop_scope="class")
class TestMemoryWithHybridSearchAndReranker(MemoryContract):
    """By the static embedder."""

    open = _opener(PostgresMemoryService, {}, strategy="hybrid", reranker=_SameOrder())
