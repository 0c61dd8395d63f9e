"""States on Postgres: packing of large states, and concurrent writers."""

import asyncio
import random

import asyncpg
import pytest

from agentstore import AgentStore, AgentStoreError, EmbeddedPostgres, NotFound, Session
from agentstore.testing import text
from tests.support.hot_updates import hot_share

_LARGE = {
    "messages": [{"role": "user", "content": f"密 the text of message number {number}"} for number in range(2_000)]
}


async def test_large_states_are_packed_and_small_ones_readable(store: AgentStore, observer: asyncpg.Connection) -> None:
    noise = {"x": random.Random(1).randbytes(40_000).hex(), "y": [random.Random(2).random() for _ in range(5_000)]}
    for session, state in (("small", {"x": "y" * 31_000}), ("large", _LARGE), ("noise", noise)):
        await store.states.save_state("alice", state, session)
        assert await store.states.export_state("alice", session) == state
    rows = await observer.fetch(
        "SELECT session_id, packed IS NOT NULL, size, coalesce(pg_column_size(packed), pg_column_size(payload))"
        " FROM agentstore.state_rounds"
    )
    found = {session: (packed, size, stored) for session, packed, size, stored in rows}
    assert {session: packed for session, (packed, _, _) in found.items()} == {
        "small": False, "large": True, "noise": True,
    }  # fmt: skip
    assert found["small"][1:] == (31_008, 31_008)  # plain JSON, readable in the table
    assert found["large"][2] < found["large"][1] / 4


async def test_a_round_can_change_from_small_to_large_and_back(store: AgentStore) -> None:
    for state in ({"x": 1}, _LARGE, {"x": 2}):
        assert await store.states.save_state("alice", state, "s", 1) == 1
        assert await store.states.export_state("alice", "s") == state
    await store.states.save_state("alice", _LARGE, "s")
    assert await store.states.diff_states("alice", 1, 2, "s") != []
    session = await store.sessions.create_session("alice", "s")
    fork = await store.sessions.fork_session("alice", session.id)
    assert await store.states.export_state("alice", fork.id) == _LARGE


async def test_saves_update_heads_without_writing_to_their_index(own_server: EmbeddedPostgres) -> None:
    async def write(store: AgentStore) -> None:
        for number in range(1_000):
            await store.states.save_state("alice", {"n": number}, f"s{number % 20}")

    assert await hot_share(own_server.url, "state_heads", 980, write) >= 0.95


async def test_savers_and_deleters_of_one_session_lose_no_round(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    saved: list[int] = []
    deleted: list[int] = []

    async def save(count: int) -> None:
        for number in range(count):
            saved.append(await store.states.save_state("alice", {"n": number}, "s"))

    async def delete(count: int) -> None:
        for _ in range(count):
            page = await store.states.list_states("alice", "s", limit=3)
            for each in page:
                deleted.append((await store.states.delete_state("alice", "s", each.round_id)).state_rounds)

    await asyncio.gather(*(save(30) for _ in range(4)), *(delete(8) for _ in range(4)))
    rows = await observer.fetch("SELECT round FROM agentstore.state_rounds ORDER BY round")
    assert sorted(saved) == list(range(1, 121))
    assert len(rows) == 120 - sum(deleted)
    head = await observer.fetchrow("SELECT next_round, last_round FROM agentstore.state_heads")
    assert head == (121, rows[-1][0] if rows else 0)


async def test_forks_and_rewinds_during_writes_are_consistent(store: AgentStore, observer: asyncpg.Connection) -> None:
    session = await store.sessions.create_session("alice", "s")
    forks: list[Session] = []
    stop = False

    async def write(name: str) -> None:
        mine = Session(id="s", user_id="alice")
        number = 0
        while not stop:
            number += 1
            await store.sessions.append_message(mine, [text("x", id=f"{name}{number}{part}") for part in "ab"])
            await store.states.save_state("alice", {"writer": name}, "s")

    async def fork_and_rewind() -> None:
        nonlocal stop
        try:
            for number in range(15):
                fork = await store.sessions.fork_session("alice", session.id)
                forks.append(fork)
                # Only this task removes messages, so the session has at least as many.
                at = min(number, len(fork.messages))
                await store.sessions.rewind_session("alice", session.id, at, keep=number % 2 == 0)
        finally:
            stop = True

    await asyncio.gather(write("a"), write("b"), write("c"), fork_and_rewind())
    rows = await observer.fetch(
        "SELECT s.next_seq - 1, s.removed, count(m.seq), coalesce(max(m.seq), 0) FROM agentstore.sessions s"
        " LEFT JOIN agentstore.messages m ON m.session_id = s.id GROUP BY s.id, s.next_seq, s.removed"
    )
    assert len(rows) > 15
    for counted, removed, stored, last in rows:
        assert counted - removed == stored  # numbered without gaps, from 1 or what a rewind has retained
        assert last == (counted if stored else 0)
    for fork in forks:
        assert len(fork.messages) == fork.forked_at
        pairs = [message.id[:-1] for message in fork.messages]
        assert all(pairs.count(pair) <= 2 for pair in pairs)
    heads = await observer.fetch(
        "SELECT h.last_round, coalesce(max(r.round), 0) FROM agentstore.state_heads h"
        " LEFT JOIN agentstore.state_rounds r USING (user_id, session_id)"
        " GROUP BY h.user_id, h.session_id, h.last_round"
    )
    assert all(last == highest for last, highest in heads)


async def test_a_concurrent_first_save_and_rewind_are_serialized(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    """A save that a concurrent rewind does not see is neither removed by it nor lost."""
    for number in range(40):
        id = f"s{number}"
        session = await store.sessions.create_session("alice", id)
        await store.sessions.append_message(session, [text("1", id="1"), text("2", id="2")])
        saved, _ = await asyncio.gather(
            store.states.save_state("alice", {"n": number}, id),
            store.sessions.rewind_session("alice", id, "1", keep=True, new_id=f"fork {id}"),
        )
        assert saved == 1
        rewound, forked = (
            await store.states.export_state("alice", id),
            await store.states.export_state("alice", f"fork {id}"),
        )
        assert {"n": number} in (rewound, forked)  # saved after the rewind; or before it, and so after message 2
        assert await store.states.save_state("alice", {}, id) == 2


async def test_deleting_the_user_during_writes_leaves_no_orphans_and_no_deadlock(
    store: AgentStore, observer: asyncpg.Connection
) -> None:
    errors: list[AgentStoreError] = []

    async def write(id: str) -> None:
        for number in range(25):
            try:
                await store.states.save_state("alice", {"n": number}, id)
                session = await store.sessions.create_session("alice", id)
                await store.sessions.append_message(session, text(str(number)))
                await store.sessions.rewind_session("alice", id, 0)
                await store.sessions.fork_session("alice", id)
            except AgentStoreError as error:
                errors.append(error)

    async def delete() -> None:
        for _ in range(25):
            await store.users.delete_user("alice")
            await asyncio.sleep(0.005)

    await asyncio.gather(*(write(f"s{number}") for number in range(4)), delete())
    assert {type(error) for error in errors} <= {NotFound}
    await store.users.delete_user("alice")
    for table in ("sessions", "messages", "state_heads", "state_rounds"):
        assert await observer.fetchval(f"SELECT count(*) FROM agentstore.{table}") == 0


@pytest.mark.parametrize("savers", [64])
async def test_64_concurrent_saves_get_consecutive_numbers(store: AgentStore, savers: int) -> None:
    numbers = await asyncio.gather(*(store.states.save_state("alice", {"n": n}, "s") for n in range(savers)))
    assert sorted(numbers) == list(range(1, savers + 1))
