"""Each MemoryService implementation against the contract, and the implementations against each other."""

import asyncio
import math
import random
import string
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from itertools import product
from typing import Any

import pytest

from agentstore import (
    AgentStore,
    Conflict,
    Deleted,
    InMemoryMemoryService,
    InvalidContent,
    LimitExceeded,
    MemoryItem,
    MemoryService,
    NotConfigured,
    PostgresMemoryService,
    SearchFilters,
    Settings,
)
from agentstore.testing import HOSTILE_IDS, MemoryContract, text
from tests.support.vectors import WordEmbedder


class TestInMemory(MemoryContract):
    @pytest.fixture
    async def service(self) -> AsyncIterator[MemoryService]:
        async with InMemoryMemoryService() as service:
            yield service


class TestInMemoryWithVectors(MemoryContract):
    @pytest.fixture
    async def service(self) -> AsyncIterator[MemoryService]:
        async with InMemoryMemoryService(embedder=WordEmbedder()) as service:
            yield service


@pytest.mark.asyncio(loop_scope="class")
class TestPostgres(MemoryContract):
    open = PostgresMemoryService


@pytest.fixture
async def services(
    database_url: str, settings: Settings
) -> AsyncIterator[tuple[InMemoryMemoryService, PostgresMemoryService]]:
    async with InMemoryMemoryService() as reference, PostgresMemoryService(database_url, settings=settings) as postgres:
        yield reference, postgres


async def test_message_with_the_id_of_an_item_is_refused(
    services: tuple[InMemoryMemoryService, PostgresMemoryService],
) -> None:
    """It would not be stored, since a memory with its id exists."""
    for service in services:
        item = MemoryItem(id="x", text="likes tea")
        await service.save_items("alice", [item, MemoryItem(id="", text="has a cat")], "s")
        for id in ("x", ""):
            for messages in (
                text("hello", id=id),
                [text("before", id="b"), text("hello", id=id), text("after", id="c")],
            ):
                with pytest.raises(Conflict, match=f"Message '{id}' has the id of an item in session 's'"):
                    await service.add_memory("alice", messages, "s")
        assert [each.id for each in await service.list_memory("alice")] == ["x", ""]
        await service.add_memory("alice", text("hello", id="x"), "another")
        await service.add_memory("alice", [text("before", id="b"), text("after", id="c")], "s")
        await service.add_memory("alice", [text("before", id="b"), text("after", id="d")], "s")
        with pytest.raises(Conflict, match="Item 'b' has the id of a message in session 's'"):
            await service.save_items("alice", [item, MemoryItem(id="b", text="x")], "s")
        listed = await service.list_memory("alice", {"page_size": 100})
        assert [each.id for each in listed] == ["x", "x", "", "b", "c", "d"]


async def test_of_a_message_and_an_item_with_one_id_one_is_stored(
    services: tuple[InMemoryMemoryService, PostgresMemoryService],
) -> None:
    for service in services:
        for number in range(30):
            done = await asyncio.gather(
                service.add_memory("alice", text("hello", id="x"), f"s{number}"),
                service.save_items("alice", MemoryItem(id="x", text="likes tea"), f"s{number}"),
                return_exceptions=True,
            )
            (stored,) = await service.list_memory("alice")
            assert [isinstance(each, Conflict) for each in done].count(True) == 1, done
            assert isinstance(done[0], Conflict) == (stored.role == "system")
            await service.delete_memory("alice")


@pytest.mark.parametrize("common", [1_000, 3])
async def test_full_text_search_returns_the_same_hits_and_scores_in_both(
    services: tuple[InMemoryMemoryService, PostgresMemoryService], common: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Postgres computes the scores of `ranking.scores`, also when tokens are too common to count."""
    from agentstore.search import ranking

    monkeypatch.setattr(ranking, "COMMON", common)
    monkeypatch.setattr(ranking, "LENDERS", 20)
    monkeypatch.setattr(ranking, "COMMON_ROOT", 0.5)
    monkeypatch.setattr(ranking, "SELECTIVE_FROM", common)
    monkeypatch.setattr(ranking, "CANDIDATES", 15)
    monkeypatch.setattr(ranking, "CANDIDATES_PER_HIT", 1)
    monkeypatch.setattr(ranking, "SELECTIVE", 0.1)
    rng = random.Random(3)
    words = [f"word{number}" for number in range(60)] + ["虾", "东京塔", "e-mail", "running"]
    weights = [1 / (1 + number) for number in range(len(words))]
    for number in range(200):
        message = text(
            " ".join(rng.choices(words, weights, k=rng.randint(1, 12))) + rng.choice(["", "?", "？", "? Word3 word4."]),
            id=f"m{number}",
            role=rng.choice(["user", "assistant", None]),
            metadata={"timestamp": 1_700_000_000 + number, "name": rng.choice(["Ann", "Bo", ""])},
        )
        session, namespace = f"s{rng.randint(0, 5)}", rng.choice([None, "a/1", "a/2", "b"])
        for service in services:
            await service.add_memory("alice", message, session, namespace=namespace)
    for _ in range(60):
        # Beside two rare words, common ones are ignored.
        rare = rng.choices([*words[40:], "nothing"], k=2) if common == 3 else []
        query = " ".join(
            rare + rng.choices([*words, "wor", "nothing", "runing", "emial", "東京塔", "word9x"], k=rng.randint(1, 6))
        )
        # Of the assistant, of a speaker, with words of little weight, and mostly of pairs of characters.
        query += rng.choice(
            ["", "", " did you recommend?", " Ann", " how many times", " 东京塔虾仁呢", " 你说过东京的什么"]
        )
        filters: Any = rng.choice(
            [
                *({}, {"session_id": "s1"}, {"role": "user"}, {"top_k": 3}, {"order": "chronological"}),
                *({"session_id": ["s1", "s3", "s4"]}, {"exclude_session_id": ["s0", "s5"]}, {"neighbors": False}),
                *({"namespace": "a"}, {"namespace": "a/2", "role": "user"}, {"metadata": {"name": "Ann"}}),
            ]
        )
        reference, postgres = [await service.search("alice", query, filters) for service in services]
        assert [(hit.message.id, hit.session_id, hit.position) for hit in postgres] == [
            (hit.message.id, hit.session_id, hit.position) for hit in reference
        ]
        assert [hit.score for hit in postgres] == pytest.approx([hit.score for hit in reference])
        assert [hit.time for hit in postgres] == [hit.time for hit in reference]
        assert [hit.is_match for hit in postgres] == [hit.is_match for hit in reference]
        assert all(hit.is_match for hit in postgres) or filters.get("neighbors", True)


@pytest.mark.parametrize("strategy", ["vector", "hybrid"])
async def test_vector_search_returns_the_same_hits_and_scores_in_both(
    has_pgvector: bool, vector_store: AgentStore, settings: Settings, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores are equal to four-byte precision: Postgres sums in another order."""
    if not has_pgvector:
        with pytest.raises(NotConfigured, match="vector enable"):
            await vector_store.memory.search("alice", "x", {"strategy": strategy})
        return
    from agentstore.search import ranking

    monkeypatch.setattr(ranking, "NEAREST", 40)
    rng = random.Random(5)
    words = [f"word{number}" for number in range(40)]
    services = (InMemoryMemoryService(settings=settings, embedder=WordEmbedder()), vector_store.memory)
    for number in range(150):
        message = text(
            " ".join(rng.choices(words, k=rng.randint(0, 9))) + rng.choice(["", "?"]),
            id=f"m{number}",
            role=rng.choice(["user", "assistant", None]),
            metadata={"timestamp": 1_700_000_000 + number, "name": rng.choice(["Ann", ""])},
        )
        session = f"s{rng.randint(0, 5)}"
        item = MemoryItem(id=f"i{number % 7}", text=" ".join(rng.choices(words, k=4)), importance=rng.random())
        for service in services:
            await service.add_memory("alice", message, session)
            if number % 10 == 0:
                await service.save_items("alice", item, supersedes=[f"i{(number + 3) % 7}"])
    for _ in range(40):
        query = " ".join(rng.choices([*words, "nothing"], k=rng.randint(1, 6)))
        filters: Any = rng.choice(
            [
                *({}, {"session_id": "s1"}, {"role": "user"}, {"top_k": 60}, {"kind": "fact"}, {"min_score": 0.3}),
                *({"session_id": ["s1", "s3"]}, {"exclude_session_id": "s2"}, {"neighbors": False, "top_k": 60}),
            ]
        )
        reference, postgres = [
            await service.search("alice", query, filters | {"strategy": strategy}) for service in services
        ]
        assert [hit.score for hit in postgres] == pytest.approx([hit.score for hit in reference], abs=1e-5)
        # Hits whose scores differ only by rounding may be in another order.
        assert {hit.message.id for hit in postgres} == {hit.message.id for hit in reference}
        matching = [{hit.message.id for hit in hits if hit.is_match} for hits in (reference, postgres)]
        assert matching[0] == matching[1]


async def test_hybrid_weight_of_one_or_zero_equals_a_single_strategy(
    has_pgvector: bool, database_url: str, settings: Settings, vector_store: AgentStore
) -> None:
    if not has_pgvector:
        return
    await vector_store.memory.add_memory("alice", [text("apples and pears"), text("apples"), text("plums")], "s")
    for weight, strategy in ((1.0, "full_text"), (0.0, "vector")):
        weighted = settings.model_copy(update={"hybrid_weight": weight})
        async with PostgresMemoryService(database_url, settings=weighted, embedder=WordEmbedder()) as service:
            hybrid = await service.search("alice", "apples", {"strategy": "hybrid", "top_k": 2})
            alone = await service.search("alice", "apples", {"strategy": strategy, "top_k": 2})
            assert [hit.message.id for hit in hybrid] == [hit.message.id for hit in alone]


async def test_filters_apply_before_the_limit_of_candidates(
    services: tuple[InMemoryMemoryService, PostgresMemoryService],
) -> None:
    messages = [text(f"apple {number}", metadata={"timestamp": "2020-01-01"}) for number in range(1_500)]
    pie = text("an apple pie that somebody made", id="pie", role="assistant", metadata={"timestamp": "2030-01-01"})
    for service in services:
        await service.add_memory("alice", messages, "s")
        await service.add_memory("alice", pie, "other")
        several: list[SearchFilters] = [{"session_id": "other"}, {"since": "2029-01-01"}, {"role": "assistant"}]
        for filters in several:
            assert [hit.message.id for hit in await service.search("alice", "apple", filters)] == ["pie"]


async def test_hits_with_equal_scores_are_ordered_newest_first(
    services: tuple[InMemoryMemoryService, PostgresMemoryService],
) -> None:
    rng = random.Random(4)
    words = [f"word{number}" for number in range(12)]
    sets = [rng.sample(words, 4) for _ in range(6)]
    messages = [text(" ".join(sets[number % 6]), id=f"m{number}") for number in range(60)]
    for service in services:
        for number, message in enumerate(messages):
            await service.add_memory("alice", message, f"s{number}")
        for _ in range(10):
            hits = await service.search("alice", " ".join(rng.sample(words, 4)), {"top_k": 100})
            order = [(-hit.score, -hit.time.timestamp()) for hit in hits]
            assert order == sorted(order)


@pytest.mark.parametrize("strategy", ["full_text", "hybrid"])
async def test_equal_texts_get_equal_scores_and_the_newest_comes_first(
    has_pgvector: bool, vector_store: AgentStore, settings: Settings, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a word has more matches than are read, whose maximum is no integer for most numbers of words."""
    from agentstore.search import ranking

    if strategy == "hybrid" and not has_pgvector:
        with pytest.raises(NotConfigured, match="vector enable"):
            await vector_store.memory.search("alice", "x", {"strategy": strategy})
        return
    monkeypatch.setattr(ranking, "COMMON", 20)
    monkeypatch.setattr(ranking, "COMMON_ROOT", 0.1)
    monkeypatch.setattr(ranking, "MAX_HITS", 500)
    messages = [
        text(
            "alpha zebra" if number in (3, 290) else f"alpha other{number}",
            id=f"m{number}",
            metadata={"timestamp": 1_700_000_000 + number},
        )
        for number in range(300)
    ]
    services = (InMemoryMemoryService(settings=settings, embedder=WordEmbedder()), vector_store.memory)
    for service in services:
        await service.add_memory("alice", messages, "s")
    unknown = [f"qqq{first}{second}" for first in string.ascii_lowercase for second in string.ascii_lowercase]
    for count in (2, 3, 4, 5, 6, 7, 9, 11, 20, 100, 160):
        query = " ".join(["alpha", "zebra", *unknown[: count - 2]])
        scores = []
        for service in services:
            hits = await service.search("alice", query, {"strategy": strategy, "top_k": 2})
            assert [hit.message.id for hit in hits] == ["m290", "m3"], count
            assert hits[0].score == hits[1].score, count
            scores.append(hits[0].score)
        assert scores[1] == pytest.approx(scores[0], abs=1e-6), count


async def test_unmatched_words_match_by_prefix_and_similar_spelling(
    services: tuple[InMemoryMemoryService, PostgresMemoryService],
) -> None:
    for service in services:
        await service.add_memory("alice", [text("The refrigerator is broken", id="fridge")], "s")
        await service.add_memory("alice", [text("The aquarium leaks", id="fish")], "t")
        assert [hit.message.id for hit in await service.search("alice", "refrigerater")] == ["fridge"]
        assert [hit.message.id for hit in await service.search("alice", "aqua")] == ["fish"]
        for query, id in (
            ("what is broken, the refridgerator?", "fridge"), ("leaks in the acuarium", "fish"), ("aquaruim", "fish"),
            ("equarium", "fish"), ("is the refrig", "fridge"), ("broekn", "fridge"), ("the aquarrium", "fish"),
        ):  # fmt: skip
            assert [hit.message.id for hit in await service.search("alice", query)][:1] == [id], query
        assert await service.search("alice", "xy") == []


async def test_snippet_marks_matches_and_escapes_html(
    services: tuple[InMemoryMemoryService, PostgresMemoryService],
) -> None:
    for service in services:
        await service.add_memory("alice", [text("<b>Apples</b> & pears"), text("bananas")], "s")
        hit = (await service.search("alice", "apple"))[0]
        assert hit.snippet == "&lt;b&gt;<mark>Apples</mark>&lt;/b&gt; &amp; pears"
        hit = (await service.search("alice", "banan"))[0]
        assert hit.snippet == "<mark>bananas</mark>"


async def test_a_hit_names_the_words_that_match(
    services: tuple[InMemoryMemoryService, PostgresMemoryService],
) -> None:
    for service in services:
        long = "I saw Apples, apples and pears" + " and bananas" * 100 + " and one last pear"
        await service.add_memory("alice", [text(long), text("They were good")], "s")
        hits = await service.search("alice", "apple pear?")
        assert [hit.matched_terms for hit in hits] == [["Apples", "apples", "pears", "pear"], []]
        assert [hit.is_match for hit in hits] == [True, False]


@pytest.mark.parametrize(
    ("question", "day"),
    [("Whom did I meet two Tuesdays ago?", "m4"), ("我上周五见了谁", "m7"), ("met Bob on Monday", "m10")],
)
async def test_words_of_time_are_relative_to_the_time_of_the_question(
    services: tuple[InMemoryMemoryService, PostgresMemoryService], question: str, day: str
) -> None:
    """Memories of that day come first, and no others are left out."""
    asked: list[tuple[Any, Any]] = [
        (question, {"now": "2024-06-12T08:00+00:00"}),
        (question, {"now": datetime(2024, 6, 12, 23, tzinfo=timezone(timedelta(hours=-7)))}),
        (question, {"now": "2024-06-12T23:00-07:00"}),
        (text(question, metadata={"timestamp": "2024-06-12T08:00+00:00"}), {}),
        (text(question, metadata={"timestamp": "2020-01-01"}), {"now": "2024-06-12"}),
    ]
    for service in services:
        messages = [
            text("I met Bob, 我见了他", id=f"m{n}", metadata={"timestamp": f"2024-06-{n:02}"}) for n in range(1, 12)
        ]
        await service.add_memory("alice", messages, "s")
        for query, filters in asked:
            given: Any = {"top_k": 20, "neighbors": False, **filters}
            hits = await service.search("alice", query, given)
            assert hits[0].message.id == day
            assert len(hits) == 11


@pytest.mark.parametrize(
    ("question", "id"),
    [
        ("Who am I?", "film"), ("to be or not to be", "play"), ("The Who", "band"), ("What did Will do?", "will"),
        ("US", "us"), ("Is IT hard?", "it"),
    ],
)  # fmt: skip
async def test_questions_of_function_words_find_names_and_sentences_of_these(
    services: tuple[InMemoryMemoryService, PostgresMemoryService], question: str, id: str
) -> None:
    texts = {
        "film": "Who am I? I watched it with her.", "play": 'Hamlet: "To be or not to be"',
        "band": "I heard The Who in London", "will": "Her brother Will paints", "us": "I fly to the US in May",
        "it": "He works in IT for us, and will do so", "other": "It is what it was for all of us, who would not",
    }  # fmt: skip
    for service in services:
        await service.add_memory("alice", [text(each, id=key) for key, each in texts.items()], "s")
        hits = await service.search("alice", question, {"neighbors": False})
        assert [hit.message.id for hit in hits][:1] == [id]
        assert "other" not in [hit.message.id for hit in hits]


async def test_facts_and_messages_are_found_without_raising_each_others_score(
    services: tuple[InMemoryMemoryService, PostgresMemoryService],
) -> None:
    for service in services:
        await service.add_memory("alice", [text("Shrimps make me ill", id="said")], "s")
        facts = [
            MemoryItem(id="allergy", text="is allergic to shrimps", kind="fact", source_ids=["said"]),
            MemoryItem(id="dog", text="has a dog", kind="fact", importance=1, metadata={"name": "\ud800 \0"}),
            MemoryItem(id="cat", text="has a cat", kind="preference", importance=0),
        ]
        assert await service.save_items("alice", facts, "s") == facts
        hits = await service.search("alice", "shrimps")
        assert {hit.message.id for hit in hits} == {"said", "allergy"}
        assert next(hit.item for hit in hits if hit.message.id == "allergy") == facts[0]
        assert [hit.item for hit in hits if hit.message.id == "said"] == [None]
        assert [hit.item for hit in await service.search("alice", "dog")] == [facts[1]]
        assert [hit.message.id for hit in await service.search("alice", "shrimps", {"kind": "fact"})] == ["allergy"]
        assert [hit.message.id for hit in await service.search("alice", "shrimps", {"kind": "message"})] == ["said"]
        assert [message.id for message in await service.list_memory("alice")] == ["said", "allergy", "dog", "cat"]
        await service.save_items("alice", {"id": "cat", "text": "has a dog too", "importance": 0.4})
        assert [hit.message.id for hit in await service.search("alice", "dog")] == ["dog", "cat"]


async def test_an_item_of_any_importance_is_found(
    services: tuple[InMemoryMemoryService, PostgresMemoryService],
) -> None:
    """Also of the smallest numbers: Postgres refuses products that underflow."""
    importances = [0.0, 5e-324, 1e-310, 2.3e-308, 0.5 - 2**-54, 0.5, 0.5 + 2**-53, 1 - 2**-53, 1.0]
    for service in services:
        for number, importance in enumerate(importances):
            await service.save_items("alice", {"id": f"{number}", "text": "likes zebras", "importance": importance})
    in_memory, postgres = [await service.search("alice", "zebras", {"min_score": 5e-324}) for service in services]
    assert len(in_memory) == len(postgres) == len(importances)
    assert [hit.message.id for hit in in_memory] == [hit.message.id for hit in postgres]


async def test_fact_is_found_only_while_valid(services: tuple[InMemoryMemoryService, PostgresMemoryService]) -> None:
    old = MemoryItem(id="old", text="lives in Paris", valid_from=datetime(2020, 1, 1, tzinfo=UTC))
    new = MemoryItem(id="new", text="lives in Rome", metadata={"huge": 10**400})
    later = MemoryItem(id="later", text="lives in Oslo", valid_from=datetime(2100, 1, 1, tzinfo=UTC))
    for service in services:

        async def found(service: Any = service, **filters: Any) -> set[str]:
            return {hit.message.id for hit in await service.search("alice", "lives", filters)}

        await service.save_items("alice", [old, later], "s")
        assert await found() == {"old"}
        assert await service.save_items("alice", new, "t", supersedes=["old", "missing"]) == [new]
        assert await found() == {"new"}
        assert await found(valid_at="2021-01-01") == {"old", "new"}
        assert await found(valid_at="2101-01-01") == {"new", "later"}
        assert list(await service.list_items("alice")) == [new]
        stored = {item.id: item for item in await service.list_items("alice", with_invalid=True)}
        assert set(stored) == {"old", "new", "later"}
        assert stored["old"].valid_until is not None
        (old_message,) = [message for message in await service.list_memory("alice") if message.id == "old"]
        assert (old_message.metadata or {})["memory_item"]["valid_until"] is not None
        # Saving it again makes it valid again.
        await service.save_items("alice", old)
        assert await found() == {"old", "new"}
        assert await service.delete_memory("alice", "s") == Deleted(memories=2)
        assert await found() == {"new"}


async def test_pages_contain_every_fact_once_newest_first(
    services: tuple[InMemoryMemoryService, PostgresMemoryService],
) -> None:
    facts = [
        MemoryItem(id=f"f{n:02}", text="x", kind="ab"[n % 2], valid_from=datetime(2020, 1, 1 + n // 3, tzinfo=UTC))
        for n in range(20)
    ]
    for service in services:
        await service.add_memory("alice", [text("no fact")], "s")
        await service.save_items("alice", facts[:7], "s")
        await service.save_items("alice", facts[7:], "t")
        page = await service.list_items("alice", limit=6)
        seen = [item.id for item in page]
        while page.next_cursor is not None:
            page = await service.list_items("alice", limit=6, cursor=page.next_cursor)
            seen += [item.id for item in page]
        assert seen == [item.id for item in reversed(facts)]
        assert len(await service.list_items("alice", kind="a")) == 10
        assert list(await service.list_items("bob")) == []
        with pytest.raises((InvalidContent, LimitExceeded)):
            await service.list_items("alice", limit=10_001)


async def test_facts_are_filtered_by_namespace_and_metadata(
    services: tuple[InMemoryMemoryService, PostgresMemoryService],
) -> None:
    facts = [
        MemoryItem(id="a", text="likes tea", namespace="work", metadata={"n": 1}),
        MemoryItem(id="b", text="likes tea too", namespace="work/x", metadata={"n": 2}),
        MemoryItem(id="c", text="likes no tea", namespace="worker", kind="preference", metadata={"n": 1}),
        MemoryItem(id="d", text="likes tea at home", valid_from=datetime(2100, 1, 1, tzinfo=UTC), namespace="work"),
    ]
    for service in services:
        assert await service.save_items("alice", facts, "s") == facts
        await service.add_memory("alice", text("some tea", id="m", metadata={"n": 1}), "s", namespace="work")

        async def listed(service: Any = service, **filters: Any) -> list[str]:
            whole = await service.list_items("alice", **filters)
            page, ids = await service.list_items("alice", limit=1, **filters), []
            while page:
                ids += [item.id for item in page]
                assert page.next_cursor is not None
                page = await service.list_items("alice", limit=1, cursor=page.next_cursor, **filters)
            assert ids == [item.id for item in whole]
            return sorted(ids)

        assert await listed(namespace="work") == ["a", "b"]
        assert await listed(namespace="work", with_invalid=True) == ["a", "b", "d"]
        assert await listed(namespace="work", metadata={"n": 2}) == ["b"]
        assert await listed(metadata={"n": 1}) == ["a", "c"]
        assert await listed(metadata={"n": 1}, kind="preference") == ["c"]
        hits = await service.search("alice", "tea", {"namespace": "work", "metadata": {"n": 1}})
        assert {(hit.message.id, hit.namespace) for hit in hits} == {("a", "work"), ("m", "work")}
        assert next(hit.item for hit in hits if hit.item) == facts[0]
        # An item that is saved again has the new namespace and metadata only.
        await service.save_items("alice", {"id": "b", "text": "likes tea too", "namespace": "home"})
        assert await listed(namespace="work") == ["a"]
        assert await listed(namespace="home") == ["b"]
        assert await listed(metadata={"n": 2}) == []
        await service.save_items("alice", [], supersedes=["a"])
        assert await listed(namespace="work") == []
        for wrong in (
            {"namespace": "a//b"}, {"namespace": 7}, {"metadata": [1]}, {"metadata": {"n": math.inf}},
            {"metadata": {"n": [10**5_000, "\ud800"]}},
        ):  # fmt: skip
            with pytest.raises((InvalidContent, LimitExceeded)):
                await service.list_items("alice", **wrong)
        with pytest.raises(InvalidContent, match="namespace"):
            await service.save_items("alice", {"text": "x", "namespace": "/a"})


@pytest.mark.parametrize("strategy", ["vector", "hybrid"])
async def test_vector_searches_filter_by_namespace_and_metadata(
    has_pgvector: bool, vector_store: AgentStore, settings: Settings, strategy: str
) -> None:
    if not has_pgvector:
        with pytest.raises(NotConfigured, match="vector enable"):
            await vector_store.memory.search("alice", "x", {"strategy": strategy})
        return
    for service in (InMemoryMemoryService(settings=settings, embedder=WordEmbedder()), vector_store.memory):
        for number in range(12):
            message = text(f"apples {number}", id=f"m{number}", metadata={"even": number % 2 == 0})
            await service.add_memory("alice", message, f"s{number % 4}", namespace=f"a/{number % 3}")
        for filters, expected in (
            ({"namespace": "a"}, range(12)), ({"namespace": "a/1"}, (1, 4, 7, 10)), ({"namespace": "b"}, ()),
            ({"metadata": {"even": True}, "namespace": "a/2"}, (2, 8)),
        ):  # fmt: skip
            wanted: Any = filters
            hits = await service.search("alice", "apples", wanted | {"strategy": strategy, "top_k": 20})
            assert {hit.message.id for hit in hits} == {f"m{number}" for number in expected}


async def test_facts_of_other_users_are_isolated(
    services: tuple[InMemoryMemoryService, PostgresMemoryService],
) -> None:
    fact = MemoryItem(id="f", text="likes tea")
    for service, id in product(services, HOSTILE_IDS):
        other = f"{id}x" if len(id) < 500 else "x"
        await service.save_items(id, fact, id)
        await service.save_items(other, {"id": "f", "text": "likes coffee"}, id)
        await service.save_items(other, [], id, supersedes=["f"])
        assert [hit.item for hit in await service.search(id, "likes")] == [fact], id
        assert list(await service.list_items(id)) == [fact], id
        assert list(await service.list_items(other)) == [], id
        assert await service.search(other, "likes") == [], id
        assert await service.delete_memory(other) == Deleted(memories=1), id
        assert list(await service.list_items(id)) == [fact], id
    for service, id in product(services, HOSTILE_IDS):
        assert list(await service.list_items(id)) == [fact], id


@pytest.mark.parametrize(
    "item",
    [
        {}, {"text": ""}, {"text": " "}, {"text": "x", "kind": "message"}, {"text": "x", "kind": ""}, 7, "text",
        {"text": "x", "importance": 2}, {"text": "x", "id": "\0"}, {"text": "x", "valid_from": "2020-01-01T00:00:00"},
        {"text": "x", "metadata": {"value": math.nan}}, {"text": "x", "more": 1}, [{"text": "good"}, {"text": ""}],
    ],
)  # fmt: skip
async def test_invalid_fact_is_rejected(
    services: tuple[InMemoryMemoryService, PostgresMemoryService], item: Any
) -> None:
    for service in services:
        with pytest.raises(InvalidContent):
            await service.save_items("alice", item)
        with pytest.raises(InvalidContent):
            await service.save_items("alice", [], supersedes="old")
        with pytest.raises(InvalidContent):
            await service.save_items("alice", {"id": "i", "text": "x"}, supersedes=["i"])
        with pytest.raises(InvalidContent):
            await service.list_items("alice", kind="a\0")
        assert list(await service.list_items("alice")) == []


async def test_fact_id_of_an_existing_message_is_a_conflict(
    services: tuple[InMemoryMemoryService, PostgresMemoryService],
) -> None:
    for service in services:
        await service.add_memory("alice", [text("said", id="m")], "s")
        with pytest.raises(Conflict):
            await service.save_items("alice", MemoryItem(id="m", text="x"), "s")
        await service.save_items("alice", MemoryItem(id="m", text="x"), "t")
        assert len(await service.list_memory("alice")) == 2


def test_unknown_text_search_language_is_rejected() -> None:
    invalid = Settings(text_search_config="klingon")
    with pytest.raises(NotConfigured, match="klingon"):
        InMemoryMemoryService(settings=invalid)
    with pytest.raises(NotConfigured, match="AGENTSTORE_TEXT_SEARCH_CONFIG"):
        PostgresMemoryService("postgresql://h/db", settings=invalid)
