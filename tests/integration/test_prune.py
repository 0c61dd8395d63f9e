"""Pruning deletes old and expired rows only, without blocking writers, and statistics count what is stored."""

import asyncio
import itertools
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import asyncpg
import pytest

from agentstore import AgentStore, Deleted, InvalidContent, LimitExceeded, NotFound, Pruned, Session, Settings
from agentstore.repositories import prune
from agentstore.schemas.retention import PruneOptions
from agentstore.testing import text
from tests.support.plans import MODES, nodes_of

_DAY = timedelta(days=1)
_ROWS = """
SELECT (SELECT count(*) FROM agentstore.sessions), (SELECT count(*) FROM agentstore.messages),
    (SELECT count(*) FROM agentstore.memory_buckets), (SELECT count(*) FROM agentstore.memories),
    (SELECT count(*) FROM agentstore.state_heads), (SELECT count(*) FROM agentstore.state_rounds)
"""
_KEEP = ("keep_last", "keep_sessions", "keep_memories", "keep_states")
_SIZE = """
SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
WHERE nspname = 'agentstore' AND relkind = 'r'
"""
_OPEN_TRANSACTIONS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND state <> 'idle' AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


async def _age(observer: asyncpg.Connection, days: int, where: str) -> None:
    for table, *columns in (
        ("sessions", "updated_at", "listed_at"), ("memory_buckets", "updated_at"), ("state_heads", "updated_at"),
        ("state_rounds", "saved_at"),
    ):  # fmt: skip
        changes = ", ".join(f"{column} = {column} - {days} * interval '1 day'" for column in columns)
        id = "id" if table == "sessions" else "session_id"
        await observer.execute(f"UPDATE agentstore.{table} SET {changes} WHERE {where.replace('SESSION', id)}")


async def _fill(store: AgentStore, user: str, sessions: int) -> None:
    for number in range(sessions):
        session = await store.sessions.create_session(user, f"s{number}")
        await store.sessions.append_message(session, [text("1"), text("2")])
        await store.memory.add_memory(user, [text("apples"), text("pears"), text("plums")], session.id)
        for _ in range(4):
            await store.states.save_state(user, {"x": "y" * 100}, session.id)


async def test_old_data_is_deleted_as_a_dry_run_reports(store: AgentStore, observer: asyncpg.Connection) -> None:
    await _fill(store, "alice", 6)
    await _fill(store, "", 2)
    await _age(observer, 100, "SESSION IN ('s0', 's1', 's2') OR user_id = ''")
    reported: list[tuple[int, Pruned]] = []
    dry = await store.prune(90 * _DAY, dry_run=True, progress=lambda *arguments: reported.append(arguments))
    assert (dry.sessions, dry.messages, dry.memories, dry.state_rounds) == (5, 10, 15, 20)
    assert dry.bytes > 5 * (2 * 100 + 3 * 100 + 4 * 100)
    assert [users for users, _ in reported] == [0, 0, 0, 2]  # each transaction, then each page of users
    assert reported[-1][1] == replace(dry, finished=False)
    assert dry.finished
    assert await observer.fetchrow(_ROWS) == (8, 16, 8, 24, 8, 32)
    assert await store.prune(90 * _DAY) == dry
    assert await observer.fetchrow(_ROWS) == (3, 6, 3, 9, 3, 12)
    assert not await store.prune(90 * _DAY)
    assert await store.users.get_user("") is not None  # users stay
    assert [hit.session_id for hit in await store.memory.search("alice", "plums")] != []


def test_what_a_dry_run_remembers_takes_few_bytes() -> None:
    keys, count = prune._Keys(), 100_000
    tracemalloc.start()
    try:
        for first in range(0, count, 500):
            keys.update("sessions", [("alice", f"s{number}") for number in range(first, first + 500)])
        found = [keys.has("sessions", "alice", f"s{number}") for number in range(0, 2 * count, 1_000)]
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found == [True] * 100 + [False] * 100
    assert not keys.has("states", "alice", "s0")
    assert not keys.has("sessions", "bob", "s0")
    assert size < 20 * count  # a set of tuples takes ten times as much


async def test_a_dry_run_without_an_age_remembers_no_session(store: AgentStore, observer: asyncpg.Connection) -> None:
    for number in range(3):
        await store.sessions.create_session("alice", f"s{number}", ttl=1)
    await observer.execute("UPDATE agentstore.sessions SET updated_at = now() - interval '1 day'")
    options = PruneOptions(None, dict.fromkeys(prune.KINDS, 0), ("memories", "states"), retains_sessions=False)
    pruning = prune.Pruning(store._database, options, dry_run=True, max_time=None, pause=timedelta())
    assert (await pruning.run(lambda users, pruned: None)).sessions == 3
    assert pruning._cutoffs == {}


async def test_keep_last_retains_the_last_sessions_and_rounds(store: AgentStore, observer: asyncpg.Connection) -> None:
    await _fill(store, "alice", 5)
    for number in range(5):
        await _age(observer, 100 + number, f"SESSION = 's{number}'")
    pruned = await store.prune(90 * _DAY, keep_last=2)
    assert (pruned.sessions, pruned.messages, pruned.memories, pruned.state_rounds) == (3, 6, 9, 16)
    assert [each.id for each in await store.sessions.list_sessions("alice")] == ["s0", "s1"]
    for number in range(2):
        assert [each.round_id for each in await store.states.list_states("alice", f"s{number}")] == [4, 3]
    assert await observer.fetchrow(_ROWS) == (2, 4, 2, 6, 2, 4)
    assert not await store.prune(90 * _DAY, keep_last=2)


async def test_memories_and_states_of_a_pruned_session_go_with_it_unless_written_later(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    await _fill(store, "alice", 6)
    await _age(observer, 100, "SESSION <> 's0'")
    await store.states.save_state("alice", {}, "s1")
    await store.memory.add_memory("alice", [text("kiwis")], "s2")
    # In another order than the sessions: s3 has the last memories and states of all that are old.
    for table in ("memory_buckets", "state_heads"):
        await observer.execute(
            f"UPDATE agentstore.{table} SET updated_at = updated_at + interval '1 day' WHERE session_id = 's3'"
        )
    dry = await store.prune(90 * _DAY, keep_last=1, dry_run=True)
    assert await store.prune(90 * _DAY, keep_last=1) == dry
    # s0 is the last session. Of s1, the last round is retained; of s2, the memories.
    assert await observer.fetchrow(_ROWS) == (1, 2, 2, 7, 2, 5)
    assert (dry.sessions, dry.memories, dry.state_rounds) == (5, 12, 20)
    assert not await store.prune(90 * _DAY, keep_last=1)


async def test_memories_and_states_without_a_session_are_retained_by_their_number(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    await _fill(store, "alice", 4)
    await _age(observer, 100, "true")
    for number in range(4):
        await _age(observer, number, f"SESSION = 's{number}'")
    await store.sessions.delete_session("alice", "s0")
    await store.sessions.delete_session("alice", "s2")
    await store.prune(90 * _DAY, keep_last=1)
    # The last session is s1; of s0 and s2, which have none, s0 was written to last. s3 is deleted.
    for table in ("memory_buckets", "state_heads"):
        rows = await observer.fetch(f"SELECT session_id FROM agentstore.{table} ORDER BY 1")
        assert [row[0] for row in rows] == ["s0", "s1"]


async def test_kinds_with_a_number_of_their_own_do_not_follow_their_session(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    await _fill(store, "alice", 5)
    for number in range(5):
        await _age(observer, 100 + number, f"SESSION = 's{number}'")
    options: dict[str, Any] = {"keep_sessions": 1, "keep_memories": 4, "keep_states": 3}
    dry = await store.prune(90 * _DAY, **options, dry_run=True)
    assert await store.prune(90 * _DAY, **options) == dry
    # 3 of 4 rounds of s0 to s2 remain.
    assert (dry.sessions, dry.memories, dry.state_rounds) == (4, 3, 11)
    assert await observer.fetchrow(_ROWS) == (1, 2, 4, 12, 3, 9)
    pruned = await store.prune(90 * _DAY, keep_last=5, keep_memories=0)
    assert (pruned.sessions, pruned.memories, pruned.state_rounds) == (0, 12, 0)


async def test_states_of_an_expired_session_go_with_it(
    store: AgentStore, observer: asyncpg.Connection, database_url: str, settings: Settings
) -> None:
    await _fill(store, "alice", 3)
    await _age(observer, 2, "true")
    for number in range(2):
        await store.sessions.set_ttl("alice", f"s{number}", 86_400)
    await store.states.save_state("alice", {}, "s1")  # after the session has expired
    state_ttl = settings.model_copy(update={"state_ttl": 3 * 86_400})
    async with AgentStore(database_url, settings=state_ttl) as other:  # states have a time of their own
        assert (await other.prune(dry_run=True)).state_rounds == 0
    dry = await store.prune(dry_run=True)
    assert await store.prune() == dry
    assert (dry.sessions, dry.memories, dry.state_rounds) == (2, 0, 4)
    assert await observer.fetchrow(_ROWS) == (1, 2, 3, 9, 2, 9)


@pytest.mark.parametrize("seed", range(12))
async def test_a_dry_run_counts_what_is_deleted_of_random_data(
    store: AgentStore, observer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    random = Random(seed)
    for name in ("_USER_PAGE", "_PAGE", "_BATCH_ROWS"):
        monkeypatch.setattr(prune, name, random.choice([2, 3, 500]))
    for user in ("alice", "bob", "carol"):
        await _fill(store, user, 5)
        for number in range(5):
            for table, column in (("memory_buckets", "session_id"), ("state_heads", "session_id"), ("sessions", "id")):
                at = f"now() - {random.choice([0, 80, 100, 110, 120, 130])} * interval '1 day'"
                listed = f", listed_at = date_trunc('minute', {at})" if table == "sessions" else ""
                await observer.execute(
                    f"UPDATE agentstore.{table} SET updated_at = {at}{listed} WHERE user_id = $1 AND {column} = $2",
                    user,
                    f"s{number}",
                )
            if random.random() < 0.3:
                await store.sessions.set_ttl(user, f"s{number}", 105 * 86_400)
            if random.random() < 0.3:
                await observer.execute(
                    "DELETE FROM agentstore.sessions WHERE user_id = $1 AND id = $2", user, f"s{number}"
                )
            await observer.execute(
                "INSERT INTO agentstore.workspaces (user_id, session_id, type, chunks, size, saved_at) "
                "VALUES ($1, $2, 'base', 0, 7, now() - $3 * interval '1 day')",
                user,
                f"s{number}",
                random.choice([80, 100]),
            )
    await observer.execute("UPDATE agentstore.state_rounds SET saved_at = now() - interval '1 year' WHERE round < 4")
    options: dict[str, Any] = {name: random.randrange(4) for name in _KEEP if random.random() < 0.5}
    dry = await store.prune(90 * _DAY, **options, dry_run=True)
    before = await observer.fetch("SELECT user_id, id FROM agentstore.sessions")
    assert await store.prune(90 * _DAY, **options) == dry, options
    pruned = set(before) - set(await observer.fetch("SELECT user_id, id FROM agentstore.sessions"))
    assert len(pruned) == dry.sessions
    for table, option in (("memory_buckets", "keep_memories"), ("state_heads", "keep_states")):
        old = await observer.fetch(
            f"SELECT user_id, session_id FROM agentstore.{table} WHERE updated_at < now() - interval '90 days'"
        )
        assert option in options or not pruned & set(old), options


@pytest.mark.parametrize("keep", [1, 2, 4, 5, 9])
async def test_keep_last_retains_the_last_of_one_minute_of_each_user(
    store: AgentStore, observer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, keep: int
) -> None:
    monkeypatch.setattr(prune, "_PAGE", 2)
    for user in ("alice", "bob"):
        await _fill(store, user, 5)
    seconds = {"s3": 7, "s0": 20, "s4": 20, "s1": 41, "s2": 59}  # the order of last use
    for id, second in seconds.items():
        at = f"date_trunc('minute', now()) - interval '1 year' + interval '{second} seconds'"
        await observer.execute(
            f"UPDATE agentstore.sessions SET updated_at = {at}, listed_at = date_trunc('minute', {at}) WHERE id = $1",
            id,
        )
        await observer.execute(f"UPDATE agentstore.memory_buckets SET updated_at = {at} WHERE session_id = $1", id)
    retained = set(list(seconds)[-keep:])
    pruned = await store.prune(90 * _DAY, keep_last=keep)
    assert (pruned.sessions, pruned.memories) == (2 * (5 - len(retained)), 6 * (5 - len(retained)))
    for user in ("alice", "bob"):
        assert {each.id for each in await store.sessions.list_sessions(user)} == retained
    buckets = await observer.fetch("SELECT DISTINCT session_id FROM agentstore.memory_buckets")
    assert {row[0] for row in buckets} == retained


_FOUND = {**prune.FIND, "rounds": prune.FIND_ROUNDS, "workspaces": prune.FIND_WORKSPACES}
_TABLES = {
    "sessions": "sessions", "memories": "memory_buckets", "states": "state_heads", "rounds": "state_heads",
    "workspaces": "workspaces", "expired sessions": "sessions",
}  # fmt: skip
_MANY = """
INSERT INTO agentstore.users (id) VALUES ('alice');
INSERT INTO agentstore.sessions (user_id, id, updated_at, ttl)
SELECT 'alice', 's' || n, now() - interval '1 year', 1 FROM generate_series(1000, 2999) n;
INSERT INTO agentstore.memory_buckets (user_id, session_id, updated_at)
SELECT user_id, id, updated_at FROM agentstore.sessions;
INSERT INTO agentstore.state_heads (user_id, session_id, updated_at)
SELECT 'alice', 's' || n, now() - interval '1 year' FROM generate_series(1000, 2999) n;
INSERT INTO agentstore.state_rounds (user_id, session_id, round, payload, size, saved_at)
SELECT user_id, session_id, r, '{}', 2, updated_at FROM agentstore.state_heads, generate_series(1, 2) r;
INSERT INTO agentstore.workspaces (user_id, session_id, type, chunks, size, saved_at)
SELECT user_id, session_id, 'base', 0, 0, updated_at FROM agentstore.state_heads;
ANALYZE agentstore.sessions, agentstore.memory_buckets, agentstore.state_heads, agentstore.state_rounds,
    agentstore.workspaces;
"""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", [*_FOUND, "expired sessions"])
async def test_a_page_of_old_rows_reads_no_row_of_the_pages_before(
    store: AgentStore, observer: asyncpg.Connection, kind: str, mode: str
) -> None:
    """Otherwise the time of a pruning would grow with the square of the number of rows of a user."""
    await store.start()
    await observer.execute(_MANY)
    values = {
        "last_user": "alice", "before": datetime.now(UTC), "keep": 1 if kind == "rounds" else 0, "from_user": "alice",
        "from_session": "s2899", "from_type": "", "limit": 20,
    }  # fmt: skip
    statement = _FOUND.get(kind, prune.FIND_EXPIRED_SESSIONS)
    nodes = await nodes_of(observer, statement, values, mode, analyze=True)
    # Without the nodes that look up other rows for each row.
    (scan,) = (node for node in nodes if "Scan" in node["Node Type"] and node.get("Relation Name") == _TABLES[kind])
    assert scan["Actual Rows"] + scan.get("Rows Removed by Filter", 0) <= 101
    assert nodes[0]["Actual Rows"] == 20


async def test_expired_sessions_do_not_count_towards_keep_last(store: AgentStore, observer: asyncpg.Connection) -> None:
    await _fill(store, "alice", 4)
    for number in range(2):
        await store.sessions.set_ttl("alice", f"s{number}", 3_600)
    await _age(observer, 100, "true")
    pruned = await store.prune(90 * _DAY, keep_last=2)
    assert pruned.sessions == 2
    assert {each.id for each in await store.sessions.list_sessions("alice")} == {"s2", "s3"}


async def test_the_highest_round_is_retained_while_states_of_the_session_are_saved(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    await _fill(store, "alice", 1)
    await _age(observer, 100, "SESSION = 's0'")
    await store.states.save_state("alice", {"now": True}, "s0")
    pruned = await store.prune(90 * _DAY)
    assert (pruned.sessions, pruned.messages, pruned.memories, pruned.state_rounds) == (1, 2, 3, 4)
    assert [each.round_id for each in await store.states.list_states("alice", "s0")] == [5]
    await observer.execute("UPDATE agentstore.state_rounds SET saved_at = now() - interval '100 days'")
    assert not await store.prune(90 * _DAY)  # the head is recent, so the highest round is retained
    assert await store.states.save_state("alice", {}, "s0", expected_round=5) == 6


async def test_expired_data_is_deleted_without_older_than(
    store: AgentStore, observer: asyncpg.Connection, database_url: str, settings: Settings
) -> None:
    await _fill(store, "alice", 3)
    await store.sessions.set_ttl("alice", "s0", 3_600)
    await _age(observer, 2, "SESSION = 's0' OR SESSION = 's1'")
    pruned = await store.prune(keep_last=10)
    assert (pruned.sessions, pruned.messages, pruned.memories, pruned.state_rounds) == (1, 2, 0, 4)
    day = 86_400
    ttl = settings.model_copy(update={"session_ttl": day, "memory_ttl": day, "state_ttl": day})
    async with AgentStore(database_url, settings=ttl) as other:
        pruned = await other.prune()
        assert (pruned.sessions, pruned.messages, pruned.memories, pruned.state_rounds) == (1, 2, 6, 4)
    assert await observer.fetchrow(_ROWS) == (1, 2, 1, 3, 1, 4)


async def test_all_pages_of_users_and_sessions_are_processed(
    store: AgentStore, observer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_USER_PAGE", "_PAGE", "_BATCH_ROWS"):
        monkeypatch.setattr(prune, name, 3)
    for user in range(5):
        await _fill(store, f"u{user}", 4)
    await _age(observer, 100, "SESSION <> 's1'")
    seen: list[int] = []
    dry = await store.prune(90 * _DAY, dry_run=True)
    assert await store.prune(90 * _DAY, progress=lambda users, _: seen.append(users)) == dry
    assert list(dict.fromkeys(seen)) == [0, 3, 5]
    assert dry.sessions == 15
    assert await observer.fetchrow(_ROWS) == (5, 10, 5, 15, 5, 20)


async def test_a_prune_neither_deletes_nor_waits_for_concurrent_writes(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    await _fill(store, "alice", 4)
    await _age(observer, 100, "true")
    async with observer.transaction():  # an uncommitted append
        await observer.execute(
            "UPDATE agentstore.sessions SET updated_at = now(), next_seq = next_seq + 1 WHERE id = 's1'"
        )
        await observer.execute("UPDATE agentstore.memory_buckets SET updated_at = now() WHERE session_id = 's1'")
        await observer.execute("UPDATE agentstore.state_heads SET updated_at = now() WHERE session_id = 's1'")
        pruned = await asyncio.wait_for(store.prune(90 * _DAY), 60)
    assert (pruned.sessions, pruned.memories) == (3, 9)
    assert [each.id for each in await store.sessions.list_sessions("alice")] == ["s1"]
    assert len(await store.memory.list_memory("alice")) == 3


async def test_concurrent_writers_and_prunings_lose_no_acknowledged_write(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    """Each session is aged, then written to and pruned concurrently: afterwards it is complete or deleted."""
    outcomes: list[str] = []

    async def write_to_aged_session(number: int) -> None:
        session = await store.sessions.create_session("alice", f"s{number}")
        await store.sessions.append_message(session, text("old", id="old"))
        await age_session(f"s{number}")
        target = Session(id=f"s{number}", user_id="alice")
        try:
            await store.sessions.append_message(target, text("new", id="new"))
        except NotFound:
            assert await store.sessions.get_session("alice", f"s{number}") is None
            outcomes.append("pruned")
        else:
            found = await store.sessions.get_session("alice", f"s{number}")
            assert found is not None
            assert [message.id for message in found.messages] == ["old", "new"]
            outcomes.append("written")

    lock = asyncio.Lock()

    async def age_session(id: str) -> None:
        async with lock:
            await _age(observer, 100, f"SESSION = '{id}'")

    running = True

    async def prune_repeatedly() -> None:
        while running:
            await store.prune(90 * _DAY)

    prunings = [asyncio.create_task(prune_repeatedly()) for _ in range(3)]
    for start in range(0, 120, 8):
        await asyncio.gather(*(write_to_aged_session(number) for number in range(start, start + 8)))
    running = False
    await asyncio.gather(*prunings)
    assert set(outcomes) == {"pruned", "written"}


async def test_a_cancelled_pruning_leaves_complete_sessions_and_the_next_one_deletes_the_rest(
    store: AgentStore, observer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune, "_BATCH_ROWS", 2)
    await _fill(store, "alice", 30)
    await _age(observer, 100, "true")
    for _ in range(20):
        task = asyncio.create_task(store.prune(90 * _DAY))
        await asyncio.wait([task], timeout=0.01)
        task.cancel()
        await asyncio.wait([task])
        incomplete = await observer.fetchval(
            "SELECT count(*) FROM agentstore.sessions s WHERE next_seq - 1 <> "
            "(SELECT count(*) FROM agentstore.messages m WHERE (m.user_id, m.session_id) = (s.user_id, s.id))"
        )
        assert incomplete == 0
    async with asyncio.timeout(60):
        while await observer.fetchval(_OPEN_TRANSACTIONS):  # of cancelled prunings, whose locked rows are skipped
            await asyncio.sleep(0.01)
    await store.prune(90 * _DAY)
    assert await observer.fetchrow(_ROWS) == (0, 0, 0, 0, 0, 0)


async def test_a_canceled_pruning_has_reported_all_that_it_deleted(
    store: AgentStore, observer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune, "_BATCH_ROWS", 2)
    await _fill(store, "alice", 40)
    await _age(observer, 100, "true")
    reported = 0
    for delay in itertools.count():
        if reported >= 10:
            break
        last = Pruned()

        def report(_: int, pruned: Pruned) -> None:
            nonlocal last
            last = pruned

        task = asyncio.create_task(store.prune(90 * _DAY, progress=report))
        await asyncio.wait([task], timeout=delay / 1_000)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled() or task.result().finished
        reported += last.sessions
        assert await observer.fetchval("SELECT count(*) FROM agentstore.sessions") == 40 - reported


async def test_max_time_ends_a_pruning_between_two_transactions(
    store: AgentStore, observer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune, "_BATCH_ROWS", 1)
    await _fill(store, "alice", 5)
    await _age(observer, 100, "true")
    assert await store.prune(90 * _DAY, max_time=timedelta()) == Pruned(finished=False)
    now = 0.0

    def advance(_: int, pruned: Pruned) -> None:
        nonlocal now
        now += 0.4

    monkeypatch.setattr(prune, "monotonic", lambda: now)
    # Three transactions; the pause lasts at most until the time is over.
    first = await store.prune(90 * _DAY, max_time=timedelta(seconds=1), progress=advance)
    assert (first.memories, first.sessions, first.finished) == (9, 0, False)
    last = await store.prune(90 * _DAY, max_time=timedelta(milliseconds=1), pause=_DAY, progress=advance)
    assert (last.memories, last.sessions, last.finished) == (3, 0, False)
    rest = await store.prune(90 * _DAY, max_time=_DAY)
    assert (rest.memories, rest.sessions, rest.finished) == (3, 5, True)


async def test_a_dry_run_does_not_pause(store: AgentStore, observer: asyncpg.Connection) -> None:
    await _fill(store, "alice", 1)
    await _age(observer, 100, "true")
    assert (await asyncio.wait_for(store.prune(90 * _DAY, dry_run=True, pause=_DAY), 60)).sessions == 1


async def test_invalid_arguments_are_rejected(store: AgentStore) -> None:
    wrong: list[Any] = [-_DAY, 90, "90d", 1.0]
    for each in wrong:
        for name in ("older_than", "max_time", "pause"):
            with pytest.raises(InvalidContent, match=name):
                await store.prune(**{name: each})
    wrong = [-1, 1.0, "1", True]
    for each in wrong:
        for name in _KEEP:
            with pytest.raises(InvalidContent, match=name):
                await store.prune(**{name: each})
    for name in _KEEP:
        too_many: dict[str, Any] = {name: 10_001}
        with pytest.raises(LimitExceeded, match=name):
            await store.prune(**too_many)
    assert not await store.prune(timedelta(days=999_999_999))


async def test_stats_count_what_is_stored(store: AgentStore, observer: asyncpg.Connection) -> None:
    empty = await store.stats()
    assert (empty.users, empty.sessions, empty.oldest, empty.largest_users) == (0, 0, None, [])
    await _fill(store, "alice", 3)
    await _fill(store, "bob", 1)
    long = await store.sessions.create_session("bob", "long")
    await store.sessions.append_message(long, [text("密" * 100) for _ in range(20)])
    size = await observer.fetchval(_SIZE)
    found = await store.stats(largest=2)
    assert (found.users, found.sessions, found.messages, found.memories, found.state_rounds) == (2, 5, 28, 12, 16)
    assert [(each.user_id, each.sessions, each.messages, each.memories, each.state_rounds)
            for each in found.largest_users] == [("bob", 2, 22, 3, 4), ("alice", 3, 6, 9, 12)]  # fmt: skip
    assert [(each.session_id, each.messages) for each in found.largest_sessions] == [("long", 20), ("s0", 2)]
    assert found.largest_sessions[0].bytes > 20 * 300
    assert found.newest == long.updated_at
    # Autovacuum may create a free space map or truncate a table at any time.
    smaller, larger = sorted((size, await observer.fetchval(_SIZE)))
    assert smaller <= found.bytes <= larger
    (memories,) = (each for each in found.tables if each.name == "memories")
    assert "memories_lexemes_idx" in memories.index_bytes
    assert await store.users.delete_user("bob") == Deleted(sessions=2, messages=22, memories=3, state_rounds=4)
