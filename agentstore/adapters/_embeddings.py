"""What other packages embed with, as an Embedder."""

import asyncio
from collections.abc import Sequence
from typing import Any

from agentstore.errors import EmbeddingFailed, NotConfigured
from agentstore.schemas import Embedder


def as_embedder(model: Any, dimensions: int) -> Embedder:
    """Return an embedder as it is, and a model with ``embed_documents`` and ``embed_query`` as one.

    Raises:
        NotConfigured: it is neither.
    """
    if isinstance(model, Embedder):
        return model
    if not callable(getattr(model, "embed_documents", None)) or not callable(getattr(model, "embed_query", None)):
        raise NotConfigured(f"an embedding model has embed_documents and embed_query; {type(model).__name__} has not")
    return _Embeddings(model, dimensions)


class _Embeddings:
    """A model's vectors, from its async calls, or from the others in another thread where it has none."""

    def __init__(self, model: Any, dimensions: int) -> None:
        self._model = model
        self.dimensions = dimensions
        self.name = (
            f"{type(model).__name__}:{getattr(model, 'model', None) or getattr(model, 'model_name', None) or ''}"
        )

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return a vector for each text."""
        made: list[list[float]] = await self._call("embed_documents", list(texts))
        return made

    async def embed_question(self, text: str) -> list[float]:
        """Return the vector of what is looked for."""
        made: list[float] = await self._call("embed_query", text)
        return made

    async def _call(self, name: str, argument: Any) -> Any:
        waits: Any = getattr(self._model, f"a{name}", None)
        try:
            if waits is not None:
                return await waits(argument)
            return await asyncio.to_thread(getattr(self._model, name), argument)
        except Exception as error:
            raise EmbeddingFailed(f"{self.name} failed: {error}") from error
