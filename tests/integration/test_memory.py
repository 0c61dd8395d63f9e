"""The memory service on Postgres: concurrency, statements and their plans."""

import asyncio
import random
from typing import Any

import asyncpg
import pytest

from agentstore import AgentStore, Deleted, LimitExceeded, SearchFilters
from agentstore.repositories.memory import items as memory_items
from agentstore.repositories.memory import lists as memory_lists
from agentstore.repositories.memory import search as memory_search
from agentstore.repositories.memory import sessions as memory_sessions
from agentstore.repositories.memory import statements as memory_statements
from agentstore.search import ranking
from agentstore.search.labels import labels_of_filter
from agentstore.testing import text
from tests.support.plans import MODES, nodes_of


async def test_users_are_inserted_with_their_memories_and_deleted_with_them(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    await store.memory.add_memory("alice", [text("a"), text("b")], "s")
    await store.memory.add_memory("bob", text("a"), "s")
    assert await store.users.get_user("alice") is not None
    await store.sessions.create_session("alice", "s")
    assert await store.sessions.delete_session("alice", "s") == Deleted(sessions=1)
    assert len(await store.memory.list_memory("alice")) == 2
    assert await store.users.delete_user("alice") == Deleted(memories=2)
    assert await observer.fetch("SELECT user_id FROM agentstore.memories") == [("bob",)]
    assert await observer.fetch("SELECT user_id FROM agentstore.memory_buckets") == [("bob",)]


async def test_concurrent_additions_keep_the_counts_of_buckets_exact(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    rng = random.Random(1)
    messages = [text(f"word{number} and more", id=f"m{number}") for number in range(60)]

    async def write() -> None:
        for _ in range(15):
            await store.memory.add_memory("alice", rng.sample(messages, rng.randint(1, 10)), f"s{rng.randint(0, 2)}")

    await asyncio.gather(*(write() for _ in range(10)))
    assert await _miscounted(observer) == []


async def test_additions_succeed_while_the_user_and_the_bucket_are_deleted(
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


async def test_items_too_large_for_a_statement_are_rejected_beforehand(store: AgentStore) -> None:
    items = [{"text": "x", "metadata": {"value": "y" * 30_000_000}} for _ in range(8)]
    with pytest.raises(LimitExceeded):
        await store.memory.save_items("alice", items)
    assert list(await store.memory.list_items("alice")) == []


async def test_items_are_saved_concurrently_while_they_and_their_user_are_deleted(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    rng = random.Random(5)

    async def save() -> None:
        for _ in range(20):
            items = [
                {"id": f"i{n}", "text": "word " * rng.randint(1, 5) + f"other{n}"} for n in rng.sample(range(9), 3)
            ]
            superseded = [id for id in [f"i{rng.randint(0, 8)}"] if id not in {item["id"] for item in items}]
            await store.memory.save_items("alice", items, f"s{rng.randint(0, 2)}", supersedes=superseded)
            await store.memory.add_memory("alice", text("message"), f"s{rng.randint(0, 2)}")

    async def delete() -> None:
        for _ in range(10):
            await store.memory.delete_memory("alice", f"s{rng.randint(0, 2)}")
            await store.users.delete_user("alice")

    await asyncio.gather(*(save() for _ in range(6)), delete())
    assert await _miscounted(observer) == []
    await asyncio.gather(*(save() for _ in range(6)))
    assert await _miscounted(observer) == []
    ids = [item.id for item in await store.memory.list_items("alice", with_invalid=True)]
    assert sorted(ids) == [f"i{n}" for n in range(9)]


async def test_memories_are_reindexed_during_concurrent_writes(store: AgentStore, observer: asyncpg.Connection) -> None:
    rng = random.Random(6)
    for user in ("alice", "bob"):
        messages = [text(f"runners ran number{n}", metadata={"name": "Ann"}) for n in range(50)]
        await store.memory.add_memory(user, messages[:30], "s")
        await store.memory.add_memory(user, messages[30:], "t")
        await store.memory.save_items(user, [{"id": f"i{n}", "text": f"likes thing{n}"} for n in range(10)])
    before = await observer.fetch("SELECT user_id, session_id, seq, lexemes, tokens FROM agentstore.memories")
    assert await store.memory.reindex() == 0
    # As if another release had indexed them.
    await observer.execute(
        "UPDATE agentstore.memories SET analysis = 'older', lexemes = '', tokens = 1; "
        "UPDATE agentstore.memory_buckets SET tokens = count"
    )
    assert await store.memory.search("alice", "runners") == []
    progress: list[tuple[int, int]] = []
    assert await store.memory.reindex(user_id="alice", batch=7, progress=lambda *each: progress.append(each)) == 60
    assert progress[-1] == (60, 60)
    assert len(await store.memory.search("alice", "runners", {"top_k": 100})) == 50
    assert await store.memory.search("bob", "runners") == []

    async def change() -> None:
        for _ in range(15):
            await store.memory.save_items("bob", {"id": f"i{rng.randint(0, 9)}", "text": "likes nothing any more"})
            await store.memory.add_memory("bob", text("something else"), "s")
            await store.memory.add_memory("carol", text("something else"), f"s{rng.randint(0, 3)}")
            await store.memory.delete_memory("carol", f"s{rng.randint(0, 3)}")

    await asyncio.gather(store.memory.reindex(batch=5), store.memory.reindex(batch=3), change(), change())
    await store.memory.reindex()
    assert await store.memory.reindex() == 0
    assert await _miscounted(observer) == []
    after = await observer.fetch(
        "SELECT user_id, session_id, seq, lexemes, tokens FROM agentstore.memories WHERE user_id = 'alice'"
    )
    assert sorted(map(tuple, after)) == sorted(tuple(row) for row in before if row["user_id"] == "alice")


async def test_sessions_are_added_in_pages_while_others_are_written(
    store: AgentStore, observer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each message that was stored before is added once, whatever is appended to or deleted meanwhile."""
    monkeypatch.setattr(memory_sessions, "_PAGE", 7)
    for number in range(30):
        messages = [text(f"apples {number}", id=f"m{n}") for n in range(number % 4)]
        await store.sessions.append("alice", f"s{number:02}", messages)
    batches = []
    add_messages = type(store.memory)._add_messages

    async def count(self: Any, user_id: str, messages: Any, *rest: Any) -> int:
        batches.append(len(messages))
        return await add_messages(self, user_id, messages, *rest)

    monkeypatch.setattr(type(store.memory), "_add_messages", count)
    await store.sessions.append("alice", "s27", text("pears", id="later"))

    async def change() -> None:
        for number in range(0, 27, 3):
            await store.sessions.append("alice", f"s{number:02}", text("pears", id="later"))
        await store.sessions.delete_session("alice", "s29")

    await asyncio.gather(store.memory.add_sessions("alice", batch=2), store.memory.add_sessions("alice"), change())
    assert max(batches) == 4  # of a session with a later message
    assert sum(size > 2 for size in batches) <= 30
    found = await observer.fetch("SELECT session_id, id FROM agentstore.memories WHERE id <> 'later' ORDER BY 1, 2")
    expected = [(f"s{number:02}", f"m{n}") for number in range(29) for n in range(number % 4)]
    assert [tuple(row) for row in found if row["session_id"] != "s29"] == expected
    assert await _miscounted(observer) == []


async def test_a_message_that_cannot_be_read_is_not_added(
    store: AgentStore, observer: asyncpg.Connection, caplog: pytest.LogCaptureFixture
) -> None:
    await store.sessions.append("alice", "s", [text("apples", id=f"m{n}") for n in range(3)])
    await observer.execute("UPDATE agentstore.messages SET payload = '{\"role\": 7}' WHERE id = 'm1'")
    assert await store.memory.add_sessions("alice") == 2
    assert "passed over" in caplog.text
    assert [message.id for message in await store.memory.list_memory("alice")] == ["m0", "m2"]


async def test_filters_find_memories_of_an_older_analysis_after_they_are_reindexed(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    """Those of a release without namespaces and labels of metadata."""
    await store.memory.add_memory("alice", text("apples", id="m", metadata={"n": 1}), "s")
    await store.memory.save_items("alice", {"id": "i", "text": "likes apples", "metadata": {"n": 1}})
    before = await observer.fetch("SELECT id, lexemes, tokens FROM agentstore.memories ORDER BY id")
    await observer.execute(
        "UPDATE agentstore.memories SET analysis = 'older', lexemes = array_to_tsvector(ARRAY(SELECT lexeme "
        "FROM unnest(tsvector_to_array(lexemes)) AS lexeme WHERE substr(lexeme, 9, 1) <> '='))"
    )
    filters: SearchFilters = {"metadata": {"n": 1}}
    assert await store.memory.search("alice", "apples", filters) == []
    assert await store.memory.reindex() == 2
    assert {hit.message.id for hit in await store.memory.search("alice", "apples", filters)} == {"m", "i"}
    assert await observer.fetch("SELECT id, lexemes, tokens FROM agentstore.memories ORDER BY id") == before


async def test_a_reindex_computes_by_what_memories_of_an_older_release_are_ranked(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    texts = {
        "asks": "apples for Ann?",
        "partly": "I have apples now. Any tips for you?",
        "tells": "apples for Ann and me",
    }
    messages = [text(each, id=id, metadata={"name": "Ann Lee"}) for id, each in texts.items()]
    await store.memory.add_memory("alice", messages, "s")
    read = "SELECT id, question_share, is_question, speaker FROM agentstore.memories ORDER BY seq"
    rows = await observer.fetch(read)
    assert [tuple(row) for row in rows] == [
        ("asks", 100, True, "ann"), ("partly", 50, True, "ann"), ("tells", 0, False, "ann"),
    ]  # fmt: skip

    async def scores() -> dict[str, float]:
        hits = await store.memory.search("alice", "apples", {"neighbors": False})
        return {hit.message.id: hit.score for hit in hits}

    before = await scores()
    await observer.execute("UPDATE agentstore.memories SET question_share = NULL, speaker = NULL, analysis = '3 x'")
    former = await scores()
    assert former["asks"] / former["tells"] == pytest.approx(0.7)
    assert before["asks"] / before["tells"] == pytest.approx(0.5)
    assert await store.memory.reindex() == 3
    assert await observer.fetch(read) == rows
    assert await scores() == before


@pytest.mark.parametrize("mode", MODES)
async def test_filters_by_labels_read_the_memories_that_have_them(
    store: AgentStore, observer: asyncpg.Connection, mode: str
) -> None:
    """However many others the user has, and other users with the same labels."""
    for user in ("alice", "bob"):
        for start in range(0, 2_000, 500):
            few = [text("apples", id=f"m{n}", metadata={"few": n % 200 == 7}) for n in range(start, start + 500)]
            await store.memory.add_memory(user, few, "s")
        await store.memory.save_items(user, [{"text": f"likes {n}", "metadata": {"few": n < 5}} for n in range(300)])
    await observer.execute("VACUUM ANALYZE agentstore.memories")
    labels = ranking.label_query("alice", labels_of_filter(None, {"few": True}))
    values: dict[str, Any] = {
        "user_id": "alice", "labels": labels, "wanted_sessions": None, "excluded": [], "expired": [], "limit": 5,
        "after_session": "", "after": 0, "offset": 0, "kind": None, "with_invalid": False, "at": None, "after_id": None,
    }  # fmt: skip
    for statement in (memory_statements.LIST_LABELED, memory_items.LIST_LABELED_ITEMS):
        nodes = await nodes_of(observer, statement, values, mode, analyze=True)
        assert "memories_lexemes_idx" in {node.get("Index Name") for node in nodes}
        read = [node for node in nodes if node.get("Relation Name") == "memories"]
        # Those with the label, 10 messages and 5 items, and then the payloads of a page.
        assert sum(node["Actual Rows"] * node["Actual Loops"] for node in read) <= 15 + 5


async def _miscounted(observer: asyncpg.Connection) -> list[asyncpg.Record]:
    """Return the buckets whose counts differ from those of their memories."""
    return await observer.fetch(
        "SELECT * FROM (SELECT user_id, session_id, count(*) AS count, sum(tokens) AS tokens, max(seq) AS last, "
        "count(DISTINCT id) AS ids FROM agentstore.memories GROUP BY 1, 2) m "
        "FULL JOIN agentstore.memory_buckets b USING (user_id, session_id) "
        "WHERE (m.count, m.tokens, m.last, m.ids) IS DISTINCT FROM (b.count, b.tokens, b.count, b.count)"
    )


async def test_each_call_is_one_statement(store: AgentStore, monkeypatch: Any) -> None:
    count = 0
    fetch = asyncpg.Connection.fetch

    async def count_and_fetch(self: asyncpg.Connection, *args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        return await fetch(self, *args, **kwargs)

    await store.start()
    monkeypatch.setattr(asyncpg.Connection, "fetch", count_and_fetch)
    for call in (
        store.memory.add_memory("alice", [text("apples"), text("pears")], "s"),
        store.memory.search_memory("alice", text("apples")),
        store.memory.list_memory("alice"),
        store.memory.delete_memory("alice", "s"),
        store.memory.delete_memory("alice"),
    ):
        count = 0
        await call
        assert count == 1


async def test_a_search_scans_the_index_once_for_each_token_and_never_the_table(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    """With custom and generic plans, with and without statistics."""
    words = [f"word{number}" for number in range(200)]
    rng = random.Random(2)
    for user in range(20):
        batch = [text(" ".join(rng.choices(words, k=12))) for _ in range(400)]
        await store.memory.add_memory(f"u{user}", batch, "s")
    values: dict[str, Any] = {
        "user_id": "u3", "wanted_sessions": None, "excluded": [], "role": None, "since": None, "until": None,
        "neighbors": True, "labels": None, "min_score": 0.0, "kind": None, "valid_at": None, "limit": 10,
        "expired": [],
    }  # fmt: skip
    values |= memory_search.query_values(values, ranking.Question(dict.fromkeys(words[:5], 1.0)))
    for prepare in ("SELECT 1", "ANALYZE agentstore.memories, agentstore.memory_buckets"):
        await observer.execute(prepare)
        for mode in MODES:
            nodes = await nodes_of(observer, memory_search.SEARCH, values, mode, analyze=True)
            assert [node for node in nodes if node.get("Index Name") == "memories_lexemes_idx"]
            assert not [n for n in nodes if n["Node Type"] == "Seq Scan" and n.get("Relation Name") == "memories"]
            keys = [node["Index Cond"] for node in nodes if node.get("Index Name") == "memories_pkey"]
            assert len(keys) == 2
            assert all("session_id" in key and "seq" in key for key in keys)


@pytest.mark.parametrize("mode", MODES)
async def test_a_search_reads_no_more_memories_the_longer_the_question(
    store: AgentStore, observer: asyncpg.Connection, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranking, "COMMON", 100)
    monkeypatch.setattr(ranking, "COMMON_ROOT", 1.0)
    monkeypatch.setattr(ranking, "MAX_HITS", 400)
    words = [f"word{number}" for number in range(80)]
    rng = random.Random(4)
    for session in range(2):
        batch = [text(" ".join(rng.sample(words, k=20))) for _ in range(200)]
        await store.memory.add_memory("alice", batch, f"s{session}")
    values: dict[str, Any] = {
        "user_id": "alice", "wanted_sessions": None, "excluded": [], "role": None, "since": None, "until": None,
        "neighbors": False, "labels": None, "min_score": 0.0, "kind": None, "valid_at": None, "limit": 10,
        "expired": [],
    }  # fmt: skip
    read = []
    for count in (5, 10, 20, 40, 80):  # each word matches 100 memories
        values |= memory_search.query_values(values, ranking.Question(dict.fromkeys(words[:count], 1.0)))
        nodes = await nodes_of(observer, memory_search.SEARCH, values, mode, analyze=True)
        (hits,) = (node for node in nodes if node.get("Subplan Name") == "CTE hits")
        assert hits["Actual Rows"] <= ranking.MAX_HITS
        scans = [node for node in nodes if node["Node Type"] == "Bitmap Heap Scan"]
        read.append(sum(node["Actual Rows"] * node["Actual Loops"] for node in scans))
    assert max(read[1:]) <= 1.01 * ranking.MAX_HITS, read


_SYNTAX = [
    "a & b", "!a", "a <-> b", "(((", ":*", "'a':*ABCD", "a | !b", "\\", "''", '"quoted words"', "-minus", "+plus",
    "'; DROP TABLE agentstore.memories; --", "' OR 1=1 --", "%s %(x)s $1 :x", "NULL", "\0", "\ud800", "\udfff\ud800",
    "😀👩‍👩‍👧‍👦🏳️‍🌈", "e\u0301\u0327", "\u202e\u200b\ufeff", "我 对虾", "한국어", "ไทย", "हिन्दी", "العربية", "İI",
    "1e999", "2023-13-45", "5月8日", "a.b.c@d-e_f/g:h", "C++", "#tag", "~" * 50, "\n\t\r\v\f", "\U0010ffff", "ⅷ",
]  # fmt: skip


@pytest.mark.parametrize("count", [300, pytest.param(100_000, marks=pytest.mark.chaos)])
async def test_any_text_is_a_valid_query(store: AgentStore, count: int) -> None:
    """Operators, quotes, NUL, lone surrogates, emoji, long texts, the syntax of tsquery, SQL."""
    rng = random.Random(9)
    await store.memory.add_memory("alice", [text(f"hello world {words}") for words in _SYNTAX * 5], "s")

    def query() -> str:
        kind = rng.random()
        if kind < 0.001:
            return rng.choice([*_SYNTAX, "word "]) * (1_000_000 // rng.randint(1, 40))
        if kind < 0.3:
            return "".join(chr(rng.choice([rng.randint(0, 0x2FF), rng.randint(0, 0x10FFFF)])) for _ in range(20))
        return rng.choice(["", " ", ""]).join(rng.choices([*_SYNTAX, "hello", "wor", "world1"], k=rng.randint(1, 9)))

    async def search(times: int) -> None:
        for _ in range(times):
            await store.memory.search("alice", query())

    await asyncio.gather(*(search(count // 10) for _ in range(10)))


_BUCKETS = """
    INSERT INTO agentstore.users VALUES ('alice');
    INSERT INTO agentstore.memory_buckets (user_id, session_id, count, tokens)
    SELECT 'alice', 's' || n, n % 4, 0 FROM generate_series(1000, 4999) n;
    INSERT INTO agentstore.memories
        (user_id, session_id, seq, id, payload, is_question, tokens, lexemes, analysis)
    SELECT 'alice', 's' || n, seq, 'm' || seq, json_build_object('id', n || '-' || seq), false, 0, '', '1'
    FROM generate_series(1000, 4999) n, generate_series(1, n % 4) seq;
    ANALYZE agentstore.memory_buckets, agentstore.memories;
"""
_IN_BUCKETS = [f"{number}-{seq}" for number in range(1000, 5000) for seq in range(1, number % 4 + 1)]


@pytest.mark.parametrize("mode", MODES)
async def test_a_page_reads_no_bucket_after_its_first_memory(
    store: AgentStore, observer: asyncpg.Connection, mode: str
) -> None:
    await observer.execute(_BUCKETS)
    in_order = _IN_BUCKETS
    for offset in (0, 1, 30, 599, 600):
        buckets = int(in_order[offset][:4]) - 999  # up to that of the page's first memory
        values: dict[str, Any] = {"user_id": "alice", "offset": offset, "expired": [], "limit": 5}
        nodes = await nodes_of(observer, memory_statements.LIST, values, mode, analyze=True)
        read = {node["Relation Name"]: node["Actual Rows"] for node in nodes if "Relation Name" in node}
        # The window function reads one row ahead.
        assert read["memory_buckets"] <= buckets + 1
        assert read["memories"] <= 5
    values = {"user_id": "alice", "after_session": "", "after": 0, "expired": [], "excluded": [], "limit": 5}
    nodes = await nodes_of(observer, memory_statements.LIST_AFTER, values, mode, analyze=True)
    assert {node["Relation Name"]: node["Actual Rows"] for node in nodes if "Relation Name" in node} == {"memories": 5}
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(memory_lists, "LIST")  # the first page is found by key
        await store.memory.list_memory("alice", {"page_size": 5})
    for number in (1, 2, 7, 120, 1200, 1201):
        page = await store.memory.list_memory("alice", {"page_num": number, "page_size": 5})
        assert [message.id for message in page] == in_order[(number - 1) * 5 : number * 5]


@pytest.mark.parametrize("mode", MODES)
async def test_a_page_of_some_sessions_reads_no_memories_of_others(
    store: AgentStore, observer: asyncpg.Connection, mode: str
) -> None:
    await observer.execute(_BUCKETS)
    some = [f"s{number}" for number in range(1001, 5000, 37)]
    of_some = [id for id in _IN_BUCKETS if f"s{id[:4]}" in set(some)]
    for wanted, excluded, ids in ((some, [], of_some), (None, ["s1001"], _IN_BUCKETS[1:]), (some, some, [])):
        for after_session, after, offset in (("", 0, 0), ("", 0, 50), ("s1002", 1, 0), ("s4998", 0, 0)):
            values: dict[str, Any] = {
                "user_id": "alice", "wanted_sessions": wanted, "excluded": excluded, "limit": 5, "offset": offset,
                "after_session": after_session, "after": after,
            }  # fmt: skip
            nodes = await nodes_of(observer, memory_statements.LIST_OF_SESSIONS, values, mode, analyze=True)
            read = [node for node in nodes if node.get("Relation Name") == "memories"]
            assert sum(node["Actual Rows"] * node["Actual Loops"] for node in read) <= 10
            assert not [node for node in read if node["Node Type"] == "Seq Scan"]
        filters: Any = {"session_id": wanted, "exclude_session_id": excluded, "page_size": 5}
        for number in (1, 2, 7, 12):
            page = await store.memory.list_memory("alice", filters | {"page_num": number})
            assert [message.id for message in page] == ids[(number - 1) * 5 : number * 5]
