"""The strategies of a search, and the protocols of embedders and rerankers."""

from abc import abstractmethod
from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol, runtime_checkable


class SearchStrategy(StrEnum):
    """A search strategy: match the words of the query (FULL_TEXT), its meaning (VECTOR), or both (HYBRID)."""

    FULL_TEXT = "full_text"
    VECTOR = "vector"
    HYBRID = "hybrid"


@runtime_checkable
class Embedder(Protocol):
    """Computes vectors of texts, such that texts of similar meaning have vectors of similar direction.

    ``agentstore.search.embedding`` has three implementations; any object with these members is an embedder.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """The name under which its vectors are stored. Use another name for another model or other model options."""

    @property
    @abstractmethod
    def dimensions(self) -> int:
        """The number of dimensions of its vectors."""

    @abstractmethod
    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return a vector for each text, in order. It is called with at least one text, and with any number.

        Raises:
            EmbeddingFailed: the texts could not be embedded.
        """


@runtime_checkable
class QuestionEmbedder(Embedder, Protocol):
    """An embedder that embeds queries in a different way than stored texts."""

    @abstractmethod
    async def embed_question(self, text: str) -> list[float]:
        """Return the vector of a query.

        Raises:
            EmbeddingFailed: see :meth:`embed`.
        """


@runtime_checkable
class Reranker(Protocol):
    """Scores the best memories of a search again, by reading each together with the query.

    ``agentstore.search.reranking`` has two implementations; any object with this method is a reranker.
    """

    @abstractmethod
    async def rerank(self, question: str, texts: Sequence[str]) -> Sequence[float]:
        """Return a score for each text, in order: the higher, the better it answers the question.

        It is called with at least one text, and canceled after ``reranker_timeout``.

        Raises:
            RerankingFailed: the texts could not be scored. The search then returns its hits in the order without it.
        """
