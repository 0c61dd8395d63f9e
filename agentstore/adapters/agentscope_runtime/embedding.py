"""Use the runtime's embedding models as an Embedder."""

from typing import Any

from agentstore.errors import NotConfigured
from agentstore.schemas import Embedder
from agentstore.search.embedding import CallableEmbedder


def as_embedder(model: Any, dimensions: int) -> Embedder:
    """Return an Embedder unchanged, and wrap a model with ``embed_documents`` and ``embed_query``.

    Its ``aembed_documents`` and ``aembed_query`` are used if it has them.

    Raises:
        NotConfigured: `model` is neither.
    """
    if isinstance(model, Embedder):
        return model
    if not callable(getattr(model, "embed_documents", None)) or not callable(getattr(model, "embed_query", None)):
        raise NotConfigured(
            f"embedding_model must have the methods embed_documents and embed_query, which {type(model).__name__} lacks"
        )

    def embed_queries(texts: list[str]) -> list[list[float]]:
        return [model.embed_query(text) for text in texts]

    async def aembed_queries(texts: list[str]) -> list[list[float]]:
        return [await model.aembed_query(text) for text in texts]

    return CallableEmbedder(
        getattr(model, "aembed_documents", None) or model.embed_documents,
        name=f"{type(model).__name__}:{getattr(model, 'model', None) or getattr(model, 'model_name', None) or ''}",
        dimensions=dimensions,
        question=embed_queries if getattr(model, "aembed_query", None) is None else aembed_queries,
    )
