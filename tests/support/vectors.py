"""A database with vectors, and an embedder that needs no model."""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from functools import wraps
from hashlib import blake2b
from typing import Any

import asyncpg
import pytest

from agentstore import EmbeddingFailed, NotConfigured
from agentstore.testing import text

_AVAILABLE = "SELECT count(*) FROM pg_available_extensions WHERE name = 'vector'"


def is_available(url: str) -> bool:
    """Whether the server of a URL has pgvector. A Postgres from a distribution has it in a package of its own."""

    async def ask() -> bool:
        connection = await asyncpg.connect(url)
        try:
            return bool(await connection.fetchval(_AVAILABLE))
        finally:
            await connection.close()

    return asyncio.run(ask())


_SYNONYMS = {"kitten": "cat", "tomcat": "cat", "feline": "cat", "lorry": "truck"}


class WordEmbedder:
    """The vectors of all words of a text, added up: near where words are shared, or mean the same."""

    def __init__(self, name: str = "words", dimensions: int = 32) -> None:
        self.name, self.dimensions = name, dimensions
        self.fails = False
        self.refuses: set[str] = set()
        self.calls: list[list[str]] = []

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        await asyncio.sleep(0)
        self.calls.append(list(texts))
        if self.fails or self.refuses & set(texts):
            raise EmbeddingFailed("the embedder is down")
        return [self._vector(text) for text in texts]

    async def close(self) -> None:
        """There is nothing to close."""

    def _vector(self, text: str) -> list[float]:
        words = [_SYNONYMS.get(word, word) for word in map(_plain, text.lower().split())]
        found = [0.0] * self.dimensions
        for word in filter(None, words):
            rng = random.Random(blake2b(word.encode()).digest())
            found = [sum(pair) for pair in zip(found, (rng.gauss() for _ in found), strict=True)]
        length = math.sqrt(sum(number * number for number in found))
        return [number / length for number in found] if length else found


def _plain(word: str) -> str:
    return word.strip("?!.,:")


def by_meaning(test: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """A test that needs pgvector, and takes ``has_pgvector`` and ``vectors``.

    Where the server has none it is another test: that full text works, and that a search by meaning says what to do.
    """

    @wraps(test)
    async def either(**given: Any) -> None:
        if given["has_pgvector"]:
            await test(**given)
            return
        memory = given["vectors"].memory
        await memory.add_memory("alice", text("apples"), "s")
        assert len(await memory.search("alice", "apples")) == 1
        with pytest.raises(NotConfigured, match="vector enable"):
            await memory.search("alice", "apples", {"strategy": "vector"})

    return either
