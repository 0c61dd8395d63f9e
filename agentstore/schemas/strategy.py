"""How memories are searched, and what makes vectors of their texts."""

from abc import abstractmethod
from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol, runtime_checkable


class SearchStrategy(StrEnum):
    """By what a search finds: the words of the question, its meaning, or both."""

    FULL_TEXT = "full_text"
    VECTOR = "vector"
    HYBRID = "hybrid"


@runtime_checkable
class Embedder(Protocol):
    """What makes a vector of a text, so that texts of like meaning have vectors of like direction.

    ``agentstore.search.embedding`` has three; anything with these members is one.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """What its vectors are kept under. Another model, or another way to use it, has another name."""

    @property
    @abstractmethod
    def dimensions(self) -> int:
        """How many numbers each of its vectors has."""

    @abstractmethod
    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return a vector for each text, in their order. It may be called with any number of them, not of none.

        Raises:
            EmbeddingFailed: there are none now.
        """


@runtime_checkable
class QuestionEmbedder(Embedder, Protocol):
    """An embedder that embeds what is looked for in another way than what is found."""

    @abstractmethod
    async def embed_question(self, text: str) -> list[float]:
        """Return the vector of a question. Raises as :meth:`embed` does."""
