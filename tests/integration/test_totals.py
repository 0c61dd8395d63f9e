"""The totals of a user with memories of very many sessions, which a search takes instead of summing those of each."""

import random
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from agentstore import AgentStore, Message, Settings
from agentstore.repositories.memory import totals
from agentstore.repositories.memory.search import SEARCH
from agentstore.repositories.memory.statements import LIST_AFTER, LIST_OF_SESSIONS
from agentstore.repositories.memory.totals import COUNT
from agentstore.schemas import Deleted
from agentstore.search import ranking
from agentstore.testing import text
from tests.integration.test_statements import _VALUES
from tests.support.plans import MODES, nodes_of

_FILL = """
WITH u AS (INSERT INTO agentstore.users (id) VALUES ($1) RETURNING 1),
b AS (
    INSERT INTO agentstore.memory_buckets (user_id, session_id, count, tokens)
    SELECT $1, 's' || g, 1, 9 FROM generate_series(1, $2::int) AS g CROSS JOIN u RETURNING 1
)
INSERT INTO agentstore.memories (user_id, session_id, seq, id, payload, is_question, tokens, lexemes, analysis)
SELECT $1, 's' || g, 1, 'm' || g, '{"role": "user"}', FALSE, 9, array_to_tsvector(ARRAY['x' || g % 1000]), '1'
FROM generate_series(1, $2::int) AS g CROSS JOIN (SELECT count(*) FROM b) AS filled
"""

_SIZES = (4_000, 8_000, 16_000)


@pytest.fixture
def always_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every call that changes memories counts them, of users with over two sessions."""
    monkeypatch.setattr(ranking, "SUMMED_SESSIONS", 2)
    monkeypatch.setattr(totals, "random", lambda: 0.0)


async def _stored(observer: asyncpg.Connection, user: str) -> tuple[int | None, int | None]:
    row = await observer.fetchrow("SELECT memories, memory_tokens FROM agentstore.users WHERE id = $1", user)
    return (None, None) if row is None else (row[0], row[1])


async def _summed(observer: asyncpg.Connection, user: str) -> tuple[int | None, int | None]:
    row = await observer.fetchrow(
        "SELECT count(*), sum(count)::bigint, sum(tokens)::bigint FROM agentstore.memory_buckets WHERE user_id = $1",
        user,
    )
    assert row is not None
    return (row[1], row[2]) if row[0] > ranking.SUMMED_SESSIONS else (None, None)


async def _rows_read(observer: asyncpg.Connection, statement: Any, user: str, mode: str) -> int:
    """Return how many rows of buckets and memories a statement reads."""
    values = _VALUES | {"user_id": user, "queries": ["'x1'", "'x2'"], "labels": None, "after": 0}
    values |= {"wanted_sessions": None, "offset": 0, "after_session": "", "excluded": ["s7"]}
    nodes = await nodes_of(observer, statement, values, mode, analyze=True)
    scans = [each for each in nodes if each.get("Relation Name") in ("memory_buckets", "memories")]
    return sum(
        int(each["Actual Rows"] * each["Actual Loops"] + each.get("Rows Removed by Filter", 0)) for each in scans
    )


@pytest.mark.parametrize("mode", MODES)
async def test_the_sessions_of_a_user_are_not_summed_by_each_search(observer: asyncpg.Connection, mode: str) -> None:
    """And the first page of a list reads no more of them than it has, also without those of some sessions."""
    read: dict[str, list[int]] = {"summed": [], "search": [], "list": [], "list without a session": []}
    for number in _SIZES:
        user = f"u{number}"
        await observer.execute(_FILL, user, number)
        await observer.execute("ANALYZE agentstore.memory_buckets, agentstore.memories")
        read["summed"].append(await _rows_read(observer, SEARCH, user, mode))
        await nodes_of(observer, COUNT, {"user_id": user, "dice": 0.0, "changes": 64}, mode, analyze=True)
        assert await _stored(observer, user) == (number, number * 9)
        read["search"].append(await _rows_read(observer, SEARCH, user, mode))
        read["list"].append(await _rows_read(observer, LIST_AFTER, user, mode))
        read["list without a session"].append(await _rows_read(observer, LIST_OF_SESSIONS, user, mode))
    # Two of a thousand memories match, and are read twice.
    assert all(rows >= size for rows, size in zip(read["summed"], _SIZES, strict=True)), read
    for name, least in (("search", 2_000), ("list", 100), ("list without a session", 100)):
        assert read[name][-1] < least, read


async def test_totals_are_the_sums_after_every_kind_of_call(
    always_due: None, store: AgentStore, observer: asyncpg.Connection
) -> None:
    """A call counts before it writes, or in the transactions in which it does."""
    rng = random.Random(28)
    memory, documents = store.memory, store.documents
    number = 0

    def new() -> Message:
        nonlocal number
        number += 1
        return text("pepper " * rng.randint(1, 9), id=f"m{number}")

    def session() -> str:
        return f"s{rng.randrange(6)}"

    calls = {
        "add": lambda: memory.add_memory("u", [new() for _ in range(rng.randint(1, 3))], session()),
        "add again": lambda: memory.add_memory("u", [text("pepper", id="m1"), new()], "s1"),
        "save items": lambda: memory.save_items("u", {"id": f"i{rng.randrange(4)}", "text": "an " * rng.randint(1, 5)}),
        "put": lambda: documents.put("u", {"id": f"d{rng.randrange(4)}", "text": "a " * rng.randint(1, 5)}),
        "delete documents": lambda: documents.delete("u", [f"d{rng.randrange(4)}"]),
        "delete a session": lambda: memory.delete_memory("u", session()),
    }
    counted = 0
    for name in [*calls, *rng.choices(list(calls), k=80)]:
        before, stored = await _summed(observer, "u"), await _stored(observer, "u")
        result = await calls[name]()  # type: ignore[no-untyped-call]
        if isinstance(result, Deleted) and name == "delete a session":
            before = await _summed(observer, "u") if result.memories else stored
        assert await _stored(observer, "u") == before, name
        counted += before[0] is not None
    assert counted > 20
    await observer.execute("UPDATE agentstore.memories SET analysis = 'older', tokens = tokens + 5")
    await observer.execute("UPDATE agentstore.memory_buckets SET tokens = tokens + 5 * count")
    await memory.reindex()
    assert await _stored(observer, "u") == await _summed(observer, "u")
    for name in ("s7", "s8", "s9"):
        await memory.add_memory("u", new(), name)
    await observer.execute(
        "UPDATE agentstore.memory_buckets SET updated_at = now() - interval '9 days' WHERE session_id = 's7'"
    )
    assert (await store.prune(older_than=timedelta(days=5))).memories == 1
    assert await _stored(observer, "u") == await _summed(observer, "u") != (None, None)
    await memory.delete_memory("u")
    await memory.add_memory("u", new(), "s1")
    assert await _stored(observer, "u") == (None, None)


async def test_what_is_deleted_is_counted_by_its_number_of_memories(
    store: AgentStore, observer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not as one change: a sum that is left from a thousand times as many memories would stay for long."""
    monkeypatch.setattr(ranking, "SUMMED_SESSIONS", 2)
    await observer.execute(_FILL, "u", 2_000)
    await store._database.fetch(COUNT, user_id="u", dice=0.0, changes=1)
    assert await _stored(observer, "u") == (2_000, 18_000)
    assert (await store.memory.delete_memory("u")).memories == 2_000
    assert await _stored(observer, "u") == (None, None)

    for name in range(6):
        await store.memory.add_memory("v", text("pepper"), f"s{name}")
    await observer.execute("UPDATE agentstore.memory_buckets SET count = 600, tokens = 900")
    await store._database.fetch(COUNT, user_id="v", dice=0.0, changes=1)
    assert await _stored(observer, "v") == (3_600, 5_400)
    for left in (5, 4, 3):
        assert (await store.memory.delete_memory("v", f"s{left}")).memories == 600
        assert await _stored(observer, "v") == (left * 600, left * 900)
    assert (await store.memory.delete_memory("v", "s2")).memories == 600
    assert await _stored(observer, "v") == (None, None)
    assert (await store.memory.delete_memory("v", "s2")).memories == 0


async def test_an_export_has_no_totals_and_a_restore_counts_them(
    always_due: None, store: AgentStore, observer: asyncpg.Connection, empty_url: str, tmp_path: Path
) -> None:
    for name in range(5):
        await store.memory.add_memory("u", text("pepper"), f"s{name}")
        await store.memory.add_memory("small", text("pepper"), f"s{name % 2}")
    exported = BytesIO()
    await store.export(exported)
    assert b"memory_tokens" not in exported.getvalue()
    async with AgentStore(empty_url, settings=Settings(auto_migrate="upgrade")) as other:
        connection = await asyncpg.connect(empty_url)
        for _ in range(2):
            exported.seek(0)
            await other.restore(exported)
            assert await _stored(connection, "u") == await _summed(connection, "u") == (5, 5)
            assert await _stored(connection, "small") == (None, None)
        await connection.close()


async def test_a_search_of_few_sessions_is_exact_whatever_is_stored(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    """As after a release that does not know the totals has deleted the rest."""
    for name in ("a pepper", "a tomato", "two tomatoes"):
        await store.memory.add_memory("u", text(name), name)
    before = [(hit.message.id, hit.score) for hit in await store.memory.search("u", "tomato")]
    await observer.execute("UPDATE agentstore.users SET memories = 1000000, memory_tokens = 9000000")
    assert [(hit.message.id, hit.score) for hit in await store.memory.search("u", "tomato")] == before != []


async def test_memories_that_an_earlier_release_adds_are_counted_later(
    store: AgentStore, observer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Searches find them at once. The sums are counted again with a probability that grows with what was added."""
    await observer.execute(_FILL, "u", 2_000)
    monkeypatch.setattr(totals, "random", lambda: 0.0)
    await store.memory.add_memory("u", text("pepper"))
    assert await _stored(observer, "u") == (2_000, 18_000)
    await observer.execute("UPDATE agentstore.memory_buckets SET count = 2 WHERE session_id = 's1'")
    fetch = store._database.fetch
    for dice, changes, expected in ((0.6, 64, 2_000), (0.5, 64, 2_002), (0.99, 124, 2_002)):
        await fetch(COUNT, user_id="u", dice=dice, changes=changes)
        assert (await _stored(observer, "u"))[0] == expected


async def test_additions_do_not_wait_for_a_locked_user_to_count(
    always_due: None, store: AgentStore, observer: asyncpg.Connection
) -> None:
    for name in range(4):
        await store.memory.add_memory("u", text("pepper"), f"s{name}")
    before = await _stored(observer, "u")
    async with observer.transaction():
        await observer.execute("SELECT FROM agentstore.users WHERE id = 'u' FOR NO KEY UPDATE")
        await store.memory.add_memory("u", text("pepper"), "s5")
    assert await _stored(observer, "u") == before == (3, 3)
    await store.memory.add_memory("u", text("pepper"), "s6")
    assert await _stored(observer, "u") == (5, 5)
