"""``agentstore vector`` and ``agentstore embed``."""

import asyncio
from typing import Any

import asyncpg
import pytest

from agentstore import AgentStore
from agentstore.search import embedding
from agentstore.testing import text
from tests.support.cli import run
from tests.support.vectors import WordEmbedder


@pytest.fixture(autouse=True)
def _memories(direct_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", direct_url)

    async def add() -> None:
        async with AgentStore() as store:
            await store.memory.add_memory("alice", [text("the kitten"), text("the train")], "s")

    asyncio.run(add())


def test_vectors_are_enabled_embedded_searched_and_disabled(
    has_pgvector: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    status: dict[str, Any] = run("vector", "status", "--json").json()
    assert (status["state"], status["embedders"]) == ("not enabled", {})
    assert run("check").out.count("\n") == 1
    if not has_pgvector:
        assert "full-text search works without" in run("vector", "status").out
        done = run("vector", "enable")
        assert done.code == 1
        assert "no pgvector" in done.err
        return
    assert "agentstore vector enable" in run("vector", "status").out
    done = run("vector", "enable")
    assert [line.split()[:2] for line in done.out.splitlines()[:3]] == [
        ["CREATE", "EXTENSION"],
        ["CREATE", "TABLE"],
        ["CREATE", "TRIGGER"],
    ]
    assert run("vector", "enable").out == "already enabled\n"
    assert "vectors" in run("check").out
    assert run("check", "--json").json()["vector"]["state"] == "at head"
    assert "EMBEDDING_URL" in run("embed").err
    assert "EMBEDDING_URL" in run("vector", "index").err
    monkeypatch.setattr(embedding, "configured", lambda _: WordEmbedder())
    assert run("embed", "--user", "bob", "--json").json() == {"embedded": 0}
    assert run("embed").out == "embedded: 2 memories\n"
    printed = run("vector", "status").out
    assert "words" in printed
    assert "2" in printed
    hits = run("memory", "search", "alice", "feline", "--strategy", "vector", "--top-k", "1", "--json").json()
    assert hits[0]["position"] == 1
    assert "CREATE INDEX CONCURRENTLY" in run("vector", "index").out
    assert run("vector", "index", "--json").json()["index"].startswith("memory_vectors_")
    assert run("vector", "disable").code == 2
    assert "dropped" in run("vector", "disable", "--yes").out
    assert run("vector", "disable", "--yes").out == "not enabled\n"
    assert run("memory", "search", "alice", "kitten").code == 0


def test_sql_prints_vector_migrations_only_with_vectors() -> None:
    assert "memory_vectors" not in run("sql").out
    assert "CREATE TABLE memory_vectors" in run("sql", "--vectors").out


@pytest.mark.slow
def test_the_wait_of_an_index_build_is_reported_and_bounded(direct_url: str, has_pgvector: bool) -> None:
    if not has_pgvector:
        return
    assert run("vector", "enable").code == 0

    async def build() -> Any:
        holder = await asyncpg.connect(direct_url, server_settings={"application_name": "their job"})
        await holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ; CREATE TABLE public.theirs (i int)")
        arguments = ("vector", "index", "--embedder", "words", "--dimensions", "32", "--wait", "2")
        done = await asyncio.wait_for(asyncio.to_thread(run, *arguments), 120)
        await holder.close()
        return done

    done = asyncio.run(build())
    assert (done.code, "Timed out" in done.err) == (1, True)
    assert "'their job', idle in transaction since" in done.err.partition("Timed out")[0]
    assert run("vector", "index", "--embedder", "words", "--dimensions", "32").out.endswith("done\n")
