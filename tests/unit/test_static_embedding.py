"""The static embedder: its tokens and vectors, and which searches use it."""

import json
import math
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from agentstore import AgentStore, InMemoryMemoryService, NotConfigured, PostgresMemoryService, StaticEmbedder
from agentstore.search import static_embedding
from agentstore.testing import text
from tests.support.vectors import WordEmbedder


def _folder() -> Path:
    found = find_spec("wordllama")
    assert found is not None
    assert found.submodule_search_locations
    return Path(found.submodule_search_locations[0])


def test_texts_of_similar_meaning_have_similar_vectors() -> None:
    embedder = StaticEmbedder()
    for question, near, far in (
        ("Who is her physician?", "The doctor examined me", "The banana was ripe"),
        ("Does he own a dog?", "We adopted a puppy", "We paid the invoice"),
        ("a holiday in France", "my vacation in Paris", "a bug in the parser"),
    ):
        first, second = embedder.similarities(question, [near, far])
        assert first > second + 0.1


async def test_vectors_have_length_one_and_depend_on_latin_words_alone() -> None:
    texts = [
        "The doctor examined me",
        "THE DOCTOR\nexamined, me!",
        "医生检查了我 doctor",
        "doctor",
        "我不吃辣",
        "!?",
        "",
    ]
    vectors = await StaticEmbedder().embed(texts)
    assert [len(each) for each in vectors] == [StaticEmbedder.dimensions] * len(texts)
    assert [math.sqrt(sum(x * x for x in each)) for each in vectors] == pytest.approx([1, 1, 1, 1, 0, 0, 0], abs=1e-5)
    assert vectors[0] == vectors[1]
    assert vectors[2] == vectors[3]
    assert await StaticEmbedder().embed([]) == []
    assert StaticEmbedder().similarities("我不吃辣", ["doctor", "辣"]) == [0, 0]
    # The same in any company.
    alone = [StaticEmbedder().similarities("physician", [each])[0] for each in texts]
    assert StaticEmbedder().similarities("physician", texts) == alone


def test_tokens_are_those_of_the_model() -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(_folder() / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    rng = random.Random(1)
    words = ["the", "of", "refrigerator", "unbelievably", "o'clock", "don't", "naïve", "señor", "2023", "x1y2"]
    words += ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(1, 30))) for _ in range(500)]
    for word in words:
        expected = tokenizer.encode(word, add_special_tokens=False).ids
        assert list(static_embedding._tokens_of_word(word)) == expected, word
    # Letters without a token are left out; of a very long word, the beginning counts.
    assert static_embedding._tokens_of_word("\u0242") == static_embedding._tokens_of_word("")
    assert len(static_embedding._tokens_of_word("x" * 100_000)) < 50


def test_wordllama_is_not_imported() -> None:
    """It would configure the root logger."""
    program = (
        "import logging, sys; from agentstore import StaticEmbedder; StaticEmbedder().similarities('a', ['b']);"
        "assert 'wordllama' not in sys.modules and not logging.getLogger().handlers"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_question_is_understood_by_its_letters() -> None:
    for question in ("Who?", "Wer ist das?", "naïve", "iPhone 的屏幕 broken", "vitamin C 和 D3 supplements"):
        assert static_embedding.understands(question), question
    for question in ("", "1984", "我不吃辣", "iPhone 的屏幕坏了怎么办", "Что это?", "この本は何ですか"):
        assert not static_embedding.understands(question), question


def _in_memory(**options: Any) -> InMemoryMemoryService:
    return InMemoryMemoryService(**options)


def _postgres(**options: Any) -> PostgresMemoryService:
    return PostgresMemoryService("postgresql://h/d", **options)


_Service = InMemoryMemoryService | PostgresMemoryService
_STORES: dict[str, Callable[..., _Service]] = {"in memory": _in_memory, "postgres": _postgres}


@pytest.mark.parametrize("store", _STORES)
async def test_a_missing_package_is_named_with_its_extra(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wordllama", None)
    with pytest.raises(NotConfigured, match=r"pip install 'agentstore-postgres\[static\]'"):
        StaticEmbedder()
    with pytest.raises(NotConfigured, match=r"AGENTSTORE_EMBEDDING_URL, or run .*\[static\]"):
        _STORES[store](strategy="hybrid")
    with pytest.raises(NotConfigured, match=r"AGENTSTORE_EMBEDDING_URL, or run .*\[static\]"):
        await _STORES[store]().search("alice", "x", {"strategy": "hybrid"})


@pytest.mark.parametrize("store", _STORES)
async def test_a_search_by_vectors_needs_another_embedder(store: str) -> None:
    several: list[dict[str, Any]] = [{}, {"embedder": StaticEmbedder()}]
    for options in several:
        with pytest.raises(NotConfigured, match="A static embedder is for hybrid searches alone"):
            _STORES[store](strategy="vector", **options)
        with pytest.raises(NotConfigured, match="AGENTSTORE_EMBEDDING_URL"):
            await _STORES[store](**options).search("alice", "x", {"strategy": "vector"})
        with pytest.raises(NotConfigured, match="embedder"):
            await _STORES[store](**options).embed()


async def test_another_embedder_is_used_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wordllama", None)
    store = AgentStore.in_memory(embedder=WordEmbedder())
    await store.memory.add_memory("alice", text("a kitten"))
    assert len(await store.memory.search("alice", "cat", {"strategy": "hybrid"})) == 1


@pytest.mark.parametrize("fault", ["no files", "other dimensions", "other tokens", "truncated", "not JSON"])
def test_files_of_another_release_are_refused(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = json.dumps({"embedding.weight": {"shape": [1, 3 if fault == "other dimensions" else 256]}}).encode()
    values = bytes(2 * (3 if fault == "other dimensions" else 100 if fault == "truncated" else 256))
    vocabulary = {"a": 0, "b": 1} if fault == "other tokens" else {"a": 0}
    tokens = "{" if fault == "not JSON" else json.dumps({"model": {"vocab": vocabulary}})
    if fault != "no files":
        (tmp_path / "weights").mkdir()
        weights = struct.pack("<Q", len(header)) + header + values
        (tmp_path / "weights" / "l2_supercat_256.safetensors").write_bytes(weights)
        (tmp_path / "tokenizers").mkdir()
        (tmp_path / "tokenizers" / "l2_supercat_tokenizer_config.json").write_text(tokens)
    monkeypatch.setattr(static_embedding, "_find", lambda: tmp_path)
    with pytest.raises(NotConfigured, match="not those of a supported release of wordllama"):
        static_embedding._load.__wrapped__()
