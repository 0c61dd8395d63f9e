"""Factories: services created by the name of their backend, from the environment."""

from importlib.metadata import entry_points
from typing import Any

import pytest

from agentstore import InMemoryMemoryService, InMemorySessionHistoryService, InMemoryStateService, NotConfigured
from agentstore.adapters.agentscope_runtime import (
    MemoryServiceFactory,
    PostgresMemoryService,
    PostgresSessionHistoryService,
    PostgresStateService,
    SessionHistoryServiceFactory,
    StateServiceFactory,
    register,
)

FACTORIES: list[tuple[str, Any, type, type]] = [
    (
        "SESSION_HISTORY",
        SessionHistoryServiceFactory,
        PostgresSessionHistoryService,
        InMemorySessionHistoryService,
    ),
    ("MEMORY", MemoryServiceFactory, PostgresMemoryService, InMemoryMemoryService),
    ("STATE", StateServiceFactory, PostgresStateService, InMemoryStateService),
]


@pytest.mark.parametrize(("prefix", "factory", "postgres", "in_memory"), FACTORIES)
async def test_environment_selects_backend_and_arguments_take_precedence(
    prefix: str, factory: Any, postgres: Any, in_memory: Any, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert type(await factory.create()) is in_memory
    monkeypatch.setenv(f"{prefix}_BACKEND", "Postgres")
    monkeypatch.setenv(f"{prefix}_POSTGRES_DSN", "postgresql://app@elsewhere/agents")
    monkeypatch.setenv(f"{prefix}_POSTGRES_POOL_SIZE", "3")
    monkeypatch.setenv(f"{prefix}_POSTGRES_COMPAT", "redis")
    monkeypatch.setenv(f"{prefix}_REDIS_REDIS_URL", "redis://there")
    service: Any = await factory.create()
    assert type(service) is postgres
    assert service._compat == "redis"
    assert service._shared.database.settings.pool_size == 3
    assert "elsewhere" in service._shared.database.where
    assert not await service.health()
    service = await factory.create(dsn=database_url, compat="tablestore")
    assert service._compat == "tablestore"
    assert "elsewhere" not in service._shared.database.where
    assert type(await factory.create("IN_MEMORY")) is in_memory


@pytest.mark.parametrize(("prefix", "factory", "postgres", "in_memory"), FACTORIES)
async def test_unknown_backends_and_options_are_rejected(
    prefix: str, factory: Any, postgres: Any, in_memory: Any, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotConfigured, match="redis"):
        await factory.create("redis")
    with pytest.raises(NotConfigured, match="pol_size"):
        await factory.create("postgres", dsn=database_url, pol_size=3)
    with pytest.raises(NotConfigured, match="size"):
        await factory.create("in_memory", size=3)
    monkeypatch.setenv(f"{prefix}_POSTGRES_DNS", database_url)
    with pytest.raises(NotConfigured, match="dns"):
        await factory.create("postgres")
    factory.register_backend("Mine", dict)
    assert await factory.create("mine", x=1) == {"x": 1}


def test_entry_point_is_register() -> None:
    (found,) = entry_points(group="agentscope_runtime.services", name="postgres")
    assert found.load() is register
