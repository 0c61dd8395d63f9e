"""Rerankers: requests, responses, retries and error messages, and models that run in a thread."""

import asyncio
import sys
import threading
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest

from agentstore import (
    AgentStore,
    CrossEncoderReranker,
    HttpReranker,
    NotConfigured,
    RerankingFailed,
    SentenceTransformerEmbedder,
    Settings,
    http_client,
)
from agentstore.search import reranking
from tests.support.json_api import Answer, json_api
from tests.support.pgbouncer import free_port

_KEY = "sk-hunter2"


@pytest.fixture(autouse=True)
def _short_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_client, "_DELAY", 0.01)


def _by_length(body: dict[str, Any]) -> Answer:
    """Score texts by their length, best first, as Cohere's API does; without a model, as TEI does."""
    texts = body["documents"] if "model" in body else body["texts"]
    name = "relevance_score" if "model" in body else "score"
    results = [{"index": place, name: len(text) / 10} for place, text in enumerate(texts)]
    results.sort(key=lambda each: -each[name])
    return 200, {"id": "x", "results": results, "meta": {"tokens": None}} if "model" in body else results


async def test_texts_are_sent_in_batches_and_scores_ordered_by_index() -> None:
    async with (
        json_api(_by_length) as (url, requests),
        HttpReranker(url, "small", api_key=_KEY, batch=2, max_characters=3) as reranker,
    ):
        assert await reranker.rerank("what?", ["a", "bb", "cccc"]) == [0.1, 0.2, 0.3]
        assert [each["documents"] for each in requests] == [["a", "bb"], ["ccc"]]
        assert [each["top_n"] for each in requests] == [2, 1]
        sent = requests[0]
        assert (sent["path"], sent["model"], sent["query"]) == ("/v1/rerank", "small", "wha")
        assert sent["authorization"] == f"Bearer {_KEY}"
        assert _KEY not in repr(reranker)
        assert await reranker.rerank("\ud800", ["\ud800"]) == [0.1]
        assert (requests[-1]["query"], requests[-1]["documents"]) == ("?", ["?"])


async def test_without_a_model_the_request_is_that_of_a_server_of_tei() -> None:
    async with json_api(_by_length) as (url, requests), HttpReranker(url) as reranker:
        assert await reranker.rerank("q", ["x" * (place + 1) for place in range(40)]) == [
            (place + 1) / 10 for place in range(40)
        ]
        assert [len(each["texts"]) for each in requests] == [32, 8]
        expected = {"query", "texts", "truncate", "path", "authorization"}
        assert set(requests[0]) == expected
        assert requests[0]["truncate"] is True


def _results(*scores: Any) -> Answer:
    return 200, {"results": [{"index": place, "relevance_score": score} for place, score in enumerate(scores)]}


@pytest.mark.parametrize(
    ("wrong", "attempts", "message"),
    [
        ((400, f"no model for {_KEY}"), 1, r"400: no model for \*\*\*"),
        ((401, {"error": {"message": f"Incorrect API key: {_KEY}"}}), 1, "401"),
        ((500, "oops"), 2, "500: oops"),
        (None, 2, "the connection to .* broke"),
        ((200, "<html>"), 1, "not valid JSON: <html>"),
        ((200, {"error": "no"}), 1, "no scores of 2 texts: {'error': 'no'}"),
        ((200, "7"), 1, "no scores"),
        ((200, "null"), 1, "no scores"),
        ((200, '["x"]'), 1, "no scores"),
        (_results(None, 1), 1, "no scores"),
        (_results("x", 1), 1, "no scores"),
        ((200, {"results": [{"index": 0, "relevance_score": 1}] * 2}), 1, "no scores"),
        ((200, {"results": [{"index": 2, "relevance_score": 1}, {"index": 0, "relevance_score": 1}]}), 1, "no scores"),
        ((200, {"results": [{"index": [], "relevance_score": 1}]}), 1, "no scores"),
        ((200, '{"results": [{"index": 0, "relevance_score": NaN}]}'), 1, "not valid JSON"),
        (_results(), 1, "0 scores for 2 texts"),
        (_results(1), 1, "1 scores for 2 texts"),
        (_results(1, 2, 3), 1, "3 scores for 2 texts"),
        ((200, [{"index": place, "score": place} for place in (1, 0, 0)]), 1, "3 scores for 2 texts"),
        ((200, '[{"index": 0, "score": 1e999}, {"index": 1, "score": 1}]'), 1, "not finite"),
    ],
    ids=str,
)
async def test_errors_are_reported_without_the_key(wrong: Answer, attempts: int, message: str) -> None:
    async with json_api(lambda _: wrong) as (url, requests), HttpReranker(url, "m", api_key=_KEY) as reranker:
        with pytest.raises(RerankingFailed, match=message) as raised:
            await reranking.score(reranker, "q", ["a", "b"], timeout=60)
        assert len(requests) == attempts
        assert _KEY not in str(raised.value)


async def test_each_batch_has_a_score_for_each_text() -> None:
    """Else the scores of one too many would be those of the texts of another."""
    answers: list[Answer] = [_results(1, 2, 3), _results(1)]
    async with json_api(lambda _: answers.pop()) as (url, _), HttpReranker(url, "m", batch=2) as reranker:
        with pytest.raises(RerankingFailed, match="1 scores for 2 texts"):
            await reranking.score(reranker, "q", ["a", "b", "c", "d"], timeout=60)


async def test_temporary_errors_are_retried() -> None:
    answers: list[Answer] = [(503, "")]
    async with (
        json_api(lambda body: answers.pop() if answers else _by_length(body)) as (url, requests),
        HttpReranker(url) as reranker,
    ):
        assert await reranker.rerank("q", ["a"]) == [0.1]
        assert len(requests) == 2


async def test_an_endpoint_that_is_down_is_a_failure() -> None:
    async with HttpReranker(f"http://127.0.0.1:{free_port()}") as reranker:
        with pytest.raises(RerankingFailed, match="could not be reached"):
            await reranking.score(reranker, "q", ["a"], timeout=60)


def test_a_reranker_is_configured_by_settings() -> None:
    assert reranking.configured_reranker(Settings()) is None
    assert reranking.configured_reranker(Settings(reranker_url="")) is None
    found = reranking.configured_reranker(Settings(reranker_url="http://h/v1", reranker_api_key=_KEY))
    assert repr(found) == "HttpReranker('http://h/v1', None)"
    found = reranking.configured_reranker(Settings(reranker_url="http://h/v1/", reranker_model="m"))
    assert repr(found) == "HttpReranker('http://h/v1', 'm')"
    assert _KEY not in repr(Settings(reranker_api_key=_KEY))
    with pytest.raises(NotConfigured, match="AGENTSTORE_RERANKER_URL"):
        AgentStore.in_memory(settings=Settings(reranker_url="h/v1"))
    with pytest.raises(NotConfigured, match="at least 1"):
        HttpReranker("http://h", batch=0)


def test_an_object_without_the_method_is_not_a_reranker() -> None:
    wrong: Any = object()
    for create in (
        lambda: AgentStore.in_memory(reranker=wrong),
        lambda: AgentStore("postgresql://h/d", reranker=wrong),
    ):
        with pytest.raises(NotConfigured, match="a reranker must have rerank"):
            create()


class _Model:
    """A model in the place of one of sentence-transformers, whose calls wait until they are let go."""

    def __init__(self, path: str, **options: Any) -> None:
        if path == "missing":
            raise OSError("no such model")
        self.path, self.options = path, options

    entered = threading.Semaphore(0)
    gate = threading.Semaphore(0)
    running = 0
    most = 0

    def predict(self, pairs: Sequence[tuple[str, str]], **_: Any) -> list[float]:
        _Model.running += 1
        _Model.most = max(_Model.most, _Model.running)
        _Model.entered.release()
        _Model.gate.acquire(timeout=60)
        _Model.running -= 1
        return [float(len(text)) for _, text in pairs]

    encode = predict


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> type[_Model]:
    module = ModuleType("sentence_transformers")
    module.CrossEncoder = module.SentenceTransformer = _Model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    monkeypatch.setattr(_Model, "entered", threading.Semaphore(0))
    monkeypatch.setattr(_Model, "gate", threading.Semaphore(0))
    monkeypatch.setattr(_Model, "most", 0)
    return _Model


async def test_calls_after_a_canceled_one_wait_for_it_without_a_thread_each(models: type[_Model]) -> None:
    """A search gives up after a timeout, while the model still computes: threads must not accumulate behind it."""
    reranker = CrossEncoderReranker("tiny", device="cpu")
    first = asyncio.create_task(reranker.rerank("q", ["a"]))
    await asyncio.to_thread(models.entered.acquire)
    waiting = [asyncio.create_task(reranker.rerank("q", ["bb"])) for _ in range(50)]
    threads = threading.active_count()
    for task in (first, *waiting[1:]):
        task.cancel()
    await asyncio.gather(first, *waiting[1:], return_exceptions=True)
    assert threading.active_count() == threads
    for _ in range(2):
        models.gate.release()
    assert await waiting[0] == [2.0]
    assert models.most == 1
    models.gate.release()
    assert await reranker.rerank("q", ["ccc"]) == [3.0]


async def test_a_model_that_cannot_be_loaded_is_a_failure(models: type[_Model]) -> None:
    with pytest.raises(RerankingFailed, match="the model 'missing' failed: no such model"):
        await CrossEncoderReranker("missing").rerank("q", ["a"])


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "httpx", None)
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(NotConfigured, match=r"agentstore-postgres\[http\]"):
        HttpReranker("http://h")
    for create in (lambda: CrossEncoderReranker("m"), lambda: SentenceTransformerEmbedder("m", dimensions=2)):
        with pytest.raises(NotConfigured, match=r"agentstore-postgres\[sentence-transformers\]"):
            create()
