"""Searches with a reranker: the same with a database and without."""

import asyncio
import logging
import math
import string
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest

from agentstore import (
    InMemoryMemoryService,
    MemoryHit,
    MemoryItem,
    PostgresMemoryService,
    RerankingFailed,
    SearchFilters,
    Settings,
)
from agentstore.testing import text
from tests.support.json_api import Answer, json_api

Service = InMemoryMemoryService | PostgresMemoryService
Open = Callable[..., Awaitable[Service]]


class _Scripted:
    """A reranker that prefers the texts with the lowest numbers in them, unless `answer` returns something else."""

    def __init__(self, answer: Callable[[Sequence[str]], Any] | None = None) -> None:
        self.calls: list[tuple[str, list[str]]] = []
        self._answer = answer or self.score

    @staticmethod
    def score(texts: Sequence[str]) -> list[float]:
        return [-float("".join(filter(str.isdigit, each)) or 0) for each in texts]

    async def rerank(self, question: str, texts: Sequence[str]) -> Sequence[float]:
        self.calls.append((question, list(texts)))
        found = self._answer(texts)
        scores: Sequence[float] = await found if isinstance(found, Awaitable) else found
        return scores


@pytest.fixture(params=["in memory", "postgres"])
async def open_service(
    request: pytest.FixtureRequest, database_url: str, settings: Settings
) -> AsyncIterator[Callable[..., Awaitable[Service]]]:
    """A function that returns a service with a reranker and settings; all of them have the same memories."""
    opened: list[Service] = []

    async def open_service(reranker: Any = None, **changed: Any) -> Service:
        service: Service
        if request.param == "postgres":
            service = PostgresMemoryService(
                database_url, settings=settings.model_copy(update=changed), reranker=reranker
            )
        else:
            service = InMemoryMemoryService(settings=Settings().model_copy(update=changed), reranker=reranker)
            if opened:
                service._users = opened[0]._users  # type: ignore[union-attr]
        await service.start()
        opened.append(service)
        return service

    yield open_service
    for each in opened:
        await each.stop()


async def _fill(service: Service, count: int = 12) -> None:
    """Add messages about apples: the higher its number, the shorter a message is, and the better it matches."""
    for number in range(count):
        message = text(
            f"apple {number} " + " ".join(f"word{letter}" for letter in string.ascii_lowercase[: count - number]),
            id=f"m{number}",
            metadata={"timestamp": 1_700_000_000 + (number * 7) % count, "name": "Ann"},
        )
        await service.add_memory("alice", message, f"s{number}")


def _ids(hits: Sequence[MemoryHit]) -> list[str]:
    return [hit.message.id for hit in hits]


async def test_hits_are_ordered_by_the_reranker_among_the_best_candidates(open_service: Open) -> None:
    reranker = _Scripted()
    plain = await open_service()
    await _fill(plain)
    assert _ids(await plain.search("alice", "apple", {"top_k": 3})) == ["m11", "m10", "m9"]
    service = await open_service(reranker, reranker_candidates=5)
    hits = await service.search("alice", "apple", {"top_k": 3})
    assert _ids(hits) == ["m7", "m8", "m9"]
    assert [hit.rerank_score for hit in hits] == [-7, -8, -9]
    # The score of the search itself remains.
    scores = {hit.message.id: hit.score for hit in await plain.search("alice", "apple", {"top_k": 12})}
    assert [hit.score for hit in hits] == [scores[each] for each in _ids(hits)]
    ((question, texts),) = reranker.calls
    assert question == "apple"
    assert texts[0].startswith("Ann: apple 11 ")
    assert len(texts) == 5
    # More hits than candidates: the others follow in their order.
    hits = await service.search("alice", "apple", {"top_k": 8})
    assert _ids(hits) == ["m7", "m8", "m9", "m10", "m11", "m6", "m5", "m4"]
    assert [hit.rerank_score is None for hit in hits] == [False] * 5 + [True] * 3
    assert [each.id for each in await service.search_memory("alice", "apple", {"top_k": 1})] == ["m7"]
    assert [hit.rerank_score for hit in await plain.search("alice", "apple")] == [None] * 10


async def test_equal_scores_leave_the_order_unchanged(open_service: Open) -> None:
    service = await open_service(_Scripted(lambda texts: [1.0] * len(texts)))
    await _fill(service)
    assert _ids(await service.search("alice", "apple", {"top_k": 3})) == ["m11", "m10", "m9"]


async def test_chronological_order_sorts_what_the_reranker_has_chosen(open_service: Open) -> None:
    reranker = _Scripted()
    service = await open_service(reranker)
    await _fill(service)
    hits = await service.search("alice", "apple", {"top_k": 4, "order": "chronological"})
    assert sorted(_ids(hits)) == ["m0", "m1", "m2", "m3"]
    assert [hit.time for hit in hits] == sorted(hit.time for hit in hits)
    # If all are returned, their order does not depend on a score: the reranker is not called.
    assert len(await service.search("alice", "apple", {"top_k": 12, "order": "chronological"})) == 12
    assert len(reranker.calls) == 1


async def test_min_score_and_other_filters_select_the_candidates(open_service: Open) -> None:
    reranker = _Scripted()
    plain = await open_service()
    await _fill(plain)
    third = (await plain.search("alice", "apple"))[2].score
    service = await open_service(reranker)
    assert _ids(await service.search("alice", "apple", {"min_score": third})) == ["m9", "m10", "m11"]
    nothing: list[SearchFilters] = [{"top_k": 0}, {"session_id": "none"}]
    for filters in nothing:
        assert await service.search("alice", "apple", filters) == []
    assert await service.search("alice", "") == []
    assert len(reranker.calls) == 1


async def test_neighbors_are_candidates_unless_they_are_left_out(open_service: Open) -> None:
    reranker = _Scripted()
    service = await open_service(reranker)
    await service.add_memory("alice", [text("Which apple? 2", id="a"), text("The red one, 1", id="b")], "s")
    hits = await service.search("alice", "apple")
    assert [(hit.message.id, hit.is_match) for hit in hits] == [("b", False), ("a", True)]
    assert _ids(await service.search("alice", "apple", {"neighbors": False})) == ["a"]
    assert reranker.calls[-1] == ("apple", ["Which apple? 2"])


async def test_memories_without_text_follow_those_with_a_score(open_service: Open) -> None:
    reranker = _Scripted()
    service = await open_service(reranker)
    image = {"type": "image", "image_url": "https://host/x.png"}
    messages: list[Any] = [
        *({"id": "i1", "role": "user", "content": [image]}, text("apple 1", id="a"), text("apple 2 pie", id="b")),
        {"id": "i2", "role": "user", "content": [image]},
    ]
    await service.add_memory("alice", messages, "s")
    hits = await service.search("alice", "apple")
    assert _ids(hits)[:2] == ["a", "b"]
    assert {hit.message.id: hit.rerank_score for hit in hits} == {"a": -1, "b": -2, "i1": None, "i2": None}
    assert sorted(reranker.calls[0][1]) == ["apple 1", "apple 2 pie"]


async def test_items_are_reranked(open_service: Open) -> None:
    service = await open_service(_Scripted())
    await service.save_items(
        "alice", [MemoryItem(id=f"i{number}", text=f"an apple {9 - number}") for number in range(5)]
    )
    hits = await service.search("alice", "apple", {"kind": "fact"})
    assert [hit.item and hit.item.id for hit in hits] == ["i4", "i3", "i2", "i1", "i0"]


async def _never(_: Sequence[str]) -> list[float]:
    await asyncio.Event().wait()
    return []


def _fail(_: Sequence[str]) -> list[float]:
    raise RerankingFailed("the reranker is down")


_FAULTS: dict[str, tuple[Callable[[Sequence[str]], Any], str]] = {
    "fails": (_fail, "the reranker is down"),
    "hangs": (_never, "no scores within 0.05 s"),
    "too few": (lambda texts: [1.0] * (len(texts) - 1), "11 scores for 12 texts"),
    "too many": (lambda texts: [1.0] * (len(texts) + 1), "13 scores for 12 texts"),
    "none": (lambda _: None, "invalid scores"),
    "text": (lambda texts: ["high"] * len(texts), "invalid scores"),
    "NaN": (lambda texts: [math.nan] * len(texts), "not finite"),
    "infinite": (lambda texts: [math.inf] * len(texts), "not finite"),
}


@pytest.mark.parametrize("fault", _FAULTS)
async def test_a_reranker_that_fails_leaves_the_order_and_logs_a_warning(
    open_service: Open, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    answer, message = _FAULTS[fault]
    plain = await open_service()
    await _fill(plain)
    service = await open_service(_Scripted(answer), reranker_timeout=0.05)
    with caplog.at_level(logging.WARNING, logger="agentstore"):
        hits = await service.search("alice", "apple", {"top_k": 4})
    assert hits == await plain.search("alice", "apple", {"top_k": 4})
    assert [hit.rerank_score for hit in hits] == [None] * 4
    (record,) = caplog.records
    assert record.msg == "Search results are not reranked: %s"
    assert message in record.getMessage()


async def test_other_errors_of_a_reranker_are_raised(open_service: Open) -> None:
    """A mistake in a program is not hidden as a failure of the model."""
    service = await open_service(_Scripted(lambda _: [][0]))
    await _fill(service)
    with pytest.raises(IndexError):
        await service.search("alice", "apple")


async def test_a_reranker_of_the_settings_is_used_until_its_endpoint_is_down(
    open_service: Open, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(body: dict[str, Any]) -> Answer:
        scores = enumerate(_Scripted.score(body["documents"]))
        return 200, {"results": [{"index": index, "relevance_score": score} for index, score in scores]}

    async with json_api(answer) as (url, requests):
        service = await open_service(reranker_url=url, reranker_model="m")
        await _fill(service)
        assert _ids(await service.search("alice", "apple", {"top_k": 3})) == ["m0", "m1", "m2"]
        assert requests[0]["query"] == "apple"
        assert not caplog.records
    await service._own_reranker.close()  # type: ignore[union-attr]
    assert _ids(await service.search("alice", "apple", {"top_k": 3})) == ["m11", "m10", "m9"]
    assert "Search results are not reranked: http" in caplog.text


async def test_candidates_that_are_too_large_together_are_reduced_to_the_hits(open_service: Open) -> None:
    """A reranker refuses no search that succeeds without it."""
    reranker = _Scripted()
    service = await open_service(reranker, max_reply_bytes=50_000)
    for number in range(4):
        await service.add_memory("alice", text(f"apple {number} " + "x" * 20_000, id=f"m{number}"), f"s{number}")
    hits = await service.search("alice", "apple", {"top_k": 2})
    assert len(hits) == len(reranker.calls[0][1]) == 2
    assert hits[0].rerank_score > hits[1].rerank_score  # type: ignore[operator]
