"""``agentstore memory`` and ``agentstore reindex``."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

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
    assert hit["rerank_score"] is None
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
    assert run("memory", "delete", "alice", "--yes").out == "deleted: 1 memory\n"
    assert "has no memories" in run("memory", "list", "alice").out


def test_a_list_shows_session_time_and_kind() -> None:
    item = run("memory", "add", "alice", "likes trains", "--kind", "preference", "--session", "s1", "--json").json()
    lines = run("memory", "list", "alice").out.splitlines()
    assert lines[0].split() == ["session", "id", "time", "kind", "text"]
    assert [line.split("  ")[0] for line in lines[1:]] == ["of train", "of 虾", "s1"]
    assert "虾  " in lines[2]
    assert "2024-01-02 00:00  user" in lines[2]
    assert item["id"] in lines[3]
    assert "preference  likes trains" in lines[3]
    found = run("memory", "list", "alice", "--json").json()["messages"]
    assert [(each["session_id"], each["position"], each["kind"]) for each in found] == [
        ("of train", 1, "message"),
        ("of 虾", 1, "message"),
        ("s1", 1, "preference"),
    ]
    assert found[1]["time"] == "2024-01-02T00:00:00+00:00"


def test_lists_and_searches_have_the_filters_of_the_calls() -> None:
    async def add() -> None:
        async with AgentStore() as store:
            for number in range(3):
                message = text(f"peppers {number}", id=str(number), metadata={"plan": number})
                await store.memory.add_memory("bob", message, f"s{number}")
            await store.memory.save_items(
                "bob", {"text": "peppers", "namespace": "a/b", "valid_from": datetime(2024, 1, 1, tzinfo=UTC)}, "s2"
            )

    asyncio.run(add())

    def listed(*arguments: str) -> list[str]:
        return [each["session_id"] for each in run("memory", "list", "bob", *arguments, "--json").json()["messages"]]

    def found(*arguments: str) -> list[str]:
        hits = run("memory", "search", "bob", "peppers", *arguments, "--json").json()
        return sorted(hit["session_id"] for hit in hits)

    for call in (listed, found):
        assert call() == ["s0", "s1", "s2", "s2"]
        assert call("--session", "s0", "--session", "s1") == ["s0", "s1"]
        assert call("--exclude-session", "s0", "--exclude-session", "s2") == ["s1"]
        assert call("--metadata", '{"plan": 1}') == ["s1"]
        assert call("--namespace", "a") == ["s2"]
    assert found("--kind", "fact") == ["s2"]
    assert found("--kind", "message") == ["s0", "s1", "s2"]
    assert found("--min-score", "1000") == []
    assert found("--valid-at", "1990-01-01") == ["s0", "s1", "s2"]
    hits = run("memory", "search", "bob", "peppers", "--order", "chronological", "--json").json()
    assert [hit["time"] for hit in hits] == sorted(hit["time"] for hit in hits)
    assert "no memories that match" in run("memory", "list", "bob", "--namespace", "none").out
    assert run("memory", "search", "bob", "x", "--valid-at", "soon").code == 2
    assert run("memory", "list", "bob", "--metadata", "[]").code == 2


def test_neighbors_are_found_unless_refused() -> None:
    for each in ("I want a garden", "With a pond"):
        assert run("memory", "add", "carol", each, "--session", "s").code == 0
    assert len(run("memory", "search", "carol", "garden", "--json").json()) == 2
    assert len(run("memory", "search", "carol", "garden", "--no-neighbors", "--json").json()) == 1


def test_matches_are_highlighted_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("FORCE_COLOR", "1"), ("TERM", "xterm"), ("COLUMNS", "80")):
        monkeypatch.setenv(name, value)
    assert "\x1b[1;33m31mtrains" in run("memory", "search", "alice", "train").out


def test_an_empty_search_says_how_to_add_memories(tmp_path: Path) -> None:
    assert "agentstore" not in run("memory", "search", "alice", "nothing such").out
    none = run("memory", "search", "it's me", "x").out
    assert "agentstore import --remember FILE" in none
    assert "agentstore memory add -- 'it'\"'\"'s me' TEXT" in none
    assert "add-sessions" not in none
    assert run("sessions", "append", "dora", "s", "pears", "--create").code == 0
    assert "agentstore memory add-sessions -- dora" in run("memory", "search", "dora", "pears").out
    exported = run("sessions", "export", "--", "dora").out.encode()
    for _ in range(2):
        done = run("import", "--remember", "-", "--json", stdin=exported).json()
        assert (done["remembered"], done["new_messages"]) == (1, 0)
        assert len(run("memory", "search", "dora", "pears", "--json").json()) == 1


def test_messages_of_sessions_are_added_once() -> None:
    for session in ("s1", "s2"):
        assert run("sessions", "append", "erin", session, f"pears of {session}", "--create").code == 0
    assert run("memory", "add-sessions", "erin", "s1", "--namespace", "a/b").out == "added: 1 memory\n"
    assert run("memory", "add-sessions", "erin", "--json").json() == {"added": 1}
    assert run("memory", "add-sessions", "erin", "--json").json() == {"added": 0}
    assert len(run("memory", "search", "erin", "pears", "--json").json()) == 2
    assert len(run("memory", "search", "erin", "pears", "--namespace", "a", "--json").json()) == 1
    missing = run("memory", "add-sessions", "erin", "none", "--json")
    assert (missing.code, missing.error()["type"]) == (1, "NotFound")
