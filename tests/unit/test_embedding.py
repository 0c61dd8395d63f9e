"""Embedders: requests, responses, retries and error messages."""

import asyncio
import math
import sys
from collections.abc import Sequence
from typing import Any

import pytest

from agentstore import (
    AgentStore,
    CallableEmbedder,
    EmbeddingFailed,
    NotConfigured,
    OpenAIEmbedder,
    SentenceTransformerEmbedder,
    Settings,
    http_client,
)
from agentstore.search import embedding
from agentstore.testing import text
from tests.support.json_api import Answer, json_api
from tests.support.pgbouncer import free_port

_KEY = "sk-hunter2"


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "_DELAY", 0.01)


def _valid_answer(body: dict[str, Any]) -> Answer:
    data = [{"index": place, "embedding": [len(text), place]} for place, text in enumerate(body["input"])]
    return 200, {"data": data[::-1]}


def _embedder(url: str, **options: Any) -> OpenAIEmbedder:
    return OpenAIEmbedder(url, "small", dimensions=2, api_key=_KEY, **options)


async def test_texts_are_sent_in_batches_and_vectors_ordered_by_index() -> None:
    async with json_api(_valid_answer) as (url, requests), _embedder(url, batch=2, max_characters=3) as embedder:
        assert await embedder.embed(["a", "bb", "cccc"]) == [[1, 0], [2, 1], [3, 0]]
        assert [each["input"] for each in requests] == [["a", "bb"], ["ccc"]]
        assert requests[0]["authorization"] == f"Bearer {_KEY}"
        assert (requests[0]["path"], requests[0]["model"]) == ("/v1/embeddings", "small")
        assert "dimensions" not in requests[0]
        assert embedder.name == "small:2"
        assert _KEY not in repr(embedder)
    async with (
        json_api(_valid_answer) as (url, requests),
        _embedder(url, send_dimensions=True, prefix="p: ", question_prefix="q: ") as embedder,
    ):
        await embedding.embed_texts(embedder, ["\ud800"])
        await embedding.embed_question(embedder, "x")
        assert [each["input"] for each in requests] == [["p: ?"], ["q: x"]]
        assert requests[0]["dimensions"] == 2


@pytest.mark.parametrize("wrong", [(429, "slow down"), (500, "oops"), (503, ""), None], ids=str)
async def test_temporary_errors_are_retried(wrong: Answer) -> None:
    answers = [wrong, wrong]
    async with (
        json_api(lambda body: answers.pop() if answers else _valid_answer(body)) as (url, requests),
        _embedder(url) as embedder,
    ):
        assert await embedder.embed(["a"]) == [[1, 0]]
        assert len(requests) == 3


@pytest.mark.parametrize(
    ("wrong", "attempts", "message"),
    [
        ((400, f"no model for {_KEY}"), 1, r"400: no model for \*\*\*"),
        ((401, {"error": {"message": f"Incorrect API key: {_KEY}"}}), 1, "401"),
        ((500, "oops"), 2, "500: oops"),
        (None, 2, "the connection to .* broke"),
        ((200, "<html>"), 1, "not valid JSON: <html>"),
        ((200, {"error": "no"}), 1, "no embeddings: {'error': 'no'}"),
        ((200, {"data": [{"embedding": None}]}), 1, "invalid vector"),
        ((200, {"data": []}), 1, "0 vectors for 1 texts"),
        ((200, {"data": [{"embedding": [1, 2]}, {"embedding": [1, 2]}]}), 1, "1 vectors|2 vectors"),
        ((200, {"data": [{"embedding": [1, 2, 3]}]}), 1, "3 dimensions"),
        ((200, {"data": [{"embedding": [1, "x"]}]}), 1, "invalid vector"),
        ((200, '{"data": [{"embedding": [1, NaN]}]}'), 1, "not valid JSON"),
        ((200, '{"data": [{"embedding": [1, 1e999]}]}'), 1, "not finite"),
    ],
    ids=str,
)
async def test_errors_are_reported_without_the_key(wrong: Answer, attempts: int, message: str) -> None:
    async with json_api(lambda _: wrong) as (url, requests), _embedder(url, attempts=2) as embedder:
        with pytest.raises(EmbeddingFailed, match=message) as raised:
            await embedding.embed_texts(embedder, ["a"])
        assert len(requests) == attempts
        assert _KEY not in str(raised.value)


async def test_timeouts_and_refused_connections_are_failures() -> None:
    stop = asyncio.Event()

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await stop.wait()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with _embedder(url, attempts=1, timeout=0.05) as embedder:
        with pytest.raises(EmbeddingFailed, match=r"did not respond within 0\.05 s"):
            await embedder.embed(["a"])
    stop.set()
    server.close()
    await server.wait_closed()
    async with _embedder(url, attempts=1) as embedder:
        with pytest.raises(EmbeddingFailed, match="could not be reached"):
            await embedder.embed(["a"])


def test_an_embedder_can_be_used_in_successive_event_loops() -> None:
    port = free_port()
    embedder = _embedder(f"http://127.0.0.1:{port}")

    async def embed() -> None:
        async with json_api(_valid_answer, port):
            for _ in range(2):
                assert await embedder.embed(["a"]) == [[1, 0]]
                await embedder.close()

    for _ in range(2):
        asyncio.run(embed())


async def test_functions_can_be_embedders() -> None:
    async def embed_later(texts: list[str]) -> list[list[float]]:
        await asyncio.sleep(0)
        return [[1.0, 2.0] for _ in texts]

    for function in (lambda texts: [(1, 2) for _ in texts], embed_later):
        embedder = CallableEmbedder(function, name="f", dimensions=2, question=lambda _: [[3, 4]])
        assert [list(each) for each in await embedding.embed_texts(embedder, ["a", "b"])] == [[1, 2], [1, 2]]
        assert list(await embedding.embed_question(embedder, "a")) == [3, 4]
        assert await embedding.embed_texts(embedder, []) == []

    def broken(_: list[str]) -> list[list[float]]:
        raise KeyError("model")

    with pytest.raises(EmbeddingFailed, match="KeyError") as raised:
        await CallableEmbedder(broken, name="f", dimensions=2).embed(["a"])
    assert isinstance(raised.value.__cause__, KeyError)
    with pytest.raises(KeyError):
        await CallableEmbedder(broken, name="f", dimensions=2, errors=(OSError,)).embed(["a"])
    with pytest.raises(EmbeddingFailed, match="not finite"):
        await embedding.embed_texts(CallableEmbedder(lambda _: [[math.inf]], name="f", dimensions=1), ["a"])
    with pytest.raises(EmbeddingFailed, match="2 vectors"):
        await CallableEmbedder(lambda _: [[1.0], [1.0]], name="f", dimensions=1).embed_question("a")


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(NotConfigured, match=r"agentstore-postgres\[http\]"):
        OpenAIEmbedder("http://h", "m", dimensions=2)
    with pytest.raises(NotConfigured, match=r"agentstore-postgres\[sentence-transformers\]"):
        SentenceTransformerEmbedder("m", dimensions=2)


def test_an_embedder_is_configured_by_settings() -> None:
    assert embedding.configured(Settings()) is None
    options: dict[str, Any] = {"embedding_url": "http://h/v1", "embedding_model": "m", "embedding_dimensions": 8}
    found = embedding.configured(Settings(**options, embedding_api_key=_KEY))
    assert found is not None
    assert (found.name, found.dimensions) == ("m:8", 8)
    assert _KEY not in repr(Settings(embedding_api_key=_KEY))
    with pytest.raises(NotConfigured, match="AGENTSTORE_EMBEDDING_MODEL"):
        embedding.configured(Settings(embedding_url="http://h"))
    with pytest.raises(NotConfigured, match="http"):
        embedding.configured(Settings(**options | {"embedding_url": "h/v1"}))


@pytest.mark.parametrize(("name", "dimensions"), [("", 3), ("a\0", 3), ("x" * 201, 3), (7, 3), ("x", 0), ("x", True)])
def test_names_and_dimensions_that_cannot_be_stored_are_rejected(name: Any, dimensions: Any) -> None:
    embedder = CallableEmbedder(lambda _: [], name=name, dimensions=dimensions)
    with pytest.raises(NotConfigured):
        AgentStore("postgresql://h/db", embedder=embedder)


class _Rejecting:
    """An embedder that rejects some texts, with those that are embedded by the same call."""

    name = "rejecting"
    dimensions = 2

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        if any("bad" in each for each in texts):
            raise EmbeddingFailed("a text is too long")
        return [[1.0, 0.0] for _ in texts]


async def test_a_store_in_memory_skips_texts_that_the_embedder_rejects() -> None:
    store = AgentStore.in_memory(embedder=_Rejecting())
    await store.memory.add_memory("alice", [text("good 1"), text("bad"), text("good 2")])
    assert await store.memory.search("alice", "x", {"strategy": "vector"}) == []
    calls: list[tuple[int, int]] = []
    assert await store.memory.embed(batch=2, progress=lambda read, total: calls.append((read, total))) == 2
    assert calls == [(2, 3), (3, 3)]
    assert len(await store.memory.search("alice", "x", {"strategy": "vector"})) == 2
    with pytest.raises(EmbeddingFailed, match="too long"):
        await store.memory.embed(user_id="alice")
    assert await store.memory.embed(user_id="bob") == 0
