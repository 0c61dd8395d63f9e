"""Vectors on Postgres: writing, searching, the index, and failures of the embedder."""

import asyncio
import json
import logging
from typing import Any

import asyncpg
import pytest

from agentstore import (
    AgentStore,
    EmbeddingFailed,
    InvalidContent,
    MemoryItem,
    NotConfigured,
    PostgresMemoryService,
    SearchFilters,
    SearchStrategy,
    Settings,
    migrate,
)
from agentstore.database.statement import Statement
from agentstore.repositories.memory import vectors as memory_vectors
from agentstore.repositories.memory.search import query_values
from agentstore.search import embedding, ranking
from agentstore.testing import text
from tests.support.plans import MODES, nodes_of
from tests.support.vectors import WordEmbedder, with_pgvector

_COUNT = "SELECT count(*) FROM agentstore.memory_vectors"


async def _search_ids(store: AgentStore, question: str, strategy: str) -> list[str]:
    return [hit.message.id for hit in await store.memory.search("alice", question, {"strategy": strategy})]


@with_pgvector
async def test_memories_with_synonyms_of_the_query_are_found(has_pgvector: bool, vector_store: AgentStore) -> None:
    await vector_store.memory.add_memory("alice", text("the kitten sleeps", id="cat"), "s")
    await vector_store.memory.add_memory("alice", text("the lorry broke", id="car"), "t")
    await vector_store.memory.add_memory("bob", text("a tomcat", id="bobs"), "s")
    assert await _search_ids(vector_store, "feline", "full_text") == []
    assert (await _search_ids(vector_store, "feline", "vector"))[0] == "cat"
    assert (await _search_ids(vector_store, "feline broke", "hybrid"))[0] == "car"
    (hit, *_) = await vector_store.memory.search("alice", "the kitten sleeps", {"strategy": SearchStrategy.VECTOR})
    assert hit.score == pytest.approx(1, abs=1e-6)
    several: list[SearchFilters] = [
        {"min_score": 0.9}, {"top_k": 1}, {"session_id": "s"}, {"top_k": 1, "order": "chronological"},
    ]  # fmt: skip
    for filters in several:
        found = await vector_store.memory.search("alice", "the kitten sleeps", {"strategy": "VECTOR", **filters})
        assert [each.message.id for each in found] == ["cat"]
    for strategy in ("vector", "hybrid"):
        assert await _search_ids(vector_store, " \n", strategy) == []
        assert await vector_store.memory.search("nobody", "cat", {"strategy": strategy}) == []


@with_pgvector
async def test_a_hybrid_query_without_words_matches_by_meaning(has_pgvector: bool, vector_store: AgentStore) -> None:
    await vector_store.memory.add_memory("alice", [text("☂ today", id="rain"), text("sunny", id="sun")], "s")
    assert await _search_ids(vector_store, "☂", "hybrid") == ["rain", "sun"]


@with_pgvector
async def test_memories_added_while_the_embedder_fails_are_stored_and_embedded_later(
    has_pgvector: bool,
    vector_store: AgentStore,
    embedder: WordEmbedder,
    observer: asyncpg.Connection,
    caplog: pytest.LogCaptureFixture,
) -> None:
    embedder.fails = True
    with caplog.at_level(logging.WARNING, logger="agentstore"):
        await vector_store.memory.add_memory("alice", [text("apples", id="a"), text("", id="empty")], "s")
        await vector_store.memory.save_items("alice", MemoryItem(id="i", text="likes apples"))
        assert "agentstore embed" in caplog.text
        assert set(await _search_ids(vector_store, "apples", "hybrid")) == {"a", "i", "empty"}
        assert "by words alone" in caplog.text
    with pytest.raises(EmbeddingFailed, match="down"):
        await _search_ids(vector_store, "apples", "vector")
    with pytest.raises(EmbeddingFailed):
        await vector_store.memory.embed()
    embedder.fails = False
    assert await _search_ids(vector_store, "apples", "vector") == []
    assert "a" in await _search_ids(vector_store, "apples", "hybrid")
    assert await vector_store.memory.embed(user_id="bob") == 0
    assert await vector_store.memory.embed(user_id="alice") == 2
    assert await vector_store.memory.embed() == 0
    assert await _search_ids(vector_store, "apples", "vector") == ["a", "i"]
    assert await observer.fetchval(_COUNT) == 2


@with_pgvector
async def test_a_text_that_the_embedder_rejects_is_skipped(
    has_pgvector: bool, vector_store: AgentStore, embedder: WordEmbedder, observer: asyncpg.Connection
) -> None:
    embedder.rejects = {"poison"}
    messages = [text("poison" if number == 7 else f"word{number}", id=f"m{number}") for number in range(20)]
    await vector_store.memory.add_memory("alice", messages, "s")
    assert await observer.fetchval(_COUNT) == 0
    progress = []
    assert await vector_store.memory.embed(batch=6, user_id="alice", progress=lambda *each: progress.append(each)) == 19
    assert progress == [(6, 20), (12, 20), (18, 20), (20, 20)]


@with_pgvector
async def test_concurrent_embeds_writes_and_deletions_leave_one_current_vector_for_each_memory(
    has_pgvector: bool, vector_store: AgentStore, embedder: WordEmbedder, observer: asyncpg.Connection
) -> None:
    embedder.fails = True
    for number in range(8):
        for user in ("alice", "bob"):
            messages = [text(f"word{number} of {each}", id=f"m{each}") for each in range(10)]
            await vector_store.memory.add_memory(user, messages, f"s{number}")
    await vector_store.memory.save_items("alice", [MemoryItem(id=f"i{number}", text="old") for number in range(10)])
    embedder.fails = False

    async def change() -> None:
        for number in range(8):
            await vector_store.memory.delete_memory("bob", f"s{number}")
            await vector_store.memory.save_items(
                "alice", [MemoryItem(id=f"i{each}", text=f"{number}") for each in range(10)]
            )
        await vector_store.users.delete_user("bob")

    await asyncio.gather(change(), *(vector_store.memory.embed(batch=7) for _ in range(4)))
    await vector_store.memory.embed()
    assert await observer.fetchval(_COUNT) == await observer.fetchval("SELECT count(*) FROM agentstore.memories") == 90
    hits = await vector_store.memory.search("alice", "7", {"strategy": "vector", "kind": "fact"})
    assert [hit.score for hit in hits] == pytest.approx([1] * 10, abs=1e-6)


@with_pgvector
async def test_changing_an_item_deletes_the_vector_of_its_old_text(
    has_pgvector: bool, vector_store: AgentStore, embedder: WordEmbedder, observer: asyncpg.Connection
) -> None:
    await vector_store.memory.save_items("alice", [MemoryItem(id="i", text="tea"), MemoryItem(id="j", text="milk")])
    embedder.fails = True
    await vector_store.memory.save_items("alice", MemoryItem(id="i", text="coffee"), supersedes=["j"])
    assert await observer.fetchval(_COUNT) == 1  # the superseded item's text is unchanged
    embedder.fails = False
    await vector_store.memory.save_items("alice", MemoryItem(id="i", text="coffee"))
    hits = await vector_store.memory.search("alice", "coffee", {"strategy": "vector"})
    assert [(hit.message.id, hit.score) for hit in hits] == [("i", pytest.approx(1, abs=1e-6))]
    before = await observer.fetchval("SELECT sum(xmin::text::bigint) FROM agentstore.memory_vectors")
    await observer.execute("UPDATE agentstore.memories SET lexemes = ''::tsvector, payload = payload")
    assert await observer.fetchval("SELECT sum(xmin::text::bigint) FROM agentstore.memory_vectors") == before


@with_pgvector
async def test_vectors_are_deleted_with_their_user_or_bucket(
    has_pgvector: bool, vector_store: AgentStore, observer: asyncpg.Connection
) -> None:
    for user in ("alice", "bob"):
        for session in "st":
            await vector_store.memory.add_memory(user, [text("a"), text("b")], session)
    await vector_store.memory.delete_memory("bob", "s")
    await vector_store.users.delete_user("alice")
    rows = await observer.fetch("SELECT DISTINCT user_id, session_id FROM agentstore.memory_vectors")
    assert rows == [("bob", "t")]


@with_pgvector
async def test_each_embedder_has_its_own_vectors(
    has_pgvector: bool, vector_store: AgentStore, database_url: str, settings: Settings
) -> None:
    await vector_store.memory.add_memory("alice", text("apples", id="a"), "s")
    other = WordEmbedder('it\'s"other"%s:x', 5)
    async with PostgresMemoryService(database_url, settings=settings, embedder=other, strategy="vector") as service:
        assert await service.search("alice", "apples") == []
        assert await service.embed() == 1
        assert [hit.message.id for hit in await service.search("alice", "apples")] == ["a"]
    wrong = WordEmbedder("words", 5)
    async with PostgresMemoryService(database_url, settings=settings, embedder=wrong) as service:
        with pytest.raises(NotConfigured, match="another name"):
            await service.search("alice", "apples", {"strategy": "vector"})


async def test_full_text_search_works_without_vectors_and_errors_name_the_command(
    database_url: str, settings: Settings, embedder: WordEmbedder, caplog: pytest.LogCaptureFixture
) -> None:
    async with AgentStore(database_url, settings=settings, embedder=embedder) as store:
        with caplog.at_level(logging.WARNING, logger="agentstore"):
            for number in range(3):
                await store.memory.add_memory("alice", text(f"apples {number}"), "s")
        assert caplog.text.count("vector enable") == 1
        assert embedder.calls == []  # calling it may cost money
        assert len(await store.memory.search("alice", "apples")) == 3
        for strategy in ("vector", "hybrid"):
            with pytest.raises(NotConfigured, match="agentstore vector enable"):
                await store.memory.search("alice", "apples", {"strategy": strategy})
        with pytest.raises(NotConfigured, match="agentstore vector enable"):
            await store.memory.embed()


async def test_a_strategy_that_needs_vectors_needs_an_embedder(store: AgentStore, database_url: str) -> None:
    with pytest.raises(NotConfigured, match="AGENTSTORE_EMBEDDING_URL"):
        await store.memory.search("alice", "x", {"strategy": "vector"})
    with pytest.raises(NotConfigured, match="embedder"):
        await store.memory.embed()
    with pytest.raises(NotConfigured, match="embedder"):
        PostgresMemoryService(database_url, strategy="vector")
    with pytest.raises(NotConfigured, match="dimensions"):
        AgentStore(database_url, embedder=object())  # type: ignore[arg-type]
    wrong: Any
    for wrong in ("smell", 7):
        with pytest.raises(InvalidContent, match="full_text, vector, hybrid"):
            await store.memory.search("alice", "x", {"strategy": wrong})


@with_pgvector
async def test_each_search_is_one_statement_and_full_text_search_uses_no_vectors(
    has_pgvector: bool, vector_store: AgentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    statements: list[str] = []
    fetch = asyncpg.Connection.fetch

    async def record(self: asyncpg.Connection, query: str, *args: Any, **kwargs: Any) -> Any:
        statements.append(query)
        return await fetch(self, query, *args, **kwargs)

    await vector_store.memory.add_memory("alice", text("apples"), "s")
    monkeypatch.setattr(asyncpg.Connection, "fetch", record)
    for strategy in SearchStrategy:
        await vector_store.memory.search("alice", "apples", {"strategy": strategy})  # caches that there is no index
        statements.clear()
        assert await vector_store.memory.search("alice", "apples", {"strategy": strategy})
        assert len(statements) == 1
        assert ("memory_vectors" in statements[0]) == (strategy is not SearchStrategy.FULL_TEXT)


_ROWS = """
INSERT INTO agentstore.users (id) SELECT 'u' || n FROM generate_series(1, 800) n;
INSERT INTO agentstore.memory_buckets (user_id, session_id, count, tokens)
SELECT 'u' || n, CASE m WHEN 0 THEN 's' ELSE 'e' || m END, 50, 100
FROM generate_series(1, 800) n, generate_series(0, 10) m;
INSERT INTO agentstore.memories (user_id, session_id, seq, id, payload, is_question, tokens, lexemes, analysis)
SELECT 'u' || n, 's', m, 'm' || m, '{}', false, 2, array_to_tsvector(ARRAY['a' || n, 'b' || m]), '1'
FROM generate_series(1, 800) n, generate_series(1, 50) m;
INSERT INTO agentstore.memory_vectors SELECT user_id, session_id, seq, 'words', ARRAY[seq, 1, 0]::real[]::vector
FROM agentstore.memories WHERE seq < 40;
ANALYZE agentstore.users, agentstore.memory_buckets, agentstore.memories, agentstore.memory_vectors;
"""
_VALUES: dict[str, Any] = {
    "user_id": "u3", "wanted_sessions": None, "excluded": ["old"], "neighbors": True, "labels": None,
    "role": None, "since": None, "until": None, "min_score": 0.0,
    "kind": None, "valid_at": None, "limit": 10,
    "weight": 0.7, "expired": ["old"],
    "embedder": "words", "vector": "[1,2,3]", "after_user": "u3", "after_session": "s", "after": 3,
    "many": 100, "nearest": 100, "index": "agentstore.x",
    "users": ["u3", "u4"], "ids": ["m41", "m42"], "vectors": ["[1,2,3]", "[1,2,3]"], "digests": [b"x", b"y"],
}  # fmt: skip
_VALUES |= query_values(_VALUES, ranking.Question({"a": 1.0, "b": 1.0}))


@with_pgvector
async def test_every_vector_statement_uses_an_index(
    has_pgvector: bool, vector_store: AgentStore, observer: asyncpg.Connection
) -> None:
    await observer.execute(_ROWS)
    database = vector_store.memory._database
    await migrate.index_vectors(database, "words", 3)
    statements = {name: each for name, each in vars(memory_vectors).items() if isinstance(each, Statement)}
    assert len(statements) >= 8
    for with_words in (True, False):
        statements[f"by_index {with_words}"] = memory_vectors.by_index("words", 3, with_words=with_words)
    read_no_table_or_all_of_it = {"IS_ENABLED", "USE_INDEX", "EMBEDDERS"}
    for name in statements.keys() - read_no_table_or_all_of_it:
        for mode in MODES:
            await observer.execute("RESET ALL")
            if name.startswith("by_index"):
                for setting, value in memory_vectors.INDEX_SETTINGS.items():
                    await observer.execute("SELECT set_config($1, $2, false)", setting, value)
                mode = memory_vectors.INDEX_SETTINGS["plan_cache_mode"]
            nodes = await nodes_of(observer, statements[name], _VALUES, mode)
            scanned = {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}
            assert scanned <= {"pg_index"}, (name, mode)
            reached = {node.get("Index Name") for node in nodes}
            if name in ("VECTOR", "HYBRID"):
                assert {"memory_vectors_pkey", "memories_pkey"} <= reached, (name, mode)
            if name.startswith("by_index"):
                assert migrate.vector_index_name("words", 3) in reached, (name, mode)
            assert reached != {None}


@with_pgvector
async def test_an_index_is_built_once_and_rebuilt_if_it_is_invalid(
    has_pgvector: bool, vector_store: AgentStore, direct_url: str, observer: asyncpg.Connection
) -> None:
    await vector_store.memory.add_memory("alice", [text(f"word{number}", id=f"m{number}") for number in range(30)], "s")
    database = vector_store.memory._database
    name = await migrate.index_vectors(database, "words", 32)
    valid = "SELECT indexrelid, indisvalid FROM pg_index WHERE indexrelid = to_regclass('agentstore.' || $1)"
    built = await observer.fetch(valid, name)
    assert built[0][1]
    assert await migrate.index_vectors(database, "words", 32) == name
    assert await observer.fetch(valid, name) == built
    await observer.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = $1", built[0][0])
    await migrate.index_vectors(database, "words", 32)
    rebuilt = await observer.fetch(valid, name)
    assert rebuilt[0][1]
    assert rebuilt[0][0] != built[0][0]
    assert (await _search_ids(vector_store, "word7", "vector"))[0] == "m7"
    with pytest.raises(NotConfigured, match="2,000"):
        await migrate.index_vectors(database, "words", 3_000)
    # An embedder whose name needs quoting.
    await migrate.index_vectors(database, "it's\"%s:x", 5)


@with_pgvector
async def test_the_index_finds_the_same_memories_as_comparing_all_vectors(
    has_pgvector: bool, vector_store: AgentStore, observer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = vector_store.memory
    for user in ("alice", "bob"):
        messages = [text(f"word{number} word{number % 7}", id=f"{user}{number}") for number in range(300)]
        await memory.add_memory(user, messages, "s")
    questions = [f"word{number} word{number % 5}" for number in range(0, 300, 30)]
    wanted = {
        strategy: [await _search_ids(vector_store, each, strategy) for each in questions]
        for strategy in ("vector", "hybrid")
    }
    name = await migrate.index_vectors(memory._database, "words", 32)
    memory_vectors._MISSING.clear()  # as if a minute had passed
    used = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = $1"
    monkeypatch.setattr(memory_vectors, "INDEX_FROM", 100)
    for strategy, found in wanted.items():
        for question, expected in zip(questions, found, strict=True):
            assert (await _search_ids(vector_store, question, strategy))[:3] == expected[:3]
    # Expired memories are not found, and do not count towards the nearest.
    await memory.add_memory("alice", [text(f"word{number}", id=f"old{number}") for number in range(50)], "old")
    memory._settings = memory._settings.model_copy(update={"memory_ttl": 3_600})
    await observer.execute(
        "UPDATE agentstore.memory_buckets SET updated_at = now() - interval '1 day' WHERE session_id = 'old'"
    )
    for index_from in (100, 100_000):
        monkeypatch.setattr(memory_vectors, "INDEX_FROM", index_from)
        for strategy, found in wanted.items():
            assert (await _search_ids(vector_store, questions[1], strategy))[:3] == found[1][:3]
    monkeypatch.setattr(memory_vectors, "INDEX_FROM", 100)
    # With a filter, all vectors are compared.
    hits = await memory.search("alice", "word1", {"strategy": "vector", "session_id": "other"})
    assert hits == []
    await vector_store.stop()
    async with asyncio.timeout(60):
        while not await observer.fetchval(used, name):
            await asyncio.sleep(0.05)
            await observer.execute("SELECT pg_stat_clear_snapshot()")
    assert await observer.fetchval("SELECT coalesce(current_setting('hnsw.iterative_scan', true), 'off')") == "off"


@with_pgvector
async def test_vectors_of_any_number_of_dimensions_are_stored(
    has_pgvector: bool, vector_store: AgentStore, database_url: str, settings: Settings
) -> None:
    for dimensions in (1, 3_072):
        large = WordEmbedder(f"of {dimensions}", dimensions)
        async with PostgresMemoryService(database_url, settings=settings, embedder=large) as service:
            await service.add_memory("alice", text("apples", id=f"{dimensions}"), "s")
            hits = await service.search("alice", "apples", {"strategy": "vector"})
            assert hits[0].score == pytest.approx(1, abs=1e-6)


def test_vectors_round_trip_unchanged_as_text() -> None:
    from array import array

    for numbers in ([1e-30, -3.4e38, 0.1], [0.0, -0.0, 1 / 3]):
        vector = array("f", numbers)
        assert array("f", json.loads(embedding.to_pgvector(vector))) == vector
