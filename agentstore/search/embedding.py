"""Embedders: an OpenAI-compatible API, a model on this machine, any function; and what is made of their vectors.

httpx and sentence-transformers are imported when an embedder that needs one is made: a store without needs neither.
"""

import asyncio
import importlib
import inspect
import logging
import math
import random
from array import array
from collections.abc import Awaitable, Callable, Sequence
from operator import mul
from typing import Any, Self

from pydantic import SecretStr

from agentstore.errors import EmbeddingFailed, NotConfigured
from agentstore.schemas import Embedder, QuestionEmbedder
from agentstore.settings import Settings

_log = logging.getLogger(__name__)

# Answers after which the same request may succeed.
_RETRY = {408, 409, 425, 429, 500, 502, 503, 504, 529}
# Seconds: at most before the second attempt, doubled with each one; and what an answer may ask for.
_WAIT = 0.25
_LONGEST_WAIT = 30.0
_LONGEST_NAME = 200

Vectors = Sequence[Sequence[float]]
EmbedFunction = Callable[[list[str]], Vectors | Awaitable[Vectors]]


class OpenAIEmbedder:
    """An embedder behind an API that speaks as OpenAI's does: theirs, vLLM, Ollama, TEI, LM Studio, a gateway.

    It holds connections: ``async with``, or close() when it is no longer needed. Of one event loop.
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
        """`base_url` is what ``/embeddings`` is added to. `name` is the model's by default, with `dimensions`.

        `send_dimensions` asks the model for vectors of that size, which not every one can give. `prefix` and
        `question_prefix` go before each text and before a question, as some models want it ("query: "). A text is cut
        after `max_characters`, since an API refuses a longer one than its model takes. `timeout` is in seconds, of
        one attempt.

        Raises:
            NotConfigured: httpx is not installed, or an argument is none.
        """
        self._httpx = _module("httpx", "http")
        if not base_url.startswith(("http://", "https://")):
            raise NotConfigured(f"{base_url!r} is no URL of an API: it begins with http:// or https://")
        if min(dimensions, batch, max_characters, attempts) < 1:
            raise NotConfigured("dimensions, batch, max_characters and attempts are at least 1")
        self.name = name or f"{model}:{dimensions}"
        self.dimensions = dimensions
        self._url = f"{base_url.rstrip('/')}/embeddings"
        self._model = model
        self._key = api_key if isinstance(api_key, SecretStr) or api_key is None else SecretStr(api_key)
        self._asked = {"dimensions": dimensions} if send_dimensions else {}
        self._prefix, self._question_prefix = prefix, question_prefix
        self._batch, self._most, self._timeout, self._attempts = batch, max_characters, timeout, attempts
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"OpenAIEmbedder({self._url!r}, {self.name!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; the next call opens others."""
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.aclose()

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return a vector for each text, by as many requests as its batches are, one after the other.

        Raises:
            EmbeddingFailed: the API could not be reached, refused, or answered something else.
        """
        found: list[list[float]] = []
        for start in range(0, len(texts), self._batch):
            found += await self._request([self._prefix + text for text in texts[start : start + self._batch]])
        return found

    async def embed_question(self, text: str) -> list[float]:
        """Return the vector of a question. Raises as :meth:`embed` does."""
        (found,) = await self._request([self._question_prefix + text])
        return found

    async def _request(self, texts: list[str]) -> list[list[float]]:
        """Ask until there is an answer, for as many attempts as there are."""
        said = [_sayable(text[: self._most]) for text in texts]
        body = {"model": self._model, "input": said, "encoding_format": "float", **self._asked}
        headers = {} if self._key is None else {"Authorization": f"Bearer {self._key.get_secret_value()}"}
        client = self._client_of_this_loop()
        for attempt in range(1, self._attempts + 1):
            wait = random.random() * _WAIT * 2**attempt  # noqa: S311 - spreads callers, hides nothing
            try:
                response = await client.post(self._url, json=body, headers=headers)
            except self._httpx.InvalidURL as error:
                raise NotConfigured(f"{self._url!r} is no URL: {error}") from error
            except self._httpx.TransportError as error:
                failed = EmbeddingFailed(f"{self._url} could not be asked: {type(error).__name__} {error}".rstrip())
                if attempt == self._attempts:
                    raise failed from error
            else:
                if response.status_code == 200:
                    return self._vectors(response, len(texts))
                failed = EmbeddingFailed(f"{self._url} answered {response.status_code}: {self._said(response)}")
                if response.status_code not in _RETRY or attempt == self._attempts:
                    raise failed
                wait = max(wait, _wait_asked_for(response.headers.get("retry-after")))
            _log.debug("attempt %d of %d: %s", attempt, self._attempts, failed)
            await asyncio.sleep(wait)
        raise AssertionError("unreachable")

    def _vectors(self, response: Any, count: int) -> list[list[float]]:
        try:
            data = response.json()["data"]
            found = {each.get("index", place): each["embedding"] for place, each in enumerate(data)}
            return [found[place] for place in range(count)] if len(data) == count else list(found.values())
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise EmbeddingFailed(f"{self._url} answered what are no embeddings: {self._said(response)}") from error

    def _said(self, response: Any) -> str:
        """The beginning of an answer, without the key that some servers repeat."""
        said = str(response.text)
        if self._key is not None and self._key.get_secret_value():
            said = said.replace(self._key.get_secret_value(), "***")
        return " ".join(said[:300].split())

    def _client_of_this_loop(self) -> Any:
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._client, self._loop = self._httpx.AsyncClient(timeout=self._timeout), loop
        return self._client


class SentenceTransformerEmbedder:
    """A model of sentence-transformers on this machine, in a thread: the first call loads it."""

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
        """`model_or_path` and `options` are SentenceTransformer's: ``device``, ``backend="onnx"``, ``revision``, ...

        `name` is the model's by default. `question_prompt` names the model's prompt for questions, if it has one.

        Raises:
            NotConfigured: sentence-transformers is not installed.
        """
        self._module = _module("sentence_transformers", "sentence-transformers")
        self.name = name or model_or_path.rstrip("/").rpartition("/")[2]
        self.dimensions = dimensions
        self._path, self._options = model_or_path, options
        self._batch, self._question_prompt = batch, question_prompt
        self._model: Any = None
        # One call at a time: more threads make a model no faster.
        self._lock: asyncio.Lock | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"SentenceTransformerEmbedder({self._path!r})"

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """Return a vector for each text.

        Raises:
            EmbeddingFailed: the model could not be loaded, or not be run.
        """
        return await self._run(list(texts), None)

    async def embed_question(self, text: str) -> list[float]:
        """Return the vector of a question. Raises as :meth:`embed` does."""
        (found,) = await self._run([text], self._question_prompt)
        return found

    async def _run(self, texts: list[str], prompt: str | None) -> list[list[float]]:
        loop = asyncio.get_running_loop()
        if self._lock is None or self._loop is not loop:
            self._lock, self._loop = asyncio.Lock(), loop
        async with self._lock:
            return await asyncio.to_thread(self._encode, texts, prompt)

    def _encode(self, texts: list[str], prompt: str | None) -> list[list[float]]:
        try:
            if self._model is None:
                self._model = self._module.SentenceTransformer(self._path, **self._options)
            found = self._model.encode(texts, batch_size=self._batch, prompt_name=prompt, show_progress_bar=False)
        except (OSError, ValueError, RuntimeError, TypeError) as error:
            raise EmbeddingFailed(f"the model {self._path!r} failed: {error}") from error
        vectors: list[list[float]] = found.tolist()
        return vectors


class CallableEmbedder:
    """An embedder out of a function that takes a list of texts: an async one is awaited, another runs in a thread."""

    def __init__(
        self,
        function: EmbedFunction,
        *,
        name: str,
        dimensions: int,
        question: EmbedFunction | None = None,
        errors: tuple[type[Exception], ...] = (Exception,),
    ) -> None:
        """`question` embeds a question, where that is done in another way. `errors` are those by which it fails.

        Other errors of the function are raised as they are.
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
        """Return the vector of a question. Raises as :meth:`embed` does."""
        found = await self._call(self._question, [text])
        if len(found) != 1:
            raise EmbeddingFailed(f"embedder {self.name!r} gave {len(found)} vectors for 1 text")
        return found[0]

    async def _call(self, function: EmbedFunction, texts: list[str]) -> list[list[float]]:
        try:
            given: Any
            if any(map(inspect.iscoroutinefunction, (function, type(function).__call__))):
                given = function(texts)
            else:
                given = await asyncio.to_thread(function, texts)
            found = await given if inspect.isawaitable(given) else given
            # As lists: what a function gives may be an array of numpy's.
            return [[float(number) for number in vector] for vector in found]
        except self._errors as error:
            raise EmbeddingFailed(f"embedder {self.name!r} failed: {type(error).__name__}: {error}") from error


def configured(settings: Settings) -> OpenAIEmbedder | None:
    """Return the embedder that AGENTSTORE_EMBEDDING_* name, or None.

    Raises:
        NotConfigured: they name one in part.
    """
    if settings.embedding_url is None:
        return None
    if settings.embedding_model is None or settings.embedding_dimensions is None:
        raise NotConfigured("AGENTSTORE_EMBEDDING_URL wants AGENTSTORE_EMBEDDING_MODEL and _DIMENSIONS beside it.")
    return OpenAIEmbedder(
        settings.embedding_url,
        settings.embedding_model,
        dimensions=settings.embedding_dimensions,
        api_key=settings.embedding_api_key,
    )


def check_embedder(embedder: Embedder) -> Embedder:
    """Return an embedder, if it is one.

    Raises:
        NotConfigured: it is none, or its name or its dimensions cannot be kept.
    """
    if not isinstance(embedder, Embedder):
        raise NotConfigured(f"an embedder has a name, dimensions and embed(texts); {type(embedder).__name__} has not")
    name, dimensions = embedder.name, embedder.dimensions
    if not isinstance(name, str) or not name.isprintable() or not 0 < len(name.encode()) <= _LONGEST_NAME:
        raise NotConfigured(f"an embedder's name is printable, of at most {_LONGEST_NAME} bytes, not {name!r}")
    if isinstance(dimensions, bool) or not isinstance(dimensions, int) or not 0 < dimensions <= 16_000:
        raise NotConfigured(f"an embedder's dimensions are a number from 1 to 16,000, not {dimensions!r}")
    return embedder


async def embed_texts(embedder: Embedder, texts: Sequence[str]) -> "list[array[float]]":
    """Return the vectors of texts, in the precision that they are kept in.

    Raises:
        EmbeddingFailed: the embedder failed, or gave other vectors than it says.
    """
    return _checked(embedder, await embedder.embed([_sayable(text) for text in texts]), len(texts)) if texts else []


async def embed_question(embedder: Embedder, text: str) -> "array[float]":
    """Return the vector of what is looked for. Raises as :func:`embed_texts` does."""
    if isinstance(embedder, QuestionEmbedder):
        return _checked(embedder, [await embedder.embed_question(_sayable(text))], 1)[0]
    return (await embed_texts(embedder, [text]))[0]


def _sayable(text: str) -> str:
    """A text without lone surrogates, which cannot be said in UTF-8, and by which nothing is meant."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _checked(embedder: Embedder, vectors: Vectors, count: int) -> "list[array[float]]":
    if len(vectors) != count:
        raise EmbeddingFailed(f"embedder {embedder.name!r} gave {len(vectors)} vectors for {count} texts")
    found = []
    for vector in vectors:
        try:
            kept = array("f", vector)
        except (TypeError, OverflowError) as error:
            raise EmbeddingFailed(f"embedder {embedder.name!r} gave what is no vector: {error}") from error
        if len(kept) != embedder.dimensions:
            raise EmbeddingFailed(
                f"embedder {embedder.name!r} gave {len(kept)} numbers, and says that it has {embedder.dimensions}"
            )
        if not all(map(math.isfinite, kept)):
            raise EmbeddingFailed(f"embedder {embedder.name!r} gave a number that is not finite")
        found.append(kept)
    return found


def written(vector: "array[float]") -> str:
    """Return a vector as pgvector reads it."""
    return f"[{','.join(map(repr, vector))}]"


def similarity(one: "array[float]", other: "array[float]") -> float:
    """Return the cosine of two vectors, 0 where one has no direction: what Postgres computes."""
    length = math.sqrt(_product(one, one) * _product(other, other))
    return _product(one, other) / length if length else 0.0


def _product(one: "array[float]", other: "array[float]") -> float:
    return float(sum(map(mul, one, other)))


def _wait_asked_for(header: str | None) -> float:
    """The seconds that Retry-After says, where it says seconds and not too many of them."""
    try:
        return min(max(float(header or 0), 0.0), _LONGEST_WAIT)
    except ValueError:
        return 0.0


def _module(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise NotConfigured(
            f"{name} is not installed: pip install 'agentstore-postgres[{extra}]' brings it."
        ) from error
