"""The contract of MemoryService, held against each implementation, and against each other."""

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentstore import (
    AgentStore,
    InMemoryMemoryService,
    MemoryItem,
    MemoryService,
    NotConfigured,
    PostgresMemoryService,
    Settings,
)
from agentstore.testing import MemoryContract, text
from tests.support.vectors import WordEmbedder


class TestInMemory(MemoryContract):
    @pytest.fixture
    async def service(self) -> AsyncIterator[MemoryService]:
        async with InMemoryMemoryService() as service:
            yield service


class TestInMemoryWithVectors(MemoryContract):
    @pytest.fixture
    async def service(self) -> AsyncIterator[MemoryService]:
        async with InMemoryMemoryService(embedder=WordEmbedder()) as service:
            yield service


class TestPostgres(MemoryContract):
    @pytest.fixture
    async def service(self, database_url: str, settings: Settings) -> AsyncIterator[MemoryService]:
        async with PostgresMemoryService(database_url, settings=settings) as service:
            yield service


@pytest.fixture
async def both(
    database_url: str, settings: Settings
) -> AsyncIterator[tuple[InMemoryMemoryService, PostgresMemoryService]]:
    async with InMemoryMemoryService() as reference, PostgresMemoryService(database_url, settings=settings) as postgres:
        yield reference, postgres


@pytest.mark.parametrize("common", [1_000, 3])
async def test_both_find_the_same_in_the_same_order_with_the_same_scores(
    both: tuple[InMemoryMemoryService, PostgresMemoryService], common: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where tokens are too common to count: what Postgres computes is what `ranking.scores` says."""
    from agentstore.repositories import memory, memory_search
    from agentstore.search import ranking

    monkeypatch.setattr(ranking, "COMMON", common)
    monkeypatch.setattr(ranking, "LENDERS", 20)
    monkeypatch.setattr(memory, "SEARCH", memory_search._search())
    rng = random.Random(3)
    words = [f"word{number}" for number in range(60)] + ["虾", "东京塔", "e-mail", "running"]
    weights = [1 / (1 + number) for number in range(len(words))]
    for number in range(200):
        message = text(
            " ".join(rng.choices(words, weights, k=rng.randint(1, 12))) + rng.choice(["", "?", "？"]),
            id=f"m{number}",
            role=rng.choice(["user", "assistant", None]),
            metadata={"timestamp": 1_700_000_000 + number, "name": rng.choice(["Ann", "Bo", ""])},
        )
        session = f"s{rng.randint(0, 5)}"
        for service in both:
            await service.add_memory("alice", message, session)
    for _ in range(60):
        # With two that are rare, whatever else is common is left out.
        asked = rng.choices([*words[40:], "nothing"], k=2) if common == 3 else []
        question = " ".join(asked + rng.choices([*words, "wor", "nothing"], k=rng.randint(1, 6)))
        filters: dict[str, Any] = rng.choice(
            [{}, {"session_id": "s1"}, {"role": "user"}, {"top_k": 3}, {"order": "chronological"}]
        )
        reference, postgres = [await service.search("alice", question, filters) for service in both]
        assert [(hit.message.id, hit.session_id, hit.position) for hit in postgres] == [
            (hit.message.id, hit.session_id, hit.position) for hit in reference
        ]
        assert [hit.score for hit in postgres] == pytest.approx([hit.score for hit in reference])
        assert [hit.time for hit in postgres] == [hit.time for hit in reference]


@pytest.mark.parametrize("strategy", ["vector", "hybrid"])
async def test_both_find_the_same_by_meaning_with_the_same_scores(
    has_pgvector: bool, vectors: AgentStore, settings: Settings, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Float for float as near as four bytes are: Postgres adds up in another order."""
    if not has_pgvector:
        with pytest.raises(NotConfigured, match="vector enable"):
            await vectors.memory.search("alice", "x", {"strategy": strategy})
        return
    from agentstore.search import ranking

    monkeypatch.setattr(ranking, "NEAREST", 40)
    rng = random.Random(5)
    words = [f"word{number}" for number in range(40)]
    both = (InMemoryMemoryService(settings=settings, embedder=WordEmbedder()), vectors.memory)
    for number in range(150):
        message = text(
            " ".join(rng.choices(words, k=rng.randint(0, 9))) + rng.choice(["", "?"]),
            id=f"m{number}",
            role=rng.choice(["user", "assistant", None]),
            metadata={"timestamp": 1_700_000_000 + number, "name": rng.choice(["Ann", ""])},
        )
        session = f"s{rng.randint(0, 5)}"
        item = MemoryItem(id=f"i{number % 7}", text=" ".join(rng.choices(words, k=4)), importance=rng.random())
        for service in both:
            await service.add_memory("alice", message, session)
            if number % 10 == 0:
                await service.save_items("alice", item, supersedes=[f"i{(number + 3) % 7}"])
    for _ in range(40):
        question = " ".join(rng.choices([*words, "nothing"], k=rng.randint(1, 6)))
        filters: dict[str, Any] = rng.choice(
            [{}, {"session_id": "s1"}, {"role": "user"}, {"top_k": 60}, {"kind": "fact"}, {"min_score": 0.3}]
        )
        reference, postgres = [
            await service.search("alice", question, filters | {"strategy": strategy}) for service in both
        ]
        assert [hit.score for hit in postgres] == pytest.approx([hit.score for hit in reference], abs=1e-5)
        # Those whose scores differ by rounding alone may change places.
        assert {hit.message.id for hit in postgres} == {hit.message.id for hit in reference}


async def test_a_hybrid_search_is_by_words_alone_where_these_have_all_the_weight(
    has_pgvector: bool, database_url: str, settings: Settings, vectors: AgentStore
) -> None:
    if not has_pgvector:
        return
    await vectors.memory.add_memory("alice", [text("apples and pears"), text("apples"), text("plums")], "s")
    for weight, strategy in ((1.0, "full_text"), (0.0, "vector")):
        weighted = settings.model_copy(update={"hybrid_weight": weight})
        async with PostgresMemoryService(database_url, settings=weighted, embedder=WordEmbedder()) as service:
            hybrid = await service.search("alice", "apples", {"strategy": "hybrid", "top_k": 2})
            alone = await service.search("alice", "apples", {"strategy": strategy, "top_k": 2})
            assert [hit.message.id for hit in hybrid] == [hit.message.id for hit in alone]


async def test_filters_leave_what_is_wanted_however_much_else_fits(
    both: tuple[InMemoryMemoryService, PostgresMemoryService],
) -> None:
    said = [text(f"apple {number}", metadata={"timestamp": "2020-01-01"}) for number in range(1_500)]
    pie = text("an apple pie that somebody made", id="pie", role="assistant", metadata={"timestamp": "2030-01-01"})
    for service in both:
        await service.add_memory("alice", said, "s")
        await service.add_memory("alice", pie, "mine")
        for filters in ({"session_id": "mine"}, {"since": "2029-01-01"}, {"role": "assistant"}):
            assert [hit.message.id for hit in await service.search("alice", "apple", filters)] == ["pie"]


async def test_equal_scores_are_equal_and_the_newest_comes_first(
    both: tuple[InMemoryMemoryService, PostgresMemoryService],
) -> None:
    rng = random.Random(4)
    words = [f"word{number}" for number in range(12)]
    sets = [rng.sample(words, 4) for _ in range(6)]
    said = [text(" ".join(sets[number % 6]), id=f"m{number}") for number in range(60)]
    for service in both:
        for number, message in enumerate(said):
            await service.add_memory("alice", message, f"s{number}")
        for _ in range(10):
            hits = await service.search("alice", " ".join(rng.sample(words, 4)), {"top_k": 100})
            order = [(-hit.score, -hit.time.timestamp()) for hit in hits]
            assert order == sorted(order)


async def test_what_is_not_found_whole_is_found_by_its_beginning(
    both: tuple[InMemoryMemoryService, PostgresMemoryService],
) -> None:
    for service in both:
        await service.add_memory("alice", [text("The refrigerator is broken", id="fridge")], "s")
        await service.add_memory("alice", [text("The aquarium leaks", id="fish")], "t")
        assert [hit.message.id for hit in await service.search("alice", "refrigerater")] == ["fridge"]
        assert [hit.message.id for hit in await service.search("alice", "aqua")] == ["fish"]
        assert await service.search("alice", "xy") == []


def test_a_language_that_is_none_is_refused() -> None:
    wrong = Settings(text_search_config="klingon")
    with pytest.raises(NotConfigured, match="klingon"):
        InMemoryMemoryService(settings=wrong)
    with pytest.raises(NotConfigured, match="AGENTSTORE_TEXT_SEARCH_CONFIG"):
        PostgresMemoryService("postgresql://h/db", settings=wrong)
