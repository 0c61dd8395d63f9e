"""Calls on long sessions and users with many rows: how many rows they read, and how many one statement changes."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import Any

import asyncpg
import pytest

from agentstore import AgentStore, Deleted, Settings
from agentstore.repositories import erasure, prune, steps, users
from agentstore.testing import text

_STEP = 10
_FILL = """
INSERT INTO agentstore.users (id) VALUES ('alice');
INSERT INTO agentstore.sessions (user_id, id, next_seq, updated_at, listed_at)
SELECT 'alice', 's' || s, {messages} + 1, now() - interval '9 days' + s * interval '1 minute',
    date_trunc('minute', now() - interval '9 days' + s * interval '1 minute')
FROM generate_series(1, {sessions}) s;
INSERT INTO agentstore.messages (user_id, session_id, seq, id, payload)
SELECT 'alice', 's' || s, m, 'm' || m, json_build_object('id', 'm' || m, 'role', 'user', 'content', '[]'::json)
FROM generate_series(1, {sessions}) s, generate_series(1, {messages}) m;
INSERT INTO agentstore.memory_buckets (user_id, session_id, count, tokens, updated_at)
SELECT 'alice', 's' || s, {messages}, {messages}, now() - interval '9 days' FROM generate_series(1, {sessions}) s;
INSERT INTO agentstore.memories (user_id, session_id, seq, id, payload, is_question, tokens, lexemes, analysis)
SELECT user_id, session_id, seq, id, payload, FALSE, 1, 'x', '1' FROM agentstore.messages;
INSERT INTO agentstore.state_heads (user_id, session_id, next_round, last_round, updated_at)
SELECT 'alice', 's' || s, {messages} + 1, {messages}, now() - interval '9 days' FROM generate_series(1, {sessions}) s;
INSERT INTO agentstore.state_rounds (user_id, session_id, round, payload, size, saved_at)
SELECT user_id, session_id, seq, '{{}}', 2, now() - interval '9 days' FROM agentstore.messages;
ANALYZE agentstore.sessions, agentstore.messages, agentstore.memory_buckets, agentstore.memories,
    agentstore.state_heads, agentstore.state_rounds;
"""
# Records how many rows each statement of a client changes, with those that foreign keys delete.
_RECORD = """
CREATE TABLE public.changes (backend int, statement timestamptz, relation text, rows bigint);
CREATE FUNCTION public.record() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO public.changes
    SELECT pg_backend_pid(), statement_timestamp(), TG_TABLE_NAME, count(*) FROM changed;
    RETURN NULL;
END $$;
"""
_TABLES = ("messages", "memories", "state_rounds")
# Blocks of tables and indexes, and index entries: those of dead rows as well, to find a step that reads what earlier
# ones have deleted.
_WORK = """
SELECT (
    SELECT coalesce(sum(heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read), 0)
    FROM pg_statio_user_tables WHERE schemaname = 'agentstore'
) + (SELECT coalesce(sum(idx_tup_read), 0) FROM pg_stat_user_indexes WHERE schemaname = 'agentstore')
"""
_CLIENTS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""

Call = Callable[[AgentStore], Awaitable[Any]]


async def _fill(observer: asyncpg.Connection, *, sessions: int, messages: int) -> None:
    # The tables are small: on large ones, these statements use the indexes.
    await observer.execute(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET enable_seqscan = off', current_database()); END $$"
    )
    await observer.execute("TRUNCATE agentstore.users CASCADE")
    await observer.execute(_FILL.format(sessions=sessions, messages=messages))


async def _work_of(observer: asyncpg.Connection, url: str, settings: Settings, call: Call) -> int:
    """Return how much a call reads. The server has counted it once the connections are closed: a pooler keeps them."""

    async def total() -> int:
        async with asyncio.timeout(60):
            while await observer.fetchval(_CLIENTS):
                await asyncio.sleep(0.01)
        await observer.execute("SELECT pg_stat_force_next_flush()")  # of the rows that this connection has inserted
        await observer.execute("SELECT pg_stat_clear_snapshot()")
        return int(await observer.fetchval(_WORK))

    before = await total()
    async with AgentStore(url, settings=settings) as store:
        await call(store)
    return await total() - before


_CALLS: dict[str, tuple[Call, tuple[int, int, int]]] = {
    # How many messages, memories and state rounds there are afterwards.
    "fork": (lambda store: store.sessions.fork_session("alice", "s1", at=35), (105, 70, 105)),
    "fork of all": (lambda store: store.sessions.fork_session("alice", "s1", messages=False), (105, 70, 105)),
    "rewind": (lambda store: store.sessions.rewind_session("alice", "s1", 3), (70, 70, 70)),
    "rewind and delete": (lambda store: store.sessions.rewind_session("alice", "s1", 3, keep=False), (38, 70, 38)),
    "replace": (lambda store: store.sessions.replace_from("alice", "s1", 4, text("x")), (39, 70, 70)),
    "delete": (lambda store: store.sessions.delete_session("alice", "s1"), (35, 70, 70)),
    "prune": (lambda store: store.prune(timedelta(days=1)), (0, 0, 0)),
    # What goes with a session that is not among the last ones.
    "prune all but one": (lambda store: store.prune(timedelta(days=1), keep_last=2_000, keep_sessions=1), (35, 35, 35)),
    "erase": (lambda store: store.users.delete_user("alice"), (0, 0, 0)),
}


@pytest.mark.parametrize("name", _CALLS)
async def test_no_statement_changes_more_rows_than_a_step(
    store: AgentStore, observer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    call, left = _CALLS[name]
    for module, constant in ((steps, "STEP"), (prune, "_BATCH_ROWS"), (users, "AT_ONCE")):
        monkeypatch.setattr(module, constant, _STEP)
    await _fill(observer, sessions=2, messages=35)
    # The states of the first session were saved with its messages.
    await observer.execute(
        "UPDATE agentstore.messages SET created_at = now() - interval '9 days' + seq * interval '1 minute'; "
        "UPDATE agentstore.state_rounds SET saved_at = now() - interval '9 days' + round * interval '1 minute'"
    )
    await _record(observer)
    await call(store)
    counts = [await observer.fetchval(f"SELECT count(*) FROM agentstore.{table}") for table in _TABLES]
    assert tuple(counts) == left
    assert await _largest_change(observer, _TABLES if name.startswith(("prune", "erase")) else ("messages",)) == _STEP


async def _record(observer: asyncpg.Connection) -> None:
    await observer.execute(_RECORD)
    for table in _TABLES:
        for event, rows in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD")):
            await observer.execute(
                f"CREATE TRIGGER record_{event} AFTER {event} ON agentstore.{table} "
                f"REFERENCING {rows} TABLE AS changed FOR EACH STATEMENT EXECUTE FUNCTION public.record()"
            )


async def _largest_change(observer: asyncpg.Connection, tables: Sequence[str]) -> int:
    """Return the largest number of rows of one of the tables that one statement has changed."""
    changed = await observer.fetch(
        "SELECT sum(rows) FROM public.changes WHERE relation = ANY ($1) GROUP BY backend, statement, relation", tables
    )
    return max(int(row[0]) for row in changed)


async def test_what_is_locked_while_a_user_is_erased_is_deleted_in_steps_as_well(
    store: AgentStore, observer: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, constant in ((steps, "STEP"), (prune, "_BATCH_ROWS"), (users, "AT_ONCE")):
        monkeypatch.setattr(module, constant, _STEP)
    await _fill(observer, sessions=2, messages=35)
    await _record(observer)
    transaction = observer.transaction()
    await transaction.start()
    await observer.execute("SELECT FROM agentstore.sessions WHERE id = 's1' FOR UPDATE")
    delete, calls = erasure.delete_in_bounded_transactions, []

    async def delete_until_unlocked(*arguments: Any) -> Deleted:
        calls.append(await delete(*arguments))
        if len(calls) == 1:
            await transaction.rollback()
        return calls[-1]

    monkeypatch.setattr(users, "delete_in_bounded_transactions", delete_until_unlocked)
    assert await store.users.delete_user("alice") == Deleted(sessions=2, messages=70, memories=70, state_rounds=70)
    assert [each.sessions for each in calls] == [1, 1]
    assert await _largest_change(observer, _TABLES) == _STEP


@pytest.mark.parametrize("name", _CALLS)
async def test_steps_read_in_proportion_to_the_rows(
    observer: asyncpg.Connection, direct_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A step that read what the earlier ones have deleted would do four times the work for twice the rows."""
    for module, constant in ((steps, "STEP"), (prune, "_BATCH_ROWS"), (users, "AT_ONCE")):
        monkeypatch.setattr(module, constant, _STEP)
    read = []
    for messages in (600, 1_200):
        await _fill(observer, sessions=2 if name == "prune all but one" else 1, messages=messages)
        read.append(await _work_of(observer, direct_url, settings, _CALLS[name][0]))
    assert read[1] < 2.8 * read[0], read


async def test_a_rewind_near_the_end_reads_what_it_removes(
    observer: asyncpg.Connection, direct_url: str, settings: Settings
) -> None:
    for keep in (True, False):
        read = []
        for messages in (1_000, 4_000):
            await _fill(observer, sessions=1, messages=messages)
            await observer.execute("UPDATE agentstore.messages SET created_at = now() - (5000 - seq) * interval '1 s'")
            await observer.execute("TRUNCATE agentstore.state_rounds")

            async def rewind(store: AgentStore, at: int = messages - 5, keep: bool = keep) -> None:
                await store.sessions.rewind_session("alice", "s1", at, keep=keep, messages=False)

            read.append(await _work_of(observer, direct_url, settings, rewind))
        assert read[1] < 1.5 * read[0], read


@pytest.mark.parametrize(
    "options", [{}, {"keep_last": 30}, {"keep_sessions": 30, "keep_memories": 20, "keep_states": 0}]
)
@pytest.mark.parametrize("dry_run", [False, True])
async def test_prune_reads_in_proportion_to_the_sessions(
    observer: asyncpg.Connection,
    direct_url: str,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    dry_run: bool,
) -> None:
    """A page that read all of the previous ones would do four times the work for twice the data."""
    monkeypatch.setattr(prune, "_PAGE", 20)
    read = []
    for sessions in (250, 500):
        await _fill(observer, sessions=sessions, messages=1)
        read.append(
            await _work_of(
                observer,
                direct_url,
                settings,
                lambda store: store.prune(timedelta(days=1), dry_run=dry_run, **options),
            )
        )
    assert read[1] < 2.8 * read[0], read


@pytest.mark.parametrize("at_once", [50_000, 0])
async def test_erase_reads_in_proportion_to_the_sessions(
    observer: asyncpg.Connection, direct_url: str, settings: Settings, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(erasure, "_PAGE", 20)
    monkeypatch.setattr(users, "AT_ONCE", at_once)
    read = []
    for sessions in (250, 500):
        await _fill(observer, sessions=sessions, messages=1)
        read.append(await _work_of(observer, direct_url, settings, lambda store: store.users.delete_user("alice")))
    assert read[1] < 2.8 * read[0], read
