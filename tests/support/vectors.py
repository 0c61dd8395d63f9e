"""An embedder that needs no model, and tests that need pgvector."""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache, wraps
from hashlib import blake2b
from operator import add
from typing import Any

import asyncpg
import pytest

from agentstore import EmbeddingFailed, NotConfigured
from agentstore.testing import text

_AVAILABLE = "SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'"


def is_available(url: str) -> bool:
    """Return whether pgvector is installed on the server of a URL; distributions ship it in a separate package."""

    async def count() -> bool:
        connection = await asyncpg.connect(url)
        try:
            return bool(await connection.fetchval(_AVAILABLE))
        finally:
            await connection.close()

    return asyncio.run(count())


_SYNONYMS = {"kitten": "cat", "tomcat": "cat", "feline": "cat", "lorry": "truck"}


class WordEmbedder:
    """An embedder whose vectors are the sums of the words' vectors: near for texts with the same words or synonyms."""

    def __init__(self, name: str = "words", dimensions: int = 32) -> None:
        self.name, self.dimensions = name, dimensions
        self.fails = False
        self.rejects: set[str] = set()
        self.calls: list[list[str]] = []

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        await asyncio.sleep(0)
        self.calls.append(list(texts))
        if self.fails or self.rejects & set(texts):
            raise EmbeddingFailed("the embedder is down")
        return [self._vector(text) for text in texts]

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def _vector(self, text: str) -> list[float]:
        words = [_SYNONYMS.get(word, word) for word in map(_plain, text.lower().split())]
        found = [0.0] * self.dimensions
        for word in filter(None, words):
            found = list(map(add, found, _vector_of(word, self.dimensions)))
        length = math.sqrt(sum(number * number for number in found))
        return [number / length for number in found] if length else found


@lru_cache(10_000)
def _vector_of(word: str, dimensions: int) -> tuple[float, ...]:
    rng = random.Random(blake2b(word.encode()).digest())
    return tuple(rng.gauss() for _ in range(dimensions))


def _plain(word: str) -> str:
    return word.strip("?!.,:")


def with_pgvector(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """Decorate a test that needs pgvector, and takes ``has_pgvector`` and ``vector_store``.

    On a server without pgvector, it tests instead that full-text search works, and that the error of a vector search
    names the command to run.
    """

    @wraps(test)
    async def run_test(**fixtures: Any) -> None:
        if fixtures["has_pgvector"]:
            await test(**fixtures)
            return
        memory = fixtures["vector_store"].memory
        await memory.add_memory("alice", text("apples"), "s")
        assert len(await memory.search("alice", "apples")) == 1
        with pytest.raises(NotConfigured, match="vector enable"):
            await memory.search("alice", "apples", {"strategy": "vector"})

    return run_test
