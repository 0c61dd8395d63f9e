"""Hybrid searches with the static embedder: the same with a database and without."""

import random
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from agentstore import (
    AgentStore,
    InMemoryMemoryService,
    InMemoryStore,
    MemoryHit,
    MemoryItem,
    PostgresMemoryService,
    Settings,
    StaticEmbedder,
)
from agentstore.testing import text

Services = tuple[InMemoryMemoryService, PostgresMemoryService]

_WORDS = [
    *("doctor", "physician", "nurse", "hospital", "dog", "puppy", "cat", "kitten", "car", "truck", "road", "bridge"),
    *("banana", "apple", "fruit", "bread", "money", "bank", "invoice", "salary", "paint", "picture", "museum"),
    *("violin", "concert", "song", "guitar", "winter", "snow", "beach", "summer", "swim", "river"),
]


@pytest.fixture
async def services(database_url: str, settings: Settings) -> AsyncIterator[Services]:
    async with (
        InMemoryMemoryService() as reference,
        PostgresMemoryService(database_url, settings=settings, embedder=StaticEmbedder()) as postgres,
    ):
        yield reference, postgres


def _keys(hits: list[MemoryHit]) -> list[tuple[str, str]]:
    return [(hit.session_id, hit.message.id) for hit in hits]


async def test_hybrid_search_returns_the_same_hits_and_scores_in_both(services: Services) -> None:
    rng = random.Random(5)
    for number in range(200):
        message = text(
            " ".join(rng.choices(_WORDS, k=rng.randint(0, 9))) + rng.choice(["", "?"]),
            id=f"m{number}",
            role=rng.choice(["user", "assistant", None]),
            metadata={"timestamp": 1_700_000_000 + number, "name": rng.choice(["Ann", ""])},
        )
        session = f"s{rng.randint(0, 5)}"
        item = MemoryItem(id=f"i{number % 7}", text=" ".join(rng.choices(_WORDS, k=4)), importance=rng.random())
        for service in services:
            await service.add_memory("alice", message, session)
            if number % 10 == 0:
                await service.save_items("alice", item)
    changed = 0
    for _ in range(40):
        query = " ".join(rng.choices([*_WORDS, "nothing", "vetrinarian"], k=rng.randint(1, 6)))
        filters: Any = rng.choice(
            [
                *({}, {"session_id": "s1"}, {"role": "user"}, {"top_k": 70}, {"kind": "fact"}, {"min_score": 0.6}),
                *({"order": "chronological"}, {"exclude_session_id": "s2"}, {"neighbors": False}),
            ]
        )
        reference, postgres = [await each.search("alice", query, filters | {"strategy": "hybrid"}) for each in services]
        assert _keys(postgres) == _keys(reference)
        assert [hit.score for hit in postgres] == pytest.approx([hit.score for hit in reference])
        assert [hit.is_match for hit in postgres] == [hit.is_match for hit in reference]
        assert all(filters.get("min_score", 0) <= hit.score <= 1.25 for hit in postgres)
        changed += _keys(postgres) != _keys(await services[1].search("alice", query, filters))
    assert changed > 10


async def test_meaning_decides_between_memories_with_the_same_words(services: Services) -> None:
    for service in services:
        for id, each in (("pet", "My new puppy is called Rex"), ("car", "My new truck is called Rex")):
            await service.add_memory("alice", text(each, id=id, metadata={"timestamp": 1_700_000_000}), id)
        for query, best in (("Is Rex a dog?", "pet"), ("Can Rex carry a heavy load on the road?", "car")):
            hits = await service.search("alice", query, {"strategy": "hybrid"})
            assert hits[0].message.id == best
            assert len(hits) == 2


async def test_a_query_in_another_script_is_ranked_by_its_words_alone(services: Services) -> None:
    messages = [
        text(each, id=f"m{place}") for place, each in enumerate(["我不吃辣", "辣的可以", "我喜欢吃鸭肉 duck", "吃辣"])
    ]
    for service in services:
        await service.add_memory("alice", messages, "s")
        words = await service.search("alice", "你吃辣吗")
        hits = await service.search("alice", "你吃辣吗", {"strategy": "hybrid"})
        assert _keys(hits) == _keys(words)
        assert [hit.score for hit in hits] == pytest.approx([0.6 * hit.score / words[0].score for hit in words])
        assert await service.search("alice", "?!", {"strategy": "hybrid"}) == []
        assert await service.search("alice", "辣", {"strategy": "hybrid", "top_k": 0}) == []


async def test_equal_texts_have_equal_scores_and_the_newest_comes_first(services: Services) -> None:
    for service in services:
        for number in range(60):
            message = text("the doctor called", id=f"m{number}", metadata={"timestamp": 1_700_000_000 + number})
            await service.add_memory("alice", message, f"s{number}")
        hits = await service.search("alice", "which physician called?", {"strategy": "hybrid", "top_k": 60})
        assert [hit.message.id for hit in hits] == [f"m{number}" for number in range(59, -1, -1)]
        assert len({hit.score for hit in hits}) == 1


async def test_neighbors_share_their_similarity(services: Services) -> None:
    """An answer has little of the meaning of a question, and the turn before it has it."""
    messages = [
        text("Where is the clinic of the veterinarian who saw the puppy?", id="q"),
        text("On Main Street", id="a"),
        *(text(each) for each in ("Thanks", "Bye", "Hello again", "So", "Well")),
        text("On Main Street", id="b"),
    ]
    for service in services:
        await service.add_memory("alice", messages, "s")
        for neighbors in (True, False):
            filters: Any = {"neighbors": neighbors}
            query = "street of the vet clinic for my dog"
            words = {hit.message.id: hit.score for hit in await service.search("alice", query, filters)}
            hits = await service.search("alice", query, filters | {"strategy": "hybrid"})
            meaning = {hit.message.id: hit.score - 0.6 * words[hit.message.id] / max(words.values()) for hit in hits}
            assert (meaning["a"] > meaning["b"] + 0.01) == neighbors


async def test_a_store_uses_it_by_default_and_stores_no_vectors(
    store: AgentStore, direct_url: str, observer: asyncpg.Connection
) -> None:
    stores: tuple[AgentStore, InMemoryStore] = (store, AgentStore.in_memory())
    for each in stores:
        await each.memory.add_memory("alice", [text("The doctor called", id="a"), text("The plumber called", id="b")])
        hits = await each.memory.search("alice", "which physician called?", {"strategy": "hybrid"})
        assert hits[0].message.id == "a"
    tables = await observer.fetch("SELECT count(*) FROM pg_class WHERE relname = 'memory_vectors'")
    assert tables[0][0] == 0


async def test_candidates_that_are_too_large_together_are_reduced_to_the_hits(
    database_url: str, settings: Settings
) -> None:
    small = {"max_reply_bytes": 50_000}
    for service in (
        InMemoryMemoryService(settings=Settings().model_copy(update=small)),
        PostgresMemoryService(database_url, settings=settings.model_copy(update=small)),
    ):
        async with service:
            for number in range(4):
                await service.add_memory("alice", text(f"apple {number} " + "x" * 20_000), f"s{number}")
            assert len(await service.search("alice", "apple", {"top_k": 2, "strategy": "hybrid"})) == 2
