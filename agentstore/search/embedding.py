"""Embedders for an OpenAI-compatible API, a local model and any function, and the checks of their vectors."""

import asyncio
import inspect
import json
import logging
import math
from array import array
from collections.abc import Awaitable, Callable, Sequence
from operator import mul
from typing import Any, Generic, Self, TypeVar

from pydantic import SecretStr

from agentstore.errors import EmbeddingFailed, NotConfigured
from agentstore.http_client import TRANSIENT_STATUSES, HttpClient, RequestFailed, strip_key
from agentstore.schemas import Embedder, QuestionEmbedder
from agentstore.search.local_model import LocalModel
from agentstore.settings import Settings

_log = logging.getLogger(__name__)
T = TypeVar("T")

# 409: a lock of the server timed out. 500: these APIs have no permanent errors with that status.
_RETRIED = TRANSIENT_STATUSES | {409, 500}
# The maximum size of an embedder's name in bytes.
_MAX_NAME = 200
# After this many consecutive rejected texts, the fault is the embedder's and not the texts'.
_MAX_REJECTIONS = 5

Vectors = Sequence[Sequence[float]]
EmbedFunction = Callable[[list[str]], Vectors | Awaitable[Vectors]]


class OpenAIEmbedder:
    """An embedder that uses an OpenAI-compatible API: OpenAI, vLLM, Ollama, TEI, LM Studio or a gateway.

    It holds connections: use it as an async context manager, or close it in each event loop in which it was used.
    :mod:`agentstore.http_client` says what is retried.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        dimensions: int,
        api_key: str | SecretStr | None = None,
        name: str | None = None,
        send_dimensions: bool = False,
        question_prefix: str = "",
        prefix: str = "",
        batch: int = 128,
        max_characters: int = 6_000,
        timeout: float = 30.0,
        attempts: int = 4,
    ) -> None:
        """Create an embedder; connections are opened by the first call.

        Args:
            base_url: the URL of the API, to which ``/embeddings`` is appended. It may have a user and a password
                instead of an `api_key`.
            model: the name of the model.
            dimensions: the number of dimensions of the model's vectors.
            api_key: sent as a bearer token.
            name: the name under which vectors are stored; the model's name and `dimensions` by default.
            send_dimensions: request vectors of that size, which not every model supports.
            question_prefix: prepended to queries, as some models require ("query: ").
            prefix: prepended to stored texts.
            batch: the maximum number of texts in one request.
            max_characters: the length to which texts are truncated, since APIs reject texts that are too long.
            timeout: seconds for each attempt, until the response is complete.
            attempts: the maximum number of attempts for each request.

        Raises:
            NotConfigured: httpx is not installed, or an argument is not valid.
        """
        if min(dimensions, batch, max_characters, attempts) < 1:
            raise NotConfigured(
                f"dimensions, batch, max_characters and attempts must be at least 1, got {dimensions}, {batch}, "
                f"{max_characters} and {attempts}"
            )
        self._client = HttpClient(
            base_url, strip_key(api_key), what="the embedding API", settings="AGENTSTORE_EMBEDDING"
        )
        self.name = name or f"{model}:{dimensions}"
        self.dimensions = dimensions
        self._model = model
        self._parameters = {"dimensions": dimensions} if send_dimensions else {}
        self._prefix, self._question_prefix = prefix, question_prefix
        self._batch, self._max_characters = batch, max_characters
        self._timeout, self._attempts = timeout, attempts

    def __repr__(self) -> str:
        return f"OpenAIEmbedder({self._client.url!r}, {self.name!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections of the running event loop; the next call opens new ones."""
        await self._client.close()

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return a vector for each text, with one request for each batch, one after another.

        Raises:
            EmbeddingFailed: the API could not be reached, returned an error, or its response is not valid.
        """
        found: list[list[float]] = []
        for start in range(0, len(texts), self._batch):
            found += await self._request([self._prefix + text for text in texts[start : start + self._batch]])
        return found

    async def embed_question(self, text: str) -> list[float]:
        """Return the vector of a query. Raises as :meth:`embed` does."""
        (found,) = await self._request([self._question_prefix + text])
        return found

    async def _request(self, texts: list[str]) -> list[list[float]]:
        """Send a request, with retries."""
        truncated = [text[: self._max_characters] for text in texts]
        request = {"model": self._model, "input": truncated, "encoding_format": "float", **self._parameters}
        body = json.dumps(request, ensure_ascii=False).encode(errors="replace")  # lone surrogates
        # Four times the expected numbers, so that an error can report the dimensions of another model's vectors. Each
        # has at most 32 bytes, with white space. Some servers repeat the texts, perhaps with escapes.
        max_values = 1_000 + len(texts) * (1_000 + 4 * self.dimensions)
        try:
            response = await self._client.post(
                "/embeddings",
                body,
                timeout=self._timeout,
                max_bytes=32 * max_values + 6 * len(body),
                max_values=max_values,
                attempts=self._attempts,
                retried=_RETRIED,
            )
        except RequestFailed as error:
            raise EmbeddingFailed(str(error)) from error.__cause__
        try:
            data = response["data"]
            found = {each.get("index", place): each["embedding"] for place, each in enumerate(data)}
            return [found[place] for place in range(len(texts))] if len(data) == len(texts) else list(found.values())
        except (LookupError, TypeError, AttributeError):
            excerpt = self._client.excerpt(response)
            raise EmbeddingFailed(f"{self._client.url} returned no embeddings: {excerpt}") from None


class SentenceTransformerEmbedder:
    """A local model of sentence-transformers. It runs in a thread, and is loaded by the first call."""

    def __init__(
        self,
        model_or_path: str,
        *,
        dimensions: int,
        name: str | None = None,
        batch: int = 32,
        question_prompt: str | None = None,
        **options: Any,
    ) -> None:
        """Create an embedder.

        Args:
            model_or_path: the name or the path of the model.
            dimensions: the number of dimensions of the model's vectors.
            name: the name under which vectors are stored; the model's name by default.
            batch: the number of texts in one batch of the model.
            question_prompt: the name of the model's prompt for queries, if it has one.
            options: arguments of SentenceTransformer: ``device``, ``backend="onnx"``, ``revision``, ...

        Raises:
            NotConfigured: sentence-transformers is not installed.
        """
        self._model = LocalModel("SentenceTransformer", model_or_path, options)
        self.name = name or model_or_path.rstrip("/").rpartition("/")[2]
        self.dimensions = dimensions
        self._batch, self._question_prompt = batch, question_prompt

    def __repr__(self) -> str:
        return f"SentenceTransformerEmbedder({self._model.path!r})"

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return a vector for each text.

        Raises:
            EmbeddingFailed: the model could not be loaded or failed.
        """
        return await self._run(list(texts), None)

    async def embed_question(self, text: str) -> list[float]:
        """Return the vector of a query. Raises as :meth:`embed` does."""
        (found,) = await self._run([text], self._question_prompt)
        return found

    async def _run(self, texts: list[str], prompt: str | None) -> list[list[float]]:
        def encode(model: Any) -> list[list[float]]:
            vectors: list[list[float]] = model.encode(
                texts, batch_size=self._batch, prompt_name=prompt, show_progress_bar=False
            ).tolist()
            return vectors

        return await self._model.run(encode, EmbeddingFailed)


class CallableEmbedder:
    """An embedder that calls a function with a list of texts. A synchronous function runs in a thread."""

    def __init__(
        self,
        function: EmbedFunction,
        *,
        name: str,
        dimensions: int,
        question: EmbedFunction | None = None,
        errors: tuple[type[Exception], ...] = (Exception,),
    ) -> None:
        """Create an embedder.

        Args:
            function: returns a vector for each text of a list; synchronous or async.
            name: the name under which vectors are stored.
            dimensions: the number of dimensions of the vectors.
            question: like `function`, for queries; `function` by default.
            errors: the exceptions of the functions that are raised as EmbeddingFailed; others propagate unchanged.
        """
        self.name = name
        self.dimensions = dimensions
        self._function, self._question, self._errors = function, question or function, errors

    def __repr__(self) -> str:
        return f"CallableEmbedder({self.name!r})"

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return a vector for each text.

        Raises:
            EmbeddingFailed: the function failed.
        """
        return await self._call(self._function, list(texts))

    async def embed_question(self, text: str) -> list[float]:
        """Return the vector of a query. Raises as :meth:`embed` does."""
        found = await self._call(self._question, [text])
        if len(found) != 1:
            raise EmbeddingFailed(f"embedder {self.name!r} returned {len(found)} vectors for 1 text")
        return found[0]

    async def _call(self, function: EmbedFunction, texts: list[str]) -> list[list[float]]:
        try:
            given: Any
            if any(map(inspect.iscoroutinefunction, (function, type(function).__call__))):
                given = function(texts)
            else:
                given = await asyncio.to_thread(function, texts)
            found = await given if inspect.isawaitable(given) else given
            # As lists of floats, since a function may return a numpy array.
            return [[float(number) for number in vector] for vector in found]
        except self._errors as error:
            raise EmbeddingFailed(f"embedder {self.name!r} failed: {type(error).__name__}: {error}") from error


def configured(settings: Settings) -> OpenAIEmbedder | None:
    """Return the embedder configured by AGENTSTORE_EMBEDDING_*, or None if AGENTSTORE_EMBEDDING_URL is not set.

    Raises:
        NotConfigured: the model or its dimensions are not set.
    """
    if settings.embedding_url is None:
        return None
    if settings.embedding_model is None or settings.embedding_dimensions is None:
        raise NotConfigured(
            "AGENTSTORE_EMBEDDING_URL is set: set AGENTSTORE_EMBEDDING_MODEL and AGENTSTORE_EMBEDDING_DIMENSIONS, too."
        )
    return OpenAIEmbedder(
        settings.embedding_url,
        settings.embedding_model,
        dimensions=settings.embedding_dimensions,
        api_key=settings.embedding_api_key,
    )


def check_embedder(embedder: Embedder) -> Embedder:
    """Return `embedder` if it is a valid embedder.

    Raises:
        NotConfigured: it lacks a member, or its name or its dimensions cannot be stored.
    """
    if not isinstance(embedder, Embedder):
        raise NotConfigured(
            f"an embedder must have name, dimensions and embed(texts), which {type(embedder).__name__} lacks"
        )
    name, dimensions = embedder.name, embedder.dimensions
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name.encode()) <= _MAX_NAME:
        raise NotConfigured(
            f"an embedder's name must be printable text of 1 to {_MAX_NAME} bytes, got {repr(name)[:80]}"
        )
    if isinstance(dimensions, bool) or not isinstance(dimensions, int) or not 0 < dimensions <= 16_000:
        raise NotConfigured(f"an embedder's dimensions must be a number from 1 to 16,000, got {repr(dimensions)[:80]}")
    return embedder


async def embed_texts(embedder: Embedder, texts: Sequence[str]) -> "list[array[float]]":
    """Return the vectors of texts in single precision, in which they are stored.

    Raises:
        EmbeddingFailed: the embedder failed, or returned vectors of the wrong number or size.
    """
    if not texts:
        return []
    return _checked(embedder, await embedder.embed([without_surrogates(text) for text in texts]), len(texts))


class SkippingEmbedder(Generic[T]):
    """Embeds batches of memories: one by one where the embedder rejects a batch, so that others are still embedded.

    Attributes:
        count: how many vectors were added.
    """

    def __init__(self, add: Callable[[Sequence[T]], Awaitable[int]], describe: Callable[[T], str]) -> None:
        """`add` adds the vectors of memories, and returns their number; `describe` names a memory for a warning."""
        self.count = 0
        self._add = add
        self._describe = describe
        self._consecutive = 0
        self._rejection: EmbeddingFailed | None = None

    async def run(self, batch: Sequence[T]) -> None:
        """Add the vectors of a batch, except for texts that the embedder rejects.

        Raises:
            EmbeddingFailed: it has rejected several texts in a row: the fault is its own.
        """
        try:
            self.count += await self._add(batch)
        except EmbeddingFailed:
            for each in batch:
                try:
                    self.count += await self._add([each])
                    self._consecutive = 0
                except EmbeddingFailed as error:
                    self._rejection, self._consecutive = error, self._consecutive + 1
                    _log.warning("%s was not embedded: %s", self._describe(each), error)
                    if self._consecutive == _MAX_REJECTIONS:
                        raise

    def finish(self) -> int:
        """Return how many vectors were added.

        Raises:
            EmbeddingFailed: none was, since the embedder has rejected all texts.
        """
        if self._rejection is not None and not self.count:
            raise self._rejection
        return self.count


async def embed_question(embedder: Embedder, text: str) -> "array[float]":
    """Return the vector of a query. Raises as :func:`embed_texts` does."""
    if isinstance(embedder, QuestionEmbedder):
        return _checked(embedder, [await embedder.embed_question(without_surrogates(text))], 1)[0]
    return (await embed_texts(embedder, [text]))[0]


def without_surrogates(text: str) -> str:
    """Replace lone surrogates, which have no meaning and cannot be encoded in UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _checked(embedder: Embedder, vectors: Vectors, count: int) -> "list[array[float]]":
    if len(vectors) != count:
        raise EmbeddingFailed(f"embedder {embedder.name!r} returned {len(vectors)} vectors for {count} texts")
    checked = []
    for vector in vectors:
        try:
            single = array("f", vector)
        except (TypeError, OverflowError) as error:
            raise EmbeddingFailed(f"embedder {embedder.name!r} returned an invalid vector: {error}") from error
        if len(single) != embedder.dimensions:
            raise EmbeddingFailed(
                f"embedder {embedder.name!r} returned a vector of {len(single)} dimensions instead of the "
                f"{embedder.dimensions} that it declares"
            )
        if not all(map(math.isfinite, single)):
            raise EmbeddingFailed(f"embedder {embedder.name!r} returned a number that is not finite")
        checked.append(single)
    return checked


def to_pgvector(vector: "array[float]") -> str:
    """Return the text representation of a vector in pgvector, which round-trips unchanged."""
    return f"[{','.join(map(repr, vector))}]"


def similarity(one: "array[float]", other: "array[float]") -> float:
    """Return the cosine similarity of two vectors as Postgres computes it: 0 if one is all zeros."""
    length = math.sqrt(_product(one, one) * _product(other, other))
    return _product(one, other) / length if length else 0.0


def _product(one: "array[float]", other: "array[float]") -> float:
    return float(sum(map(mul, one, other)))
