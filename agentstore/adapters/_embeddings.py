"""What other packages embed with, as an Embedder."""

from typing import Any

from agentstore.errors import NotConfigured
from agentstore.schemas import Embedder
from agentstore.search.embedding import CallableEmbedder


def as_embedder(model: Any, dimensions: int) -> Embedder:
    """Return an embedder as it is, and a model with ``embed_documents`` and ``embed_query`` as one.

    Its async calls are used where it has them.

    Raises:
        NotConfigured: it is neither.
    """
    if isinstance(model, Embedder):
        return model
    if not callable(getattr(model, "embed_documents", None)) or not callable(getattr(model, "embed_query", None)):
        raise NotConfigured(f"an embedding model has embed_documents and embed_query; {type(model).__name__} has not")

    def ask(texts: list[str]) -> list[list[float]]:
        return [model.embed_query(text) for text in texts]

    async def ask_async(texts: list[str]) -> list[list[float]]:
        return [await model.aembed_query(text) for text in texts]

    return CallableEmbedder(
        getattr(model, "aembed_documents", None) or model.embed_documents,
        name=f"{type(model).__name__}:{getattr(model, 'model', None) or getattr(model, 'model_name', None) or ''}",
        dimensions=dimensions,
        question=ask if getattr(model, "aembed_query", None) is None else ask_async,
    )
