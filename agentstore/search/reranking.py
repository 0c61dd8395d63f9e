"""Rerankers for an HTTP API and a local cross-encoder, and the order of the hits of a search.

A search with a reranker finds the best ``reranker_candidates`` memories, or `top_k` if that is more, and the reranker
scores the texts of the best ``reranker_candidates``. They are ordered by that score; memories without text, and those
beyond that number, follow in their order. If the reranker fails, or takes longer than ``reranker_timeout``, the order
is that without a reranker.
"""

import asyncio
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

from pydantic import SecretStr

from agentstore.errors import NotConfigured, RerankingFailed
from agentstore.http_client import TRANSIENT_STATUSES, HttpClient, RequestFailed, strip_key
from agentstore.schemas import MemoryHit, Reranker
from agentstore.schemas.memory import embedded_text
from agentstore.schemas.memory_filters import CheckedSearch
from agentstore.search import static_embedding
from agentstore.search.embedding import without_surrogates
from agentstore.search.local_model import LocalModel
from agentstore.search.static_embedding import StaticEmbedder
from agentstore.settings import Settings

_log = logging.getLogger(__name__)

# 409, 500: see agentstore.search.embedding.
_RETRIED = TRANSIENT_STATUSES | {409, 500}
# The maximum number of texts in one request: what a server of TEI accepts by default, and what other APIs accept.
_BATCH_WITHOUT_MODEL, _BATCH = 32, 1_000


class HttpReranker:
    """A reranker that uses an API with ``/rerank``, as of Cohere, Jina, vLLM, llama.cpp, LiteLLM or TEI.

    It holds connections: use it as an async context manager, or close it in each event loop in which it was used.
    :mod:`agentstore.http_client` says what is retried.
    """

    def __init__(
        self,
        base_url: str,
        model: str | None = None,
        *,
        api_key: str | SecretStr | None = None,
        batch: int | None = None,
        max_characters: int = 4_000,
        timeout: float = 30.0,
        attempts: int = 2,
    ) -> None:
        """Create a reranker; connections are opened by the first call.

        Args:
            base_url: the URL of the API, to which ``/rerank`` is appended. It may have a user and a password instead of
                an `api_key`.
            model: the name of the model. With it, a request has the fields ``model``, ``query``, ``documents`` and
                ``top_n``; without it ``query``, ``texts`` and ``truncate``, as a server of TEI with its single model
                expects.
            api_key: sent as a bearer token.
            batch: the maximum number of texts in one request; 1,000 by default, 32 without a model.
            max_characters: the length to which texts are truncated, since APIs reject or charge for longer ones.
            timeout: seconds for each attempt, until the response is complete. A search waits no longer than
                ``reranker_timeout`` for all requests.
            attempts: the maximum number of attempts for each request.

        Raises:
            NotConfigured: httpx is not installed, or an argument is not valid.
        """
        self._batch = batch if batch is not None else _BATCH if model else _BATCH_WITHOUT_MODEL
        if min(self._batch, max_characters, attempts) < 1:
            raise NotConfigured(
                "batch, max_characters and attempts must be at least 1, got "
                f"{self._batch}, {max_characters} and {attempts}"
            )
        self._client = HttpClient(base_url, strip_key(api_key), what="the reranker", settings="AGENTSTORE_RERANKER")
        self._model = model or None
        self._max_characters, self._timeout, self._attempts = max_characters, timeout, attempts

    def __repr__(self) -> str:
        return f"HttpReranker({self._client.url!r}, {self._model!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections of the running event loop; the next call opens new ones."""
        await self._client.close()

    async def rerank(self, question: str, texts: Sequence[str]) -> list[float]:
        """Return a score for each text, with one request for each batch, one after another.

        Raises:
            RerankingFailed: the API could not be reached, returned an error, or its response is not valid.
        """
        found: list[float] = []
        for start in range(0, len(texts), self._batch):
            found += await self._request(question, texts[start : start + self._batch])
        return found

    async def _request(self, question: str, texts: Sequence[str]) -> list[float]:
        truncated = [text[: self._max_characters] for text in texts]
        request: dict[str, Any] = {"query": question[: self._max_characters]}
        if self._model is None:
            request |= {"texts": truncated, "truncate": True}
        else:
            request |= {"model": self._model, "documents": truncated, "top_n": len(truncated)}
        body = json.dumps(request, ensure_ascii=False).encode(errors="replace")  # lone surrogates
        try:
            response = await self._client.post(
                "/rerank",
                body,
                timeout=self._timeout,
                # Some servers repeat the texts, perhaps with escapes.
                max_bytes=100_000 + 1_000 * len(texts) + 6 * len(body),
                max_values=1_000 + 100 * len(texts),
                attempts=self._attempts,
                retried=_RETRIED,
            )
        except RequestFailed as error:
            raise RerankingFailed(str(error)) from error.__cause__
        return self._scores(response, len(texts))

    def _scores(self, response: Any, count: int) -> list[float]:
        """Return the scores of a response, in the order of the texts."""
        found: dict[int, float] = {}
        try:
            results = response if isinstance(response, list) else response["results"]
            for each in results:
                found[each["index"]] = float(each["relevance_score"] if "relevance_score" in each else each["score"])
            if len(results) == count:
                return [found[index] for index in range(count)]
        except (LookupError, TypeError, ValueError, OverflowError):
            excerpt = self._client.excerpt(response)
            raise RerankingFailed(f"{self._client.url} returned no scores of {count} texts: {excerpt}") from None
        raise RerankingFailed(f"{self._client.url} returned {len(results)} scores for {count} texts")


class CrossEncoderReranker:
    """A local cross-encoder of sentence-transformers. It runs in a thread, and is loaded by the first call."""

    def __init__(self, model_or_path: str, *, batch: int = 32, max_characters: int = 4_000, **options: Any) -> None:
        """Create a reranker.

        Args:
            model_or_path: the name or the path of the model, which has to return one score for a pair of texts.
            batch: the number of texts in one batch of the model.
            max_characters: the length to which texts are truncated before the model truncates them.
            options: arguments of CrossEncoder: ``device``, ``max_length``, ``backend="onnx"``, ``revision``, ...

        Raises:
            NotConfigured: sentence-transformers is not installed.
        """
        self._model = LocalModel("CrossEncoder", model_or_path, options)
        self._batch, self._max_characters = batch, max_characters

    def __repr__(self) -> str:
        return f"CrossEncoderReranker({self._model.path!r})"

    async def rerank(self, question: str, texts: Sequence[str]) -> list[float]:
        """Return a score for each text.

        If the caller is canceled, as by ``reranker_timeout``, the thread continues to the end of the call.

        Raises:
            RerankingFailed: the model could not be loaded or failed, or returns several scores for a pair.
        """
        pairs = [(question[: self._max_characters], text[: self._max_characters]) for text in texts]

        def predict(model: Any) -> list[float]:
            found = model.predict(pairs, batch_size=self._batch, show_progress_bar=False)
            return [float(each) for each in found]

        return await self._model.run(predict, RerankingFailed)


def configured_reranker(settings: Settings) -> HttpReranker | None:
    """Return the reranker configured by AGENTSTORE_RERANKER_*, or None if AGENTSTORE_RERANKER_URL is not set."""
    if settings.reranker_url is None:
        return None
    return HttpReranker(settings.reranker_url, settings.reranker_model, api_key=settings.reranker_api_key)


def check_reranker(reranker: Reranker) -> Reranker:
    """Return `reranker` if it is one.

    Raises:
        NotConfigured: it has no method ``rerank``.
    """
    if not isinstance(reranker, Reranker):
        raise NotConfigured(f"a reranker must have rerank(question, texts), which {type(reranker).__name__} lacks")
    return reranker


def candidates(
    filters: CheckedSearch, reranker: Reranker | None, static: StaticEmbedder | None, settings: Settings
) -> int:
    """Return the number of best memories that a search has to find for :func:`select`."""
    reranked = 0 if reranker is None else settings.reranker_candidates
    return max(filters.top_k, reranked, 0 if static is None else static_embedding.CANDIDATES)


async def score(reranker: Reranker, question: str, texts: Sequence[str], *, timeout: float) -> list[float]:
    """Return the scores of texts.

    Raises:
        RerankingFailed: the reranker failed, did not return within `timeout` seconds, or returned invalid scores.
    """
    try:
        async with asyncio.timeout(timeout):
            found = await reranker.rerank(without_surrogates(question), [without_surrogates(each) for each in texts])
    except TimeoutError as error:
        raise RerankingFailed(f"the reranker returned no scores within {timeout:g} s") from error
    try:
        scores = [float(each) for each in found]
    except (TypeError, ValueError, OverflowError) as error:
        raise RerankingFailed(f"the reranker returned invalid scores: {error}") from error
    if len(scores) != len(texts):
        raise RerankingFailed(f"the reranker returned {len(scores)} scores for {len(texts)} texts")
    if not all(map(math.isfinite, scores)):
        raise RerankingFailed("the reranker returned a score that is not finite")
    return scores


async def select(
    hits: list[MemoryHit],
    question: str,
    filters: CheckedSearch,
    settings: Settings,
    *,
    reranker: Reranker | None,
    static: StaticEmbedder | None,
    priors: Sequence[float],
) -> list[MemoryHit]:
    """Return the hits of a search, in its order: the best `top_k` of the candidates, which are given best first.

    With a `static` embedder, the candidates are those of a search by words, without the filter ``min_score``, and
    `priors` their factors for role and form.
    """
    if static is not None:
        hits = await asyncio.to_thread(
            static_embedding.rescore, hits, priors, question, static, settings, neighbors=filters.neighbors
        )
        hits = [hit for hit in hits if hit.score >= filters.min_score]
    is_chronological = filters.order == "chronological"
    # The order by score matters only if it is returned, or decides what is.
    if reranker is not None and not (is_chronological and len(hits) <= filters.top_k):
        hits = await _rerank(hits, question, reranker, settings)
    hits = hits[: filters.top_k]
    if is_chronological:
        hits.sort(key=lambda hit: (hit.time, hit.session_id, hit.position))
    return hits


async def _rerank(hits: list[MemoryHit], question: str, reranker: Reranker, settings: Settings) -> list[MemoryHit]:
    texts = [embedded_text(hit.message, settings) for hit in hits[: settings.reranker_candidates]]
    scored = [place for place, text in enumerate(texts) if text]
    if not scored:
        return hits
    try:
        scores = await score(reranker, question, [texts[place] for place in scored], timeout=settings.reranker_timeout)
    except RerankingFailed as error:
        _log.warning("Search results are not reranked: %s", error)
        return hits
    by_place = dict(zip(scored, scores, strict=True))
    reranked = [replace(hits[place], rerank_score=score) for place, score in by_place.items()]
    reranked.sort(key=lambda hit: -(hit.rerank_score or 0.0))
    return reranked + [hit for place, hit in enumerate(hits) if place not in by_place]
