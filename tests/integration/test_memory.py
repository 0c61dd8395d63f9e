"""Memory on Postgres: what one statement, an index and many writers show."""

import asyncio
import json
import random
from typing import Any

import asyncpg

from agentstore import AgentStore, Deleted, Message
from agentstore.database import _Compiled
from agentstore.repositories import memory
from agentstore.search import ranking
from agentstore.testing import text


async def test_a_user_is_made_and_deleted_with_the_memories(store: AgentStore, observer: asyncpg.Connection) -> None:
    await store.memory.add_memory("alice", [text("a"), text("b")], "s")
    await store.memory.add_memory("bob", text("a"), "s")
    assert await store.users.get_user("alice") is not None
    await store.sessions.create_session("alice", "s")
    assert await store.sessions.delete_session("alice", "s") == Deleted(sessions=1)
    assert len(await store.memory.list_memory("alice")) == 2
    assert await store.users.delete_user("alice") == Deleted(memories=2)
    assert await observer.fetch("SELECT user_id FROM agentstore.memories") == [("bob",)]
    assert await observer.fetch("SELECT user_id FROM agentstore.memory_buckets") == [("bob",)]


async def test_buckets_count_what_is_there_whoever_writes(store: AgentStore, observer: asyncpg.Connection) -> None:
    rng = random.Random(1)
    messages = [text(f"word{number} and more", id=f"m{number}") for number in range(60)]

    async def write() -> None:
        for _ in range(15):
            await store.memory.add_memory("alice", rng.sample(messages, rng.randint(1, 10)), f"s{rng.randint(0, 2)}")

    await asyncio.gather(*(write() for _ in range(10)))
    assert await _miscounted(observer) == []


async def test_additions_go_on_while_the_user_and_the_bucket_are_deleted(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    async def delete() -> None:
        for _ in range(25):
            await store.users.delete_user("alice")
            await store.memory.delete_memory("alice")

    async def add(name: str) -> None:
        for number in range(25):
            await store.memory.add_memory("alice", text("x", id=f"{name}{number}"), f"s{number % 2}")

    await asyncio.gather(delete(), *(add(name) for name in "abcd"))
    await store.memory.add_memory("alice", text("last", id="last"), "s0")
    assert (await store.memory.search("alice", "last"))[0].message.id == "last"
    assert await _miscounted(observer) == []


async def _miscounted(observer: asyncpg.Connection) -> list[asyncpg.Record]:
    """The buckets that say something else than their memories."""
    return await observer.fetch(
        "SELECT * FROM (SELECT user_id, session_id, count(*) AS count, sum(tokens) AS tokens, max(seq) AS last, "
        "count(DISTINCT id) AS ids FROM agentstore.memories GROUP BY 1, 2) m "
        "FULL JOIN agentstore.memory_buckets b USING (user_id, session_id) "
        "WHERE (m.count, m.tokens, m.last, m.ids) IS DISTINCT FROM (b.count, b.tokens, b.count, b.count)"
    )


async def test_each_call_is_one_statement(store: AgentStore, monkeypatch: Any) -> None:
    said = 0
    fetch = asyncpg.Connection.fetch

    async def counted(self: asyncpg.Connection, *args: Any, **kwargs: Any) -> Any:
        nonlocal said
        said += 1
        return await fetch(self, *args, **kwargs)

    await store.start()
    monkeypatch.setattr(asyncpg.Connection, "fetch", counted)
    for call in (
        store.memory.add_memory("alice", [text("apples"), text("pears")], "s"),
        store.memory.search_memory("alice", text("apples")),
        store.memory.list_memory("alice"),
        store.memory.delete_memory("alice", "s"),
        store.memory.delete_memory("alice"),
    ):
        said = 0
        await call
        assert said == 1


async def test_a_search_asks_the_index_once_for_each_token_whatever_else_is_in_the_table(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    """Also with the plan that a prepared statement gets, and with and without statistics."""
    words = [f"word{number}" for number in range(200)]
    rng = random.Random(2)
    for user in range(20):
        batch = [text(" ".join(rng.choices(words, k=12))) for _ in range(400)]
        await store.memory.add_memory(f"u{user}", batch, "s")
    compiled = _Compiled(memory.SEARCH, "agentstore")
    values = {
        "user_id": "u3", "wanted_session": None, "role": None, "since": None, "until": None, "min_score": 0.0,
        "limit": 10, "queries": ranking.queries("u3", words[:5]), "weights": [1.0] * 5,
    }  # fmt: skip
    await observer.execute(f"PREPARE search AS {compiled.sql}")
    given = ", ".join(_literal(value) for value in compiled.arguments(values))
    for prepare in ("SELECT 1", "ANALYZE agentstore.memories, agentstore.memory_buckets"):
        await observer.execute(prepare)
        for mode in ("force_custom_plan", "force_generic_plan"):
            await observer.execute(f"SET plan_cache_mode = {mode}")
            said = await observer.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE search({given})")
            nodes = _nodes(json.loads(said)[0]["Plan"])
            assert [node for node in nodes if node.get("Index Name") == "memories_lexemes_idx"]
            assert not [n for n in nodes if n["Node Type"] == "Seq Scan" and n.get("Relation Name") == "memories"]
            keys = [node["Index Cond"] for node in nodes if node.get("Index Name") == "memories_pkey"]
            assert len(keys) == 2
            assert all("session_id" in key and "seq" in key for key in keys)


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, list):
        kind = {str: "text", int: "int", float: "float8"}[type(value[0])]
        return f"ARRAY[{', '.join(map(_literal, value))}]::{kind}[]"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in _nodes(child))]


async def test_a_hundred_questions_of_every_kind_are_no_error(store: AgentStore) -> None:
    rng = random.Random(9)
    await store.memory.add_memory("alice", [text(f"hello world {number}") for number in range(50)], "s")
    alphabet = "'\"\\&|!():*<>-~%_$;\0\n\t \ud800😀词aA1éไ한\u200b\u0301"
    for _ in range(300):
        question = "".join(rng.choices(alphabet, k=rng.randint(1, 60)))
        await store.memory.search("alice", question)
        await store.memory.add_memory("bob", Message(role="user", content=[{"type": "text", "text": question}]))
