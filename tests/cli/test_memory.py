"""``agentstore memory`` and ``agentstore reindex``."""

import asyncio

import pytest

from agentstore import AgentStore
from agentstore.testing import text
from tests.support.cli import run


@pytest.fixture(autouse=True)
def _memories(direct_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTSTORE_DATABASE_URL", direct_url)

    async def add() -> None:
        async with AgentStore() as store:
            messages = [
                text("我对虾过敏", id="虾", metadata={"timestamp": "2024-01-02"}),
                text("\x1b[31mtrains", id="train"),
            ]
            for message in messages:
                await store.memory.add_memory("alice", message, f"of {message.id}")

    asyncio.run(add())


def test_search_prints_matches_and_applies_filters() -> None:
    printed = run("memory", "search", "alice", "过敏").out
    assert "of 虾" in printed
    assert "我对虾过敏" in printed
    assert "2024-01-02" in printed
    (hit,) = run("memory", "search", "alice", "过敏", "--json").json()
    assert (hit["session_id"], hit["position"], hit["message"]["id"]) == ("of 虾", 1, "虾")
    assert hit["score"] > 0
    assert "\x1b" not in run("memory", "search", "alice", "train").out
    assert "no memories of user 'bob' match" in run("memory", "search", "bob", "x").out
    assert run("memory", "search", "alice", "过敏", "--until", "2024-01-01", "--json").json() == []
    assert run("memory", "search", "alice", "过敏", "--since", "soon").code == 2


def test_added_memories_are_searchable_and_need_no_reindex() -> None:
    assert run("memory", "add", "bob", "likes tea", "--session", "s").out.startswith("added: msg_")
    id = run("memory", "add", "bob", "tea is liked", "--kind", "preference", "--json").json()["id"]
    hits = run("memory", "search", "bob", "tea", "--json").json()
    assert {hit["message"]["role"] for hit in hits} == {"user", "system"}
    assert all("<mark>tea</mark>" in hit["snippet"] for hit in hits)
    assert id in {hit["message"]["id"] for hit in hits}
    assert "preference" in run("memory", "search", "bob", "tea").out
    assert run("memory", "add", "bob", " ", "--kind", "fact").code == 2
    assert run("memory", "add", "bob", "x", "--role", "nobody").code == 2
    assert run("reindex").out == "reindexed: 0 memories\n"
    assert run("reindex", "--user", "bob", "--json").json() == {"reindexed": 0}


def test_memories_are_listed_in_pages_and_deleted() -> None:
    page = run("memory", "list", "alice", "--limit", "1", "--json").json()
    (first,) = page["messages"]
    rest = run("memory", "list", "alice", "--limit", "1", "--cursor", page["next_cursor"], "--json").json()
    assert {first["id"], rest["messages"][0]["id"]} == {"虾", "train"}
    assert "我对虾过敏" in run("memory", "list", "alice").out
    assert run("memory", "delete", "alice").code == 2
    assert run("memory", "delete", "alice", "--session", "of 虾", "--yes", "--json").json() == {"memories": 1}
    assert run("memory", "delete", "alice", "--yes").out == "deleted: 1 memories\n"
    assert "has no memories" in run("memory", "list", "alice").out
